// D1.11, D1.12, D1.16 and D4.1-D4.3 in the process: what devices answer, with the kernel's own errors; and classes that fail.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { NetStack } from "../../../mod.ts";
import { procNetDev, statisticsBytes, sysfsStatistic } from "../../../drivers/netdev/statistics.ts";
import * as ifr from "../../../ffi/ifreq.ts";
import { ethtoolDrvinfo, ethtoolValue } from "../../../ffi/ioctl_interface.ts";
import { structure, u32, word } from "../../../ffi/structure.ts";
import { Failures, Mirror, request } from "./classes.ts";
import { DeviceTable, type IfReq, type IoctlData, LocalMemory, NetDevice, NetDevices, type NetInterface } from "./face.ts";

function registry(operationLimitMs?: number) {
  const table = new DeviceTable();
  const failures = new Failures();
  return { devices: new NetDevices({ backing: "process", table, onFailure: failures.take, operationLimitMs }), table, failures };
}

Deno.test("D1.11 each device reports its own numbers to a reader of the kernel's formats", async () => {
  const { devices, table } = registry();
  class Counts extends NetDevice {
    constructor(readonly n: number) {
      super();
    }
    override getStats64() {
      return {
        rxPackets: this.n,
        txPackets: this.n * 10,
        rxBytes: this.n * 100,
        txBytes: this.n * 1000,
        rxErrors: -1,
        multicast: NaN,
      };
    }
  }
  for (let i = 1; i <= 4; i++) devices.register(`n${i}`, Counts, i);
  await devices.settled();
  const kernel = "Inter-| x\n face | y\n    lo:       5       6    0\n    n2: 1 2 3\n";
  const lines = procNetDev(table as unknown as Iterable<NetInterface>, kernel).trimEnd().split("\n");
  assertEquals(lines.length, 7);
  assertStringIncludes(lines[2], "lo:       5");
  for (let i = 1; i <= 4; i++) {
    const line = lines.find((text) => text.trim().startsWith(`n${i}:`))!;
    const numbers = line.split(":")[1].trim().split(/\s+/).map(Number);
    assertEquals([numbers.length, numbers[0], numbers[1], numbers[2], numbers[8], numbers[9]], [
      16,
      i * 100,
      i,
      0,
      i * 1000,
      i * 10,
    ]);
    const stats = devices.lookup(`n${i}`)!.statistics64();
    assertEquals([sysfsStatistic("rx_bytes", stats), sysfsStatistic("tx_packets", stats)], [`${i * 100}\n`, `${i * 10}\n`]);
    assertEquals(sysfsStatistic("constructor", stats), null);
    assertEquals(new DataView(statisticsBytes(stats).buffer).getBigUint64(8, true), BigInt(i * 10));
    // `ethtool -S` in the process.
    const memory = new LocalMemory(new Uint8Array(8 + 8 * 25));
    const bytes = new Uint8Array(4);
    bytes[0] = 0x1d;
    memory.write(memory.address, bytes);
    assertEquals((await request(table, `n${i}`, ifr.SIOCETHTOOL, () => {}, memory)).code, 0);
    const out = new Uint8Array(16);
    memory.read(memory.address + 8, out);
    assertEquals(new DataView(out.buffer).getBigUint64(0, true), BigInt(i));
  }
  await devices.close();
});

const question = structure("question", { number: u32, pointer: word });

Deno.test("D1.12 the handler gets device, ifreq, cmd and data; 0 is success, a negative errno the caller's", async () => {
  const { devices, table } = registry();
  const seen: unknown[] = [];
  class Answers extends NetDevice {
    override siocdevprivate(handle: NetInterface, ifreq: IfReq, cmd: number, data: IoctlData) {
      seen.push(handle === this.handle, ifreq.name, cmd, data.address);
      if (cmd === 0x89f1) return -13;
      if (cmd === 0x89f2) return Promise.resolve(3);
      const { number } = data.get(question);
      data.set(question, { number: number + 1 });
      ifreq.view.setUint32(32, 0xabcd, true);
      return 0;
    }
  }
  await devices.register("i0", Answers).ready;
  const memory = new LocalMemory(question.make({ number: 41, pointer: 5 }));
  const done = await request(table, "i0", 0x89f0, () => {}, memory);
  assertEquals([done.code, done.ifreq.view.getUint32(32, true)], [0, 0xabcd]);
  const after = new Uint8Array(question.size);
  memory.read(memory.address, after);
  assertEquals(question.parse(after), { number: 42, pointer: 0 });
  assertEquals((await request(table, "i0", 0x89f1)).code, -13);
  assertEquals((await request(table, "i0", 0x89f2)).code, 3);
  assertEquals(seen.slice(0, 4), [true, "i0", 0x89f0, memory.address]);
  await devices.close();
});

Deno.test("D1.16 without a class: up, drops what it is sent, answers the standard ioctls", async () => {
  const { devices, table } = registry();
  const handle = await devices.register("dummy0").ready;
  assertEquals(handle.up, true);
  const get = async (cmd: number) => await request(table, "dummy0", cmd);
  assertEquals((await get(ifr.SIOCGIFFLAGS)).ifreq.flags & (ifr.IFF_UP | ifr.IFF_RUNNING), ifr.IFF_UP | ifr.IFF_RUNNING);
  assertEquals((await get(ifr.SIOCGIFMTU)).ifreq.value, 1500);
  assertEquals((await get(ifr.SIOCGIFINDEX)).ifreq.value, handle.index);
  assertEquals((await get(ifr.SIOCGIFHWADDR)).ifreq.mac, handle.mac);
  assertEquals((await get(ifr.SIOCGIFTXQLEN)).ifreq.value, 1000);
  assertEquals((await request(table, "", ifr.SIOCGIFNAME, (ifreq) => ifreq.value = handle.index)).ifreq.name, "dummy0");
  assertEquals((await request(table, "dummy0", ifr.SIOCSIFMTU, (ifreq) => ifreq.value = 9000)).code, 0);
  assertEquals((await request(table, "dummy0", ifr.SIOCSIFMTU, (ifreq) => ifreq.value = 10)).code, -22);
  assertEquals([(await get(ifr.SIOCGIFMTU)).ifreq.value, handle.mtu], [9000, 9000]);
  assertEquals(
    (await request(table, "dummy0", ifr.SIOCSIFHWADDR, (ifreq) => ifreq.mac = new Uint8Array([1, 0, 0, 0, 0, 0]))).code,
    -99,
  );
  assertEquals((await request(table, "dummy0", ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = ifr.IFF_PROMISC)).code, 0);
  assertEquals([handle.up, handle.flags & ifr.IFF_PROMISC], [false, ifr.IFF_PROMISC]);
  assertEquals((await request(table, "dummy0", ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = ifr.IFF_UP)).code, 0);
  assertEquals((await get(0x89f0)).code, -95);
  const driver = new LocalMemory(ethtoolDrvinfo.make({ cmd: 3 }));
  assertEquals((await request(table, "dummy0", ifr.SIOCETHTOOL, () => {}, driver)).code, 0);
  const info = new Uint8Array(ethtoolDrvinfo.size);
  driver.read(driver.address, info);
  assertEquals(ethtoolDrvinfo.parse(info).driver, "dummy");
  const link = new LocalMemory(ethtoolValue.make({ cmd: 0xa }));
  await request(table, "dummy0", ifr.SIOCETHTOOL, () => {}, link);
  const value = new Uint8Array(8);
  link.read(link.address, value);
  assertEquals(ethtoolValue.parse(value).data, 1);
  assertEquals((await request(table, "dummy0", ifr.SIOCETHTOOL)).code, -14, "no memory to answer into");
  {
    using stack = new NetStack(handle, { address: "10.0.0.1/24" });
    await stack.ping("10.0.0.2", { timeoutMs: 50 }).catch(() => {});
  }
  assert(handle.statistics64().txDropped > 0, "what it is sent is dropped and counted");
  await devices.close();
});

Deno.test("the other flags, and the queue's length, are kept and read back", async () => {
  const { devices, table } = registry();
  const handle = await devices.register("kept0").ready;
  const read = async (cmd: number) => (await request(table, "kept0", cmd)).ifreq;
  const set = async (flags: number) => (await request(table, "kept0", ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = flags)).code;
  const before = (await read(ifr.SIOCGIFFLAGS)).flags;
  assertEquals(before, ifr.IFF_UP | ifr.IFF_RUNNING | ifr.IFF_BROADCAST | ifr.IFF_MULTICAST);
  // All bits: those that are the device's own affair (LOOPBACK, POINTOPOINT, MASTER, SLAVE, …) aren't a caller's to set.
  assertEquals([await set(0xffff), handle.flags], [0, before | 0xf0a4 | ifr.IFF_PROMISC | ifr.IFF_ALLMULTI]);
  assertEquals([await set(ifr.IFF_UP | ifr.IFF_NOARP), handle.flags], [0, before & ~ifr.IFF_MULTICAST | ifr.IFF_NOARP]);
  assertEquals([await set(before & ~ifr.IFF_UP), handle.flags], [0, ifr.IFF_BROADCAST | ifr.IFF_MULTICAST]);
  const length = async (value: number) => (await request(table, "kept0", ifr.SIOCSIFTXQLEN, (ifreq) => ifreq.value = value)).code;
  assertEquals([await length(77), (await read(ifr.SIOCGIFTXQLEN)).value], [0, 77]);
  assertEquals([await length(-1), (await read(ifr.SIOCGIFTXQLEN)).value], [-22, 77]);
  await devices.close();
});

Deno.test("D4.1 range, device and operation: ENOTTY, ENODEV, EOPNOTSUPP", async () => {
  const { devices, table } = registry();
  class Ok extends NetDevice {
    override siocdevprivate(_: NetInterface, __: IfReq, cmd: number) {
      return cmd & 15;
    }
  }
  devices.register("has", Ok);
  devices.register("hasnt", NetDevice);
  await devices.settled();
  for (let n = 0; n < 16; n++) assertEquals((await request(table, "has", 0x89f0 + n)).code, n);
  for (const cmd of [0x89ef, 0x8a00, 0, 0x5401, 0xffffffff]) assertEquals((await request(table, "has", cmd)).code, -25, `${cmd}`);
  assertEquals((await request(table, "nobody", 0x89f0)).code, -19);
  assertEquals((await request(table, "nobody", 0x8a00)).code, -25);
  assertEquals((await request(table, "hasnt", 0x89f0)).code, -95);
  await devices.close();
  assertEquals((await request(table, "has", 0x89f0)).code, -19);
});

Deno.test("D4.2 ifr_name is cut at 15 bytes, and at ':' for the look-up", async () => {
  const { devices, table } = registry();
  class Name extends NetDevice {
    override siocdevprivate() {
      return 9;
    }
  }
  devices.register("exactly15bytes_", Name);
  devices.register("short", Name);
  await devices.settled();
  for (const name of ["exactly15bytes_", "exactly15bytes_Z", "short", "short:0", "short:alias:more", "short\0rest"]) {
    assertEquals((await request(table, name, 0x89f3)).code, 9, name);
  }
  for (const name of ["shor", ":short", "short ", ""]) assertEquals((await request(table, name, 0x89f3)).code, -19, name);
  await devices.close();
});

Deno.test("D4.3 device, ifreq, data pointer and command; the ifreq goes back, unless the answer is an error", async () => {
  const { devices, table } = registry();
  class Writes extends NetDevice {
    override doIoctl(_: NetInterface, ifreq: IfReq, cmd: number, data: IoctlData) {
      const was = ifreq.data;
      assertEquals(was, data.address);
      ifreq.data = 0x123456789;
      return cmd === 0x89f0 ? 0 : -1;
    }
  }
  await devices.register("w0", Writes).ready;
  const put = (ifreq: IfReq) => ifreq.data = 0x7fff_1234_5678;
  assertEquals((await request(table, "w0:x", 0x89f0, put)).ifreq.data, 0x123456789);
  const failed = await request(table, "w0", 0x89f1, put);
  assertEquals([failed.code, failed.ifreq.data], [-1, 0x7fff_1234_5678]);
  await devices.close();
});

Deno.test("a class that throws, answers nonsense or never answers gives an errno in time, and is reported", async () => {
  const { devices, table, failures } = registry(50);
  class Bad extends NetDevice {
    override siocdevprivate(_: NetInterface, ifreq: IfReq, cmd: number, data: IoctlData): number | Promise<number> {
      ifreq.value = 99;
      if (cmd === 0x89f0) throw new Error("broken");
      if (cmd === 0x89f1) throw new Deno.errors.Busy("no code");
      if (cmd === 0x89f2) throw Object.assign(new Error("busy"), { code: "EBUSY" });
      if (cmd === 0x89f3) return "x" as unknown as number;
      if (cmd === 0x89f4) return data.read(4).length;
      if (cmd === 0x89f5) return new Promise(() => {});
      return new Promise((_, reject) => setTimeout(() => reject(new Error("late")), 100));
    }
    override startXmit(): never {
      throw new Error("xmit");
    }
    override getStats64(): never {
      throw new Error("stats");
    }
  }
  const handle = await devices.register("bad", Bad).ready;
  const codes: number[] = [];
  const begin = performance.now();
  for (let n = 0; n < 7; n++) {
    const { code, ifreq } = await request(table, "bad", 0x89f0 + n);
    codes.push(code);
    assertEquals(ifreq.value, 0, "nothing goes back");
  }
  assertEquals(codes, [-5, -5, -16, -5, -14, -110, -110]);
  assert(performance.now() - begin < 2000);
  assertEquals(handle.statistics64().txPackets, 0);
  await new Promise((resolve) => setTimeout(resolve, 100));
  assertEquals(failures.map(({ operation, code }) => `${operation} ${code}`), [
    "siocdevprivate EIO",
    "siocdevprivate EIO",
    "siocdevprivate EIO",
    "siocdevprivate ETIMEDOUT",
    "siocdevprivate ETIMEDOUT",
    "getStats64 EIO",
  ]);
  await devices.close();
});

Deno.test("a device in the process carries a stack's frames to its class and back", async () => {
  const { devices } = registry();
  const registration = devices.register("mirror", Mirror);
  const handle = await registration.ready;
  using stack = new NetStack(handle, { address: "10.9.0.1/24" });
  // A mirror sends our own ARP question back to us: nobody answers it, and nothing breaks.
  await stack.ping("10.9.0.2", { timeoutMs: 50 }).catch(() => {});
  assert((registration.instance as Mirror).frames > 0);
  const { rxPackets, txPackets } = handle.statistics64();
  assertEquals(rxPackets, txPackets);
  await devices.close();
});

Deno.test("a device that is removed while a caller waits: the caller gets the class's answer, or ETIMEDOUT, and the next ENODEV", async () => {
  const { devices, table } = registry(50);
  let answerLater: (code: number) => void = () => {};
  class Waits extends NetDevice {
    override siocdevprivate(_: NetInterface, __: IfReq, cmd: number) {
      return new Promise<number>((resolve) => cmd === 0x89f0 ? answerLater = resolve : null);
    }
  }
  await devices.register("waits", Waits).ready;
  const [one, never] = [request(table, "waits", 0x89f0), request(table, "waits", 0x89f1)];
  assertEquals(devices.unregister("waits"), true);
  answerLater(4);
  assertEquals([(await one).code, (await never).code, (await request(table, "waits", 0x89f0)).code], [4, -110, -19]);
  await devices.close();
});

Deno.test("two registries on one table: each device belongs to one, and is gone with it", async () => {
  const table = new DeviceTable(), failures = new Failures();
  const options = { backing: "process", table, onFailure: failures.take } as const;
  const a = new NetDevices(options), b = new NetDevices(options);
  await Promise.all([a.register("a0").ready, b.register("b0").ready]);
  assertEquals([a.unregister("b0"), (await request(table, "b0", ifr.SIOCGIFMTU)).code], [false, 0]);
  await b.close();
  assertEquals([...table].map(({ name }) => name), ["a0"]);
  await a.close();
});
