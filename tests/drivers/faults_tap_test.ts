/** Faults between our stack and the real kernel. In a network namespace of its own (TAPIOCA_KERNEL), see ffi/kernel.ts. */
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { type FaultOptions, faults, NetStack, Network, systemClock, TapDevice } from "../../mod.ts";
import { kernelTest } from "../ffi/kernel.ts";

/** A kernel with a TAP, and our stack behind faults. */
function world(options: FaultOptions) {
  const device = faults(TapDevice.open({ host: { address: "10.0.0.1/24" } }), options);
  const stack = new NetStack(device, { address: "10.0.0.2/24", seed: 1 });
  return { device, stack, [Symbol.dispose]: () => stack.close() };
}

async function sha(parts: Uint8Array[]): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", await new Blob(parts as BlobPart[]).bytes())).toHex();
}

/** One way over a connection: random bytes, the same at the end. */
async function send(from: Deno.TcpConn, to: Deno.TcpConn, bytes: number): Promise<void> {
  const data = new Uint8Array(bytes);
  for (let i = 0; i < bytes; i += 65_536) crypto.getRandomValues(data.subarray(i, i + 65_536));
  const sending = (async () => {
    for (let sent = 0; sent < bytes;) sent += await from.write(data.subarray(sent));
    await from.closeWrite();
  })();
  const parts: Uint8Array[] = [];
  const buffer = new Uint8Array(65_536);
  for (let count; (count = await to.read(buffer)) !== null;) parts.push(buffer.slice(0, count));
  await sending;
  assertEquals(await sha(parts), await sha([data]));
}

async function bothWays(stack: NetStack, bytes: number): Promise<void> {
  using listener = stack.listen({ port: 7 });
  const [client, server] = await Promise.all([Deno.connect({ hostname: "10.0.0.2", port: 7 }), listener.accept()]);
  await send(client, server, bytes);
  await send(server, client, bytes);
  client.close();
  server.close();
}

kernelTest("faults around a TAP: the losses of ping are those that were counted", async () => {
  using all = world({ out: { loss: 0.3 }, in: { loss: 0.2 }, seed: 5 });
  all.stack.setNeighbor("10.0.0.1", await macOf(all.stack));
  const before = all.device.faults;
  let answered = 0;
  for (let i = 0; i < 40; i++) answered += await all.stack.ping("10.0.0.1", { timeoutMs: 60 }).then(() => 1, () => 0);
  const { in: incoming, out } = all.device.faults;
  const lost = out.lost - before.out.lost + incoming.lost - before.in.lost;
  // The kernel may ask by ARP meanwhile, so not every loss is a ping's.
  assertGreater(answered, 8);
  assertLess(answered, 36);
  assert(40 - answered <= lost, `${40 - answered} pings lost, ${lost} frames`);
});

/** The kernel's MAC, which a first ping has found out. */
async function macOf(stack: NetStack): Promise<string> {
  for (let i = 0; i < 20 && stack.neighbors[0]?.state !== "reachable"; i++) {
    await stack.ping("10.0.0.1", { timeoutMs: 100 }).catch(() => {});
  }
  return stack.neighbors[0].mac;
}

kernelTest(
  "faults around a TAP with offload: TCP with the kernel survives loss, reordering, duplication, corruption",
  async () => {
    using all = world({ delay: 2, jitter: 1, loss: 0.01, reorder: 0.02, duplicate: 0.01, corrupt: 0.005, seed: 3 });
    assertEquals(all.device.capabilities.txChecksum, false);
    await bothWays(all.stack, 2 << 20);
    const { in: incoming, out } = all.device.faults;
    for (const s of [incoming, out]) {
      assertGreater(s.lost, 3);
      assertGreater(s.duplicated, 3);
      assertGreater(s.reordered, 3);
      assertGreater(s.corrupted, 1);
    }
    // What was corrupted was noticed.
    assertGreater(all.stack.statistics.tcp.badChecksum + all.stack.statistics.internet.ip.dropChecksum, 0);
  },
);

kernelTest("faults around a TAP: super-frames whole, and a rate", async () => {
  using all = world({ superFrames: true, delay: 1, rate: 500e6, out: { loss: 0.005 } });
  assertGreater(all.device.capabilities.txSegmentation, 60_000);
  await bothWays(all.stack, 4 << 20);
  const { sent, sentBytes } = all.device.faults.in;
  assertGreater(sentBytes / sent, 1000);
});

kernelTest("the kernel joins a network: through a switch, over a slow link, to a host in memory", async () => {
  using net = new Network({ clock: systemClock });
  const tap = net.attach(TapDevice.open({ host: { address: "10.0.0.1/24" } }));
  const hub = net.switch("s1");
  const host = net.host("h", { address: "10.0.0.2/24" });
  net.link(tap, hub);
  const slow = net.link(hub, host, { delay: 10, rate: 100e6, loss: 0.002 });
  await net.run(async () => {
    const { roundTripMs } = await host.ping("10.0.0.1");
    assert(roundTripMs >= 20);
    await bothWays(host, 1 << 20);
  });
  assertGreater(slow.statistics.aToB.delivered, 720);
});
