/**
 * Frames gathered into one `writev`: the device's own header, the frame's headers, and up to two pieces of payload, from where
 * they lie.
 *
 * @module
 */
import { addressOf, type Libc, libc, pointerTo } from "../ffi/libc.ts";
import { FrameMemory, type TxFrame } from "../stack/device.ts";

/** Writes the device's header for a frame at `at` of `into`; false if the frame asks for what it can't say. */
export type PutHeader = (frame: TxFrame, into: FrameMemory, at: number) => boolean;

/** The frame lies outside its memory, is too long, or asks for what the header can't say. */
export const FRAME_INVALID = -1;

/** Writes frames to descriptors. Nothing is allocated per frame. */
export class FrameWriter {
  readonly #libc: Libc = libc();
  readonly #headerSize: number;
  readonly #frameMax: number;
  readonly #putHeader: PutHeader;
  /** A header of our own, for frames without room before them. */
  readonly #header = new FrameMemory(64);
  /** Four iovecs of (address, length), 64 bits each, written as halves. */
  readonly #iovec = new Uint32Array(16);
  readonly #iovecPointer: Deno.PointerObject = pointerTo(this.#iovec);

  /**
   * @param headerSize bytes that stand before every frame
   * @param frameMax longest frame, without them
   */
  constructor(headerSize: number, frameMax: number, putHeader: PutHeader) {
    this.#headerSize = headerSize;
    this.#frameMax = frameMax;
    this.#putHeader = putHeader;
    this.#header.address = addressOf(this.#header.bytes);
  }

  /**
   * Writes one frame. Bytes before it in its memory are overwritten with the header if there is room.
   *
   * @returns bytes written; {@link FRAME_INVALID} with nothing written; what the kernel refused as -1 - errno
   */
  write(fd: number, frame: TxFrame): number {
    const entries = this.#gather(frame);
    if (entries < 0) return FRAME_INVALID;
    const n = this.#libc.writev(fd, this.#iovecPointer, entries);
    return n >= 0 ? n : FRAME_INVALID - this.#libc.errno[0];
  }

  #gather(frame: TxFrame): number {
    const { memory, payload, offset, length } = frame;
    // The kernel would read whatever addresses we name, so nothing may lie outside.
    if (!inside(memory, offset, length) || frame.size > this.#frameMax) return -1;
    const length1 = frame.payloadLength1, length2 = frame.payloadLength2;
    if (!inside(payload, frame.payloadOffset1, length1) || !inside(payload, frame.payloadOffset2, length2)) return -1;
    if (memory.address === 0) memory.address = addressOf(memory.bytes);
    const header = this.#headerSize;
    let count = 0;
    if (header > 0 && offset >= header) {
      if (!this.#putHeader(frame, memory, offset - header)) return -1;
      this.#entry(count++, memory.address + offset - header, length + header);
    } else {
      if (!this.#putHeader(frame, this.#header, 0)) return -1;
      if (header > 0) this.#entry(count++, this.#header.address, header);
      this.#entry(count++, memory.address + offset, length);
    }
    if (length1 > 0 || length2 > 0) {
      if (payload.address === 0) payload.address = addressOf(payload.bytes);
      if (length1 > 0) this.#entry(count++, payload.address + frame.payloadOffset1, length1);
      if (length2 > 0) this.#entry(count++, payload.address + frame.payloadOffset2, length2);
    }
    return count;
  }

  #entry(index: number, address: number, length: number): void {
    const at = index * 4;
    this.#iovec[at] = address % 0x1_0000_0000;
    this.#iovec[at + 1] = address / 0x1_0000_0000;
    this.#iovec[at + 2] = length;
  }
}

function inside(memory: FrameMemory, offset: number, length: number): boolean {
  return offset >= 0 && length >= 0 && offset + length <= memory.bytes.length;
}
