/**
 * The driver's side of a packed virtqueue (virtio 1.2, 2.8). Layout: see packed_device.ts.
 *
 * @module
 */
import { putAddress, type SharedMemory } from "./memory.ts";
import { Outstanding } from "./outstanding.ts";
import { EVENT_DESC, EVENT_DISABLE, EVENT_ENABLE, PACKED_AVAIL, PACKED_USED } from "./packed_device.ts";
import * as q from "./queue.ts";
import type { IndirectTables } from "./split_driver.ts";

/** A packed virtqueue, as the driver sees it. */
export class PackedDriverQueue implements q.DriverQueue {
  readonly size: number;
  free: number;
  broken: string | null = null;
  readonly #ring: q.Area;
  readonly #driver: q.Area;
  readonly #device: q.Area;
  readonly #tables: q.Area | null;
  readonly #indirect: IndirectTables | null;
  readonly #eventIndex: boolean;
  readonly #outstanding: Outstanding;
  /** Ids that are free, first come, first served. */
  readonly #unused: Uint16Array;
  #unusedFirst = 0;
  #ids: number;
  /** Where the next chain goes. */
  #next = 0;
  #wrap = true;
  /** The first that was added and not yet shown, its flags, and the places added. */
  #first = 0;
  #firstFlags = -1;
  #places = 0;
  /** Where the next used descriptor is looked for. */
  #expected = 0;
  #expectedWrap = true;

  /** @throws {RangeError} for an impossible size, or parts outside the memory or not aligned */
  constructor(memory: SharedMemory, layout: q.QueueLayout, indirect: IndirectTables | null = null) {
    const { size } = layout;
    q.checkQueueSize(size, true);
    const sizes = q.areaSizes(true, size);
    this.size = this.free = this.#ids = size;
    this.#ring = q.Area.resolve(memory, layout.descriptors, sizes.descriptors, 16, "descriptor ring");
    this.#driver = q.Area.resolve(memory, layout.driver, sizes.driver, 4, "driver event suppression");
    this.#device = q.Area.resolve(memory, layout.device, sizes.device, 4, "device event suppression");
    this.#indirect = layout.indirect ? indirect : null;
    this.#tables = this.#indirect === null
      ? null
      : q.Area.resolve(memory, this.#indirect.address, this.#indirect.entries * size * q.DESC_SIZE, 16, "indirect tables");
    this.#eventIndex = layout.eventIndex;
    this.#outstanding = new Outstanding(size, layout.inOrder === true);
    this.#unused = Uint16Array.from({ length: size }, (_, i) => i);
  }

  get written(): number {
    return this.#outstanding.written;
  }

  add(addresses: readonly number[], lengths: readonly number[], out: number, count: number): number {
    const indirect = this.#indirect !== null && count > 1 && count <= this.#indirect.entries;
    const needed = indirect ? 1 : count;
    if (count === 0 || count > this.size || needed > this.free || this.#ids === 0 || this.broken !== null) return -1;
    const id = this.#unused[this.#unusedFirst];
    let writable = 0;
    for (let i = out; i < count; i++) writable += lengths[i];
    if (indirect) {
      const table = this.#fillTable(id, addresses, lengths, out, count);
      this.#put(table, count * q.DESC_SIZE, id, q.DESC_F_INDIRECT);
    } else {
      for (let i = 0; i < count; i++) {
        this.#put(addresses[i], lengths[i], id, (i < count - 1 ? q.DESC_F_NEXT : 0) | (i < out ? 0 : q.DESC_F_WRITE));
      }
    }
    this.#unusedFirst = (this.#unusedFirst + 1) % this.size;
    this.#ids--;
    this.free -= needed;
    this.#places += needed;
    this.#outstanding.add(id, needed, writable);
    return id;
  }

  #fillTable(id: number, addresses: readonly number[], lengths: readonly number[], out: number, count: number): number {
    const { view, offset } = this.#tables!;
    const start = id * this.#indirect!.entries * q.DESC_SIZE;
    for (let i = 0; i < count; i++) {
      const at = offset + start + q.DESC_SIZE * i;
      putAddress(view, at, addresses[i]);
      view.setUint32(at + 8, lengths[i], true);
      view.setUint16(at + 12, 0, true);
      view.setUint16(at + 14, i < out ? 0 : q.DESC_F_WRITE, true);
    }
    return this.#indirect!.address + start;
  }

  #put(address: number, length: number, id: number, flags: number): void {
    const { view, offset } = this.#ring;
    const at = offset + q.DESC_SIZE * this.#next;
    putAddress(view, at, address);
    view.setUint32(at + 8, length, true);
    view.setUint16(at + 12, id, true);
    flags |= this.#wrap ? PACKED_AVAIL : PACKED_USED;
    // The first one's flags show all the others, so they come last.
    if (this.#firstFlags < 0) {
      this.#first = this.#next;
      this.#firstFlags = flags;
    } else view.setUint16(at + 14, flags, true);
    if (++this.#next === this.size) {
      this.#next = 0;
      this.#wrap = !this.#wrap;
    }
  }

  publish(): boolean {
    if (this.#firstFlags < 0) return false;
    this.#ring.store(q.DESC_SIZE * this.#first + 14, this.#firstFlags);
    const places = this.#places;
    this.#firstFlags = -1;
    this.#places = 0;
    const flags = this.#device.load(2) & 3;
    if (flags !== EVENT_DESC || !this.#eventIndex) return flags !== EVENT_DISABLE;
    const offWrap = this.#device.load(0);
    let event = offWrap & 0x7fff;
    if (((offWrap & 0x8000) !== 0) !== this.#wrap) event -= this.size;
    return q.needEvent(event, this.#next, this.#next - places);
  }

  #isUsed(): boolean {
    const flags = this.#ring.load(q.DESC_SIZE * this.#expected + 14);
    return ((flags & PACKED_AVAIL) !== 0) === this.#expectedWrap && ((flags & PACKED_USED) !== 0) === this.#expectedWrap;
  }

  collect(): number {
    if (this.broken !== null) return -2;
    const outstanding = this.#outstanding;
    let id = outstanding.next();
    if (id < 0) {
      if (this.free === this.size || !this.#isUsed()) return -1;
      const { view, offset } = this.#ring;
      const at = offset + q.DESC_SIZE * this.#expected;
      const told = view.getUint16(at + 12, true);
      const written = (view.getUint16(at + 14, true) & q.DESC_F_WRITE) !== 0 ? view.getUint32(at + 8, true) : 0;
      const wrong = outstanding.check(told, written);
      if (wrong !== null) {
        this.broken = wrong;
        return -2;
      }
      outstanding.begin(told, written);
      id = outstanding.next();
    }
    const places = outstanding.descriptors[id];
    outstanding.descriptors[id] = 0;
    this.#unused[(this.#unusedFirst + this.#ids) % this.size] = id;
    this.#ids++;
    this.free += places;
    this.#expected += places;
    if (this.#expected >= this.size) {
      this.#expected -= this.size;
      this.#expectedWrap = !this.#expectedWrap;
    }
    return id;
  }

  wantInterrupts(on: boolean): boolean {
    this.#driver.store(2, on ? EVENT_ENABLE : EVENT_DISABLE);
    if (!on || this.broken !== null || this.free === this.size) return false;
    // In the middle of a batch (in order) the next places say nothing of it.
    return this.#outstanding.pending || this.#isUsed();
  }
}
