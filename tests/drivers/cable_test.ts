// The in-memory cable: order, bounds, offload, and that nothing is delivered from inside a call.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { cable, codes, type FrameMemory, type FrameSink, NetStack, RX_CHECKSUM_PARTIAL, TxFrame } from "../../mod.ts";

class Collector implements FrameSink {
  frames: Uint8Array[] = [];
  flags: number[] = [];
  segmentSizes: number[] = [];
  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.frames.push(memory.bytes.slice(offset, offset + length));
    this.flags.push(flags);
    this.segmentSizes.push(segmentSize);
  }
}

function frameOf(length: number, fill: number): TxFrame {
  const tx = new TxFrame();
  tx.reset(length);
  tx.memory.bytes.fill(fill, tx.offset, tx.offset + length);
  return tx;
}

Deno.test("frames arrive in order, whole, after a wake that came outside of receive", () => {
  const [left, right] = cable();
  let wakes = 0;
  left.open(() => {});
  right.open(() => wakes++);
  right.arm();
  for (let i = 1; i <= 5; i++) assertEquals(left.transmit(frameOf(60 + i, i)), 0);
  assertEquals(wakes, 1, "one wake for one arm");
  const sink = new Collector();
  assertEquals(right.receive(sink, 3), 3);
  assertEquals(right.receive(sink, 3), 2);
  assertEquals(right.receive(sink, 3), 0);
  assertEquals(sink.frames.map((frame) => [frame.length, frame[0]]), [[61, 1], [62, 2], [63, 3], [64, 4], [65, 5]]);
  left.transmit(frameOf(60, 6));
  assertEquals(wakes, 1, "not armed");
  right.arm();
  assertEquals(wakes, 2);
});

Deno.test("the queue is bounded by frames and by bytes, through every wrap, and counts what it loses", () => {
  const [left, right] = cable({ queue: 7, queueBytes: 4000 });
  left.open(() => {});
  right.open(() => {});
  let state = 12345;
  let sent = 0;
  let got = 0;
  let waiting: number[] = [];
  for (let round = 0; round < 20_000; round++) {
    state = Math.imul(state, 1103515245) + 12345 | 0;
    const random = (state >>> 8) & 0xffff;
    if (random % 3 !== 0) {
      const length = 14 + random % 1400;
      const before = right.statistics!().droppedFull;
      assertEquals(left.transmit(frameOf(length, length & 255)), 0);
      sent++;
      if (right.statistics!().droppedFull === before) waiting.push(length);
      assert(waiting.length <= 7);
    } else {
      const sink = new Collector();
      const count = right.receive(sink, 1 + random % 4);
      assertEquals(sink.frames.map((frame) => frame.length), waiting.slice(0, count));
      for (const frame of sink.frames) assert(frame.every((byte) => byte === (frame.length & 255)));
      waiting = waiting.slice(count);
      got += count;
    }
  }
  const { droppedFull, received } = right.statistics!();
  assertEquals(received, got);
  assertEquals(sent, got + waiting.length + droppedFull);
  assert(droppedFull > 100 && got > 1000);
});

Deno.test("with offload: super-frames with their flags; without: too long is an error", () => {
  const [left, right] = cable({ offload: true });
  left.open(() => {});
  right.open(() => {});
  const tx = frameOf(54, 1);
  const payload = new TxFrame().memory;
  tx.payload = payload;
  tx.payloadLength1 = 1000;
  tx.payloadOffset2 = 1000;
  tx.payloadLength2 = 500;
  tx.segmentSize = 700;
  tx.checksumStart = 34;
  assertEquals(left.transmit(tx), 0);
  const sink = new Collector();
  right.receive(sink, 8);
  assertEquals([sink.frames[0].length, sink.flags[0], sink.segmentSizes[0]], [1554, RX_CHECKSUM_PARTIAL, 700]);
  const [plain] = cable();
  plain.open(() => {});
  assertEquals(plain.transmit(frameOf(1600, 1)), codes.EMSGSIZE);
  assertEquals(plain.capabilities, {
    rxChecksum: false,
    txChecksum: false,
    txSegmentation: 0,
    rxFrame: 1518,
    rxQueueFrames: 1024,
  });
});

Deno.test("an end that is down, removed, closed, or not open", () => {
  const [left, right] = cable({ medium: "ip" });
  assertEquals(left.mac, null);
  left.open(() => {});
  assertThrows(() => left.open(() => {}), Deno.errors.Busy);
  left.transmit(frameOf(60, 1));
  assertEquals(right.statistics!().droppedDown, 1);
  let wakes = 0;
  right.open(() => wakes++);
  right.setCarrier(false);
  const sink = new Collector();
  assertEquals(right.receive(sink, 1), codes.ENETDOWN);
  assertEquals(right.transmit(frameOf(60, 1)), codes.ENETDOWN);
  right.setCarrier(true);
  assertEquals(right.receive(sink, 1), 0);
  right.remove();
  assertEquals(right.receive(sink, 1), codes.ENODEV);
  assertEquals(right.transmit(frameOf(60, 1)), codes.ENODEV);
  assertEquals(wakes, 3);
  right.close();
  right.close();
  assertThrows(() => right.open(() => {}), Deno.errors.NotFound);
  assertThrows(() => cable({ mtu: 67 }), RangeError);
  assertThrows(() => cable({ queue: 0 }), RangeError);
});

Deno.test("bulk over a cable, with and without offload, on Ethernet and on bare IP", async () => {
  for (const options of [{}, { offload: true }, { medium: "ip" as const }, { offload: true, medium: "ip" as const, mtu: 9000 }]) {
    const [left, right] = cable(options);
    await using server = new NetStack(left, { address: "10.0.0.1/24" });
    await using client = new NetStack(right, { address: "10.0.0.2/24" });
    using listener = server.listen({ port: 9 });
    const [sink, source] = await Promise.all([listener.accept(), client.connect({ hostname: "10.0.0.1", port: 9 })]);
    const data = crypto.getRandomValues(new Uint8Array(60_000));
    const writing = (async () => {
      for (let i = 0; i < 100; i++) for (let at = 0; at < data.length;) at += await source.write(data.subarray(at));
      source.close();
    })();
    let total = 0;
    const buffer = new Uint8Array(100_000);
    for (let count = await sink.read(buffer); count !== null; count = await sink.read(buffer)) {
      for (let i = 0; i < count; i += 997) assertEquals(buffer[i], data[(total + i) % data.length]);
      total += count;
    }
    await writing;
    assertEquals(total, 6_000_000);
    assertEquals(server.statistics.stack.faults + client.statistics.stack.faults, 0);
    sink.close();
  }
});
