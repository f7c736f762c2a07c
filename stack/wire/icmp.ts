/**
 * ICMP (RFC 792).
 *
 * ```text
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |     Type      |     Code      |          Checksum             |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  rest: Identifier, Sequence | unused, Next-hop MTU | Pointer  |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  data: echo data, or the IP header and first bytes that an error is about ...
 * ```
 *
 * @module
 */
import { finish, fold, sum } from "./checksum.ts";

/** Bytes of the header. */
export const ICMP_HEADER = 8;

export const ICMP_ECHO_REPLY = 0;
export const ICMP_UNREACHABLE = 3;
export const ICMP_SOURCE_QUENCH = 4;
export const ICMP_REDIRECT = 5;
export const ICMP_ECHO = 8;
export const ICMP_TIME_EXCEEDED = 11;
export const ICMP_PARAMETER_PROBLEM = 12;
export const ICMP_TIMESTAMP = 13;
export const ICMP_TIMESTAMP_REPLY = 14;
export const ICMP_ADDRESS_MASK = 17;
export const ICMP_ADDRESS_MASK_REPLY = 18;

/** Codes of ICMP_UNREACHABLE: RFC 792, RFC 1122 3.2.2.1, RFC 1812 5.2.7.1. */
export const UNREACHABLE_NET = 0;
export const UNREACHABLE_HOST = 1;
export const UNREACHABLE_PROTOCOL = 2;
export const UNREACHABLE_PORT = 3;
export const UNREACHABLE_FRAGMENTATION = 4;
export const UNREACHABLE_SOURCE_ROUTE = 5;
export const UNREACHABLE_NET_UNKNOWN = 6;
export const UNREACHABLE_HOST_UNKNOWN = 7;
export const UNREACHABLE_ISOLATED = 8;
export const UNREACHABLE_NET_PROHIBITED = 9;
export const UNREACHABLE_HOST_PROHIBITED = 10;
export const UNREACHABLE_NET_TOS = 11;
export const UNREACHABLE_HOST_TOS = 12;
export const UNREACHABLE_FILTERED = 13;
export const UNREACHABLE_PRECEDENCE = 14;
export const UNREACHABLE_CUTOFF = 15;

/** Codes of ICMP_TIME_EXCEEDED. */
export const EXCEEDED_TTL = 0;
export const EXCEEDED_REASSEMBLY = 1;

const AT_TYPE = 0;
const AT_CODE = 1;
const AT_CHECKSUM = 2;
const AT_REST = 4;
const AT_MTU = 6;

export function icmpType(view: DataView, offset: number): number {
  return view.getUint8(offset + AT_TYPE);
}
export function icmpCode(view: DataView, offset: number): number {
  return view.getUint8(offset + AT_CODE);
}
export function icmpChecksum(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_CHECKSUM);
}
export function setIcmpChecksum(view: DataView, offset: number, checksum: number): void {
  view.setUint16(offset + AT_CHECKSUM, checksum);
}
/** The four bytes whose meaning depends on the type. */
export function icmpRest(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_REST);
}
export function echoIdentifier(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_REST);
}
export function echoSequence(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_REST + 2);
}
/** Next-hop MTU of "fragmentation needed" (RFC 1191 4); 0 from routers older than that. */
export function nextHopMtu(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_MTU);
}

/** True for the types that report an error and quote a packet. */
export function isIcmpError(type: number): boolean {
  return type === ICMP_UNREACHABLE || type === ICMP_SOURCE_QUENCH || type === ICMP_REDIRECT || type === ICMP_TIME_EXCEEDED ||
    type === ICMP_PARAMETER_PROBLEM;
}

/** Results of {@link checkIcmp}. */
export const ICMP_OK = 0;
export const ICMP_TRUNCATED = -1;
export const ICMP_CHECKSUM = -2;

/** Checks length and checksum of a message. */
export function checkIcmp(view: DataView, offset: number, length: number): number {
  if (length < ICMP_HEADER) return ICMP_TRUNCATED;
  return fold(sum(view, offset, length, 0)) === 0xffff ? ICMP_OK : ICMP_CHECKSUM;
}

/** Writes the header with a checksum of 0; {@link sealIcmp} comes when the data stands behind it. */
export function emitIcmp(view: DataView, offset: number, type: number, code: number, rest: number): void {
  view.setInt32(offset, (type << 24) | (code << 16));
  view.setInt32(offset + AT_REST, rest);
}

/** Computes the checksum over `length` bytes and writes it. */
export function sealIcmp(view: DataView, offset: number, length: number): void {
  view.setUint16(offset + AT_CHECKSUM, 0);
  view.setUint16(offset + AT_CHECKSUM, finish(sum(view, offset, length, 0)));
}
