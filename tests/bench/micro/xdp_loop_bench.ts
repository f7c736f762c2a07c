// One frame through the forwarder's programs, as functions described and written by hand, and through the whole loop.
import { runProgram, XdpContext } from "../../../drivers/xdp/context.ts";
import { XdpForwarder } from "../../../drivers/xdp/forwarder.ts";
import { createMap, type DevMap, InterfaceTable } from "../../../drivers/xdp/interface_maps.ts";
import * as mux from "../../../drivers/xdp/programs/vlan_mux.ts";
import { physicalFunction, routerFunction } from "../../../drivers/xdp/vlan_functions.ts";
import { FrameMemory } from "../../../stack/device.ts";
import { Endless } from "../../drivers/xdp/endless.ts";
import { tagged } from "../../drivers/xdp/run.ts";

const FRAMES = 1000;
const interfaces = new InterfaceTable();
for (const ifindex of [7, 9]) interfaces.add(ifindex);
const routerIface = createMap(mux.ROUTER_IFACE, interfaces) as DevMap;
const ports = createMap(mux.PORTS, interfaces) as DevMap;
routerIface.set(0, 9);
ports.set(7, 7);
const counters = [mux.PHYSICAL_COUNTERS, mux.ROUTER_COUNTERS].map((spec) => createMap(spec, interfaces));
const programs = {
  described: [
    mux.physicalProgram().instantiate([routerIface, ...counters]),
    mux.routerProgram().instantiate([routerIface, ports, ...counters]),
  ],
  "written by hand": [physicalFunction(routerIface), routerFunction(ports, "mask")],
};

const memory = new FrameMemory(1024);
const context = new XdpContext();
context.ifindex = 7;
const plain = tagged([]);

for (const [kind, [physical, router]] of Object.entries(programs)) {
  Deno.bench(`${FRAMES} frames get a tag and lose it again: programs ${kind}`, () => {
    for (let i = 0; i < FRAMES; i++) {
      context.reset(memory, 256, 256 + plain.length, 0, 1024);
      runProgram(physical, context, reportError);
      runProgram(router, context, reportError);
    }
  });
}

memory.bytes.set(plain, 256);
const forwarder = new XdpForwarder();
const source = new Endless("in", memory, 256, plain.length);
forwarder.add(source, { ifindex: 7 });
forwarder.add(new Endless("out", memory, 256, plain.length), { ifindex: 9, role: "router" });
forwarder.setRouterInterface("out");
Deno.bench(`${FRAMES} frames through the forwarder, between devices that do nothing`, () => {
  source.left = FRAMES;
  source.wake();
  while (source.left > 0) forwarder.engine.poll();
});
