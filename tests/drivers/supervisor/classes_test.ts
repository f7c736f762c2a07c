/** Device classes, with a TAP behind them and without, asked by programs; the examples. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { LoopbackDevice } from "../../../drivers/loopback/loopback.ts";
import { NetDevice } from "../../../drivers/netdev/net_device.ts";
import { NetDevices } from "../../../drivers/netdev/registry.ts";
import type { Statistics64 } from "../../../drivers/netdev/statistics.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import { isOwnUserNamespace, lacksKernel, Namespace, ROOT, run } from "../../testing/namespace.ts";
import { compile, compiler, python, start, supervised, text } from "./programs.ts";

const ignore = lacksKernel(["python3"]);
const ignoreC = lacksKernel() || (compiler === null && lacksKernel(["gcc"], "gcc libc6-dev"));

class Figures extends NetDevice {
  constructor(readonly figures: Partial<Statistics64>) {
    super();
  }
  override getStats64(): Partial<Statistics64> {
    return this.figures;
  }
}

supervised("D4.6, D4.7 the sample program in C, unchanged, resets the counters of a class", ignoreC, async () => {
  using sample = compile(await Deno.readTextFile(`${ROOT}examples/reset_stats.c`));
  for (const backing of ["process", "tap"] as const) {
    await using devices = new NetDevices({ backing, table: new DeviceTable() });
    const handle = await devices.register("loop47", LoopbackDevice).ready;
    await using process = await start([sample.path, "loop47"], devices.table);
    assertEquals(await text(process), "loop47: statistics reset\n");
    assertEquals([process.statistics.answered, handle.statistics64().txPackets], [1, 0]);
    await using refused = await start([sample.path, "lo"], devices.table);
    const { code, stderr } = await refused.output();
    assertEquals([code, new TextDecoder().decode(stderr)], [1, "lo: Operation not supported\n"]);
  }
});

supervised(
  "a class with a TAP behind: the class answers what it knows, the kernel the rest, and both agree",
  ignore,
  async () => {
    await using devices = new NetDevices({ table: new DeviceTable() });
    const handle = await devices.register("meter47", Figures, { rxPackets: 4711 }).ready;
    const out = await python(
      `
def integer(request): return struct.unpack_from("i", ask(request, "meter47")[1])[0]
print(integer(0x8933) == int(open("/sys/class/net/meter47/ifindex").read()) == socket.if_nametoindex("meter47"))
print(integer(0x8921), ask(0x8927, "meter47")[1][2:8].hex(":"))
ask(0x8922, "meter47", struct.pack("i", 1400))
print(integer(0x8921), open("/sys/class/net/meter47/mtu").read().strip())
ask(0x8916, "meter47", struct.pack("H2x4B", 2, 10, 47, 0, 1))
print(socket.inet_ntoa(ask(0x8915, "meter47")[1][4:8]))
print(open("/sys/class/net/meter47/statistics/rx_packets").read().strip())
print([line.split()[2] for line in open("/proc/net/dev") if "meter47" in line])
`,
      devices.table,
    );
    const mac = Array.from(handle.mac, (byte) => byte.toString(16).padStart(2, "0")).join(":");
    assertEquals(out.trim().split("\n"), ["True", `1500 ${mac}`, "1400 1400", "10.47.0.1", "4711", "['4711']"]);
    assertEquals(handle.mtu, 1400);
  },
);

supervised(
  "flags that a program sets are the TAP's, as of one without a class; its queue's length too",
  lacksKernel(["python3", "ip"], "python3 iproute2"),
  async () => {
    await run("ip", ["tuntap", "add", "plain47", "mode", "tap"]);
    await run("ip", ["link", "set", "plain47", "up"]);
    await using devices = new NetDevices({ table: new DeviceTable() });
    await devices.register("flags47", Figures, {}).ready;
    const out = await python(
      `
CARRIER = 0x40 # of a TAP that nobody has open
def flags(name): return struct.unpack_from("H", ask(0x8913, name)[1])[0] & ~CARRIER
def both(value):
    for name in "flags47", "plain47": ask(0x8914, name, struct.pack("H", value))
    return flags("flags47") == flags("plain47") and hex(flags("flags47"))
print(both(1 | 0x80 | 0x4), both(0xffff), both(1 | 0x1000), both(0), both(1 | 0x100))
try: ask(0x8943, "flags47", struct.pack("i", 77))
except PermissionError: print("refused")
print(struct.unpack_from("i", ask(0x8942, "flags47")[1])[0])
`,
      devices.table,
    );
    await run("ip", ["link", "del", "plain47"]);
    // The length is the TAP's, and the kernel's to answer: it wants the right outside of user namespaces.
    const [length, set] = isOwnUserNamespace() ? [1000, "refused\n1000"] : [77, "77"];
    assertEquals(out, `0x87 0xf3a7 0x1003 0x2 0x103\n${set}\n`);
    const shown = (await run("ip", ["-o", "link", "show", "flags47"])).stdout;
    assertMatch(shown, new RegExp(`<BROADCAST,PROMISC,UP,LOWER_UP> .* qlen ${length}`));
  },
);

supervised("D1.11 four classes with their own figures, to a reader that is told nothing", ignore, async () => {
  await using devices = new NetDevices({ backing: "process", table: new DeviceTable() });
  const handles = await Promise.all(
    [1, 2, 3, 4].map((n) => devices.register(`four${n}`, Figures, { rxPackets: n, txBytes: 1000 * n }).ready),
  );
  assertEquals(handles.length, 4);
  await using process = await start(["awk", "/four/ {print $1, $3, $10}", "/proc/net/dev"], devices.table);
  assertEquals(await text(process), "four1: 1 1000\nfour2: 2 2000\nfour3: 3 3000\nfour4: 4 4000\n");
});

supervised(
  "a number is asked of the kernel, in the namespace of who asks; numbers of devices that only live here are ours",
  lacksKernel(["python3", "nsenter"], "python3 util-linux"),
  async () => {
    await using elsewhere = await Namespace.create();
    const table = new DeviceTable();
    await using there = new NetDevices({ table, namespace: { pid: elsewhere.pid } });
    await using here = new NetDevices({ table, backing: "process" });
    // Numbers of other namespaces, each of which means something else in that of the program, or nothing.
    const far = await Promise.all([2, 3, 4].map((n) => there.register(`far${n}`).ready));
    const own = await here.register("own47").ready;
    const low = { name: "low47", index: 1, ioctl: () => 0 };
    table.add(low);
    const out = await python(
      `
def name(index):
    try: return socket.if_indextoname(index)
    except OSError as e: return errno.errorcode[e.errno]
names = dict(socket.if_nameindex())
print(names[1], *(name(index) == names.get(index, "ENXIO") or name(index) for index in range(1, 9)), name(${own.index}), name(70000))
`,
      table,
    );
    assertEquals(out, `lo${" True".repeat(8)} own47 ENXIO\n`);
    assertEquals(far.map(({ inKernel }) => inKernel), [true, true, true]);
  },
);

supervised(
  "ifconfig and ethtool -i show a device that no kernel knows",
  lacksKernel(["ifconfig", "ethtool"], "net-tools ethtool"),
  async () => {
    await using devices = new NetDevices({ backing: "process", table: new DeviceTable() });
    await devices.register("shown47", LoopbackDevice).ready;
    await using shown = await start(["ifconfig", "shown47"], devices.table);
    assertMatch(
      await text(shown),
      /^shown47: flags=4291<UP,BROADCAST,RUNNING,NOARP,MULTICAST> {2}mtu 1500\n +ether [0-9a-f:]{17} /,
    );
    await using driver = await start(["ethtool", "-i", "shown47"], devices.table);
    assertMatch(await text(driver), /^driver: LoopbackDevice\n/);
  },
);

Deno.test({
  name: "ioctl_device.ts: programs of three kinds ask the class",
  ignore: ignoreC || ignore,
  async fn() {
    const { code, stdout, stderr } = await run(Deno.execPath(), ["run", "-A", "examples/ioctl_device.ts"]);
    assertEquals(code, 0, stderr + stdout);
    assertMatch(stdout, /meter0: +84 +2 [^]*meter0: statistics reset\nmeter0: +0 +0 /);
    assertMatch(stdout, /channel 3: 23 [^]*mtu of meter0: 1500, of lo: 65536\n2 ioctls and 3 files answered/);
    const reset = ["examples/ioctl_device.ts", Deno.execPath(), "run", "-A", "examples/ioctl_reset.ts"];
    for (const [name, result] of [["meter0", "statistics reset"], ["lo", "errno 95"]]) {
      const { stdout } = await run(Deno.execPath(), ["run", "-A", ...reset, name]);
      assert(stdout.includes(`${name}: ${result}`), stdout);
    }
  },
});
