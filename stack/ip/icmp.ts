/**
 * ICMP as it comes in (RFC 792, RFC 1122 3.2.2): echo, and errors about what we sent.
 *
 * @module
 */
import { EHOSTUNREACH, EMSGSIZE, OK } from "../codes.ts";
import { FrameMemory, TX_HEADROOM, TxFrame } from "../device.ts";
import { copyBytes } from "../wire/copy.ts";
import { finish, sum } from "../wire/checksum.ts";
import * as wire from "../wire/icmp.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { KIND_LOCAL } from "./addresses.ts";
import { errorOf, HARD } from "./icmp_codes.ts";
import type { InternetLayer } from "./internet.ts";
import {
  ANY,
  CAST_UNICAST,
  type EchoReply,
  type Packet,
  type PacketError,
  PROTO_ICMP,
  type SendOptions,
  type Transport,
} from "./types.ts";

const ECHO_MAX = ipv4.IPV4_MAX - ipv4.IPV4_HEADER - wire.ICMP_HEADER;
const NO_DATA = new Uint8Array(0);

export class Icmp implements Transport {
  /** `received` is the sum of the echoes, the errors and what was dropped or ignored. */
  readonly counts = {
    received: 0,
    echoRequests: 0,
    echoReplies: 0,
    errorsReceived: 0,
    echoRepliesSent: 0,
    echoRepliesFailed: 0,
    echoRequestsSent: 0,
    dropTruncated: 0,
    dropChecksum: 0,
    dropEchoBroadcast: 0,
    dropEchoForeign: 0,
    dropEchoUnwanted: 0,
    dropType: 0,
    dropQuote: 0,
    dropUnsolicited: 0,
    redirectsIgnored: 0,
    sourceQuenchIgnored: 0,
    timestampIgnored: 0,
    addressMaskIgnored: 0,
    neighborErrors: 0,
  };
  onEcho: (reply: EchoReply) => void = () => {};
  readonly #layer: InternetLayer;
  readonly #tx = new TxFrame();
  readonly #options: SendOptions = { ttl: 64, tos: 0, dontFragment: false };
  #echoData: FrameMemory | null = null;
  readonly #error: PacketError;

  constructor(layer: InternetLayer) {
    this.#layer = layer;
    const memory = this.#tx.memory;
    this.#error = {
      code: 0,
      hard: false,
      mtu: 0,
      localKey: 0,
      remoteKey: 0,
      memory,
      offset: 0,
      length: 0,
      icmpType: 0,
      icmpCode: 0,
    };
  }

  input(packet: Packet): void {
    const { counts } = this;
    const { view } = packet.memory;
    counts.received++;
    const code = wire.checkIcmp(view, packet.offset, packet.length);
    if (code !== wire.ICMP_OK) {
      if (code === wire.ICMP_TRUNCATED) counts.dropTruncated++;
      else counts.dropChecksum++;
      return;
    }
    const type = wire.icmpType(view, packet.offset);
    switch (type) {
      case wire.ICMP_ECHO:
        this.#echo(packet);
        return;
      case wire.ICMP_ECHO_REPLY:
        counts.echoReplies++;
        this.#reply(packet);
        return;
      case wire.ICMP_UNREACHABLE:
      case wire.ICMP_TIME_EXCEEDED:
      case wire.ICMP_PARAMETER_PROBLEM:
        this.#errorMessage(packet, type);
        return;
      case wire.ICMP_SOURCE_QUENCH:
        //= rfc6633#3
        // A host MUST NOT send ICMP Source Quench messages. If a Source Quench message is received, it MUST be silently discarded.
        counts.sourceQuenchIgnored++;
        return;
      case wire.ICMP_REDIRECT:
        //= rfc1122#3.2.2.2 type=exception reason=a redirect can't be authenticated; routes come from the configuration only
        // A host receiving a Redirect message MUST update its routing information accordingly.
        counts.redirectsIgnored++;
        return;
      case wire.ICMP_TIMESTAMP:
      case wire.ICMP_TIMESTAMP_REPLY:
        //= rfc1122#3.2.2.8
        // A host MAY implement Timestamp and Timestamp Reply.
        counts.timestampIgnored++;
        return;
      case wire.ICMP_ADDRESS_MASK:
      case wire.ICMP_ADDRESS_MASK_REPLY:
        counts.addressMaskIgnored++;
        return;
      default:
        //= rfc1122#3.2.2
        // If an ICMP message of unknown type is received, it MUST be silently discarded.
        counts.dropType++;
    }
  }

  /** Sends an echo request. Returns 0 or a negative code. */
  sendEcho(remoteKey: number, identifier: number, sequence: number, data: Uint8Array, options?: Partial<SendOptions>): number {
    if (data.length > ECHO_MAX) return EMSGSIZE;
    const path = this.#layer.paths.find(ANY, remoteKey);
    if (typeof path === "number") return path;
    const memory = this.#echoData ??= new FrameMemory(ECHO_MAX + 1);
    copyBytes(data, 0, memory.bytes, 0, data.length);
    const tx = this.#tx;
    tx.reset(wire.ICMP_HEADER);
    const { view } = tx.memory;
    wire.emitIcmp(view, TX_HEADROOM, wire.ICMP_ECHO, 0, (identifier << 16) | (sequence & 0xffff));
    const total = sum(memory.view, 0, data.length, sum(view, TX_HEADROOM, wire.ICMP_HEADER, 0));
    wire.setIcmpChecksum(view, TX_HEADROOM, finish(total));
    tx.payload = memory;
    tx.payloadLength1 = data.length;
    const how = this.#options;
    how.ttl = options?.ttl ?? 64;
    how.tos = options?.tos ?? 0;
    how.dontFragment = options?.dontFragment ?? false;
    const code = this.#layer.output.send(path, PROTO_ICMP, tx, how);
    if (code === OK) this.counts.echoRequestsSent++;
    return code;
  }

  /** An error about one of our echo requests. Nobody knows which are under way but those who asked: `onEcho` sorts it out. */
  error(error: PacketError): boolean {
    const { memory, offset, length } = error;
    if (length < wire.ICMP_HEADER || wire.icmpType(memory.view, offset) !== wire.ICMP_ECHO) return false;
    this.onEcho({
      code: error.code,
      fromKey: this.#errorFrom,
      identifier: wire.echoIdentifier(memory.view, offset),
      sequence: wire.echoSequence(memory.view, offset),
      ttl: this.#errorTtl,
      icmpType: error.icmpType,
      icmpCode: error.icmpCode,
      data: NO_DATA,
    });
    return true;
  }
  #errorFrom = 0;
  #errorTtl = 0;

  /** A packet of ours, or one we forward, whose next hop does not answer ARP. */
  undeliverable(frame: TxFrame, interfaceIndex: number): void {
    const { view } = frame.memory;
    const at = frame.offset;
    this.counts.neighborErrors++;
    const source = ipv4.ipSource(view, at);
    if (this.#layer.local.kind(source) === KIND_LOCAL) {
      this.#errorFrom = source;
      this.#errorTtl = 0;
      const quoted = frame.length;
      // Hard: nobody can forge it, and whoever opens a connection gets as clear an answer as on Linux, where any error ends that.
      this.#report(frame.memory, at, quoted, EHOSTUNREACH, true, 0, wire.ICMP_UNREACHABLE, wire.UNREACHABLE_HOST, 0, true);
      return;
    }
    const packet = this.#layer.input.describe(frame.memory, at, interfaceIndex);
    this.#layer.errors.send(packet, wire.ICMP_UNREACHABLE, wire.UNREACHABLE_HOST);
  }

  #echo(packet: Packet): void {
    const { counts } = this;
    counts.echoRequests++;
    //= rfc1122#3.2.2.6
    // An ICMP Echo Request destined to an IP broadcast or IP multicast address MAY be silently discarded.
    if (packet.cast !== CAST_UNICAST) {
      counts.echoRequests--;
      counts.dropEchoBroadcast++;
      return;
    }
    if (!this.#layer.answerEcho) {
      counts.echoRequests--;
      counts.dropEchoUnwanted++;
      return;
    }
    if (this.#layer.anyAddress && this.#layer.local.kind(packet.dstKey) !== KIND_LOCAL) {
      // Whether that host is there is not for us to say.
      counts.echoRequests--;
      counts.dropEchoForeign++;
      return;
    }
    //= rfc1122#3.2.2.6
    // The IP source address in an ICMP Echo Reply MUST be the same as the specific-destination address of the corresponding
    // ICMP Echo Request message.
    const path = this.#layer.paths.find(packet.dstKey, packet.srcKey);
    if (typeof path === "number") {
      counts.echoRepliesFailed++;
      return;
    }
    //= rfc1122#3.2.2.6 type=exception reason=options are tolerated, never sent back: no system relies on it, and routers drop them
    // If a Record Route and/or Timestamp option is received in an ICMP Echo Request, this option (these options) SHOULD be
    // updated to include the current host and included in the IP header of the Echo Reply message, without "truncation".
    const { view } = packet.memory;
    const tx = this.#tx;
    tx.reset(wire.ICMP_HEADER);
    const out = tx.memory.view;
    //= rfc792#page-14
    // To form an echo reply message, the source and destination addresses are simply reversed, the type code changed to 0, and
    // the checksum recomputed.
    wire.emitIcmp(out, TX_HEADROOM, wire.ICMP_ECHO_REPLY, wire.icmpCode(view, packet.offset), wire.icmpRest(view, packet.offset));
    // Only the type changes, from 8 to 0: RFC 1624 saves a walk over the data.
    const old = wire.icmpChecksum(view, packet.offset) + (wire.ICMP_ECHO << 8);
    wire.setIcmpChecksum(out, TX_HEADROOM, (old & 0xffff) + (old >>> 16));
    //= rfc1122#3.2.2.6
    // Data received in an ICMP Echo Request MUST be entirely included in the resulting Echo Reply.
    tx.payload = packet.memory;
    tx.payloadOffset1 = packet.offset + wire.ICMP_HEADER;
    tx.payloadLength1 = packet.length - wire.ICMP_HEADER;
    const how = this.#options;
    how.ttl = 64;
    how.tos = packet.tos & 0xfc;
    how.dontFragment = false;
    if (this.#layer.output.send(path, PROTO_ICMP, tx, how) < 0) counts.echoRepliesFailed++;
    else counts.echoRepliesSent++;
  }

  #reply(packet: Packet): void {
    const { memory, offset, length } = packet;
    this.onEcho({
      code: OK,
      fromKey: packet.srcKey,
      identifier: wire.echoIdentifier(memory.view, offset),
      sequence: wire.echoSequence(memory.view, offset),
      ttl: packet.ttl,
      icmpType: wire.ICMP_ECHO_REPLY,
      icmpCode: wire.icmpCode(memory.view, offset),
      data: memory.bytes.slice(offset + wire.ICMP_HEADER, offset + length),
    });
  }

  #errorMessage(packet: Packet, type: number): void {
    const { view } = packet.memory;
    const icmpCode = wire.icmpCode(view, packet.offset);
    const mapped = errorOf(type, icmpCode);
    if (mapped === 0 || packet.cast !== CAST_UNICAST) {
      this.counts.dropType++;
      return;
    }
    const quote = packet.offset + wire.ICMP_HEADER;
    const quoted = packet.length - wire.ICMP_HEADER;
    this.#errorFrom = packet.srcKey;
    this.#errorTtl = packet.ttl;
    const nextHop = mapped === EMSGSIZE ? wire.nextHopMtu(view, packet.offset) : 0;
    const hard = (HARD[type] >>> icmpCode & 1) !== 0;
    this.#report(packet.memory, quote, quoted, mapped, hard, nextHop, type, icmpCode, packet.dstKey, false);
  }

  /** Tells the transport whose packet is quoted at `at`. `own`: the neighbour cache says so, not the network. */
  #report(
    memory: FrameMemory,
    at: number,
    quoted: number,
    code: number,
    hard: boolean,
    nextHop: number,
    type: number,
    icmpCode: number,
    toKey: number,
    own: boolean,
  ): void {
    const { counts } = this;
    const layer = this.#layer;
    const { view } = memory;
    const header = quoted >= ipv4.IPV4_HEADER && ipv4.ipVersion(view, at) === 4 ? ipv4.ipHeaderLength(view, at) : 0;
    //= rfc1122#3.2.2
    // Every ICMP error message includes the Internet header and at least the first 8 data octets of the datagram that
    // triggered the error
    const fits = header >= ipv4.IPV4_HEADER && quoted >= header + 8 && (ipv4.ipFlags(view, at) & ipv4.OFFSET_MASK) === 0;
    const local = fits ? ipv4.ipSource(view, at) : 0;
    const remote = fits ? ipv4.ipDestination(view, at) : 0;
    // The packet must be one of ours, and the message must have come to the address that sent it.
    if (!fits || layer.local.kind(local) !== KIND_LOCAL || (!own && local !== toKey)) {
      if (!own) counts.dropQuote++;
      return;
    }
    //= rfc1122#3.2.2
    // In those cases where the Internet layer is required to pass an ICMP error message to the transport layer, the IP protocol
    // number MUST be extracted from the original header and used to select the appropriate transport protocol entity to handle
    // the error.
    const transport = layer.transports[ipv4.ipProto(view, at)];
    if (transport === null) {
      if (!own) counts.dropUnsolicited++;
      return;
    }
    const record = this.#error;
    record.code = code;
    record.hard = hard;
    record.localKey = local;
    record.remoteKey = remote;
    record.memory = memory;
    record.offset = at + header;
    record.length = quoted - header;
    record.icmpType = type;
    record.icmpCode = icmpCode;
    record.mtu = 0;
    // The path MTU is lowered first, so that the transport finds it; a transport that knows better takes it back.
    const before = layer.pathMtus.get(remote);
    if (code === EMSGSIZE) record.mtu = layer.lowerPathMtu(local, remote, nextHop, ipv4.ipTotalLength(view, at));
    if (!own) counts.errorsReceived++;
    const believed = transport.error(record, layer.now);
    if (believed === false) {
      if (!own) {
        counts.errorsReceived--;
        counts.dropUnsolicited++;
      }
      if (record.mtu !== 0) layer.restorePathMtu(remote, before);
    }
  }
}
