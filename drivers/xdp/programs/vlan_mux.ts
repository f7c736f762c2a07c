/**
 * The VLAN multiplexer's two programs. On each physical interface `physical` puts a tag with the interface's number in front and
 * sends the frame to the router's interface; there `router` takes the tag off and sends the frame to the interface that it names.
 * So one virtual machine with one interface is the router of many: after Spectrum's xdp-forwarder.
 *
 * Two differences from it. The router's frames reach interfaces in {@link PORTS} only, not whatever has the number (`reach: "any"`
 * does as the original). And priority bits in a tag are masked (`mode: "strict"` drops, as the original: it takes the whole TCI
 * for the interface's number).
 *
 * @module
 */
import { checkObject, checkWord } from "../../../stack/checks.ts";
import type { MapSpec } from "../map_kinds.ts";
import { defineProgram, type ProgramBuilder, type XdpProgram } from "../program.ts";

/** The highest interface number that fits a tag. */
export const IFINDEX_MAX = 4095;
const ETHERNET_SIZE = 14;
const TAG_SIZE = 4;
const TAGGED_SIZE = ETHERNET_SIZE + TAG_SIZE;
const MACS_SIZE = 12;
const TYPE_VLAN = 0x8100;
const TYPE_SERVICE_VLAN = 0x88a8;

/** Index 0: the router's interface. Both programs hold it, so that it outlives the physical interfaces. */
export const ROUTER_IFACE: MapSpec = { name: "router_iface", kind: "devmap", keySize: 4, valueSize: 4, maxEntries: 1 };
/** By ifindex, the same ifindex: the interfaces that the router may send to, its own among them. */
export const PORTS: MapSpec = { name: "ports", kind: "devmap", keySize: 4, valueSize: 4, maxEntries: IFINDEX_MAX + 1 };

/** What the counters of both programs count, by index: all frames, and those dropped for a reason; the rest was sent on. */
export const MUX_COUNTERS = [
  "received",
  "tooShort",
  "badIfindex",
  "noHeadroom",
  "noRouter",
  "untagged",
  "noId",
  "priority",
  "unknownPort",
] as const;
/** A name of a counter. */
export type MuxCounter = typeof MUX_COUNTERS[number];

function counters(name: string): MapSpec {
  return { name, kind: "percpu_array", keySize: 4, valueSize: 8, maxEntries: MUX_COUNTERS.length };
}

/** Counters of the physical program: see {@link MUX_COUNTERS}. */
export const PHYSICAL_COUNTERS: MapSpec = counters("physical_count");
/** Counters of the router program: see {@link MUX_COUNTERS}. */
export const ROUTER_COUNTERS: MapSpec = counters("router_count");

function count(p: ProgramBuilder, map: MapSpec, name: MuxCounter): void {
  p.count(map, MUX_COUNTERS.indexOf(name));
}

function dropping(p: ProgramBuilder, map: MapSpec): (name: MuxCounter) => () => void {
  return (name) => () => {
    count(p, map, name);
    p.drop();
  };
}

/** What the physical interfaces run. */
export function physicalProgram(): XdpProgram {
  return defineProgram("physical", [ROUTER_IFACE, PHYSICAL_COUNTERS], (p) => {
    const drop = dropping(p, PHYSICAL_COUNTERS);
    count(p, PHYSICAL_COUNTERS, "received");
    const ifindex = p.ifindex();
    p.window(0, ETHERNET_SIZE, drop("tooShort"));
    p.if(p.gt(p.sub(ifindex, 1), IFINDEX_MAX - 1), drop("badIfindex"));
    p.adjustHead(-TAG_SIZE, drop("noHeadroom"));
    const frame = p.window(0, TAGGED_SIZE, drop("tooShort"));
    frame.move(0, TAG_SIZE, MACS_SIZE);
    frame.setU16(12, TYPE_VLAN);
    frame.setU16(14, ifindex);
    p.redirectMap(ROUTER_IFACE, 0, drop("noRouter"));
  });
}

/** How the router program treats tags. */
export interface RouterProgramOptions {
  /** "mask" (default): priority bits and DEI are ignored. "strict": a tag that has them is dropped, as by the original. */
  mode?: "mask" | "strict";
  /** "ports" (default): interfaces in {@link PORTS}. "any": every interface of the kernel, as the original; not counted when unknown. */
  reach?: "ports" | "any";
}

/** What the router's interface runs. Throws a TypeError for a wrong option. It holds {@link ROUTER_IFACE} without using it: the map lives as long as the router does. */
export function routerProgram(options: RouterProgramOptions = {}): XdpProgram {
  checkObject(options);
  const { mode = "mask", reach = "ports" } = options;
  checkWord("mode", mode, ["mask", "strict"]);
  checkWord("reach", reach, ["ports", "any"]);
  return defineProgram("router", [ROUTER_IFACE, ROUTER_COUNTERS, PORTS], (p) => {
    const drop = dropping(p, ROUTER_COUNTERS);
    count(p, ROUTER_COUNTERS, "received");
    const ethernet = p.window(0, ETHERNET_SIZE, drop("tooShort"));
    const type = ethernet.u16(12);
    p.if(p.all(p.ne(type, TYPE_VLAN), p.ne(type, TYPE_SERVICE_VLAN)), drop("untagged"));
    const frame = p.window(0, TAGGED_SIZE, drop("tooShort"));
    const tci = frame.u16(14);
    const id = p.and(tci, IFINDEX_MAX);
    if (mode === "strict") p.if(p.ne(id, tci), drop("priority"));
    p.if(p.eq(id, 0), drop("noId"));
    frame.move(TAG_SIZE, 0, MACS_SIZE);
    p.adjustHead(TAG_SIZE, drop("tooShort"));
    if (reach === "any") p.redirect(id);
    else p.redirectMap(PORTS, id, drop("unknownPort"));
  });
}
