/**
 * Memory for frames that are under way: slots of a few sizes, given back and used again.
 *
 * @module
 */
import { FrameMemory } from "../stack/device.ts";

/** Bytes of a slot: an acknowledgement, a small packet, a full frame, a large one, and a super-frame. */
const SIZES = [128, 512, 2048, 16_384, 65_664];
/** Bytes made at once. */
const CHUNK_BYTES = 65_664;

/** Frames under way in one direction; slots are numbers. Grows to its limit, and keeps what it has. */
export class FramePool {
  readonly #limit: number;
  readonly #free: number[][] = SIZES.map(() => []);
  readonly #memory: FrameMemory[] = [];
  readonly #offset: number[] = [];
  readonly #class: number[] = [];
  /** Notes about a slot's frame. */
  readonly length: number[] = [];
  readonly flags: number[] = [];
  readonly segmentSize: number[] = [];
  readonly segmentHeaderLength: number[] = [];
  readonly checksumStart: number[] = [];
  readonly checksumOffset: number[] = [];
  #used = 0;

  /** @param limit bytes of slots in use at once */
  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Bytes in use. */
  get used(): number {
    return this.#used;
  }

  memory(slot: number): FrameMemory {
    return this.#memory[slot];
  }

  offset(slot: number): number {
    return this.#offset[slot];
  }

  /** A slot for `size` bytes; -1 if that is more than any has, or the limit is reached. */
  take(size: number): number {
    let kind = 0;
    while (kind < SIZES.length && SIZES[kind] < size) kind++;
    if (kind === SIZES.length || this.#used + SIZES[kind] > this.#limit) return -1;
    const free = this.#free[kind];
    if (free.length === 0) this.#grow(kind);
    this.#used += SIZES[kind];
    const slot = free.pop()!;
    this.length[slot] = size;
    return slot;
  }

  release(slot: number): void {
    const kind = this.#class[slot];
    this.#used -= SIZES[kind];
    this.#free[kind].push(slot);
  }

  #grow(kind: number): void {
    const memory = new FrameMemory(CHUNK_BYTES);
    for (let offset = 0; offset + SIZES[kind] <= CHUNK_BYTES; offset += SIZES[kind]) {
      this.#free[kind].push(this.#memory.length);
      this.#memory.push(memory);
      this.#offset.push(offset);
      this.#class.push(kind);
      this.length.push(0);
      this.flags.push(0);
      this.segmentSize.push(0);
      this.segmentHeaderLength.push(0);
      this.checksumStart.push(-1);
      this.checksumOffset.push(0);
    }
  }
}
