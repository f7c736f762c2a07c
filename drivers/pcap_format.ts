/**
 * The pcapng file format (draft-ietf-opsawg-pcapng), as much of it as captures of one device need: section header,
 * interface descriptions, enhanced packets. Little-endian out, either order in.
 *
 * @module
 */

/** `LINKTYPE_ETHERNET`. */
export const LINK_ETHERNET = 1;
/** `LINKTYPE_RAW`: the packet begins with the IP header. */
export const LINK_RAW = 101;

/** Direction of a packet, as the option `epb_flags` says it. */
export const INBOUND = 1;
export const OUTBOUND = 2;

const BLOCK_SECTION = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_PACKET = 6;
const MAGIC = 0x1a2b3c4d;
/** Of the older format, as they read in network order: the byte order, and what the fraction of a second counts. */
const PCAP_MAGICS = new Map([
  [0xa1b2c3d4, { little: false, nsPerTick: 1000n }],
  [0xd4c3b2a1, { little: true, nsPerTick: 1000n }],
  [0xa1b23c4d, { little: false, nsPerTick: 1n }],
  [0x4d3cb2a1, { little: true, nsPerTick: 1n }],
]);
const OPTION_END = 0;
const OPTION_IF_NAME = 2;
const OPTION_IF_TSRESOL = 9;
const OPTION_EPB_FLAGS = 2;
/** Bytes of a packet block without its data: header, times, lengths, flags option, end option, length again. */
export const PACKET_OVERHEAD = 28 + 8 + 4 + 4;

/** A packet of a capture. */
export interface CapturedPacket {
  /** Nanoseconds since 1970. */
  timeNs: bigint;
  /** {@link INBOUND}, {@link OUTBOUND}, or 0 when the file doesn't say. */
  direction: number;
  /** Bytes that the packet had on the wire. */
  originalLength: number;
  /** The bytes themselves. */
  bytes: Uint8Array<ArrayBuffer>;
  /** `LINKTYPE_…` of its interface. */
  linkType: number;
  /** Which of the capture's interfaces it passed, from 0 on. */
  interfaceIndex?: number;
}

/** Multiples of four. */
export function padded(length: number): number {
  return (length + 3) & ~3;
}

/** Section header and the description of one interface with nanosecond time. */
export function encodeHeader(linkType: number, snapLength: number, name: string): Uint8Array<ArrayBuffer> {
  const nameBytes = new TextEncoder().encode(name);
  const interfaceLength = 20 + 4 + padded(nameBytes.length) + 8 + 4;
  const bytes = new Uint8Array(28 + interfaceLength);
  const view = new DataView(bytes.buffer);
  view.setUint32(0, BLOCK_SECTION, true);
  view.setUint32(4, 28, true);
  view.setUint32(8, MAGIC, true);
  view.setUint16(12, 1, true);
  view.setBigInt64(16, -1n, true);
  view.setUint32(24, 28, true);
  let at = 28;
  view.setUint32(at, BLOCK_INTERFACE, true);
  view.setUint32(at + 4, interfaceLength, true);
  view.setUint16(at + 8, linkType, true);
  view.setUint32(at + 12, snapLength, true);
  at += 16;
  view.setUint16(at, OPTION_IF_NAME, true);
  view.setUint16(at + 2, nameBytes.length, true);
  bytes.set(nameBytes, at + 4);
  at += 4 + padded(nameBytes.length);
  view.setUint16(at, OPTION_IF_TSRESOL, true);
  view.setUint16(at + 2, 1, true);
  bytes[at + 4] = 9;
  view.setUint16(at + 8, OPTION_END, true);
  view.setUint32(at + 12, interfaceLength, true);
  return bytes;
}

/**
 * Writes a packet block around `captured` bytes that the caller puts at the returned place.
 *
 * @param high upper and `low` lower 32 bits of nanoseconds since 1970
 * @returns where the packet's bytes go
 */
export function encodePacket(
  view: DataView,
  at: number,
  high: number,
  low: number,
  captured: number,
  original: number,
  direction: number,
): number {
  const total = PACKET_OVERHEAD + padded(captured);
  view.setUint32(at, BLOCK_PACKET, true);
  view.setUint32(at + 4, total, true);
  view.setUint32(at + 8, 0, true);
  view.setUint32(at + 12, high, true);
  view.setUint32(at + 16, low, true);
  view.setUint32(at + 20, captured, true);
  view.setUint32(at + 24, original, true);
  // Padding is zero whatever was there.
  if (captured > 0) view.setUint32(at + 28 + padded(captured) - 4, 0);
  const options = at + 28 + padded(captured);
  view.setUint16(options, OPTION_EPB_FLAGS, true);
  view.setUint16(options + 2, 4, true);
  view.setUint32(options + 4, direction, true);
  view.setUint32(options + 8, OPTION_END, true);
  view.setUint32(options + 12, total, true);
  return at + 28;
}

/**
 * Reads a capture: pcapng, or the older pcap, as tcpdump writes it. A file that ends in the middle of a block gives what came before.
 *
 * @throws {Deno.errors.InvalidData} if it is neither
 */
export function decodeCapture(bytes: Uint8Array): CapturedPacket[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 24 && PCAP_MAGICS.has(view.getUint32(0))) return decodePcap(bytes, view);
  if (bytes.length < 28 || view.getUint32(0) !== BLOCK_SECTION) throw new Deno.errors.InvalidData("not a pcapng file");
  const packets: CapturedPacket[] = [];
  let little = true;
  let links: { linkType: number; perSecond: bigint }[] = [];
  for (let at = 0; at + 12 <= bytes.length;) {
    const section = view.getUint32(at) === BLOCK_SECTION;
    if (section) {
      little = view.getUint32(at + 8, true) === MAGIC;
      links = [];
    }
    const type = view.getUint32(at, little);
    const length = view.getUint32(at + 4, little);
    if (length < 12 || length % 4 !== 0 || at + length > bytes.length) break;
    if (!section && type === BLOCK_INTERFACE && length >= 20) links.push(decodeInterface(view, at, length, little));
    if (!section && type === BLOCK_PACKET && length >= 32) {
      const link = links[view.getUint32(at + 8, little)];
      const captured = view.getUint32(at + 20, little);
      if (link === undefined || 32 + captured > length) break;
      const ticks = BigInt(view.getUint32(at + 12, little)) << 32n | BigInt(view.getUint32(at + 16, little));
      packets.push({
        timeNs: ticks * 1_000_000_000n / link.perSecond,
        direction: (findOption(view, at + 28 + padded(captured), at + length - 4, OPTION_EPB_FLAGS, little) ?? 0) & 3,
        originalLength: view.getUint32(at + 24, little),
        bytes: bytes.slice(at + 28, at + 28 + captured),
        linkType: link.linkType,
        interfaceIndex: view.getUint32(at + 8, little),
      });
    }
    at += length;
  }
  return packets;
}

/** One header, then packets: seconds, fraction, captured and original length (draft-ietf-opsawg-pcap). */
function decodePcap(bytes: Uint8Array, view: DataView): CapturedPacket[] {
  const { little, nsPerTick } = PCAP_MAGICS.get(view.getUint32(0))!;
  const linkType = view.getUint32(20, little) & 0xffff;
  const packets: CapturedPacket[] = [];
  for (let at = 24; at + 16 <= bytes.length;) {
    const captured = view.getUint32(at + 8, little);
    if (at + 16 + captured > bytes.length) break;
    packets.push({
      timeNs: BigInt(view.getUint32(at, little)) * 1_000_000_000n + BigInt(view.getUint32(at + 4, little)) * nsPerTick,
      direction: 0,
      originalLength: view.getUint32(at + 12, little),
      bytes: bytes.slice(at + 16, at + 16 + captured),
      linkType,
      interfaceIndex: 0,
    });
    at += 16 + captured;
  }
  return packets;
}

function decodeInterface(view: DataView, at: number, length: number, little: boolean) {
  // The value of if_tsresol is one byte at the front of its four.
  let perSecond = 1_000_000n;
  for (let option = at + 16; option + 4 <= at + length - 4;) {
    const code = view.getUint16(option, little);
    const size = view.getUint16(option + 2, little);
    if (code === OPTION_END) break;
    if (code === OPTION_IF_TSRESOL && size >= 1) {
      const value = view.getUint8(option + 4);
      perSecond = (value & 0x80) === 0 ? 10n ** BigInt(Math.min(value, 18)) : 1n << BigInt(Math.min(value & 0x7f, 62));
    }
    option += 4 + padded(size);
  }
  return { linkType: view.getUint16(at + 8, little), perSecond };
}

function findOption(view: DataView, from: number, to: number, wanted: number, little: boolean): number | null {
  for (let at = from; at + 4 <= to;) {
    const code = view.getUint16(at, little);
    const size = view.getUint16(at + 2, little);
    if (code === OPTION_END) return null;
    if (code === wanted && size === 4 && at + 8 <= to) return view.getUint32(at + 4, little);
    at += 4 + padded(size);
  }
  return null;
}
