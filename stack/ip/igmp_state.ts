/**
 * What IGMP remembers: groups, queriers, counters.
 *
 * @module
 */

export const DEFAULT_ROBUSTNESS = 2;
export const DEFAULT_QUERY_INTERVAL_MS = 125_000;

/** Counters; all only grow, but for `groups`, a gauge. */
export interface IgmpStatistics {
  queriesReceived: number;
  reportsReceived: number;
  reportsSent: number;
  leavesSent: number;
  /** Reports not sent because another host of the group was first (versions 1 and 2). */
  suppressed: number;
  badChecksum: number;
  badLength: number;
  /** Types that a host ignores. */
  ignored: number;
  /** Joins refused, and queries on interfaces not tracked, because a table was full. */
  limited: number;
  groups: number;
}

/** One group on one interface. */
export class Membership {
  /** How often joined; 0 while only the leave is being repeated. */
  users = 1;
  /** When an answer to a query is due. */
  responseAt = Infinity;
  /** State change reports (or first reports of version 1 and 2) still to be repeated, and when. */
  repetitions = 0;
  repeatAt = Infinity;
  /** Versions 1 and 2: we were the last to report, so we send the leave. */
  lastReporter = false;
  constructor(readonly group: number) {}
}

/** What is known about the queriers of an interface, and its groups. */
export class InterfaceState {
  readonly groups = new Map<number, Membership>();
  robustness = DEFAULT_ROBUSTNESS;
  queryIntervalMs = DEFAULT_QUERY_INTERVAL_MS;
  /** Until when an older querier counts as present; -Infinity if none. */
  v1Until = -Infinity;
  v2Until = -Infinity;
  /** When the answer to a general query of version 3 is due. */
  generalAt = Infinity;
  constructor(readonly index: number) {}

  /** Host compatibility mode (RFC 3376 7.2.1): 1, 2 or 3. */
  get version(): number {
    return this.v1Until !== -Infinity ? 1 : this.v2Until !== -Infinity ? 2 : 3;
  }
}
