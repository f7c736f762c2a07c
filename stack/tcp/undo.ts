/**
 * Finding out that a retransmission was a mistake, and taking back what it did to the window: Eifel (RFC 3522, RFC 4015)
 * where timestamps are in use, F-RTO (RFC 5682 section 3) where SACK is.
 *
 * @module
 */
import { controlUndo } from "./controls.ts";
import { LOST, type SentQueue } from "./sent.ts";
import { OPEN, type Tcb } from "./tcb.ts";

/** Before the window is reduced: what it was. Only the first reduction of an episode counts. */
export function noteReduction(tcb: Tcb): void {
  if (tcb.recovery !== OPEN) return;
  tcb.undoCwnd = tcb.cwnd;
  tcb.undoSsthresh = tcb.ssthresh;
  tcb.undoStamped = false;
  tcb.undoPossible = true;
}

/** Something is sent again: the timestamp of the first such segment is what echoes are compared with. */
export function noteRetransmission(tcb: Tcb): void {
  if (tcb.undoStamped) return;
  tcb.undoStamped = true;
  tcb.undoStamp = tcb.tcp.timestamp(tcb);
}

/**
 * Looks at an acknowledgment of new data during recovery.
 *
 * @param echo the echoed timestamp, if `hasEcho`
 * @param originalArrived a segment arrived that had been given up and not sent again
 * @returns true if the episode was a mistake and is undone
 */
export function undoIfSpurious(tcb: Tcb, hasEcho: boolean, echo: number, originalArrived: boolean): boolean {
  if (tcb.recovery === OPEN || !tcb.undoPossible) return false;
  //= rfc3522#3.2
  // If the value of the Timestamp Echo Reply field is less than the value of RetransmitTS, the retransmission was spurious.
  const eifel = hasEcho && tcb.undoStamped && ((echo - tcb.undoStamp) | 0) < 0;
  //= rfc5682#3.1
  // if the ACK acknowledges data that was not retransmitted after the timeout, the timeout was spurious
  if (!eifel && !originalArrived) return false;
  //= rfc4015#3.4
  // the congestion window is set back to what it was before the retransmission, bounded by what is in flight and newly acked
  tcb.cwnd = Math.max(tcb.cwnd, tcb.undoCwnd);
  tcb.ssthresh = Math.max(tcb.ssthresh, tcb.undoSsthresh);
  tcb.recovery = OPEN;
  tcb.undoPossible = false;
  tcb.duplicateAcks = 0;
  if (tcb.sent !== null) unmark(tcb.sent);
  tcb.lostBytes = 0;
  tcb.spuriousRecoveries++;
  tcb.tcp.statistics.spuriousRecoveries++;
  controlUndo(tcb, tcb.tcp.now);
  return true;
}

function unmark(sent: SentQueue): void {
  for (let i = 0; i < sent.length; i++) sent.setFlags(i, sent.flags(i) & ~LOST);
}
