/** Each fault against what it says of itself: chances against their statistics, times to the microsecond, nothing lost count of. */
import { assert, assertEquals, assertLess, assertNotEquals, assertThrows } from "@std/assert";
import fc from "fast-check";
import { cable, faults, type LinkConditions, ManualClock } from "../../mod.ts";
import { EAGAIN, ENODEV } from "../../stack/codes.ts";
import { TxFrame } from "../../stack/device.ts";
import { Bench, numberOf, unaccounted } from "./fault_bench.ts";

/** `count` of `of` is what a chance of `p` gives, within five standard deviations. */
function assertChance(count: number, of: number, p: number): void {
  const deviation = Math.sqrt(of * p * (1 - p));
  assertLess(Math.abs(count - of * p), 5 * deviation, `${count} of ${of} for a chance of ${p}`);
}

Deno.test("a perfect link passes everything at once, straight to the device", () => {
  using bench = new Bench({});
  assertEquals(bench.stream(10, 100, 0).map(numberOf), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
  bench.device.codes.push(EAGAIN, ENODEV);
  assertEquals(bench.send(new Uint8Array(20)), EAGAIN);
  assertEquals(bench.send(new Uint8Array(20)), ENODEV);
  bench.arrive(new Uint8Array(33));
  assertEquals(bench.received.map(({ bytes }) => bytes.length), [33]);
  assertEquals(bench.faulty.faults.out.delivered, 10);
  assertEquals(bench.clock.pending, 0);
});

Deno.test("independent loss: as often as it says, and not in bursts", () => {
  using bench = new Bench({ loss: 0.1 });
  const all = bench.stream(50_000, 60, 0.01).map(numberOf);
  const { lost, sent } = bench.faulty.faults.out;
  assertEquals(all.length + lost, sent);
  assertChance(lost, 50_000, 0.1);
  let pairs = 0;
  for (let i = 1; i < all.length; i++) if (all[i] - all[i - 1] >= 3) pairs++;
  // Two or more lost in a row after one that came: 0.9 x 0.1 x 0.1 of all.
  assertChance(pairs, 50_000, 0.9 * 0.1 * 0.1);
});

Deno.test("bursty loss (Gilbert-Elliott): stationary share, and mean length of a burst", () => {
  using bench = new Bench({ loss: { toBad: 0.01, toGood: 0.25 } });
  const all = bench.stream(100_000, 60, 0.01).map(numberOf);
  const { lost } = bench.faulty.faults.out;
  // p / (p + r) of all; neighbours go together, so the deviation is larger than for independent ones.
  assertLess(Math.abs(lost / 100_000 - 0.01 / 0.26), 0.006);
  let bursts = 0;
  for (let i = 1; i < all.length; i++) if (all[i] - all[i - 1] > 1) bursts++;
  assertLess(Math.abs(lost / bursts - 4), 0.4, `bursts of ${lost / bursts} packets`);
  using half = new Bench({ loss: { toBad: 1, toGood: 0, lossInBad: 0.5, lossInGood: 1 } });
  half.stream(10_000, 60, 0.01);
  assertChance(half.faulty.faults.out.lost, 10_000, 0.5);
});

Deno.test("delay is exact; jitter is evenly spread and keeps the order", () => {
  using exact = new Bench({ delay: 12.5 });
  assertEquals(exact.stream(100, 60, 1).map(({ at }, i) => at - i), Array(100).fill(12.5));
  using bench = new Bench({ delay: 10, jitter: 4 });
  const spread = bench.stream(5000, 60, 5);
  const delays = spread.map(({ at }, i) => at - i * 5);
  assert(delays.every((d) => d >= 10 && d < 14));
  assertLess(Math.abs(delays.reduce((a, b) => a + b) / 5000 - 12), 0.1);
  using dense = new Bench({ delay: 10, jitter: 4 });
  const order = dense.stream(5000, 60, 0.1).map(numberOf);
  assertEquals(order, order.map((_, i) => i));
});

Deno.test("reordering: as often as it says, each by its extra delay", () => {
  using bench = new Bench({ delay: 10, reorder: { probability: 0.05, delay: 3 } });
  const all = bench.stream(20_000, 60, 1);
  const late = all.filter((seen) => seen.at - numberOf(seen) === 13);
  assertEquals(all.length, 20_000);
  assertEquals(late.length, bench.faulty.faults.out.reordered);
  assertEquals(all.filter((seen) => seen.at - numberOf(seen) === 10).length, 20_000 - late.length);
  assertChance(late.length, 20_000, 0.05);
  const order = all.map(numberOf);
  assert(order.some((n, i) => i > 0 && n < order[i - 1]));
});

Deno.test("duplication: the copy is the same, and comes right behind", () => {
  using bench = new Bench({ delay: 1, duplicate: 0.2 });
  const all = bench.stream(10_000, 700, 0.1);
  const twice = all.filter((seen, i) => i > 0 && numberOf(seen) === numberOf(all[i - 1]));
  assertEquals(twice.length, bench.faulty.faults.out.duplicated);
  assertChance(twice.length, 10_000, 0.2);
  const { at, bytes } = twice[0];
  assertEquals(
    all.filter((seen) => numberOf(seen) === numberOf(twice[0])),
    Array(2).fill({ at, bytes, flags: -1, segmentSize: 0 }),
  );
});

Deno.test("corruption: the bits that it says, behind the link header", () => {
  using bench = new Bench({ corrupt: { probability: 0.3, bits: 1 } }, "ethernet");
  const frame = new Uint8Array(64);
  frame[12] = 8;
  for (let i = 0; i < 5000; i++) bench.send(frame);
  const flips = bench.device.sent.map(({ bytes }) => bytes.map((byte, i) => byte ^ frame[i]));
  assert(flips.every((flip) => flip.subarray(0, 14).every((byte) => byte === 0)));
  const bits = flips.map((flip) => flip.reduce((n, byte) => n + byte.toString(2).replaceAll("0", "").length, 0));
  assertChance(bits.filter((n) => n === 1).length, 5000, 0.3);
  assertEquals(bits.filter((n) => n > 1).length, 0);
  assertEquals(bits.filter((n) => n === 1).length, bench.faulty.faults.out.corrupted);
  // Every position is met.
  assertEquals(new Set(flips.map((flip) => flip.findIndex((byte) => byte !== 0))).size, 51);
});

Deno.test("rate: a frame leaves when it has been sent to its last bit; tail drop by packets and by bytes", () => {
  using bench = new Bench({ rate: 8_000_000, delay: 5, queue: 3 });
  for (let i = 0; i < 6; i++) bench.send(new Uint8Array(1000));
  assertEquals(bench.faulty.faults.out.waiting, 3);
  bench.clock.runUntilIdle();
  // One is being sent and three wait; 1000 bytes take one millisecond.
  assertEquals(bench.device.sent.map(({ at }) => at), [6, 7, 8, 9]);
  assertEquals(bench.faulty.faults.out.droppedFull, 2);
  // Idle since 4 ms: the next one begins at once.
  bench.clock.advance(10.5);
  bench.send(new Uint8Array(500));
  bench.clock.runUntilIdle();
  assertEquals(bench.device.sent[4].at, 19.5 + 0.5 + 5);
  using small = new Bench({ rate: 8_000_000, queue: { bytes: 1500 } });
  for (const size of [1000, 1000, 600, 500, 1]) small.send(new Uint8Array(size));
  small.clock.runUntilIdle();
  assertEquals(small.device.sent.map(({ bytes }) => bytes.length), [1000, 1000, 500]);
  assertEquals(small.faulty.faults.out.droppedFull, 2);
});

Deno.test("what waits for the rate is not held up by a packet that fell far behind", () => {
  using bench = new Bench({ rate: 8_000_000, reorder: { probability: 1, delay: 100 } });
  bench.send(Uint8Array.from({ length: 1000 }, () => 1));
  bench.send(new Uint8Array(1000));
  bench.faulty.set({ reorder: 0 });
  bench.clock.runUntilIdle();
  assertEquals(bench.device.sent.map(({ at, bytes }) => [at, bytes[0]]), [[2, 0], [101, 1]]);
});

Deno.test("conditions change while frames are under way: those on the wire keep their times", () => {
  using bench = new Bench({ rate: 8_000_000, delay: 100 });
  for (let i = 0; i < 4; i++) bench.send(new Uint8Array(1000));
  bench.clock.advance(1.5);
  bench.faulty.set({ rate: 800_000, out: { delay: 10 } });
  bench.clock.runUntilIdle();
  // Two were sent at the old rate; the third takes ten times as long, and may not overtake them.
  assertEquals(bench.device.sent.map(({ at }) => at), [101, 102, 102, 102]);
  bench.faulty.set({ rate: Infinity, delay: 0 });
  bench.send(new Uint8Array(1));
  assertEquals(bench.device.sent.length, 5);
  assertThrows(() => bench.faulty.set({ delay: 7, in: { loss: 2 } }), RangeError);
  bench.send(new Uint8Array(1));
  assertEquals(bench.device.sent.length, 6, "a wrong condition changed the others");
});

Deno.test("a black hole takes what is larger, to the byte, whatever the link header", () => {
  for (const [medium, link] of [["ip", 0], ["ethernet", 14]] as const) {
    using bench = new Bench({ blackHole: 1000 }, medium);
    bench.send(new Uint8Array(link + 1000));
    bench.send(new Uint8Array(link + 1001));
    assertEquals(bench.device.sent.length, 1);
    assertEquals(bench.faulty.faults.out.droppedLarge, 1);
  }
  using tagged = new Bench({ blackHole: 1000 }, "ethernet");
  const frame = new Uint8Array(1018);
  frame.set([0x81, 0x00], 12);
  tagged.send(frame);
  assertEquals(tagged.device.sent.length, 1);
  using low = new Bench({ mtu: 900 });
  assertEquals(low.faulty.mtu, 900);
  low.arrive(new Uint8Array(901));
  low.arrive(new Uint8Array(900));
  assertEquals(low.received.length, 1);
});

Deno.test("down: what is under way and what comes is lost and counted; up: as before", () => {
  using bench = new Bench({ delay: 10, rate: 8_000_000 });
  for (let i = 0; i < 3; i++) bench.send(new Uint8Array(1000));
  bench.arrive(new Uint8Array(100));
  bench.clock.advance(2);
  bench.faulty.down();
  bench.send(new Uint8Array(1000));
  bench.clock.advance(100);
  assertEquals([bench.device.sent.length, bench.received.length], [0, 0]);
  assertEquals([bench.faulty.faults.out.droppedDown, bench.faulty.faults.in.droppedDown], [4, 1]);
  bench.faulty.up();
  bench.send(new Uint8Array(1000));
  bench.arrive(new Uint8Array(100));
  bench.clock.runUntilIdle();
  assertEquals([bench.device.sent[0].at, bench.received[0].at], [113, 112.1]);
});

Deno.test("a test picks the frames to be lost; what it throws stops nothing", () => {
  let count = 0;
  using bench = new Bench({
    out: {
      drop: () => {
        if (++count === 2) throw new Error("mine");
        return count === 3;
      },
    },
  });
  assertEquals(bench.stream(5, 60, 0).map(numberOf), [0, 1, 3, 4]);
  assertEquals(bench.faulty.faults.out.droppedByTest, 1);
  bench.faulty.set({ drop: null, out: {} });
  bench.send(new Uint8Array(60));
  assertEquals(count, 5);
});

Deno.test("a device without room keeps nothing back for ever: the rest follows when it wakes, in order", () => {
  using bench = new Bench({ delay: 5 });
  bench.device.codes.push(0, EAGAIN, EAGAIN);
  for (let i = 0; i < 4; i++) bench.send(Uint8Array.of(0, 0, 0, 0, 0, 0, 0, i));
  bench.clock.advance(10);
  assertEquals(bench.device.sent.map(numberOf), [0]);
  bench.device.wake();
  bench.clock.advance(0);
  assertEquals(bench.device.sent.map(numberOf), [0]);
  bench.device.wake();
  bench.clock.advance(0);
  assertEquals(bench.device.sent.map(numberOf), [0, 1, 2, 3]);
  bench.device.codes.push(ENODEV);
  bench.send(new Uint8Array(8));
  bench.clock.runUntilIdle();
  assertEquals(bench.faulty.faults.out.droppedDevice, 1);
});

Deno.test("closed with frames in flight: no timer is left, the device is closed once, and nothing comes later", () => {
  const bench = new Bench({ delay: 10, rate: 1e6 });
  for (let i = 0; i < 100; i++) bench.send(new Uint8Array(1000));
  bench.arrive(new Uint8Array(100));
  bench.faulty.close();
  bench.faulty.close();
  assertEquals(bench.clock.pending, 0);
  bench.clock.advance(10_000);
  assertEquals([bench.device.sent.length, bench.received.length, bench.device.closed], [0, 0, 1]);
  assertEquals(bench.send(new Uint8Array(1)), ENODEV);
});

Deno.test("more than 64 MiB under way: the rest is lost and counted, and memory is used again", () => {
  using bench = new Bench({ delay: 1000 });
  for (let i = 0; i < 33_000; i++) bench.send(new Uint8Array(1500));
  const { underWay, droppedMemory } = bench.faulty.faults.out;
  assertEquals([underWay, droppedMemory], [32_768, 232]);
  bench.clock.runUntilIdle();
  assertEquals(bench.device.sent.length, 32_768);
  bench.send(new Uint8Array(1500));
  assertEquals(bench.faulty.faults.out.underWay, 1);
});

function run(seed: number): string {
  using bench = new Bench({
    seed,
    rate: 10e6,
    delay: 20,
    jitter: 5,
    loss: { toBad: 0.02, toGood: 0.3 },
    reorder: 0.03,
    duplicate: 0.02,
    corrupt: 0.02,
    queue: { packets: 50, aqm: "codel" },
  });
  return JSON.stringify(bench.stream(3000, 1200, 0.5).map(({ at, bytes }) => [at, bytes.toString()]));
}

Deno.test("the same seed gives the same run, byte for byte; another one another", () => {
  const first = run(1);
  assert(first === run(1));
  assertNotEquals(first.length, 2);
  assert(first !== run(2));
});

Deno.test("whatever the conditions: nothing throws, nothing is lost count of, and order is kept without reordering", () => {
  const chance = fc.double({ min: 0, max: 1, noNaN: true });
  const conditions: fc.Arbitrary<LinkConditions> = fc.record({
    rate: fc.constantFrom(1e4, 1e6, 1e8, Infinity),
    delay: fc.constantFrom(0, 0.5, 30),
    jitter: fc.constantFrom(0, 2),
    queue: fc.record({ packets: fc.integer({ min: 1, max: 20 }), aqm: fc.constantFrom("none" as const, "codel" as const) }),
    loss: fc.oneof(chance, fc.record({ toBad: chance, toGood: chance })),
    duplicate: chance,
    corrupt: chance,
    blackHole: fc.constantFrom(100, Infinity),
  });
  const step = fc.oneof(
    fc.record({ send: fc.integer({ min: 0, max: 1500 }) }),
    fc.record({ wait: fc.integer({ min: 0, max: 50 }) }),
    fc.record({ set: conditions }),
    fc.record({ down: fc.boolean() }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.integer(), (steps, seed) => {
      using bench = new Bench({ seed });
      let number = 0;
      for (const one of steps) {
        if ("send" in one) {
          const bytes = new Uint8Array(one.send);
          if (one.send >= 8) new DataView(bytes.buffer).setUint32(4, number++);
          bench.send(bytes);
          bench.arrive(bytes);
        } else if ("wait" in one) bench.clock.advance(one.wait);
        else if ("set" in one) bench.faulty.set({ ...one.set, corrupt: 0 });
        else if (one.down) bench.faulty.down();
        else bench.faulty.up();
        assertEquals([unaccounted(bench.faulty.faults.in), unaccounted(bench.faulty.faults.out)], [0, 0]);
      }
      bench.clock.runUntilIdle(1e9);
      const { in: incoming, out } = bench.faulty.faults;
      assertEquals([incoming.underWay, incoming.waiting, out.underWay, out.waiting], [0, 0, 0, 0]);
      const order = bench.device.sent.filter(({ bytes }) => bytes.length >= 8).map(numberOf);
      assertEquals(order, order.toSorted((a, b) => a - b));
    }),
    { numRuns: 150, seed: 3 },
  );
});

Deno.test("wrong options are refused before the device is touched", () => {
  const [end] = cable();
  const wrong: [object, typeof Error][] = [
    [{ loss: 1.1 }, RangeError],
    [{ loss: { toBad: -1, toGood: 0 } }, RangeError],
    [{ delay: -1 }, RangeError],
    [{ delay: Infinity }, RangeError],
    [{ jitter: NaN }, RangeError],
    [{ rate: 0 }, RangeError],
    [{ queue: 0 }, RangeError],
    [{ queue: { aqm: "red" } }, TypeError],
    [{ in: { duplicate: 2 } }, RangeError],
    [{ corrupt: { probability: 0.1, bits: 0 } }, RangeError],
    [{ reorder: { probability: 0.1, delay: -1 } }, RangeError],
    [{ mtu: 67 }, RangeError],
    [{ mtu: 1501 }, RangeError],
    [{ seed: NaN }, RangeError],
  ];
  for (const [options, type] of wrong) assertThrows(() => faults(end, options), type);
  faults(end, { clock: new ManualClock() }).open(() => {});
  assertEquals(end.transmit(new TxFrame()), 0);
});
