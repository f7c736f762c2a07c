/** Many connections, and for long: every table empty afterwards, memory flat. */
import { assert, assertEquals } from "@std/assert";
import { bulkBytes, receiveBulk, send } from "../../examples/demo/stranger.ts";
import { lacksKernel, long } from "../testing/namespace.ts";
import { Service, within } from "../testing/service.ts";

const ADDRESS = "10.1.5.2";
const ARGS = ["--name", "tmany", "--address", `${ADDRESS}/24`, "--host-address", "10.1.5.1/24"];
const MiB = 1 << 20;
/** What V8 may take and not have given back yet when we look; a leak per connection or per byte is far above. */
const GROWTH_MAX = 32 * MiB;
/** Rounds until V8's heap has its size: measured, it goes from 90 to 200 MiB in about 100 and stays there for hundreds more. */
const WARM_UP_ROUNDS = 120;

/** Runs `work` `total` times, `width` at once. */
async function inParallel(total: number, width: number, work: (index: number) => Promise<void>): Promise<void> {
  let next = 0;
  await Promise.all(Array.from({ length: width }, async () => {
    while (next < total) await work(next++);
  }));
}

/** One connection, opened, used and closed; every third one by the client first, the others half-closed in order. */
async function useOnce(index: number): Promise<void> {
  using conn = await Deno.connect({ hostname: ADDRESS, port: 7 });
  const message = new TextEncoder().encode(`connection ${index}`);
  await conn.write(message);
  const buffer = new Uint8Array(64);
  const n = await conn.read(buffer) ?? 0;
  assertEquals(new TextDecoder().decode(buffer.subarray(0, n)), `connection ${index}`);
  if (index % 3 === 0) return;
  await conn.closeWrite();
  assertEquals(await conn.read(buffer), null);
}

/** Waits until no connection is left; the last acknowledgements are still on their way when the client is done. */
async function emptied(service: Service): Promise<Record<string, number>> {
  for (let round = 0; round < 100; round++) {
    const { tcp } = await service.statistics();
    if (tcp.connections === 0) return tcp;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  return (await service.statistics()).tcp;
}

Deno.test({
  name: "10,000 connections opened, used and closed, 1,000 at once: every table is empty afterwards",
  ignore: lacksKernel(),
  async fn() {
    await using service = await Service.start(ARGS);
    // All open at the same time, then all closed at the same time.
    const conns = await Promise.all(Array.from({ length: 1000 }, () => Deno.connect({ hostname: ADDRESS, port: 7 })));
    assertEquals((await service.statistics()).tcp.connections, 1000);
    for (const conn of conns) conn.close();
    await within(60, "the use of 10,000 connections", inParallel(10_000, 1000, useOnce));
    const tcp = await emptied(service);
    assertEquals([tcp.connections, tcp.timeWait], [0, 0], JSON.stringify(tcp));
    assertEquals(tcp.passiveOpens, 11_000);
    assertEquals((await service.stop()).code, 0);
  },
});

/** A bit of everything: bulk both ways, short connections, datagrams, resets. */
async function mixture(bytes: Uint8Array<ArrayBuffer>): Promise<void> {
  const echo = await Deno.connect({ hostname: ADDRESS, port: 7 });
  await Promise.all([receiveBulk(echo, bytes.length), send(echo, bytes).then(() => echo.closeWrite())]);
  echo.close();
  await inParallel(300, 50, useOnce);
  for (let i = 0; i < 10; i++) {
    using conn = await Deno.connect({ hostname: ADDRESS, port: 19 });
    await conn.read(new Uint8Array(1000));
  }
}

Deno.test({
  name: "memory stays flat under a mixture of everything (ten minutes with test:long)",
  ignore: lacksKernel(),
  async fn() {
    // The kernel's end of so many connections would use up its ports by waiting in TIME-WAIT.
    Deno.writeTextFileSync("/proc/sys/net/ipv4/tcp_max_tw_buckets", "0");
    await using service = await Service.start(ARGS);
    const bytes = bulkBytes(8 * MiB);
    const rounds = long ? Infinity : 60;
    const until = performance.now() + (long ? 600_000 : 60_000);
    for (let round = 0; round < WARM_UP_ROUNDS; round++) await mixture(bytes);
    const warm = service.memory;
    const curve = [warm];
    for (let round = 0, next = performance.now(); round < rounds && performance.now() < until; round++) {
      await within(60, "a round of everything", mixture(bytes));
      if (performance.now() < next) continue;
      curve.push(service.memory);
      next += long ? 30_000 : 5_000;
    }
    const growth = service.memory - warm;
    curve.push(service.memory);
    console.log(`resident memory once warm, MiB: ${curve.map((size) => size / MiB | 0).join(" ")}`);
    assert(growth < GROWTH_MAX, `grew by ${growth / MiB} MiB`);
    assertEquals((await emptied(service)).connections, 0);
    assertEquals((await service.stop()).code, 0);
  },
});
