/**
 * The VLAN forwarder in the kernel: the programs of `programs/vlan_mux.ts`, attached to interfaces. Everything that it needs is
 * pinned in one folder of bpffs, so that it outlives the process that made it, and can be found again.
 *
 * ```text
 *  FOLDER/router_iface   the map: at 0 the router's interface
 *  FOLDER/ports          the map: interfaces that the router reaches
 *  FOLDER/netns_N        an empty folder: the network namespace that it belongs to
 *  FOLDER/if_7/count     the counters of interface 7 (a map "physical_count" or "router_count")
 *  FOLDER/if_7/native    its link, by the name of the mode: "native" or "generic"
 *  FOLDER/if_7/promisc   an empty folder: we made it promiscuous
 * ```
 *
 * @module
 */
import { BpfError, BPFFS_PATH, BpfMap, inBpffs } from "../../ffi/bpf.ts";
import { type AttachMode, BpfLink } from "../../ffi/bpf_program.ts";
import { EEXIST, ENODEV, ENOENT, errnoError } from "../../ffi/errno.ts";
import { IFF_PROMISC } from "../../ffi/ifreq.ts";
import { parseMac } from "../../ffi/inet.ts";
import { getLink, type Link, setLink } from "../../ffi/rtnl_link.ts";
import { createMap, LoadedProgram } from "./bpf/load.ts";
import { type InterfaceRole, isRouterMac } from "./forwarder.ts";
import {
  IFINDEX_MAX,
  MUX_COUNTERS,
  PHYSICAL_COUNTERS,
  physicalProgram,
  PORTS,
  ROUTER_COUNTERS,
  ROUTER_IFACE,
  routerProgram,
} from "./programs/vlan_mux.ts";
import { type ForwarderReport, type InterfaceReport, noActions, noMuxCounts } from "./report.ts";
import type { VlanMode } from "./vlan_functions.ts";

export type { AttachMode } from "../../ffi/bpf_program.ts";

/** Where a forwarder is pinned unless told otherwise. */
export const KERNEL_FORWARDER_FOLDER: string = `${BPFFS_PATH}/xdp_forwarder`;
/** The type of a link with Ethernet addresses. */
const ARPHRD_ETHER = 1;
const MODES = ["native", "generic"] as const;

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

function key(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

function namespaceFolder(): string {
  return `netns_${Deno.statSync("/proc/thread-self/ns/net").ino}`;
}

function exists(path: string): boolean {
  try {
    Deno.lstatSync(path);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

function names(folder: string): string[] {
  return [...Deno.readDirSync(folder)].map(({ name }) => name).sort();
}

/** The folder's interfaces, by the numbers in their names. */
function interfaceFolders(folder: string): string[] {
  const found = names(folder).filter((name) => /^if_\d+$/.test(name));
  return found.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3))).map((name) => `${folder}/${name}`);
}

function checkBpffs(folder: string): void {
  if (!folder.startsWith("/")) throw new TypeError(`The folder must be an absolute path: ${JSON.stringify(folder)}`);
  if (inBpffs(folder)) return;
  const hint = `Mount one: mount -t bpf bpf ${BPFFS_PATH}`;
  throw new BpfError(`Cannot pin the forwarder in ${folder}: no bpffs is mounted there (ENOBPFFS). ${hint}`, "ENOBPFFS");
}

/** True if an interface that refuses native mode may have the other one: what else is wrong would be wrong there too. */
function lacksNative(error: unknown): boolean {
  const { code } = error as { code?: string };
  return code === "EOPNOTSUPP" || code === "EINVAL";
}

/** Removes what a forwarder put into its folder, as far as it is there; then the folder. */
function removeAll(folder: string): void {
  for (const path of interfaceFolders(folder)) {
    for (const mode of MODES.filter((mode) => exists(`${path}/${mode}`))) {
      using link = BpfLink.open(`${path}/${mode}`);
      const { ifindex } = link.info;
      if (exists(`${path}/promisc`)) {
        // The link holds the number: no other interface has it.
        if (ifindex !== 0) setLink(ifindex, { promiscuous: false });
        Deno.removeSync(`${path}/promisc`);
      }
      if (ifindex !== 0) link.detach();
      Deno.removeSync(`${path}/${mode}`);
    }
    if (exists(`${path}/count`)) Deno.removeSync(`${path}/count`);
    Deno.removeSync(path);
  }
  for (const name of [ROUTER_IFACE.name, PORTS.name]) if (exists(`${folder}/${name}`)) Deno.removeSync(`${folder}/${name}`);
  for (const name of names(folder).filter((name) => /^netns_\d+$/.test(name))) Deno.removeSync(`${folder}/${name}`);
  Deno.removeSync(folder);
}

/** Puts one interface's program, counters and link in place. */
function addInterface(
  folder: string,
  link: Link,
  role: InterfaceRole,
  attach: AttachMode,
  options: KernelForwarderOptions,
): void {
  const path = `${folder}/if_${link.index}`;
  using routerIface = BpfMap.open(`${folder}/${ROUTER_IFACE.name}`);
  using ports = BpfMap.open(`${folder}/${PORTS.name}`);
  const description = role === "router" ? routerProgram({ mode: options.mode }) : physicalProgram();
  using loaded = LoadedProgram.load(description, [routerIface, ports]);
  using attached = BpfLink.attachXdp(loaded.program, link.index, attach);
  Deno.mkdirSync(path, { mode: 0o700 });
  loaded.map((role === "router" ? ROUTER_COUNTERS : PHYSICAL_COUNTERS).name).pin(`${path}/count`);
  attached.pin(`${path}/${attach}`);
  if (link.index <= IFINDEX_MAX) {
    const code = ports.update(key(link.index), key(link.index));
    if (code < 0) throw errnoError("update", `map "${PORTS.name}" with interface "${link.name}"`, code);
  }
  if ((role === "physical" && options.promiscuous !== true) || (link.flags & IFF_PROMISC) !== 0) return;
  Deno.mkdirSync(`${path}/promisc`, { mode: 0o700 });
  setLink(link.index, { promiscuous: true });
}

function build(folder: string, links: readonly Link[], attach: AttachMode, options: KernelForwarderOptions): void {
  if (exists(folder)) {
    throw errnoError("make a forwarder in", folder, EEXIST, "One is there already: take it down first, or choose another folder");
  }
  Deno.mkdirSync(folder, { mode: 0o700 });
  try {
    Deno.mkdirSync(`${folder}/${namespaceFolder()}`, { mode: 0o700 });
    for (const spec of [ROUTER_IFACE, PORTS]) {
      using map = createMap(spec);
      map.pin(`${folder}/${spec.name}`);
    }
    for (const link of links) {
      addInterface(folder, link, isRouterMac(parseMac(link.mac)) ? "router" : "physical", attach, options);
    }
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
   * left behind.
   *
   * @throws {TypeError} for impossible options, or an interface without an Ethernet address
   * @throws `BpfError` (ENOBPFFS: no bpffs is mounted there), `AlreadyExists` (EEXIST: a forwarder is there)
   * @throws `NotFound` (ENODEV), `Busy` (EBUSY: another program is attached), `PermissionDenied` (EPERM), `NotSupported`
   */
  static up(interfaces: readonly string[], options: KernelForwarderOptions = {}): KernelForwarder {
    const { folder = KERNEL_FORWARDER_FOLDER, attach = "auto", mode = "mask" } = options;
    if (mode !== "mask" && mode !== "strict") throw new TypeError(`mode must be "mask" or "strict": ${mode}`);
    if (attach !== "auto" && !MODES.includes(attach)) throw new TypeError(`attach must be native, generic or auto: ${attach}`);
    if (new Set(interfaces).size !== interfaces.length) throw new TypeError("An interface is named twice");
    checkBpffs(folder);
    const links = interfaces.map((name) => getLink(name));
    const odd = links.find(({ mac, type }) => mac === "" || type !== ARPHRD_ETHER);
    if (odd !== undefined) throw new TypeError(`Interface "${odd.name}" has no Ethernet address`);
    if (attach !== "auto") build(folder, links, attach, options);
    else if (links.some(({ kind }) => kind === "veth")) build(folder, links, "generic", options);
    else {
      try {
        build(folder, links, "native", options);
      } catch (error) {
        if (!lacksNative(error)) throw error;
        build(folder, links, "generic", options);
      }
    }
    return new KernelForwarder(folder);
  }

  /**
   * Finds a forwarder again.
   *
   * @throws `BpfError` (ENOBPFFS), `NotFound` (ENOENT: nothing is pinned there)
   * @throws {TypeError} when it belongs to another network namespace
   */
  static open(folder: string = KERNEL_FORWARDER_FOLDER): KernelForwarder {
    checkBpffs(folder);
    if (!exists(folder)) {
      throw errnoError("open", `map "${ROUTER_IFACE.name}" in ${folder}`, ENOENT, "No forwarder is there: bring one up first");
    }
    const namespace = names(folder).find((name) => name.startsWith("netns_"));
    if (namespace !== undefined && namespace !== namespaceFolder()) {
      throw new TypeError(
        `The forwarder in ${folder} belongs to another network namespace: go there first (nsenter, ip netns exec)`,
      );
    }
    return new KernelForwarder(folder);
  }

  /** The interfaces that are still there, by number. */
  #links(): Map<number, Link> {
    const links = new Map<number, Link>();
    for (const path of interfaceFolders(this.folder)) {
      const mode = MODES.find((mode) => exists(`${path}/${mode}`));
      if (mode === undefined) continue;
      using link = BpfLink.open(`${path}/${mode}`);
      const { ifindex } = link.info;
      if (ifindex !== 0) links.set(ifindex, getLink(ifindex));
    }
    return links;
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
    if (link === undefined) {
      throw errnoError("find", `interface "${name}"`, ENODEV, `The forwarder has ${links.map(({ name }) => name).join(", ")}`);
    }
    const code = map.update(key(0), key(link.index));
    if (code < 0) throw errnoError("update", `map "${ROUTER_IFACE.name}" with interface "${name}"`, code);
  }

  #routerIface(): BpfMap {
    const path = `${this.folder}/${ROUTER_IFACE.name}`;
    if (exists(path)) return BpfMap.open(path);
    throw errnoError(
      "open",
      `map "${ROUTER_IFACE.name}" in ${this.folder}`,
      ENOENT,
      "Take the forwarder down, and bring it up again",
    );
  }

  /** Its counters. @throws what opening the pinned objects says */
  get report(): ForwarderReport {
    using map = this.#routerIface();
    const value = map.lookup(key(0));
    const routerIndex = value === null ? 0 : new DataView(value.buffer).getUint32(0, true);
    const links = this.#links();
    const programs = { physical: noMuxCounts(), router: noMuxCounts() };
    const interfaces: Record<string, InterfaceReport> = {};
    for (const path of interfaceFolders(this.folder)) {
      const by = MODES.find((mode) => exists(`${path}/${mode}`));
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
      const link = links.get(Number(path.slice(path.lastIndexOf("_") + 1)));
      const name = link?.name ?? `(gone, ${path.slice(path.lastIndexOf("_") + 1)})`;
      interfaces[name] = { ifindex: link?.index ?? 0, role, by, actions };
    }
    return { place: "kernel", router: links.get(routerIndex)?.name ?? null, interfaces, programs };
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
