/** Golden bytes, every truncation, and writing over garbage: addresses, Ethernet, ARP, IPv4, ICMP. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import * as address from "../../../stack/wire/address.ts";
import * as arpWire from "../../../stack/wire/arp.ts";
import * as eth from "../../../stack/wire/ethernet.ts";
import * as icmpWire from "../../../stack/wire/icmp.ts";
import * as ip from "../../../stack/wire/ipv4.ts";
import { arp, echo, ethernet, ipv4 } from "../../testing/frames.ts";

const viewOf = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
const garbage = (length: number) => new Uint8Array(length).fill(0xa5);

Deno.test("addresses: text to key and back, and nothing else is an address", () => {
  for (const text of ["0.0.0.0", "10.0.0.1", "127.0.0.1", "224.0.0.251", "255.255.255.255"]) {
    assertEquals(address.formatKey(address.parseAddress(text)), text);
    assertEquals(`${address.IpAddress.parse(text)}`, text);
  }
  assertEquals(address.parseAddress("255.255.255.255"), -1);
  for (const text of ["", "1.2.3", "1.2.3.4.5", "256.0.0.1", "01.2.3.4", " 1.2.3.4", "1.2.3.4 ", "1.2.3.-4", "a.b.c.d", "::1"]) {
    assertThrows(() => address.parseAddress(text), TypeError, "Not an IPv4 address");
    assertEquals(address.tryParseAddress(text), null);
  }
  assertEquals(address.parsePrefix("10.0.0.2/24"), { key: 0x0a000002, prefixLength: 24 });
  for (const text of ["10.0.0.2", "10.0.0.2/", "10.0.0.2/33", "10.0.0.2/-1", "10.0.0.2/024", "/24", "10.0.0.2/2x"]) {
    assertThrows(() => address.parsePrefix(text), TypeError);
  }
});

Deno.test("addresses: kinds, masks and broadcasts", () => {
  const key = address.parseAddress;
  assert(address.isMulticast(key("224.0.0.1")) && address.isMulticast(key("239.255.255.255")));
  assert(!address.isMulticast(key("223.255.255.255")) && !address.isMulticast(key("240.0.0.0")));
  assert(address.isLoopback(key("127.255.0.9")) && !address.isLoopback(key("128.0.0.1")));
  assert(address.isUnicast(key("1.0.0.0")) && !address.isUnicast(key("0.1.2.3")) && !address.isUnicast(key("240.0.0.1")));
  assert(address.isLinkLocal(key("169.254.3.4")) && !address.isLinkLocal(key("169.253.3.4")));
  assertEquals([0, 1, 24, 31, 32].map((n) => address.maskOf(n) >>> 0), [0, 0x80000000, 0xffffff00, 0xfffffffe, 0xffffffff]);
  assertEquals(address.formatKey(address.broadcastOf(key("10.1.2.3"), 22)), "10.1.3.255");
  //= rfc3021#2.2 type=test
  // (RFC 3021: the two addresses of a 31-bit prefix are hosts; there is no directed broadcast)
  assertEquals(address.broadcastOf(key("10.1.2.3"), 31), -1);
  assertEquals(address.formatMac(address.parseMac("02:00:5e:10:00:ff")), "02:00:5e:10:00:ff");
  for (const text of ["", "02:00:00:00:00", "02:00:00:00:00:0g", "02-00:00:00:00:00", "2:0:0:0:0:1"]) {
    assertThrows(() => address.parseMac(text), TypeError);
  }
});

Deno.test("Ethernet: golden bytes, tags, every truncation, over garbage", () => {
  const header: eth.EthernetHeader = { headerLength: 0, etherType: 0, vlan: 0 };
  const body = new Uint8Array(10);
  for (
    const [vlans, length, vlan] of [
      [[], 14, 0],
      [[0], 18, 0],
      [[7], 18, 7],
      [[0x6007], 18, 7],
      [[0, 7], 22, 7],
      [[7, 0], 22, 7],
      [
        [7, 8],
        22,
        -1,
      ],
    ] as [number[], number, number][]
  ) {
    const frame = ethernet({ vlans }, body);
    assertEquals(eth.parseEthernet(viewOf(frame), 0, frame.length, header), eth.ETHERNET_OK);
    assertEquals({ ...header }, { headerLength: length, etherType: 0x800, vlan });
    for (let n = 0; n < length; n++) {
      assertEquals(eth.parseEthernet(viewOf(frame.slice(0, n)), 0, n, header), eth.ETHERNET_TRUNCATED);
    }
  }
  const three = ethernet({ vlans: [1, 2, 3] }, body);
  assertEquals(eth.parseEthernet(viewOf(three), 0, three.length, header), eth.ETHERNET_TAGS);

  const out = garbage(20);
  assertEquals(eth.emitEthernet(viewOf(out), 1, 0x02000000, 0x00020200, 1, 0x800), 14);
  assertEquals([...out], [0xa5, 2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0, 0xa5, 0xa5, 0xa5, 0xa5, 0xa5]);
  assertEquals(eth.emitEthernet(viewOf(out), 1, 0x02000000, 0x00020200, 1, 0x806, 300), 18);
  assertEquals([...out.slice(13)], [0x81, 0, 1, 44, 8, 6, 0xa5]);
  //= rfc1112#6.4 type=test
  // An IP host group address is mapped to an Ethernet multicast address by placing the low-order 23-bits of the IP
  // address into the low-order 23 bits of the Ethernet multicast address 01-00-5E-00-00-00 (hex).
  const mac = garbage(6);
  eth.multicastMac(address.parseAddress("239.129.2.3"), mac);
  assertEquals(address.formatMac(mac), "01:00:5e:01:02:03");
});

Deno.test("ARP: golden bytes, every truncation and foreign kind, over garbage", () => {
  const golden = arp({ operation: 2, targetMac: "02:00:00:00:00:09" });
  const view = viewOf(golden);
  assertEquals(arpWire.checkArp(view, 0, golden.length), arpWire.ARP_OK);
  assertEquals([arpWire.arpOperation(view, 0), arpWire.arpSenderKey(view, 0), arpWire.arpTargetKey(view, 0)], [
    2,
    0x0a000001,
    0x0a000002,
  ]);
  for (let n = 0; n < 28; n++) assertEquals(arpWire.checkArp(viewOf(golden.slice(0, n)), 0, n), arpWire.ARP_TRUNCATED);
  //= rfc826#packet-reception type=test
  // ?Do I have the hardware type in ar$hrd? … ?Do I speak the protocol in ar$pro?
  for (const at of [0, 1, 2, 3, 4, 5]) {
    const other = golden.slice();
    other[at] ^= 0x10;
    assertEquals(arpWire.checkArp(viewOf(other), 0, 28), arpWire.ARP_FOREIGN);
  }
  const out = garbage(30);
  arpWire.emitArp(
    viewOf(out),
    1,
    2,
    address.parseMac("02:00:00:00:00:01"),
    0x0a000001,
    address.parseMac("02:00:00:00:00:09"),
    0x0a000002,
  );
  assertEquals(out.slice(1, 29), golden);
  assertEquals([out[0], out[29]], [0xa5, 0xa5]);
});

Deno.test("IPv4: golden bytes, every truncation, wrong fields, over garbage", () => {
  const golden = ipv4({ protocol: 6, ttl: 63, tos: 0x12, id: 0xbeef, dontFragment: true }, new Uint8Array(8));
  const view = viewOf(golden);
  assertEquals(ip.checkIpv4(view, 0, golden.length), 20);
  assertEquals(ip.checkIpv4(view, 0, 28), 20);
  //= rfc1812#5.2.2 type=test
  // (1) The packet length reported by the Link Layer must be large enough to hold the minimum length legal IP datagram (20 bytes).
  for (let n = 0; n < 20; n++) assertEquals(ip.checkIpv4(viewOf(golden.slice(0, n)), 0, n), ip.IPV4_TRUNCATED);
  //= rfc1812#5.2.2 type=test
  // (5) The IP total length field must be large enough to hold the IP datagram header, whose length is specified in the
  // IP header length field.
  for (let n = 20; n < 28; n++) assertEquals(ip.checkIpv4(viewOf(golden.slice(0, n)), 0, n), ip.IPV4_TOTAL_LENGTH);
  assertEquals(ip.checkIpv4(viewOf(ipv4({ totalLength: 19 }, new Uint8Array(8))), 0, 28), ip.IPV4_TOTAL_LENGTH);
  //= rfc1122#3.2.1.1 type=test
  // A datagram whose version number is not 4 MUST be silently discarded.
  assertEquals(ip.checkIpv4(viewOf(ipv4({ version: 6 }, new Uint8Array(8))), 0, 28), ip.IPV4_VERSION);
  //= rfc1812#5.2.2 type=test
  // (4) The IP header length field must be large enough to hold the minimum length legal IP datagram (20 bytes = 5 words).
  for (const headerWords of [0, 4, 8, 15]) {
    assertEquals(ip.checkIpv4(viewOf(ipv4({ headerWords }, new Uint8Array(8))), 0, 28), ip.IPV4_HEADER_LENGTH);
  }
  //= rfc1122#3.2.1.2 type=test
  // A host MUST verify the IP header checksum on every received datagram and silently discard every datagram that has a
  // bad checksum.
  for (let at = 1; at < 20; at++) {
    const damaged = golden.slice();
    damaged[at] ^= 0x40;
    assertEquals(ip.checkIpv4(viewOf(damaged), 0, 28), ip.IPV4_CHECKSUM);
  }
  const out = garbage(22);
  const sums = ip.addressSum(0x0a000001) + ip.addressSum(0x0a000002);
  ip.emitIpv4(viewOf(out), 1, 0x12, 28, 0xbeef, ip.FLAG_DONT_FRAGMENT, 63, 6, 0x0a000001, 0x0a000002, sums);
  assertEquals(out.slice(1, 21), golden.slice(0, 20));
  assertEquals([out[0], out[21]], [0xa5, 0xa5]);
});

Deno.test("IPv4: the TTL goes down and the checksum stays right, for every TTL and many checksums", () => {
  //= rfc1624#3 type=test
  // HC' = ~(~HC + ~m + m')
  for (let ttl = 1; ttl < 256; ttl++) {
    for (const id of [0, 1, 0x1234, 0xfffe, 0xffff, ttl * 251]) {
      const packet = ipv4({ ttl, id: id & 0xffff, protocol: ttl ^ 0x5a }, new Uint8Array(0));
      ip.decrementTtl(viewOf(packet), 0);
      assertEquals([packet[8], ip.ipChecksumValid(viewOf(packet), 0, 20)], [ttl - 1, true]);
    }
  }
});

Deno.test("IPv4 options: what is well-formed, and where it isn't", () => {
  const check = (options: number[]) => {
    const packet = ipv4({ options }, new Uint8Array(0));
    return ip.checkOptions(viewOf(packet), 0, packet.length);
  };
  assertEquals(check([1, 1, 1, 0]), 0);
  assertEquals(check([148, 4, 0, 0]), 0);
  assertEquals(check([7, 7, 4, 0, 0, 0, 0]), 0);
  assertEquals(check([68, 12, 5, 0, 0, 0, 0, 0, 0, 0, 0, 0]), 0);
  assertEquals(check([131, 7, 4, 1, 2, 3, 4]), ip.OPTIONS_SOURCE_ROUTE);
  assertEquals(check([137, 3, 4]), ip.OPTIONS_SOURCE_ROUTE);
  assertEquals(check([1, 1, 1, 7]), 23); // a kind without a length
  assertEquals(check([7, 0, 0, 0]), 21);
  assertEquals(check([7, 1, 0, 0]), 21);
  assertEquals(check([7, 40, 4, 0]), 21);
  assertEquals(check([7, 7, 3, 0, 0, 0, 0]), 22);
  assertEquals(check([148, 3, 0, 0]), 21);
});

Deno.test("ICMP: golden bytes, every truncation and damaged byte, over garbage", () => {
  const golden = echo(0x1234, 0xfffe, Uint8Array.of(1, 2, 3));
  const view = viewOf(golden);
  assertEquals(icmpWire.checkIcmp(view, 0, golden.length), icmpWire.ICMP_OK);
  assertEquals([icmpWire.echoIdentifier(view, 0), icmpWire.echoSequence(view, 0)], [0x1234, 0xfffe]);
  for (let n = 0; n < 8; n++) assertEquals(icmpWire.checkIcmp(viewOf(golden.slice(0, n)), 0, n), icmpWire.ICMP_TRUNCATED);
  for (let at = 0; at < golden.length; at++) {
    const damaged = golden.slice();
    damaged[at] ^= 1;
    assertEquals(icmpWire.checkIcmp(viewOf(damaged), 0, damaged.length), icmpWire.ICMP_CHECKSUM);
  }
  const out = garbage(13);
  icmpWire.emitIcmp(viewOf(out), 1, 8, 0, 0x1234fffe);
  out.set([1, 2, 3], 9);
  icmpWire.sealIcmp(viewOf(out), 1, 11);
  assertEquals(out.slice(1, 12), golden);
  assertEquals([out[0], out[12]], [0xa5, 0xa5]);
});
