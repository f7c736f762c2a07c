/** Maps in user space: the kernel's results, bounds, and a comparison with naive ones. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { createMap, DevMap, DevMapHash, InterfaceTable } from "../../../drivers/xdp/interface_maps.ts";
import { LpmMap } from "../../../drivers/xdp/lpm_map.ts";
import type { MapKind } from "../../../drivers/xdp/map_kinds.ts";
import { addCounter, ArrayMap, HashMap, LruMap, readCounter } from "../../../drivers/xdp/maps.ts";

const [ANY, NEW, OLD, WRONG] = [0, 1, 2, 3];
const [ENOENT, E2BIG, EEXIST, EINVAL, ENOSPC] = [-2, -7, -17, -22, -28];

function spec(kind: MapKind, keySize: number, valueSize: number, maxEntries: number) {
  return { name: "test", kind, keySize, valueSize, maxEntries };
}

function number(value: Uint8Array | null): number | null {
  return value === null ? null : value.reduceRight((sum, byte) => sum * 256 + byte, 0);
}

Deno.test("array: all places are there; the kernel's results", () => {
  for (const kind of ["array", "percpu_array"] as const) {
    const map = new ArrayMap(spec(kind, 4, 8, 3));
    assertEquals(number(map.get(2)), 0);
    assertEquals([map.find(0), map.find(2), map.find(3), map.find(0xffff_ffff)], [0, 16, -1, -1]);
    assertEquals([map.set(1, 0x01020304), map.set(1, 5, OLD), map.set(1, 6, NEW), map.set(1, 6, WRONG)], [0, 0, EEXIST, EINVAL]);
    assertEquals([map.set(3, 1), map.remove(1), map.set(1, new Uint8Array(7))], [E2BIG, EINVAL, EINVAL]);
    assertEquals(number(map.get(1)), 5);
  }
});

Deno.test("counters of 64 bits carry", () => {
  const map = new ArrayMap(spec("percpu_array", 4, 16, 2));
  const at = map.find(1) + 8;
  for (const by of [0xffff_ffff, 1, 0, 0xffff_ffff, 7]) addCounter(map.values, at, by);
  assertEquals(readCounter(map.values, at), 2 * 0xffff_ffff + 8);
  assertEquals(map.values.getBigUint64(at, true), 2n * 0xffff_ffffn + 8n);
  assertEquals(map.values.getBigUint64(at - 8, true), 0n);
});

Deno.test("hash: the kernel's results, and full is full", () => {
  const map = new HashMap(spec("hash", 6, 4, 2));
  const [a, b, c] = [1, 2, 3].map((n) => Uint8Array.of(n, 0, 0, 0, 0, 9));
  assertEquals([map.set(a, 1, OLD), map.set(a, 1), map.set(a, 2, NEW), map.set(a, 3, OLD)], [ENOENT, 0, EEXIST, 0]);
  assertEquals([map.set(b, 2, NEW), map.set(c, 3), map.set(b, 4), map.set(c, 1, WRONG)], [0, E2BIG, 0, EINVAL]);
  assertEquals([map.remove(c), map.remove(a), map.remove(a), map.set(c, 3)], [ENOENT, 0, ENOENT, 0]);
  assertEquals([a, b, c].map((key) => number(map.get(key))), [null, 4, 3]);
  assertEquals(map.find(new Uint8Array(5)), -1);
});

Deno.test("hash against a Map: random steps, with keys of every size", () => {
  const step = fc.tuple(fc.constantFrom("set", "new", "old", "delete", "get"), fc.nat(20), fc.nat(0xffff));
  const steps = fc.array(step, { minLength: 50, maxLength: 200 });
  fc.assert(
    fc.property(fc.integer({ min: 1, max: 13 }), steps, (keySize, steps) => {
      const map = new HashMap(spec("hash", keySize, 4, 8));
      const naive = new Map<string, number>();
      for (const [what, n, value] of steps) {
        const key = new Uint8Array(keySize).fill(7);
        key[n % keySize] = n;
        const id = key.join();
        const there = naive.has(id);
        if (what === "get") assertEquals(number(map.get(key)), naive.get(id) ?? null);
        else if (what === "delete") assertEquals(map.remove(key), naive.delete(id) ? 0 : ENOENT);
        else {
          const flags = what === "new" ? NEW : what === "old" ? OLD : ANY;
          const code = there && flags === NEW
            ? EEXIST
            : !there && flags === OLD
            ? ENOENT
            : !there && naive.size === 8
            ? E2BIG
            : 0;
          assertEquals(map.set(key, value, flags), code);
          if (code === 0) naive.set(id, value);
        }
        assertEquals(map.count, naive.size);
      }
    }),
    { numRuns: 20, seed: 3 },
  );
});

Deno.test("LRU: what wasn't used for the longest time makes room", () => {
  const map = new LruMap(spec("lru_hash", 4, 4, 3));
  const keys = () => [1, 2, 3, 4, 5, 6].filter((key) => map.get(key) !== null); // looks in this order: uses them so
  for (const key of [1, 2, 3]) assertEquals(map.set(key, key), 0);
  assertEquals(keys(), [1, 2, 3]);
  map.find(1);
  assertEquals([map.set(4, 4), map.evictions], [0, 1]);
  assertEquals(keys(), [1, 3, 4]);
  map.set(1, 9, OLD);
  assertEquals(map.set(5, 5, NEW), 0);
  assertEquals(keys(), [1, 4, 5]);
  assertEquals([map.remove(4), map.set(6, 6), map.evictions, map.count], [0, 0, 2, 3]);
  assertEquals(keys(), [1, 5, 6]);
});

/** A key of a longest-prefix map for IPv4. */
function prefix(length: number, ...address: number[]): Uint8Array {
  return Uint8Array.of(length & 255, length >> 8, 0, 0, ...address);
}

Deno.test("longest prefix: the longest wins; bits behind it don't count; the kernel's results", () => {
  const map = new LpmMap(spec("lpm_trie", 8, 4, 5));
  assertEquals(map.set(prefix(0, 0, 0, 0, 0), 1), 0);
  assertEquals(map.set(prefix(8, 10, 99, 99, 99), 2), 0);
  assertEquals(map.set(prefix(8, 10, 0, 0, 0), 3, NEW), EEXIST);
  assertEquals(map.set(prefix(23, 10, 1, 3, 0), 4), 0);
  assertEquals(map.set(prefix(32, 10, 1, 2, 3), 5), 0);
  const look = (...address: number[]) => number(map.get(prefix(32, ...address)));
  assertEquals([look(9, 0, 0, 1), look(10, 9, 9, 9), look(10, 1, 2, 9), look(10, 1, 3, 3), look(10, 1, 2, 3)], [1, 2, 4, 4, 5]);
  assertEquals(number(map.get(prefix(16, 10, 1, 2, 3))), 2); // no longer than asked
  assertEquals([map.find(prefix(33, 10, 1, 2, 3)), map.set(prefix(33, 0, 0, 0, 0), 1), map.remove(prefix(300, 0, 0, 0, 0))], [
    -1,
    EINVAL,
    EINVAL,
  ]);
  assertEquals([map.set(prefix(9, 11, 0, 0, 0), 6), map.set(prefix(9, 12, 0, 0, 0), 7), map.set(prefix(9, 11, 5, 5, 5), 8)], [
    0,
    ENOSPC,
    0,
  ]);
  assertEquals([map.remove(prefix(0, 1, 2, 3, 4)), map.remove(prefix(0, 1, 2, 3, 4)), look(9, 0, 0, 1)], [0, ENOENT, null]);
  // The key stays as it was written: programs write only what changes.
  map.find(prefix(32, 10, 1, 2, 200));
  assertEquals([...new Uint8Array(map.key.buffer)], [...prefix(32, 10, 1, 2, 200)]);
});

Deno.test("longest prefix against a list: random prefixes, random questions", () => {
  const network = fc.tuple(fc.nat(32), fc.nat(3), fc.nat(255));
  fc.assert(
    fc.property(fc.array(network, { maxLength: 40 }), fc.array(network, { maxLength: 40 }), (networks, questions) => {
      const map = new LpmMap(spec("lpm_trie", 8, 4, 64));
      const bits = (a: number, b: number) => [10, a, b, a].map((byte) => byte.toString(2).padStart(8, "0")).join("");
      const list = new Map<string, number>();
      networks.forEach(([length, a, b], i) => {
        assertEquals(map.set(prefix(length, 10, a, b, a), i), 0);
        list.set(bits(a, b).slice(0, length), i);
      });
      for (const [length, a, b] of questions) {
        const asked = bits(a, b).slice(0, length);
        let best: string | null = null;
        for (const known of list.keys()) if (asked.startsWith(known) && known.length >= (best?.length ?? -1)) best = known;
        assertEquals(number(map.get(prefix(length, 10, a, b, a))), best === null ? null : list.get(best)!);
      }
    }),
    { numRuns: 100, seed: 4 },
  );
});

Deno.test("devmaps: interfaces that exist, and are forgotten when they go", () => {
  const interfaces = new InterfaceTable();
  for (const ifindex of [3, 70_000]) interfaces.add(ifindex);
  const map = new DevMap(spec("devmap", 4, 4, 2), interfaces);
  assertEquals([map.set(0, 3), map.set(1, 70_000, OLD), map.set(2, 3), map.set(0, 3, NEW), map.set(0, 4)], [
    0,
    0,
    E2BIG,
    EEXIST,
    EINVAL,
  ]);
  assertEquals([map.ifindexAt(0), map.ifindexAt(1), map.ifindexAt(2), map.ifindexAt(-1)], [3, 70_000, 0, 0]);
  const hash = new DevMapHash(spec("devmap_hash", 4, 4, 2), interfaces);
  assertEquals([hash.set(9, 3), hash.set(9, 3, NEW), hash.set(8, 4), hash.set(8, 0), hash.set(7, 3, WRONG)], [
    0,
    EEXIST,
    EINVAL,
    EINVAL,
    EINVAL,
  ]);
  assertEquals([hash.set(0xffff_ffff, 70_000), hash.set(1, 3), hash.ifindexAt(-1)], [0, E2BIG, 70_000]);
  interfaces.remove(3);
  assertEquals([map.ifindexAt(0), map.ifindexAt(1), hash.ifindexAt(9), hash.ifindexAt(-1), hash.count], [
    0,
    70_000,
    0,
    70_000,
    1,
  ]);
  assertEquals([map.remove(1), map.remove(2), map.ifindexAt(1), hash.remove(9), hash.remove(-1)], [0, EINVAL, 0, ENOENT, 0]);
  assertEquals(map.set(0, 0), 0);
});

Deno.test("maps that can't be: refused before any memory is taken", () => {
  const interfaces = new InterfaceTable();
  for (const wrong of [spec("hash", 0, 4, 1), spec("array", 8, 4, 1), spec("hash", 4, 4, 0), spec("lpm_trie", 4, 4, 1)]) {
    assertThrows(() => createMap(wrong, interfaces), TypeError);
  }
  assertThrows(() => createMap(spec("hash", 256, 1024, 1 << 24), interfaces), RangeError);
  assertThrows(() => createMap(spec("xskmap", 4, 4, 1), interfaces), TypeError);
  assertThrows(() => createMap({ ...spec("hash", 4, 4, 1), kind: "queue" as MapKind }, interfaces), TypeError);
  for (
    const kind of ["array", "percpu_array", "hash", "percpu_hash", "lru_hash", "devmap", "devmap_hash", "prog_array"] as const
  ) {
    const map = createMap(spec(kind, 4, kind.startsWith("percpu") ? 8 : 4, 3), interfaces);
    assert(map.find(7) === -1);
  }
});
