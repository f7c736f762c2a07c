/**
 * Cutting a packet into fragments (RFC 791 3.2).
 *
 * @module
 */
import { EMSGSIZE } from "../codes.ts";
import { type FrameMemory, TX_HEADROOM } from "../device.ts";
import {
  FLAG_MORE,
  ipFlags,
  ipHeaderLength,
  IPV4_HEADER,
  OFFSET_MASK,
  OPTION_END,
  OPTION_NOP,
  sealIpHeader,
  setIpFlags,
  setIpTotalLength,
} from "../wire/ipv4.ts";
import type { PieceSink } from "./offload.ts";

// The header of the first fragment, and of those that follow.
const first = new Uint8Array(60);
const other = new Uint8Array(60);

/** Bytes of the header that later fragments get: options whose copied flag is off stay behind. */
function buildOther(bytes: Uint8Array, start: number, headerLength: number): number {
  for (let i = 0; i < IPV4_HEADER; i++) other[i] = bytes[start + i];
  let length = IPV4_HEADER;
  for (let at = IPV4_HEADER; at < headerLength;) {
    const kind = bytes[start + at];
    if (kind === OPTION_END) break;
    const size = kind === OPTION_NOP ? 1 : bytes[start + at + 1];
    if (size === 0 || at + size > headerLength) break;
    //= rfc791#3.1
    // The copied flag indicates that this option is copied into all fragments on fragmentation.
    if ((kind & 0x80) !== 0) { for (let i = 0; i < size; i++) other[length++] = bytes[start + at + i]; }
    at += size;
  }
  while ((length & 3) !== 0) other[length++] = OPTION_END;
  other[0] = 0x40 | (length >>> 2);
  return length;
}

/**
 * Cuts the packet of `total` bytes at TX_HEADROOM of `memory` into fragments of at most `mtu` bytes. It may be a fragment
 * itself. Each header is written in front of its data, over the end of the fragment before, which has been sent by then.
 *
 * @returns 0, or the code of the first fragment that was refused: the rest would be of no use
 */
export function cutFragments(memory: FrameMemory, total: number, mtu: number, sink: PieceSink): number {
  const { view, bytes } = memory;
  const start = TX_HEADROOM;
  const firstLength = ipHeaderLength(view, start);
  for (let i = 0; i < firstLength; i++) first[i] = bytes[start + i];
  const otherLength = buildOther(bytes, start, firstLength);
  const flags = ipFlags(view, start);
  const data = total - firstLength;
  for (let done = 0; done < data;) {
    const header = done === 0 ? first : other;
    const headerLength = done === 0 ? firstLength : otherLength;
    //= rfc791#3.2
    // The data in the long datagram is divided into two portions on a 8 octet (64 bit) boundary
    let size = data - done;
    const last = headerLength + size <= mtu;
    if (!last) size = (mtu - headerLength) & ~7;
    if (size <= 0) return EMSGSIZE;
    const at = start + firstLength + done - headerLength;
    for (let i = 0; i < headerLength; i++) bytes[at + i] = header[i];
    setIpTotalLength(view, at, headerLength + size);
    //= rfc791#3.2
    // The more-fragments flag is set to one [in the first]; the second new datagram has the same value as the long datagram
    const more = last ? flags & FLAG_MORE : FLAG_MORE;
    setIpFlags(view, at, more | (((flags & OFFSET_MASK) + (done >>> 3)) & OFFSET_MASK));
    sealIpHeader(view, at, headerLength);
    const code = sink.piece(memory, at, headerLength + size);
    if (code < 0) return code;
    done += size;
  }
  return 0;
}
