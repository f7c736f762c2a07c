/**
 * What the VLAN forwarder tells about itself: in one shape, wherever it runs.
 *
 * @module
 */
import type { InterfaceRole, XdpForwarder } from "./forwarder.ts";
import { ACTION_NAMES } from "./ir.ts";
import { MUX_COUNTERS, type MuxCounter } from "./programs/vlan_mux.ts";

/** A name of an action of XDP. */
export type ActionName = "ABORTED" | "DROP" | "PASS" | "TX" | "REDIRECT";
/** Frames by action. */
export type ActionCounts = Record<ActionName, number>;

/** One interface of a forwarder. */
export interface InterfaceReport {
  /** Its number: its VLAN id on the router's side. 0 once it is gone. */
  ifindex: number;
  /** What it is for. */
  role: InterfaceRole;
  /** How its frames are had: "native" or "generic" in the kernel, "device" in user space. */
  by: "native" | "generic" | "device";
  /** What its program said of the frames that came in by it. */
  actions: ActionCounts;
  /** Frames that were to leave by it and didn't: longer than its MTU, or it took no more. null: the kernel doesn't tell. */
  notSent: number | null;
}

/** A forwarder's counters. */
export interface ForwarderReport {
  /** Where it runs. */
  place: "kernel" | "user";
  /** Name of the interface in `router_iface`; null while there is none. */
  router: string | null;
  /** By name, in the order of their numbers. */
  interfaces: Record<string, InterfaceReport>;
  /** By role: all frames, and those dropped for a reason. */
  programs: Record<InterfaceRole, Record<MuxCounter, number>>;
}

/** All counters of a program at zero. */
export function noMuxCounts(): Record<MuxCounter, number> {
  return Object.fromEntries(MUX_COUNTERS.map((name) => [name, 0])) as Record<MuxCounter, number>;
}

/** All actions at zero. */
export function noActions(): ActionCounts {
  return Object.fromEntries(ACTION_NAMES.map((name) => [name, 0])) as ActionCounts;
}

/** The counters of a forwarder in user space: a copy. */
export function reportForwarder(forwarder: XdpForwarder): ForwarderReport {
  const { engine, routerIface, statistics } = forwarder;
  const programs = { physical: noMuxCounts(), router: noMuxCounts() };
  for (const role of ["physical", "router"] as const) {
    for (const name of MUX_COUNTERS) programs[role][name] = statistics.programs[role]?.[name] ?? 0;
  }
  const interfaces: Record<string, InterfaceReport> = {};
  for (const { name, ifindex, actions, notSent } of engine.ports.toSorted((a, b) => a.ifindex - b.ifindex)) {
    const counts = noActions();
    for (const [i, action] of ACTION_NAMES.entries()) counts[action] = actions[i];
    interfaces[name] = { ifindex, role: forwarder.role(name) ?? "physical", by: "device", actions: counts, notSent };
  }
  return { place: "user", router: engine.port(routerIface?.ifindexAt(0) ?? 0)?.name ?? null, interfaces, programs };
}
