/**
 * What a driver has given to a device and not got back: by id, and in order.
 *
 * @module
 */

/** The chains that are under way. */
export class Outstanding {
  /** Descriptors of a chain; 0 for an id that isn't under way. */
  readonly descriptors: Uint16Array;
  /** Bytes that the device may write into it. */
  readonly writable: Float64Array;
  readonly #order: Uint16Array;
  #first = 0;
  #count = 0;
  /** Of a batch that the device has used as one (VIRTIO_F_IN_ORDER): the last one. */
  #batchLast = -1;
  #batchWritten = 0;
  /** Bytes written into the chain that {@link done} or {@link next} told of. */
  written = 0;

  constructor(readonly size: number, readonly inOrder: boolean) {
    this.descriptors = new Uint16Array(size);
    this.writable = new Float64Array(size);
    this.#order = new Uint16Array(size);
  }

  /** Chains that are under way. */
  get count(): number {
    return this.#count;
  }

  /** In the middle of a batch: {@link next} has one more. */
  get pending(): boolean {
    return this.#batchLast >= 0;
  }

  add(id: number, descriptors: number, writable: number): void {
    this.descriptors[id] = descriptors;
    this.writable[id] = writable;
    if (this.inOrder) this.#order[(this.#first + this.#count) % this.size] = id;
    this.#count++;
  }

  /** The device tells that `id` is used: why that can't be, or null. */
  check(id: number, written: number): string | null {
    if (id >= this.size || this.descriptors[id] === 0) return `the device used chain ${id}, which it didn't have`;
    if (written > this.writable[id]) return `the device says to have written ${written} bytes of ${this.writable[id]}`;
    return null;
  }

  /** Begins with what the device has told: in order, everything up to `id` is used. */
  begin(id: number, written: number): void {
    this.#batchLast = id;
    this.#batchWritten = written;
  }

  /** The next id that is used, or -1. */
  next(): number {
    if (this.#batchLast < 0) return -1;
    let id = this.#batchLast;
    if (this.inOrder) {
      id = this.#order[this.#first];
      this.#first = (this.#first + 1) % this.size;
    }
    this.#count--;
    // virtio 1.2, 2.7.9: chains that were skipped count as used whole.
    this.written = this.writable[id];
    if (id === this.#batchLast) {
      this.written = this.#batchWritten;
      this.#batchLast = -1;
    }
    return id;
  }
}
