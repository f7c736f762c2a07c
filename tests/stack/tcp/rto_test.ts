import { assert, assertEquals } from "@std/assert";
import { ETIMEDOUT } from "../../../stack/codes.ts";
import { measureRtt } from "../../../stack/tcp/rtt.ts";
import { CLOSED, ESTABLISHED } from "../../../stack/tcp/types.ts";
import { mss, Peer, SACK_OK, stamps } from "../../testing/tcp_peer.ts";

/** A connection whose RTO is the initial one, because no round trip took any time. */
function fresh(config = {}): Peer {
  const peer = Peer.accepted({ config: { defaults: config } });
  peer.tcb.srttMs = 0;
  peer.tcb.rtoMs = 1000;
  return peer;
}

Deno.test("RTT: the numbers of RFC 6298 step by step", () => {
  //= rfc6298#2 type=test
  // That is, updating RTTVAR and SRTT MUST be computed in the above order.
  const { tcb } = fresh();
  //= rfc6298#2 type=test
  // (2.2) When the first RTT measurement R is made, the host MUST set SRTT <- R RTTVAR <- R/2
  measureRtt(tcb, 400);
  assertEquals([tcb.srttMs, tcb.rttVarMs, tcb.rtoMs], [400, 200, 1200]);
  //= rfc6298#2 type=test
  // (2.3) When a subsequent RTT measurement R' is made, a host MUST set RTTVAR <- (1 - beta) * RTTVAR + beta * |SRTT - R'| SRTT
  // <- (1 - alpha) * SRTT + alpha * R' … The above SHOULD be computed using alpha=1/8 and beta=1/4
  measureRtt(tcb, 800);
  assertEquals([tcb.srttMs, tcb.rttVarMs, tcb.rtoMs], [450, 250, 1450]);
  for (let i = 0; i < 200; i++) measureRtt(tcb, 10);
  assert(Math.abs(tcb.rtoMs - 210) < 1);
  //= rfc6298#2.5 type=test
  // A maximum value MAY be placed on RTO provided it is at least 60 seconds.
  measureRtt(tcb, 10_000_000);
  assertEquals(tcb.rtoMs, 120_000);
});

Deno.test("RTO: 1 s at first, doubled each time, given up after 15 at R2", () => {
  //= rfc6298#1 type=test
  // However, a TCP MUST NOT be more aggressive than the following algorithms allow.
  //= rfc9293#3.8.2 type=test
  // A TCP endpoint MUST implement the basic congestion control algorithms slow start, congestion avoidance, and exponential
  // backoff of RTO to avoid creating congestion collapse conditions (MUST-19).
  //= rfc6298#5 type=test
  // The following is the RECOMMENDED algorithm for managing the retransmission timer: (5.1) Every time a packet containing data
  // is sent (including a retransmission), if the timer is not running, start it running so that it will expire after RTO seconds
  // (for the current value of RTO).
  //= rfc6298#5 type=test
  // (5.5) The host MUST set RTO <- RTO * 2 ("back off the timer").
  //= rfc6298#5 type=test
  // An implementation MUST manage the retransmission timer(s) in such a way that a segment is never retransmitted too early,
  // i.e., less than one RTO after the previous transmission of that segment.
  //= rfc9293#3.8.3 type=test
  // The following procedure MUST be used to handle excessive retransmissions of data segments (MUST-20): … (c) When the number of
  // transmissions of the same segment reaches a threshold R2 greater than R1, close the connection.
  const peer = fresh();
  peer.write(100);
  const start = peer.pair.now;
  const times = peer.pass(3600_000).map((s) => Math.round((s.at - start) / 1000));
  assertEquals(times, [1, 3, 7, 15, 31, 63, 127, 247, 367, 487, 607, 727, 847, 967, 1087]);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ETIMEDOUT]);
});

Deno.test("Karn: no measurement from what was sent again, and the back-off stays until there is one", () => {
  //= rfc6298#3 type=test
  // TCP MUST use Karn's algorithm [KP87] for taking RTT samples.
  //= rfc6298#3 type=test
  // RTT samples MUST NOT be made using segments that were retransmitted (and thus for which it is ambiguous whether the
  // reply was for the first instance of the packet or a later instance).
  //= rfc9293#3.8.1 type=test
  // The RTO MUST be computed according to the algorithm in [10], including Karn's algorithm for taking RTT samples (MUST-18).
  const peer = fresh();
  peer.write(100);
  peer.pass(3500);
  peer.send({ ack: 101 });
  assertEquals([peer.tcb.srttMs, peer.tcb.backoff], [0, 2]);
  const start = peer.pair.now;
  peer.write(100);
  assertEquals(peer.pass(4500).map((s) => Math.round(s.at - start)), [4000]);
  peer.send({ ack: 201 });
  peer.write(100);
  peer.pass(50);
  peer.send({ ack: 301 });
  assertEquals([peer.tcb.srttMs, peer.tcb.backoff], [50, 0]);
});

Deno.test("R2 counts the retransmissions of one segment, not those of a connection", () => {
  const peer = fresh();
  for (let i = 0; i < 40; i++) {
    peer.write(100);
    while (peer.pass(5000).length === 0);
    peer.send({ ack: 1 + 100 * (i + 1) });
  }
  assertEquals(peer.tcb.state, ESTABLISHED);
});

Deno.test("user timeout: ends it, before R2 or after, counted from the first byte that waits", () => {
  const peer = fresh({ userTimeoutMs: 5000 });
  peer.pass(60_000);
  peer.write(100);
  peer.pass(4000);
  assertEquals(peer.tcb.state, ESTABLISHED);
  peer.pass(8000);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ETIMEDOUT]);
  const shut = Peer.accepted({ window: 0, config: { defaults: { userTimeoutMs: 5000 } } });
  shut.pass(60_000); // idle with a closed window: nothing waits yet
  shut.write(100);
  shut.pass(4000);
  assertEquals(shut.tcb.state, ESTABLISHED);
});

Deno.test("keep-alive: probes at SND.NXT-1, alive while answered whatever the intervals, dead after the count", () => {
  //= rfc9293#3.8.4 type=test
  // Such a segment generally contains SEG.SEQ = SND.NXT-1 and may or may not contain one garbage octet of data.
  const defaults = { keepAlive: true, keepAliveIdleMs: 1000, keepAliveIntervalMs: 5000, keepAliveCount: 3 };
  const peer = Peer.accepted({ config: { defaults } });
  for (let i = 0; i < 20; i++) {
    const [probe] = peer.pass(6000);
    assertEquals([probe.flags, probe.seq, probe.length], ["A", 0, 0]);
    peer.send({});
  }
  assertEquals(peer.tcb.state, ESTABLISHED);
  assertEquals(peer.pass(60_000).length, 3);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ETIMEDOUT]);
  assertEquals(Peer.accepted().pass(10 * 3600_000), []); // off by default
});

Deno.test("after a timeout: one segment, slow start, half the flight as threshold, once", () => {
  //= rfc5681#3.1 type=test
  // upon a timeout ... cwnd MUST be set to no more than the loss window, LW, which equals 1 full-sized segment
  const peer = Peer.accepted({ syn: mss(1000) });
  peer.write(10_000);
  assertEquals(peer.pass(2000).map((s) => s.seq), [1, 1, 1].slice(0, peer.out.length));
  assertEquals(peer.tcb.cwnd, 1000);
  assert(peer.tcb.ssthresh <= 7000 && peer.tcb.ssthresh >= 2000);
  const threshold = peer.tcb.ssthresh;
  peer.pass(5000);
  assertEquals(peer.tcb.ssthresh, threshold);
  assertEquals(peer.send({ ack: 1001 }).map((s) => s.seq), [1001, 2001]);
});

Deno.test("RTO: the variance of a path that never varies counts as 200 ms, and is never nothing", () => {
  //= rfc6298#4 type=test
  // However, if the K*RTTVAR term in the RTO calculation equals zero, the variance term MUST be rounded to G seconds (i.e., use
  // the equation given in step 2.3).
  const { tcb } = fresh();
  for (let i = 0; i < 1000; i++) measureRtt(tcb, 50);
  assert(tcb.rttVarMs < 0.001);
  assertEquals(Math.round(tcb.rtoMs), 250);
  const short = fresh({ rtoMinMs: 1 });
  for (let i = 0; i < 1000; i++) measureRtt(short.tcb, 50);
  assertEquals(Math.round(short.tcb.rtoMs), 51); // the clock's own grain
});

Deno.test("RTT: a sample each round trip, with timestamps and without", () => {
  //= rfc6298#3 type=test
  // A TCP implementation MUST take at least one RTT measurement per RTT (unless that is not possible per Karn's algorithm).
  for (const syn of [mss(1000), [...mss(1000), ...stamps(1000, 0)]]) {
    const peer = Peer.accepted({ syn });
    for (let round = 0, rtt = 10; round < 20; round++, rtt += 10) {
      peer.write(900);
      peer.pass(rtt);
      const before = peer.tcb.srttMs;
      peer.send({ ack: 1 + peer.tcb.info().bytesSent });
      assert(peer.tcb.srttMs > before, `no sample in round ${round}`);
    }
  }
});

Deno.test("Karn: no measurement from what a window probe carried again, with and without timestamps", () => {
  //= rfc6298#3 type=test
  // RTT samples MUST NOT be made using segments that were retransmitted (and thus for which it is ambiguous whether the
  // reply was for the first instance of the packet or a later instance).
  for (const syn of [mss(1460), [...mss(1460), ...SACK_OK], [...mss(1460), ...stamps(1, 0)]]) {
    const peer = Peer.accepted({ syn });
    peer.write(100);
    peer.pass(20);
    peer.send({ ack: 101 });
    const { srttMs, rtoMs } = peer.tcb;
    peer.write(1000);
    peer.pass(5);
    const echo = peer.lastStamp; // of what the peer took last, long before the window opens again
    const stale = () => peer.tcb.timestamps ? stamps(Math.floor(peer.pair.now), echo) : [];
    peer.send({ ack: 101, window: 0 });
    const probes = Array.from({ length: 60 }, () => {
      const seen = peer.pass(1000);
      if (seen.length > 0) peer.send({ ack: 101, window: 0 });
      return seen;
    }).flat();
    assertEquals([...new Set(probes.map((s) => `${s.seq}:${s.length}`))], ["101:1"]);
    peer.pass(1);
    peer.send({ ack: 102, window: 65_535, options: stale() }); // the window opens, and the probe's byte was taken
    assertEquals([peer.tcb.srttMs, peer.tcb.rtoMs, peer.tcb.backoff], [srttMs, rtoMs, 0]);
    peer.send({ ack: 1101, window: 65_535, options: stale() }); // the rest had been there all the time
    assertEquals([peer.tcb.srttMs, peer.tcb.rtoMs], [srttMs, rtoMs]);
  }
});
