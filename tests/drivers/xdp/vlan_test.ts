/** D3.1 to D3.10: the two programs of the forwarder, as functions and between devices. */
import { assert, assertEquals } from "@std/assert";
import { cable, type CableEnd } from "../../../drivers/cable.ts";
import { XdpForwarder } from "../../../drivers/xdp/forwarder.ts";
import { createMap, type DevMap, InterfaceTable } from "../../../drivers/xdp/interface_maps.ts";
import { XDP_REDIRECT } from "../../../drivers/xdp/ir.ts";
import type { PortProgram } from "../../../drivers/xdp/context.ts";
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
import { Keep } from "../frames.ts";
import { OTHER, PHYSICAL, ROUTER, type Row, ROWS } from "./rows.ts";
import { roomHeld, run } from "./run.ts";

const MODES: VlanMode[] = ["mask", "strict"];

function title({ row, program, what, mode }: Row): string {
  return `${row} ${program}, ${what}${mode === undefined ? "" : `, ${mode} mode`}`;
}

/** Both programs, written by hand and described, over maps that hold the table's interfaces. */
function functions(mode: VlanMode): Record<string, Record<Row["program"], PortProgram>> {
  const interfaces = new InterfaceTable();
  const routerIface = createMap(ROUTER_IFACE, interfaces) as DevMap;
  const ports = createMap(PORTS, interfaces) as DevMap;
  for (const ifindex of [PHYSICAL, OTHER, ROUTER]) {
    interfaces.add(ifindex);
    assertEquals(ports.set(ifindex, ifindex), 0);
  }
  assertEquals(routerIface.set(0, ROUTER), 0);
  const counters = [PHYSICAL_COUNTERS, ROUTER_COUNTERS].map((spec) => createMap(spec, interfaces));
  return {
    "by hand": { physical: physicalFunction(routerIface), router: routerFunction(ports, mode) },
    described: {
      physical: physicalProgram().instantiate([routerIface, ...counters]),
      router: routerProgram({ mode }).instantiate([routerIface, ports, ...counters]),
    },
  };
}

for (const row of ROWS) {
  Deno.test(`${title(row)}: the function`, () => {
    for (const mode of row.mode === undefined ? MODES : [row.mode]) {
      for (const [kind, programs] of Object.entries(functions(mode))) {
        const ifindex = row.ifindex ?? (row.program === "physical" ? PHYSICAL : ROUTER);
        const { action, context, bytes } = run(programs[row.program], row.input, ifindex, row.headroom);
        assertEquals(action, row.action, `${mode}, ${kind}`);
        assert(roomHeld(context));
        if (action !== XDP_REDIRECT) continue;
        assertEquals(context.redirectIfindex, row.target);
        assertEquals(bytes, row.output);
      }
    }
  });
}

/** Sends through a cable's end. */
export function transmit(end: CableEnd, frame: Uint8Array): void {
  const tx = new TxFrame();
  tx.reset(frame.length);
  tx.memory.bytes.set(frame, tx.offset);
  assertEquals(end.transmit(tx), 0);
}

for (const row of ROWS.filter(({ headroom, ifindex }) => headroom === undefined && ifindex === undefined)) {
  Deno.test(`${title(row)}: through the forwarder`, () => {
    using forwarder = new XdpForwarder({ mode: row.mode ?? "mask" });
    const far = new Map<number, CableEnd>();
    for (const ifindex of [PHYSICAL, OTHER, ROUTER]) {
      const [near, end] = cable();
      end.open(() => {});
      far.set(ifindex, end);
      forwarder.add(near, { ifindex, name: `if${ifindex}`, role: ifindex === ROUTER ? "router" : "physical" });
    }
    forwarder.setRouterInterface(`if${ROUTER}`);
    const ingress = row.program === "physical" ? PHYSICAL : ROUTER;
    transmit(far.get(ingress)!, row.input);
    assertEquals(forwarder.engine.poll(), 1);
    for (const [ifindex, end] of far) {
      const keep = new Keep();
      end.receive(keep, 10);
      const expected = row.output !== undefined && ifindex === row.target ? [row.output] : [];
      assertEquals(keep.frames.map(({ bytes }) => bytes), expected, `interface ${ifindex}`);
    }
    const port = forwarder.engine.port(ingress)!;
    assertEquals(port.actions[row.action], 1);
    assertEquals(port.counters.redirectErrors, 0);
    for (const end of far.values()) end.close();
  });
}
