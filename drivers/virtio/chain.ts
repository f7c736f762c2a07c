/**
 * A chain of buffers taken from a virtqueue: pieces of shared memory, those to read first, those to write behind them.
 *
 * @module
 */
import { type FrameMemory, NO_MEMORY } from "../../stack/device.ts";
import { copyBytes } from "../../stack/wire/copy.ts";

/** Most pieces of one chain, whatever the queue's size says: a 64 KiB segment in pages has 18. */
export const PIECES_MAX = 1024;

/** One chain, used again and again. */
export class Chain {
  /** What to give back: the head's index (split), or the buffer's id (packed). */
  id = 0;
  /** Places that it takes in the ring. */
  descriptors = 0;
  /** Pieces. */
  count = 0;
  /** How many of them, the first ones, are to be read; the others are to be written. */
  readable = 0;
  /** Bytes of those to read. */
  readableBytes = 0;
  /** Bytes of those to write. */
  writableBytes = 0;
  /** Where each piece lies: memory, offset and length. */
  readonly memory: FrameMemory[] = [];
  /** Where each piece begins in its memory. */
  readonly offset: number[] = [];
  /** Bytes of each piece. */
  readonly length: number[] = [];

  /** Forgets all pieces. */
  reset(): void {
    this.count =
      this.readable =
      this.readableBytes =
      this.writableBytes =
      this.descriptors =
        0;
  }

  /** One more piece. False when it has too many, or when one to read stands behind one to write. */
  push(memory: FrameMemory, offset: number, length: number, writable: boolean): boolean {
    const at = this.count;
    if (at === PIECES_MAX || (!writable && this.readable !== at)) return false;
    if (at === this.memory.length) {
      this.memory.push(NO_MEMORY);
      this.offset.push(0);
      this.length.push(0);
    }
    this.memory[at] = memory;
    this.offset[at] = offset;
    this.length[at] = length;
    this.count = at + 1;
    if (writable) this.writableBytes += length;
    else {
      this.readable = at + 1;
      this.readableBytes += length;
    }
    return true;
  }

  /** Copies up to `length` readable bytes from the `skip`th on to `at` of `into`; how many there were. */
  gather(skip: number, into: Uint8Array, at: number, length: number): number {
    let done = 0;
    for (let i = 0; i < this.readable && done < length; i++) {
      const size = this.length[i];
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const part = Math.min(size - skip, length - done);
      copyBytes(this.memory[i].bytes, this.offset[i] + skip, into, at + done, part);
      done += part;
      skip = 0;
    }
    return done;
  }

  /** Copies `length` bytes at `from` of `bytes` into the writable pieces, from their `skip`th byte on; how many fitted. */
  scatter(skip: number, bytes: Uint8Array, from: number, length: number): number {
    let done = 0;
    for (let i = this.readable; i < this.count && done < length; i++) {
      const size = this.length[i];
      if (skip >= size) {
        skip -= size;
        continue;
      }
      const part = Math.min(size - skip, length - done);
      copyBytes(bytes, from + done, this.memory[i].bytes, this.offset[i] + skip, part);
      done += part;
      skip = 0;
    }
    return done;
  }
}
