/**
 * Requests for interfaces by number: which have a `struct ifreq`, and which of those point to more.
 *
 * @module
 */

/** The first of sixteen requests whose meaning is the device's own. */
export const SIOCDEVPRIVATE = 0x89f0;
/** The last of them. */
export const SIOCDEVPRIVATE_LAST = 0x89ff;
/** Flags: IFF_UP and others, 16 bits. */
export const SIOCGIFFLAGS = 0x8913;
/** Largest packet. */
export const SIOCGIFMTU = 0x8921;
/** Hardware type (16 bits) and address. */
export const SIOCGIFHWADDR = 0x8927;
/** The interface's number. */
export const SIOCGIFINDEX = 0x8933;
/** Length of the queue. */
export const SIOCGIFTXQLEN = 0x8942;
/** Ethtool's commands: the first 32 bits behind `ifr_data` say which. */
export const SIOCETHTOOL = 0x8946;

/**
 * What is watched. Left out, because what they point to is no ifreq: SIOCGIFCONF (a list of addresses), SIOCGIFNAME (by
 * number, and what we know is names), SIOC[GS]IFBR, SIOCOUTQNSD, ARP, VLAN and bridge creation.
 */
export const WATCHED: readonly (readonly [number, number])[] = [
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

/** The name that a request is for: cut at 15 bytes, at a zero, and at the colon of an alias. */
export function requestName(ifreq: Uint8Array): string {
  let name = "";
  for (let i = 0; i < 15; i++) {
    const byte = ifreq[i];
    if (byte === 0 || byte === 0x3a) return name;
    if (byte >= 0x80) return decodeName(ifreq);
    name += String.fromCharCode(byte);
  }
  return name;
}

function decodeName(ifreq: Uint8Array): string {
  const end = ifreq.findIndex((byte, i) => i === 15 || byte === 0 || byte === 0x3a);
  return new TextDecoder().decode(ifreq.slice(0, end));
}
