/**
 * The device's side of a packed virtqueue (virtio 1.2, 2.8): one ring of descriptors, which both sides write in turn.
 *
 *      0      8     12    14      16
 *     +------+-----+-----+-------+     driver and device event suppression: off_wrap (16 bits), flags (16 bits)
 *     | addr | len | id  | flags |
 *     +------+-----+-----+-------+
 *
 * @module
 */
import type { Chain } from "./chain.ts";
import { addressAt, type SharedMemory } from "./memory.ts";
import * as q from "./queue.ts";

/** Descriptor flag: available, if it is like the driver's wrap counter. */
export const PACKED_AVAIL = 1 << 7;
/** Descriptor flag: used, if it is like the device's wrap counter. */
export const PACKED_USED = 1 << 15;
/** Event suppression: every event, none, or at one descriptor. */
export const EVENT_ENABLE = 0;
export const EVENT_DISABLE = 1;
export const EVENT_DESC = 2;

/** A packed virtqueue, as the device sees it. */
export class PackedDeviceQueue implements q.DeviceQueue {
  readonly size: number;
  broken: string | null = null;
  readonly #memory: SharedMemory;
  readonly #ring: q.Area;
  readonly #driver: q.Area;
  readonly #device: q.Area;
  readonly #eventIndex: boolean;
  readonly #indirect: boolean;
  #next: number;
  #wrap: boolean;
  #markedNext = 0;
  #markedWrap = true;
  /** Where the next used descriptor goes. */
  #used: number;
  #usedWrap: boolean;
  /** The first that was given and not yet shown, its flags, and how many places were given. */
  #first = 0;
  #firstFlags = -1;
  #places = 0;

  /**
   * @param base where the last owner stopped: index and wrap counter (bit 15) of the next descriptor, the same of the used ones above
   * @throws {RangeError} for an impossible size, or parts outside the memory or not aligned
   */
  constructor(memory: SharedMemory, layout: q.QueueLayout, base = 0x80008000) {
    q.checkQueueSize(layout.size, true);
    const sizes = q.areaSizes(true, layout.size);
    this.size = layout.size;
    this.#memory = memory;
    this.#ring = q.Area.resolve(memory, layout.descriptors, sizes.descriptors, 16, "descriptor ring");
    this.#driver = q.Area.resolve(memory, layout.driver, sizes.driver, 4, "driver event suppression");
    this.#device = q.Area.resolve(memory, layout.device, sizes.device, 4, "device event suppression");
    this.#eventIndex = layout.eventIndex;
    this.#indirect = layout.indirect;
    this.#next = base & 0x7fff;
    this.#wrap = (base & 0x8000) !== 0;
    this.#used = (base >>> 16) & 0x7fff;
    this.#usedWrap = (base & 0x80000000) !== 0;
    if (this.#next >= this.size || this.#used >= this.size) throw new RangeError(`a base of ${base} in a ring of ${this.size}`);
  }

  get base(): number {
    const next = this.#next | (this.#wrap ? 0x8000 : 0);
    return (next | ((this.#used | (this.#usedWrap ? 0x8000 : 0)) << 16)) >>> 0;
  }

  #fail(reason: string): -1 {
    this.broken = reason;
    return -1;
  }

  #refuse(reason: string): false {
    this.broken = reason;
    return false;
  }

  /** True if the descriptor at `index` is the driver's gift in this round. */
  #available(index: number, wrap: boolean): boolean {
    const flags = this.#ring.load(q.DESC_SIZE * index + 14);
    return ((flags & PACKED_AVAIL) !== 0) === wrap && ((flags & PACKED_USED) !== 0) !== wrap;
  }

  take(chain: Chain): number {
    if (this.broken !== null) return -1;
    if (!this.#available(this.#next, this.#wrap)) return 0;
    chain.reset();
    const { view, offset } = this.#ring;
    let index = this.#next;
    let wrap = this.#wrap;
    for (let steps = 1;; steps++) {
      const at = offset + q.DESC_SIZE * index;
      const flags = view.getUint16(at + 14, true);
      // The last descriptor of a chain holds its id.
      chain.id = view.getUint16(at + 12, true);
      chain.descriptors = steps;
      if (++index === this.size) {
        index = 0;
        wrap = !wrap;
      }
      if ((flags & q.DESC_F_INDIRECT) !== 0) {
        if (!this.#table(chain, view, at, flags)) return -1;
        break;
      }
      if (!this.#piece(chain, view, at, flags)) return -1;
      if ((flags & q.DESC_F_NEXT) === 0) break;
      if (steps === this.size) return this.#fail("a chain is longer than the ring");
    }
    this.#next = index;
    this.#wrap = wrap;
    return 1;
  }

  #piece(chain: Chain, view: DataView, at: number, flags: number): boolean {
    const address = addressAt(view, at);
    const length = view.getUint32(at + 8, true);
    if (length === 0) return this.#refuse("a descriptor has no bytes");
    const region = this.#memory.find(address, length);
    if (region === null) return this.#refuse(`a descriptor: 0x${address.toString(16)} is not in shared memory`);
    if (chain.push(region.memory, address - region.base, length, (flags & q.DESC_F_WRITE) !== 0)) return true;
    return this.#refuse("too long a chain, or one to read after one to write");
  }

  /** A table of descriptors that follow one another; only their WRITE flags count (2.8.7). */
  #table(chain: Chain, ring: DataView, at: number, flags: number): boolean {
    const address = addressAt(ring, at);
    const length = ring.getUint32(at + 8, true);
    if (!this.#indirect) return this.#refuse("an indirect table where none may be");
    if ((flags & q.DESC_F_NEXT) !== 0 || length === 0 || length % q.DESC_SIZE !== 0) {
      return this.#refuse("a wrong indirect table");
    }
    const region = this.#memory.find(address, length);
    if (region === null) return this.#refuse(`an indirect table: 0x${address.toString(16)} is not in shared memory`);
    const { view } = region.memory;
    const start = address - region.base;
    for (let entry = start; entry < start + length; entry += q.DESC_SIZE) {
      const own = view.getUint16(entry + 14, true);
      if ((own & q.DESC_F_INDIRECT) !== 0) return this.#refuse("an indirect table inside another");
      if (!this.#piece(chain, view, entry, own)) return false;
    }
    return true;
  }

  mark(): void {
    this.#markedNext = this.#next;
    this.#markedWrap = this.#wrap;
  }

  rewind(): void {
    this.#next = this.#markedNext;
    this.#wrap = this.#markedWrap;
  }

  give(id: number, descriptors: number, written: number): void {
    const { view, offset } = this.#ring;
    const at = offset + q.DESC_SIZE * this.#used;
    const flags = (this.#usedWrap ? PACKED_AVAIL | PACKED_USED : 0) | (written > 0 ? q.DESC_F_WRITE : 0);
    view.setUint32(at + 8, written, true);
    view.setUint16(at + 12, id, true);
    // The driver looks at the first one: its flags show all the others, so they come last.
    if (this.#firstFlags < 0) {
      this.#first = this.#used;
      this.#firstFlags = flags;
    } else view.setUint16(at + 14, flags, true);
    this.#places += descriptors;
    this.#used += descriptors;
    if (this.#used >= this.size) {
      this.#used -= this.size;
      this.#usedWrap = !this.#usedWrap;
    }
  }

  publish(): boolean {
    if (this.#firstFlags < 0) return false;
    this.#ring.store(q.DESC_SIZE * this.#first + 14, this.#firstFlags);
    const places = this.#places;
    this.#firstFlags = -1;
    this.#places = 0;
    const flags = this.#driver.load(2) & 3;
    if (flags !== EVENT_DESC || !this.#eventIndex) return flags !== EVENT_DISABLE;
    const offWrap = this.#driver.load(0);
    let event = offWrap & 0x7fff;
    if (((offWrap & 0x8000) !== 0) !== this.#usedWrap) event -= this.size;
    return q.needEvent(event, this.#used, this.#used - places);
  }

  wantKicks(on: boolean): boolean {
    this.#device.store(2, on ? EVENT_ENABLE : EVENT_DISABLE);
    return on && this.broken === null && this.#available(this.#next, this.#wrap);
  }
}
