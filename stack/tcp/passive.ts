/**
 * Segments that belong to no connection: the states CLOSED and LISTEN (RFC 9293 3.10.7.1, 3.10.7.2).
 *
 * @module
 */
import { OK } from "../codes.ts";
import type { Packet } from "../ip/types.ts";
import * as wire from "../wire/tcp.ts";
import { Segment } from "../wire/tcp.ts";
import { establish, listenSyn, takeSynOptions } from "./handshake.ts";
import { segmentArrives } from "./input.ts";
import type { Listener } from "./listener.ts";
import { resetStray } from "./reset.ts";
import { checkCookie, sendCookie } from "./syn_cookies.ts";
import type { Tcp } from "./tcp.ts";
import { SYN_RECEIVED } from "./types.ts";

/** A cookie is believed for so long after the last one was given out: two minutes of the cookie's own clock. */
const COOKIES_BELIEVED_MS = 120_000;

/** The SYN that a cookie stands for. */
const synthetic = new Segment();

export function noConnection(tcp: Tcp, packet: Packet, seg: Segment, now: number): void {
  if ((seg.flags & wire.RST) !== 0) {
    tcp.statistics.resetsIgnored++;
    return;
  }
  let listener = tcp.listeners.find(packet.dstKey, seg.dstPort);
  if (tcp.intercept !== null) {
    const begins = (seg.flags & (wire.SYN | wire.ACK | wire.FIN)) === wire.SYN;
    const verdict = tcp.intercept(packet, seg.srcPort, seg.dstPort, begins, listener);
    if (verdict === undefined) return;
    listener = verdict as Listener | null;
  }
  if (listener === null) {
    tcp.statistics.noListener++;
    return resetStray(tcp, packet, seg);
  }
  if ((seg.flags & wire.ACK) !== 0) return acknowledgment(tcp, listener, packet, seg, now);
  // Without SYN there is nothing to open; SYN with FIN is nobody's honest segment (Linux drops it too).
  if ((seg.flags & (wire.SYN | wire.FIN)) !== wire.SYN) {
    tcp.statistics.badHeader++;
    return;
  }
  if (!listener.hasRoom || tcp.table.size >= tcp.limits.connectionsMax) {
    tcp.statistics.synDropped++;
    tcp.statistics.listenOverflow++;
    return;
  }
  if (!listener.takesSyn) {
    listener.cookieAt = now;
    // What waits in TIME-WAIT would take the acknowledgment for its own.
    const old = tcp.table.get(packet.dstKey, seg.dstPort, packet.srcKey, seg.srcPort);
    if (old !== null) tcp.fail(old, OK);
    return sendCookie(tcp, listener, packet, seg);
  }
  const path = tcp.ip.path(packet.dstKey, packet.srcKey);
  if (typeof path === "number") {
    tcp.statistics.noPath++;
    return;
  }
  const tcb = tcp.make(path, packet.dstKey, seg.dstPort, packet.srcKey, seg.srcPort, listener.options);
  listener.halfOpen.add(tcb);
  tcp.statistics.passiveOpens++;
  listenSyn(tcp, tcb, listener, seg, now);
}

/** An acknowledgment for a listener: the end of a handshake that was answered with a cookie, or nothing of ours. */
function acknowledgment(tcp: Tcp, listener: Listener, packet: Packet, seg: Segment, now: number): void {
  const believed = now - listener.cookieAt < COOKIES_BELIEVED_MS && (seg.flags & wire.SYN) === 0;
  const facts = believed ? checkCookie(tcp, listener, packet, seg) : null;
  if (facts === null) {
    if (believed) tcp.statistics.synCookiesFailed++;
    return resetStray(tcp, packet, seg);
  }
  if (!listener.hasRoom || tcp.table.size >= tcp.limits.connectionsMax) {
    tcp.statistics.listenOverflow++; // the peer's data will come again, and by then there may be room
    return;
  }
  const path = tcp.ip.path(packet.dstKey, packet.srcKey);
  if (typeof path === "number") {
    tcp.statistics.noPath++;
    return;
  }
  const tcb = tcp.make(path, packet.dstKey, seg.dstPort, packet.srcKey, seg.srcPort, listener.options);
  tcb.listener = listener;
  tcb.state = SYN_RECEIVED;
  tcb.iss = (seg.ack - 1) | 0;
  synthetic.seq = (seg.seq - 1) | 0;
  synthetic.ack = 0;
  synthetic.flags = wire.SYN | (facts.ecn ? wire.ECE | wire.CWR : 0);
  synthetic.window = Math.min(seg.window, 65535);
  synthetic.mss = facts.mss;
  synthetic.windowScale = facts.windowScale;
  synthetic.sackPermitted = facts.sackPermitted;
  synthetic.hasTimestamps = seg.hasTimestamps;
  synthetic.tsVal = seg.tsVal;
  takeSynOptions(tcp, tcb, synthetic, now);
  tcb.sndUna = tcb.sndNxt = seg.ack;
  tcb.sndWnd = tcb.maxSndWnd = seg.window << tcb.sndWndShift;
  tcp.statistics.passiveOpens++;
  tcp.statistics.synCookiesReceived++;
  establish(tcp, tcb, now);
  segmentArrives(tcp, tcb, seg, now);
}
