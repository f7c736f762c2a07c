/**
 * What the benchmark measures, and against whom: names, units, and what the load client is told.
 *
 * @module
 */

/** The server's address, and the kernel's on the client's side. The peers' programs know no others. */
export const SERVER = "10.77.0.2";
export const CLIENT = "10.77.0.1";

export type Unit = "Gbit/s" | "/s";

export interface Test {
  name: string;
  /** Mode and options of `load.c` and `client.ts`. */
  load: string[];
  unit: Unit;
  /** Client and server on one processor: otherwise the figure tells where the scheduler put them (PEERS.md, 5 or 75 us). */
  pinned?: boolean;
  /** Only some clients can: the one in C. */
  needsC?: boolean;
}

function bulk(direction: "in" | "out", connections: number): Test {
  return { name: `${direction} x${connections}`, load: [direction, "-n", String(connections)], unit: "Gbit/s" };
}

export const TESTS: Test[] = [
  ...[1, 8, 64].map((connections) => bulk("in", connections)),
  ...[1, 8, 64].map((connections) => bulk("out", connections)),
  { name: "round trips, same CPU", load: ["rr"], unit: "/s", pinned: true },
  { name: "round trips x64", load: ["rr", "-n", "64"], unit: "/s" },
  { name: "connections", load: ["crr"], unit: "/s" },
  { name: "connections x64", load: ["crr", "-n", "64"], unit: "/s" },
  { name: "UDP echo, same CPU", load: ["udp", "-s", "64"], unit: "/s", pinned: true },
  { name: "UDP echo x64", load: ["udp", "-s", "64", "-f", "64"], unit: "/s" },
  { name: "UDP blast 64 B", load: ["blast", "-s", "64"], unit: "/s" },
  { name: "UDP blast 1400 B", load: ["blast", "-s", "1400"], unit: "/s" },
  { name: "ping, same CPU", load: ["ping"], unit: "/s", pinned: true, needsC: true },
];

/** What the load client prints about one run. */
export interface Measurement {
  value: number;
  p50Us?: number;
  p99Us?: number;
  bytes?: number;
  retransmits?: number;
  /** Of the server's process, within the measurement. */
  cpuSeconds?: number;
  seconds?: number;
  lost?: number;
  errors?: number;
  /** Why there is no figure; `value` is then NaN. */
  failed?: string;
}

/** What is measured once a server, not once a test. */
export interface Footprint {
  /** From the start of the process to its first answer. */
  firstAnswerMs: number;
  /** Resident then. */
  firstAnswerMiB: number;
  /** Processor time of a server that nobody talks to, in percent of one processor; and with all the connections open. */
  idlePercent: number;
  idleOpenPercent: number;
  /** What all of `connections` add, in MiB. */
  connectionsMiB: number;
  /** The same after half a minute in which nothing happened; measured once. */
  connectionsKeptMiB: number;
  /** What each of `connections` open connections without traffic adds to the resident memory. */
  bytesPerConnection: number;
  connections: number;
}

/** Measurements of one run: by server, by test, one a round. */
export interface Results {
  measurements: Record<string, Record<string, Measurement[]>>;
  footprints: Record<string, Footprint[]>;
}

export function median(values: number[]): number {
  const sorted = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  if (sorted.length === 0) return NaN;
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}
