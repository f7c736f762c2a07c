/**
 * A loopback of our own, and its private ioctl: frames are sent and counted, then RESET_STATS makes the counters zero.
 *
 *     deno run -A examples/reset_stats.ts
 *
 * The device lives in this process, and so does the caller; examples/reset_stats.c is the same for a program outside.
 */
import { deviceIoctl, LoopbackDevice, NetDevices, NetStack, RESET_STATS } from "../mod.ts";

await using devices = new NetDevices({ backing: "process" });
const handle = await devices.register("loop0", LoopbackDevice).ready;

function show(when: string): void {
  const { txPackets, rxPackets } = handle.statistics64();
  console.log(`${when}: tx ${txPackets} packets, rx ${rxPackets} packets`);
}

{
  using stack = new NetStack(handle, { address: "10.0.0.1/24" });
  // Nobody is there: what is sent comes back to where it came from.
  await stack.ping("10.0.0.2", { timeoutMs: 100 }).catch(() => {});
  show("after some frames");

  // struct ifreq: 16 bytes of name, 24 of what the request is about.
  const ifreq = new Uint8Array(40);
  new TextEncoder().encodeInto("loop0", ifreq);
  const code = await deviceIoctl(RESET_STATS, ifreq);
  console.log(`ioctl(RESET_STATS): ${code}`);
  show("after RESET_STATS");
  console.log(`ioctl(RESET_STATS + 1): ${await deviceIoctl(RESET_STATS + 1, ifreq)} (-EOPNOTSUPP)`);
}
