// A class's operations are called one after the other, as under Linux's RTNL lock, whoever asks for them.
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { TURNS_MAX } from "../../../drivers/netdev/turns.ts";
import { Failures, request } from "./classes.ts";
import { DeviceTable, IfReq, NetDevice, NetDevices, type NetInterface } from "./face.ts";
import * as ifr from "../../../ffi/ifreq.ts";

const MAC = new Uint8Array([2, 0, 0, 0, 0, 0x42]);

function registry(operationLimitMs?: number) {
  const table = new DeviceTable();
  const failures = new Failures();
  return { devices: new NetDevices({ backing: "process", table, onFailure: failures.take, operationLimitMs }), table, failures };
}

/** Takes its time for everything, and notes what it is asked. */
class Slow extends NetDevice {
  log: string[] = [];
  inside = 0;
  most = 0;
  async #slowly(what: string, ms: number) {
    this.most = Math.max(this.most, ++this.inside);
    this.log.push(`${what} begins`);
    await delay(ms);
    this.log.push(`${what} ends`);
    this.inside--;
  }
  override open() {
    return this.#slowly("open", 20);
  }
  override stop() {
    return this.#slowly("stop", 3);
  }
  override changeMtu() {
    return this.#slowly("mtu", 5);
  }
  override setMacAddress() {
    return this.#slowly("mac", 1);
  }
  override setRxMode() {
    return this.#slowly("mode", 2);
  }
}

Deno.test("up and down at once: the second begins when the first has ended, and its state is the last", async () => {
  const { devices, table } = registry();
  const registration = devices.register("slow0", Slow);
  const handle = await registration.ready;
  const slow = registration.instance as Slow;
  await handle.setUp(false);
  slow.log = [];
  assertEquals(await Promise.all([handle.setUp(true), handle.setUp(false)]), [0, 0]);
  assertEquals(slow.log, ["open begins", "open ends", "stop begins", "stop ends"]);
  assertEquals(handle.up, false);
  // The same by requests of programs.
  slow.log = [];
  const flags = (value: number) => request(table, "slow0", ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = value);
  const answers = await Promise.all([flags(ifr.IFF_UP | ifr.IFF_PROMISC), flags(0), flags(ifr.IFF_UP)]);
  assertEquals(answers.map(({ code }) => code), [0, 0, 0]);
  assertEquals(
    slow.log.filter((word) => word.endsWith("begins")).map((word) => word.split(" ")[0]),
    ["open", "mode", "stop", "mode", "open"],
  );
  assertEquals([handle.up, handle.flags & ifr.IFF_PROMISC, slow.most], [true, 0, 1]);
  await devices.close();
  assertEquals(slow.log.at(-1), "stop begins");
  await delay(10);
});

Deno.test("changes of all kinds, from everywhere at once: one at a time, in the order in which they came", async () => {
  const { devices, table } = registry();
  const registration = devices.register("slow0", Slow);
  const handle = await registration.ready;
  const slow = registration.instance as Slow;
  slow.log = [];
  const codes = await Promise.all([
    handle.setMtu(1400),
    request(table, "slow0", ifr.SIOCSIFMTU, (ifreq) => ifreq.value = 1300).then(({ code }) => code),
    handle.setMac(MAC),
    handle.setRxMode(true, true),
    handle.setUp(false),
    handle.setMtu(1200),
    handle.setMtu(10),
    devices.setState("slow0", true),
  ]);
  assertEquals(codes, [0, 0, 0, 0, 0, 0, -22, true]);
  const order = ["mtu", "mtu", "mac", "mode", "stop", "mtu", "open"];
  assertEquals(slow.log, order.flatMap((word) => [`${word} begins`, `${word} ends`]));
  assertEquals([handle.mtu, handle.mac[5], handle.up, slow.most], [1200, 0x42, true, 1]);
  await devices.close();
  await delay(10);
});

Deno.test("a synchronous class is done before the call returns", async () => {
  const { devices } = registry();
  const log: string[] = [];
  class Quick extends NetDevice {
    override open() {
      log.push("open");
    }
    override stop() {
      log.push("stop");
    }
    override changeMtu() {
      log.push("mtu");
    }
  }
  const handle = await devices.register("quick0", Quick).ready;
  log.length = 0;
  const ask = (cmd: number, prepare: (ifreq: IfReq) => void) => {
    const ifreq = new IfReq("quick0");
    prepare(ifreq);
    return handle.ioctl(cmd, ifreq.bytes, null);
  };
  assertEquals([ask(ifr.SIOCSIFFLAGS, () => {}), handle.up], [0, false]);
  assertEquals([ask(ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = ifr.IFF_UP), handle.up], [0, true]);
  assertEquals([ask(ifr.SIOCSIFMTU, (ifreq) => ifreq.value = 1300), handle.mtu], [0, 1300]);
  assertEquals(log, ["stop", "open", "mtu"]);
  void handle.setUp(false);
  assertEquals([handle.up, log.at(-1)], [false, "stop"]);
  await devices.close();
});

Deno.test("an operation that never settles has its time, and then the next has its turn", async () => {
  const { devices, failures } = registry(30);
  class Stuck extends NetDevice {
    override open() {
      return this.name === "stuck0" ? new Promise<void>(() => {}) : undefined;
    }
    override changeMtu() {
      return Promise.resolve(0);
    }
  }
  const handle = await devices.register("stuck0", Stuck).ready;
  assertEquals([handle.up, failures.length], [false, 1]);
  const [up, mtu] = await Promise.all([handle.setUp(true), handle.setMtu(1400)]);
  assertEquals([up, mtu, handle.mtu, handle.up], [-110, 0, 1400, false]);
  assertEquals(failures.map(({ operation, code }) => `${operation} ${code}`), ["open ETIMEDOUT", "open ETIMEDOUT"]);
  await devices.close();
});

Deno.test("an operation that asks for another change of its device, or of one that does, doesn't wait for itself", async () => {
  const { devices, failures } = registry(500);
  const codes: number[] = [];
  class Inner extends NetDevice {
    other: NetInterface | null = null;
    override async changeMtu(_: NetInterface, mtu: number) {
      await delay(1);
      if (this.other !== null && mtu === 1234) codes.push(await this.other.setRxMode(true, false));
    }
  }
  class Outer extends NetDevice {
    override async open(handle: NetInterface) {
      codes.push(await handle.setMtu(1400));
      await delay(1);
      const inner = devices.lookup("inner0")!;
      codes.push(await inner.setMtu(1234), await handle.setUp(true));
    }
  }
  const inner = devices.register("inner0", Inner);
  await inner.ready;
  const outer = devices.register("outer0", Outer);
  await devices.settled();
  (inner.instance as Inner).other = outer.handle;
  const handle = await outer.ready;
  await handle.setUp(false);
  codes.length = 0;
  // A change from outside waits for all of that.
  const done = await Promise.all([handle.setUp(true), handle.setMtu(1500)]);
  assertEquals([done, codes], [[0, 0], [0, 0, 0, 0]]);
  assertEquals([handle.mtu, handle.flags & ifr.IFF_PROMISC, inner.handle?.mtu], [1500, ifr.IFF_PROMISC, 1234]);
  assertEquals(failures.length, 0);
  await devices.close();
});

Deno.test("a device removed while its class opens it: told of the end afterwards; who waits gets ENODEV", async () => {
  const { devices } = registry();
  const registration = devices.register("slow0", Slow);
  const handle = await registration.ready;
  const slow = registration.instance as Slow;
  await handle.setUp(false);
  slow.log = [];
  const waiting = [handle.setUp(true), handle.setMtu(1400), handle.setMac(MAC)];
  await delay(1);
  assertEquals(devices.unregister("slow0"), true);
  assertEquals([handle.exists, slow.log], [false, ["open begins"]]);
  assertEquals([await Promise.all(waiting), await handle.setUp(true)], [[0, -19, -19], -19]);
  await delay(10);
  assertEquals(slow.log, ["open begins", "open ends", "stop begins", "stop ends"]);
  assertEquals([handle.up, slow.most], [false, 1]);
  await devices.close();
});

Deno.test("changes that wait are limited: EBUSY beyond; the others are all made", async () => {
  const { devices } = registry();
  let asked = 0;
  class Counts extends NetDevice {
    override async changeMtu() {
      if (asked++ === 0) await delay(5);
    }
  }
  const handle = await devices.register("counts0", Counts).ready;
  const codes = await Promise.all(Array.from({ length: TURNS_MAX + 11 }, (_, i) => handle.setMtu(1000 + i % 400)));
  assertEquals([codes.filter((code) => code === -16).length, codes.filter((code) => code === 0).length], [10, TURNS_MAX + 1]);
  assert(codes.slice(-10).every((code) => code === -16));
  assertEquals([asked, await handle.setMtu(1500)], [TURNS_MAX + 1, 0]);
  await devices.close();
});
