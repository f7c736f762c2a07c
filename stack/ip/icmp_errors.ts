/**
 * ICMP errors that we send (RFC 792, RFC 1122 3.2.2, RFC 1812 4.3.2): when not to, how many, and how much is quoted.
 *
 * @module
 */
import { TX_HEADROOM, TxFrame } from "../device.ts";
import { isUnicast } from "../wire/address.ts";
import {
  emitIcmp,
  ICMP_HEADER,
  ICMP_PARAMETER_PROBLEM,
  ICMP_TIME_EXCEEDED,
  ICMP_UNREACHABLE,
  isIcmpError,
  sealIcmp,
  UNREACHABLE_FRAGMENTATION,
} from "../wire/icmp.ts";
import { ipFlags, IPV4_HEADER, OFFSET_MASK } from "../wire/ipv4.ts";
import { copyBytes } from "../wire/copy.ts";
import { KIND_BROADCAST, KIND_LOCAL } from "./addresses.ts";
import type { InternetLayer } from "./internet.ts";
import * as limits from "./limits.ts";
import { ANY, CAST_UNICAST, type Packet, PROTO_ICMP, type SendOptions } from "./types.ts";

/** What may be changed about the rates; Linux's figures are the default. */
export interface IcmpLimits {
  /** Errors a second in all, and at once. 0 turns the limit off. */
  perSecond: number;
  burst: number;
  /** Milliseconds between two errors to one destination, after a burst of six. 0 turns the limit off. */
  ratelimitMs: number;
}

const OPTIONS: SendOptions = { ttl: 64, tos: 0xc0, dontFragment: false };

export class IcmpErrors {
  readonly counts = {
    unreachableSent: 0,
    timeExceededSent: 0,
    parameterProblemSent: 0,
    errorsNotAllowed: 0,
    errorsRateLimited: 0,
    errorsNotSent: 0,
  };
  readonly #layer: InternetLayer;
  readonly #limits: IcmpLimits;
  readonly #tx = new TxFrame();
  #tokens: number;
  #filledAt = 0;
  readonly #seed: number;
  readonly #bucketTokens = new Float64Array(limits.ICMP_BUCKETS).fill(limits.ICMP_DESTINATION_BURST);
  readonly #bucketFilledAt = new Float64Array(limits.ICMP_BUCKETS);

  constructor(layer: InternetLayer, options: Partial<IcmpLimits>) {
    this.#layer = layer;
    this.#limits = {
      perSecond: options.perSecond ?? limits.ICMP_PER_SECOND,
      burst: options.burst ?? limits.ICMP_BURST,
      ratelimitMs: options.ratelimitMs ?? limits.ICMP_RATELIMIT_MS,
    };
    this.#tokens = this.#limits.burst;
    this.#seed = layer.random32();
  }

  /** An error about `packet`, if there may be one. `rest`: next-hop MTU, or pointer in the highest byte. */
  send(packet: Packet, type: number, code: number, rest = 0): void {
    if (!this.#allowed(packet)) {
      this.counts.errorsNotAllowed++;
      return;
    }
    const layer = this.#layer;
    const { srcKey, dstKey } = packet;
    //= rfc1191#4
    // (the router MUST send "fragmentation needed" for every datagram that is too big: path MTU discovery hangs on it)
    const limited = !(type === ICMP_UNREACHABLE && code === UNREACHABLE_FRAGMENTATION) && layer.local.kind(srcKey) !== KIND_LOCAL;
    if (limited && !this.#withinRates(srcKey, layer.now)) {
      this.counts.errorsRateLimited++;
      return;
    }
    //= rfc1812#4.3.2.4
    // Except where this document specifies otherwise, the IP source address in an ICMP message originated by the router MUST be
    // one of the IP addresses associated with the physical interface over which the ICMP message is transmitted.
    const path = layer.paths.find(layer.local.kind(dstKey) === KIND_LOCAL ? dstKey : ANY, srcKey);
    if (typeof path === "number") {
      this.counts.errorsNotSent++;
      return;
    }
    //= rfc1812#4.3.2.3
    // the ICMP datagram SHOULD contain as much of the original datagram as possible without the length of the ICMP datagram
    // exceeding 576 bytes.
    const quote = Math.min(packet.ipHeaderLength + packet.length, limits.ICMP_ERROR_MAX - IPV4_HEADER - ICMP_HEADER);
    const tx = this.#tx;
    tx.reset(ICMP_HEADER + quote);
    emitIcmp(tx.memory.view, TX_HEADROOM, type, code, rest);
    copyBytes(packet.memory.bytes, packet.ipOffset, tx.memory.bytes, TX_HEADROOM + ICMP_HEADER, quote);
    sealIcmp(tx.memory.view, TX_HEADROOM, tx.length);
    if (layer.output.send(path, PROTO_ICMP, tx, OPTIONS) < 0) this.counts.errorsNotSent++;
    else if (type === ICMP_UNREACHABLE) this.counts.unreachableSent++;
    else if (type === ICMP_TIME_EXCEEDED) this.counts.timeExceededSent++;
    else if (type === ICMP_PARAMETER_PROBLEM) this.counts.parameterProblemSent++;
  }

  #allowed(packet: Packet): boolean {
    const { view } = packet.memory;
    //= rfc1122#3.2.2
    // An ICMP error message MUST NOT be sent as the result of receiving: an ICMP error message
    if (packet.proto === PROTO_ICMP && (packet.length < 1 || isIcmpError(view.getUint8(packet.offset)))) return false;
    //= rfc1122#3.2.2
    // a datagram destined to an IP broadcast or IP multicast address, or a datagram sent as a link-layer broadcast
    if (packet.cast !== CAST_UNICAST) return false;
    //= rfc1122#3.2.2
    // a non-initial fragment
    if ((ipFlags(view, packet.ipOffset) & OFFSET_MASK) !== 0) return false;
    //= rfc1122#3.2.2
    // a datagram whose source address does not define a single host -- e.g., a zero address, a loopback address, a broadcast
    // address, a multicast address, or a Class E address.
    return isUnicast(packet.srcKey) && this.#layer.local.kind(packet.srcKey) !== KIND_BROADCAST;
  }

  #withinRates(key: number, now: number): boolean {
    const { perSecond, burst, ratelimitMs } = this.#limits;
    //= rfc1812#4.3.2.8
    // A router which sends ICMP Source Quench messages MUST be able to limit the rate at which the messages can be generated. …
    // other ICMP error messages SHOULD be limited as well.
    if (ratelimitMs > 0) {
      const slot = Math.imul(key ^ this.#seed, 0x9e3779b1) >>> 22 & (limits.ICMP_BUCKETS - 1);
      const elapsed = now - this.#bucketFilledAt[slot];
      this.#bucketFilledAt[slot] = now;
      const most = limits.ICMP_DESTINATION_BURST;
      this.#bucketTokens[slot] = Math.min(most, this.#bucketTokens[slot] + elapsed / ratelimitMs);
      if (this.#bucketTokens[slot] < 1) return false;
      this.#bucketTokens[slot]--;
    }
    if (perSecond > 0) {
      this.#tokens = Math.min(burst, this.#tokens + (now - this.#filledAt) * perSecond / 1000);
      this.#filledAt = now;
      if (this.#tokens < 1) return false;
      this.#tokens--;
    }
    return true;
  }
}
