/**
 * Parsing and rewriting, as XDP programs need it: what the well-known helpers in C do, bounds-checked.
 *
 * A parser reads the header at `cursor.at`, moves the cursor behind it, and returns what comes next, or -1 (with the cursor
 * where it was) when the frame ends too soon or a length lies. One cursor serves all frames.
 *
 * @module
 */
import { adjustHead, type XdpContext } from "./context.ts";

/** Tags that {@link parseEthernet} looks behind. */
export const VLAN_MAX_DEPTH = 2;
/** Bytes of an Ethernet header. */
export const ETHERNET_SIZE = 14;
/** Bytes of a tag. */
export const VLAN_SIZE = 4;
/** Type of a tag of 802.1Q. */
export const TPID_8021Q = 0x8100;
/** Type of an outer tag, of 802.1ad. */
export const TPID_8021AD = 0x88a8;

const IPV4_SIZE = 20;
const IPV6_SIZE = 40;
const ICMP_SIZE = 8;
const UDP_SIZE = 8;
const TCP_SIZE = 20;

/**
 * Where a parser is.
 *
 * ```ts
 * import { PacketDevice, ParseCursor, parseEthernet, parseIpv4, redirect, XDP_PASS, XdpEngine } from "@tapioca/tapioca";
 *
 * const cursor = new ParseCursor();
 * const engine = new XdpEngine();
 * const [left, right] = ["left", "right"].map((name) => new PacketDevice({ name, medium: "ethernet" }));
 * engine.add(right, { ifindex: 2 });
 * engine.add(left, {
 *   // UDP goes to interface 2, all else to the host.
 *   program: (view, offset, end, _ifindex, context) => {
 *     if (parseEthernet(view, end, cursor.begin(offset)) !== 0x800) return XDP_PASS;
 *     return parseIpv4(view, end, cursor) === 17 ? redirect(context, 2) : XDP_PASS;
 *   },
 * });
 * const frame = new Uint8Array(42);
 * frame.set([0x08, 0x00, 0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17], 12);
 * left.inject(frame);
 * engine.poll();
 * console.log(right.take().length); // 1
 * engine.close();
 * ```
 */
export class ParseCursor {
  /** The next header begins here, in the frame's memory. */
  at = 0;
  /** Tags that {@link parseEthernet} found. */
  vlanCount = 0;
  /** Their ids, the outer one first. */
  readonly vlanIds: Uint16Array<ArrayBuffer> = new Uint16Array(VLAN_MAX_DEPTH);

  /** Begins with a frame. */
  begin(offset: number): this {
    this.at = offset;
    this.vlanCount = 0;
    return this;
  }
}

/** True for the type of a tag. */
export function isVlanType(type: number): boolean {
  return type === TPID_8021Q || type === TPID_8021AD;
}

/**
 * Ethernet with up to {@link VLAN_MAX_DEPTH} tags. Returns the type behind them: of a further tag if there are more. (Where the C
 * helper takes a tag that is cut off for the payload, this returns -1.)
 */
export function parseEthernet(view: DataView, end: number, cursor: ParseCursor): number {
  const start = cursor.at;
  cursor.vlanCount = 0;
  if (start + ETHERNET_SIZE > end) return -1;
  let at = start + ETHERNET_SIZE;
  let type = view.getUint16(at - 2);
  while (cursor.vlanCount < VLAN_MAX_DEPTH && isVlanType(type)) {
    if (at + VLAN_SIZE > end) return -1;
    cursor.vlanIds[cursor.vlanCount++] = view.getUint16(at) & 0xfff;
    type = view.getUint16(at + 2);
    at += VLAN_SIZE;
  }
  cursor.at = at;
  return type;
}

/** IPv4 with options. Returns the protocol. */
export function parseIpv4(view: DataView, end: number, cursor: ParseCursor): number {
  const { at } = cursor;
  if (at + IPV4_SIZE > end) return -1;
  const first = view.getUint8(at);
  const size = (first & 15) * 4;
  if (first >> 4 !== 4 || size < IPV4_SIZE || at + size > end) return -1;
  cursor.at = at + size;
  return view.getUint8(at + 9);
}

/** IPv6, the fixed header. Returns the next header: an extension's number if there is one. */
export function parseIpv6(view: DataView, end: number, cursor: ParseCursor): number {
  const { at } = cursor;
  if (at + IPV6_SIZE > end || view.getUint8(at) >> 4 !== 6) return -1;
  cursor.at = at + IPV6_SIZE;
  return view.getUint8(at + 6);
}

/** ICMP for IPv4 (8 bytes). Returns the type of the message. */
export function parseIcmp(view: DataView, end: number, cursor: ParseCursor): number {
  const { at } = cursor;
  if (at + ICMP_SIZE > end) return -1;
  cursor.at = at + ICMP_SIZE;
  return view.getUint8(at);
}

/** ICMP for IPv6 (8 bytes). Returns the type of the message. */
export function parseIcmpv6(view: DataView, end: number, cursor: ParseCursor): number {
  return parseIcmp(view, end, cursor);
}

/** What is the same in both ICMPs (4 bytes: type, code, checksum). Returns the type of the message. */
export function parseIcmpCommon(view: DataView, end: number, cursor: ParseCursor): number {
  const { at } = cursor;
  if (at + 4 > end) return -1;
  cursor.at = at + 4;
  return view.getUint8(at);
}

/** UDP. Returns the bytes of the payload, as the header says; -1 if it says less than the header's own. */
export function parseUdp(view: DataView, end: number, cursor: ParseCursor): number {
  const { at } = cursor;
  if (at + UDP_SIZE > end) return -1;
  const payload = view.getUint16(at + 4) - UDP_SIZE;
  if (payload < 0) return -1;
  cursor.at = at + UDP_SIZE;
  return payload;
}

/** TCP with options. Returns the bytes of the header. */
export function parseTcp(view: DataView, end: number, cursor: ParseCursor): number {
  const { at } = cursor;
  if (at + TCP_SIZE > end) return -1;
  const size = (view.getUint8(at + 12) >> 4) * 4;
  if (size < TCP_SIZE || at + size > end) return -1;
  cursor.at = at + size;
  return size;
}

/**
 * Puts a tag behind the MAC addresses.
 *
 * @param tci the tag's 16 bits: priority, drop bit, id
 * @returns 0; -1, with nothing changed, without headroom or for less than 14 bytes
 */
export function vlanPush(context: XdpContext, tci: number, type: number = TPID_8021Q): number {
  if (context.offset + ETHERNET_SIZE > context.end || adjustHead(context, -VLAN_SIZE) !== 0) return -1;
  const { view } = context.memory;
  const at = context.offset;
  view.setInt32(at, view.getInt32(at + 4));
  view.setInt32(at + 4, view.getInt32(at + 8));
  view.setInt32(at + 8, view.getInt32(at + 12));
  view.setUint16(at + 12, type);
  view.setUint16(at + 14, tci);
  return 0;
}

/**
 * Takes the outer tag off.
 *
 * @returns its 16 bits; -1, with nothing changed, if there is none or it is cut off
 */
export function vlanPop(context: XdpContext): number {
  const at = context.offset;
  const { view } = context.memory;
  if (at + ETHERNET_SIZE + VLAN_SIZE > context.end || !isVlanType(view.getUint16(at + 12))) return -1;
  if (adjustHead(context, VLAN_SIZE) !== 0) return -1;
  const tci = view.getUint16(at + 14);
  view.setInt32(at + 12, view.getInt32(at + 8));
  view.setInt32(at + 8, view.getInt32(at + 4));
  view.setInt32(at + 4, view.getInt32(at));
  return tci;
}

/** Swaps the MAC addresses of the frame at `at`, which has 14 bytes at least. */
export function swapMac(view: DataView, at: number): void {
  const high = view.getInt32(at);
  const low = view.getUint16(at + 4);
  view.setUint16(at, view.getUint16(at + 6));
  view.setInt32(at + 2, view.getInt32(at + 8));
  view.setInt32(at + 6, high);
  view.setUint16(at + 10, low);
}

/** Swaps the addresses of the IPv4 header at `at`: no checksum changes. */
export function swapIpv4(view: DataView, at: number): void {
  const source = view.getInt32(at + 12);
  view.setInt32(at + 12, view.getInt32(at + 16));
  view.setInt32(at + 16, source);
}

/** Swaps the addresses of the IPv6 header at `at`: no checksum changes. */
export function swapIpv6(view: DataView, at: number): void {
  for (let i = at + 8; i < at + 24; i += 4) {
    const source = view.getInt32(i);
    view.setInt32(i, view.getInt32(i + 16));
    view.setInt32(i + 16, source);
  }
}
