/**
 * Rows D3.1 to D3.10 of SEEDS.md as one table, for every place where the two programs can run.
 *
 * @module
 */
import { XDP_DROP, XDP_REDIRECT } from "../../../drivers/xdp/program.ts";
import type { MuxCounter } from "../../../drivers/xdp/programs/vlan_mux.ts";
import { type Bytes, bytesOf, u16 } from "../../testing/frames.ts";

/** The router's interface and two physical ones; other numbers are of no interface, or of none that is known to the forwarder. */
export const ROUTER = 7;
export const PHYSICAL = 21;
export const HIGHEST = 4095;
export const TOO_HIGH = 4096;
/** There is such an interface, but it isn't the forwarder's. */
export const STRANGER = 33;

export interface Row {
  /** "D3.1 untagged": for the name of a test. */
  name: string;
  program: "physical" | "router";
  /** Of the router program; both if absent. */
  mode?: "mask" | "strict";
  ifindex: number;
  frame: Bytes;
  headroom?: number;
  /** What comes out: the action is REDIRECT to `to` with `out`, or DROP counted as `drop`. */
  to?: number;
  out?: Bytes;
  drop?: MuxCounter;
}

const MACS = Uint8Array.of(2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1);
const PAYLOAD = Uint8Array.from({ length: 46 }, (_, i) => i + 1);

/** A frame: the addresses, tags as [type, TCI] from the outside, and IPv4. */
function frame(tags: [number, number][], payload: Uint8Array = PAYLOAD): Bytes {
  return bytesOf(MACS, ...tags.map(([type, tci]) => [...u16(type), ...u16(tci)]), u16(0x800), payload);
}

const PLAIN = frame([]);
const push = (ifindex: number, tags: [number, number][] = []) => frame([[0x8100, ifindex], ...tags]);
const NOTHING = new Uint8Array(0);

const PHYSICAL_ROWS: Omit<Row, "program">[] = [
  { name: "D3.1 untagged", ifindex: PHYSICAL, frame: PLAIN, to: ROUTER, out: push(PHYSICAL) },
  { name: "D3.1 untagged, the highest ifindex", ifindex: HIGHEST, frame: PLAIN, to: ROUTER, out: push(HIGHEST) },
  {
    name: "D3.1 the shortest frame",
    ifindex: PHYSICAL,
    frame: frame([], NOTHING),
    to: ROUTER,
    out: frame([[0x8100, PHYSICAL]], NOTHING),
  },
  {
    name: "D3.2 already tagged",
    ifindex: PHYSICAL,
    frame: frame([[0x8100, 0x6005]]),
    to: ROUTER,
    out: push(PHYSICAL, [[0x8100, 0x6005]]),
  },
  {
    name: "D3.2 already tagged twice, with service tag",
    ifindex: PHYSICAL,
    frame: frame([[0x88a8, 1], [0x8100, 2]]),
    to: ROUTER,
    out: push(PHYSICAL, [[0x88a8, 1], [0x8100, 2]]),
  },
  { name: "D3.3 ifindex 0", ifindex: 0, frame: PLAIN, drop: "badIfindex" },
  { name: "D3.3 ifindex 4096", ifindex: TOO_HIGH, frame: PLAIN, drop: "badIfindex" },
  { name: "D3.4 13 bytes", ifindex: PHYSICAL, frame: PLAIN.slice(0, 13), drop: "tooShort" },
  { name: "D3.4 nothing", ifindex: PHYSICAL, frame: NOTHING, drop: "tooShort" },
  { name: "D3.4 no headroom", ifindex: PHYSICAL, frame: PLAIN, headroom: 0, drop: "noHeadroom" },
  { name: "D3.4 just enough headroom", ifindex: PHYSICAL, frame: PLAIN, headroom: 4, to: ROUTER, out: push(PHYSICAL) },
];

const ROUTER_ROWS: Omit<Row, "program">[] = [
  { name: "D3.5 tag 0x8100", ifindex: ROUTER, frame: push(PHYSICAL), to: PHYSICAL, out: PLAIN },
  { name: "D3.5 tag 0x88a8", ifindex: ROUTER, frame: frame([[0x88a8, HIGHEST]]), to: HIGHEST, out: PLAIN },
  {
    name: "D3.6 QinQ",
    ifindex: ROUTER,
    frame: push(PHYSICAL, [[0x8100, 0x6005]]),
    to: PHYSICAL,
    out: frame([[0x8100, 0x6005]]),
  },
  {
    name: "D3.6 QinQ with a service tag outside",
    ifindex: ROUTER,
    frame: frame([[0x88a8, PHYSICAL], [0x8100, 9]]),
    to: PHYSICAL,
    out: frame([[0x8100, 9]]),
  },
  {
    name: "D3.7 tag and nothing else",
    ifindex: ROUTER,
    frame: frame([[0x8100, PHYSICAL]], NOTHING),
    to: PHYSICAL,
    out: frame([], NOTHING),
  },
  { name: "D3.8 truncated tag: 16 bytes", ifindex: ROUTER, frame: push(PHYSICAL).slice(0, 16), drop: "tooShort" },
  { name: "D3.8 truncated tag: 17 bytes", ifindex: ROUTER, frame: push(PHYSICAL).slice(0, 17), drop: "tooShort" },
  { name: "D3.8 truncated tag: 14 bytes", ifindex: ROUTER, frame: push(PHYSICAL).slice(0, 14), drop: "tooShort" },
  { name: "D3.8 13 bytes", ifindex: ROUTER, frame: push(PHYSICAL).slice(0, 13), drop: "tooShort" },
  { name: "D3.8 untagged", ifindex: ROUTER, frame: PLAIN, drop: "untagged" },
  { name: "D3.8 another tag's type", ifindex: ROUTER, frame: frame([[0x9100, PHYSICAL]]), drop: "untagged" },
  { name: "D3.8 id 0", ifindex: ROUTER, frame: push(0), drop: "noId" },
  { name: "D3.8 ifindex of nothing", ifindex: ROUTER, frame: push(99), drop: "unknownPort" },
  { name: "D3.8 ifindex that isn't the forwarder's", ifindex: ROUTER, frame: push(STRANGER), drop: "unknownPort" },
  { name: "D3.9 priority, masking", mode: "mask", ifindex: ROUTER, frame: push(0xe000 | PHYSICAL), to: PHYSICAL, out: PLAIN },
  { name: "D3.9 DEI, masking", mode: "mask", ifindex: ROUTER, frame: push(0x1000 | PHYSICAL), to: PHYSICAL, out: PLAIN },
  { name: "D3.9 priority with id 0, masking", mode: "mask", ifindex: ROUTER, frame: push(0xe000), drop: "noId" },
  { name: "D3.9 priority, strict", mode: "strict", ifindex: ROUTER, frame: push(0xe000 | PHYSICAL), drop: "priority" },
  { name: "D3.9 DEI, strict", mode: "strict", ifindex: ROUTER, frame: push(0x1000 | PHYSICAL), drop: "priority" },
  { name: "D3.9 priority with id 0, strict", mode: "strict", ifindex: ROUTER, frame: push(0xe000), drop: "priority" },
  { name: "D3.10 id is its own ifindex", ifindex: ROUTER, frame: push(ROUTER), to: ROUTER, out: PLAIN },
];

/** All rows. */
export const D3_ROWS: Row[] = [
  ...PHYSICAL_ROWS.map((row) => ({ ...row, program: "physical" as const })),
  ...ROUTER_ROWS.flatMap((row) =>
    (row.mode === undefined ? ["mask", "strict"] as const : [row.mode]).map((mode) => ({
      ...row,
      mode,
      program: "router" as const,
    }))
  ),
];

/** The action that a row expects. */
export function actionOf(row: Row): number {
  return row.drop === undefined ? XDP_REDIRECT : XDP_DROP;
}
