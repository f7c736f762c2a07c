/** What IPv4 takes and what it drops, for every kind of wrong packet, and that hostile frames are all accounted for. */
import { assert, assertEquals } from "@std/assert";
import { RX_CHECKSUM_VALID } from "../../../stack/device.ts";
import { CAST_BROADCAST, CAST_MULTICAST, CAST_UNICAST } from "../../../stack/ip/types.ts";
import { parseAddress as key } from "../../../stack/wire/address.ts";
import {
  bytesOf,
  corpus,
  echo,
  ethernet,
  fragments,
  ipv4,
  type Ipv4Fields,
  randomFrame,
  randomSource,
  udp,
} from "../../testing/frames.ts";
import { ArrayDevice, IpHost } from "../../testing/ip_host.ts";

const data = Uint8Array.from({ length: 32 }, (_, i) => i);
const packet = (fields: Ipv4Fields, destination?: string) => ethernet({ destination }, ipv4(fields, udp(fields, data)));
const BROADCAST = "ff:ff:ff:ff:ff:ff";

Deno.test("a datagram comes up with all that a transport needs, its padding gone", () => {
  const host = new IpHost();
  host.in(bytesOf(packet({ ttl: 9, tos: 0x2e }), new Uint8Array(11)), RX_CHECKSUM_VALID);
  const [got] = host.udp.packets;
  assertEquals(got.payload, udp({}, data));
  assertEquals(
    [got.srcKey, got.dstKey, got.proto, got.ttl, got.tos, got.flags, got.cast, got.interfaceIndex, got.ipHeaderLength],
    [
      key("10.0.0.1"),
      key("10.0.0.2"),
      17,
      9,
      0x2e,
      RX_CHECKSUM_VALID,
      CAST_UNICAST,
      1,
      20,
    ],
  );
  assertEquals(got.pseudoSum, 0x0a00 + 1 + 0x0a00 + 2 + 17 + 40);
  host.in(packet({ options: [148, 4, 0, 0] }));
  assertEquals([host.udp.packets[1].ipHeaderLength, host.udp.packets[1].payload.length], [24, 40]);
});

Deno.test("destinations: ours, broadcasts, joined groups; nothing else", () => {
  const host = new IpHost();
  //= rfc1122#3.2.1.3 type=test
  // An incoming datagram is destined for the host if the datagram's destination address field is: (1) (one of) the host's IP
  // address(es); or (2) an IP broadcast address
  // valid for the connected network; or (3) the address for a multicast group of which the host is a member on the incoming
  // physical interface.
  host.in(packet({ destination: "10.0.0.255" }, BROADCAST));
  host.in(packet({ destination: "255.255.255.255" }, BROADCAST));
  host.in(packet({ source: "0.0.0.0", destination: "255.255.255.255" }, BROADCAST));
  assertEquals(host.udp.packets.map((p) => p.cast), [CAST_BROADCAST, CAST_BROADCAST, CAST_BROADCAST]);
  host.in(packet({ destination: "239.1.2.3" }, "01:00:5e:01:02:03"));
  assertEquals(host.count("ip", "dropNotMember"), 1);
  host.ip.joinMulticast(key("239.1.2.3"));
  host.in(packet({ destination: "239.1.2.3" }, "01:00:5e:01:02:03"));
  assertEquals(host.udp.packets[3].cast, CAST_MULTICAST);
  host.ip.leaveMulticast(key("239.1.2.3"));
  host.in(packet({ destination: "239.1.2.3" }, "01:00:5e:01:02:03"));
  assertEquals(host.count("ip", "dropNotMember"), 2);
  //= rfc1122#3.2.1.3 type=test
  // A host MUST silently discard an incoming datagram that is not destined for the host.
  host.in(packet({ destination: "10.0.0.3" }));
  //= rfc1122#3.3.6 type=test
  // A host SHOULD silently discard a datagram that is received via a link-layer broadcast (see Section 2.4) but does not
  // specify an IP multicast or broadcast destination address.
  host.in(packet({}, BROADCAST));
  //= rfc1122#3.2.1.3 type=test
  // (g) { 127, <any> } Internal host loopback address. Addresses of this form MUST NOT appear outside a host.
  host.in(packet({ destination: "127.0.0.1" }));
  host.in(packet({ destination: "240.0.0.1" }));
  host.in(ethernet({ destination: "02:00:00:00:00:77" }, ipv4({}, udp({}, data))));
  const { ip, "interface 1": link } = host.ip.statistics;
  assertEquals([ip.dropNotForUs, ip.dropLinkBroadcast, ip.dropMartianDestination, link.dropOtherHost], [1, 1, 2, 1]);
  assertEquals(host.udp.packets.length, 4);
});

Deno.test("sources that are no single host are martians", () => {
  const host = new IpHost();
  const sources = ["255.255.255.255", "10.0.0.255", "224.0.0.1", "240.0.0.1", "127.0.0.1", "0.0.0.0", "0.1.2.3", "10.0.0.2"];
  //= rfc1122#3.2.1.3 type=test
  // A host MUST silently discard an incoming datagram containing an IP source address that is invalid by the rules of this
  // section.
  for (const source of sources) host.in(packet({ source }));
  assertEquals([host.count("ip", "dropMartianSource"), host.udp.packets.length, host.out().length], [sources.length, 0, 0]);
});

Deno.test("options: tolerated, refused, or answered with the place that is wrong", () => {
  //= rfc9293#3.9.2 type=test
  // When received options are passed up to TCP from the IP layer, a TCP implementation MUST ignore options that it does not
  // understand (MUST-50).
  const host = new IpHost();
  host.in(packet({ options: [7, 7, 4, 0, 0, 0, 0] }));
  host.in(packet({ options: [68, 8, 5, 0, 0, 0, 0, 0] }));
  assertEquals(host.udp.packets.length, 2);
  host.in(packet({ options: [131, 7, 4, 10, 0, 0, 9] }));
  assertEquals([host.count("ip", "dropSourceRoute"), host.out().length], [1, 0]);
  host.ip.setNeighbor(1, key("10.0.0.1"), Uint8Array.of(2, 0, 0, 0, 0, 1));
  host.in(packet({ options: [7, 40, 4, 0] }));
  //= rfc792#page-8 type=test
  // If the gateway or host processing a datagram finds a problem with the header parameters such that it cannot complete
  // processing the datagram it must discard the datagram. … The pointer identifies the octet of the original datagram's
  // header where the error was detected
  const [error] = host.out();
  assertEquals([error.icmp?.type, error.icmp?.code, error.icmp?.rest[0]], [12, 0, 21]);
});

Deno.test("fragments in any order become one datagram; the checksum of a device says nothing about them", () => {
  const host = new IpHost();
  const large = Uint8Array.from({ length: 5000 }, (_, i) => i * 3);
  const pieces = fragments({ id: 9 }, udp({}, large), 1500);
  for (const piece of pieces.reverse()) host.in(ethernet({}, piece), RX_CHECKSUM_VALID);
  assertEquals(host.udp.packets.map((p) => [p.payload.length, p.flags]), [[5008, 0]]);
  assertEquals(host.udp.packets[0].payload, udp({}, large));
  assertEquals([host.count("ip", "fragments"), host.count("ip", "reassembled")], [4, 1]);
});

Deno.test("a datagram that stays incomplete is reported if its beginning came", () => {
  const host = new IpHost();
  host.ip.setNeighbor(1, key("10.0.0.1"), Uint8Array.of(2, 0, 0, 0, 0, 1));
  const pieces = fragments({ id: 9 }, udp({}, new Uint8Array(3000)), 1500);
  host.in(ethernet({}, pieces[0]));
  host.in(ethernet({}, fragments({ id: 10 }, udp({}, new Uint8Array(3000)), 1500)[1]));
  host.to(host.ip.now + 200_000);
  //= rfc792#page-6 type=test
  // If a host reassembling a fragmented datagram cannot complete the reassembly due to missing fragments within its time
  // limit it discards the datagram, and it may send a time exceeded message. If fragment zero is not available then no time
  // exceeded need be sent at all.
  assertEquals(host.out().map((f) => [f.icmp?.type, f.icmp?.code]), [[11, 1]]);
});

/** Every frame is found again in exactly one counter of each layer. */
function accounts(host: IpHost): void {
  const { ip, icmp, forward, ...rest } = host.ip.statistics;
  const sumOf = (counts: Record<string, number>, ...names: string[]) =>
    Object.entries(counts).reduce((n, [name, value]) => n + (name.startsWith("drop") || names.includes(name) ? value : 0), 0);
  const links = Object.entries(rest).filter(([name]) => name.startsWith("interface"));
  for (const [, counts] of links) assertEquals(counts.received, sumOf(counts, "ip", "arp"), "link");
  assertEquals(ip.received + ip.reassembled, sumOf(ip, "delivered", "toForward", "fragments"), "ip");
  const ignored = Object.keys(icmp).filter((name) => name.endsWith("Ignored"));
  assertEquals(icmp.received, sumOf(icmp, "echoRequests", "echoReplies", "errorsReceived", ...ignored), "icmp");
  if (forward !== undefined) assertEquals(ip.toForward, sumOf(forward, "forwarded"), "forward");
}

Deno.test("every truncation of every kind of frame is dropped and counted, or handled", () => {
  const host = new IpHost();
  for (const { frame } of corpus()) {
    for (let n = 0; n <= frame.length; n++) host.in(frame.slice(0, n));
    host.device.sent.length = 0;
  }
  accounts(host);
  // Only whole packets got through: the corpus has that many for us, with and without their padding.
  const whole = new IpHost();
  for (const { frame } of corpus()) whole.in(frame);
  assertEquals(host.count("ip", "delivered") >= whole.count("ip", "delivered"), true);
  assertEquals(host.count("icmp", "dropChecksum"), 0);
});

for (const forwarding of [false, true]) {
  Deno.test(`200,000 hostile frames never throw and are all accounted for${forwarding ? ", while forwarding" : ""}`, () => {
    const random = randomSource(forwarding ? 4 : 3);
    const host = new IpHost({ forwarding });
    const second = new ArrayDevice(Uint8Array.of(2, 0, 0, 0, 1, 2), 576);
    host.ip.addInterface(second);
    host.ip.addAddress(2, key("10.1.0.2"), 16);
    host.ip.addRoute({ destination: 0, prefixLength: 0, gateway: key("10.1.0.1"), interfaceIndex: 2, metric: 0 });
    host.ip.joinMulticast(key("239.1.2.3"));
    const frames = corpus();
    // What a forwarder gets, too.
    for (const dontFragment of [false, true]) {
      const fields = { destination: "8.8.8.8", dontFragment };
      frames.push({ name: "for others", frame: ethernet({}, ipv4(fields, udp(fields, new Uint8Array(1000)))) });
    }
    frames.push({ name: "ping", frame: ethernet({}, ipv4({ protocol: 1 }, echo(1, 2, new Uint8Array(1400)))) });
    for (let i = 0; i < 200_000; i++) {
      const frame = randomFrame(frames, random);
      const segmentSize = random() % 8 === 0 ? random() % 1500 : 0;
      host.in(frame, random() % 3, segmentSize, random() % 2);
      if (i % 64 === 0) {
        host.to(host.ip.now + random() % 500);
        host.device.sent.length = second.sent.length = 0;
        host.udp.packets.length = host.tcp.packets.length = host.echoes.length = 0;
      }
    }
    accounts(host);
    const { ip, arp, reassembly } = host.ip.statistics;
    assert(ip.delivered > 1000 && ip.dropChecksum > 1000 && arp.repliesSent > 100 && reassembly !== undefined);
    if (forwarding) assert(host.count("forward", "forwarded") > 100);
  });
}
