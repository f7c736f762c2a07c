/**
 * The driver's side of a split virtqueue (virtio 1.2, 2.7.13 and 2.7.14). Layout: see split_device.ts.
 *
 * @module
 */
import { putAddress, type SharedMemory } from "./memory.ts";
import { Outstanding } from "./outstanding.ts";
import * as q from "./queue.ts";

const NO_INTERRUPT = 1;
const NO_NOTIFY = 1;

/** Where a driver's indirect tables lie: one of `entries` for every entry of the queue. */
export interface IndirectTables {
  readonly address: number;
  readonly entries: number;
}

/** A split virtqueue, as the driver sees it. */
export class SplitDriverQueue implements q.DriverQueue {
  readonly size: number;
  free: number;
  broken: string | null = null;
  readonly #table: q.Area;
  readonly #avail: q.Area;
  readonly #used: q.Area;
  readonly #tables: q.Area | null;
  readonly #indirect: IndirectTables | null;
  readonly #eventIndex: boolean;
  readonly #mask: number;
  readonly #outstanding: Outstanding;
  /** Free descriptors, first come, first served: so a device that works in order sees them in the ring's order. */
  readonly #unused: Uint16Array;
  #unusedFirst = 0;
  /** Which descriptor follows: our own note, because the device could write into the table. */
  readonly #links: Uint16Array;
  #added = 0;
  #shown = 0;
  #collected = 0;
  #seen = 0;

  /** @throws {RangeError} for a size that isn't a power of two, or parts outside the memory or not aligned */
  constructor(memory: SharedMemory, layout: q.QueueLayout, indirect: IndirectTables | null = null) {
    const { size } = layout;
    q.checkQueueSize(size, false);
    const sizes = q.areaSizes(false, size);
    this.size = this.free = size;
    this.#mask = size - 1;
    this.#table = q.Area.resolve(memory, layout.descriptors, sizes.descriptors, 16, "descriptor table");
    this.#avail = q.Area.resolve(memory, layout.driver, sizes.driver, 2, "available ring");
    this.#used = q.Area.resolve(memory, layout.device, sizes.device, 4, "used ring");
    this.#indirect = layout.indirect ? indirect : null;
    this.#tables = this.#indirect === null
      ? null
      : q.Area.resolve(memory, this.#indirect.address, this.#indirect.entries * size * q.DESC_SIZE, 16, "indirect tables");
    this.#eventIndex = layout.eventIndex;
    this.#outstanding = new Outstanding(size, layout.inOrder === true);
    this.#unused = Uint16Array.from({ length: size }, (_, i) => i);
    this.#links = new Uint16Array(size);
  }

  get written(): number {
    return this.#outstanding.written;
  }

  add(addresses: readonly number[], lengths: readonly number[], out: number, count: number): number {
    const indirect = this.#indirect !== null && count > 1 && count <= this.#indirect.entries;
    const needed = indirect ? 1 : count;
    if (count === 0 || count > this.size || needed > this.free || this.broken !== null) return -1;
    const head = this.#unused[this.#unusedFirst];
    let writable = 0;
    const { view, offset } = indirect ? this.#tables! : this.#table;
    const base = indirect ? offset + head * this.#indirect!.entries * q.DESC_SIZE : offset;
    for (let i = 0; i < count; i++) {
      const index = indirect ? i : this.#unused[(this.#unusedFirst + i) & this.#mask];
      const at = base + q.DESC_SIZE * index;
      const last = i === count - 1;
      const next = last ? 0 : indirect ? i + 1 : this.#unused[(this.#unusedFirst + i + 1) & this.#mask];
      if (!indirect) this.#links[index] = next;
      putAddress(view, at, addresses[i]);
      view.setUint32(at + 8, lengths[i], true);
      view.setUint16(at + 12, (last ? 0 : q.DESC_F_NEXT) | (i < out ? 0 : q.DESC_F_WRITE), true);
      view.setUint16(at + 14, next, true);
      if (i >= out) writable += lengths[i];
    }
    if (indirect) this.#pointToTable(head, count);
    this.#unusedFirst = (this.#unusedFirst + needed) & this.#mask;
    this.free -= needed;
    this.#outstanding.add(head, needed, writable);
    this.#avail.view.setUint16(this.#avail.offset + 4 + 2 * (this.#added & this.#mask), head, true);
    this.#added = (this.#added + 1) & 0xffff;
    return head;
  }

  #pointToTable(head: number, count: number): void {
    const { view, offset } = this.#table;
    const at = offset + q.DESC_SIZE * head;
    putAddress(view, at, this.#indirect!.address + head * this.#indirect!.entries * q.DESC_SIZE);
    view.setUint32(at + 8, count * q.DESC_SIZE, true);
    view.setUint16(at + 12, q.DESC_F_INDIRECT, true);
    view.setUint16(at + 14, 0, true);
  }

  publish(): boolean {
    const old = this.#shown;
    if (old === this.#added) return false;
    this.#avail.store(2, this.#added);
    this.#shown = this.#added;
    if (this.#eventIndex) return q.needEvent(this.#used.load(4 + 8 * this.size), this.#added, old);
    return (this.#used.load(0) & NO_NOTIFY) === 0;
  }

  collect(): number {
    if (this.broken !== null) return -2;
    const outstanding = this.#outstanding;
    if (this.#collected === this.#seen) {
      this.#seen = this.#used.load(2);
      const waiting = (this.#seen - this.#collected) & 0xffff;
      if (waiting === 0) return outstanding.pending ? this.#fail("a batch of more chains than the used index tells") : -1;
      if (waiting > outstanding.count) return this.#fail(`the used index jumped by ${waiting}`);
    }
    let id = outstanding.next();
    if (id < 0) {
      const used = this.#used;
      const at = used.offset + 4 + 8 * (this.#collected & this.#mask);
      const told = used.view.getUint32(at, true);
      const written = used.view.getUint32(at + 4, true);
      const wrong = outstanding.check(told, written);
      if (wrong !== null) return this.#fail(wrong);
      outstanding.begin(told, written);
      id = outstanding.next();
    }
    // In order, one entry may stand for a batch, and the index goes on by the whole of it all the same (2.7.9).
    this.#collected = (this.#collected + 1) & 0xffff;
    this.#release(id);
    return id;
  }

  #fail(reason: string): -2 {
    this.broken = reason;
    return -2;
  }

  #release(head: number): void {
    const count = this.#outstanding.descriptors[head];
    this.#outstanding.descriptors[head] = 0;
    for (let i = 0, index = head; i < count; i++, index = this.#links[index]) {
      this.#unused[(this.#unusedFirst + this.free) & this.#mask] = index;
      this.free++;
    }
  }

  wantInterrupts(on: boolean): boolean {
    if (this.#eventIndex) {
      if (on) this.#avail.store(4 + 2 * this.size, this.#collected);
    } else this.#avail.store(0, on ? 0 : NO_INTERRUPT);
    return on && this.broken === null && this.#used.load(2) !== this.#collected;
  }
}
