/**
 * The deadlines of all connections in one binary heap: O(log n) a change, and none at all for a deadline that only moves
 * back, which is what a retransmission timer does with every acknowledgment: the entry then comes up early and is put back.
 *
 * @module
 */

/** Something with a deadline. */
export interface Timed {
  /** Where it stands in the heap, or -1. Kept by the heap. */
  timerIndex: number;
  /** When the heap will bring it up. Kept by the heap. */
  timerAt: number;
}

export class TimerHeap<T extends Timed> {
  readonly #heap: T[] = [];

  get size(): number {
    return this.#heap.length;
  }

  /** The earliest deadline, or Infinity. */
  next(): number {
    return this.#heap.length === 0 ? Infinity : this.#heap[0].timerAt;
  }

  /** Sees to it that `item` comes up at `at` or before. What is no deadline is none: NaN would put the heap out of order for all. */
  schedule(item: T, at: number): void {
    if (!(at < Infinity)) return;
    if (item.timerIndex < 0) {
      item.timerAt = at;
      item.timerIndex = this.#heap.push(item) - 1;
      this.#up(item.timerIndex);
    } else if (at < item.timerAt) {
      item.timerAt = at;
      this.#up(item.timerIndex);
    }
  }

  /** Takes out the earliest item that is due at `now`, or null. */
  pop(now: number): T | null {
    const heap = this.#heap;
    if (heap.length === 0 || heap[0].timerAt > now) return null;
    const item = heap[0];
    this.remove(item);
    return item;
  }

  remove(item: T): void {
    const index = item.timerIndex;
    if (index < 0) return;
    item.timerIndex = -1;
    const last = this.#heap.pop()!;
    if (last === item) return;
    this.#heap[index] = last;
    last.timerIndex = index;
    this.#up(index);
    this.#down(last.timerIndex);
  }

  #up(index: number): void {
    const heap = this.#heap;
    const item = heap[index];
    while (index > 0) {
      const parent = (index - 1) >> 1;
      if (heap[parent].timerAt <= item.timerAt) break;
      heap[index] = heap[parent];
      heap[index].timerIndex = index;
      index = parent;
    }
    heap[index] = item;
    item.timerIndex = index;
  }

  #down(index: number): void {
    const heap = this.#heap;
    const item = heap[index];
    for (;;) {
      let child = 2 * index + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1].timerAt < heap[child].timerAt) child++;
      if (heap[child].timerAt >= item.timerAt) break;
      heap[index] = heap[child];
      heap[index].timerIndex = index;
      index = child;
    }
    heap[index] = item;
    item.timerIndex = index;
  }
}
