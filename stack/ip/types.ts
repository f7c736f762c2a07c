/**
 * What the transports see of the internet layer. Nothing here says how long an address is: an address is a *key*, an
 * int32 that `stack/ip` gives out. For IPv4 the key is the address itself (big-endian); another family would intern its
 * addresses. Two keys of one family are equal exactly when the addresses are.
 *
 * @module
 */
import type { Device, FrameMemory, FrameSink, TxFrame } from "../device.ts";

export const PROTO_ICMP = 1;
export const PROTO_IGMP = 2;
export const PROTO_TCP = 6;
export const PROTO_UDP = 17;

/** Key of "any address" (0.0.0.0). */
export const ANY = 0;

/** How a packet reached this host. */
export const CAST_UNICAST = 0;
export const CAST_BROADCAST = 1;
export const CAST_MULTICAST = 2;

/** One received packet, as the internet layer hands it up. One record is reused for all: valid during the call only. */
export interface Packet {
  memory: FrameMemory;
  family: 4 | 6;
  /** Where the IP header begins, and its length with options. */
  ipOffset: number;
  ipHeaderLength: number;
  /** Where the transport header begins, and the bytes from there to the end of the packet. */
  offset: number;
  length: number;
  srcKey: number;
  dstKey: number;
  proto: number;
  ttl: number;
  /** The DSCP and ECN byte. */
  tos: number;
  /** `RX_CHECKSUM_VALID`, `RX_CHECKSUM_PARTIAL` or 0. When 0 the transport verifies. */
  flags: number;
  /** Payload bytes per segment if this is several segments in one; else 0. */
  segmentSize: number;
  /** One of CAST_…; a transport that speaks to one peer only (TCP) ignores all but CAST_UNICAST. */
  cast: number;
  /** Sum of the pseudo-header with protocol and `length`, to be added to the transport's own sum. */
  pseudoSum: number;
  /** Index of the interface that it came by. */
  interfaceIndex: number;
}

/** The way from a local to a remote address. Held by a connection, and renewed by `IpLayer.renew` when it is stale. */
export interface Path {
  readonly family: 4 | 6;
  readonly localKey: number;
  readonly remoteKey: number;
  /** Bytes of the IP header that `IpLayer.send` puts before the transport header. */
  readonly ipHeaderLength: number;
  /** Path MTU: the largest IP packet in bytes, header included. Lowered by path MTU discovery. */
  readonly mtu: number;
  /** MTU of the outgoing interface. */
  readonly interfaceMtu: number;
  /** The device fills in transport checksums. */
  readonly txChecksum: boolean;
  /** Largest frame the device cuts into segments, in bytes; 0 if it doesn't. */
  readonly txSegmentation: number;
  /** Frames that the device queues on their way to us before it drops; 0 for no known limit. */
  readonly rxQueueFrames: number;
  /** One of CAST_…; without it CAST_UNICAST. */
  readonly cast?: number;
  /** Pseudo-header sum of the two addresses alone: protocol and length are still to be added. */
  readonly addressSum: number;
  /** True when routes, addresses or the path MTU changed since it was made. */
  readonly stale: boolean;
}

/** Told by ICMP (or by our own neighbour cache) about a packet that we sent. */
export interface PacketError {
  /** Negative code of `stack/codes.ts`, for example `ECONNREFUSED` for a port unreachable. */
  code: number;
  /** RFC 1122 4.2.3.9: hard errors may end a connection attempt, soft ones are only remembered. Our own neighbour's failure is hard. */
  hard: boolean;
  /** New path MTU for `EMSGSIZE`, else 0. */
  mtu: number;
  localKey: number;
  remoteKey: number;
  /** The first 8 bytes or more of the transport header that came back. */
  memory: FrameMemory;
  offset: number;
  length: number;
  icmpType: number;
  icmpCode: number;
}

/** A transport: TCP, UDP, or a raw listener. */
export interface Transport {
  /** A packet for this host. Must not keep the record. */
  input(packet: Packet, now: number): void;
  /**
   * A packet that we sent did not arrive. Must check that the quoted bytes are really ours; returns false when they are not,
   * so that a forged message does not lower the path MTU.
   */
  error(error: PacketError, now: number): boolean | void;
}

/** Options of {@link IpLayer.send}; a reused record or a shared constant. */
export interface SendOptions {
  ttl: number;
  /** DSCP and ECN byte. */
  tos: number;
  /** Don't fragment, neither here nor on the way. */
  dontFragment: boolean;
  /** Our own members of a multicast group get the packet too. Default true. */
  multicastLoop?: boolean;
}

/** What the internet layer gives to the transports. */
export interface IpLayer {
  /** The shared record for outgoing frames. Fill it (`reset`, write at `offset`), then `send` it, before anything else sends. */
  readonly tx: TxFrame;
  /** Uniformly random unsigned 32-bit number, from the stack's seeded or real source. */
  random32(): number;
  /** Registers a transport for a protocol number. */
  register(proto: number, transport: Transport): void;
  /**
   * Finds the way. `localKey` ANY lets the layer choose the source address. Returns a negative code when there is none:
   * `ENETUNREACH`, `EADDRNOTAVAIL` if the local address isn't ours.
   */
  path(localKey: number, remoteKey: number): Path | number;
  /** The same way looked up again, after `path.stale`. */
  renew(path: Path): Path | number;
  /**
   * Sends the transport header and payload in `tx` (offset at the transport header). Puts the IP and link headers in
   * front; waits for the neighbour's address by copying into a bounded queue. Fragments if it is larger than the path
   * MTU, `dontFragment` is off, and no `segmentSize` is set.
   * Returns 0 or a negative code: `EAGAIN` device full, `EMSGSIZE`, `ENETDOWN`, `ENODEV`, `ENOBUFS` no room for another neighbour.
   * That a neighbour doesn't answer is told later, by `Transport.error` with `EHOSTUNREACH`.
   */
  send(path: Path, proto: number, tx: TxFrame, options: SendOptions): number;
  /** Answers `packet` with an ICMP error, subject to rate limits and to the rules of RFC 1122 3.2.2. */
  sendUnreachable(packet: Packet, code: number): void;
  /** True if the key is an address of this host (or, for UDP, a broadcast or joined multicast address when `any` is set). */
  isLocal(key: number, any?: boolean): boolean;
  /** Reachability confirmed by a transport's forward progress (RFC 4861 7.3.1; Linux does it for IPv4 too). */
  confirm(path: Path): void;
  /** The opposite: retransmissions to there go unanswered (RFC 9293 3.8.3, "negative advice"). The neighbour is asked again. */
  doubt?(path: Path): void;
}

/** Options of an interface of a stack. */
export interface InterfaceOptions {
  /** Lowers the device's MTU. At least 68 (RFC 791). */
  mtu?: number;
  /** Probe an address before using it (RFC 5227). Default true on Ethernet for addresses added later than the stack; see `addAddress`. */
  detectConflicts?: boolean;
  /** Lives in this VLAN (1 to 4094): frames are sent with its 802.1Q tag, and only frames with it are taken. Default none. */
  vlan?: number;
}

/** An interface: a device and the state of its link. The device's frames go in here. */
export interface NetInterface extends FrameSink {
  readonly index: number;
  readonly device: Device;
  readonly mtu: number;
  /** Addresses with prefix lengths. */
  readonly addresses: readonly { key: number; prefixLength: number }[];
}

/** A route as it is shown and given. `gateway` ANY: the destination is on the link. */
export interface Route {
  destination: number;
  prefixLength: number;
  gateway: number;
  interfaceIndex: number;
  metric: number;
}

/** A neighbour cache entry as it is shown; states of RFC 4861 7.3.2, as Linux uses them for ARP. */
export interface NeighborEntry {
  /** The address as an int32. */
  key: number;
  /** Index of the interface. */
  interfaceIndex: number;
  /** MAC address, "02:00:00:00:00:01". */
  mac: string;
  /** State, by name. */
  state: "incomplete" | "reachable" | "stale" | "delay" | "probe" | "failed" | "permanent";
}

/** An echo reply, or an ICMP error about our echo request, for whoever asked. */
export interface EchoReply {
  /** 0 for a reply, else a negative code. */
  code: number;
  fromKey: number;
  identifier: number;
  sequence: number;
  ttl: number;
  /** ICMP type and code of what came. */
  icmpType: number;
  icmpCode: number;
  /** Echo data (a copy); empty for errors. */
  data: Uint8Array;
}

/** What the host shell drives: the whole internet layer, `stack/ip/internet.ts`. */
export interface Internet extends IpLayer {
  /** Milliseconds on the stack's clock; the shell sets it before it hands in frames, timers or calls. */
  now: number;
  /** Something was queued by the layer itself to its inner loop-back device; `pump` delivers it. */
  readonly interfaces: readonly NetInterface[];
  addInterface(device: Device, options?: InterfaceOptions): NetInterface;
  removeInterface(index: number): void;
  /**
   * Gives the interface an address. `probe`: RFC 5227 probes first, `settled` is called with 0 or `EADDRINUSE`; without, the
   * address is used at once and announced. `EINVAL` for a bad one, `EADDRINUSE` if it is ours already.
   */
  addAddress(index: number, key: number, prefixLength: number, probe?: boolean, settled?: (code: number) => void): number;
  removeAddress(index: number, key: number): number;
  addRoute(route: Route): number;
  removeRoute(route: Route): number;
  readonly routes: readonly Route[];
  readonly neighbors: NeighborEntry[];
  /** Permanent neighbour entry. */
  setNeighbor(index: number, key: number, mac: Uint8Array): number;
  joinMulticast(group: number, interfaceIndex?: number): number;
  leaveMulticast(group: number, interfaceIndex?: number): number;
  /** Sends an echo request; answers and errors go to `onEcho`. */
  sendEcho(remoteKey: number, identifier: number, sequence: number, data: Uint8Array, options?: Partial<SendOptions>): number;
  onEcho: (reply: EchoReply) => void;
  /** An address conflict was seen (RFC 5227 2.4). */
  onConflict: (key: number, interfaceIndex: number, mac: Uint8Array) => void;
  /**
   * Packets to any unicast address are for this host, and it may send from any (Linux's AnyIP and transparent sockets): for a
   * gateway that carries connections on by itself. Pings are answered for the host's own addresses only.
   */
  anyAddress: boolean;
  /** Pings are answered. True at first. */
  answerEcho: boolean;
  /** Takes a packet at the beginning of `memory` as if the interface had received it; its checksums were verified before. */
  inject(interfaceIndex: number, memory: FrameMemory, length: number): void;
  /** Answers a packet that was kept with "destination unreachable" and a code. */
  reject(interfaceIndex: number, memory: FrameMemory, code: number): void;
  /** Delivers what waits on the inner loop-back device, at most `budget` packets. Returns how many. */
  pump(budget: number): number;
  nextDeadline(): number;
  advance(now: number): void;
  /** Counters by layer: names to numbers (ip, icmp, arp, igmp, reassembly, interface …), as `netstat -s`. */
  readonly statistics: Record<string, Record<string, number>>;
}
