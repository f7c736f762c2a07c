import { assert, assertEquals } from "@std/assert";
import { RECOVERY, type Tcb } from "../../../stack/tcp/tcb.ts";
import { ESTABLISHED } from "../../../stack/tcp/types.ts";
import { u32 } from "../../testing/frames.ts";
import { mss, Peer, SACK_OK } from "../../testing/tcp_peer.ts";

const seqs = (seen: { seq: number; length: number }[]) => seen.filter((s) => s.length > 0).map((s) => s.seq);

/** The SACK option with blocks in the host's relative numbers. */
function sack(peer: Peer, ...edges: number[]): number[] {
  return [1, 1, 5, 2 + 4 * edges.length, ...edges.flatMap((edge) => u32((peer.iss + edge) >>> 0))];
}

/** Ten segments of 1000 bytes are out, and a round trip of 100 ms is known. */
function flying(withSack: boolean): Peer {
  const peer = Peer.accepted({ syn: [...mss(1000), ...(withSack ? SACK_OK : [])] });
  peer.tcb.srttMs = peer.tcb.minRttMs = peer.tcb.minRttNext = 100;
  peer.tcb.rttVarMs = 25;
  peer.tcb.rtoMs = 300;
  assertEquals(peer.write(10_000).length, 10);
  peer.pass(100);
  return peer;
}

Deno.test("NewReno: the third duplicate acknowledgment sends the first segment again, partial ones the next", () => {
  //= rfc5681#3.2 type=test
  // The TCP sender SHOULD use the "fast retransmit" algorithm to detect and repair loss, based on incoming duplicate ACKs.
  const peer = flying(false);
  assertEquals(seqs([...peer.send({ ack: 1 }), ...peer.send({ ack: 1 })]).includes(1), false);
  assertEquals(seqs(peer.send({ ack: 1 }))[0], 1);
  assertEquals(peer.tcb.recovery, RECOVERY);
  //= rfc6582#3.2 type=test
  // Partial acknowledgments: If this ACK does not acknowledge all of the data up to and including recover, then this is
  // a partial ACK. In this case, retransmit the first unacknowledged segment.
  assertEquals(seqs(peer.send({ ack: 3001 }))[0], 3001);
  peer.send({ ack: 10_001 });
  assertEquals([peer.tcb.recovery, peer.tcb.sackedBytes, peer.tcb.lostBytes, peer.tcb.fastRecoveries], [0, 0, 0, 1]);
});

Deno.test("duplicates that are none: with text, with another window, with nothing in flight", () => {
  const peer = flying(false);
  for (let i = 0; i < 5; i++) peer.send({ seq: 1 + i, data: 1 });
  for (let i = 0; i < 5; i++) peer.send({ seq: 6, window: 60_000 - i });
  assertEquals(peer.tcb.duplicateAcks, 0);
  const idle = Peer.accepted();
  for (let i = 0; i < 5; i++) idle.send({});
  assertEquals(idle.tcb.duplicateAcks, 0);
});

Deno.test("NewReno: duplicates behind a timeout do not start a fast retransmit", () => {
  //= rfc6582#3.2 type=test
  // If so (the Cumulative Acknowledgment field covers more than recover), enter fast retransmit; if not, do not: the
  // duplicates may come from what was sent again needlessly
  const peer = flying(false);
  peer.pass(5000); // the timer sends the first again
  peer.send({ ack: 10_001 });
  peer.write(4000);
  for (let i = 0; i < 4; i++) peer.send({ ack: 10_001 });
  assertEquals(peer.tcb.fastRecoveries, 0);
});

Deno.test("SACK: holes are filled, and nothing that arrived is sent again", () => {
  //= rfc2018#5 type=test
  // When receiving an ACK containing a SACK option, the data sender SHOULD record the selective acknowledgment for future
  // reference.
  //= rfc8985#4 type=test
  // The connection MUST use selective acknowledgment (SACK) options [RFC2018], and the sender MUST keep SACK scoreboard
  // information on a per-connection basis ("SACK scoreboard" has the same meaning here as in [RFC6675], Section 3).
  const peer = flying(true);
  const again = seqs(peer.send({ ack: 1, options: sack(peer, 1001, 2001, 3001, 10_001) }));
  assertEquals(again.filter((seq) => seq < 10_001), [1, 2001]);
  assertEquals([peer.tcb.recovery, peer.tcb.sackedBytes], [RECOVERY, 8000]);
  const threshold = peer.tcb.ssthresh;
  //= rfc5681#3.1 type=test
  // When a TCP sender detects segment loss using the retransmission timer ... the value of ssthresh MUST be set to no
  // more than the value given in equation (4): ssthresh = max (FlightSize / 2, 2*SMSS)
  assert(threshold <= 7000 && threshold >= 2000, `${threshold}`);
  peer.send({ ack: 10_001 });
  assertEquals([peer.tcb.recovery, peer.tcb.sackedBytes, peer.tcb.lostBytes], [0, 0, 0]);
});

Deno.test("SACK blocks that make no sense change nothing", () => {
  const peer = flying(true);
  for (
    const edges of [[5, 5], [2001, 1001], [9001, 11_001], [-5000, -4000], [0x7fffff00, 5], [20_000, 30_000], [-3000, 5001]]
  ) {
    for (let i = 0; i < 4; i++) peer.send({ ack: 1, options: sack(peer, ...edges) });
    assertEquals([peer.tcb.sackedBytes, peer.tcb.lostBytes, peer.tcb.recovery], [0, 0, 0], `${edges}`);
  }
});

Deno.test("SACK of crumbs cuts the records, but the count of bytes stays right", () => {
  const peer = flying(true);
  for (let at = 11; at < 9000; at += 40) peer.send({ ack: 1, options: sack(peer, at, at + 1, at + 20, at + 21) });
  assertEquals(peer.tcb.sackedBytes, 2 * Math.ceil((9000 - 11) / 40));
  peer.send({ ack: 10_001 });
  assertEquals([peer.tcb.sackedBytes, peer.tcb.lostBytes, peer.tcb.sent], [0, 0, null]);
});

Deno.test("D-SACK: counted, widens the reordering window once a round trip, and marks nothing", () => {
  //= rfc8985#4 type=test
  // RACK DSACK-based reordering window adaptation is RECOMMENDED but is not required.
  //= rfc2883#4 type=test
  // the receiver of the SACK compares the first block with the cumulative acknowledgment, or with the second block, to
  // learn that it reports duplicate data
  //= rfc8985#3.3.2 type=test
  // The RACK reordering window SHOULD adaptively increase (using the algorithm in "Step 4: Update RACK reordering window" below)
  // if the sender receives a Duplicate Selective Acknowledgment (DSACK) option [RFC2883].
  const peer = flying(true);
  peer.send({ ack: 2001, options: sack(peer, 1, 1001) });
  peer.send({ ack: 2001, options: sack(peer, 4001, 4501, 4001, 6001) });
  assertEquals([peer.tcb.dsacksReceived, peer.tcb.reoWndMult, peer.tcb.sackedBytes], [2, 2, 2000]);
});

Deno.test("RACK: once reordering was seen, a late segment is waited for", () => {
  //= rfc8985#6.2 type=test
  // For timely loss detection, it is RECOMMENDED that the sender install a reordering timer.
  const peer = flying(true);
  peer.send({ ack: 1, options: sack(peer, 2001, 3001) });
  peer.send({ ack: 2001, options: sack(peer, 2001, 3001) }); // what lay before came after it
  assertEquals(peer.tcb.reorderingSeen, true);
  assertEquals(seqs(peer.send({ ack: 3001, options: sack(peer, 4001, 8001) })).includes(3001), false);
  assert(peer.tcb.reorderAt !== Infinity);
  assertEquals(seqs(peer.pass(60)).includes(3001), true);
});

Deno.test("RACK: its stamps do not outlive the flight, so an idle hour does not confuse them", () => {
  const peer = flying(true);
  peer.send({ ack: 10_001 });
  peer.pass(40 * 60_000); // more than int32 microseconds
  peer.write(6000);
  peer.pass(20);
  const una = 10_001;
  // Only what was sent before what arrived, and long enough ago, is lost: the last segment is neither.
  const again = seqs(peer.send({ ack: una, options: sack(peer, una + 1000, una + 2000) })).filter((seq) => seq < una + 6000);
  assertEquals(again, []);
});

Deno.test("a peer that reneges gets everything again after the timeout", () => {
  //= rfc2018#5 type=test
  // The data sender MUST retransmit the segment at the left edge of the window after a retransmit timeout, whether or not the
  // SACKed bit is on for that segment.
  //= rfc2018#8 type=test
  // Since the data receiver may later discard data reported in a SACK option, the sender MUST NOT discard data before it is
  // acknowledged by the Acknowledgment Number field in the TCP header.
  //= rfc2018#5 type=test
  // After a retransmit timeout the data sender SHOULD turn off all of the SACKed bits, since the timeout might indicate that the
  // data receiver has reneged.
  const peer = flying(true);
  peer.send({ ack: 1, options: sack(peer, 1, 10_001) });
  const got = new Set<number>();
  let ack = 1;
  for (let i = 0; i < 12 && ack < 10_001; i++) {
    for (const seen of peer.pass(2000).slice(0, 20)) got.add(seen.seq);
    while (got.has(ack)) {
      ack += 1000;
      for (const seen of peer.send({ ack })) if (seen.length > 0) got.add(seen.seq);
    }
  }
  assertEquals(ack, 10_001);
  assert(peer.tcb.timeouts <= 4, `${peer.tcb.timeouts} timeouts: one for each segment is too many`);
});

Deno.test("the receiver: immediate acknowledgments out of order, most recent block first, D-SACK in front", () => {
  //= rfc5681#3.2 type=test
  // A TCP receiver SHOULD send an immediate duplicate ACK when an out-of-order segment arrives.
  //= rfc5681#3.2 type=test
  // In addition, a TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all or part of a gap in the
  // sequence space.
  //= rfc5681#4.2 type=test
  // To trigger the fast retransmit algorithm, the receiver SHOULD send an immediate duplicate ACK when it receives a data segment
  // above a gap in the sequence space.
  //= rfc5681#4.2 type=test
  // To provide feedback to senders recovering from losses, the receiver SHOULD send an immediate ACK when it receives a data
  // segment that fills in all or part of a gap in the sequence space.
  //= rfc5681#4.2 type=test
  // A TCP receiver MUST NOT generate more than one ACK for every incoming segment, other than to update the offered window as the
  // receiving application consumes new data (see [RFC813] and page 42 of [RFC793]).
  //= rfc2018#4 type=test
  // If sent at all, SACK options SHOULD be included in all ACKs which do not ACK the highest sequence number in the data
  // receiver's queue.
  //= rfc2018#4 type=test
  // The receiver SHOULD send an ACK for every valid segment that arrives containing new data, and each of these "duplicate" ACKs
  // SHOULD bear a SACK option.
  //= rfc2018#8 type=test
  // The first SACK block MUST reflect the newest segment.
  //= rfc2018#8 type=test
  // Even if the newest segment is going to be discarded and the receiver has already discarded adjacent segments, the first SACK
  // block MUST report, at a minimum, the left and right edges of the newest segment.
  //= rfc5681#4.2 type=test
  // Out-of-order data segments SHOULD be acknowledged immediately
  const blocks = (options: Uint8Array): number[] => {
    const view = new DataView(options.buffer, options.byteOffset, options.byteLength);
    const count = (options[3] - 2) / 4;
    return Array.from({ length: count }, (_, i) => (view.getInt32(4 + 4 * i) - 1_000_000) | 0);
  };
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK] });
  assertEquals(blocks(peer.send({ seq: 101, data: 100 })[0].options), [101, 201]);
  assertEquals(blocks(peer.send({ seq: 301, data: 100 })[0].options), [301, 401, 101, 201]);
  assertEquals(blocks(peer.send({ seq: 501, data: 100 })[0].options), [501, 601, 301, 401, 101, 201]);
  //= rfc2018#4 type=test
  // The first SACK block (i.e., the one immediately following the kind and length fields in the option) MUST specify the
  // contiguous block of data containing the segment which triggered this ACK, unless that segment advanced the Acknowledgment
  // Number field in the header.
  //= rfc2883#4 type=test
  // D-SACK: the first block of the SACK option field specifies the duplicate contiguous sequence
  assertEquals(blocks(peer.send({ seq: 121, data: 10 })[0].options).slice(0, 4), [121, 131, 101, 201]);
  assertEquals(blocks(peer.send({ seq: 201, data: 100 })[0].options).slice(0, 2), [101, 401]);
  //= rfc5681#4.2 type=test
  // a TCP receiver SHOULD send an immediate ACK when the incoming segment fills in all or part of a gap
  const [filled] = peer.send({ seq: 1, data: 100 });
  assertEquals([filled.ack, ...blocks(filled.options)], [401, 501, 601]);
  assertEquals(blocks(peer.send({ seq: 1, data: 50 })[0].options), [1, 51, 501, 601]);
});

Deno.test("shutdownRead keeps to what SACK has reported", () => {
  //= rfc2018#8 type=test
  // Except for the newest segment, all SACK blocks MUST NOT report any old data which is no longer actually held by the receiver.
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK] });
  peer.send({ seq: 101, data: 100 });
  peer.tcb.shutdownRead();
  assertEquals(peer.send({ seq: 1, data: 100 })[0].ack, 201);
  assertEquals([peer.tcb.receiveQueued, peer.host.pool.used], [0, 0]);
});

Deno.test("after a pause longer than the RTO the window begins again", () => {
  //= rfc5681#4.1 type=test
  // Therefore, a TCP SHOULD set cwnd to no more than RW before beginning transmission if the TCP has not sent data in an interval
  // exceeding the retransmission timeout.
  for (const [pause, segments] of [[100, 14], [5000, 10]]) {
    const peer = Peer.accepted({ syn: mss(1000), config: { defaults: { congestionControl: "reno" } } });
    peer.write(10_000);
    for (let ack = 1001; ack <= 10_001; ack += 1000) peer.send({ ack });
    peer.pass(pause);
    assertEquals(peer.write(100_000).length, segments);
  }
});

Deno.test("congestion avoidance and slow start grow as RFC 5681 says", () => {
  //= rfc9293#3.8.2 type=test
  // A TCP endpoint MUST implement the basic congestion control algorithms slow start, congestion avoidance, and exponential
  // backoff of RTO to avoid creating congestion collapse conditions (MUST-19).
  //= rfc5681#3.1 type=test
  // The slow start and congestion avoidance algorithms MUST be used by a TCP sender to control the amount of outstanding data
  // being injected into the network.
  //= rfc5681#3.1 type=test
  // SHOULD increment cwnd per equation (2) once per RTT
  //= rfc5681#3.1 type=test
  // The RECOMMENDED way to increase cwnd during congestion avoidance is to count the number of bytes that have been acknowledged
  // by ACKs for new data.
  //= rfc5681#3.1 type=test
  // Note that during congestion avoidance, cwnd MUST NOT be increased by more than SMSS bytes per RTT.
  //= rfc5681#3.1 type=test
  // During slow start, a TCP increments cwnd by at most SMSS bytes for each ACK received that cumulatively acknowledges
  // new data.
  const peer = Peer.accepted({ syn: mss(1000), config: { defaults: { congestionControl: "reno" } } });
  peer.write(200_000);
  for (let ack = 1001; ack <= 10_001; ack += 1000) peer.send({ ack });
  //= rfc5681#3.1 type=test
  // MUST NOT increment cwnd by more than SMSS bytes
  assertEquals(peer.tcb.cwnd, 20_000);
  const tcb: Tcb = peer.tcb;
  tcb.ssthresh = tcb.cwnd;
  for (let ack = 11_001; ack <= 30_001; ack += 1000) peer.send({ ack });
  assertEquals([tcb.cwnd, tcb.state], [21_000, ESTABLISHED]);
});

Deno.test("PRR: what goes out in recovery is proportional to what has arrived, and ends at the threshold", () => {
  //= rfc8985#9.3 type=test
  // A segment marked as lost by RACK-TLP MUST NOT be retransmitted until congestion control deems this appropriate.
  //= rfc8985#9.3 type=test
  // The Proportional Rate Reduction (PRR) algorithm [RFC6937] is RECOMMENDED for the specific congestion control actions taken
  // upon the losses detected by RACK-TLP.
  //= rfc5681#4.3 type=test
  // Second, until all lost segments in the window of data in question are repaired, the number of segments transmitted in each
  // RTT MUST be no more than half the number of outstanding segments when the loss was detected.
  //= rfc5681#3 type=test
  // In some situations, it may be beneficial for a TCP sender to be more conservative than the algorithms allow; however, a TCP
  // MUST NOT be more aggressive than the following algorithms allow (that is, MUST NOT send data when the value of cwnd computed
  // by the following algorithms would not allow the data to be sent).
  //= rfc6937#3 type=test
  // Proportional Rate Reduction: sndcnt = CEIL(prr_delivered * ssthresh / RecoverFS) - prr_out
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK], config: { defaults: { congestionControl: "reno" } } });
  const { tcb } = peer;
  tcb.cwnd = 40_000;
  tcb.ssthresh = 40_000;
  assertEquals(peer.write(200_000).length, 40);
  peer.pass(50);
  let out = 0;
  for (let end = 3001; end <= 40_001; end += 1000) {
    out += peer.send({ ack: 1, options: sack(peer, 1001, end) }).reduce((sum, s) => sum + s.length, 0);
    if (tcb.recovery !== RECOVERY || tcb.inFlight <= tcb.ssthresh) continue;
    const most = Math.ceil((tcb.prrDelivered * tcb.ssthresh) / tcb.recoverFlight) + tcb.sendMss;
    assert(out <= most, `${out} bytes out after ${tcb.prrDelivered} delivered`);
  }
  //= rfc5681#3.2 type=test
  // When [RFC3042] is in use, additional data sent in limited transmit MUST NOT be included in this calculation.
  assertEquals([tcb.recovery, tcb.ssthresh], [RECOVERY, 20_000]); // half of what was out, though one more was sent meanwhile
  assert(out > 15_000 && out <= 21_000, `${out}`);
  peer.send({ ack: 40_001 });
  assertEquals(tcb.cwnd >= 20_000, true);
});

Deno.test("tail loss probe: after two round trips, the acknowledgment delay added for a single segment, once", () => {
  //= rfc8985#7.2 type=test
  // Summarizing these considerations in pseudocode form, a sender SHOULD use the following logic to select the duration of a PTO:
  // … If SRTT is available: PTO = 2 * SRTT If FlightSize is one segment: PTO += TLP.max_ack_delay
  //= rfc8985#7.2 type=test
  // The sender SHOULD start or restart a loss probe PTO timer after transmitting new data (that was not itself a loss probe) or
  // upon receiving an ACK that cumulatively acknowledges new data unless it is already in fast recovery, RTO recovery, or
  // segments have been SACKed (i.e., RACK.segs_sacked is not zero).
  for (const [bytes, pto] of [[3000, 200], [1000, 400]]) {
    const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK] });
    peer.tcb.srttMs = peer.tcb.minRttMs = 100;
    peer.tcb.rtoMs = 1000;
    const start = peer.pair.now;
    peer.write(bytes);
    const [probe, next] = peer.pass(3000);
    assertEquals([Math.round(probe.at - start), probe.seq], [pto, bytes - 999]);
    assert(next.seq === 1 && Math.round(next.at - probe.at) === 1000, "then the retransmission timer");
  }
  const plain = flying(false);
  assertEquals(plain.tcb.probeAt, Infinity);
});

Deno.test("RACK: a retransmission that seems to come back faster than any round trip proves nothing", () => {
  //= rfc8985#6.2 type=test
  // To avoid spurious inferences, ignore a segment as invalid if any of its sequence range has been retransmitted before and if
  // either of two conditions is true: … 2. The segment was last retransmitted less than RACK.min_rtt ago.
  const peer = flying(true);
  peer.send({ ack: 1, options: sack(peer, 3001, 4001, 5001, 10_001) });
  const { rackTimeUs, rackEnd } = peer.tcb;
  peer.pass(5); // far less than the 100 ms of the path
  peer.send({ ack: 1001, options: sack(peer, 3001, 4001, 5001, 10_001) });
  assertEquals([peer.tcb.rackTimeUs, peer.tcb.rackEnd], [rackTimeUs, rackEnd]);
});
