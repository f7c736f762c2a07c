import { assertEquals } from "@std/assert";
import * as wire from "../../../stack/wire/igmp.ts";
import { checksumOf, igmp, keyOf } from "../../testing/frames.ts";

function parse(bytes: Uint8Array<ArrayBuffer>, length = bytes.length): [number, wire.IgmpMessage] {
  const message = new wire.IgmpMessage();
  return [wire.parse(new DataView(bytes.buffer), 0, length, message), message];
}

Deno.test("wire/igmp: reports and leaves are golden, over garbage", () => {
  const bytes = new Uint8Array(40).fill(0xa5);
  const view = new DataView(bytes.buffer);
  assertEquals(wire.emitV2(view, 2, wire.IGMP_V2_REPORT, keyOf("239.1.2.3")), 8);
  assertEquals([...bytes.slice(1, 11)], [0xa5, 0x16, 0x00, 0xf8, 0xfa, 239, 1, 2, 3, 0xa5]);
  bytes.fill(0xa5);
  wire.emitRecord(view, 0, 0, wire.RECORD_CHANGE_TO_EXCLUDE, keyOf("239.1.2.3"));
  wire.emitRecord(view, 0, 1, wire.RECORD_MODE_IS_EXCLUDE, keyOf("224.0.0.251"));
  assertEquals(wire.emitV3Report(view, 0, 2), 24);
  assertEquals([...bytes.slice(4, 25)], [0, 0, 0, 2, 4, 0, 0, 0, 239, 1, 2, 3, 2, 0, 0, 0, 224, 0, 0, 251, 0xa5]);
  assertEquals(checksumOf(bytes.slice(0, 24)), 0);
});

Deno.test("wire/igmp: versions of a query by length and code", () => {
  //= rfc3376#7.1 type=test
  //# IGMPv1 Query: length = 8 octets AND Max Resp Code field is zero
  let [code, message] = parse(igmp(0x11, 0, "0.0.0.0"));
  assertEquals([code, message.version, message.maxResponseMs], [0, 1, 10_000]);
  [code, message] = parse(igmp(0x11, 25, "239.0.0.1"));
  assertEquals([code, message.version, message.maxResponseMs, message.group], [0, 2, 2500, keyOf("239.0.0.1")]);
  [code, message] = parse(igmp(0x11, 100, "0.0.0.0", [0x0b, 125, 0, 1, 1, 2, 3, 4]));
  assertEquals([code, message.version, message.robustness, message.queryIntervalMs, message.sources], [0, 3, 3, 125_000, 1]);
  //= rfc3376#7.1 type=test
  //# Query messages that do not match any of the above conditions (e.g., a Query of length 10 octets) MUST be silently ignored.
  assertEquals(parse(igmp(0x11, 1, "0.0.0.0", [0, 0]))[0], wire.PARSE_LENGTH);
  assertEquals(parse(igmp(0x11, 1, "0.0.0.0", [0, 0, 0xff, 0xff]))[0], wire.PARSE_LENGTH);
});

Deno.test("wire/igmp: floating-point codes", () => {
  //= rfc3376#4.1.1 type=test
  //# If Max Resp Code >= 128, Max Resp Code represents a floating-point value
  assertEquals([0, 1, 127, 128, 0x8f, 0x90, 0xff].map(wire.decodeCode), [0, 1, 127, 128, 248, 256, 31_744]);
});

Deno.test("wire/igmp: every truncation and every flipped bit is refused", () => {
  //= rfc3376#4.1.2 type=test
  //# When receiving packets, the checksum MUST be verified before processing a packet.
  const bytes = igmp(0x11, 100, "239.1.2.3", [2, 125, 0, 2, 1, 2, 3, 4, 5, 6, 7, 8]);
  for (let length = 0; length < bytes.length; length++) {
    assertEquals(parse(bytes, length)[0], length < 8 ? wire.PARSE_SHORT : wire.PARSE_CHECKSUM);
  }
  for (let bit = 0; bit < bytes.length * 8; bit++) {
    const damaged = bytes.slice();
    damaged[bit >> 3] ^= 1 << (bit & 7);
    assertEquals(parse(damaged)[0], wire.PARSE_CHECKSUM);
  }
  assertEquals(parse(igmp(0x13, 0, "1.2.3.4"))[0], wire.PARSE_UNKNOWN);
});
