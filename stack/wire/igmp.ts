/**
 * IGMP messages, versions 1 to 3 (RFC 1112, 2236, 3376): bytes to fields and back.
 *
 * ```text
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |     Type      | Max Resp Code |           Checksum            |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                         Group Address                         |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 *                 and in a query of version 3:
 * | Resv  |S| QRV |     QQIC      |     Number of Sources (N)     |
 * |                       Source Address [1..N]                   |
 *
 * Version 3 report:
 * |  Type = 0x22  |    Reserved   |           Checksum            |
 * |           Reserved            |  Number of Group Records (M)  |
 *                 and M times a group record:
 * |  Record Type  |  Aux Data Len |     Number of Sources (N)     |
 * |                       Multicast Address                       |
 * |                       Source Address [1..N]                   |
 * ```
 *
 * @module
 */
import { finish, fold, sum } from "./checksum.ts";

export const IGMP_QUERY = 0x11;
export const IGMP_V1_REPORT = 0x12;
export const IGMP_V2_REPORT = 0x16;
export const IGMP_V2_LEAVE = 0x17;
export const IGMP_V3_REPORT = 0x22;

export const RECORD_MODE_IS_INCLUDE = 1;
export const RECORD_MODE_IS_EXCLUDE = 2;
export const RECORD_CHANGE_TO_INCLUDE = 3;
export const RECORD_CHANGE_TO_EXCLUDE = 4;

/** Length of a message of versions 1 and 2, and of the fixed part of a report of version 3. */
export const IGMP_HEADER_LENGTH = 8;
/** Length of a query of version 3 without sources. */
export const IGMP_V3_QUERY_LENGTH = 12;
/** Length of a group record without sources. */
export const IGMP_RECORD_LENGTH = 8;

const TYPE = 0;
const MAX_RESPONSE = 1;
const CHECKSUM = 2;
const GROUP = 4;
const V3_S_QRV = 8;
const V3_QQIC = 9;
const V3_SOURCES = 10;
const REPORT_RECORDS = 6;

/** One message, filled by {@link parse}; reused. */
export class IgmpMessage {
  type = 0;
  /** Of a query: 1, 2 or 3, by its length and its Max Resp Code (RFC 3376 7.1). Of a report: its own. */
  version = 0;
  /** 0 in a general query, and in a report of version 3. */
  group = 0;
  /** Milliseconds within which to answer a query. */
  maxResponseMs = 0;
  /** Querier's robustness variable, 0 if it says none. */
  robustness = 0;
  /** Querier's query interval in milliseconds, 0 if it says none. */
  queryIntervalMs = 0;
  /** Sources in a query of version 3. */
  sources = 0;
}

export const PARSE_OK = 0;
export const PARSE_SHORT = 1;
export const PARSE_CHECKSUM = 2;
export const PARSE_UNKNOWN = 3;
export const PARSE_LENGTH = 4;

export function getType(view: DataView, offset: number): number {
  return view.getUint8(offset + TYPE);
}

export function getGroup(view: DataView, offset: number): number {
  return view.getInt32(offset + GROUP);
}

/** Decodes the small float of Max Resp Code and QQIC (RFC 3376 4.1.1): up to 127 the value itself. */
export function decodeCode(code: number): number {
  //= rfc3376#4.1.1
  //# If Max Resp Code >= 128, Max Resp Code represents a floating-point value
  return code < 128 ? code : ((code & 0x0f) | 0x10) << (((code >> 4) & 7) + 3);
}

/** Reads the message of `length` bytes at `offset` into `out`. Returns one of PARSE_…. */
export function parse(view: DataView, offset: number, length: number, out: IgmpMessage): number {
  if (length < IGMP_HEADER_LENGTH) return PARSE_SHORT;
  //= rfc3376#4.1.2
  //# When receiving packets, the checksum MUST be verified before processing a packet.
  if (fold(sum(view, offset, length, 0)) !== 0xffff) return PARSE_CHECKSUM;
  out.type = view.getUint8(offset + TYPE);
  out.group = view.getInt32(offset + GROUP);
  out.maxResponseMs = 0;
  out.robustness = 0;
  out.queryIntervalMs = 0;
  out.sources = 0;
  switch (out.type) {
    case IGMP_QUERY:
      return parseQuery(view, offset, length, out);
    case IGMP_V1_REPORT:
      out.version = 1;
      return PARSE_OK;
    case IGMP_V2_REPORT:
    case IGMP_V2_LEAVE:
      out.version = 2;
      return PARSE_OK;
    case IGMP_V3_REPORT:
      out.version = 3;
      out.group = 0;
      return PARSE_OK;
    default:
      return PARSE_UNKNOWN;
  }
}

function parseQuery(view: DataView, offset: number, length: number, out: IgmpMessage): number {
  const code = view.getUint8(offset + MAX_RESPONSE);
  if (length === IGMP_HEADER_LENGTH) {
    //= rfc3376#7.1
    //# IGMPv1 Query: length = 8 octets AND Max Resp Code field is zero
    out.version = code === 0 ? 1 : 2;
    out.maxResponseMs = code === 0 ? 10_000 : code * 100;
    return PARSE_OK;
  }
  //= rfc3376#7.1
  //# Query messages that do not match any of the above conditions (e.g., a Query of length 10 octets) MUST be silently ignored.
  if (length < IGMP_V3_QUERY_LENGTH) return PARSE_LENGTH;
  out.version = 3;
  out.maxResponseMs = decodeCode(code) * 100;
  out.robustness = view.getUint8(offset + V3_S_QRV) & 7;
  out.queryIntervalMs = decodeCode(view.getUint8(offset + V3_QQIC)) * 1000;
  out.sources = view.getUint16(offset + V3_SOURCES);
  return length < IGMP_V3_QUERY_LENGTH + 4 * out.sources ? PARSE_LENGTH : PARSE_OK;
}

/** Writes a report or leave of version 1 or 2 with its checksum. Returns its length, 8. */
export function emitV2(view: DataView, offset: number, type: number, group: number): number {
  view.setUint8(offset + TYPE, type);
  view.setUint8(offset + MAX_RESPONSE, 0);
  view.setInt32(offset + GROUP, group);
  return emitChecksum(view, offset, IGMP_HEADER_LENGTH);
}

/** Writes group record number `index` of a report of version 3, without sources. */
export function emitRecord(view: DataView, offset: number, index: number, recordType: number, group: number): void {
  const at = offset + IGMP_HEADER_LENGTH + index * IGMP_RECORD_LENGTH;
  view.setUint8(at, recordType);
  view.setUint8(at + 1, 0);
  view.setUint16(at + 2, 0);
  view.setInt32(at + 4, group);
}

/** Writes the fixed part and the checksum of a report of version 3 whose `records` are in place. Returns its length. */
export function emitV3Report(view: DataView, offset: number, records: number): number {
  view.setUint8(offset + TYPE, IGMP_V3_REPORT);
  view.setUint8(offset + MAX_RESPONSE, 0);
  view.setUint16(offset + 4, 0);
  view.setUint16(offset + REPORT_RECORDS, records);
  return emitChecksum(view, offset, IGMP_HEADER_LENGTH + records * IGMP_RECORD_LENGTH);
}

function emitChecksum(view: DataView, offset: number, length: number): number {
  view.setUint16(offset + CHECKSUM, 0);
  view.setUint16(offset + CHECKSUM, finish(sum(view, offset, length, 0)));
  return length;
}
