import { assertEquals } from "@std/assert";
import { ethernetIpOffset, putTxHeader, rxFlags, rxSegmentSize, VIRTIO_HEADER_SIZE } from "../../drivers/virtio_header.ts";
import { RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID, TX_HEADROOM, TxFrame } from "../../stack/device.ts";

function hex(view: DataView): string {
  return Array.from(new Uint8Array(view.buffer, 2, VIRTIO_HEADER_SIZE), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** A TCP frame behind `link` bytes of link header. */
function tcpFrame(link: number, version: 4 | 6, flags = 0x10): TxFrame {
  const frame = new TxFrame();
  const ip = version === 4 ? 20 : 40;
  frame.reset(link + ip + 20);
  frame.memory.bytes[TX_HEADROOM + link] = version === 4 ? 0x45 : 0x60;
  frame.memory.bytes[TX_HEADROOM + link + ip + 13] = flags;
  frame.checksumStart = link + ip;
  frame.checksumOffset = 16;
  frame.segmentHeaderLength = frame.length;
  return frame;
}

function emit(frame: TxFrame, ipOffset: number): [string, boolean] {
  const view = new DataView(new Uint8Array(16).fill(0xa5).buffer);
  const ok = putTxHeader(view, 2, frame, ipOffset);
  assertEquals([view.getUint16(0), view.getUint32(12)], [0xa5a5, 0xa5a5a5a5]); // nothing beside it
  return [hex(view), ok];
}

Deno.test("golden headers over garbage", () => {
  const plain = tcpFrame(14, 4);
  plain.checksumStart = -1;
  assertEquals(emit(plain, 14), ["00000000000000000000", true]);
  const partial = tcpFrame(14, 4);
  assertEquals(emit(partial, 14), ["01000000000022001000", true]);
  const cut = tcpFrame(14, 4);
  cut.segmentSize = 1460;
  assertEquals(emit(cut, 14), ["01013600b40522001000", true]);
  const cut6 = tcpFrame(0, 6);
  cut6.segmentSize = 1440;
  assertEquals(emit(cut6, 0), ["01043c00a00528001000", true]);
});

Deno.test("a segmented CWR is told, as RFC 3168 wants it in the first segment only", () => {
  const cut = tcpFrame(14, 4, 0x90);
  cut.segmentSize = 1000;
  assertEquals(emit(cut, 14)[0].slice(2, 4), "81");
});

Deno.test("what cannot be said is refused: segments without checksum, of no IP, of too short a header", () => {
  const unsealed = tcpFrame(14, 4);
  unsealed.checksumStart = -1;
  unsealed.segmentSize = 1000;
  assertEquals(emit(unsealed, 14)[1], false);
  const arp = tcpFrame(14, 4);
  arp.segmentSize = 1000;
  arp.memory.bytes[TX_HEADROOM + 14] = 0;
  assertEquals(emit(arp, 14)[1], false);
  const short = tcpFrame(14, 4);
  short.segmentSize = 1000;
  short.length = 40;
  assertEquals(emit(short, 14)[1], false);
});

Deno.test("received headers", () => {
  const view = new DataView(new ArrayBuffer(10));
  assertEquals([rxFlags(view, 0), rxSegmentSize(view, 0)], [0, 0]);
  view.setUint8(0, 1);
  assertEquals(rxFlags(view, 0), RX_CHECKSUM_PARTIAL);
  view.setUint8(0, 2);
  assertEquals(rxFlags(view, 0), RX_CHECKSUM_VALID);
  view.setUint16(4, 1448, true);
  assertEquals(rxSegmentSize(view, 0), 0); // no type: the size says nothing
  view.setUint8(1, 1);
  assertEquals(rxSegmentSize(view, 0), 1448);
});

Deno.test("the IP header stands behind up to two tags", () => {
  const frame = tcpFrame(14, 4);
  const { view } = frame.memory;
  view.setUint16(TX_HEADROOM + 12, 0x0800);
  assertEquals(ethernetIpOffset(frame), 14);
  view.setUint16(TX_HEADROOM + 12, 0x8100);
  view.setUint16(TX_HEADROOM + 16, 0x0800);
  assertEquals(ethernetIpOffset(frame), 18);
  view.setUint16(TX_HEADROOM + 12, 0x88a8);
  view.setUint16(TX_HEADROOM + 16, 0x8100);
  view.setUint16(TX_HEADROOM + 20, 0x8100);
  assertEquals(ethernetIpOffset(frame), 22);
  frame.length = 10;
  assertEquals(ethernetIpOffset(frame), 14);
});
