/**
 * The timers of a connection: retransmission, persist, reordering, delayed acknowledgment, keep-alive, and the waits at the end.
 *
 * @module
 */
import { ETIMEDOUT, OK } from "../codes.ts";
import * as wire from "../wire/tcp.ts";
import { stalled } from "./orphans.ts";
import { output, retransmit, sendProbe, sendSegment } from "./output.ts";
import { suspectBlackHole } from "./path_probe.ts";
import { detectLoss, enterLoss, enterRecovery } from "./recovery.ts";
import { probeTimeout } from "./tlp.ts";
import { currentRto, RTO_MS_MAX } from "./rtt.ts";
import { OPEN, type Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { CLOSED, ESTABLISHED, EVENT_TROUBLE, SYN_RECEIVED, SYN_SENT } from "./types.ts";

/** Linux's tcp_syn_retries, tcp_synack_retries and tcp_retries2. */
const SYN_RETRIES = 6;
const SYN_ACK_RETRIES = 5;
const RETRIES = 15;
/** R1: after so many timeouts in a row the way is in doubt. */
const RETRIES_R1 = 3;
/** Linux's tcp_orphan_retries: nobody waits for the answer any more. */
const ORPHAN_RETRIES = 8;

/** Linux's tcp_thin_linear_timeouts: so many timeouts without back-off for a stream with so few frames in flight. */
const THIN_LINEAR_RETRIES = 6;
const THIN_FRAMES = 4;

/** The earliest deadline of a connection, or Infinity. A deadline that is NaN takes no other along, as it would in `Math.min`. */
export function earliest(tcb: Tcb): number {
  let at = Infinity;
  if (tcb.rtoAt < at) at = tcb.rtoAt;
  if (tcb.persistAt < at) at = tcb.persistAt;
  if (tcb.reorderAt < at) at = tcb.reorderAt;
  if (tcb.probeAt < at) at = tcb.probeAt;
  if (tcb.delayedAckAt < at) at = tcb.delayedAckAt;
  if (tcb.keepAliveAt < at) at = tcb.keepAliveAt;
  if (tcb.waitAt < at) at = tcb.waitAt;
  return at;
}

/** Runs what is due. */
export function expire(tcp: Tcp, tcb: Tcb, now: number): void {
  if (tcb.waitAt <= now) return tcp.fail(tcb, OK);
  if (tcb.delayedAckAt <= now) {
    tcb.delayedAckAt = Infinity;
    tcb.ackNow = true;
    tcp.statistics.delayedAcks++;
    tcp.mark(tcb);
  }
  if (tcb.reorderAt <= now) reorderTimeout(tcp, tcb, now);
  if (tcb.probeAt <= now) probeTimeout(tcp, tcb, now);
  if (tcb.rtoAt <= now) {
    tcb.rtoAt = Infinity;
    if (tcb.state === SYN_SENT || tcb.state === SYN_RECEIVED) synTimeout(tcp, tcb);
    else retransmissionTimeout(tcp, tcb, now);
  }
  if (tcb.persistAt <= now) persistTimeout(tcp, tcb, now);
  if (tcb.keepAliveAt <= now) keepAliveTimeout(tcp, tcb, now);
}

/** The peer is silent beyond R1: the layer below may know another way, and the owner may want to know. */
function inTrouble(tcp: Tcp, tcb: Tcb): void {
  //= rfc9293#3.8.3
  // (b) When the number of transmissions of the same segment reaches or exceeds threshold R1, pass negative advice (see
  // Section 3.3.1.4 of [19]) to the IP layer, to trigger dead-gateway diagnosis.
  tcp.ip.doubt?.(tcb.path);
  //= rfc9293#3.8.3
  // (e) TCP implementations SHOULD inform the application of the delivery problem …, when R1 is reached and before R2 (SHLD-9).
  if (tcb.softError === 0) tcb.softError = ETIMEDOUT;
  tcb.raise(EVENT_TROUBLE);
}

function synTimeout(tcp: Tcp, tcb: Tcb): void {
  const opening = tcb.state === SYN_SENT;
  //= rfc9293#3.8.3 type=exception reason=as Linux (tcp_syn_retries 6) an attempt ends after 127 s, before which most users have given up themselves; userTimeoutMs makes it last as long as is wanted
  // In particular, R2 for a SYN segment MUST be set large enough to provide retransmission of the segment for at least 3
  // minutes (MUST-23).
  const patience = tcb.userTimeoutMs > 0 && tcp.now - tcb.silentSince >= tcb.userTimeoutMs;
  const tooMany = tcb.backoff >= (opening ? SYN_RETRIES : SYN_ACK_RETRIES) && !(opening && tcb.userTimeoutMs > 0);
  if (tooMany || patience) return tcp.fail(tcb, tcb.softError !== 0 ? tcb.softError : ETIMEDOUT);
  tcb.backoff++;
  //= rfc9293#3.8.3
  // SYN retransmissions MUST be handled in the general way just described for data retransmissions, including notification of
  // the application layer.
  if (tcb.backoff === RETRIES_R1 && opening) inTrouble(tcp, tcb);
  tcb.timeouts++;
  tcp.statistics.timeouts++;
  tcp.statistics.segmentsRetransmitted++;
  tcb.synNow = true;
  tcp.mark(tcb);
}

/** RFC 6298 5.4 to 5.6. */
function retransmissionTimeout(tcp: Tcp, tcb: Tcb, now: number): void {
  const { sent } = tcb;
  if (sent === null || sent.length === 0) return;
  //= rfc9293#3.8.3
  // The following procedure MUST be used to handle excessive retransmissions of data segments (MUST-20): … (c) When the number of
  // transmissions of the same segment reaches a threshold R2 greater than R1, close the connection.
  const most = tcb.orphan ? ORPHAN_RETRIES : RETRIES;
  const patience = tcb.userTimeoutMs > 0 && now - tcb.silentSince >= tcb.userTimeoutMs;
  if (patience || (tcb.userTimeoutMs === 0 && tcb.retries >= most)) {
    return tcp.fail(tcb, tcb.softError !== 0 ? tcb.softError : ETIMEDOUT);
  }
  tcb.timeouts++;
  tcp.statistics.timeouts++;
  const thin = sent.length < THIN_FRAMES;
  suspectBlackHole(tcb);
  enterLoss(tcb, now);
  if (retransmit(tcp, tcb, 0, tcb.sendMss, now) === OK) {
    tcb.retries++;
    if (tcb.retries === RETRIES_R1) inTrouble(tcp, tcb);
    const linear = tcb.options.thinLinearTimeouts === true && thin && tcb.retries <= THIN_LINEAR_RETRIES;
    //= rfc9293#3.8.1
    // The RTO MUST be computed according to the algorithm in [10], including Karn's algorithm for taking RTT samples (MUST-18).
    if (!linear) tcb.backoff = Math.min(tcb.backoff + 1, 16);
  } else tcp.mark(tcb); // the device is full
  tcb.rtoAt = now + currentRto(tcb);
}

function reorderTimeout(tcp: Tcp, tcb: Tcb, now: number): void {
  if (detectLoss(tcb, now, tcp.nowUs)) {
    if (tcb.recovery === OPEN) {
      enterRecovery(tcb, now);
      tcb.cwnd = Math.max(tcb.inFlight + tcb.sendMss, tcb.sendMss);
    }
    tcp.mark(tcb);
  }
}

/** The window is closed, or open too little for the silly-window rule. */
function persistTimeout(tcp: Tcp, tcb: Tcb, now: number): void {
  tcb.persistAt = Infinity;
  if (tcb.sndWnd > 0) {
    //= rfc9293#3.8.6.2.1
    // (4) or if the override timeout occurs.
    const n = Math.min(tcb.unsent, (tcb.sndUna + tcb.sndWnd - tcb.sndNxt) | 0, tcb.sendMss);
    if (n > 0) {
      const noDelay = tcb.noDelay;
      const most = tcb.maxSndWnd;
      tcb.noDelay = true;
      tcb.maxSndWnd = 0; // any fraction of the window will do now
      output(tcp, tcb, now);
      tcb.noDelay = noDelay;
      tcb.maxSndWnd = Math.max(most, tcb.maxSndWnd);
    }
    return;
  }
  //= rfc9293#3.8.6.1
  // As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP peer
  // MUST allow the connection to stay open (MUST-37).
  //= rfc9293#3.8.6.1 type=exception reason=as Linux, a connection that nobody holds any more is reset when its peer has taken nothing for four minutes: no user is left who could give up, and its send buffer would be held for as long as the peer likes
  // As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP peer
  // MUST allow the connection to stay open (MUST-37).
  const patience = tcb.userTimeoutMs > 0 && now - tcb.silentSince >= tcb.userTimeoutMs;
  if (tcb.orphan && (patience || tcb.probes >= ORPHAN_RETRIES || stalled(tcb, now))) return tcp.abort(tcb, ETIMEDOUT);
  if (patience || tcb.probes >= RETRIES) return tcp.fail(tcb, ETIMEDOUT);
  tcb.probes++;
  sendProbe(tcp, tcb, now);
  //= rfc9293#3.8.6.1
  // The transmitting host SHOULD send the first zero-window probe when a zero window has existed for the retransmission timeout
  // period (SHLD-29) (Section 3.8.1), and SHOULD increase exponentially the interval between successive probes (SHLD-30).
  tcb.backoff = Math.min(tcb.backoff + 1, 16);
  tcb.persistAt = now + Math.min(RTO_MS_MAX, currentRto(tcb));
}

function keepAliveTimeout(tcp: Tcp, tcb: Tcb, now: number): void {
  tcb.keepAliveAt = Infinity;
  if (!tcb.keepAlive || tcb.state < ESTABLISHED) return;
  const idle = now - tcb.lastReceivedAt;
  //= rfc9293#3.8.4
  // Keep-alive packets MUST only be sent when no sent data is outstanding, and no data or acknowledgment packets have been
  // received for the connection within an interval (MUST-26).
  if (tcb.sndNxt !== tcb.sndUna) return tcp.armKeepAlive(tcb);
  if (idle < tcb.keepAliveIdleMs) {
    tcb.keepAliveAt = tcb.lastReceivedAt + tcb.keepAliveIdleMs;
    return;
  }
  if (tcb.keepAliveProbes >= tcb.keepAliveCount) return tcp.fail(tcb, ETIMEDOUT);
  tcb.keepAliveProbes++;
  tcp.statistics.keepAliveProbes++;
  //= rfc9293#3.8.4
  // Such a segment generally contains SEG.SEQ = SND.NXT-1 and may or may not contain one garbage octet of data.
  sendSegment(tcp, tcb, (tcb.sndNxt - 1) | 0, 0, wire.ACK, now);
  tcb.keepAliveAt = now + tcb.keepAliveIntervalMs;
}

/** After the timers of a connection ran: back into the heap. */
export function reschedule(tcp: Tcp, tcb: Tcb): void {
  if (tcb.state !== CLOSED) tcp.schedule(tcb);
}
