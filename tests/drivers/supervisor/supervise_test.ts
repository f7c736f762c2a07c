/**
 * D4.7: programs that know nothing of us (Python, C, a shell script and its children) call ioctl on devices written in
 * TypeScript, and get those devices' answers; for everything else the kernel's.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { delay } from "@std/async/delay";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import { superviseIoctls } from "../../../drivers/supervisor/supervise.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { ethtoolDrvinfo, ethtoolValue } from "../../../ffi/ioctl_interface.ts";
import { SIOCDEVPRIVATE, SIOCETHTOOL, SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFINDEX, SIOCGIFMTU } from "../../../ffi/ifreq.ts";
import { array, structure, u16, u32, word } from "../../../ffi/structure.ts";
import { findProgram, lacksKernel, Namespace, run } from "../../testing/namespace.ts";
import { compile, compiler, type Handler, PRELUDE, python, start, supervised, TestDevice, text } from "./programs.ts";

const EOPNOTSUPP = -95;
const Order = structure("order", { channel: u16, count: u32, buffer: word, sums: array(u32, 2) });

const ignore = lacksKernel(["python3"]);

/** A device with private requests and the standard ones. */
const answers: Handler = (request, ifreq, data) => {
  switch (request) {
    case SIOCDEVPRIVATE:
      return 42;
    case SIOCDEVPRIVATE + 1: {
      const order = data.get(Order);
      const numbers = data.read(order.count, order.buffer - data.address);
      const sum = numbers.reduce((a, b) => a + b, 0);
      data.write(numbers.map((n) => n ^ 255), order.buffer - data.address);
      data.set(Order, { ...order, sums: [sum, order.channel] });
      return 0;
    }
    case SIOCGIFFLAGS:
      ifreq.flags = 0x1043;
      return 0;
    case SIOCGIFMTU:
      ifreq.value = 1234;
      return 0;
    case SIOCGIFINDEX:
      ifreq.value = 77_000;
      return 0;
    case SIOCGIFHWADDR:
      ifreq.mac = Uint8Array.of(2, 0, 0, 0, 0xab, 1);
      return 0;
    case SIOCETHTOOL: {
      const [cmd] = new Uint32Array(data.read(4).buffer);
      if (cmd === 3) data.set(ethtoolDrvinfo, { cmd, driver: "tapioca_demo", version: "7", busInfo: "typescript" });
      else if (cmd === 10) data.set(ethtoolValue, { cmd, data: 1 });
      else return EOPNOTSUPP;
      return 0;
    }
    default:
      return EOPNOTSUPP;
  }
};

supervised(
  "D4.7 a Python program gets the device's private and standard answers, and the kernel's for the rest",
  ignore,
  async () => {
    const demo = new TestDevice("demo0", answers);
    const out = await python(
      `
print(ask(0x89f0, "demo0")[0], ask(0x89f0, "demo0:7")[0], fails(0x89f5, "demo0") in ("ENOTSUP", "EOPNOTSUPP"))
numbers = ctypes.create_string_buffer(bytes(range(100)), 100)
order = ctypes.create_string_buffer(struct.pack("HxxIQII", 9, 100, ctypes.addressof(numbers), 0, 0))
r, union = ask(0x89f1, "demo0", struct.pack("Q", ctypes.addressof(order)))
print(r, struct.unpack("HxxIQII", order.raw[:24])[3:], numbers.raw == bytes(255 - n for n in range(100)))
print(hex(struct.unpack_from("H", ask(0x8913, "demo0")[1])[0]), struct.unpack_from("i", ask(0x8921, "demo0")[1])[0])
print(struct.unpack_from("i", ask(0x8933, "demo0")[1])[0], ask(0x8927, "demo0")[1][:8].hex())
print(socket.if_nametoindex("demo0"), socket.if_indextoname(77000))
info = ctypes.create_string_buffer(struct.pack("I192x", 3))
ask(0x8946, "demo0", struct.pack("Q", ctypes.addressof(info)))
print(info.raw[4:36].rstrip(b"\\0").decode(), info.raw[100:132].rstrip(b"\\0").decode())
link = ctypes.create_string_buffer(struct.pack("II", 10, 0))
ask(0x8946, "demo0", struct.pack("Q", ctypes.addressof(link)))
print(struct.unpack("II", link.raw[:8])[1])
print(struct.unpack_from("i", ask(0x8921, "lo")[1])[0], fails(0x89f0, "lo") == fails(0x89f5, "demo0"), fails(0x89f0, "nobody0"), socket.if_nametoindex("lo"))
try: fcntl.ioctl(0, 0x89f0, bytearray(b"demo0" + bytes(35)))
except OSError as e: print(errno.errorcode[e.errno])
try: fcntl.ioctl(1000, 0x89f0, bytearray(b"demo0" + bytes(35)))
except OSError as e: print(errno.errorcode[e.errno])
`,
      [demo],
    );
    assertEquals(out.trim().split("\n"), [
      "42 42 True",
      "0 (4950, 9) True",
      "0x1043 1234",
      "77000 010002000000ab01",
      "77000 demo0",
      "tapioca_demo typescript",
      "1",
      "65536 True ENODEV 1",
      "ENOTTY",
      "EBADF",
    ]);
  },
);

supervised(
  "D4.7 a C program, a shell script and its children (subshells, pipes, background jobs) are answered alike",
  ignore || lacksCompiler(),
  async () => {
    using program = compile(`
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
int main(int argc, char **argv) {
  struct ifreq r; int s = socket(AF_INET6, SOCK_DGRAM, 0);
  if (s < 0) s = socket(AF_INET, SOCK_DGRAM, 0);
  memset(&r, 0, sizeof r);
  strncpy(r.ifr_name, argv[1], IFNAMSIZ - 1);
  int answer = ioctl(s, 0x89f0, &r);
  if (ioctl(s, SIOCGIFMTU, &r) < 0) { perror(argv[1]); return 1; }
  printf("%d %d\\n", answer, r.ifr_mtu);
  return 0;
}`);
    const demo = new TestDevice("demo0", answers);
    const script = '"$0" demo0; ("$0" demo0 | cat); "$0" demo0 & wait; sh -c "\\"$0\\" demo0 | sed s/^/piped:/"; "$0" lo';
    await using process = await start(["sh", "-c", script, program.path], [demo]);
    assertEquals(await text(process), "42 1234\n42 1234\n42 1234\npiped:42 1234\n-1 65536\n");
    assertEquals(demo.calls, 8);
  },
);

function lacksCompiler(): boolean {
  return compiler === null && lacksKernel(["gcc"], "gcc libc6-dev");
}

supervised(
  "ip and ifconfig under supervision work as ever: what isn't ours is the kernel's",
  lacksKernel(["ip"], "iproute2"),
  async () => {
    const demo = new TestDevice("demo0", answers);
    await using process = await start(["ip", "-o", "link", "show", "lo"], [demo]);
    assert((await text(process)).includes("LOOPBACK"));
    assertEquals(demo.calls, 0);
  },
);

supervised("the process looks like Deno's: streams, status, kill, errors", ignore, async () => {
  const demo = new TestDevice("demo0", answers);
  const cat = await superviseIoctls("cat", [demo], { stdin: "piped", stdout: "piped" });
  const writer = cat.stdin.getWriter();
  const big = new Uint8Array(1 << 20).fill(97);
  const written = writer.write(big).then(() => writer.close());
  const echoed = await new Response(cat.stdout).arrayBuffer();
  await written;
  assertEquals([echoed.byteLength, await cat.status], [1 << 20, { success: true, code: 0, signal: null }]);
  assertThrows(() => cat.stderr, TypeError, "'stderr' is not piped");
  assertThrows(() => cat.kill(), TypeError, "already terminated");
  await cat.closed;

  // Read late, or not at all.
  const late = await start(["sh", "-c", "head -c 50000 /dev/zero; echo complaint >&2"], [demo]);
  await late.status;
  await late.closed;
  assertEquals((await new Response(late.stdout).arrayBuffer()).byteLength, 50_000);
  const unwanted = await start(["sh", "-c", "echo nobody wants this"], [demo]);
  await unwanted.status;
  await unwanted.closed;
  const cancelled = await start(["sh", "-c", "trap '' PIPE; yes; exit 5"], [demo]);
  await cancelled.stdout.cancel();
  assertEquals((await cancelled.status).code, 5);
  await cancelled.closed;

  const killed = await superviseIoctls(["sleep", "100"], [demo]);
  killed.kill("SIGUSR1");
  assertEquals(await killed.status, { success: false, code: 138, signal: "SIGUSR1" });
  await assertRejects(() => killed.output(), TypeError, "not piped");
  killed.close();
  killed.close();

  await assertRejects(() => superviseIoctls("/nowhere/at/all", [demo]), Deno.errors.NotFound);
  await assertRejects(() => superviseIoctls("", [demo]), TypeError);
  await assertRejects(() => superviseIoctls("true", [demo], { timeoutMs: 0 }), RangeError);
  await assertRejects(() => superviseIoctls("true", [demo], { namespace: "no-such" }), Deno.errors.NotFound);
  await using shell = await start(["sh", "-c", 'echo "$A $PWD"; exit 3'], [demo], { env: { A: "b" }, cwd: "/tmp" });
  const { code, stdout } = await shell.output();
  assertEquals([code, new TextDecoder().decode(stdout)], [3, "b /tmp\n"]);
});

supervised(
  "a daemon that outlives the program is answered until the supervision is closed, and then gets ENOSYS",
  ignore,
  async () => {
    const table = new DeviceTable();
    table.add(new TestDevice("demo0", answers));
    const file = await Deno.makeTempFile();
    const code = `${PRELUDE}
if os.fork() > 0: os._exit(0)
os.setsid()
while True:
    answer = fails(0x89f0, "demo0")
    with open("${file}.new", "w") as f: f.write(str(answer))
    os.rename("${file}.new", "${file}")
    if answer == "ENOSYS": break
    time.sleep(0.01)
`;
    const said = async (what: string) => {
      for (let i = 0; i < 1000; i++) {
        if (await Deno.readTextFile(file) === what) return;
        await delay(10);
      }
      throw new Error(`never said: ${what}`);
    };
    const process = await superviseIoctls([findProgram("python3")!, "-c", code], table);
    await process.status;
    await Deno.writeTextFile(file, "");
    await said("42");
    process.close();
    await said("ENOSYS");
    await Deno.remove(file);
  },
);

supervised("a program is started in the namespace of choice", ignore, async () => {
  await using there = await Namespace.create();
  const demo = new TestDevice("demo0", answers);
  await using process = await start(["readlink", "/proc/self/ns/net"], [demo], { namespace: { pid: there.pid } });
  assertEquals((await text(process)).trim(), await Deno.readLink(`/proc/${there.pid}/ns/net`));
});

supervised("under a supervisor there can be no second one: Busy, and nothing is started", ignore, async () => {
  const demo = new TestDevice("demo0", answers);
  const script = `import { superviseIoctls } from "${import.meta.resolve("../../../drivers/supervisor/supervise.ts")}";
      try { await superviseIoctls("true", []); } catch (error) { console.log(error.name, error.code); }`;
  const file = await Deno.makeTempFile({ suffix: ".ts" });
  await Deno.writeTextFile(file, script);
  await using process = await start([Deno.execPath(), "run", "-A", "--no-check", file], [demo]);
  assertEquals(await text(process), "Busy EBUSY\n");
  await Deno.remove(file);
});

supervised(
  "without address randomisation ioctls are answered as ever",
  ignore || lacksKernel(["setarch"], "util-linux"),
  async () => {
    const script = `import { superviseIoctls } from "${import.meta.resolve("../../../drivers/supervisor/supervise.ts")}";
    const device = { name: "demo0", index: 9, ioctl: () => 42 };
    const process = await superviseIoctls(["python3", "-c", \`${PRELUDE}print(ask(0x89f0, "demo0")[0])\`], [device]);
    await process.status;`;
    const file = await Deno.makeTempFile({ suffix: ".ts" });
    await Deno.writeTextFile(file, script);
    const { code, stdout, stderr } = await run("setarch", ["-R", Deno.execPath(), "run", "-A", "--no-check", file]);
    assertEquals([code, stdout], [0, "42\n"], stderr);
    await Deno.remove(file);
  },
);

supervised("nothing is left of fifty supervised programs: no descriptor, no thread", ignore, async () => {
  const count = (what: string) => [...Deno.readDirSync(`/proc/self/${what}`)].length;
  const once = async () => {
    await using process = await start(["true"], [new TestDevice("demo0", answers)]);
    await process.output();
    await process.closed;
  };
  await once();
  await wakersIdle();
  await delay(200);
  const before = [count("fd"), count("task")];
  for (let i = 0; i < 50; i++) await once();
  for (let i = 0; i < 100 && (count("fd") > before[0] || count("task") > before[1] + 4); i++) await delay(50);
  assert(count("fd") <= before[0], `${count("fd")} descriptors, ${before[0]} before`);
  assert(count("task") <= before[1] + 4, `${count("task")} threads, ${before[1]} before`);
});
