// Time that is turned by hand: an hour of a network in a moment, the same every time.
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ManualClock, type NetStack } from "../../../mod.ts";
import { outcome, pair, readAll, writeAll } from "./worlds.ts";

Deno.test("timers ring in order of time, and those of one moment in the order they were set", () => {
  const clock = new ManualClock(100);
  const rang: string[] = [];
  clock.setTimer(300, () => rang.push(`c${clock.now()}`));
  clock.setTimer(200, () => rang.push(`a${clock.now()}`));
  const cleared = clock.setTimer(250, () => rang.push("cleared"));
  clock.setTimer(200, () => rang.push(`b${clock.now()}`));
  clock.clearTimer(cleared);
  assertEquals(clock.pending, 3);
  clock.advance(150);
  assertEquals(rang, ["a200", "b200"]);
  assertEquals(clock.now(), 250);
  assertEquals(clock.runUntilIdle(), 50);
  assertEquals(rang, ["a200", "b200", "c300"]);
});

Deno.test("many timers keep their order", () => {
  const clock = new ManualClock();
  const rang: number[] = [];
  let state = 7;
  for (let i = 0; i < 2000; i++) {
    state = (state * 48271) % 0x7fffffff;
    const at = state % 5000;
    clock.setTimer(at, () => rang.push(at));
  }
  clock.advance(5000);
  assertEquals(rang.length, 2000);
  assertEquals(rang, [...rang].sort((a, b) => a - b));
});

Deno.test("promises settle between two timers, and a promise that can't is reported", async () => {
  const clock = new ManualClock();
  const sleep = (ms: number) => new Promise<void>((resolve) => clock.setTimer(clock.now() + ms, resolve));
  const work = async () => {
    for (let i = 0; i < 10; i++) await sleep(1000);
    return clock.now();
  };
  assertEquals(await clock.run(work()), 10_000);
  await assertRejects(() => clock.run(new Promise(() => {}), 1000), Deno.errors.TimedOut);
});

async function lossyHour(seed: number): Promise<{ elapsed: number; retransmitted: number; text: string }> {
  const clock = new ManualClock();
  using all = pair({ client: { clock, seed }, server: { clock, seed: seed + 1 } });
  const [end] = all.ends;
  // Every ninth frame is lost.
  const transmit = end.transmit.bind(end);
  let count = 0;
  end.transmit = (frame) => ++count % 9 === 0 ? 0 : transmit(frame);
  const listener = all.server.listen({ port: 7 });
  const serving = (async () => {
    const conn = await listener.accept();
    await writeAll(conn, new Uint8Array(2_000_000).fill(5));
    conn.close();
  })();
  const work = (async () => {
    const conn = await all.client.connect({ hostname: "10.0.0.1", port: 7 });
    const bytes = await readAll(conn);
    conn.close();
    return bytes;
  })();
  const bytes = await clock.run(work);
  await serving;
  assertEquals(bytes.length, 2_000_000);
  assert(bytes.every((byte) => byte === 5));
  const elapsed = clock.now();
  await clock.advanceAsync(3_600_000);
  assertEquals(all.client.connections().length + all.server.connections().length, 0);
  const text = JSON.stringify([all.client.statistics, all.server.statistics]);
  return { elapsed, retransmitted: all.server.statistics.tcp.segmentsRetransmitted, text };
}

Deno.test("an hour with loss between two stacks: all arrives, and the same seed gives the same hour", async () => {
  const first = await lossyHour(42);
  assert(first.retransmitted > 10, `${first.retransmitted} retransmissions`);
  const second = await lossyHour(42);
  assertEquals(second, first);
});

Deno.test("a peer that vanishes: the write side times out in its own time", async () => {
  const clock = new ManualClock();
  using all = pair({ client: { clock, seed: 1 }, server: { clock, seed: 2 } });
  using listener = all.server.listen({ port: 7 });
  const accepting = listener.accept();
  const client = await clock.run(all.client.connect({ hostname: "10.0.0.1", port: 7, userTimeoutMs: 20_000 }));
  const server = await clock.run(accepting);
  all.ends[0].setCarrier(false);
  await client.write(new Uint8Array(10));
  const before = clock.now();
  assertEquals(await clock.run(outcome(() => client.read(new Uint8Array(1)))), "TimedOut ETIMEDOUT");
  const waited = clock.now() - before;
  assert(waited >= 20_000 && waited < 60_000, `${waited} ms`);
  client.close();
  server.close();
});

Deno.test("nobody at the address: unreachable after three requests, and no answer to a ping in its own time", async () => {
  const clock = new ManualClock();
  using all = pair({ client: { clock, seed: 1 }, server: { clock, seed: 2 } });
  const said = await clock.run(outcome(() => all.client.connect({ hostname: "10.0.0.77", port: 1 })));
  assertEquals(said, "Error EHOSTUNREACH");
  const silent = outcome(() => all.client.ping("10.0.0.78", { timeoutMs: 300 }));
  assertEquals(await clock.run(silent), "TimedOut ETIMEDOUT");
});

Deno.test("ping: options out of range, aborts, many at once", async () => {
  using all = pair();
  const ping = (options: Parameters<NetStack["ping"]>[1]) => outcome(() => all.client.ping("10.0.0.1", options));
  assertEquals(await ping({ size: 65_508 }), "RangeError -");
  assertEquals(await ping({ ttl: 0 }), "RangeError -");
  assertEquals(await ping({ sequence: 65_536 }), "RangeError -");
  assertEquals(await ping({ timeoutMs: 0 }), "RangeError -");
  assertEquals(await ping({ signal: AbortSignal.abort() }), "AbortError -");
  const abort = new AbortController();
  const silent = outcome(() => all.client.ping("10.0.0.77", { signal: abort.signal }));
  await Promise.resolve();
  abort.abort();
  assertEquals(await silent, "AbortError -");
  await all.client.ping("10.0.0.1");
  const replies = await Promise.all(
    Array.from({ length: 100 }, (_, i) => all.client.ping("10.0.0.1", { sequence: i % 10, size: i })),
  );
  assertEquals(replies.map((reply) => reply.size), Array.from({ length: 100 }, (_, i) => i));
  const large = await all.client.ping("10.0.0.1", { size: 65_507 });
  assertEquals(large.size, 65_507);
});
