/** D3.14 and D3.15: parsing, with every length at which a frame may end, and rewriting. */
import { assert, assertEquals } from "@std/assert";
import * as helpers from "../../../drivers/xdp/helpers.ts";
import { ParseCursor, vlanPop, vlanPush } from "../../../drivers/xdp/helpers.ts";
import { bytesOf, contextOf, roomHeld } from "./run.ts";
import { tagged } from "./run.ts";

type Parser = (view: DataView, end: number, cursor: ParseCursor) => number;

/** Parses `bytes` at an odd place between garbage: what is returned and by how much the cursor moved. */
function parse(parser: Parser, bytes: number[]): [number, number] {
  const all = Uint8Array.from([0xa5, 0xa5, 0xa5, ...bytes, 0xa5, 0xa5]);
  const cursor = new ParseCursor().begin(3);
  const result = parser(new DataView(all.buffer), 3 + bytes.length, cursor);
  return [result, cursor.at - 3];
}

/** Checks a header of `size` bytes: the result when it is all there, whatever follows, and -1 for every shorter one. */
function golden(parser: Parser, header: number[], result: number, size = header.length): void {
  assertEquals(parse(parser, header), [result, size]);
  assertEquals(parse(parser, [...header, 1, 2, 3]), [result, size]);
  for (let length = 0; length < size; length++) assertEquals(parse(parser, header.slice(0, length)), [-1, 0], `${length} bytes`);
}

const MACS = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];

Deno.test("D3.14 Ethernet, without and with tags up to VLAN_MAX_DEPTH, and their ids", () => {
  golden(helpers.parseEthernet, [...MACS, 0x08, 0x00], 0x0800);
  golden(helpers.parseEthernet, [...MACS, 0x81, 0x00, 0xaf, 0xff, 0x86, 0xdd], 0x86dd);
  golden(helpers.parseEthernet, [...MACS, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x08, 0x06], 0x0806);
  // A third tag is the next header.
  golden(helpers.parseEthernet, [...MACS, 0x88, 0xa8, 0, 5, 0x81, 0, 0, 6, 0x81, 0x00], 0x8100);
  const cursor = new ParseCursor();
  const ids = (tags: [number, number][]) => {
    const frame = tagged(tags);
    helpers.parseEthernet(new DataView(frame.buffer), frame.length, cursor.begin(0));
    return [...cursor.vlanIds.subarray(0, cursor.vlanCount)];
  };
  assertEquals(ids([]), []);
  assertEquals(ids([[0x8100, 0xf064]]), [0x64]);
  assertEquals(ids([[0x88a8, 20], [0x8100, 30]]), [20, 30]);
  assertEquals(ids([[0x88a8, 20], [0x8100, 30], [0x8100, 40]]), [20, 30]);
  assertEquals(ids([]), []);
});

Deno.test("D3.14 IPv4 with options; a header length that lies", () => {
  const header = (first: number, size: number) => [first, 0, 0, 60, 0, 1, 0, 0, 64, 17, ...new Array(size - 10).fill(7)];
  golden(helpers.parseIpv4, header(0x45, 20), 17);
  golden(helpers.parseIpv4, header(0x46, 24), 17);
  golden(helpers.parseIpv4, header(0x4f, 60), 17);
  for (const first of [0x44, 0x40, 0x65, 0x05]) assertEquals(parse(helpers.parseIpv4, header(first, 60)), [-1, 0]);
});

Deno.test("D3.14 IPv6: the next header", () => {
  golden(helpers.parseIpv6, [0x60, 0, 0, 0, 0, 8, 58, 255, ...new Array(32).fill(1)], 58);
  assertEquals(parse(helpers.parseIpv6, [0x45, ...new Array(60).fill(1)]), [-1, 0]);
});

Deno.test("D3.14 ICMP and ICMPv6: the type of the message", () => {
  golden(helpers.parseIcmp, [8, 0, 0, 0, 0, 1, 0, 2], 8);
  golden(helpers.parseIcmpv6, [128, 0, 0, 0, 0, 1, 0, 2], 128);
  golden(helpers.parseIcmpCommon, [3, 1, 0, 0], 3);
});

Deno.test("D3.14 UDP: the length of the payload; a length that lies", () => {
  const header = (length: number) => [0, 7, 0, 9, length >> 8, length & 255, 0, 0];
  golden(helpers.parseUdp, header(8), 0);
  golden(helpers.parseUdp, header(1480), 1472);
  for (const length of [0, 7]) assertEquals(parse(helpers.parseUdp, header(length)), [-1, 0]);
});

Deno.test("D3.14 TCP with options: the length of the header; one that lies", () => {
  const header = (first: number, size: number) => [...new Array(12).fill(1), first, 0x10, ...new Array(size - 14).fill(2)];
  golden(helpers.parseTcp, header(0x50, 20), 20);
  golden(helpers.parseTcp, header(0xf0, 60), 60);
  for (const first of [0x00, 0x40]) assertEquals(parse(helpers.parseTcp, header(first, 60)), [-1, 0]);
});

Deno.test("D3.14 a whole frame, header by header, ending at every length: -1 from there on, nothing is read beyond", () => {
  const ipv4 = [0x45, 0, 0, 33, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2];
  const frame = [...tagged([[0x88a8, 1], [0x8100, 2]], [8, 0], [...ipv4, 0, 7, 0, 9, 0, 13, 0, 0, 1, 2, 3, 4, 5])];
  for (let length = 0; length <= frame.length; length++) {
    // No byte behind the frame: a read there would throw.
    const view = new DataView(Uint8Array.from(frame.slice(0, length)).buffer);
    const cursor = new ParseCursor().begin(0);
    const ethernet = helpers.parseEthernet(view, length, cursor);
    const protocol = ethernet < 0 ? -1 : helpers.parseIpv4(view, length, cursor);
    const payload = protocol < 0 ? -1 : helpers.parseUdp(view, length, cursor);
    assertEquals([ethernet, protocol, payload], [length < 22 ? -1 : 0x800, length < 42 ? -1 : 17, length < 50 ? -1 : 5]);
  }
});

Deno.test("D3.15 a tag is pushed and popped", () => {
  const context = contextOf(tagged([]), 8);
  assertEquals(vlanPush(context, 0xa123), 0);
  assertEquals(bytesOf(context), tagged([[0x8100, 0xa123]]));
  assertEquals(vlanPush(context, 5, 0x88a8), 0);
  assertEquals(bytesOf(context), tagged([[0x88a8, 5], [0x8100, 0xa123]]));
  assertEquals(vlanPush(context, 6), -1); // the headroom is used up
  assertEquals(bytesOf(context), tagged([[0x88a8, 5], [0x8100, 0xa123]]));
  assertEquals(vlanPop(context), 5);
  assertEquals(vlanPop(context), 0xa123);
  assertEquals(vlanPop(context), -1);
  assertEquals(bytesOf(context), tagged([]));
  assert(roomHeld(context));
});

Deno.test("D3.15 pushing and popping at every length: -1 and nothing changed where the frame is too short", () => {
  const whole = tagged([[0x8100, 9]]);
  for (let length = 0; length <= 30; length++) {
    const context = contextOf(whole.slice(0, length));
    assertEquals(vlanPop(context), length < 18 ? -1 : 9);
    assertEquals(context.end - context.offset, length < 18 ? length : length - 4);
    const other = contextOf(whole.slice(0, length));
    assertEquals(vlanPush(other, 7), length < 14 ? -1 : 0);
    assertEquals(bytesOf(other), length < 14 ? whole.slice(0, length) : tagged([[0x8100, 7], [0x8100, 9]]).slice(0, length + 4));
    assert(roomHeld(context) && roomHeld(other));
  }
});

Deno.test("D3.15 addresses are swapped: MAC, IPv4, IPv6; nothing around them", () => {
  const swap = (size: number, run: (view: DataView, at: number) => void) => {
    const bytes = Uint8Array.from({ length: size + 2 }, (_, i) => i);
    run(new DataView(bytes.buffer), 1);
    return [...bytes];
  };
  const range = (from: number, to: number) => Array.from({ length: to - from + 1 }, (_, i) => from + i);
  assertEquals(swap(14, helpers.swapMac), [0, ...range(7, 12), ...range(1, 6), ...range(13, 15)]);
  assertEquals(swap(20, helpers.swapIpv4), [...range(0, 12), ...range(17, 20), ...range(13, 16), 21]);
  assertEquals(swap(40, helpers.swapIpv6), [...range(0, 8), ...range(25, 40), ...range(9, 24), 41]);
});
