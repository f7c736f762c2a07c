// Section D2, rows 14 and 15: what the device does with rings, headers and commands, seen from a guest's memory.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as control from "../../../drivers/virtio/control_queue.ts";
import { DRIVER_FEATURES } from "../../../drivers/virtio/net_driver_options.ts";
import { FILTER_MACS_MAX } from "../../../drivers/virtio/receive_filter.ts";
import { codes, RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID, type TxFrame } from "../../../mod.ts";
import { Keep, segment } from "../frames.ts";
import { BASE, bits, machine } from "./machine.ts";
import { BUFFERS, GUEST_BASE, NEXT, RawGuest, WRITE } from "./raw_guest.ts";

const PLAIN = bits("VERSION_1", "NET_MAC");
const TX = 1;
const RX = 0;
const CONTROL = 2;

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

/** A machine whose driver has commands for everything. */
function commander(want = ~bits("RING_PACKED")) {
  const m = machine("mmio", { guestMac: "02:00:00:00:00:15" });
  const driver = m.start({ want });
  /** How many of these frames get through. */
  const passes = (...destinations: number[][]) => {
    for (const destination of destinations) {
      const frame = packet(17, 100);
      frame.memory.bytes.set(destination, frame.offset);
      assertEquals(m.device.transmit(frame), 0);
    }
    m.device.flush();
    return driver.receive(new Keep(), 100);
  };
  const command = (kind: number, number: number, ...data: number[]) =>
    driver.control!.command(kind, number, new Uint8Array(data));
  return { m, driver, passes, command };
}

const OWN = [2, 0, 0, 0, 0, 0x15];
const OTHER = [2, 0, 0, 0, 0, 0x99];
const GROUP = [1, 0, 0x5e, 0, 0, 1];
const BROADCAST = Array(6).fill(255);

Deno.test("D2.15 control queue: modes of receiving, address, and tables of addresses", async () => {
  const { m, passes, command } = commander();
  using _ = m;
  assertEquals(passes(OWN, OTHER, GROUP, BROADCAST), 4, "promiscuous before it is told otherwise");
  assert(await command(control.CONTROL_RX, 0, 0));
  assertEquals([passes(OWN), passes(OTHER), passes(GROUP), passes(BROADCAST)], [1, 0, 0, 1]);
  for (
    const [mode, on, off] of [[0, [OTHER, GROUP], []], [1, [GROUP], [OTHER]], [2, [OTHER], [GROUP]]] as [
      number,
      number[][],
      number[][],
    ][]
  ) {
    assert(await command(control.CONTROL_RX, mode, 1));
    assertEquals([passes(...on), passes(...off)], [on.length, 0]);
    assert(await command(control.CONTROL_RX, mode, 0));
  }
  for (const [mode, destination] of [[4, OWN], [5, BROADCAST]] as const) {
    assert(await command(control.CONTROL_RX, mode, 1));
    assertEquals(passes(destination), 0);
    assert(await command(control.CONTROL_RX, mode, 0));
  }
  assert(await command(control.CONTROL_MAC, 0, 1, 0, 0, 0, ...OTHER, 1, 0, 0, 0, ...GROUP));
  assertEquals([passes(OTHER), passes(GROUP)], [1, 1]);
  assert(await command(control.CONTROL_RX, 3, 1));
  assertEquals(passes(GROUP), 0, "no multicast at all");
  assert(await command(control.CONTROL_MAC, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  assertEquals(passes(OTHER), 0);
  // More than can be kept: all of that kind.
  const many = FILTER_MACS_MAX + 1;
  assert(await command(control.CONTROL_MAC, 0, many, 0, 0, 0, ...Array(6 * many).fill(2), 0, 0, 0, 0));
  assertEquals(passes(OTHER), 1);
  assert(await command(control.CONTROL_MAC, 1, 2, 9, 9, 9, 9, 9));
  assertEquals([...m.device.guestMac], [2, 9, 9, 9, 9, 9]);
  assertEquals(m.device.statistics().controlRefused, 0);
  for (
    const [kind, number, ...data] of [
      [control.CONTROL_RX, 0],
      [control.CONTROL_RX, 0, 2],
      [control.CONTROL_RX, 0, 1, 1],
      [control.CONTROL_RX, 6, 1],
      [control.CONTROL_MAC, 0],
      [control.CONTROL_MAC, 0, 0, 0, 0, 0],
      [control.CONTROL_MAC, 0, 255, 255, 255, 255, 0, 0, 0, 0],
      [control.CONTROL_MAC, 0, 0, 0, 0, 0, 1, 0, 0, 0],
      [control.CONTROL_MAC, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
      [control.CONTROL_MAC, 1, 1, 2, 3],
      [control.CONTROL_MAC, 2],
      [99, 0],
    ]
  ) assertEquals(await command(kind, number, ...data), false, `${kind} ${number} ${data}`);
  assertEquals([m.device.statistics().controlRefused, m.device.fault], [12, null]);
  // After a reset everything comes in again.
  m.driver.restart();
  assertEquals([[...m.device.guestMac], passes(OTHER, GROUP)], [OWN, 2]);
});

Deno.test("D2.15 control queue: guest offloads are turned off and on", async () => {
  const { m, driver, command } = commander();
  using _ = m;
  const flags = () => {
    m.device.transmit(packet(17, 100, true));
    m.device.flush();
    const keep = new Keep();
    driver.receive(keep, 10);
    return keep.frames[0].flags;
  };
  assertEquals(flags(), RX_CHECKSUM_PARTIAL);
  assert(await command(control.CONTROL_GUEST_OFFLOADS, 0, 0, 0, 0, 0, 0, 0, 0, 0));
  assertEquals(flags(), 0);
  assert(await command(control.CONTROL_GUEST_OFFLOADS, 0, 2, 0, 0, 0, 0, 0, 0, 0));
  assertEquals(flags(), RX_CHECKSUM_PARTIAL);
  // TSO4 without CSUM, what was not agreed on, what is no offload, and too few bytes.
  for (const data of [[128, 0, 0, 0, 0, 0, 0, 0], [2, 1, 0, 0, 0, 0, 0, 0], [3, 0, 0, 0, 0, 0, 0, 0], [2]]) {
    assertEquals(await command(control.CONTROL_GUEST_OFFLOADS, 0, ...data), false);
  }
});

Deno.test("D2.15 control queue: one command at a time; and none where it wasn't agreed on", async () => {
  const { m, driver, command } = commander(bits("NET_CTRL_VQ"));
  using _ = m;
  for (const kind of [0, 1, 2, 3, 4, 5]) assertEquals(await command(kind, 0, 1), false, "the class wasn't agreed on");
  assertThrows(() => driver.control!.command(0, 0, new Uint8Array(4000)), RangeError);
  const notify = m.transport.notify;
  m.transport.notify = () => {};
  const lost = command(0, 0, 1);
  assertThrows(() => command(0, 0, 1), Deno.errors.Busy);
  driver.close();
  await assertRejects(() => lost, Deno.errors.Interrupted);
  m.transport.notify = notify;
});

/** Sends a command by hand and gives the answer. */
function rawCommand(guest: RawGuest, ...bytes: number[]): number {
  const entry = guest.used(CONTROL);
  guest.bytes.set(bytes, BUFFERS - GUEST_BASE);
  guest.bytes[BUFFERS - GUEST_BASE + 0x1000] = 0xee;
  guest.descriptor(CONTROL, 0, BUFFERS, bytes.length, NEXT, 1);
  guest.descriptor(CONTROL, 1, BUFFERS + 0x1000, 1, WRITE);
  guest.offer(CONTROL);
  assertEquals([guest.used(CONTROL), guest.usedLength(CONTROL, entry)], [entry + 1, 1]);
  return guest.bytes[BUFFERS - GUEST_BASE + 0x1000];
}

Deno.test("D2.15 control queue: VLANs come in once they are named", () => {
  using guest = new RawGuest();
  guest.start(PLAIN | bits("NET_CTRL_VQ", "NET_CTRL_VLAN"), 8, 3);
  const passes = (id: number) => {
    const before = guest.device.statistics().txFiltered;
    const frame = packet(17, 100);
    const { bytes } = frame.memory;
    bytes.copyWithin(frame.offset + 16, frame.offset + 12, frame.offset + frame.length);
    bytes.set([0x81, 0, 0xe0 | id >> 8, id & 255], frame.offset + 12);
    frame.length += 4;
    guest.device.transmit(frame);
    return guest.device.statistics().txFiltered === before;
  };
  assertEquals([passes(5), passes(4095)], [false, false]);
  assertEquals([rawCommand(guest, 2, 0, 5, 0), rawCommand(guest, 2, 0, 255, 15)], [0, 0]);
  assertEquals([passes(5), passes(6), passes(4095)], [true, false, true]);
  assertEquals([rawCommand(guest, 2, 1, 5, 0), passes(5)], [0, false]);
  assertEquals([rawCommand(guest, 2, 0, 0, 16), rawCommand(guest, 2, 2, 5, 0), rawCommand(guest, 2, 0, 5)], [1, 1, 1]);
  guest.start(PLAIN | bits("NET_CTRL_VQ"), 8, 3);
  assertEquals(passes(6), true, "without the feature all come in");
});

Deno.test("D2.15 control queue: the guest is asked to announce itself, and tells that it did", () => {
  using guest = new RawGuest();
  const status = () => guest.registers.read(0x106, 2);
  assertEquals(guest.device.announce(), false, "nobody is there");
  guest.start(PLAIN | bits("NET_CTRL_VQ", "NET_STATUS", "NET_GUEST_ANNOUNCE"), 8, 3);
  assertEquals([guest.device.announce(), status(), guest.registers.read(0x60, 4)], [true, 3, 2]);
  assertEquals([rawCommand(guest, 3, 1), status()], [1, 3]);
  assertEquals([rawCommand(guest, 3, 0), status()], [0, 1]);
});

Deno.test("D2.15 control queue: queue pairs; a flow's answers take the pair that it came by", () => {
  using guest = new RawGuest({ pairs: 2 });
  guest.start(PLAIN | bits("NET_CTRL_VQ", "NET_MQ"), 8, 5);
  const command = (pairs: number) => {
    guest.bytes.set([4, 0, pairs & 255, pairs >> 8], BUFFERS - GUEST_BASE);
    guest.descriptor(4, 0, BUFFERS, 4, NEXT, 1);
    guest.descriptor(4, 1, BUFFERS + 0x1000, 1, WRITE);
    guest.offer(4);
    return guest.bytes[BUFFERS - GUEST_BASE + 0x1000];
  };
  const send = (queue: number) => {
    packet(17, 100).copyTo(guest.bytes, BUFFERS - GUEST_BASE + 12);
    guest.bytes.fill(0, BUFFERS - GUEST_BASE, BUFFERS - GUEST_BASE + 12);
    guest.descriptor(queue, 0, BUFFERS, 154, 0);
    guest.offer(queue);
    return guest.device.receive(new Keep(), 10);
  };
  for (const queue of [0, 2]) {
    guest.descriptor(queue, 0, BUFFERS + 0x2000 * (queue + 1), 0x2000, WRITE);
    guest.offer(queue);
  }
  assertEquals([send(3), command(0), command(3)], [0, 1, 1], "one pair is in use at first");
  assertEquals([command(2), guest.device.receive(new Keep(), 10)], [0, 1]);
  guest.device.transmit(packet(17, 100));
  guest.device.flush();
  assertEquals([guest.used(0), guest.used(2)], [0, 1]);
});

Deno.test("D2.15 control queue: a chain that is no command at all is a fault", () => {
  for (const [flags, size, says] of [[0, 4, "answer"], [WRITE, 4, "without class"], [0, 1, "without class"]] as const) {
    using guest = new RawGuest();
    guest.start(PLAIN | bits("NET_CTRL_VQ"), 8, 3);
    guest.descriptor(CONTROL, 0, BUFFERS, size, flags);
    guest.offer(CONTROL);
    assert(guest.device.fault?.includes(says), `${guest.device.fault}`);
  }
});
