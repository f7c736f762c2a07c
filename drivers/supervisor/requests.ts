/**
 * Requests for interfaces by number: which have a `struct ifreq`, and which of those point to more.
 *
 * @module
 */
import { SIOCDEVPRIVATE_LAST, SIOCETHTOOL, SIOCGIFNAME } from "../../ffi/ifreq.ts";

/**
 * What is watched. Left out, because what they point to is no ifreq: SIOCGIFCONF (a list of addresses), SIOC[GS]IFBR, SIOCOUTQNSD, ARP, VLAN and bridge creation.
 */
export const WATCHED: readonly (readonly [number, number])[] = [
  [SIOCGIFNAME, SIOCGIFNAME],
  [0x8913, 0x893f],
  [0x8942, 0x894a],
  [0x8970, 0x8971], // SIOC[GS]IFMAP
  [0x8990, 0x899f], // bonding
  [0x89a2, 0x89a3], // SIOCBR{ADD,DEL}IF
  [0x89b0, 0x89b1], // SIOC[SG]HWTSTAMP
  [0x89e0, SIOCDEVPRIVATE_LAST],
];

/** True for requests whose union is a pointer: ethtool, time stamps, the protocol's and the device's own. */
export function hasData(request: number): boolean {
  return request >= 0x89e0 || request === SIOCETHTOOL || request === 0x89b0 || request === 0x89b1;
}
