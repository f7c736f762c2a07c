/**
 * Explicit congestion notification: RFC 3168.
 *
 * @module
 */
import { ACK, CWR, ECE, type Segment, SYN } from "../wire/tcp.ts";
import { controlLoss } from "./controls.ts";
import { noteReduction } from "./undo.ts";
import { OPEN, type Tcb } from "./tcb.ts";

/** ECT(0) in the IP header. */
export const ECT0 = 2;

/** What the flags of the peer's SYN or SYN-ACK say. `asked`: we sent an ECN-setup SYN. */
export function negotiateEcn(tcb: Tcb, seg: Segment, asked: boolean): void {
  //= rfc3168#6.1.1
  // a SYN packet with both the ECE and CWR flags set is an "ECN-setup SYN packet"; a SYN-ACK packet with only the ECE flag
  // set and the CWR flag not set is an "ECN-setup SYN-ACK packet"
  const both = (seg.flags & (ECE | CWR)) === (ECE | CWR);
  if ((seg.flags & ACK) === 0) tcb.ecn = both && (tcb.options.ecn ?? "accept") !== false;
  else tcb.ecn = asked && (seg.flags & (ECE | CWR)) === ECE;
}

/** Flags of our own SYN or SYN-ACK. */
export function ecnSynFlags(tcb: Tcb, received: boolean): number {
  if (received) return tcb.ecn ? ECE : 0;
  //= rfc3168#6.1.1.1
  // a host that receives no reply to an ECN-setup SYN within the normal SYN retransmission timeout interval MAY resend the
  // SYN and any subsequent SYN retransmissions with CWR and ECE cleared
  return tcb.options.ecn === true && tcb.backoff === 0 ? ECE | CWR : 0;
}

/** A segment came with data: remembers that the network marked it, until the peer says that it has slowed down. */
export function ecnReceived(tcb: Tcb, seg: Segment): void {
  if (!tcb.ecn) return;
  if ((seg.flags & CWR) !== 0) tcb.ecnEcho = false;
  if (seg.congestionExperienced && seg.textLength > 0) {
    //= rfc3168#6.1.3
    // the receiver sets the ECE flag in acknowledgments until it receives a CWR packet
    tcb.ecnEcho = true;
    tcb.ackNow = true;
  }
}

/** An acknowledgment with ECE: the window is reduced, once for each window of data. */
export function ecnAcknowledged(tcb: Tcb, seg: Segment, now: number): void {
  if (!tcb.ecn) return;
  if ((seg.flags & (ECE | SYN)) !== ECE) {
    // The mark follows, so that it is never half the number space behind.
    if (((tcb.sndUna - tcb.ecnPoint) | 0) > 1 << 30) tcb.ecnPoint = (tcb.sndUna - 1) | 0;
    return;
  }
  if (tcb.recovery !== OPEN || ((tcb.sndUna - tcb.ecnPoint) | 0) <= 0) return;
  //= rfc3168#6.1.2
  // The sending TCP ... SHOULD NOT react to congestion indications more than once every window of data
  noteReduction(tcb);
  tcb.undoPossible = false;
  controlLoss(tcb, tcb.inFlight, now);
  tcb.cwnd = Math.max(tcb.ssthresh, tcb.sendMss);
  tcb.ecnPoint = tcb.sndNxt;
  tcb.ecnCwr = true;
  tcb.tcp.statistics.ecnReductions++;
}
