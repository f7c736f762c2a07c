/** Rings whose other side is an attacker: every malformed chain by name, lying devices, and bytes at random. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { Chain, PIECES_MAX } from "../../../drivers/virtio/chain.ts";
import { DESC_F_INDIRECT, DESC_F_NEXT, DESC_F_WRITE } from "../../../drivers/virtio/queue.ts";
import { BASE, mutate, numbers, Rig } from "./ring_rig.ts";

const NEXT = DESC_F_NEXT, WRITE = DESC_F_WRITE, INDIRECT = DESC_F_INDIRECT;
/** Makes a packed descriptor available in the first round. */
const AVAIL = 0x80;
const SIZE = 8;
const DATA = 32 * 1024;

/** Writes something wrong into a ring; flags of packed heads are made available afterwards. */
interface Attack {
  name: string;
  why: RegExp;
  write(rig: Rig): void;
  only?: "split" | "packed";
  indirect?: false;
}

/** Descriptor 0 points at a table, where `entries` are: address, length, flags, next. */
function table(rig: Rig, entries: [number | bigint, number, number, number?][], length = entries.length * 16, flags = INDIRECT) {
  const { buffers } = rig.at;
  entries.forEach(([address, size, own, next = 0], i) => rig.descriptor(i, address, size, own, next, buffers));
  rig.descriptor(0, BASE + buffers, length, flags);
}

const inside = (rig: Rig) => BASE + rig.at.buffers;
const end = (rig: Rig) => BASE + rig.at.bytes;

/** One descriptor with an address and a length that are not in memory. */
function outside(name: string, where: (rig: Rig) => number | bigint, length: number): Attack[] {
  const why = /not in shared memory/;
  return [
    { name: `${name}`, why, write: (rig) => rig.descriptor(0, where(rig), length, WRITE) },
    { name: `${name}, in a table`, why, write: (rig) => table(rig, [[where(rig), length, WRITE]]) },
    {
      name: `${name}, of a table`,
      why,
      write: (rig) => rig.descriptor(0, where(rig), Math.max(16, (length & ~15) >>> 0), INDIRECT),
    },
  ];
}

const ATTACKS: Attack[] = [
  ...outside("address 0", () => 0, 16),
  ...outside("just before the memory", () => BASE - 1, 16),
  ...outside("the last byte and one more", (rig) => end(rig) - 15, 16),
  ...outside("just behind the memory", (rig) => end(rig), 16),
  ...outside("the longest length", (rig) => inside(rig), 0xffff_ffff),
  ...outside("address 2^53", () => 2n ** 53n, 16),
  ...outside("address 2^53 + 1", () => 2n ** 53n + 1n, 16),
  ...outside("address 2^63", () => 2n ** 63n, 16),
  ...outside("address 2^64 - 1", () => 2n ** 64n - 1n, 16),
  ...outside("around the end of all addresses", () => 2n ** 64n - 16n, 0xffff_fff0),
  ...outside("2^64 above the memory, modulo", (rig) => 2n ** 64n - 1n - BigInt(rig.at.bytes), 0xffff_fff0),
  ...outside("the memory's low 32 bits", (rig) => inside(rig) % 2 ** 32, 16),
  { name: "zero length", why: /has no bytes/, write: (rig) => rig.descriptor(0, inside(rig), 0, WRITE) },
  { name: "zero length in a table", why: /has no bytes/, write: (rig) => table(rig, [[inside(rig), 0, WRITE]]) },
  {
    name: "an empty table",
    why: /has no bytes|wrong indirect table/,
    write: (rig) => rig.descriptor(0, inside(rig), 0, INDIRECT),
  },
  { name: "a table of 17 bytes", why: /wrong indirect table/, write: (rig) => table(rig, [[inside(rig), 1, 0]], 17) },
  { name: "a table of 8 bytes", why: /wrong indirect table/, write: (rig) => table(rig, [[inside(rig), 1, 0]], 8) },
  {
    name: "indirect and next",
    why: /wrong indirect table/,
    write: (rig) => table(rig, [[inside(rig), 1, 0]], 16, INDIRECT | NEXT),
  },
  {
    name: "a table that wasn't agreed on",
    why: /where none may be/,
    indirect: false,
    write: (rig) => table(rig, [[inside(rig), 1, 0]]),
  },
  {
    name: "a table inside another",
    why: /indirect table (where none may be|inside another)/,
    write: (rig) => table(rig, [[inside(rig), 16, INDIRECT]]),
  },
  {
    name: "a table that is its own entry",
    why: /indirect table (where none may be|inside another)/,
    write: (rig) => {
      table(rig, [[inside(rig), 1, NEXT, 1], [inside(rig), 32, INDIRECT]]);
    },
  },
  {
    name: "one to read behind one to write",
    why: /one to read after one to write/,
    write: (rig) => {
      rig.descriptor(0, inside(rig), 4, WRITE | NEXT, 1);
      rig.descriptor(1, inside(rig), 4, 0, 2);
    },
  },
  {
    name: "one to read behind one to write, in a table",
    why: /one to read after one to write/,
    write: (rig) => table(rig, [[inside(rig), 4, WRITE | NEXT, 1], [inside(rig), 4, 0]]),
  },
  {
    name: "more pieces than a chain may have",
    why: /too long a chain/,
    write: (rig) => table(rig, Array.from({ length: PIECES_MAX + 1 }, (_, i) => [inside(rig), 1, NEXT, i + 1])),
  },
  { name: "a loop", why: /is a loop/, only: "split", write: (rig) => rig.descriptor(0, inside(rig), 1, NEXT, 0) },
  {
    name: "a loop of three",
    why: /is a loop/,
    only: "split",
    write: (rig) => [1, 2, 0].forEach((next, i) => rig.descriptor(i, inside(rig), 1, NEXT, next)),
  },
  {
    name: "a loop in a table",
    why: /is a loop/,
    only: "split",
    write: (rig) => table(rig, [[inside(rig), 1, NEXT, 1], [inside(rig), 1, NEXT, 0]]),
  },
  {
    name: "next outside the table",
    why: /descriptor 8 of 8/,
    only: "split",
    write: (rig) => rig.descriptor(0, inside(rig), 1, NEXT, SIZE),
  },
  {
    name: "next outside an indirect table",
    why: /descriptor 2 of 2/,
    only: "split",
    write: (rig) => table(rig, [[inside(rig), 1, NEXT, 2], [inside(rig), 1, 0]]),
  },
  { name: "a head outside the table", why: /descriptor 65535 of 8/, only: "split", write: (rig) => rig.available([65535]) },
  {
    name: "an index that jumps",
    why: /jumped by 9/,
    only: "split",
    write: (rig) => rig.view.setUint16(rig.at.driver + 2, SIZE + 1, true),
  },
  {
    name: "an index that goes back",
    why: /jumped by 65535/,
    only: "split",
    write: (rig) => rig.view.setUint16(rig.at.driver + 2, 0xffff, true),
  },
  {
    name: "a chain longer than the ring",
    why: /longer than the ring/,
    only: "packed",
    write: (rig) => {
      for (let i = 0; i < SIZE; i++) rig.descriptor(i, inside(rig), 1, NEXT | AVAIL, i);
    },
  },
];

for (const packed of [false, true]) {
  const kind = packed ? "packed" : "split";
  Deno.test(`virtio hostile: ${kind}: malformed chains break the ring, and say why`, () => {
    for (const { name, why, write, only, indirect = true } of ATTACKS) {
      if (only !== undefined && only !== kind) continue;
      for (const shared of [false, true]) {
        const rig = new Rig({ packed, size: SIZE, indirect, shared, data: DATA });
        write(rig);
        if (packed) rig.view.setUint16(14, rig.view.getUint16(14, true) | AVAIL, true);
        else if (rig.view.getUint16(rig.at.driver + 2, true) === 0) rig.available([0]);
        const chain = new Chain();
        assertEquals(rig.device.take(chain), -1, name);
        assertMatch(rig.device.broken ?? "", why, name);
        assertEquals([rig.device.take(chain), rig.device.wantKicks(true)], [-1, false], name);
        rig.checkCanaries();
      }
    }
  });

  Deno.test(`virtio hostile: ${kind}: what looks odd and is allowed is taken`, () => {
    const rig = new Rig({ packed, size: SIZE, indirect: true, data: DATA });
    const chain = new Chain();
    // The last byte, the first byte, a piece over the ring itself, and a table behind two descriptors of its own.
    rig.descriptor(0, end(rig) - 1, 1, NEXT | AVAIL, 1);
    rig.descriptor(1, BASE, 1, NEXT | AVAIL, 2);
    rig.descriptor(0, inside(rig), 5, WRITE, 0, rig.at.buffers);
    rig.descriptor(2, inside(rig), 16, INDIRECT | WRITE | AVAIL, 5);
    rig.available([0]);
    assertEquals([rig.device.take(chain), rig.device.broken], [1, null]);
    assertEquals([chain.count, chain.readable, chain.readableBytes, chain.writableBytes], [3, 2, 2, 5]);
    // A packed chain's id stands in its last descriptor.
    assertEquals([chain.descriptors, chain.id], packed ? [3, 5] : [1, 0]);
  });
}

/** What a device may say, and why our driver doesn't believe it; `use` writes used entry `at` of a ring. */
function lie(rig: Rig, id: number, written: number, at = 0, index = at + 1): void {
  const { view, options, at: { device } } = rig;
  if (options.packed) {
    view.setUint32(16 * at + 8, written, true);
    view.setUint16(16 * at + 12, id, true);
    view.setUint16(16 * at + 14, 0x8080 | WRITE, true);
    return;
  }
  view.setUint32(device + 4 + 8 * at, id, true);
  view.setUint32(device + 8 + 8 * at, written, true);
  view.setUint16(device + 2, index, true);
}

for (const packed of [false, true]) {
  for (const inOrder of [false, true]) {
    Deno.test(`virtio hostile: ${packed ? "packed" : "split"}${inOrder ? ", in order" : ""}: a device that lies`, () => {
      const cases: [string, RegExp, (rig: Rig) => void][] = [
        ["an id that isn't one", /chain 8, which it didn't have/, (rig) => lie(rig, SIZE, 0)],
        ["a large id", /chain 65535, which it didn't have/, (rig) => lie(rig, 65535, 0)],
        ["a chain that isn't under way", /chain 5, which it didn't have/, (rig) => lie(rig, 5, 0)],
        ["more than there is room", /written 31 bytes of 30/, (rig) => lie(rig, 0, 31)],
        ["the most there can be", /written 4294967295 bytes of 30/, (rig) => lie(rig, 0, 0xffff_ffff)],
      ];
      if (!packed) {
        cases.push(["an id of 32 bits", /chain 65536, which/, (rig) => lie(rig, 65536, 0)]);
        cases.push(["an index that jumps", /used index jumped by 3/, (rig) => lie(rig, 0, 0, 0, 3)]);
        cases.push(["an index that goes back", /used index jumped by 65535/, (rig) => lie(rig, 0, 0, 0, 0xffff)]);
      }
      for (const [name, why, write] of cases) {
        const rig = new Rig({ packed, size: SIZE, inOrder });
        const address = inside(rig);
        assertEquals(rig.driver.add([address, address], [10, 30], 1, 2), 0);
        assert(rig.driver.add([address, address], [10, 30], 1, 2) > 0);
        rig.driver.publish();
        write(rig);
        assertEquals(rig.driver.collect(), -2, name);
        assertMatch(rig.driver.broken ?? "", why, name);
        assertEquals([rig.driver.collect(), rig.driver.add([address], [1], 0, 1)], [-2, -1], name);
        assertEquals(rig.driver.wantInterrupts(true), false, name);
        rig.checkCanaries();
      }
    });
  }

  Deno.test(`virtio hostile: ${packed ? "packed" : "split"}: a chain used twice`, () => {
    const rig = new Rig({ packed, size: SIZE });
    for (let i = 0; i < 2; i++) rig.driver.add([inside(rig)], [10], 0, 1);
    rig.driver.publish();
    lie(rig, 0, 10, 0);
    lie(rig, 0, 10, 1);
    assertEquals([rig.driver.collect(), rig.driver.collect()], [0, -2]);
    assertMatch(rig.driver.broken ?? "", /chain 0, which it didn't have/);
  });

  Deno.test(`virtio hostile: ${packed ? "packed" : "split"}: a device that overwrites our descriptors gets nothing by it`, () => {
    const rig = new Rig({ packed, size: SIZE });
    const { driver, device, at } = rig;
    const chain = new Chain();
    for (let round = 0; round < 100; round++) {
      assert(driver.add([BASE + at.buffers, BASE + at.buffers], [1, 1], 1, 2) >= 0);
      driver.publish();
      assertEquals(device.take(chain), 1);
      // Links, lengths, addresses: all of the table but what the packed ring says by itself.
      if (!packed) rig.bytes.fill(0xff, 0, 16 * SIZE);
      device.give(chain.id, chain.descriptors, 1);
      device.publish();
      assert(driver.collect() >= 0);
      assertEquals(driver.free, SIZE);
    }
  });
}

/** Both sides go on over memory that changes at random; a broken one begins anew. Returns how often they broke, and took. */
function fuzz(packed: boolean, seed: number, rounds: number): { broken: Set<string>; taken: number; collected: number } {
  const random = numbers(seed);
  const size = packed ? [1, 3, 8, 50][seed % 4] : [1, 2, 8, 64][seed % 4];
  const rig = new Rig({
    packed,
    size,
    eventIndex: seed % 2 === 0,
    indirect: true,
    inOrder: seed % 3 === 0,
    shared: seed % 5 === 0,
  });
  const chain = new Chain();
  const scratch = new Uint8Array(2048);
  const result = { broken: new Set<string>(), taken: 0, collected: 0 };
  const address = BASE + rig.at.buffers;
  for (let round = 0; round < rounds; round++) {
    for (let i = random(4); i > 0; i--) {
      rig.driver.add([address, address + 500, address + 600], [100, 60, 1], random(4), 1 + random(3));
    }
    rig.driver.publish();
    for (let i = random(4); i > 0; i--) mutate(random, rig);
    rig.device.wantKicks(random(2) === 0);
    rig.device.mark();
    for (let i = random(3); i > 0; i--) rig.device.take(chain);
    rig.device.rewind();
    for (let i = 0; i < 4 && rig.device.take(chain) === 1; i++) {
      result.taken++;
      assert(chain.count >= 1 && chain.count <= PIECES_MAX && chain.descriptors <= size);
      assert(chain.gather(random(50), scratch, 0, scratch.length) <= chain.readableBytes);
      rig.checkNoCanary(scratch);
      scratch.fill(random(256));
      assert(chain.scatter(random(50), scratch, 0, random(2048)) <= chain.writableBytes);
      rig.device.give(chain.id, chain.descriptors, random(3) === 0 ? random(300) : Math.min(1, chain.writableBytes));
    }
    rig.device.publish();
    for (let i = random(4); i > 0; i--) mutate(random, rig);
    rig.driver.wantInterrupts(random(2) === 0);
    let collected = 0;
    while (rig.driver.collect() >= 0) assert(++collected <= size, "more came back than there is");
    result.collected += collected;
    assert(rig.driver.free >= 0 && rig.driver.free <= size);
    for (const { broken } of [rig.driver, rig.device]) {
      if (broken !== null) result.broken.add(broken.replace(/0x[0-9a-f]+|\d+/g, "N"));
    }
    if (rig.driver.broken !== null || rig.device.broken !== null || random(200) === 0) rig.restart();
    if (round % 64 === 0) rig.checkCanaries();
  }
  rig.checkCanaries();
  return result;
}

for (const packed of [false, true]) {
  Deno.test(`virtio hostile: ${packed ? "packed" : "split"}: memory that changes at random`, () => {
    const broken = new Set<string>();
    let taken = 0;
    let collected = 0;
    for (let seed = 1; seed <= 60; seed++) {
      const one = fuzz(packed, seed, 1500);
      one.broken.forEach((reason) => broken.add(reason));
      taken += one.taken;
      collected += one.collected;
    }
    // It reached what it was to reach.
    assert(taken > 20_000 && collected > 10_000, `${taken} taken, ${collected} collected`);
    assert(broken.size >= (packed ? 8 : 12), [...broken].join("\n"));
  });
}
