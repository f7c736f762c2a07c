/**
 * HyStart++ (RFC 9406): slow start that stops when the round-trip time grows, before the queue overflows.
 *
 * @module
 */
import type { CongestionState } from "./congestion.ts";

// RFC 9406 4.3: the constants, by their names there.
const MIN_RTT_THRESH = 4;
const MAX_RTT_THRESH = 16;
const MIN_RTT_DIVISOR = 8;
const N_RTT_SAMPLE = 8;
const CSS_GROWTH_DIVISOR = 4;
const CSS_ROUNDS = 5;

export class HyStart {
  #started = false;
  #windowEnd = 0;
  #lastRoundMinRtt = Infinity;
  #currentRoundMinRtt = Infinity;
  #rttSampleCount = 0;
  /** In conservative slow start, and with which baseline. */
  #conservative = false;
  #cssBaselineMinRtt = Infinity;
  #cssRounds = 0;

  /** The window left slow start and comes back to it. */
  restart(state: CongestionState): void {
    this.#started = true;
    this.#windowEnd = state.sndNxt;
    this.#lastRoundMinRtt = this.#currentRoundMinRtt = this.#cssBaselineMinRtt = Infinity;
    this.#rttSampleCount = this.#cssRounds = 0;
    this.#conservative = false;
  }

  //= rfc9406#4.2
  // For each arriving ACK in slow start ... cwnd = cwnd + min(N, L * SMSS); in CSS cwnd = cwnd + min(N, L * SMSS) /
  // CSS_GROWTH_DIVISOR
  //= rfc9406#4.2 type=exception reason=L is unlimited, as on Linux: one ACK stands for a whole super-frame where devices join segments
  // L SHOULD be limited: cwnd = cwnd + min(N, L * SMSS)
  onAck(state: CongestionState, acked: number): void {
    if (!this.#started) this.restart(state);
    if (state.latestRttMs > 0) {
      this.#currentRoundMinRtt = Math.min(this.#currentRoundMinRtt, state.latestRttMs);
      this.#rttSampleCount++;
    }
    const growth = this.#conservative ? Math.ceil(acked / CSS_GROWTH_DIVISOR) : acked;
    state.cwnd = Math.min(state.cwnd + growth, Math.max(state.ssthresh, state.cwnd + state.sendMss));
    this.#judge(state);
    if (((state.sndUna - this.#windowEnd) | 0) >= 0) this.#nextRound(state);
  }

  #judge(state: CongestionState): void {
    const current = this.#currentRoundMinRtt;
    if (this.#rttSampleCount < N_RTT_SAMPLE || current === Infinity) return;
    if (this.#conservative) {
      if (current < this.#cssBaselineMinRtt) {
        // The growth was spurious: back to slow start.
        this.#cssBaselineMinRtt = Infinity;
        this.#conservative = false;
      }
      return;
    }
    if (this.#lastRoundMinRtt === Infinity) return;
    const threshold = Math.max(MIN_RTT_THRESH, Math.min(this.#lastRoundMinRtt / MIN_RTT_DIVISOR, MAX_RTT_THRESH));
    if (current >= this.#lastRoundMinRtt + threshold) {
      this.#cssBaselineMinRtt = current;
      this.#conservative = true;
      this.#cssRounds = 0;
    }
    void state;
  }

  #nextRound(state: CongestionState): void {
    if (this.#conservative && ++this.#cssRounds >= CSS_ROUNDS) {
      state.ssthresh = state.cwnd; // congestion avoidance from here on
    }
    this.#lastRoundMinRtt = this.#currentRoundMinRtt;
    this.#currentRoundMinRtt = Infinity;
    this.#rttSampleCount = 0;
    this.#windowEnd = state.sndNxt;
  }
}
