/**
 * What split and packed virtqueues share (virtio 1.2, 2.7 and 2.8): constants, and the faces of their two sides.
 *
 * @module
 */
import type { Chain } from "./chain.ts";
import type { Region, SharedMemory } from "./memory.ts";

/** Descriptor flag: the chain goes on. */
export const DESC_F_NEXT = 1;
/** Descriptor flag: the device writes. */
export const DESC_F_WRITE = 2;
/** Descriptor flag: the buffer holds a table of descriptors. */
export const DESC_F_INDIRECT = 4;
/** Bytes of a descriptor, in both formats. */
export const DESC_SIZE = 16;
/** Largest queue (virtio 1.2, 2.6). */
export const QUEUE_SIZE_MAX = 32_768;

/** Where a queue's parts lie, and what was agreed about it. */
export interface QueueLayout {
  /** Entries. A power of two for a split queue. */
  readonly size: number;
  /** Descriptor area: table, or ring. */
  readonly descriptors: number;
  /** Driver area: available ring, or driver event suppression. */
  readonly driver: number;
  /** Device area: used ring, or device event suppression. */
  readonly device: number;
  /** VIRTIO_F_EVENT_IDX was agreed. */
  readonly eventIndex: boolean;
  /** VIRTIO_F_INDIRECT_DESC was agreed. */
  readonly indirect: boolean;
  /** VIRTIO_F_IN_ORDER was agreed. */
  readonly inOrder?: boolean;
}

/** Bytes of a part of a queue. */
export function areaSizes(packed: boolean, size: number): { descriptors: number; driver: number; device: number } {
  // With the event indexes, which are there whether they are used or not; legacy drivers lay them out so too.
  if (packed) return { descriptors: DESC_SIZE * size, driver: 4, device: 4 };
  return { descriptors: DESC_SIZE * size, driver: 6 + 2 * size, device: 6 + 8 * size };
}

/** The device's side of a virtqueue. Nothing is allocated per buffer, and nothing throws: a broken ring says why. */
export interface DeviceQueue {
  /** Entries. */
  readonly size: number;
  /** Why the ring can't be used any more, or null. Whoever finds a chain that makes no sense sets it too. */
  broken: string | null;
  /** Fills `chain` with the next one: 1, 0 for none, -1 for a broken ring. */
  take(chain: Chain): number;
  /** Remembers what was taken so far, for {@link rewind}. */
  mark(): void;
  /** Unmakes every `take` since {@link mark}; nothing may have been given since. */
  rewind(): void;
  /** Gives a chain back, `written` bytes of it written; seen by the driver from {@link publish} on. */
  give(id: number, descriptors: number, written: number): void;
  /** Shows what was given. True if the driver wants to be told. */
  publish(): boolean;
  /** Asks for kicks, or not. True if something waits already; nothing does in a broken ring. */
  wantKicks(on: boolean): boolean;
  /** Where it stands, as vhost-user carries it to the next owner of the ring. */
  readonly base: number;
}

/** The driver's side of a virtqueue. */
export interface DriverQueue {
  /** Entries. */
  readonly size: number;
  /** Descriptors that are free. */
  readonly free: number;
  /** Why the ring can't be used any more, or null. */
  readonly broken: string | null;
  /**
   * Offers a chain, of `out` pieces to be read and `count - out` to be written by the device: its id, or -1 when it doesn't fit.
   * No chain may have more pieces than the queue has entries, be it indirect or not (virtio 1.2, 2.7.5.3.1 and 2.8.8).
   * Seen by the device from {@link publish} on.
   */
  add(addresses: readonly number[], lengths: readonly number[], out: number, count: number): number;
  /** Shows what was added. True if the device wants to be told. */
  publish(): boolean;
  /** The id of the next chain that the device has used, -1 for none, -2 for a broken ring; `written` holds its bytes. */
  collect(): number;
  /** Bytes that the device says to have written into the chain of the last {@link collect}. */
  readonly written: number;
  /** Asks for interrupts, or not. True if something waits already; nothing does in a broken ring. */
  wantInterrupts(on: boolean): boolean;
}

/** One part of a queue, resolved: a region, and the part's offset in it. */
export class Area {
  readonly view: DataView;
  readonly words: Uint16Array;
  /** The place of the first word in `words`; a machine's memory may be more than 4 GiB, which a shift would cut off. */
  readonly #first: number;

  private constructor(region: Region, readonly offset: number) {
    this.view = region.memory.view;
    this.words = region.words;
    this.#first = offset / 2;
  }

  /** @throws {RangeError} when it lies outside, or isn't aligned */
  static resolve(memory: SharedMemory, address: number, length: number, alignment: number, what: string): Area {
    const region = memory.find(address, length);
    const at = `${what} at 0x${address.toString(16)}`;
    if (region === null) throw new RangeError(`${at}: ${length} bytes are not in shared memory`);
    const offset = address - region.base;
    // Both must hold: the guest's address is what the specification speaks of, the place in the buffer is what Atomics need.
    if (address % alignment !== 0 || offset % 2 !== 0) throw new RangeError(`${at}: not aligned to ${alignment}`);
    return new Area(region, offset);
  }

  /** A 16-bit word `at` bytes behind the beginning, with everything before it seen first. */
  load(at: number): number {
    return Atomics.load(this.words, this.#first + (at >>> 1));
  }

  /** Stores a 16-bit word after everything before it, and before everything behind it. */
  store(at: number, value: number): void {
    Atomics.store(this.words, this.#first + (at >>> 1), value);
  }
}

/** True if `event` was passed on the way from `old` to `index` (virtio 1.2, 2.7.10, `vring_need_event`). */
export function needEvent(event: number, index: number, old: number): boolean {
  return ((index - event - 1) & 0xffff) < ((index - old) & 0xffff);
}

/** @throws {RangeError} for a size that the format doesn't have */
export function checkQueueSize(size: number, packed: boolean): void {
  const whole = Number.isInteger(size) && size >= 1 && size <= QUEUE_SIZE_MAX;
  if (!whole || (!packed && (size & (size - 1)) !== 0)) {
    throw new RangeError(`queue size ${size}: ${packed ? "" : "a power of two "}from 1 to ${QUEUE_SIZE_MAX} is needed`);
  }
}
