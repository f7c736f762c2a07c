import { assert, assertEquals } from "@std/assert";
import { FrameMemory } from "../../../stack/device.ts";
import * as wire from "../../../stack/wire/tcp.ts";
import { Segment } from "../../../stack/wire/tcp.ts";
import { randomSource, tcp } from "../../testing/frames.ts";

function parse(bytes: Uint8Array<ArrayBuffer>): Segment | null {
  const seg = new Segment();
  return wire.parse(new FrameMemory(bytes).view, 0, bytes.length, seg) ? seg : null;
}

const ALL = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 9, 0, 0, 0, 7, 1, 3, 3, 7];

Deno.test("TCP header: golden bytes of a SYN with all options", () => {
  const seg = parse(tcp({ flags: "S", sequence: 0xfffffff0, acknowledgment: 5, window: 64240, urgent: 9, options: ALL }))!;
  assertEquals([seg.srcPort, seg.dstPort, seg.seq, seg.ack, seg.flags], [1000, 80, -16, 5, wire.SYN]);
  assertEquals([seg.window, seg.urgent, seg.textOffset, seg.textLength], [64240, 9, 40, 0]);
  assertEquals([seg.mss, seg.windowScale, seg.sackPermitted], [1460, 7, true]);
  assertEquals([seg.hasTimestamps, seg.tsVal, seg.tsEcr], [true, 9, 7]);
});

Deno.test("TCP header: every truncation is refused or ends the options", () => {
  const whole = tcp({ flags: "S", options: ALL });
  for (let length = 0; length < whole.length; length++) assertEquals(parse(whole.slice(0, length)), null);
  for (let words = 0; words < 5; words++) assertEquals(parse(tcp({ headerWords: words })), null);
  for (let words = 0; words <= 5; words++) {
    for (let lead = 0; lead < 4; lead++) {
      // NOPs in front move the cut to every place of an option.
      const cut = 4 * words - lead;
      const options = [...new Array(lead).fill(1), ...ALL].slice(0, 4 * words);
      const seg = parse(tcp({ flags: "S", options }))!;
      assertEquals(seg.mss, cut >= 4 ? 1460 : -1);
      assertEquals(seg.sackPermitted, cut >= 6);
      assertEquals(seg.hasTimestamps, cut >= 16);
      assertEquals(seg.windowScale, cut >= 20 ? 7 : -1);
    }
  }
});

Deno.test("TCP options that lie about their length, in every kind", () => {
  //= rfc9293#3.1 type=test
  // TCP implementations MUST be prepared to handle an illegal option length (e.g., zero); a suggested procedure is to reset the
  // connection and log the error cause (MUST-7).
  for (let kind = 2; kind < 256; kind++) {
    for (const size of [0, 1, 41, 255]) {
      const seg = parse(tcp({ flags: "S", options: [kind, size, 2, 4, 1, 1, 2, 4, 5, 180] }))!;
      assertEquals(seg.mss, -1, `kind ${kind} size ${size}: what follows cannot be found`);
    }
    if (kind > 8) assertEquals(parse(tcp({ flags: "S", options: [kind, 3, 9, 2, 4, 5, 180] }))!.mss, 1460);
  }
  assertEquals(parse(tcp({ options: [2, 3, 9, 3, 4, 1, 1, 4, 3, 1, 8, 9, 1, 1, 1, 1, 1, 1, 1] }))!.mss, -1);
  assertEquals(parse(tcp({ options: [0, 2, 4, 5, 180, 255, 255, 255] }))!.mss, -1); // padding behind the end
  for (const size of [2, 3, 9, 11, 17]) assertEquals(parse(tcp({ options: [5, size, ...new Array(20).fill(1)] }))!.sackCount, 0);
  const four = parse(tcp({ options: [5, 34, ...new Array(32).fill(3)] }))!;
  assertEquals(four.sackCount, 4);
});

Deno.test("TCP header: emitting over garbage leaves nothing of it", () => {
  for (let mask = 0; mask < 16; mask++) {
    const memory = new FrameMemory(new Uint8Array(80).fill(0xa5));
    const { view } = memory;
    const scale = (mask & 1) !== 0 ? 7 : -1;
    const [sack, stamps] = [(mask & 2) !== 0, (mask & 4) !== 0];
    const length = 20 + wire.emitSynOptions(view, 20, 1460, scale, sack, stamps, 11, 12);
    wire.emit(view, 0, (1 << 16) | 2, -5, 6, length, wire.SYN, 65535);
    assertEquals(length % 4, 0);
    const seg = new Segment();
    assert(wire.parse(view, 0, length, seg));
    assertEquals([seg.srcPort, seg.dstPort, seg.seq, seg.ack, seg.flags, seg.window, seg.urgent], [1, 2, -5, 6, 2, 65535, 0]);
    assertEquals([seg.mss, seg.windowScale, seg.sackPermitted, seg.hasTimestamps], [1460, scale, sack, stamps]);
    if (stamps) assertEquals([seg.tsVal, seg.tsEcr], [11, 12]);
    assert(memory.bytes.subarray(length).every((byte) => byte === 0xa5));
    assertEquals(view.getUint16(16), 0);
  }
});

Deno.test("TCP header: noise never throws and never claims text outside the packet", () => {
  const random = randomSource(5);
  for (let i = 0; i < 20_000; i++) {
    const bytes = Uint8Array.from({ length: random() % 80 }, () => random());
    if (bytes.length > 12 && random() % 2 === 0) bytes[12] = (5 + random() % 11) << 4;
    const seg = parse(bytes);
    if (seg !== null) assert(seg.textOffset + seg.textLength === bytes.length && seg.textLength >= 0 && seg.sackCount <= 4);
  }
});
