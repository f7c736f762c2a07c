/**
 * Tail loss probe (RFC 8985 section 7): when the last segments of a flight are lost, nothing comes back that could tell;
 * a probe after two round trips makes the peer say what it has, before the retransmission timer costs the window.
 *
 * @module
 */
import { EAGAIN } from "../codes.ts";
import { ACK, PSH } from "../wire/tcp.ts";
import { controlLoss } from "./controls.ts";
import { recordSent, retransmit, sendSegment } from "./output.ts";
import { currentRto } from "./rtt.ts";
import { OPEN, type Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

/** RFC 8985 7.2, TLP.max_ack_delay: what a delayed acknowledgment may cost (Linux takes its RTO minimum). */
const MAX_ACK_DELAY_MS = 200;
/**
 * A process that is busy elsewhere answers late on the shortest paths, and a probe then is needless (Linux: two ticks of its
 * timer, up to 20 ms).
 */
const PTO_MS_MIN = 10;

//= rfc8985#7.2
// The sender SHOULD start or restart a loss probe PTO timer after transmitting new data (that was not itself a loss probe) or
// upon receiving an ACK that cumulatively acknowledges new data unless it is already in fast recovery, RTO recovery, or segments
// have been SACKed (i.e., RACK.segs_sacked is not zero).
/** Sets the probe timer after new data was sent or acknowledged; it never stands later than the retransmission timer. */
export function scheduleProbe(tcb: Tcb, now: number): void {
  tcb.probeAt = Infinity;
  if (!tcb.sack || tcb.recovery !== OPEN || tcb.tlpActive || tcb.sackedBytes > 0 || tcb.sndUna === tcb.sndNxt) return;
  //= rfc8985#7.3
  // When the PTO timer expires, the sender MUST check whether both of the following conditions are met before sending a loss
  // probe:
  //= rfc8985#7.2 type=exception reason=without a round trip the RTO is one second itself, and a probe at the same moment would only take its place; Linux has none either
  // Second, when there is no SRTT estimate available, the PTO SHOULD be 1 second.
  if (tcb.rtoAt === Infinity || tcb.srttMs === 0 || !tcb.tlpMeasured) return;
  //= rfc8985#7.2
  // Summarizing these considerations in pseudocode form, a sender SHOULD use the following logic to select the duration of a PTO:
  // … If SRTT is available: PTO = 2 * SRTT If FlightSize is one segment: PTO += TLP.max_ack_delay
  const flight = (tcb.sndNxt - tcb.sndUna) | 0;
  const pto = Math.max(PTO_MS_MIN, 2 * tcb.srttMs) + (flight <= tcb.sendMss ? MAX_ACK_DELAY_MS : 0);
  tcb.probeAt = Math.min(now + pto, tcb.rtoAt);
}

/** The probe timer ran out. */
export function probeTimeout(tcp: Tcp, tcb: Tcb, now: number): void {
  tcb.probeAt = Infinity;
  const { sent } = tcb;
  if (tcb.recovery !== OPEN || sent === null || sent.length === 0 || tcb.sndWnd === 0) return; // a closed window has its own probe
  const window = (tcb.sndUna + tcb.sndWnd - tcb.sndNxt) | 0;
  const fresh = Math.min(tcb.unsent, window, tcb.sendMss);
  let sentIt: boolean;
  //= rfc8985#7.3
  // If both conditions are met, then the sender SHOULD transmit a previously unsent data segment, if one exists and the receive
  // window allows, and increment the FlightSize accordingly. … If such an unsent segment is not available, then the sender SHOULD
  // retransmit the highest-sequence segment sent so far and set TLP.is_retrans to true.
  if (fresh > 0) {
    sentIt = sendSegment(tcp, tcb, tcb.sndNxt, fresh, ACK | PSH, now) !== EAGAIN;
    if (sentIt) recordSent(tcp, tcb, fresh, false);
    tcb.tlpRetransmitted = false;
  } else {
    let last = sent.length - 1;
    const from = (sent.end(last) - tcb.sendMss) | 0;
    if (((from - sent.start(last)) | 0) > 0) sent.split(last++, from);
    sentIt = retransmit(tcp, tcb, last, tcb.sendMss, now) !== EAGAIN;
    tcb.tlpRetransmitted = true;
  }
  if (!sentIt) return;
  tcp.statistics.tailProbes++;
  tcb.tlpActive = true;
  tcb.tlpMeasured = false;
  tcb.tlpEnd = tcb.sndNxt;
  tcb.rtoAt = now + currentRto(tcb);
}

/**
 * An acknowledgment while a probe is out (RFC 8985 7.4).
 *
 * @param duplicate the acknowledgment reports a duplicate (D-SACK)
 */
export function probeAcknowledged(tcb: Tcb, duplicate: boolean, now: number): void {
  if (((tcb.sndUna - tcb.tlpEnd) | 0) < 0) return;
  tcb.tlpActive = false;
  if (!tcb.tlpRetransmitted || duplicate || tcb.recovery !== OPEN) return;
  //= rfc8985#7.4.2
  // If the TLP sender does not receive such an indication, then it MUST assume that the original data segment, the TLP
  // retransmission, or a corresponding ACK was lost for congestion control purposes. … The sender then SHOULD invoke a congestion
  // control response equivalent to a fast recovery.
  controlLoss(tcb, tcb.inFlight, now);
  tcb.cwnd = Math.max(tcb.ssthresh, tcb.sendMss);
}
