/** Bad pointers, deaths, signals, forks, devices that throw or hang or go, two supervisors, a supervisor that dies. */
import { assert, assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import type { IoctlFailure } from "../../../drivers/supervisor/answering.ts";
import { IoctlData } from "../../../drivers/netdev/memory.ts";
import { SIOCDEVPRIVATE } from "../../../ffi/ifreq.ts";
import { findProgram, lacksKernel } from "../../testing/namespace.ts";
import { TextLineStream } from "../../testing/lines.ts";
import { compile, compiler, type Handler, PRELUDE, python, start, supervised, TestDevice, text } from "./programs.ts";

const ignore = lacksKernel(["python3"]);
const ignoreC = ignore || (compiler === null && lacksKernel(["gcc"], "gcc libc6-dev"));
const EOPNOTSUPP = -95;

/** Reads, writes, or both, what the caller points to. */
const touch: Handler = (request, _ifreq, data) => {
  if (request === SIOCDEVPRIVATE) return data.read(8)[0];
  if (request === SIOCDEVPRIVATE + 1) {
    data.write(new Uint8Array(8));
    return 0;
  }
  if (request === SIOCDEVPRIVATE + 2) {
    data.read(2 << 20);
    return 0;
  }
  return EOPNOTSUPP;
};

supervised(
  "bad pointers give EFAULT: none, wild, beyond the end of a mapping, read-only, an ifreq that can't be read",
  ignore,
  async () => {
    const failures: IoctlFailure[] = [];
    const out = await python(
      `
import mmap
libc = ctypes.CDLL(None, use_errno=True)
def at(address): return struct.pack("Q", address)
for request in (0x89f0, 0x89f1):
    print(*(fails(request, "demo0", at(address)) for address in (0, 1, 4096, 2**47 - 4, 2**47, 2**53 + 2, 2**63, 2**64 - 1)))
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
libc.mprotect.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
area = libc.mmap(None, 12288, 3, 0x22, -1, 0)
libc.mprotect(area + 4096, 4096, 0)
print(fails(0x89f0, "demo0", at(area + 4088)), fails(0x89f0, "demo0", at(area + 4089)), fails(0x89f0, "demo0", at(area + 4096)))
libc.mprotect(area + 8192, 4096, 1)
print(fails(0x89f0, "demo0", at(area + 8192)), fails(0x89f1, "demo0", at(area + 8192)))
print(fails(0x89f2, "demo0", at(area)))
def raw(address): return (libc.ioctl(s.fileno(), 0x89f0, ctypes.c_void_p(address)), errno.errorcode[ctypes.get_errno()])
print(raw(0), raw(area + 4096), raw(area + 4090))
`,
      [new TestDevice("demo0", touch)],
      { onFailure: (failure) => failures.push(failure) },
    );
    const bad = Array(8).fill("EFAULT").join(" ");
    assertEquals(out.trim().split("\n"), [
      bad,
      bad,
      "0 EFAULT EFAULT",
      "0 EFAULT",
      "EMSGSIZE",
      "(-1, 'EFAULT') (-1, 'EFAULT') (-1, 'EFAULT')",
    ]);
    // A bad pointer is no fault of the device's.
    assertEquals(failures.filter(({ error }) => (error as { code?: string }).code !== "EMSGSIZE"), []);
  },
);

supervised("an ifreq in memory that can only be read: EFAULT if the answer changes it", ignoreC, async () => {
  using program = compile(`
#include <stdio.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <net/if.h>
static const struct ifreq r = { .ifr_name = "demo0" };
int main(void) {
  int s = socket(AF_INET, SOCK_DGRAM, 0);
  int a = ioctl(s, 0x89f0, &r), b = ioctl(s, SIOCGIFMTU, &r);
  printf("%d %d %d\\n", a, b, errno == EFAULT);
  return 0;
}`);
  const device = new TestDevice("demo0", (request, ifreq) => {
    if (request !== SIOCDEVPRIVATE) ifreq.value = 9;
    return 5;
  });
  await using process = await start([program.path], [device]);
  assertEquals(await text(process), "5 -1 1\n");
});

supervised("100,000 ioctls under signals are applied exactly once each", ignoreC, async () => {
  using program = compile(`
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <signal.h>
#include <errno.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <net/if.h>
static volatile long signals;
static void count(int n) { signals++; }
int main(int argc, char **argv) {
  struct ifreq r; int s = socket(AF_INET, SOCK_DGRAM, 0);
  struct sigaction a = { .sa_handler = count, .sa_flags = atoi(argv[2]) ? SA_RESTART : 0 };
  struct itimerval t = { { 0, 100 }, { 0, 100 } };
  long interrupted = 0, wrong = 0;
  memset(&r, 0, sizeof r);
  strcpy(r.ifr_name, "demo0");
  sigaction(SIGALRM, &a, 0);
  setitimer(ITIMER_REAL, &t, 0);
  for (int i = 0; i < atoi(argv[1]);) {
    r.ifr_mtu = i;
    if (ioctl(s, 0x89f0, &r) < 0) { if (errno != EINTR) return 1; interrupted++; continue; }
    if (r.ifr_mtu != i + 1) wrong++;
    i++;
  }
  printf("%ld %d %d\\n", wrong, signals > 100, atoi(argv[2]) ? interrupted == 0 : 1);
  return 0;
}`);
  for (const restart of ["1", "0"]) {
    const count = restart === "1" ? 100_000 : 20_000;
    let next = 0, wrong = 0;
    const device = new TestDevice("demo0", (_request, ifreq) => {
      if (ifreq.value !== next++) wrong++;
      ifreq.value++;
      return 0;
    });
    await using process = await start([program.path, String(count), restart], [device]);
    assertEquals(await text(process), "0 1 1\n");
    assertEquals([next, wrong], [count, 0], "every request once, in its order");
  }
});

supervised("requests of many threads and forks at once, answered late: nothing lost, nothing twice", ignore, async () => {
  const seen = new Map<number, number>();
  const device = new TestDevice("demo0", async (_request, ifreq) => {
    const { value } = ifreq;
    seen.set(value, (seen.get(value) ?? 0) + 1);
    if (value % 3 > 0) await delay(value % 3);
    ifreq.value = value + 1;
    return 0;
  });
  const out = await python(
    `
wrong = []
def work(base):
    for i in range(base, base + 50):
        if struct.unpack_from("i", ask(0x89f0, "demo0", struct.pack("i", i))[1])[0] != i + 1: wrong.append(i)
def threads(base):
    all = [threading.Thread(target=work, args=(base + 50 * i,)) for i in range(4)]
    for t in all: t.start()
    # A fork while the threads' requests are under way.
    child = os.fork()
    if child == 0:
        work(base + 200)
        os._exit(len(wrong))
    for t in all: t.join()
    return os.waitpid(child, 0)[1]
codes = [threads(1000 * round) for round in range(4)]
print(len(wrong), codes)
`,
    [device],
  );
  assertEquals(out, "0 [0, 0, 0, 0]\n");
  assertEquals([seen.size, [...seen.values()].every((times) => times === 1)], [4 * 250, true]);
});

supervised("a program that is killed in the middle: its late answer goes nowhere, and the next is answered", ignore, async () => {
  const asked = Promise.withResolvers<void>();
  const go = Promise.withResolvers<void>();
  let late: unknown = null;
  const device = new TestDevice("demo0", async (request, _ifreq, data: IoctlData) => {
    if (request !== SIOCDEVPRIVATE) return 7;
    asked.resolve();
    await go.promise;
    try {
      data.write(new Uint8Array(8)); // the memory of somebody who is gone
    } catch (error) {
      late = (error as { code?: string }).code;
    }
    return 0;
  });
  const code = `${PRELUDE}
child = os.fork()
if child == 0:
    signal.signal(signal.SIGUSR1, lambda *_: None)
    place = ctypes.create_string_buffer(8)
    ask(0x89f0, "demo0", struct.pack("Q", ctypes.addressof(place)))
    os._exit(0)
time.sleep(0.1)
os.kill(child, signal.SIGUSR1)
time.sleep(0.1)
print(os.waitpid(child, os.WNOHANG))
os.kill(child, signal.SIGKILL)
print(os.WTERMSIG(os.waitpid(child, 0)[1]))
print(ask(0x89f1, "demo0")[0])
`;
  await using process = await start(["python3", "-c", code], [device]);
  await asked.promise;
  const output = text(process);
  assertEquals(await output, "(0, 0)\n9\n7\n");
  go.resolve();
  await delay(10);
  assertEquals([late, process.statistics.answered], ["EFAULT", 1]);
});

supervised(
  "a device removed while somebody waits: ENODEV at once; afterwards the kernel's ENODEV; added again, it answers",
  ignore,
  async () => {
    const table = new DeviceTable();
    const asked = Promise.withResolvers<void>();
    const device = new TestDevice("demo0", () => {
      asked.resolve();
      return new Promise<number>(() => {});
    });
    table.add(device);
    const code = `${PRELUDE}
print(fails(0x89f0, "demo0"), fails(0x89f0, "demo0"))
sys.stdout.flush()
while fails(0x89f0, "demo0") == "ENODEV": time.sleep(0.01)
print(ask(0x89f0, "demo0")[0])
`;
    await using process = await start(["python3", "-c", code], [...table].length > 0 ? table : []);
    const output = text(process);
    await asked.promise;
    table.remove(device);
    await delay(200);
    table.add(new TestDevice("demo0", () => 11));
    assertEquals(await output, "ENODEV ENODEV\n11\n");
  },
);

supervised("two supervisors at once, with devices of their own and one that both have", ignore, async () => {
  const both = new TestDevice("both0", () => 1, 77_001);
  const devices = [2, 3].map((n) => [both, new TestDevice("own0", () => n)]);
  const code = `print(all(ask(0x89f0, "both0")[0] == 1 for i in range(3000)), ask(0x89f0, "own0")[0])`;
  const outputs = await Promise.all(devices.map((list) => python(code, list)));
  assertEquals(outputs, ["True 2\n", "True 3\n"]);
  assertEquals(both.calls, 6000);
});

supervised("when the supervisor dies, its programs get errors, not hangs: waiting ones too", ignore, async () => {
  const folder = await Deno.makeTempDir();
  const program = `${PRELUDE}
def work(request):
    while True:
        answer = fails(request, "demo0")
        if answer not in (42, "EINTR"): break
    open("${folder}/%x" % request, "w").write(str(answer))
t = threading.Thread(target=work, args=(0x89f1,))
t.start()
work(0x89f0)
t.join()
os.rename("${folder}/89f1", "${folder}/end")
`;
  await Deno.writeTextFile(`${folder}/program.py`, program);
  const script = `import { superviseIoctls } from "${import.meta.resolve("../../../drivers/supervisor/supervise.ts")}";
    let calls = 0;
    const ioctl = (request) => {
      if (request === 0x89f1) console.log("waits");
      else if (++calls === 1000) console.log("asked");
      return request === 0x89f0 ? 42 : new Promise(() => {});
    };
    await superviseIoctls(["${findProgram("python3")}", "${folder}/program.py"], [{ name: "demo0", index: 9, ioctl }]);`;
  await Deno.writeTextFile(`${folder}/supervisor.ts`, script);
  const supervisor = new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--no-check", `${folder}/supervisor.ts`],
    stdout: "piped",
  }).spawn();
  const lines = supervisor.stdout.pipeThrough(new TextDecoderStream()).pipeThrough(new TextLineStream()).getReader();
  assertEquals([(await lines.read()).value, (await lines.read()).value].sort(), ["asked", "waits"]);
  supervisor.kill("SIGKILL");
  await supervisor.status;
  await lines.cancel();
  let ended = false;
  for (let i = 0; i < 500 && !ended; i++) {
    await delay(10);
    ended = await Deno.stat(`${folder}/end`).then(() => true, () => false);
  }
  assert(ended, "the program must end by itself");
  const answers = [`${folder}/89f0`, `${folder}/end`].map((path) => Deno.readTextFileSync(path));
  assertEquals(answers, ["ENOSYS", "ENOSYS"]);
  await Deno.remove(folder, { recursive: true });
});

supervised(
  "a supervision that is closed while its program runs: errors for the program, and its output and status arrive",
  ignore,
  async () => {
    const asked = Promise.withResolvers<void>();
    const device = new TestDevice("demo0", () => {
      asked.resolve();
      return new Promise<number>(() => {});
    });
    const code = `${PRELUDE}
print(fails(0x89f0, "demo0"), fails(0x8921, "lo"))
try: open("/etc/hostname")
except OSError as e: print(errno.errorcode[e.errno])
`;
    await using process = await start(["python3", "-c", code], [device]);
    await asked.promise;
    process.close();
    assertEquals(await text(process), "ENOSYS ENOSYS\nENOSYS\n");
    await process.closed;
  },
);
