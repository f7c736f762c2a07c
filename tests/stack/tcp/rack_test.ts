// RFC 8985: loss by time, and the probe of the tail.
import { assert, assertEquals } from "@std/assert";
import { LOST, RETRANSMITTED } from "../../../stack/tcp/sent.ts";
import { OPEN, RECOVERY } from "../../../stack/tcp/tcb.ts";
import { measureRtt } from "../../../stack/tcp/rtt.ts";
import { u32 } from "../../testing/frames.ts";
import { mss, Peer, SACK_OK, type Seen } from "../../testing/tcp_peer.ts";

const seqs = (seen: readonly Seen[]) => seen.filter((s) => s.length > 0).map((s) => s.seq);

function sack(peer: Peer, ...edges: number[]): number[] {
  return [1, 1, 5, 2 + 4 * edges.length, ...edges.flatMap((edge) => u32((peer.iss + edge) >>> 0))];
}

/** `segments` of 1000 bytes are out on a path of 100 ms, and nothing else waits. */
function flying(segments: number): Peer {
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK] });
  peer.tcb.srttMs = peer.tcb.minRttMs = peer.tcb.minRttNext = 100;
  peer.tcb.rttVarMs = 25;
  peer.tcb.rtoMs = 1000;
  peer.tcb.cwnd = segments * 1000;
  assertEquals(peer.write(segments * 1000).length, segments);
  peer.pass(100);
  return peer;
}

Deno.test("the reordering window: nothing after three segments or in recovery, a quarter of the round trip else, SRTT at most", () => {
  //= rfc8985#3.3.2 type=test
  // The reordering window SHOULD be set to zero if no reordering has been observed on the connection so far, and either (a) three
  // segments have been SACKed since the last recovery or (b) the sender is already in fast or RTO recovery.
  const three = flying(10);
  assertEquals(seqs(three.send({ ack: 1, options: sack(three, 1001, 2001) })), []);
  assertEquals(seqs(three.send({ ack: 1, options: sack(three, 1001, 3001) })), []);
  assertEquals(seqs(three.send({ ack: 1, options: sack(three, 1001, 4001) })), [1]);
  assertEquals(three.tcb.recovery, RECOVERY);
  // In recovery the next hole is lost as soon as anything sent after it arrives.
  assertEquals(seqs(three.send({ ack: 1, options: sack(three, 5001, 6001, 1001, 4001) })), [4001]);
  //= rfc8985#3.3.2 type=test
  // Otherwise, the reordering window SHOULD start from a small fraction of the round-trip time or zero if no round-trip time
  // estimate is available.
  const two = flying(10);
  const start = two.pair.now;
  two.send({ ack: 1, options: sack(two, 1001, 2001) });
  const [again] = two.pass(1000);
  assertEquals([again.seq, Math.round(again.at - start)], [1, 25]);
  //= rfc8985#3.3.2 type=test
  // The RACK reordering window MUST be bounded, and this bound SHOULD be SRTT.
  const far = flying(10);
  far.tcb.reorderingSeen = true;
  far.tcb.reoWndMult = 100; // what D-SACKs would have made of it
  const begin = far.pair.now;
  far.send({ ack: 1, options: sack(far, 1001, 5001) });
  const [late] = far.pass(1000);
  assertEquals([late.seq, Math.round(late.at - begin)], [1, 100]);
});

Deno.test("each segment has the time of its last transmission, in microseconds", () => {
  //= rfc8985#4 type=test
  // For each data segment sent, the sender MUST store its most recent transmission time with a timestamp whose granularity is
  // finer than 1/4 of the minimum RTT of the connection.
  const peer = flying(4);
  const { sent } = peer.tcb;
  const first = sent!.time(0);
  peer.send({ ack: 1, options: sack(peer, 1001, 4001) });
  assertEquals(sent!.time(0) - first, 100_000);
  assertEquals(sent!.flags(0) & RETRANSMITTED, RETRANSMITTED);
});

Deno.test("the least round trip is of the last minutes: a longer path is believed when the shorter one is history", () => {
  //= rfc8985#6.2 type=test
  // The sender SHOULD track a windowed min-filtered estimate of recent RTT measurements that can adapt when migrating to
  // significantly longer paths rather than tracking a simple global minimum of all RTT measurements.
  const { tcb } = Peer.accepted();
  tcb.srttMs = 0;
  measureRtt(tcb, 10);
  for (let minute = 0; minute < 20; minute++) {
    tcb.tcp.now += 60_000;
    measureRtt(tcb, 80);
    if (minute === 1) assertEquals(tcb.minRttMs, 10);
  }
  assertEquals(tcb.minRttMs, 80);
});

Deno.test("the probe: not without a measured round trip, not twice for one; the retransmission timer runs behind it", () => {
  //= rfc8985#7.3 type=test
  // When the PTO timer expires, the sender MUST check whether both of the following conditions are met before sending a loss
  // probe:
  //= rfc8985#7.3 type=test
  // If either one of these two conditions is not met, then the sender MUST skip sending a loss probe and MUST proceed to re-arm
  // the RTO timer, as specified at the end of this section.
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK] });
  peer.tcb.srttMs = 0;
  peer.tcb.rtoMs = 1000;
  const start = peer.pair.now;
  peer.write(3000);
  assertEquals([peer.tcb.probeAt, peer.tcb.rtoAt], [Infinity, start + 1000]);
  const measured = flying(3);
  //= rfc8985#7.3 type=test
  // The sender MUST follow the RACK transmission procedures in the "Upon Transmitting a Data Segment" section upon sending either
  // a retransmission or a new data loss probe.
  //= rfc8985#7.3 type=test
  // After attempting to send a loss probe, regardless of whether a loss probe was sent, the sender MUST re-arm the RTO timer, not
  // the PTO timer, if the FlightSize is not zero.
  const [probe, next] = measured.pass(5000);
  assertEquals([probe.seq, next.seq], [2001, 1]);
  assertEquals(Math.round(next.at - probe.at), 1000); // the RTO, not another probe
  const stamped = flying(3);
  const before = stamped.tcb.sent!.time(2);
  const [tail] = stamped.pass(150);
  assertEquals([tail.seq, stamped.tcb.sent!.flags(2) & RETRANSMITTED], [2001, RETRANSMITTED]);
  assert(stamped.tcb.sent!.time(2) > before, "recorded as sent again, when it was");
  //= rfc8985#8 type=test
  // When arming a RACK reordering timer or TLP PTO timer, the sender SHOULD cancel any other pending timers.
  for (const other of [flying(3), flying(10)]) {
    // One of probe, reordering and retransmission is the next; the retransmission timer never comes before the probe.
    assert(other.tcb.probeAt <= other.tcb.rtoAt);
    other.send({ ack: 1, options: sack(other, 1001, 2001) });
    assertEquals(other.tcb.probeAt, Infinity);
    assert(other.tcb.reorderAt < other.tcb.rtoAt);
  }
});

Deno.test("recovery is RACK's own: what is lost by time alone is sent, though fewer than three segments came behind it", () => {
  //= rfc8985#9.2 type=test
  // Therefore, the algorithm [RFC6675] MUST NOT be used with RACK-TLP; instead, a modified recovery algorithm that carefully
  // addresses such a case is needed.
  const peer = flying(4);
  peer.send({ ack: 1, options: sack(peer, 1001, 2001) }); // RFC 6675 would wait for three
  const again = seqs(peer.pass(60));
  assertEquals([again, peer.tcb.recovery], [[1], RECOVERY]);
  // And a hole with three SACKed segments that were all sent before it was sent again is not lost a second time.
  const second = flying(10);
  second.send({ ack: 1, options: sack(second, 1001, 4001) });
  assertEquals(seqs(second.send({ ack: 1, options: sack(second, 1001, 9001) })).includes(1), false);
  assertEquals(second.tcb.sent!.flags(0) & LOST, 0);
  second.send({ ack: 10_001 });
  assertEquals(second.tcb.recovery, OPEN);
});
