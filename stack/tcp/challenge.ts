/**
 * Challenge acknowledgments (RFC 5961): for what may be a stranger's guess. Limited, so that no one can make us flood a peer.
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

//= rfc5961#7
// An implementation SHOULD include an ACK throttling mechanism to be conservative.
export function challenge(tcp: Tcp, tcb: Tcb, now: number): void {
  //= rfc5961#7
  // The values for both the time and number of ACKs SHOULD be tunable by the system administrator to accommodate different
  // perceived levels of threat and/or system resources.
  const { limits } = tcp;
  if (now - tcb.challengeAt >= limits.challengePeriodMs) {
    tcb.challengeAt = now;
    tcb.challengeTokens = limits.challengesMax;
  }
  if (tcb.challengeTokens === 0) {
    tcp.statistics.challengesWithheld++;
    return;
  }
  tcb.challengeTokens--;
  tcp.statistics.challengeAcks++;
  tcp.acknowledgeNow(tcb);
}
