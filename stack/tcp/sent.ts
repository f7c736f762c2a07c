/**
 * What was sent and is not acknowledged yet: one record for each frame handed to the device, in order of sequence numbers.
 * It is the SACK scoreboard (RFC 6675), the retransmission queue and RACK's transmission times (RFC 8985) in one.
 *
 * @module
 */

/** The receiver has it (SACK). */
export const SACKED = 1;
/** Deemed lost, and not sent again since. */
export const LOST = 2;
/** Sent more than once. */
export const RETRANSMITTED = 4;
/** Carries the FIN as its last sequence number. */
export const HAS_FIN = 8;
/** Was a zero-window probe. */
export const PROBE = 16;

const START = 0;
const END = 1;
const TIME = 2;
const FLAGS = 3;
const WORDS = 4;
const FIRST_CAPACITY = 16;

/** Records in a circle of integers. Index 0 is the oldest. */
export class SentQueue {
  length = 0;
  #words = new Int32Array(FIRST_CAPACITY * WORDS);
  #head = 0;
  #mask = FIRST_CAPACITY - 1;

  get capacity(): number {
    return this.#mask + 1;
  }

  #at(index: number): number {
    return ((this.#head + index) & this.#mask) * WORDS;
  }

  start(index: number): number {
    return this.#words[this.#at(index) + START];
  }

  end(index: number): number {
    return this.#words[this.#at(index) + END];
  }

  /** Microseconds (int32, wraps) of the last transmission. */
  time(index: number): number {
    return this.#words[this.#at(index) + TIME];
  }

  flags(index: number): number {
    return this.#words[this.#at(index) + FLAGS];
  }

  setFlags(index: number, flags: number): void {
    this.#words[this.#at(index) + FLAGS] = flags;
  }

  setTime(index: number, time: number): void {
    this.#words[this.#at(index) + TIME] = time;
  }

  setStart(index: number, start: number): void {
    this.#words[this.#at(index) + START] = start;
  }

  push(start: number, end: number, time: number, flags: number): void {
    if (this.length > this.#mask) this.#grow();
    const at = this.#at(this.length++);
    const words = this.#words;
    words[at + START] = start;
    words[at + END] = end;
    words[at + TIME] = time;
    words[at + FLAGS] = flags;
  }

  shift(): void {
    this.#head = (this.#head + 1) & this.#mask;
    this.length--;
  }

  clear(): void {
    this.length = 0;
    this.#head = 0;
  }

  /** Cuts a record in two at `seq`, which lies inside it. The FIN stays with the second. */
  split(index: number, seq: number): void {
    const flags = this.flags(index);
    this.push(0, 0, 0, 0);
    for (let i = this.length - 1; i > index + 1; i--) this.#copy(i - 1, i);
    this.#copy(index, index + 1);
    this.#words[this.#at(index) + END] = seq;
    this.#words[this.#at(index) + FLAGS] = flags & ~HAS_FIN;
    this.#words[this.#at(index + 1) + START] = seq;
  }

  /**
   * Joins a record to the one before it, whose time stays; the FIN comes along. The shorter side moves, so that the cost is at
   * most that of the holes on it.
   */
  join(index: number): void {
    const words = this.#words;
    const before = this.#at(index - 1);
    const at = this.#at(index);
    const flags = words[before + FLAGS] | (words[at + FLAGS] & HAS_FIN);
    words[before + END] = words[at + END];
    words[before + FLAGS] = flags;
    if (index < this.length >> 1) {
      for (let i = index; i > 0; i--) this.#copy(i - 1, i);
      this.shift();
    } else {
      for (let i = index; i < this.length - 1; i++) this.#copy(i + 1, i);
      this.length--;
    }
  }

  /** Index of the record that holds `seq`, or -1. */
  find(seq: number): number {
    let low = 0;
    let high = this.length - 1;
    while (low <= high) {
      const middle = (low + high) >> 1;
      if (((seq - this.start(middle)) | 0) < 0) high = middle - 1;
      else if (((seq - this.end(middle)) | 0) >= 0) low = middle + 1;
      else return middle;
    }
    return -1;
  }

  #copy(from: number, to: number): void {
    const source = this.#at(from);
    this.#words.copyWithin(this.#at(to), source, source + WORDS);
  }

  #grow(): void {
    const words = new Int32Array(this.#words.length * 2);
    for (let i = 0; i < this.length; i++) {
      const at = this.#at(i);
      words.set(this.#words.subarray(at, at + WORDS), i * WORDS);
    }
    this.#words = words;
    this.#head = 0;
    this.#mask = 2 * this.#mask + 1;
  }
}
