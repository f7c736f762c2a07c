/**
 * What a stack is made with, checked before anything is opened.
 *
 * @module
 */
import type { Device } from "../device.ts";
import { wrongTcpOption } from "../tcp/check_options.ts";
import type { TcpOptions } from "../tcp/types.ts";
import { wrongUdpOption } from "../udp/check_options.ts";
import type { UdpOptions } from "../udp/types.ts";
import {
  broadcastOf,
  formatKey,
  isLoopback,
  isUnicast,
  LOOPBACK,
  maskOf,
  parsePrefix,
  tryParseAddress,
} from "../wire/address.ts";
import { checkClock, checkFunction, checkList, checkObject, checkSwitch } from "../checks.ts";
import { isBytes } from "./bytes.ts";
import type { Clock } from "./clock.ts";

/** Smallest MTU that IPv4 allows (RFC 791). */
const MTU_MIN = 68;
const MTU_MAX = 65_535;

/** Connections that may wait to be accepted, unless `listen` says otherwise: as many as Deno asks of the kernel. */
const DEFAULT_BACKLOG = 511;
/** As many as Linux lets wait however many are asked for (its `somaxconn`). */
const SYSTEM_BACKLOG = 4096;

/** What fits into the send buffer of a connection that is just being made, in bytes. */
export const INITIAL_DATA_MAX = 65_536;

/** A route, as it is given and shown. */
export interface RouteOptions {
  /** Network with prefix length, "192.168.0.0/16"; "0.0.0.0/0" is the default route. */
  destination: string;
  /** Address of the router; without it the destination is on the link. */
  gateway?: string;
  /** The lower is preferred. Default 0. */
  metric?: number;
  /** Index of the interface. Default: the one that reaches the gateway, else the first. */
  interfaceIndex?: number;
}

/** Options of a device of a stack. */
export interface DeviceOptions {
  /** Addresses with prefix lengths: "10.0.0.2/24". */
  address?: string | readonly string[];
  /** Lowers the device's MTU, in bytes of IP packet: 68 to 65535. */
  mtu?: number;
  /** Probe addresses before using them, as RFC 5227 wants it: takes up to 9 seconds. Default false. */
  detectConflicts?: boolean;
  /** Live in this VLAN (1 to 4094): frames go out tagged, and only frames with that tag come in. */
  vlan?: number;
}

/** Options of a {@link NetStack}. */
export interface NetStackOptions extends DeviceOptions {
  /** Address of the router for everything that isn't on the link. */
  gateway?: string;
  /** More routes. */
  routes?: readonly RouteOptions[];
  /** Forward packets between devices. Default false. */
  forwarding?: boolean;
  /** Addresses of name servers for {@link NetStack.resolve}. */
  nameservers?: readonly string[];
  /** Defaults for every TCP connection and listener. */
  tcp?: TcpOptions;
  /** Where time comes from. Default: the machine's clock. */
  clock?: Clock;
  /** Makes all random choices (ports, sequence numbers) the same every time: for tests only. */
  seed?: number;
  /** Told when another host claims an address of ours (RFC 5227 2.4). What it throws is counted and ignored. */
  onConflict?: (conflict: { address: string; mac: string; interfaceIndex: number }) => void;
}

/** Options of {@link NetStack.connect}: those of `Deno.connect`, and the connection's own. */
export interface ConnectOptions extends TcpOptions {
  /** Port, 1 to 65535. */
  port: number;
  /** Literal address or name. Default "127.0.0.1", which is the stack itself. */
  hostname?: string;
  /** Only "tcp". */
  transport?: "tcp";
  /** Address to come from; must be one of the stack's. */
  localAddress?: string;
  /** Port to come from. Default: a free one. */
  localPort?: number;
  /**
   * What is written first, at most 64 KiB. It goes with the SYN (Fast Open, RFC 7413) when the server has given a cookie
   * before, else behind the handshake; in either case it is in the send buffer when the promise resolves. It may reach the
   * server's program twice if the network duplicates the SYN: use it for requests that bear it.
   */
  initialData?: Uint8Array;
  /** Gives up when aborted: the promise rejects with the signal's reason. */
  signal?: AbortSignal;
}

/** Options of {@link NetStack.listen}: those of `Deno.listen`, and what accepted connections inherit. */
export interface ListenOptions extends TcpOptions {
  /** Port; 0, the default, for a free one. */
  port?: number;
  /** Address to listen on. Default "0.0.0.0": all of the stack's. */
  hostname?: string;
  /** Only "tcp". */
  transport?: "tcp";
  /** Connections that may wait to be accepted. Default 511. */
  backlog?: number;
  /** Deno's name for `backlog`, and taken as Linux takes it: at least 1 and at most 4096, which is what a negative one means. */
  tcpBacklog?: number;
  /** For programs that ask Deno for it. A stack's port has one listener: the second is refused with `AddrInUse`. */
  reusePort?: boolean;
}

/** Options of {@link NetStack.listenDatagram}. */
export interface DatagramOptions extends UdpOptions {
  /** Port; 0, the default, for a free one. */
  port?: number;
  /** Address to listen on. Default "0.0.0.0": all of the stack's. */
  hostname?: string;
  /** Only "udp". */
  transport?: "udp";
  /** Hear one's own multicast. Deno's name for `multicastLoop`. */
  loopback?: boolean;
}

/** Options of {@link NetStack.connectDatagram}. */
export interface ConnectDatagramOptions extends UdpOptions {
  /** The peer's port, 1 to 65535. */
  port: number;
  /** The peer's address. */
  hostname: string;
  /** Port to come from. Default: a free one. */
  localPort?: number;
}

/** What {@link checkStackOptions} has read. */
export interface CheckedAddresses {
  addresses: { key: number; prefixLength: number }[];
  mtu: number | undefined;
  vlan: number | undefined;
}

export { checkObject } from "../checks.ts";

/** Each of `names`, if it is there, is true or false. */
function checkSwitches<T extends object>(options: T, names: readonly (keyof T & string)[]): void {
  for (const name of names) checkSwitch(name, options[name]);
}

/** A port number, or its text; wrong ones are refused in Deno's words. */
export function checkPort(port: unknown, least = 0): number {
  if (typeof port !== "number" && typeof port !== "string") throw new TypeError(`Invalid port (expected number): ${port}`);
  const number = port === "" ? NaN : Number(port);
  if (!Number.isInteger(number)) throw new TypeError(`Invalid port: ${typeof port === "string" ? `'${port}'` : port}`);
  if (number < least || number > 65_535) throw new RangeError(`Invalid port (out of range): ${port}`);
  return number;
}

/** What may abort a call. */
export function checkSignal(signal: unknown): void {
  if (signal !== undefined && !(signal instanceof AbortSignal)) throw new TypeError(`signal must be an AbortSignal: ${signal}`);
}

/** What all calls that make a socket have in common. */
export function checkCall(options: object, transport: string): void {
  checkObject(options);
  const given = options as { transport?: unknown; signal?: unknown };
  checkTransport(given.transport, transport);
  checkSignal(given.signal);
}

/** Options of a datagram socket. Throws a RangeError that says which one is wrong. */
export function checkUdpOptions(options: UdpOptions & { loopback?: boolean }): void {
  const wrong = wrongUdpOption(options);
  if (wrong !== null) throw new RangeError(wrong);
  checkSwitches(options, ["loopback"]);
}

/** How many connections may wait, by either name. Throws a RangeError or TypeError for what is no number of them. */
export function checkBacklog({ backlog, tcpBacklog }: ListenOptions): number {
  if (backlog === undefined && (tcpBacklog === undefined || tcpBacklog === null)) return DEFAULT_BACKLOG;
  if (backlog !== undefined) {
    if (!(Number.isInteger(backlog) && backlog >= 1)) throw new RangeError(`backlog must be 1 or more: ${backlog}`);
    return backlog;
  }
  if (typeof tcpBacklog !== "number") throw new TypeError(`tcpBacklog must be a number: ${tcpBacklog}`);
  if (tcpBacklog < 0) return SYSTEM_BACKLOG;
  return Math.min(Math.max(Math.trunc(tcpBacklog) || 0, 1), SYSTEM_BACKLOG);
}

/** What a listener's error says was tried. */
export function listenText(key: number, port: number, { reusePort }: ListenOptions): string {
  return `listen ${formatKey(key)}:${port}${reusePort ? " (a stack's port has one listener, also with reusePort)" : ""}`;
}

/** Where "0.0.0.0" leads to, as with Linux: this host, by the address that is used already, or by loop-back. */
export function hostOrSelf(key: number, localKey = 0): number {
  return key !== 0 ? key : localKey !== 0 ? localKey : LOOPBACK;
}

/** Options of a connection or listener. Throws a RangeError that says which one is wrong. */
export function checkTcpOptions(options: TcpOptions): void {
  const wrong = wrongTcpOption(options);
  if (wrong !== null) throw new RangeError(wrong);
}

/** Node's delay of keep-alive, which may be anything, as an option of ours: undefined for the default. */
export function keepAliveIdleMs(ms: number): number | undefined {
  return ms > 0 ? Math.min(Math.max(ms, 1), 2 ** 31 - 1) : undefined;
}

/** What is to go with the SYN: a copy, since the name is looked up before. */
export function checkInitialData(bytes: unknown): Uint8Array | undefined {
  if (bytes === undefined) return undefined;
  if (!isBytes(bytes)) throw new TypeError("initialData must be a Uint8Array");
  if (bytes.byteLength > INITIAL_DATA_MAX) {
    throw new RangeError(`initialData must be at most ${INITIAL_DATA_MAX} bytes: ${bytes.byteLength}`);
  }
  return new Uint8Array(bytes);
}

/** A literal address; "localhost" is 127.0.0.1. */
export function checkAddress(text: unknown, what: string): number {
  if (text === "localhost") return LOOPBACK;
  const key = typeof text === "string" ? tryParseAddress(text) : null;
  if (key === null) {
    throw new TypeError(`${what} must be an IPv4 address like "10.0.0.1": ${JSON.stringify(text)}`);
  }
  return key;
}

/** Only the transport that the method speaks. */
function checkTransport(given: unknown, expected: string): void {
  if (given !== undefined && given !== expected) {
    throw new TypeError(`Unsupported transport: ${JSON.stringify(given)}, expected "${expected}"`);
  }
}

/** Reads what concerns one device. Throws a TypeError or RangeError that says which option is wrong. */
export function checkDeviceOptions(device: Device, options: DeviceOptions): CheckedAddresses {
  if (typeof device !== "object" || device === null || typeof device.receive !== "function") {
    throw new TypeError("A stack needs a device, like TapDevice.open() or one end of cable()");
  }
  checkObject(options);
  checkSwitches(options, ["detectConflicts"]);
  const { address, mtu, vlan } = options;
  const texts = address === undefined ? [] : typeof address === "string" ? [address] : address;
  checkList("address", texts);
  const addresses = texts.map(checkOwnAddress);
  const twice = addresses.findIndex(({ key }, i) => addresses.findIndex((other) => other.key === key) < i);
  if (twice >= 0) throw new RangeError(`address ${texts[twice]} is there twice`);
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= MTU_MAX)) {
    throw new RangeError(`mtu must be ${MTU_MIN} to ${MTU_MAX} bytes: ${mtu}`);
  }
  if (mtu !== undefined && mtu > device.mtu) {
    throw new RangeError(`mtu ${mtu} is more than device "${device.name}" carries (${device.mtu})`);
  }
  if (vlan !== undefined && !(Number.isInteger(vlan) && vlan >= 1 && vlan <= 4094)) {
    throw new RangeError(`vlan must be 1 to 4094: ${vlan}`);
  }
  return { addresses, mtu, vlan };
}

/** Options of `addAddress`. */
export function checkAddAddress(options: { detectConflicts?: boolean }): void {
  checkObject(options);
  checkSwitches(options, ["detectConflicts"]);
}

/** An address with its prefix length that a host can have: no network, no broadcast, no loop-back. */
export function checkOwnAddress(text: string): { key: number; prefixLength: number } {
  const parsed = parsePrefix(text);
  const { key, prefixLength } = parsed;
  const whole = prefixLength >= 31;
  const special = !whole && (key === broadcastOf(key, prefixLength) || (key & ~maskOf(prefixLength)) === 0);
  if (prefixLength === 0 || special || !isUnicast(key) || isLoopback(key)) {
    throw new RangeError(`address ${text} is none that a host can have`);
  }
  return parsed;
}

/** A route's text forms as keys. */
export function checkRoute(route: RouteOptions): { destination: number; prefixLength: number; gateway: number; metric: number } {
  checkObject(route, "a route");
  const { key, prefixLength } = parsePrefix(route.destination);
  const metric = route.metric ?? 0;
  if (!Number.isInteger(metric) || metric < 0) throw new RangeError(`metric must be 0 or more: ${metric}`);
  return {
    destination: key,
    prefixLength,
    gateway: route.gateway === undefined ? 0 : checkAddress(route.gateway, "gateway"),
    metric,
  };
}

/** Reads what concerns the whole stack. */
export function checkStackOptions(options: NetStackOptions): { gateway: number; nameservers: number[] } {
  checkSwitches(options, ["forwarding"]);
  const { tcp } = options;
  if (tcp !== undefined) {
    checkObject(tcp, "tcp");
    checkTcpOptions(tcp);
  }
  checkClock(options.clock);
  checkFunction("onConflict", options.onConflict);
  checkList("nameservers", options.nameservers);
  checkList("routes", options.routes);
  const gateway = options.gateway === undefined ? 0 : checkAddress(options.gateway, "gateway");
  if (options.gateway !== undefined && !isUnicast(gateway)) {
    throw new RangeError(`gateway ${options.gateway} is no host's address`);
  }
  for (const route of options.routes ?? []) checkRoute(route);
  if (options.seed !== undefined && !Number.isFinite(options.seed)) {
    throw new RangeError(`seed must be a number: ${options.seed}`);
  }
  return { gateway, nameservers: (options.nameservers ?? []).map((text) => checkAddress(text, "nameserver")) };
}
