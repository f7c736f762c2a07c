import { assert, assertEquals, assertNotEquals } from "@std/assert";
import {
  EACCES,
  EADDRINUSE,
  EADDRNOTAVAIL,
  EAGAIN,
  EBADF,
  ECONNREFUSED,
  EINVAL,
  EMSGSIZE,
  ENETDOWN,
  ENETUNREACH,
  ENOBUFS,
  ENOTCONN,
} from "../../../stack/codes.ts";
import { RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID } from "../../../stack/device.ts";
import { CAST_BROADCAST, CAST_MULTICAST, type Packet } from "../../../stack/ip/types.ts";
import { EPHEMERAL_FIRST, EPHEMERAL_LAST } from "../../../stack/udp/ports.ts";
import { Socket } from "../../../stack/udp/socket.ts";
import { EVENT_ERROR, EVENT_READABLE, type UdpOptions, type UdpSource } from "../../../stack/udp/types.ts";
import { SOCKETS_MAX, Udp } from "../../../stack/udp/udp.ts";
import { bytesOf, ipv4, keyOf, mutate, randomSource, transportChecksum, udp, type UdpFields } from "../../testing/frames.ts";
import { errorAbout, FakeIp, packetOf } from "../../testing/packets.ts";

const ME = keyOf("10.0.0.2");
const PEER = keyOf("10.0.0.1");
const GROUP = "239.1.2.3";

function setUp(): { ip: FakeIp; layer: Udp } {
  const ip = new FakeIp(ME);
  ip.broadcast.add(keyOf("10.0.0.255")).add(-1);
  return { ip, layer: new Udp(ip) };
}

function open(layer: Udp, localKey: number, port: number, options?: UdpOptions): Socket {
  const socket = layer.open(localKey, port, options);
  assert(socket instanceof Socket, `open gave ${socket}`);
  return socket;
}

function source(): UdpSource {
  return { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };
}

/** Hands in a datagram from 10.0.0.1:1000 to 10.0.0.2:7 unless it says otherwise. */
function deliver(layer: Udp, payload: Uint8Array, fields: UdpFields = {}, more: Partial<Packet> = {}): void {
  const { source, destination } = fields;
  layer.input(packetOf(ipv4({ source, destination }, udp(fields, payload)), more), 0);
}

function read(socket: Socket, size = 70_000): Uint8Array | number {
  const into = new Uint8Array(size);
  const length = socket.receive(into, 0, size, source());
  return length < 0 ? length : into.slice(0, length);
}

/** What of a sent datagram a peer would check. */
function verify(sent: FakeIp["sent"][number], from: string, to: string): Uint8Array {
  const { bytes } = sent;
  assertEquals(bytes[4] * 256 + bytes[5], bytes.length);
  assertNotEquals(bytes[6] * 256 + bytes[7], 0);
  assertEquals(transportChecksum(from, to, 17, [...bytes]), 0);
  return bytes.slice(8);
}

Deno.test("udp: a datagram comes in with its source, whole or cut", () => {
  const { layer } = setUp();
  const socket = open(layer, 0, 7);
  const payload = Uint8Array.from([1, 2, 3, 4, 5]);
  deliver(layer, payload);
  deliver(layer, payload);
  deliver(layer, new Uint8Array(0));
  assertEquals([socket.events, socket.pending, socket.nextLength], [EVENT_READABLE, 3, 5]);
  assertEquals(layer.ready, [socket]); // once, however many came
  const from = source();
  const into = new Uint8Array(8).fill(9);
  assertEquals(socket.receive(into, 2, 3, from), 3);
  assertEquals([...into], [9, 9, 1, 2, 3, 9, 9, 9]);
  assertEquals(from, { key: PEER, port: 1000, localKey: ME, interfaceIndex: 1, length: 5 });
  assertEquals(read(socket), payload);
  assertEquals(read(socket), new Uint8Array(0));
  assertEquals([read(socket), socket.nextLength, layer.statistics.received], [EAGAIN, -1, 3]);
});

Deno.test("udp: a bad checksum or length is dropped and counted; none, or one that a device knows, is taken", () => {
  //= rfc1122#4.1.3.4 type=test
  //# If a UDP datagram is received with a checksum that is non-zero and invalid, UDP MUST silently discard the datagram.
  const { ip, layer } = setUp();
  const socket = open(layer, 0, 7);
  const payload = new Uint8Array(9).fill(7);
  deliver(layer, payload, { checksum: 0x1234 });
  assertEquals([socket.pending, layer.statistics.badChecksum, ip.unreachable.length], [0, 1, 0]);
  //= rfc768#page-2 type=test
  //# An all zero transmitted checksum value means that the transmitter generated no checksum
  deliver(layer, payload, { checksum: 0 });
  deliver(layer, payload, { checksum: 0x1234 }, { flags: RX_CHECKSUM_VALID });
  deliver(layer, payload, { checksum: 0x1234 }, { flags: RX_CHECKSUM_PARTIAL });
  assertEquals(socket.pending, 3);
  deliver(layer, payload, { length: 7 });
  deliver(layer, payload, { length: 18 });
  assertEquals([socket.pending, layer.statistics.badLength], [3, 2]);
  // A packet longer than its datagram: the rest belongs to nobody, and the pseudo-header counts the datagram.
  const packet = packetOf(ipv4({}, bytesOf(udp({}, payload), [1, 2, 3])));
  layer.input(packet, 0);
  assertEquals([socket.pending, layer.statistics.badChecksum], [4, 1]);
});

Deno.test("udp: every truncation of a datagram is dropped, every damage counted once", () => {
  const { ip, layer } = setUp();
  open(layer, 0, 7, { receiveQueueMax: 100 });
  const whole = udp({}, new Uint8Array(20).fill(1));
  for (let length = 0; length < whole.length; length++) layer.input(packetOf(ipv4({}, whole.slice(0, length))), 0);
  assertEquals(layer.statistics.badLength, whole.length);
  const random = randomSource(5);
  for (let i = 0; i < 20_000; i++) {
    const packet = packetOf(ipv4({}, mutate(whole, random)));
    packet.flags = random() % 2 === 0 ? RX_CHECKSUM_VALID : 0;
    packet.segmentSize = random() % 4 === 0 ? random() % 40 : 0;
    const before = layer.statistics.received + layer.statistics.receiveBufferFull;
    layer.input(packet, 0);
    if (packet.segmentSize > 0) {
      // Several from one: don't let them disturb the sum below.
      const extra = layer.statistics.received + layer.statistics.receiveBufferFull - before - 1;
      if (extra > 0) layer.statistics.receiveBufferFull -= extra;
    }
  }
  const { received, noPort, badChecksum, badLength, receiveBufferFull } = layer.statistics;
  assertEquals(received + noPort + badChecksum + badLength + receiveBufferFull, 20_000 + whole.length);
  assertEquals(ip.unreachable.length, noPort);
});

Deno.test("udp: nobody there: port unreachable for unicast only", () => {
  //= rfc1122#4.1.3.1 type=test
  //# If a datagram arrives addressed to a UDP port for which there is no pending LISTEN call, UDP SHOULD send an ICMP Port
  //# Unreachable message.
  const { ip, layer } = setUp();
  deliver(layer, new Uint8Array(1));
  deliver(layer, new Uint8Array(1), { destination: "255.255.255.255" }, { cast: CAST_BROADCAST });
  deliver(layer, new Uint8Array(1), { destination: GROUP }, { cast: CAST_MULTICAST });
  assertEquals([ip.unreachable, layer.statistics.noPort], [[3], 3]);
});

Deno.test("udp: connected before unconnected, bound to the address before bound to all", () => {
  const { layer } = setUp();
  const options = { reuseAddress: true };
  // The preferred one first: the order of opening must not count.
  const connected = open(layer, 0, 7, options);
  const bound = open(layer, ME, 7, options);
  const all = open(layer, 0, 7, options);
  assertEquals(connected.connect(PEER, 1000), 0);
  assertEquals([connected.localKey, connected.remoteKey, connected.remotePort], [ME, PEER, 1000]);
  deliver(layer, new Uint8Array(1));
  deliver(layer, new Uint8Array(1), { sourcePort: 1001 });
  deliver(layer, new Uint8Array(1), { destination: "10.0.0.77" });
  assertEquals([connected.pending, bound.pending, all.pending], [1, 1, 1]);
  connected.connect(0, 0);
  assertEquals([connected.localKey, connected.remoteKey, connected.remotePort], [0, 0, 0]);
});

Deno.test("udp: broadcast and multicast go to every socket they may be for", () => {
  const { layer } = setUp();
  const options = { reuseAddress: true };
  const all = open(layer, 0, 7, options);
  const other = open(layer, 0, 7, options);
  const unicast = open(layer, ME, 7, options);
  const group = open(layer, keyOf(GROUP), 7, options);
  deliver(layer, new Uint8Array(1), { destination: GROUP }, { cast: CAST_MULTICAST });
  deliver(layer, new Uint8Array(1), { destination: "10.0.0.255" }, { cast: CAST_BROADCAST });
  assertEquals([all.pending, other.pending, unicast.pending, group.pending], [2, 2, 0, 1]);
});

Deno.test("udp: a super-frame becomes datagrams", () => {
  const { layer } = setUp();
  const socket = open(layer, 0, 7);
  const payload = Uint8Array.from({ length: 25 }, (_, i) => i);
  deliver(layer, payload, {}, { flags: RX_CHECKSUM_PARTIAL, segmentSize: 10 });
  assertEquals([read(socket), read(socket), read(socket)], [payload.slice(0, 10), payload.slice(10, 20), payload.slice(20)]);
  assertEquals(read(socket), EAGAIN);
});

Deno.test("udp: the receive queue has its bounds in bytes and in datagrams, and each drop is counted", () => {
  const { layer } = setUp();
  const socket = open(layer, 0, 7, { receiveBufferMax: 1000, receiveQueueMax: 5 });
  for (let i = 0; i < 3; i++) deliver(layer, new Uint8Array(400));
  assertEquals([socket.pending, socket.statistics.dropped, layer.statistics.receiveBufferFull], [2, 1, 1]);
  for (let i = 0; i < 5; i++) deliver(layer, new Uint8Array(1));
  assertEquals([socket.pending, socket.statistics], [5, { received: 5, sent: 0, dropped: 3 }]);
  while (typeof read(socket) !== "number");
  assertEquals([layer.pool.lent, socket.pending], [0, 0]);
});

Deno.test("udp: what is sent is valid, of every length around the edges", () => {
  const { ip, layer } = setUp();
  const socket = open(layer, 0, 7);
  for (const length of [0, 1, 2, 3, 47, 48, 49, 1471, 1472, 1473, 1911, 1912, 1913, 9000, 65_506, 65_507]) {
    const payload = Uint8Array.from({ length: length + 2 }, (_, i) => i * 3);
    assertEquals(socket.send(payload, 1, length, PEER, 1000), length);
    const sent = ip.sent.pop()!;
    assertEquals(verify(sent, "10.0.0.2", "10.0.0.1"), payload.slice(1, length + 1));
    assertEquals([...sent.bytes.slice(0, 4)], [0, 7, 1000 >> 8, 1000 & 255]);
    assertEquals([sent.proto, sent.checksumStart], [17, -1]);
  }
  assertEquals(socket.send(new Uint8Array(65_508), 0, 65_508, PEER, 1000), EMSGSIZE);
  assertEquals([socket.statistics.sent, layer.statistics.sent], [16, 16]);
});

Deno.test("udp: a checksum of zero is sent as all ones", () => {
  //= rfc768#page-2 type=test
  //# If the computed checksum is zero, it is transmitted as all ones (the equivalent in one's complement arithmetic).
  for (const large of [0, 3000]) {
    const { ip, layer } = setUp();
    const socket = open(layer, 0, 7);
    const payload = new Uint8Array(2 + large);
    socket.send(payload, 0, payload.length, PEER, 1000);
    payload.set(ip.sent[0].bytes.slice(6, 8)); // what was missing to 0xffff
    socket.send(payload, 0, payload.length, PEER, 1000);
    assertEquals([...ip.sent[1].bytes.slice(6, 8)], [0xff, 0xff]);
    verify(ip.sent[1], "10.0.0.2", "10.0.0.1");
  }
});

Deno.test("udp: the checksum is left to a device that makes it, but not across fragments", () => {
  const { ip, layer } = setUp();
  ip.txChecksum = true;
  const socket = open(layer, 0, 7);
  socket.send(new Uint8Array(100), 0, 100, PEER, 1000);
  assertEquals([ip.sent[0].checksumStart, ip.sent[0].inline], [0, true]);
  socket.send(new Uint8Array(2000), 0, 2000, PEER, 1000);
  assertEquals(ip.sent[1].checksumStart, -1);
  verify(ip.sent[1], "10.0.0.2", "10.0.0.1");
});

Deno.test("udp: options of sending", () => {
  const { ip, layer } = setUp();
  const socket = open(layer, 0, 7, { ttl: 9, multicastTtl: 3, multicastLoop: false, tos: 0x10 });
  const one = new Uint8Array(1);
  socket.send(one, 0, 1, PEER, 9);
  socket.send(one, 0, 1, keyOf(GROUP), 9);
  assertEquals(ip.sent.map(({ options }) => options), [
    { ttl: 9, tos: 0x10, dontFragment: false },
    { ttl: 3, tos: 0x10, dontFragment: false, multicastLoop: false },
  ]);
  socket.setOptions({ dontFragment: true });
  assertEquals(socket.send(new Uint8Array(1473), 0, 1473, PEER, 9), EMSGSIZE);
  assertEquals(socket.send(new Uint8Array(1472), 0, 1472, PEER, 9), 1472);
  assertEquals([socket.send(one, 0, 1, keyOf("10.0.0.255"), 9), socket.send(one, 0, 1, -1, 9)], [1, 1]);
  socket.setOptions({ broadcast: false });
  assertEquals([socket.send(one, 0, 1, keyOf("10.0.0.255"), 9), socket.send(one, 0, 1, -1, 9)], [EACCES, EACCES]);
  assertEquals(socket.connect(-1, 9), EACCES);
  assertEquals(layer.statistics.sendErrors, 3);
});

Deno.test("udp: sending without a peer, without a way, to port 0", () => {
  const { ip, layer } = setUp();
  const socket = open(layer, 0, 7);
  const one = new Uint8Array(1);
  assertEquals(socket.send(one, 0, 1, 0, 0), ENOTCONN);
  assertEquals(socket.send(one, 0, 1, PEER, 0), EINVAL);
  ip.pathCode = ENETUNREACH;
  assertEquals([socket.send(one, 0, 1, PEER, 9), socket.connect(PEER, 9)], [ENETUNREACH, ENETUNREACH]);
  ip.pathCode = 0;
  ip.sendCode = EAGAIN;
  assertEquals(socket.send(one, 0, 1, PEER, 9), EAGAIN);
  assertEquals([layer.statistics.sendErrors, layer.statistics.sent], [2, 0]);
});

Deno.test("udp: the way is looked up once, and again when it is stale", () => {
  const { ip, layer } = setUp();
  const socket = open(layer, 0, 7);
  const one = new Uint8Array(1);
  for (let i = 0; i < 5; i++) socket.send(one, 0, 1, PEER, 9);
  assertEquals(ip.paths, 1);
  ip.stale = true;
  socket.send(one, 0, 1, PEER, 9);
  assertEquals(ip.paths, 2);
  socket.send(one, 0, 1, keyOf("10.0.0.3"), 9);
  assertEquals([ip.paths, ip.sent.at(-1)!.path.remoteKey], [3, keyOf("10.0.0.3")]);
});

Deno.test("udp: a port unreachable reaches the connected socket once, and nobody else", () => {
  //= rfc1122#4.1.3.3 type=test
  //# UDP MUST pass to the application layer all ICMP error messages that it receives from the IP layer.
  const { layer } = setUp();
  const connected = open(layer, 0, 7);
  const other = open(layer, 0, 8);
  connected.connect(PEER, 1000);
  const quote = (fields: UdpFields) => {
    const addresses = { source: "10.0.0.2", destination: "10.0.0.1" };
    return ipv4(addresses, udp({ ...addresses, sourcePort: 7, destinationPort: 1000, ...fields }, new Uint8Array(0)));
  };
  const forged = [
    errorAbout(quote({ destinationPort: 1001 }), ECONNREFUSED),
    errorAbout(quote({ sourcePort: 9 }), ECONNREFUSED),
    errorAbout(quote({}), ECONNREFUSED, { remoteKey: keyOf("10.0.0.9") }),
    errorAbout(quote({}), ECONNREFUSED, { length: 7 }),
  ];
  for (const error of forged) assertEquals(layer.error(error, 0), false);
  assertEquals(layer.error(errorAbout(quote({ sourcePort: 8 }), ECONNREFUSED), 0), true);
  assertEquals(layer.error(errorAbout(quote({}), EMSGSIZE, { mtu: 576 }), 0), true);
  assertEquals([connected.events, other.events], [0, 0]);
  layer.error(errorAbout(quote({}), ECONNREFUSED), 0);
  assertEquals([connected.events, layer.ready.length], [EVENT_ERROR, 1]);
  assertEquals([read(connected), read(connected)], [ECONNREFUSED, EAGAIN]);
  layer.error(errorAbout(quote({}), ECONNREFUSED), 0);
  assertEquals([connected.send(new Uint8Array(1), 0, 1, 0, 0), connected.send(new Uint8Array(1), 0, 1, 0, 0)], [ECONNREFUSED, 1]);
  connected.setOptions({ dontFragment: true });
  layer.error(errorAbout(quote({}), EMSGSIZE, { mtu: 576 }), 0);
  assertEquals(read(connected), EMSGSIZE);
});

Deno.test("udp: addresses and ports", () => {
  const { ip, layer } = setUp();
  assertEquals(layer.open(0, 65_536), EINVAL);
  assertEquals(layer.open(0, 1.5), EINVAL);
  assertEquals(layer.open(keyOf("10.0.0.9"), 7), EADDRNOTAVAIL);
  const first = open(layer, ME, 7);
  assertEquals([layer.open(0, 7), layer.open(ME, 7)], [EADDRINUSE, EADDRINUSE]);
  assertEquals(layer.open(ME, 7, { reuseAddress: true }), EADDRINUSE);
  ip.local.add(keyOf("10.0.0.3"));
  open(layer, keyOf("10.0.0.3"), 7);
  first.close();
  first.close();
  open(layer, ME, 7);
  assertEquals([...layer.sockets()].length, 2);
});

Deno.test("udp: free ports are random, in Linux's range, and different", () => {
  // RFC 6056 3.3.1.
  const { layer } = setUp();
  const ports = Array.from({ length: 50 }, () => open(layer, 0, 0).localPort);
  assertEquals(new Set(ports).size, 50);
  assert(ports.every((port) => port >= EPHEMERAL_FIRST && port <= EPHEMERAL_LAST));
  assert(ports.some((port, i) => i > 0 && Math.abs(port - ports[i - 1]) > 100));
});

Deno.test("udp: when every free port is taken the answer is EADDRINUSE, and sockets are bounded", () => {
  const { layer } = setUp();
  let last: unknown = null;
  for (let i = 0; i < SOCKETS_MAX; i++) last = open(layer, 0, 0);
  assert(last instanceof Socket);
  assertEquals(layer.open(0, 0), ENOBUFS);
  const table = layer.table;
  for (let port = EPHEMERAL_FIRST; port <= EPHEMERAL_LAST; port++) {
    if (!table.taken(0, port, false)) table.add(new Socket(layer, 0, port, {}));
  }
  assertEquals(table.choose(0, 12_345), EADDRINUSE);
  table.remove(table.find(ME, 40_000, PEER, 1)!);
  assertEquals(table.choose(0, 12_345), 40_000);
});

Deno.test("udp: groups are joined by the socket and left when it closes", () => {
  const { ip, layer } = setUp();
  const socket = open(layer, 0, 7);
  const group = keyOf(GROUP);
  assertEquals([socket.joinMulticast(group), socket.joinMulticast(group, 2)], [0, 0]);
  assertEquals([socket.joinMulticast(group), socket.joinMulticast(PEER)], [EADDRINUSE, EINVAL]);
  assertEquals([socket.leaveMulticast(group), socket.leaveMulticast(group)], [0, EADDRNOTAVAIL]);
  assertEquals(ip.joined, [[group, 2]]);
  socket.close();
  assertEquals(ip.joined, []);
});

Deno.test("udp: a closed socket gives EBADF and its memory; the end of the stack reaches everyone", () => {
  const { layer } = setUp();
  const closed = open(layer, 0, 7);
  deliver(layer, new Uint8Array(100));
  assert(layer.pool.lent > 0);
  closed.close();
  assertEquals([layer.pool.lent, closed.pending], [0, 0]);
  const one = new Uint8Array(1);
  assertEquals([read(closed), closed.send(one, 0, 1, PEER, 9), closed.connect(PEER, 9)], [EBADF, EBADF, EBADF]);
  assertEquals(closed.joinMulticast(keyOf(GROUP)), EBADF);
  const waiting = open(layer, 0, 7);
  layer.ready.length = 0;
  layer.shutdown(ENETDOWN);
  assertEquals([waiting.events, layer.ready.length, [...layer.sockets()].length], [EVENT_ERROR, 1, 0]);
  assertEquals([read(waiting), read(waiting), layer.open(0, 7)], [ENETDOWN, ENETDOWN, ENETDOWN]);
});
