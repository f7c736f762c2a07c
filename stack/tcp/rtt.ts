/**
 * Round-trip time and retransmission timeout (RFC 6298).
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";

//= rfc6298#2.4 type=exception reason=Linux's 200 ms instead of 1 s: a second of silence for one lost segment is not what users expect
// Whenever RTO is computed, if it is less than 1 second, then the RTO SHOULD be rounded up to 1 second.
/** What `TcpOptions.rtoMinMs` is when nobody says. */
const RTO_MS_MIN = 200;
//= rfc6298#2.5
// A maximum value MAY be placed on RTO provided it is at least 60 seconds.
export const RTO_MS_MAX = 120_000;

/** Linux's tcp_min_rtt_wlen: a smaller round trip than any since is believed for so long, and at most twice that. */
const MIN_RTT_WINDOW_MS = 300_000;

//= rfc8985#6.2
// The sender SHOULD track a windowed min-filtered estimate of recent RTT measurements that can adapt when migrating to
// significantly longer paths rather than tracking a simple global minimum of all RTT measurements.
function leastRtt(tcb: Tcb, rtt: number): void {
  const { now } = tcb.tcp;
  if (now - tcb.minRttAt >= MIN_RTT_WINDOW_MS) {
    tcb.minRttMs = tcb.minRttNext;
    tcb.minRttNext = rtt;
    tcb.minRttAt = now;
  }
  if (rtt < tcb.minRttMs) tcb.minRttMs = rtt;
  if (rtt < tcb.minRttNext) tcb.minRttNext = rtt;
}

/** Takes a measurement in milliseconds (fractions count). */
export function measureRtt(tcb: Tcb, sample: number): void {
  const rtt = Math.max(sample, 0.001);
  if (tcb.srttMs === 0) {
    //= rfc6298#2
    // (2.2) When the first RTT measurement R is made, the host MUST set SRTT <- R RTTVAR <- R/2
    tcb.srttMs = rtt;
    tcb.rttVarMs = rtt / 2;
    tcb.minRttMs = tcb.minRttNext = rtt;
    tcb.minRttAt = tcb.tcp.now;
  } else {
    //= rfc6298#2
    // (2.3) When a subsequent RTT measurement R' is made, a host MUST set RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'| SRTT
    // <- (1 - alpha) * SRTT + alpha * R' … The above SHOULD be computed using alpha=1/8 and beta=1/4
    tcb.rttVarMs += (Math.abs(tcb.srttMs - rtt) - tcb.rttVarMs) / 4;
    //= rfc7323#4.2 type=exception reason=Linux too takes every acknowledgment at 1/8; RTTVAR cannot fall so far that it matters, because RTO stays rtoMinMs above SRTT
    // When multiple RTTMs per RTT are available to update the RTT estimator, an implementation SHOULD try to adhere to the spirit
    // of the history specified in [RFC6298].
    tcb.srttMs += (rtt - tcb.srttMs) / 8;
    leastRtt(tcb, rtt);
  }
  tcb.tlpMeasured = true;
  tcb.rtoMs = Math.min(RTO_MS_MAX, tcb.srttMs + Math.max(tcb.options.rtoMinMs ?? RTO_MS_MIN, 4 * tcb.rttVarMs));
  tcb.backoff = 0;
}

//= rfc6298#5.5
// The host MUST set RTO <- RTO * 2 ("back off the timer"). The maximum value discussed in (2.5) above may be used to
// provide an upper bound to this doubling operation.
export function currentRto(tcb: Tcb): number {
  return Math.min(RTO_MS_MAX, tcb.rtoMs * 2 ** Math.min(tcb.backoff, 16));
}

/** After an acknowledgment of new data the retransmission timer starts again, or stops (RFC 6298 5.2, 5.3). */
export function restartRto(tcb: Tcb, now: number): void {
  tcb.rtoAt = tcb.sndUna === tcb.sndNxt || tcb.sndWnd === 0 ? Infinity : now + currentRto(tcb);
}
