/**
 * The sockets of UDP by port: an integer hash with chains through the sockets themselves, and the choice of free ports.
 *
 * @module
 */
import { EADDRINUSE } from "../codes.ts";
import { ANY } from "../ip/types.ts";

/** Range of the ports that the stack chooses itself, as Linux (`ip_local_port_range`). */
export const EPHEMERAL_FIRST = 32_768;
export const EPHEMERAL_LAST = 60_999;

/** Power of two. With more sockets the chains get longer: 8 sockets each at 8192 sockets. */
const BUCKETS = 1024;

/** What the table needs to know of a socket. */
export interface PortHolder<T> {
  readonly localKey: number;
  readonly localPort: number;
  readonly remoteKey: number;
  readonly remotePort: number;
  readonly reuseAddress: boolean;
  /** Next in the chain; the table's own. */
  next: T | null;
}

/** Sockets by local port. */
export class PortTable<T extends PortHolder<T>> {
  readonly #buckets: (T | null)[] = new Array<T | null>(BUCKETS).fill(null);

  /** First of the chain in which sockets of `port` (and others) stand. */
  first(port: number): T | null {
    return this.#buckets[port & (BUCKETS - 1)];
  }

  add(socket: T): void {
    const bucket = socket.localPort & (BUCKETS - 1);
    socket.next = this.#buckets[bucket];
    this.#buckets[bucket] = socket;
  }

  remove(socket: T): void {
    const bucket = socket.localPort & (BUCKETS - 1);
    let previous: T | null = null;
    for (let at = this.#buckets[bucket]; at !== null; previous = at, at = at.next) {
      if (at !== socket) continue;
      if (previous === null) this.#buckets[bucket] = at.next;
      else previous.next = at.next;
      at.next = null;
      return;
    }
  }

  /**
   * The socket that a datagram belongs to: one connected to its sender before one that isn't, one bound to its destination
   * before one bound to all addresses. Null if there is none.
   */
  find(localKey: number, localPort: number, remoteKey: number, remotePort: number): T | null {
    let found: T | null = null;
    let best = -1;
    for (let at = this.first(localPort); at !== null; at = at.next) {
      const score = at.localPort === localPort ? scoreOf(at, localKey, remoteKey, remotePort) : -1;
      if (score > best) {
        best = score;
        found = at;
        if (score === 3) break;
      }
    }
    return found;
  }

  /** True if a new socket may not have this address and port. */
  taken(localKey: number, localPort: number, reuseAddress: boolean): boolean {
    for (let at = this.first(localPort); at !== null; at = at.next) {
      if (at.localPort !== localPort || (reuseAddress && at.reuseAddress)) continue;
      if (at.localKey === ANY || localKey === ANY || at.localKey === localKey) return true;
    }
    return false;
  }

  /** A free port, or `EADDRINUSE` when all are taken. */
  choose(localKey: number, random: number): number {
    const range = EPHEMERAL_LAST - EPHEMERAL_FIRST + 1;
    // RFC 6056 3.3.1, simple port randomization: a random start, then one after the other until one is free.
    let candidate = random % range;
    for (let tries = 0; tries < range; tries++) {
      const port = EPHEMERAL_FIRST + candidate;
      if (!this.taken(localKey, port, false)) return port;
      candidate = (candidate + 1) % range;
    }
    return EADDRINUSE;
  }
}

/** 2 for a socket connected to the sender, 1 for one bound to the destination; -1 if the datagram isn't for it. */
export function scoreOf<T extends PortHolder<T>>(socket: T, localKey: number, remoteKey: number, remotePort: number): number {
  let score = 0;
  if (socket.localKey !== ANY) {
    if (socket.localKey !== localKey) return -1;
    score = 1;
  }
  if (socket.remotePort !== 0) {
    if (socket.remoteKey !== remoteKey || socket.remotePort !== remotePort) return -1;
    score += 2;
  }
  return score;
}
