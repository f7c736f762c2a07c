// D2.16: what a guest may do wrong, thing by thing and at random. The device needs a reset and says why, and nothing else happens.
import { assert, assertEquals } from "@std/assert";
import { MMIO } from "../../../drivers/virtio/register_file.ts";
import { codes } from "../../../mod.ts";
import { Keep, segment } from "../frames.ts";
import { bits } from "./machine.ts";
import { BUFFERS, GUEST_BASE, GUEST_SIZE, INDIRECT, NEXT, QUEUE_STEP, RawGuest, WRITE } from "./raw_guest.ts";

const SPLIT = bits("VERSION_1", "NET_MAC");
const TABLES = bits("VERSION_1", "NET_MAC", "RING_INDIRECT_DESC");
const PACKED = bits("VERSION_1", "NET_MAC", "RING_PACKED");
const PACKED_TABLES = bits("VERSION_1", "NET_MAC", "RING_PACKED", "RING_INDIRECT_DESC");
const TX = 1;
const RX = 0;

function udp() {
  return segment({ link: 14, proto: 17, source: [10, 0, 2, 2], destination: [10, 0, 2, 15], ports: [1, 2], size: 100 }, false);
}

/** What the guest does, by what the device is to say. */
interface Case {
  readonly name: string;
  readonly says: string;
  readonly features: bigint;
  readonly queue: number;
  readonly prepare: (guest: RawGuest) => void;
}

const OUTSIDE: [string, bigint, number][] = [
  ["at 0", 0n, 100],
  ["just before the memory", BigInt(GUEST_BASE) - 1n, 100],
  ["over its end", BigInt(GUEST_BASE + GUEST_SIZE - 99), 100],
  ["far behind", 1n << 63n, 100],
  ["at the end of all addresses", (1n << 64n) - 1n, 100],
  ["of 4 GiB", BigInt(BUFFERS), 0xffff_ffff],
];

function split(name: string, says: string, prepare: Case["prepare"], features = SPLIT, queue = TX): Case {
  return { name: `split: ${name}`, says, features, queue, prepare };
}

function packed(name: string, says: string, prepare: Case["prepare"], features = PACKED, queue = TX): Case {
  return { name: `packed: ${name}`, says, features, queue, prepare };
}

const CASES: Case[] = [
  split("a descriptor that is its own next", "loop", (g) => g.descriptor(TX, 0, BUFFERS, 100, NEXT, 0)),
  split("a ring of two", "loop", (g) => {
    g.descriptor(TX, 0, BUFFERS, 100, NEXT, 1);
    g.descriptor(TX, 1, BUFFERS, 100, NEXT, 0);
  }),
  split("a next out of range", "descriptor 8 of 8", (g) => g.descriptor(TX, 0, BUFFERS, 100, NEXT, 8)),
  split("no bytes", "has no bytes", (g) => g.descriptor(TX, 0, BUFFERS, 0, 0)),
  split("to be written, in the transmit queue", "to be written", (g) => g.descriptor(TX, 0, BUFFERS, 100, WRITE)),
  split("to be read, in the receive queue", "to be read", (g) => g.descriptor(RX, 0, BUFFERS, 2000, 0), SPLIT, RX),
  split("to be read behind one to be written", "to read after one to write", (g) => {
    g.descriptor(TX, 0, BUFFERS, 100, WRITE | NEXT, 1);
    g.descriptor(TX, 1, BUFFERS, 100, 0);
  }),
  split("a table that wasn't agreed on", "where none may be", (g) => g.descriptor(TX, 0, BUFFERS, 32, INDIRECT)),
  split("a table in a table", "where none may be", (g) => {
    g.descriptor(TX, 0, BUFFERS, 32, INDIRECT);
    g.put(BUFFERS, BigInt(BUFFERS), 32, INDIRECT, 0);
  }, TABLES),
  split("half a descriptor in a table", "wrong indirect table", (g) => g.descriptor(TX, 0, BUFFERS, 24, INDIRECT), TABLES),
  split("a table that goes on", "wrong indirect table", (g) => g.descriptor(TX, 0, BUFFERS, 32, INDIRECT | NEXT, 1), TABLES),
  split("a loop in a table", "loop", (g) => {
    g.descriptor(TX, 0, BUFFERS, 32, INDIRECT);
    g.put(BUFFERS, BigInt(BUFFERS), 100, NEXT, 1);
    g.put(BUFFERS + 16, BigInt(BUFFERS), 100, NEXT, 0);
  }, TABLES),
  split("an endless table", "not in shared memory", (g) => g.descriptor(TX, 0, BUFFERS, 0xffff_fff0, INDIRECT), TABLES),
  split("an available index that jumps", "jumped by 9", (g) => g.added[TX] = 8),
  ...OUTSIDE.map(([name, at, length]) =>
    split(`a buffer ${name}`, "not in shared memory", (g) => g.descriptor(TX, 0, at, length, 0))
  ),
  ...OUTSIDE.map(([name, at, length]) =>
    split(`a receive buffer ${name}`, "not in shared memory", (g) => g.descriptor(RX, 0, at, length, WRITE), SPLIT, RX)
  ),
  packed("no bytes", "has no bytes", (g) => g.descriptor(TX, 0, BUFFERS, 0, 0)),
  packed("a chain longer than the ring", "longer than the ring", (g) => {
    for (let i = 0; i < 8; i++) g.descriptor(TX, i, BUFFERS, 100, NEXT);
  }),
  packed("to be written, in the transmit queue", "to be written", (g) => g.descriptor(TX, 0, BUFFERS, 100, WRITE)),
  packed("to be read, in the receive queue", "to be read", (g) => g.descriptor(RX, 0, BUFFERS, 2000, 0), PACKED, RX),
  packed("to be read behind one to be written", "to read after one to write", (g) => {
    g.descriptor(TX, 0, BUFFERS, 100, WRITE | NEXT);
    g.descriptor(TX, 1, BUFFERS, 100, 0);
  }),
  packed("a table that wasn't agreed on", "where none may be", (g) => g.descriptor(TX, 0, BUFFERS, 32, INDIRECT)),
  packed("a table in a table", "inside another", (g) => {
    g.descriptor(TX, 0, BUFFERS, 32, INDIRECT);
    g.put(BUFFERS, BigInt(BUFFERS), 32, INDIRECT, 0);
  }, PACKED_TABLES),
  packed(
    "half a descriptor in a table",
    "wrong indirect table",
    (g) => g.descriptor(TX, 0, BUFFERS, 24, INDIRECT),
    PACKED_TABLES,
  ),
  packed("a table of nothing", "wrong indirect table", (g) => g.descriptor(TX, 0, BUFFERS, 0, INDIRECT), PACKED_TABLES),
  packed("a table of a million", "too long a chain", (g) => {
    g.descriptor(TX, 0, BUFFERS, 0x8_0000, INDIRECT);
    for (let i = 0; i < 0x8000; i++) g.put(BUFFERS + 16 * i, BigInt(BUFFERS), 1, 0, 0);
  }, PACKED_TABLES),
  ...OUTSIDE.map(([name, at, length]) =>
    packed(`a buffer ${name}`, "not in shared memory", (g) => g.descriptor(TX, 0, at, length, 0))
  ),
  ...OUTSIDE.map(([name, at, length]) =>
    packed(`a receive buffer ${name}`, "not in shared memory", (g) => g.descriptor(RX, 0, at, length, WRITE), PACKED, RX)
  ),
];

Deno.test("D2.16 a malformed chain: DEVICE_NEEDS_RESET, a reason, no frame, nothing outside; and a reset mends it", async (t) => {
  for (const { name, says, features, queue, prepare } of CASES) {
    await t.step(name, () => {
      using guest = new RawGuest();
      let wakes = 0;
      guest.device.open(() => wakes++);
      guest.start(features);
      prepare(guest);
      guest.offer(queue);
      const keep = new Keep();
      if (queue === TX) guest.device.receive(keep, 10);
      else assertEquals(guest.device.transmit(udp()), codes.ENETDOWN);
      assert(guest.device.fault?.includes(says), `${guest.device.fault}`);
      assertEquals(guest.registers.read(MMIO.STATUS, 4), 64 | 15);
      assertEquals([guest.registers.read(MMIO.INTERRUPT_STATUS, 4), guest.lines], [2, 1], "the driver is told");
      assertEquals([keep.frames.length, guest.device.statistics().faults, guest.fenced], [0, 1, true]);
      // Nothing helps but a reset.
      guest.write(MMIO.STATUS, 15);
      guest.write(MMIO.QUEUE_NOTIFY, TX);
      assertEquals([guest.device.receive(keep, 10), guest.device.transmit(udp())], [0, codes.ENETDOWN]);
      guest.start(features);
      assertEquals([guest.device.fault, guest.registers.read(MMIO.STATUS, 4)], [null, 15]);
      guest.descriptor(TX, 0, BUFFERS, 12 + 60, 0);
      guest.offer(TX);
      assertEquals([guest.device.receive(keep, 10), keep.frames[0].bytes.length], [1, 60]);
      assert(wakes > 0);
    });
  }
});

Deno.test("D2.16 a queue that lies outside, isn't aligned, or has an impossible size", () => {
  for (
    const [says, features, size, at] of [
      ["not in shared memory", SPLIT, 8, GUEST_BASE - QUEUE_STEP],
      ["not in shared memory", SPLIT, 8, GUEST_BASE + GUEST_SIZE - 16],
      ["not in shared memory", SPLIT, 8, 2 ** 52],
      ["not aligned", SPLIT, 8, GUEST_BASE + 8],
      ["not aligned", PACKED, 8, GUEST_BASE + 2],
      ["power of two", SPLIT, 6, GUEST_BASE],
      ["queue size 0", SPLIT, 0, GUEST_BASE],
      ["queue size 0", PACKED, 0, GUEST_BASE],
    ] as const
  ) {
    using guest = new RawGuest();
    guest.negotiate(features);
    guest.queue(0, 8);
    guest.queue(1, size, at);
    guest.run();
    assert(guest.device.fault?.includes(says), `${guest.device.fault}`);
    assertEquals(guest.registers.read(MMIO.STATUS, 4) & 64, 64);
  }
  using guest = new RawGuest();
  guest.negotiate(PACKED);
  guest.queue(1, 5);
  guest.queue(0, 3);
  guest.run();
  assertEquals([guest.device.fault, guest.device.running], [null, true], "packed queues may have any size");
});

Deno.test("D2.16 a queue larger than there is, or changed while it is in use", () => {
  using guest = new RawGuest();
  guest.negotiate(SPLIT);
  const registers = guest.device.queueRegisters(0)!;
  guest.write(MMIO.QUEUE_SEL, 0);
  guest.write(MMIO.QUEUE_NUM, 32);
  assertEquals(registers.size, 16);
  guest.queue(0, 8);
  guest.queue(0, 4, GUEST_BASE + 0x8000);
  assertEquals([registers.size, registers.descriptors], [8, GUEST_BASE]);
  guest.write(MMIO.QUEUE_SEL, 77);
  guest.write(MMIO.QUEUE_NUM, 8);
  guest.write(MMIO.QUEUE_READY, 1);
  assertEquals([guest.registers.read(MMIO.QUEUE_NUM_MAX, 4), guest.registers.read(MMIO.QUEUE_READY, 4)], [0, 0]);
});

Deno.test("D2.16 features and status that make no sense", () => {
  using guest = new RawGuest();
  assertEquals(guest.negotiate(SPLIT | 1n << 60n), false);
  assert(guest.device.refusal?.includes("not offered"));
  assertEquals(guest.negotiate(bits("NET_MAC")), false, "without VERSION_1");
  assertEquals(guest.negotiate(SPLIT), true);
  guest.write(MMIO.DRIVER_FEATURES, 0xffff_ffff);
  assertEquals(guest.device.chosen, SPLIT, "settled is settled");
  using hasty = new RawGuest();
  hasty.write(MMIO.STATUS, 7);
  assert(hasty.device.fault?.includes("before the features"));
  hasty.write(MMIO.STATUS, 64);
  assertEquals(hasty.registers.read(MMIO.STATUS, 4) & 64, 64);
  hasty.write(MMIO.STATUS, 0);
  hasty.write(MMIO.STATUS, 64);
  assertEquals(hasty.registers.read(MMIO.STATUS, 4), 0, "a driver can't set it");
});

Deno.test("D2.16 a guest that writes at random: nothing throws, nothing hangs, nothing outside is touched", () => {
  let state = 0x2545f491;
  const random = (below: number) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const offered = bits(
    "VERSION_1",
    "NET_MAC",
    "NET_MRG_RXBUF",
    "NET_CTRL_VQ",
    "NET_CTRL_RX",
    "NET_CSUM",
    "NET_HOST_TSO4",
    "NET_GUEST_CSUM",
  );
  using guest = new RawGuest();
  guest.device.open(() => {});
  const keep = new Keep();
  let faults = 0;
  let frames = 0;
  for (let round = 0; round < 4000; round++) {
    const extra = [
      0n,
      bits("RING_PACKED"),
      bits("RING_INDIRECT_DESC"),
      bits("RING_EVENT_IDX", "RING_PACKED", "RING_INDIRECT_DESC"),
    ];
    guest.start(offered | extra[random(4)], 8, 3);
    for (let i = 0; i < 24 && !guest.packed; i++) guest.descriptor(i % 3, i >> 2 & 7, BUFFERS, 100, i % 3 === RX ? WRITE : 0);
    for (let step = 0; step < 20; step++) {
      const queue = random(3);
      const index = random(8);
      // Mostly plausible, so that the nonsense lies deeper.
      const address = random(40) === 0 ? random(2 ** 32) : BUFFERS + random(0x1_0000);
      const flags = random(30) === 0 ? random(0x1_0000) : queue === RX ? WRITE : random(4) === 0 ? NEXT : 0;
      guest.descriptor(queue, index, address, random(40) === 0 ? random(2 ** 32) : 12 + random(2000), flags, (index + 1) % 8);
      if (random(10) === 0) guest.bytes[random(3 * QUEUE_STEP)] = random(256);
      if (random(20) === 0) guest.registers.write(random(0x48) * 4, [1, 2, 4][random(3)], random(2 ** 32));
      guest.registers.read(random(0x60) * 4, [1, 2, 4][random(3)]);
      guest.offer(queue, random(40) === 0 ? random(0x1_0000) : index);
      guest.device.receive(keep, 16);
      guest.device.transmit(udp());
      guest.device.flush();
      guest.device.arm();
    }
    if (guest.device.fault !== null) faults++;
    frames += keep.frames.length;
    for (const { bytes } of keep.frames) assert(bytes.length >= 14 && bytes.length <= 65_557);
    keep.frames.length = 0;
  }
  assert(guest.fenced);
  assert(faults > 1000 && frames > 1000, `${faults} faults, ${frames} frames`);
});
