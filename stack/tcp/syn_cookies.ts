/**
 * SYN cookies (RFC 4987 section 3.6): when a listener's queue of half-open connections is full, a SYN is answered without
 * keeping anything. What must be remembered stands in our sequence number, and in the low bits of our timestamp.
 *
 * @module
 */
import type { Packet } from "../ip/types.ts";
import { PROTO_TCP } from "../ip/types.ts";
import { sealChecksum } from "../ip/seal.ts";
import * as wire from "../wire/tcp.ts";
import type { Segment } from "../wire/tcp.ts";
import { windowShift } from "./handshake.ts";
import type { Listener } from "./listener.ts";
import type { Tcp } from "./tcp.ts";

/** The peer's MSS, rounded down to one of these: three bits. */
const MSS_TABLE = [216, 536, 1200, 1360, 1440, 1460, 4312, 8960];
/** A cookie is good for this minute and the one before (Linux, MAX_SYNCOOKIE_AGE). */
const MINUTE_MS = 60_000;
const MAX_AGE = 2;
/** Low bits of the timestamp: 4 window scale (15 = none), SACK, ECN. */
const OPTION_BITS = 6;
const NO_SCALE = 15;
const SACK_BIT = 16;
const ECN_BIT = 32;

const TTL_OPTIONS = { ttl: 64, tos: 0, dontFragment: true };

/** What the cookie's ACK tells of the SYN. */
export interface CookieFacts {
  mss: number;
  windowScale: number;
  sackPermitted: boolean;
  ecn: boolean;
}

function count(tcp: Tcp): number {
  return Math.floor(tcp.now / MINUTE_MS) & 0xff;
}

function first(tcp: Tcp, packet: Packet, seg: Segment): number {
  return tcp.secret.hash(packet.dstKey, packet.srcKey, (seg.dstPort << 16) | seg.srcPort, 5);
}

function second(tcp: Tcp, packet: Packet, seg: Segment, minute: number): number {
  return tcp.secret.hash(packet.dstKey, packet.srcKey, (seg.dstPort << 16) | seg.srcPort, 0x100 + minute) & 0xffffff;
}

/** Answers a SYN with a cookie. */
export function sendCookie(tcp: Tcp, listener: Listener, packet: Packet, seg: Segment): void {
  const path = tcp.ip.path(packet.dstKey, packet.srcKey);
  if (typeof path === "number") return;
  let index = 0;
  while (index < 7 && MSS_TABLE[index + 1] <= (seg.mss < 0 ? 536 : seg.mss)) index++;
  const minute = count(tcp);
  const low = (second(tcp, packet, seg, minute) + index) & 0xffffff;
  const iss = (first(tcp, packet, seg) + seg.seq + (minute << 24) + low) | 0;
  const { options } = listener;
  const timestamps = seg.hasTimestamps && (options.timestamps ?? true);
  const scale = timestamps && seg.windowScale >= 0 && (options.windowScale ?? true);
  const sack = timestamps && seg.sackPermitted && (options.sack ?? true);
  const ecn = timestamps && (options.ecn ?? "accept") !== false && (seg.flags & (wire.ECE | wire.CWR)) === (wire.ECE | wire.CWR);
  let stamp = 0;
  if (timestamps) {
    const bits = (scale ? Math.min(seg.windowScale, 14) : NO_SCALE) | (sack ? SACK_BIT : 0) | (ecn ? ECN_BIT : 0);
    const now = (tcp.now + tcp.timestampOffset(packet.dstKey, packet.srcKey)) | 0;
    stamp = ((now >> OPTION_BITS) << OPTION_BITS) | bits;
    if (((stamp - now) | 0) > 0) stamp = (stamp - (1 << OPTION_BITS)) | 0; // never ahead of the clock
  }
  const { tx } = tcp.ip;
  tx.reset(wire.HEADER_LENGTH);
  const { view } = tx.memory;
  const at = tx.offset;
  const mss = Math.min(65535, path.interfaceMtu - path.ipHeaderLength - wire.HEADER_LENGTH);
  const receiveMax = options.receiveBufferMax ?? tcp.limits.receiveBufferMax;
  const shift = scale ? windowShift(receiveMax) : -1;
  tx.length = wire.HEADER_LENGTH +
    wire.emitSynOptions(view, at + wire.HEADER_LENGTH, mss, shift, sack, timestamps, stamp, seg.tsVal);
  const flags = wire.SYN | wire.ACK | (ecn ? wire.ECE : 0);
  const ports = (seg.dstPort << 16) | seg.srcPort;
  wire.emit(view, at, ports, iss, (seg.seq + 1) | 0, tx.length, flags, Math.min(65535, receiveMax));
  sealChecksum(tx, path, PROTO_TCP, wire.CHECKSUM);
  tcp.ip.send(path, PROTO_TCP, tx, TTL_OPTIONS);
  tcp.statistics.synCookiesSent++;
  tcp.statistics.segmentsSent++;
}

/** Checks the ACK that ends a handshake of which nothing was kept. Null if the cookie is not ours, or too old. */
export function checkCookie(tcp: Tcp, listener: Listener, packet: Packet, seg: Segment): CookieFacts | null {
  const cookie = (seg.ack - 1) | 0;
  const rest = (cookie - first(tcp, packet, seg) - (seg.seq - 1)) | 0;
  const minute = rest >>> 24;
  const age = (count(tcp) - minute) & 0xff;
  if (age >= MAX_AGE) return null;
  const index = (rest - second(tcp, packet, seg, minute)) & 0xffffff;
  if (index >= MSS_TABLE.length) return null;
  const facts: CookieFacts = { mss: MSS_TABLE[index], windowScale: -1, sackPermitted: false, ecn: false };
  if (seg.hasTimestamps && (listener.options.timestamps ?? true)) {
    const scale = seg.tsEcr & 15;
    if (scale !== NO_SCALE) facts.windowScale = scale;
    facts.sackPermitted = (seg.tsEcr & SACK_BIT) !== 0;
    facts.ecn = (seg.tsEcr & ECN_BIT) !== 0;
  }
  return facts;
}
