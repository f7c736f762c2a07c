/** The class's own numbers in the files where programs look for them. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { completeStatistics, type Statistics64, zeroStatistics } from "../../../drivers/netdev/statistics.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import type { IoctlFailure } from "../../../drivers/supervisor/answering.ts";
import { normalPath, wantedOf } from "../../../drivers/supervisor/files.ts";
import { SIOCGIFFLAGS, SIOCGIFHWADDR, SIOCGIFMTU } from "../../../ffi/ifreq.ts";
import { findProgram, lacksKernel, run } from "../../testing/namespace.ts";
import { type Handler, python, start, supervised, TestDevice, text } from "./programs.ts";

const ignore = lacksKernel(["python3"]);
const EOPNOTSUPP = -95;

const standard: Handler = (request, ifreq) => {
  if (request === SIOCGIFMTU) ifreq.value = 9000;
  else if (request === SIOCGIFFLAGS) ifreq.flags = 0x1043;
  else if (request === SIOCGIFHWADDR) ifreq.mac = Uint8Array.of(2, 0, 0, 0, 0, 7);
  else return EOPNOTSUPP;
  return 0;
};

function numbers(some: Partial<Statistics64>): () => Statistics64 {
  return () => completeStatistics(some, zeroStatistics());
}

/** Four devices with figures of their own. The last has the name of a real interface. */
function four(): DeviceTable {
  const table = new DeviceTable();
  ["eth7", "wan0", "a_long_name_0", "lo"].forEach((name, i) => {
    const statistics = numbers({
      rxPackets: 10 + i,
      txPackets: 20 + i,
      rxBytes: 1000 * (i + 1),
      txBytes: 2 ** 40 + i,
      rxDropped: i,
    });
    table.add(new TestDevice(name, standard, 77_000 + i, statistics));
  });
  return table;
}

Deno.test("paths: which ask for our files, and which only look like it", () => {
  const table = four();
  table.add(new TestDevice("bare0", standard, 90_000));
  const kind = (path: string) => wantedOf(normalPath(path), table)?.kind ?? null;
  for (
    const path of [
      "/proc/net/dev",
      "/proc/self/net/dev",
      "/proc/thread-self/net/dev",
      "//proc/./net//dev",
      "/proc/net/../net/dev",
    ]
  ) {
    assertEquals(kind(path), "table", path);
  }
  assertEquals(kind("/sys/class/net/wan0/statistics/rx_bytes"), "counter");
  assertEquals(kind("/sys/devices/virtual/net/wan0/statistics/tx_window_errors"), "counter");
  assertEquals(kind("/sys/class/net/wan0/mtu"), "attribute");
  assertEquals(kind("/sys/class/net/bare0/address"), "attribute");
  for (
    const path of [
      "/proc/1/net/dev",
      "/proc/net/dev_mcast",
      "/link/../proc/net/dev",
      "/proc/../link/../proc/net/dev",
      "/tmp/proc/net/dev",
      "/sys/class/net/wan0/statistics/rx_nonsense",
      "/sys/class/net/wan0/statistics/constructor",
      "/sys/class/net/wan0/toString",
      "/sys/class/net/wan0/statistics",
      "/sys/class/net/wan0:1/mtu",
      "/sys/class/net/nobody/mtu",
      "/sys/class/net/bare0/statistics/rx_bytes",
      "/",
    ]
  ) {
    assertEquals(kind(path), null, path);
  }
});

supervised(
  "D1.11 four devices report their own numbers to readers of /proc/net/dev, beside the kernel's interfaces",
  ignore,
  async () => {
    const out = await python(
      `
def table(text):
    return {line.split(":")[0].strip(): [int(n) for n in line.split(":")[1].split()] for line in text.splitlines()[2:]}
t = table(open("/proc/net/dev").read())
for name in "eth7", "wan0", "a_long_name_0", "lo": print(name, *t[name])
os.chdir("/proc/net")
print(table(open("dev").read()) == t, table(open("/proc/self/net/dev").read()) == t)
folder = os.open("/proc", os.O_RDONLY)
f = os.open("self/net/dev", os.O_RDONLY, dir_fd=folder)
print(os.get_inheritable(f), table(os.read(f, 65536).decode()) == t)
try: os.write(f, b"x")
except OSError as e: print(errno.errorcode[e.errno])
print(os.lseek(f, 0, 0), table(os.read(f, 65536).decode()) == t)
`,
      four(),
    );
    const row = (i: number) => [1000 * (i + 1), 10 + i, 0, i, 0, 0, 0, 0, 2 ** 40 + i, 20 + i, 0, 0, 0, 0, 0, 0].join(" ");
    assertEquals(out.trim().split("\n"), [
      `eth7 ${row(0)}`,
      `wan0 ${row(1)}`,
      `a_long_name_0 ${row(2)}`,
      `lo ${row(3)}`,
      "True True",
      "False True",
      "EBADF",
      "0 True",
    ]);
  },
);

supervised("cat, grep and a shell read counters and attributes below /sys/class/net", ignore, async () => {
  const script = `
cat /sys/class/net/wan0/statistics/rx_packets /sys/class/net/wan0/statistics/tx_bytes
read mtu < /sys/class/net/wan0/mtu; echo "$mtu"
cat /sys/class/net/wan0/address /sys/class/net/wan0/flags /sys/class/net/wan0/operstate /sys/class/net/wan0/type
cat /sys/class/net/lo/statistics/rx_dropped /sys/class/net/lo/statistics/../mtu
cd /sys/class/net/lo/statistics && cat rx_packets
grep -c . /proc/net/dev
cat /sys/class/net/wan0/ifindex 2>&1 | sed s/.*://
cat /sys/class/net/lo/dev_id`;
  await using process = await start(["sh", "-c", script], four());
  const lines = (await text(process)).trim().split("\n").map((line) => line.trim());
  assertEquals(lines.slice(0, 10), [
    "11",
    String(2 ** 40 + 1),
    "9000",
    "02:00:00:00:00:07",
    "0x1003",
    "up",
    "1",
    "3",
    "9000",
    "13",
  ]);
  assert(Number(lines[10]) >= 6, "two lines of heading, four of ours");
  // What the device doesn't answer is the kernel's: no such file, and the real device's.
  assertEquals(lines.slice(11), ["No such file or directory", "0x0"]);
});

supervised("what ifconfig shows are the class's numbers", lacksKernel(["ifconfig"], "net-tools"), async () => {
  await using process = await start([findProgram("ifconfig")!, "lo"], four());
  const out = await text(process);
  assertStringIncludes(out, "RX packets 13");
  assertStringIncludes(out, "mtu 9000");
});

supervised("files: false leaves every file to the kernel; a device that throws does too, and is reported", ignore, async () => {
  const read = `print(open("/sys/class/net/lo/statistics/rx_dropped").read().strip())`;
  assertEquals(await python(read, four(), { files: false }), "0\n");
  const failures: IoctlFailure[] = [];
  const device = new TestDevice("lo", standard, 77_000, () => {
    throw new Error("no figures today");
  });
  assertEquals(await python(read, [device], { onFailure: (failure) => failures.push(failure) }), "0\n");
  assertEquals(failures.map(({ name, request }) => [name, request]), [["lo", 0]]);
});

supervised("opening the rest is the kernel's: bad pointers, missing files, folders, what is written", ignore, async () => {
  const out = await python(
    `
libc = ctypes.CDLL(None, use_errno=True)
libc.open.argtypes = libc.openat.argtypes = None
def bad(address):
    return libc.syscall(257 if os.uname().machine == "x86_64" else 56, -100, ctypes.c_void_p(address), 0), errno.errorcode[ctypes.get_errno()]
print(bad(0), bad(1), bad(2**47 - 1))
for path in "/no/such/file", "", "/proc/net/dev/x", "x" * 5000, "\\udc80dev":
    try: os.open(path, os.O_RDONLY)
    except OSError as e: print(errno.errorcode[e.errno])
try: os.open("dev", os.O_RDONLY, dir_fd=999)
except OSError as e: print(errno.errorcode[e.errno])
print("lo" in os.listdir("/sys/class/net"), "wan0" in os.listdir("/sys/class/net"), os.path.exists("/sys/class/net/wan0"))
`,
    four(),
  );
  assertEquals(out.trim().split("\n"), [
    "(-1, 'EFAULT') (-1, 'EFAULT') (-1, 'EFAULT')",
    "ENOENT",
    "ENOENT",
    "ENOTDIR",
    "ENAMETOOLONG",
    "ENOENT",
    "EBADF",
    "True False False",
  ]);
});

supervised(
  "a program that has all the descriptors it may have: EMFILE for our files as for the kernel's, and no hang",
  ignore,
  async () => {
    const out = await python(
      `
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (s.fileno() + 1, s.fileno() + 1))
def opened(path):
    try: os.close(os.open(path, os.O_RDONLY)); return 0
    except OSError as e: return errno.errorcode[e.errno]
files = "/etc/hostname", "/proc/net/dev", "/sys/class/net/wan0/mtu", "/sys/class/net/wan0/statistics/rx_bytes"
print(*(opened(path) for path in files))
s.close()
print(*(opened(path) for path in files))
`,
      four(),
    );
    assertEquals(out, "EMFILE EMFILE EMFILE EMFILE\n0 0 0 0\n");
  },
);

supervised(
  "a program in a mount namespace of its own, as below ip netns exec, is answered; a mount over /proc/net/dev is nothing to anybody",
  lacksKernel(["unshare", "mount"], "util-linux mount"),
  async () => {
    const script = `
mount --bind /dev/null /proc/net/dev
cat /proc/net/dev > /dev/null && grep -c : /proc/net/dev
cat /sys/class/net/wan0/mtu`;
    const kernel = await run("unshare", ["-m", "sh", "-c", `mount --bind /dev/null /proc/net/dev; grep -c : /proc/net/dev`]);
    assertEquals(kernel.stdout, "1\n", "the kernel looks the file up anew, and drops the mount");
    await using process = await start(["unshare", "-m", "sh", "-c", script], four());
    assertEquals(await text(process), "4\n9000\n");
  },
);
