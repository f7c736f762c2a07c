/**
 * Packets on their way out: the IP header, fragments, our own copies of groups, and the neighbour they go to.
 *
 * @module
 */
import { EAGAIN, EMSGSIZE, ENOBUFS, ENODEV, OK } from "../codes.ts";
import { FrameMemory, TX_HEADROOM, TxFrame } from "../device.ts";
import {
  addressSum as sumOfAddress,
  emitIpv4,
  FLAG_DONT_FRAGMENT,
  IPV4_HEADER,
  IPV4_MAX,
  OPTION_ROUTER_ALERT,
  sealIpHeader,
} from "../wire/ipv4.ts";
import { cutFragments } from "./fragment.ts";
import type { LinkInterface } from "./interface.ts";
import type { InternetLayer } from "./internet.ts";
import { ID_SLOTS } from "./limits.ts";
import { DEAD, type Neighbor } from "./neighbors.ts";
import { completeChecksum, cutSegments, type PieceSink } from "./offload.ts";
import type { PathImpl } from "./path.ts";
import { CAST_MULTICAST, CAST_UNICAST, PROTO_IGMP, type SendOptions } from "./types.ts";

export class Output implements PieceSink {
  readonly counts = {
    sent: 0,
    sendErrors: 0,
    noRoute: 0,
    fragmented: 0,
    fragmentsCreated: 0,
    fragmentsFailed: 0,
    segmented: 0,
    looped: 0,
  };
  readonly #layer: InternetLayer;
  //= rfc6864#4.3
  // Sources emitting non-atomic datagrams MUST NOT repeat IPv4 ID values within one MDL for a given source address/destination
  // address/protocol tuple.
  readonly #ids = new Uint16Array(ID_SLOTS);
  readonly #idSeed: number;
  /** Where packets are cut up: made when first needed. */
  #flat: FrameMemory | null = null;
  readonly #piece = new TxFrame();
  readonly #control = new TxFrame();
  // Where `piece` sends to.
  #pieceInterface: LinkInterface | null = null;
  #pieceNeighbor: Neighbor | null = null;

  constructor(layer: InternetLayer) {
    this.#layer = layer;
    this.#idSeed = layer.random32();
    for (let i = 0; i < ID_SLOTS; i++) this.#ids[i] = layer.random32();
  }

  /** See `IpLayer.send`. */
  send(path: PathImpl, proto: number, tx: TxFrame, options: SendOptions): number {
    const { counts } = this;
    if (path.generation !== this.#layer.paths.generation) {
      const code = this.#layer.paths.renew(path);
      if (code < 0) {
        counts.noRoute++;
        return code;
      }
    }
    const total = IPV4_HEADER + tx.length + tx.payloadLength1 + tx.payloadLength2;
    if (total > IPV4_MAX) return EMSGSIZE;
    const { segmentSize } = tx;
    const tooBig = segmentSize === 0 && total > path.mtu;
    //= rfc791#2.3
    // If the Don't Fragment flag is set … internet fragmentation is NOT permitted
    if (tooBig && options.dontFragment) return EMSGSIZE;
    const flags = options.dontFragment && path.mayDontFragment ? FLAG_DONT_FRAGMENT : 0;
    // A segment of a super-frame gets the identification after that of the one before.
    const step = segmentSize === 0 ? 1 : Math.ceil((tx.payloadLength1 + tx.payloadLength2) / segmentSize) || 1;
    const id = this.#nextId(path, proto, step);
    tx.offset -= IPV4_HEADER;
    tx.length += IPV4_HEADER;
    if (tx.checksumStart >= 0) tx.checksumStart += IPV4_HEADER;
    tx.segmentHeaderLength = tx.length;
    emitIpv4(
      tx.memory.view,
      tx.offset,
      options.tos,
      total,
      id,
      flags,
      options.ttl,
      proto,
      path.localKey,
      path.remoteKey,
      path.addressSum,
    );
    const { loop } = this.#layer;
    const { pending } = loop;
    if (path.cast !== CAST_UNICAST && !this.#loopGroup(path, tx, options)) return OK;
    const code = this.transmit(path, tx, IPV4_HEADER, proto, total, tooBig);
    // It will be sent again: our own members get their copy once, when the device has taken it.
    if (code === EAGAIN && path.cast !== CAST_UNICAST) counts.looped -= loop.retract(pending);
    return code;
  }

  /** A complete IP packet to the path's next hop, cut as the device needs it. */
  transmit(path: PathImpl, tx: TxFrame, ipHeader: number, proto: number, total: number, fragment: boolean): number {
    const { iface } = path;
    let { neighbor } = path;
    if (neighbor !== null && neighbor.state === DEAD) {
      neighbor = path.neighbor = iface.neighbors.obtain(path.nextHop, this.#layer.now);
      if (neighbor === null) {
        iface.arp.tableFull++;
        return ENOBUFS;
      }
    }
    let code: number;
    if (fragment) code = this.#fragment(iface, neighbor, tx, total, path.mtu);
    else if (tx.segmentSize > 0 && total > path.txSegmentation) code = this.#segment(iface, neighbor, tx, ipHeader, proto, total);
    else code = iface.output(neighbor, tx);
    if (code < 0) this.counts.sendErrors++;
    else this.counts.sent++;
    return code;
  }

  /** One piece of a packet that is being cut. */
  piece(memory: FrameMemory, offset: number, length: number): number {
    const tx = this.#piece;
    tx.memory = memory;
    tx.offset = offset;
    tx.length = length;
    tx.checksumStart = -1;
    this.counts.fragmentsCreated++;
    return this.#pieceInterface!.output(this.#pieceNeighbor, tx);
  }

  /** IGMP: TTL 1 and the router alert option, straight to the group. */
  sendIgmp(interfaceIndex: number, destinationKey: number, bytes: Uint8Array): number {
    const iface = this.#layer.byIndex(interfaceIndex);
    if (iface === undefined) return ENODEV;
    const header = IPV4_HEADER + 4;
    const tx = this.#control;
    if (bytes.length + header > iface.mtu || bytes.length + header > tx.memory.bytes.length - TX_HEADROOM) return EMSGSIZE;
    tx.reset(header + bytes.length);
    const { view } = tx.memory;
    const source = iface.addresses.length === 0 ? 0 : iface.addresses[0].key;
    const sums = sumOfAddress(source) + sumOfAddress(destinationKey);
    emitIpv4(view, TX_HEADROOM, 0xc0, tx.length, 0, FLAG_DONT_FRAGMENT, 1, PROTO_IGMP, source, destinationKey, sums);
    view.setUint8(TX_HEADROOM, 0x46);
    //= rfc2113#2.1
    // (Router Alert: type 148, length 4, value 0)
    view.setInt32(TX_HEADROOM + IPV4_HEADER, (OPTION_ROUTER_ALERT << 24) | (4 << 16));
    sealIpHeader(view, TX_HEADROOM, header);
    tx.memory.bytes.set(bytes, TX_HEADROOM + header);
    this.counts.sent++;
    return iface.output(iface.groupNeighbor(destinationKey), tx);
  }

  #nextId(path: PathImpl, proto: number, step: number): number {
    const hash = Math.imul(path.remoteKey ^ Math.imul(path.localKey ^ this.#idSeed, 0x85ebca6b) ^ proto, 0x9e3779b1);
    const slot = (hash ^ (hash >>> 16)) & (ID_SLOTS - 1);
    const id = this.#ids[slot];
    this.#ids[slot] = id + step;
    return id;
  }

  /** Gives our own members their copy of a group's packet. False: it must not leave the host. */
  #loopGroup(path: PathImpl, tx: TxFrame, options: SendOptions): boolean {
    const layer = this.#layer;
    const multicast = path.cast === CAST_MULTICAST;
    const wanted = !multicast || (options.multicastLoop !== false && layer.igmp.isMember(path.iface.index, path.remoteKey));
    if (wanted && path.iface !== layer.loopInterface) {
      layer.loop.enqueue(tx, path.iface.index);
      this.counts.looped++;
    }
    //= rfc1112#6.1
    // If the datagram's time-to-live is zero, it is not sent to any network (but it may be looped back).
    return !(multicast && options.ttl === 0);
  }

  #segment(iface: LinkInterface, to: Neighbor | null, tx: TxFrame, ipHeader: number, proto: number, total: number): number {
    const flat = this.#flatten(tx);
    this.counts.segmented++;
    this.#pieceInterface = iface;
    this.#pieceNeighbor = to;
    return cutSegments(flat, ipHeader, proto, total, tx.segmentSize, this);
  }

  #fragment(iface: LinkInterface, to: Neighbor | null, tx: TxFrame, total: number, mtu: number): number {
    // One checksum covers the whole datagram: no device can fill it in on fragments.
    if (tx.checksumStart >= 0) completeChecksum(tx);
    const flat = this.#flatten(tx);
    this.counts.fragmented++;
    this.#pieceInterface = iface;
    this.#pieceNeighbor = to;
    const code = cutFragments(flat, total, mtu, this);
    if (code < 0) this.counts.fragmentsFailed++;
    return code;
  }

  #flatten(tx: TxFrame): FrameMemory {
    const flat = this.#flat ??= new FrameMemory(TX_HEADROOM + IPV4_MAX + 1);
    tx.copyTo(flat.bytes, TX_HEADROOM);
    return flat;
  }
}
