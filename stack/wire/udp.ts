/**
 * The UDP header (RFC 768): bytes to fields and back.
 *
 * ```text
 *  0      7 8     15 16    23 24    31
 * +--------+--------+--------+--------+
 * |     Source      |   Destination   |
 * |      Port       |      Port       |
 * +--------+--------+--------+--------+
 * |     Length      |    Checksum     |
 * +--------+--------+--------+--------+
 * |          data octets ...
 * ```
 *
 * @module
 */

export const UDP_HEADER_LENGTH = 8;
/** Largest payload in an IPv4 packet without options: 65535 - 20 - 8. */
export const UDP_MAX_PAYLOAD = 65507;

const SOURCE_PORT = 0;
const DESTINATION_PORT = 2;
const LENGTH = 4;
/** Where the checksum field lies in the header. */
export const UDP_CHECKSUM_OFFSET = 6;

/** Source port; 0 if the sender wants no answer. */
export function getSourcePort(view: DataView, offset: number): number {
  return view.getUint16(offset + SOURCE_PORT);
}

export function getDestinationPort(view: DataView, offset: number): number {
  return view.getUint16(offset + DESTINATION_PORT);
}

/** Bytes of header and data. */
export function getLength(view: DataView, offset: number): number {
  return view.getUint16(offset + LENGTH);
}

/** 0: the sender made none. */
export function getChecksum(view: DataView, offset: number): number {
  return view.getUint16(offset + UDP_CHECKSUM_OFFSET);
}

export function setChecksum(view: DataView, offset: number, checksum: number): void {
  view.setUint16(offset + UDP_CHECKSUM_OFFSET, checksum);
}

/**
 * Checks the length of the datagram at `offset`, of which `available` bytes came.
 *
 * @returns the length of header and data in bytes (bytes behind it are not part of the datagram), or -1 when it is malformed
 */
export function parse(view: DataView, offset: number, available: number): number {
  if (available < UDP_HEADER_LENGTH) return -1;
  const length = view.getUint16(offset + LENGTH);
  //= rfc768#page-1
  //# This means the minimum value of the length is eight.
  return length < UDP_HEADER_LENGTH || length > available ? -1 : length;
}

/** Writes all eight bytes of a header. `length` counts header and data. The checksum stays to be sealed, or 0. */
export function emit(
  view: DataView,
  offset: number,
  sourcePort: number,
  destinationPort: number,
  length: number,
  checksum: number,
): void {
  view.setUint16(offset + SOURCE_PORT, sourcePort);
  view.setUint16(offset + DESTINATION_PORT, destinationPort);
  view.setUint16(offset + LENGTH, length);
  view.setUint16(offset + UDP_CHECKSUM_OFFSET, checksum);
}
