/**
 * What a map is, said once for both places where a program can run: the kernel makes one from a {@link MapSpec} (`ffi/bpf.ts`),
 * user space implements {@link MapMemory} for it (`drivers/xdp/maps.ts`). Kinds, sizes and results are the kernel's.
 *
 * @module
 */

import type { XdpFunction } from "./program.ts";

/** The kinds of maps, by the kernel's names in lower case. */
export type MapKind =
  | "hash"
  | "array"
  | "prog_array"
  | "percpu_hash"
  | "percpu_array"
  | "lru_hash"
  | "lpm_trie"
  | "devmap"
  | "xskmap"
  | "devmap_hash";

/** The kernel's numbers, `BPF_MAP_TYPE_…`. */
export const MAP_TYPE = {
  hash: 1,
  array: 2,
  prog_array: 3,
  percpu_hash: 5,
  percpu_array: 6,
  lru_hash: 9,
  lpm_trie: 11,
  devmap: 14,
  xskmap: 17,
  devmap_hash: 25,
} as const satisfies Record<MapKind, number>;

/** Flag of a map: memory for its entries is taken when they are made. A longest-prefix map must have it. */
export const BPF_F_NO_PREALLOC = 1;

/** An update makes the entry, or replaces its value. */
export const UPDATE_ANY = 0;
/** The key must not be there yet (EEXIST). */
export const UPDATE_NEW_ONLY = 1;
/** The key must be there (ENOENT). */
export const UPDATE_EXISTING_ONLY = 2;

/** What a map is made of. The same in user space and in the kernel. */
export interface MapSpec {
  /** At most 15 letters, digits, `_` or `.`: what `bpftool` shows, and what the map is found by. */
  readonly name: string;
  /** One of {@link MAP_TYPE}. */
  readonly kind: MapKind;
  /** Bytes of a key. 4 (an index, little-endian) for arrays, devmaps and xskmaps; 4 + the prefix's bytes for `lpm_trie`. */
  readonly keySize: number;
  /** Bytes of a value. */
  readonly valueSize: number;
  /** Places of an array, and the most that any other kind holds. */
  readonly maxEntries: number;
}

/**
 * A map as a program in user space uses it. There are no objects per access: the program writes the key's bytes into
 * {@link key} (and the new value's into {@link value}), calls a method, and reads {@link values} at the offset that it got.
 * `key`, `value` and `values` are the same objects for the life of the map.
 *
 * Of the kinds whose key is an index ({@link isIndexed}), value `i` stands at `i * valueSize` of `values`, and programs go
 * there without a call. In `devmap` and `devmap_hash` the first 4 bytes of a value are an ifindex, little-endian; 0 is an
 * empty place. In a `percpu_…` map user space has one copy, as it has one thread.
 */
export interface MapMemory {
  /** What it is made of. */
  readonly spec: MapSpec;
  /** `keySize` bytes, written before each call. */
  readonly key: DataView<ArrayBuffer>;
  /** `valueSize` bytes, written before {@link update}. */
  readonly value: DataView<ArrayBuffer>;
  /** The memory of all values. */
  readonly values: DataView<ArrayBuffer>;
  /** Of a `prog_array`: the programs at its indexes, null where there is none. */
  readonly programs?: readonly (XdpFunction | null)[];
  /** Where in {@link values} the value for {@link key} stands, or -1. */
  lookup(): number;
  /** Puts {@link value} under {@link key}. 0, or a negative errno: -7 (E2BIG: full, or no such index), -17 (EEXIST), -2 (ENOENT). */
  update(flags: number): number;
  /** Takes {@link key} out. 0, or a negative errno: -2 (ENOENT), -22 (EINVAL: places of an array stay). */
  delete(): number;
}

/** Kinds whose key is an index into an array: value `i` stands at `i * valueSize`. */
export function isIndexed(kind: MapKind): boolean {
  return kind === "array" || kind === "percpu_array" || kind === "devmap" || kind === "xskmap" || kind === "prog_array";
}

/** Kinds with one copy of each value per CPU in the kernel. */
export function isPerCpu(kind: MapKind): boolean {
  return kind === "percpu_array" || kind === "percpu_hash";
}

/** Kinds that `redirectMap` may go by. */
export function isRedirectable(kind: MapKind): boolean {
  return kind === "devmap" || kind === "devmap_hash" || kind === "xskmap";
}

/** Flags that the kernel wants for the kind. */
export function mapFlags(kind: MapKind): number {
  return kind === "lpm_trie" ? BPF_F_NO_PREALLOC : 0;
}

/** Looks a map over before anything is made. @throws {TypeError} for one that the kernel would refuse: name, sizes, number of entries */
export function checkMapSpec(spec: MapSpec): void {
  const { name, kind, keySize, valueSize, maxEntries } = spec;
  const fail = (why: string): never => {
    throw new TypeError(`Invalid map ${JSON.stringify(name)}: ${why}`);
  };
  if (!/^[A-Za-z0-9_.]{1,15}$/.test(name)) fail("its name must be 1 to 15 letters, digits, underscores or dots");
  if (!Object.hasOwn(MAP_TYPE, kind)) fail(`there is no kind ${JSON.stringify(kind)}`);
  const whole = (n: number, most: number) => Number.isInteger(n) && n >= 1 && n <= most;
  if (!whole(keySize, 256)) fail(`a key of ${keySize} bytes; 1 to 256 are possible`);
  if (!whole(valueSize, 1024)) fail(`a value of ${valueSize} bytes; 1 to 1024 are possible`);
  if (!whole(maxEntries, 1 << 24)) fail(`${maxEntries} entries; 1 to ${1 << 24} are possible`);
  if ((isIndexed(kind) || kind === "devmap_hash") && keySize !== 4) fail(`the key of a ${kind} has 4 bytes`);
  if (isRedirectable(kind) && valueSize !== 4) fail(`the value of a ${kind} has 4 bytes`);
  if (kind === "lpm_trie" && keySize < 5) fail("the key of an lpm_trie is 4 bytes of prefix length and the prefix");
  if (isPerCpu(kind) && valueSize % 8 !== 0) fail("the value of a per-CPU map is a multiple of 8 bytes");
}
