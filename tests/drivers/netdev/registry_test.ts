// D1.1-D1.10, D1.13-D1.15 without a kernel: names, registering, the queue, state, look-up, what paths ask for.
import { assert, assertEquals, assertInstanceOf, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import { Failures, until } from "./classes.ts";
import { DeviceNameError, DeviceTable, lookup, NetDevice, NetDevices, type NetInterface } from "./face.ts";

function registry(failures = new Failures(), operationLimitMs?: number) {
  const table = new DeviceTable();
  return { devices: new NetDevices({ backing: "process", table, onFailure: failures.take, operationLimitMs }), table, failures };
}

Deno.test("D1.1 a name is 1 to 15 letters, digits, _ . -, not . or ..; a bad one is a typed error and changes nothing", async () => {
  const { devices, table } = registry();
  let built = 0;
  class Built extends NetDevice {
    constructor() {
      super();
      built++;
    }
  }
  const bad = ["", ".", "..", "a b", "a/b", "a:b", "ä", "a\n", "x".repeat(16), "a\0", "%d"];
  for (const name of bad) {
    const error = assertThrows(() => devices.register(name, Built), DeviceNameError);
    assertEquals([error.code, error instanceof TypeError], ["EINVAL", true], name);
  }
  assertThrows(() => devices.register(7 as unknown as string), DeviceNameError);
  assertEquals([built, devices.queued, [...table].length, [...devices.registrations].length], [0, 0, 0, 0]);
  for (const name of ["a", "x".repeat(15), "...", "-", "eth0.5", "A_b-c.d"]) devices.register(name, Built);
  await devices.settled();
  assertEquals([...table].length, 6);
  await devices.close();
});

Deno.test("D1.2 register is registerNetdev, and builds the instance at once with its arguments", async () => {
  const { devices } = registry();
  class Two extends NetDevice {
    constructor(readonly a: number, readonly b: string) {
      super();
    }
  }
  const one = devices.register("a0", Two, 1, "x");
  const other = devices.registerNetdev("a1", Two, { args: [2, "y"] });
  for (const [registration, a, b] of [[one, 1, "x"], [other, 2, "y"]] as const) {
    assertInstanceOf(registration.instance, Two);
    assertEquals([registration.instance.a, registration.instance.b, registration.handle], [a, b, null]);
  }
  class Throws {
    constructor() {
      throw new RangeError("no");
    }
  }
  assertThrows(() => devices.register("a2", Throws), RangeError, "no");
  await devices.settled();
  assertEquals([...devices.registrations].map(({ name }) => name), ["a0", "a1"]);
  await devices.close();
});

Deno.test("D1.3 * makes no device; its setup is for names without a class", async () => {
  const { devices, table } = registry();
  const seen: string[] = [];
  class Any extends NetDevice {
    override setup(handle: NetInterface) {
      seen.push(`${handle.name} ${this.name} ${this.handle === handle}`);
    }
  }
  class Own extends NetDevice {
    override setup() {
      seen.push("own");
    }
  }
  devices.register("*", Any);
  await devices.settled();
  assertEquals([...table].length, 0);
  devices.register("plain");
  devices.register("own", Own);
  devices.ensureFromPath("/sys/class/net/asked/mtu");
  await devices.settled();
  assertEquals(seen, ["plain plain true", "own", "asked asked true"]);
  await devices.close();
});

Deno.test("D1.4 a known name is neither doubled nor made again; class and existOk may change", async () => {
  const { devices, table } = registry();
  class A extends NetDevice {
    override siocdevprivate() {
      return 1;
    }
  }
  class B extends NetDevice {
    ready = false;
    override setup() {
      this.ready = true;
    }
    override siocdevprivate() {
      return 2;
    }
  }
  const first = devices.registerNetdev("d0", A);
  const again = devices.registerNetdev("d0", null, { existOk: true });
  assertStrictEquals(again, first);
  assertEquals([first.existOk, first.instance instanceof A], [true, true]);
  const handle = await first.ready;
  assertEquals(await handle.ioctl(0x89f0, new Uint8Array(40), null), 1);
  assertStrictEquals(devices.register("d0", B), first);
  await until("setup of the new class", () => (first.instance as B).ready);
  assertStrictEquals((first.instance as B).handle, handle);
  assertEquals(await handle.ioctl(0x89f0, new Uint8Array(40), null), 2);
  assertEquals([[...table].length, first.existOk], [1, true]);
  await devices.close();
});

Deno.test("D1.5 creations are queued and made one at a time, in order", async () => {
  const { devices } = registry();
  const log: string[] = [];
  class Slow extends NetDevice {
    override async setup() {
      log.push(`begin ${this.name}`);
      await new Promise((resolve) => setTimeout(resolve, 5));
      log.push(`end ${this.name}`);
    }
  }
  for (let i = 0; i < 4; i++) devices.register(`q${i}`, Slow);
  assertEquals(devices.queued, 4);
  await devices.settled();
  assertEquals(log, [0, 1, 2, 3].flatMap((i) => [`begin q${i}`, `end q${i}`]));
  assertEquals(devices.queued, 0);
  await devices.close();
});

Deno.test("D1.6 each is brought up right after it was made; a failure is reported and the rest go on", async () => {
  const { devices, table, failures } = registry();
  class Refuses extends NetDevice {
    override open() {
      return -16;
    }
  }
  class Throws extends NetDevice {
    override open(): never {
      throw new Error("broken");
    }
  }
  table.add({ name: "taken", index: 7, ioctl: () => 0 });
  devices.register("u0");
  devices.register("u1", Refuses);
  const taken = devices.register("taken");
  devices.register("u2", Throws);
  devices.register("u3");
  await devices.settled();
  assertEquals(["u0", "u1", "taken", "u2", "u3"].map((name) => devices.getState(name)), [true, false, null, false, true]);
  await assertRejects(() => taken.ready, Deno.errors.AlreadyExists);
  assertEquals(failures.map(({ device, operation, code }) => [device, operation, code]), [
    ["u1", "open", "EBUSY"],
    ["taken", "create", "EEXIST"],
    ["u2", "open", "EIO"],
  ]);
  await devices.close();
});

Deno.test("D1.7 a name that exists: used with existOk, else an error (in the process)", async () => {
  const table = new DeviceTable();
  const failures = new Failures();
  const a = new NetDevices({ backing: "process", table, onFailure: failures.take });
  const b = new NetDevices({ backing: "process", table, onFailure: failures.take });
  const handle = await a.register("same").ready;
  await assertRejects(() => b.register("same").ready, Deno.errors.AlreadyExists, "EEXIST");
  assertStrictEquals(await b.registerNetdev("same", null, { existOk: true }).ready, handle);
  assertEquals(failures.length, 1);
  await b.close();
  await a.close();
});

Deno.test("D1.8 setup runs after creation, may be async; name and handle are set before", async () => {
  const { devices, failures } = registry();
  const log: unknown[] = [];
  class Prepared extends NetDevice {
    override async setup(handle: NetInterface) {
      log.push(this.name, this.handle === handle, handle.exists, handle.up);
      await Promise.resolve();
      log.push("prepared");
    }
    override open(handle: NetInterface) {
      log.push("open", handle.name);
    }
  }
  class Fails extends NetDevice {
    override setup(): never {
      throw new Error("no setup");
    }
  }
  await devices.register("s0", Prepared).ready;
  assertEquals(log, ["s0", true, true, false, "prepared", "open", "s0"]);
  assert((await devices.register("s1", Fails).ready).up);
  assertEquals(failures.map(({ operation }) => operation), ["setup"]);
  await devices.close();
});

Deno.test("D1.9 ALLOW_DELETE = false refuses deletion", async () => {
  const { devices } = registry();
  class Stays extends NetDevice {
    static override ALLOW_DELETE = false;
  }
  devices.register("stays", Stays);
  devices.register("goes", NetDevice);
  await devices.settled();
  const error = assertThrows(() => devices.unregister("stays"), Deno.errors.NotSupported, "EOPNOTSUPP");
  assertEquals((error as Error & { code: string }).code, "EOPNOTSUPP");
  assertEquals([devices.unregister("goes"), devices.unregister("goes"), devices.unregister("nobody")], [true, false, false]);
  assertEquals([devices.getState("stays"), devices.getState("goes")], [true, null]);
  const waiting = devices.register("waits");
  assertEquals(devices.unregister("waits"), true);
  await assertRejects(() => waiting.ready, Deno.errors.NotFound);
  await devices.close();
});

Deno.test("D1.10 lookup, getState and setState answer null or a boolean; setState only says true if it is so", async () => {
  const { devices, table } = registry();
  class Stubborn extends NetDevice {
    refuse = false;
    override open() {
      return this.refuse ? -1 : 0;
    }
  }
  const registration = devices.register("l0", Stubborn);
  assertEquals([devices.lookup("l0"), devices.getState("l0"), await devices.setState("l0", true)], [null, null, null]);
  const handle = await registration.ready;
  assertStrictEquals(devices.lookup("l0"), handle);
  assertStrictEquals(lookup("l0:alias", table), handle);
  assertStrictEquals(lookup(new TextEncoder().encode("l0\0garbage"), table), handle);
  assertEquals(devices.getState("l0"), true);
  assertEquals([await devices.setState("l0", false), devices.getState("l0")], [true, false]);
  (registration.instance as Stubborn).refuse = true;
  assertEquals([await devices.setState("l0", true), devices.getState("l0")], [false, false]);
  (registration.instance as Stubborn).refuse = false;
  assertEquals([await devices.setState("l0", true), devices.getState("l0")], [true, true]);
  await devices.close();
  assertEquals([devices.getState("l0"), devices.lookup("l0")], [null, null]);
});

Deno.test("D1.13 methods with the kernel's names are wired up, in any class", async () => {
  const { devices } = registry();
  const log: string[] = [];
  class Kernel {
    ndoOpen() {
      log.push("open");
    }
    ndoStop() {
      log.push("stop");
    }
    ndoStartXmit() {
      log.push("xmit");
    }
    ndoGetStats64() {
      return { rxPackets: 42 };
    }
    ndoDoIoctl(_handle: unknown, _ifreq: unknown, cmd: number) {
      return cmd - 0x89f0;
    }
    ndoChangeMtu() {
      log.push("mtu");
    }
    ndoSetMacAddress() {
      log.push("mac");
    }
    ndoSetRxMode() {
      log.push("mode");
    }
  }
  const handle = await devices.register("k0", Kernel).ready;
  assertEquals(await handle.ioctl(0x89f5, new Uint8Array(40), null), 5);
  class Newer extends Kernel {
    ndoSiocdevprivate() {
      return 77;
    }
  }
  const newer = await devices.register("k1", Newer).ready;
  assertEquals(await newer.ioctl(0x89f5, new Uint8Array(40), null), 77);
  assertEquals(handle.statistics64().rxPackets, 42);
  const { TxFrame } = await import("../../../stack/device.ts");
  const tx = new TxFrame();
  tx.reset(60);
  handle.open(() => {});
  assertEquals(handle.transmit(tx), 0);
  await handle.setMtu(1400);
  await handle.setMac(new Uint8Array([2, 0, 0, 0, 0, 9]));
  await handle.setRxMode(true, false);
  await handle.setUp(false);
  assertEquals(log, ["open", "open", "xmit", "mtu", "mac", "mode", "stop"]);
  await devices.close();
});

const AUTO = [
  "/proc/sys/net/ipv4/conf/NAME",
  "/proc/sys/net/ipv4/conf/NAME/forwarding",
  "/proc/sys/net/ipv6/neigh/NAME/retrans_time_ms",
  "/proc/sys/net/ipv6/conf/NAME/disable_ipv6",
  "/proc/sys/net/ipv4/neigh/NAME/",
  "/sys/class/net/NAME",
  "/sys/class/net/NAME/statistics/rx_bytes",
  "/sys/devices/virtual/net/NAME/mtu",
];

Deno.test("D1.14 ensureFromPath makes the device that a path speaks of, with existOk", async () => {
  const { devices } = registry();
  for (const [i, path] of AUTO.entries()) {
    const registration = devices.ensureFromPath(path.replace("NAME", `eth${i}`));
    assertEquals([registration?.name, registration?.existOk], [`eth${i}`, true], path);
    assertStrictEquals(devices.ensureFromPath(path.replace("NAME", `eth${i}`)), registration);
  }
  await devices.settled();
  assertEquals(AUTO.map((_, i) => devices.getState(`eth${i}`)), AUTO.map(() => true));
  for (const path of ["/proc/sys/net/ipv5/conf/a", "/sys/class/net", "/sys/class/net/", "/etc/a", "x/sys/class/net/a", ""]) {
    assertEquals(devices.ensureFromPath(path), null, path);
  }
  await devices.close();
});

Deno.test("D1.15 some names are never made by a path, but by whoever registers them", async () => {
  const { devices } = registry();
  const never = ["all", "default", "lo", "br0", "bridge12", "bond1", "vlan100", "br-lan", "br-", "eth0.5", "a.b", ".."];
  for (const name of never) assertEquals(devices.ensureFromPath(`/sys/class/net/${name}/mtu`), null, name);
  assertEquals(devices.ensureFromPath(`/sys/class/net/${"x".repeat(16)}`), null);
  for (const name of ["br", "bra0", "bonds1", "vlan", "lo0", "brr-x"]) {
    assertEquals(devices.ensureFromPath(`/sys/class/net/${name}`)?.name, name);
  }
  for (const name of ["all", "br0", "br-lan", "eth0.5"]) devices.register(name);
  await devices.settled();
  assertEquals(["all", "br0", "br-lan", "eth0.5"].map((name) => devices.getState(name)), [true, true, true, true]);
  await devices.close();
});

Deno.test("two devices with one index, each of a namespace of its own: both are found by name, and each goes by itself", () => {
  const table = new DeviceTable();
  const device = (name: string, index: number) => ({ name, index, ioctl: () => 0 });
  const one = device("one0", 2), two = device("two0", 2), other = device("other0", 3);
  for (const each of [one, two, other]) table.add(each);
  assertStrictEquals(table.byIndex(2), one);
  table.remove(one);
  assertEquals([...table].map(({ name }) => name), ["two0", "other0"]);
  assertStrictEquals(table.byIndex(2), two);
  table.remove(device("two0", 2));
  table.add(one);
  assertThrows(() => table.add(one), Deno.errors.AlreadyExists);
  // Removed under the name that it has now, and under the one that it was found by.
  one.name = "new0";
  table.renamed(one, "one0");
  assertEquals([table.lookup("one0"), table.lookup("new0")], [null, one]);
  two.name = "new0";
  table.renamed(two, "two0");
  for (const each of [one, two, other]) table.remove(each);
  assertEquals([[...table].length, table.lookup("two0"), table.byIndex(2)], [0, null, null]);
  table.add(device("one0", 2));
  table.add(device("two0", 2));
});
