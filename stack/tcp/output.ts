/**
 * Output of a connection: retransmissions, new data, FIN, and the acknowledgment that is owed, in that order.
 *
 * Payload is never copied: a frame is its headers and one or two pieces of the send ring. Where the device cuts frames
 * into segments, one frame carries as many as fit.
 *
 * @module
 */
import { EAGAIN, EMSGSIZE, OK } from "../codes.ts";
import { PROTO_TCP } from "../ip/types.ts";
import { sealChecksum } from "../ip/seal.ts";
import * as wire from "../wire/tcp.ts";
import { HAS_FIN, LOST, PROBE, RETRANSMITTED, SACKED } from "./sent.ts";
import { OPEN, type Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { CLOSE_WAIT, CLOSED, CLOSING, ESTABLISHED, FIN_WAIT_1, LAST_ACK, SYN_RECEIVED, SYN_SENT, TIME_WAIT } from "./types.ts";
import { windowField } from "./window.ts";
import { initialWindow } from "./congestion.ts";
import { controlIdle } from "./controls.ts";
import { ECT0 } from "./ecn.ts";
import { sendSyn } from "./handshake.ts";
import { probeWanted, sendMtuProbe } from "./path_probe.ts";
import { scheduleProbe } from "./tlp.ts";
import { noteRetransmission } from "./undo.ts";
import { currentRto } from "./rtt.ts";
import { urgentPointer } from "./urgent.ts";

/** Frames sent for one connection in one flush, so that one connection cannot keep the others from theirs. */
const FRAMES_PER_FLUSH = 256;

/** Sends what may be sent now. Returns `EAGAIN` when the device takes no more, else 0. */
export function output(tcp: Tcp, tcb: Tcb, now: number): number {
  const { state } = tcb;
  if (state === CLOSED) return OK;
  if (tcb.path.stale) tcp.renewPath(tcb);
  if (state === SYN_SENT || state === SYN_RECEIVED) {
    const code = tcb.synNow ? sendSyn(tcp, tcb, now) : OK;
    if (code !== OK) return code;
    if (!tcb.fastOpened) return state === SYN_RECEIVED && tcb.ackNow ? sendAck(tcp, tcb, now) : OK;
  }
  let code: number = OK;
  if (
    state === ESTABLISHED || state === SYN_RECEIVED || state === CLOSE_WAIT || state === FIN_WAIT_1 || state === CLOSING ||
    state === LAST_ACK
  ) {
    if (tcb.lostBytes > 0) code = retransmitLost(tcp, tcb, now);
    const before = tcb.sndNxt;
    if (code === OK) code = sendNew(tcp, tcb, now);
    armAfterOutput(tcb, now);
    if (tcb.sndNxt !== before) scheduleProbe(tcb, now);
  }
  if (code === OK && tcb.ackNow) code = sendAck(tcp, tcb, now);
  if (tcb.state !== TIME_WAIT) tcp.schedule(tcb);
  return code;
}

/** Sends lost records again, oldest first, as far as the window allows. */
function retransmitLost(tcp: Tcp, tcb: Tcb, now: number): number {
  const { sent } = tcb;
  if (sent === null) return OK;
  let budget = FRAMES_PER_FLUSH;
  for (let i = 0; i < sent.length && tcb.lostBytes > 0; i++) {
    if ((sent.flags(i) & LOST) === 0) continue;
    // The oldest may always go (RFC 6298 5.4); the others when congestion window and peer's window have room.
    const room = tcb.cwnd - tcb.inFlight;
    //= rfc9293#3.8.6
    // If this happens, the sender SHOULD NOT send new data (SHLD-15), but SHOULD retransmit normally the old unacknowledged data
    // between SND.UNA and SND.UNA+SND.WND (SHLD-16).
    if (((tcb.sndUna + tcb.sndWnd - sent.start(i)) | 0) <= 0) return OK;
    if (i > 0 && room < Math.min(tcb.sendMss, (sent.end(i) - sent.start(i)) | 0)) return OK;
    if (budget-- === 0) {
      tcp.mark(tcb);
      return OK;
    }
    const code = retransmit(tcp, tcb, i, Math.max(room, tcb.sendMss), now);
    if (code !== OK) return code;
  }
  return OK;
}

/** Sends at most `room` bytes of record `index` again. */
export function retransmit(tcp: Tcp, tcb: Tcb, index: number, room: number, now: number): number {
  const sent = tcb.sent!;
  const start = sent.start(index);
  const window = (tcb.sndUna + tcb.sndWnd - start) | 0;
  const usual = Math.min(
    tcb.sendingUrgent ? tcb.sendMss : frameLimit(tcb, tcb.sendMss),
    Math.max(tcb.sendMss, room - (room % tcb.sendMss)),
  );
  const most = window > 0 ? Math.min(usual, window) : usual;
  const length = (sent.end(index) - start) | 0;
  const fin = (sent.flags(index) & HAS_FIN) !== 0;
  if (length - (fin ? 1 : 0) > most) sent.split(index, (start + most) | 0);
  const flags = sent.flags(index);
  const end = sent.end(index);
  const withFin = (flags & HAS_FIN) !== 0;
  const data = ((end - start) | 0) - (withFin ? 1 : 0);
  const code = sendSegment(tcp, tcb, start, data, wire.ACK | wire.PSH | (withFin ? wire.FIN : 0), now);
  if (code === EAGAIN) return code;
  const bytes = (end - start) | 0;
  if ((flags & LOST) !== 0) tcb.lostBytes -= bytes;
  if ((flags & SACKED) !== 0) tcb.sackedBytes -= bytes;
  sent.setFlags(index, (flags & ~(LOST | SACKED | PROBE)) | RETRANSMITTED);
  sent.setTime(index, tcp.nowUs);
  noteRetransmission(tcb);
  if (tcb.recovery !== OPEN) tcb.prrOut += bytes;
  tcb.retransmissions++;
  tcb.bytesRetransmitted += data;
  tcp.statistics.segmentsRetransmitted += Math.max(1, Math.ceil(data / tcb.sendMss));
  return OK;
}

/** A window that was earned before a pause says nothing about the path as it is now. */
function restartAfterIdle(tcb: Tcb, now: number): void {
  //= rfc5681#4.1
  // Therefore, a TCP SHOULD set cwnd to no more than RW before beginning transmission if the TCP has not sent data in an interval
  // exceeding the retransmission timeout.
  if (tcb.sndNxt !== tcb.sndUna || now - tcb.lastSentAt <= currentRto(tcb)) return;
  tcb.cwnd = Math.min(tcb.cwnd, initialWindow(tcb.sendMss));
  controlIdle(tcb, now);
}

/** Sends data that was not sent before, and the FIN behind it. */
function sendNew(tcp: Tcp, tcb: Tcb, now: number): number {
  if (tcb.unsent > 0) restartAfterIdle(tcb, now);
  for (let budget = FRAMES_PER_FLUSH; tcb.unsent > 0 || (tcb.writeShut && !tcb.finSent); budget--) {
    if (budget === 0) {
      tcp.mark(tcb);
      break;
    }
    if (tcb.mssClamp > 0 && probeWanted(tcb, now)) {
      const code = sendMtuProbe(tcp, tcb, now);
      if (code !== OK) return code === EAGAIN ? code : OK;
      continue;
    }
    const n = sendable(tcb);
    if (n < 0) break;
    const fin = tcb.writeShut && n === tcb.unsent && ((tcb.sndUna + tcb.sndWnd - tcb.sndNxt) | 0) > n;
    if (n === 0 && !fin) break;
    const seq = tcb.sndNxt;
    const flags = wire.ACK | (n > 0 && (n === tcb.unsent || n < tcb.sendMss) ? wire.PSH : 0) | (fin ? wire.FIN : 0);
    const code = sendSegment(tcp, tcb, seq, n, flags, now);
    if (code === EAGAIN || code === EMSGSIZE) return code === EAGAIN ? code : OK;
    recordSent(tcp, tcb, n, fin);
  }
  return OK;
}

/** Notes what went out at SND.NXT. */
export function recordSent(tcp: Tcp, tcb: Tcb, data: number, fin: boolean): void {
  const sent = tcb.sent ??= tcp.spares.sent();
  const end = (tcb.sndNxt + data + (fin ? 1 : 0)) | 0;
  sent.push(tcb.sndNxt, end, tcp.nowUs, fin ? HAS_FIN : 0);
  if (data < tcb.sendMss) tcb.sndSml = end;
  if (tcb.sndNxt === tcb.sndUna) tcb.silentSince = tcp.now;
  tcb.sndNxt = end;
  if (fin) tcb.finSent = true;
  if (tcb.recovery !== OPEN) tcb.prrOut += data;
  tcb.bytesSent += data;
}

/**
 * How many new bytes the next frame may carry: 0 for none (but a lone FIN may go), -1 when even a FIN must wait.
 */
function sendable(tcb: Tcb): number {
  const { sendMss, unsent } = tcb;
  const window = (tcb.sndUna + tcb.sndWnd - tcb.sndNxt) | 0;
  const room = tcb.cwnd - tcb.inFlight;
  if (unsent === 0) return window > 0 ? 0 : -1; // a FIN has a number, which the window must have room for as well
  // A segment with CWR or an urgent pointer goes alone: cut by a device, the flag would stand in every piece.
  const n = Math.min(unsent, window, room, tcb.ecnCwr || tcb.sendingUrgent ? sendMss : frameLimit(tcb, sendMss));
  if (n <= 0) return -1;
  if (n >= sendMss) {
    const tail = n % sendMss;
    return tail === 0 || (n === unsent && mayBeSmall(tcb, n)) ? n : n - tail;
  }
  //= rfc9293#3.8.6.2.1
  // A TCP implementation MUST include a SWS avoidance algorithm in the sender (MUST-38). … (3) or if at least a fraction Fs of
  // the maximum window can be sent
  if (n === unsent && mayBeSmall(tcb, n)) return n;
  //= rfc9293#3.8.6.2.1 type=exception reason=as Linux (tcp_mss_split_point), one short segment at a time may fill the peer's window to its end: small windows lose up to a whole segment otherwise, and the receiver's own avoidance keeps the pieces from getting smaller
  // (1) if a maximum-sized segment can be sent
  if (n === window && (2 * n >= tcb.maxSndWnd || mayBeSmall(tcb, n))) return n;
  return -1;
}

//= rfc9293#3.7.4
// If there is unacknowledged data (i.e., SND.NXT > SND.UNA), then the sending TCP endpoint buffers all user data (regardless of
// the PSH bit) until the outstanding data has been acknowledged or until the TCP endpoint can send a full-sized segment
// (Eff.snd.MSS bytes).
//= rfc9293#3.7.4 type=exception reason=Minshall's change, as Linux: only an unacknowledged small segment holds the next one back
// then the sending TCP endpoint buffers all user data (regardless of the PSH bit) until the outstanding data has been
// acknowledged
function mayBeSmall(tcb: Tcb, _n: number): boolean {
  return tcb.noDelay || tcb.writeShut || tcb.sndUna === tcb.sndNxt || ((tcb.sndSml - tcb.sndUna) | 0) <= 0 ||
    ((tcb.sndSml - tcb.sndNxt) | 0) > 0;
}

/** Payload bytes that one frame may carry. */
function frameLimit(tcb: Tcb, mss: number): number {
  const { txSegmentation } = tcb.path;
  if (txSegmentation === 0) return mss;
  const most = txSegmentation - tcb.path.ipHeaderLength - wire.MAX_HEADER_LENGTH - 18;
  return Math.max(mss, most - (most % mss));
}

export function sendAck(tcp: Tcp, tcb: Tcb, now: number): number {
  // A segment without text carries SND.NXT, so that it is acceptable to a peer whose window is closed.
  return sendSegment(tcp, tcb, tcb.sndNxt, 0, wire.ACK, now);
}

/** Builds one segment with `data` bytes of the ring from `seq` on, and hands it down. */
export function sendSegment(tcp: Tcp, tcb: Tcb, seq: number, data: number, flags: number, now: number): number {
  const { tx } = tcp.ip;
  tx.reset(wire.HEADER_LENGTH);
  const { view } = tx.memory;
  const at = tx.offset;
  let headerLength = wire.HEADER_LENGTH;
  if (tcb.timestamps) {
    wire.emitTimestamps(view, at + headerLength, tcp.timestamp(tcb), tcb.tsRecent);
    headerLength += wire.TIMESTAMPS_LENGTH;
  }
  //= rfc2018#4 type=exception reason=beside data they would make full segments too large for the path: an acknowledgment of its own carries them, as often as one is owed
  // If sent at all, SACK options SHOULD be included in all ACKs which do not ACK the highest sequence number in the data
  // receiver's queue.
  if (tcb.sack && data === 0) headerLength += emitSack(tcb, view, at + headerLength, sackBlocks(tcb));
  if (data > 0) {
    const ring = tcb.sendRing;
    const memory = ring.memory!;
    const from = (ring.head + ((seq - tcb.sndUna) | 0)) & (memory.bytes.length - 1);
    tx.payload = memory;
    tx.payloadOffset1 = from;
    tx.payloadLength1 = Math.min(data, memory.bytes.length - from);
    tx.payloadLength2 = data - tx.payloadLength1;
    if (data > tcb.sendMss && data !== tcb.mtuProbeSize) tx.segmentSize = tcb.sendMss;
  }
  let tos = tcb.options.tos ?? 0;
  if (tcb.ecn) {
    if (tcb.ecnEcho) flags |= wire.ECE;
    //= rfc3168#6.1.5
    // the TCP data sender MUST NOT set either an ECT codepoint or the CWR bit on retransmitted packets; nor on pure
    // acknowledgments (6.1.4) and window probes (6.1.6)
    if (data > 0 && seq === tcb.sndNxt && tcb.sndWnd > 0) {
      tos |= ECT0;
      if (tcb.ecnCwr) flags |= wire.CWR;
      tcb.ecnCwr = false;
    }
  }
  tcp.sendOptions.ttl = tcb.options.ttl ?? 64;
  tcp.sendOptions.tos = tos;
  tx.length = headerLength;
  const window = windowField(tcb);
  const urgent = tcb.sendingUrgent ? urgentPointer(tcb, seq) : 0;
  if (urgent !== 0) flags |= wire.URG;
  wire.emit(view, at, (tcb.localPort << 16) | tcb.remotePort, seq, tcb.rcvNxt, headerLength, flags, window);
  if (urgent !== 0) view.setUint16(at + wire.URGENT, urgent);
  sealChecksum(tx, tcb.path, PROTO_TCP, wire.CHECKSUM);
  const code = tcp.ip.send(tcb.path, PROTO_TCP, tx, tcp.sendOptions);
  if (code === EAGAIN) return code;
  // Any other failure is a frame that got lost: retransmission deals with it, and the code is kept as a soft error.
  if (code === EMSGSIZE) tcp.renewPath(tcb);
  const segments = data > tcb.sendMss ? Math.ceil(data / tcb.sendMss) : 1;
  tcb.segmentsSent += segments;
  tcp.statistics.segmentsSent += segments;
  if ((flags & wire.ACK) !== 0) acknowledged(tcb, data > 0);
  if (data > 0) tcb.lastSentAt = now;
  return code === EMSGSIZE ? code : OK;
}

/** Blocks that an acknowledgment has room for: an MTU under 80 takes fewer than the header does. */
function sackBlocks(tcb: Tcb): number {
  const { mtu, ipHeaderLength } = tcb.path;
  const used = tcb.timestamps ? wire.TIMESTAMPS_LENGTH : 0;
  const room = Math.min(40, mtu - ipHeaderLength - wire.HEADER_LENGTH) - used;
  return Math.max(0, (room - 4) >> 3);
}

/** Everything received so far is acknowledged by what just went out; beside data the SACK blocks are still owed. */
function acknowledged(tcb: Tcb, withData: boolean): void {
  const blocks = tcb.dsackLeft !== tcb.dsackRight || (tcb.ranges !== null && tcb.ranges.length > 0);
  if (withData && tcb.sack && blocks) return;
  tcb.ackNow = false;
  tcb.unacked = 0;
  tcb.delayedAckAt = Infinity;
  tcb.lastAckSent = tcb.rcvNxt;
  tcb.dsackLeft = tcb.dsackRight;
}

function emitSack(tcb: Tcb, view: DataView, offset: number, most: number): number {
  const { ranges } = tcb;
  let blocks = 0;
  if (most === 0) return 0;
  //= rfc2883#4
  // D-SACK: the first block of the SACK option field specifies the duplicate contiguous sequence
  if (tcb.dsackLeft !== tcb.dsackRight) {
    view.setInt32(offset + 4, tcb.dsackLeft);
    view.setInt32(offset + 8, tcb.dsackRight);
    blocks = 1;
  }
  if (ranges !== null && ranges.length > 0) blocks += ranges.emit(view, offset + 4 + 8 * blocks, most - blocks);
  return blocks === 0 ? 0 : wire.emitSackHead(view, offset, blocks);
}

/** One byte beyond a closed window (RFC 9293 3.8.6.1), or the first byte in flight again. */
export function sendProbe(tcp: Tcp, tcb: Tcb, now: number): void {
  tcp.statistics.zeroWindowProbes++;
  const { sent } = tcb;
  if (sent !== null && sent.length > 0) {
    const start = sent.start(0);
    const fin = ((sent.end(0) - start) | 0) === 1 && (sent.flags(0) & HAS_FIN) !== 0;
    if (sendSegment(tcp, tcb, start, fin ? 0 : 1, fin ? wire.ACK | wire.FIN : wire.ACK, now) === EAGAIN) return;
    // Sent again, though only its first byte: no round trip can be told from it any more (Karn's algorithm).
    sent.setFlags(0, sent.flags(0) | RETRANSMITTED);
    sent.setTime(0, tcp.nowUs);
    return;
  }
  const data = tcb.unsent > 0 ? 1 : 0;
  const fin = data === 0; // only the FIN waits for the window: it is the number to be probed with
  if (fin && (!tcb.writeShut || tcb.finSent)) return;
  if (sendSegment(tcp, tcb, tcb.sndNxt, data, wire.ACK | (fin ? wire.FIN : wire.PSH), now) === EAGAIN) return;
  recordSent(tcp, tcb, data, fin);
  tcb.sent!.setFlags(tcb.sent!.length - 1, fin ? PROBE | HAS_FIN : PROBE);
}

/** Arms the retransmission timer when something is out, or the persist timer when a closed window holds data back. */
function armAfterOutput(tcb: Tcb, now: number): void {
  // After Fast Open the SYN counts as acknowledged, but its timer runs until the peer has proved that it is there.
  if (tcb.state === SYN_RECEIVED) return;
  const out = tcb.sndNxt !== tcb.sndUna;
  if (out && tcb.sndWnd > 0) {
    tcb.persistAt = Infinity;
    if (tcb.rtoAt === Infinity) tcb.rtoAt = now + currentRto(tcb);
  } else if (out || tcb.unsent > 0 || (tcb.writeShut && !tcb.finSent)) {
    // Window closed, or too small for the silly-window rule: probe with the retransmission timeout and its back-off.
    if (tcb.sndWnd === 0) tcb.rtoAt = Infinity;
    if (tcb.persistAt === Infinity && tcb.rtoAt === Infinity) {
      tcb.persistAt = now + currentRto(tcb);
      if (!out) tcb.silentSince = now; // the user timeout counts from the first data that had to wait
    }
  } else {
    tcb.rtoAt = tcb.persistAt = Infinity;
  }
}
