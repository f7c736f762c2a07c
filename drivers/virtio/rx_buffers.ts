/**
 * A driver's receive queue: all of its buffers are with the device, but for the moment in which a frame is copied out.
 *
 * @module
 */
import { FrameMemory } from "../../stack/device.ts";
import { copyBytes } from "../../stack/wire/copy.ts";
import type { DriverQueue } from "./queue.ts";
import { FRAME_MAX } from "./ring_device.ts";

/** Where a frame is put, so that its IP header is aligned. */
export const RX_FRAME_AT = 2;
/** Bytes of a header that are looked at. */
const HEADER_BYTES = 12;
/** Where `num_buffers` lies in the header. */
const NUM_BUFFERS = 10;

/** {@link RxBuffers.next}: nothing has come. */
export const RX_NONE = 0;
/** {@link RxBuffers.next}: the device broke the ring. */
export const RX_BROKEN = -1;
/** {@link RxBuffers.next}: a frame shorter than its header, or too long. */
export const RX_UNUSABLE = -2;

/** Where the buffers lie and how they are used. */
export interface RxPlace {
  readonly memory: FrameMemory;
  /** Of the first buffer in `memory`. */
  readonly offset: number;
  /** Of the first buffer as the device knows it. */
  readonly address: number;
  /** Bytes of a buffer, and how many there are. */
  readonly size: number;
  readonly count: number;
  readonly headerLength: number;
  /** The header needs a descriptor of its own. */
  readonly split: boolean;
  /** A frame may take several buffers (VIRTIO_NET_F_MRG_RXBUF). */
  readonly mergeable: boolean;
}

/** The buffers of a receive queue. */
export class RxBuffers {
  readonly #queue: DriverQueue;
  readonly #place: RxPlace;
  /** Which buffer a chain is. */
  readonly #buffers: Int32Array;
  readonly #addresses = [0, 0];
  readonly #lengths = [0, 0];
  /** The frame that {@link next} found, at {@link RX_FRAME_AT}. */
  readonly slot: FrameMemory = new FrameMemory(RX_FRAME_AT + FRAME_MAX + 1);
  /** Its header. */
  readonly header: FrameMemory = new FrameMemory(HEADER_BYTES);
  /** Of a frame in several buffers: those that are still to come, and bytes so far; -1 when it is lost. */
  #missing = 0;
  #length = 0;

  constructor(queue: DriverQueue, place: RxPlace) {
    this.#queue = queue;
    this.#place = place;
    this.#buffers = new Int32Array(queue.size);
    for (let i = 0; i < place.count; i++) this.#post(i);
  }

  #post(buffer: number): void {
    const { address, size, headerLength, split } = this.#place;
    const at = address + buffer * size;
    this.#addresses[0] = at;
    this.#addresses[1] = at + headerLength;
    this.#lengths[0] = split ? headerLength : size;
    this.#lengths[1] = size - headerLength;
    const id = this.#queue.add(this.#addresses, this.#lengths, 0, split ? 2 : 1);
    if (id >= 0) this.#buffers[id] = buffer;
  }

  /** Copies the next frame into the slot: its length, or one of the RX_… codes, which are not positive. */
  next(): number {
    for (;;) {
      const id = this.#queue.collect();
      if (id === -1) return RX_NONE;
      if (id < 0) return RX_BROKEN;
      const buffer = this.#buffers[id];
      const { written } = this.#queue;
      if (this.#missing === 0) this.#begin(buffer, written);
      else {
        this.#missing--;
        this.#append(buffer, 0, written);
      }
      // The bytes are ours now: the device gets its buffer back at once.
      this.#post(buffer);
      if (this.#missing > 0) continue;
      return this.#length > 0 ? this.#length : RX_UNUSABLE;
    }
  }

  #begin(buffer: number, written: number): void {
    const { memory, offset, size, headerLength, mergeable } = this.#place;
    this.#length = written < headerLength ? -1 : 0;
    if (this.#length < 0) return;
    copyBytes(memory.bytes, offset + buffer * size, this.header.bytes, 0, Math.min(headerLength, HEADER_BYTES));
    if (mergeable) this.#missing = Math.max(0, this.header.view.getUint16(NUM_BUFFERS, true) - 1);
    this.#append(buffer, headerLength, written - headerLength);
  }

  #append(buffer: number, from: number, length: number): void {
    if (this.#length < 0) return;
    if (this.#length + length > FRAME_MAX) {
      this.#length = -1;
      return;
    }
    const { memory, offset, size } = this.#place;
    copyBytes(memory.bytes, offset + buffer * size + from, this.slot.bytes, RX_FRAME_AT + this.#length, length);
    this.#length += length;
  }
}
