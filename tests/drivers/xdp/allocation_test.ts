/** What a frame through the forwarder leaves in the heap: nothing. */
import { assert, assertEquals } from "@std/assert";
import type { PortProgram } from "../../../drivers/xdp/context.ts";
import { type ForwarderMaps, type InterfaceRole, XdpForwarder } from "../../../drivers/xdp/forwarder.ts";
import { physicalFunction, routerFunction } from "../../../drivers/xdp/vlan_functions.ts";
import { FrameMemory } from "../../../stack/device.ts";
import { HeapGrowth } from "../../testing/heap_growth.ts";
import { Endless } from "./endless.ts";
import { tagged } from "./run.ts";

const STEP = 5000;
const STEPS = 60;
const WARM_UP = 20;

/** Bytes per frame. */
function measure(programs?: (maps: ForwarderMaps) => Record<InterfaceRole, PortProgram>): number {
  const memory = new FrameMemory(1024);
  const frame = tagged([]);
  memory.bytes.set(frame, 256);
  using forwarder = new XdpForwarder({ programs });
  const source = new Endless("in", memory, 256, frame.length);
  const target = new Endless("out", memory, 256, frame.length);
  forwarder.add(source, { ifindex: 7 });
  forwarder.add(target, { ifindex: 9, role: "router" });
  forwarder.setRouterInterface("out");
  const heap = new HeapGrowth();
  for (let step = 0; step < STEPS; step++) {
    if (step === WARM_UP) heap.begin();
    source.left = STEP;
    source.wake();
    while (source.left > 0) forwarder.engine.poll();
    if (step >= WARM_UP) heap.look(STEP);
  }
  assertEquals(target.sent, STEP * STEPS);
  return heap.perCount;
}

Deno.test("a frame through the forwarder makes no object, with programs described and written by hand", () => {
  const byHand = ({ routerIface, ports }: ForwarderMaps) => ({
    physical: physicalFunction(routerIface),
    router: routerFunction(ports, "mask"),
  });
  for (const programs of [undefined, byHand]) {
    // An object of the smallest kind has 12 bytes. Twice: V8 may still be compiling in the first run.
    const bytes = Math.min(measure(programs), measure(programs));
    assert(bytes < 4, `${bytes} bytes a frame`);
  }
});
