/** The same from both: a program's function and the kernel's run of its bytecode, over random and damaged frames. */
import { assert, assertEquals } from "@std/assert";
import { MAP_TYPE } from "../../../drivers/xdp/map_kinds.ts";
import type { XdpProgram } from "../../../drivers/xdp/program.ts";
import {
  DESTINATIONS_4,
  DESTINATIONS_6,
  FILTER_COUNT,
  FILTER_COUNTERS,
  filterProgram,
  PORT_RULES,
  RULE_SIZE,
  SOURCES_4,
  SOURCES_6,
} from "../../../drivers/xdp/programs/filter.ts";
import { physicalProgram, PORTS, ROUTER_IFACE, routerProgram } from "../../../drivers/xdp/programs/vlan_mux.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { type Bytes, bytesOf, randomSource, u16 } from "../../testing/frames.ts";
import { long, run } from "../../testing/namespace.ts";
import { BothRun, le32, sameBytes } from "./both.ts";
import { filterFrame, muxFrame } from "./random_frames.ts";

/** It takes about a second. */
const FRAMES = long ? 1_000_000 : 100_000;
const IFINDEX = 21;

/** Runs frames through both, and counts the actions. Frames under 14 bytes, which the kernel doesn't have, only through one. */
function compare(both: BothRun, ifindex: number, make: () => Bytes, frames = FRAMES): number[] {
  const actions = [0, 0, 0, 0, 0];
  let compared = 0;
  while (compared < frames) {
    const frame = make();
    const counts = both.program.maps.filter((map) => map.kind === "percpu_array");
    const short = frame.length < 14;
    // The kernel will not see it: its counters must not either.
    const before = short ? counts.map((map) => new Uint8Array(both.user.maps.get(map.name)!.values.buffer).slice()) : [];
    const user = both.user.frame(frame, ifindex);
    if (short) {
      assertEquals(user.action, 1);
      for (const [i, map] of counts.entries()) new Uint8Array(both.user.maps.get(map.name)!.values.buffer).set(before[i]);
      continue;
    }
    const kernel = both.test.run(frame, { ifindex });
    const where = () => `frame ${compared}: ${frame.toHex()}`;
    if (typeof kernel === "number") throw new Error(`the kernel's answer is ${kernel}; ${where()}`);
    if (kernel.result !== user.action) assertEquals(user.action, kernel.result, where());
    if (!sameBytes(kernel.output, user.frame)) assertEquals(user.frame, Uint8Array.from(kernel.output), where());
    actions[user.action]++;
    compared++;
  }
  compareMaps(both);
  return actions;
}

/** Every value of every map must be the same after all frames. */
function compareMaps(both: BothRun): void {
  for (const spec of both.program.maps) {
    if (spec.kind === "devmap") continue;
    const map = both.loaded.map(spec.name);
    assertEquals(map.info.type, MAP_TYPE[spec.kind]);
    for (const key of map.keys()) {
      assertEquals(both.user.maps.get(spec.name)!.get(key), both.kernelValue(spec, key), `${spec.name} ${key.toHex()}`);
    }
  }
}

async function veth(): Promise<AsyncDisposable> {
  const { code, stderr } = await run("ip", ["link", "add", "d0", "index", String(IFINDEX), "type", "veth", "peer", "name", "d1"]);
  assertEquals(code, 0, stderr);
  return { [Symbol.asyncDispose]: async () => void await run("ip", ["link", "del", "d0"]) };
}

function testMux(name: string, program: XdpProgram, seed: number, fill: (both: BothRun) => void, allRedirected: boolean): void {
  Deno.test({
    name: `${name}: ${FRAMES} random and damaged frames, the same bytes and action from both`,
    ignore: lacksBpf(["ip"], "iproute2"),
    async fn() {
      await using _ = await veth();
      using both = new BothRun(program);
      fill(both);
      const random = randomSource(seed);
      const actions = compare(both, IFINDEX, () => muxFrame([1, IFINDEX, 1, IFINDEX, 0, 99], random));
      assertEquals(actions[1] + actions[4], FRAMES);
      // Not all of one kind: the comparison would say little.
      assert(actions[4] > FRAMES / 5, `${actions}`);
      assertEquals(actions[1] === 0, allRedirected, `${actions}`);
    },
  });
}

const ports = (both: BothRun) => {
  for (const port of [1, IFINDEX]) both.put(PORTS, le32(port), le32(port));
};

testMux("physical", physicalProgram(), 1, (both) => both.put(ROUTER_IFACE, le32(0), le32(1)), true);
testMux("router, masking", routerProgram(), 2, ports, false);
testMux("router, strict", routerProgram({ mode: "strict" }), 3, ports, false);

function rule(verdict: number): Bytes {
  const value = new Uint8Array(RULE_SIZE);
  value[0] = verdict;
  return value;
}

const [DROP, PASS] = [1, 2];

/** Rules in all five maps, of both verdicts, prefixes inside prefixes. */
function fillFilter(both: BothRun): void {
  const four = (bits: number, ...address: number[]) => bytesOf(le32(bits), address);
  both.put(SOURCES_4, four(24, 10, 0, 0, 0), rule(PASS));
  both.put(SOURCES_4, four(29, 10, 0, 0, 8), rule(DROP));
  both.put(SOURCES_4, four(32, 10, 0, 0, 9), rule(PASS));
  both.put(DESTINATIONS_4, four(22, 10, 0, 0, 0), rule(DROP));
  both.put(DESTINATIONS_4, four(31, 10, 0, 1, 2), rule(PASS));
  const six = (bits: number, ...end: number[]) => bytesOf(le32(bits), 0xfd, new Uint8Array(15 - end.length), end);
  both.put(SOURCES_6, six(120, 0), rule(DROP));
  both.put(SOURCES_6, six(126, 4), rule(PASS));
  both.put(SOURCES_6, six(128, 5), rule(DROP));
  both.put(DESTINATIONS_6, six(112, 0, 0), rule(PASS));
  both.put(DESTINATIONS_6, six(127, 1, 2), rule(DROP));
  const port = (protocol: number, port: number) => bytesOf(protocol, 0, u16(port));
  both.put(PORT_RULES, port(6, 3), rule(DROP));
  both.put(PORT_RULES, port(17, 5), rule(PASS));
  both.put(PORT_RULES, port(17, 6), rule(DROP));
  both.put(PORT_RULES, port(2, 0), rule(DROP));
}

for (const [otherwise, seed] of [["pass", 4], ["drop", 5]] as const) {
  Deno.test({
    name: `filter, otherwise ${otherwise}: ${FRAMES} random and damaged frames, the same bytes and action from both`,
    ignore: lacksBpf(),
    fn() {
      using both = new BothRun(filterProgram({ otherwise }));
      fillFilter(both);
      const random = randomSource(seed);
      const actions = compare(both, 0, () => filterFrame(random));
      assertEquals(actions[DROP] + actions[PASS], FRAMES);
      assert(Math.min(actions[DROP], actions[PASS]) > FRAMES / 5, `${actions}`);
      // Every counter and every rule has been reached.
      for (const [i, name] of FILTER_COUNTERS.entries()) {
        assert(both.loaded.map(FILTER_COUNT.name).counter(le32(i)) > 0n, name);
      }
      for (const spec of both.program.maps.filter((map) => map.valueSize === RULE_SIZE)) {
        const map = both.loaded.map(spec.name);
        for (const key of map.keys()) assert(map.counter(key, 8) > 0n, `${spec.name} ${key.toHex()}`);
      }
    },
  });
}
