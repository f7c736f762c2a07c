import { assert, assertEquals } from "@std/assert";
import type { CongestionState } from "../../../stack/tcp/congestion.ts";
import { Cubic } from "../../../stack/tcp/cubic.ts";

const MSS = 1000;

function lose(cubic: Cubic, state: CongestionState, now: number): void {
  state.cwnd = state.ssthresh = cubic.onLoss(state, state.cwnd, now);
}

Deno.test("CUBIC as Reno would grow: alpha is 0.53 up to the window of the last loss, not to W_max as fast convergence lowers it", () => {
  //= rfc9438#4.3 type=test
  // W_est = W_est + alpha_cubic * segments_acked / cwnd; alpha_cubic is 1 once W_est has reached cwnd_prior
  const cubic = new Cubic();
  const state = {
    cwnd: 20 * MSS,
    ssthresh: 20 * MSS,
    sendMss: MSS,
    srttMs: 10,
    minRttMs: 10,
    latestRttMs: 10,
    sndUna: 0,
    sndNxt: 0,
  };
  lose(cubic, state, 0);
  assertEquals(state.cwnd, 14 * MSS);
  state.cwnd = 18 * MSS;
  lose(cubic, state, 1000); // below the 20 of before: W_max becomes 15.3
  assertEquals(state.cwnd, 12_600);
  const grown: number[] = [];
  for (let round = 0; round < 16; round++) {
    const before = state.cwnd;
    for (let acked = 0; acked < before; acked += 2 * MSS) cubic.onAck(state, 2 * MSS, 1000 + 10 * round);
    grown.push((state.cwnd - before) / MSS);
    if (before < 17_400) assert(grown[round] < 0.65, `${grown}`);
  }
  assert(grown.at(-1)! > 0.9, `${grown}`);
});
