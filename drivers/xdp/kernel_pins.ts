/**
 * What a forwarder in the kernel has pinned, in one folder of bpffs: everything that it needs, so that it outlives the process
 * that made it, and can be found again.
 *
 * ```text
 *  FOLDER/router_iface     the map: at 0 the router's interface; there as long as there is an interface
 *  FOLDER/ports            the map: interfaces that the router reaches; as long
 *  FOLDER/physical_count   what interfaces counted that were removed; and router_count
 *  FOLDER/netns_N          an empty folder: the network namespace that it belongs to
 *  FOLDER/as_WORD          empty folders: "native" or "generic", "strict", "promiscuous", as `up` was told or found
 *  FOLDER/if_7/count       the counters of interface 7 (a map "physical_count" or "router_count")
 *  FOLDER/if_7/native      its link, by the name of the mode: "native" or "generic"
 *  FOLDER/if_7/promisc     an empty folder: we made it promiscuous
 * ```
 *
 * @module
 */
import { BpfError, BPFFS_PATH, BpfMap, inBpffs } from "../../ffi/bpf.ts";
import { type AttachMode, BpfLink } from "../../ffi/bpf_program.ts";
import { errnoError } from "../../ffi/errno.ts";
import { IFF_PROMISC } from "../../ffi/ifreq.ts";
import { parseMac } from "../../ffi/inet.ts";
import { getLink, type Link, setLink } from "../../ffi/rtnl_link.ts";
import { createMap, LoadedProgram } from "./bpf/load.ts";
import { isRouterMac } from "./forwarder.ts";
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

/** How programs may be attached, by the names of the pinned links. */
export const MODES = ["native", "generic"] as const;

/** A key or a value of 4 bytes. */
export function key(value: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setUint32(0, value, true);
  return bytes;
}

/** Whether there is something of that name. */
export function exists(path: string): boolean {
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
export function interfaceFolders(folder: string): string[] {
  const found = names(folder).filter((name) => /^if_\d+$/.test(name));
  return found.sort((a, b) => Number(a.slice(3)) - Number(b.slice(3))).map((name) => `${folder}/${name}`);
}

/** The number of an interface, from the name of its folder. */
export function pinnedNumber(path: string): number {
  return Number(path.slice(path.lastIndexOf("_") + 1));
}

/** How an interface's program was attached; undefined for half an interface. */
export function pinnedMode(path: string): AttachMode | undefined {
  return MODES.find((mode) => exists(`${path}/${mode}`));
}

/** @throws {TypeError} for a relative path; `BpfError` (ENOBPFFS) */
export function checkBpffs(folder: string): void {
  if (!folder.startsWith("/")) throw new TypeError(`The folder must be an absolute path: ${JSON.stringify(folder)}`);
  if (inBpffs(folder)) return;
  const hint = `Mount one: mount -t bpf bpf ${BPFFS_PATH}`;
  throw new BpfError(`Cannot pin the forwarder in ${folder}: no bpffs is mounted there (ENOBPFFS). ${hint}`, "ENOBPFFS");
}

function namespaceFolder(): string {
  return `netns_${Deno.statSync("/proc/thread-self/ns/net").ino}`;
}

/** Whether a forwarder belongs to the network namespace of this thread. */
export function isOurs(folder: string): boolean {
  const namespace = names(folder).find((name) => name.startsWith("netns_"));
  return namespace === undefined || namespace === namespaceFolder();
}

/**
 * Whether all interfaces of a forwarder are gone for good, as when its namespace has ended; also when it has none.
 *
 * @throws what opening the pinned links says
 */
export function isDead(folder: string): boolean {
  return interfaceFolders(folder).every((path) => {
    const mode = pinnedMode(path);
    if (mode === undefined) return true;
    using link = BpfLink.open(`${path}/${mode}`);
    return link.info.ifindex === 0;
  });
}

/** What is remembered of a forwarder, for interfaces that come later. */
export interface Manner {
  /** How programs are attached. */
  readonly attach: AttachMode;
  /** Priority bits in a tag lose the frame. */
  readonly strict: boolean;
  /** Physical interfaces are made promiscuous too. */
  readonly promiscuous: boolean;
}

/** Pins what is to be remembered, in a folder that is there. */
export function rememberManner(folder: string, { attach, strict, promiscuous }: Manner): void {
  const words = [attach, strict ? "strict" : "", promiscuous ? "promiscuous" : ""].filter((word) => word !== "");
  for (const name of [namespaceFolder(), ...words.map((word) => `as_${word}`)]) {
    Deno.mkdirSync(`${folder}/${name}`, { mode: 0o700 });
  }
}

/** What was remembered. */
export function readManner(folder: string): Manner {
  const is = (word: string) => exists(`${folder}/as_${word}`);
  return { attach: is("native") ? "native" : "generic", strict: is("strict"), promiscuous: is("promiscuous") };
}

function removeIfThere(path: string): void {
  if (exists(path)) Deno.removeSync(path);
}

/** Removes the maps, and what was kept. */
function removeMaps(folder: string): void {
  for (const { name } of [ROUTER_IFACE, PORTS, PHYSICAL_COUNTERS, ROUTER_COUNTERS]) removeIfThere(`${folder}/${name}`);
}

/** Adds what an interface counted to what is kept of those that were removed. */
function keepCounts(folder: string, path: string): void {
  using counts = BpfMap.open(`${path}/count`);
  const spec = counts.info.name === ROUTER_COUNTERS.name ? ROUTER_COUNTERS : PHYSICAL_COUNTERS;
  const kept = `${folder}/${spec.name}`;
  if (!exists(kept)) {
    using map = createMap(spec);
    map.pin(kept);
  }
  using total = BpfMap.open(kept);
  for (const i of MUX_COUNTERS.keys()) {
    const value = total.lookup(key(i))!;
    const view = new DataView(value.buffer);
    view.setBigUint64(0, view.getBigUint64(0, true) + counts.counter(key(i)), true);
    total.update(key(i), value);
  }
}

/** Nobody redirects to an interface any more. */
function forget(folder: string, ifindex: number): void {
  if (exists(`${folder}/${PORTS.name}`) && ifindex <= IFINDEX_MAX) {
    using ports = BpfMap.open(`${folder}/${PORTS.name}`);
    ports.delete(key(ifindex));
  }
  if (!exists(`${folder}/${ROUTER_IFACE.name}`)) return;
  using router = BpfMap.open(`${folder}/${ROUTER_IFACE.name}`);
  if (readIfindex(router) === ifindex) router.delete(key(0));
}

/** The number at 0 of the router's map, or 0. */
export function readIfindex(map: BpfMap): number {
  const value = map.lookup(key(0));
  return value === null ? 0 : new DataView(value.buffer).getUint32(0, true);
}

/** Removes one interface, as far as it is there. */
function removeFolder(path: string): void {
  const found = findInterface(path);
  if (exists(`${path}/promisc`)) {
    if (found !== null) setLink(found.index, { promiscuous: false });
    Deno.removeSync(`${path}/promisc`);
  }
  for (const mode of MODES.filter((mode) => exists(`${path}/${mode}`))) {
    using link = BpfLink.open(`${path}/${mode}`);
    // By its descriptor: wherever the interface is now.
    if (link.info.ifindex !== 0) link.detach();
    Deno.removeSync(`${path}/${mode}`);
  }
  removeIfThere(`${path}/count`);
  Deno.removeSync(path);
}

/** Takes one interface out of a forwarder that goes on: what it counted is kept; the maps go with the last one. */
export function removeInterface(folder: string, path: string): void {
  forget(folder, pinnedNumber(path));
  if (exists(`${path}/count`)) keepCounts(folder, path);
  removeFolder(path);
  tidy(folder);
}

/** Removes what is there only as long as there is an interface, if there is none. */
export function tidy(folder: string): void {
  if (interfaceFolders(folder).length === 0) removeMaps(folder);
}

/**
 * Removes what a forwarder put into its folder, as far as it is there; then the folder. What is wrong with one interface doesn't
 * keep the others.
 *
 * @throws the first error: everything but those interfaces is gone then, and the maps that they need
 */
export function removeAll(folder: string): void {
  const errors: unknown[] = [];
  for (const path of interfaceFolders(folder)) {
    try {
      removeFolder(path);
    } catch (error) {
      errors.push(error);
    }
  }
  if (errors.length > 0) throw errors[0];
  removeMaps(folder);
  for (const name of names(folder).filter((name) => /^(netns_\d+|as_[a-z]+)$/.test(name))) Deno.removeSync(`${folder}/${name}`);
  Deno.removeSync(folder);
}

/** Puts one interface's program, counters and link in place; the maps with the first. */
export function addInterface(folder: string, link: Link, manner: Manner): void {
  const { attach, strict, promiscuous } = manner;
  const path = `${folder}/if_${link.index}`;
  const role = isRouterMac(parseMac(link.mac)) ? "router" : "physical";
  for (const spec of interfaceFolders(folder).length === 0 ? [ROUTER_IFACE, PORTS] : []) {
    using map = createMap(spec);
    map.pin(`${folder}/${spec.name}`);
  }
  using routerIface = BpfMap.open(`${folder}/${ROUTER_IFACE.name}`);
  using ports = BpfMap.open(`${folder}/${PORTS.name}`);
  const description = role === "router" ? routerProgram({ mode: strict ? "strict" : "mask" }) : physicalProgram();
  using loaded = LoadedProgram.load(description, [routerIface, ports]);
  using attached = BpfLink.attachXdp(loaded.program, link.index, attach);
  Deno.mkdirSync(path, { mode: 0o700 });
  loaded.map((role === "router" ? ROUTER_COUNTERS : PHYSICAL_COUNTERS).name).pin(`${path}/count`);
  attached.pin(`${path}/${attach}`);
  if (link.index <= IFINDEX_MAX) {
    const code = ports.update(key(link.index), key(link.index));
    if (code < 0) throw errnoError("update", `map "${PORTS.name}" with interface "${link.name}"`, code);
  }
  if ((role === "physical" && !promiscuous) || (link.flags & IFF_PROMISC) !== 0) return;
  Deno.mkdirSync(`${path}/promisc`, { mode: 0o700 });
  setLink(link.index, { promiscuous: true });
}

/** The interface behind a pinned link, or null: it was deleted, or is in another namespace now. */
function findInterface(path: string): Link | null {
  const mode = pinnedMode(path);
  if (mode === undefined) return null;
  using link = BpfLink.open(`${path}/${mode}`);
  const { ifindex, programId } = link.info;
  // The number is that of the namespace where the interface is: an unrelated one may have it here.
  if (ifindex !== pinnedNumber(path)) return null;
  try {
    const found = getLink(ifindex);
    return found.xdpPrograms.includes(programId) ? found : null;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return null;
    throw error;
  }
}

/** The interfaces of a forwarder that are still there, by number. */
export function pinnedLinks(folder: string): Map<number, Link> {
  const links = interfaceFolders(folder).map(findInterface).filter((link) => link !== null);
  return new Map(links.map((link) => [link.index, link]));
}
