/**
 * The internet layer: IPv4 with ARP, ICMP, IGMP, routes and several interfaces, as one object that the host shell drives.
 *
 * @module
 */
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, ENETDOWN, ENOBUFS, ENODEV, OK } from "../codes.ts";
import { type Device, type FrameMemory, RX_CHECKSUM_VALID, TxFrame } from "../device.ts";
import { broadcastOf, formatMac, isLoopback, isMulticast, isUnicast, LIMITED_BROADCAST, maskOf } from "../wire/address.ts";
import { ICMP_UNREACHABLE } from "../wire/icmp.ts";
import { AddressTable, KIND_LOCAL, KIND_NONE } from "./addresses.ts";
import { Arp } from "./arp.ts";
import { Conflicts } from "./conflict.ts";
import { Forward } from "./forward.ts";
import { Icmp } from "./icmp.ts";
import { IcmpErrors, type IcmpLimits } from "./icmp_errors.ts";
import { Igmp } from "./igmp.ts";
import { Input } from "./input.ts";
import { LinkInterface } from "./interface.ts";
import { ADDRESSES_PER_INTERFACE, INTERFACES_MAX } from "./limits.ts";
import { LoopDevice } from "./loop.ts";
import { Output } from "./output.ts";
import type { PathImpl } from "./path.ts";
import { Paths } from "./paths.ts";
import { PathMtuTable } from "./pmtu.ts";
import { Reassembler } from "./reassembly.ts";
import { RouteTable } from "./routes.ts";
import * as types from "./types.ts";

/** What an {@link InternetLayer} is made of. */
export interface InternetOptions {
  /** Uniformly random unsigned 32-bit numbers: seeded for a simulation, from the system's source for the world. */
  random32: () => number;
  /** Forward packets between interfaces. Default false. */
  forwarding?: boolean;
  /** Rates of ICMP errors; Linux's figures by default. */
  icmp?: Partial<IcmpLimits>;
}

/**
 * IPv4 over any number of devices. It never waits and never throws on what comes in: the shell sets `now`, hands frames to the
 * interfaces, calls `pump` while the inner loop-back holds packets, and `advance` when `nextDeadline` has come.
 *
 * @example
 * ```ts ignore
 * const ip = new InternetLayer({ random32: () => crypto.getRandomValues(new Uint32Array(1))[0] });
 * const { index } = ip.addInterface(device);
 * ip.addAddress(index, parseAddress("10.0.0.2"), 24);
 * device.receive(ip.interfaces[0], 256);
 * ```
 */
export class InternetLayer implements types.Internet {
  /**
   * Begins as null, for a moment, so that V8 keeps a reference to a number here, made once a burst. A field that only ever held
   * numbers with fractions is kept as the bare double, which is boxed anew for every packet it is handed on with.
   */
  now: number = null as unknown as number;
  readonly tx: TxFrame = new TxFrame();
  readonly interfaces: LinkInterface[] = [];
  onConflict: (key: number, interfaceIndex: number, mac: Uint8Array) => void = () => {};

  anyAddress = false;
  answerEcho = true;

  /** @ignore The parts, for each other. */
  readonly local: AddressTable = new AddressTable();
  readonly routeTable: RouteTable = new RouteTable();
  readonly pathMtus: PathMtuTable = new PathMtuTable();
  readonly transports: (types.Transport | null)[] = new Array(256).fill(null);
  readonly loop: LoopDevice = new LoopDevice();
  readonly random32: () => number;
  readonly paths: Paths;
  readonly output: Output;
  readonly errors: IcmpErrors;
  readonly icmp: Icmp;
  readonly igmp: Igmp;
  readonly arp: Arp;
  readonly conflicts: Conflicts;
  readonly reassembler: Reassembler = new Reassembler();
  readonly input: Input;
  readonly forward: Forward | null;
  readonly loopInterface: LinkInterface;
  #nextIndex = 1;

  constructor(options: InternetOptions) {
    this.now = 0;
    this.random32 = options.random32;
    this.paths = new Paths(this);
    this.output = new Output(this);
    this.errors = new IcmpErrors(this, options.icmp ?? {});
    this.icmp = new Icmp(this);
    this.igmp = new Igmp({
      random32: this.random32,
      sendIgmp: (interfaceIndex, destination, bytes) => void this.output.sendIgmp(interfaceIndex, destination, bytes),
    });
    this.arp = new Arp(this);
    this.conflicts = new Conflicts(this);
    this.input = new Input(this);
    this.forward = options.forwarding === true ? new Forward(this) : null;
    this.loopInterface = new LinkInterface(this, 0, this.loop, {});
    this.register(types.PROTO_ICMP, this.icmp);
    this.register(types.PROTO_IGMP, { input: (packet, now) => this.igmp.input(packet, now), error: () => false });
  }

  // --- what the transports use

  register(proto: number, transport: types.Transport): void {
    this.transports[proto & 0xff] = transport;
  }

  path(localKey: number, remoteKey: number): types.Path | number {
    const path = this.paths.find(localKey, remoteKey);
    if (typeof path === "number") this.output.counts.noRoute++;
    return path;
  }

  renew(path: types.Path): types.Path | number {
    const code = this.paths.renew(path as PathImpl);
    return code < 0 ? code : path;
  }

  send(path: types.Path, proto: number, tx: TxFrame, options: types.SendOptions): number {
    return this.output.send(path as PathImpl, proto, tx, options);
  }

  sendUnreachable(packet: types.Packet, code: number): void {
    this.errors.send(packet, ICMP_UNREACHABLE, code);
  }

  isLocal(key: number, any = false): boolean {
    const kind = this.local.kind(key);
    if (kind === KIND_LOCAL || isLoopback(key)) return true;
    if (this.anyAddress && kind === KIND_NONE && isUnicast(key)) return true;
    if (!any) return false;
    if (kind !== KIND_NONE || key === LIMITED_BROADCAST) return true;
    return isMulticast(key) && this.interfaces.some((iface) => this.igmp.isMember(iface.index, key));
  }

  confirm(path: types.Path): void {
    const { neighbor, iface } = path as PathImpl;
    if (neighbor !== null) iface.neighbors.confirm(neighbor, this.now);
  }

  doubt(path: types.Path): void {
    const { neighbor, iface } = path as PathImpl;
    if (neighbor !== null) iface.neighbors.doubt(neighbor);
  }

  inject(interfaceIndex: number, memory: FrameMemory, length: number): void {
    const iface = this.byIndex(interfaceIndex);
    if (iface !== undefined) this.input.packet(iface, memory, 0, length, RX_CHECKSUM_VALID, 0, types.CAST_UNICAST);
  }

  reject(interfaceIndex: number, memory: FrameMemory, code: number): void {
    this.errors.send(this.input.describe(memory, 0, interfaceIndex), ICMP_UNREACHABLE, code);
  }

  // --- interfaces and addresses

  /** @throws {RangeError} for an MTU or VLAN out of range, or too many interfaces; {TypeError} for a device without MAC */
  addInterface(device: Device, options: types.InterfaceOptions = {}): types.NetInterface {
    if (this.interfaces.length >= INTERFACES_MAX) throw new RangeError(`More than ${INTERFACES_MAX} interfaces`);
    const iface = new LinkInterface(this, this.#nextIndex, device, options);
    this.#nextIndex++;
    this.interfaces.push(iface);
    this.#changed();
    return iface;
  }

  removeInterface(index: number): void {
    const at = this.interfaces.findIndex((iface) => iface.index === index);
    if (at < 0) return;
    const [iface] = this.interfaces.splice(at, 1);
    iface.removed = true;
    iface.addresses.length = 0;
    iface.neighbors.clear();
    this.igmp.removeInterface(index);
    this.routeTable.removeInterface(index);
    this.#changed();
    this.conflicts.forget(iface, undefined, ENETDOWN);
  }

  /** The interface with this index, without the inner loop-back. */
  byIndex(index: number): LinkInterface | undefined {
    for (const iface of this.interfaces) if (iface.index === index) return iface;
    return undefined;
  }

  /** The interface that has this address. */
  interfaceOf(key: number): LinkInterface | undefined {
    for (const iface of this.interfaces) if (iface.hasAddress(key)) return iface;
    return undefined;
  }

  addAddress(index: number, key: number, prefixLength: number, probe = false, settled?: (code: number) => void): number {
    const iface = this.byIndex(index);
    if (iface === undefined) return ENODEV;
    const own = key | 0;
    if (!(Number.isInteger(prefixLength) && prefixLength >= 1 && prefixLength <= 32)) return EINVAL;
    if (!isUnicast(own) || isLoopback(own)) return EINVAL;
    // The first and the last address of a network are no hosts.
    if (prefixLength < 31 && (own === (own & maskOf(prefixLength)) || own === broadcastOf(own, prefixLength))) return EINVAL;
    if (this.interfaceOf(own) !== undefined || this.conflicts.isProbing(iface, own)) return EADDRINUSE;
    if (iface.addresses.length + this.conflicts.probing(iface) >= ADDRESSES_PER_INTERFACE) return ENOBUFS;
    if (probe && iface.ethernet && iface.detectConflicts) {
      this.conflicts.probe(iface, own, prefixLength, settled ?? (() => {}));
      return OK;
    }
    this.adopt(iface, own, prefixLength);
    settled?.(OK);
    return OK;
  }

  /** The address is ours from now on. */
  adopt(iface: LinkInterface, key: number, prefixLength: number): void {
    iface.addresses.push({ key, prefixLength, defendedAt: -Infinity });
    this.routeTable.add(connectedRoute(iface.index, key, prefixLength));
    this.#changed();
    this.conflicts.announce(iface, key);
  }

  removeAddress(index: number, key: number): number {
    const iface = this.byIndex(index);
    if (iface === undefined) return ENODEV;
    if (this.conflicts.isProbing(iface, key | 0)) {
      this.conflicts.forget(iface, key | 0, EADDRNOTAVAIL);
      return OK;
    }
    const at = iface.addresses.findIndex((address) => address.key === (key | 0));
    if (at < 0) return EADDRNOTAVAIL;
    const [gone] = iface.addresses.splice(at, 1);
    this.conflicts.forget(iface, gone.key);
    const route = connectedRoute(index, gone.key, gone.prefixLength);
    // Another address in the same network keeps its route.
    const kept = iface.addresses.some((a) =>
      a.prefixLength === gone.prefixLength && ((a.key ^ gone.key) & maskOf(a.prefixLength)) === 0
    );
    if (!kept) this.routeTable.remove(route);
    this.#changed();
    return OK;
  }

  addRoute(route: types.Route): number {
    if (this.byIndex(route.interfaceIndex) === undefined) return ENODEV;
    const code = this.routeTable.add(route);
    if (code === OK) this.#changed();
    return code;
  }

  removeRoute(route: types.Route): number {
    const code = this.routeTable.remove(route);
    if (code === OK) this.#changed();
    return code;
  }

  get routes(): readonly types.Route[] {
    return this.routeTable.list;
  }

  get neighbors(): types.NeighborEntry[] {
    const all: types.NeighborEntry[] = [];
    for (const iface of this.interfaces) {
      for (const { neighbor, state } of iface.neighbors.entries(this.now)) {
        all.push({ key: neighbor.key, interfaceIndex: iface.index, mac: formatMac(neighbor.mac), state });
      }
    }
    return all;
  }

  setNeighbor(index: number, key: number, mac: Uint8Array): number {
    const iface = this.byIndex(index);
    if (iface === undefined) return ENODEV;
    if (!iface.ethernet || mac.length !== 6 || (mac[0] & 1) !== 0 || !isUnicast(key)) return EINVAL;
    return iface.neighbors.setPermanent(key | 0, mac, this.now) ? OK : ENOBUFS;
  }

  joinMulticast(group: number, interfaceIndex?: number): number {
    const iface = this.#groupInterface(group, interfaceIndex);
    return typeof iface === "number" ? iface : this.igmp.join(iface.index, group | 0);
  }

  leaveMulticast(group: number, interfaceIndex?: number): number {
    const iface = this.#groupInterface(group, interfaceIndex);
    return typeof iface === "number" ? iface : this.igmp.leave(iface.index, group | 0);
  }

  // --- ping

  get onEcho(): (reply: types.EchoReply) => void {
    return this.icmp.onEcho;
  }
  set onEcho(listener: (reply: types.EchoReply) => void) {
    this.icmp.onEcho = listener;
  }

  sendEcho(
    remoteKey: number,
    identifier: number,
    sequence: number,
    data: Uint8Array,
    options?: Partial<types.SendOptions>,
  ): number {
    return this.icmp.sendEcho(remoteKey, identifier, sequence, data, options);
  }

  // --- what the shell drives

  pump(budget: number): number {
    return this.loop.receive(this.loopInterface, budget);
  }

  nextDeadline(): number {
    // What waits on the inner loop-back device is due at once.
    if (this.loop.pending > 0) return this.now;
    let next = Math.min(
      this.reassembler.nextDeadline(),
      this.igmp.nextDeadline(),
      this.conflicts.nextDeadline(),
      this.pathMtus.nextDeadline(),
    );
    for (const iface of this.interfaces) next = Math.min(next, iface.neighbors.next);
    return next;
  }

  advance(now: number): void {
    this.now = now;
    for (const iface of this.interfaces) iface.neighbors.advance(now);
    if (this.conflicts.nextDeadline() <= now) this.conflicts.advance(now);
    if (this.igmp.nextDeadline() <= now) this.igmp.advance(now);
    if (this.reassembler.nextDeadline() <= now) this.reassembler.advance(now, this.input.reassemblyExpired);
    if (this.pathMtus.nextDeadline() <= now && this.pathMtus.advance(now)) this.#changed();
  }

  /** Believes that packets to `remote` may be smaller only. Returns the new path MTU, or 0. */
  lowerPathMtu(local: number, remote: number, nextHop: number, quoted: number): number {
    const path = this.paths.find(local, remote);
    if (typeof path === "number" || path.cast !== types.CAST_UNICAST || path.iface === this.loopInterface) return 0;
    const mtu = this.pathMtus.update(remote, nextHop, quoted, path.mtu, this.now);
    if (mtu !== 0) this.#changed();
    return mtu;
  }

  /** Takes a lowered path MTU back. */
  restorePathMtu(remote: number, entry: ReturnType<PathMtuTable["get"]>): void {
    this.pathMtus.restore(remote, entry);
    this.#changed();
  }

  get statistics(): Record<string, Record<string, number>> {
    const arp: Record<string, number> = {};
    const all: Record<string, Record<string, number>> = {
      ip: { ...this.input.counts, ...this.output.counts },
      icmp: { ...this.icmp.counts, ...this.errors.counts },
      arp,
      igmp: { ...this.igmp.statistics },
      reassembly: { ...this.reassembler.statistics },
      pathMtu: { ...this.pathMtus.counts, entries: this.pathMtus.size },
      loop: { ...this.loop.counts },
    };
    if (this.forward !== null) all.forward = { ...this.forward.counts };
    for (const iface of this.interfaces) {
      for (const [name, n] of Object.entries(iface.arp)) arp[name] = (arp[name] ?? 0) + n;
      arp.entries = (arp.entries ?? 0) + iface.neighbors.count;
      all[`interface ${iface.index}`] = { ...iface.counts };
    }
    return all;
  }

  #groupInterface(group: number, interfaceIndex: number | undefined): LinkInterface | number {
    if (!isMulticast(group)) return EINVAL;
    const route = interfaceIndex === undefined ? this.routeTable.lookup(group) : null;
    const index = interfaceIndex ?? route?.interfaceIndex ?? this.interfaces[0]?.index;
    return (index === undefined ? undefined : this.byIndex(index)) ?? ENODEV;
  }

  /** Something that paths are made of has changed. */
  #changed(): void {
    this.local.rebuild(this.interfaces);
    this.paths.generation++;
  }
}

function connectedRoute(interfaceIndex: number, key: number, prefixLength: number): types.Route {
  return { destination: key & maskOf(prefixLength), prefixLength, gateway: types.ANY, interfaceIndex, metric: 0 };
}
