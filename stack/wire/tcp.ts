/**
 * The TCP header (RFC 9293 section 3.1) and its options (RFC 7323, RFC 2018).
 *
 * ```
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |          Source Port          |       Destination Port        |
 * |                        Sequence Number                        |
 * |                    Acknowledgment Number                      |
 * |  Data |       |C|E|U|A|P|R|S|F|                               |
 * | Offset| Rsrvd |W|C|R|C|S|S|Y|I|            Window             |
 * |       |       |R|E|G|K|H|T|N|N|                               |
 * |           Checksum            |         Urgent Pointer        |
 * |                           [Options]                           |
 * ```
 *
 * @module
 */

export const SRC_PORT = 0;
export const DST_PORT = 2;
export const SEQ = 4;
export const ACK_NUMBER = 8;
export const OFFSET_FLAGS = 12;
export const WINDOW = 14;
export const CHECKSUM = 16;
export const URGENT = 18;
/** Bytes of a header without options. */
export const HEADER_LENGTH = 20;
export const MAX_HEADER_LENGTH = 60;

export const FIN = 1;
export const SYN = 2;
export const RST = 4;
export const PSH = 8;
export const ACK = 16;
export const URG = 32;
export const ECE = 64;
export const CWR = 128;

const OPTION_END = 0;
const OPTION_NOP = 1;
const OPTION_MSS = 2;
const OPTION_WINDOW_SCALE = 3;
const OPTION_SACK_PERMITTED = 4;
const OPTION_SACK = 5;
const OPTION_TIMESTAMPS = 8;
const OPTION_USER_TIMEOUT = 28;
const OPTION_FAST_OPEN = 34;
/** NOP NOP TS length 10: how everybody aligns the timestamps (RFC 7323 appendix A). */
const ALIGNED_TIMESTAMPS = 0x0101080a;

/** SACK blocks that fit into a header. */
export const MAX_SACK_BLOCKS = 4;

/** The fields of one received segment. One record is reused for all. Sequence numbers are int32. */
export class Segment {
  srcPort = 0;
  dstPort = 0;
  seq = 0;
  ack = 0;
  flags = 0;
  /** The window field as it stands, not scaled. */
  window = 0;
  urgent = 0;
  /** Where the text begins in the frame's memory, and its length; SYN and FIN not counted. */
  textOffset = 0;
  textLength = 0;
  hasTimestamps = false;
  tsVal = 0;
  tsEcr = 0;
  /** Option values of a SYN; -1 and false when absent. */
  mss = -1;
  windowScale = -1;
  sackPermitted = false;
  /** Bytes of the Fast Open cookie (RFC 7413): 0 for a request, -1 without the option. */
  fastOpenLength = -1;
  readonly fastOpenCookie: Uint8Array<ArrayBuffer> = new Uint8Array(16);
  /** RFC 5482, in milliseconds; -1 without the option. */
  userTimeoutMs = -1;
  /** The IP header carried CE (RFC 3168): filled in by TCP, not by `parse`. */
  congestionExperienced = false;
  /** Left and right edges, in pairs. */
  readonly sack: Int32Array<ArrayBuffer> = new Int32Array(2 * MAX_SACK_BLOCKS);
  sackCount = 0;
  /** An option's length was impossible: what stood before it is taken, the rest is passed over. */
  badOptions = false;
}

/**
 * Reads a segment of `length` bytes at `offset` into `into`.
 *
 * @returns true if the header is whole; a false leaves `into` undefined
 */
export function parse(view: DataView, offset: number, length: number, into: Segment): boolean {
  if (length < HEADER_LENGTH) return false;
  const ports = view.getUint32(offset);
  const offsetFlags = view.getUint16(offset + OFFSET_FLAGS);
  const headerLength = (offsetFlags >>> 12) << 2;
  if (headerLength < HEADER_LENGTH || headerLength > length) return false;
  into.srcPort = ports >>> 16;
  into.dstPort = ports & 0xffff;
  into.seq = view.getInt32(offset + SEQ);
  into.ack = view.getInt32(offset + ACK_NUMBER);
  into.flags = offsetFlags & 0xff;
  into.window = view.getUint16(offset + WINDOW);
  into.urgent = view.getUint16(offset + URGENT);
  into.textOffset = offset + headerLength;
  into.textLength = length - headerLength;
  into.hasTimestamps = false;
  into.sackCount = 0;
  into.mss = into.windowScale = -1;
  into.sackPermitted = false;
  into.fastOpenLength = into.userTimeoutMs = -1;
  into.badOptions = false;
  if (headerLength === HEADER_LENGTH) return true;
  if (headerLength === HEADER_LENGTH + 12 && view.getUint32(offset + HEADER_LENGTH) === ALIGNED_TIMESTAMPS) {
    into.hasTimestamps = true;
    into.tsVal = view.getInt32(offset + HEADER_LENGTH + 4);
    into.tsEcr = view.getInt32(offset + HEADER_LENGTH + 8);
    return true;
  }
  parseOptions(view, offset + HEADER_LENGTH, offset + headerLength, into);
  return true;
}

//= rfc9293#3.1
// A TCP implementation MUST be able to receive a TCP Option in any segment (MUST-5).
//= rfc9293#3.1
// A TCP implementation MUST (MUST-6) ignore without error any TCP Option it does not implement, assuming that the option has
// a length field.
//= rfc9293#3.1
// TCP implementations MUST be prepared to handle an illegal option length (e.g., zero); a suggested procedure is to reset
// the connection and log the error cause (MUST-7).
//= rfc9293#3.2
// receivers MUST be prepared to process options even if they do not begin on a word boundary (MUST-64).
function parseOptions(view: DataView, from: number, end: number, into: Segment): void {
  let at = from;
  while (at < end) {
    const kind = view.getUint8(at);
    if (kind === OPTION_END) return;
    if (kind === OPTION_NOP) {
      at++;
      continue;
    }
    const size = at + 2 > end ? 0 : view.getUint8(at + 1);
    if (size < 2 || at + size > end) {
      into.badOptions = true;
      return;
    }
    if (kind === OPTION_TIMESTAMPS && size === 10) {
      into.hasTimestamps = true;
      into.tsVal = view.getInt32(at + 2);
      into.tsEcr = view.getInt32(at + 6);
    } else if (kind === OPTION_SACK && size >= 10 && (size - 2) % 8 === 0) {
      const blocks = Math.min((size - 2) >> 3, MAX_SACK_BLOCKS);
      for (let i = 0; i < 2 * blocks; i++) into.sack[i] = view.getInt32(at + 2 + 4 * i);
      into.sackCount = blocks;
    } else if (kind === OPTION_MSS && size === 4) {
      into.mss = view.getUint16(at + 2);
    } else if (kind === OPTION_WINDOW_SCALE && size === 3) {
      into.windowScale = view.getUint8(at + 2);
    } else if (kind === OPTION_SACK_PERMITTED && size === 2) {
      into.sackPermitted = true;
    } else if (kind === OPTION_USER_TIMEOUT && size === 4) {
      const value = view.getUint16(at + 2);
      into.userTimeoutMs = (value & 0x7fff) * ((value & 0x8000) !== 0 ? 60_000 : 1000);
    } else if (kind === OPTION_FAST_OPEN && (size === 2 || (size >= 6 && size <= 18 && size % 2 === 0))) {
      into.fastOpenLength = size - 2;
      for (let i = 0; i < size - 2; i++) into.fastOpenCookie[i] = view.getUint8(at + 2 + i);
    }
    at += size;
  }
}

/** Writes the 20 fixed bytes; the checksum is left 0. */
export function emit(
  view: DataView,
  offset: number,
  ports: number,
  seq: number,
  ack: number,
  headerLength: number,
  flags: number,
  window: number,
): void {
  view.setUint32(offset, ports);
  view.setUint32(offset + SEQ, seq);
  view.setUint32(offset + ACK_NUMBER, ack);
  view.setUint32(offset + OFFSET_FLAGS, ((headerLength >>> 2) << 28) | (flags << 16) | window);
  view.setUint32(offset + CHECKSUM, 0);
}

/** Bytes that {@link emitTimestamps} writes. */
export const TIMESTAMPS_LENGTH = 12;

export function emitTimestamps(view: DataView, offset: number, tsVal: number, tsEcr: number): void {
  view.setUint32(offset, ALIGNED_TIMESTAMPS);
  view.setUint32(offset + 4, tsVal);
  view.setUint32(offset + 8, tsEcr);
}

/** Options of a SYN. -1 or false leaves one out. Returns the bytes written, a multiple of 4. */
export function emitSynOptions(
  view: DataView,
  offset: number,
  mss: number,
  windowScale: number,
  sackPermitted: boolean,
  timestamps: boolean,
  tsVal: number,
  tsEcr: number,
): number {
  view.setUint32(offset, (OPTION_MSS << 24) | (4 << 16) | mss);
  let at = offset + 4;
  if (timestamps) {
    // SACK-permitted takes the place of the two NOPs, as Linux does it.
    view.setUint32(
      at,
      sackPermitted ? (OPTION_SACK_PERMITTED << 24) | (2 << 16) | (OPTION_TIMESTAMPS << 8) | 10 : ALIGNED_TIMESTAMPS,
    );
    view.setUint32(at + 4, tsVal);
    view.setUint32(at + 8, tsEcr);
    at += 12;
  } else if (sackPermitted) {
    view.setUint32(at, (OPTION_NOP << 24) | (OPTION_NOP << 16) | (OPTION_SACK_PERMITTED << 8) | 2);
    at += 4;
  }
  if (windowScale >= 0) {
    view.setUint32(at, (OPTION_NOP << 24) | (OPTION_WINDOW_SCALE << 16) | (3 << 8) | windowScale);
    at += 4;
  }
  return at - offset;
}

/** A user timeout option (RFC 5482 section 3.2): seconds, or minutes where seconds don't fit. Returns the bytes of it. */
export function emitUserTimeout(view: DataView, offset: number, ms: number): number {
  const seconds = Math.ceil(ms / 1000);
  const value = seconds <= 0x7fff ? seconds : 0x8000 | Math.min(0x7fff, Math.ceil(seconds / 60));
  view.setUint32(offset, (OPTION_USER_TIMEOUT << 24) | (4 << 16) | value);
  return 4;
}

/** Head of a Fast Open option with room for `length` cookie bytes at its end, NOPs in front. Returns the bytes of it all. */
export function emitFastOpenHead(view: DataView, offset: number, length: number): number {
  const padding = (4 - ((2 + length) & 3)) & 3;
  for (let i = 0; i < padding; i++) view.setUint8(offset + i, OPTION_NOP);
  view.setUint8(offset + padding, OPTION_FAST_OPEN);
  view.setUint8(offset + padding + 1, 2 + length);
  return padding + 2 + length;
}

/** Head of a SACK option for `blocks` blocks; the edges follow at `offset + 4`. Returns the bytes of the whole option. */
export function emitSackHead(view: DataView, offset: number, blocks: number): number {
  view.setUint32(offset, (OPTION_NOP << 24) | (OPTION_NOP << 16) | (OPTION_SACK << 8) | (2 + 8 * blocks));
  return 4 + 8 * blocks;
}
