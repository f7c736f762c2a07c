/**
 * The two programs of the VLAN forwarder as functions written by hand: the same as `programs/vlan_mux.ts` describes, without its
 * counters. An example of such functions, and what the described ones are compared with.
 *
 * @module
 */
import { type PortProgram, redirectMap, type RedirectTargets } from "./context.ts";
import { ETHERNET_SIZE, TPID_8021Q, VLAN_SIZE, vlanPop, vlanPush } from "./helpers.ts";
import { XDP_DROP } from "./ir.ts";
import { IFINDEX_MAX } from "./programs/vlan_mux.ts";

/**
 * How the router's tag names an interface: "mask" takes the 12 bits of its id, whatever the priority; "strict" takes all 16 bits,
 * as the original does, so that a frame with a priority or drop bit is dropped.
 */
export type VlanMode = "mask" | "strict";

/** The program of a physical interface. `routerIface` names the router's at 0. */
export function physicalFunction(routerIface: RedirectTargets): PortProgram {
  return function physical(_view, offset, end, ifindex, context) {
    if (ifindex < 1 || ifindex > IFINDEX_MAX || end - offset < ETHERNET_SIZE) return XDP_DROP;
    if (vlanPush(context, ifindex, TPID_8021Q) !== 0) return XDP_DROP;
    return redirectMap(context, routerIface, 0, XDP_DROP);
  };
}

/** The program of the router's interface. `ports` names the interfaces that it may reach, each at its number. */
export function routerFunction(ports: RedirectTargets, mode: VlanMode): PortProgram {
  const mask = mode === "mask" ? 0xfff : 0xffff;
  return function router(view, offset, end, _ifindex, context) {
    if (end - offset < ETHERNET_SIZE + VLAN_SIZE) return XDP_DROP;
    const ifindex = view.getUint16(offset + ETHERNET_SIZE) & mask;
    if (ifindex < 1 || ifindex > IFINDEX_MAX || vlanPop(context) < 0) return XDP_DROP;
    return redirectMap(context, ports, ifindex, XDP_DROP);
  };
}
