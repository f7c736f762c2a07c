/**
 * Maps that name interfaces and programs (DEVMAP, DEVMAP_HASH, PROGMAP), and the table of interfaces that there are.
 *
 * An entry goes away together with its interface, as in the kernel: a map never leads to an interface of the same number that
 * came later.
 *
 * @module
 */
import { E2BIG, EBADF, EEXIST, EINVAL, ENOENT } from "../../ffi/errno.ts";
import type { PortProgram, RedirectTargets } from "./context.ts";
import { LpmMap } from "./lpm_map.ts";
import { type MapSpec, UPDATE_ANY, UPDATE_EXISTING_ONLY, UPDATE_NEW_ONLY } from "./map_kinds.ts";
import type { XdpFunction } from "./program.ts";
import { ArrayMap, HashMap, LruMap, type XdpMap } from "./maps.ts";

/** Knows which interfaces there are, and which maps speak of them. */
export class InterfaceTable {
  readonly #known = new Set<number>();
  // Maps come and go with programs; the table must not be what keeps them.
  readonly #maps = new Set<WeakRef<InterfaceMap>>();

  /** True if there is an interface of that number. */
  has(ifindex: number): boolean {
    return this.#known.has(ifindex);
  }

  /** An interface has come. */
  add(ifindex: number): void {
    this.#known.add(ifindex);
  }

  /** An interface has gone: every map forgets it. */
  remove(ifindex: number): void {
    this.#known.delete(ifindex);
    for (const reference of this.#maps) {
      const map = reference.deref();
      if (map === undefined) this.#maps.delete(reference);
      else map.forget(ifindex);
    }
  }

  /** Called by maps. */
  watch(map: InterfaceMap): void {
    this.#maps.add(new WeakRef(map));
  }
}

/** A map whose entries are interfaces. */
export interface InterfaceMap extends RedirectTargets {
  /** Forgets an interface that is gone. */
  forget(ifindex: number): void;
}

/** `devmap`: interfaces by a small number. 0 is an empty place. */
export class DevMap extends ArrayMap implements InterfaceMap {
  readonly #interfaces: InterfaceTable;

  /** See {@link XdpMap}. */
  constructor(spec: MapSpec, interfaces: InterfaceTable) {
    super(spec);
    this.#interfaces = interfaces;
    interfaces.watch(this);
  }

  /** The interface at `key`, or 0. */
  ifindexAt(key: number): number {
    return key >= 0 && key < this.spec.maxEntries ? this.values.getUint32(4 * key, true) : 0;
  }

  /** -1 also for an empty place. */
  override lookup(): number {
    const at = super.lookup();
    return at >= 0 && this.values.getUint32(at, true) === 0 ? -1 : at;
  }

  /** As an array; -22 (EINVAL) for an interface that doesn't exist. */
  override update(flags: number): number {
    const ifindex = this.value.getUint32(0, true);
    if (this.place() >= 0 && flags !== UPDATE_NEW_ONLY && ifindex !== 0 && !this.#interfaces.has(ifindex)) return -EINVAL;
    return super.update(flags);
  }

  /** Empties a place: 0, or -22 (EINVAL) beyond the end. */
  override delete(): number {
    const at = this.place();
    if (at < 0) return -EINVAL;
    this.values.setUint32(at, 0, true);
    return 0;
  }

  /** An interface has gone. */
  forget(ifindex: number): void {
    for (let at = 0; at < this.values.byteLength; at += 4) {
      if (this.values.getUint32(at, true) === ifindex) this.values.setUint32(at, 0, true);
    }
  }
}

/** `devmap_hash`: interfaces by any number of 32 bits. */
export class DevMapHash extends HashMap implements InterfaceMap {
  readonly #interfaces: InterfaceTable;

  /** See {@link XdpMap}. */
  constructor(spec: MapSpec, interfaces: InterfaceTable) {
    super(spec);
    this.#interfaces = interfaces;
    interfaces.watch(this);
  }

  /** The interface at `key`, or 0. */
  ifindexAt(key: number): number {
    const at = this.find(key);
    return at < 0 ? 0 : this.values.getUint32(at, true);
  }

  /** As a hash, but "replace only" makes as well; -22 (EINVAL) for 0 or an interface that doesn't exist. */
  override update(flags: number): number {
    const ifindex = this.value.getUint32(0, true);
    if (flags > UPDATE_EXISTING_ONLY || ifindex === 0) return -EINVAL;
    if (flags === UPDATE_NEW_ONLY && this.lookup() >= 0) return -EEXIST;
    return this.#interfaces.has(ifindex) ? super.update(UPDATE_ANY) : -EINVAL;
  }

  /** An interface has gone. */
  forget(ifindex: number): void {
    this.sweep((at) => this.values.getUint32(at, true) === ifindex);
  }
}

/** `prog_array`: programs to go on with, by a small number. A value is 0 for none, or not 0. */
export class ProgMap extends ArrayMap {
  /** The programs, null where there is none. */
  readonly programs: (XdpFunction | null)[];

  /** See {@link XdpMap}. */
  constructor(spec: MapSpec) {
    super(spec);
    this.programs = new Array(spec.maxEntries).fill(null);
  }

  /** Puts a program at `key`: 0, -7 (E2BIG) beyond the end, -9 (EBADF) for what is no function, -22 (EINVAL) for a flag. */
  setProgram(key: number, program: PortProgram, flags: number = UPDATE_ANY): number {
    if (flags !== UPDATE_ANY) return -EINVAL;
    if (!(key >= 0 && key < this.programs.length)) return -E2BIG;
    if (typeof program !== "function") return -EBADF;
    // Whoever calls it hands over an XdpContext: `runProgram` is the only beginning there is.
    this.programs[key] = program as XdpFunction;
    this.values.setUint8(key * this.spec.valueSize, 1);
    return 0;
  }

  /** -9 (EBADF): a number is no program; see {@link setProgram}. */
  override update(): number {
    return this.lookup() < 0 ? -E2BIG : -EBADF;
  }

  /** Empties a place: 0, -7 (E2BIG) beyond the end, or -2 (ENOENT) if it is empty. */
  override delete(): number {
    const key = this.key.getUint32(0, true);
    if (key >= this.programs.length) return -E2BIG;
    if (this.programs[key] === null) return -ENOENT;
    this.programs[key] = null;
    this.values.setUint8(key * this.spec.valueSize, 0);
    return 0;
  }
}

/**
 * Makes a map of any kind in user space. `xskmap` has no meaning here: sockets are the kernel's.
 *
 * @param interfaces the table of those that a devmap may name
 * @throws {TypeError} for a map that the kernel would refuse, or an xskmap
 */
export function createMap(spec: MapSpec, interfaces: InterfaceTable): XdpMap {
  switch (spec.kind) {
    case "array":
    case "percpu_array":
      return new ArrayMap(spec);
    case "hash":
    case "percpu_hash":
      return new HashMap(spec);
    case "lru_hash":
      return new LruMap(spec);
    case "lpm_trie":
      return new LpmMap(spec);
    case "devmap":
      return new DevMap(spec, interfaces);
    case "devmap_hash":
      return new DevMapHash(spec, interfaces);
    case "prog_array":
      return new ProgMap(spec);
    case "xskmap":
      throw new TypeError(`map "${spec.name}" holds sockets of the kernel: it can't be had in user space`);
    default:
      throw new TypeError(`Invalid map ${JSON.stringify(spec.name)}: there is no kind ${JSON.stringify(spec.kind)}`);
  }
}
