/** The VLAN multiplexer's programs: rows D3.1 to D3.10 in TypeScript and in the kernel, by one table. */
import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { LoadedProgram } from "../../../drivers/xdp/bpf/load.ts";
import type { XdpProgram } from "../../../drivers/xdp/program.ts";
import {
  MUX_COUNTERS,
  PHYSICAL_COUNTERS,
  physicalProgram,
  PORTS,
  ROUTER_COUNTERS,
  ROUTER_IFACE,
  routerProgram,
} from "../../../drivers/xdp/programs/vlan_mux.ts";
import { BpfMap } from "../../../ffi/bpf.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { run } from "../../testing/namespace.ts";
import { BothRun, KERNEL_HEADROOM, le32, UserRun } from "./both.ts";
import { actionOf, D3_ROWS, HIGHEST, PHYSICAL, ROUTER, type Row, STRANGER, TOO_HIGH } from "./d3_rows.ts";

function programOf(row: Row): XdpProgram {
  return row.program === "physical" ? physicalProgram() : routerProgram({ mode: row.mode });
}

const FORWARDERS = [ROUTER, PHYSICAL, HIGHEST];

function countersOf(row: Row) {
  return row.program === "physical" ? PHYSICAL_COUNTERS : ROUTER_COUNTERS;
}

/** What every counter should be after one frame. */
function expectedCounts(row: Row): number[] {
  return MUX_COUNTERS.map((name) => Number(name === "received" || name === row.drop));
}

for (const row of D3_ROWS) {
  Deno.test(`${row.name} (${row.program}${row.mode === undefined ? "" : `, ${row.mode}`}), in TypeScript`, () => {
    const user = new UserRun(programOf(row));
    const { maps } = user;
    maps.get(ROUTER_IFACE.name)?.put(le32(0), le32(ROUTER));
    for (const port of FORWARDERS) maps.get(PORTS.name)?.put(le32(port), le32(port));
    const { action, frame, ifindex } = user.frame(row.frame, row.ifindex, row.headroom);
    assertEquals(action, actionOf(row));
    assertEquals(ifindex, row.to ?? 0);
    if (row.out !== undefined) assertEquals(frame, row.out);
    const counts = MUX_COUNTERS.map((_, i) => maps.get(countersOf(row).name)!.values.getUint32(i * 8, true));
    assertEquals(counts, expectedCounts(row));
    assert(user.bytes.subarray(0, 36).every((byte) => byte === 0xa5), "bytes before the headroom were written");
  });
}

/** Interfaces with the numbers of the table, in the namespace that the test runs in. */
async function interfaces(): Promise<AsyncDisposable> {
  const all = [ROUTER, PHYSICAL, HIGHEST, STRANGER, TOO_HIGH];
  for (const index of all) {
    const peer = ["peer", "name", `e${index}`, "index", String(10_000 + index)];
    const { code, stderr } = await run("ip", ["link", "add", `d${index}`, "index", String(index), "type", "veth", ...peer]);
    assertEquals(code, 0, stderr);
  }
  return {
    async [Symbol.asyncDispose]() {
      for (const index of all) await run("ip", ["link", "del", `d${index}`]);
    },
  };
}

/** The kernel has no frames under 14 bytes and no interface 0: what it says to them. */
function kernelRefuses(row: Row): boolean {
  return row.frame.length < 14 || row.ifindex === 0;
}

function runInKernel(row: Row): void {
  using both = new BothRun(programOf(row));
  if (row.program === "physical") both.loaded.map(ROUTER_IFACE.name).update(le32(0), le32(ROUTER));
  else for (const port of FORWARDERS) both.loaded.map(PORTS.name).update(le32(port), le32(port));
  // Headroom can be used up by metadata before the frame.
  const metadata = row.headroom === undefined ? 0 : KERNEL_HEADROOM - row.headroom;
  const input = new Uint8Array(metadata + row.frame.length);
  input.set(row.frame, metadata);
  const result = both.test.run(input, { ifindex: row.ifindex, metadata });
  if (row.frame.length < 14) return assertEquals(result, -22, row.name);
  assert(typeof result !== "number", `${row.name}: ${result}`);
  assertEquals(result.result, actionOf(row), row.name);
  // With metadata the kernel gives nothing back.
  if (row.out !== undefined && metadata === 0) assertEquals(Uint8Array.from(result.output), row.out, row.name);
  const counts = MUX_COUNTERS.map((_, i) => Number(both.loaded.map(countersOf(row).name).counter(le32(i))));
  assertEquals(counts, expectedCounts(row), row.name);
  if (row.to === undefined) return;
  // The run doesn't tell where to: without this entry there is no redirect.
  if (row.program === "physical") both.loaded.map(ROUTER_IFACE.name).delete(le32(0));
  else both.loaded.map(PORTS.name).delete(le32(row.to));
  const without = both.test.run(input, { ifindex: row.ifindex, metadata });
  assert(typeof without !== "number");
  assertEquals(without.result, 1, `${row.name}, without the entry`);
}

Deno.test({
  name: "D3.1 to D3.10 in the kernel, by BPF_PROG_TEST_RUN",
  ignore: lacksBpf(["ip"], "iproute2"),
  async fn(t) {
    await using _ = await interfaces();
    for (const row of D3_ROWS) {
      if (row.ifindex === 0) continue;
      await t.step(
        `${row.name}${row.mode === undefined ? "" : `, ${row.mode}`}${kernelRefuses(row) ? ": no such frame" : ""}`,
        () => runInKernel(row),
      );
    }
  },
});

Deno.test({
  name: 'D3.8, D3.9 reach "any" is the original: the whole kernel\'s interfaces, by their numbers',
  ignore: lacksBpf(),
  fn() {
    for (const mode of ["mask", "strict"] as const) {
      using both = new BothRun(routerProgram({ mode, reach: "any" }));
      for (const row of D3_ROWS.filter((row) => row.program === "router" && row.mode === mode && row.frame.length >= 14)) {
        const user = both.user.frame(row.frame, row.ifindex);
        const kernel = both.test.run(row.frame);
        assert(typeof kernel !== "number");
        const unknown = row.drop === "unknownPort";
        assertEquals([user.action, kernel.result], unknown ? [4, 4] : [actionOf(row), actionOf(row)], row.name);
        if (!unknown) assertEquals(user.ifindex, row.to ?? 0);
      }
    }
  },
});

Deno.test({
  name: "D3.11 router_iface is one map for both programs, and lives as long as the router",
  ignore: lacksBpf(["ip"], "iproute2"),
  async fn() {
    await using _ = await interfaces();
    const router = LoadedProgram.load(routerProgram());
    const shared = router.map(ROUTER_IFACE.name);
    const { id } = shared.info;
    const physical = LoadedProgram.load(physicalProgram(), [shared]);
    assertEquals(physical.map(ROUTER_IFACE.name).info.id, id);
    assertEquals(shared.update(le32(0), le32(ROUTER)), 0);
    assertEquals(shared.update(le32(0), le32(12345)), -22, "an interface that isn't there");
    assertEquals(shared.update(le32(1), le32(ROUTER)), -7, "it has one entry");
    physical.close();
    // Every descriptor of the map is closed; the router's program holds it.
    shared.close();
    using again = BpfMap.openId(id);
    assertEquals(again.lookup(le32(0)), le32(ROUTER));
    again.close();
    router.close();
    await gone(() => BpfMap.openId(id));
  },
});

/** Waits until the kernel has let go of something: it does so a little later. */
async function gone(open: () => Disposable): Promise<void> {
  let tries = 0;
  for (; tries < 100; tries++) {
    try {
      open()[Symbol.dispose]();
    } catch {
      break;
    }
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assertNotEquals(tries, 100, "it is still there after 2 s");
}
