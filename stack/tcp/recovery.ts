/**
 * Loss detection by RACK (RFC 8985) over the scoreboard, recovery with proportional rate reduction (RFC 6937), and
 * NewReno (RFC 6582) for peers without SACK.
 *
 * @module
 */
import { controlLoss, controlTimeout } from "./controls.ts";
import type { SentQueue } from "./sent.ts";
import { LOST, RETRANSMITTED, SACKED } from "./sent.ts";
import type { Tcb } from "./tcb.ts";
import { mtuProbeLost } from "./path_probe.ts";
import { noteReduction } from "./undo.ts";
import { LOSS, OPEN, RECOVERY } from "./tcb.ts";

/** Duplicate acknowledgments that mean a loss (RFC 5681 3.2). */
export const DUP_THRESHOLD = 3;

/** RFC 8985 6.2 step 2: the most recently sent of what was delivered. */
export function rackDelivered(tcb: Tcb, sent: SentQueue, index: number, nowUs: number): void {
  const time = sent.time(index);
  const end = sent.end(index);
  const flags = sent.flags(index);
  const rtt = (nowUs - time) | 0;
  //= rfc8985#6.2
  // To avoid spurious inferences, ignore a segment as invalid if any of its sequence range has been retransmitted before and if
  // either of two conditions is true: … 2. The segment was last retransmitted less than RACK.min_rtt ago.
  if ((flags & RETRANSMITTED) !== 0 && tcb.minRttMs > 0 && rtt < tcb.minRttMs * 1000) return;
  if (!tcb.rackValid || sentAfter(time, end, tcb.rackTimeUs, tcb.rackEnd)) {
    tcb.rackValid = true;
    tcb.rackTimeUs = time;
    tcb.rackEnd = end;
    tcb.rackRttUs = rtt;
  }
  // Step 3: reordering is seen when something that was sent once arrives below what has arrived before.
  if (((end - tcb.rackFack) | 0) > 0) tcb.rackFack = end;
  else if (((end - tcb.rackFack) | 0) < 0 && (flags & RETRANSMITTED) === 0) tcb.reorderingSeen = true;
}

function sentAfter(time1: number, end1: number, time2: number, end2: number): boolean {
  const d = (time1 - time2) | 0;
  return d > 0 || (d === 0 && ((end1 - end2) | 0) > 0);
}

/** RFC 8985 6.2 step 4: how long to wait for what may only be late, in microseconds. */
function reorderingWindowUs(tcb: Tcb): number {
  if (!tcb.reorderingSeen && (tcb.recovery !== OPEN || tcb.sackedBytes >= DUP_THRESHOLD * tcb.sendMss)) return 0;
  return Math.min((tcb.reoWndMult * tcb.minRttMs * 1000) / 4, tcb.srttMs * 1000) | 0;
}

/**
 * Marks what must be lost by now. Returns true if something was newly marked; sets `reorderAt` when more may be lost later.
 */
export function detectLoss(tcb: Tcb, now: number, nowUs: number): boolean {
  tcb.reorderAt = Infinity;
  const { sent } = tcb;
  if (sent === null || !tcb.rackValid) return false;
  // Nothing was delivered out of order and nothing was sent again: nothing can be overdue.
  if (tcb.sackedBytes === 0 && tcb.recovery === OPEN) return false;
  const window = reorderingWindowUs(tcb);
  let marked = false;
  let wait = 0;
  // Looks at the holes and at what was sent again, not at the window: behind the last byte in flight there is nothing to be
  // found, nor behind the first that was sent once and after what arrived last, for all that follows was sent later still.
  let unsettled = tcb.inFlight;
  for (let i = 0; i < sent.length && unsettled > 0; i++) {
    const flags = sent.flags(i);
    if ((flags & (SACKED | LOST)) !== 0) continue;
    unsettled -= (sent.end(i) - sent.start(i)) | 0;
    if (!sentAfter(tcb.rackTimeUs, tcb.rackEnd, sent.time(i), sent.end(i))) {
      if ((flags & RETRANSMITTED) === 0) break;
      continue;
    }
    const remaining = (sent.time(i) + tcb.rackRttUs + window - nowUs) | 0;
    if (remaining <= 0) {
      markLost(tcb, sent, i);
      if (!mtuProbeLost(tcb, sent, i)) marked = true;
    } else if (remaining > wait) wait = remaining;
  }
  if (wait > 0) {
    tcb.reorderAt = now + wait / 1000 + 0.001;
    //= rfc8985#8
    // When arming a RACK reordering timer or TLP PTO timer, the sender SHOULD cancel any other pending timers.
    // The retransmission timer stays, as what comes after both.
    tcb.probeAt = Infinity;
  }
  return marked;
}

export function markLost(tcb: Tcb, sent: SentQueue, index: number): void {
  const flags = sent.flags(index);
  if ((flags & (SACKED | LOST)) !== 0) return;
  sent.setFlags(index, flags | LOST);
  tcb.lostBytes += (sent.end(index) - sent.start(index)) | 0;
}

/** Marks the first segment in flight, for a peer without SACK. */
export function markFirstLost(tcb: Tcb): boolean {
  const { sent } = tcb;
  if (sent === null || sent.length === 0 || (sent.flags(0) & LOST) !== 0) return false;
  const first = (sent.start(0) + tcb.sendMss) | 0;
  if (((sent.end(0) - first) | 0) > 0) sent.split(0, first);
  markLost(tcb, sent, 0);
  return true;
}

export function enterRecovery(tcb: Tcb, now: number): void {
  const flight = (tcb.sndNxt - tcb.sndUna) | 0;
  noteReduction(tcb);
  tcb.recovery = RECOVERY;
  tcb.recoverPoint = tcb.sndNxt;
  //= rfc5681#3.2
  // When [RFC3042] is in use, additional data sent in limited transmit MUST NOT be included in this calculation.
  controlLoss(tcb, Math.min(flight, tcb.cwnd), now);
  tcb.recoverFlight = Math.max(flight, tcb.sendMss);
  tcb.prrDelivered = tcb.prrOut = 0;
  tcb.fastRecoveries++;
  tcb.tcp.statistics.fastRecoveries++;
}

//= rfc5681#3.2 type=exception reason=PRR (RFC 6937) counts what was delivered instead of inflating the window: what goes out is the same, spread evenly
// For each additional duplicate ACK received (after the third), cwnd MUST be incremented by SMSS.
/** RFC 6937: the window while in recovery, after `delivered` more bytes have left the network. */
export function proportionalRate(tcb: Tcb, delivered: number, progress: boolean): void {
  tcb.prrDelivered += delivered;
  const pipe = tcb.inFlight;
  let send: number;
  if (pipe > tcb.ssthresh) {
    //= rfc6937#3
    // Proportional Rate Reduction: sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out
    send = Math.ceil((tcb.prrDelivered * tcb.ssthresh) / tcb.recoverFlight) - tcb.prrOut;
  } else {
    // PRR-SSRB while recovery makes progress, else PRR-CRB.
    let limit = Math.max(tcb.prrDelivered - tcb.prrOut, delivered);
    if (progress) limit += tcb.sendMss;
    send = Math.min(tcb.ssthresh - pipe, limit);
  }
  // The first retransmission goes out whatever the arithmetic says.
  if (tcb.prrOut === 0) send = Math.max(send, tcb.sendMss);
  tcb.cwnd = Math.max(pipe + Math.max(send, 0), tcb.sendMss);
}

/** Recovery ends when everything that was out at its beginning is acknowledged. */
export function leaveRecovery(tcb: Tcb): void {
  if (tcb.recovery === RECOVERY) tcb.cwnd = Math.max(tcb.ssthresh, tcb.sendMss);
  tcb.recovery = OPEN;
  tcb.duplicateAcks = 0;
  if (tcb.reoWndPersist > 0 && --tcb.reoWndPersist === 0) tcb.reoWndMult = 1;
}

/** The retransmission timer ran out: everything not known to have arrived is lost, and the window is one segment. */
export function enterLoss(tcb: Tcb, now: number): void {
  const { sent } = tcb;
  if (sent === null) return;
  noteReduction(tcb);
  if (tcb.recovery !== LOSS || ((tcb.sndUna - tcb.recoverPoint) | 0) >= 0) {
    // RFC 5681 3.1: ssthresh is set once for a segment that is retransmitted again and again. In recovery FlightSize holds what
    // the peer has reported too: the window is the better measure, and lowers it a second time (RFC 5681 4.3).
    controlTimeout(tcb, Math.min((tcb.sndNxt - tcb.sndUna) | 0, tcb.cwnd), now);
  }
  tcb.tlpActive = false;
  tcb.recovery = LOSS;
  tcb.recoverPoint = tcb.sndNxt;
  tcb.duplicateAcks = 0;
  if (!tcb.sack) tcb.sackedBytes = 0;
  //= rfc2018#5
  // After a retransmit timeout the data sender SHOULD turn off all of the SACKed bits, since the timeout might indicate that the
  // data receiver has reneged.
  const reneged = sent.length > 0 && (sent.flags(0) & SACKED) !== 0;
  if (reneged) tcb.sackedBytes = 0;
  for (let i = 0; i < sent.length; i++) {
    if (reneged) sent.setFlags(i, sent.flags(i) & ~SACKED);
    markLost(tcb, sent, i);
  }
  //= rfc5681#3.1
  // upon a timeout ... cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment
  tcb.cwnd = tcb.sendMss;
  tcb.reorderAt = Infinity;
}
