/**
 * A frame in the hands of a device class or a program, and a bounded queue of them. Nothing is allocated per frame.
 *
 * @module
 */
import { FrameMemory, NO_MEMORY, type TxFrame } from "../../stack/device.ts";
import { copyBytes } from "../../stack/wire/copy.ts";

/** A frame: bytes of a slot that is used again. Valid during the call that hands it over. */
export class NetFrame {
  /** Where its bytes are. */
  memory: FrameMemory = NO_MEMORY;
  /** Where it begins. */
  offset = 0;
  /** Bytes. */
  length = 0;
  /** `RX_CHECKSUM_…` bits: what is known of the transport checksum. */
  flags = 0;
  /** Payload bytes per segment if it is several segments in one, else 0. */
  segmentSize = 0;
  /** Bytes of the slot that are the frame's to grow into: its room begins and ends here. */
  roomStart = 0;
  /** The end of its room. */
  roomEnd = 0;

  /** The frame's bytes where they are: the same view again while frames lie at the same place. */
  get bytes(): Uint8Array<ArrayBuffer> {
    return this.memory.window(this.offset, this.length);
  }

  /** The frame's bytes to keep. */
  copy(): Uint8Array<ArrayBuffer> {
    return this.memory.bytes.slice(this.offset, this.offset + this.length);
  }

  /** Sets it to bytes of a memory, without room around. */
  set(memory: FrameMemory, offset: number, length: number, flags = 0, segmentSize = 0): void {
    this.memory = memory;
    this.offset = this.roomStart = offset;
    this.length = length;
    this.roomEnd = offset + length;
    this.flags = flags;
    this.segmentSize = segmentSize;
  }

  /** Moves its begin: a negative `delta` grows it at the front. False, and nothing is changed, when there is no room or nothing left. */
  adjustHead(delta: number): boolean {
    const offset = this.offset + delta;
    if (!Number.isInteger(delta) || offset < this.roomStart || this.length - delta <= 0) return false;
    this.offset = offset;
    this.length -= delta;
    return true;
  }

  /** Moves its end: a positive `delta` grows it. False, and nothing is changed, when there is no room or nothing left. */
  adjustTail(delta: number): boolean {
    const length = this.length + delta;
    if (!Number.isInteger(delta) || length <= 0 || this.offset + length > this.roomEnd) return false;
    this.length = length;
    return true;
  }
}

/** Whole numbers noted of each frame in a queue. They must not be read as doubles: each would be boxed on its way to a sink. */
const NOTES = 6;

/** Frames in a ring of bytes with a ring of notes. */
export class NetFrameQueue {
  /** Where the frames are. */
  readonly memory: FrameMemory;
  readonly #notes: Int32Array;
  readonly #timestamps: Float64Array;
  readonly #limit: number;
  #head = 0;
  #count = 0;
  #begin = 0;
  #end = 0;

  /** Room for so many frames, and for so many bytes. */
  constructor(frames: number, bytes: number) {
    this.memory = new FrameMemory(bytes);
    this.#notes = new Int32Array(frames * NOTES);
    this.#timestamps = new Float64Array(frames);
    this.#limit = frames;
  }

  /** Frames that wait. */
  get count(): number {
    return this.#count;
  }

  /** Where `size` bytes have room in one piece, or -1. */
  reserve(size: number): number {
    if (this.#count === this.#limit) return -1;
    const total = this.memory.bytes.length;
    if (this.#count === 0) {
      this.#begin = this.#end = 0;
      return size <= total ? 0 : -1;
    }
    if (this.#end > this.#begin) {
      if (this.#end + size <= total) return this.#end;
      return size <= this.#begin ? 0 : -1;
    }
    return this.#end + size <= this.#begin ? this.#end : -1;
  }

  /** Notes a frame whose bytes have been put at `offset`, which {@link reserve} gave. */
  push(offset: number, length: number, flags = 0, segmentSize = 0, mark = 0, priority = 0, timestamp = 0): void {
    const slot = (this.#head + this.#count) % this.#limit;
    const at = slot * NOTES;
    const notes = this.#notes;
    notes[at] = offset;
    notes[at + 1] = length;
    notes[at + 2] = flags;
    notes[at + 3] = segmentSize;
    notes[at + 4] = mark;
    notes[at + 5] = priority;
    this.#timestamps[slot] = timestamp;
    this.#end = offset + length;
    this.#count++;
  }

  /** Copies a frame in: false when it is full. */
  put(memory: FrameMemory, offset: number, length: number, flags = 0, segmentSize = 0): boolean {
    const at = this.reserve(length);
    if (at < 0) return false;
    copyBytes(memory.bytes, offset, this.memory.bytes, at, length);
    this.push(at, length, flags, segmentSize);
    return true;
  }

  /** Offset of the oldest frame's bytes. There must be one; so with what follows. */
  get offset(): number {
    return this.#notes[this.#head * NOTES];
  }
  /** Its length. */
  get length(): number {
    return this.#notes[this.#head * NOTES + 1];
  }
  /** Its `RX_CHECKSUM_…` bits. */
  get flags(): number {
    return this.#notes[this.#head * NOTES + 2];
  }
  /** Its segment size. */
  get segmentSize(): number {
    return this.#notes[this.#head * NOTES + 3];
  }
  /** Its mark. */
  get mark(): number {
    return this.#notes[this.#head * NOTES + 4] >>> 0;
  }
  /** Its priority. */
  get priority(): number {
    return this.#notes[this.#head * NOTES + 5] >>> 0;
  }
  /** Its timestamp. */
  get timestamp(): number {
    return this.#timestamps[this.#head];
  }

  /** Forgets the oldest frame. Its bytes may be used until the next `reserve`. Nothing if there is none. */
  shift(): void {
    if (this.#count === 0) return;
    this.#head = (this.#head + 1) % this.#limit;
    this.#count--;
    if (this.#count > 0) this.#begin = this.#notes[this.#head * NOTES];
  }

  /** Forgets all. */
  clear(): void {
    this.#count =
      this.#head =
      this.#begin =
      this.#end =
        0;
  }
}

/** Puts all bytes of an outgoing frame at `at`, without a view where it can: its size. */
export function gather(frame: TxFrame, into: Uint8Array, at: number): number {
  const { memory, payload, length, payloadLength1, payloadLength2 } = frame;
  copyBytes(memory.bytes, frame.offset, into, at, length);
  if (payloadLength1 > 0) copyBytes(payload.bytes, frame.payloadOffset1, into, at + length, payloadLength1);
  if (payloadLength2 > 0) copyBytes(payload.bytes, frame.payloadOffset2, into, at + length + payloadLength1, payloadLength2);
  return frame.size;
}
