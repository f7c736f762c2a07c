/**
 * What reassembly may cost, and what it counts.
 *
 * @module
 */

/** What the reassembler holds at most. */
export interface ReassemblyLimits {
  /** Datagrams at once. The oldest gives way to a new one. Default 64. */
  datagrams: number;
  /** Bytes of memory, in use and pooled. The oldest datagrams give way. At least 65,536; default 4 MiB. */
  bytes: number;
  /** Fragments that one datagram may come in. Default 2048: 65,535 bytes over an MTU of 68 are 1366. */
  fragments: number;
  /** Separate runs of bytes of one datagram at a time: twice this many fragments may come in any order. Default 128. */
  runs: number;
  /** Milliseconds from the first fragment that came until the datagram is given up. Default 30,000. */
  timeoutMs: number;
}

/** Counters; all only grow, but for the gauges at the end. */
export interface ReassemblyStatistics {
  fragments: number;
  reassembled: number;
  /** Given up because of time. */
  timeouts: number;
  /** Fragments whose bytes were all there already, and the same. */
  duplicates: number;
  /** Datagrams spoiled by an overlap with other bytes or of other extent (RFC 5722). */
  overlaps: number;
  /** Datagrams spoiled by two different ends, or by bytes behind the end. */
  inconsistent: number;
  /** Datagrams spoiled because they would be over 65,535 bytes. */
  oversized: number;
  /** Fragments without data, or not a multiple of eight and not the last. */
  badLength: number;
  /** Datagrams spoiled by ECN marks that don't go together (RFC 3168 5.3). */
  badEcn: number;
  /** Fragments of a datagram that was spoiled before. */
  spoiled: number;
  /** Datagrams given up for a younger one: the table or the memory was full. */
  evicted: number;
  /** Datagrams spoiled because they came in too many fragments, or in too many runs. */
  tooManyFragments: number;
  /** Gauges: datagrams waiting, and bytes of memory held. */
  datagrams: number;
  bytes: number;
}

export const DEFAULT_LIMITS: ReassemblyLimits = { datagrams: 64, bytes: 4 << 20, fragments: 2048, runs: 128, timeoutMs: 30_000 };

export function newStatistics(): ReassemblyStatistics {
  return {
    fragments: 0,
    reassembled: 0,
    timeouts: 0,
    duplicates: 0,
    overlaps: 0,
    inconsistent: 0,
    oversized: 0,
    badLength: 0,
    badEcn: 0,
    spoiled: 0,
    evicted: 0,
    tooManyFragments: 0,
    datagrams: 0,
    bytes: 0,
  };
}
