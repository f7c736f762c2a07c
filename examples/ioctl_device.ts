/**
 * A network device written as a class, and any program that asks it: its ioctls are answered here, by TypeScript.
 *
 *     deno run -A examples/ioctl_device.ts                              # examples/reset_stats.c and others
 *     deno run -A examples/ioctl_device.ts python3 my_program.py        # or yours: the device is called meter0
 *
 * The programs know nothing of it. What they ask of other interfaces, the kernel answers.
 *
 * @module
 */
import {
  type IfReq,
  type IoctlData,
  layout,
  LoopbackDevice,
  NetDevices,
  type NetInterface,
  NetStack,
  superviseIoctls,
} from "../mod.ts";

const NAME = "meter0";
const SIOCDEVPRIVATE = 0x89f0;
const EOPNOTSUPP = 95;
/** What SIOCDEVPRIVATE+1 writes behind `ifr_data`: as C has it, `struct reading { __u16 channel; __s32 celsius; char unit[8]; }`. */
const reading = layout.structure("reading", { channel: layout.u16, celsius: layout.i32, unit: layout.text(8) });

/** A loopback, which has RESET_STATS (SIOCDEVPRIVATE+0) and counters already, with a thermometer. */
class Meter extends LoopbackDevice {
  override siocdevprivate(handle: NetInterface, ifreq: IfReq, cmd: number, data?: IoctlData): number {
    if (cmd !== SIOCDEVPRIVATE + 1) return super.siocdevprivate(handle, ifreq, cmd);
    if (data === undefined) return -EOPNOTSUPP;
    const { channel } = data.get(reading); // a bad pointer is the caller's EFAULT
    data.set(reading, { channel, celsius: 20 + channel, unit: "Celsius" });
    return 0;
  }
}

const PYTHON = `
import ctypes, fcntl, socket, struct
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
place = ctypes.create_string_buffer(struct.pack("Hxxi8s", 3, 0, b""))
fcntl.ioctl(s, 0x89f1, struct.pack("16sQ16x", b"${NAME}", ctypes.addressof(place)))
print("python3: channel %d: %d %s" % struct.unpack("Hxxi8s", place.raw[:16]))
`;

/** Programs for a look at it, as far as they are there: a shell, a C program, Python. */
const SHELL = `
cd "$0"
grep ${NAME} /proc/net/dev
if command -v cc >/dev/null && d=$(mktemp -d) && cc -o $d/reset_stats reset_stats.c 2>/dev/null; then $d/reset_stats ${NAME}; rm -r $d
else "$1" run -A ioctl_reset.ts ${NAME}; fi
grep ${NAME} /proc/net/dev
command -v python3 >/dev/null && python3 -c "$2"
echo "mtu of ${NAME}: $(cat /sys/class/net/${NAME}/mtu), of lo: $(cat /sys/class/net/lo/mtu)"
`;

await using devices = new NetDevices({ backing: "process" });
const handle = await devices.register(NAME, Meter).ready;
// The device lives under a stack of ours. Nobody is there: what is sent comes back, and is counted.
await using stack = new NetStack(handle, { address: "10.0.0.1/24" });
await stack.ping("10.0.0.2", { timeoutMs: 50 }).catch(() => {});

const folder = new URL(".", import.meta.url).pathname;
const [program = "sh", ...args] = Deno.args;
const words = Deno.args.length > 0 ? args : ["-c", SHELL, folder, Deno.execPath(), PYTHON];
try {
  await using child = await superviseIoctls([program, ...words], devices.table);
  const { code } = await child.status;
  const { answered, files } = child.statistics;
  console.log(`${answered} ioctls and ${files} files answered by the class`);
  Deno.exitCode = code;
} catch (error) {
  console.error(`ioctl_device: ${error instanceof Error ? error.message : error}`);
  // As a shell says that there is no such program.
  Deno.exitCode = error instanceof Deno.errors.NotFound ? 127 : 1;
}
