/**
 * The sockets of the TCP machine: every step of a socket's life, callable and observable on its own, without waiting.
 * The host shell (and a conformance suite) drive TCP through this and nothing else.
 *
 * @module
 */

import type { Packet } from "../ip/types.ts";
import type { CongestionControl } from "./congestion.ts";

/** States, RFC 9293 3.3.2. */
export const CLOSED = 0;
export const LISTEN = 1;
export const SYN_SENT = 2;
export const SYN_RECEIVED = 3;
export const ESTABLISHED = 4;
export const FIN_WAIT_1 = 5;
export const FIN_WAIT_2 = 6;
export const CLOSE_WAIT = 7;
export const CLOSING = 8;
export const LAST_ACK = 9;
export const TIME_WAIT = 10;

/** State names as `ss` and the RFC write them, by number. */
export const STATE_NAMES: readonly string[] = [
  "CLOSED",
  "LISTEN",
  "SYN-SENT",
  "SYN-RECEIVED",
  "ESTABLISHED",
  "FIN-WAIT-1",
  "FIN-WAIT-2",
  "CLOSE-WAIT",
  "CLOSING",
  "LAST-ACK",
  "TIME-WAIT",
];

/** Something changed that the owner may wait for; bits of `TcpSocket.events`. */
export const EVENT_READABLE = 1;
export const EVENT_WRITABLE = 2;
export const EVENT_CONNECTED = 4;
/** The socket failed or was reset; `error` says why. */
export const EVENT_ERROR = 8;
/** The machine is done with the socket: nothing will be sent or received any more. */
export const EVENT_CLOSED = 16;
export const EVENT_ACCEPT = 32;
/** Everything that was sent, the FIN included, is acknowledged. */
export const EVENT_DRAINED = 64;
/** Urgent data was announced, or more of it; `urgentPending` says how far it goes. */
export const EVENT_URGENT = 128;
/** Three timeouts in a row went unanswered (RFC 9293 3.8.3, R1), or an ICMP error came; `softError` says which. */
export const EVENT_TROUBLE = 256;

/** Options a socket can be made with; a listener's are inherited by what it accepts. */
export interface TcpOptions {
  /** Turns Nagle's algorithm off. Default false. */
  noDelay?: boolean;
  /** Turns keep-alive on. Default false. */
  keepAlive?: boolean;
  /** Idle time before the first probe, between probes (milliseconds), and how many. Linux's defaults: 7,200,000, 75,000, 9. */
  keepAliveIdleMs?: number;
  /** Milliseconds between probes. Default 75,000. Linux peers answer at most one in 500 ms. */
  keepAliveIntervalMs?: number;
  /** Probes without an answer before the connection is given up. Default 9. */
  keepAliveCount?: number;
  /** RFC 5482: give up when sent data is not acknowledged for so long; 0 = by number of retransmissions (default). */
  userTimeoutMs?: number;
  /**
   * Least part of the retransmission timeout above the round-trip time, in milliseconds: at least 1, default 200 as Linux
   * (TCP_RTO_MIN_US there). Below what the peer delays its acknowledgments it costs needless retransmissions, which are undone.
   */
  rtoMinMs?: number;
  /**
   * Don't back off for the first six timeouts of a stream with fewer than four frames in flight (Linux's
   * TCP_THIN_LINEAR_TIMEOUTS): for paths that lose much at random. Default false, as RFC 6298 wants it.
   */
  thinLinearTimeouts?: boolean;
  /** Exchange user timeouts with the peer (RFC 5482). Default false. */
  userTimeoutOption?: boolean;
  /** Largest receive and send buffer in bytes. They start small and grow as needed. Default 4 MiB each. */
  receiveBufferMax?: number;
  /** Largest send buffer in bytes. Default 4 MiB. */
  sendBufferMax?: number;
  /** Largest segment offered to the peer, in bytes; 0 = from the MTU (default). */
  maxSegmentSize?: number;
  /** Offer options; all default to true. */
  windowScale?: boolean;
  /** RFC 7323 timestamps. */
  timestamps?: boolean;
  /** RFC 2018 selective acknowledgements. */
  sack?: boolean;
  /** ECN (RFC 3168): true asks for it, "accept" (default, as Linux) uses it when the peer asks, false never. */
  ecn?: boolean | "accept";
  /** Fast Open (RFC 7413): a listener gives out cookies and takes data in SYNs; a connection puts what is sent first into its SYN. */
  fastOpen?: boolean;
  /** "cubic" (default), "reno", or a maker of a module of your own: at most one call a connection. */
  congestionControl?: "cubic" | "reno" | (() => CongestionControl);
  /** TTL and DSCP of what is sent. Default 64 and 0. */
  ttl?: number;
  /** DSCP and ECN byte. Default 0. */
  tos?: number;
}

/** A connection's figures, as `ss -i` shows them. Times in milliseconds, sizes in bytes. */
export interface TcpInfo {
  /** State, by name. */
  state: string;
  /** Port of this end. */
  localPort: number;
  /** Port of the other end. */
  remotePort: number;
  /** Smoothed round-trip time. */
  rttMs: number;
  /** Its variance (RFC 6298). */
  rttVarianceMs: number;
  /** Smallest round-trip time seen. */
  minRttMs: number;
  /** Retransmission time-out. */
  rtoMs: number;
  /** Name of the congestion control. */
  congestionControl: string;
  /** Congestion window in bytes. */
  congestionWindow: number;
  /** Slow start ends here, in bytes. */
  slowStartThreshold: number;
  /** Largest segment sent, in bytes of data. */
  sendMss: number;
  /** Largest segment offered to the peer. */
  receiveMss: number;
  /** Bytes sent and not acknowledged. */
  inFlight: number;
  /** Window of the peer, in bytes. */
  sendWindow: number;
  /** Window offered to the peer, in bytes. */
  receiveWindow: number;
  /** Bytes accepted from the writer and not acknowledged. */
  sendQueued: number;
  /** Bytes that nobody has read yet. */
  receiveQueued: number;
  /** Bytes still to be read up to the end of the data that the peer called urgent; 0 for none. */
  urgentPending: number;
  /**
   * What is wrong without having ended the connection, as a negative errno, or 0: -110 (ETIMEDOUT) when three timeouts in a
   * row went unanswered, or what an ICMP error said. Progress clears it.
   */
  softError: number;
  /** Bytes of data sent, without retransmissions. */
  bytesSent: number;
  /** Bytes of data that the peer has acknowledged. */
  bytesAcked: number;
  /** Bytes of data received in order. */
  bytesReceived: number;
  /** Segments sent. */
  segmentsSent: number;
  /** Segments received. */
  segmentsReceived: number;
  /** Bytes of data sent again. */
  bytesRetransmitted: number;
  /** Segments sent again. */
  retransmissions: number;
  /** Retransmission time-outs. */
  timeouts: number;
  /** Losses repaired without a time-out. */
  fastRecoveries: number;
  /** Recoveries that turned out to be mistakes and were undone. */
  spuriousRecoveries: number;
  /** Segments that came out of order. */
  outOfOrder: number;
  /** Duplicate acknowledgements received. */
  duplicateAcks: number;
  /** Segments with selective acknowledgements. */
  sacksReceived: number;
  /** Duplicates that the peer reported (RFC 2883). */
  dsacksReceived: number;
  /** RFC 7323 window scale. */
  windowScale: [send: number, receive: number];
  /** RFC 7323 timestamps. */
  timestamps: boolean;
  /** RFC 2018 selective acknowledgements. */
  sack: boolean;
  /** Explicit congestion notification is in use (RFC 3168). */
  ecn: boolean;
}

/** One end of a connection. Returns are counts or negative codes of `stack/codes.ts`. */
export interface TcpSocket {
  readonly state: number;
  readonly localKey: number;
  readonly localPort: number;
  readonly remoteKey: number;
  readonly remotePort: number;
  /** Pending error, a negative code, or 0. Reading clears nothing. */
  readonly error: number;
  /** EVENT_… bits since the owner last cleared them. While not 0 the socket stands in `TcpLayer.ready`. */
  events: number;
  /** The shell's own object. */
  owner: unknown;
  /** Bytes that `receive` would give now. */
  readonly receiveQueued: number;
  /** True when the peer's FIN came in order: after `receiveQueued` bytes the stream ends. */
  readonly finReceived: boolean;
  /** Bytes that `send` would take now. */
  readonly sendSpace: number;
  /** Bytes accepted by `send` and not acknowledged yet. */
  readonly sendQueued: number;
  /** True after `shutdownWrite` or `close`. */
  readonly writeShut: boolean;
  /**
   * Copies bytes into the send ring and marks the socket for output. Returns how many (0 = no room now), or `EPIPE` after
   * shutdown, `ENOTCONN`, or the pending error.
   */
  send(bytes: Uint8Array, offset: number, length: number): number;
  /** Copies received bytes out. Returns how many, 0 at the end of the stream, `EAGAIN` when there is nothing now, or the pending error. */
  receive(into: Uint8Array, offset: number, length: number): number;
  /** Sends a FIN after what is queued. The other direction stays open. */
  shutdownWrite(): number;
  /** What comes in from now on is thrown away (acknowledged, not kept). */
  shutdownRead(): number;
  /**
   * Lets go of the socket: FIN after what is queued, in the background. With unread data a reset, as Linux (RFC 1122 4.2.2.13).
   * `lingerMs` undefined: in the background; 0: reset at once.
   */
  close(lingerMs?: number): void;
  /** Resets at once. */
  abort(): void;
  setNoDelay(on: boolean): void;
  /** Numbers out of the range of `TcpOptions` change nothing. */
  setKeepAlive(on: boolean, idleMs?: number, intervalMs?: number, count?: number): void;
  setUserTimeout(ms: number): void;
  /** Changes what is given. `EINVAL` with nothing changed: out of range, or settled by the SYN already. */
  setOptions(options: TcpOptions): number;
  info(): TcpInfo;
}

/** A listening socket. */
export interface TcpListenSocket {
  readonly localKey: number;
  readonly localPort: number;
  events: number;
  owner: unknown;
  /** Established connections that wait to be accepted. */
  readonly pending: number;
  /** The next one, or `EAGAIN`. */
  accept(): TcpSocket | number;
  /** For connections that come from now on. `EINVAL` with nothing changed when one is out of range. */
  setOptions(options: TcpOptions): number;
  /** Stops listening; connections that were not accepted are reset. */
  close(): void;
}

/** TCP counters, as `netstat -s` shows them. All start at 0 and only grow, but for the three gauges at the end. */
export interface TcpStatistics {
  /** Connections opened from here. */
  activeOpens: number;
  /** Connections accepted. */
  passiveOpens: number;
  /** Handshakes that failed. */
  failedAttempts: number;
  /** Connections that a reset ended. */
  resetsReceived: number;
  /** Resets sent. */
  resetsSent: number;
  /** Segments received. */
  segmentsReceived: number;
  /** Segments sent. */
  segmentsSent: number;
  /** Segments sent again. */
  segmentsRetransmitted: number;
  /** Dropped: wrong checksum. */
  badChecksum: number;
  /** Dropped: impossible header. */
  badHeader: number;
  /** Options of impossible length: those before are taken, the rest is passed over. */
  badOptions: number;
  /** Dropped: without the ACK that every segment of a connection has. */
  noAck: number;
  /** Dropped: in answer to our SYN, and neither SYN nor reset. */
  noSyn: number;
  /** Dropped: resets for nothing of ours. */
  resetsIgnored: number;
  /** Dropped: no way back to the sender. */
  noPath: number;
  /** SYNs to a port where nobody listens. */
  noListener: number;
  /** Connections that a full backlog turned away. */
  listenOverflow: number;
  /** SYNs dropped. */
  synDropped: number;
  /** Data in a SYN that was taken, by us or by the peer; and that a peer did not take. */
  fastOpens: number;
  /** Data in a SYN that was not taken because too many such opens were unproved (RFC 7413 5.1). */
  fastOpenOverflow: number;
  /** Data in a SYN that a peer did not take. */
  fastOpenRefused: number;
  /** SYNs beyond the queue that were answered with a cookie. */
  synCookiesSent: number;
  /** Connections that came back with a good cookie. */
  synCookiesReceived: number;
  /** Cookies that were wrong or too old. */
  synCookiesFailed: number;
  /** Segments outside of the window. */
  outOfWindow: number;
  /** Segments with old timestamps (RFC 7323 PAWS). */
  pawsDropped: number;
  /** Challenge acknowledgements sent (RFC 5961). */
  challengeAcks: number;
  /** Challenge acknowledgements not sent, because there had been enough. */
  challengesWithheld: number;
  /** Segments that came out of order. */
  outOfOrder: number;
  /** Out-of-order segments that there was no room for. */
  outOfOrderDropped: number;
  /** Times that a connection's out-of-order data was dropped again, to make room for data in order. */
  outOfOrderPruned: number;
  /** Segments that had come before. */
  duplicateSegments: number;
  /** Retransmission time-outs. */
  timeouts: number;
  /** Losses repaired without a time-out. */
  fastRecoveries: number;
  /** Recoveries that turned out to be unneeded, and were undone. */
  spuriousRecoveries: number;
  /** Probes for a lost tail. */
  tailProbes: number;
  /** Times that the window shrank because of a congestion mark. */
  ecnReductions: number;
  /** Paths that dropped full segments in silence (RFC 4821). */
  blackHoles: number;
  /** Segments sent to find out what size passes. */
  mtuProbes: number;
  /** Probes of a closed window sent. */
  zeroWindowProbes: number;
  /** Keep-alive probes sent. */
  keepAliveProbes: number;
  /** Acknowledgements that waited for company in vain. */
  delayedAcks: number;
  /** TIME-WAITs left for a new connection. */
  timeWaitReused: number;
  /** TIME-WAITs ended early because there were too many. */
  timeWaitOverflow: number;
  /** Connections that nobody held any more, reset because there were too many. */
  orphanOverflow: number;
  /** Congestion controls of users that failed: replaced by one of ours. */
  controlFaults: number;
  /** Connections refused because the table was full. */
  tableFull: number;
  /** Gauges. */
  connections: number;
  /** Gauge: connections in TIME-WAIT. */
  timeWait: number;
  /** Gauge: listening sockets. */
  listeners: number;
}

/** The TCP of one stack. */
export interface TcpLayer {
  /** Sockets and listeners whose `events` are not 0, in the order they changed. The shell empties it after each burst. */
  readonly ready: (TcpSocket | TcpListenSocket)[];
  readonly statistics: TcpStatistics;
  /** `localKey` ANY for all addresses; `port` 0 for a free one. `EADDRINUSE`, `EADDRNOTAVAIL`, `EINVAL`. */
  listen(localKey: number, port: number, backlog: number, options?: TcpOptions): TcpListenSocket | number;
  /** Begins to connect: EVENT_CONNECTED or EVENT_ERROR follows. `localKey` ANY and `localPort` 0 let the stack choose. */
  connect(
    localKey: number,
    localPort: number,
    remoteKey: number,
    remotePort: number,
    now: number,
    options?: TcpOptions,
  ): TcpSocket | number;
  /**
   * Asked about a segment that belongs to no connection: who takes it, null to refuse it with a reset, undefined to say nothing.
   * `begins` for a SYN, `found` the listener that would take it. The packet is valid during the call only.
   */
  intercept:
    | ((
      packet: Packet,
      sourcePort: number,
      destinationPort: number,
      begins: boolean,
      found: TcpListenSocket | null,
    ) => TcpListenSocket | null | undefined)
    | null;
  /** Output of the connections that changed; called at the end of a burst, and after the user wrote or read. */
  flush(now: number): void;
  /** True when `flush` has something to do. */
  readonly dirty: boolean;
  /** When `advance` is next needed: milliseconds on the clock of `now`, or Infinity. */
  nextDeadline(): number;
  /** Runs the timers that are due. */
  advance(now: number): void;
  /** Every connection, for `ss`. */
  sockets(): Iterable<TcpSocket>;
  /**
   * Ends everything at once, or what is bound to an address of ours, with `code` as the pending error; resets are sent when `reset`
   * is set.
   */
  shutdown(code: number, reset: boolean, localKey?: number): void;
}
