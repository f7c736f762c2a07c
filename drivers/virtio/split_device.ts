/**
 * The device's side of a split virtqueue (virtio 1.2, 2.7).
 *
 *      descriptor table          available ring (driver writes)         used ring (device writes)
 *     +------+-----+-----+----+  +-------+-----+--------+-----------+  +-------+-----+---------+-----------+
 *     | addr | len |flags|next|  | flags | idx | ring[] | usedEvent |  | flags | idx | id, len | availEvent|
 *     +------+-----+-----+----+  +-------+-----+--------+-----------+  +-------+-----+---------+-----------+
 *      0      8     12    14      0       2     4                       0       2     4
 *
 * @module
 */
import type { Chain } from "./chain.ts";
import { addressAt, type SharedMemory } from "./memory.ts";
import * as q from "./queue.ts";

const NO_INTERRUPT = 1;
const NO_NOTIFY = 1;

/** A split virtqueue, as the device sees it. */
export class SplitDeviceQueue implements q.DeviceQueue {
  readonly size: number;
  broken: string | null = null;
  readonly #memory: SharedMemory;
  readonly #table: q.Area;
  readonly #avail: q.Area;
  readonly #used: q.Area;
  readonly #eventIndex: boolean;
  readonly #indirect: boolean;
  readonly #mask: number;
  /** Free-running: the next entry of the available ring, and how far the driver was seen to be. */
  #next: number;
  #seen: number;
  #marked: number;
  /** Free-running: entries written to the used ring, and those that the driver was shown. */
  #given: number;
  #shown: number;

  /**
   * @param base where the last owner of the ring stopped
   * @throws {RangeError} for a size that isn't a power of two, or parts outside the memory or not aligned
   */
  constructor(memory: SharedMemory, layout: q.QueueLayout, base = 0) {
    q.checkQueueSize(layout.size, false);
    const sizes = q.areaSizes(false, layout.size);
    this.size = layout.size;
    this.#mask = layout.size - 1;
    this.#memory = memory;
    this.#table = q.Area.resolve(memory, layout.descriptors, sizes.descriptors, 16, "descriptor table");
    this.#avail = q.Area.resolve(memory, layout.driver, sizes.driver, 2, "available ring");
    this.#used = q.Area.resolve(memory, layout.device, sizes.device, 4, "used ring");
    this.#eventIndex = layout.eventIndex;
    this.#indirect = layout.indirect;
    this.#next = this.#seen = this.#marked = base & 0xffff;
    // Whoever had the ring before gave back everything it took, or lost it: what the driver sees is the truth.
    this.#given = this.#shown = this.#used.load(2);
  }

  get base(): number {
    return this.#next;
  }

  #fail(reason: string): -1 {
    this.broken = reason;
    return -1;
  }

  #refuse(reason: string): false {
    this.broken = reason;
    return false;
  }

  take(chain: Chain): number {
    if (this.broken !== null) return -1;
    if (this.#next === this.#seen) {
      this.#seen = this.#avail.load(2);
      const waiting = (this.#seen - this.#next) & 0xffff;
      if (waiting === 0) return 0;
      if (waiting > this.size) return this.#fail(`the available index jumped by ${waiting} in a queue of ${this.size}`);
    }
    const avail = this.#avail;
    const head = avail.view.getUint16(avail.offset + 4 + 2 * (this.#next & this.#mask), true);
    chain.reset();
    chain.id = head;
    chain.descriptors = 1;
    const table = this.#table;
    if (!this.#walk(chain, table.view, table.offset, this.size, head, false)) return -1;
    this.#next = (this.#next + 1) & 0xffff;
    return 1;
  }

  /** Follows the chain from descriptor `index` of a table. */
  #walk(chain: Chain, view: DataView, table: number, entries: number, index: number, nested: boolean): boolean {
    for (let steps = 0;; steps++) {
      if (index >= entries) return this.#refuse(`descriptor ${index} of ${entries}`);
      if (steps === entries) return this.#refuse("a chain of descriptors is a loop");
      const at = table + q.DESC_SIZE * index;
      const address = addressAt(view, at);
      const length = view.getUint32(at + 8, true);
      const flags = view.getUint16(at + 12, true);
      if (length === 0) return this.#refuse(`descriptor ${index} has no bytes`);
      const region = this.#memory.find(address, length);
      if (region === null) return this.#refuse(`descriptor ${index}: 0x${address.toString(16)} is not in shared memory`);
      const offset = address - region.base;
      if ((flags & q.DESC_F_INDIRECT) !== 0) {
        if (!this.#indirect || nested) return this.#refuse("an indirect table where none may be");
        if ((flags & q.DESC_F_NEXT) !== 0 || length % q.DESC_SIZE !== 0) return this.#refuse("a wrong indirect table");
        return this.#walk(chain, region.memory.view, offset, length / q.DESC_SIZE, 0, true);
      }
      const writable = (flags & q.DESC_F_WRITE) !== 0;
      if (!chain.push(region.memory, offset, length, writable)) {
        return this.#refuse("too long a chain, or one to read after one to write");
      }
      if ((flags & q.DESC_F_NEXT) === 0) return true;
      index = view.getUint16(at + 14, true);
    }
  }

  mark(): void {
    this.#marked = this.#next;
  }

  rewind(): void {
    this.#next = this.#marked;
  }

  give(id: number, _descriptors: number, written: number): void {
    const used = this.#used;
    const at = used.offset + 4 + 8 * (this.#given & this.#mask);
    used.view.setUint32(at, id, true);
    used.view.setUint32(at + 4, written, true);
    this.#given = (this.#given + 1) & 0xffff;
  }

  publish(): boolean {
    const old = this.#shown;
    if (old === this.#given) return false;
    this.#used.store(2, this.#given);
    this.#shown = this.#given;
    if (this.#eventIndex) return q.needEvent(this.#avail.load(4 + 2 * this.size), this.#given, old);
    return (this.#avail.load(0) & NO_INTERRUPT) === 0;
  }

  wantKicks(on: boolean): boolean {
    if (this.#eventIndex) {
      // An index that was passed already asks for nothing.
      if (on) this.#used.store(4 + 8 * this.size, this.#next);
    } else this.#used.store(0, on ? 0 : NO_NOTIFY);
    return on && this.broken === null && this.#avail.load(2) !== this.#next;
  }
}
