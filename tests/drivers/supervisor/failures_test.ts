/** Devices that throw, answer nonsense, never answer, or hang the isolate: an errno for the caller, in time, and a report. */
import { assertEquals } from "@std/assert";
import { delay } from "@std/async/delay";
import type { IoctlFailure } from "../../../drivers/supervisor/answering.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import { WAITING_MAX } from "../../../drivers/supervisor/waiting.ts";
import { Pulse } from "../../../drivers/supervisor/pulse.ts";
import { SIOCDEVPRIVATE } from "../../../ffi/ifreq.ts";
import { lacksKernel } from "../../testing/namespace.ts";
import { PRELUDE, python, start, supervised, TestDevice, text } from "./programs.ts";

const ignore = lacksKernel(["python3"]);

supervised(
  "a device that throws: EIO, or the errno of its error; one that answers nonsense: EIO; all reported",
  ignore,
  async () => {
    const failures: IoctlFailure[] = [];
    const device = new TestDevice("demo0", (request) => {
      if (request === SIOCDEVPRIVATE) throw new Error("a fault");
      if (request === SIOCDEVPRIVATE + 1) throw new Deno.errors.PermissionDenied("no");
      if (request === SIOCDEVPRIVATE + 2) throw Object.assign(new Error("busy"), { code: "EBUSY" });
      if (request === SIOCDEVPRIVATE + 3) return Promise.reject(new Error("late fault"));
      if (request === SIOCDEVPRIVATE + 4) return "nonsense" as unknown as number;
      if (request === SIOCDEVPRIVATE + 5) return 1.5;
      if (request === SIOCDEVPRIVATE + 6) return -5000;
      if (request === SIOCDEVPRIVATE + 7) return Promise.resolve(undefined as unknown as number);
      return 0;
    });
    const thrown: unknown[] = [];
    const onError = (event: ErrorEvent) => {
      event.preventDefault();
      thrown.push(event.error.message);
    };
    addEventListener("error", onError);
    const out = await python(`print(*(fails(0x89f0 + n, "demo0") for n in range(9)))`, [device], {
      onFailure: (failure) => {
        failures.push(failure);
        if (failures.length === 1) throw new TypeError("told, and thrown at");
      },
    });
    removeEventListener("error", onError);
    assertEquals(thrown, ["told, and thrown at"]);
    assertEquals(out, "EIO EIO EBUSY EIO EIO EIO EIO EIO 0\n");
    assertEquals(failures.map(({ request, result }) => [request - SIOCDEVPRIVATE, result]), [
      [0, -5],
      [1, -5],
      [2, -16],
      [3, -5],
      [4, -5],
      [5, -5],
      [6, -5],
      [7, -5],
    ]);
    assertEquals(failures[0].name, "demo0");
  },
);

supervised(
  "a device that never answers: ETIMEDOUT after the stated time, told; a late answer is nothing to anybody",
  ignore,
  async () => {
    const failures: IoctlFailure[] = [];
    const never = Promise.withResolvers<number>();
    const device = new TestDevice("demo0", (request) => request === SIOCDEVPRIVATE ? never.promise : 3);
    const out = await python(
      `
began = time.time()
print(fails(0x89f0, "demo0"), 0.2 <= time.time() - began < 2)
print(fails(0x89f1, "demo0"))
`,
      [device],
      { timeoutMs: 200, onFailure: (failure) => failures.push(failure) },
    );
    assertEquals(out, "ETIMEDOUT True\n3\n");
    assertEquals(failures.map(({ result, error }) => [result, (error as Error).name]), [[-110, "TimedOut"]]);
    never.resolve(1);
    await delay(1);
  },
);

supervised(
  "a device that hangs the whole isolate: ETIMEDOUT all the same, the kernel's answers for the rest, and told",
  ignore,
  async () => {
    const failures: IoctlFailure[] = [];
    const device = new TestDevice("demo0", (request) => {
      const end = performance.now() + (request === SIOCDEVPRIVATE ? 1500 : 0);
      while (performance.now() < end); // an endless loop, as far as the caller can tell
      return 3;
    });
    const out = await python(
      `
began = time.time()
other = []
def kernel():
    time.sleep(0.05)
    t = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    other.append(struct.unpack_from("i", fcntl.ioctl(t, 0x8921, b"lo" + bytes(38)), 16)[0])
    try: fcntl.ioctl(t, 0x89f1, b"demo0" + bytes(35))
    except OSError as e: other.append(errno.errorcode[e.errno])
    other.append(len(open("/etc/hostname").read()) > 0)
    other.append(time.time() - began < 1.5)
thread = threading.Thread(target=kernel)
thread.start()
print(fails(0x89f0, "demo0"), time.time() - began < 1.5)
thread.join()
print(*other)
while (answer := fails(0x89f1, "demo0")) == "ETIMEDOUT": pass
print(answer)
`,
      [device],
      { timeoutMs: 200, onFailure: (failure) => failures.push(failure) },
    );
    assertEquals(out, "ETIMEDOUT True\n65536 ETIMEDOUT True True\n3\n");
    assertEquals(failures.map(({ result }) => result), [-110]);
  },
);

supervised(
  "files of a device that never answers: the kernel's after the stated time, at once when it goes; no more than 1024 wait",
  ignore,
  async () => {
    const failures: IoctlFailure[] = [];
    const table = new DeviceTable();
    const device = new TestDevice("lo", () => new Promise<number>(() => {}));
    table.add(device);
    const onFailure = (failure: IoctlFailure) => failures.push(failure);
    const code = `
began = time.time()
print(open("/sys/class/net/lo/mtu").read().strip(), 0.3 <= time.time() - began < 2)
`;
    await using late = await start(["python3", "-c", PRELUDE + code], table, { timeoutMs: 300, onFailure });
    assertEquals(await text(late), "65536 True\n");
    assertEquals(failures.map(({ name, request, result, error }) => [name, request, result, (error as Error).name]), [
      ["lo", 0, 0, "TimedOut"],
    ]);
    const { timedOut, failed } = late.statistics;
    assertEquals([timedOut, failed], [1, 0]);

    // Readers beyond the limit get the kernel's file at once, the others when the device goes.
    const many = `
threading.stack_size(65536)
results = []
def read(): results.append(open("/sys/class/net/lo/mtu").read().strip())
threads = [threading.Thread(target=read) for _ in range(${WAITING_MAX + 20})]
for thread in threads: thread.start()
while len(results) < 20: time.sleep(0.01)
print(len(results), flush=True)
began = time.time()
sys.stdin.readline()
for thread in threads: thread.join()
print(time.time() - began < 5, len(results), set(results))
`;
    const options = { stdin: "piped", timeoutMs: 50_000, onFailure } as const;
    await using process = await start(["python3", "-c", PRELUDE + many], table, options);
    const began = performance.now();
    while (process.statistics.refused < 20 && performance.now() - began < 20_000) await delay(5);
    assertEquals([process.statistics.refused, device.calls], [20, WAITING_MAX + 21]);
    table.remove(device);
    await process.stdin.close();
    assertEquals(await text(process), `20\nTrue ${WAITING_MAX + 20} {'65536'}\n`);
    const { timedOut: lateOnes, failed: faults, files } = process.statistics;
    assertEquals([lateOnes, faults, files, failures.length], [0, 0, 0, 1]);
  },
);

supervised("a device that is renamed while somebody waits for it is not gone", ignore, async () => {
  const table = new DeviceTable();
  const asked = Promise.withResolvers<void>();
  const answer = Promise.withResolvers<number>();
  const ioctl = () => {
    asked.resolve();
    return answer.promise;
  };
  const device = { name: "old0", index: 77_000, ioctl };
  table.add(device);
  const output = python(`print(fails(0x89f0, "old0"), fails(0x89f0, "old0"), fails(0x89f0, "new0"))`, table);
  await asked.promise;
  device.name = "new0";
  table.renamed(device, "old0");
  await delay(120); // twice the time in which one that is gone is noticed
  answer.resolve(9);
  assertEquals(await output, "9 ENODEV 9\n");
});

Deno.test("the pulse: who runs for too long, told once; any id of the kernel's, which are random numbers of 64 bits", async () => {
  const pulse = new Pulse();
  const watcher = new Pulse(pulse.memory);
  for (const id of [1n, 2n ** 63n, 2n ** 64n - 1n, 0x8123_4567_89ab_cdefn]) {
    pulse.enter(id);
    assertEquals(watcher.overdue(1000), null);
    await delay(3);
    assertEquals(watcher.overdue(1), id);
    watcher.markEnded(id);
    assertEquals(watcher.overdue(1), null);
    assertEquals(pulse.leave(id), true);
    pulse.enter(id + 1n & (2n ** 64n - 1n));
    assertEquals(pulse.leave(id + 1n & (2n ** 64n - 1n)), false);
    assertEquals(watcher.overdue(0), null);
  }
  assertEquals([pulse.lock(), watcher.tryLock()], [true, false]);
  pulse.unlock();
  assertEquals(watcher.tryLock(), true);
  watcher.unlock();
  assertEquals(pulse.lock(), true);
  pulse.unlock();
  pulse.leaveAlone();
  assertEquals([pulse.lock(), watcher.tryLock()], [true, false]);
  pulse.unlock();
  assertEquals([pulse.lock(), watcher.tryLock()], [true, false]);
  pulse.end();
  assertEquals([pulse.lock(), watcher.tryLock()], [false, false]);
});
