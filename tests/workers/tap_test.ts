/** Stacks in workers on a real TAP, with one queue and with two, against the kernel. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { createSocket } from "node:dgram";
import { bulkBytes, receiveBulk, send, sha256 } from "../../examples/demo/stranger.ts";
import { WorkerStack } from "../../mod.ts";
import type { TcpListener, WorkerStackOptions } from "../../mod.ts";
import { libc } from "../../ffi/libc.ts";
import { deleteLink } from "../../ffi/rtnl_link.ts";
import { lacksKernel, run } from "../testing/namespace.ts";

// Before any test: the library stays open for the process, and the sanitizer would blame whoever opened it.
libc();

const HOST = "10.9.0.1";
const ADDRESS = "10.9.0.2";
const MiB = 1 << 20;

function open(queues: number, more: Partial<WorkerStackOptions> = {}): Promise<WorkerStack> {
  const device = { kind: "tap" as const, name: "wtap0", host: { address: `${HOST}/24` } };
  return WorkerStack.open({ device, address: `${ADDRESS}/24`, queues, ...more });
}

function kernelTest(name: string, fn: () => Promise<void>, programs: string[] = [], packages = ""): void {
  Deno.test({ name, ignore: lacksKernel(programs, packages), fn });
}

/** Echoes until the listener is closed. */
async function echo(listener: TcpListener): Promise<void> {
  for await (const conn of listener) conn.readable.pipeTo(conn.writable).catch(() => {});
}

/** Sends bytes to the echo port and checks what comes back meanwhile. */
async function exchange(conn: Deno.TcpConn, size: number): Promise<void> {
  const bytes = bulkBytes(size);
  const [received] = await Promise.all([receiveBulk(conn, size), send(conn, bytes).then(() => conn.closeWrite())]);
  assertEquals([received.bytes, received.sha256], [size, await sha256(bytes)]);
  assertEquals(await conn.read(new Uint8Array(1)), null);
}

for (const queues of [1, 2]) {
  kernelTest(`workers: bulk both ways at once, by connections from both ends, on ${queues} queue(s)`, async () => {
    await using stack = await open(queues);
    using listener = stack.listen({ port: 7 });
    echo(listener);
    for (let round = 0; round < 2; round++) {
      using conn = await Deno.connect({ hostname: ADDRESS, port: 7 });
      await exchange(conn, 16 * MiB + round);
      using kernel = Deno.listen({ hostname: HOST, port: 0 });
      const [theirs, ours] = await Promise.all([kernel.accept(), stack.connect({ hostname: HOST, port: kernel.addr.port })]);
      const echoed = theirs.readable.pipeTo(theirs.writable);
      await exchange(ours, 16 * MiB + round);
      await echoed;
      ours.close();
    }
    for (const { tcp, stack: { faults } } of await stack.statistics()) assertEquals([tcp.badChecksum, faults], [0, 0]);
  });

  kernelTest(
    `workers: a busy main thread loses no ping, and TCP goes on receiving, on ${queues} queue(s)`,
    async () => {
      await using stack = await open(queues);
      using listener = stack.listen({ port: 9 });
      const peer = new Worker(new URL("./kernel_peer.ts", import.meta.url), { type: "module" });
      const news = (what: string) => new Promise<void>((resolve) => peer.onmessage = ({ data }) => data === what && resolve());
      const connected = news("connected");
      // As much as the window holds before a reader has shown how fast he is.
      const bytes = 120_000;
      peer.postMessage({ hostname: ADDRESS, port: 9, bytes });
      const [conn] = await Promise.all([listener.accept(), connected]);
      const pings = new Deno.Command("ping", { args: ["-c", "30", "-i", "0.01", "-W", "1", ADDRESS], stdout: "piped" }).spawn();
      for (const until = performance.now() + 800; performance.now() < until;);
      // Nothing was read meanwhile: what is there came while this thread did nothing.
      assert(conn.info.bytesReceived >= bytes, `${conn.info.bytesReceived} bytes of ${bytes}`);
      const done = news("done");
      assertEquals((await receiveBulk(conn, bytes)).bytes, bytes);
      conn.close();
      await done;
      const stdout = new TextDecoder().decode((await pings.output()).stdout);
      assert(stdout.includes(" 0% packet loss") && !stdout.includes("DUP!"), stdout);
    },
    ["ping"],
    "iputils-ping",
  );
}

kernelTest("workers: 200 connections at once over two queues, from both ends, each right", async () => {
  await using stack = await open(2);
  using listener = stack.listen({ port: 7 });
  echo(listener);
  using kernel = Deno.listen({ hostname: HOST, port: 0 });
  (async () => {
    for await (const conn of kernel) conn.readable.pipeTo(conn.writable).catch(() => {});
  })();
  const one = async (conn: Deno.TcpConn) => {
    await exchange(conn, 40_000);
    conn.close();
  };
  const inward = Array.from({ length: 100 }, async () => await one(await Deno.connect({ hostname: ADDRESS, port: 7 })));
  const outward = Array.from(
    { length: 100 },
    async () => await one(await stack.connect({ hostname: HOST, port: kernel.addr.port })),
  );
  await Promise.all([...inward, ...outward]);
  const all = await stack.statistics();
  assert(all.every(({ tcp }) => tcp.passiveOpens > 10 && tcp.activeOpens === 50), "both workers had their share");
  assertEquals(all.map(({ tcp, devices }) => [tcp.resetsSent, devices[0].counters.handoverDropped]), [[0, 0], [0, 0]]);
});

kernelTest("workers: two queues answer nothing twice, and refuse a closed port once", async () => {
  await using stack = await open(2);
  for (let i = 0; i < 10; i++) {
    await assertRejects(() => Deno.connect({ hostname: ADDRESS, port: 1 }), Deno.errors.ConnectionRefused);
  }
  for (let i = 0; i < 10; i++) assertEquals((await stack.ping(HOST, { size: i * 300 })).size, i * 300);
  const error = await assertRejects(() => stack.connect({ hostname: HOST, port: 1 }), Deno.errors.ConnectionRefused);
  assertEquals(error.message, `Connection refused (os error 111): connect ${HOST}:1`);
  const all = await stack.statistics();
  assertEquals(all.reduce((sum, { tcp }) => sum + tcp.resetsSent, 0), 10);
  const arp = all.map(({ internet }) => internet.arp);
  const sums = ["requestsReceived", "repliesSent"].map((name) => arp.reduce((sum, counters) => sum + counters[name], 0));
  assert(sums[1] <= sums[0], `${sums[1]} answers to ${sums[0]} requests`);
});

kernelTest("workers: a flow that the kernel has forgotten finds its worker", async () => {
  await using stack = await open(2);
  using kernel = Deno.listen({ hostname: HOST, port: 0 });
  const pairs = await Promise.all(Array.from({ length: 8 }, async () => {
    const ours = await stack.connect({ hostname: HOST, port: kernel.addr.port });
    return { ours, theirs: await kernel.accept() };
  }));
  // The kernel keeps a flow on its queue for three seconds.
  await new Promise((resolve) => setTimeout(resolve, 3_500));
  await Promise.all(pairs.map(({ theirs }, i) => theirs.write(new Uint8Array([i]))));
  const before = new Set<number>();
  for (const { ours } of pairs) {
    const buffer = new Uint8Array(4);
    assertEquals(await ours.read(buffer), 1);
    before.add(buffer[0]);
    ours.close();
  }
  assertEquals(before.size, 8);
  for (const { theirs } of pairs) theirs.close();
  assertEquals((await stack.statistics()).map(({ tcp }) => tcp.resetsSent), [0, 0]);
});

kernelTest("workers: datagrams that come by any queue reach the one socket, and are answered from it", async () => {
  await using stack = await open(2);
  using socket = stack.listenDatagram({ port: 7 });
  (async () => {
    for await (const [bytes, from] of socket) await socket.send(bytes, from);
  })();
  const sizes = [0, 1, 1472, 9_000, 65_507];
  const ask = (size: number) =>
    new Promise<number>((resolve, reject) => {
      const client = createSocket("udp4");
      client.on("error", reject);
      client.on("message", (message) => {
        client.close();
        resolve(message.length);
      });
      client.send(new Uint8Array(size), 7, ADDRESS);
    });
  // So many at once as the socket's buffer holds (212,992 bytes): nothing may be lost here.
  for (let round = 0; round < 6; round++) assertEquals(await Promise.all(sizes.map(ask)), sizes);
  using refused = await stack.connectDatagram({ hostname: HOST, port: 1 });
  await refused.send(new Uint8Array(1));
  await assertRejects(() => refused.receive(), Deno.errors.ConnectionRefused);
});

kernelTest("workers: when the interface is deleted everybody is told, and nothing is left", async () => {
  const stack = await open(2);
  const listener = stack.listen({ port: 7 });
  const accepting = listener.accept().catch((error) => error);
  deleteLink(stack.name);
  const error = await stack.closed.catch((error) => error);
  assertEquals([error.name, error.code], ["DeviceGoneError", "ENODEV"]);
  assertEquals((await accepting).code, "ENODEV");
  await assertRejects(() => stack.ping(HOST));
});

kernelTest(
  "workers: closing gives every descriptor back",
  async () => {
    const descriptors = () => [...Deno.readDirSync("/proc/self/fd")].length;
    const threads = () =>
      [...Deno.readDirSync("/proc/self/task")].filter(({ name }) => {
        try {
          return Deno.readTextFileSync(`/proc/self/task/${name}/comm`).startsWith("worker");
        } catch {
          return false;
        }
      }).length;
    await (await open(2))[Symbol.asyncDispose]();
    const before = descriptors(), threadsBefore = threads();
    for (let i = 0; i < 3; i++) {
      const stack = await open(2);
      using conn = stack.listen({ port: 7 });
      await stack.ping(HOST);
      assert(conn.addr.port === 7);
      if (i === 0) {
        stack.close();
        await stack.closed;
      } else await stack[Symbol.asyncDispose]();
    }
    // A thread that has ended is gone a moment later.
    const left = () => descriptors() > before || threads() > threadsBefore; // fewer, when an earlier test's had not all gone
    for (let i = 0; i < 100 && left(); i++) await new Promise((resolve) => setTimeout(resolve, 20));
    assert(!left(), `${descriptors()} descriptors of ${before}, ${threads()} threads of ${threadsBefore}`);
    assertEquals((await run("ip", ["link", "show", "wtap0"])).code, 1);
  },
  ["ip"],
  "iproute2",
);

kernelTest("workers: a device that cannot be opened is told as it is without a worker, and leaves nothing", async () => {
  await using first = await open(1);
  const error = await open(1).catch((error) => error);
  assert(error instanceof Deno.errors.Busy, `${error}`);
  assertEquals((error as { code?: string }).code, "EBUSY");
  assertEquals(first.name, "wtap0");
});
