/**
 * TCP's counters, all at 0.
 *
 * @module
 */
import type { TcpStatistics } from "./types.ts";

export function noStatistics(): TcpStatistics {
  return {
    activeOpens: 0,
    passiveOpens: 0,
    failedAttempts: 0,
    resetsReceived: 0,
    resetsSent: 0,
    segmentsReceived: 0,
    segmentsSent: 0,
    segmentsRetransmitted: 0,
    badChecksum: 0,
    badHeader: 0,
    badOptions: 0,
    noAck: 0,
    noSyn: 0,
    resetsIgnored: 0,
    noPath: 0,
    noListener: 0,
    listenOverflow: 0,
    synDropped: 0,
    fastOpens: 0,
    fastOpenOverflow: 0,
    fastOpenRefused: 0,
    synCookiesSent: 0,
    synCookiesReceived: 0,
    synCookiesFailed: 0,
    outOfWindow: 0,
    pawsDropped: 0,
    challengeAcks: 0,
    challengesWithheld: 0,
    outOfOrder: 0,
    outOfOrderDropped: 0,
    duplicateSegments: 0,
    timeouts: 0,
    fastRecoveries: 0,
    spuriousRecoveries: 0,
    tailProbes: 0,
    ecnReductions: 0,
    blackHoles: 0,
    mtuProbes: 0,
    zeroWindowProbes: 0,
    keepAliveProbes: 0,
    delayedAcks: 0,
    timeWaitReused: 0,
    timeWaitOverflow: 0,
    orphanOverflow: 0,
    tableFull: 0,
    connections: 0,
    timeWait: 0,
    listeners: 0,
  };
}
