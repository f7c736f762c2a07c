/**
 * The two programs of the VLAN forwarder, as functions written by hand: frames of physical interfaces get a tag that names
 * their interface and go to the router; frames of the router say by their tag where they go.
 *
 * @module
 */
import { type PortProgram, redirect, redirectMap, type RedirectTargets } from "./context.ts";
import { ETHERNET_SIZE, TPID_8021Q, VLAN_SIZE, vlanPop, vlanPush } from "./helpers.ts";
import { XDP_DROP } from "./ir.ts";

/** The largest id that a tag can hold, and so the largest number of an interface. */
export const VLAN_ID_MAX = 4095;

/**
 * How the router's tag names an interface: "mask" takes the 12 bits of its id, whatever the priority; "strict" takes all 16 bits,
 * as the original does, so that a frame with a priority or drop bit is dropped.
 */
export type VlanMode = "mask" | "strict";

/** The program of a physical interface. `routerIface` names the router's at 0. */
export function physicalFunction(routerIface: RedirectTargets): PortProgram {
  return function physical(_view, offset, end, ifindex, context) {
    if (ifindex < 1 || ifindex > VLAN_ID_MAX || end - offset < ETHERNET_SIZE) return XDP_DROP;
    if (vlanPush(context, ifindex, TPID_8021Q) !== 0) return XDP_DROP;
    return redirectMap(context, routerIface, 0, XDP_DROP);
  };
}

/** The program of the router's interface. */
export function routerFunction(mode: VlanMode): PortProgram {
  const mask = mode === "mask" ? 0xfff : 0xffff;
  return function router(view, offset, end, _ifindex, context) {
    if (end - offset < ETHERNET_SIZE + VLAN_SIZE) return XDP_DROP;
    const ifindex = view.getUint16(offset + ETHERNET_SIZE) & mask;
    if (ifindex < 1 || ifindex > VLAN_ID_MAX || vlanPop(context) < 0) return XDP_DROP;
    return redirect(context, ifindex);
  };
}
