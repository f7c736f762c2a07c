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

/**
 * As `dev_ioctl` has them: SIOCSIF{FLAGS,ADDR,DSTADDR,BRDADDR,NETMASK,METRIC,MEM,MTU,NAME,HWADDR,ENCAP,SLAVE}, multicast, the
 * rest that changes something; the registers of a PHY, also to be read; bonding, bridge ports, time stamps.
 */
const CHANGING: ReadonlySet<number> = new Set([
  ...[0x8914, 0x8916, 0x8918, 0x891a, 0x891c, 0x891e, 0x8920, 0x8922, 0x8923, 0x8924, 0x8926, 0x8930, 0x8931, 0x8932],
  ...[0x8934, 0x8936, 0x8937, 0x8943, 0x8971],
  ...[0x8947, 0x8948, 0x8949], // SIOCGMIIPHY, SIOC[GS]MIIREG
  ...[0x8990, 0x8991, 0x8992, 0x8995], // SIOCBOND{ENSLAVE,RELEASE,SETHWADDR,CHANGEACTIVE}
  ...[0x89a2, 0x89a3, 0x89b0], // SIOCBR{ADD,DEL}IF, SIOCSHWTSTAMP
]);

/** True for requests that the kernel answers with EPERM unless the caller has CAP_NET_ADMIN; private ones are the driver's own affair. */
export function needsPrivilege(request: number): boolean {
  return CHANGING.has(request);
}

/** True for requests whose union is a pointer: ethtool, time stamps, the protocol's and the device's own. */
export function hasData(request: number): boolean {
  return request >= 0x89e0 || request === SIOCETHTOOL || request === 0x89b0 || request === 0x89b1;
}
