/**
 * Frames in the order in which they arrive, and the one timer that waits for the next.
 *
 * @module
 */
import type { Clock, TimerHandle } from "../stack/host/clock.ts";

/** Slots by time of arrival; those of one moment in the order they were put in. A binary heap in three arrays. */
export class ArrivalHeap {
  #at: Float64Array = new Float64Array(64);
  #order: Float64Array = new Float64Array(64);
  #slot: Int32Array = new Int32Array(64);
  #count = 0;
  #next = 0;

  get count(): number {
    return this.#count;
  }

  /** When the first arrives; Infinity if none is under way. */
  get firstAt(): number {
    return this.#count === 0 ? Infinity : this.#at[0];
  }

  get first(): number {
    return this.#slot[0];
  }

  push(at: number, slot: number): void {
    if (this.#count === this.#slot.length) this.#grow();
    const order = this.#next++;
    let i = this.#count++;
    while (i > 0) {
      const up = (i - 1) >> 1;
      // A newcomer comes after all of the same moment.
      if (this.#at[up] <= at) break;
      this.#move(up, i);
      i = up;
    }
    this.#put(i, at, order, slot);
  }

  /** Takes the first away. */
  shift(): void {
    const last = --this.#count;
    if (last === 0) return;
    const at = this.#at[last];
    const order = this.#order[last];
    const slot = this.#slot[last];
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= last) break;
      if (child + 1 < last && this.#before(child + 1, this.#at[child], this.#order[child])) child++;
      if (!this.#before(child, at, order)) break;
      this.#move(child, i);
      i = child;
    }
    this.#put(i, at, order, slot);
  }

  #before(i: number, at: number, order: number): boolean {
    return this.#at[i] < at || (this.#at[i] === at && this.#order[i] < order);
  }

  #put(i: number, at: number, order: number, slot: number): void {
    this.#at[i] = at;
    this.#order[i] = order;
    this.#slot[i] = slot;
  }

  #move(from: number, to: number): void {
    this.#at[to] = this.#at[from];
    this.#order[to] = this.#order[from];
    this.#slot[to] = this.#slot[from];
  }

  #grow(): void {
    const size = this.#slot.length * 2;
    const [at, order, slot] = [this.#at, this.#order, this.#slot];
    this.#at = new Float64Array(size);
    this.#order = new Float64Array(size);
    this.#slot = new Int32Array(size);
    this.#at.set(at);
    this.#order.set(order);
    this.#slot.set(slot);
  }
}

/** Slots that wait for their turn, with the time they came: a ring that grows. */
export class WaitingRing {
  #slot: Int32Array = new Int32Array(64);
  #since: Float64Array = new Float64Array(64);
  #head = 0;
  #count = 0;

  get count(): number {
    return this.#count;
  }

  get first(): number {
    return this.#slot[this.#head];
  }

  get firstSince(): number {
    return this.#since[this.#head];
  }

  push(slot: number, since: number): void {
    if (this.#count === this.#slot.length) this.#grow();
    const at = (this.#head + this.#count++) & (this.#slot.length - 1);
    this.#slot[at] = slot;
    this.#since[at] = since;
  }

  shift(): void {
    this.#head = (this.#head + 1) & (this.#slot.length - 1);
    this.#count--;
  }

  #grow(): void {
    const size = this.#slot.length;
    const slot = new Int32Array(size * 2);
    const since = new Float64Array(size * 2);
    for (let i = 0; i < size; i++) {
      const at = (this.#head + i) & (size - 1);
      slot[i] = this.#slot[at];
      since[i] = this.#since[at];
    }
    this.#slot = slot;
    this.#since = since;
    this.#head = 0;
  }
}

/** One timer, set anew only for an earlier time; it may ring when nothing is due any more. */
export class Alarm {
  readonly #clock: Clock;
  readonly #ring: () => void;
  #handle: TimerHandle | null = null;
  #at = Infinity;
  #referenced = true;

  constructor(clock: Clock, ring: () => void) {
    this.#clock = clock;
    this.#ring = ring;
  }

  set(at: number): void {
    if (at >= this.#at) return;
    if (this.#handle !== null) this.#clock.clearTimer(this.#handle);
    this.#at = at;
    this.#handle = this.#clock.setTimer(at, this.#fire);
    if (!this.#referenced) this.#clock.refTimer?.(this.#handle, false);
  }

  clear(): void {
    if (this.#handle !== null) this.#clock.clearTimer(this.#handle);
    this.#handle = null;
    this.#at = Infinity;
  }

  reference(on: boolean): void {
    this.#referenced = on;
    if (this.#handle !== null) this.#clock.refTimer?.(this.#handle, on);
  }

  readonly #fire = (): void => {
    this.#handle = null;
    this.#at = Infinity;
    this.#ring();
  };
}
