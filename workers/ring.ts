/**
 * The two ends of a socket's ring: one writer, one reader, on different threads. `HEAD` is stored after the bytes and the
 * ring's place, `TAIL` after the bytes were copied out; both by Atomics, so nothing is seen before what it tells of.
 *
 * The writer changes the ring's place only while the ring is empty: a reader that has taken everything looks at the place
 * again only after it has seen a new head.
 *
 * @module
 */
import type { Arena } from "./arena.ts";
import { BASE, BLOCKED, HEAD, LARGE_RING, SIZE, SMALL_RING, TAIL } from "./layout.ts";
import { copyBytes } from "../stack/wire/copy.ts";

/** The end that writes. It has a ring only while bytes are in it, or are about to be. */
export class Outlet {
  readonly bytes: Uint8Array<SharedArrayBuffer>;
  #base = -1;
  #size = 0;
  #head = 0;
  /** A small ring was full once: the next one is large, if there is one. */
  #grows = false;
  #blocked = false;

  /** @param mine where the writer's line begins; `theirs` where the reader's does */
  constructor(readonly cells: Int32Array, readonly mine: number, readonly theirs: number, readonly arena: Arena) {
    this.bytes = arena.bytes;
  }

  /** Bytes that the reader has not taken. */
  get used(): number {
    return (this.#head - Atomics.load(this.cells, this.theirs + TAIL)) | 0;
  }

  get empty(): boolean {
    return this.used === 0;
  }

  /** So many bytes are to go through: if they are many, the next ring is large. */
  expect(length: number): void {
    if (length > SMALL_RING) this.#grows = true;
  }

  /** Bytes that fit. Leases a ring of `atLeast` bytes if there is none yet; 0 also when none is to be had. */
  room(atLeast = 0): number {
    const used = this.used;
    if (used === 0 && this.#base >= 0 && this.#size < LARGE_RING && (this.#grows || atLeast > this.#size)) this.release();
    if (this.#base < 0 && !this.#lease(atLeast)) return 0;
    const room = this.#size - used;
    if (room === 0) this.#grows = true;
    return room >= atLeast ? room : 0;
  }

  #lease(atLeast: number): boolean {
    let base = this.arena.lease(this.#grows ? LARGE_RING : atLeast);
    if (base < 0 && atLeast <= SMALL_RING) base = this.arena.lease(0);
    if (base < 0) return false;
    this.#base = base;
    this.#size = this.arena.sizeOf(base);
    Atomics.store(this.cells, this.mine + BASE, base);
    Atomics.store(this.cells, this.mine + SIZE, this.#size);
    return true;
  }

  /** True when there is no ring. */
  get hungry(): boolean {
    return this.#base < 0;
  }

  /** Where the next byte goes, and how many fit behind it without a break. */
  get position(): number {
    return this.#base + (this.#head & (this.#size - 1));
  }

  get contiguous(): number {
    return Math.min(this.#size - this.used, this.#size - (this.#head & (this.#size - 1)));
  }

  /** Bytes at `position` are ready. Nothing is told before {@link publish}. */
  advance(count: number): void {
    this.#head = (this.#head + count) | 0;
  }

  publish(): void {
    Atomics.store(this.cells, this.mine + HEAD, this.#head);
  }

  /** Copies `length` bytes in; there must be room. */
  put(from: Uint8Array, offset: number, length: number): void {
    const first = Math.min(length, this.#size - (this.#head & (this.#size - 1)));
    copyBytes(from, offset, this.bytes, this.position, first);
    if (length > first) copyBytes(from, offset + first, this.bytes, this.#base, length - first);
    this.advance(length);
  }

  /** Says whether this side waits for room. */
  set blocked(on: boolean) {
    if (on === this.#blocked) return;
    this.#blocked = on;
    Atomics.store(this.cells, this.mine + BLOCKED, on ? 1 : 0);
  }

  /** Gives an empty ring back. True if it did. */
  release(): boolean {
    if (this.#base < 0 || !this.empty) return false;
    this.drop();
    return true;
  }

  /** Gives the ring back, whatever is in it: the reader must be gone. */
  drop(): void {
    if (this.#base >= 0) this.arena.give(this.#base);
    this.#base = -1;
    this.#size = 0;
  }
}

/** The end that reads. */
export class Inlet {
  #tail = 0;

  /** @param mine where the reader's line begins; `theirs` where the writer's does */
  constructor(
    readonly cells: Int32Array,
    readonly mine: number,
    readonly theirs: number,
    readonly bytes: Uint8Array<SharedArrayBuffer>,
  ) {}

  get available(): number {
    return (Atomics.load(this.cells, this.theirs + HEAD) - this.#tail) | 0;
  }

  /** Where the next byte is. Only while something is available. */
  get position(): number {
    const size = Atomics.load(this.cells, this.theirs + SIZE);
    return Atomics.load(this.cells, this.theirs + BASE) + (this.#tail & (size - 1));
  }

  /** Bytes from there without a break. */
  get contiguous(): number {
    const available = this.available;
    if (available === 0) return 0;
    const size = Atomics.load(this.cells, this.theirs + SIZE);
    return Math.min(available, size - (this.#tail & (size - 1)));
  }

  /** Bytes are taken: the writer may use their place. */
  advance(count: number): void {
    this.#tail = (this.#tail + count) | 0;
    Atomics.store(this.cells, this.mine + TAIL, this.#tail);
  }

  /** Copies bytes out; at most what is available. They stay until {@link advance}, from `skip` on. */
  peek(skip: number, into: Uint8Array, offset: number, length: number): void {
    const size = Atomics.load(this.cells, this.theirs + SIZE);
    const base = Atomics.load(this.cells, this.theirs + BASE);
    const at = (this.#tail + skip) & (size - 1);
    const first = Math.min(length, size - at);
    copyBytes(this.bytes, base + at, into, offset, first);
    if (length > first) copyBytes(this.bytes, base, into, offset + first, length - first);
  }

  /** The writer waits for room. */
  get awaited(): boolean {
    return Atomics.load(this.cells, this.theirs + BLOCKED) === 1;
  }
}
