/**
 * CUBIC (RFC 9438), the default, with HyStart++ (RFC 9406) for its slow start. Windows are bytes, times milliseconds.
 *
 * @module
 */
import type { CongestionControl, CongestionState } from "./congestion.ts";
import { HyStart } from "./hystart.ts";

//= rfc9438#4.6
// The parameter beta_cubic SHOULD be set to 0.7
const BETA = 0.7;
//= rfc9438#5
// C SHOULD be set to 0.4 (segments per cubed second)
const C = 0.4;
//= rfc9438#4.3
// alpha_cubic = 3 * (1 - beta_cubic) / (1 + beta_cubic)
const ALPHA = (3 * (1 - BETA)) / (1 + BETA);

export class Cubic implements CongestionControl {
  readonly name = "cubic";
  /** From the first acknowledgment in slow start on: an idle connection has none. */
  #hystartMade: HyStart | null = null;
  /** Window before the last reduction, in segments, and where the present epoch began. */
  #wMax = 0;
  #k = 0;
  #epochAt = -1;
  #wEst = 0;
  /** Window at the last reduction, in segments: W_max without fast convergence. */
  #cwndPrior = 0;
  /** Fractions of bytes not yet added to the window. */
  #credit = 0;

  get #hystart(): HyStart {
    return this.#hystartMade ??= new HyStart();
  }

  onAck(state: CongestionState, acked: number, now: number): void {
    if (state.cwnd < state.ssthresh) {
      this.#hystart.onAck(state, acked);
      return;
    }
    const mss = state.sendMss;
    const cwnd = state.cwnd / mss;
    if (this.#epochAt < 0) this.#beginEpoch(cwnd, now);
    const segments = acked / mss;
    const t = (now - this.#epochAt) / 1000;
    const rtt = state.srttMs / 1000;
    const wCubic = C * (t - this.#k) ** 3 + this.#wMax;
    //= rfc9438#4.3
    // W_est = W_est + alpha_cubic * segments_acked / cwnd; alpha_cubic is 1 once W_est has reached cwnd_prior
    this.#wEst += ((this.#wEst < this.#cwndPrior ? ALPHA : 1) * segments) / cwnd;
    let next: number;
    if (wCubic < this.#wEst) {
      next = Math.max(cwnd, this.#wEst);
    } else {
      //= rfc9438#4.2
      // target = W_cubic(t + RTT), at least cwnd and at most 1.5 * cwnd; for each ACK cwnd += (target - cwnd) / cwnd
      const ahead = C * (t + rtt - this.#k) ** 3 + this.#wMax;
      const target = Math.min(Math.max(ahead, cwnd), 1.5 * cwnd);
      next = cwnd + ((target - cwnd) / cwnd) * segments;
    }
    this.#credit += (next - cwnd) * mss;
    const whole = Math.floor(this.#credit);
    this.#credit -= whole;
    state.cwnd += whole;
  }

  #beginEpoch(cwnd: number, now: number): void {
    this.#epochAt = now;
    this.#wEst = cwnd;
    this.#credit = 0;
    if (this.#wMax <= cwnd) {
      // No loss yet, or the window went past the last one before this epoch: W_max is where we are.
      this.#wMax = cwnd;
      this.#k = 0;
    } else {
      //= rfc9438#4.2
      // K = cubic root of ((W_max - cwnd_epoch) / C)
      this.#k = Math.cbrt((this.#wMax - cwnd) / C);
    }
  }

  onLoss(state: CongestionState, _inFlight: number, _now: number): number {
    const cwnd = state.cwnd / state.sendMss;
    //= rfc9438#4.7
    // Fast convergence: if cwnd < W_max, W_max = cwnd * (1 + beta_cubic) / 2, else W_max = cwnd
    this.#wMax = cwnd < this.#wMax ? (cwnd * (1 + BETA)) / 2 : cwnd;
    this.#cwndPrior = cwnd;
    this.#epochAt = -1;
    //= rfc9438#4.6
    // ssthresh = flight_size * beta_cubic, at least 2 segments
    //= rfc9438#4.6 type=exception reason=cwnd in place of flight_size, as Linux: growth is already held back while cwnd is not used up
    // ssthresh = flight_size * beta_cubic, at least 2 segments
    return Math.max(Math.floor(state.cwnd * BETA), 2 * state.sendMss);
  }

  onTimeout(state: CongestionState, inFlight: number, now: number): number {
    this.#hystart.restart(state);
    return this.onLoss(state, inFlight, now);
  }

  /** The reduction was a mistake (RFC 5682, RFC 3522): the old course is taken up again. */
  onUndo(_state: CongestionState, _now: number): void {
    this.#epochAt = -1;
  }

  onIdle(state: CongestionState, _now: number): void {
    this.#epochAt = -1;
    this.#hystart.restart(state);
  }
}
