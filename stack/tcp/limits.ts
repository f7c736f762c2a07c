/**
 * How a TCP is made, with its bounds in one place. Each has a counter in `TcpStatistics` for what it turned away.
 *
 * @module
 */

import type { TcpOptions } from "./types.ts";

export interface TcpLimits {
  /** Connections in any state. Counter `tableFull` (open) or `synDropped` (accept). */
  connectionsMax: number;
  /** Largest backlog of a listener. Counter `listenOverflow`. */
  backlogMax: number;
  /** Challenge acknowledgments of one connection (RFC 5961 section 7) ... Counter `challengesWithheld`. */
  challengesMax: number;
  /** ... in so many milliseconds. */
  challengePeriodMs: number;
  /** Fast opens of one listener whose peer has not proved yet that it is there. Counter `fastOpenOverflow`. */
  fastOpenPendingMax: number;
  /** Connections in TIME-WAIT; beyond it the oldest ends early. Counter `timeWaitOverflow`. */
  timeWaitMax: number;
  /** 2 MSL. Linux's 60 s. */
  timeWaitMs: number;
  /** Connections that were let go of and still owe their peer something; beyond it the oldest is reset. Counter `orphanOverflow`. */
  orphansMax: number;
  /** FIN-WAIT-2 of a socket that nobody holds. Linux's 60 s. */
  finWaitMs: number;
  /** Bytes in the rings of all connections. Counters `outOfOrderDropped`, `outOfOrderPruned`; a writer finds no room. */
  memoryMax: number;
  /**
   * Bytes of these, at most an eighth, that only rings of 4 KiB are made of: so that a newcomer's data goes on when all the rest
   * is in use.
   */
  memoryReserved: number;
  /** Bytes of free ring memory kept for the next use. */
  memoryKept: number;
  /** Default maxima of a connection's buffers. */
  receiveBufferMax: number;
  sendBufferMax: number;
}

export const DEFAULT_LIMITS: TcpLimits = {
  connectionsMax: 262_144,
  backlogMax: 65_535,
  challengesMax: 10,
  challengePeriodMs: 5000,
  fastOpenPendingMax: 256,
  timeWaitMax: 65_536,
  timeWaitMs: 60_000,
  orphansMax: 65_536,
  finWaitMs: 60_000,
  memoryMax: 1 << 30,
  memoryReserved: 128 << 20,
  memoryKept: 32 << 20,
  receiveBufferMax: 4 << 20,
  sendBufferMax: 4 << 20,
};

/** How a TCP is made. */
export interface TcpConfig {
  /** Options of every connection that does not say otherwise. */
  defaults?: TcpOptions;
  limits?: Partial<TcpLimits>;
  /**
   * Delay the acknowledgment of a peer's FIN like that of text: whoever reads the end mostly closes at once, and our FIN carries
   * it. Default false: at once.
   */
  finAckDelayed?: boolean;
  /** Told what a user's congestion control threw while a frame or a timer was handled. */
  onFault?: (fault: unknown) => void;
}
