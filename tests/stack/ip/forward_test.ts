/** Forwarding between two devices: TTL, errors, fragments, checksums that others left to us, and super-frames. */
import { assert, assertEquals } from "@std/assert";
import { RX_CHECKSUM_PARTIAL } from "../../../stack/device.ts";
import { addressSum } from "../../../stack/wire/ipv4.ts";
import { fold } from "../../../stack/wire/checksum.ts";
import { parseAddress as key } from "../../../stack/wire/address.ts";
import { type Bytes, ethernet, fragments, ipv4, type Ipv4Fields, tcp, type TcpFields, udp } from "../../testing/frames.ts";
import { ArrayDevice, IpHost } from "../../testing/ip_host.ts";

const OFFLOAD = { rxChecksum: true, txChecksum: true, txSegmentation: 65_550, rxFrame: 65_550 };
const NEAR = Uint8Array.of(2, 0, 0, 0, 0, 1);
const FAR = Uint8Array.of(2, 0, 0, 0, 1, 9);
const TO = { source: "10.0.0.1", destination: "10.1.0.9" };
const data = Uint8Array.from({ length: 1200 }, (_, i) => i * 11);

function router(mtu = 1500, capabilities = new ArrayDevice().capabilities): { host: IpHost; far: ArrayDevice } {
  const host = new IpHost({ forwarding: true });
  const far = new ArrayDevice(Uint8Array.of(2, 0, 0, 0, 1, 2), mtu, capabilities);
  host.ip.addInterface(far);
  host.ip.addAddress(2, key("10.1.0.2"), 16);
  host.ip.setNeighbor(1, key("10.0.0.1"), NEAR);
  host.ip.setNeighbor(2, key("10.1.0.9"), FAR);
  far.sent.length = 0;
  return { host, far };
}
const packet = (fields: Ipv4Fields = {}, payload = udp(TO, data)) => ethernet({}, ipv4({ ...TO, ...fields }, payload));

/** A TCP packet whose checksum holds the pseudo-header's sum only. */
function partial(fields: TcpFields, payload: Bytes, more: Ipv4Fields = {}): Bytes {
  const length = tcp(fields).length + payload.length;
  const checksum = fold(addressSum(key(TO.source)) + addressSum(key(TO.destination)) + 6 + length);
  return packet({ protocol: 6, ...more }, tcp({ ...fields, ...TO, checksum }, payload));
}

Deno.test("a packet goes on with one hop less and nothing else changed", () => {
  const { host, far } = router();
  host.in(packet({ ttl: 2, tos: 0x2e, id: 77, dontFragment: true, options: [148, 4, 0, 0] }));
  const [frame] = host.out(far);
  assertEquals(frame.problems, []);
  assertEquals([frame.ethernet?.destination, frame.ethernet?.source], ["02:00:00:00:01:09", "02:00:00:00:01:02"]);
  //= rfc1812#5.3.1 type=test
  // (the Time to Live is decremented by one and no further change is made to the header but its checksum)
  assertEquals([frame.ip?.ttl, frame.ip?.tos, frame.ip?.id, frame.ip?.dontFragment, frame.ip?.options.slice(0, 4)], [
    1,
    0x2e,
    77,
    true,
    [148, 4, 0, 0],
  ]);
  assertEquals(frame.payload, data);
  assertEquals(host.udp.packets.length, 0);
});

Deno.test("TTL, no route, a silent neighbour: each its error, from the interface it leaves by", () => {
  const { host } = router();
  //= rfc1812#5.3.1 type=test
  // If the TTL is reduced to zero (or less), the packet MUST be discarded, and if the destination is not a multicast address
  // the router MUST send an ICMP Time Exceeded message, Code 0 (TTL Exceeded in Transit) message to the source.
  host.in(packet({ ttl: 1 }));
  host.in(packet({ ttl: 0 }));
  //= rfc1812#5.2.7.1 type=test
  // If a router cannot forward a packet because it has no routes at all (including no default route) to the destination
  // specified in the packet, then the router MUST generate a Destination Unreachable, Code 0 (Network Unreachable) ICMP message.
  host.in(packet({ destination: "99.0.0.1" }));
  host.in(packet({ destination: "10.1.0.77" }));
  host.to(host.ip.now + 4000);
  const errors = host.out();
  //= rfc1812#4.3.2.4 type=test
  // Except where this document specifies otherwise, the IP source address in an ICMP message originated by the router MUST be
  // one of the IP addresses associated with the physical interface over which the ICMP message is transmitted.
  assertEquals(errors.map((f) => [f.icmp?.type, f.icmp?.code, f.ip?.source]), [
    [11, 0, "10.0.0.2"],
    [11, 0, "10.0.0.2"],
    [3, 0, "10.0.0.2"],
    [3, 1, "10.0.0.2"],
  ]);
});

Deno.test("broadcasts, link-local and martian packets are not forwarded", () => {
  const { host, far } = router();
  //= rfc3927#7 type=test
  // A router MUST NOT forward a packet with an IPv4 Link-Local source or destination address, irrespective of the router's
  // default route configuration or routes obtained from dynamic routing protocols.
  host.in(packet({ source: "169.254.1.1" }));
  host.in(packet({ destination: "169.254.1.1" }));
  //= rfc2644#2 type=test
  // (directed broadcasts are not forwarded by default)
  host.in(packet({ destination: "10.1.255.255" }));
  host.in(packet({ source: "127.0.0.1" }));
  host.in(packet({ destination: "255.255.255.255" }));
  host.in(packet({ destination: "239.0.0.1" }));
  assertEquals([host.out(far).length, host.out().length, host.count("forward", "forwarded")], [0, 0, 0]);
});

Deno.test("what is too big is cut, fragments too; with DF the sender learns the MTU", () => {
  const { host, far } = router(576);
  for (let i = 0; i < 20; i++) host.in(packet({ dontFragment: true }));
  //= rfc1191#4 type=test
  // (the router MUST send "fragmentation needed" for every datagram that is too big: path MTU discovery hangs on it)
  assertEquals(host.device.sent.splice(1).length, 19);
  //= rfc1191#4 type=test
  // When a router is unable to forward a datagram because it exceeds the MTU of the next-hop network and its Don't Fragment
  // bit is set, the router is required to return an ICMP Destination Unreachable message … with the MTU of that next-hop
  assertEquals(host.out().map((f) => [f.icmp?.type, f.icmp?.code, f.icmp?.rest]), [[3, 4, [0, 0, 2, 64]]]);
  const receiver = new IpHost({ address: "10.1.0.9/16" });
  const large = Uint8Array.from({ length: 4000 }, (_, i) => i * 13);
  //= rfc791#3.1 type=test
  // The copied flag indicates that this option is copied into all fragments on fragmentation.
  const options = [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0];
  for (const piece of fragments({ ...TO, options }, udp(TO, large), 1500)) host.in(ethernet({}, piece));
  const sent = far.sent.splice(0);
  assertEquals(sent.every((s) => s.bytes.length <= 576 + 14), true);
  assertEquals(sent.map((s) => (s.bytes[14] & 15) * 4).slice(0, 3), [32, 24, 24]);
  for (const { bytes } of sent) {
    bytes.set([2, 0, 0, 0, 0, 2]);
    receiver.in(bytes);
  }
  assertEquals(receiver.udp.packets.map((p) => p.payload), [udp(TO, large)]);
});

Deno.test("what we learned as a host about a path is not applied to what others send over it", () => {
  const { host, far } = router(1000);
  host.ip.pathMtus.update(key("10.1.0.9"), 700, 1000, 1000, host.ip.now);
  host.ip.paths.generation++;
  host.in(packet());
  assertEquals(host.out(far).map((f) => f.ip?.totalLength), [996, 252]);
});

Deno.test("a checksum that was left to us is completed, or left to the next device", () => {
  const plain = router();
  plain.host.in(partial({ flags: "A" }, Uint8Array.of(1, 2, 3)), RX_CHECKSUM_PARTIAL);
  assertEquals(plain.host.out(plain.far)[0].problems, []);
  const able = router(1500, OFFLOAD);
  able.host.in(partial({ flags: "A" }, Uint8Array.of(1, 2, 3)), RX_CHECKSUM_PARTIAL);
  assertEquals([able.far.sent[0].checksumStart, able.host.out(able.far)[0].problems], [34, []]);
});

Deno.test("a super-frame goes on whole where the device can, is cut where it can't, and smaller for a small link", () => {
  const large = Uint8Array.from({ length: 6000 }, (_, i) => i * 17);
  const frame = partial({ flags: "PA", sequence: 5 }, large, { dontFragment: true });
  const able = router(1500, OFFLOAD);
  able.host.in(frame, RX_CHECKSUM_PARTIAL, 1460);
  const { segmentSize, segmentHeaderLength, checksumStart, bytes } = able.far.sent[0];
  assertEquals([segmentSize, segmentHeaderLength, checksumStart, bytes.length], [1460, 54, 34, 6054]);

  const plain = router();
  plain.host.in(frame, RX_CHECKSUM_PARTIAL, 1460);
  const cut = plain.host.out(plain.far);
  assertEquals(cut.map((f) => [f.problems.length, f.payload.length, f.tcp?.sequence, f.ip?.ttl]), [
    [0, 1460, 5, 63],
    [0, 1460, 1465, 63],
    [0, 1460, 2925, 63],
    [0, 1460, 4385, 63],
    [0, 160, 5845, 63],
  ]);
  assertEquals(Uint8Array.from(cut.flatMap((f) => [...f.payload])), large);

  const narrow = router(576);
  narrow.host.in(frame, RX_CHECKSUM_PARTIAL, 1460);
  assertEquals(narrow.host.out()[0].icmp?.code, 4, "with DF the sender must cut");
  narrow.host.in(partial({ flags: "PA", sequence: 5 }, large), RX_CHECKSUM_PARTIAL, 1460);
  const small = narrow.host.out(narrow.far);
  assert(small.every((f) => f.problems.length === 0 && f.ip!.totalLength <= 576));
  assertEquals(Uint8Array.from(small.flatMap((f) => [...f.payload])), large);
});

Deno.test("a datagram of segments is cut into datagrams", () => {
  const { host, far } = router();
  host.in(packet({}, udp(TO, new Uint8Array(2500))), 0, 1000);
  assertEquals(host.out(far).map((f) => [f.problems.length, f.payload.length]), [[0, 1000], [0, 1000], [0, 500]]);
});
