/**
 * Challenge acknowledgments (RFC 5961): for what may be a stranger's guess. Limited, so that no one can make us flood a peer.
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

/** So many challenges ... */
const CHALLENGES = 10;
/** ... in so long. */
const PERIOD_MS = 5000;

//= rfc5961#7
// it is RECOMMENDED to limit the number of challenge ACKs that can be sent in a given period of time (10 in 5 seconds);
// the count is each connection's own, so that it tells a stranger nothing (CVE-2016-5696)
export function challenge(tcp: Tcp, tcb: Tcb, now: number): void {
  if (now - tcb.challengeAt >= PERIOD_MS) {
    tcb.challengeAt = now;
    tcb.challengeTokens = CHALLENGES;
  }
  if (tcb.challengeTokens === 0) return;
  tcb.challengeTokens--;
  tcp.statistics.challengeAcks++;
  tcp.acknowledgeNow(tcb);
}
