/** In a network namespace of its own (TAPIOCA_KERNEL), see kernel.ts. */
import { assert, assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { createNamespace, currentNamespace, inNamespace, namespacePath, openNamespace } from "../../ffi/namespace.ts";
import { attributes, attributeText, attributeU32, NetlinkMessage, NetlinkSocket } from "../../ffi/netlink.ts";
import { addAddress, deleteAddress, deleteNeighbor, listAddresses, listNeighbors, setNeighbor } from "../../ffi/rtnl_address.ts";
import { createLink, deleteLink, getLink, linkExists, listLinks, setLink } from "../../ffi/rtnl_link.ts";
import { addRoute, deleteRoute, listRoutes } from "../../ffi/rtnl_route.ts";
import { interfaceRequest, SIOCGIFINDEX, SIOCGIFMTU } from "../../ffi/ifreq.ts";
import { kernelTest, thrown } from "./kernel.ts";

function veth(mtu = 1400): Disposable {
  createLink({ name: "va", kind: "veth", mtu, up: true, peer: { name: "vb", mtu, up: true, mac: "02:00:00:00:00:0b" } });
  return { [Symbol.dispose]: () => void (linkExists("va") && deleteLink("va")) };
}

Deno.test("a request's bytes: header, fixed part, attributes padded to four, nests", () => {
  const message = new NetlinkMessage(16, 0x400).u8(1).u8(2).u16(0x304).attributeText(3, "ab").attributeU32(4, 5);
  message.nest(18, () => message.attributeText(1, "tun"));
  const hex = Array.from(message.bytes.subarray(16, message.length), (byte) => byte.toString(16).padStart(2, "0")).join("");
  assertEquals(hex, "01020403" + "07000300" + "61620000" + "08000400" + "05000000" + "0c001200" + "08000100" + "74756e00");
  const bytes = message.bytes.subarray(16, message.length);
  const found = attributes({ type: 16, bytes, view: new DataView(bytes.buffer, 16, bytes.length) }, 4);
  assertEquals(attributeText(found.get(3)), "ab");
  assertEquals(attributeU32(found.get(4)), 5);
  assertThrows(() => new NetlinkMessage(16).attribute(1, new Uint8Array(9000)), Deno.errors.InvalidData, "EMSGSIZE");
});

Deno.test("attributes of any bytes whatever end, and don't throw", () => {
  let seed = 1;
  for (let round = 0; round < 2000; round++) {
    const bytes = new Uint8Array(round % 64);
    for (let i = 0; i < bytes.length; i++) {
      bytes[i] = (seed = (Math.imul(seed, 1103515245) + 12345) | 0) >>> 24 & (round & 1 ? 0x0f : 0xff);
    }
    const found = attributes({ type: 0, bytes, view: new DataView(bytes.buffer) }, round % 5);
    for (const part of found.values()) {
      attributeText(part);
      attributeU32(part);
    }
  }
});

Deno.test("where a namespace is", () => {
  assertEquals(namespacePath("blue"), "/run/netns/blue");
  assertEquals(namespacePath("/proc/1/ns/net"), "/proc/1/ns/net");
  assertEquals(namespacePath({ pid: 7 }), "/proc/7/ns/net");
  for (const bad of ["", "a/b", "a\0", { pid: 0 }, { pid: 1.5 }]) assertThrows(() => namespacePath(bad), TypeError);
  assertInstanceOf(thrown(() => openNamespace("no such name")), Deno.errors.NotFound);
});

kernelTest("D6.6 links: a veth pair in a bridge, renamed, given an MTU and a MAC, taken down, deleted", () => {
  using _pair = veth();
  createLink({ name: "br7", kind: "bridge", up: true });
  setLink("va", { master: "br7" });
  assertEquals(getLink("va").master, getLink("br7").index);
  setLink("va", { master: null });
  assertEquals(getLink("va").master, 0);
  const vb = getLink("vb");
  assertEquals([vb.kind, vb.mtu, vb.mac, vb.up, vb.carrier], ["veth", 1400, "02:00:00:00:00:0b", true, true]);
  assertEquals(vb.peer, getLink("va").index);
  assertEquals(interfaceRequest("vb", SIOCGIFMTU).value, 1400);
  assertEquals(interfaceRequest("vb", SIOCGIFINDEX).value, vb.index);
  setLink("vb", { up: false, mtu: 1300, mac: "02:00:00:00:00:0c" });
  setLink("vb", { name: "vc" });
  const vc = getLink(vb.index);
  assertEquals([vc.name, vc.mtu, vc.mac, vc.up], ["vc", 1300, "02:00:00:00:00:0c", false]);
  assertEquals(linkExists("vb"), false);
  deleteLink("br7");
  deleteLink("vc");
  assertEquals(linkExists("va"), false);
});

kernelTest("D6.6 addresses, routes and neighbours come and go", () => {
  using _pair = veth();
  addAddress("vb", "10.9.0.1/24");
  addAddress("vb", "fd00::1/64");
  addRoute({ destination: "10.8.3.4/16", gateway: "10.9.0.9", metric: 3 });
  addRoute({ destination: "default", link: "vb", source: "10.9.0.1" });
  addRoute({ destination: "fd08::/32", gateway: "fd00::9" });
  setNeighbor("vb", "10.9.0.9", "02:00:00:00:00:08");
  setNeighbor("vb", "10.9.0.9", "02:00:00:00:00:07");
  const { index } = getLink("vb");
  assertEquals(listAddresses("vb").filter(({ scope }) => scope === 0), [
    { index, address: "10.9.0.1", prefixLength: 24, scope: 0 },
    { index, address: "fd00::1", prefixLength: 64, scope: 0 },
  ]);
  assertEquals(listNeighbors("vb").filter(({ state }) => state === "permanent"), [
    { index, address: "10.9.0.9", mac: "02:00:00:00:00:07", state: "permanent" },
  ]);
  const shown = listRoutes({ link: "vb" }).map(({ destination, gateway, metric, source }) =>
    `${destination} ${gateway} ${metric} ${source}`
  );
  assert(shown.includes("10.8.0.0/16 10.9.0.9 3 "), shown.join());
  assert(shown.includes("default  0 10.9.0.1"), shown.join());
  assert(shown.includes("fd08::/32 fd00::9 1024 "), shown.join());
  deleteRoute({ destination: "10.8.0.0/16" });
  deleteRoute({ destination: "default" });
  deleteNeighbor("vb", "10.9.0.9");
  deleteAddress("vb", "10.9.0.1/24");
  assertEquals(listRoutes({ link: "vb" }).filter(({ family }) => family === 2), []);
  assertEquals(listAddresses("vb").filter(({ address }) => address.includes(".")), []);
});

kernelTest("D6.6 the kernel's refusals are typed, and say what the kernel says", () => {
  using _pair = veth();
  addAddress("vb", "10.9.0.1/24");
  const refused: [() => void, new (message: string) => Error, string][] = [
    [() => addAddress("vb", "10.9.0.1/24"), Deno.errors.AlreadyExists, "EEXIST"],
    [() => addRoute({ destination: "10.7.0.0/16", gateway: "1.2.3.4" }), Deno.errors.NetworkUnreachable, "The kernel says: "],
    [() => createLink({ name: "x", kind: "nonsense" }), Deno.errors.NotSupported, "Unknown device type"],
    [() => setLink("va", { mtu: 100_000 }), Deno.errors.InvalidData, "mtu greater than device maximum"],
    [() => setLink("va", { name: "vb" }), Deno.errors.AlreadyExists, "EEXIST"],
    [() => getLink("nope"), Deno.errors.NotFound, "ENODEV"],
    [() => getLink(99_999), Deno.errors.NotFound, "ENODEV"],
    [() => deleteRoute({ destination: "10.77.0.0/16" }), Deno.errors.NotFound, "ESRCH"],
    [() => deleteNeighbor("vb", "10.9.0.77"), Deno.errors.NotFound, "ENOENT"],
    [() => deleteAddress("vb", "10.1.1.1/24"), Deno.errors.AddrNotAvailable, "EADDRNOTAVAIL"],
    [() => setLink("va", { mtu: 67 }), TypeError, "MTU 67"],
    [() => setLink("va", { name: "0123456789abcdef" }), TypeError, "at most 15"],
    [() => addRoute({ destination: "10.7.0.0/16", gateway: "::1" }), TypeError, "mixed"],
  ];
  for (const [run, errorClass, text] of refused) {
    const error = thrown(run);
    assertEquals(error.constructor, errorClass, error.message);
    assertStringIncludes(error.message, text);
  }
});

kernelTest("long lists arrive whole: 500 addresses", () => {
  using _pair = veth();
  for (let i = 0; i < 500; i++) addAddress("vb", `10.20.${i >> 8}.${i & 255}/32`);
  const addresses = listAddresses("vb").filter(({ address }) => address.startsWith("10.20."));
  assertEquals(new Set(addresses.map(({ address }) => address)).size, 500);
});

kernelTest("D6.6 a namespace is entered for a moment, and left even after an exception", () => {
  using _pair = veth();
  using other = createNamespace();
  using before = currentNamespace();
  setLink("vb", { namespace: other });
  assertEquals(inNamespace(other, () => listLinks().map(({ name }) => name)), ["lo", "vb"]);
  assertThrows(() =>
    inNamespace(other, () => {
      throw new RangeError("inside");
    }), RangeError);
  assertEquals(linkExists("va"), true);
  assertEquals(linkExists("vb"), false);
  // A socket stays where it was opened.
  using socket = inNamespace(other, () => new NetlinkSocket());
  assert(socket.fd > 0 && before.fd > 0);
});
