/**
 * Segment text on its way into the receive ring: trimming, order, acknowledgment (RFC 9293 3.10.7.4, seventh step).
 *
 * @module
 */
import { FIN, type Segment } from "../wire/tcp.ts";
import { reportDuplicate } from "./input.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { EVENT_READABLE } from "./types.ts";

//= rfc9293#3.8.6.3
// A TCP endpoint SHOULD implement a delayed ACK (SHLD-18), but an ACK should not be excessively delayed; in particular, the delay
// MUST be less than 0.5 seconds (MUST-40).
/** Linux's delayed acknowledgment. */
const DELAYED_ACK_MS = 40;

/** Takes the text of an acceptable segment. */
export function acceptText(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): void {
  if (tcb.path.rxQueueFrames > 0) tcp.share.note(tcb, now);
  let { seq, textOffset: offset, textLength: length } = seg;
  const early = (tcb.rcvNxt - seq) | 0;
  if (early > 0) {
    reportDuplicate(tcb, seq, (seq + Math.min(early, length)) | 0);
    tcb.ackNow = true;
    if (early >= length) {
      tcp.mark(tcb);
      return;
    }
    offset += early;
    length -= early;
    seq = tcb.rcvNxt;
  }
  const room = (tcb.rcvEdge - seq) | 0;
  if (length > room) {
    // Beyond the window: not kept, and said again where the window ends.
    length = Math.max(0, room);
    seg.flags &= ~FIN;
    tcb.ackNow = true;
    tcp.mark(tcb);
    if (length === 0) {
      tcp.statistics.outOfWindow++;
      return;
    }
  }
  if (tcb.finEarly && ((seq + length - tcb.finSeq) | 0) > 0) {
    length = Math.max(0, (tcb.finSeq - seq) | 0); // the peer said that its stream ends there
    seg.flags &= ~FIN;
    tcb.ackNow = true;
    tcp.mark(tcb);
    if (length === 0) {
      tcp.statistics.outOfWindow++;
      return;
    }
  }
  if (seq === tcb.rcvNxt) inOrder(tcp, tcb, seg, offset, length, now);
  else outOfOrder(tcp, tcb, seg, seq, offset, length);
}

function inOrder(tcp: Tcp, tcb: Tcb, seg: Segment, offset: number, length: number, now: number): void {
  const ring = tcb.receiveRing;
  if (!tcb.readShut) {
    const room = tcp.prunable.receive(tcb, length, ring.count + held(tcb));
    if (room < length) refuse(tcp, tcb, seg);
    if (room === 0) return;
    length = room;
    ring.placeFrame(ring.count, tcp.frame, offset, length);
  }
  let arrived = length;
  tcb.rcvNxt = (tcb.rcvNxt + length) | 0;
  const { ranges } = tcb;
  // Behind a FIN there is nothing: what came for there is forgotten when the FIN is taken (Linux, tcp_fin).
  if (ranges !== null && ranges.length > 0 && (seg.flags & FIN) === 0) {
    let end = ranges.advance(tcb.rcvNxt);
    if (tcb.finEarly && ((end - tcb.finSeq) | 0) > 0) end = tcb.finSeq;
    arrived += (end - tcb.rcvNxt) | 0;
    tcb.rcvNxt = end;
    //= rfc5681#4.2
    // a TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all or part of a gap
    tcb.ackNow = true;
    if (ranges.length === 0) tcp.releaseRanges(tcb);
  }
  if (!tcb.readShut) ring.count += arrived;
  tcb.bytesReceived += arrived;
  tcb.unacked += length;
  if (tcb.timestamps && seg.hasTimestamps && seg.tsEcr !== 0) measurePath(tcp, tcb, seg);
  //= rfc9293#3.8.6.3
  // An ACK SHOULD be generated for at least every second full-sized segment or 2*RMSS bytes of new data … (SHLD-19).
  if (tcb.unacked >= 2 * tcb.receiveMss) tcb.ackNow = true;
  acknowledgeSoon(tcp, tcb, now);
  tcb.raise(EVENT_READABLE);
}

/** What came in order is acknowledged with the next segment, or a little later: at once only when there is a reason. */
export function acknowledgeSoon(tcp: Tcp, tcb: Tcb, now: number): void {
  if (tcb.ackNow) tcp.mark(tcb);
  else if (tcb.delayedAckAt === Infinity) {
    tcb.delayedAckAt = now + DELAYED_ACK_MS;
    tcp.schedule(tcb);
  }
}

/** Bytes between the end of what is in order and the end of what is not. */
function held(tcb: Tcb): number {
  const { ranges } = tcb;
  return ranges === null || ranges.length === 0 ? 0 : (ranges.right(ranges.length - 1) - tcb.rcvNxt) | 0;
}

function outOfOrder(tcp: Tcp, tcb: Tcb, seg: Segment, seq: number, offset: number, length: number): void {
  const end = (seq + length) | 0;
  //= rfc5681#4.2
  // Out-of-order data segments SHOULD be acknowledged immediately
  tcb.ackNow = true;
  tcp.mark(tcb);
  tcp.statistics.outOfOrder++;
  tcb.outOfOrder++;
  const ranges = tcb.ranges ??= tcp.spares.ranges();
  if (ranges.covers(seq, end)) {
    reportDuplicate(tcb, seq, end);
    return;
  }
  const ring = tcb.receiveRing;
  const at = ring.count + ((seq - tcb.rcvNxt) | 0);
  if (!tcb.readShut && !ring.reserve(at + length, ring.count + held(tcb))) return refuse(tcp, tcb, seg);
  if (ranges.add(seq, end) < 0) return refuse(tcp, tcb, seg);
  if (!tcb.readShut) {
    ring.placeFrame(at, tcp.frame, offset, length);
    tcp.prunable.add(tcb);
  }
  if ((seg.flags & FIN) !== 0) noteFin(tcb, end);
}

/** A FIN is ahead of what is in order. Of several, which no honest peer sends, the first in the order of numbers counts. */
function noteFin(tcb: Tcb, seq: number): void {
  if (tcb.finEarly && ((seq - tcb.finSeq) | 0) >= 0) return;
  tcb.finEarly = true;
  tcb.finSeq = seq;
}

/** No memory, or too many holes: as if the segment, or the rest of it, had been lost on the way. */
function refuse(tcp: Tcp, tcb: Tcb, seg: Segment): void {
  tcp.statistics.outOfOrderDropped++;
  seg.flags &= ~FIN;
  if (tcb.ranges !== null && tcb.ranges.length === 0) tcp.releaseRanges(tcb);
}

/** True when a FIN, of this segment or an earlier one, is next in order. */
export function finAcceptable(tcb: Tcb, seg: Segment): boolean {
  if (tcb.finReceived) return false;
  if ((seg.flags & FIN) !== 0) {
    const at = (seg.seq + seg.textLength) | 0;
    if (at === tcb.rcvNxt) return true;
    if (((at - tcb.rcvNxt) | 0) > 0 && ((at - tcb.rcvEdge) | 0) <= 0) noteFin(tcb, at);
  }
  return tcb.finEarly && tcb.finSeq === tcb.rcvNxt;
}

/** The sender's round trip as the receiver sees it: how long our timestamp was away (Linux, tcp_rcv_rtt_measure_ts). */
function measurePath(tcp: Tcp, tcb: Tcb, seg: Segment): void {
  const sample = Math.max(1, (tcp.timestamp(tcb) - seg.tsEcr) | 0);
  if (sample > 60_000) return;
  tcb.drsRttMs = tcb.drsRttMs === 0 || sample < tcb.drsRttMs ? sample : tcb.drsRttMs + (sample - tcb.drsRttMs) / 16;
}
