/**
 * Finding the way: source address selection, routes, and a direct-mapped cache of the results.
 *
 * @module
 */
import { EADDRNOTAVAIL, ENETUNREACH, OK } from "../codes.ts";
import { broadcastOf, isLoopback, isMulticast, isUnicast, LIMITED_BROADCAST, LOOPBACK } from "../wire/address.ts";
import { KIND_BROADCAST, KIND_LOCAL } from "./addresses.ts";
import type { LinkInterface } from "./interface.ts";
import type { InternetLayer } from "./internet.ts";
import { PATH_SLOTS } from "./limits.ts";
import { NO_NEIGHBOR } from "./neighbors.ts";
import { PathImpl } from "./path.ts";
import { ANY, CAST_BROADCAST, CAST_MULTICAST, CAST_UNICAST } from "./types.ts";

export class Paths {
  /** Raised when routes, addresses, interfaces or a path MTU change: every path looks again before its next packet. */
  generation = 0;
  readonly #layer: InternetLayer;
  readonly #cache: (PathImpl | null)[] = new Array(PATH_SLOTS).fill(null);
  readonly #wanted = new Int32Array(PATH_SLOTS);
  // What `#select` found.
  #iface: LinkInterface | null = null;
  #nextHop = 0;
  #cast = CAST_UNICAST;

  constructor(layer: InternetLayer) {
    this.#layer = layer;
  }

  /** The path between two addresses; ANY lets the layer choose the local one. Negative code if there is none. */
  find(localKey: number, remoteKey: number): PathImpl | number {
    const local = localKey | 0;
    const remote = remoteKey | 0;
    const slot = (Math.imul(Math.imul(remote, 0x85ebca6b) ^ local, 0x9e3779b1) >>> 16) & (PATH_SLOTS - 1);
    const cached = this.#cache[slot];
    if (cached !== null && cached.remoteKey === remote && this.#wanted[slot] === local && cached.generation === this.generation) {
      return cached;
    }
    const code = this.#select(local, remote);
    if (code < 0) return code;
    const iface = this.#iface!;
    const source = local !== ANY ? local : this.#source(iface, remote);
    if (source === ANY && remote !== LIMITED_BROADCAST) return EADDRNOTAVAIL;
    // The same pair again keeps its object, and with it every connection that holds it.
    const again = cached !== null && cached.remoteKey === remote && cached.localKey === source;
    const path = again ? cached : new PathImpl(this, source, remote, iface);
    this.#fill(path);
    this.#cache[slot] = path;
    this.#wanted[slot] = local;
    return path;
  }

  /** Looks a stale path up again, in place. Its local address stays. */
  renew(path: PathImpl): number {
    const code = this.#select(path.localKey, path.remoteKey);
    if (code < 0) return code;
    this.#fill(path);
    return OK;
  }

  #fill(path: PathImpl): void {
    const iface = this.#iface!;
    const layer = this.#layer;
    const { capabilities } = iface.device;
    path.iface = iface;
    path.nextHop = this.#nextHop;
    path.cast = this.#cast;
    if (!iface.ethernet) path.neighbor = null;
    else if (this.#cast !== CAST_UNICAST) path.neighbor = iface.groupNeighbor(path.remoteKey);
    else path.neighbor = iface.neighbors.get(this.#nextHop) ?? NO_NEIGHBOR;
    path.interfaceMtu = iface.mtu;
    const known = iface === layer.loopInterface ? undefined : layer.pathMtus.get(path.remoteKey);
    path.mtu = known === undefined ? iface.mtu : Math.min(known.mtu, iface.mtu);
    path.mayDontFragment = !(known?.locked ?? false);
    path.txChecksum = capabilities.txChecksum;
    // The link header counts in what the device takes, and the IP packet stays under 64 KiB.
    path.rxQueueFrames = capabilities.rxQueueFrames ?? 0;
    path.txSegmentation = Math.max(0, Math.min(capabilities.txSegmentation - iface.linkHeader, 65535));
    path.generation = this.generation;
  }

  /** Finds interface, next hop and kind of cast. */
  #select(local: number, remote: number): number {
    const layer = this.#layer;
    if (remote === ANY) return ENETUNREACH;
    const kind = layer.local.kind(remote);
    const foreign = local !== ANY && !isLoopback(local) && layer.local.kind(local) !== KIND_LOCAL;
    if (foreign && !(layer.anyAddress && isUnicast(local))) return EADDRNOTAVAIL;
    if (kind === KIND_LOCAL || isLoopback(remote)) {
      this.#set(layer.loopInterface, remote, CAST_UNICAST);
      return OK;
    }
    //= rfc1122#3.2.1.3
    // (g) { 127, <any> } Internal host loopback address. Addresses of this form MUST NOT appear outside a host.
    if (isLoopback(local)) return EADDRNOTAVAIL;
    const multicast = isMulticast(remote);
    if (multicast || remote === LIMITED_BROADCAST) return this.#selectGroup(local, remote, multicast);
    if (remote >>> 28 === 15 || remote >>> 24 === 0) return ENETUNREACH;
    const route = layer.routeTable.lookup(remote);
    const iface = route === null ? undefined : layer.byIndex(route.interfaceIndex);
    if (route === null || iface === undefined) return ENETUNREACH;
    const direct = route.gateway === ANY;
    const broadcast = direct && kind === KIND_BROADCAST;
    this.#set(iface, direct ? remote : route.gateway, broadcast ? CAST_BROADCAST : CAST_UNICAST);
    return OK;
  }

  /** A group has no place of its own: it goes by the local address's interface, by a route, or by the first interface. */
  #selectGroup(local: number, remote: number, multicast: boolean): number {
    const layer = this.#layer;
    let iface: LinkInterface | undefined;
    if (local !== ANY) iface = layer.interfaceOf(local);
    const route = iface === undefined ? layer.routeTable.lookup(remote) : null;
    if (route !== null) iface = layer.byIndex(route.interfaceIndex);
    iface ??= layer.interfaces[0];
    if (iface === undefined) return ENETUNREACH;
    this.#set(iface, remote, multicast ? CAST_MULTICAST : CAST_BROADCAST);
    return OK;
  }

  #set(iface: LinkInterface, nextHop: number, cast: number): void {
    this.#iface = iface;
    this.#nextHop = nextHop;
    this.#cast = cast;
  }

  #source(iface: LinkInterface, remote: number): number {
    const layer = this.#layer;
    if (iface === layer.loopInterface) return layer.local.kind(remote) === KIND_LOCAL ? remote : LOOPBACK;
    return iface.sourceFor(this.#cast === CAST_UNICAST ? this.#nextHop : remote);
  }
}

/** True if `key` is the directed broadcast address of one of the interface's networks. */
export function isDirectedBroadcast(iface: LinkInterface, key: number): boolean {
  for (const { key: own, prefixLength } of iface.addresses) {
    if (prefixLength < 31 && broadcastOf(own, prefixLength) === key) return true;
  }
  return false;
}
