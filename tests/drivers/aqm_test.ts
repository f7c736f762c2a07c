/** CoDel (RFC 8289) and the ECN mark, and super-frames as a wire would carry them. */
import { assert, assertEquals, assertGreater } from "@std/assert";
import { Codel, markCongestion, PASS } from "../../drivers/aqm.ts";
import { perfectConditions } from "../../drivers/conditions.ts";
import { RX_CHECKSUM_PARTIAL, type TxFrame } from "../../stack/device.ts";
import { fold, sum } from "../../stack/wire/checksum.ts";
import { Bench } from "./fault_bench.ts";
import { checksumHolds, segment } from "./frames.ts";

const OPTIONS = perfectConditions().queue;

function headerHolds(bytes: Uint8Array<ArrayBuffer>, at: number): boolean {
  return fold(sum(new DataView(bytes.buffer), at, 20, 0)) === 0xffff;
}

function flat(frame: TxFrame): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(frame.size);
  frame.copyTo(bytes, 0);
  return bytes;
}

const SPEC = {
  link: 0,
  proto: 17,
  source: [10, 0, 0, 1],
  destination: [10, 0, 0, 2],
  ports: [1, 2] as [number, number],
} as const;

function packet(ecn: number): Uint8Array<ArrayBuffer> {
  const bytes = flat(segment({ ...SPEC, source: [...SPEC.source], destination: [...SPEC.destination], size: 972 }, false));
  const view = new DataView(bytes.buffer);
  bytes[1] = 0xb8 | ecn;
  view.setUint16(10, 0);
  view.setUint16(10, ~fold(sum(view, 0, 20, 0)) & 0xffff);
  return bytes;
}

Deno.test("CoDel drops after one interval above the target, then by interval / sqrt(count)", () => {
  const codel = new Codel();
  const drops: number[] = [];
  for (let now = 0; now <= 400; now++) if (codel.decide(OPTIONS, now, 20, 10_000) !== PASS) drops.push(now);
  // 100, then + 100, + 100/sqrt(2), + 100/sqrt(3), … up to the next whole millisecond.
  const wanted = [100];
  for (let at = 100 + 100, count = 2; at <= 400; at += 100 / Math.sqrt(count++)) wanted.push(Math.ceil(at));
  assertEquals(drops, wanted);
});

Deno.test("CoDel leaves a short queue, short waits and one waiting packet alone", () => {
  const codel = new Codel();
  for (let now = 0; now < 1000; now++) assertEquals(codel.decide(OPTIONS, now, 4.9, 100_000), PASS);
  for (let now = 1000; now < 2000; now++) assertEquals(codel.decide(OPTIONS, now, 50, 1514), PASS);
  // One packet in time within each interval starts the measurement again.
  for (let now = 2000; now < 3000; now++) assertEquals(codel.decide(OPTIONS, now, now % 90 === 0 ? 1 : 50, 100_000), PASS);
});

Deno.test("overload: CoDel marks those that understand it, with a right checksum, and drops the others", () => {
  for (const ecn of [0, 1, 2]) {
    using bench = new Bench({ rate: 8e6, queue: { packets: 10_000, aqm: "codel" } });
    const bytes = packet(ecn);
    // A tenth more than goes through, for three seconds.
    for (let i = 0; i < 3300; i++) {
      bench.send(bytes);
      bench.clock.advance(1 / 1.1);
    }
    bench.clock.runUntilIdle();
    const { marked, droppedAqm } = bench.faulty.faults.out;
    assert(bench.device.sent.every(({ bytes }) => headerHolds(bytes, 0)));
    const ce = bench.device.sent.filter(({ bytes }) => bytes[1] === 0xbb).length;
    if (ecn === 0) assertEquals([marked, ce], [0, 0]);
    else assertEquals([marked, droppedAqm], [ce, 0]);
    assertGreater(ecn === 0 ? droppedAqm : marked, 20);
  }
  using plain = new Bench({ rate: 8e6, queue: { aqm: "codel", ecn: false } });
  for (let i = 0; i < 900; i++) plain.send(packet(2));
  plain.clock.runUntilIdle();
  assertEquals(plain.faulty.faults.out.marked, 0);
  assertGreater(plain.faulty.faults.out.droppedAqm, 5);
});

//= rfc3168#5 type=test
// The not-ECT codepoint '00' indicates a packet that is not using ECN. The CE codepoint '11' is set by a router to indicate
// congestion to the end nodes.
//= rfc3168#5 type=test
// Routers treat the ECT(0) and ECT(1) codepoints as equivalent.
//= rfc1624#3 type=test
// HC' = ~(~HC + ~m + m')
Deno.test("the mark corrects any header's checksum", () => {
  for (let first = 0; first < 65_536; first += 251) {
    for (const ecn of [0, 1, 2, 3]) {
      const bytes = packet(ecn);
      const view = new DataView(bytes.buffer);
      view.setUint16(4, first);
      view.setUint16(10, 0);
      view.setUint16(10, ~fold(sum(view, 0, 20, 0)) & 0xffff);
      assertEquals(markCongestion(view, 0), ecn !== 0);
      assertEquals(bytes[1] & 3, ecn === 0 ? 0 : 3);
      assert(headerHolds(bytes, 0));
    }
  }
});

function superFrame(link: 0 | 14, proto: number, size: number): Uint8Array<ArrayBuffer> {
  return flat(segment({ ...SPEC, source: [...SPEC.source], destination: [...SPEC.destination], link, proto, size }, true));
}

Deno.test("a super-frame comes out as segments with right checksums, and each meets the faults by itself", () => {
  for (const link of [0, 14] as const) {
    using bench = new Bench({ loss: 0.5 }, link === 0 ? "ip" : "ethernet", true);
    assertEquals(bench.faulty.capabilities.txSegmentation, 0);
    for (let i = 0; i < 20; i++) bench.arrive(superFrame(link, 6, 14_000), RX_CHECKSUM_PARTIAL, 1400);
    const { sent, lost } = bench.faulty.faults.in;
    assertEquals(sent, 200);
    assert(lost > 60 && lost < 140);
    for (const { bytes, flags, segmentSize } of bench.received) {
      assertEquals([bytes.length, flags, segmentSize], [link + 1440, 0, 0]);
      assert(headerHolds(bytes, link) && checksumHolds({ bytes, view: new DataView(bytes.buffer), flags, segmentSize }, link));
    }
    assertEquals(bench.faulty.statistics!().superFramesCut, 20);
  }
});

Deno.test("a checksum that the device left open is completed, so that corruption can be seen", () => {
  for (const proto of [6, 17]) {
    using bench = new Bench({}, "ethernet", true);
    const original = superFrame(14, proto, 501);
    const before = original.slice();
    bench.arrive(original, RX_CHECKSUM_PARTIAL);
    const { bytes, flags } = bench.received[0];
    assert(flags === 0 && checksumHolds({ bytes, view: new DataView(bytes.buffer), flags, segmentSize: 0 }, 14));
    assertEquals(original, before, "the device's own memory was changed");
    bench.faulty.set({ corrupt: 1 });
    bench.arrive(before, RX_CHECKSUM_PARTIAL);
    const bad = bench.received[1];
    const holds = headerHolds(bad.bytes, 14) && checksumHolds({ ...bad, view: new DataView(bad.bytes.buffer) }, 14);
    assert(!holds);
  }
});

Deno.test("superFrames: whole, with their marks; a corrupted one loses them", () => {
  using bench = new Bench({ superFrames: true }, "ethernet", true);
  assertEquals(bench.faulty.capabilities.txSegmentation, 65_553);
  bench.arrive(superFrame(14, 6, 14_000), RX_CHECKSUM_PARTIAL, 1400);
  bench.faulty.set({ corrupt: 1 });
  bench.arrive(superFrame(14, 6, 14_000), RX_CHECKSUM_PARTIAL, 1400);
  assertEquals(bench.received.map(({ bytes, flags, segmentSize }) => [bytes.length, flags, segmentSize]), [
    [14_054, RX_CHECKSUM_PARTIAL, 1400],
    [14_054, 0, 1400],
  ]);
  bench.faulty.set({ corrupt: 0, blackHole: 1440, delay: 3 });
  const out = segment(
    { ...SPEC, source: [...SPEC.source], destination: [...SPEC.destination], link: 14, proto: 6, size: 9000 },
    true,
  );
  out.segmentSize = 1400;
  out.segmentHeaderLength = 54;
  bench.faulty.transmit(out);
  bench.clock.runUntilIdle();
  assertEquals(bench.device.sent.map(({ bytes, flags, segmentSize }) => [bytes.length, flags, segmentSize]), [[9054, 34, 1400]]);
  assertEquals(bench.device.sent[0].bytes, flat(out));
  out.segmentSize = 1401;
  bench.faulty.transmit(out);
  assertEquals(bench.faulty.faults.out.droppedLarge, 1);
});

Deno.test("super-frames that can't be cut are dropped and counted, and nothing throws on rubbish", () => {
  using bench = new Bench({ corrupt: 0.5, queue: { aqm: "codel" }, rate: 1e9, blackHole: 1500 }, "ethernet", true);
  let state = 5;
  for (let i = 0; i < 3000; i++) {
    state = (state * 48271) % 0x7fffffff;
    const bytes = superFrame(14, 6, 3000).slice(0, state % 3054);
    for (let n = 0; n < 4; n++) bytes[(state >>> n) % (bytes.length || 1)] = state >>> (n * 5);
    bench.arrive(bytes, state % 3, (state >>> 3) % 2000);
  }
  bench.clock.runUntilIdle();
  assertGreater(bench.faulty.statistics!().droppedSuper, 0);
});
