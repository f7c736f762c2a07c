/**
 * The receive window: how much is advertised, and how it grows with what the reader takes.
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";

/** Moves the right edge of the window as far as buffer and silly-window rule allow, and returns the window in bytes. */
export function receiveWindow(tcb: Tcb): number {
  const limit = tcb.tcp.share.limit(tcb);
  const free = Math.max(0, limit - tcb.receiveRing.count);
  const edge = (tcb.rcvNxt + free) | 0;
  //= rfc9293#3.8.6.2.2
  // A TCP implementation MUST include a SWS avoidance algorithm in the receiver (MUST-39). … keep RCV.NXT+RCV.WND fixed until the
  // reduction satisfies: RCV.BUFF - RCV.USER - RCV.WND >= min( Fr * RCV.BUFF, Eff.snd.MSS )
  if (((edge - tcb.rcvEdge) | 0) >= Math.min(limit >> 1, tcb.receiveMss)) {
    // Rounded down to what the scaled field can say, so that the peer is never told more than there is.
    const window = Math.min((free >> tcb.rcvWndShift) << tcb.rcvWndShift, 65535 << tcb.rcvWndShift);
    const rounded = (tcb.rcvNxt + window) | 0;
    if (((rounded - tcb.rcvEdge) | 0) > 0) tcb.rcvEdge = rounded;
  }
  return Math.max(0, (tcb.rcvEdge - tcb.rcvNxt) | 0);
}

/** The window field of an outgoing segment that is not a SYN. */
export function windowField(tcb: Tcb): number {
  //= rfc7323#2.4
  // 1) The receiver MUST honor, as in window, any segment that would have been in window for any <ACK> sent by the receiver.
  return Math.min(65535, receiveWindow(tcb) >> tcb.rcvWndShift);
}

/**
 * The reader took `n` bytes: the window may open, and the buffer grows to twice what is taken in a round trip (dynamic
 * right-sizing, as Linux does it), so that the window is never what limits a fast reader.
 */
export function measureReader(tcb: Tcb, n: number, now: number): void {
  if (tcb.finReceived) return; // nothing more can come: a window would be news to nobody
  tcb.drsTaken += n;
  const rtt = Math.max(1, tcb.drsRttMs > 0 ? tcb.drsRttMs : tcb.srttMs);
  if (now - tcb.drsAt >= rtt) {
    if (tcb.drsTaken > tcb.drsBefore) {
      tcb.receiveLimit = Math.min(tcb.receiveBufferMax, Math.max(tcb.receiveLimit, 2 * tcb.drsTaken + 16 * tcb.receiveMss));
      tcb.drsBefore = tcb.drsTaken;
    }
    tcb.drsTaken = 0;
    tcb.drsAt = now;
  }
  // A window update is worth a segment when the window at least doubles by it (Linux, tcp_cleanup_rbuf).
  const offered = Math.max(0, (tcb.rcvEdge - tcb.rcvNxt) | 0);
  // What the field can't say is no window: without scaling every read would seem to double it.
  const free = Math.min(tcb.tcp.share.limit(tcb) - tcb.receiveRing.count, 65535 << tcb.rcvWndShift);
  if (free >= 2 * offered && free - offered >= Math.min(tcb.receiveLimit >> 1, tcb.receiveMss)) tcb.tcp.acknowledgeNow(tcb);
}
