/**
 * Which bytes of a datagram are there: RFC 815's hole list seen from the other side, as runs [start, end) in order that
 * never touch. One Int32Array for all datagrams.
 *
 * @module
 */

/** The range meets no run. */
export const RANGE_FREE = 0;
/** The range lies within one run. */
export const RANGE_WITHIN = 1;
/** The range overlaps, but is not within one run. */
export const RANGE_CROSSES = 2;

/** Rows of at most `limit` runs each. */
export class RunTable {
  readonly #limit: number;
  readonly #counts: Int32Array;
  readonly #runs: Int32Array;

  constructor(rows: number, limit: number) {
    this.#limit = limit;
    this.#counts = new Int32Array(rows);
    this.#runs = new Int32Array(rows * limit * 2);
  }

  clear(row: number): void {
    this.#counts[row] = 0;
  }

  /** How [start, end) lies to what is there: one of RANGE_…. */
  place(row: number, start: number, end: number): number {
    const runs = this.#runs;
    const first = row * this.#limit * 2;
    // Backwards: fragments mostly come in order.
    for (let at = first + this.#counts[row] * 2 - 2; at >= first; at -= 2) {
      if (start >= runs[at + 1]) return RANGE_FREE;
      if (end <= runs[at]) continue;
      return start >= runs[at] && end <= runs[at + 1] ? RANGE_WITHIN : RANGE_CROSSES;
    }
    return RANGE_FREE;
  }

  /** Enters [start, end), which must be free. False if there are too many runs. */
  add(row: number, start: number, end: number): boolean {
    const runs = this.#runs;
    const first = row * this.#limit * 2;
    const last = first + this.#counts[row] * 2;
    let at = last;
    while (at > first && runs[at - 2] >= end) at -= 2;
    const joinsPrevious = at > first && runs[at - 1] === start;
    const joinsNext = at < last && runs[at] === end;
    if (joinsPrevious && joinsNext) {
      runs[at - 1] = runs[at + 1];
      runs.copyWithin(at, at + 2, last);
      this.#counts[row]--;
    } else if (joinsPrevious) {
      runs[at - 1] = end;
    } else if (joinsNext) {
      runs[at] = start;
    } else {
      if (this.#counts[row] === this.#limit) return false;
      runs.copyWithin(at + 2, at, last);
      runs[at] = start;
      runs[at + 1] = end;
      this.#counts[row]++;
    }
    return true;
  }

  /** True when [0, end) is there, and nothing else. */
  isWhole(row: number, end: number): boolean {
    const first = row * this.#limit * 2;
    return this.#counts[row] === 1 && this.#runs[first] === 0 && this.#runs[first + 1] === end;
  }
}
