/**
 * Writers that found no ring memory: told again as soon as any connection gave some back. Without this a connection with
 * nothing in flight would wait for an acknowledgment that cannot come.
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";
import { EVENT_WRITABLE } from "./types.ts";

export class Starving {
  /** At most one entry a connection. */
  readonly #writers = new Set<Tcb>();
  /** Bytes handed out when the last of them found nothing. */
  #usedAt = 0;

  add(tcb: Tcb, used: number): void {
    this.#writers.add(tcb);
    this.#usedAt = used;
  }

  forget(tcb: Tcb): void {
    this.#writers.delete(tcb);
  }

  /** Tells them if less is handed out now than then: so a writer that finds nothing again is not told again at once. */
  feed(used: number): void {
    if (this.#writers.size === 0 || used >= this.#usedAt) return;
    for (const tcb of this.#writers) {
      tcb.sendBlocked = false;
      tcb.raise(EVENT_WRITABLE);
    }
    this.#writers.clear();
  }
}
