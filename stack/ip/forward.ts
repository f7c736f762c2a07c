/**
 * Forwarding between interfaces (RFC 1812 5.2, 5.3).
 *
 * @module
 */
import { EADDRNOTAVAIL, ENETUNREACH } from "../codes.ts";
import { RX_CHECKSUM_PARTIAL, TX_HEADROOM, TxFrame } from "../device.ts";
import { isLinkLocal } from "../wire/address.ts";
import { copyBytes } from "../wire/copy.ts";
import {
  EXCEEDED_TTL,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  UNREACHABLE_FRAGMENTATION,
  UNREACHABLE_HOST,
  UNREACHABLE_NET,
} from "../wire/icmp.ts";
import { decrementTtl, FLAG_DONT_FRAGMENT, ipFlags } from "../wire/ipv4.ts";
import type { InternetLayer } from "./internet.ts";
import { checksumFieldOf, transportHeaderLength } from "./offload.ts";
import type { PathImpl } from "./path.ts";
import { ANY, CAST_UNICAST, type Packet, PROTO_TCP } from "./types.ts";

/** Bytes that are copied beside the IP header when the transport's header isn't known: the rest goes from where it lies. */
const INLINE = 60;

export class Forward {
  /** `input.toForward` is the sum of `forwarded` and the drops. */
  readonly counts = {
    forwarded: 0,
    dropTtl: 0,
    dropNoRoute: 0,
    dropTooBig: 0,
    dropAddress: 0,
    dropSegments: 0,
    dropSend: 0,
  };
  readonly #layer: InternetLayer;
  readonly #tx = new TxFrame();

  constructor(layer: InternetLayer) {
    this.#layer = layer;
  }

  /** A packet for another host, its header checked. */
  packet(packet: Packet): void {
    const { counts } = this;
    const layer = this.#layer;
    const { dstKey, srcKey, ipHeaderLength, memory } = packet;
    //= rfc3927#7
    // A router MUST NOT forward a packet with an IPv4 Link-Local source or destination address, irrespective of the router's
    // default route configuration or routes obtained from dynamic routing protocols.
    if (isLinkLocal(dstKey) || isLinkLocal(srcKey) || srcKey === ANY) {
      counts.dropAddress++;
      return;
    }
    //= rfc1812#5.3.1
    // If the TTL is reduced to zero (or less), the packet MUST be discarded, and if the destination is not a multicast address
    // the router MUST send an ICMP Time Exceeded message, Code 0 (TTL Exceeded in Transit) message to the source.
    if (packet.ttl <= 1) {
      counts.dropTtl++;
      layer.errors.send(packet, ICMP_TIME_EXCEEDED, EXCEEDED_TTL);
      return;
    }
    const path = layer.paths.find(ANY, dstKey);
    if (typeof path === "number") {
      counts.dropNoRoute++;
      //= rfc1812#5.2.7.1
      // If a router cannot forward a packet because it has no routes at all (including no default route) to the destination
      // specified in the packet, then the router MUST generate a Destination Unreachable, Code 0 (Network Unreachable) ICMP message.
      const unreachable = path === ENETUNREACH || path === EADDRNOTAVAIL ? UNREACHABLE_NET : UNREACHABLE_HOST;
      layer.errors.send(packet, ICMP_UNREACHABLE, unreachable);
      return;
    }
    //= rfc2644#2
    // (directed broadcasts are not forwarded by default)
    if (path.cast !== CAST_UNICAST || path.iface === layer.loopInterface) {
      counts.dropAddress++;
      return;
    }
    const tx = this.#tx;
    const total = ipHeaderLength + packet.length;
    const transport = transportHeaderLength(memory.view, packet.offset, packet.length, packet.proto);
    if (packet.segmentSize > 0 && transport < 0) {
      counts.dropSegments++;
      return;
    }
    const fragment = this.#fit(packet, path, total, transport);
    if (fragment < 0) return;
    this.#build(packet, transport);
    const { view } = tx.memory;
    decrementTtl(view, tx.offset);
    //= rfc1812#5.3.1
    // (the Time to Live is decremented by one and no further change is made to the header but its checksum)
    if (packet.segmentSize > 0) {
      tx.segmentSize = fragment > 1 ? fragment : packet.segmentSize;
      tx.segmentHeaderLength = tx.length;
    }
    const cut = packet.segmentSize === 0 && fragment === 1;
    const mtu = path.mtu;
    // The path MTU is what we learned as a host; a router goes by the link.
    path.mtu = path.interfaceMtu;
    const code = layer.output.transmit(path, tx, ipHeaderLength, packet.proto, total, cut);
    path.mtu = mtu;
    if (code < 0) counts.dropSend++;
    else counts.forwarded++;
  }

  /** 0 fits, 1 to be fragmented, more: the segment size to cut to; -1: dropped. */
  #fit(packet: Packet, path: PathImpl, total: number, transport: number): number {
    const { segmentSize, ipHeaderLength } = packet;
    const largest = segmentSize > 0 ? Math.min(total, ipHeaderLength + transport + segmentSize) : total;
    if (largest <= path.interfaceMtu) return 0;
    const { counts } = this;
    if ((ipFlags(packet.memory.view, packet.ipOffset) & FLAG_DONT_FRAGMENT) !== 0) {
      counts.dropTooBig++;
      //= rfc1191#4
      // When a router is unable to forward a datagram because it exceeds the MTU of the next-hop network and its Don't Fragment
      // bit is set, the router is required to return an ICMP Destination Unreachable message … with the MTU of that next-hop
      this.#layer.errors.send(packet, ICMP_UNREACHABLE, UNREACHABLE_FRAGMENTATION, path.interfaceMtu);
      return -1;
    }
    if (segmentSize === 0) return 1;
    // TCP may be cut anew; a datagram's size means something to its reader.
    const smaller = path.interfaceMtu - ipHeaderLength - transport;
    if (packet.proto === PROTO_TCP && smaller >= 8) return smaller;
    counts.dropSegments++;
    return -1;
  }

  /** The headers in our own memory, the rest from where it lies. */
  #build(packet: Packet, transport: number): void {
    const tx = this.#tx;
    const total = packet.ipHeaderLength + packet.length;
    const inline = packet.ipHeaderLength + (transport >= 0 ? transport : Math.min(packet.length, INLINE));
    tx.reset(inline);
    copyBytes(packet.memory.bytes, packet.ipOffset, tx.memory.bytes, TX_HEADROOM, inline);
    if (total > inline) {
      tx.payload = packet.memory;
      tx.payloadOffset1 = packet.ipOffset + inline;
      tx.payloadLength1 = total - inline;
    }
    const field = checksumFieldOf(packet.proto);
    if ((packet.flags & RX_CHECKSUM_PARTIAL) !== 0 && field >= 0 && transport >= 0) {
      tx.checksumStart = packet.ipHeaderLength;
      tx.checksumOffset = field;
    }
  }
}
