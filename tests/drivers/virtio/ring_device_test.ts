/** The host's side of virtio-net, and guests that mean no good. */
import { assert, assertEquals } from "@std/assert";
import { FEATURES } from "../../../drivers/virtio/features.ts";
import { FRAME_MAX, MERGED_MAX, type RingDevice } from "../../../drivers/virtio/ring_device.ts";
import { EAGAIN, EMSGSIZE, ENETDOWN } from "../../../stack/codes.ts";
import { RX_CHECKSUM_PARTIAL, TxFrame } from "../../../stack/device.ts";
import { Keep, segment } from "../frames.ts";
import { Guest, TestDevice } from "./ring_guest.ts";
import { mutate, numbers } from "./ring_rig.ts";

const MERGEABLE = FEATURES.VERSION_1 | FEATURES.NET_MRG_RXBUF;
const OFFLOAD = FEATURES.NET_CSUM | FEATURES.NET_GUEST_CSUM | FEATURES.NET_HOST_TSO4 | FEATURES.NET_GUEST_TSO4;
const KINDS = [false, true].flatMap((packed) =>
  [false, true].map((eventIndex) => ({ packed, eventIndex, size: 16, indirect: true }))
);
const nameOf = (kind: { packed: boolean; eventIndex: boolean }) =>
  `${kind.packed ? "packed" : "split"}${kind.eventIndex ? ", event index" : ""}`;

function tcp(size: number, segmentSize = 0): TxFrame {
  const frame = segment(
    { link: 14, proto: 6, source: [10, 0, 0, 1], destination: [10, 0, 0, 2], ports: [1, 2], size },
    segmentSize > 0,
  );
  frame.segmentSize = segmentSize;
  frame.segmentHeaderLength = segmentSize > 0 ? 54 : 0;
  return frame;
}

function flat(frame: TxFrame): Uint8Array {
  const bytes = new Uint8Array(frame.size);
  frame.copyTo(bytes, 0);
  return bytes;
}

/** A virtio header and a frame. */
function packet(header: number[], length: number, headerSize = 12): Uint8Array {
  const bytes = new Uint8Array(headerSize + Math.max(0, length)).map((_, i) => i * 31);
  bytes.fill(0, 0, headerSize).set(header);
  return bytes;
}

for (const kind of KINDS) {
  Deno.test(`virtio device: ${nameOf(kind)}: too few buffers make no wake, and the one that was missing makes one`, () => {
    const guest = new Guest(kind);
    const device = new TestDevice();
    device.start(guest, MERGEABLE | OFFLOAD);
    const frame = tcp(2500, 1460);
    for (let round = 0; round < 50; round++) {
      guest.offer([1000]);
      guest.offer([1000]);
      device.wakes = 0;
      assertEquals(device.transmit(frame), EAGAIN);
      assertEquals(device.transmit(frame), EAGAIN);
      assertEquals(device.wakes, 0, "it would be tried again at once, and again");
      // Behind the two that are too few; the guest is asked to tell.
      assertEquals(guest.offer([1000]), true);
      device.kick(0);
      assertEquals(device.wakes, 1);
      assertEquals(device.transmit(frame), 0);
      device.flush();
      const got = guest.frame()!;
      assertEquals([got.length, got[10]], [12 + frame.size, 3]);
      assertEquals(got.subarray(12), flat(frame));
      device.kick(0);
      assertEquals(device.wakes, 1, "buffers that nobody waits for are no news");
    }
    // Kicks that nobody wants cost the guest a way out every time.
    if (!kind.eventIndex) assertEquals([guest.offer([1000]), guest.offer([1000])], [false, false]);
  });

  Deno.test(`virtio device: ${nameOf(kind)}: headers at random: what comes up was agreed on, and is what was sent`, () => {
    for (
      const [features, headerSize] of [[MERGEABLE | OFFLOAD, 12], [FEATURES.VERSION_1, 12], [
        FEATURES.NET_CSUM | FEATURES.NET_HOST_TSO6,
        10,
      ]] as const
    ) {
      const guest = new Guest({ ...kind, shared: true });
      const device = new TestDevice();
      device.start(guest, features);
      const random = numbers(headerSize + Number(features & 0xffffn));
      let sent = 0;
      for (let round = 0; round < 4000; round++) {
        const length = random(50) === 0 ? FRAME_MAX + random(5) - 2 : random(100) - headerSize;
        const header = Array.from({ length: 10 }, () => [0, 1, 2, 4, 0x80, 0x81, 20, random(256)][random(8)]);
        const bytes = packet(header, length, headerSize).subarray(0, Math.max(1, headerSize + length));
        const keep = new Keep();
        assert(guest.send(bytes, Array.from({ length: random(7) }, () => 1 + random(30))));
        sent++;
        assertEquals(device.receive(keep, 64), 1);
        assertEquals(guest.reclaim(), 1);
        checkReceived(keep, bytes.subarray(headerSize), header, features);
      }
      const { rxFrames, rxShort, rxTooLong, rxBadHeader, faults } = device.statistics();
      assertEquals([rxFrames + rxShort + rxTooLong + rxBadHeader, faults], [sent, 0]);
      assert(Math.min(rxFrames, rxShort, rxTooLong, rxBadHeader) > 0);
      guest.checkCanaries();
    }
  });

  Deno.test(`virtio device: ${nameOf(kind)}: buffers of every size hold the frame, or the guest gets them back empty`, () => {
    for (const mergeable of [true, false]) {
      const guest = new Guest(kind);
      const device = new TestDevice();
      device.start(guest, (mergeable ? MERGEABLE : FEATURES.VERSION_1) | OFFLOAD);
      const random = numbers(77);
      let lost = 0;
      for (let round = 0; round < 1500; round++) {
        const size = random(10) === 0 ? random(60_000) : random(3000);
        const frame = random(2) === 0 ? tcp(size, 1000) : tcp(Math.min(size, 1400));
        const wanted = flat(frame);
        let code = device.transmit(frame);
        // One piece of a few bytes, of a page, or some of both; offered until it fits.
        for (let i = 0; code === EAGAIN; i++) {
          assert(i < 2 * kind.size, "no room, and none to come");
          const lengths = Array.from({ length: 1 + random(3) }, () => random(4) === 0 ? 1 + random(40) : 4096);
          if (random(20) === 0) lengths.push(65_000);
          // virtio 1.2, 5.1.6.3.1: a buffer holds the header at least.
          if (lengths.reduce((sum, length) => sum + length) < 12) lengths.push(12);
          if (guest.offer(lengths) === true) device.kick(0);
          code = device.transmit(frame);
          if (code === EMSGSIZE) lost++;
        }
        device.flush();
        if (code === EMSGSIZE) { while (guest.collect()?.length === 0); }
        else assertEquals(guest.frame()!.subarray(12), wanted);
      }
      assertEquals([mergeable || lost > 0, device.fault], [true, null]);
      guest.checkCanaries();
    }
  });

  Deno.test(`virtio device: ${nameOf(kind)}: rings that change at random: it stops, says why, and begins again`, () => {
    const reasons = new Set<string>();
    let frames = 0;
    for (let seed = 1; seed <= 25; seed++) frames += disturb(kind, seed, reasons);
    assert(reasons.size >= 8, [...reasons].join("\n"));
    assert(frames > 2000, `${frames} frames`);
  });
}

/** What a sink got of one frame that was sent. */
function checkReceived(keep: Keep, frame: Uint8Array, header: number[], features: bigint): void {
  if (keep.frames.length === 0) return;
  const [{ bytes, flags, segmentSize }] = keep.frames;
  assertEquals([keep.frames.length, bytes.length], [1, frame.length]);
  assert(bytes.every((byte, i) => byte === frame[i]));
  assertEquals(flags, (header[0] & 1) !== 0 ? RX_CHECKSUM_PARTIAL : 0, "a driver verifies no checksum");
  if (flags === RX_CHECKSUM_PARTIAL) {
    assert((features & FEATURES.NET_CSUM) !== 0n);
    assert((header[6] | header[7] << 8) + (header[8] | header[9] << 8) + 2 <= frame.length);
  }
  assertEquals(segmentSize > 0, (header[1] & 0x7f) !== 0, "segments of what size?");
  if (segmentSize > 0) {
    const needed = (header[1] & 0x7f) === 1 ? FEATURES.NET_HOST_TSO4 : FEATURES.NET_HOST_TSO6;
    assert((features & needed) !== 0n && flags === RX_CHECKSUM_PARTIAL, "segments that were not agreed on");
    assertEquals(segmentSize, header[4] | header[5] << 8);
  }
}

/** Both directions, over rings that somebody scribbles in. Returns how many frames passed. */
function disturb(kind: typeof KINDS[number], seed: number, reasons: Set<string>): number {
  const random = numbers(seed * 101);
  const size = kind.packed ? [5, 16, 33][seed % 3] : [4, 16, 32][seed % 3];
  const guest = new Guest({ ...kind, size });
  const device = new TestDevice();
  const features = [MERGEABLE | OFFLOAD, FEATURES.VERSION_1, MERGEABLE][seed % 3];
  const small = tcp(200), large = tcp(5000, 1000);
  const sink = {
    frame: (_: unknown, offset: number, length: number) => assert(offset === 2 && length >= 14 && length <= FRAME_MAX),
  };
  device.start(guest, features);
  for (let round = 0; round < 600; round++) {
    for (let i = random(3); i > 0; i--) guest.send(packet([], random(200)), [random(20) + 1]);
    for (let i = random(4); i > 0; i--) guest.offer([12 + random(3000), 1 + random(600)]);
    for (let i = random(3); i > 0; i--) mutate(random, random(2) === 0 ? guest.fromHost : guest.toHost);
    device.kick(random(3));
    const count = device.receive(sink, 1 + random(20));
    assert(count >= 0 && count <= 20);
    for (let i = random(3); i > 0; i--) {
      const code = device.transmit(random(2) === 0 ? small : tcpAgain(large));
      assert([0, EAGAIN, EMSGSIZE, ENETDOWN].includes(code), `code ${code}`);
    }
    device.flush();
    device.arm();
    // Our driver's side may break as well; then its guest has gone mad, and goes on.
    for (let i = 0; i < size && guest.toHost.driver.collect() >= 0; i++);
    for (let i = 0; i < size && guest.fromHost.driver.collect() >= 0; i++);
    if (device.fault === null && random(60) > 0) continue;
    if (device.fault !== null) checkStopped(device, reasons);
    guest.restart();
    device.start(guest, features);
  }
  guest.checkCanaries();
  const { rxFrames, txFrames } = device.statistics();
  return rxFrames + txFrames;
}

/** A transmit without offload fills the checksum in, and takes the mark off; the next one needs it again. */
function tcpAgain(frame: TxFrame): TxFrame {
  frame.checksumStart = 34;
  return frame;
}

function checkStopped(device: TestDevice, reasons: Set<string>): void {
  assertEquals([device.running, device.reasons.at(-1)], [false, device.fault]);
  reasons.add(device.fault!.replace(/0x[0-9a-f]+|\d+/g, "N"));
  assertEquals(device.receive({ frame: () => assert(false, "a frame from a broken ring") }, 10), 0);
  assertEquals(device.transmit(tcp(10)), ENETDOWN);
  const { faults } = device.statistics();
  assertEquals(faults, device.reasons.length);
}

Deno.test("virtio device: a buffer of the wrong direction breaks either queue", () => {
  for (const packed of [false, true]) {
    const guest = new Guest({ packed, size: 8 });
    const device: TestDevice & RingDevice = new TestDevice();
    device.start(guest, MERGEABLE);
    guest.toHost.driver.add([2 ** 32 + 4096 + guest.toHost.at.buffers], [100], 0, 1);
    guest.toHost.driver.publish();
    assertEquals(device.receive(new Keep(), 10), 0);
    assertEquals(device.fault, "a buffer to be written in a queue that the device reads");
    guest.restart();
    device.start(guest, MERGEABLE);
    guest.fromHost.driver.add([2 ** 32 + 4096 + guest.fromHost.at.buffers], [2000], 1, 1);
    guest.fromHost.driver.publish();
    assertEquals(device.transmit(tcp(10)), ENETDOWN);
    assertEquals(device.fault, "a buffer to be read in a queue that the device writes");
    assertEquals(device.statistics().faults, 2);
  }
});

Deno.test("virtio device: a frame takes a bounded number of buffers", () => {
  const guest = new Guest({ packed: false, size: 512 });
  const device = new TestDevice();
  device.start(guest, MERGEABLE | OFFLOAD);
  for (let i = 0; i < 512; i++) guest.offer([10]);
  assertEquals(device.transmit(tcp(5000, 1000)), EMSGSIZE);
  device.flush();
  let back = 0;
  for (let got = guest.collect(); got !== null; got = guest.collect(), back++) assertEquals(got.length, 0);
  assertEquals([back, device.statistics().txTooLong], [MERGED_MAX, 1]);
});

Deno.test("virtio device: the header has 10 bytes for a legacy driver without mergeable buffers, else 12", () => {
  for (const [features, size] of [[0n, 10], [FEATURES.NET_MRG_RXBUF, 12], [FEATURES.VERSION_1, 12]] as const) {
    const guest = new Guest({ packed: false, size: 8 });
    const device = new TestDevice();
    device.start(guest, features);
    guest.offer([2000]);
    const frame = tcp(100);
    assertEquals(device.transmit(frame), 0);
    device.flush();
    const got = guest.collect()!;
    assertEquals([got.length, got.subarray(size)], [size + frame.size, flat(frame)]);
    // num_buffers.
    if (size === 12) assertEquals([...got.subarray(10, 12)], [1, 0]);
    const keep = new Keep();
    guest.send(packet([], 60, size), []);
    assertEquals([device.receive(keep, 10), keep.frames[0].bytes.length], [1, 60]);
  }
});
