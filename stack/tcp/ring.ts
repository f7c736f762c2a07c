/**
 * Byte rings of the connections, and the pool that their memory comes from.
 *
 * A ring has memory only while it holds bytes, so an idle connection costs none. The pool gives the memory that came back
 * last: the one that is still in the processor's cache.
 *
 * @module
 */
import { FrameMemory } from "../device.ts";
import { copyBytes } from "../wire/copy.ts";

const SMALLEST_SHIFT = 12; // 4 KiB
const LARGEST_SHIFT = 26; // 64 MiB
/** Up to so many bytes `copyBytes` needs no view. */
const BY_BYTE_MAX = 48;

/** Of the least memory that `size` bytes need. */
function shiftFor(size: number): number {
  return Math.max(SMALLEST_SHIFT, 32 - Math.clz32(size - 1));
}

/** Memory in powers of two, with a limit on all that is handed out. */
export class RingPool {
  /** Bytes handed out. */
  used = 0;
  /** Bytes kept for the next one. */
  #kept = 0;
  readonly #free: FrameMemory[][] = Array.from({ length: LARGEST_SHIFT + 1 }, () => []);

  /**
   * @param limit bytes handed out at the most, all connections together
   * @param keep bytes kept at the most when they came back
   * @param reserved bytes of `limit` that only pieces of the smallest size are made of
   */
  constructor(readonly limit: number, readonly keep: number, readonly reserved: number = 0) {}

  /** Memory of at least `size` bytes, or null when the limit is reached. */
  acquire(size: number): FrameMemory | null {
    const shift = shiftFor(size);
    const bytes = 2 ** shift;
    const limit = shift === SMALLEST_SHIFT ? this.limit : this.limit - this.reserved;
    if (shift > LARGEST_SHIFT || this.used + bytes > limit) return null;
    return this.#take(shift);
  }

  #take(shift: number): FrameMemory {
    const bytes = 2 ** shift;
    this.used += bytes;
    const memory = this.#free[shift].pop();
    if (memory === undefined) return new FrameMemory(bytes);
    this.#kept -= bytes;
    return memory;
  }

  /** True if `size` bytes need less memory than that. */
  saves(memory: FrameMemory, size: number): boolean {
    return memory.bytes.length > 2 ** shiftFor(size);
  }

  /** Memory of at least `size` bytes in place of more, whatever the limit: there is less handed out then. */
  acquireLess(size: number): FrameMemory {
    return this.#take(shiftFor(size));
  }

  release(memory: FrameMemory): void {
    const bytes = memory.bytes.length;
    this.used -= bytes;
    if (this.#kept + bytes > this.keep) return;
    this.#kept += bytes;
    this.#free[31 - Math.clz32(bytes)].push(memory);
  }
}

/** `count` bytes from `head` on, in a power of two of memory. Bytes may be placed beyond `count` before they count. */
export class ByteRing {
  memory: FrameMemory | null = null;
  head = 0;
  count = 0;
  /** What was held at most since the ring last got memory, less an eighth a time: the next memory is that large at once. */
  #peak = 0;

  constructor(readonly pool: RingPool) {}

  get capacity(): number {
    return this.memory === null ? 0 : this.memory.bytes.length;
  }

  /** Makes room for `size` bytes from `head` on, of which the first `used` are kept. False when there is no memory. */
  reserve(size: number, used: number): boolean {
    const old = this.memory;
    if (size > this.#peak) this.#peak = size;
    if (old !== null && old.bytes.length >= size) return true;
    // A stream that filled a large ring will do so again: growing step by step would copy everything each time.
    let memory = old === null ? this.pool.acquire(this.#peak) : this.pool.acquire(size);
    if (memory === null && old === null) memory = this.pool.acquire(size);
    if (memory === null) return false;
    this.#move(memory, used);
    return true;
  }

  /** The first `used` bytes go to other memory. */
  #move(memory: FrameMemory, used: number): void {
    const old = this.memory;
    if (old !== null) {
      const first = Math.min(used, old.bytes.length - this.head);
      memory.bytes.set(old.bytes.subarray(this.head, this.head + first), 0);
      if (first < used) memory.bytes.set(old.bytes.subarray(0, used - first), first);
      this.pool.release(old);
    }
    this.memory = memory;
    this.head = 0;
  }

  /** True if `trim` gives memory back. */
  get trims(): boolean {
    return this.memory !== null && (this.count === 0 || this.pool.saves(this.memory, this.count));
  }

  /** Forgets what waits beyond `count`, and gives back the memory that was for it. */
  trim(): void {
    this.#peak = this.count;
    if (this.count === 0) this.free();
    else if (this.trims) this.#move(this.pool.acquireLess(this.count), this.count);
  }

  /** Makes room for `n` bytes behind `count`, or for fewer when memory is short: how many. Not while bytes wait beyond `count`. */
  extend(n: number): number {
    for (let want = n; want > this.capacity - this.count; want >>= 1) {
      if (this.reserve(this.count + want, this.count)) return want;
    }
    return Math.min(n, this.capacity - this.count);
  }

  /** Copies bytes to `at` behind `head`. The room must be reserved. */
  place(at: number, from: Uint8Array, offset: number, length: number): void {
    const { bytes } = this.memory!;
    const start = (this.head + at) & (bytes.length - 1);
    const first = Math.min(length, bytes.length - start);
    copyBytes(from, offset, bytes, start, first);
    if (first < length) copyBytes(from, offset + first, bytes, 0, length - first);
  }

  /** The same for bytes of a frame, without garbage for those that don't wrap around. */
  placeFrame(at: number, from: FrameMemory, offset: number, length: number): void {
    const { bytes } = this.memory!;
    const start = (this.head + at) & (bytes.length - 1);
    if (length > BY_BYTE_MAX && start + length <= bytes.length) bytes.set(from.window(offset, length), start);
    else this.place(at, from.bytes, offset, length);
  }

  /** Copies the first bytes out and consumes them. Returns how many. */
  take(into: Uint8Array, offset: number, length: number): number {
    const n = Math.min(length, this.count);
    if (n === 0) return 0;
    const { bytes } = this.memory!;
    const first = Math.min(n, bytes.length - this.head);
    copyBytes(bytes, this.head, into, offset, first);
    if (first < n) copyBytes(bytes, 0, into, offset + first, n - first);
    this.head = (this.head + n) & (bytes.length - 1);
    this.count -= n;
    return n;
  }

  /** Forgets the first `n` bytes. */
  drop(n: number): void {
    this.head = this.memory === null ? 0 : (this.head + n) & (this.memory.bytes.length - 1);
    this.count -= n;
  }

  /** Gives the memory back. Only when nothing in it is needed. */
  free(): void {
    if (this.memory !== null) {
      this.pool.release(this.memory);
      this.#peak -= this.#peak >> 3;
    }
    this.memory = null;
    this.head = this.count = 0;
  }
}
