/**
 * Echo requests and who waits for their answers.
 *
 * @module
 */
import { EAGAIN } from "../codes.ts";
import { ANY, type EchoReply, type Internet } from "../ip/types.ts";
import { formatKey } from "../wire/address.ts";
import { abortReason, errorFrom } from "./errors.ts";
import { checkObject, checkSignal } from "./options.ts";
import type { Failable, Pump } from "./pump.ts";

/** Echo data at first: as many bytes as `ping` sends. */
const DEFAULT_SIZE = 56;
const DEFAULT_TIMEOUT_MS = 5_000;
/** Echo data that fits into one IP packet. */
const SIZE_MAX = 65_507;
/** Requests that may wait for an answer at once. */
export const PINGS_MAX = 1_024;

/** Options of {@link NetStack.ping}. */
export interface PingOptions {
  /** Gives up when aborted. */
  signal?: AbortSignal;
  /** Gives up after so many milliseconds. Default 5000. */
  timeoutMs?: number;
  /** Bytes of echo data, 0 to 65507. Default 56. */
  size?: number;
  /** Time to live, 1 to 255. Default 64. */
  ttl?: number;
  /** Sequence number, 0 to 65535. Default: one more than the last. */
  sequence?: number;
  /** Don't fragment the request. Default false. */
  dontFragment?: boolean;
}

/** An answer to {@link NetStack.ping}. */
export interface PingReply {
  /** Who answered. */
  address: string;
  /** Milliseconds between request and answer. */
  roundTripMs: number;
  /** Time to live that the answer came with. */
  ttl: number;
  /** Bytes of echo data that came back. */
  size: number;
  /** Sequence number of the request. */
  sequence: number;
}

/** An ICMP error about an echo request: `code` says which, `address` who sent it. */
export interface PingError extends Error {
  /** The system's name of the error, for example `"EHOSTUNREACH"`. */
  code?: string;
  /** The address, as text. */
  address?: string;
  /** ICMP type of the message. */
  icmpType?: number;
  /** ICMP code of the message. */
  icmpCode?: number;
}

interface Waiting extends Failable {
  localKey: number;
  sentAt: number;
  remoteKey: number;
  size: number;
  settle(): void;
  resolve(reply: PingReply): void;
  reject(error: unknown): void;
}

function inRange(value: number | undefined, least: number, most: number, what: string): void {
  if (value !== undefined && !(Number.isInteger(value) && value >= least && value <= most)) {
    throw new RangeError(`${what} must be ${least} to ${most}: ${value}`);
  }
}

/** Throws a TypeError or RangeError for an option that is wrong. */
export function checkPingOptions(options: PingOptions): void {
  checkObject(options);
  checkSignal(options.signal);
  inRange(options.size, 0, SIZE_MAX, "size");
  inRange(options.ttl, 1, 255, "ttl");
  inRange(options.sequence, 0, 65_535, "sequence");
  const { timeoutMs, dontFragment } = options;
  if (timeoutMs !== undefined && !(typeof timeoutMs === "number" && timeoutMs > 0)) {
    throw new RangeError(`timeoutMs must be more than 0: ${timeoutMs}`);
  }
  if (dontFragment !== undefined && typeof dontFragment !== "boolean") {
    throw new TypeError(`dontFragment must be true or false: ${dontFragment}`);
  }
}

/** The echo requests of one stack. */
export class Pinger {
  readonly #ip: Internet;
  readonly #pump: Pump;
  readonly #waiting = new Map<number, Waiting>();
  #identifier: number;
  #sequence = 0;

  constructor(ip: Internet, pump: Pump) {
    this.#ip = ip;
    this.#pump = pump;
    this.#identifier = ip.random32() & 0xffff;
    ip.onEcho = (reply) => this.#onEcho(reply);
  }

  /** Requests that wait for an answer. */
  get waiting(): number {
    return this.#waiting.size;
  }

  /** Sends one request and waits for its answer. Options must have been checked. */
  ping(remoteKey: number, options: PingOptions): Promise<PingReply> {
    const { signal, timeoutMs = DEFAULT_TIMEOUT_MS, size = DEFAULT_SIZE, ttl, dontFragment } = options;
    if (signal?.aborted) return Promise.reject(abortReason(signal));
    if (this.#waiting.size >= PINGS_MAX) return Promise.reject(new RangeError(`${PINGS_MAX} pings are waiting already`));
    const sequence = options.sequence ?? (this.#sequence = (this.#sequence + 1) & 0xffff);
    let identifier = this.#identifier;
    while (this.#waiting.has(identifier << 16 | sequence)) identifier = (identifier + 1) & 0xffff;
    const id = identifier << 16 | sequence;
    return new Promise<PingReply>((resolve, reject) => {
      const onAbort = () => fail(abortReason(signal!));
      const stopTimer = this.#pump.setTimer(timeoutMs, () => {
        const error: PingError = new Deno.errors.TimedOut(`no answer from ${formatKey(remoteKey)} within ${timeoutMs} ms`);
        error.code = "ETIMEDOUT";
        fail(error);
      });
      const settle = () => {
        this.#waiting.delete(id);
        this.#pump.failables.delete(waiting);
        stopTimer();
        signal?.removeEventListener("abort", onAbort);
      };
      const fail = (error: unknown) => {
        settle();
        this.#renew();
        reject(error);
      };
      const waiting: Waiting = { localKey: 0, sentAt: 0, remoteKey, size, settle, resolve, reject, fail };
      this.#waiting.set(id, waiting);
      this.#pump.failables.add(waiting);
      signal?.addEventListener("abort", onAbort);
      const data = pattern(size);
      const send = () => {
        if (this.#waiting.get(id) !== waiting) return;
        waiting.sentAt = this.#pump.now();
        const path = this.#ip.path(ANY, remoteKey);
        if (typeof path !== "number") waiting.localKey = path.localKey;
        const code = this.#ip.sendEcho(remoteKey, identifier, sequence, data, echoOptions(ttl, dontFragment));
        if (code === EAGAIN) return this.#pump.whenRoom(send);
        if (code < 0) fail(errorFrom(code, `ping ${formatKey(remoteKey)}`));
        this.#pump.schedule();
      };
      send();
    });
  }

  /** A late answer to a request that was given up must not match another one. */
  #renew(): void {
    this.#identifier = (this.#identifier + 1) & 0xffff;
  }

  #onEcho(reply: EchoReply): void {
    const id = reply.identifier << 16 | reply.sequence;
    const waiting = this.#waiting.get(id);
    if (waiting === undefined) return;
    const address = formatKey(reply.fromKey);
    if (reply.code === 0) {
      waiting.settle();
      const roundTripMs = this.#pump.clock.now() - waiting.sentAt;
      waiting.resolve({ address, roundTripMs, ttl: reply.ttl, size: reply.data.length, sequence: reply.sequence });
      return;
    }
    waiting.settle();
    this.#renew();
    const error: PingError = errorFrom(reply.code, `ping ${formatKey(waiting.remoteKey)}: ${address} says so`);
    error.address = address;
    error.icmpType = reply.icmpType;
    error.icmpCode = reply.icmpCode;
    waiting.reject(error);
  }
}

function echoOptions(ttl: number | undefined, dontFragment: boolean | undefined): { ttl?: number; dontFragment?: boolean } {
  const options: { ttl?: number; dontFragment?: boolean } = {};
  if (ttl !== undefined) options.ttl = ttl;
  if (dontFragment !== undefined) options.dontFragment = dontFragment;
  return options;
}

/** Bytes 0, 1, 2, … as `ping` sends them. */
function pattern(size: number): Uint8Array {
  const data = new Uint8Array(size);
  for (let i = 0; i < size; i++) data[i] = i;
  return data;
}
