/**
 * Links (network interfaces) over rtnetlink: what `ip link` does, without running it. Everything acts in the network
 * namespace of the calling thread; see `inNamespace`.
 *
 * @module
 */
import type { Descriptor } from "./descriptor.ts";
import { ENODEV, errnoError } from "./errno.ts";
import { checkInterfaceName } from "./ifreq.ts";
import { formatMac, parseMac } from "./inet.ts";
import { inNamespace } from "./namespace.ts";
import {
  attributes,
  attributeText,
  attributeU32,
  NetlinkMessage,
  type NetlinkPart,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
} from "./netlink.ts";

const RTM_NEWLINK = 16;
const RTM_DELLINK = 17;
const RTM_GETLINK = 18;

const IFLA_ADDRESS = 1;
const IFLA_IFNAME = 3;
const IFLA_MTU = 4;
const IFLA_LINK = 5;
const IFLA_MASTER = 10;
const IFLA_TXQLEN = 13;
const IFLA_OPERSTATE = 16;
const IFLA_LINKINFO = 18;
const IFLA_NET_NS_PID = 19;
const IFLA_STATS64 = 23;
const IFLA_NET_NS_FD = 28;
const IFLA_PROMISCUITY = 30;
const IFLA_CARRIER = 33;
const IFLA_XDP = 43;
/** Within IFLA_XDP: the one program, or those of generic mode, of the driver, of the card. */
const XDP_PROGRAM_IDS = [4, 5, 6, 7];
const IFLA_INFO_KIND = 1;
const IFLA_INFO_DATA = 2;
const VETH_INFO_PEER = 1;
const IFLA_TUN_OWNER = 1;
const IFLA_TUN_GROUP = 2;
const IFLA_TUN_PI = 4;
const IFLA_TUN_VNET_HDR = 5;
const IFLA_TUN_PERSIST = 6;
const IFLA_TUN_MULTI_QUEUE = 7;

const IFF_UP = 0x1;
const IFF_NOARP = 0x80;
const IFF_PROMISC = 0x100;
const IFF_ALLMULTI = 0x200;
const IFF_LOWER_UP = 0x10000;

const OPERSTATES = ["unknown", "notpresent", "down", "lowerlayerdown", "testing", "dormant", "up"] as const;

/** Settings of a TAP or TUN interface; `TUNGETIFF` cannot tell them all (its "no packet info" bit has two meanings). */
export interface TunSettings {
  readonly packetInfo: boolean;
  readonly virtioHeader: boolean;
  readonly persist: boolean;
  readonly multiQueue: boolean;
  /** Ids, or -1 for nobody. */
  readonly owner: number;
  readonly group: number;
}

/** A link as the kernel shows it. */
export interface Link {
  readonly index: number;
  readonly name: string;
  /** "tun" (also for TAP), "veth", "bridge"…; "" for a hardware or loop-back interface. */
  readonly kind: string;
  /** ARPHRD_… number: 1 Ethernet, 772 loop-back, 65534 none (TUN). */
  readonly type: number;
  readonly mtu: number;
  /** Packets that wait at most on the way out. */
  readonly txQueueLength: number;
  /** "02:00:00:00:00:01", or "" without one. */
  readonly mac: string;
  readonly flags: number;
  /** Switched on by its administrator. */
  readonly up: boolean;
  /** The cable is in: for a TAP, somebody has it open. */
  readonly carrier: boolean;
  readonly operState: typeof OPERSTATES[number];
  /** Index of the bridge that it belongs to, or 0. */
  readonly master: number;
  /** Index of the link that it stands on (a veth's peer, a VLAN's base), or 0. */
  readonly peer: number;
  /** How many ask for frames that aren't meant for its address; 0: nobody. */
  readonly promiscuity: number;
  /** The kernel's numbers of the XDP programs that are attached. */
  readonly xdpPrograms: readonly number[];
  /** What a TAP or TUN is set to; null for other links, and from kernels before 4.17. */
  readonly tun: TunSettings | null;
  readonly rxPackets: number;
  readonly txPackets: number;
  readonly rxBytes: number;
  readonly txBytes: number;
  readonly rxDropped: number;
  readonly txDropped: number;
}

/** What can be set of a link. */
export interface LinkSettings {
  /** New name, at most 15 bytes. */
  name?: string;
  up?: boolean;
  /** Bytes. */
  mtu?: number;
  mac?: string | Uint8Array;
  /** Bridge to join, by name; null leaves it. */
  master?: string | null;
  carrier?: boolean;
  /** Packets that wait at most on the way out. */
  txQueueLength?: number;
  arp?: boolean;
  promiscuous?: boolean;
  allMulticast?: boolean;
  /** Further bits of IFF_…: those of `mask` become those of `bits`. */
  flags?: { readonly bits: number; readonly mask: number };
  /** Moves it to the namespace of a process or of an open descriptor. Addresses are lost on the way. */
  namespace?: { readonly pid: number } | Descriptor;
}

/** A link to be made. */
export interface NewLink extends Omit<LinkSettings, "name"> {
  name: string;
  /** "veth", "bridge", "dummy", "ifb", … as the kernel knows them. */
  kind: string;
  /** The other end of a veth. */
  peer?: Omit<LinkSettings, "name" | "master"> & { name: string };
  /** Further settings of its kind: writes IFLA_INFO_DATA attributes. */
  data?: (message: NetlinkMessage) => void;
}

/** @throws {TypeError} when a setting is impossible; nothing is asked of the kernel */
export function checkLinkSettings(settings: LinkSettings): void {
  if (settings.name !== undefined) checkInterfaceName(settings.name);
  if (settings.mtu !== undefined && !(Number.isInteger(settings.mtu) && settings.mtu >= 68 && settings.mtu <= 0x7fffffff)) {
    throw new TypeError(`Invalid MTU ${settings.mtu}: a whole number from 68 on is needed`);
  }
  if (settings.mac !== undefined) parseMac(settings.mac);
  if (typeof settings.master === "string") checkInterfaceName(settings.master);
}

function begin(type: number, flags: number, index: number): NetlinkMessage {
  // ifinfomsg: family, padding, type, index, flags, mask of flags to change
  return new NetlinkMessage(type, flags).u8(0).u8(0).u16(0).u32(index).u32(0).u32(0);
}

/** Writes settings behind the ifinfomsg that begins at `at`. */
function putSettings(message: NetlinkMessage, at: number, settings: LinkSettings): void {
  let { bits: flags, mask } = settings.flags ?? { bits: 0, mask: 0 };
  flags &= mask;
  const flag = (bit: number, on: boolean | undefined) => {
    if (on === undefined) return;
    mask |= bit;
    flags = on ? flags | bit : flags & ~bit;
  };
  flag(IFF_UP, settings.up);
  flag(IFF_NOARP, settings.arp === undefined ? undefined : !settings.arp);
  flag(IFF_PROMISC, settings.promiscuous);
  flag(IFF_ALLMULTI, settings.allMulticast);
  message.view.setUint32(at + 8, flags, true);
  message.view.setUint32(at + 12, mask, true);
  if (settings.name !== undefined) message.attributeText(IFLA_IFNAME, settings.name);
  if (settings.mtu !== undefined) message.attributeU32(IFLA_MTU, settings.mtu);
  if (settings.mac !== undefined) message.attribute(IFLA_ADDRESS, parseMac(settings.mac));
  if (settings.txQueueLength !== undefined) message.attributeU32(IFLA_TXQLEN, settings.txQueueLength);
  if (settings.carrier !== undefined) message.attribute(IFLA_CARRIER, new Uint8Array([settings.carrier ? 1 : 0]));
  if (settings.master !== undefined) {
    message.attributeU32(IFLA_MASTER, settings.master === null ? 0 : linkIndex(settings.master));
  }
  const { namespace } = settings;
  if (namespace === undefined) return;
  if ("pid" in namespace) message.attributeU32(IFLA_NET_NS_PID, namespace.pid);
  else message.attributeU32(IFLA_NET_NS_FD, namespace.fd);
}

function parseTun(info: NetlinkPart | undefined): TunSettings | null {
  if (info === undefined) return null;
  const parts = attributes(info, 0);
  const data = parts.get(IFLA_INFO_DATA);
  if (attributeText(parts.get(IFLA_INFO_KIND)) !== "tun" || data === undefined) return null;
  const found = attributes(data, 0);
  const on = (type: number) => found.get(type)?.bytes[0] === 1;
  return {
    packetInfo: on(IFLA_TUN_PI),
    virtioHeader: on(IFLA_TUN_VNET_HDR),
    persist: on(IFLA_TUN_PERSIST),
    multiQueue: on(IFLA_TUN_MULTI_QUEUE),
    owner: attributeU32(found.get(IFLA_TUN_OWNER), 0xffffffff) | 0,
    group: attributeU32(found.get(IFLA_TUN_GROUP), 0xffffffff) | 0,
  };
}

function parseXdp(xdp: NetlinkPart | undefined): number[] {
  if (xdp === undefined) return [];
  const found = attributes(xdp, 0);
  return [...new Set(XDP_PROGRAM_IDS.map((type) => attributeU32(found.get(type))))].filter((id) => id !== 0);
}

/** A link in an RTM_NEWLINK or RTM_DELLINK message. */
export function parseLink(part: NetlinkPart): Link {
  const found = attributes(part, 16);
  const info = found.get(IFLA_LINKINFO);
  const flags = part.view.getUint32(8, true);
  const mac = found.get(IFLA_ADDRESS);
  const stats = found.get(IFLA_STATS64);
  const counter = (n: number) =>
    stats === undefined || stats.bytes.length < 8 * n + 8 ? 0 : Number(stats.view.getBigUint64(8 * n, true));
  return {
    index: part.view.getInt32(4, true),
    name: attributeText(found.get(IFLA_IFNAME)),
    kind: info === undefined ? "" : attributeText(attributes(info, 0).get(IFLA_INFO_KIND)),
    type: part.view.getUint16(2, true),
    mtu: attributeU32(found.get(IFLA_MTU)),
    txQueueLength: attributeU32(found.get(IFLA_TXQLEN)),
    mac: mac === undefined || mac.bytes.length !== 6 ? "" : formatMac(mac.bytes),
    flags,
    up: (flags & IFF_UP) !== 0,
    carrier: (flags & IFF_LOWER_UP) !== 0,
    operState: OPERSTATES[found.get(IFLA_OPERSTATE)?.bytes[0] ?? 0] ?? "unknown",
    master: attributeU32(found.get(IFLA_MASTER)),
    peer: attributeU32(found.get(IFLA_LINK)),
    promiscuity: attributeU32(found.get(IFLA_PROMISCUITY)),
    xdpPrograms: parseXdp(found.get(IFLA_XDP)),
    tun: parseTun(info),
    rxPackets: counter(0),
    txPackets: counter(1),
    rxBytes: counter(2),
    txBytes: counter(3),
    rxDropped: counter(6),
    txDropped: counter(7),
  };
}

/** All links of the namespace. */
export function listLinks(): Link[] {
  using socket = new NetlinkSocket();
  const links: Link[] = [];
  const message = begin(RTM_GETLINK, 0, 0);
  socket.dump(message, "list", "links", (part) => {
    if (part.type === RTM_NEWLINK && part.bytes.length >= 16) links.push(parseLink(part));
  }, () => links.length = 0);
  return links;
}

/** One link, by name or index. @throws `NotFound` (ENODEV) */
export function getLink(link: string | number): Link {
  if (typeof link === "string") checkInterfaceName(link);
  using socket = new NetlinkSocket();
  const message = begin(RTM_GETLINK, 0, typeof link === "number" ? link : 0);
  if (typeof link === "string") message.attributeText(IFLA_IFNAME, link);
  const what = typeof link === "string" ? `link "${link}"` : `link ${link}`;
  let found: Link | null = null;
  socket.request(message, "find", what, (part) => {
    if (part.type === RTM_NEWLINK && part.bytes.length >= 16) found = parseLink(part);
  });
  if (found === null) throw errnoError("find", what, ENODEV);
  return found;
}

/** The index of a link. @throws `NotFound` (ENODEV) */
export function linkIndex(link: string | number): number {
  return typeof link === "number" ? link : getLink(link).index;
}

/** True if there is a link of that name. */
export function linkExists(name: string): boolean {
  try {
    getLink(name);
    return true;
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return false;
    throw error;
  }
}

/**
 * Changes a link. The kernel does all of it or, on the first failure, keeps what it did before.
 *
 * @throws `NotFound` (ENODEV), `PermissionDenied` (EPERM), `AlreadyExists` (EEXIST) for a taken name, `Busy`…
 */
export function setLink(link: string | number, settings: LinkSettings): void {
  checkLinkSettings(settings);
  // RTM_NEWLINK without "create" changes; unlike RTM_SETLINK it takes every attribute.
  const message = begin(RTM_NEWLINK, 0, linkIndex(link));
  putSettings(message, 16, settings);
  using socket = new NetlinkSocket();
  socket.request(message, "change", `link "${link}"`);
}

/** Makes a link. @throws `AlreadyExists` (EEXIST), `PermissionDenied` (EPERM), `NotSupported` (EOPNOTSUPP) for an unknown kind */
export function createLink(link: NewLink): void {
  checkLinkSettings(link);
  if (link.peer !== undefined) checkLinkSettings(link.peer);
  // A veth cannot be switched on before both ends exist (ENOTCONN).
  const peer = link.peer === undefined ? undefined : { ...link.peer, up: undefined };
  const message = begin(RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, 0);
  putSettings(message, 16, link);
  message.nest(IFLA_LINKINFO, () => {
    message.attributeText(IFLA_INFO_KIND, link.kind);
    if (peer === undefined && link.data === undefined) return;
    message.nest(IFLA_INFO_DATA, () => {
      link.data?.(message);
      if (peer === undefined) return;
      message.nest(VETH_INFO_PEER, () => {
        const at = message.length;
        message.u8(0).u8(0).u16(0).u32(0).u32(0).u32(0);
        putSettings(message, at, peer);
      });
    });
  });
  using socket = new NetlinkSocket();
  socket.request(message, "create", `${link.kind} link "${link.name}"`);
  const { peer: end } = link;
  if (end?.up !== true) return;
  if (end.namespace === undefined) setLink(end.name, { up: true });
  else inNamespace(end.namespace, () => setLink(end.name, { up: true }));
}

/** Removes a link (a veth takes its peer along). @throws `NotFound` (ENODEV), `PermissionDenied` (EPERM) */
export function deleteLink(link: string | number): void {
  const message = begin(RTM_DELLINK, 0, linkIndex(link));
  using socket = new NetlinkSocket();
  socket.request(message, "delete", `link "${link}"`);
}
