/**
 * Routes over rtnetlink: what `ip route` does, in the calling thread's namespace.
 *
 * @module
 */
import { formatIp, networkOf, parseIp, parsePrefix, type Prefix } from "./inet.ts";
import {
  attributes,
  attributeU32,
  NetlinkMessage,
  type NetlinkPart,
  NetlinkSocket,
  NLM_F_CREATE,
  NLM_F_EXCL,
} from "./netlink.ts";
import { AF_INET6, familyOf } from "./rtnl_address.ts";
import { linkIndex } from "./rtnl_link.ts";

const RTM_NEWROUTE = 24;
const RTM_DELROUTE = 25;
const RTM_GETROUTE = 26;
const RTA_DST = 1;
const RTA_OIF = 4;
const RTA_GATEWAY = 5;
const RTA_PRIORITY = 6;
const RTA_PREFSRC = 7;
const RTA_TABLE = 15;
const RT_TABLE_MAIN = 254;
const RTPROT_STATIC = 4;
const RTN_UNICAST = 1;
const SCOPE_LINK = 253;
const SCOPE_NOWHERE = 255;

/** A route to be added or deleted. */
export interface RouteSettings {
  /** "10.1.0.0/16", "fd01::/48", or "default" (IPv4, unless the gateway is IPv6). */
  destination: string;
  gateway?: string;
  link?: string | number;
  /** Preferred source address. */
  source?: string;
  metric?: number;
  /** Table number; 254, the main one, unless given. */
  table?: number;
}

/** A route as the kernel shows it. */
export interface KernelRoute {
  readonly family: number;
  /** "default", or the network with its length. */
  readonly destination: string;
  /** "" when the destination is on the link. */
  readonly gateway: string;
  readonly index: number;
  readonly source: string;
  readonly metric: number;
  readonly table: number;
  /** 1 unicast, 2 local, 3 broadcast, 7 unreachable… */
  readonly type: number;
}

interface Checked {
  destination: Prefix;
  gateway: Uint8Array | null;
  source: Uint8Array | null;
}

/** @throws {TypeError} for a route that cannot be; nothing is asked of the kernel */
export function checkRoute(route: RouteSettings): Checked {
  const gateway = route.gateway === undefined ? null : parseIp(route.gateway);
  const source = route.source === undefined ? null : parseIp(route.source);
  let destination = parsePrefix(route.destination);
  if (route.destination === "default" && gateway?.length === 16) destination = { address: new Uint8Array(16), length: 0 };
  for (const other of [gateway, source]) {
    if (other !== null && other.length !== destination.address.length) {
      throw new TypeError(`Invalid route to ${route.destination}: IPv4 and IPv6 are mixed`);
    }
  }
  if (route.metric !== undefined && !(Number.isInteger(route.metric) && route.metric >= 0 && route.metric <= 0xffffffff)) {
    throw new TypeError(`Invalid metric ${route.metric}`);
  }
  return { destination, gateway, source };
}

function routeMessage(type: number, flags: number, route: RouteSettings): NetlinkMessage {
  const { destination, gateway, source } = checkRoute(route);
  const adding = type === RTM_NEWROUTE;
  const table = route.table ?? RT_TABLE_MAIN;
  const family = familyOf(destination.address);
  const scope = !adding ? SCOPE_NOWHERE : gateway === null && family !== AF_INET6 ? SCOPE_LINK : 0;
  const message = new NetlinkMessage(type, flags);
  // rtmsg: family, destination length, source length, tos, table, protocol, scope, type, flags
  message.u8(family).u8(destination.length).u8(0).u8(0).u8(table < 256 ? table : 0).u8(adding ? RTPROT_STATIC : 0).u8(scope);
  message.u8(adding ? RTN_UNICAST : 0).u32(0);
  // The kernel refuses host bits below the prefix (EINVAL): they say nothing, so they are cleared.
  if (destination.length > 0) message.attribute(RTA_DST, networkOf(destination));
  if (gateway !== null) message.attribute(RTA_GATEWAY, gateway);
  if (source !== null) message.attribute(RTA_PREFSRC, source);
  if (route.link !== undefined) message.attributeU32(RTA_OIF, linkIndex(route.link));
  if (route.metric !== undefined) message.attributeU32(RTA_PRIORITY, route.metric);
  message.attributeU32(RTA_TABLE, table);
  return message;
}

/** @throws `AlreadyExists` (EEXIST), `NetworkUnreachable` (ENETUNREACH) for a gateway that isn't on a link, `PermissionDenied` */
export function addRoute(route: RouteSettings): void {
  const message = routeMessage(RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, route);
  using socket = new NetlinkSocket();
  socket.request(message, "add", `route to ${route.destination}`);
}

/** @throws `NotFound` (ESRCH) when there is none */
export function deleteRoute(route: RouteSettings): void {
  const message = routeMessage(RTM_DELROUTE, 0, route);
  using socket = new NetlinkSocket();
  socket.request(message, "delete", `route to ${route.destination}`);
}

function parseRoute(part: NetlinkPart): KernelRoute {
  const found = attributes(part, 12);
  const address = (type: number) => {
    const bytes = found.get(type)?.bytes;
    return bytes === undefined ? "" : formatIp(bytes);
  };
  const length = part.bytes[1];
  return {
    family: part.bytes[0],
    destination: length === 0 ? "default" : `${address(RTA_DST)}/${length}`,
    gateway: address(RTA_GATEWAY),
    index: attributeU32(found.get(RTA_OIF)),
    source: address(RTA_PREFSRC),
    metric: attributeU32(found.get(RTA_PRIORITY)),
    table: attributeU32(found.get(RTA_TABLE), part.bytes[4]),
    type: part.bytes[7],
  };
}

/** Routes of a table (the main one unless given), of both families; of one link if given. */
export function listRoutes(options: { link?: string | number; table?: number } = {}): KernelRoute[] {
  const index = options.link === undefined ? 0 : linkIndex(options.link);
  const table = options.table ?? RT_TABLE_MAIN;
  const list: KernelRoute[] = [];
  const message = new NetlinkMessage(RTM_GETROUTE).u8(0).u8(0).u8(0).u8(0).u8(0).u8(0).u8(0).u8(0).u32(0);
  using socket = new NetlinkSocket();
  socket.dump(message, "list", "routes", (part) => {
    const family = part.bytes[0];
    if (part.type !== RTM_NEWROUTE || part.bytes.length < 12 || (family !== 2 && family !== AF_INET6)) return;
    const route = parseRoute(part);
    if (route.table === table && (index === 0 || route.index === index)) list.push(route);
  }, () => list.length = 0);
  return list;
}
