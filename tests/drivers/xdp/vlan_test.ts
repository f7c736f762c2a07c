/** D3.1 to D3.10: the functions written by hand, and the forwarder between devices. The described programs: vlan_mux_test.ts. */
import { assert, assertEquals } from "@std/assert";
import { cable, type CableEnd } from "../../../drivers/cable.ts";
import type { PortProgram } from "../../../drivers/xdp/context.ts";
import { XdpForwarder } from "../../../drivers/xdp/forwarder.ts";
import { createMap, type DevMap, InterfaceTable } from "../../../drivers/xdp/interface_maps.ts";
import { XDP_REDIRECT } from "../../../drivers/xdp/ir.ts";
import {
  PHYSICAL_COUNTERS,
  physicalProgram,
  PORTS,
  ROUTER_COUNTERS,
  ROUTER_IFACE,
  routerProgram,
} from "../../../drivers/xdp/programs/vlan_mux.ts";
import { physicalFunction, routerFunction, type VlanMode } from "../../../drivers/xdp/vlan_functions.ts";
import { TxFrame } from "../../../stack/device.ts";
import { randomSource } from "../../testing/frames.ts";
import { Keep } from "../frames.ts";
import { actionOf, D3_ROWS, HIGHEST, PHYSICAL, ROUTER, type Row } from "./d3_rows.ts";
import { muxFrame, pick } from "./random_frames.ts";
import { roomHeld, run } from "./run.ts";

/** The interfaces that the forwarder has. */
const INTERFACES = [PHYSICAL, HIGHEST, ROUTER];

function title({ name, program, mode }: Row): string {
  return `${name} (${program}${mode === undefined ? "" : `, ${mode}`})`;
}

/** Both programs, written by hand and described, over maps that hold the table's interfaces. */
function functions(mode: VlanMode): Record<"written" | "described", Record<Row["program"], PortProgram>> {
  const interfaces = new InterfaceTable();
  const routerIface = createMap(ROUTER_IFACE, interfaces) as DevMap;
  const ports = createMap(PORTS, interfaces) as DevMap;
  for (const ifindex of INTERFACES) {
    interfaces.add(ifindex);
    assertEquals(ports.set(ifindex, ifindex), 0);
  }
  assertEquals(routerIface.set(0, ROUTER), 0);
  const counters = [PHYSICAL_COUNTERS, ROUTER_COUNTERS].map((spec) => createMap(spec, interfaces));
  return {
    written: { physical: physicalFunction(routerIface), router: routerFunction(ports, mode) },
    described: {
      physical: physicalProgram().instantiate([routerIface, ...counters]),
      router: routerProgram({ mode }).instantiate([routerIface, ports, ...counters]),
    },
  };
}

for (const row of D3_ROWS) {
  Deno.test(`${title(row)}: functions over the forwarder's maps`, () => {
    for (const [kind, programs] of Object.entries(functions(row.mode ?? "mask"))) {
      const { action, context, bytes } = run(programs[row.program], row.frame, row.ifindex, row.headroom);
      assertEquals(action, actionOf(row), kind);
      assert(roomHeld(context));
      if (action !== XDP_REDIRECT) continue;
      assertEquals(context.redirectIfindex, row.to);
      assertEquals(bytes, row.out);
    }
  });
}

/** Sends through a cable's end. */
function transmit(end: CableEnd, frame: Uint8Array): void {
  const tx = new TxFrame();
  tx.reset(frame.length);
  tx.memory.bytes.set(frame, tx.offset);
  assertEquals(end.transmit(tx), 0);
}

for (const row of D3_ROWS.filter(({ headroom, ifindex }) => headroom === undefined && INTERFACES.includes(ifindex))) {
  Deno.test(`${title(row)}: through the forwarder`, () => {
    using forwarder = new XdpForwarder({ mode: row.mode });
    const far = new Map<number, CableEnd>();
    for (const ifindex of INTERFACES) {
      const [near, end] = cable();
      end.open(() => {});
      far.set(ifindex, end);
      forwarder.add(near, { ifindex, name: `if${ifindex}`, role: ifindex === ROUTER ? "router" : "physical" });
    }
    forwarder.setRouterInterface(`if${ROUTER}`);
    transmit(far.get(row.ifindex)!, row.frame);
    assertEquals(forwarder.engine.poll(), 1);
    for (const [ifindex, end] of far) {
      const keep = new Keep();
      end.receive(keep, 10);
      assertEquals(keep.frames.map(({ bytes }) => bytes), ifindex === row.to ? [row.out!] : [], `interface ${ifindex}`);
    }
    const { programs } = forwarder.statistics;
    assertEquals([programs[row.program].received, programs[row.program][row.drop ?? "REDIRECT"]], [1, 1]);
    assertEquals(forwarder.engine.port(row.ifindex)!.actions[actionOf(row)], 1);
    for (const end of far.values()) end.close();
  });
}

Deno.test("20,000 random and damaged frames: the functions written by hand do what the described ones do", () => {
  const random = randomSource(7);
  for (const mode of ["mask", "strict"] as const) {
    const { written, described } = functions(mode);
    for (let i = 0; i < 10_000; i++) {
      const frame = muxFrame(INTERFACES, random);
      const role = random() % 2 === 0 ? "physical" : "router";
      const ifindex = pick([...INTERFACES, 0, 4096, 12], random);
      const headroom = pick([0, 3, 4, 256], random);
      const [a, b] = [written, described].map((programs) => run(programs[role], frame, ifindex, headroom));
      assertEquals(a.action, b.action, `${mode}, ${role}: ${frame.toHex()}`);
      if (a.action !== XDP_REDIRECT) continue;
      assertEquals(a.context.redirectIfindex, b.context.redirectIfindex);
      assertEquals(a.bytes, b.bytes);
    }
  }
});
