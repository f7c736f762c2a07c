/** In a network namespace of its own (TAPIOCA_KERNEL), see kernel.ts. */
import { assert, assertEquals, assertInstanceOf, assertMatch, assertNotEquals, assertStringIncludes } from "@std/assert";
import { createSocket } from "node:dgram";
import { TapDevice } from "../../drivers/tap.ts";
import { TunDevice } from "../../drivers/tun.ts";
import type { TunTapDevice } from "../../drivers/tuntap.ts";
import { Descriptor } from "../../ffi/descriptor.ts";
import { libcCandidates } from "../../ffi/libc.ts";
import { formatMac } from "../../ffi/inet.ts";
import { createNamespace, inNamespace } from "../../ffi/namespace.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { listAddresses, listNeighbors } from "../../ffi/rtnl_address.ts";
import { createLink, deleteLink, getLink, linkExists, setLink } from "../../ffi/rtnl_link.ts";
import { listRoutes } from "../../ffi/rtnl_route.ts";
import { TunDescriptor } from "../../ffi/tun.ts";
import * as flags from "../../ffi/tun.ts";
import { EAGAIN, EINVAL, EIO, ENODEV } from "../../stack/codes.ts";
import { FrameMemory, RX_CHECKSUM_PARTIAL, TxFrame } from "../../stack/device.ts";
import { kernelTest, thrown } from "../ffi/kernel.ts";
import { checksumHolds, Keep, type Received, receiveUntil, segment } from "./frames.ts";

/** A persistent interface, as another program would have left it. */
function persistent(name: string, kind: number): void {
  using descriptor = TunDescriptor.open();
  assertEquals(descriptor.attach(name, kind), name);
  assertEquals(descriptor.setPersist(true), 0);
}

function udpTo(port: number, ip: number): (frame: Received) => boolean {
  return ({ bytes, view }) => bytes.length > ip + 28 && view.getUint8(ip + 9) === 17 && view.getUint16(ip + 22) === port;
}

kernelTest("D6.1 the kernel's name, its MTU, a MAC of our own, and nothing left behind", () => {
  let name = "";
  {
    using device = TapDevice.open();
    name = device.name;
    assertMatch(name, /^tap\d+$/);
    assertEquals([device.medium, device.mtu], ["ethernet", 1500]);
    assertEquals(device.mac[0] & 3, 2);
    assertNotEquals(formatMac(device.mac), getLink(name).mac);
    assertEquals(getLink(name).up, false); // the host side is not touched
    device.close();
    device.close();
    assertEquals(device.transmit(new TxFrame()), ENODEV);
    assertEquals(device.receive(new Keep(), 1), ENODEV);
    device.arm();
    assertInstanceOf(thrown(() => device.open(() => {})), Deno.errors.BadResource);
  }
  assertEquals(linkExists(name), false);
});

kernelTest("D6.1 errors of opening are typed and say what to do", () => {
  using first = TapDevice.open({ name: "tapa" });
  const busy = thrown(() => TapDevice.open({ name: "tapa" }));
  assertInstanceOf(busy, Deno.errors.Busy);
  assertEquals(busy.code, "EBUSY");
  assertStringIncludes(busy.message, 'Cannot open TAP device "tapa"');
  assertInstanceOf(thrown(() => TapDevice.open({ name: "tapa", exclusive: true })), Deno.errors.Busy);
  const wrong = thrown(() => TunDevice.open({ name: "tapa" }));
  assertInstanceOf(wrong, Deno.errors.InvalidData);
  assertStringIncludes(wrong.message, "EINVAL");
  first.open(() => {});
  assertInstanceOf(thrown(() => first.open(() => {})), Deno.errors.Busy);
});

kernelTest("D6.6 the host side from the same call: address, MTU, up, MAC, routes, neighbours, name", () => {
  using device = TapDevice.open({
    mtu: 9000,
    mac: "02:00:00:00:00:02",
    host: {
      name: "wire0",
      address: ["10.7.0.1/24", "fd07::1/64"],
      mac: "02:00:00:00:00:01",
      routes: ["10.8.0.0/16", { destination: "10.9.0.0/16", gateway: "10.7.0.2", metric: 7 }],
      neighbors: [{ address: "10.7.0.2", mac: "02:00:00:00:00:02" }],
    },
  });
  const link = getLink("wire0");
  assertEquals([device.name, device.mtu], ["wire0", 9000]);
  assertEquals([link.mtu, link.mac, link.up], [9000, "02:00:00:00:00:01", true]);
  const addresses = listAddresses("wire0").map(({ address, prefixLength }) => `${address}/${prefixLength}`);
  assert(addresses.includes("10.7.0.1/24") && addresses.includes("fd07::1/64"), addresses.join());
  const routes = listRoutes({ link: "wire0" }).map(({ destination, gateway, metric }) => `${destination} ${gateway} ${metric}`);
  assert(routes.includes("10.8.0.0/16  0") && routes.includes("10.9.0.0/16 10.7.0.2 7"), routes.join());
  assertEquals(listNeighbors("wire0").find(({ state }) => state === "permanent")?.mac, "02:00:00:00:00:02");
});

kernelTest("D6.6 a host side that is refused leaves no interface behind", () => {
  const error = thrown(() =>
    TapDevice.open({
      name: "tapa",
      host: { address: "10.7.0.1/24", routes: [{ destination: "10.9.0.0/16", gateway: "1.2.3.4" }] },
    })
  );
  assertInstanceOf(error, Deno.errors.NetworkUnreachable);
  assertEquals(linkExists("tapa"), false);
});

kernelTest("D6.6 the host side in another namespace", () => {
  using other = createNamespace();
  using device = TapDevice.open({ name: "tapa", host: { namespace: other, address: "10.7.0.1/24" } });
  assertEquals(linkExists("tapa"), false);
  assertEquals(inNamespace(other, () => getLink("tapa").up), true);
  assertEquals(device.transmit(segment({ ...echo, link: 14 }, false)), 0);
});

const echo = {
  link: 14 as 0 | 14,
  proto: 17,
  source: [10, 7, 0, 2],
  destination: [10, 7, 0, 1],
  ports: [7000, 7001] as [number, number],
  size: 64,
};

/** A datagram from the kernel's socket to the device, then one back, in two pieces and with the checksum left out if it can. */
async function exchange(device: TunTapDevice, link: 0 | 14): Promise<Received> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(7001, "10.7.0.1", resolve));
  const got = new Promise<Uint8Array>((resolve) => socket.once("message", (data) => resolve(data)));
  socket.send(new Uint8Array(999).fill(5), 7000, "10.7.0.2");
  const wanted = udpTo(7000, link);
  const { frames } = await receiveUntil(device, (keep) => keep.frames.some(wanted));
  const frame = frames.find(wanted)!;
  assertEquals(frame.bytes.length, link + 28 + 999);
  assertEquals(frame.bytes.subarray(link + 28), new Uint8Array(999).fill(5));
  const dstMac = link > 0 ? frame.bytes.slice(6, 12) : undefined;
  const out = segment({ ...echo, link, size: 1001, dstMac }, device.capabilities.txChecksum);
  assertEquals(device.transmit(out), 0);
  const data = await got;
  assertEquals(Uint8Array.from(data), Uint8Array.from({ length: 1001 }, (_, i) => i & 0xff));
  await new Promise<void>((resolve) => socket.close(() => resolve()));
  return frame;
}

for (const packetInfo of [false, true]) {
  for (const offload of [false, true]) {
    const how = `${packetInfo ? "with" : "without"} packet info, ${offload ? "with" : "without"} offload`;
    kernelTest(`D6.5 TAP ${how}: datagrams both ways`, async () => {
      const neighbors = [{ address: "10.7.0.2", mac: "02:00:00:00:00:02" }];
      using device = TapDevice.open({
        packetInfo,
        offload,
        mac: "02:00:00:00:00:02",
        host: { address: "10.7.0.1/24", neighbors },
      });
      const frame = await exchange(device, 14);
      assertEquals(frame.flags, offload ? RX_CHECKSUM_PARTIAL : 0);
      assertEquals(checksumHolds(frame, 14), !offload);
      device.close();
      await wakersIdle();
    });
    kernelTest(`D6.5 TUN ${how}: datagrams both ways`, async () => {
      using device = TunDevice.open({ packetInfo, offload, host: { address: "10.7.0.1/24" } });
      assertEquals([device.medium, device.mac], ["ip", null]);
      const frame = await exchange(device, 0);
      assertEquals(frame.flags, offload ? RX_CHECKSUM_PARTIAL : 0);
      assertEquals(checksumHolds(frame, 0), !offload);
      device.close();
      await wakersIdle();
    });
  }
}

for (const offload of [false, true]) {
  kernelTest(
    `D6.2 a frame of 60,000 bytes is cut for a reader ${
      offload ? "only if it must be: here it arrives whole" : "without offload"
    }`,
    async () => {
      createLink({ name: "bra", kind: "bridge", up: true });
      using sender = TapDevice.open({ name: "tapa", host: { up: true } });
      using reader = TapDevice.open({ name: "tapb", offload, host: { up: true } });
      for (const name of ["tapa", "tapb"]) setLink(name, { master: "bra" });
      const size = 60_000;
      const frame = segment({ ...echo, proto: 6, size, srcMac: sender.mac, dstMac: reader.mac }, true);
      frame.segmentSize = 1460;
      frame.segmentHeaderLength = 54;
      assertEquals(sender.transmit(frame), 0);
      const tcp = ({ bytes, view }: Received) => bytes.length > 54 && view.getUint16(12) === 0x0800 && view.getUint8(23) === 6;
      const total = (keep: Keep) => keep.frames.filter(tcp).reduce((n, { bytes }) => n + bytes.length - 54, 0);
      const frames = (await receiveUntil(reader, (keep) => total(keep) >= size)).frames.filter(tcp);
      if (offload) {
        assertEquals(frames.map(({ bytes, segmentSize, flags }) => [bytes.length, segmentSize, flags]), [[
          60_054,
          1460,
          RX_CHECKSUM_PARTIAL,
        ]]);
        assertEquals(reader.statistics().rxSegmented, 1);
      } else {
        assertEquals(frames.length, Math.ceil(size / 1460));
        for (const part of frames) assertEquals([part.segmentSize, part.flags, checksumHolds(part, 14)], [0, 0, true]);
      }
      const all = frames.flatMap(({ bytes }) => [...bytes.subarray(54)]);
      assertEquals(all.findIndex((byte, i) => byte !== (i & 0xff)), -1);
      reader.close();
      deleteLink("bra");
      await wakersIdle();
    },
  );
}

kernelTest("D6.3 a persistent interface made with or without header, or with queues, opens all the same", () => {
  for (const made of [0, flags.IFF_VNET_HDR, flags.IFF_MULTI_QUEUE, flags.IFF_NO_PI | flags.IFF_VNET_HDR]) {
    persistent("tapp", flags.IFF_TAP | made);
    for (const offload of [true, false, true]) {
      using device = TapDevice.open({ name: "tapp", offload, host: { up: true } });
      assertEquals(device.name, "tapp");
      assertEquals(device.capabilities.txChecksum, offload);
      assertEquals(device.transmit(segment(echo, offload)), 0);
      assertEquals(device.transmit(segment(echo, !offload)), offload ? 0 : EINVAL);
    }
    assertEquals(linkExists("tapp"), true);
    TapDevice.open({ name: "tapp", persist: false }).close();
    assertEquals(linkExists("tapp"), false);
  }
});

kernelTest("D6.3 the queues of one interface, the later ones bound to what the first agreed", () => {
  using first = TapDevice.open({ name: "tapa", multiQueue: true, offload: false, host: { up: true } });
  using second = TapDevice.open({ name: "tapa", multiQueue: true });
  for (const device of [first, second]) assertEquals(device.transmit(segment(echo, false)), 0);
  assertEquals(second.descriptor.setQueue(false), 0);
  assertEquals(getLink("tapa").rxPackets, 2);
});

kernelTest("D6.4 a device that is down: EIO; a short frame: EINVAL; nothing to read: 0", () => {
  using device = TapDevice.open({ name: "tapa" });
  assertEquals(device.transmit(segment(echo, false)), EIO);
  assertEquals(device.receive(new Keep(), 10), 0);
  setLink("tapa", { up: true });
  assertEquals(device.transmit(segment(echo, false)), 0);
  setLink("tapa", { up: false });
  assertEquals(device.transmit(segment(echo, false)), EIO);
  setLink("tapa", { up: true });
  const frame = segment(echo, false);
  for (const length of [0, 1, 13]) {
    frame.reset(length);
    assertEquals(device.transmit(frame), EINVAL);
  }
  const { txDown, txInvalid, txFrames } = device.statistics();
  assertEquals([txDown, txInvalid, txFrames], [2, 3, 1]);
});

kernelTest("D6.4 a frame outside its memory never reaches the kernel", () => {
  using device = TapDevice.open({ host: { up: true } });
  const change: ((frame: TxFrame) => void)[] = [
    (frame) => frame.offset = -1,
    (frame) => frame.offset = 1e9,
    (frame) => frame.offset = NaN,
    (frame) => frame.length = 2048,
    (frame) => frame.length = -5,
    (frame) => frame.payloadLength1 = 75,
    (frame) => frame.payloadOffset1 = -1,
    (frame) => frame.payloadOffset2 = 1e12,
    (frame) => frame.payload = new FrameMemory(0),
    (frame) => structuredClone(frame.payload.bytes, { transfer: [frame.payload.bytes.buffer] }),
  ];
  for (const spoil of change) {
    const frame = segment(echo, false);
    assertEquals(device.transmit(frame), 0);
    spoil(frame);
    assertEquals(device.transmit(frame), EINVAL, spoil.toString());
  }
  assertEquals(device.statistics().txInvalid, change.length);
});

kernelTest("headers without room before them are sent from a place of the device's own", () => {
  using device = TapDevice.open({ name: "tapa", packetInfo: true, host: { up: true } });
  const frame = segment(echo, false);
  frame.memory.bytes.copyWithin(0, frame.offset, frame.offset + frame.length);
  frame.offset = 0;
  assertEquals(device.transmit(frame), 0);
  assertEquals(getLink("tapa").rxBytes, frame.size);
});

kernelTest("D6.4 an interface that is removed wakes an idle user: ENODEV from then on", async () => {
  for (const Device of [TapDevice, TunDevice]) {
    using device: TunTapDevice = Device.open({ host: { address: "10.7.0.1/24" } });
    let last = 0, removed = false;
    await receiveUntil(device, (_, code) => {
      // Less than the budget: all was read, so the device is idle when it goes.
      if (!removed) queueMicrotask(() => deleteLink(device.name));
      removed = true;
      return (last = code) < 0;
    });
    assertEquals(last, ENODEV);
    assertEquals(device.transmit(segment(echo, false)), ENODEV);
    assertEquals(device.receive(new Keep(), 10), ENODEV);
    device.arm();
    await wakersIdle(); // nothing waits: who is told once is not woken for ever
    device.close();
  }
});

kernelTest("a budget bounds a burst; the rest waits", () => {
  using device = TapDevice.open({ name: "tapa", offload: false, mac: "02:00:00:00:00:02" });
  using other = TapDevice.open({ name: "tapb", offload: false, host: { up: true } });
  createLink({ name: "bra", kind: "bridge", up: true });
  setLink("tapa", { up: true, master: "bra" });
  setLink("tapb", { master: "bra" });
  const frame = segment({ ...echo, srcMac: other.mac, dstMac: device.mac }, false);
  for (let i = 0; i < 100; i++) assertEquals(other.transmit(frame), 0);
  const keep = new Keep();
  assertEquals(device.receive(keep, 10), 10);
  assertEquals(keep.frames.length, 10);
  while (device.receive(keep, 64) > 0) { /* to the end */ }
  assertEquals(keep.frames.filter(({ view }) => view.getUint16(12) === 0x0800).length, 100);
  deleteLink("bra");
});

kernelTest("EAGAIN when the kernel takes no more, and a wake when room came back", async () => {
  // Frames hardly ever wait inside a kernel that is not overloaded: a full pipe takes the descriptor's place.
  using lib = disposable(Deno.dlopen(libcCandidates()[0], {
    pipe2: { parameters: ["buffer", "i32"], result: "i32" },
    dup2: { parameters: ["i32", "i32"], result: "i32" },
  }));
  using device = TapDevice.open({ sendBuffer: 4000, host: { up: true } });
  assertEquals(device.descriptor.sendBuffer(), 4000);
  const ends = new Int32Array(2);
  assertEquals(lib.symbols.pipe2(new Uint8Array(ends.buffer), 0x800 /* O_NONBLOCK */), 0);
  using reader = new Descriptor(ends[0]);
  assertEquals(lib.symbols.dup2(ends[1], device.descriptor.fd), device.descriptor.fd);
  new Descriptor(ends[1]).close();
  const frame = segment({ ...echo, size: 1400 }, false);
  let woken = Promise.withResolvers<void>();
  device.open(() => woken.resolve());
  device.arm(); // already waiting to read, as a stack always is
  for (let round = 1; round <= 3; round++) {
    while (device.transmit(frame) === 0) { /* until it is full, which arms the wake */ }
    assertEquals(device.transmit(frame), EAGAIN);
    assertEquals(device.statistics().txFull, 2 * round);
    while (reader.read(new Uint8Array(65536)) > 0) { /* room comes back */ }
    await woken.promise;
    woken = Promise.withResolvers();
  }
  device.close();
  await wakersIdle();
});

function disposable<T extends { close(): void }>(library: T): T & Disposable {
  return Object.assign(library, { [Symbol.dispose]: () => library.close() });
}
