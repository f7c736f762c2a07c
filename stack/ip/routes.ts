/**
 * The routing table: longest prefix first, then lowest metric. A short sorted list; results are kept in the path cache.
 *
 * @module
 */
import { EADDRINUSE, EINVAL, ENETUNREACH, ENOBUFS, OK } from "../codes.ts";
import { isUnicast, maskOf } from "../wire/address.ts";
import { ROUTES_MAX } from "./limits.ts";
import { ANY, type Route } from "./types.ts";

export class RouteTable {
  /** Longest prefix first, then lowest metric. */
  readonly list: Route[] = [];

  /** `EINVAL` for bits outside the prefix or a bad gateway, `EADDRINUSE` if it is there already, `ENOBUFS`. */
  add(route: Route): number {
    const { destination, prefixLength, gateway, interfaceIndex, metric } = route;
    if (!(Number.isInteger(prefixLength) && prefixLength >= 0 && prefixLength <= 32)) return EINVAL;
    if ((destination & ~maskOf(prefixLength)) !== 0) return EINVAL;
    if (gateway !== ANY && !isUnicast(gateway)) return EINVAL;
    if (this.#find(route) >= 0) return EADDRINUSE;
    if (this.list.length >= ROUTES_MAX) return ENOBUFS;
    let at = 0;
    while (at < this.list.length && !before(route, this.list[at])) at++;
    this.list.splice(at, 0, { destination: destination | 0, prefixLength, gateway: gateway | 0, interfaceIndex, metric });
    return OK;
  }

  remove(route: Route): number {
    const at = this.#find(route);
    if (at < 0) return ENETUNREACH;
    this.list.splice(at, 1);
    return OK;
  }

  /** Forgets what leads over an interface. */
  removeInterface(index: number): void {
    for (let i = this.list.length - 1; i >= 0; i--) if (this.list[i].interfaceIndex === index) this.list.splice(i, 1);
  }

  /** The best route to `key`, or null; with `interfaceIndex` not 0 the best over that interface. */
  lookup(key: number, interfaceIndex = 0): Route | null {
    //= rfc1122#3.3.1.1
    // If the destination is on the connected network, the datagram is sent directly to the destination host; otherwise, it
    // has to be routed to a gateway on a connected network.
    for (const route of this.list) {
      if (((key ^ route.destination) & maskOf(route.prefixLength)) !== 0) continue;
      if (interfaceIndex === 0 || route.interfaceIndex === interfaceIndex) return route;
    }
    return null;
  }

  #find(wanted: Route): number {
    return this.list.findIndex((r) =>
      r.destination === (wanted.destination | 0) && r.prefixLength === wanted.prefixLength &&
      r.gateway === (wanted.gateway | 0) && r.interfaceIndex === wanted.interfaceIndex
    );
  }
}

function before(a: Route, b: Route): boolean {
  return a.prefixLength !== b.prefixLength ? a.prefixLength > b.prefixLength : a.metric < b.metric;
}
