/**
 * Addresses and neighbours over rtnetlink: what `ip address` and `ip neighbour` do, in the calling thread's namespace.
 *
 * @module
 */
import { formatIp, formatMac, networkOf, parseIp, parseMac, parsePrefix, type Prefix } from "./inet.ts";
import {
  attributes,
  NetlinkMessage,
  type NetlinkPart,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
  NLM_F_REPLACE,
} from "./netlink.ts";
import { linkIndex } from "./rtnl_link.ts";

export const AF_INET = 2;
export const AF_INET6 = 10;

const RTM_NEWADDR = 20;
const RTM_DELADDR = 21;
const RTM_GETADDR = 22;
const RTM_NEWNEIGH = 28;
const RTM_DELNEIGH = 29;
const RTM_GETNEIGH = 30;

const IFA_ADDRESS = 1;
const IFA_LOCAL = 2;
const IFA_BROADCAST = 4;
const IFA_F_NODAD = 0x02;
const NDA_DST = 1;
const NDA_LLADDR = 2;
const NUD_PERMANENT = 0x80;

/** The family number of an address. */
export function familyOf(address: Uint8Array): number {
  return address.length === 4 ? AF_INET : AF_INET6;
}

/** An address of a link. */
export interface LinkAddress {
  readonly index: number;
  /** "10.0.0.1" */
  readonly address: string;
  readonly prefixLength: number;
  /** 0 global, 253 link, 254 host. */
  readonly scope: number;
}

/** A neighbour (ARP or NDP) entry. */
export interface Neighbor {
  readonly index: number;
  readonly address: string;
  /** "" while it is unknown. */
  readonly mac: string;
  readonly state: string;
}

const NUD_NAMES: Record<number, string> = {
  0: "none",
  1: "incomplete",
  2: "reachable",
  4: "stale",
  8: "delay",
  16: "probe",
  32: "failed",
  64: "noarp",
  128: "permanent",
};

function addressMessage(type: number, flags: number, index: number, { address, length }: Prefix): NetlinkMessage {
  // ifaddrmsg: family, prefix length, flags, scope, index. The kernel would probe a new IPv6 address for a second; ours is chosen.
  const family = familyOf(address);
  const message = new NetlinkMessage(type, flags);
  message.u8(family).u8(length).u8(family === AF_INET6 && type === RTM_NEWADDR ? IFA_F_NODAD : 0).u8(0).u32(index);
  message.attribute(IFA_LOCAL, address).attribute(IFA_ADDRESS, address);
  if (type === RTM_NEWADDR && family === AF_INET && length < 31) {
    const broadcast = networkOf({ address, length });
    for (let bit = length; bit < 32; bit++) broadcast[bit >> 3] |= 0x80 >> (bit & 7);
    message.attribute(IFA_BROADCAST, broadcast);
  }
  return message;
}

/** Gives a link an address, "10.0.0.1/24" or "fd00::1/64". @throws `AlreadyExists` (EEXIST), `NotFound`, `PermissionDenied` */
export function addAddress(link: string | number, address: string): void {
  const prefix = parsePrefix(address);
  const message = addressMessage(RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, linkIndex(link), prefix);
  using socket = new NetlinkSocket();
  socket.request(message, "add", `address ${address} to link "${link}"`);
}

/** Takes an address from a link. @throws `AddrNotAvailable` (EADDRNOTAVAIL) when it isn't there */
export function deleteAddress(link: string | number, address: string): void {
  const message = addressMessage(RTM_DELADDR, 0, linkIndex(link), parsePrefix(address));
  using socket = new NetlinkSocket();
  socket.request(message, "delete", `address ${address} of link "${link}"`);
}

/** Addresses of a link, or of all. */
export function listAddresses(link?: string | number): LinkAddress[] {
  const index = link === undefined ? 0 : linkIndex(link);
  const message = new NetlinkMessage(RTM_GETADDR).u8(0).u8(0).u8(0).u8(0).u32(index);
  const list: LinkAddress[] = [];
  using socket = new NetlinkSocket();
  socket.dump(message, "list", "addresses", (part) => {
    if (part.type !== RTM_NEWADDR || part.bytes.length < 8) return;
    const owner = part.view.getUint32(4, true);
    const found = attributes(part, 8);
    const address = found.get(IFA_LOCAL) ?? found.get(IFA_ADDRESS);
    if (address === undefined || (index !== 0 && owner !== index)) return; // an old kernel doesn't filter
    list.push({ index: owner, address: formatIp(address.bytes), prefixLength: part.bytes[1], scope: part.bytes[3] });
  }, () => list.length = 0);
  return list;
}

function neighborMessage(type: number, flags: number, index: number, address: Uint8Array, state: number): NetlinkMessage {
  // ndmsg: family, padding 3, index, state, flags, type
  const message = new NetlinkMessage(type, flags).u8(familyOf(address)).u8(0).u16(0).u32(index).u16(state).u8(0).u8(0);
  return message.attribute(NDA_DST, address);
}

/** Sets a permanent neighbour, in place of what was there. */
export function setNeighbor(link: string | number, address: string, mac: string | Uint8Array): void {
  const ip = parseIp(address), lladdr = parseMac(mac);
  const message = neighborMessage(RTM_NEWNEIGH, NLM_F_CREATE | NLM_F_REPLACE, linkIndex(link), ip, NUD_PERMANENT);
  message.attribute(NDA_LLADDR, lladdr);
  using socket = new NetlinkSocket();
  socket.request(message, "set", `neighbour ${address} of link "${link}"`);
}

/** Forgets a neighbour. @throws `NotFound` (ENOENT) */
export function deleteNeighbor(link: string | number, address: string): void {
  const message = neighborMessage(RTM_DELNEIGH, 0, linkIndex(link), parseIp(address), 0);
  using socket = new NetlinkSocket();
  socket.request(message, "delete", `neighbour ${address} of link "${link}"`);
}

function parseNeighbor(part: NetlinkPart): Neighbor | null {
  const found = attributes(part, 12);
  const address = found.get(NDA_DST), mac = found.get(NDA_LLADDR);
  if (address === undefined || (address.bytes.length !== 4 && address.bytes.length !== 16)) return null;
  return {
    index: part.view.getInt32(4, true),
    address: formatIp(address.bytes),
    mac: mac === undefined ? "" : formatMac(mac.bytes),
    state: NUD_NAMES[part.view.getUint16(8, true)] ?? "unknown",
  };
}

/** Neighbours of a link, or of all; those of bridges' forwarding tables aren't listed. */
export function listNeighbors(link?: string | number): Neighbor[] {
  const index = link === undefined ? 0 : linkIndex(link);
  const list: Neighbor[] = [];
  const message = new NetlinkMessage(RTM_GETNEIGH).u8(0).u8(0).u16(0).u32(0).u16(0).u8(0).u8(0);
  using socket = new NetlinkSocket();
  socket.dump(message, "list", "neighbours", (part) => {
    if (part.type !== RTM_NEWNEIGH || part.bytes.length < 12) return;
    const neighbor = parseNeighbor(part);
    if (neighbor !== null && (index === 0 || neighbor.index === index)) list.push(neighbor);
  }, () => list.length = 0);
  return list;
}
