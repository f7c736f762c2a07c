/**
 * The active OPEN call (RFC 9293 3.10.1).
 *
 * @module
 */
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENETUNREACH, ENOBUFS } from "../codes.ts";
import { ANY, CAST_UNICAST } from "../ip/types.ts";
import { ownControl } from "./controls.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { SYN_SENT, type TcpOptions } from "./types.ts";

/** A connection whose SYN goes out with the next flush, or a code. Throws what the user's own congestion control does. */
export function activeOpen(
  tcp: Tcp,
  localKey: number,
  localPort: number,
  remoteKey: number,
  remotePort: number,
  options: TcpOptions,
): Tcb | number {
  const portsFit = localPort >= 0 && localPort <= 65535 && remotePort >= 1 && remotePort <= 65535;
  if (!portsFit || remoteKey === ANY) return EINVAL;
  if (tcp.table.size >= tcp.limits.connectionsMax) {
    tcp.statistics.tableFull++;
    return ENOBUFS;
  }
  const path = tcp.ip.path(localKey, remoteKey);
  if (typeof path === "number") return path;
  //= rfc9293#3.9.2.3
  // A TCP implementation MUST reject as an error a local OPEN call for an invalid remote IP address (e.g., a broadcast or multicast address)
  if ((path.cast ?? CAST_UNICAST) !== CAST_UNICAST) return ENETUNREACH;
  const merged = { ...tcp.defaults, ...options };
  const own = ownControl(merged.congestionControl); // before anything is chosen or changed
  const free = (p: number) => tcp.timeWaits.reusable(tcp.table.get(path.localKey, p, remoteKey, remotePort));
  const port = localPort === 0 ? tcp.ports.forPeer(path.localKey, remoteKey, remotePort, free) : localPort;
  if (port < 0) return EADDRNOTAVAIL;
  if (!free(port)) return EADDRINUSE;
  const tcb = tcp.make(path, path.localKey, port, remoteKey, remotePort, merged);
  if (own !== null) tcb.congestion = own;
  tcb.state = SYN_SENT;
  tcb.sndUna = tcb.iss;
  tcb.sndNxt = (tcb.iss + 1) | 0;
  tcb.silentSince = tcp.now;
  tcb.synNow = true;
  tcp.statistics.activeOpens++;
  tcp.mark(tcb);
  return tcb;
}
