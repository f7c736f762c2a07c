/** The real kernel at the other end of a bad link, and beside us on a narrow one. */
import { assert, assertEquals, assertGreater, assertGreaterOrEqual } from "@std/assert";
import { delay } from "@std/async/delay";
import { type FaultOptions, faults, type FaultyDevice } from "../../drivers/faults.ts";
import { Network } from "../../drivers/network.ts";
import { TapDevice } from "../../drivers/tap.ts";
import { systemClock } from "../../stack/host/clock.ts";
import { lacksKernel, lacksSysctl, long, run } from "../testing/namespace.ts";
import { exchange, MiB, Oracle, sysctl, transfer } from "../testing/oracle.ts";

const SIZE = (long ? 1024 : 24) * MiB;
const SECONDS = long ? 1200 : 120;

/** An oracle behind faults. */
function behind(options: FaultOptions): { oracle: Oracle; device: FaultyDevice; [Symbol.asyncDispose](): Promise<void> } {
  let device!: FaultyDevice;
  const oracle = new Oracle({ between: (tap) => device = faults(tap, options) });
  return { oracle, device, [Symbol.asyncDispose]: () => oracle[Symbol.asyncDispose]() };
}

const BAD: FaultOptions = { loss: 0.01, reorder: { probability: 0.01, delay: 2 }, duplicate: 0.005, delay: 1, seed: 31 };

for (const direction of ["into Linux", "out of Linux"] as const) {
  Deno.test({
    name: `1 % loss, 1 % reordering, 0.5 % duplication, ${SIZE / MiB} MiB ${direction}: everything arrives`,
    ignore: lacksKernel(),
    async fn() {
      await using world = behind(BAD);
      const [ours, kernels] = await world.oracle.connect(direction === "into Linux" ? "ours" : "kernel");
      if (direction === "into Linux") await transfer(ours, kernels, SIZE, SECONDS);
      else await transfer(kernels, ours, SIZE, SECONDS);
      const bulk = direction === "into Linux" ? world.device.faults.out : world.device.faults.in;
      assert(bulk.lost > 50 && bulk.reordered > 50 && bulk.duplicated > 20, JSON.stringify(bulk));
      const { retransmissions, fastRecoveries } = ours.info;
      // Reordering and duplication bring no more of our own segments again than twice the losses (RACK, D-SACK).
      if (direction === "into Linux") {
        assertGreater(fastRecoveries, 20);
        assert(retransmissions < 3 * bulk.lost, `${retransmissions} retransmissions for ${bulk.lost} losses`);
      }
      ours.close();
      kernels.close();
    },
  });
}

Deno.test({
  name: "loss both ways with Linux's features off one by one: everything arrives",
  ignore: lacksSysctl(),
  async fn() {
    const switches: Record<string, number>[] = [
      { tcp_sack: 0 },
      { tcp_timestamps: 0 },
      { tcp_window_scaling: 0 },
      { tcp_sack: 0, tcp_timestamps: 0, tcp_window_scaling: 0 },
      { tcp_recovery: 0, tcp_early_retrans: 0, tcp_dsack: 0 },
      { tcp_ecn: 1 },
    ];
    for (const settings of switches) {
      using _ = sysctl(settings);
      await using world = behind({ ...BAD, loss: 0.02 });
      const [ours, kernels] = await world.oracle.connect("ours", { ecn: true });
      await exchange(ours, kernels, 2 * MiB, SECONDS);
      ours.close();
      kernels.close();
    }
  },
});

Deno.test({
  name: "corruption both ways: noticed by checksums on both sides, repaired by both",
  ignore: lacksKernel(),
  async fn() {
    await using world = behind({ corrupt: 0.01, delay: 1, seed: 7 });
    const [ours, kernels] = await world.oracle.connect("kernel");
    await exchange(ours, kernels, 4 * MiB, SECONDS);
    const { tcp, internet } = world.oracle.stack.statistics;
    assertGreater(tcp.badChecksum + internet.ip.dropChecksum, 0);
    ours.close();
    kernels.close();
  },
});

Deno.test({
  name: "a marking queue (CoDel with ECN) instead of loss: both senders are told, and slow down",
  ignore: lacksSysctl(),
  async fn() {
    //= rfc3168#6.1.2 type=test
    // If the sender receives an ECN-Echo (ECE) ACK packet ... then the sender knows that congestion was encountered
    using _ = sysctl({ tcp_ecn: 1 });
    await using world = behind({ rate: 50e6, delay: 5, queue: { packets: 1000, aqm: "codel" } });
    const [ours, kernels] = await world.oracle.connect("ours", { ecn: true });
    assertEquals(ours.info.ecn, true);
    await exchange(ours, kernels, 6 * MiB, SECONDS);
    const { in: incoming, out } = world.device.faults;
    assert(out.marked > 0 && incoming.marked > 0, JSON.stringify({ incoming, out }));
    assertGreater(world.oracle.stack.statistics.tcp.ecnReductions, 0);
    ours.close();
    kernels.close();
  },
});

/** Jain's index of fairness: 1 when all are equal, 1/n when one has everything. */
function jain(values: number[]): number {
  const sum = values.reduce((a, b) => a + b, 0);
  return sum ** 2 / (values.length * values.reduce((a, b) => a + b * b, 0));
}

Deno.test({
  name: "CUBIC of ours beside CUBIC of Linux through one bottleneck of 20 Mbit/s: Jain's index 0.97 at least",
  ignore: lacksKernel(["ip"], "iproute2"),
  async fn() {
    const found = await fairness(long ? 60 : 10, 150);
    assertGreaterOrEqual(
      found.index,
      0.97,
      `shares in bytes, ours and Linux's in turn, after ${found.seconds} s: ${found.shares}`,
    );
  },
});

/**
 * Two flows of ours and two of the kernel's share a link: what they brought through it, from `least` seconds on and at the latest
 * after `most`, as soon as it is fair. Windows of tens of segments swing for tens of seconds, here and between flows of Linux
 * alone: shares come together with time, or never where one side is greedier.
 */
async function fairness(least: number, most: number): Promise<{ index: number; seconds: number; shares: number[] }> {
  using net = new Network({ clock: systemClock });
  const tap = net.attach(TapDevice.open({ name: "tfair", host: { address: "10.9.0.1/24" } }));
  const hub = net.switch("hub");
  const ours = net.host("ours", { address: "10.9.0.2/24" });
  const receiver = net.host("receiver", { address: "10.9.0.3/24" });
  // Jitter, so that it isn't always the same sender's packets that meet the full queue (Floyd's phase effects).
  net.link(tap, hub, { delay: 1, jitter: 8 });
  net.link(ours, hub, { delay: 1, jitter: 8 });
  net.link(hub, receiver, { delay: 5, aToB: { rate: 20e6, queue: 50 } });
  const route = ["route", "replace", "10.9.0.0/24", "dev", "tfair", "src", "10.9.0.1", "congctl", "cubic"];
  assertEquals((await run("ip", route)).stderr, "");
  using listener = receiver.listen({ port: 7 });
  const received: number[] = [];
  const conns: Deno.Conn[] = [];
  let stopped = false;
  const work: Promise<void>[] = [];
  const read = async (conn: Deno.Conn, index: number) => {
    const buffer = new Uint8Array(65_536);
    for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) received[index] += n;
  };
  const write = async (conn: Deno.Conn) => {
    const zeros = new Uint8Array(65_536);
    while (!stopped) await conn.write(zeros);
  };
  for (let i = 0; i < 4; i++) {
    const to = { hostname: "10.9.0.3", port: 7 };
    const [accepted, conn] = await Promise.all([listener.accept(), i % 2 === 0 ? ours.connect(to) : Deno.connect(to)]);
    conns.push(accepted, conn);
    received.push(0);
    // Writes and reads that wait at the end are interrupted by it.
    work.push(read(accepted, i).catch(() => {}), write(conn).catch(() => {}));
  }
  await delay(3000);
  const before = [...received];
  let seconds = 0;
  let shares: number[] = [];
  do {
    await delay(1000);
    seconds++;
    shares = received.map((bytes, i) => bytes - before[i]);
  } while (seconds < least || (jain(shares) < 0.97 && seconds < most));
  stopped = true;
  for (const conn of conns) conn.close();
  await Promise.all(work);
  return { index: jain(shares), seconds, shares };
}
