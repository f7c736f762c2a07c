/**
 * Rings leased from a shared memory. Only the side that writes into them leases and returns.
 *
 * @module
 */
import { LARGE_RING, LARGE_RINGS, SMALL_RING, SMALL_RINGS } from "./layout.ts";

/** Rings of one size: what came back last is given out first, so that few pages are ever touched. */
class Shelf {
  #returned: number[] = [];
  #fresh = 0;

  constructor(readonly start: number, readonly size: number, readonly count: number) {}

  lease(): number {
    const offset = this.#returned.pop();
    if (offset !== undefined) return offset;
    return this.#fresh < this.count ? this.start + this.size * this.#fresh++ : -1;
  }

  give(offset: number): void {
    this.#returned.push(offset);
  }

  get used(): number {
    return this.#fresh - this.#returned.length;
  }
}

/** The rings of one direction. */
export class Arena {
  readonly #small = new Shelf(0, SMALL_RING, SMALL_RINGS);
  readonly #large = new Shelf(SMALL_RING * SMALL_RINGS, LARGE_RING, LARGE_RINGS);

  constructor(readonly bytes: Uint8Array<SharedArrayBuffer>) {}

  /** Offset of a ring, or -1 when there is none. `atLeast` bytes must fit; a large one is given only for those. */
  lease(atLeast: number): number {
    return atLeast > SMALL_RING ? this.#large.lease() : this.#small.lease();
  }

  sizeOf(offset: number): number {
    return offset < SMALL_RING * SMALL_RINGS ? SMALL_RING : LARGE_RING;
  }

  give(offset: number): void {
    if (this.sizeOf(offset) === SMALL_RING) this.#small.give(offset);
    else this.#large.give(offset);
  }

  /** Rings that are leased. */
  get used(): number {
    return this.#small.used + this.#large.used;
  }
}
