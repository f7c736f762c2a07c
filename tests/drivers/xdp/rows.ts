/**
 * The rows D3.1 to D3.10 as one table: what goes into a program, which action it returns, what the frame is then and where it
 * goes. For the functions, for the forwarder, and for the kernel's run of the bytecode. Interfaces PHYSICAL, OTHER
 * and ROUTER exist and are in the map of ports; ROUTER is in router_iface.
 */
import { XDP_DROP, XDP_REDIRECT } from "../../../drivers/xdp/ir.ts";
import type { VlanMode } from "../../../drivers/xdp/vlan_functions.ts";

/** Numbers of the interfaces in the table: two physical ones and the router's. */
export const PHYSICAL = 7;
export const OTHER = 9;
export const ROUTER = 5;
/** No interface has this number. */
export const NOBODY = 99;

export interface Row {
  /** "D3.1" */
  row: string;
  what: string;
  program: "physical" | "router";
  /** Default: both. */
  mode?: VlanMode;
  /** Default: PHYSICAL for the physical program, ROUTER for the router's. */
  ifindex?: number;
  /** Default 256. */
  headroom?: number;
  input: Uint8Array<ArrayBuffer>;
  action: number;
  /** With REDIRECT: where to. */
  target?: number;
  /** With REDIRECT: the frame. */
  output?: Uint8Array<ArrayBuffer>;
  /** Why the kernel can't be asked: its frames have 14 bytes and 256 of headroom at least. */
  userOnly?: true;
}

const DESTINATION = [2, 0, 0, 0, 0, 0xbb];
const SOURCE = [2, 0, 0, 0, 0, 0xaa];
const PAYLOAD = Array.from({ length: 46 }, (_, i) => 0x10 + i);

/** A frame with tags (type and TCI), the outer one first. */
export function tagged(tags: [number, number][], type: number[] = [0x08, 0x00], payload: number[] = PAYLOAD) {
  const words = tags.flatMap(([tpid, tci]) => [tpid >> 8, tpid & 255, tci >> 8, tci & 255]);
  return Uint8Array.from([...DESTINATION, ...SOURCE, ...words, ...type, ...payload]);
}

const Q = 0x8100, AD = 0x88a8;
const plain = tagged([]);

function physical(row: string, what: string, input: Uint8Array<ArrayBuffer>, output: Uint8Array<ArrayBuffer>): Row {
  return { row, what, program: "physical", input, action: XDP_REDIRECT, target: ROUTER, output };
}

function router(row: string, what: string, input: Uint8Array<ArrayBuffer>, target: number, output: Uint8Array<ArrayBuffer>): Row {
  return { row, what, program: "router", input, action: XDP_REDIRECT, target, output };
}

function drop(row: string, what: string, program: Row["program"], input: Uint8Array<ArrayBuffer>, rest: Partial<Row> = {}): Row {
  return { row, what, program, input, action: XDP_DROP, ...rest };
}

export const ROWS: Row[] = [
  physical("D3.1", "an untagged frame", plain, tagged([[Q, PHYSICAL]])),
  physical("D3.1", "the shortest frame", tagged([], [0x08, 0x06], []), tagged([[Q, PHYSICAL]], [0x08, 0x06], [])),
  {
    ...physical("D3.1", "the largest number of an interface", plain, tagged([[Q, 4095]])),
    ifindex: 4095,
  },
  physical("D3.2", "a frame with a tag", tagged([[Q, 100]]), tagged([[Q, PHYSICAL], [Q, 100]])),
  physical("D3.2", "a frame with two tags", tagged([[AD, 20], [Q, 100]]), tagged([[Q, PHYSICAL], [AD, 20], [Q, 100]])),
  drop("D3.3", "interface 4096", "physical", plain, { ifindex: 4096 }),
  drop("D3.3", "interface 4096 + 7", "physical", plain, { ifindex: 4103 }),
  drop("D3.3", "interface 0", "physical", plain, { ifindex: 0, userOnly: true }),
  drop("D3.4", "13 bytes", "physical", plain.slice(0, 13), { userOnly: true }),
  drop("D3.4", "no byte", "physical", new Uint8Array(0), { userOnly: true }),
  drop("D3.4", "no headroom", "physical", plain, { headroom: 0, userOnly: true }),
  drop("D3.4", "headroom of 3 bytes", "physical", plain, { headroom: 3, userOnly: true }),
  { ...physical("D3.4", "headroom of 4 bytes is enough", plain, tagged([[Q, PHYSICAL]])), headroom: 4, userOnly: true },
  router("D3.5", "a tag of 802.1Q", tagged([[Q, PHYSICAL]]), PHYSICAL, plain),
  router("D3.5", "a tag of 802.1ad", tagged([[AD, OTHER]]), OTHER, plain),
  router("D3.6", "two tags: the outer one only", tagged([[AD, PHYSICAL], [Q, OTHER]]), PHYSICAL, tagged([[Q, OTHER]])),
  router("D3.6", "three tags", tagged([[Q, OTHER], [AD, 20], [Q, 100]]), OTHER, tagged([[AD, 20], [Q, 100]])),
  router("D3.7", "a tag and nothing else", tagged([[Q, PHYSICAL]], [0x08, 0x06], []), PHYSICAL, tagged([], [0x08, 0x06], [])),
  drop("D3.8", "a tag cut off after its id", "router", tagged([[Q, PHYSICAL]], [], [])),
  drop("D3.8", "17 bytes", "router", tagged([[Q, PHYSICAL]], [0x08], [])),
  drop("D3.8", "14 bytes, of which the type says a tag", "router", tagged([], [0x81, 0x00], [])),
  drop("D3.8", "no tag", "router", plain),
  drop("D3.8", "another type of tag (0x9100)", "router", tagged([[0x9100, PHYSICAL]])),
  drop("D3.8", "id 0", "router", tagged([[Q, 0]])),
  drop("D3.8", "an interface that doesn't exist", "router", tagged([[Q, NOBODY]])),
  drop("D3.9", "a priority", "router", tagged([[Q, 0xa000 | PHYSICAL]]), { mode: "strict" }),
  drop("D3.9", "the drop bit", "router", tagged([[Q, 0x1000 | PHYSICAL]]), { mode: "strict" }),
  { ...router("D3.9", "a priority", tagged([[Q, 0xa000 | PHYSICAL]]), PHYSICAL, plain), mode: "mask" },
  { ...router("D3.9", "the drop bit", tagged([[AD, 0x1000 | OTHER]]), OTHER, plain), mode: "mask" },
  drop("D3.9", "a priority and id 0", "router", tagged([[Q, 0xe000]]), { mode: "mask" }),
  router("D3.10", "its own interface", tagged([[Q, ROUTER]]), ROUTER, plain),
];
