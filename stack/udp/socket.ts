/**
 * One UDP socket.
 *
 * @module
 */
import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EAGAIN, EBADF, EINVAL, EMSGSIZE, ENOBUFS, ENOTCONN, OK } from "../codes.ts";
import { FrameMemory, TX_HEADROOM } from "../device.ts";
import { sealChecksum } from "../ip/seal.ts";
import { ANY, type Packet, type Path, PROTO_UDP, type SendOptions } from "../ip/types.ts";
import { isMulticast } from "../wire/address.ts";
import { finish, sum } from "../wire/checksum.ts";
import { copyBytes } from "../wire/copy.ts";
import * as wire from "../wire/udp.ts";
import { DatagramQueue } from "./queue.ts";
import { EVENT_ERROR, type UdpOptions, type UdpSocket, type UdpSource } from "./types.ts";
import type { PortHolder } from "./ports.ts";
import type { Udp } from "./udp.ts";

/** Linux's default `rmem_default`, in bytes of payload. */
export const RECEIVE_BUFFER = 212_992;
/** No socket may ask for a larger receive buffer, or for more datagrams. */
export const RECEIVE_BUFFER_LIMIT = 32 << 20;
export const RECEIVE_QUEUE_LIMIT = 262_144;
/** Multicast memberships of one socket; Linux has 20. */
export const MEMBERSHIPS_MAX = 64;

/** Payload on its way out: copied once out of the user's buffer, and done with when `send` returns, so one for all stacks. */
const outgoing = new FrameMemory(65_536);

interface Limits {
  bytes: number;
  datagrams: number;
}

/** A UDP socket; made by `Udp.open`. */
export class Socket implements UdpSocket, PortHolder<Socket> {
  localKey: number;
  remoteKey = ANY;
  remotePort = 0;
  events = 0;
  owner: unknown = null;
  reuseAddress = false;
  next: Socket | null = null;
  readonly statistics = { received: 0, sent: 0, dropped: 0 };
  readonly #udp: Udp;
  readonly #boundKey: number;
  readonly #queue: DatagramQueue;
  readonly #limits: Limits = { bytes: RECEIVE_BUFFER, datagrams: 1024 };
  readonly #unicast: SendOptions = { ttl: 64, tos: 0, dontFragment: false };
  readonly #multicast: SendOptions = { ttl: 1, tos: 0, dontFragment: false, multicastLoop: true };
  #broadcast = true;
  /** Groups joined, and by which interface (-1 for the default one). */
  readonly #groups: { group: number; interfaceIndex: number }[] = [];
  #path: Path | null = null;
  #pathKey = ANY;
  #pathIsBroadcast = false;
  #error = 0;
  /** 0 while open; afterwards what every call gives. */
  #ended = 0;

  constructor(udp: Udp, localKey: number, readonly localPort: number, options: UdpOptions) {
    this.#udp = udp;
    this.localKey = this.#boundKey = localKey;
    this.#queue = new DatagramQueue(udp.pool);
    this.setOptions(options);
  }

  get pending(): number {
    return this.#queue.count;
  }

  get nextLength(): number {
    return this.#queue.nextLength;
  }

  get dontFragment(): boolean {
    return this.#unicast.dontFragment;
  }

  setOptions(options: UdpOptions): void {
    const { receiveBufferMax, receiveQueueMax, broadcast, reuseAddress, ttl, multicastTtl, multicastLoop, tos, dontFragment } =
      options;
    if (receiveBufferMax !== undefined) this.#limits.bytes = clamp(receiveBufferMax, 0, RECEIVE_BUFFER_LIMIT);
    if (receiveQueueMax !== undefined) this.#limits.datagrams = clamp(receiveQueueMax, 0, RECEIVE_QUEUE_LIMIT);
    if (broadcast !== undefined) this.#broadcast = broadcast;
    if (reuseAddress !== undefined) this.reuseAddress = reuseAddress;
    if (ttl !== undefined) this.#unicast.ttl = clamp(ttl, 1, 255);
    if (multicastTtl !== undefined) this.#multicast.ttl = clamp(multicastTtl, 0, 255);
    if (multicastLoop !== undefined) this.#multicast.multicastLoop = multicastLoop;
    if (tos !== undefined) this.#unicast.tos = this.#multicast.tos = clamp(tos, 0, 255);
    if (dontFragment !== undefined) this.#unicast.dontFragment = this.#multicast.dontFragment = dontFragment;
  }

  /** A datagram for this socket: `length` bytes at `offset` of the packet's memory. False if there is no room. */
  deliver(packet: Packet, offset: number, length: number, sourcePort: number): boolean {
    const { bytes, datagrams } = this.#limits;
    const { srcKey, dstKey, interfaceIndex } = packet;
    const from = packet.memory.bytes;
    if (!this.#queue.push(from, offset, length, bytes, datagrams, srcKey, sourcePort, dstKey, interfaceIndex)) {
      this.statistics.dropped++;
      return false;
    }
    this.statistics.received++;
    return true;
  }

  receive(into: Uint8Array, offset: number, length: number, source: UdpSource): number {
    const error = this.takeError();
    if (error !== 0) return error;
    const copied = this.#queue.shift(into, offset, length, source);
    return copied < 0 ? EAGAIN : copied;
  }

  send(bytes: Uint8Array, offset: number, length: number, remoteKey: number, remotePort: number): number {
    const error = this.takeError();
    if (error !== 0) return error;
    const toPeer = remoteKey === ANY;
    if (toPeer && this.remotePort === 0) return ENOTCONN;
    const key = toPeer ? this.remoteKey : remoteKey;
    const port = toPeer ? this.remotePort : remotePort;
    if (!(port >= 1 && port <= 65_535)) return EINVAL;
    if (length > wire.UDP_MAX_PAYLOAD) return EMSGSIZE;
    const code = this.#transmit(bytes, offset, length, key, port);
    if (code < 0) {
      this.#udp.statistics.sendErrors++;
      // Lost on the way out, as a datagram may be anywhere: a stranger who fills the neighbour table must not end an echo loop. So Linux.
      return code === ENOBUFS ? length : code;
    }
    this.#udp.statistics.sent++;
    this.statistics.sent++;
    return length;
  }

  #transmit(bytes: Uint8Array, offset: number, length: number, key: number, port: number): number {
    const path = this.#pathTo(key);
    if (typeof path === "number") return path;
    if (this.#pathIsBroadcast && !this.#broadcast) return EACCES;
    const options = isMulticast(key) ? this.#multicast : this.#unicast;
    const size = path.ipHeaderLength + wire.UDP_HEADER_LENGTH + length;
    const fits = size <= path.mtu;
    if (!fits && options.dontFragment) return EMSGSIZE;
    const { ip } = this.#udp;
    const { tx } = ip;
    // Small ones stand behind their header: one piece less for the device.
    const inline = fits && TX_HEADROOM + wire.UDP_HEADER_LENGTH + length <= tx.memory.bytes.length;
    tx.reset(inline ? wire.UDP_HEADER_LENGTH + length : wire.UDP_HEADER_LENGTH);
    const { view } = tx.memory;
    wire.emit(view, tx.offset, this.localPort, port, wire.UDP_HEADER_LENGTH + length, 0);
    if (inline) {
      copyBytes(bytes, offset, tx.memory.bytes, tx.offset + wire.UDP_HEADER_LENGTH, length);
    } else {
      copyBytes(bytes, offset, outgoing.bytes, 0, length);
      tx.payload = outgoing;
      tx.payloadLength1 = length;
    }
    if (fits) {
      sealChecksum(tx, path, PROTO_UDP, wire.UDP_CHECKSUM_OFFSET);
    } else {
      // No device computes a checksum across fragments.
      const pseudo = path.addressSum + PROTO_UDP + wire.UDP_HEADER_LENGTH + length;
      const header = sum(view, tx.offset, wire.UDP_HEADER_LENGTH, pseudo);
      wire.setChecksum(view, tx.offset, finish(sum(outgoing.view, 0, length, header)));
    }
    //= rfc768#page-2
    //# If the computed checksum is zero, it is transmitted as all ones (the equivalent in one's complement arithmetic).
    if (tx.checksumStart < 0 && wire.getChecksum(view, tx.offset) === 0) wire.setChecksum(view, tx.offset, 0xffff);
    return ip.send(path, PROTO_UDP, tx, options);
  }

  /** The way to a destination; the last one is remembered. */
  #pathTo(key: number): Path | number {
    const { ip } = this.#udp;
    let path: Path | number | null = this.#pathKey === key ? this.#path : null;
    if (path !== null && !path.stale) return path;
    // A socket that is bound to a group or a broadcast address sends from an address of the host.
    const from = this.localKey === ANY || isMulticast(this.localKey) || !ip.isLocal(this.localKey) ? ANY : this.localKey;
    path = path === null ? ip.path(from, key) : ip.renew(path);
    this.#path = typeof path === "number" ? null : path;
    this.#pathKey = key;
    this.#pathIsBroadcast = !isMulticast(key) && ip.isLocal(key, true) && !ip.isLocal(key);
    return path;
  }

  connect(remoteKey: number, remotePort: number): number {
    if (this.#ended !== 0) return this.#ended;
    this.#path = null;
    if (remoteKey === ANY) {
      this.remoteKey = ANY;
      this.remotePort = 0;
      this.localKey = this.#boundKey;
      return OK;
    }
    if (!(remotePort >= 1 && remotePort <= 65_535)) return EINVAL;
    this.localKey = this.#boundKey;
    const path = this.#pathTo(remoteKey);
    if (typeof path === "number") return path;
    if (this.#pathIsBroadcast && !this.#broadcast) return EACCES;
    this.remoteKey = remoteKey;
    this.remotePort = remotePort;
    if (this.#boundKey === ANY) this.localKey = path.localKey;
    return OK;
  }

  joinMulticast(group: number, interfaceIndex = -1): number {
    if (this.#ended !== 0) return this.#ended;
    if (!isMulticast(group)) return EINVAL;
    if (this.#membership(group, interfaceIndex) >= 0) return EADDRINUSE;
    if (this.#groups.length >= MEMBERSHIPS_MAX) return ENOBUFS;
    const code = this.#udp.ip.joinMulticast(group, interfaceIndex < 0 ? undefined : interfaceIndex);
    if (code === OK) this.#groups.push({ group, interfaceIndex });
    return code;
  }

  leaveMulticast(group: number, interfaceIndex = -1): number {
    if (this.#ended !== 0) return this.#ended;
    const at = this.#membership(group, interfaceIndex);
    if (at < 0) return EADDRNOTAVAIL;
    this.#groups.splice(at, 1);
    return this.#udp.ip.leaveMulticast(group, interfaceIndex < 0 ? undefined : interfaceIndex);
  }

  #membership(group: number, interfaceIndex: number): number {
    return this.#groups.findIndex((entry) => entry.group === group && entry.interfaceIndex === interfaceIndex);
  }

  /** An error that the next call is to give, once. */
  fail(code: number): void {
    this.#error = code;
    this.#udp.notify(this, EVENT_ERROR);
  }

  close(): void {
    this.#release(EBADF);
  }

  /** The stack is gone: every call gives `code`, and whoever waits is told. */
  end(code: number): void {
    this.#release(code);
    this.#udp.notify(this, EVENT_ERROR);
  }

  #release(code: number): void {
    if (this.#ended !== 0) return;
    this.#ended = code;
    for (const { group, interfaceIndex } of this.#groups) {
      this.#udp.ip.leaveMulticast(group, interfaceIndex < 0 ? undefined : interfaceIndex);
    }
    this.#groups.length = 0;
    this.#queue.clear();
    this.#path = null;
    this.#udp.forget(this);
  }

  /** The pending error (negative), then cleared; 0 when there is none. */
  takeError(): number {
    if (this.#ended !== 0) return this.#ended;
    const error = this.#error;
    this.#error = 0;
    return error;
  }
}

function clamp(value: number, least: number, most: number): number {
  // What is no number must not take a limit away.
  return Math.min(Math.max(Math.trunc(value), least), most) || least;
}
