// Frames of all sizes at random through small queues, both ways, every byte looked at; and what the driver does about a device
// that lies, is reset, or loses its link.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { DRIVER_FEATURES } from "../../../drivers/virtio/net_driver_options.ts";
import { VirtioError } from "../../../drivers/virtio/transport.ts";
import { codes, type Device, type FrameMemory, type FrameSink, ManualClock, NetStack, TxFrame } from "../../../mod.ts";
import { Keep, segment } from "../frames.ts";
import { BASE, bits, type Bus, machine } from "./machine.ts";

function generator(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** One direction: numbered frames whose bytes follow from their number. */
class Lane implements FrameSink {
  sent = 0;
  got = 0;
  refused = 0;
  readonly #lengths: number[] = [];
  readonly #frame = new TxFrame();

  constructor(readonly from: Device, readonly to: Device) {}

  send(length: number): void {
    const frame = this.#frame;
    const { bytes, view } = frame.memory;
    const inline = Math.min(length, 14 + this.sent % 200);
    frame.reset(inline);
    const payload = this.#payload;
    frame.payload = payload;
    frame.payloadOffset1 = this.sent % 100;
    frame.payloadLength1 = (length - inline) >> 1;
    frame.payloadOffset2 = this.sent % 77;
    frame.payloadLength2 = length - inline - frame.payloadLength1;
    for (let i = 0; i < inline; i++) bytes[frame.offset + i] = this.sent + i;
    // Not a tag, and no group address.
    view.setUint16(frame.offset + 12, 0x0800);
    for (const [at, size] of [[frame.payloadOffset1, frame.payloadLength1], [frame.payloadOffset2, frame.payloadLength2]]) {
      if (size > 0) payload.bytes[at] = this.sent;
    }
    const whole = new Uint8Array(length);
    frame.copyTo(whole, 0);
    const code = this.from.transmit(frame);
    if (code < 0) {
      assertEquals(code, codes.EAGAIN);
      this.refused++;
      return;
    }
    this.expected.push(whole);
    this.#lengths.push(length);
    this.sent++;
  }

  readonly expected: Uint8Array[] = [];
  readonly #payload = (() => {
    const frame = new TxFrame();
    frame.memory = new (frame.memory.constructor as new (size: number) => FrameMemory)(70_000);
    for (let i = 0; i < 70_000; i++) frame.memory.bytes[i] = i * 7;
    return frame.memory;
  })();

  frame(memory: FrameMemory, offset: number, length: number): void {
    const expected = this.expected.shift()!;
    assertEquals(length, expected.length, `frame ${this.got}`);
    for (let i = 0; i < length; i++) {
      if (memory.bytes[offset + i] !== expected[i]) throw new Error(`frame ${this.got} of ${length} bytes: byte ${i}`);
    }
    this.got++;
  }
}

function exchange(bus: Bus, want: bigint, queueSize: number, mtu: number, rounds: number): void {
  using m = machine(bus, { queueSize, mtu });
  const driver = m.start({ want, mtu });
  const random = generator(queueSize * 977 + mtu);
  const lanes = [new Lane(driver, m.device), new Lane(m.device, driver)];
  for (const lane of lanes) lane.from.open(() => {});
  const limit = Math.min(mtu + 14, driver.capabilities.rxFrame, 65_000);
  for (let round = 0; round < rounds; round++) {
    for (const lane of lanes) {
      for (let n = random(queueSize + 2); n > 0; n--) lane.send(14 + (random(3) === 0 ? random(60) : random(limit - 14)));
      lane.from.flush!();
    }
    for (const lane of lanes) {
      lane.to.receive(lane, random(2 * queueSize));
      if (random(2) === 0) lane.to.arm();
    }
  }
  for (const lane of lanes) {
    for (let i = 0; i < 4; i++) {
      lane.from.flush!();
      lane.to.receive(lane, 10_000);
      lane.to.flush!();
    }
    assertEquals(lane.got, lane.sent);
    assert(lane.sent > rounds / 4, `${lane.sent}`);
  }
  assertEquals([m.device.fault, driver.fault], [null, null]);
}

Deno.test("D2.14 frames at random through queues of every kind and size", async (t) => {
  const all = DRIVER_FEATURES & ~bits("RING_PACKED", "IN_ORDER");
  const kinds: Record<string, bigint> = {
    "everything": all,
    "no events": all & ~bits("RING_EVENT_IDX"),
    "no tables": all & ~bits("RING_INDIRECT_DESC"),
    "no merging": all & ~bits("NET_MRG_RXBUF"),
    "no merging, no tables": all & ~bits("NET_MRG_RXBUF", "RING_INDIRECT_DESC"),
    "no layout": all & ~bits("ANY_LAYOUT"),
    "no layout, no tables": all & ~bits("ANY_LAYOUT", "RING_INDIRECT_DESC", "NET_MRG_RXBUF"),
    "in order": all | bits("IN_ORDER"),
    "packed": all | bits("RING_PACKED"),
    "packed, in order": DRIVER_FEATURES,
    "packed, no tables": DRIVER_FEATURES & ~bits("RING_INDIRECT_DESC"),
  };
  for (const [name, want] of Object.entries(kinds)) {
    for (const bus of ["mmio", "mmio-legacy", "pci-legacy"] as const) {
      if (bus !== "mmio" && (want & bits("RING_PACKED", "IN_ORDER")) !== 0n) continue;
      await t.step(`${bus}: ${name}`, () => {
        for (const queueSize of [2, 4, 8, 32, 256]) {
          const few = name.includes("no tables") ? Math.min(65_535, (queueSize - 2) * 4096) : 65_535;
          for (const mtu of [1500, few]) {
            if (mtu >= 1500 && (mtu === 1500 || queueSize > 4)) exchange(bus, want, queueSize, mtu, mtu > 1500 ? 40 : 150);
          }
        }
      });
    }
  }
});

function udp(size = 100) {
  return segment({ link: 14, proto: 17, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size }, false);
}

Deno.test("a device that lies to its driver: a fault, no exception, and a restart mends it", () => {
  const SPLIT = bits("VERSION_1", "NET_MAC", "NET_STATUS");
  const lies: Record<string, (used: DataView, at: number) => void> = {
    "an index that jumps": (used, at) => used.setUint16(at + 2, 1000, true),
    "an id out of range": (used, at) => [used.setUint16(at + 2, 1, true), used.setUint32(at + 4, 70_000, true)],
    "more bytes than there are": (used, at) => [used.setUint16(at + 2, 1, true), used.setUint32(at + 8, 1 << 20, true)],
  };
  for (const [name, lie] of Object.entries(lies)) {
    for (const queue of [0, 1]) {
      using m = machine("mmio");
      const driver = m.start({ want: SPLIT });
      let wakes = 0;
      driver.open(() => wakes++);
      driver.tx(new Uint8Array(60));
      lie(new DataView(m.bytes.buffer), m.device.queueRegisters(queue)!.device - BASE);
      if (queue === 0) assertEquals(driver.receive(new Keep(), 10), codes.EIO, name);
      else driver.tx(new Uint8Array(60));
      assert(driver.fault !== null, name);
      assertEquals([driver.receive(new Keep(), 10), driver.transmit(udp()), m.device.status & 128], [codes.EIO, codes.EIO, 128]);
      assertThrows(() => driver.rx(new Uint8Array(2000)), Deno.errors.BadResource);
      driver.restart();
      assertEquals([driver.fault, driver.tx(new Uint8Array(60))], [null, 0]);
      assertEquals(m.device.receive(new Keep(), 10), 1);
      assert(wakes > 0);
    }
  }
});

Deno.test("a stack lives through a fault, a restart, and a cable that is pulled out", async () => {
  using m = machine("pci-msix");
  const clock = new ManualClock();
  const driver = m.start({ want: DRIVER_FEATURES & ~bits("RING_PACKED") });
  using host = new NetStack(m.device, { address: "10.0.2.2/24", clock });
  using guest = new NetStack(driver, { address: "10.0.2.15/24", clock });
  await clock.run(guest.ping("10.0.2.2"));
  using listener = host.listen({ port: 7 });
  const [far, near] = await clock.run(Promise.all([listener.accept(), guest.connect({ hostname: "10.0.2.2", port: 7 })]));
  const buffer = new Uint8Array(100);
  const say = async (text: string) => {
    await clock.run(near.write(new TextEncoder().encode(text)));
    const count = await clock.run(far.read(buffer));
    assertEquals(new TextDecoder().decode(buffer.subarray(0, count!)), text);
  };
  await say("before");
  // The driver writes nonsense where the device reads.
  new DataView(m.bytes.buffer).setUint16(m.device.queueRegisters(1)!.driver - BASE + 2, 0xeeee, true);
  m.transport.notify(1);
  await clock.advanceAsync(100);
  assertEquals([m.device.fault?.includes("jumped"), driver.fault], [true, "the device needs a reset"]);
  near.write(new TextEncoder().encode("lost?"));
  await clock.advanceAsync(1000);
  driver.restart();
  const count = await clock.run(far.read(buffer));
  assertEquals(new TextDecoder().decode(buffer.subarray(0, count!)), "lost?");
  m.device.setLink(false);
  assertEquals([driver.linkUp, driver.transmit(udp())], [false, codes.ENETDOWN]);
  near.write(new TextEncoder().encode("later"));
  await clock.advanceAsync(3000);
  m.device.setLink(true);
  const more = await clock.run(far.read(buffer));
  assertEquals(new TextDecoder().decode(buffer.subarray(0, more!)), "later");
  await say("after");
  near.close();
  far.close();
});

Deno.test("what a driver is told must be possible, and memory that is too small is said to be", () => {
  using m = machine("mmio");
  const { memory } = m;
  for (const mtu of [67, 65_536, 1.5]) assertThrows(() => m.start({ mtu }), RangeError, "mtu");
  for (const queueSize of [0, 40_000, 2.5]) assertThrows(() => m.start({ queueSize }), RangeError, "queue size");
  assertThrows(() => m.start({ mac: "nonsense" }), Error);
  assertThrows(() => m.start({ want: 3 as unknown as bigint }), TypeError, "want");
  assertThrows(() => m.start({ compatibility: "all" as "none" }), TypeError, "compatibility");
  for (const area of [{ address: 0, length: 4096 }, { address: BASE, length: 0 }, { address: BASE, length: 1 << 30 }]) {
    assertThrows(() => m.start({ area }), RangeError);
  }
  assertEquals(m.device.statistics().resets, 0, "nothing was touched");
  for (const length of [100, 10_000, 60_000, 120_000]) {
    assertThrows(() => m.start({ memory, area: { address: BASE, length } }), RangeError, "too small");
    assertEquals(m.device.status & 128, 128);
  }
  const driver = m.start({ area: { address: BASE, length: 1 << 20 } });
  assertEquals(driver.tx(new Uint8Array(60)), 0);
  driver.close();
  driver.close();
  assertEquals([m.device.status, driver.tx(new Uint8Array(60)), driver.receive(new Keep(), 1)], [0, codes.ENODEV, codes.ENODEV]);
  assertThrows(() => driver.open(() => {}), Deno.errors.BadResource);
  assertThrows(() => driver.restart(), Deno.errors.BadResource);
  assert(new VirtioError("NO_RESET", "x") instanceof Error);
});
