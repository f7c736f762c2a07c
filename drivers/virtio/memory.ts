/**
 * Memory that two sides of a virtqueue share: one or more regions, each at an address of its own. Every address that comes
 * from the other side is looked up here, and what lies outside is refused: nothing else is ever read or written.
 *
 * @module
 */
import { FrameMemory } from "../../stack/device.ts";

/** Most regions of one memory; a vhost-user front end sends at most 8 in a table, and hot-plugged ones one by one. */
export const REGIONS_MAX = 64;

/** One piece of shared memory. */
export class Region {
  /** The bytes, and the DataView over them. */
  readonly memory: FrameMemory;
  /** The same memory as 16-bit words, for Atomics: what an index or a flag is loaded and stored by. */
  readonly words: Uint16Array;
  /** Behind the last address. */
  readonly end: number;

  /**
   * A region over `bytes`.
   *
   * @param bytes may lie in a SharedArrayBuffer, or in memory that was mapped from another process; must begin at an even address
   * @param base the address of the first byte, as descriptors know it
   * @param userBase the same in the other process's own address space, where ring addresses come from (vhost-user only)
   * @throws {RangeError} when an address in it is none, or can't be told from its neighbours: below 0, or beyond 2^53; {TypeError}
   * when `bytes` are none
   */
  constructor(bytes: Uint8Array<ArrayBufferLike>, readonly base: number, readonly userBase: number = base) {
    if (!(bytes instanceof Uint8Array)) throw new TypeError(`a region needs a Uint8Array: ${bytes}`);
    for (const address of [base, userBase]) {
      if (!(Number.isInteger(address) && address >= 0)) {
        throw new RangeError(`a region must begin at an address from 0 on: ${address}`);
      }
    }
    if (bytes.byteOffset % 2 !== 0) throw new RangeError("a region must begin at an even address");
    // Up there sums are rounded, and what lies outside could look as if it lay inside.
    if (!Number.isSafeInteger(base + bytes.byteLength) || !Number.isSafeInteger(userBase + bytes.byteLength)) {
      throw new RangeError("a region lies beyond 2^53");
    }
    // A FrameMemory is never asked what kind of buffer lies under it.
    this.memory = new FrameMemory(bytes as Uint8Array<ArrayBuffer>);
    this.words = new Uint16Array(bytes.buffer, bytes.byteOffset, Math.floor(bytes.byteLength / 2));
    this.end = base + bytes.byteLength;
  }

  /** Bytes. */
  get size(): number {
    return this.memory.bytes.length;
  }
}

/** The regions that one device may reach. */
export class SharedMemory {
  readonly #regions: Region[] = [];
  #last: Region | null = null;

  /** One region, from address 0 on, unless told otherwise. */
  static of(bytes: Uint8Array<ArrayBufferLike>, base = 0): SharedMemory {
    const memory = new SharedMemory();
    memory.add(new Region(bytes, base));
    return memory;
  }

  /** All regions. */
  get regions(): readonly Region[] {
    return this.#regions;
  }

  /**
   * One more region.
   *
   * @throws {RangeError} when it is empty, overlaps another, or is one too many
   */
  add(region: Region): void {
    if (region.size === 0) throw new RangeError("a region has no bytes");
    if (this.#regions.length >= REGIONS_MAX) throw new RangeError(`at most ${REGIONS_MAX} regions`);
    for (const other of this.#regions) {
      const apart = region.end <= other.base || other.end <= region.base;
      const apartThere = region.userBase + region.size <= other.userBase || other.userBase + other.size <= region.userBase;
      if (!apart || !apartThere) throw new RangeError(`regions overlap at 0x${region.base.toString(16)}`);
    }
    this.#regions.push(region);
  }

  /** Takes a region away; nothing may hold it any more. */
  remove(region: Region): void {
    const index = this.#regions.indexOf(region);
    if (index >= 0) this.#regions.splice(index, 1);
    this.#last = null;
  }

  /** The region that holds all of `length` bytes at `address`, or null. */
  find(address: number, length: number): Region | null {
    const last = this.#last;
    if (last !== null && address >= last.base && address + length <= last.end) return last;
    for (const region of this.#regions) {
      if (address >= region.base && address + length <= region.end) return this.#last = region;
    }
    return null;
  }

  /** The same for an address of the other process (vhost-user: rings): the address that {@link find} takes, or -1. */
  fromUser(address: number, length: number): number {
    for (const { userBase, size, base } of this.#regions) {
      if (address >= userBase && address + length <= userBase + size) return address - userBase + base;
    }
    return -1;
  }
}

/** A 64-bit address at `at`. Beyond 2^53 it is not exact, and lies in no region. */
export function addressAt(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * 0x1_0000_0000 + view.getUint32(at, true);
}

/** Writes a 64-bit address. */
export function putAddress(view: DataView, at: number, address: number): void {
  view.setUint32(at, address % 0x1_0000_0000, true);
  view.setUint32(at + 4, address / 0x1_0000_0000, true);
}
