/**
 * What an acknowledgment does: RFC 9293 3.10.7.4 fifth step, with the scoreboard, round-trip time and windows.
 *
 * @module
 */
import { ACK, FIN, type Segment, SYN } from "../wire/tcp.ts";
import { controlAck } from "./controls.ts";
import {
  detectLoss,
  DUP_THRESHOLD,
  enterRecovery,
  leaveRecovery,
  markFirstLost,
  markLost,
  proportionalRate,
  rackDelivered,
} from "./recovery.ts";
import { measureRtt, restartRto } from "./rtt.ts";
import { LOST, PROBE, RETRANSMITTED, SACKED, type SentQueue } from "./sent.ts";
import { LOSS, OPEN, RECOVERY, type Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { ecnAcknowledged } from "./ecn.ts";
import { mtuProbeArrived } from "./path_probe.ts";
import { probeAcknowledged, scheduleProbe } from "./tlp.ts";
import { undoIfSpurious } from "./undo.ts";
import { EVENT_DRAINED } from "./types.ts";

/** Records that SACK may cut what is in flight into: a peer that reports crumbs is not listened to beyond. */
const RECORDS_MAX = 16_384;

/** What one acknowledgment delivered: kept here while it is processed, so that nothing is allocated. */
let delivered = 0;
let rttUs = -1;
/** Least time since the last transmission of what was sent more than once or given up; -1: none was acknowledged. */
let againUs = -1;
let firstSacked = false;
/** Something arrived that was given up and not sent again: the original was only late. */
let originalArrived = false;
let duplicate = false;

/**
 * Processes SEG.ACK, which lies in the acceptable range. Returns false if the segment must be dropped.
 */
export function processAck(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): boolean {
  const ack = seg.ack;
  if (((ack - tcb.sndNxt) | 0) > 0) {
    //= rfc9293#3.10.7.4
    // If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment, and return.
    tcp.challenge(tcb, now);
    return false;
  }
  if (((ack - (tcb.sndUna - tcb.maxSndWnd)) | 0) < 0) {
    //= rfc5961#5.2
    // All incoming segments whose ACK value doesn't satisfy the above condition MUST be discarded and an ACK sent back.
    tcp.challenge(tcb, now);
    return false;
  }
  if (((ack - tcb.sndUna) | 0) < 0) return true; // an old duplicate: its text may still be of use
  tcb.probes = 0;
  const acked = (ack - tcb.sndUna) | 0;
  const flightBefore = tcb.inFlight;
  const windowChanged = updateWindow(tcb, seg);
  delivered = 0;
  rttUs = againUs = -1;
  firstSacked = originalArrived = duplicate = false;
  if (acked > 0) cumulative(tcp, tcb, ack);
  if (tcb.sack && seg.sackCount > 0) scoreboard(tcb, seg, tcp.nowUs);
  if (!tcb.sack) countDuplicate(tcb, seg, acked, windowChanged);
  tcb.latestRttMs = rttUs >= 0 && againUs < 0 ? rttUs / 1000 : 0;
  if (rttUs >= 0 && againUs < 0) measureRtt(tcb, rttUs / 1000);
  else if (againUs >= 0 && tcb.timestamps && seg.hasTimestamps && seg.tsEcr !== 0) {
    // All of it was sent more than once: the echoed timestamp tells which copy was meant (RFC 7323 4.1). A copy older than
    // the last one says how long acknowledgments were lost, which is no round trip.
    const sample = (tcp.timestamp(tcb) - seg.tsEcr) | 0;
    if (sample >= 0 && sample <= againUs / 1000 + 2) measureRtt(tcb, sample);
    // Still it is a valid measurement, though of no use: the back-off ends (Linux takes the sample itself).
    else if (acked > 0) tcb.backoff = 0;
  }
  const echo = tcb.timestamps && seg.hasTimestamps && acked > 0;
  if (echo || originalArrived) undoIfSpurious(tcb, echo, seg.tsEcr, originalArrived);
  if (acked > 0 || delivered > 0) recover(tcb, acked, flightBefore, now);
  if (tcb.tlpActive && acked > 0) probeAcknowledged(tcb, duplicate, now);
  ecnAcknowledged(tcb, seg, now);
  if (acked > 0) {
    tcb.silentSince = now;
    tcb.softError = 0; // whatever it was, something came through
    tcp.ip.confirm(tcb.path);
    restartRto(tcb, now);
    scheduleProbe(tcb, now);
    tcb.raiseWritable();
    if (tcb.finSent && tcb.sndUna === tcb.sndNxt) tcb.raise(EVENT_DRAINED);
  }
  tcp.mark(tcb);
  return true;
}

function updateWindow(tcb: Tcb, seg: Segment): boolean {
  //= rfc9293#3.10.7.4
  // If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated. If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and
  // SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND, set SND.WL1 <- SEG.SEQ, and set SND.WL2 <- SEG.ACK.
  const order = (seg.seq - tcb.sndWl1) | 0;
  if (order < 0 || (order === 0 && ((seg.ack - tcb.sndWl2) | 0) < 0)) return false;
  const window = seg.window << tcb.sndWndShift;
  tcb.sndWl1 = seg.seq;
  tcb.sndWl2 = seg.ack;
  if (window === tcb.sndWnd) return false;
  if (tcb.sndWnd === 0) windowOpened(tcb);
  tcb.sndWnd = window;
  if (window > tcb.maxSndWnd) tcb.maxSndWnd = window;
  return true;
}

/** A window that was closed opens: what the probe carried was most likely thrown away, so it goes again at once. */
function windowOpened(tcb: Tcb): void {
  tcb.persistAt = Infinity;
  tcb.backoff = 0; // the patience was for the closed window: what is lost from now on is lost at the usual pace
  tcb.sndSml = tcb.sndUna; // the probe's one byte is no small segment that Nagle's algorithm has to wait for
  const { sent } = tcb;
  if (sent !== null && sent.length > 0 && (sent.flags(0) & PROBE) !== 0) markLost(tcb, sent, 0);
}

/** Takes what is acknowledged from the ring and the records. */
function cumulative(tcp: Tcp, tcb: Tcb, ack: number): void {
  const { sent } = tcb;
  const acked = (ack - tcb.sndUna) | 0;
  const data = Math.min(acked, tcb.sendRing.count); // the FIN has a number and no byte
  tcb.sendRing.drop(data);
  tcb.bytesAcked += data;
  tcb.sndUna = ack;
  if (sent !== null) {
    while (sent.length > 0 && ((sent.end(0) - ack) | 0) <= 0) {
      take(tcb, sent, (sent.end(0) - sent.start(0)) | 0, tcp.nowUs);
      sent.shift();
    }
    if (sent.length > 0 && ((sent.start(0) - ack) | 0) < 0) {
      take(tcb, sent, (ack - sent.start(0)) | 0, tcp.nowUs);
      sent.setStart(0, ack);
    }
    if (sent.length === 0) {
      tcb.sent = null;
      tcb.rackValid = false; // all that is sent from now on is later; the stamps wrap after 35 minutes
      tcp.spares.returnSent(sent);
    }
  }
  if (tcb.sendRing.count === 0) tcb.sendRing.free();
  tcb.retries = 0;
}

/** `bytes` at the front of the first record have arrived. */
function take(tcb: Tcb, sent: SentQueue, bytes: number, nowUs: number): void {
  const flags = sent.flags(0);
  if ((flags & SACKED) !== 0) {
    tcb.sackedBytes -= bytes;
    return;
  }
  if (tcb.mtuProbeSize !== 0 && sent.end(0) === tcb.mtuProbeEnd) mtuProbeArrived(tcb);
  if ((flags & LOST) !== 0) tcb.lostBytes -= bytes;
  if ((flags & (LOST | RETRANSMITTED)) === LOST) originalArrived = tcb.sack;
  delivered += bytes;
  //= rfc6298#3
  // RTT samples MUST NOT be made using segments that were retransmitted (and thus for which it is ambiguous whether the
  // reply was for the first instance of the packet or a later instance).
  const age = (nowUs - sent.time(0)) | 0;
  if ((flags & (RETRANSMITTED | PROBE | LOST)) === 0) rttUs = age;
  else if (againUs < 0 || age < againUs) againUs = age; // what waited behind a hole waited for the hole: no sample of it either (Linux, FLAG_RETRANS_DATA_ACKED)
  rackDelivered(tcb, sent, 0, nowUs);
}

/** Marks what the SACK blocks report (RFC 2018, RFC 6675 Update()). Blocks that make no sense are passed over. */
function scoreboard(tcb: Tcb, seg: Segment, nowUs: number): void {
  tcb.sacksReceived++;
  const { sack } = seg;
  for (let b = 0; b < seg.sackCount; b++) {
    const left = sack[2 * b];
    const right = sack[2 * b + 1];
    if (((right - left) | 0) <= 0) continue;
    //= rfc2883#4
    // the receiver of the SACK compares the first block with the cumulative acknowledgment, or with the second block, to
    // learn that it reports duplicate data
    if (
      b === 0 &&
      (((left - seg.ack) | 0) < 0 ||
        (seg.sackCount > 1 && ((left - sack[2]) | 0) >= 0 && ((right - sack[3]) | 0) <= 0))
    ) {
      duplicateReported(tcb);
      continue;
    }
    if (((left - tcb.sndUna) | 0) < 0 || ((right - tcb.sndNxt) | 0) > 0) continue;
    markSacked(tcb, left, right, nowUs);
  }
}

function duplicateReported(tcb: Tcb): void {
  tcb.dsacksReceived++;
  duplicate = true;
  //= rfc8985#3.3.2
  // The RACK reordering window SHOULD adaptively increase (using the algorithm in "Step 4: Update RACK reordering window" below)
  // if the sender receives a Duplicate Selective Acknowledgment (DSACK) option [RFC2883].
  if (((tcb.sndUna - tcb.dsackRound) | 0) >= 0) {
    tcb.dsackRound = tcb.sndNxt;
    tcb.reoWndMult = Math.min(tcb.reoWndMult + 1, 64);
    tcb.reoWndPersist = 16;
  }
}

function markSacked(tcb: Tcb, left: number, right: number, nowUs: number): void {
  const { sent } = tcb;
  if (sent === null || sent.length >= RECORDS_MAX) return;
  let index = sent.find(left);
  if (index < 0) return;
  if (((left - sent.start(index)) | 0) > 0) {
    if ((sent.flags(index) & SACKED) === 0) {
      sent.split(index, left);
      index++;
    }
  }
  for (; index < sent.length && ((sent.start(index) - right) | 0) < 0; index++) {
    const flags = sent.flags(index);
    if ((flags & SACKED) !== 0) continue;
    if (((sent.end(index) - right) | 0) > 0) sent.split(index, right);
    const bytes = (sent.end(index) - sent.start(index)) | 0;
    if (tcb.mtuProbeSize !== 0 && sent.end(index) === tcb.mtuProbeEnd) mtuProbeArrived(tcb);
    if ((flags & LOST) !== 0) tcb.lostBytes -= bytes;
    if ((flags & (LOST | RETRANSMITTED)) === LOST) originalArrived = true;
    tcb.sackedBytes += bytes;
    delivered += bytes;
    firstSacked = true;
    if ((flags & (RETRANSMITTED | PROBE)) === 0) rttUs = (nowUs - sent.time(index)) | 0;
    rackDelivered(tcb, sent, index, nowUs);
    sent.setFlags(index, (sent.flags(index) & ~LOST) | SACKED);
    // What has arrived is one record between two holes, so that each acknowledgment looks at the holes and not at the window.
    if (index > 0 && (sent.flags(index - 1) & SACKED) !== 0) sent.join(index--);
  }
  if (index < sent.length && (sent.flags(index - 1) & sent.flags(index) & SACKED) !== 0) sent.join(index);
}

/** RFC 5681 2: what counts as a duplicate acknowledgment. Each means that one segment has left the network. */
function countDuplicate(tcb: Tcb, seg: Segment, acked: number, windowChanged: boolean): void {
  if (acked > 0) {
    const gone = Math.min(tcb.sackedBytes, acked);
    tcb.sackedBytes -= gone;
    return;
  }
  if (seg.textLength > 0 || (seg.flags & (SYN | FIN)) !== 0 || windowChanged || tcb.sndNxt === tcb.sndUna) return;
  if ((seg.flags & ACK) === 0 || tcb.sndWnd === 0) return; // answers to window probes say nothing about loss
  tcb.duplicateAcks++;
  tcb.duplicateAcksSeen++;
  const out = ((tcb.sndNxt - tcb.sndUna) | 0) - tcb.lostBytes;
  const bytes = Math.min(tcb.sendMss, Math.max(0, out - tcb.sackedBytes));
  tcb.sackedBytes += bytes;
  delivered += bytes;
  firstSacked = true;
}

/** Decides on recovery and on the window, after `acked` bytes in order and `delivered` in all. */
function recover(tcb: Tcb, acked: number, flightBefore: number, now: number): void {
  const { tcp } = tcb;
  if (tcb.sack && firstSacked && acked === 0) tcb.duplicateAcksSeen++;
  if (tcb.recovery !== OPEN && ((tcb.sndUna - tcb.recoverPoint) | 0) >= 0) {
    leaveRecovery(tcb);
    if (!tcb.sack) tcb.sackedBytes = 0;
  }
  let lost = false;
  if (tcb.sack) lost = detectLoss(tcb, now, tcp.nowUs);
  else if (tcb.recovery === OPEN && tcb.duplicateAcks >= DUP_THRESHOLD && acked === 0) {
    //= rfc6582#3.2
    // If so (the Cumulative Acknowledgment field covers more than recover), enter fast retransmit; if not, do not: the
    // duplicates may come from what was sent again needlessly
    lost = ((tcb.sndUna - tcb.recoverPoint) | 0) > 0 && markFirstLost(tcb);
  } //= rfc6582#3.2
  // Partial acknowledgments: If this ACK does not acknowledge all of the data up to and including recover, then this is
  // a partial ACK. In this case, retransmit the first unacknowledged segment.
  else if (tcb.recovery === RECOVERY && acked > 0) lost = markFirstLost(tcb);
  if (acked > 0 && tcb.recovery === OPEN) {
    tcb.duplicateAcks = 0;
    // Follows, so that it is never half the number space behind.
    if (((tcb.sndUna - tcb.recoverPoint) | 0) > 0) tcb.recoverPoint = (tcb.sndUna - 1) | 0;
  }
  if (lost && tcb.recovery === OPEN) enterRecovery(tcb, now);
  if (tcb.recovery === RECOVERY) {
    proportionalRate(tcb, delivered, acked > 0);
    return;
  }
  if (tcb.recovery === LOSS) {
    if (acked > 0) tcb.cwnd = Math.min(tcb.ssthresh, tcb.cwnd + Math.min(acked, 2 * tcb.sendMss));
    return;
  }
  //= rfc7661#4 type=exception reason=only the test of RFC 2861/7661 is taken: a window that was not used does not grow
  // Congestion window validation: cwnd is reduced when it was not used
  const limited = tcb.cwnd < tcb.ssthresh
    ? tcb.cwnd < 2 * flightBefore + tcb.sendMss
    : flightBefore + 3 * tcb.sendMss >= tcb.cwnd;
  if (acked > 0 && limited) controlAck(tcb, acked, now);
}
