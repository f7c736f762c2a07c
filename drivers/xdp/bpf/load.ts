/**
 * A program and its maps, loaded into the kernel.
 *
 * @module
 */
import { BpfMap } from "../../../ffi/bpf.ts";
import { BpfProgram } from "../../../ffi/bpf_program.ts";
import { MAP_TYPE, mapFlags, type MapSpec } from "../map_kinds.ts";
import type { XdpProgram } from "../program.ts";
import { compileProgram } from "./compile.ts";

/** Makes a map in the kernel. @throws as `BpfMap.create` */
export function createMap({ name, kind, keySize, valueSize, maxEntries }: MapSpec): BpfMap {
  return BpfMap.create({ name, type: MAP_TYPE[kind], keySize, valueSize, maxEntries, flags: mapFlags(kind) });
}

/** A program in the kernel with its maps. */
export class LoadedProgram implements Disposable {
  readonly #own: BpfMap[] = [];
  readonly #maps: ReadonlyMap<string, BpfMap>;
  /** The program. */
  readonly program: BpfProgram;

  private constructor(description: XdpProgram, shared: readonly BpfMap[]) {
    const maps = new Map<string, BpfMap>();
    let program: BpfProgram | null = null;
    try {
      for (const spec of description.maps) {
        const given = shared.find((map) => map.info.name === spec.name);
        const map = given ?? createMap(spec);
        if (given === undefined) this.#own.push(map);
        else checkShape(map, spec);
        maps.set(spec.name, map);
      }
      const instructions = compileProgram(description).instructions([...maps.values()].map((map) => map.fd));
      program = BpfProgram.load({ name: description.name, instructions });
      // Those too that it only declares: a map that programs share must outlive the first of them.
      for (const map of maps.values()) program.hold(map);
    } catch (error) {
      program?.close();
      for (const map of this.#own) map.close();
      throw error;
    }
    this.#maps = maps;
    this.program = program;
  }

  /**
   * Compiles and loads a program, and makes those of its maps that aren't given.
   *
   * @param shared maps that other programs use too, found by their names; they stay the caller's
   * @throws as `BpfProgram.load` and `BpfMap.create`; {@link TypeError} for a shared map of another shape
   */
  static load(description: XdpProgram, shared: readonly BpfMap[] = []): LoadedProgram {
    return new LoadedProgram(description, shared);
  }

  /** One of the program's maps. @throws {TypeError} for another name */
  map(name: string): BpfMap {
    const map = this.#maps.get(name);
    if (map === undefined) throw new TypeError(`The program has no map "${name}"`);
    return map;
  }

  /** Closes the program and the maps that were made for it: they live on while a link or a pin holds them. */
  close(): void {
    this.program.close();
    for (const map of this.#own) map.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}

function checkShape({ info }: BpfMap, spec: MapSpec): void {
  const same = info.type === MAP_TYPE[spec.kind] && info.keySize === spec.keySize && info.valueSize === spec.valueSize &&
    info.maxEntries === spec.maxEntries;
  if (!same) throw new TypeError(`Map "${spec.name}" has another shape than the program wants`);
}
