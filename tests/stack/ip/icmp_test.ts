/** ICMP: echo, errors that we send and when not, errors that we get, and path MTU discovery. */
import { assert, assertEquals } from "@std/assert";
import * as codes from "../../../stack/codes.ts";
import type { Path } from "../../../stack/ip/types.ts";
import { parseAddress as key } from "../../../stack/wire/address.ts";
import { bytesOf, echo, ethernet, fragments, icmp, ipv4, type Ipv4Fields, u16, udp } from "../../testing/frames.ts";
import { IpHost } from "../../testing/ip_host.ts";

const MAC = Uint8Array.of(2, 0, 0, 0, 0, 1);
const data = Uint8Array.from({ length: 32 }, (_, i) => i);

function reachable(options: ConstructorParameters<typeof IpHost>[0] = {}): IpHost {
  const host = new IpHost(options);
  host.ip.setNeighbor(1, key("10.0.0.1"), MAC);
  return host;
}
const message = (payload: Uint8Array, fields: Ipv4Fields = {}) => ethernet({}, ipv4({ protocol: 1, ...fields }, payload));
/** The start of a packet that we might have sent. */
const ours = (fields: Ipv4Fields = {}, payload = udp({}, data)) =>
  ipv4({ source: "10.0.0.2", destination: "10.0.0.1", ...fields }, payload);
const unreachable = (code: number, quote: Uint8Array, mtu = 0) => message(icmp(3, code, [0, 0, ...u16(mtu)], quote));

Deno.test("echo of every size comes back as it was, from the address that was asked", () => {
  for (const size of [0, 1, 55, 56, 1471, 1472]) {
    const host = reachable();
    host.ip.addAddress(1, key("10.0.0.7"), 24);
    host.out();
    const payload = Uint8Array.from({ length: size }, (_, i) => i * 5);
    host.in(message(echo(0x1234, 7, payload), { destination: "10.0.0.7", tos: 0x2b, ttl: 1 }));
    const [reply, ...more] = host.out();
    assertEquals([more.length, reply.problems], [0, []]);
    //= rfc1122#3.2.2.6 type=test
    // The IP source address in an ICMP Echo Reply MUST be the same as the specific-destination address of the corresponding
    // ICMP Echo Request message.
    assertEquals([reply.ip?.source, reply.ip?.destination, reply.ip?.ttl, reply.ip?.tos], ["10.0.0.7", "10.0.0.1", 64, 0x28]);
    //= rfc792#page-14 type=test
    // To form an echo reply message, the source and destination addresses are simply reversed, the type code changed to 0, and
    // the checksum recomputed.
    assertEquals(reply.icmp, { type: 0, code: 0, rest: [0x12, 0x34, 0, 7] });
    //= rfc1122#3.2.2.6 type=test
    // Data received in an ICMP Echo Request MUST be entirely included in the resulting Echo Reply.
    assertEquals(reply.payload, payload);
  }
});

Deno.test("a ping of 65,000 bytes goes through both stacks in fragments", () => {
  const a = reachable();
  const b = new IpHost({ address: "10.0.0.1/24" });
  b.ip.setNeighbor(1, key("10.0.0.2"), Uint8Array.of(2, 0, 0, 0, 0, 2));
  const payload = Uint8Array.from({ length: 65_000 }, (_, i) => i ^ (i >>> 8));
  assertEquals(a.ip.sendEcho(key("10.0.0.1"), 9, 1, payload), 0);
  for (const { bytes } of a.device.sent.splice(0)) {
    bytes.set([2, 0, 0, 0, 0, 2]);
    b.in(bytes);
  }
  assertEquals(b.device.sent.length, 44);
  for (const { bytes } of b.device.sent.splice(0).reverse()) a.in(bytes);
  assertEquals(a.echoes.map((e) => [e.code, e.fromKey, e.identifier, e.sequence, e.ttl]), [[0, key("10.0.0.1"), 9, 1, 64]]);
  assertEquals(a.echoes[0].data, payload);
  assertEquals(a.ip.sendEcho(key("10.0.0.1"), 9, 1, new Uint8Array(65_508)), codes.EMSGSIZE);
  assertEquals(a.ip.sendEcho(key("9.9.9.9"), 9, 1, payload), codes.ENETUNREACH);
});

Deno.test("what is ignored is counted: broadcast echo, redirects, source quench, timestamps, masks, unknown types", () => {
  //= rfc9293#3.9.2.2 type=test
  // Source Quench TCP implementations MUST silently discard any received ICMP Source Quench messages (MUST-55).
  const host = reachable();
  //= rfc1122#3.2.2.6 type=test
  // An ICMP Echo Request destined to an IP broadcast or IP multicast address MAY be silently discarded.
  const everyone = "ff:ff:ff:ff:ff:ff";
  host.in(ethernet({ destination: everyone }, ipv4({ protocol: 1, destination: "10.0.0.255" }, echo(1, 1, data))));
  host.in(message(icmp(5, 1, [10, 0, 0, 9], ours())));
  //= rfc6633#3 type=test
  // A host MUST NOT send ICMP Source Quench messages. If a Source Quench message is received, it MUST be silently discarded.
  host.in(message(icmp(4, 0, [0, 0, 0, 0], ours())));
  //= rfc1122#3.2.2.8 type=test
  // A host MAY implement Timestamp and Timestamp Reply.
  host.in(message(icmp(13, 0, [0, 0, 0, 0], new Uint8Array(12))));
  host.in(message(icmp(17, 0, [0, 0, 0, 0], new Uint8Array(4))));
  //= rfc1122#3.2.2 type=test
  // If an ICMP message of unknown type is received, it MUST be silently discarded.
  host.in(message(icmp(99, 0, [0, 0, 0, 0])));
  const { icmp: counts } = host.ip.statistics;
  const names = [
    "dropEchoBroadcast",
    "redirectsIgnored",
    "sourceQuenchIgnored",
    "timestampIgnored",
    "addressMaskIgnored",
    "dropType",
  ];
  assertEquals(names.map((name) => counts[name]), [1, 1, 1, 1, 1, 1]);
  assertEquals([host.out().length, host.udp.errors.length], [0, 0]);
});

Deno.test("an unknown protocol is unreachable; the error quotes as much as fits into 576 bytes", () => {
  const host = reachable();
  const packet = ipv4({ protocol: 132 }, new Uint8Array(1000).fill(7));
  host.in(ethernet({}, packet));
  //= rfc1122#3.2.2.1 type=test
  // A host SHOULD generate Destination Unreachable messages with code: 2 (Protocol Unreachable), when the designated
  // transport protocol is not supported
  const [error] = host.out();
  assertEquals([error.problems, error.icmp?.type, error.icmp?.code, error.ip?.source], [[], 3, 2, "10.0.0.2"]);
  //= rfc1812#4.3.2.3 type=test
  // the ICMP datagram SHOULD contain as much of the original datagram as possible without the length of the ICMP datagram
  // exceeding 576 bytes.
  assertEquals([error.ip?.totalLength, error.payload], [576, packet.slice(0, 548)]);
});

Deno.test("every unreachable code goes out; and never about what RFC 1122 3.2.2 forbids", () => {
  const host = reachable({ icmp: { perSecond: 0, ratelimitMs: 0 } });
  let code = 0;
  host.udp.onInput = (packet) => host.ip.sendUnreachable(packet, code);
  for (code = 0; code < 16; code++) host.in(message(udp({}, data), { protocol: 17 }));
  assertEquals(host.out().map((f) => f.icmp?.code), [...Array(16).keys()]);
  code = 3;
  //= rfc1122#3.2.2 type=test
  // An ICMP error message MUST NOT be sent as the result of receiving: an ICMP error message
  host.in(message(icmp(3, 77, [0, 0, 0, 0], ours())));
  //= rfc1122#3.2.2 type=test
  // a datagram destined to an IP broadcast or IP multicast address, or a datagram sent as a link-layer broadcast
  const everyone = "ff:ff:ff:ff:ff:ff";
  host.in(ethernet({ destination: everyone }, ipv4({ destination: "10.0.0.255" }, udp({}, data))));
  host.in(ethernet({ destination: "01:00:5e:00:00:01" }, ipv4({ destination: "224.0.0.1" }, udp({}, data))));
  host.in(ethernet({ destination: "01:00:5e:00:00:01" }, ipv4({}, udp({}, data))));
  //= rfc1122#3.2.2 type=test
  // a non-initial fragment
  const forwarder = reachable({ forwarding: true });
  const far = fragments({ destination: "9.9.9.9", ttl: 1 }, new Uint8Array(3000), 1500);
  for (const fragment of far) forwarder.in(ethernet({}, fragment));
  assertEquals(forwarder.out().map((f) => f.icmp?.type), [11]);
  //= rfc1122#3.2.2 type=test
  // a datagram whose source address does not define a single host -- e.g., a zero address, a loopback address, a broadcast
  // address, a multicast address, or a Class E address.
  host.in(ethernet({ destination: everyone }, ipv4({ source: "0.0.0.0", destination: "255.255.255.255" }, udp({}, data))));
  assertEquals(host.out().length, 0);
  assertEquals(host.count("icmp", "errorsNotAllowed"), 3);
});

Deno.test("errors are limited per destination and in all", () => {
  const host = reachable();
  host.udp.onInput = (packet) => host.ip.sendUnreachable(packet, 3);
  const hit = (source: string) => host.in(message(udp({ source }, data), { protocol: 17, source }));
  //= rfc1812#4.3.2.8 type=test
  // A router which sends ICMP Source Quench messages MUST be able to limit the rate at which the messages can be generated. …
  // other ICMP error messages SHOULD be limited as well.
  for (let i = 0; i < 20; i++) hit("10.0.0.1");
  assertEquals([host.out().length, host.count("icmp", "errorsRateLimited")], [6, 14]);
  host.to(host.ip.now + 2000);
  for (let i = 0; i < 20; i++) hit("10.0.0.1");
  assertEquals(host.out().length, 2);
  host.to(host.ip.now + 1000);
  for (let i = 0; i < 200; i++) {
    host.ip.setNeighbor(1, key(`10.0.0.${3 + i}`), MAC);
    hit(`10.0.0.${3 + i}`);
  }
  assertEquals(host.out().length, 50);
});

Deno.test("errors reach the transport whose packet they quote, with Linux's codes", () => {
  const host = reachable();
  const expected = [
    [codes.ENETUNREACH, false],
    [codes.EHOSTUNREACH, false],
    [codes.ENOPROTOOPT, true],
    [codes.ECONNREFUSED, true],
    [codes.EMSGSIZE, false],
    [codes.EHOSTUNREACH, false],
    [codes.ENETUNREACH, true],
    [codes.EHOSTDOWN, true],
    [codes.EHOSTUNREACH, true],
    [codes.ENETUNREACH, true],
    [codes.EHOSTUNREACH, true],
    [codes.ENETUNREACH, false],
    [codes.EHOSTUNREACH, false],
    [codes.EHOSTUNREACH, true],
    [codes.EHOSTUNREACH, true],
    [codes.EHOSTUNREACH, true],
  ];
  //= rfc1122#3.2.2 type=test
  // In those cases where the Internet layer is required to pass an ICMP error message to the transport layer, the IP protocol
  // number MUST be extracted from the original header and used to select the appropriate transport protocol entity to handle
  // the error.
  for (let code = 0; code < 17; code++) host.in(unreachable(code, ours().slice(0, 28)));
  //= rfc1122#4.2.3.9 type=test
  // Destination Unreachable -- codes 0, 1, 5: these Unreachable messages indicate soft error conditions … codes 2-4: these are
  // hard error conditions
  assertEquals(host.udp.errors.map((e) => [e.code, e.hard]), expected);
  const [first] = host.udp.errors;
  assertEquals([first.localKey, first.remoteKey, first.length, first.icmpType], [key("10.0.0.2"), key("10.0.0.1"), 8, 3]);
  host.in(message(icmp(11, 0, [0, 0, 0, 0], ours({ protocol: 6 }))));
  host.in(message(icmp(12, 0, [20, 0, 0, 0], ours({ protocol: 6 }))));
  assertEquals(host.tcp.errors.map((e) => [e.code, e.hard]), [[codes.EHOSTUNREACH, false], [codes.EPROTO, true]]);
});

Deno.test("errors with a quote that can't be ours are dropped", () => {
  const host = reachable();
  host.ip.addAddress(1, key("10.0.0.7"), 24);
  host.out();
  //= rfc1122#3.2.2 type=test
  // Every ICMP error message includes the Internet header and at least the first 8 data octets of the datagram that
  // triggered the error
  for (let n = 0; n < 28; n++) host.in(unreachable(3, ours().slice(0, n)));
  host.in(unreachable(3, ours({ source: "10.0.0.9" })));
  host.in(unreachable(3, ours({ source: "10.0.0.7" })));
  host.in(unreachable(3, ours({ version: 6 })));
  host.in(unreachable(3, ours({ headerWords: 4 })));
  host.in(unreachable(3, ours({ fragmentOffset: 8 })));
  assertEquals([host.count("icmp", "dropQuote"), host.udp.errors.length], [33, 0]);
  host.in(unreachable(3, ours({ protocol: 132 })));
  assertEquals(host.count("icmp", "dropUnsolicited"), 1);
});

Deno.test("an error about our echo comes to whoever asked", () => {
  const host = reachable();
  host.in(message(icmp(11, 0, [0, 0, 0, 0], ours({ protocol: 1, destination: "9.9.9.9" }, echo(5, 6, data))), { ttl: 33 }));
  const [got] = host.echoes;
  assertEquals([got.code, got.fromKey, got.identifier, got.sequence, got.ttl, got.icmpType, got.icmpCode], [
    codes.EHOSTUNREACH,
    key("10.0.0.1"),
    5,
    6,
    33,
    11,
    0,
  ]);
});

function routed(): { host: IpHost; path: Path } {
  const host = reachable();
  host.ip.addRoute({ destination: 0, prefixLength: 0, gateway: key("10.0.0.1"), interfaceIndex: 1, metric: 0 });
  const path = host.ip.path(0, key("9.9.9.9"));
  assert(typeof path !== "number");
  return { host, path };
}
const tooBig = (mtu: number, length = 1500) =>
  unreachable(4, ours({ destination: "9.9.9.9", totalLength: length, dontFragment: true }).slice(0, 28), mtu);

Deno.test("path MTU: lowered, never raised by a message, forgotten after ten minutes", () => {
  const { host, path } = routed();
  host.in(tooBig(1400));
  assert(path.stale);
  host.ip.renew(path);
  assertEquals([path.mtu, path.interfaceMtu, host.udp.errors[0].mtu, host.udp.errors[0].code], [
    1400,
    1500,
    1400,
    codes.EMSGSIZE,
  ]);
  //= rfc1191#3 type=test
  // A host MUST NOT increase its estimate of the Path MTU in response to the contents of a Datagram Too Big message.
  host.in(tooBig(1450));
  assertEquals([path.stale, host.udp.errors[1].mtu, host.count("pathMtu", "ignored")], [false, 0, 1]);
  host.to(host.ip.now + 599_000);
  assert(!path.stale);
  //= rfc1191#6.3 type=test
  // …the PMTU should be… set to the MTU of the first hop (after a timeout of about 10 minutes)
  host.to(host.ip.now + 1_000);
  assert(path.stale);
  host.ip.renew(path);
  assertEquals(path.mtu, 1500);
});

Deno.test("path MTU: old routers, liars, and forgers", () => {
  const { host, path } = routed();
  //= rfc1191#5 type=test
  // If the Next-Hop MTU field is zero … the host … should use the greatest plateau value less than the returned
  // Total Length.
  host.in(tooBig(0, 1492));
  host.ip.renew(path);
  assertEquals(path.mtu, 1006);
  host.udp.believe = false;
  host.in(tooBig(700));
  host.ip.renew(path);
  assertEquals([path.mtu, host.count("icmp", "dropUnsolicited")], [1006, 1], "the transport said that it never sent that");
  host.udp.believe = true;
  //= rfc1191#3 type=test
  // A host MUST never reduce its estimate of the Path MTU below 68 octets.
  host.in(tooBig(20));
  host.ip.renew(path);
  assertEquals(path.mtu, 552);
  const { tx } = host.ip;
  tx.reset(100);
  host.ip.send(path, 17, tx, { ttl: 64, tos: 0, dontFragment: true });
  assertEquals(host.out()[0].ip?.dontFragment, false, "the path is narrower than we believe: it may fragment");
});

Deno.test("path MTU: the table is bounded", () => {
  const { host } = routed();
  for (let i = 0; i < 3000; i++) {
    const destination = `9.${i >>> 8}.${i & 255}.1`;
    host.in(unreachable(4, ours({ destination, totalLength: 1500 }).slice(0, 28), 1000));
  }
  assertEquals([host.count("pathMtu", "entries"), host.count("pathMtu", "evicted")], [1024, 1976]);
});

Deno.test("padding and trailing bytes of an echo are not echoed", () => {
  const host = reachable();
  host.in(bytesOf(message(echo(1, 1, new Uint8Array(0))), new Uint8Array(18).fill(9)));
  assertEquals(host.out()[0].payload.length, 0);
});
