import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import type { FrameMemory } from "../../../stack/device.ts";
import { Reassembler } from "../../../stack/ip/reassembly.ts";
import { type Bytes, bytesOf, checkFrame, fragments, ipv4, type Ipv4Fields, randomSource } from "../../testing/frames.ts";
import { packetOf } from "../../testing/packets.ts";

/** Feeds one packet, frame padding and all. */
function feed(to: Reassembler, bytes: Bytes, now = 0): Bytes | null {
  const packet = packetOf(bytes);
  const { view } = packet.memory;
  const field = view.getUint16(6);
  const memory = to.input(packet, view.getUint16(4), (field & 0x1fff) * 8, (field & 0x2000) !== 0, now);
  return memory === null ? null : memory.bytes.slice(0, to.length);
}

function pattern(length: number, seed = 0): Bytes {
  return Uint8Array.from({ length }, (_, i) => (i * 31 + (i >> 8) + seed) & 255);
}

function cut(payload: Bytes, fields: Ipv4Fields = {}, mtu = 596): Bytes[] {
  return fragments({ id: 9, protocol: 253, ...fields }, payload, mtu);
}

Deno.test("ip/reassembly: a whole packet with its header put right", () => {
  const payload = pattern(3000);
  const to = new Reassembler();
  const results = cut(payload, { tos: 0x10, ttl: 9 }, 1500).map((packet) => feed(to, packet));
  assertEquals(results.slice(0, -1), [null, null]);
  const checked = checkFrame(results.at(-1)!, { medium: "ip" });
  assertEquals(checked.problems, []);
  assertEquals(checked.payload, payload);
  const { ip } = checked;
  assertEquals([ip?.more, ip?.fragmentOffset, ip?.ttl, ip?.tos, ip?.totalLength, ip?.id], [false, 0, 9, 0x10, 3020, 9]);
  assertEquals([to.statistics.reassembled, to.statistics.datagrams], [1, 0]);
  assertEquals(to.nextDeadline(), 30_000); // only the pool is left, to be given back
  to.advance(30_000, () => {});
  assertEquals([to.nextDeadline(), to.statistics.bytes], [Infinity, 0]);
});

Deno.test("ip/reassembly: any order and any duplicates give the same bytes once", () => {
  const cases = fc.record({
    length: fc.integer({ min: 1, max: 20_000 }),
    mtu: fc.integer({ min: 120, max: 1500 }),
    options: fc.boolean(),
    seed: fc.integer(),
  });
  fc.assert(
    fc.property(cases, ({ length, mtu, options, seed }) => {
      const random = randomSource(seed);
      const payload = pattern(length, seed);
      const packets = cut(payload, { options: options ? [7, 7, 4, 0, 0, 0, 0] : [] }, mtu);
      if (packets.length === 1) return;
      const order = packets.flatMap((packet) => random() % 3 === 0 ? [packet, packet] : [packet]);
      for (let i = order.length - 1; i > 0; i--) {
        const j = random() % (i + 1);
        [order[i], order[j]] = [order[j], order[i]];
      }
      const to = new Reassembler();
      const found: Bytes[] = [];
      for (const packet of order) {
        const result = feed(to, packet);
        if (result !== null) found.push(result);
      }
      // A duplicate behind the completing fragment opens the datagram anew, and may never complete it twice.
      assertEquals(found.length, 1);
      const checked = checkFrame(found[0], { medium: "ip" });
      assertEquals(checked.problems, []);
      assertEquals(checked.payload, payload);
      assertEquals(to.statistics.overlaps, 0);
    }),
    { numRuns: 150, seed: 1 },
  );
});

Deno.test("ip/reassembly: an overlap never gives mixed bytes", () => {
  //= rfc5722#4 type=test
  //# When reassembling an IPv6 datagram, if one or more its constituent fragments is determined to be an overlapping fragment,
  //# the entire datagram (and any constituent fragments, including those not yet received) MUST be silently discarded.
  const cases = fc.record({ seed: fc.integer(), start: fc.nat(240), size: fc.integer({ min: 1, max: 100 }), last: fc.boolean() });
  fc.assert(
    fc.property(cases, ({ seed, start, size, last }) => {
      // A forged piece that takes the whole place of an honest one overlaps with nothing: no host could tell.
      fc.pre(start % 25 !== 0 || (!last && size % 25 !== 0));
      const random = randomSource(seed);
      const honest = cut(new Uint8Array(2000).fill(1), {}, 220);
      const offset = start * 8;
      const forged = ipv4(
        { id: 9, protocol: 253, more: !last, fragmentOffset: offset },
        new Uint8Array(last ? size : size * 8).fill(2),
      );
      const order = [...honest];
      order.splice(random() % honest.length, 0, forged);
      const to = new Reassembler();
      for (const packet of [...order, ...honest]) {
        const result = feed(to, packet);
        if (result === null) continue;
        const kinds = new Set(checkFrame(result, { medium: "ip" }).payload);
        assertEquals(kinds.size, 1, `mixed at ${offset}+${size}`);
      }
    }),
    { numRuns: 400, seed: 2 },
  );
});

Deno.test("ip/reassembly: once spoiled, the datagram stays so until its time is over", () => {
  const to = new Reassembler();
  const packets = cut(pattern(1000), {}, 220);
  feed(to, packets[0]);
  feed(to, ipv4({ id: 9, protocol: 253, more: true, fragmentOffset: 8 }, new Uint8Array(400)));
  assertEquals([to.statistics.overlaps, to.statistics.datagrams], [1, 1]);
  for (const packet of packets) assertEquals(feed(to, packet), null);
  assertEquals(to.statistics.spoiled, packets.length);
  let expired = 0;
  to.advance(30_000, () => expired++);
  assertEquals([expired, to.statistics.datagrams], [0, 0]);
  assert(packets.map((packet) => feed(to, packet, 30_000)).at(-1) !== null);
});

Deno.test("ip/reassembly: what lies within what is there is a duplicate if it is the same, and else an attack", () => {
  for (const forged of [false, true]) {
    const to = new Reassembler();
    const packets = cut(pattern(1000), {}, 220);
    feed(to, packets[0]);
    feed(to, packets[1]);
    const piece = pattern(1000).slice(16, 300 & ~7);
    if (forged) piece[100] ^= 1;
    feed(to, ipv4({ id: 9, protocol: 253, more: true, fragmentOffset: 16 }, piece));
    assertEquals([to.statistics.duplicates, to.statistics.overlaps], forged ? [0, 1] : [1, 0]);
    const last = packets.slice(2).map((packet) => feed(to, packet)).at(-1);
    assertEquals(last === null, forged);
  }
});

Deno.test("ip/reassembly: with the least memory a datagram may grow, and the surplus goes at once", () => {
  const to = new Reassembler({ bytes: 65_536 });
  const payload = pattern(60_000);
  for (let round = 0; round < 3; round++) {
    const results = cut(payload, { id: round }, 1500).map((packet) => feed(to, packet));
    assertEquals(checkFrame(results.at(-1)!, { medium: "ip" }).payload, payload);
    to.advance(0, () => {});
    assertLessOrEqual(to.statistics.bytes, 65_536);
  }
});

Deno.test("ip/reassembly: two ends, bytes behind the end, sizes over 65,535 spoil it", () => {
  const piece = (offset: number, length: number, more: boolean, fields: Ipv4Fields = {}) =>
    ipv4({ id: 9, protocol: 253, more, fragmentOffset: offset, ...fields }, new Uint8Array(length));
  const cases: [Bytes[], "inconsistent" | "oversized"][] = [
    [[piece(800, 10, false), piece(400, 12, false)], "inconsistent"],
    [[piece(800, 10, false), piece(808, 8, true)], "inconsistent"],
    [[piece(800, 80, true), piece(400, 12, false)], "inconsistent"],
    [[piece(65_512, 8, false)], "oversized"],
    [[piece(65_528, 1480, true)], "oversized"],
    // 65,512 bytes of data fit behind 20 bytes of header, not behind 24.
    [[piece(65_504, 8, false), piece(0, 8, true, { options: [1, 1, 1, 1] })], "oversized"],
  ];
  for (const [packets, reason] of cases) {
    const to = new Reassembler();
    for (const packet of packets) assertEquals(feed(to, packet), null);
    assertEquals(to.statistics[reason], 1, reason);
  }
  //= rfc791#3.2 type=test
  //# If an internet datagram is fragmented, its data portion must be broken on 8 octet boundaries.
  const to = new Reassembler();
  for (const packet of [piece(0, 12, true), piece(0, 0, true), piece(8, 0, false)]) assertEquals(feed(to, packet), null);
  assertEquals([to.statistics.badLength, to.statistics.datagrams], [3, 0]);
});

Deno.test("ip/reassembly: the largest packet of all", () => {
  const payload = pattern(65_515);
  const to = new Reassembler();
  const results = cut(payload, {}, 1500).reverse().map((packet) => feed(to, packet));
  assertEquals(checkFrame(results.at(-1)!, { medium: "ip" }).payload, payload);
  assertEquals(to.length, 65_535);
});

Deno.test("ip/reassembly: time runs out, and only the first fragment is worth an answer", () => {
  //= rfc1122#3.3.2 type=test
  //# If this timeout expires, the partially-reassembled datagram MUST be discarded and an ICMP Time
  //# Exceeded message sent to the source host (if fragment zero has been received).
  const to = new Reassembler();
  const expired: Bytes[] = [];
  const note = (memory: FrameMemory, length: number) => expired.push(memory.bytes.slice(0, length));
  const first = cut(pattern(2000), { options: [1, 1, 1, 1] });
  const second = cut(pattern(2000), { id: 10 });
  feed(to, first[1], 1000); // before the first: its options move what is there
  feed(to, first[0], 1500);
  feed(to, second[1], 2000);
  assertEquals(to.nextDeadline(), 31_000);
  to.advance(30_999, note);
  assertEquals(expired.length, 0);
  to.advance(31_000, note);
  assertEquals(expired, [first[0]]);
  assertEquals(to.nextDeadline(), 32_000);
  to.advance(32_000, note);
  assertEquals([expired.length, to.statistics.timeouts, to.statistics.datagrams, to.statistics.bytes], [1, 2, 0, 0]);
  assertEquals(to.nextDeadline(), Infinity);
});

Deno.test("ip/reassembly: source, destination, protocol and id keep datagrams apart", () => {
  //= rfc791#2.3 type=test
  //# To assemble the fragments of an internet datagram, an internet protocol module (for example at a destination host)
  //# combines internet datagrams that all have the same value for the four fields: identification, source, destination, and
  //# protocol.
  const variants: Ipv4Fields[] = [{}, { id: 10 }, { protocol: 254 }, { source: "10.0.0.9" }, { destination: "10.0.0.8" }];
  const to = new Reassembler();
  const all = variants.map((fields, i) => cut(new Uint8Array(1200).fill(i), fields));
  for (let i = 0; i < all[0].length; i++) {
    for (const [which, packets] of all.entries()) {
      const result = feed(to, packets[i]);
      assertEquals(result !== null, i === all[0].length - 1);
      if (result !== null) assertEquals([...new Set(checkFrame(result, { medium: "ip" }).payload)], [which]);
    }
  }
  assertEquals([to.statistics.reassembled, to.statistics.overlaps], [5, 0]);
});

Deno.test("ip/reassembly: ECN marks", () => {
  //= rfc3168#5.3 type=test
  //# Reassembly of a fragmented packet MUST NOT lose indications of congestion.
  const result = (...tos: number[]) => {
    const to = new Reassembler();
    const packets = tos.map((mark, i) =>
      ipv4({ id: 9, protocol: 253, tos: mark, more: i < tos.length - 1, fragmentOffset: i * 8 }, new Uint8Array(8))
    );
    const last = packets.map((packet) => feed(to, packet)).at(-1)!;
    return last === null ? null : checkFrame(last, { medium: "ip" }).ip?.tos;
  };
  assertEquals([result(0xb8, 0xb8), result(2, 3, 2), result(3, 2), result(2, 1)], [0xb8, 3, 3, 2]);
  assertEquals([result(0, 3), result(2, 0)], [null, null]);
});

Deno.test("ip/reassembly: a flood stays within every bound, and memory is flat", () => {
  const limits = { datagrams: 16, bytes: 256 << 10, fragments: 64, runs: 8 };
  const to = new Reassembler(limits);
  const random = randomSource(3);
  let most = 0;
  let flat = 0;
  for (let i = 0; i < 40_000; i++) {
    const fields = { id: random() % 500, protocol: 253, more: random() % 8 !== 0, fragmentOffset: random() % 8000 * 8 };
    feed(to, ipv4(fields, new Uint8Array(8 * (1 + random() % 20))), i);
    if (i % 97 === 0) to.advance(i, () => {});
    assertLessOrEqual(to.statistics.datagrams, limits.datagrams);
    assertLessOrEqual(to.statistics.bytes, limits.bytes);
    most = Math.max(most, to.statistics.bytes);
    if (i === 20_000) flat = most;
  }
  assertEquals(most, flat);
  assert(to.statistics.evicted > 1000);
  // An honest datagram still gets through.
  assert(cut(pattern(3000), { id: 60_000 }).map((packet) => feed(to, packet, 40_000)).at(-1) !== null);
});

Deno.test("ip/reassembly: too many fragments or too many holes spoil a datagram", () => {
  const tiny = (i: number) => ipv4({ id: 9, protocol: 253, more: true, fragmentOffset: i * 8 }, new Uint8Array(8));
  const many = new Reassembler({ fragments: 20 });
  for (let i = 0; i < 21; i++) feed(many, tiny(i));
  assertEquals(many.statistics.tooManyFragments, 1);
  const holes = new Reassembler({ runs: 4 });
  for (let i = 0; i < 5; i++) feed(holes, tiny(i * 2));
  assertEquals(holes.statistics.tooManyFragments, 1);
});

Deno.test("ip/reassembly: steady traffic reuses its memory", () => {
  const to = new Reassembler();
  const memories = new Set<FrameMemory>();
  const packets = cut(pattern(30_000), {}, 1500).map((bytes) => packetOf(bytes));
  for (let round = 0; round < 100; round++) {
    for (const [i, packet] of packets.entries()) {
      const memory = to.input(packet, round, i * 1480, i < packets.length - 1, round);
      if (memory !== null) memories.add(memory);
    }
  }
  assertEquals(to.statistics.reassembled, 100);
  assertEquals(memories.size, 1);
});

Deno.test("ip/reassembly: bytes behind a fragment's end don't matter", () => {
  const to = new Reassembler();
  const padded = cut(pattern(1100), {}, 1020).map((packet) => bytesOf(packet, [9, 9, 9]));
  const results = padded.map((packet) => feed(to, packet));
  assertEquals(checkFrame(results.at(-1)!, { medium: "ip" }).payload, pattern(1100));
});
