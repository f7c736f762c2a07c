// D4.5 and D4.6: the loopback device, under a stack of ours, with raw frames, and on a TAP.
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { NetStack } from "../../../mod.ts";
import { LoopbackDevice, RESET_STATS } from "../../../drivers/loopback/loopback.ts";
import * as ifr from "../../../ffi/ifreq.ts";
import { libc } from "../../../ffi/libc.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { getLink } from "../../../ffi/rtnl_link.ts";
import { type FrameMemory, RX_CHECKSUM_PARTIAL, TxFrame } from "../../../stack/device.ts";
import { Failures, request, until } from "../netdev/classes.ts";
import { DeviceTable, LocalMemory, NetDevices } from "../netdev/face.ts";
import { findProgram, kernel, lacksKernel, ROOT, run } from "../../testing/namespace.ts";

// Opened once and kept: not what the leak checker is after.
if (kernel) libc();

async function loopback(name = "loop0") {
  const table = new DeviceTable(), failures = new Failures();
  const devices = new NetDevices({ backing: "process", table, onFailure: failures.take });
  const registration = devices.register(name, LoopbackDevice);
  const handle = await registration.ready;
  return { devices, table, handle, device: registration.instance as LoopbackDevice, failures };
}

function frameOf(length: number, fill: number): TxFrame {
  const tx = new TxFrame();
  tx.reset(length);
  tx.memory.bytes.fill(fill, tx.offset, tx.offset + length);
  return tx;
}

class Collector {
  frames: [number, number, number][] = [];
  frame(memory: FrameMemory, offset: number, length: number, flags: number): void {
    this.frames.push([length, memory.bytes[offset], flags]);
  }
}

Deno.test("D4.5 every frame comes back in order and is counted; NOARP, checksum feature, random local MAC", async () => {
  const { devices, table, handle, failures } = await loopback();
  const other = await devices.register("loop1", LoopbackDevice).ready;
  assertEquals([handle.mac[0] & 3, handle.mac.length], [2, 6]);
  assertNotEquals([...handle.mac], [...other.mac]);
  assertEquals(handle.flags & ifr.IFF_NOARP, ifr.IFF_NOARP);
  assertEquals((await request(table, "loop0", ifr.SIOCGIFFLAGS)).ifreq.flags & ifr.IFF_NOARP, ifr.IFF_NOARP);
  assertEquals([handle.features & 8, handle.capabilities.txChecksum], [8, true]);
  let wakes = 0;
  handle.open(() => wakes++);
  handle.arm();
  for (let i = 0; i < 100; i++) {
    const tx = frameOf(60 + i, i);
    if (i % 2 === 1) tx.checksumStart = 34;
    assertEquals(handle.transmit(tx), 0);
  }
  const sink = new Collector();
  assertEquals(handle.receive(sink, 10), 0, "never from inside the sender's call");
  await Promise.resolve();
  assertEquals(wakes, 1);
  assertEquals([handle.receive(sink, 30), handle.receive(sink, 100)], [30, 70]);
  assertEquals(sink.frames, Array.from({ length: 100 }, (_, i) => [60 + i, i, i % 2 === 1 ? RX_CHECKSUM_PARTIAL : 0]));
  const bytes = 100 * 60 + 4950;
  const { rxPackets, rxBytes, txPackets, txBytes } = handle.statistics64();
  assertEquals([rxPackets, rxBytes, txPackets, txBytes], [100, bytes, 100, bytes]);
  assertEquals(failures.length, 0);
  await devices.close();
});

Deno.test("D4.5 open initialises the queue, stop flushes it", async () => {
  const { devices, handle, device } = await loopback();
  handle.open(() => {});
  for (let i = 0; i < 5; i++) handle.transmit(frameOf(60, i));
  assertEquals(device.waiting, 5);
  const down = handle.setUp(false);
  assertEquals(device.waiting, 0);
  await down;
  const sink = new Collector();
  assertEquals([handle.receive(sink, 10), handle.transmit(frameOf(60, 0))], [-100, -100]);
  assertEquals(await handle.setUp(true), 0);
  assertEquals(handle.receive(sink, 10), 0);
  handle.transmit(frameOf(61, 9));
  await Promise.resolve();
  assertEquals([handle.receive(sink, 10), sink.frames], [1, [[61, 9, 0]]]);
  const { txPackets, rxPackets, txDropped } = handle.statistics64();
  assertEquals([txPackets, rxPackets, txDropped], [6, 1, 5], "five flushed; the one refused while it was down is the system's");
  await devices.close();
});

Deno.test("D4.5 the queue is bounded: what doesn't fit is dropped and counted", async () => {
  const { devices, handle } = await loopback();
  handle.open(() => {});
  for (let i = 0; i < 3000; i++) handle.transmit(frameOf(60, i & 255));
  await Promise.resolve();
  const { txPackets, rxPackets, txDropped } = handle.statistics64();
  assertEquals([txPackets, rxPackets, txDropped], [1024, 1024, 1976]);
  await devices.close();
});

Deno.test("D4.6 RESET_STATS zeroes all counters at once; any other command EOPNOTSUPP", async () => {
  const { devices, table, handle } = await loopback();
  handle.open(() => {});
  for (let i = 0; i < 3; i++) handle.transmit(frameOf(60, i));
  await Promise.resolve();
  assertEquals(handle.statistics64().txPackets, 3);
  for (let n = 1; n < 16; n++) assertEquals((await request(table, "loop0", RESET_STATS + n)).code, -95);
  assertEquals(handle.statistics64().txPackets, 3);
  assertEquals((await request(table, "loop0", RESET_STATS, () => {}, new LocalMemory(new Uint8Array(8)))).code, 0);
  const after = handle.statistics64();
  assertEquals(Object.values(after).every((value) => value === 0), true, JSON.stringify(after));
  await devices.close();
});

Deno.test("D4.5 under a stack: what it sends to a neighbour comes back to it", async () => {
  const { devices, handle } = await loopback();
  {
    using stack = new NetStack(handle, { address: "10.1.1.1/24" });
    await stack.ping("10.1.1.2", { timeoutMs: 30 }).catch(() => {});
    const { rxPackets, txPackets } = handle.statistics64();
    assert(txPackets > 0 && rxPackets === txPackets);
  }
  await devices.close();
});

Deno.test({
  name: "D4.5 on a TAP: the kernel sees NOARP and the MAC, and its own frames back",
  ignore: !kernel,
  fn: async () => {
    const devices = new NetDevices({ table: new DeviceTable() });
    const registration = devices.register("loop45", LoopbackDevice);
    const handle = await registration.ready;
    const link = getLink("loop45");
    assertEquals([link.flags & ifr.IFF_NOARP, link.up], [ifr.IFF_NOARP, true]);
    assertEquals(
      link.mac,
      [...(registration.instance as LoopbackDevice).mac].map((b) => b.toString(16).padStart(2, "0")).join(":"),
    );
    await run("ip", ["addr", "add", "10.70.0.1/24", "dev", "loop45"]);
    await run("ping", ["-c", "2", "-i", "0.05", "-W", "1", "10.70.0.2"]);
    await until("frames came back", () => getLink("loop45").rxPackets > 0);
    const { rxPackets, txPackets } = handle.statistics64();
    assert(rxPackets > 0 && rxPackets === txPackets, `${rxPackets} ${txPackets}`);
    await devices.close();
    await wakersIdle();
  },
});

Deno.test({
  name: "D4.6 the sample program in C sends RESET_STATS: by itself, a TAP refuses it as it must",
  ignore: lacksKernel(["gcc"], "gcc libc6-dev"),
  fn: async () => {
    const path = await Deno.makeTempFile();
    const built = await run(findProgram("gcc")!, ["-Wall", "-Werror", "-o", path, `${ROOT}examples/reset_stats.c`]);
    assertEquals(built.code, 0, built.stderr);
    const devices = new NetDevices({ table: new DeviceTable() });
    await devices.register("loop46", LoopbackDevice).ready;
    const refused = await run(path, ["loop46"]);
    assertStringIncludes(refused.stderr, "not supported");
    const nobody = await run(path, ["nobody46"]);
    assertStringIncludes(nobody.stderr, "No such device");
    assertEquals([refused.code, nobody.code], [1, 1]);
    await devices.close();
    await wakersIdle();
    await Deno.remove(path);
  },
});

Deno.test("D4.6 the sample program in Deno sends RESET_STATS to a device of its own", async () => {
  const { code, stdout, stderr } = await run(Deno.execPath(), ["run", "-A", "examples/reset_stats.ts"], {
    env: { NO_COLOR: "1" },
  });
  assertEquals(code, 0, stderr);
  assertStringIncludes(stdout, "after RESET_STATS: tx 0 packets, rx 0 packets");
});
