// D2.15, the control queue: what a guest may ask of its device, and what it is refused.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import * as control from "../../../drivers/virtio/control_queue.ts";
import { FILTER_MACS_MAX } from "../../../drivers/virtio/receive_filter.ts";
import { RX_CHECKSUM_PARTIAL, type TxFrame } from "../../../mod.ts";
import { Keep, segment } from "../frames.ts";
import { bits, machine } from "./machine.ts";
import { BUFFERS, DEVICE_PART, GUEST_BASE, NEXT, RawGuest, WRITE } from "./raw_guest.ts";

const PLAIN = bits("VERSION_1", "NET_MAC");
const CONTROL = 2;

function packet(proto: number, size: number, partial = false): TxFrame {
  return segment({ link: 14, proto, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size }, partial);
}

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

Deno.test("D2.15 control queue: with ECN turned off a guest gets no segment that is marked for congestion", () => {
  using guest = new RawGuest();
  const offloads = bits("NET_GUEST_CSUM", "NET_GUEST_TSO4", "NET_GUEST_ECN");
  guest.start(PLAIN | offloads | bits("NET_CTRL_VQ", "NET_CTRL_GUEST_OFFLOADS"), 8, 3);
  const at = BUFFERS - GUEST_BASE;
  const set = (bitsOn: bigint) => {
    guest.view.setUint16(at, control.CONTROL_GUEST_OFFLOADS, true);
    guest.view.setBigUint64(at + 2, bitsOn, true);
    guest.descriptor(CONTROL, 0, BUFFERS, 10, NEXT, 1);
    guest.descriptor(CONTROL, 1, BUFFERS + 64, 1, WRITE);
    guest.offer(CONTROL);
    assertEquals(guest.view.getUint8(at + 64), control.CONTROL_OK);
  };
  /** A segment with CWR: its gso_type, and how many frames it became. */
  const sent = () => {
    const used = guest.used(0);
    for (let i = 0; i < 4; i++) {
      guest.descriptor(0, i, BUFFERS + 0x1000 * (i + 1), 0x1000, WRITE);
      guest.offer(0, i);
    }
    const frame = packet(6, 3000, true);
    frame.segmentSize = 1000;
    frame.segmentHeaderLength = 54;
    frame.memory.bytes[frame.offset + 47] |= 0x80;
    assertEquals(guest.device.transmit(frame), 0);
    guest.device.flush();
    const chain = guest.view.getUint32(DEVICE_PART + 4 + 8 * (used % 8), true);
    return [guest.view.getUint8(at + 0x1000 * (chain + 1) + 1), guest.used(0) - used];
  };
  assertEquals(sent(), [0x81, 1]);
  set(offloads & ~bits("NET_GUEST_ECN"));
  assertEquals(sent(), [0, 3]);
  set(offloads);
  assertEquals(sent(), [0x81, 1]);
  assertEquals(guest.device.fault, null);
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
