/**
 * Every bound of the internet layer, in one place. What goes over a bound is turned away and counted; the counter stands
 * in the comment. Times in milliseconds, sizes in bytes.
 *
 * @module
 */

/** Interfaces of one stack (`addInterface` throws RangeError beyond). */
export const INTERFACES_MAX = 64;
/** Addresses of one interface, tentative ones included (`ENOBUFS`). */
export const ADDRESSES_PER_INTERFACE = 32;
/** Routes of one stack (`ENOBUFS`). */
export const ROUTES_MAX = 1024;
/** Slots of the direct-mapped path cache; two pairs of addresses in one slot replace each other. A power of two. */
export const PATH_SLOTS = 4096;
/** Counters of IP identifications, chosen by a hash of the addresses and the protocol. A power of two. */
export const ID_SLOTS = 2048;
// (How many fragments a packet is cut into is bounded by the packet: 65,535 bytes in pieces of 8 or more.)

/** Neighbours of one interface (`arp.tableFull`, `arp.evicted`). */
export const NEIGHBORS_MAX = 1024;
/** Frames and bytes that wait for one neighbour's address; the oldest goes (`arp.queueDropped`). A datagram of 64 KiB in fragments fits. */
export const WAITING_FRAMES = 64;
export const WAITING_BYTES = 262_144;
/** Bytes that wait on one interface in all (`arp.queueDropped`). */
export const WAITING_BYTES_TOTAL = 4_194_304;

/** Neighbour times, as Linux has them. */
export const REACHABLE_MS = 30_000;
export const DELAY_MS = 5_000;
export const RETRANSMIT_MS = 1_000;
export const UNICAST_PROBES = 3;
export const BROADCAST_PROBES = 3;

/** RFC 5227 1.1. */
export const PROBE_WAIT_MS = 1_000;
export const PROBE_NUM = 3;
export const PROBE_MIN_MS = 1_000;
export const PROBE_MAX_MS = 2_000;
export const ANNOUNCE_WAIT_MS = 2_000;
export const ANNOUNCE_NUM = 2;
export const ANNOUNCE_INTERVAL_MS = 2_000;
export const MAX_CONFLICTS = 10;
export const RATE_LIMIT_INTERVAL_MS = 60_000;
export const DEFEND_INTERVAL_MS = 10_000;

/** Packets on the inner loop-back device (`loop.full`): a slot grows to what it once held, at most 64 KiB. */
export const LOOP_SLOTS = 256;

/** Path MTUs remembered (`pmtu.evicted`), for how long, and the least that is believed (Linux: min_pmtu). */
export const PMTU_ENTRIES = 1024;
export const PMTU_EXPIRY_MS = 600_000;
export const PMTU_MIN = 552;

/** ICMP errors: a second in all and at once, between two to one destination, and at once to one (Linux's figures). */
export const ICMP_PER_SECOND = 1_000;
export const ICMP_BURST = 50;
export const ICMP_RATELIMIT_MS = 1_000;
export const ICMP_DESTINATION_BURST = 6;
/** Token buckets for destinations; several share one. A power of two. */
export const ICMP_BUCKETS = 1024;
/** An error message with its IP header (RFC 1812 4.3.2.3). */
export const ICMP_ERROR_MAX = 576;
