/**
 * Options of TAP and TUN devices, checked as a whole before anything is opened, and the host side: the kernel's own end
 * of the device, configured over rtnetlink.
 *
 * @module
 */
import { checkInterfaceName } from "../ffi/ifreq.ts";
import { parseIp, parseMac, parsePrefix } from "../ffi/inet.ts";
import { inNamespace, namespacePath, type NamespaceReference, openNamespace } from "../ffi/namespace.ts";
import { addAddress, setNeighbor } from "../ffi/rtnl_address.ts";
import { getLink, setLink } from "../ffi/rtnl_link.ts";
import { addRoute, checkRoute } from "../ffi/rtnl_route.ts";

/** A route of the host. The way is the device unless a gateway says more. */
export interface HostRoute {
  /** "10.1.0.0/16", "fd01::/48" or "default". */
  destination: string;
  /** Address of the router; without one the destination is on the device itself. */
  gateway?: string;
  /** Preferred source address. */
  source?: string;
  /** Of several routes the lowest metric counts. Default 0. */
  metric?: number;
}

/** The kernel's end of the device: what `ip` would be run for. Needs CAP_NET_ADMIN in the namespace. */
export interface HostOptions {
  /** Addresses with prefix length: "10.0.0.1/24". */
  address?: string | string[];
  /** Bytes, 68 to 65521 (TUN: 65535). Default: the device's `mtu`, if that was given. */
  mtu?: number;
  /** Switched on. Default: true if there is an address, a route or a neighbour. */
  up?: boolean;
  /** TAP only: the host's MAC address; the stack's own is `mac` of the device. */
  mac?: string | Uint8Array;
  /** New name of the interface, at most 15 bytes. */
  name?: string;
  /** A network or a whole route each. */
  routes?: (string | HostRoute)[];
  /** Permanent neighbour entries. */
  neighbors?: { address: string; mac: string | Uint8Array }[];
  /** Network namespace to put the interface into: an absolute path, a name in `/run/netns`, a process, or a descriptor. */
  namespace?: NamespaceReference;
}

/** Options of `TunDevice.open` and, with a MAC address more, of `TapDevice.open`. */
export interface TunTapOptions {
  /** Name of the interface, at most 15 bytes. `%d` lets the kernel choose a number. Default "tap%d" or "tun%d". */
  name?: string;
  /** Largest IP packet of the stack in bytes, 68 to 65521 (TUN: 65535). Default: the interface's. */
  mtu?: number;
  /** Checksums left out and segments of up to 64 KiB both ways. Default true; falls back by itself when the kernel refuses. */
  offload?: boolean;
  /** The interface outlives the process (true), or is to go with it although it was persistent (false). */
  persist?: boolean;
  /** Id of the user who may open the interface later, without privilege. */
  owner?: number;
  /** Id of the group that may open the interface later, without privilege. */
  group?: number;
  /** One queue of several: open the same name again for each. */
  multiQueue?: boolean;
  /** Four more bytes before every frame (flags and EtherType), as the kernel's default is. Default false. */
  packetInfo?: boolean;
  /** Fail with `Busy` when the interface exists already. */
  exclusive?: boolean;
  /** Bytes that may wait inside the kernel before `transmit` answers `EAGAIN`. Default: the kernel's, unlimited. */
  sendBuffer?: number;
  /** The kernel's end. Without it the host side is not touched. */
  host?: HostOptions;
}

/** Smallest MTU (RFC 791: every host takes 68 bytes without fragmenting). */
export const MTU_MIN = 68;

function checkRange(what: string, value: number | undefined, least: number, most: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= least && value <= most)) return;
  throw new TypeError(`Invalid ${what} ${value}: a whole number from ${least} to ${most} is needed`);
}

function checkSwitch(what: string, value: unknown): void {
  if (value !== undefined && typeof value !== "boolean") throw new TypeError(`Invalid ${what} ${value}: true or false is needed`);
}

function checkObject(what: string, value: unknown): void {
  if (typeof value !== "object" || value === null) throw new TypeError(`Invalid ${what} ${value}: an object is needed`);
}

function checkName(name: unknown): void {
  if (typeof name !== "string") throw new TypeError(`Invalid interface name ${name}: a text is needed`);
  checkInterfaceName(name);
}

function checkList(what: string, list: unknown): void {
  if (list !== undefined && !Array.isArray(list)) throw new TypeError(`Invalid ${what} ${list}: an array is needed`);
}

/** @throws {TypeError} for anything impossible in the options */
export function checkOptions(options: TunTapOptions, mtuMax: number): void {
  if (options.name !== undefined) checkName(options.name);
  for (const name of ["offload", "persist", "multiQueue", "packetInfo", "exclusive"] as const) checkSwitch(name, options[name]);
  checkRange("MTU", options.mtu, MTU_MIN, mtuMax);
  checkRange("owner", options.owner, 0, 0xfffffffe);
  checkRange("group", options.group, 0, 0xfffffffe);
  checkRange("send buffer", options.sendBuffer, 1, 0x7fffffff);
  const { host } = options;
  if (host === undefined) return;
  checkObject("host", host);
  checkSwitch("host.up", host.up);
  if (typeof host.address !== "string") checkList("host.address", host.address);
  checkList("host.routes", host.routes);
  checkList("host.neighbors", host.neighbors);
  checkRange("host MTU", host.mtu, MTU_MIN, mtuMax);
  if (host.name !== undefined) checkName(host.name);
  if (host.mac !== undefined) parseMac(host.mac);
  for (const address of addressesOf(host)) {
    parsePrefix(address);
    if (!address.includes("/")) throw new TypeError(`Invalid host address ${JSON.stringify(address)}: write it as 10.0.0.1/24`);
  }
  for (const route of routesOf(host)) checkRoute(route);
  for (const { address, mac } of host.neighbors ?? []) {
    parseIp(address);
    parseMac(mac);
  }
  const { namespace } = host;
  if (namespace === undefined) return;
  if (typeof namespace !== "string") checkObject("namespace", namespace);
  if (typeof namespace === "string" || "pid" in namespace) namespacePath(namespace);
  else checkRange("namespace descriptor", namespace.fd, 0, 0x7fffffff);
}

function addressesOf(host: HostOptions): string[] {
  if (host.address === undefined) return [];
  return typeof host.address === "string" ? [host.address] : host.address;
}

function routesOf(host: HostOptions): HostRoute[] {
  return (host.routes ?? []).map((route) => typeof route === "string" ? { destination: route } : route);
}

/**
 * Configures the host side and returns the interface's name, which may be new.
 *
 * @param mtu the device's, used for the host if it has none of its own
 * @throws the error of the step that failed; earlier steps stay done
 */
export function configureHost(name: string, mtu: number | undefined, host: HostOptions): string {
  // Name and MAC first: some of this is refused while the interface is up.
  const first = { name: host.name, mac: host.mac, mtu: host.mtu ?? mtu };
  if (Object.values(first).some((value) => value !== undefined)) setLink(name, first);
  const finalName = host.name ?? name;
  if (host.namespace === undefined) {
    configureInPlace(finalName, host);
    return finalName;
  }
  const { namespace } = host;
  const own = typeof namespace === "string" || "pid" in namespace ? openNamespace(namespace) : null;
  try {
    const target = own ?? namespace;
    if (typeof target === "string" || !("fd" in target)) throw new TypeError("Invalid namespace");
    setLink(finalName, { namespace: target });
    inNamespace(target, () => configureInPlace(finalName, host));
  } finally {
    own?.close();
  }
  return finalName;
}

function configureInPlace(name: string, host: HostOptions): void {
  const { index } = getLink(name);
  const addresses = addressesOf(host), routes = routesOf(host), neighbors = host.neighbors ?? [];
  for (const address of addresses) addAddress(index, address);
  // Routes and neighbours need an interface that is up.
  const up = host.up ?? (addresses.length + routes.length + neighbors.length > 0 ? true : undefined);
  if (up !== undefined) setLink(index, { up });
  for (const route of routes) addRoute({ ...route, link: index });
  for (const { address, mac } of neighbors) setNeighbor(index, address, mac);
}
