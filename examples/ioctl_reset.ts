/**
 * Sends RESET_STATS, the private ioctl of a loopback device, to an interface: what reset_stats.c does, in Deno. An ordinary
 * program, which knows nothing of who answers; on a device of the kernel that has no private ioctls it says so.
 *
 *     deno run -A examples/ioctl_device.ts deno run -A examples/ioctl_reset.ts meter0
 *
 * @module
 */
import { InterfaceIoctls, RESET_STATS } from "../mod.ts";

const SIOCDEVPRIVATE = 0x89f0;

const [name] = Deno.args;
if (name === undefined || Deno.args.length > 1) {
  console.error("usage: ioctl_reset.ts INTERFACE");
  Deno.exit(2);
}
using ioctls = new InterfaceIoctls();
const code = ioctls.private(name, RESET_STATS - SIOCDEVPRIVATE);
console.log(code < 0 ? `${name}: errno ${-code}` : `${name}: statistics reset`);
Deno.exitCode = code < 0 ? 1 : 0;
