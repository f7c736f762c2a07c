/**
 * Statistics as readers of Linux know them: `rtnl_link_stats64`, and the text of `/proc/net/dev` and `/sys/class/net/X/statistics`.
 *
 * @module
 */

/** `struct rtnl_link_stats64`, in its order and with its names. */
export const STATISTICS: readonly StatisticsName[] = [
  "rxPackets",
  "txPackets",
  "rxBytes",
  "txBytes",
  "rxErrors",
  "txErrors",
  "rxDropped",
  "txDropped",
  "multicast",
  "collisions",
  "rxLengthErrors",
  "rxOverErrors",
  "rxCrcErrors",
  "rxFrameErrors",
  "rxFifoErrors",
  "rxMissedErrors",
  "txAbortedErrors",
  "txCarrierErrors",
  "txFifoErrors",
  "txHeartbeatErrors",
  "txWindowErrors",
  "rxCompressed",
  "txCompressed",
  "rxNohandler",
  "rxOtherhostDropped",
];

/** A counter's name. */
export type StatisticsName =
  | "rxPackets"
  | "txPackets"
  | "rxBytes"
  | "txBytes"
  | "rxErrors"
  | "txErrors"
  | "rxDropped"
  | "txDropped"
  | "multicast"
  | "collisions"
  | "rxLengthErrors"
  | "rxOverErrors"
  | "rxCrcErrors"
  | "rxFrameErrors"
  | "rxFifoErrors"
  | "rxMissedErrors"
  | "txAbortedErrors"
  | "txCarrierErrors"
  | "txFifoErrors"
  | "txHeartbeatErrors"
  | "txWindowErrors"
  | "rxCompressed"
  | "txCompressed"
  | "rxNohandler"
  | "rxOtherhostDropped";

/** A device's numbers. Whole numbers from 0 on. */
export type Statistics64 = Record<StatisticsName, number>;

/** All zero. */
export function zeroStatistics(): Statistics64 {
  return Object.fromEntries(STATISTICS.map((name) => [name, 0])) as Statistics64;
}

/** What a class answers, made sound: what is missing, negative or no number comes from `own`. */
export function completeStatistics(given: unknown, own: Statistics64): Statistics64 {
  const all = { ...own };
  if (typeof given !== "object" || given === null) return all;
  const numbers = given as Record<string, unknown>;
  for (const name of STATISTICS) {
    const value = typeof numbers[name] === "bigint" ? Number(numbers[name]) : numbers[name];
    if (typeof value === "number" && value >= 0 && Number.isFinite(value)) all[name] = Math.floor(value);
  }
  return all;
}

/** Something with a name and numbers. */
export interface Counted {
  /** The device's name. */
  readonly name: string;
  /** Its numbers. */
  statistics64?(): Statistics64;
}

/** A device's line of `/proc/net/dev`, in the kernel's own columns. */
export function procNetDevLine(name: string, s: Statistics64): string {
  const columns: [number, number][] = [
    [s.rxBytes, 7],
    [s.rxPackets, 7],
    [s.rxErrors, 4],
    [s.rxDropped + s.rxMissedErrors, 4],
    [s.rxFifoErrors, 4],
    [s.rxLengthErrors + s.rxOverErrors + s.rxCrcErrors + s.rxFrameErrors, 5],
    [s.rxCompressed, 10],
    [s.multicast, 9],
    [s.txBytes, 8],
    [s.txPackets, 7],
    [s.txErrors, 4],
    [s.txDropped, 4],
    [s.txFifoErrors, 4],
    [s.collisions, 5],
    [s.txCarrierErrors + s.txAbortedErrors + s.txWindowErrors + s.txHeartbeatErrors, 7],
    [s.txCompressed, 10],
  ];
  return `${name.padStart(6)}: ${columns.map(([value, width]) => String(value).padStart(width)).join(" ")}`;
}

const HEAD = "Inter-|   Receive                                                |  Transmit\n" +
  " face |bytes    packets errs drop fifo frame compressed multicast|bytes    packets errs drop fifo colls carrier compressed\n";

/** `/proc/net/dev` with the devices' own numbers: `kernel` is the kernel's text, whose lines of our devices are replaced. */
export function procNetDev(devices: Iterable<Counted>, kernel: string = HEAD): string {
  const lines = kernel.trimEnd().split("\n");
  for (const device of devices) {
    const numbers = device.statistics64?.();
    if (numbers === undefined) continue;
    const line = procNetDevLine(device.name, numbers);
    const at = lines.findIndex((text, i) => i > 1 && text.trimStart().startsWith(`${device.name}:`));
    if (at < 0) lines.push(line);
    else lines[at] = line;
  }
  return `${lines.join("\n")}\n`;
}

/** What `/sys/class/net/X/statistics/FILE` reads as, or null for a file that isn't there. */
export function sysfsStatistic(file: string, numbers: Statistics64): string | null {
  const name = file.replace(/_(.)/g, (_, letter: string) => letter.toUpperCase());
  const value = (numbers as Record<string, number>)[name];
  return Object.hasOwn(numbers, name) ? `${value}\n` : null;
}

/** `struct rtnl_link_stats64` as bytes, as netlink's IFLA_STATS64 carries it. */
export function statisticsBytes(numbers: Statistics64): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(8 * STATISTICS.length);
  const view = new DataView(bytes.buffer);
  STATISTICS.forEach((name, i) => view.setBigUint64(8 * i, BigInt(numbers[name]), true));
  return bytes;
}
