/** Paths, headers, fragments, offloads, groups and the loop-back: packets on their way out. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as codes from "../../../stack/codes.ts";
import { FrameMemory, RX_CHECKSUM_PARTIAL, TX_HEADROOM } from "../../../stack/device.ts";
import { sealChecksum } from "../../../stack/ip/seal.ts";
import type { Path, SendOptions } from "../../../stack/ip/types.ts";
import { parseAddress as key } from "../../../stack/wire/address.ts";
import { ethernet, tcp, udp } from "../../testing/frames.ts";
import { ArrayDevice, IpHost } from "../../testing/ip_host.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const OPTIONS: SendOptions = { ttl: 64, tos: 0, dontFragment: false };
const OFFLOAD = { rxChecksum: true, txChecksum: true, txSegmentation: 65_550, rxFrame: 65_550 };

function reachable(options: ConstructorParameters<typeof IpHost>[0] = {}): IpHost {
  const host = new IpHost(options);
  host.ip.setNeighbor(1, key("10.0.0.1"), MAC);
  return host;
}

function pathOf(host: IpHost, remote = "10.0.0.1", local = 0): Path {
  const path = host.ip.path(local, key(remote));
  assert(typeof path !== "number", `no path: ${path}`);
  return path;
}

/** Sends a UDP datagram: the header and `inline` bytes of data in one piece, the rest in two. */
function datagram(host: IpHost, path: Path, data: Uint8Array, options = OPTIONS, inline = 0): number {
  const { tx } = host.ip;
  tx.reset(8 + inline);
  tx.memory.bytes.set(data.subarray(0, inline), TX_HEADROOM + 8);
  const { view } = tx.memory;
  view.setUint16(TX_HEADROOM, 1000);
  view.setUint16(TX_HEADROOM + 2, 7);
  view.setUint16(TX_HEADROOM + 4, 8 + data.length);
  tx.payload = new FrameMemory(Uint8Array.from(data));
  const half = data.length >> 1;
  tx.payloadOffset1 = inline;
  tx.payloadLength1 = half - inline;
  tx.payloadOffset2 = half;
  tx.payloadLength2 = data.length - half;
  sealChecksum(tx, path, 17, 6);
  return host.ip.send(path, 17, tx, options);
}

const dataOf = (length: number) => Uint8Array.from({ length }, (_, i) => i * 7);

Deno.test("a packet gets its headers; with DF when asked; IDs differ", () => {
  const host = reachable();
  const path = pathOf(host);
  assertEquals([path.localKey, path.mtu, path.interfaceMtu, path.stale], [key("10.0.0.2"), 1500, 1500, false]);
  datagram(host, path, dataOf(101));
  datagram(host, path, dataOf(101), { ttl: 3, tos: 0x28, dontFragment: true });
  const [a, b] = host.out();
  assertEquals([a.problems, b.problems], [[], []]);
  assertEquals([a.ethernet?.destination, a.ethernet?.source, a.ethernet?.type], [
    "02:00:00:00:00:01",
    "02:00:00:00:00:02",
    0x800,
  ]);
  assertEquals([a.ip?.source, a.ip?.destination, a.ip?.ttl, a.ip?.dontFragment], ["10.0.0.2", "10.0.0.1", 64, false]);
  assertEquals([b.ip?.ttl, b.ip?.tos, b.ip?.dontFragment], [3, 0x28, true]);
  assertEquals(a.payload, dataOf(101));
  //= rfc6864#4.3 type=test
  // Sources emitting non-atomic datagrams MUST NOT repeat IPv4 ID values within one MDL for a given source address/destination
  // address/protocol tuple.
  const ids = new Set<number>();
  for (let i = 0; i < 1000; i++) {
    datagram(host, path, dataOf(4));
    ids.add(host.out()[0].ip!.id);
  }
  assertEquals(ids.size, 1000);
});

Deno.test("what is over the MTU is cut on 8 bytes, or refused with DF; over 64 KiB always", () => {
  for (const length of [1472, 1473, 1480, 2952, 5000, 65_507]) {
    const host = reachable();
    const peer = new IpHost({ address: "10.0.0.1/24" });
    const path = pathOf(host);
    //= rfc791#2.3 type=test
    // If the Don't Fragment flag is set … internet fragmentation is NOT permitted
    assertEquals(datagram(host, path, dataOf(length), { ...OPTIONS, dontFragment: true }), length > 1472 ? codes.EMSGSIZE : 0);
    host.out();
    assertEquals(datagram(host, path, dataOf(length)), 0);
    const frames = host.device.sent.map((s) => s.bytes);
    const checked = host.out();
    assertEquals(frames.length, length === 1472 ? 1 : Math.ceil((length + 8) / 1480));
    //= rfc791#3.2 type=test
    // The data in the long datagram is divided into two portions on a 8 octet (64 bit) boundary
    for (const [i, { ip }] of checked.entries()) {
      assertEquals([ip?.fragmentOffset, ip?.more, ip?.id], [i * 1480, i < checked.length - 1, checked[0].ip?.id]);
    }
    //= rfc791#3.2 type=test
    // The more-fragments flag is set to one [in the first]; the second new datagram has the same value as the long datagram
    for (const frame of frames) {
      frame.set([2, 0, 0, 0, 0, 2]);
      peer.in(frame);
    }
    assertEquals(peer.udp.packets.map((p) => p.payload), [udp({ source: "10.0.0.2", destination: "10.0.0.1" }, dataOf(length))]);
  }
  const host = reachable();
  assertEquals(datagram(host, pathOf(host), dataOf(65_508)), codes.EMSGSIZE);
});

Deno.test("offloads: marks move with the headers, and fragments never carry one", () => {
  const device = new ArrayDevice(Uint8Array.of(2, 0, 0, 0, 0, 2), 1500, OFFLOAD);
  const host = reachable({ device });
  const path = pathOf(host);
  assertEquals([path.txChecksum, path.txSegmentation], [true, 65_535]);
  datagram(host, path, dataOf(10));
  assertEquals([device.sent[0].checksumStart, host.out()[0].problems], [34, []]);
  datagram(host, path, dataOf(3000));
  assertEquals(device.sent.map((s) => s.checksumStart), [-1, -1, -1]);
  // Odd pieces behind odd headers: the software that fills in the checksum must take the bytes in the right order.
  for (const [length, inline] of [[3000, 0], [3002, 0], [3001, 1], [3003, 2], [3005, 3]]) {
    const peer = new IpHost({ address: "10.0.0.1/24" });
    device.sent.length = 0;
    datagram(host, path, dataOf(length), OPTIONS, inline);
    for (const { bytes } of device.sent) {
      bytes.set([2, 0, 0, 0, 0, 2]);
      peer.in(bytes);
    }
    assertEquals(peer.udp.packets[0].payload, udp({ source: "10.0.0.2", destination: "10.0.0.1" }, dataOf(length)));
  }
});

/** Sends a TCP super-frame. */
function superFrame(host: IpHost, path: Path, data: Uint8Array, segmentSize: number): number {
  const { tx } = host.ip;
  const fields = { flags: "PA", sequence: 0xffff_ff00, options: [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2] };
  const header = tcp(fields);
  tx.reset(header.length);
  tx.memory.bytes.set(header, TX_HEADROOM);
  tx.payload = new FrameMemory(Uint8Array.from(data));
  tx.payloadLength1 = data.length;
  tx.segmentSize = segmentSize;
  sealChecksum(tx, path, 6, 16);
  return host.ip.send(path, 6, tx, { ...OPTIONS, dontFragment: true });
}

Deno.test("a super-frame goes whole to a device that cuts it, and in segments to one that doesn't", () => {
  const device = new ArrayDevice(Uint8Array.of(2, 0, 0, 0, 0, 2), 1500, OFFLOAD);
  const host = reachable({ device });
  superFrame(host, pathOf(host), dataOf(5000), 1448);
  const { segmentSize, segmentHeaderLength, checksumStart, bytes } = device.sent[0];
  assertEquals([segmentSize, segmentHeaderLength, checksumStart, bytes.length], [1448, 66, 34, 5066]);

  const plain = reachable();
  superFrame(plain, pathOf(plain), dataOf(5000), 1448);
  const frames = plain.out();
  //= rfc3168#6.1.2 type=test
  // (CWR belongs on the first segment only; FIN and PSH on the last)
  assertEquals(frames.map((f) => [f.problems.length, f.payload.length, f.tcp!.sequence >>> 0, f.tcp!.flags.includes("P")]), [
    [0, 1448, 0xffff_ff00, false],
    [0, 1448, 0xffff_ff00 + 1448 - 2 ** 32, false],
    [0, 1448, 0xffff_ff00 + 2896 - 2 ** 32, false],
    [0, 656, 0xffff_ff00 + 4344 - 2 ** 32, true],
  ]);
  assertEquals(frames.map((f) => (f.ip!.id - frames[0].ip!.id) & 0xffff), [0, 1, 2, 3]);
  assertEquals(Uint8Array.from(frames.flatMap((f) => [...f.payload])), dataOf(5000));
  superFrame(plain, pathOf(plain), dataOf(2000), 1448);
  assertEquals(plain.out()[0].ip!.id, (frames[3].ip!.id + 1) & 0xffff, "no ID is used twice");
});

Deno.test("a UDP checksum that comes out as zero is sent as all ones", () => {
  const device = new ArrayDevice(Uint8Array.of(2, 0, 0, 0, 0, 2), 576, OFFLOAD);
  const host = reachable({ device });
  const peer = new IpHost({ address: "10.0.0.1/24" });
  const data = new Uint8Array(1000);
  // The last word makes the sum of everything else 0xffff.
  const [high, low] = udp({ source: "10.0.0.2", destination: "10.0.0.1" }, data).slice(6, 8);
  data.set([high, low], 998);
  datagram(host, pathOf(host), data);
  //= rfc768#fields type=test
  // If the computed checksum is zero, it is transmitted as all ones.
  for (const { bytes } of device.sent) {
    bytes.set([2, 0, 0, 0, 0, 2]);
    peer.in(bytes);
  }
  assertEquals([...peer.udp.packets[0].payload.slice(6, 8)], [0xff, 0xff]);
});

Deno.test("routes: longest prefix, then metric; gateways; and none", () => {
  const host = reachable();
  const route = (destination: string, prefixLength: number, gateway: string, metric = 0) =>
    host.ip.addRoute({ destination: key(destination), prefixLength, gateway: key(gateway), interfaceIndex: 1, metric });
  assertEquals(host.ip.path(0, key("8.8.8.8")), codes.ENETUNREACH);
  assertEquals(route("0.0.0.0", 0, "10.0.0.1"), 0);
  assertEquals(route("0.0.0.0", 0, "10.0.0.1"), codes.EADDRINUSE);
  assertEquals(route("8.8.0.1", 16, "10.0.0.1"), codes.EINVAL);
  assertEquals(route("8.8.0.0", 33, "10.0.0.1"), codes.EINVAL);
  assertEquals(route("8.8.0.0", 16, "10.0.0.9", 5), 0);
  assertEquals(route("8.8.0.0", 16, "10.0.0.8", 1), 0);
  assertEquals(host.ip.addRoute({ destination: 0, prefixLength: 0, gateway: 0, interfaceIndex: 9, metric: 0 }), codes.ENODEV);
  //= rfc1122#3.3.1.1 type=test
  // If the destination is on the connected network, the datagram is sent directly to the destination host; otherwise, it
  // has to be routed to a gateway on a connected network.
  for (const [to, via] of [["10.0.0.77", "10.0.0.77"], ["8.8.8.8", "10.0.0.8"], ["9.9.9.9", ""]]) {
    datagram(host, pathOf(host, to), dataOf(1));
    const [frame] = host.out();
    if (via === "") assertEquals(frame.ethernet?.destination, "02:00:00:00:00:01");
    else assertEquals(frame.arp?.targetIp, via);
  }
});

Deno.test("paths go stale with every change and are renewed in place; addresses that are gone are refused", () => {
  const host = reachable();
  const path = pathOf(host);
  assertEquals(pathOf(host) === path, true, "one object for one pair");
  assertEquals(host.ip.addAddress(1, key("10.0.0.3"), 24), 0);
  assert(path.stale);
  assertEquals(host.ip.renew(path), path);
  assert(!path.stale);
  host.ip.addAddress(1, key("10.0.0.4"), 24);
  assertEquals(pathOf(host) === path, true, "looked up anew it is still the same object");
  host.ip.removeAddress(1, key("10.0.0.4"));
  host.ip.renew(path);
  const other = pathOf(host, "10.0.0.1", key("10.0.0.3"));
  assertEquals(host.ip.path(key("10.0.0.4"), key("10.0.0.1")), codes.EADDRNOTAVAIL);
  host.ip.removeAddress(1, key("10.0.0.3"));
  assertEquals(host.ip.renew(other), codes.EADDRNOTAVAIL);
  assertEquals(datagram(host, other, dataOf(1)), codes.EADDRNOTAVAIL);
  assertEquals(datagram(host, path, dataOf(1)), 0);
  host.ip.removeInterface(1);
  assertEquals([datagram(host, path, dataOf(1)), host.ip.interfaces.length], [codes.EADDRNOTAVAIL, 0]);
  assertEquals(host.ip.routes.length, 0);
});

Deno.test("our own addresses are reached through the inner device, super-frames in one piece", () => {
  const host = reachable();
  for (const [to, from] of [["10.0.0.2", "10.0.0.2"], ["127.0.0.1", "127.0.0.1"], ["127.9.9.9", "127.0.0.1"]]) {
    const path = pathOf(host, to);
    assertEquals([path.mtu, path.localKey, path.txSegmentation], [65_535, key(from), 65_535]);
    datagram(host, path, dataOf(3000));
    assertEquals([host.udp.packets.length, host.ip.nextDeadline()], [0, host.ip.now]);
    assertEquals(host.ip.pump(10), 1);
    const got = host.udp.packets.pop()!;
    assertEquals([got.length, got.flags, got.srcKey, got.dstKey], [3008, RX_CHECKSUM_PARTIAL, key(from), key(to)]);
  }
  superFrame(host, pathOf(host, "10.0.0.2"), dataOf(40_000), 1460);
  host.ip.pump(10);
  assertEquals([host.tcp.packets[0].segmentSize, host.tcp.packets[0].length], [1460, 40_032]);
  host.ip.sendEcho(key("127.0.0.1"), 1, 2, dataOf(60_000));
  assertEquals([host.ip.pump(1), host.ip.pump(1), host.ip.pump(1)], [1, 1, 0]);
  assertEquals([host.echoes[0].code, host.echoes[0].data], [0, dataOf(60_000)]);
  const path = pathOf(host, "127.0.0.1");
  for (let i = 0; i < 256; i++) assertEquals(datagram(host, path, dataOf(1)), 0);
  assertEquals([datagram(host, path, dataOf(1)), host.count("loop", "full")], [codes.EAGAIN, 1]);
  assertEquals([host.ip.pump(1000), host.out().length], [256, 0]);
});

Deno.test("groups: MAC addresses, our own copies, TTL 0 stays inside", () => {
  const host = reachable();
  host.ip.joinMulticast(key("239.1.2.3"));
  host.to(host.ip.now + 60_000);
  //= rfc2113#2.1 type=test
  // (Router Alert: type 148, length 4, value 0)
  const joins = host.out().filter((f) => f.igmp !== undefined);
  assert(joins.length > 0 && joins.every((f) => f.problems.length === 0 && f.ip?.ttl === 1 && f.ip.options[0] === 148));
  const group = pathOf(host, "239.1.2.3");
  datagram(host, group, dataOf(5), { ...OPTIONS, ttl: 1 });
  const [frame] = host.out();
  assertEquals([frame.ethernet?.destination, frame.ip?.ttl], ["01:00:5e:01:02:03", 1]);
  assertEquals([host.ip.pump(9), host.udp.packets.length], [1, 1]);
  datagram(host, group, dataOf(5), { ...OPTIONS, multicastLoop: false });
  assertEquals([host.ip.pump(9), host.out().length], [0, 1]);
  //= rfc1112#6.1 type=test
  // If the datagram's time-to-live is zero, it is not sent to any network (but it may be looped back).
  datagram(host, group, dataOf(5), { ...OPTIONS, ttl: 0 });
  assertEquals([host.ip.pump(9), host.out().length], [1, 0]);
  for (const to of ["255.255.255.255", "10.0.0.255"]) {
    datagram(host, pathOf(host, to), dataOf(5));
    assertEquals([host.out()[0].ethernet?.destination, host.ip.pump(9)], ["ff:ff:ff:ff:ff:ff", 1]);
  }
  // Who is told to try again has not sent yet: our own copy comes with the try that the device takes.
  const looped = host.count("ip", "looped");
  host.device.code = codes.EAGAIN;
  for (let i = 0; i < 3; i++) assertEquals(datagram(host, group, dataOf(5)), codes.EAGAIN);
  assertEquals([host.ip.pump(9), host.count("ip", "looped")], [0, looped]);
  host.device.code = codes.OK;
  assertEquals([datagram(host, group, dataOf(5)), host.ip.pump(9)], [0, 1]);
});

Deno.test("a device that is full or gone says so, and bad interfaces are refused before anything changes", () => {
  const host = reachable();
  const path = pathOf(host);
  for (const [code, told] of [[codes.EAGAIN, codes.EAGAIN], [codes.EIO, codes.ENETDOWN], [codes.ENODEV, codes.ENODEV]]) {
    host.device.code = code;
    assertEquals([datagram(host, path, dataOf(1)), datagram(host, path, dataOf(4000))], [told, told]);
  }
  //= rfc791#3.2 type=test
  // Every internet module must be able to forward a datagram of 68 octets without further fragmentation.
  assertThrows(() => host.ip.addInterface(host.device, { mtu: 67 }), RangeError, "at least 68");
  assertThrows(() => host.ip.addInterface(host.device, { mtu: 1501 }), RangeError);
  assertThrows(() => host.ip.addInterface(host.device, { vlan: 4095 }), RangeError);
  assertThrows(() => host.ip.addInterface(new ArrayDevice(Uint8Array.of(1, 2, 3, 4, 5, 6))), TypeError);
  assertEquals(host.ip.interfaces.length, 1);
  const bad: [string, number][] = [["10.0.0.0", 24], ["10.0.0.255", 24], ["127.0.0.1", 8], ["224.0.0.1", 24], ["0.0.0.0", 24], [
    "10.0.0.9",
    33,
  ], ["10.0.0.9", 0]];
  for (const [address, prefix] of bad) assertEquals(host.ip.addAddress(1, key(address), prefix), codes.EINVAL);
});

Deno.test("a device without Ethernet carries bare packets", () => {
  const host = new IpHost({ device: new ArrayDevice(null) });
  datagram(host, pathOf(host), dataOf(9));
  const [frame] = host.out();
  assertEquals([frame.problems, frame.ip?.destination, frame.payload], [[], "10.0.0.1", dataOf(9)]);
  host.in(ethernet({}, new Uint8Array(20)).slice(14));
  assertEquals(host.count("ip", "dropVersion"), 1);
});
