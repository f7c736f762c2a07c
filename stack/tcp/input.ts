/**
 * A segment arrives in a synchronized state: the steps of RFC 9293 3.10.7.4, in their order.
 *
 * @module
 */
import { ECONNRESET, OK } from "../codes.ts";
import * as wire from "../wire/tcp.ts";
import type { Segment } from "../wire/tcp.ts";
import { processAck } from "./ack.ts";
import { ecnReceived } from "./ecn.ts";
import { crossedSyn, simultaneousSynAck, synReceivedAck, synReceivedReset, synSent } from "./handshake.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { acceptText, acknowledgeSoon, finAcceptable } from "./text.ts";
import {
  CLOSE_WAIT,
  CLOSED,
  CLOSING,
  ESTABLISHED,
  EVENT_READABLE,
  FIN_WAIT_1,
  FIN_WAIT_2,
  LAST_ACK,
  SYN_RECEIVED,
  SYN_SENT,
  TIME_WAIT,
} from "./types.ts";
import { urgentArrives } from "./urgent.ts";

/** RFC 7323 5.5: a timestamp that was not refreshed for 24 days says nothing any more. */
const PAWS_AGE_MS = 24 * 24 * 3600 * 1000;

export function segmentArrives(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): void {
  tcb.segmentsReceived++;
  if (tcb.state === SYN_SENT) return synSent(tcp, tcb, seg, now);
  if (tcb.state === SYN_RECEIVED && simultaneousSynAck(tcb, seg)) crossedSyn(tcb, seg);
  if (!sequenceAcceptable(tcp, tcb, seg, now)) return;
  if ((seg.flags & wire.RST) !== 0) return reset(tcp, tcb, seg, now);
  if ((seg.flags & wire.SYN) !== 0) return unexpectedSyn(tcp, tcb, now);
  if ((seg.flags & wire.ACK) === 0) {
    tcp.statistics.noAck++; // fifth step: if the ACK bit is off, drop the segment and return
    return;
  }
  takeTimestamp(tcb, seg, now);
  ecnReceived(tcb, seg);
  tcb.lastReceivedAt = now;
  tcb.keepAliveProbes = 0;
  if (tcb.state === SYN_RECEIVED && !synReceivedAck(tcp, tcb, seg, now)) return;
  if (!processAck(tcp, tcb, seg, now)) return;
  afterAck(tcp, tcb, now);
  if ((tcb.state as number) === CLOSED) return;
  if ((seg.flags & wire.URG) !== 0) urgentArrives(tcb, seg);
  if (seg.textLength > 0 || (seg.flags & wire.FIN) !== 0) textAndFin(tcp, tcb, seg, now);
}

/** First step. What is not acceptable is answered with an acknowledgment (unless it is a reset) and dropped. */
function sequenceAcceptable(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): boolean {
  const { flags } = seg;
  if (tcb.timestamps && (flags & wire.RST) === 0) {
    if (!seg.hasTimestamps && (flags & wire.SYN) === 0) {
      //= rfc7323#3.2
      // If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment.
      //= rfc7323#3.2 type=exception reason=a SYN is not dropped for it: RFC 5961 4.2 wants a challenge ACK whatever else it carries, so that a peer that has restarted without timestamps can reset what is left of its old connection
      // If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment.
      tcp.statistics.pawsDropped++;
      return false;
    }
    //= rfc7323#5.3
    // R1) If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent is valid (see later
    // discussion), and if the RST bit is not set, then treat the arriving segment as not acceptable: Send an acknowledgment in
    // reply … and drop the segment.
    if (seg.hasTimestamps && ((seg.tsVal - tcb.tsRecent) | 0) < 0 && now - tcb.tsRecentAt < PAWS_AGE_MS) {
      tcp.statistics.pawsDropped++;
      tcp.duplicateAck(tcb, seg, now);
      return false;
    }
  }
  const length = seg.textLength + ((flags & wire.SYN) !== 0 ? 1 : 0) + ((flags & wire.FIN) !== 0 ? 1 : 0);
  const end = (seg.seq + length) | 0;
  //= rfc9293#3.10.7.4 type=exception reason=the right edge itself is taken as inside, as Linux: a peer that has filled our window sends its acknowledgments from there, and they must count
  // If the RCV.WND is zero, no segments will be acceptable, but special allowance should be made to accept valid ACKs, URGs,
  // and RSTs.
  const before = ((end - tcb.rcvNxt) | 0) < 0 || (length > 0 && ((end - tcb.rcvNxt) | 0) === 0);
  const beyond = ((seg.seq - tcb.rcvEdge) | 0) > 0;
  if (!before && !beyond) return true;
  if ((flags & wire.RST) !== 0) {
    tcp.statistics.outOfWindow++;
    return false;
  }
  if (tcb.state === SYN_RECEIVED && (flags & (wire.SYN | wire.ACK)) === wire.SYN && seg.seq === tcb.irs) {
    tcb.synNow = true; // our SYN-ACK was lost: again
    tcp.mark(tcb);
    return false;
  }
  if (before && seg.textLength > 0) {
    tcp.statistics.duplicateSegments++;
    reportDuplicate(tcb, seg.seq, end);
  } else tcp.statistics.outOfWindow++;
  // Only the peer's own FIN, sent again, starts 2 MSL anew: a stranger's could hold the state for ever.
  if (tcb.state === TIME_WAIT && (flags & wire.FIN) !== 0 && end === tcb.rcvNxt) tcp.enterTimeWait(tcb, now);
  tcp.duplicateAck(tcb, seg, now);
  return false;
}

/** Remembers a duplicate range for the next acknowledgment (RFC 2883). */
export function reportDuplicate(tcb: Tcb, left: number, right: number): void {
  if (!tcb.sack) return;
  tcb.dsackLeft = left;
  tcb.dsackRight = right;
}

/** Second step. */
function reset(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): void {
  //= rfc5961#3.2
  // 2) If the RST bit is set and the sequence number exactly matches the next expected sequence number (RCV.NXT), then TCP MUST
  // reset the connection.
  if (seg.seq !== tcb.rcvNxt) {
    //= rfc5961#3.2
    // 3) If the RST bit is set and the sequence number does not exactly match the next expected sequence value, yet is within the
    // current receive window (RCV.NXT < SEG.SEQ < RCV.NXT+RCV.WND), TCP MUST send an acknowledgment (challenge ACK):
    return tcp.challenge(tcb, now);
  }
  tcp.statistics.resetsReceived++;
  if (tcb.state === SYN_RECEIVED) return synReceivedReset(tcp, tcb);
  // In CLOSING, LAST-ACK and TIME-WAIT the connection is simply gone.
  const quiet = tcb.state === CLOSING || tcb.state === LAST_ACK || tcb.state === TIME_WAIT;
  tcp.fail(tcb, quiet ? OK : ECONNRESET);
}

/** Fourth step. */
function unexpectedSyn(tcp: Tcp, tcb: Tcb, now: number): void {
  //= rfc9293#3.10.7.4
  // SYN-RECEIVED STATE … If the connection was initiated with a passive OPEN, then return this connection to the LISTEN state and
  // return. Otherwise, handle per the directions for synchronized states below.
  if (tcb.state === SYN_RECEIVED && tcb.listener !== null && !tcb.fastOpened) return tcp.fail(tcb, ECONNRESET);
  //= rfc5961#4.2
  // If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred to as challenge ACK)
  // to the remote peer
  tcp.challenge(tcb, now);
}

//= rfc7323#4.3
// (2) If: SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent then SEG.TSval is copied to TS.Recent; otherwise, it is ignored.
function takeTimestamp(tcb: Tcb, seg: Segment, now: number): void {
  if (!tcb.timestamps || !seg.hasTimestamps) return;
  if (((seg.tsVal - tcb.tsRecent) | 0) >= 0 && ((seg.seq - tcb.lastAckSent) | 0) <= 0) {
    tcb.tsRecent = seg.tsVal;
    tcb.tsRecentAt = now;
  }
}

/** Fifth step, by state: what the acknowledgment of our FIN brings about. */
function afterAck(tcp: Tcp, tcb: Tcb, now: number): void {
  if (!tcb.finSent || tcb.sndUna !== tcb.sndNxt) return;
  tcb.persistAt = Infinity; // a FIN that went into a closed window needs no probe any more
  if (tcb.state === FIN_WAIT_1) {
    tcb.state = FIN_WAIT_2;
    if (tcb.orphan) tcp.orphaned(tcb);
  } else if (tcb.state === CLOSING) {
    tcp.enterTimeWait(tcb, now);
  } else if (tcb.state === LAST_ACK) {
    tcp.fail(tcb, OK);
  }
}

/** Seventh and eighth step. */
export function textAndFin(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): void {
  const { state } = tcb;
  if (state === ESTABLISHED || state === FIN_WAIT_1 || state === FIN_WAIT_2) {
    if (seg.textLength > 0) {
      if (tcb.orphan && ((seg.seq + seg.textLength - tcb.rcvNxt) | 0) > 0) {
        //= rfc1122#4.2.2.13
        // if new data is received after CLOSE is called, its TCP SHOULD send a RST to show that data was lost
        return tcp.abort(tcb, ECONNRESET);
      }
      acceptText(tcp, tcb, seg, now);
    }
    if (finAcceptable(tcb, seg)) finArrives(tcp, tcb, now);
  } else if ((seg.flags & wire.FIN) !== 0 && state === TIME_WAIT) {
    // The only thing that can arrive in this state is a retransmission of the remote FIN. Acknowledge it, restart 2 MSL.
    tcp.enterTimeWait(tcb, now);
    tcp.acknowledgeNow(tcb);
  }
}

/** Eighth step: everything up to the FIN is here. */
function finArrives(tcp: Tcp, tcb: Tcb, now: number): void {
  tcb.rcvNxt = (tcb.rcvNxt + 1) | 0;
  if (((tcb.rcvNxt - tcb.rcvEdge) | 0) > 0) tcb.rcvEdge = tcb.rcvNxt;
  tcb.finReceived = true;
  const filled = tcb.finEarly;
  tcb.finEarly = false;
  if (tcb.ranges !== null) {
    tcp.releaseRanges(tcb);
    if (tcb.receiveQueued === 0) tcb.receiveRing.free();
  }
  tcb.raise(EVENT_READABLE);
  if (tcb.state === ESTABLISHED && tcp.finAckDelayed && !filled) acknowledgeSoon(tcp, tcb, now);
  else tcp.acknowledgeNow(tcb);
  if (tcb.state === ESTABLISHED) tcb.state = CLOSE_WAIT;
  else if (tcb.state === FIN_WAIT_1) tcb.state = CLOSING; // our FIN is not acknowledged, else it were FIN-WAIT-2 by now
  else if (tcb.state === FIN_WAIT_2) tcp.enterTimeWait(tcb, now);
}
