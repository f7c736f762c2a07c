/**
 * Maps in user space: arrays, hashes with and without eviction, per-CPU counters; see `interface_maps.ts` and `lpm_map.ts` for
 * the rest, and {@link createMap} for all. Memory is taken once, for as many entries as there may be, and results are the
 * kernel's.
 *
 * @module
 */
import { E2BIG, EEXIST, EINVAL, ENOENT } from "../../ffi/errno.ts";
import { checkMapSpec, type MapMemory, type MapSpec, UPDATE_ANY, UPDATE_EXISTING_ONLY, UPDATE_NEW_ONLY } from "./map_kinds.ts";

/** Most bytes that one map takes for its keys and values. */
export const MAP_BYTES_MAX = 256 << 20;

function view(size: number): DataView<ArrayBuffer> {
  return new DataView(new ArrayBuffer(size));
}

/** Copies `length` bytes between views that don't overlap. */
export function copyView(from: DataView, at: number, to: DataView, toAt: number, length: number): void {
  let i = 0;
  for (; i + 4 <= length; i += 4) to.setInt32(toAt + i, from.getInt32(at + i));
  for (; i < length; i++) to.setUint8(toAt + i, from.getUint8(at + i));
}

/** What all maps share: the places that a program writes keys and values to, and calls for those who aren't in a hurry. */
export abstract class XdpMap implements MapMemory {
  /** What it is made of. */
  readonly spec: MapSpec;
  /** Written before each call. */
  readonly key: DataView<ArrayBuffer>;
  /** Written before {@link update}. */
  readonly value: DataView<ArrayBuffer>;
  /** The memory of all values. */
  readonly values: DataView<ArrayBuffer>;

  /** Takes the memory. @throws {TypeError} for a map that the kernel would refuse; {RangeError} for more than {@link MAP_BYTES_MAX} */
  constructor(spec: MapSpec) {
    checkMapSpec(spec);
    const bytes = spec.maxEntries * (spec.keySize + spec.valueSize);
    if (bytes > MAP_BYTES_MAX) throw new RangeError(`map "${spec.name}" needs ${bytes} bytes: at most ${MAP_BYTES_MAX}`);
    this.spec = spec;
    this.key = view(spec.keySize);
    this.value = view(spec.valueSize);
    this.values = view(spec.maxEntries * spec.valueSize);
  }

  /** Where in {@link values} the value for {@link key} stands, or -1. */
  abstract lookup(): number;
  /** Puts {@link value} under {@link key}: 0 or a negative errno. */
  abstract update(flags: number): number;
  /** Takes {@link key} out: 0 or a negative errno. */
  abstract delete(): number;

  /** {@link lookup} of a key at hand: a number is written in 4 bytes, little-endian. */
  find(key: number | Uint8Array): number {
    return put(this.key, key) ? this.lookup() : -1;
  }

  /** {@link update} with key and value at hand. -22 (EINVAL) for bytes of another length. */
  set(key: number | Uint8Array, value: number | Uint8Array, flags: number = UPDATE_ANY): number {
    return put(this.key, key) && put(this.value, value) ? this.update(flags) : -EINVAL;
  }

  /** {@link delete} of a key at hand. */
  remove(key: number | Uint8Array): number {
    return put(this.key, key) ? this.delete() : -EINVAL;
  }

  /** A copy of the value under a key, or null. */
  get(key: number | Uint8Array): Uint8Array<ArrayBuffer> | null {
    const at = this.find(key);
    return at < 0 ? null : new Uint8Array(this.values.buffer.slice(at, at + this.spec.valueSize));
  }
}

/** Writes a key or a value; numbers fill what is behind them with zeros. False if the length is wrong. */
function put(into: DataView, from: number | Uint8Array): boolean {
  const size = into.byteLength;
  if (typeof from === "number") {
    for (let i = 0; i < size; i++) into.setUint8(i, i < 4 ? from >>> (8 * i) : 0);
    return size >= 4 || from >>> (8 * size) === 0;
  }
  if (from.length !== size) return false;
  for (let i = 0; i < size; i++) into.setUint8(i, from[i]);
  return true;
}

/** What an update of an entry that is, or is not, there may not do: 0 or a negative errno. */
export function checkUpdate(flags: number, there: boolean): number {
  if (!(flags >= UPDATE_ANY && flags <= UPDATE_EXISTING_ONLY)) return -EINVAL;
  if (there) return flags === UPDATE_NEW_ONLY ? -EEXIST : 0;
  return flags === UPDATE_EXISTING_ONLY ? -ENOENT : 0;
}

/** `array` and `percpu_array`: values by index, all there from the beginning. */
export class ArrayMap extends XdpMap {
  /** Where the place of {@link key} is, or -1 beyond the end. */
  protected place(): number {
    const index = this.key.getUint32(0, true);
    return index < this.spec.maxEntries ? index * this.spec.valueSize : -1;
  }

  /** Where the value is, or -1 beyond the end. */
  lookup(): number {
    return this.place();
  }

  /** 0, -7 (E2BIG) for an index beyond the end, -17 (EEXIST) when it must be new, -22 (EINVAL) for an unknown flag. */
  update(flags: number): number {
    const at = this.place();
    if (flags > UPDATE_EXISTING_ONLY) return -EINVAL;
    if (at < 0) return -E2BIG;
    const code = checkUpdate(flags, true);
    if (code === 0) copyView(this.value, 0, this.values, at, this.spec.valueSize);
    return code;
  }

  /** -22 (EINVAL): places of an array stay. */
  delete(): number {
    return -EINVAL;
  }
}

/** `hash` and `percpu_hash`: values by keys of any bytes. Full is full; see {@link LruMap}. */
export class HashMap extends XdpMap {
  readonly #keys: DataView<ArrayBuffer>;
  /** First entry of a bucket, next entry of the same bucket (or of the free list), -1 at the end. */
  readonly #heads: Int32Array;
  readonly #next: Int32Array;
  readonly #mask: number;
  // So that nobody outside can choose keys that all fall into one bucket.
  readonly #seed = crypto.getRandomValues(new Int32Array(1))[0];
  #free = 0;
  #count = 0;

  /** See {@link XdpMap}. */
  constructor(spec: MapSpec) {
    super(spec);
    const { maxEntries } = spec;
    const buckets = 1 << Math.ceil(Math.log2(maxEntries));
    this.#keys = view(maxEntries * spec.keySize);
    this.#heads = new Int32Array(buckets).fill(-1);
    this.#next = Int32Array.from({ length: maxEntries }, (_, i) => i + 1 < maxEntries ? i + 1 : -1);
    this.#mask = buckets - 1;
  }

  /** Entries that are there. */
  get count(): number {
    return this.#count;
  }

  #bucket(keys: DataView, at: number): number {
    const { keySize } = this.spec;
    let hash = this.#seed;
    let i = 0;
    for (; i + 4 <= keySize; i += 4) {
      hash = Math.imul(hash ^ keys.getInt32(at + i), 0x9e3779b1);
      hash ^= hash >>> 15;
    }
    for (; i < keySize; i++) hash = Math.imul(hash ^ keys.getUint8(at + i), 0x85ebca6b);
    return (hash ^ (hash >>> 13)) & this.#mask;
  }

  #same(entry: number): boolean {
    const { keySize } = this.spec;
    const at = entry * keySize;
    let i = 0;
    for (; i + 4 <= keySize; i += 4) if (this.#keys.getInt32(at + i) !== this.key.getInt32(i)) return false;
    for (; i < keySize; i++) if (this.#keys.getUint8(at + i) !== this.key.getUint8(i)) return false;
    return true;
  }

  #entry(bucket: number): number {
    let entry = this.#heads[bucket];
    while (entry >= 0 && !this.#same(entry)) entry = this.#next[entry];
    return entry;
  }

  /** Where the value is, or -1. */
  lookup(): number {
    const entry = this.#entry(this.#bucket(this.key, 0));
    if (entry < 0) return -1;
    this.used(entry);
    return entry * this.spec.valueSize;
  }

  /** 0, or -7 (E2BIG) when full, -17 (EEXIST), -2 (ENOENT), -22 (EINVAL) for an unknown flag. */
  update(flags: number): number {
    const bucket = this.#bucket(this.key, 0);
    let entry = this.#entry(bucket);
    const code = checkUpdate(flags, entry >= 0);
    if (code !== 0) return code;
    if (entry < 0) {
      if (this.#free < 0) this.evict();
      entry = this.#free;
      if (entry < 0) return -E2BIG;
      this.#free = this.#next[entry];
      copyView(this.key, 0, this.#keys, entry * this.spec.keySize, this.spec.keySize);
      this.#next[entry] = this.#heads[bucket];
      this.#heads[bucket] = entry;
      this.#count++;
      this.added(entry);
    } else this.used(entry);
    copyView(this.value, 0, this.values, entry * this.spec.valueSize, this.spec.valueSize);
    return 0;
  }

  /** 0 or -2 (ENOENT). */
  delete(): number {
    const bucket = this.#bucket(this.key, 0);
    const entry = this.#entry(bucket);
    if (entry < 0) return -ENOENT;
    this.#unlink(bucket, entry);
    return 0;
  }

  /** Removes an entry by its number. */
  protected drop(entry: number): void {
    this.#unlink(this.#bucket(this.#keys, entry * this.spec.keySize), entry);
  }

  #unlink(bucket: number, entry: number): void {
    const next = this.#next;
    if (this.#heads[bucket] === entry) this.#heads[bucket] = next[entry];
    else {
      let before = this.#heads[bucket];
      while (next[before] !== entry) before = next[before];
      next[before] = next[entry];
    }
    next[entry] = this.#free;
    this.#free = entry;
    this.#count--;
    this.removed(entry);
  }

  /** Makes room when the map is full. A plain hash doesn't. */
  protected evict(): void {}
  /** An entry was made. */
  protected added(_entry: number): void {}
  /** An entry was looked up or replaced. */
  protected used(_entry: number): void {}
  /** An entry is gone. */
  protected removed(_entry: number): void {}

  /** Takes out every entry that `gone` says of, by where its value stands in {@link values}. */
  protected sweep(gone: (at: number) => boolean): void {
    for (const head of [...this.#heads]) {
      for (let entry = head; entry >= 0;) {
        const after = this.#next[entry];
        if (gone(entry * this.spec.valueSize)) this.drop(entry);
        entry = after;
      }
    }
  }
}

/** `lru_hash`: when it is full, the entry that wasn't used for the longest time makes room. (The kernel's order is approximate.) */
export class LruMap extends HashMap {
  /** A ring: older and newer neighbour of each entry; the last place is the ring's beginning. */
  readonly #older: Int32Array;
  readonly #newer: Int32Array;
  readonly #ring: number;
  /** Entries that had to make room. */
  evictions = 0;

  /** See {@link XdpMap}. */
  constructor(spec: MapSpec) {
    super(spec);
    this.#ring = spec.maxEntries;
    this.#older = new Int32Array(spec.maxEntries + 1).fill(this.#ring);
    this.#newer = new Int32Array(spec.maxEntries + 1).fill(this.#ring);
  }

  /** It is the newest. */
  protected override added(entry: number): void {
    const ring = this.#ring;
    const newest = this.#older[ring];
    this.#older[entry] = newest;
    this.#newer[entry] = ring;
    this.#newer[newest] = entry;
    this.#older[ring] = entry;
  }

  /** Out of the order. */
  protected override removed(entry: number): void {
    const older = this.#older[entry], newer = this.#newer[entry];
    this.#newer[older] = newer;
    this.#older[newer] = older;
  }

  /** It is the newest. */
  protected override used(entry: number): void {
    if (this.#newer[entry] === this.#ring) return; // the newest already
    this.removed(entry);
    this.added(entry);
  }

  /** The oldest goes. */
  protected override evict(): void {
    this.evictions++;
    this.drop(this.#newer[this.#ring]);
  }
}

/** Adds to a counter of 64 bits, little-endian, at `at`: without a BigInt. */
export function addCounter(values: DataView, at: number, by: number): void {
  const low = values.getUint32(at, true) + by;
  values.setUint32(at, low, true);
  if (low > 0xffff_ffff) values.setUint32(at + 4, values.getUint32(at + 4, true) + 1, true);
}

/** Reads a counter of 64 bits; exact up to 2^53. */
export function readCounter(values: DataView, at: number): number {
  return values.getUint32(at + 4, true) * 0x1_0000_0000 + values.getUint32(at, true);
}
