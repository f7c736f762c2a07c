/**
 * The transmission control block of one connection (RFC 9293 section 3.3.1), and the socket calls on it.
 *
 * Sequence numbers are int32, compared by `(a - b) | 0`. Times named `…At` and `…Ms` are milliseconds, `…Us` microseconds
 * (int32, wrapping).
 *
 * @module
 */
import { ECONNABORTED, EINVAL, ENOTCONN, OK } from "../codes.ts";
import type { Path } from "../ip/types.ts";
import { wrongTcpOption } from "./check_options.ts";
import { closeSocket, receiveBytes, sendBytes } from "./calls.ts";
import { type CongestionControl, type CongestionState, SSTHRESH_MAX } from "./congestion.ts";
import { congestionControl } from "./controls.ts";
import { tcpInfo } from "./info.ts";
import type { Listener } from "./listener.ts";
import type { RangeSet } from "./ranges.ts";
import { ByteRing } from "./ring.ts";
import type { SentQueue } from "./sent.ts";
import type { Tcp } from "./tcp.ts";
import type { Timed } from "./timers.ts";
import type { TcpInfo, TcpOptions, TcpSocket } from "./types.ts";
import { CLOSED, ESTABLISHED, EVENT_WRITABLE, TIME_WAIT } from "./types.ts";
import { setTcpOptions } from "./set_options.ts";
import { mayWrite, moveAfterFinQueued } from "./states.ts";
import { urgentPending, urgentSent } from "./urgent.ts";

/** What recovery is going on. */
export const OPEN = 0;
/** Loss was found by acknowledgments (RFC 6675, RFC 8985). */
export const RECOVERY = 1;
/** The retransmission timer ran out (RFC 6298). */
export const LOSS = 2;

/** First limits of the buffers; both grow to the maxima in the options. */
const SEND_BUFFER_FIRST = 256 * 1024;
const RECEIVE_BUFFER_FIRST = 128 * 1024;
/** RFC 6298 2.1. */
export const RTO_MS_INITIAL = 1000;

export class Tcb implements TcpSocket, Timed, CongestionState {
  state = CLOSED;
  error = 0;
  /** The last ICMP error that did not end the connection, or 0. */
  softError = 0;
  events = 0;
  owner: unknown = undefined;
  /** In `Tcp.dirty`: output wanted at the next flush. */
  queued = false;
  timerIndex = -1;
  timerAt = 0;
  /** The listener that it belongs to until it is accepted. */
  listener: Listener | null = null;
  /** Nobody holds the socket any more: `close` was called. */
  orphan = false;

  // Send sequence variables.
  iss = 0;
  sndUna = 0;
  sndNxt = 0;
  sndWnd = 0;
  sndWl1 = 0;
  sndWl2 = 0;
  maxSndWnd = 0;
  /** Shift counts of RFC 7323: for windows that come in, and that go out. */
  sndWndShift = 0;
  rcvWndShift = 0;
  /** Bytes from sndUna on: in flight first, then unsent. */
  readonly sendRing: ByteRing;
  /** Frames in flight; null while nothing is. */
  sent: SentQueue | null = null;
  writeShut = false;
  finSent = false;
  /** End of the last segment shorter than the MSS, for Nagle's algorithm as Minshall changed it. */
  sndSml = 0;
  /** Behind our own urgent data, while `sendingUrgent`. */
  sndUp = 0;
  sendingUrgent = false;
  /** The user was told that there is no room. */
  sendBlocked = false;
  sendLimit = SEND_BUFFER_FIRST;

  // Receive sequence variables.
  irs = 0;
  rcvNxt = 0;
  /** Right edge of the window that was advertised: never moves left (RFC 9293 3.8.6). */
  rcvEdge = 0;
  /** Behind the urgent data of the peer, as long as `urgent` says that some was announced. */
  rcvUp = 0;
  urgent = false;
  readonly receiveRing: ByteRing;
  ranges: RangeSet | null = null;
  finReceived = false;
  /** Sequence number of a FIN that came before the data in front of it; valid when `finEarly`. */
  finSeq = 0;
  finEarly = false;
  readShut = false;
  receiveLimit = RECEIVE_BUFFER_FIRST;
  /** Dynamic right-sizing: bytes taken by the reader since `drsAt`, and in the round before. */
  drsTaken = 0;
  drsBefore = 0;
  drsAt = 0;
  drsRttMs = 0;

  /** In `Tcp.prunable`, behind the one and in front of the other. */
  prunable = false;
  prunedAfter: Tcb | null = null;
  prunedBefore: Tcb | null = null;
  /** When it last received, as `ReceiveShare` counts. */
  receiveEpoch = -1;

  // Acknowledgments that we owe.
  ackNow = false;
  /** Bytes received since the last acknowledgment went out. */
  unacked = 0;
  lastAckSent = 0;
  /** A duplicate range to report (RFC 2883); equal edges: none. */
  dsackLeft = 0;
  dsackRight = 0;
  challengeTokens: number;
  challengeAt = 0;

  // Options.
  peerMss = 536;
  sendMss = 536;
  receiveMss = 536;
  timestamps = false;
  sack = false;
  tsRecent = 0;
  tsRecentAt = 0;
  tsOffset = 0;
  noDelay: boolean;
  keepAlive: boolean;
  keepAliveIdleMs: number;
  keepAliveIntervalMs: number;
  keepAliveCount: number;
  userTimeoutMs: number;

  // Congestion and loss.
  cwnd = 0;
  ssthresh = SSTHRESH_MAX;
  #congestion: CongestionControl | null = null;
  recovery = OPEN;
  recoverPoint = 0;
  sackedBytes = 0;
  lostBytes = 0;
  duplicateAcks = 0;
  prrDelivered = 0;
  prrOut = 0;
  recoverFlight = 0;
  // RACK (RFC 8985 section 5.2).
  rackTimeUs = 0;
  rackEnd = 0;
  rackRttUs = 0;
  rackFack = 0;
  rackValid = false;
  reorderingSeen = false;
  reoWndMult = 1;
  reoWndPersist = 16;
  dsackRound = 0;
  // Undo (RFC 4015, RFC 5682): the window before the episode, and the timestamp of its first retransmission.
  undoPossible = false;
  undoStamped = false;
  undoStamp = 0;
  undoCwnd = 0;
  undoSsthresh = 0;
  // Tail loss probe (RFC 8985 section 7.1).
  tlpActive = false;
  tlpRetransmitted = false;
  tlpEnd = 0;
  /** A round trip was measured since the last probe. */
  tlpMeasured = false;
  // ECN (RFC 3168): in use; we echo a mark; our next new segment says CWR; end of the window that was reduced for.
  ecn = false;
  ecnEcho = false;
  ecnCwr = false;
  ecnPoint = 0;
  // Path probing (RFC 4821): 0 until a black hole was met; then the segment that is known to pass, and the one to reach for.
  mssClamp = 0;
  mssHigh = 0;
  mssSearchAt = 0;
  mtuProbeSize = 0;
  mtuProbeEnd = 0;
  // Fast Open (RFC 7413): data came with the SYN and was taken; the SYN-ACK carries a cookie.
  fastOpened = false;
  fastOpenWanted = false;
  /** The listener whose limit of opens that are not proved yet it counts against. */
  fastOpenPending: Listener | null = null;
  /** A SYN or SYN-ACK is to be sent at the next flush. */
  synNow = false;

  // Round-trip time (RFC 6298).
  srttMs = 0;
  rttVarMs = 0;
  minRttMs = 0;
  /** The least since `minRttAt`, which takes its place when it is too old. */
  minRttNext = 0;
  minRttAt = 0;
  latestRttMs = 0;
  rtoMs = RTO_MS_INITIAL;
  backoff = 0;
  /** Times that the first segment in flight was sent again by the timer: R2 bounds them. */
  retries = 0;

  // Deadlines; Infinity when not armed.
  rtoAt = Infinity;
  persistAt = Infinity;
  reorderAt = Infinity;
  probeAt = Infinity;
  delayedAckAt = Infinity;
  keepAliveAt = Infinity;
  /** TIME-WAIT, FIN-WAIT-2 of an orphan, and the user timeout of a connection attempt. */
  waitAt = Infinity;
  probes = 0;
  keepAliveProbes = 0;
  /** When TIME-WAIT began; before it, when it was let go of. */
  waitSince = 0;
  lastReceivedAt = 0;
  /** When a SYN or data was sent last. */
  lastSentAt = 0;
  /** When the oldest unacknowledged data was first sent into silence: for the user timeout. */
  silentSince = 0;

  // Figures.
  bytesSent = 0;
  bytesAcked = 0;
  bytesReceived = 0;
  segmentsSent = 0;
  segmentsReceived = 0;
  bytesRetransmitted = 0;
  retransmissions = 0;
  timeouts = 0;
  fastRecoveries = 0;
  spuriousRecoveries = 0;
  outOfOrder = 0;
  duplicateAcksSeen = 0;
  sacksReceived = 0;
  dsacksReceived = 0;

  constructor(
    readonly tcp: Tcp,
    public path: Path,
    readonly localKey: number,
    readonly localPort: number,
    readonly remoteKey: number,
    readonly remotePort: number,
    public options: TcpOptions,
  ) {
    this.challengeTokens = tcp.limits.challengesMax;
    this.sendRing = new ByteRing(tcp.pool);
    this.receiveRing = new ByteRing(tcp.pool);
    this.noDelay = options.noDelay ?? false;
    this.keepAlive = options.keepAlive ?? false;
    this.keepAliveIdleMs = options.keepAliveIdleMs ?? 7_200_000;
    this.keepAliveIntervalMs = options.keepAliveIntervalMs ?? 75_000;
    this.keepAliveCount = options.keepAliveCount ?? 9;
    this.userTimeoutMs = options.userTimeoutMs ?? 0;
    this.sendLimit = Math.min(SEND_BUFFER_FIRST, this.sendBufferMax);
    this.receiveLimit = Math.min(RECEIVE_BUFFER_FIRST, this.receiveBufferMax);
  }

  /** Made when it is first needed: a connection that never sent anything has none. */
  get congestion(): CongestionControl {
    return this.#congestion ??= congestionControl(this.tcp, this.options.congestionControl);
  }

  set congestion(congestion: CongestionControl) {
    this.#congestion = congestion;
  }

  get sendBufferMax(): number {
    return this.options.sendBufferMax ?? this.tcp.limits.sendBufferMax;
  }

  get receiveBufferMax(): number {
    return this.options.receiveBufferMax ?? this.tcp.limits.receiveBufferMax;
  }

  get receiveQueued(): number {
    return this.receiveRing.count;
  }

  get sendQueued(): number {
    return this.sendRing.count;
  }

  get sendSpace(): number {
    return Math.max(0, this.sendLimit - this.sendRing.count);
  }

  /** Bytes that count as in the network: RFC 6675's pipe. */
  get inFlight(): number {
    const out = (this.sndNxt - this.sndUna) | 0;
    return Math.max(0, out - this.sackedBytes - this.lostBytes);
  }

  /** Bytes accepted from the user and never sent. */
  get unsent(): number {
    return this.finSent ? 0 : this.sendRing.count - ((this.sndNxt - this.sndUna) | 0);
  }

  /** Bytes to be read up to the end of the peer's urgent data (RFC 9293 3.8.5); 0 for none. */
  get urgentPending(): number {
    return urgentPending(this);
  }

  send(bytes: Uint8Array, offset: number, length: number): number {
    return sendBytes(this, bytes, offset, length);
  }

  /** As `send`; when all of it was taken, its end is marked as the end of urgent data. New protocols should not (RFC 6093). */
  sendUrgent(bytes: Uint8Array, offset: number, length: number): number {
    const n = sendBytes(this, bytes, offset, length);
    if (n > 0 && n === length) urgentSent(this);
    return n;
  }

  receive(into: Uint8Array, offset: number, length: number): number {
    return receiveBytes(this, into, offset, length);
  }

  shutdownWrite(): number {
    if (this.writeShut) return OK;
    if (!mayWrite(this)) return this.error !== 0 ? this.error : ENOTCONN;
    this.writeShut = true;
    moveAfterFinQueued(this);
    this.tcp.mark(this);
    return OK;
  }

  shutdownRead(): number {
    if (this.state === CLOSED) return ENOTCONN;
    this.readShut = true;
    this.tcp.prunable.remove(this);
    this.receiveRing.free(); // the ranges stay: what SACK reported must not be asked for again (RFC 2018 section 8)
    return OK;
  }

  close(lingerMs?: number): void {
    closeSocket(this, lingerMs);
  }

  abort(): void {
    this.orphan = true;
    if (this.state === CLOSED) this.receiveRing.free();
    this.tcp.abort(this, ECONNABORTED);
  }

  setNoDelay(on: boolean): void {
    this.noDelay = on;
    if (on) this.tcp.mark(this);
  }

  /** `EINVAL`, and nothing changed, when a number is out of the range that the options have. */
  setKeepAlive(on: boolean, idleMs?: number, intervalMs?: number, count?: number): number {
    const numbers = { keepAliveIdleMs: idleMs, keepAliveIntervalMs: intervalMs, keepAliveCount: count };
    if (wrongTcpOption(numbers) !== null) return EINVAL;
    this.keepAlive = on;
    if (idleMs !== undefined) this.keepAliveIdleMs = idleMs;
    if (intervalMs !== undefined) this.keepAliveIntervalMs = intervalMs;
    if (count !== undefined) this.keepAliveCount = count;
    this.keepAliveAt = Infinity;
    if (on && this.state >= ESTABLISHED && this.state !== TIME_WAIT) this.tcp.armKeepAlive(this);
    return OK;
  }

  setUserTimeout(ms: number): number {
    if (!(ms >= 0)) return EINVAL;
    this.userTimeoutMs = ms;
    return OK;
  }

  setOptions(options: TcpOptions): number {
    return setTcpOptions(this, options);
  }

  info(): TcpInfo {
    return tcpInfo(this);
  }

  /** Raises events for the owner. */
  raise(events: number): void {
    if (this.orphan) return;
    if (this.events === 0) this.tcp.ready.push(this);
    this.events |= events;
  }

  /** Tells a writer that found no room, once a quarter of the buffer is free again. */
  raiseWritable(): void {
    if (!this.sendBlocked || 4 * this.sendSpace < this.sendLimit) return;
    this.sendBlocked = false;
    this.raise(EVENT_WRITABLE);
  }
}
