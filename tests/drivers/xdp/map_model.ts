/**
 * Maps in user space, the slow and plain way: a second opinion for tests of programs.
 *
 * @module
 */
import type { XdpFunction } from "../../../drivers/xdp/program.ts";
import { isIndexed, type MapMemory, type MapSpec } from "../../../drivers/xdp/map_kinds.ts";

const [ENOENT, E2BIG, EEXIST, EINVAL] = [-2, -7, -17, -22];

export class MapModel implements MapMemory {
  readonly key: DataView<ArrayBuffer>;
  readonly value: DataView<ArrayBuffer>;
  readonly values: DataView<ArrayBuffer>;
  /** Of a `prog_array`. */
  readonly programs: (XdpFunction | null)[] = [];
  /** Key in hexadecimal to place. */
  readonly #places = new Map<string, number>();

  constructor(readonly spec: MapSpec) {
    this.key = new DataView(new ArrayBuffer(spec.keySize));
    this.value = new DataView(new ArrayBuffer(spec.valueSize));
    this.values = new DataView(new ArrayBuffer(spec.valueSize * spec.maxEntries));
  }

  #bytes(view: DataView<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    return new Uint8Array(view.buffer);
  }

  #normal(): string {
    const bytes = this.#bytes(this.key).slice();
    if (this.spec.kind === "lpm_trie") {
      // Bits behind the prefix don't count.
      const bits = this.key.getUint32(0, true);
      for (let bit = bits; bit < (bytes.length - 4) * 8; bit++) bytes[4 + (bit >> 3)] &= ~(0x80 >> (bit & 7));
    }
    return bytes.toHex();
  }

  #place(): number {
    const { kind, maxEntries } = this.spec;
    if (isIndexed(kind)) {
      const index = this.key.getUint32(0, true);
      return index < maxEntries ? index : -1;
    }
    return this.#places.get(this.#normal()) ?? -1;
  }

  #longest(): number {
    const asked = this.key.getUint32(0, true);
    try {
      for (let bits = asked; bits >= 0; bits--) {
        this.key.setUint32(0, bits, true);
        const place = this.#places.get(this.#normal());
        if (place !== undefined) return place;
      }
      return -1;
    } finally {
      this.key.setUint32(0, asked, true);
    }
  }

  lookup(): number {
    const place = this.spec.kind === "lpm_trie" ? this.#longest() : this.#place();
    return place < 0 ? -1 : place * this.spec.valueSize;
  }

  update(flags: number): number {
    const { kind, maxEntries, valueSize } = this.spec;
    let place = this.#place();
    if (isIndexed(kind)) {
      if (place < 0) return E2BIG;
      if (flags === 1) return EEXIST;
    } else {
      if (place >= 0 && flags === 1) return EEXIST;
      if (place < 0 && flags === 2) return ENOENT;
      if (place < 0 && this.#places.size >= maxEntries) return E2BIG;
      if (place < 0) {
        const taken = new Set(this.#places.values());
        do place++; while (taken.has(place));
        this.#places.set(this.#normal(), place);
      }
    }
    this.#bytes(this.values).set(this.#bytes(this.value), place * valueSize);
    return 0;
  }

  delete(): number {
    if (isIndexed(this.spec.kind)) return EINVAL;
    return this.#places.delete(this.#normal()) ? 0 : ENOENT;
  }

  /** Puts bytes under bytes. */
  put(key: Uint8Array, value: Uint8Array): number {
    this.#bytes(this.key).set(key);
    this.#bytes(this.value).set(value);
    return this.update(0);
  }

  /** The value's bytes under bytes, or null. */
  get(key: Uint8Array): Uint8Array | null {
    this.#bytes(this.key).set(key);
    const place = this.#place();
    return place < 0 ? null : this.#bytes(this.values).slice(place * this.spec.valueSize, (place + 1) * this.spec.valueSize);
  }
}
