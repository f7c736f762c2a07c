/**
 * Congestion control: a small interface, and Reno (RFC 5681) behind it.
 *
 * Loss detection and recovery are the connection's (`recovery.ts`); a module here only says how large the congestion
 * window may be. All sizes are bytes, times milliseconds.
 *
 * @module
 */

/** Largest congestion window, and largest end of slow start, in bytes. */
export const CWND_MAX = 0x3fffffff;
export const SSTHRESH_MAX = 0x7fffffff;

/** What a congestion control sees and sets of its connection. */
export interface CongestionState {
  /**
   * Congestion window in bytes: a whole number from `sendMss`, below which nothing could be sent, to 2^30 - 1. What a module leaves
   * outside of that is set to the nearer bound, and to `sendMss` what is no number.
   */
  cwnd: number;
  /** Slow start ends here, in bytes; the same holds, up to 2^31 - 1. */
  ssthresh: number;
  /** Payload bytes of a full segment. */
  readonly sendMss: number;
  /** Smoothed round-trip time, 0 while unknown. */
  readonly srttMs: number;
  /** Smallest round-trip time seen. */
  readonly minRttMs: number;
  /** The sample that the present acknowledgment gave, 0 for none. */
  readonly latestRttMs: number;
  /** Sequence variables, for round counting. */
  readonly sndUna: number;
  /** Next sequence number to be sent. */
  readonly sndNxt: number;
}

/**
 * One congestion control of one connection. It may change the state that it is given during the call, and not later. When one of
 * its functions throws, the connection goes on with Reno.
 */
export interface CongestionControl {
  /** As `TcpInfo` shows it. */
  readonly name: string;
  /** `acked` new bytes were acknowledged outside of recovery, and the window was the limit. */
  onAck(state: CongestionState, acked: number, now: number): void;
  /** Loss was detected, or ECN said so: returns the new ssthresh. `inFlight` is FlightSize at that moment. */
  onLoss(state: CongestionState, inFlight: number, now: number): number;
  /** The retransmission timer ran out. Same as `onLoss`; cwnd is then set to one segment by the caller. */
  onTimeout(state: CongestionState, inFlight: number, now: number): number;
  /** The last reduction turned out to be a mistake; cwnd and ssthresh are already back. */
  onUndo?(state: CongestionState, now: number): void;
  /** The connection was idle for longer than the RTO. */
  onIdle?(state: CongestionState, now: number): void;
}

/** RFC 5681 with appropriate byte counting (RFC 3465, L = 2 segments). */
export class Reno implements CongestionControl {
  readonly name = "reno";
  #acked = 0;

  onAck(state: CongestionState, acked: number, _now: number): void {
    if (state.cwnd < state.ssthresh) {
      //= rfc5681#3.1
      // During slow start, a TCP increments cwnd by at most SMSS bytes for each ACK received that cumulatively
      // acknowledges new data.
      //= rfc3465#2.3 type=exception reason=one ACK stands for a whole super-frame where the peer's device joins segments; Linux counts all of the bytes (RFC 3465's L is unlimited there), and so do we.
      // The limit, L, chosen for the cwnd increase during slow start controls the aggressiveness of the algorithm: L <= 2*SMSS.
      state.cwnd = Math.min(state.cwnd + acked, Math.max(state.ssthresh, state.cwnd + state.sendMss));
      return;
    }
    this.#acked += acked;
    if (this.#acked >= state.cwnd) {
      // The rest counts for the next window, but makes no second segment out of one large acknowledgment.
      this.#acked %= state.cwnd;
      state.cwnd += state.sendMss;
    }
  }

  //= rfc5681#3.1
  // When a TCP sender detects segment loss using the retransmission timer ... the value of ssthresh MUST be set to no
  // more than the value given in equation (4): ssthresh = max (FlightSize / 2, 2*SMSS)
  onLoss(state: CongestionState, inFlight: number, _now: number): number {
    this.#acked = 0;
    return Math.max(inFlight >> 1, 2 * state.sendMss);
  }

  onTimeout(state: CongestionState, inFlight: number, now: number): number {
    return this.onLoss(state, inFlight, now);
  }
}

//= rfc5681#3.1 type=exception reason=RFC 6928 replaces the bound, and Linux follows it
// IW, the initial value of cwnd, MUST be set using the following guidelines as an upper bound.
//= rfc5681#3.1 type=exception reason=RFC 6928 replaces the bound: ten segments, at most 14,600 bytes or two segments
// If SMSS > 2190 bytes: IW = 2 * SMSS bytes and MUST NOT be more than 2 segments If (SMSS > 1095 bytes) and (SMSS <= 2190 bytes):
// IW = 3 * SMSS bytes and MUST NOT be more than 3 segments if SMSS <= 1095 bytes: IW = 4 * SMSS bytes and MUST NOT be more than 4
// segments
//= rfc6928#2
// the upper bound for the initial window will change to: min (10*MSS, max (2*MSS, 14600))
export function initialWindow(mss: number): number {
  return Math.min(10 * mss, Math.max(2 * mss, 14600));
}
