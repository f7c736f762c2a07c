/**
 * Longest-prefix match: networks to values. A key is the prefix's length in bits (4 bytes, little-endian, as the kernel has it
 * on every machine that we run on) and the address in network order.
 *
 * @module
 */
import { E2BIG, EINVAL, ENOSPC } from "../../ffi/errno.ts";
import type { MapSpec } from "./map_kinds.ts";
import { copyView, HashMap } from "./maps.ts";

/**
 * `lpm_trie`. A hash of all prefixes, asked once for each length that occurs, longest first: tables have few lengths, and it
 * takes no memory beyond the map's.
 */
export class LpmMap extends HashMap {
  /** Prefixes of each length. */
  readonly #lengths: Int32Array;
  readonly #bits: number;
  /** The key as the caller wrote it, while {@link key} holds shorter ones. */
  readonly #asked: DataView<ArrayBuffer>;

  /** See {@link HashMap}. */
  constructor(spec: MapSpec) {
    super(spec);
    this.#bits = 8 * (spec.keySize - 4);
    this.#lengths = new Int32Array(this.#bits + 1);
    this.#asked = new DataView(new ArrayBuffer(spec.keySize));
  }

  /** Sets the key to the first `length` bits of what was asked. */
  #shorten(length: number): void {
    const { key } = this;
    const asked = this.#asked;
    key.setUint32(0, length, true);
    for (let i = 4, left = length; i < key.byteLength; i++, left -= 8) {
      const mask = left >= 8 ? 0xff : left <= 0 ? 0 : 0xff00 >> left;
      key.setUint8(i, asked.getUint8(i) & mask);
    }
  }

  #ask(): number {
    copyView(this.key, 0, this.#asked, 0, this.key.byteLength);
    return this.key.getUint32(0, true);
  }

  #restore(): void {
    copyView(this.#asked, 0, this.key, 0, this.key.byteLength);
  }

  /** The longest prefix, at most as long as the key says, that the key begins with: where its value stands, or -1. */
  override lookup(): number {
    const longest = this.#ask();
    if (longest > this.#bits) return -1;
    let at = -1;
    for (let length = longest; length >= 0 && at < 0; length--) {
      if (this.#lengths[length] === 0) continue;
      this.#shorten(length);
      at = super.lookup();
    }
    this.#restore();
    return at;
  }

  /** 0, -28 (ENOSPC) when full, -22 (EINVAL) for a prefix longer than the address or an unknown flag, -17 (EEXIST), -2 (ENOENT). */
  override update(flags: number): number {
    const length = this.#ask();
    if (length > this.#bits) return -EINVAL;
    this.#shorten(length);
    const code = super.update(flags);
    this.#restore();
    return code === -E2BIG ? -ENOSPC : code;
  }

  /** 0, -2 (ENOENT), or -22 (EINVAL) for a prefix longer than the address. */
  override delete(): number {
    const length = this.#ask();
    if (length > this.#bits) return -EINVAL;
    this.#shorten(length);
    const code = super.delete();
    this.#restore();
    return code;
  }

  /** Counts the prefixes of its length. */
  protected override added(entry: number): void {
    this.#lengths[this.key.getUint32(0, true)]++;
    super.added(entry);
  }

  /** Counts the prefixes of its length. */
  protected override removed(entry: number): void {
    // Only `delete` removes here, and it has the key at hand.
    this.#lengths[this.key.getUint32(0, true)]--;
    super.removed(entry);
  }
}
