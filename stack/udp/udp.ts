/**
 * UDP (RFC 768, RFC 1122 4.1): datagrams to sockets, and ICMP errors to connected ones.
 *
 * @module
 */
import { EADDRINUSE, EADDRNOTAVAIL, EINVAL, EMSGSIZE, ENOBUFS } from "../codes.ts";
import { RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID } from "../device.ts";
import {
  ANY,
  CAST_UNICAST,
  type Internet,
  type IpLayer,
  type Packet,
  type PacketError,
  PROTO_UDP,
  type Transport,
} from "../ip/types.ts";
import { isMulticast } from "../wire/address.ts";
import { fold, sum } from "../wire/checksum.ts";
import * as wire from "../wire/udp.ts";
import { PortTable, scoreOf } from "./ports.ts";
import { QueuePool } from "./queue.ts";
import { Socket } from "./socket.ts";
import { EVENT_READABLE, type UdpLayer, type UdpOptions, type UdpSocket, type UdpStatistics } from "./types.ts";

/** Sockets that may be open at once. */
export const SOCKETS_MAX = 16_384;

/** ICMP code "port unreachable". */
const PORT_UNREACHABLE = 3;

/** What UDP needs of the internet layer. */
export type UdpInternet = IpLayer & Pick<Internet, "joinMulticast" | "leaveMulticast">;

/** The UDP of one stack. Registers itself with the internet layer. */
export class Udp implements UdpLayer, Transport {
  readonly ready: UdpSocket[] = [];
  readonly statistics: UdpStatistics = {
    received: 0,
    sent: 0,
    noPort: 0,
    badChecksum: 0,
    badLength: 0,
    receiveBufferFull: 0,
    sendErrors: 0,
  };
  readonly ip: UdpInternet;
  readonly table: PortTable<Socket> = new PortTable<Socket>();
  readonly pool: QueuePool = new QueuePool();
  intercept: UdpLayer["intercept"] = null;
  readonly #sockets = new Set<Socket>();
  #ended = 0;

  constructor(ip: UdpInternet) {
    this.ip = ip;
    ip.register(PROTO_UDP, this);
  }

  open(localKey: number, port: number, options: UdpOptions = {}, beside = false): Socket | number {
    if (this.#ended !== 0) return this.#ended;
    if (!Number.isInteger(port) || port < 0 || port > 65_535) return EINVAL;
    if (localKey !== ANY && !isMulticast(localKey) && !this.ip.isLocal(localKey, true)) return EADDRNOTAVAIL;
    if (this.#sockets.size >= SOCKETS_MAX) return ENOBUFS;
    let chosen = port;
    if (port === 0) {
      chosen = this.table.choose(localKey, this.ip.random32());
      if (chosen < 0) return chosen;
    } else if (!beside && this.table.taken(localKey, port, options.reuseAddress ?? false)) {
      return EADDRINUSE;
    }
    const socket = new Socket(this, localKey, chosen, options);
    this.table.add(socket);
    this.#sockets.add(socket);
    return socket;
  }

  *sockets(): IterableIterator<UdpSocket> {
    yield* this.#sockets;
  }

  shutdown(code: number, localKey: number = ANY): void {
    if (this.#ended !== 0) return;
    if (localKey === ANY) this.#ended = code;
    for (const socket of [...this.#sockets]) if (localKey === ANY || socket.localKey === localKey) socket.end(code);
  }

  /** Takes note of a socket's event; the shell finds it in {@link Udp.ready}. */
  notify(socket: Socket, event: number): void {
    if (socket.events === 0) this.ready.push(socket);
    socket.events |= event;
  }

  /** A socket is gone: its port is free. */
  forget(socket: Socket): void {
    this.table.remove(socket);
    this.#sockets.delete(socket);
  }

  input(packet: Packet, _now: number): void {
    const { view } = packet.memory;
    const { offset } = packet;
    const length = wire.parse(view, offset, packet.length);
    if (length < 0) {
      this.statistics.badLength++;
      return;
    }
    if (!checksumHolds(packet, length)) {
      this.statistics.badChecksum++;
      return;
    }
    const port = wire.getDestinationPort(view, offset);
    const sourcePort = wire.getSourcePort(view, offset);
    if (packet.cast !== CAST_UNICAST) {
      this.#toAll(packet, length, port, sourcePort);
      return;
    }
    let socket = this.table.find(packet.dstKey, port, packet.srcKey, sourcePort);
    if (this.intercept !== null && (socket === null || socket.localKey === ANY)) {
      const verdict = this.intercept(packet, sourcePort, port, socket);
      if (verdict === undefined) return;
      socket = verdict as Socket | null;
    }
    if (socket === null) {
      this.statistics.noPort++;
      //= rfc1122#4.1.3.1
      //# If a datagram arrives addressed to a UDP port for which there is no pending LISTEN call, UDP SHOULD send an ICMP Port
      //# Unreachable message.
      this.ip.sendUnreachable(packet, PORT_UNREACHABLE);
      return;
    }
    this.#deliver(socket, packet, length, sourcePort);
  }

  /** True if a socket may have sent the datagram that is quoted. */
  error(error: PacketError, _now: number): boolean {
    if (error.length < wire.UDP_HEADER_LENGTH) return false;
    let ours = false;
    const { view } = error.memory;
    const localPort = wire.getSourcePort(view, error.offset);
    const remotePort = wire.getDestinationPort(view, error.offset);
    //= rfc1122#4.1.3.3
    //# UDP MUST pass to the application layer all ICMP error messages that it receives from the IP layer.
    //= rfc1122#4.1.3.3 type=exception reason=a socket that isn't connected couldn't tell which peer is meant, as in Linux
    //# UDP MUST pass to the application layer all ICMP error messages that it receives from the IP layer.
    for (let socket = this.table.first(localPort); socket !== null; socket = socket.next) {
      if (socket.localPort !== localPort || scoreOf(socket, error.localKey, error.remoteKey, remotePort) < 0) continue;
      ours = true;
      if (socket.remotePort === 0) continue;
      // A lower path MTU is nobody's error while the datagrams may be fragmented.
      if (error.code === EMSGSIZE && !socket.dontFragment) continue;
      socket.fail(error.code);
    }
    return ours;
  }

  /** Broadcast and multicast: every socket that it may be for gets a copy. */
  #toAll(packet: Packet, length: number, port: number, sourcePort: number): void {
    let found = false;
    for (let socket = this.table.first(port); socket !== null; socket = socket.next) {
      if (socket.localPort !== port || scoreOf(socket, packet.dstKey, packet.srcKey, sourcePort) < 0) continue;
      found = true;
      this.#deliver(socket, packet, length, sourcePort);
    }
    if (!found) this.statistics.noPort++;
  }

  #deliver(socket: Socket, packet: Packet, length: number, sourcePort: number): void {
    const end = packet.offset + length;
    let at = packet.offset + wire.UDP_HEADER_LENGTH;
    const size = packet.segmentSize > 0 ? packet.segmentSize : 65_535;
    // Once at least: a datagram may be empty. Several times if the device joined datagrams of one flow.
    do {
      const part = Math.min(size, end - at);
      if (socket.deliver(packet, at, part, sourcePort)) {
        this.statistics.received++;
        this.notify(socket, EVENT_READABLE);
      } else {
        this.statistics.receiveBufferFull++;
      }
      at += part;
    } while (at < end);
  }
}

//= rfc1122#4.1.3.4
//# If a UDP datagram is received with a checksum that is non-zero and invalid, UDP MUST silently discard the datagram.
function checksumHolds(packet: Packet, length: number): boolean {
  if ((packet.flags & (RX_CHECKSUM_VALID | RX_CHECKSUM_PARTIAL)) !== 0) return true;
  const { view } = packet.memory;
  //= rfc768#page-2
  //# An all zero transmitted checksum value means that the transmitter generated no checksum
  if (wire.getChecksum(view, packet.offset) === 0) return true;
  // The pseudo-header counts the datagram's own length, and the packet may be longer.
  const pseudo = packet.pseudoSum - packet.length + length;
  return fold(sum(view, packet.offset, length, pseudo)) === 0xffff;
}
