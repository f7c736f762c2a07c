/**
 * Memory for datagrams in reassembly: three sizes, reused, with one limit for all.
 *
 * @module
 */
import { FrameMemory } from "../device.ts";

/** Most datagrams are small: an echo of 4 KB should not cost 64. */
const SIZES = [4096, 16_384, 65_536] as const;

/** A pool that never holds more than `limit` bytes, lent and waiting together, but for {@link MemoryPool.force}. */
export class MemoryPool {
  /** Bytes held: lent and waiting. */
  allocated = 0;
  readonly #limit: number;
  readonly #free: FrameMemory[][] = SIZES.map(() => []);

  constructor(limit: number) {
    this.#limit = limit;
  }

  /** Memory of at least `size` bytes (at most 65,536), or null when the limit is reached. Its bytes are whatever they were. */
  take(size: number): FrameMemory | null {
    const index = indexOf(size);
    const memory = this.#free[index].pop();
    if (memory !== undefined) return memory;
    if (this.allocated + SIZES[index] > this.#limit) this.trim();
    return this.allocated + SIZES[index] > this.#limit ? null : this.force(size);
  }

  /** Memory in spite of the limit. */
  force(size: number): FrameMemory {
    const actual = SIZES[indexOf(size)];
    this.allocated += actual;
    return new FrameMemory(actual);
  }

  /** Takes memory back. */
  give(memory: FrameMemory): void {
    if (this.allocated > this.#limit) {
      this.allocated -= memory.bytes.length;
      return;
    }
    this.#free[indexOf(memory.bytes.length)].push(memory);
  }

  /** Lets go of what waits. */
  trim(): void {
    for (const list of this.#free) {
      for (const memory of list) this.allocated -= memory.bytes.length;
      list.length = 0;
    }
  }
}

function indexOf(size: number): number {
  return size <= SIZES[0] ? 0 : size <= SIZES[1] ? 1 : 2;
}
