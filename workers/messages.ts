/**
 * What the main thread asks a worker by message: everything but data. Data never goes by message.
 *
 * @module
 */
import type { TapOptions, TunTapOptions } from "../drivers/tap.ts";
import type { NetStackOptions } from "../stack/host/options.ts";
import type { TcpOptions } from "../stack/tcp/types.ts";
import type { UdpOptions } from "../stack/udp/types.ts";
import type { SharedMemory } from "./layout.ts";

/** A device of one's own: a module that the worker imports. */
export interface ModuleDeviceOptions {
  /** The module of a device of one's own. */
  kind: "module";
  /** Address of a module with a function `openDevice(options, queue)` that returns a `Device`. */
  url: string;
  /** Given to `openDevice`; must be of what `structuredClone` copies. */
  options?: unknown;
}

/** The device that a worker opens. */
export type WorkerDeviceOptions =
  | ({ /** A TAP: Ethernet. */ kind: "tap" } & TapOptions)
  | ({ /** A TUN: bare IP. */ kind: "tun" } & TunTapOptions)
  | ModuleDeviceOptions;

/** Options of the stack in the worker: those that can be sent there. */
export type WorkerNetOptions = Omit<NetStackOptions, "clock" | "onConflict">;

/** How a worker begins. */
export interface BeginMessage {
  device: WorkerDeviceOptions;
  net: WorkerNetOptions;
  memory: SharedMemory;
  index: number;
  count: number;
  /** Rings of frames between workers, `[from][to]`, and every worker's bell. */
  frameRings: (SharedArrayBuffer | null)[][];
  bells: SharedArrayBuffer[];
}

/** Requests and what they say; every one is answered. */
export interface Requests {
  begin: BeginMessage;
  /** The host's side, once every queue is open. */
  host: { options: TunTapOptions };
  start: Record<string, never>;
  connect: {
    hostname: string;
    port: number;
    localKey: number;
    localPort: number;
    initialData?: Uint8Array;
    options: TcpOptions;
    attempt: number;
  };
  abort: { attempt: number };
  listen: { key: number; port: number; backlog: number; options: TcpOptions };
  openDatagram: { key: number; port: number; remoteKey: number; remotePort: number; options: UdpOptions };
  setTcp: { slot: number; what: "noDelay" | "keepAlive" | "userTimeout" | "options"; values: unknown[] };
  setUdp: { slot: number; what: "join" | "leave" | "options"; group: number; options: UdpOptions };
  info: { slot: number };
  ping: { host: string; options: unknown; attempt: number };
  resolve: { name: string; type: string; attempt: number };
  statistics: Record<string, never>;
  show: { what: "connections" | "neighbors" | "routes" | "addresses" };
  /** Ends the stack: in an orderly way, or at once. */
  end: { orderly: boolean };
}

/** A request on its way. With `reply` the asker sleeps until the answer stands in there. */
export interface Request<K extends keyof Requests = keyof Requests> {
  id: number;
  op: K;
  args: Requests[K];
  reply?: SharedArrayBuffer;
}

/** An answer, or news that nobody asked for (`id` 0): the stack ended by itself. */
export interface Answer {
  id: number;
  value?: unknown;
  error?: PlainError;
}

/** An error that can be sent. */
export interface PlainError {
  name: string;
  message: string;
  code?: string;
  more: Record<string, unknown>;
}

/** Makes an error something that can be sent. */
export function packError(error: unknown): PlainError {
  if (!(error instanceof Error)) return { name: "Error", message: String(error), more: {} };
  const { name, message, stack: _stack, code, ...more } = error as Error & { code?: string } & Record<string, unknown>;
  return { name, message, code, more: JSON.parse(JSON.stringify(more)) };
}

/** Makes it an error again, of its own class. */
export function unpackError({ name, message, code, more }: PlainError): Error {
  const classes: Record<string, new (message: string) => Error> = { ...Deno.errors, TypeError, RangeError };
  const error = new (classes[name] ?? Error)(message);
  if (error.name !== name) error.name = name;
  return Object.assign(error, more, code === undefined ? {} : { code });
}

/** Bytes of a reply that somebody sleeps for. */
export const REPLY_BYTES = 16_384;

/** Writes an answer where the asker sleeps. */
export function putReply(reply: SharedArrayBuffer, answer: Answer): void {
  const state = new Int32Array(reply, 0, 2);
  const bytes = new TextEncoder().encode(JSON.stringify(answer));
  new Uint8Array(reply, 8).set(bytes.subarray(0, REPLY_BYTES - 8));
  state[1] = bytes.length;
  Atomics.store(state, 0, 1);
  Atomics.notify(state, 0);
}

/** Sleeps until the answer is there; null when it doesn't come in time. */
export function takeReply(reply: SharedArrayBuffer, timeoutMs: number): Answer | null {
  const state = new Int32Array(reply, 0, 2);
  if (Atomics.wait(state, 0, 0, timeoutMs) === "timed-out") return null;
  return JSON.parse(new TextDecoder().decode(new Uint8Array(reply, 8, state[1]).slice()));
}
