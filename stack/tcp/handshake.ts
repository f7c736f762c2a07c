/**
 * The opening of a connection: LISTEN, SYN-SENT and SYN-RECEIVED (RFC 9293 3.10.7.2 to 3.10.7.4), and the options of a SYN.
 *
 * @module
 */
import { EAGAIN, ECONNREFUSED, ECONNRESET, OK } from "../codes.ts";
import { PROTO_TCP } from "../ip/types.ts";
import { sealChecksum } from "../ip/seal.ts";
import * as wire from "../wire/tcp.ts";
import type { Segment } from "../wire/tcp.ts";
import { ecnSynFlags, negotiateEcn } from "./ecn.ts";
import { emitFastOpen, fastOpenAnswered, fastOpenProved, fastOpenSyn, synData } from "./fast_open.ts";
import { initialWindow } from "./congestion.ts";
import type { Listener } from "./listener.ts";
import { textAndFin } from "./input.ts";
import { resetFor } from "./reset.ts";
import { measureRtt, RTO_MS_MAX } from "./rtt.ts";
import { moveAfterFinQueued } from "./states.ts";
import type { Tcb } from "./tcb.ts";
import { advertisedTimeout, takeUserTimeout } from "./user_timeout.ts";
import type { Tcp } from "./tcp.ts";
import { ESTABLISHED, EVENT_CONNECTED, SYN_RECEIVED } from "./types.ts";

/** RFC 7323 2.3: a larger shift count is taken as 14. */
const WINDOW_SHIFT_MAX = 14;
/** RFC 9293 3.7.1: the MSS of a peer that does not say (IPv4). */
const MSS_DEFAULT = 536;
/** Smallest MSS taken from a peer: less would make every segment mostly header (Linux, tcp_min_snd_mss 48). */
const MSS_MIN = 48;

/** The shift that lets the window field cover the whole receive buffer. */
export function windowShift(bufferMax: number): number {
  let shift = 0;
  while (shift < WINDOW_SHIFT_MAX && bufferMax > 65535 * 2 ** shift) shift++;
  return shift;
}

/** The MSS that we offer: what fits into the interface's MTU without options (RFC 6691). */
export function offeredMss(tcb: Tcb): number {
  const fits = Math.min(65535, tcb.path.interfaceMtu - tcb.path.ipHeaderLength - wire.HEADER_LENGTH);
  const asked = tcb.options.maxSegmentSize ?? 0;
  return asked > 0 ? Math.min(asked, fits) : fits;
}

/**
 * Payload bytes of a full segment on the present path.
 */
export function updateSendMss(tcb: Tcb): void {
  //= rfc9293#3.7.1
  // Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize - IPoptionsize
  const fits = tcb.path.mtu - tcb.path.ipHeaderLength - wire.HEADER_LENGTH;
  const options = tcb.timestamps ? wire.TIMESTAMPS_LENGTH : 0;
  const asked = tcb.options.maxSegmentSize ?? 0;
  let mss = Math.min(tcb.peerMss, fits, asked > 0 ? asked : 65535) - options;
  if (tcb.mssClamp > 0) mss = Math.min(mss, tcb.mssClamp);
  tcb.sendMss = Math.max(8, mss);
  // A window of less than one segment would never let one go.
  if (tcb.cwnd > 0 && tcb.cwnd < tcb.sendMss) tcb.cwnd = tcb.sendMss;
}

/** Takes the options of the peer's SYN: an option is in use only when both offer it. */
export function takeSynOptions(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): void {
  const { options } = tcb;
  //= rfc9293#3.7.1
  // If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536
  tcb.peerMss = seg.mss < 0 ? MSS_DEFAULT : Math.max(seg.mss, MSS_MIN);
  const scale = (options.windowScale ?? true) && seg.windowScale >= 0;
  tcb.sndWndShift = scale ? Math.min(seg.windowScale, WINDOW_SHIFT_MAX) : 0;
  tcb.rcvWndShift = scale ? windowShift(tcb.receiveBufferMax) : 0;
  tcb.timestamps = (options.timestamps ?? true) && seg.hasTimestamps;
  if (tcb.timestamps) {
    tcb.tsRecent = seg.tsVal;
    tcb.tsRecentAt = now;
  }
  tcb.sack = (options.sack ?? true) && seg.sackPermitted;
  negotiateEcn(tcb, seg, options.ecn === true && tcb.backoff === 0);
  // What a full segment of the peer carries: the MSS does not know of options, the text does (RFC 6691).
  tcb.receiveMss = Math.max(MSS_MIN, offeredMss(tcb)) - (tcb.timestamps ? wire.TIMESTAMPS_LENGTH : 0);
  takeUserTimeout(tcb, seg);
  updateSendMss(tcb);
  tcb.cwnd = initialWindow(tcb.sendMss);
  //= rfc7323#2.2
  // The window field in a segment where the SYN bit is set (i.e., a <SYN> or <SYN,ACK>) MUST NOT be scaled.
  tcb.sndWnd = tcb.maxSndWnd = seg.window;
  tcb.sndWl1 = seg.seq;
  tcb.sndWl2 = seg.ack;
  tcb.irs = seg.seq;
  tcb.rcvNxt = (seg.seq + 1) | 0;
  tcb.rcvUp = tcb.rcvNxt;
  tcb.lastAckSent = tcb.rcvNxt;
  tcb.rcvEdge = (tcb.rcvNxt + Math.min(65535, tcb.receiveLimit)) | 0;
  tcb.lastReceivedAt = now;
  tcb.drsAt = now;
  void tcp;
}

/** Sends the SYN of SYN-SENT, or the SYN-ACK of SYN-RECEIVED, for the first or the n-th time. */
export function sendSyn(tcp: Tcp, tcb: Tcb, now: number): number {
  const received = tcb.state === SYN_RECEIVED;
  const { options } = tcb;
  const { tx } = tcp.ip;
  tx.reset(wire.HEADER_LENGTH);
  const { view } = tx.memory;
  const at = tx.offset;
  const scale = received ? (tcb.rcvWndShift > 0 || tcb.sndWndShift > 0 ? tcb.rcvWndShift : -1) : offeredShift(tcb);
  const timestamps = received ? tcb.timestamps : options.timestamps ?? true;
  let length = wire.HEADER_LENGTH + wire.emitSynOptions(
    view,
    at + wire.HEADER_LENGTH,
    offeredMss(tcb),
    scale,
    received ? tcb.sack : options.sack ?? true,
    timestamps,
    tcp.timestamp(tcb),
    tcb.tsRecent,
  );
  if (options.userTimeoutOption === true && length + 4 <= Math.min(60, tcb.path.mtu - tcb.path.ipHeaderLength)) {
    length += wire.emitUserTimeout(view, at + length, advertisedTimeout(tcb));
  }
  length += emitFastOpen(tcp, tcb, view, at + length, length - wire.HEADER_LENGTH);
  tx.length = length;
  const data = synData(tcp, tcb, length - wire.HEADER_LENGTH);
  if (data > 0) {
    tx.payload = tcb.sendRing.memory!; // the ring was filled from its beginning: nothing wraps around yet
    tx.payloadOffset1 = tcb.sendRing.head;
    tx.payloadLength1 = data;
  }
  const flags = (received ? wire.SYN | wire.ACK : wire.SYN) | ecnSynFlags(tcb, received);
  const window = Math.min(65535, tcb.receiveLimit);
  wire.emit(view, at, (tcb.localPort << 16) | tcb.remotePort, tcb.iss, received ? tcb.rcvNxt : 0, length, flags, window);
  sealChecksum(tx, tcb.path, PROTO_TCP, wire.CHECKSUM);
  tcp.sendOptions.ttl = options.ttl ?? 64;
  tcp.sendOptions.tos = options.tos ?? 0;
  const code = tcp.ip.send(tcb.path, PROTO_TCP, tx, tcp.sendOptions);
  if (code === EAGAIN) {
    tcb.synNow = true;
    return code;
  }
  tcb.synNow = tcb.ackNow = false;
  // What went out once may be acknowledged, also when it is not sent again.
  if (!received && data > 0) tcb.sndNxt = (tcb.iss + 1 + data) | 0;
  tcb.segmentsSent++;
  tcp.statistics.segmentsSent++;
  tcb.lastSentAt = now;
  if (tcb.rtoAt === Infinity) {
    tcb.rtoAt = now + Math.min(RTO_MS_MAX, tcb.rtoMs * 2 ** tcb.backoff);
    tcp.schedule(tcb);
  }
  return OK;
}

function offeredShift(tcb: Tcb): number {
  return tcb.options.windowScale ?? true ? windowShift(tcb.receiveBufferMax) : -1;
}

/** A SYN for a listener: RFC 9293 3.10.7.2, third step. `tcb` was made by the layer for this four-tuple. */
export function listenSyn(tcp: Tcp, tcb: Tcb, listener: Listener, seg: Segment, now: number): void {
  tcb.listener = listener;
  //= rfc9293#3.10.7.2 type=exception reason=as Linux, text in a SYN is kept only with Fast Open's cookie: without, a forged SYN would take memory, and an honest peer sends it again after the handshake
  // Set RCV.NXT to SEG.SEQ+1, IRS is set to SEG.SEQ, and any other control or text should be queued for processing later.
  tcb.state = SYN_RECEIVED;
  takeSynOptions(tcp, tcb, seg, now);
  tcb.sndUna = tcb.iss;
  tcb.sndNxt = (tcb.iss + 1) | 0;
  tcb.silentSince = now;
  tcb.synNow = true;
  tcp.mark(tcb);
  fastOpenSyn(tcp, tcb, listener, seg, now);
}

/** RFC 9293 3.10.7.3. */
export function synSent(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): void {
  const { flags } = seg;
  const hasAck = (flags & wire.ACK) !== 0;
  if (hasAck && (((seg.ack - tcb.iss) | 0) <= 0 || ((seg.ack - tcb.sndNxt) | 0) > 0)) {
    // First, check the ACK bit: If SEG.ACK =< ISS or SEG.ACK > SND.NXT, send a reset (unless the RST bit is set)
    if ((flags & wire.RST) === 0) resetFor(tcp, tcb.path, tcb, seg);
    return;
  }
  if ((flags & wire.RST) !== 0) {
    //= rfc5961#3.2
    // In the SYN-SENT state (a RST received in response to an initial SYN), the RST is acceptable if the ACK field acknowledges
    // the SYN. In all other cases the receiver MUST silently discard the segment.
    if (hasAck) tcp.fail(tcb, ECONNREFUSED);
    else tcp.statistics.resetsIgnored++;
    return;
  }
  if ((flags & wire.SYN) === 0) {
    tcp.statistics.noSyn++;
    return;
  }
  takeSynOptions(tcp, tcb, seg, now);
  if (hasAck) {
    fastOpenAnswered(tcp, tcb, seg);
    tcb.sndUna = tcb.sndNxt = seg.ack;
    if (tcb.backoff === 0) measureRtt(tcb, now - tcb.lastSentAt);
    establish(tcp, tcb, now);
    tcb.ackNow = true;
    tcp.mark(tcb);
    if (seg.textLength > 0 || (flags & wire.FIN) !== 0) {
      // "If there are other controls or text in the segment, then continue processing at the sixth step"
      seg.seq = (seg.seq + 1) | 0;
      seg.flags &= ~wire.SYN;
      textAndFin(tcp, tcb, seg, now);
    }
    return;
  }
  //= rfc9293#3.5
  // A TCP implementation MUST support simultaneous open attempts (MUST-10).
  tcb.state = SYN_RECEIVED;
  tcb.rtoAt = Infinity;
  tcb.sndNxt = (tcb.iss + 1) | 0;
  tcb.synNow = true;
  tcp.mark(tcb);
}

/** The handshake is complete. */
export function establish(tcp: Tcp, tcb: Tcb, now: number): void {
  tcb.state = ESTABLISHED;
  if (tcb.fastOpenPending !== null) fastOpenProved(tcb);
  tcb.rtoAt = Infinity;
  tcb.waitAt = Infinity;
  tcb.sndSml = tcb.sndUna;
  tcb.rackFack =
    tcb.dsackRound =
    tcb.recoverPoint =
    tcb.ecnPoint =
      tcb.sndUna;
  tcb.recoverPoint = (tcb.sndUna - 1) | 0;
  //= rfc6298#5.7
  // If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less than 3 seconds,
  // the RTO MUST be re-initialized to 3 seconds when data transmission begins
  if (tcb.backoff > 0 && tcb.srttMs === 0) tcb.rtoMs = 3000;
  //= rfc6928#2
  // If either the SYN or SYN/ACK is lost, the initial window used by a sender after a correctly transmitted SYN MUST be one
  // segment consisting of at most MSS bytes
  if (tcb.backoff > 0) tcb.cwnd = tcb.sendMss;
  tcb.backoff = 0;
  tcb.lastReceivedAt = now;
  tcb.silentSince = now;
  if (tcb.writeShut) moveAfterFinQueued(tcb);
  if (tcb.keepAlive) tcp.armKeepAlive(tcb);
  if (tcb.listener !== null && !tcb.fastOpened) tcb.listener.established(tcb);
  else if (!tcb.fastOpened) tcb.raise(EVENT_CONNECTED);
}

/** Both ends opened at once, and this is the peer's SYN with the acknowledgment of ours (RFC 9293 figure 8, line 6). */
export function simultaneousSynAck(tcb: Tcb, seg: Segment): boolean {
  const wanted = (seg.flags & (wire.SYN | wire.ACK | wire.RST)) === (wire.SYN | wire.ACK);
  return wanted && tcb.listener === null && seg.seq === tcb.irs && seg.ack === tcb.sndNxt;
}

/** The SYN itself was taken before: what is left is an acknowledgment, whose window is not scaled (RFC 7323 2.2). */
export function crossedSyn(tcb: Tcb, seg: Segment): void {
  seg.flags &= ~wire.SYN;
  seg.seq = (seg.seq + 1) | 0;
  seg.window >>= tcb.sndWndShift;
}

/** The fifth step in SYN-RECEIVED: RFC 9293 3.10.7.4. False when the segment is not to be processed further. */
export function synReceivedAck(tcp: Tcp, tcb: Tcb, seg: Segment, now: number): boolean {
  const low = tcb.fastOpened ? -1 : 0; // there the SYN counts as acknowledged already
  if (((seg.ack - tcb.sndUna) | 0) <= low || ((seg.ack - tcb.sndNxt) | 0) > 0) {
    // If the segment acknowledgment is not acceptable, form a reset segment <SEQ=SEG.ACK><CTL=RST> and send it.
    resetFor(tcp, tcb.path, tcb, seg);
    return false;
  }
  const { listener } = tcb;
  if (listener !== null && !tcb.fastOpened && !listener.hasRoom) {
    // Nobody accepts: the peer's data will come again, and by then there may be room (Linux does the same).
    tcp.statistics.listenOverflow++;
    return false;
  }
  if (tcb.backoff === 0) measureRtt(tcb, now - tcb.lastSentAt);
  if (!tcb.fastOpened) tcb.sndUna = seg.ack;
  tcb.sndWnd = tcb.maxSndWnd = seg.window << tcb.sndWndShift;
  tcb.sndWl1 = seg.seq;
  tcb.sndWl2 = seg.ack;
  establish(tcp, tcb, now);
  return true;
}

/** A valid reset in SYN-RECEIVED: back to LISTEN without a word, or a refusal of our own open. */
export function synReceivedReset(tcp: Tcp, tcb: Tcb): void {
  tcp.fail(tcb, tcb.listener !== null || tcb.fastOpened ? ECONNRESET : ECONNREFUSED);
}
