// D1 on real TAPs: other programs see the device, the class sees their frames and what they do to the interface.
import { assert, assertEquals, assertRejects, assertStringIncludes } from "@std/assert";
import { inNamespace } from "../../../ffi/namespace.ts";
import { libc } from "../../../ffi/libc.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { createLink, deleteLink, getLink, linkExists, setLink } from "../../../ffi/rtnl_link.ts";
import { InterfaceIoctls } from "../../../ffi/ioctl_interface.ts";
import { kernel, lacksKernel, Namespace, run } from "../../testing/namespace.ts";
import { Failures, Mirror, request, until } from "./classes.ts";
import { DeviceTable, ENOIOCTLCMD, LocalMemory, NetDevice, NetDevices, type NetFrame, type NetInterface } from "./face.ts";
import * as ifr from "../../../ffi/ifreq.ts";

// Opened once and kept: not what the leak checker is after.
if (kernel) libc();

/** A test that leaves no wait behind it, however busy the machine is. */
function onKernel({ name, ignore, fn }: { name: string; ignore: boolean; fn: () => Promise<void> }): void {
  Deno.test({
    name,
    ignore,
    async fn() {
      await fn();
      await wakersIdle();
    },
  });
}

function registry(namespace?: { pid: number }) {
  const failures = new Failures();
  const table = new DeviceTable();
  return { devices: new NetDevices({ table, namespace, onFailure: failures.take }), table, failures };
}

/** Answers ARP and echo requests for every address: a whole network in a class. */
class Responder extends NetDevice {
  frames = 0;
  override startXmit(frame: NetFrame, handle: NetInterface): void {
    this.frames++;
    const { bytes } = frame;
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
    const type = view.getUint16(12);
    if (type === 0x0806 && view.getUint16(20) === 1) {
      const asked = bytes.slice(38, 42), asker = bytes.slice(22, 32);
      view.setUint16(20, 2);
      bytes.set([2, 0, 0, 0, 0, 0x77], 22);
      bytes.set(asked, 28);
      bytes.set(asker, 32);
    } else if (type === 0x0800 && bytes[23] === 1 && bytes[34] === 8) {
      const source = bytes.slice(26, 30);
      bytes.copyWithin(26, 30, 34);
      bytes.set(source, 30);
      bytes[34] = 0;
      view.setUint16(36, view.getUint16(36) + 0x0800 + (view.getUint16(36) + 0x0800 > 0xffff ? 1 : 0));
    } else return;
    bytes.copyWithin(0, 6, 12);
    bytes.set([2, 0, 0, 0, 0, 0x77], 6);
    handle.netifRx(frame);
  }
}

onKernel({
  name: "D1.6 D1.8 on a TAP: ip sees it up, ping gets the class's answers",
  ignore: lacksKernel(["ip", "ping"], "iproute2 iputils-ping"),
  fn: async () => {
    const { devices, failures } = registry();
    const registration = devices.register("resp0", Responder);
    const handle = await registration.ready;
    assertStringIncludes((await run("ip", ["-o", "link", "show", "resp0"])).stdout, "UP");
    await run("ip", ["addr", "add", "10.66.0.1/24", "dev", "resp0"]);
    const ping = await run("ping", ["-c", "3", "-i", "0.05", "-W", "2", "10.66.0.9"]);
    assertStringIncludes(ping.stdout, " 0% packet loss");
    assertEquals(getLink("resp0").index, handle.index);
    const { rxPackets, txPackets } = handle.statistics64();
    assert(rxPackets >= 4 && txPackets >= rxPackets, `${rxPackets} ${txPackets}`);
    await devices.close();
    assertEquals([linkExists("resp0"), failures.length], [false, 0]);
  },
});

onKernel({
  name: "D1.6 on real interfaces: one that can't be made doesn't stop the others",
  ignore: !kernel,
  fn: async () => {
    const { devices, failures } = registry();
    createLink({ name: "there0", kind: "veth", peer: { name: "there1" } });
    devices.register("k0");
    const taken = devices.register("there0");
    devices.register("k1");
    await devices.settled();
    await assertRejects(() => taken.ready, Deno.errors.AlreadyExists);
    assertEquals([devices.getState("k0"), devices.getState("k1"), failures.length], [true, true, 1]);
    assertEquals(getLink("k0").up, true);
    await devices.close();
    deleteLink("there0");
  },
});

onKernel({
  name: "D1.7 existOk takes a real interface that exists, of whatever kind; without it that is an error",
  ignore: !kernel,
  fn: async () => {
    const { devices, table } = registry();
    const flags = { bits: ifr.IFF_NOARP | ifr.IFF_ALLMULTI, mask: ifr.IFF_NOARP | ifr.IFF_ALLMULTI };
    createLink({ name: "veth7", kind: "veth", peer: { name: "peer7" } });
    setLink("veth7", { flags, promiscuous: true, mtu: 1300, up: true });
    await assertRejects(() => devices.register("veth7").ready, Deno.errors.AlreadyExists, "EEXIST");
    const handle = await devices.registerNetdev("veth7", null, { existOk: true }).ready;
    assertEquals(handle.index, getLink("veth7").index);
    // What it was set to is known from the beginning: whoever reads its flags and puts them back changes nothing.
    assertEquals([handle.flags & ~0x40, handle.mtu], [getLink("veth7").flags & 0xffbf, 1300]);
    const put = await request(table, "veth7", ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = handle.flags);
    assertEquals([put.code, getLink("veth7").flags & 0x1381], [0, 0x1381], "UP, NOARP, PROMISC, ALLMULTI, MULTICAST");
    assertEquals([devices.getState("veth7"), getLink("veth7").up], [true, true]);
    assertEquals([await devices.setState("veth7", false), getLink("veth7").up], [true, false]);
    await devices.close();
    assertEquals(linkExists("veth7"), true, "what was there before stays");
    deleteLink("veth7");
    const lo = registry();
    assertEquals([...(await lo.devices.registerNetdev("lo", null, { existOk: true }).ready).mac], [0, 0, 0, 0, 0, 0]);
    await lo.devices.close();
    // A persistent TAP that nobody has open is taken as a whole.
    await run("ip", ["tuntap", "add", "old7", "mode", "tap"]);
    const again = registry();
    const registration = again.devices.registerNetdev("old7", Responder, { existOk: true });
    await registration.ready;
    await run("ip", ["addr", "add", "10.67.0.1/24", "dev", "old7"]);
    await run("ping", ["-c", "1", "-W", "2", "10.67.0.9"]);
    assert((registration.instance as Responder).frames > 0);
    await again.devices.close();
    assertEquals(linkExists("old7"), true);
    deleteLink("old7");
    // A persistent TUN is of another kind: its packets have no Ethernet header.
    await run("ip", ["tuntap", "add", "tun7", "mode", "tun"]);
    const tun = registry();
    const taken = await tun.devices.registerNetdev("tun7", null, { existOk: true }).ready;
    assertEquals([taken.index, getLink("tun7").up, tun.failures.length], [getLink("tun7").index, true, 0]);
    assertEquals([await taken.setUp(false), getLink("tun7").up, taken.netifRx(new Uint8Array(60))], [0, false, -100]);
    assertEquals(await taken.ioctl(ifr.SIOCGIFHWADDR, new Uint8Array(40), null), -ENOIOCTLCMD, "it has no address of six bytes");
    await tun.devices.close();
    deleteLink("tun7");
  },
});

onKernel({
  name: "D1.9 on a TAP: somebody deletes what refuses it, and it is made anew; what doesn't refuse is gone",
  ignore: !kernel,
  fn: async () => {
    const { devices, table, failures } = registry();
    class Stays extends NetDevice {
      static override ALLOW_DELETE = false;
    }
    devices.register("stays0", Stays);
    devices.register("goes0", NetDevice);
    await devices.settled();
    deleteLink("goes0");
    await until("goes0 is gone", () => devices.lookup("goes0") === null);
    assertEquals((await request(table, "goes0", 0x89f0)).code, -19);
    const { index } = getLink("stays0");
    deleteLink("stays0");
    await until("stays0 is back", () => linkExists("stays0") && getLink("stays0").index !== index && getLink("stays0").up);
    assertEquals(failures.map(({ device, operation }) => `${device} ${operation}`), ["stays0 delete"]);
    await devices.settled();
    await devices.close();
    assertEquals(linkExists("stays0"), false);
  },
});

onKernel({
  name: "D1.10 on a TAP: state is the kernel's, whoever changed it, and the class hears of it",
  ignore: lacksKernel(["ip"], "iproute2"),
  fn: async () => {
    const { devices, table } = registry();
    const log: string[] = [];
    class Hears extends NetDevice {
      override open() {
        log.push("open");
      }
      override stop() {
        log.push("stop");
      }
      override changeMtu(_: NetInterface, mtu: number) {
        log.push(`mtu ${mtu}`);
        return mtu > 2000 ? -22 : 0;
      }
      override setMacAddress(_: NetInterface, mac: Uint8Array) {
        log.push(`mac ${mac[5]}`);
      }
      override setRxMode(handle: NetInterface) {
        log.push(`promisc ${(handle.flags & ifr.IFF_PROMISC) !== 0}`);
      }
    }
    const handle = await devices.register("hears0", Hears).ready;
    await run("ip", ["link", "set", "hears0", "down"]);
    await until("stop", () => log.includes("stop"));
    assertEquals(devices.getState("hears0"), false);
    await run("ip", ["link", "set", "hears0", "up", "mtu", "1400", "promisc", "on"]);
    await run("ip", ["link", "set", "hears0", "address", "02:00:00:00:00:42"]);
    await until("all of it", () => log.includes("promisc true") && log.includes("mac 66") && log.includes("mtu 1400"));
    assertEquals([handle.mtu, handle.mac[5], handle.up], [1400, 0x42, true]);
    // Refused by the class: taken back in the kernel.
    await run("ip", ["link", "set", "hears0", "mtu", "3000"]);
    await until("3000 is taken back", () => log.includes("mtu 3000") && getLink("hears0").mtu === 1400);
    // By ioctl on the class: done in the kernel.
    assertEquals((await request(table, "hears0", ifr.SIOCSIFMTU, (ifreq) => ifreq.value = 1300)).code, 0);
    assertEquals((await request(table, "hears0", ifr.SIOCSIFMTU, (ifreq) => ifreq.value = 5000)).code, -22);
    assertEquals([getLink("hears0").mtu, (await request(table, "hears0", 0x8915)).code], [1300, -95]);
    assertEquals([await devices.setState("hears0", false), getLink("hears0").up], [true, false]);
    await devices.close();
  },
});

onKernel({
  name: "D1.11 four TAPs in a namespace report their own numbers by the registry, the kernel its own by ip",
  ignore: lacksKernel(["ip", "nsenter"], "iproute2 util-linux"),
  fn: async () => {
    await using namespace = await Namespace.create();
    const { devices } = registry({ pid: namespace.pid });
    class Counts extends NetDevice {
      constructor(readonly n: number) {
        super();
      }
      override getStats64() {
        return { rxPackets: this.n };
      }
    }
    for (let i = 1; i <= 4; i++) devices.register(`four${i}`, Counts, i * 1000);
    await devices.settled();
    assertEquals([1, 2, 3, 4].map((i) => devices.lookup(`four${i}`)!.statistics64().rxPackets), [1000, 2000, 3000, 4000]);
    assertEquals(linkExists("four1"), false, "it isn't in our own namespace");
    const { stdout } = await namespace.run("ip", ["-s", "-o", "link"]);
    for (let i = 1; i <= 4; i++) assertStringIncludes(stdout, `four${i}:`);
    await devices.close();
    assertEquals((await namespace.run("ip", ["-o", "link"])).stdout.includes("four"), false);
  },
});

onKernel({
  name: "two namespaces whose first interfaces have one index: each device is removed, and made again, without the other",
  ignore: lacksKernel(["ip", "nsenter"], "iproute2 util-linux"),
  fn: async () => {
    await using first = await Namespace.create();
    await using second = await Namespace.create();
    const table = new DeviceTable();
    const [a, b] = [first, second].map(({ pid }) => new NetDevices({ table, namespace: { pid } }));
    const one = await a.register("one0").ready, two = await b.register("two0").ready;
    assertEquals(one.index, two.index);
    assertEquals([a.unregister("one0"), table.lookup("one0"), table.lookup("two0")], [true, null, two]);
    assertEquals((await a.register("one0").ready).up, true);
    await Promise.all([a.close(), b.close()]);
    assertEquals([...table].length, 0);
  },
});

onKernel({
  name: "D1.16 on a TAP without a class: up, drops, and the kernel's answers to the standard ioctls are ours",
  ignore: !kernel,
  fn: async () => {
    const { devices, table } = registry();
    const handle = await devices.registerNetdev("plain0", null, { mtu: 1450 }).ready;
    using ioctls = new InterfaceIoctls();
    const ours = async (cmd: number) => (await request(table, "plain0", cmd)).ifreq;
    assertEquals((await ours(ifr.SIOCGIFMTU)).value, ioctls.mtu("plain0"));
    assertEquals((await ours(ifr.SIOCGIFINDEX)).value, ioctls.index("plain0"));
    assertEquals((await ours(ifr.SIOCGIFHWADDR)).mac, ioctls.mac("plain0"));
    await until("flags agree", () => (handle.flags & 0xffff) === ioctls.flags("plain0"));
    assertEquals([ioctls.mtu("plain0"), ioctls.link("plain0"), ioctls.name(handle.index)], [1450, true, "plain0"]);
    await run("ip", ["addr", "add", "10.68.0.1/24", "dev", "plain0"]);
    await run("ping", ["-c", "1", "-W", "1", "10.68.0.9"]);
    assert(handle.statistics64().txDropped > 0);
    await devices.close();
  },
});

onKernel({
  name: "a device removed while its frames are on the way",
  ignore: lacksKernel(["ping"], "iputils-ping"),
  fn: async () => {
    const { devices, failures } = registry();
    for (let i = 0; i < 5; i++) {
      await devices.register("away0", Mirror).ready;
      inNamespace("/proc/thread-self/ns/net", () => setLink("away0", { mtu: 1400 }));
      await run("ip", ["addr", "add", "10.69.0.1/24", "dev", "away0"]);
      const ping = run("ping", ["-c", "3", "-i", "0.01", "-W", "1", "10.69.0.9"]);
      await new Promise((resolve) => setTimeout(resolve, i * 10));
      assertEquals(devices.unregister("away0"), true);
      await ping;
    }
    assertEquals([linkExists("away0"), failures.length], [false, 0]);
    await devices.close();
  },
});

onKernel({
  name: "a TAP that flaps and is renamed: open and stop alternate, the last state counts, the new name is found",
  ignore: lacksKernel(["ip"], "iproute2"),
  fn: async () => {
    const { devices, table, failures } = registry();
    const log: string[] = [];
    class Flaps extends NetDevice {
      override async open() {
        log.push("open");
        await new Promise((resolve) => setTimeout(resolve, 3));
      }
      override stop() {
        log.push("stop");
      }
    }
    const handle = await devices.register("flap0", Flaps).ready;
    for (let i = 0; i < 50; i++) setLink("flap0", { up: i % 2 === 1 });
    await run("ip", ["link", "set", "flap0", "down"]);
    await until("it is down", () => !handle.up && log.at(-1) === "stop");
    assert(log.every((word, i) => word === (i % 2 === 0 ? "open" : "stop")), log.join(" "));
    await run("ip", ["link", "set", "flap0", "name", "flapped"]);
    await until("the new name", () => devices.lookup("flapped") === handle);
    assertEquals([devices.lookup("flap0"), handle.name, await devices.setState("flapped", true)], [null, "flapped", true]);
    assertEquals((await request(table, "flapped", ifr.SIOCGIFMTU)).code, 0);
    // State changes of our own in a row don't confuse it either.
    for (let i = 0; i < 20; i++) await handle.setUp(i % 2 === 0);
    await new Promise((resolve) => setTimeout(resolve, 50));
    assertEquals([handle.up, getLink("flapped").up, failures.length], [false, false, 0]);
    assertEquals([devices.unregister("flap0"), linkExists("flapped"), [...table].length], [true, false, 0]);
    await devices.close();
  },
});

onKernel({
  name: "a slow class on a TAP, switched by itself and by ip at once: one operation at a time, and all agree in the end",
  ignore: lacksKernel(["ip"], "iproute2"),
  fn: async () => {
    const { devices, failures } = registry();
    const log: string[] = [];
    let inside = 0, most = 0, open = false;
    const slowly = async (what: string, ms: number) => {
      most = Math.max(most, ++inside);
      log.push(what);
      await new Promise((resolve) => setTimeout(resolve, ms));
      inside--;
    };
    class Slow extends NetDevice {
      override async open() {
        await slowly("open", 30);
        open = true;
      }
      override async stop() {
        await slowly("stop", 5);
        open = false;
      }
      override changeMtu = () => slowly("mtu", 5);
    }
    const handle = await devices.register("slow0", Slow).ready;
    await handle.setUp(false);
    log.length = 0;
    assertEquals(await Promise.all([handle.setUp(true), handle.setUp(false)]), [0, 0]);
    assertEquals([log, open, handle.up, devices.getState("slow0")], [["open", "stop"], false, false, false]);
    for (let i = 0; i < 10; i++) {
      void handle.setUp(i % 2 === 0);
      setLink("slow0", { up: i % 3 === 0, mtu: 1400 + i });
      await new Promise((resolve) => setTimeout(resolve, 7 * i));
    }
    setLink("slow0", { up: true, mtu: 1300 });
    await until("they agree", () => inside === 0 && open && handle.up && handle.mtu === 1300 && getLink("slow0").up);
    await new Promise((resolve) => setTimeout(resolve, 50));
    const ups = log.filter((word) => word !== "mtu");
    assert(ups.every((word, i) => word === (i % 2 === 0 ? "open" : "stop")), log.join(" "));
    assertEquals([open, handle.up, getLink("slow0").up, handle.mtu, most, failures.length], [true, true, true, 1300, 1, 0]);
    await devices.close();
    await until("it is closed", () => !open);
  },
});

onKernel({
  name: "D1.16 on a TAP: what the class doesn't know is left to the kernel, by ENOIOCTLCMD and never by an errno",
  ignore: !kernel,
  fn: async () => {
    const { devices } = registry();
    const handle = await devices.register("left0").ready;
    const ask = async (cmd: number) => await handle.ioctl(cmd, new Uint8Array(40), new LocalMemory(new Uint8Array(64), 0));
    // SIOCGIFADDR, SIOCGIFTXQLEN, SIOCGIFMAP, SIOCGIFMETRIC; and ETHTOOL_GSET, which is 1.
    for (const cmd of [0x8915, 0x8942, 0x8970, 0x891d]) assertEquals(await ask(cmd), -ENOIOCTLCMD, cmd.toString(16));
    const memory = new LocalMemory(new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 0);
    assertEquals(await handle.ioctl(ifr.SIOCETHTOOL, new Uint8Array(40), memory), -ENOIOCTLCMD);
    assertEquals(await ask(ifr.SIOCGIFFLAGS), 0);
    await devices.close();
  },
});
