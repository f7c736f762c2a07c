/**
 * XDP programs, written once. {@link defineProgram} runs a function that says, through a {@link ProgramBuilder}, what happens
 * to a frame; the description becomes a TypeScript function ({@link XdpProgram.instantiate}) and bytecode that the kernel's
 * verifier takes (`bpf/compile.ts`).
 *
 * ```ts ignore
 * const PORTS = { name: "ports", kind: "devmap_hash", keySize: 4, valueSize: 4, maxEntries: 64 } as const;
 * export const swap = defineProgram("swap", [PORTS], (p) => {
 *   const ethernet = p.window(0, 14, () => p.drop());
 *   p.if(p.ne(ethernet.u16(12), 0x800), () => p.pass());
 *   p.redirectMap(PORTS, p.ifindex(), () => p.drop());
 * });
 * ```
 *
 * @module
 */
import { checkObject } from "../../stack/checks.ts";
import { ProgramBuilder } from "./builder.ts";
import { ends, type ProgramBody } from "./ir.ts";
import { checkMapSpec, type MapMemory, type MapSpec } from "./map_kinds.ts";
import { functionSource, instantiateSource } from "./program_function.ts";

export { ACTION_NAMES, FRAME_MIN, XDP_ABORTED, XDP_DROP, XDP_PASS, XDP_REDIRECT, XDP_TX } from "./ir.ts";
export type { MapKind, MapMemory, MapSpec } from "./map_kinds.ts";
export { ProgramBuilder } from "./builder.ts";
export { type Entry, type KeyPart, ProgramError, type Value, type Variable, type Window } from "./values.ts";

/**
 * What a program is told about a frame, and what it says beside its action. One object, used for frame after frame: before each
 * the runtime sets the first group and 0 for {@link tailCalls}; the program may change the second.
 */
export interface ProgramContext {
  /** The lowest offset that adjust_head may go to. */
  headStart: number;
  /** The highest end that adjust_tail may go to. */
  tailEnd: number;
  /** The receive queue that the frame came by. */
  queue: number;
  /** How many tail calls brought the frame here; the kernel allows 33. */
  tailCalls: number;

  /** Where the frame begins: set before as it is given to the function, and by adjust_head. */
  offset: number;
  /** Where the frame ends: set before as it is given to the function, and by adjust_tail. */
  end: number;
  /** With the action REDIRECT: the interface (0: {@link redirectMap} isn't a devmap). Unchanged with other actions. */
  redirectIfindex: number;
  /** With the action REDIRECT: the map that it goes by; null for a redirect by ifindex. */
  redirectMap: MapMemory | null;
  /** With the action REDIRECT and a map: the key there. */
  redirectKey: number;
}

/**
 * A program as a function over the frame in `view` from `offset` to `end`: the action. It reads and writes within these
 * bounds only (and down to `context.headStart`, up to `context.tailEnd`), makes no object, and doesn't throw.
 */
export type XdpFunction = (view: DataView, offset: number, end: number, ifindex: number, context: ProgramContext) => number;

/** A program, described. */
export class XdpProgram {
  /** For {@link defineProgram}. @param body the description */
  constructor(readonly name: string, readonly body: ProgramBody) {}

  /** The maps that it uses, in the order in which {@link instantiate} wants them. */
  get maps(): readonly MapSpec[] {
    return this.body.maps;
  }

  /** The function's source, for whoever wants to read it; a debugger shows it as `xdp/NAME.js`. */
  source(): string {
    return functionSource(this.body);
  }

  /**
   * The program as a function, bound to maps.
   *
   * @param maps one for each of {@link maps}, found by its name
   * @throws {TypeError} when a map is missing or has other sizes
   */
  instantiate(maps: readonly MapMemory[] = []): XdpFunction {
    const bound = this.maps.map((spec) => {
      const map = maps.find((map) => map.spec.name === spec.name);
      if (map === undefined) throw new TypeError(`Cannot make program "${this.name}": map "${spec.name}" is missing`);
      const { kind, keySize, valueSize, maxEntries } = map.spec;
      const same = kind === spec.kind && keySize === spec.keySize && valueSize === spec.valueSize &&
        maxEntries === spec.maxEntries;
      if (!same) throw new TypeError(`Cannot make program "${this.name}": map "${spec.name}" has another shape`);
      return map;
    });
    return instantiateSource(this.name, this.source(), bound);
  }
}

/**
 * Describes a program.
 *
 * @param name 1 to 15 letters, digits or underscores
 * @param maps what it may use; two of one name are refused
 * @param describe is called once, now
 * @throws {TypeError} for an impossible name or map
 * @throws {ProgramError} for a description that can't be a program: no action at an end, a window used where it isn't valid, …
 */
export function defineProgram(name: string, maps: readonly MapSpec[], describe: (p: ProgramBuilder) => void): XdpProgram {
  if (typeof name !== "string" || !/^[A-Za-z0-9_]{1,15}$/.test(name)) {
    throw new TypeError(`Invalid program name ${JSON.stringify(name)}`);
  }
  if (!Array.isArray(maps)) throw new TypeError(`maps must be an array: ${maps}`);
  if (typeof describe !== "function") throw new TypeError(`describe must be a function: ${describe}`);
  for (const map of maps) {
    checkObject(map, "a map");
    checkMapSpec(map);
  }
  if (new Set(maps.map((map) => map.name)).size !== maps.length) throw new TypeError("Two maps of one name");
  const builder = new ProgramBuilder(maps);
  const body = builder.describe(describe);
  if (!ends(body.block)) builder.fail(`program "${name}" has a way to its end without an action`);
  return new XdpProgram(name, body);
}
