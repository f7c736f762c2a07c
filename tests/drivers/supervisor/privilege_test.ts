/** What only an administrator may ask of a device: the same as of the kernel's own interfaces. */
import { assertEquals } from "@std/assert";
import { WATCHED } from "../../../drivers/supervisor/requests.ts";
import { lacksKernel } from "../../testing/namespace.ts";
import { python, supervised, TestDevice } from "./programs.ts";

const ignore = lacksKernel(["python3"]);

/** Gives up all capabilities, whoever it is. */
const DROP = `
libc = ctypes.CDLL(None, use_errno=True)
def drop():
    header, data = struct.pack("Ii", 0x20080522, 0), bytes(24)
    if libc.capset(header, data) != 0: raise OSError(ctypes.get_errno(), "capset")
`;

supervised(
  "requests that the kernel refuses without CAP_NET_ADMIN don't reach a device; none is refused with it",
  ignore,
  async () => {
    const device = new TestDevice("demo0", () => 0);
    const watched = WATCHED.flatMap(([from, to]) => Array.from({ length: to - from + 1 }, (_, i) => from + i));
    const standard = watched.filter((request) => request > 0x8910 && request < 0x89e0 && request !== 0x8946);
    const out = await python(
      `${DROP}
requests = ${JSON.stringify(standard)}
admin = [request for request in requests if fails(request, "demo0") == "EPERM"]
drop()
def refused(name): return {request for request in requests if fails(request, name) == "EPERM"}
kernel, device = refused("lo"), refused("demo0")
print(admin, [hex(request) for request in sorted(kernel - device)])
print(*(hex(request) for request in sorted(device - kernel)))
print(0x8914 in kernel, all(request in device for request in (0x8947, 0x8948, 0x8949, 0x8990, 0x8991, 0x8992, 0x8995, 0x89a2, 0x89a3, 0x89b0)))
`,
      [device],
    );
    // The kernel knows nothing of these four, whoever asks.
    assertEquals(out.split("\n").slice(0, 3), ["[] []", "0x8920 0x8926 0x8934 0x8936", "True True"]);
    assertEquals(device.calls > standard.length, true);
  },
);
