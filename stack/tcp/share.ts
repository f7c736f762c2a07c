/**
 * How much window the connections may open together on a device whose queue is short: eight senders with a megabyte each
 * overrun the thousand frames of a plain TAP, and all collapse into retransmission. So the queue is shared out among the
 * connections that receive just now.
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";

/** For so long a connection counts as receiving after its last segment. */
const EPOCH_MS = 50;
/** Part of the queue that windows may fill; the rest is for acknowledgments, retransmissions and other traffic. */
const USABLE = 0.75;
/** A window that is always allowed, in segments. */
const SEGMENTS_MIN = 4;

export class ReceiveShare {
  #epoch = 0;
  #epochAt = -Infinity;
  #now = 0;
  #before = 0;

  /** A segment with data arrived for `tcb`. */
  note(tcb: Tcb, now: number): void {
    if (now - this.#epochAt >= EPOCH_MS) {
      this.#before = now - this.#epochAt < 2 * EPOCH_MS ? this.#now : 0;
      this.#now = 0;
      this.#epochAt = now;
      this.#epoch = (this.#epoch + 1) | 0;
    }
    if (tcb.receiveEpoch === this.#epoch) return;
    tcb.receiveEpoch = this.#epoch;
    this.#now++;
  }

  /** Bytes that the window of `tcb` may span. */
  limit(tcb: Tcb): number {
    const frames = tcb.path.rxQueueFrames;
    if (frames === 0) return tcb.receiveLimit;
    const receivers = Math.max(1, this.#now, this.#before);
    const share = Math.max(SEGMENTS_MIN, Math.floor((USABLE * frames) / receivers)) * tcb.receiveMss;
    return Math.min(tcb.receiveLimit, share);
  }
}
