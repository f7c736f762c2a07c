/**
 * In software, what a device does not do: filling in transport checksums, and cutting super-frames into segments.
 *
 * @module
 */
import { type FrameMemory, TX_HEADROOM, type TxFrame } from "../device.ts";
import { addressSum, ipDestination, ipId, ipSource, sealIpHeader, setIpId, setIpTotalLength } from "../wire/ipv4.ts";
import { finish, sum, swapped } from "../wire/checksum.ts";
import { PROTO_TCP, PROTO_UDP } from "./types.ts";

const TCP_CHECKSUM = 16;
const UDP_CHECKSUM = 6;
const UDP_HEADER = 8;
const TCP_FIN_PSH = 0x09;
const TCP_CWR = 0x80;

/** Where the checksum lies in a transport's header, or -1 for protocols whose checksums nobody leaves to a device. */
export function checksumFieldOf(proto: number): number {
  return proto === PROTO_TCP ? TCP_CHECKSUM : proto === PROTO_UDP ? UDP_CHECKSUM : -1;
}

/** Completes a checksum that holds only the pseudo-header's sum, and takes the mark off. */
export function completeChecksum(tx: TxFrame): void {
  const { view } = tx.memory;
  const start = tx.offset + tx.checksumStart;
  const inline = tx.length - tx.checksumStart;
  let total = sum(view, start, inline, 0);
  if (tx.payloadLength1 > 0) {
    const part1 = sum(tx.payload.view, tx.payloadOffset1, tx.payloadLength1, 0);
    total += (inline & 1) === 0 ? part1 : swapped(part1);
    if (tx.payloadLength2 > 0) {
      const part2 = sum(tx.payload.view, tx.payloadOffset2, tx.payloadLength2, 0);
      total += ((inline + tx.payloadLength1) & 1) === 0 ? part2 : swapped(part2);
    }
  }
  putChecksum(view, start + tx.checksumOffset, finish(total), tx.checksumOffset === UDP_CHECKSUM);
  tx.checksumStart = -1;
}

function putChecksum(view: DataView, at: number, checksum: number, udp: boolean): void {
  //= rfc768#fields
  // If the computed checksum is zero, it is transmitted as all ones.
  view.setUint16(at, udp && checksum === 0 ? 0xffff : checksum);
}

/** Takes one packet that was cut: `length` bytes at `offset` of the memory. Returns 0 or a negative code. */
export interface PieceSink {
  piece(memory: FrameMemory, offset: number, length: number): number;
}

// The headers of the packet being cut; its own place in memory is overwritten from the second piece on.
const saved = new Uint8Array(120);

/** Length of the transport header at `offset`, or -1 if the packet is no TCP or UDP, or is shorter than that. */
export function transportHeaderLength(view: DataView, offset: number, length: number, proto: number): number {
  if (proto === PROTO_UDP) return length >= UDP_HEADER ? UDP_HEADER : -1;
  if (proto !== PROTO_TCP || length < 20) return -1;
  const header = (view.getUint8(offset + 12) >>> 4) << 2;
  return header >= 20 && header <= length ? header : -1;
}

/**
 * Cuts the super-frame at TX_HEADROOM of `memory` (IP header of `ipHeader` bytes, `total` in all) into packets with
 * `segmentSize` bytes of payload, each with complete checksums. Each piece's headers are written in front of its payload, over
 * the end of the piece before, which has been sent by then.
 *
 * @returns 0, or the code of the first piece if even that was refused; what is refused later counts as lost on the way
 */
export function cutSegments(
  memory: FrameMemory,
  ipHeader: number,
  proto: number,
  total: number,
  segmentSize: number,
  sink: PieceSink,
): number {
  const { view, bytes } = memory;
  const start = TX_HEADROOM;
  const transport = transportHeaderLength(view, start + ipHeader, total - ipHeader, proto);
  if (transport < 0 || segmentSize <= 0) return 0;
  const headers = ipHeader + transport;
  for (let i = 0; i < headers; i++) saved[i] = bytes[start + i];
  const id = ipId(view, start);
  const addresses = addressSum(ipSource(view, start)) + addressSum(ipDestination(view, start));
  const sequence = proto === PROTO_TCP ? view.getUint32(start + ipHeader + 4) : 0;
  const flags = proto === PROTO_TCP ? view.getUint8(start + ipHeader + 13) : 0;
  const payload = total - headers;
  for (let done = 0, n = 0; done < payload || n === 0; done += segmentSize, n++) {
    const size = Math.min(segmentSize, payload - done);
    const last = done + size >= payload;
    const at = start + done;
    if (n > 0) { for (let i = 0; i < headers; i++) bytes[at + i] = saved[i]; }
    setIpTotalLength(view, at, headers + size);
    setIpId(view, at, (id + n) & 0xffff);
    sealIpHeader(view, at, ipHeader);
    const t = at + ipHeader;
    const length = transport + size;
    if (proto === PROTO_TCP) {
      view.setUint32(t + 4, (sequence + done) >>> 0);
      //= rfc3168#6.1.2
      // (CWR belongs on the first segment only; FIN and PSH on the last)
      view.setUint8(t + 13, flags & ~(last ? 0 : TCP_FIN_PSH) & ~(n === 0 ? 0 : TCP_CWR));
    } else view.setUint16(t + 4, length);
    const field = t + checksumFieldOf(proto);
    view.setUint16(field, 0);
    putChecksum(view, field, finish(sum(view, t, length, addresses + proto + length)), proto === PROTO_UDP);
    const code = sink.piece(memory, at, headers + size);
    if (code < 0) return n === 0 ? code : 0;
  }
  return 0;
}
