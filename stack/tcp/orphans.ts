/**
 * Connections that nobody holds any more, and that still have something to bring to their peers: bounded, the oldest goes first
 * (Linux, tcp_max_orphans). A peer that takes nothing could make them many, and their send buffers with them.
 *
 * @module
 */
import { ECONNABORTED } from "../codes.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

/**
 * For so long an orphan's peer may take nothing, whether it answers or not: what Linux's back-off needs to come to its end, which
 * is when Linux gives up (tcp_probe_timer, SOCK_DEAD).
 */
const STALL_MS = 240_000;

export class Orphans {
  /** In the order they were let go of. */
  readonly #all = new Set<Tcb>();

  constructor(readonly tcp: Tcp) {}

  get size(): number {
    return this.#all.size;
  }

  add(tcb: Tcb): void {
    const { limits, statistics } = this.tcp;
    tcb.waitSince = this.tcp.now;
    if (this.#all.size >= limits.orphansMax) {
      statistics.orphanOverflow++;
      const [oldest = tcb] = this.#all;
      this.tcp.abort(oldest, ECONNABORTED);
      if (oldest === tcb) return;
    }
    this.#all.add(tcb);
  }

  delete(tcb: Tcb): void {
    this.#all.delete(tcb);
  }
}

/** True when the peer has taken nothing for too long, of what nobody holds any more. */
export function stalled(tcb: Tcb, now: number): boolean {
  return tcb.orphan && now - Math.max(tcb.waitSince, tcb.silentSince) >= STALL_MS;
}
