/**
 * How much JavaScript heap a piece of work takes, garbage included: the heap is looked at again and again, and what it grew by
 * between two looks is added up. A look after a collection finds it smaller; that step tells nothing and is left out.
 *
 * @module
 */
export class HeapGrowth {
  /** What the heap grew by in the steps that count. */
  bytes = 0;
  /** Frames (or whatever is counted) in those steps. */
  count = 0;
  /** Steps in which a collection ran. */
  collections = 0;
  #heap = -1;

  /** Begins a step, without counting what was before. */
  begin(): void {
    this.#heap = Deno.memoryUsage().heapUsed;
  }

  /** Ends a step in which `count` frames passed, and begins the next. */
  look(count: number): void {
    const { heapUsed } = Deno.memoryUsage();
    if (heapUsed < this.#heap) {
      this.collections++;
    } else if (this.#heap >= 0) {
      this.bytes += heapUsed - this.#heap;
      this.count += count;
    }
    this.#heap = heapUsed;
  }

  get perCount(): number {
    return this.bytes / this.count;
  }
}
