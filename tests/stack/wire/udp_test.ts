import { assertEquals } from "@std/assert";
import * as wire from "../../../stack/wire/udp.ts";
import { udp } from "../../testing/frames.ts";

// A DNS query of a real capture: 192.168.1.2:53211 > 192.168.1.1:53, 36 bytes.
const GOLDEN = Uint8Array.from([0xcf, 0xdb, 0x00, 0x35, 0x00, 0x24, 0xbe, 0xef]);

Deno.test("wire/udp: golden bytes both ways, over garbage", () => {
  const view = new DataView(Uint8Array.from([...new Array(3).fill(0xa5), ...new Array(8).fill(0xa5), 0xa5]).buffer);
  wire.emit(view, 3, 53_211, 53, 36, 0xbeef);
  assertEquals(new Uint8Array(view.buffer, 3, 8), GOLDEN);
  assertEquals([view.getUint8(2), view.getUint8(11)], [0xa5, 0xa5]);
  assertEquals(wire.getSourcePort(view, 3), 53_211);
  assertEquals(wire.getDestinationPort(view, 3), 53);
  assertEquals(wire.getLength(view, 3), 36);
  assertEquals(wire.getChecksum(view, 3), 0xbeef);
  wire.setChecksum(view, 3, 1);
  assertEquals(wire.getChecksum(view, 3), 1);
});

Deno.test("wire/udp: every truncation is refused, every longer packet gives the datagram's own length", () => {
  const bytes = udp({}, new Uint8Array(20));
  const view = new DataView(bytes.buffer);
  for (let length = 0; length < 28; length++) assertEquals(wire.parse(view, 0, length), -1);
  for (let length = 28; length < 40; length++) assertEquals(wire.parse(view, 0, length), 28);
});

Deno.test("wire/udp: a length below the header is refused", () => {
  //= rfc768#page-1 type=test
  //# This means the minimum value of the length is eight.
  for (let length = 0; length < 12; length++) {
    const bytes = udp({ length }, new Uint8Array(4));
    assertEquals(wire.parse(new DataView(bytes.buffer), 0, 12), length < 8 ? -1 : length);
  }
});
