/**
 * The VLAN forwarder in the kernel: the programs of `programs/vlan_mux.ts`, attached to interfaces. Everything that it needs is
 * pinned in one folder of bpffs, so that it outlives the process that made it, and can be found again:
 * `kernel_pins.ts` says what.
 *
 * @module
 */
import { BPFFS_PATH, BpfMap } from "../../ffi/bpf.ts";
import type { AttachMode } from "../../ffi/bpf_program.ts";
import { EEXIST, ENODEV, ENOENT, errnoError } from "../../ffi/errno.ts";
import { getLink, type Link } from "../../ffi/rtnl_link.ts";
import {
  addInterface,
  checkBpffs,
  exists,
  interfaceFolders,
  isDead,
  isOurs,
  key,
  type Manner,
  MODES,
  pinnedLinks,
  pinnedMode,
  pinnedNumber,
  readIfindex,
  readManner,
  rememberManner,
  removeAll,
  removeInterface,
  tidy,
} from "./kernel_pins.ts";
import { MUX_COUNTERS, PHYSICAL_COUNTERS, ROUTER_COUNTERS, ROUTER_IFACE } from "./programs/vlan_mux.ts";
import { type ForwarderReport, type InterfaceReport, noActions, noMuxCounts } from "./report.ts";
import type { VlanMode } from "./vlan_functions.ts";

export type { AttachMode } from "../../ffi/bpf_program.ts";

/** Where a forwarder is pinned unless told otherwise. */
export const KERNEL_FORWARDER_FOLDER: string = `${BPFFS_PATH}/xdp_forwarder`;
/** The type of a link with Ethernet addresses. */
const ARPHRD_ETHER = 1;

/** Options of {@link KernelForwarder.up}. */
export interface KernelForwarderOptions {
  /** A folder in a mounted bpffs, which isn't there yet. Default {@link KERNEL_FORWARDER_FOLDER}. */
  folder?: string;
  /** What of the router's tags counts. Default "mask". */
  mode?: VlanMode;
  /**
   * Where the kernel runs the programs: "native" in the drivers, "generic" after the kernel has made its own buffer. Default "auto":
   * native on all interfaces if each can and none is a veth (one whose peer has neither a program nor GRO loses what is
   * redirected to it natively), else generic on all.
   */
  attach?: AttachMode | "auto";
  /** Make physical interfaces promiscuous too, as real cards need it when the router's address isn't theirs. Default false. */
  promiscuous?: boolean;
}

/** Interfaces of this namespace, looked over before anything is changed. */
function findLinks(interfaces: readonly string[]): Link[] {
  if (new Set(interfaces).size !== interfaces.length) throw new TypeError("An interface is named twice");
  const links = interfaces.map((name) => getLink(name));
  const odd = links.find(({ mac, type }) => mac === "" || type !== ARPHRD_ETHER);
  if (odd !== undefined) throw new TypeError(`Interface "${odd.name}" has no Ethernet address`);
  return links;
}

/** True if an interface that refuses native mode may have the other one: what else is wrong would be wrong there too. */
function lacksNative(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EOPNOTSUPP" || code === "EINVAL";
}

function checkOurs(folder: string): void {
  if (isOurs(folder)) return;
  throw new TypeError(`The forwarder in ${folder} belongs to another network namespace: go there first (nsenter, ip netns exec)`);
}

function build(folder: string, links: readonly Link[], manner: Manner): void {
  // What a namespace that has ended left behind.
  if (exists(folder) && !isOurs(folder) && interfaceFolders(folder).length > 0 && isDead(folder)) removeAll(folder);
  if (exists(folder)) {
    throw errnoError("make a forwarder in", folder, EEXIST, "One is there already: take it down first, or choose another folder");
  }
  Deno.mkdirSync(folder, { mode: 0o700 });
  try {
    rememberManner(folder, manner);
    for (const link of links) addInterface(folder, link, manner);
  } catch (error) {
    try {
      removeAll(folder);
    } catch { /* what was wrong first matters; `down` can be tried again */ }
    throw error;
  }
}

/** The forwarder in the kernel; it is there until {@link KernelForwarder.down}, whatever happens to this object. */
export class KernelForwarder {
  /** Where it is pinned. */
  readonly folder: string;

  private constructor(folder: string) {
    this.folder = folder;
  }

  /** Whether there is something in `folder`; false also when this user may not look there. */
  static exists(folder: string = KERNEL_FORWARDER_FOLDER): boolean {
    try {
      return exists(folder);
    } catch (error) {
      if (error instanceof Deno.errors.PermissionDenied) return false;
      throw error;
    }
  }

  /**
   * Loads the programs, attaches them to interfaces of this network namespace, and pins everything. When that fails nothing is
   * left behind. A forwarder whose interfaces ended with their namespace is replaced.
   *
   * @throws {TypeError} for impossible options, or an interface without an Ethernet address
   * @throws `BpfError` (ENOBPFFS: no bpffs is mounted there), `AlreadyExists` (EEXIST: a forwarder is there)
   * @throws `NotFound` (ENODEV), `Busy` (EBUSY: another program is attached), `PermissionDenied` (EPERM), `NotSupported`
   */
  static up(interfaces: readonly string[], options: KernelForwarderOptions = {}): KernelForwarder {
    const { folder = KERNEL_FORWARDER_FOLDER, attach = "auto", mode = "mask" } = options;
    if (mode !== "mask" && mode !== "strict") throw new TypeError(`mode must be "mask" or "strict": ${mode}`);
    if (attach !== "auto" && !MODES.includes(attach)) throw new TypeError(`attach must be native, generic or auto: ${attach}`);
    checkBpffs(folder);
    const links = findLinks(interfaces);
    const manner = (attach: AttachMode) => ({ attach, strict: mode === "strict", promiscuous: options.promiscuous === true });
    if (attach !== "auto") build(folder, links, manner(attach));
    else if (links.some(({ kind }) => kind === "veth")) build(folder, links, manner("generic"));
    else {
      try {
        build(folder, links, manner("native"));
      } catch (error) {
        if (!lacksNative(error)) throw error;
        build(folder, links, manner("generic"));
      }
    }
    return new KernelForwarder(folder);
  }

  /**
   * Finds a forwarder again.
   *
   * @throws `BpfError` (ENOBPFFS), `NotFound` (ENOENT: nothing is pinned there)
   * @throws {TypeError} when it belongs to another network namespace; not if its interfaces are gone with that one
   */
  static open(folder: string = KERNEL_FORWARDER_FOLDER): KernelForwarder {
    checkBpffs(folder);
    if (!exists(folder)) {
      throw errnoError("open", `map "${ROUTER_IFACE.name}" in ${folder}`, ENOENT, "No forwarder is there: bring one up first");
    }
    if (!isDead(folder)) checkOurs(folder);
    return new KernelForwarder(folder);
  }

  /**
   * Adds interfaces while the others go on: attached in the mode that those have, with the tags counting as `up` was told. When
   * that fails none of them has been added.
   *
   * @param options.promiscuous make physical ones promiscuous too. Default: as `up` was told
   * @throws what {@link up} throws; `AlreadyExists` (EEXIST) for one that the forwarder has
   */
  add(interfaces: readonly string[], options: { promiscuous?: boolean } = {}): void {
    const { folder } = this;
    checkOurs(folder);
    const remembered = readManner(folder);
    const manner = { ...remembered, promiscuous: options.promiscuous ?? remembered.promiscuous };
    const links = findLinks(interfaces);
    const known = this.#links();
    const taken = links.find(({ index }) => known.has(index));
    if (taken !== undefined) throw errnoError("add", `interface "${taken.name}"`, EEXIST, "The forwarder has it already");
    const path = ({ index }: Link) => `${folder}/if_${index}`;
    // Of an interface of that number that is gone.
    for (const link of links) if (exists(path(link))) removeInterface(folder, path(link));
    try {
      for (const link of links) addInterface(folder, link, manner);
    } catch (error) {
      try {
        for (const link of links) if (exists(path(link))) removeInterface(folder, path(link));
        tidy(folder);
      } catch { /* what was wrong first matters; it can be removed again */ }
      throw error;
    }
  }

  /**
   * Takes interfaces away while the others go on. If the router's is among them, frames of physical ones are dropped until there
   * is another. The map `router_iface` goes with the last one, and comes again with the next.
   *
   * @param interfaces their names; of one that is gone, the name that the report has
   * @throws `NotFound` (ENODEV) when the forwarder has no such interface: nothing has been changed then
   */
  remove(interfaces: readonly string[]): void {
    const links = this.#links();
    const paths = new Map(interfaceFolders(this.folder).map((path) => [this.#name(path, links), path]));
    for (const name of interfaces) if (!paths.has(name)) throw this.#unknown(name, [...paths.keys()]);
    for (const name of new Set(interfaces)) removeInterface(this.folder, paths.get(name)!);
  }

  /** The interfaces that are still there, by number. */
  #links(): Map<number, Link> {
    return pinnedLinks(this.folder);
  }

  /** What an interface is called in reports. */
  #name(path: string, links: ReadonlyMap<number, Link>): string {
    return links.get(pinnedNumber(path))?.name ?? `(gone, ${pinnedNumber(path)})`;
  }

  #unknown(name: string, known: readonly string[]): Error {
    return errnoError("find", `interface "${name}"`, ENODEV, `The forwarder has ${known.join(", ") || "none"}`);
  }

  /**
   * Says which interface frames of the physical ones go to, at once.
   *
   * @throws {TypeError} without a name
   * @throws `NotFound` (ENODEV) when the forwarder has no such interface; (ENOENT) when the map is missing; what the map answers
   */
  setRouterInterface(name: string): void {
    if (typeof name !== "string" || name === "") throw new TypeError("Cannot set the router's interface: a name is needed");
    using map = this.#routerIface();
    const links = [...this.#links().values()];
    const link = links.find((link) => link.name === name);
    if (link === undefined) throw this.#unknown(name, links.map(({ name }) => name));
    const code = map.update(key(0), key(link.index));
    if (code < 0) throw errnoError("update", `map "${ROUTER_IFACE.name}" with interface "${name}"`, code);
  }

  #routerIface(): BpfMap {
    const path = `${this.folder}/${ROUTER_IFACE.name}`;
    if (exists(path)) return BpfMap.open(path);
    const hint = interfaceFolders(this.folder).length === 0
      ? "No interface was added yet: it is there with the first"
      : "Take the forwarder down, and bring it up again";
    throw errnoError("open", `map "${ROUTER_IFACE.name}" in ${this.folder}`, ENOENT, hint);
  }

  /** Its counters. @throws what opening the pinned objects says */
  get report(): ForwarderReport {
    const folders = interfaceFolders(this.folder);
    const programs = { physical: noMuxCounts(), router: noMuxCounts() };
    const interfaces: Record<string, InterfaceReport> = {};
    if (folders.length === 0) return { place: "kernel", router: null, interfaces, programs };
    using map = this.#routerIface();
    const links = this.#links();
    for (const path of folders) {
      const by = pinnedMode(path);
      if (by === undefined) continue;
      using counts = BpfMap.open(`${path}/count`);
      const role = counts.info.name === ROUTER_COUNTERS.name ? "router" : "physical";
      const actions = noActions();
      // The programs end in nothing but these two. All frames are read last: they may go on meanwhile, and none is below 0 then.
      for (const [i, name] of [...MUX_COUNTERS.entries()].reverse()) {
        const count = Number(counts.counter(key(i)));
        programs[role][name] += count;
        if (name !== "received") actions.DROP += count;
        actions.REDIRECT += name === "received" ? count : -count;
      }
      interfaces[this.#name(path, links)] = {
        ifindex: links.get(pinnedNumber(path))?.index ?? 0,
        role,
        by,
        actions,
        notSent: null,
      };
    }
    this.#addRemoved(programs);
    return { place: "kernel", router: links.get(readIfindex(map))?.name ?? null, interfaces, programs };
  }

  /** What interfaces counted that were removed. */
  #addRemoved(programs: ForwarderReport["programs"]): void {
    for (const [role, { name }] of [["physical", PHYSICAL_COUNTERS], ["router", ROUTER_COUNTERS]] as const) {
      if (!exists(`${this.folder}/${name}`)) continue;
      using counts = BpfMap.open(`${this.folder}/${name}`);
      for (const [i, name] of MUX_COUNTERS.entries()) programs[role][name] += Number(counts.counter(key(i)));
    }
  }

  /**
   * Takes the programs off and removes everything that {@link up} put there, and nothing else.
   *
   * @throws the error of a removal: a second call goes on where this one ended
   */
  down(): void {
    removeAll(this.folder);
  }
}
