/**
 * `vlan_mux.c` by clang, loaded into the kernel: the little of ELF that this needs.
 *
 * @module
 */
import { createMap } from "../../drivers/xdp/bpf/load.ts";
import type { XdpProgram } from "../../drivers/xdp/program.ts";
import { BpfMap } from "../../ffi/bpf.ts";
import { BpfProgram } from "../../ffi/bpf_program.ts";
import { findProgram } from "../testing/namespace.ts";

const SHT_SYMTAB = 2;
const SHT_REL = 9;
const SECTION_SIZE = 64;
const SYMBOL_SIZE = 24;
const RELOCATION_SIZE = 16;
const PSEUDO_MAP_FD = 1;

interface Section {
  name: number;
  type: number;
  bytes: Uint8Array<ArrayBuffer>;
  /** Of relocations: the table of symbols; of that: the table of strings. */
  link: number;
  /** Of relocations: the section that they change. */
  info: number;
}

/** A section of instructions, and the names of the maps whose descriptors go into them. */
interface ObjectProgram {
  instructions: Uint8Array<ArrayBuffer>;
  maps: { at: number; name: string }[];
}

function viewOf(bytes: Uint8Array<ArrayBuffer>): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.length);
}

function text(table: Uint8Array, at: number): string {
  return new TextDecoder().decode(table.subarray(at, table.indexOf(0, at)));
}

function sectionsOf(file: Uint8Array<ArrayBuffer>): Section[] {
  const view = viewOf(file);
  const first = Number(view.getBigUint64(40, true));
  return Array.from({ length: view.getUint16(60, true) }, (_, i) => {
    const at = first + i * SECTION_SIZE;
    const [offset, size] = [24, 32].map((field) => Number(view.getBigUint64(at + field, true)));
    const [name, type, link, info] = [0, 4, 40, 44].map((field) => view.getUint32(at + field, true));
    return { name, type, link, info, bytes: type === 8 ? new Uint8Array(0) : file.subarray(offset, offset + size) };
  });
}

/** The program in the section of that name. */
export function readObject(file: Uint8Array<ArrayBuffer>, name: string): ObjectProgram {
  const sections = sectionsOf(file);
  const names = sections[viewOf(file).getUint16(62, true)].bytes;
  const index = sections.findIndex((section) => text(names, section.name) === name);
  if (index < 0) throw new Error(`no section "${name}"`);
  const maps: ObjectProgram["maps"] = [];
  for (const { type, bytes, link, info } of sections) {
    if (type !== SHT_REL || info !== index || sections[link].type !== SHT_SYMTAB) continue;
    const [view, symbols] = [viewOf(bytes), viewOf(sections[link].bytes)];
    const strings = sections[sections[link].link].bytes;
    for (let i = 0; i < bytes.length; i += RELOCATION_SIZE) {
      const symbol = view.getUint32(i + 12, true) * SYMBOL_SIZE;
      maps.push({ at: Number(view.getBigUint64(i, true)), name: text(strings, symbols.getUint32(symbol, true)) });
    }
  }
  return { instructions: sections[index].bytes.slice(), maps };
}

/** Compiles `vlan_mux.c`: the object file, or why there is none. */
export function compileC(): Uint8Array<ArrayBuffer> | string {
  const clang = findProgram("clang");
  if (clang === null) return "clang isn't there: apt-get install clang libbpf-dev";
  const source = new URL("vlan_mux.c", import.meta.url).pathname;
  const include = `-I/usr/include/${Deno.build.arch}-linux-gnu`;
  const args = ["-O2", "-target", "bpf", include, "-c", source, "-o", "-"];
  const { success, stdout, stderr } = new Deno.Command(clang, { args }).outputSync();
  return success ? stdout : `clang: ${new TextDecoder().decode(stderr).split("\n")[0]}`;
}

/** A program of the object file in the kernel, with the maps that the described one of its name has. */
export function loadC(file: Uint8Array<ArrayBuffer>, like: XdpProgram): { program: BpfProgram; maps: Map<string, BpfMap> } {
  const { instructions, maps: wanted } = readObject(file, `xdp/${like.name}`);
  const maps = new Map(like.maps.map((spec) => [spec.name, createMap(spec)]));
  const view = viewOf(instructions);
  for (const { at, name } of wanted) {
    const map = maps.get(name);
    if (map === undefined) throw new Error(`${like.name} wants a map "${name}"`);
    view.setUint8(at + 1, view.getUint8(at + 1) & 0xf | PSEUDO_MAP_FD << 4);
    view.setInt32(at + 4, map.fd, true);
  }
  return { program: BpfProgram.load({ name: like.name, instructions }), maps };
}
