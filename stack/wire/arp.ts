/**
 * ARP for IPv4 over Ethernet (RFC 826).
 *
 * ```text
 *  0                   1                   2                   3
 *  0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |     Hardware type (1)         |   Protocol type (0x0800)      |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |  HLEN (6)     |  PLEN (4)     |          Operation            |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                Sender hardware address (6)                    |
 * +                               +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                               |  Sender protocol address (4)  |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                               |  Target hardware address (6)  |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+                               +
 * |                                                               |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * |                Target protocol address (4)                    |
 * +-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+-+
 * ```
 *
 * @module
 */

/** Bytes of the packet. */
export const ARP_LENGTH = 28;
export const ARP_REQUEST = 1;
export const ARP_REPLY = 2;

const HARDWARE_ETHERNET = 1;
const PROTOCOL_IPV4 = 0x0800;
const SIZES = 0x0604;

const AT_HARDWARE = 0;
const AT_PROTOCOL = 2;
const AT_SIZES = 4;
const AT_OPERATION = 6;
const AT_SENDER_MAC = 8;
const AT_SENDER_IP = 14;
const AT_TARGET_MAC = 18;
const AT_TARGET_IP = 24;

/** Results of {@link checkArp}. */
export const ARP_OK = 0;
export const ARP_TRUNCATED = -1;
/** Other hardware or protocol, or other address sizes. */
export const ARP_FOREIGN = -2;
export const ARP_OPERATION = -3;

export function arpOperation(view: DataView, offset: number): number {
  return view.getUint16(offset + AT_OPERATION);
}
/** Where the sender's and the target's MAC addresses lie. */
export function arpSenderMacAt(offset: number): number {
  return offset + AT_SENDER_MAC;
}
export function arpTargetMacAt(offset: number): number {
  return offset + AT_TARGET_MAC;
}
export function arpSenderKey(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_SENDER_IP);
}
export function arpTargetKey(view: DataView, offset: number): number {
  return view.getInt32(offset + AT_TARGET_IP);
}

/** Checks `length` bytes at `offset`: ARP_OK if it is a request or reply for IPv4 over Ethernet. More bytes are padding. */
export function checkArp(view: DataView, offset: number, length: number): number {
  if (length < ARP_LENGTH) return ARP_TRUNCATED;
  //= rfc826#packet-reception
  // ?Do I have the hardware type in ar$hrd? … ?Do I speak the protocol in ar$pro?
  if (view.getUint16(offset + AT_HARDWARE) !== HARDWARE_ETHERNET) return ARP_FOREIGN;
  if (view.getUint16(offset + AT_PROTOCOL) !== PROTOCOL_IPV4) return ARP_FOREIGN;
  if (view.getUint16(offset + AT_SIZES) !== SIZES) return ARP_FOREIGN;
  const operation = view.getUint16(offset + AT_OPERATION);
  return operation === ARP_REQUEST || operation === ARP_REPLY ? ARP_OK : ARP_OPERATION;
}

/** Writes a packet of ARP_LENGTH bytes. The MAC addresses are six bytes each; a null target is all zeros. */
export function emitArp(
  view: DataView,
  offset: number,
  operation: number,
  senderMac: Uint8Array,
  senderKey: number,
  targetMac: Uint8Array | null,
  targetKey: number,
): number {
  view.setUint16(offset + AT_HARDWARE, HARDWARE_ETHERNET);
  view.setUint16(offset + AT_PROTOCOL, PROTOCOL_IPV4);
  view.setUint16(offset + AT_SIZES, SIZES);
  view.setUint16(offset + AT_OPERATION, operation);
  for (let i = 0; i < 6; i++) {
    view.setUint8(offset + AT_SENDER_MAC + i, senderMac[i]);
    view.setUint8(offset + AT_TARGET_MAC + i, targetMac === null ? 0 : targetMac[i]);
  }
  view.setInt32(offset + AT_SENDER_IP, senderKey);
  view.setInt32(offset + AT_TARGET_IP, targetKey);
  return ARP_LENGTH;
}
