// D4.4: a real bridge, made, ported and read by private ioctl, checked against what `bridge` and `ip -d link` say.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { Bridge, bridgeInfo, fdbEntry } from "../../ffi/bridge.ts";
import { InterfaceIoctls } from "../../ffi/ioctl_interface.ts";
import { libc } from "../../ffi/libc.ts";
import { createLink, deleteLink, getLink, setLink } from "../../ffi/rtnl_link.ts";
import { array, bytes, i32, structure, text, u16, u32, u64, u8, word } from "../../ffi/structure.ts";
import { kernel, lacksKernel, lacksRoot, run } from "../testing/namespace.ts";

// Opened once and kept: not what the leak checker is after.
if (kernel) libc();

Deno.test("structures are laid out as C does it", () => {
  assertEquals([bridgeInfo.size, bridgeInfo.offsets.bridgeForwardDelay, bridgeInfo.offsets.ageingTime], [72, 40, 48]);
  assertEquals([fdbEntry.size, fdbEntry.offsets.ageingTimer, fdbEntry.offsets.unused], [16, 8, 14]);
  const mixed = structure("mixed", { a: u8, b: u64, c: u16, d: array(i32, 2), e: text(5), f: bytes(3), g: word });
  assertEquals(mixed.offsets, { a: 0, b: 8, c: 16, d: 20, e: 28, f: 33, g: 40 });
  assertEquals([mixed.size, mixed.alignment], [48, 8]);
  const values = { a: 255, b: 2n ** 63n, c: 7, d: [-1, 2], e: "abcd", f: new Uint8Array([1, 2, 3]), g: 2 ** 47 + 5 };
  assertEquals(mixed.parse(mixed.make(values)), values);
  assertEquals(mixed.parse(mixed.make({ e: "é" })).e, "é");
  assertThrows(() => mixed.make({ e: "abcde" }), RangeError);
  assertThrows(() => mixed.make({ d: [1, 2, 3] }), RangeError);
  assertThrows(() => mixed.make({ f: new Uint8Array(4) }), RangeError);
  assertThrows(() => mixed.parse(new Uint8Array(47)), RangeError, "48 bytes");
  const outer = structure("outer", { x: u8, inner: structure("inner", { y: u32 }) });
  assertEquals([outer.size, outer.parse(outer.make({ inner: { y: 9 } }))], [8, { x: 0, inner: { y: 9 } }]);
});

Deno.test({
  name: "D4.4 a bridge answers private ioctls: info, ports, forwarding table, delay",
  ignore: lacksKernel(["ip", "bridge"], "iproute2"),
  fn: async () => {
    createLink({ name: "d44", kind: "bridge", up: true });
    createLink({ name: "d44a", kind: "veth", up: true, peer: { name: "d44b", up: true } });
    createLink({ name: "d44c", kind: "veth", up: true, peer: { name: "d44d", up: true } });
    setLink("d44a", { master: "d44" });
    setLink("d44c", { master: "d44" });
    await run("bridge", ["fdb", "add", "02:00:00:00:44:01", "dev", "d44c", "master", "static"]);
    using bridge = new Bridge("d44");
    const detail = JSON.parse((await run("ip", ["-d", "-j", "link", "show", "d44"])).stdout)[0].linkinfo.info_data;
    const info = bridge.info();
    assertEquals([info.forwardDelayMs, info.helloTimeMs, info.maxAgeMs, info.ageingTimeMs], [
      detail.forward_delay * 10,
      detail.hello_time * 10,
      detail.max_age * 10,
      detail.ageing_time * 10,
    ]);
    assertEquals([info.id, info.spanningTree], [detail.bridge_id.replaceAll(":", ""), false]);
    const ports = bridge.ports();
    assertEquals([...ports.values()].sort(), [getLink("d44a").index, getLink("d44c").index].sort());
    const shown: { mac: string; ifname: string; state?: string; vlan?: number }[] = JSON.parse(
      (await run("bridge", ["-j", "fdb", "show", "br", "d44"])).stdout,
    );
    const table = bridge.forwardingTable();
    const added = table.find(({ mac }) => mac === "02:00:00:00:44:01");
    assertEquals([ports.get(added!.port), added!.local], [getLink("d44c").index, false]);
    for (const { mac, local } of table) {
      const entry = shown.find((other) => other.mac === mac && other.vlan === undefined);
      assert(entry !== undefined, mac);
      assertEquals(local, entry.state === "permanent", mac);
    }
    bridge.setForwardDelay(7000);
    const after = JSON.parse((await run("ip", ["-d", "-j", "link", "show", "d44"])).stdout)[0].linkinfo.info_data;
    assertEquals([bridge.info().forwardDelayMs, after.forward_delay], [7000, 700]);
    assertThrows(() => bridge.setForwardDelay(-1), TypeError);
    for (const name of ["d44a", "d44c", "d44"]) deleteLink(name);
    assertThrows(() => bridge.info(), Deno.errors.NotFound, "ENODEV");
  },
});

Deno.test({
  name: "D4.4 tap, veth and lo give EOPNOTSUPP to every private request; nobody ENODEV",
  ignore: !kernel,
  fn: async () => {
    createLink({ name: "d44v", kind: "veth", peer: { name: "d44w" } });
    await run("ip", ["tuntap", "add", "d44t", "mode", "tap"]);
    using ioctls = new InterfaceIoctls();
    for (let n = 0; n < 16; n++) {
      for (const name of ["lo", "d44v", "d44t"]) assertEquals(ioctls.private(name, n), -95, `${name} ${n}`);
      assertEquals(ioctls.private("nobody44", n), -19);
    }
    assertThrows(() => ioctls.private("lo", 16), RangeError);
    assertThrows(() => ioctls.private("lo", 0, new Uint8Array(25)), RangeError);
    assertThrows(() => new Bridge("lo").info(), Deno.errors.NotSupported, "EOPNOTSUPP");
    deleteLink("d44v");
    deleteLink("d44t");
  },
});

Deno.test({
  name: "D4.4 anyone may read a bridge; to set needs the privilege",
  ignore: !kernel || lacksRoot() || lacksKernel(["setpriv"], "util-linux"),
  fn: async () => {
    createLink({ name: "d44u", kind: "bridge" });
    const code = 'import { Bridge } from "./ffi/bridge.ts"; const b = new Bridge("d44u"); console.log(b.info().forwardDelayMs);' +
      "try { b.setForwardDelay(3000) } catch (e) { console.log(e.code) }";
    const path = await Deno.makeTempDir();
    await Deno.chmod(path, 0o777);
    const { stdout, stderr } = await run("setpriv", [
      "--bounding-set=-all",
      "--inh-caps=-all",
      "--",
      Deno.execPath(),
      "eval",
      code,
    ], { env: { NO_COLOR: "1" } });
    deleteLink("d44u");
    await Deno.remove(path, { recursive: true });
    assertEquals(stdout.trim().split("\n"), ["15000", "EPERM"], stderr);
  },
});

Deno.test({
  name: "standard interface ioctls of real devices",
  ignore: !kernel,
  fn: () => {
    createLink({ name: "std0", kind: "veth", peer: { name: "std1" } });
    using ioctls = new InterfaceIoctls();
    ioctls.setMtu("std0", 1400);
    ioctls.setMac("std0", "02:00:00:00:00:99");
    ioctls.setFlags("std0", ioctls.flags("std0") | 1);
    const link = getLink("std0");
    assertEquals([link.mtu, link.mac, link.up, link.index], [1400, "02:00:00:00:00:99", true, ioctls.index("std0")]);
    assertEquals([ioctls.name(link.index), ioctls.driver("std0").driver, ioctls.link("std0")], ["std0", "veth", false]);
    assertThrows(() => ioctls.setMtu("std0", 10), Deno.errors.InvalidData, "EINVAL");
    assertThrows(() => ioctls.mtu("nobody"), Deno.errors.NotFound);
    assertThrows(() => ioctls.mtu("a b"), TypeError);
    deleteLink("std0");
  },
});
