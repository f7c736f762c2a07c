import { assertEquals, assertThrows } from "@std/assert";
import { IfReq, interfaceNameProblem } from "../../ffi/ifreq.ts";
import { formatIp, formatMac, networkOf, parseIp, parseMac, parsePrefix } from "../../ffi/inet.ts";

Deno.test("IP addresses: text to bytes and back", () => {
  for (
    const text of [
      "0.0.0.0",
      "10.0.0.1",
      "255.255.255.255",
      "::",
      "::1",
      "fd00::1",
      "1:2:3:4:5:6:7:8",
      "1:0:0:2::3",
      "fe80::",
      "2001:db8:0:1:1:1:1:1",
    ]
  ) {
    assertEquals(formatIp(parseIp(text)), text);
  }
  assertEquals(formatIp(parseIp("::ffff:10.0.0.1")), "::ffff:a00:1");
  assertEquals(formatIp(parseIp("1:0:0:0:0:0:0:1")), "1::1");
  for (
    const text of [
      "",
      "1.2.3",
      "1.2.3.256",
      "01.2.3.4",
      "1.2.3.4.5",
      ":",
      ":::",
      "1::2::3",
      "1:2:3:4:5:6:7",
      "1:2:3:4:5:6:7:8:9",
      "12345::",
      "1.2.3.4::",
      "g::",
      "1::2:3:4:5:6:7:8",
      "::1%eth0",
    ]
  ) {
    assertThrows(() => parseIp(text), TypeError, "Invalid IP address");
  }
});

Deno.test("prefixes", () => {
  assertEquals(parsePrefix("10.0.0.1/24"), { address: new Uint8Array([10, 0, 0, 1]), length: 24 });
  assertEquals(parsePrefix("10.0.0.1").length, 32);
  assertEquals(parsePrefix("default").length, 0);
  assertEquals(formatIp(networkOf(parsePrefix("10.1.255.255/15"))), "10.0.0.0");
  assertEquals(formatIp(networkOf(parsePrefix("10.1.2.3/0"))), "0.0.0.0");
  assertEquals(formatIp(networkOf(parsePrefix("10.1.2.3/32"))), "10.1.2.3");
  assertEquals(formatIp(networkOf(parsePrefix("10.1.2.131/25"))), "10.1.2.128");
  for (const text of ["10.0.0.1/33", "fd00::/129", "10.0.0.1/", "10.0.0.1/-1", "/8", "10.0.0.1/8/8"]) {
    assertThrows(() => parsePrefix(text), TypeError);
  }
});

Deno.test("MAC addresses are unicast and whole", () => {
  assertEquals(formatMac(parseMac("02:00:00:aB:00:01")), "02:00:00:ab:00:01");
  assertEquals(formatMac(parseMac(new Uint8Array([2, 0, 0, 0, 0, 1]))), "02:00:00:00:00:01");
  for (const mac of ["", "02:00:00:00:00", "02:00:00:00:00:0g", "01:00:5e:00:00:01", "00:00:00:00:00:00", new Uint8Array(5)]) {
    assertThrows(() => parseMac(mac), TypeError, "Invalid MAC address");
  }
});

Deno.test("interface names are checked before anything changes", () => {
  for (const name of ["tap0", "tap%d", "a".repeat(15), "ü".repeat(7)]) assertEquals(interfaceNameProblem(name), "");
  for (const name of ["", "a".repeat(16), "ü".repeat(8), "a b", "a/b", "a:b", ".", "..", "a%", "a%s", "%d%d", "a\0b", "a\tb"]) {
    assertThrows(() => new IfReq(name === "" ? " " : name), TypeError, "Invalid interface name");
  }
  const ifreq = new IfReq("a".repeat(15));
  assertEquals(ifreq.bytes.length, 40);
  assertEquals(ifreq.bytes[15], 0);
  assertEquals(ifreq.name, "a".repeat(15));
  ifreq.value = -5;
  assertEquals(ifreq.value, -5);
});
