// Section D2, rows 14 and 15: what the device does with rings and headers, seen from a guest's memory.
import { assertEquals } from "@std/assert";
import { DRIVER_FEATURES } from "../../../drivers/virtio/net_driver_options.ts";
import { codes, RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID, type TxFrame } from "../../../mod.ts";
import { Keep, segment } from "../frames.ts";
import { BASE, bits, machine } from "./machine.ts";
import { BUFFERS, GUEST_BASE, NEXT, RawGuest, WRITE } from "./raw_guest.ts";

const PLAIN = bits("VERSION_1", "NET_MAC");
const TX = 1;
const RX = 0;

function packet(proto: number, size: number, partial = false): TxFrame {
  return segment({ link: 14, proto, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size }, partial);
}

function segments(size: number, segmentSize: number): TxFrame {
  const frame = packet(6, size, true);
  frame.segmentSize = segmentSize;
  frame.segmentHeaderLength = 54;
  return frame;
}

Deno.test("D2.14 indirect descriptors: a frame of 64 KiB takes one place", () => {
  for (const want of [DRIVER_FEATURES & ~bits("RING_PACKED"), DRIVER_FEATURES]) {
    using m = machine("mmio", { queueSize: 4 });
    const driver = m.start({ want });
    for (let i = 0; i < 4; i++) assertEquals(driver.transmit(segments(60_000 / 4, 1448)), 0);
    driver.flush();
    const { descriptors } = m.device.queueRegisters(TX)!;
    const view = new DataView(m.bytes.buffer);
    const flags = view.getUint16(descriptors - BASE + (want === DRIVER_FEATURES ? 14 : 12), true);
    assertEquals(flags & 7, 4, "INDIRECT, and nothing else");
    assertEquals(view.getUint32(descriptors - BASE + 8, true), 4 * 16, "pieces of 4 KiB");
    const keep = new Keep();
    assertEquals(m.device.receive(keep, 10), 4);
    assertEquals(keep.frames.map((frame) => frame.bytes.length), Array(4).fill(15_054));
  }
});

Deno.test("D2.14 EVENT_IDX: one interrupt for what was asked for, and none before it is asked again", () => {
  for (const [want, expected] of [[bits("RING_EVENT_IDX"), 1], [0n, 10]] as const) {
    using m = machine("mmio");
    const driver = m.start({ want: want | PLAIN });
    driver.arm();
    const before = m.interrupts.lines;
    for (let i = 0; i < 10; i++) {
      m.device.transmit(packet(17, 100));
      m.device.flush();
    }
    assertEquals(m.interrupts.lines - before, expected);
    driver.receive(new Keep(), 100);
    driver.arm();
    m.device.transmit(packet(17, 100));
    m.device.flush();
    assertEquals(m.interrupts.lines - before, expected + 1);
    // The same the other way: kicks.
    m.device.arm();
    const kicks = m.device.statistics().kicks;
    for (let i = 0; i < 10; i++) driver.tx(new Uint8Array(60));
    assertEquals(m.device.statistics().kicks - kicks, expected);
  }
});

Deno.test("D2.14 a guest isn't asked to kick for receive buffers, but when one was missing", () => {
  for (
    const want of [
      PLAIN,
      PLAIN | bits("RING_EVENT_IDX"),
      PLAIN | bits("RING_PACKED"),
      PLAIN | bits("RING_PACKED", "RING_EVENT_IDX"),
    ]
  ) {
    using m = machine("mmio", { queueSize: 4 });
    const driver = m.start({ want });
    let wakes = 0;
    m.device.open(() => wakes++);
    driver.open(() => {});
    const kicks = () => m.device.statistics().kicks;
    const before = kicks();
    for (let i = 0; i < 100; i++) {
      assertEquals(m.device.transmit(packet(17, 100)), 0);
      m.device.flush();
      driver.receive(new Keep(), 10);
    }
    assertEquals(kicks(), before);
    for (let i = 0; i < 4; i++) assertEquals(m.device.transmit(packet(17, 100)), 0);
    assertEquals(m.device.transmit(packet(17, 100)), codes.EAGAIN);
    m.device.flush();
    wakes = 0;
    driver.receive(new Keep(), 10);
    assertEquals([kicks(), wakes], [before + 1, 1]);
    for (let i = 0; i < 10; i++) {
      assertEquals(m.device.transmit(packet(17, 100)), 0);
      m.device.flush();
      driver.receive(new Keep(), 10);
    }
    assertEquals([kicks(), wakes], [before + 1, 1]);
  }
});

Deno.test("D2.14 mergeable buffers: as many as it takes, counted in the first one's header; 1 otherwise", () => {
  const guest = new RawGuest({ mtu: 4000 });
  const offer = (size: number) => {
    for (let i = 0; i < 4; i++) {
      guest.descriptor(RX, i, BUFFERS + i * 0x1000, size, WRITE);
      guest.offer(RX, i);
    }
  };
  const count = () => guest.view.getUint16(BUFFERS - GUEST_BASE + 10, true);
  guest.start(PLAIN | bits("NET_MRG_RXBUF"));
  offer(1024);
  assertEquals(guest.device.transmit(packet(17, 3000)), 0);
  assertEquals(guest.device.transmit(packet(17, 3000)), codes.EAGAIN, "one buffer is left");
  guest.device.flush();
  assertEquals([count(), guest.used(RX), [0, 1, 2].map((i) => guest.usedLength(RX, i))], [3, 3, [1024, 1024, 12 + 3042 - 2048]]);
  assertEquals(guest.device.transmit(packet(17, 800)), 0, "the buffer that was taken for nothing is there again");
  guest.device.flush();
  assertEquals([guest.used(RX), guest.usedLength(RX, 3)], [4, 854]);
  guest.start(PLAIN);
  offer(1024);
  assertEquals(guest.device.transmit(packet(17, 3000)), codes.EMSGSIZE);
  assertEquals(guest.device.transmit(packet(17, 900)), 0);
  guest.device.flush();
  assertEquals([guest.used(RX), guest.usedLength(RX, 0), guest.usedLength(RX, 1)], [2, 0, 954]);
  assertEquals(guest.view.getUint16(BUFFERS + 0x1000 - GUEST_BASE + 10, true), 1);
  guest[Symbol.dispose]();
});

/** What becomes of a frame with a header of these bytes. */
function withHeader(features: bigint, header: number[], frame: TxFrame): { flags: number; segmentSize: number } | "bad header" {
  using guest = new RawGuest();
  guest.start(PLAIN | features);
  guest.bytes.set(header, BUFFERS - GUEST_BASE);
  const length = frame.copyTo(guest.bytes, BUFFERS - GUEST_BASE + 12);
  // In three pieces, cut where nobody expects it.
  guest.descriptor(TX, 0, BUFFERS, 5, NEXT, 1);
  guest.descriptor(TX, 1, BUFFERS + 5, 50, NEXT, 2);
  guest.descriptor(TX, 2, BUFFERS + 55, 12 + length - 55, 0);
  guest.offer(TX);
  const keep = new Keep();
  assertEquals(guest.device.receive(keep, 10), 1);
  assertEquals(guest.used(TX), 1, "the guest has its buffer back");
  if (guest.device.statistics().rxBadHeader === 1) return "bad header";
  assertEquals(keep.frames[0].bytes.length, length);
  return { flags: keep.frames[0].flags, segmentSize: keep.frames[0].segmentSize };
}

Deno.test("D2.15 headers from the guest: NEEDS_CSUM, DATA_VALID, TCPV4, UDP_L4, as far as agreed on", () => {
  const sums = bits("NET_CSUM");
  const tso = sums | bits("NET_HOST_TSO4");
  const uso = sums | bits("NET_HOST_USO");
  const partial = { flags: RX_CHECKSUM_PARTIAL, segmentSize: 0 };
  const alone = { flags: 0, segmentSize: 0 };
  const tcp = [1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0];
  const cut = { flags: RX_CHECKSUM_PARTIAL, segmentSize: 1000 };
  assertEquals(withHeader(0n, [], packet(17, 100)), alone);
  assertEquals(withHeader(sums, [1, 0, 0, 0, 0, 0, 34, 0, 6, 0], packet(17, 100, true)), partial);
  assertEquals(withHeader(0n, [1, 0, 0, 0, 0, 0, 34, 0, 6, 0], packet(17, 100, true)), "bad header");
  assertEquals(withHeader(sums, [2], packet(17, 100)), alone, "a guest's word isn't taken for a checksum");
  assertEquals(withHeader(sums, [1, 0, 0, 0, 0, 0, 34, 0, 107, 0], packet(17, 100, true)), "bad header", "outside of the frame");
  assertEquals(withHeader(sums, [1, 0, 0, 0, 0, 0, 255, 255, 255, 255], packet(17, 100, true)), "bad header");
  assertEquals(withHeader(tso, tcp, packet(6, 3000, true)), cut);
  assertEquals(withHeader(tso, [1, 0x81, ...tcp.slice(2)], packet(6, 3000, true)), cut, "with ECN");
  assertEquals(withHeader(sums, tcp, packet(6, 3000, true)), "bad header", "segments were not agreed on");
  assertEquals(withHeader(tso, [0, ...tcp.slice(1)], packet(6, 3000)), "bad header", "segments without NEEDS_CSUM");
  assertEquals(withHeader(tso, [1, 1, 54, 0, 0, 0, 34, 0, 16, 0], packet(6, 3000, true)), "bad header", "segments of no size");
  assertEquals(withHeader(tso, [1, 4, ...tcp.slice(2)], packet(6, 3000, true)), "bad header", "TCPV6 was not agreed on");
  for (const type of [0x80, 2, 3, 6, 0x7f, 0xff]) {
    assertEquals(withHeader(tso | uso, [1, type, ...tcp.slice(2)], packet(6, 3000, true)), "bad header", `gso_type ${type}`);
  }
  const udp = [1, 5, 42, 0, 0xe8, 3, 34, 0, 6, 0];
  assertEquals(withHeader(uso, udp, packet(17, 3000, true)), cut);
  assertEquals(withHeader(tso, udp, packet(17, 3000, true)), "bad header");
});

Deno.test("D2.15 headers to the guest: what it takes stays open, what it doesn't is done here", () => {
  const header = (features: bigint, frame: TxFrame) => {
    using guest = new RawGuest();
    guest.start(PLAIN | features);
    for (let i = 0; i < 4; i++) {
      guest.descriptor(RX, i, BUFFERS + i * 0x2000, 0x2000, WRITE);
      guest.offer(RX, i);
    }
    assertEquals(guest.device.transmit(frame), 0);
    guest.device.flush();
    const lengths = Array.from({ length: guest.used(RX) }, (_, i) => guest.usedLength(RX, i));
    return [[...guest.bytes.subarray(BUFFERS - GUEST_BASE, BUFFERS - GUEST_BASE + 12)], lengths];
  };
  const all = bits("NET_GUEST_CSUM", "NET_GUEST_TSO4", "NET_GUEST_ECN");
  assertEquals(header(all, packet(17, 100)), [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [154]]);
  assertEquals(header(all, packet(17, 100, true)), [[1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 1, 0], [154]]);
  assertEquals(header(all, segments(3000, 1000)), [[1, 1, 54, 0, 0xe8, 3, 34, 0, 16, 0, 1, 0], [3066]]);
  assertEquals(header(bits("NET_GUEST_CSUM"), packet(17, 100, true))[0], [1, 0, 0, 0, 0, 0, 34, 0, 6, 0, 1, 0]);
  assertEquals(header(0n, packet(17, 100, true))[0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0]);
  const cwr = segments(3000, 1000);
  cwr.memory.bytes[cwr.offset + 47] |= 0x80;
  assertEquals(header(all, cwr)[0].slice(0, 2), [1, 0x81]);
  assertEquals(header(bits("NET_GUEST_CSUM", "NET_GUEST_TSO4"), cwr)[1], [1066, 1066, 1066], "ECN wasn't agreed on");
  assertEquals(header(bits("NET_GUEST_CSUM"), segments(3000, 1000)), [[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [1066, 1066, 1066]]);
});

Deno.test("D2.15 segments that were cut and found no room at all come back as EAGAIN", () => {
  using guest = new RawGuest();
  guest.start(PLAIN);
  assertEquals(guest.device.transmit(segments(3000, 1000)), codes.EAGAIN);
  guest.descriptor(RX, 0, BUFFERS, 0x2000, WRITE);
  guest.offer(RX);
  assertEquals(guest.device.transmit(segments(3000, 1000)), 0, "the first one fits, the others are lost as on a wire");
});

Deno.test("D2.15 the driver takes DATA_VALID for a checksum that holds, where it agreed to that", () => {
  for (const [want, flags] of [[DRIVER_FEATURES & ~bits("RING_PACKED"), RX_CHECKSUM_VALID], [PLAIN, 0]] as const) {
    using m = machine("mmio");
    const driver = m.start({ want });
    m.device.transmit(packet(17, 100));
    // The first buffer's header, before the driver looks.
    const view = new DataView(m.bytes.buffer);
    const buffer = view.getUint32(m.device.queueRegisters(RX)!.descriptors - BASE, true);
    m.bytes[buffer - BASE] = 2;
    m.device.flush();
    const keep = new Keep();
    assertEquals([driver.receive(keep, 10), keep.frames[0].flags], [1, flags]);
  }
});
