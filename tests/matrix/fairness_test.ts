// Flows that share a bottleneck get the same of it, in the network's own time.
import { assertEquals, assertGreater, assertGreaterOrEqual } from "@std/assert";
import { ManualClock, Network } from "../../mod.ts";

const RATE = 50e6;
const RTT_MS = 40;
/** Packets of 1500 bytes in one bandwidth-delay product. */
const QUEUE = Math.round(RATE * (RTT_MS / 1000) / 8 / 1500);
/** Flows begin so far apart, and count from five seconds after the last. */
const APART_MS = 50;
const SETTLE_MS = 5000;
const MEASURED_MS = 60_000;

/** Jain's index of fairness: 1 when all are equal, 1/n when one has everything. */
function jain(values: readonly number[]): number {
  const sum = values.reduce((a, b) => a + b, 0);
  return sum ** 2 / (values.length * values.reduce((a, b) => a + b * b, 0));
}

/** Bytes that each of `flows` brought through in the measured minute. */
async function shares(flows: number, aqm: "none" | "codel", ecn: boolean): Promise<number[]> {
  using net = new Network({ clock: new ManualClock(), seed: flows });
  const alice = net.host("alice", { address: "10.0.0.1/24", tcp: { ecn } });
  const bob = net.host("bob", { address: "10.0.0.2/24", tcp: { ecn } });
  net.link(alice, bob, { delay: RTT_MS / 2, aToB: { rate: RATE, queue: { packets: QUEUE, aqm } } });
  const received: number[] = new Array(flows).fill(0);
  const chunk = new Uint8Array(65_536);
  const into = new Uint8Array(65_536);
  return await net.run(async () => {
    const listener = bob.listen({ port: 7 });
    const work: Promise<void>[] = [];
    const ends: Disposable[] = [];
    for (let i = 0; i < flows; i++) {
      const sender = await alice.connect({ hostname: "10.0.0.2", port: 7 });
      const receiver = await listener.accept();
      ends.push(sender, receiver);
      const write = async () => {
        for (;;) await sender.write(chunk);
      };
      const read = async () => {
        for (let count; (count = await receiver.read(into)) !== null;) received[i] += count;
      };
      // They end when the connections are closed under them.
      work.push(write().catch(() => {}), read().catch(() => {}));
      await net.delay(APART_MS);
    }
    await net.delay(SETTLE_MS);
    const before = [...received];
    await net.delay(MEASURED_MS);
    const found = received.map((bytes, i) => bytes - before[i]);
    for (const end of ends) end[Symbol.dispose]();
    await Promise.all(work);
    return found;
  });
}

for (
  const [queue, aqm, ecn] of [["tail drop", "none", false], ["CoDel", "codel", false], ["CoDel with ECN", "codel", true]] as const
) {
  Deno.test(`fairness: 2 to 64 flows of CUBIC through 50 Mbit/s with ${queue}: Jain's index 0.97 at least, and the link is full`, async () => {
    const table: Record<number, number> = {};
    for (const flows of [2, 4, 8, 16, 32, 64]) {
      const found = await shares(flows, aqm, ecn);
      const sum = found.reduce((a, b) => a + b, 0);
      assertGreater(sum * 8 / (MEASURED_MS / 1000), 0.9 * RATE);
      table[flows] = jain(found);
    }
    for (const index of Object.values(table)) assertGreaterOrEqual(index, 0.97, JSON.stringify(table));
  });
}

Deno.test("Jain's index tells equal shares from others", () => {
  assertEquals([jain([5, 5, 5]), jain([1, 0, 0, 0])], [1, 0.25]);
});
