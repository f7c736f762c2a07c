/**
 * Packets on their way in: checked in the order of RFC 1812 5.2.2 and RFC 1122 3.2.1, and handed to reassembly, to a
 * transport, or to forwarding.
 *
 * @module
 */
import type { FrameMemory } from "../device.ts";
import { isLoopback, isMulticast, LIMITED_BROADCAST } from "../wire/address.ts";
import { ICMP_PARAMETER_PROBLEM, ICMP_TIME_EXCEEDED, ICMP_UNREACHABLE, UNREACHABLE_PROTOCOL } from "../wire/icmp.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { KIND_BROADCAST, KIND_LOCAL, KIND_NONE } from "./addresses.ts";
import type { LinkInterface } from "./interface.ts";
import type { InternetLayer } from "./internet.ts";
import { CAST_BROADCAST, CAST_MULTICAST, CAST_UNICAST, type Packet, PROTO_IGMP } from "./types.ts";

const FRAGMENT = ipv4.FLAG_MORE | ipv4.OFFSET_MASK;

export class Input {
  /** `received + reassembled` is the sum of `delivered`, `toForward`, `fragments` and the drops. */
  readonly counts = {
    received: 0,
    delivered: 0,
    toForward: 0,
    fragments: 0,
    reassembled: 0,
    dropTruncated: 0,
    dropVersion: 0,
    dropHeaderLength: 0,
    dropTotalLength: 0,
    dropChecksum: 0,
    dropMartianSource: 0,
    dropMartianDestination: 0,
    dropLinkBroadcast: 0,
    dropNotForUs: 0,
    dropNotMember: 0,
    dropOptions: 0,
    dropSourceRoute: 0,
    dropUnknownProtocol: 0,
  };
  readonly #layer: InternetLayer;
  /** The one record that everything is handed up with. */
  readonly #packet: Packet;
  /** For packets that are described in between (see `describe`). */
  readonly #aside: Packet;

  constructor(layer: InternetLayer) {
    this.#layer = layer;
    this.#packet = newPacket(layer.tx.memory);
    this.#aside = newPacket(layer.tx.memory);
  }

  /** One packet of an interface: `length` bytes from its IP header on, padding included. */
  packet(
    iface: LinkInterface,
    memory: FrameMemory,
    offset: number,
    length: number,
    flags: number,
    segmentSize: number,
    linkCast: number,
  ): void {
    const { counts } = this;
    counts.received++;
    const { view } = memory;
    const headerLength = ipv4.checkIpv4(view, offset, length);
    if (headerLength < 0) {
      this.#malformed(headerLength);
      return;
    }
    const layer = this.#layer;
    const source = ipv4.ipSource(view, offset);
    const destination = ipv4.ipDestination(view, offset);
    const looped = iface === layer.loopInterface;
    if (!this.#sourceValid(source, destination, looped)) {
      //= rfc1122#3.2.1.3
      // A host MUST silently discard an incoming datagram containing an IP source address that is invalid by the rules of this
      // section.
      counts.dropMartianSource++;
      return;
    }
    const cast = this.#castOf(iface, destination, looped);
    if (cast === NOT_MEMBER) {
      counts.dropNotMember++;
      return;
    }
    if (cast === MARTIAN) {
      counts.dropMartianDestination++;
      return;
    }
    if (linkCast !== CAST_UNICAST && (cast === CAST_UNICAST || cast === FOREIGN)) {
      //= rfc1122#3.3.6
      // A host SHOULD silently discard a datagram that is received via a link-layer broadcast (see Section 2.4) but does not
      // specify an IP multicast or broadcast destination address.
      counts.dropLinkBroadcast++;
      return;
    }
    if (cast === FOREIGN && layer.forward === null) {
      //= rfc1122#3.2.1.3
      // A host MUST silently discard an incoming datagram that is not destined for the host.
      counts.dropNotForUs++;
      return;
    }
    const packet = this.#packet;
    fill(packet, memory, offset, headerLength, ipv4.ipTotalLength(view, offset));
    packet.flags = flags;
    packet.segmentSize = segmentSize;
    packet.cast = cast === FOREIGN ? CAST_UNICAST : cast;
    packet.interfaceIndex = looped && cast !== CAST_UNICAST ? layer.loop.arrivedBy : iface.index;
    if (headerLength > ipv4.IPV4_HEADER && !this.#optionsValid(packet)) return;
    if (cast === FOREIGN) {
      counts.toForward++;
      layer.forward!.packet(packet);
      return;
    }
    if ((ipv4.ipFlags(view, offset) & FRAGMENT) !== 0) this.#fragment(packet);
    else this.#deliver(packet);
  }

  /** Describes a packet that waited somewhere, for an ICMP error about it. Valid until the next call. */
  describe(memory: FrameMemory, offset: number, interfaceIndex: number): Packet {
    const packet = this.#aside;
    const { view } = memory;
    fill(packet, memory, offset, ipv4.ipHeaderLength(view, offset), ipv4.ipTotalLength(view, offset));
    packet.flags = packet.segmentSize = 0;
    packet.interfaceIndex = interfaceIndex;
    const { dstKey } = packet;
    const kind = this.#layer.local.kind(dstKey);
    packet.cast = isMulticast(dstKey)
      ? CAST_MULTICAST
      : dstKey === LIMITED_BROADCAST || kind === KIND_BROADCAST
      ? CAST_BROADCAST
      : CAST_UNICAST;
    return packet;
  }

  /** Reassembly gave up on a packet whose first fragment had come. */
  readonly reassemblyExpired = (memory: FrameMemory, _length: number): void => {
    //= rfc792#page-6
    // If a host reassembling a fragmented datagram cannot complete the reassembly due to missing fragments within its time
    // limit it discards the datagram, and it may send a time exceeded message. If fragment zero is not available then no time
    // exceeded need be sent at all.
    const packet = this.describe(memory, 0, 0);
    this.#layer.errors.send(packet, ICMP_TIME_EXCEEDED, 1);
  };

  #malformed(code: number): void {
    const { counts } = this;
    if (code === ipv4.IPV4_TRUNCATED) counts.dropTruncated++;
    else if (code === ipv4.IPV4_VERSION) counts.dropVersion++;
    else if (code === ipv4.IPV4_HEADER_LENGTH) counts.dropHeaderLength++;
    else if (code === ipv4.IPV4_CHECKSUM) counts.dropChecksum++;
    else counts.dropTotalLength++;
  }

  #sourceValid(source: number, destination: number, looped: boolean): boolean {
    const { local } = this.#layer;
    // Nothing but our own output comes by the loop-back device.
    if (looped) return true;
    // Multicast, class E and the limited broadcast have 14 or 15 in front.
    if (source >>> 28 >= 14 || isLoopback(source)) return false;
    // "This host on this network": a host without an address yet asks everybody (BOOTP, IGMP proxies).
    if (source >>> 24 === 0) return source === 0 && (destination === LIMITED_BROADCAST || isMulticast(destination));
    // From ourselves, or from everybody on our network.
    return local.kind(source) === KIND_NONE;
  }

  /** One of CAST_…, or one of the codes below. */
  #castOf(iface: LinkInterface, destination: number, looped: boolean): number {
    const layer = this.#layer;
    const kind = layer.local.kind(destination);
    //= rfc1122#3.2.1.3
    // An incoming datagram is destined for the host if the datagram's destination address field is: (1) (one of) the host's IP
    // address(es); or (2) an IP broadcast address
    // valid for the connected network; or (3) the address for a multicast group of which the host is a member on the incoming
    // physical interface.
    if (kind === KIND_LOCAL) return CAST_UNICAST;
    if (kind === KIND_BROADCAST || destination === LIMITED_BROADCAST) return CAST_BROADCAST;
    if (isMulticast(destination)) {
      const index = looped ? layer.loop.arrivedBy : iface.index;
      return layer.igmp.isMember(index, destination) ? CAST_MULTICAST : NOT_MEMBER;
    }
    if (isLoopback(destination)) return looped ? CAST_UNICAST : MARTIAN;
    if (destination >>> 24 === 0 || destination >>> 28 === 15) return MARTIAN;
    // Our address may have gone while the packet waited on the loop-back device.
    if (looped) return MARTIAN;
    return layer.anyAddress ? CAST_UNICAST : FOREIGN;
  }

  #optionsValid(packet: Packet): boolean {
    const code = ipv4.checkOptions(packet.memory.view, packet.ipOffset, packet.ipHeaderLength);
    if (code === 0) return true;
    if (code === ipv4.OPTIONS_SOURCE_ROUTE) {
      //= rfc1122#3.2.1.8 type=exception reason=source routes serve attackers only (RFC 7126 4.3); every system drops them
      // A host MUST support originating a source route and MUST be able to act as the final destination of a source route.
      //= rfc9293#3.9.2.1 type=exception reason=source routes are refused: RFC 7126 4.3 and 4.4 advise it, and Linux does it by default (accept_source_route 0)
      // An application MUST be able to specify a source route when it actively opens a TCP connection (MUST-51), and this MUST
      // take precedence over a source route received in a datagram (MUST-52).
      //= rfc9293#3.9.2.1 type=exception reason=source routes are refused: RFC 7126 4.3 and 4.4 advise it, and Linux does it by default (accept_source_route 0)
      // When a TCP connection is OPENed passively and a packet arrives with a completed IP Source Route Option (containing a
      // return route), TCP implementations MUST save the return route and use it for all segments sent on this connection
      // (MUST-53).
      //= rfc9293#3.9.2.1 type=exception reason=source routes are refused: RFC 7126 4.3 and 4.4 advise it, and Linux does it by default (accept_source_route 0)
      // If a different source route arrives in a later segment, the later definition SHOULD override the earlier one (SHLD-24).
      this.counts.dropSourceRoute++;
      return false;
    }
    this.counts.dropOptions++;
    //= rfc792#page-8
    // If the gateway or host processing a datagram finds a problem with the header parameters such that it cannot complete
    // processing the datagram it must discard the datagram. … The pointer identifies the octet of the original datagram's
    // header where the error was detected
    this.#layer.errors.send(packet, ICMP_PARAMETER_PROBLEM, 0, code << 24);
    return false;
  }

  #fragment(packet: Packet): void {
    const layer = this.#layer;
    const { view } = packet.memory;
    this.counts.fragments++;
    const bits = ipv4.ipFlags(view, packet.ipOffset);
    const id = ipv4.ipId(view, packet.ipOffset);
    const at = (bits & ipv4.OFFSET_MASK) << 3;
    const whole = layer.reassembler.input(packet, id, at, (bits & ipv4.FLAG_MORE) !== 0, layer.now);
    if (whole === null) return;
    this.counts.reassembled++;
    fill(packet, whole, 0, ipv4.ipHeaderLength(whole.view, 0), layer.reassembler.length);
    // What a device verified was a fragment.
    packet.flags = packet.segmentSize = 0;
    this.#deliver(packet);
  }

  #deliver(packet: Packet): void {
    const transport = this.#layer.transports[packet.proto];
    if (transport === null) {
      this.counts.dropUnknownProtocol++;
      //= rfc1122#3.2.2.1
      // A host SHOULD generate Destination Unreachable messages with code: 2 (Protocol Unreachable), when the designated
      // transport protocol is not supported
      if (packet.proto !== PROTO_IGMP) this.#layer.errors.send(packet, ICMP_UNREACHABLE, UNREACHABLE_PROTOCOL);
      return;
    }
    this.counts.delivered++;
    transport.input(packet, this.#layer.now);
  }
}

/** Results of `#castOf` beside CAST_…. */
const FOREIGN = 10;
const NOT_MEMBER = 11;
const MARTIAN = 12;

function newPacket(memory: FrameMemory): Packet {
  return {
    memory,
    family: 4,
    ipOffset: 0,
    ipHeaderLength: 0,
    offset: 0,
    length: 0,
    srcKey: 0,
    dstKey: 0,
    proto: 0,
    ttl: 0,
    tos: 0,
    flags: 0,
    segmentSize: 0,
    cast: CAST_UNICAST,
    pseudoSum: 0,
    interfaceIndex: 0,
  };
}

function fill(packet: Packet, memory: FrameMemory, offset: number, headerLength: number, total: number): void {
  const { view } = memory;
  const length = total - headerLength;
  const source = ipv4.ipSource(view, offset);
  const destination = ipv4.ipDestination(view, offset);
  const proto = ipv4.ipProto(view, offset);
  packet.memory = memory;
  packet.ipOffset = offset;
  packet.ipHeaderLength = headerLength;
  packet.offset = offset + headerLength;
  packet.length = length;
  packet.srcKey = source;
  packet.dstKey = destination;
  packet.proto = proto;
  packet.ttl = ipv4.ipTtl(view, offset);
  packet.tos = ipv4.ipTos(view, offset);
  packet.pseudoSum = ipv4.addressSum(source) + ipv4.addressSum(destination) + proto + length;
}
