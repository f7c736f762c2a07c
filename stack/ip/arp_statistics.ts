/**
 * What ARP counts.
 *
 * @module
 */

/** Counters of ARP. */
export interface ArpStatistics {
  requestsSent: number;
  repliesSent: number;
  requestsReceived: number;
  repliesReceived: number;
  /** Gratuitous and other packets that changed an entry. */
  updates: number;
  created: number;
  evicted: number;
  tableFull: number;
  queued: number;
  queueDropped: number;
  failures: number;
  probesSent: number;
  announcementsSent: number;
  conflicts: number;
  defenses: number;
  dropTruncated: number;
  dropForeign: number;
  dropOperation: number;
  dropBadSender: number;
  dropNotForUs: number;
}

export function newArpStatistics(): ArpStatistics {
  return {
    requestsSent: 0,
    repliesSent: 0,
    requestsReceived: 0,
    repliesReceived: 0,
    updates: 0,
    created: 0,
    evicted: 0,
    tableFull: 0,
    queued: 0,
    queueDropped: 0,
    failures: 0,
    probesSent: 0,
    announcementsSent: 0,
    conflicts: 0,
    defenses: 0,
    dropTruncated: 0,
    dropForeign: 0,
    dropOperation: 0,
    dropBadSender: 0,
    dropNotForUs: 0,
  };
}
