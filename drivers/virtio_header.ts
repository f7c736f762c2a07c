/**
 * `virtio_net_hdr`, the 10 bytes before every frame of a TAP or TUN with IFF_VNET_HDR (and of virtio rings): which
 * checksum is still to be filled in, and how a large frame is to be cut.
 *
 *      0        1          2            4            6             8             10
 *     +--------+----------+------------+------------+-------------+-------------+
 *     | flags  | gso_type | hdr_len    | gso_size   | csum_start  | csum_offset |
 *     +--------+----------+------------+------------+-------------+-------------+
 *
 * Little-endian. Offsets count from the frame's first byte.
 *
 * @module
 */
import { RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID, type TxFrame } from "../stack/device.ts";

/** 10 bytes put the IP header of an Ethernet frame at 24, where words are aligned; the 12-byte form does not. */
export const VIRTIO_HEADER_SIZE = 10;

export const VIRTIO_NET_HDR_F_NEEDS_CSUM = 1;
export const VIRTIO_NET_HDR_F_DATA_VALID = 2;
export const VIRTIO_NET_HDR_GSO_NONE = 0;
export const VIRTIO_NET_HDR_GSO_TCPV4 = 1;
export const VIRTIO_NET_HDR_GSO_UDP = 3;
export const VIRTIO_NET_HDR_GSO_TCPV6 = 4;
export const VIRTIO_NET_HDR_GSO_UDP_L4 = 5;
export const VIRTIO_NET_HDR_GSO_ECN = 0x80;

/** The RX_… flags of a received header at `at`. */
export function rxFlags(view: DataView, at: number): number {
  const flags = view.getUint8(at);
  if ((flags & VIRTIO_NET_HDR_F_NEEDS_CSUM) !== 0) return RX_CHECKSUM_PARTIAL;
  return (flags & VIRTIO_NET_HDR_F_DATA_VALID) !== 0 ? RX_CHECKSUM_VALID : 0;
}

/** Payload bytes per segment of a received header at `at`, 0 for a frame that stands alone. */
export function rxSegmentSize(view: DataView, at: number): number {
  // The ECN mark alone asks for nothing.
  const kind = view.getUint8(at + 1) & ~VIRTIO_NET_HDR_GSO_ECN;
  return kind === VIRTIO_NET_HDR_GSO_NONE ? 0 : view.getUint16(at + 4, true);
}

/**
 * Writes the header for a frame at `at`. Returns false, with the header still a plain one, when the frame asks for
 * something that cannot be said: segments of what is neither IPv4 nor IPv6 with TCP.
 *
 * @param ipOffset where the IP header begins, from the frame's first byte
 */
export function putTxHeader(view: DataView, at: number, frame: TxFrame, ipOffset: number): boolean {
  view.setUint32(at, 0);
  view.setUint32(at + 4, 0);
  view.setUint16(at + 8, 0);
  if (frame.checksumStart < 0) return frame.segmentSize === 0;
  view.setUint8(at, VIRTIO_NET_HDR_F_NEEDS_CSUM);
  view.setUint16(at + 6, frame.checksumStart, true);
  view.setUint16(at + 8, frame.checksumOffset, true);
  if (frame.segmentSize === 0) return true;
  // The flags of the TCP header and the IP version are read, so both have to be in the header memory.
  if (ipOffset + 20 > frame.length || frame.checksumStart + 14 > frame.length) return false;
  const head = frame.memory.view;
  const version = head.getUint8(frame.offset + ipOffset) >> 4;
  if (version !== 4 && version !== 6) return false;
  // A segmented CWR may stand in the first segment only: the kernel has to be told (RFC 3168 6.1.2).
  const cwr = hasCwr(frame) ? VIRTIO_NET_HDR_GSO_ECN : 0;
  view.setUint8(at + 1, (version === 4 ? VIRTIO_NET_HDR_GSO_TCPV4 : VIRTIO_NET_HDR_GSO_TCPV6) | cwr);
  view.setUint16(at + 2, frame.segmentHeaderLength, true);
  view.setUint16(at + 4, frame.segmentSize, true);
  return true;
}

/** True if a frame to be cut into TCP segments carries CWR: then whoever cuts it has to know of ECN. */
export function hasCwr(frame: TxFrame): boolean {
  const at = frame.checksumStart + 13;
  return frame.checksumStart >= 0 && at < frame.length && (frame.memory.view.getUint8(frame.offset + at) & 0x80) !== 0;
}

/** Where the IP header of an Ethernet frame begins, behind up to two tags. */
export function ethernetIpOffset(frame: TxFrame): number {
  if (frame.length < 22) return 14;
  const view = frame.memory.view;
  let at = 12;
  for (let tags = 0; tags < 2; tags++) {
    const type = view.getUint16(frame.offset + at);
    if (type !== 0x8100 && type !== 0x88a8) break;
    at += 4;
  }
  return at + 2;
}
