/**
 * The IPv4 header (RFC 791 3.1).
 *
 * ```text
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |Version|  IHL  |Type of Service|          Total Length         |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |         Identification        |Flags|      Fragment Offset    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  Time to Live |    Protocol   |         Header Checksum       |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                       Source Address                          |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                    Destination Address                        |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                    Options                    |    Padding    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * ```
 *
 * @module
 */
import { finish, fold, sum } from "./checksum.ts";

/** Bytes of the header without options, and at most. */
export const IPV4_HEADER = 20;
export const IPV4_HEADER_MAX = 60;
/** Largest packet, and the MTU that every link must have (RFC 791). */
export const IPV4_MAX = 65535;
export const IPV4_MIN_MTU = 68;

export const FLAG_DONT_FRAGMENT = 0x4000;
export const FLAG_MORE = 0x2000;
export const OFFSET_MASK = 0x1fff;

const AT_TOS = 1;
const AT_TOTAL = 2;
const AT_ID = 4;
const AT_FLAGS = 6;
const AT_TTL = 8;
const AT_PROTO = 9;
const AT_CHECKSUM = 10;
const AT_SOURCE = 12;
const AT_DESTINATION = 16;

export const OPTION_END = 0;
export const OPTION_NOP = 1;
export const OPTION_RECORD_ROUTE = 7;
export const OPTION_TIMESTAMP = 68;
export const OPTION_LOOSE_SOURCE_ROUTE = 131;
export const OPTION_STRICT_SOURCE_ROUTE = 137;
export const OPTION_ROUTER_ALERT = 148;

export function ipVersion(view: DataView, offset: number): number {
  return view.getUint8(offset) >>> 4;
}
/** Header length in bytes. */
export function ipHeaderLength(view: DataView, offset: number): number {
  return (view.getUint8(offset) & 15) << 2;
}
export function ipTos(view: DataView, offset: number): number {
  return view.getUint8(offset + AT_TOS);
}
export function ipTotalLength(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_TOTAL);
}
export function setIpTotalLength(view: DataView, offset: number, length: number): void {
  view.setUint16(offset + AT_TOTAL, length);
}
export function ipId(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_ID);
}
export function setIpId(view: DataView, offset: number, id: number): void {
  view.setUint16(offset + AT_ID, id);
}
/** Flags and fragment offset, as they stand: DF 0x4000, MF 0x2000, offset in units of 8 bytes in the low 13 bits. */
export function ipFlags(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_FLAGS);
}
export function setIpFlags(view: DataView, offset: number, flags: number): void {
  view.setUint16(offset + AT_FLAGS, flags);
}
export function ipTtl(view: DataView, offset: number): number {
  return view.getUint8(offset + AT_TTL);
}
export function setIpTtl(view: DataView, offset: number, ttl: number): void {
  view.setUint8(offset + AT_TTL, ttl);
}
export function ipProto(view: DataView, offset: number): number {
  return view.getUint8(offset + AT_PROTO);
}
export function ipChecksum(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_CHECKSUM);
}
export function setIpChecksum(view: DataView, offset: number, checksum: number): void {
  view.setUint16(offset + AT_CHECKSUM, checksum);
}
export function ipSource(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_SOURCE);
}
export function ipDestination(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_DESTINATION);
}

/** Sum of an address's two 16-bit words, for pseudo-headers. */
export function addressSum(key: number): number {
  return (key >>> 16) + (key & 0xffff);
}

/** True if the header's checksum is right. */
export function ipChecksumValid(view: DataView, offset: number, headerLength: number): boolean {
  //= rfc1122#3.2.1.2
  // A host MUST verify the IP header checksum on every received datagram and silently discard every datagram that has a
  // bad checksum.
  if (headerLength === IPV4_HEADER) {
    // The common case without a loop: five words, as int32 halves so that no double is made.
    const a = view.getUint32(offset);
    const b = view.getUint32(offset + 4);
    const c = view.getUint32(offset + 8);
    const d = view.getUint32(offset + 12);
    const e = view.getUint32(offset + 16);
    let s = (a >>> 16) + (a & 0xffff) + (b >>> 16) + (b & 0xffff) + (c >>> 16) + (c & 0xffff) + (d >>> 16) + (d & 0xffff) +
      (e >>> 16) + (e & 0xffff);
    s = (s & 0xffff) + (s >>> 16);
    s = (s & 0xffff) + (s >>> 16);
    return s === 0xffff;
  }
  return fold(sum(view, offset, headerLength, 0)) === 0xffff;
}

/** Computes the header's checksum and writes it. */
export function sealIpHeader(view: DataView, offset: number, headerLength: number): void {
  view.setUint16(offset + AT_CHECKSUM, 0);
  view.setUint16(offset + AT_CHECKSUM, finish(sum(view, offset, headerLength, 0)));
}

/** Lowers the TTL by one and corrects the checksum in place. */
export function decrementTtl(view: DataView, offset: number): void {
  //= rfc1624#3
  // HC' = ~(~HC + ~m + m')
  const old = view.getUint16(offset + AT_TTL);
  const now = old - 0x100;
  let s = (~view.getUint16(offset + AT_CHECKSUM) & 0xffff) + (~old & 0xffff) + now;
  s = (s & 0xffff) + (s >>> 16);
  s = (s & 0xffff) + (s >>> 16);
  view.setUint16(offset + AT_TTL, now);
  view.setUint16(offset + AT_CHECKSUM, ~s & 0xffff);
}

/**
 * Writes a header of 20 bytes with its checksum.
 *
 * @param flags DF, MF and fragment offset as they stand in the header
 * @param addresses sum of the words of both addresses, {@link addressSum}: it is at hand where packets are sent in a row
 */
export function emitIpv4(
  view: DataView,
  offset: number,
  tos: number,
  total: number,
  id: number,
  flags: number,
  ttl: number,
  proto: number,
  source: number,
  destination: number,
  addresses: number,
): void {
  const life = (ttl << 8) | proto;
  let s = (0x4500 | tos) + total + id + flags + life + addresses;
  s = (s & 0xffff) + (s >>> 16);
  s = (s & 0xffff) + (s >>> 16);
  view.setInt32(offset, ((0x4500 | tos) << 16) | total);
  view.setInt32(offset + 4, (id << 16) | flags);
  view.setInt32(offset + 8, (life << 16) | (~s & 0xffff));
  view.setInt32(offset + AT_SOURCE, source);
  view.setInt32(offset + AT_DESTINATION, destination);
}

/** Results of {@link checkIpv4}: the header's length in bytes, or one of these. */
export const IPV4_TRUNCATED = -1;
export const IPV4_VERSION = -2;
export const IPV4_HEADER_LENGTH = -3;
export const IPV4_TOTAL_LENGTH = -4;
export const IPV4_CHECKSUM = -5;

/** Checks a header in the order of RFC 1812 5.2.2. Bytes beyond the total length are padding. */
export function checkIpv4(view: DataView, offset: number, length: number): number {
  //= rfc1812#5.2.2
  // (1) The packet length reported by the Link Layer must be large enough to hold the minimum length legal IP datagram
  // (20 bytes).
  if (length < IPV4_HEADER) return IPV4_TRUNCATED;
  const first = view.getUint8(offset);
  //= rfc1122#3.2.1.1
  // A datagram whose version number is not 4 MUST be silently discarded.
  if (first >>> 4 !== 4) return IPV4_VERSION;
  //= rfc1812#5.2.2
  // (4) The IP header length field must be large enough to hold the minimum length legal IP datagram (20 bytes = 5 words).
  const headerLength = (first & 15) << 2;
  if (headerLength < IPV4_HEADER || headerLength > length) return IPV4_HEADER_LENGTH;
  if (!ipChecksumValid(view, offset, headerLength)) return IPV4_CHECKSUM;
  //= rfc1812#5.2.2
  // (5) The IP total length field must be large enough to hold the IP datagram header, whose length is specified in the
  // IP header length field.
  const total = view.getUint16(offset + AT_TOTAL);
  if (total < headerLength || total > length) return IPV4_TOTAL_LENGTH;
  return headerLength;
}

/** Result of {@link checkOptions}: a source route is there. */
export const OPTIONS_SOURCE_ROUTE = -1;

/**
 * Walks the options of a header. Returns 0 if they are well-formed, OPTIONS_SOURCE_ROUTE, or the position from the start
 * of the header of the byte that is wrong (for the pointer of an ICMP parameter problem).
 */
export function checkOptions(view: DataView, offset: number, headerLength: number): number {
  let at = IPV4_HEADER;
  let sourceRoute = false;
  // At most 40 steps: every option but END takes one byte or more.
  while (at < headerLength) {
    const kind = view.getUint8(offset + at);
    if (kind === OPTION_END) break;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    if (at + 1 >= headerLength) return at;
    const length = view.getUint8(offset + at + 1);
    if (length < 2 || at + length > headerLength) return at + 1;
    if (kind === OPTION_LOOSE_SOURCE_ROUTE || kind === OPTION_STRICT_SOURCE_ROUTE) sourceRoute = true;
    const pointed = kind === OPTION_RECORD_ROUTE || kind === OPTION_TIMESTAMP || sourceRoute;
    if (pointed && length < 3) return at + 1;
    // Pointers count from 1 at the kind byte; the smallest legal one is 4, in a timestamp 5.
    if (pointed && view.getUint8(offset + at + 2) < (kind === OPTION_TIMESTAMP ? 5 : 4)) return at + 2;
    if (kind === OPTION_ROUTER_ALERT && length !== 4) return at + 1;
    at += length;
  }
  return sourceRoute ? OPTIONS_SOURCE_ROUTE : 0;
}
