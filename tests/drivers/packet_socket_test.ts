/** In a network namespace of its own (TAPIOCA_KERNEL), see kernel.ts. */
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import { PacketSocketDevice, type PacketSocketOptions } from "../../drivers/packet_socket.ts";
import { TapDevice } from "../../drivers/tap.ts";
import { formatMac } from "../../ffi/inet.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { createLink, deleteLink, getLink, setLink } from "../../ffi/rtnl_link.ts";
import { EINVAL, EMSGSIZE, ENETDOWN, ENODEV } from "../../stack/codes.ts";
import { type Device, FrameMemory, type FrameSink, RX_CHECKSUM_PARTIAL, TxFrame } from "../../stack/device.ts";
import { kernelTest, thrown } from "../ffi/kernel.ts";
import { tagged } from "./xdp/run.ts";
import { checksumHolds, Keep, segment } from "./frames.ts";

/** Two ends of a cable in the kernel, each with a packet socket. */
function pair(options: Partial<PacketSocketOptions> = {}): [PacketSocketDevice, PacketSocketDevice] {
  createLink({ name: "pa", kind: "veth", up: true, peer: { name: "pb", up: true } });
  return [PacketSocketDevice.open({ name: "pa", ...options }), PacketSocketDevice.open({ name: "pb", ...options })];
}

function send(device: Device, bytes: Uint8Array): number {
  const tx = new TxFrame();
  tx.memory = new FrameMemory(70_000);
  tx.reset(bytes.length);
  tx.memory.bytes.set(bytes, tx.offset);
  return device.transmit(tx);
}

/** What has arrived that is ours: the kernel sends frames of its own when an interface comes up. */
class Ours extends Keep {
  override frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    const source = memory.bytes.subarray(offset + 6, offset + 12);
    if (formatMac(source) === "02:00:00:00:00:aa") super.frame(memory, offset, length, flags, segmentSize);
  }
}

kernelTest("frames cross a packet socket, in both directions, of every length", () => {
  for (const offload of [true, false]) {
    const [a, b] = pair({ offload });
    assertEquals([a.mtu, formatMac(a.mac), a.ifindex], [1500, getLink("pa").mac, getLink("pa").index]);
    for (const [from, to] of [[a, b], [b, a]]) {
      const ours = new Ours();
      for (const length of [14, 15, 60, 1513, 1514]) {
        assertEquals(send(from, tagged([], [8, 0], new Array(length - 14).fill(length & 255))), 0);
      }
      while (to.receive(ours, 64) > 0) { /* to the end */ }
      assertEquals(ours.frames.map(({ bytes }) => bytes.length), [14, 15, 60, 1513, 1514]);
      for (const { bytes } of ours.frames) assert(bytes.subarray(14).every((byte) => byte === (bytes.length & 255)));
    }
    for (const length of [0, 13]) assertEquals(send(a, tagged([]).slice(0, length)), EINVAL);
    assertEquals(send(a, tagged([], [8, 0], new Array(1501).fill(0))), EMSGSIZE);
    a.close();
    b.close();
    a.close();
    assertEquals([send(a, tagged([])), a.receive(new Keep(), 1)], [ENODEV, ENODEV]);
    deleteLink("pa");
  }
});

kernelTest("a tag that the kernel has taken off is put back, priority and type included; inner ones stay", () => {
  for (const offload of [true, false]) {
    const [a, b] = pair({ offload });
    const sent = [
      tagged([[0x8100, 0x6007]]),
      tagged([[0x88a8, 9], [0x8100, 7]]),
      tagged([[0x8100, 1], [0x8100, 2], [0x8100, 3]]),
    ];
    for (const frame of sent) assertEquals(send(a, frame), 0);
    const ours = new Ours();
    while (b.receive(ours, 64) > 0) { /* to the end */ }
    assertEquals(ours.frames.map(({ bytes }) => bytes), sent);
    assertEquals(b.statistics().rxTagged, 3);
    a.close();
    b.close();
    deleteLink("pa");
  }
});

kernelTest("a sink that throws loses its frame only; closing after that gives the ring back", () => {
  const [a, b] = pair({ slots: 16 });
  const rings = () => Deno.readTextFileSync("/proc/self/maps").split("\n").filter((line) => line.includes("socket:")).length;
  const before = rings();
  const frames = Array.from({ length: 8 }, (_, i) => tagged([], [8, 0], [i]));
  for (const frame of frames) assertEquals(send(a, frame), 0);
  const seen: number[] = [];
  const bad: FrameSink = {
    frame(memory, offset) {
      if (memory.bytes[offset + 11] !== 0xaa) return;
      seen.push(memory.bytes[offset + 14]);
      throw new Error("of the sink");
    },
  };
  while (seen.length < 8) assertThrows(() => b.receive(bad, 64), Error, "of the sink");
  assertEquals(seen, frames.map((frame) => frame[14]));
  b.close();
  assertEquals(rings(), before - 1);
  a.close();
  deleteLink("pa");
});

kernelTest("the ring goes round and round; what finds no slot is lost and counted; bytes around a frame may be changed", () => {
  const [a, b] = pair({ slots: 16 });
  const room: FrameSink = {
    frame(memory, offset, length) {
      memory.bytes.fill(0xa5, offset - b.capabilities.rxHeadroom!, offset + length);
    },
  };
  for (let round = 0; round < 50; round++) {
    const ours = new Ours();
    for (let i = 0; i < 7; i++) assertEquals(send(a, tagged([], [8, 0], [round, i])), 0);
    while (b.receive(ours, 3) > 0) { /* to the end */ }
    assertEquals(ours.frames.map(({ bytes }) => [bytes[14], bytes[15]]), Array.from({ length: 7 }, (_, i) => [round, i]));
    send(a, tagged([[0x8100, 5]]));
    assertEquals(b.receive(room, 64), 1);
  }
  for (let i = 0; i < 40; i++) assertEquals(send(a, tagged([])), 0);
  assertEquals(b.receive(new Keep(), 100), 16);
  assertEquals(b.receive(new Keep(), 100), 0);
  assertEquals([b.statistics().rxLost, b.statistics().rxLost], [24, 24]);
  a.close();
  b.close();
});

kernelTest("frames of 64 KiB and checksums to be filled in cross as they are", () => {
  const [a, b] = pair();
  const large = segment(
    {
      link: 14,
      proto: 6,
      source: [10, 0, 0, 1],
      destination: [10, 0, 0, 2],
      ports: [1, 2],
      size: 60_000,
      srcMac: Uint8Array.of(2, 0, 0, 0, 0, 0xaa),
    },
    true,
  );
  large.segmentSize = 1400;
  large.segmentHeaderLength = 54;
  assertEquals(a.transmit(large), 0);
  const ours = new Ours();
  while (b.receive(ours, 64) > 0) { /* to the end */ }
  assertEquals(ours.frames.map(({ bytes, flags, segmentSize }) => [bytes.length, flags, segmentSize]), [[
    60_054,
    RX_CHECKSUM_PARTIAL,
    1400,
  ]]);
  assertEquals(checksumHolds(ours.frames[0], 14), false);
  const plain = PacketSocketDevice.open({ name: "pa", offload: false });
  assertEquals(plain.transmit(large), EINVAL);
  plain.close();
  a.close();
  b.close();
});

kernelTest("wakes when a frame comes; a device that goes down says so once; one that is deleted: ENODEV", async () => {
  const [a, b] = pair();
  let woken = Promise.withResolvers<void>();
  b.open(() => woken.resolve());
  assertInstanceOf(thrown(() => b.open(() => {})), Deno.errors.Busy);
  const next = async () => {
    woken = Promise.withResolvers();
    b.arm();
    await woken.promise;
  };
  while (b.receive(new Keep(), 64) > 0) { /* to the end */ }
  setTimeout(() => send(a, tagged([])), 5);
  const ours = new Ours();
  while (ours.frames.length === 0) {
    await next();
    b.receive(ours, 64);
  }
  setLink("pb", { up: false });
  let code = 0;
  while (code !== ENETDOWN) {
    await next();
    code = b.receive(new Keep(), 64);
  }
  assertEquals(send(b, tagged([])), ENETDOWN);
  assertEquals(b.receive(new Keep(), 64), 0);
  setLink("pb", { up: true });
  assertEquals(send(b, tagged([])), 0);
  deleteLink("pa");
  while (code !== ENODEV) {
    await next();
    code = b.receive(new Keep(), 64);
  }
  assertEquals(send(b, tagged([])), ENODEV);
  b.arm();
  await wakersIdle(); // nothing waits any more
  a.close();
  b.close();
  assertInstanceOf(thrown(() => b.open(() => {})), Deno.errors.BadResource);
});

kernelTest("closing from inside of a frame's call is safe: the ring stays until the burst is over", () => {
  const [a, b] = pair();
  for (let i = 0; i < 5; i++) send(a, tagged([]));
  let bytes = 0;
  const sink: FrameSink = {
    frame(memory, offset, length) {
      b.close();
      bytes += memory.bytes[offset] === 0 ? 0 : length;
    },
  };
  assertEquals(b.receive(sink, 64), 1);
  assertEquals(b.receive(sink, 64), ENODEV);
  assert(bytes > 0);
  a.close();
});

kernelTest("a frame's call that throws loses its frame only, and the ring is given back all the same", () => {
  const [a, b] = pair();
  for (let i = 0; i < 5; i++) send(a, tagged([]));
  let ring = new FrameMemory(1);
  const sink: FrameSink = {
    frame(memory) {
      ring = memory;
      throw new Error("no");
    },
  };
  assertThrows(() => b.receive(sink, 64), Error, "no");
  assert(b.receive(new Keep(), 64) >= 4);
  send(a, tagged([]));
  assertThrows(() => b.receive(sink, 64), Error, "no");
  assert(ring.bytes.length > 0);
  b.close();
  assertEquals(ring.bytes.length, 0);
  a.close();
});

kernelTest("promiscuous while it is open, and impossible things", () => {
  createLink({ name: "pa", kind: "veth", up: true, peer: { name: "pb", up: true } });
  const device = PacketSocketDevice.open({ name: "pa", promiscuous: true });
  assertEquals(getLink("pa").promiscuity, 1);
  device.setPromiscuous(false);
  assertEquals(getLink("pa").promiscuity, 0);
  device.setPromiscuous(true);
  device.close();
  assertEquals(getLink("pa").promiscuity, 0);
  assertInstanceOf(thrown(() => PacketSocketDevice.open({ name: "nobody" })), Deno.errors.NotFound);
  for (const slots of [0, 15, 17, 70_000, NaN]) assertThrows(() => PacketSocketDevice.open({ name: "pa", slots }), RangeError);
  assertThrows(() => PacketSocketDevice.open({ name: "pa", slots: 65_536 }), RangeError);
  using tap = TapDevice.open({ name: "tapa" });
  PacketSocketDevice.open({ name: tap.name }).close();
});
