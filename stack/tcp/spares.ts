/**
 * Bookkeeping that connections need only while something is in flight or out of order: taken from here, given back after.
 *
 * @module
 */
import { RangeSet } from "./ranges.ts";
import { SentQueue } from "./sent.ts";

/** Kept at the most; what comes back beyond is left to the garbage collector. */
const SENT_KEPT = 256;
const SENT_CAPACITY_KEPT = 4096;
const RANGES_KEPT = 64;

export class Spares {
  readonly #sent: SentQueue[] = [];
  readonly #ranges: RangeSet[] = [];

  sent(): SentQueue {
    return this.#sent.pop() ?? new SentQueue();
  }

  returnSent(sent: SentQueue): void {
    sent.clear();
    if (sent.capacity <= SENT_CAPACITY_KEPT && this.#sent.length < SENT_KEPT) this.#sent.push(sent);
  }

  ranges(): RangeSet {
    return this.#ranges.pop() ?? new RangeSet();
  }

  returnRanges(ranges: RangeSet): void {
    ranges.clear();
    if (this.#ranges.length < RANGES_KEPT) this.#ranges.push(ranges);
  }
}
