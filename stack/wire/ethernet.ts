/**
 * Ethernet II (DIX, RFC 894) with IEEE 802.1Q and 802.1ad tags.
 *
 * ```text
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                        Destination (6)                        |
 * +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                               |                               |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+           Source (6)          +
 * |                                                               |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  [TPID 0x8100/0x88a8 | PCP(3) DEI(1) VID(12)]  0 or more      |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |           EtherType           |  payload ...
 * ```
 *
 * @module
 */

/** Bytes of the header without a tag, and of a tag. */
export const ETHERNET_HEADER = 14;
export const VLAN_TAG = 4;

export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_IPV6 = 0x86dd;
export const TPID_8021Q = 0x8100;
export const TPID_8021AD = 0x88a8;

/** Values below this are lengths of IEEE 802.3 frames, not types. */
export const ETHERTYPE_MIN = 0x0600;
/** Tags that are skipped before a frame is given up. */
export const MAX_VLAN_TAGS = 2;

const AT_DESTINATION = 0;
const AT_SOURCE = 6;
const AT_TYPE = 12;

/** Results of {@link parseEthernet}. */
export const ETHERNET_OK = 0;
export const ETHERNET_TRUNCATED = -1;
export const ETHERNET_TAGS = -2;

/** What {@link parseEthernet} fills in; one record is reused. */
export interface EthernetHeader {
  /** With tags. */
  headerLength: number;
  etherType: number;
  /** VLAN id: 0 without a tag or with a priority tag; -1 if two tags name a VLAN. */
  vlan: number;
}

/** The first four and the last two bytes of the destination address. */
export function destinationHigh(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_DESTINATION);
}
export function destinationLow(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_DESTINATION + 4);
}
/** The first two and the last four bytes of the source address. */
export function sourceHigh(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_SOURCE);
}
export function sourceLow(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_SOURCE + 2);
}
/** True if the destination is a group (multicast or broadcast): the lowest bit of its first byte. */
export function isGroup(view: DataView, offset: number): boolean {
  return (view.getUint8(offset) & 1) !== 0;
}

/**
 * Reads the header of a frame of `length` bytes at `offset`.
 *
 * @returns ETHERNET_OK, ETHERNET_TRUNCATED, or ETHERNET_TAGS when there are more than MAX_VLAN_TAGS
 */
export function parseEthernet(view: DataView, offset: number, length: number, into: EthernetHeader): number {
  if (length < ETHERNET_HEADER) return ETHERNET_TRUNCATED;
  let at = AT_TYPE;
  let type = view.getUint16(offset + at);
  let vlan = 0;
  let tags = 0;
  while (type === TPID_8021Q || type === TPID_8021AD) {
    if (tags === MAX_VLAN_TAGS) return ETHERNET_TAGS;
    if (length < at + VLAN_TAG + 2) return ETHERNET_TRUNCATED;
    const id = view.getUint16(offset + at + 2) & 0xfff;
    if (id !== 0) vlan = vlan === 0 ? id : -1;
    at += VLAN_TAG;
    type = view.getUint16(offset + at);
    tags++;
  }
  into.headerLength = at + 2;
  into.etherType = type;
  into.vlan = vlan;
  return ETHERNET_OK;
}

/**
 * Writes a header, from words that a neighbour entry keeps ready: 14 bytes, or 18 with a tag when `vlan` is not 0.
 *
 * @param word0 destination bytes 0-3
 * @param word1 destination bytes 4-5 and source bytes 0-1
 * @param word2 source bytes 2-5
 * @returns bytes written
 */
export function emitEthernet(
  view: DataView,
  offset: number,
  word0: number,
  word1: number,
  word2: number,
  etherType: number,
  vlan = 0,
): number {
  view.setInt32(offset, word0);
  view.setInt32(offset + 4, word1);
  view.setInt32(offset + 8, word2);
  if (vlan === 0) {
    view.setUint16(offset + AT_TYPE, etherType);
    return ETHERNET_HEADER;
  }
  view.setInt32(offset + AT_TYPE, (TPID_8021Q << 16) | vlan);
  view.setUint16(offset + AT_TYPE + VLAN_TAG, etherType);
  return ETHERNET_HEADER + VLAN_TAG;
}

/** Writes the MAC address that an IPv4 group is sent to (01:00:5e and the low 23 bits) to six bytes. */
export function multicastMac(group: number, into: Uint8Array): void {
  //= rfc1112#6.4
  // An IP host group address is mapped to an Ethernet multicast address by placing the low-order 23-bits of the IP
  // address into the low-order 23 bits of the Ethernet multicast address 01-00-5E-00-00-00 (hex).
  into[0] = 0x01;
  into[1] = 0x00;
  into[2] = 0x5e;
  into[3] = (group >>> 16) & 0x7f;
  into[4] = (group >>> 8) & 0xff;
  into[5] = group & 0xff;
}
