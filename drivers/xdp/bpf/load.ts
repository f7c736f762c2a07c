/**
 * A program and its maps, loaded into the kernel.
 *
 * @module
 */
import { BpfMap } from "../../../ffi/bpf.ts";
import { type AttachMode, BpfLink, BpfProgram, TestRun, type TestRunResult } from "../../../ffi/bpf_program.ts";
import { errnoError } from "../../../ffi/errno.ts";
import { linkIndex } from "../../../ffi/rtnl_link.ts";
import { MAP_TYPE, mapFlags, type MapSpec } from "../map_kinds.ts";
import type { XdpProgram } from "../program.ts";
import { compileProgram } from "./compile.ts";

/** Makes a map in the kernel. @throws as `BpfMap.create` */
export function createMap({ name, kind, keySize, valueSize, maxEntries }: MapSpec): BpfMap {
  return BpfMap.create({ name, type: MAP_TYPE[kind], keySize, valueSize, maxEntries, flags: mapFlags(kind) });
}

/**
 * A program in the kernel with its maps.
 *
 * ```ts ignore
 * using loaded = LoadedProgram.load(filterProgram());
 * loaded.map("filter_src4").update(filterPrefix("198.51.100.0/24"), filterRule("drop"));
 * console.log(loaded.run(frame).result === XDP_DROP); // over bytes, with no interface
 * using link = loaded.attach("eth1"); // until the end of the block
 * ```
 */
export class LoadedProgram implements Disposable {
  readonly #own: BpfMap[] = [];
  #run: TestRun | null = null;
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

  /**
   * Attaches the program to an interface of this thread's network namespace.
   *
   * @param mode "native": in its driver; "generic": after the kernel has made its own buffer; "auto" (default): native if it can
   * @returns the link, which says what `mode` it became: the program comes off when it is closed, or with the process, unless the link
   *   was pinned
   * @throws `NotFound` (ENODEV), `Busy` (EBUSY: another program is attached), `PermissionDenied` (EPERM), `NotSupported` (EOPNOTSUPP)
   */
  attach(name: string, mode: AttachMode | "auto" = "auto"): BpfLink {
    return BpfLink.attachXdp(this.program, linkIndex(name), mode);
  }

  /**
   * Runs the program in the kernel over the bytes of a frame, with no interface (BPF_PROG_TEST_RUN).
   *
   * @param frame 14 to 3400 bytes
   * @param options.ifindex the interface by which the frame is said to have come: one that exists. Default the loop-back one
   * @param options.repeat how often, to measure
   * @throws {RangeError} for too many bytes; `InvalidData` (EINVAL) for too few; `NotFound` (ENODEV)
   */
  run(frame: Uint8Array, options: { ifindex?: number; repeat?: number } = {}): TestRunResult {
    const { ifindex, repeat } = options;
    const result = (this.#run ??= new TestRun(this.program)).run(frame, { ifindex, repeat });
    if (typeof result === "number") throw errnoError("run", `BPF program "${this.program.info.name}" over bytes`, result);
    return result;
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
