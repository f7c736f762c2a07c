// RFC 5681 with the module that is it (Reno): what CUBIC does otherwise is said where it does it.
import { assert, assertEquals } from "@std/assert";
import { RECOVERY } from "../../../stack/tcp/tcb.ts";
import { u32 } from "../../testing/frames.ts";
import { mss, Peer, SACK_OK, type Seen } from "../../testing/tcp_peer.ts";

const RENO = { defaults: { congestionControl: "reno" } } as const;
const bytes = (seen: readonly Seen[]) => seen.reduce((sum, s) => sum + s.length, 0);
const seqs = (seen: readonly Seen[]) => seen.filter((s) => s.length > 0).map((s) => s.seq);

function sack(peer: Peer, ...edges: number[]): number[] {
  return [1, 1, 5, 2 + 4 * edges.length, ...edges.flatMap((edge) => u32((peer.iss + edge) >>> 0))];
}

/** `segments` of 1000 bytes are out; much more waits. */
function flying(segments: number, withSack = false): Peer {
  const peer = Peer.accepted({ syn: [...mss(1000), ...(withSack ? SACK_OK : [])], config: RENO });
  peer.tcb.cwnd = segments * 1000;
  peer.tcb.srttMs = peer.tcb.minRttMs = peer.tcb.minRttNext = 100;
  peer.tcb.rtoMs = 400;
  assertEquals(peer.write(200_000).length, segments);
  peer.pass(100);
  return peer;
}

Deno.test("no byte beyond the smaller of both windows, whatever is acknowledged", () => {
  //= rfc5681#2 type=test
  // At any given time, a TCP MUST NOT send data with a sequence number higher than the sum of the highest acknowledged sequence
  // number and the minimum of cwnd and rwnd.
  //= rfc5681#3 type=test
  // In some situations, it may be beneficial for a TCP sender to be more conservative than the algorithms allow; however, a TCP
  // MUST NOT be more aggressive than the following algorithms allow (that is, MUST NOT send data when the value of cwnd computed
  // by the following algorithms would not allow the data to be sent).
  for (const window of [3000, 30_000, 65_000]) {
    const peer = Peer.accepted({ syn: mss(1000), window, config: RENO });
    let seen = peer.write(200_000);
    for (let ack = 1, round = 0; round < 100; round++) {
      for (const s of seen) {
        assert(s.seq + s.length <= ack + window, "beyond the peer's window");
        assert(peer.tcb.inFlight <= peer.tcb.cwnd, "beyond the congestion window");
      }
      ack = Math.max(ack, 1 + Math.min(1000 * (round + 1), peer.tcb.info().bytesSent));
      seen = peer.send({ ack });
    }
  }
});

Deno.test("the handshake opens no window", () => {
  //= rfc5681#3.1 type=test
  // As specified in [RFC3390], the SYN/ACK and the acknowledgment of the SYN/ACK MUST NOT increase the size of the congestion
  // window.
  assertEquals(Peer.accepted({ syn: mss(1000) }).tcb.cwnd, 10_000);
  assertEquals(Peer.connected({ syn: mss(1000) }).tcb.cwnd, 10_000);
});

Deno.test("limited transmit: one new segment for each of the first two duplicates, and the window stays what it was", () => {
  //= rfc5681#3.2 type=test
  // On the first and second duplicate ACKs received at a sender, a TCP SHOULD send a segment of previously unsent data per
  // [RFC3042] provided that the receiver's advertised window allows, the total FlightSize would remain less than or equal to cwnd
  // plus 2*SMSS, and that new data is available for transmission.
  const peer = flying(10);
  const { cwnd } = peer.tcb;
  assertEquals([seqs(peer.send({ ack: 1 })), seqs(peer.send({ ack: 1 }))], [[10_001], [11_001]]);
  //= rfc5681#3.2 type=test
  // Further, the TCP sender MUST NOT change cwnd to reflect these two segments [RFC3042].
  assertEquals(peer.tcb.cwnd, cwnd);
  //= rfc5681#3.2 type=test
  // When the third duplicate ACK is received, a TCP MUST set ssthresh to no more than the value given in equation (4).
  //= rfc5681#3.2 type=test
  // The lost segment starting at SND.UNA MUST be retransmitted and cwnd set to ssthresh plus 3*SMSS.
  assertEquals(seqs(peer.send({ ack: 1 }))[0], 1);
  assertEquals([peer.tcb.recovery, peer.tcb.ssthresh], [RECOVERY, 5000]);
  //= rfc5681#3.2 type=test
  // Note that a sender using SACK [RFC2018] MUST NOT send new data unless the incoming duplicate acknowledgment contains new SACK
  // information.
  const selective = flying(10, true);
  for (let i = 0; i < 4; i++) assertEquals(selective.send({ ack: 1 }), []); // say nothing new
  assertEquals(seqs(selective.send({ ack: 1, options: sack(selective, 1001, 2001) })), [10_001]);
});

Deno.test("recovery: new data goes out while half of the flight drains, and the window ends at the threshold", () => {
  //= rfc5681#3.2 type=test
  // When previously unsent data is available and the new value of cwnd and the receiver's advertised window allow, a TCP SHOULD
  // send 1*SMSS bytes of previously unsent data.
  //= rfc5681#3.2 type=test
  // When the next ACK arrives that acknowledges previously unacknowledged data, a TCP MUST set cwnd to ssthresh (the value set in
  // step 2).
  //= rfc5681#4.3 type=test
  // Finally, after all loss in the given window of segments has been successfully retransmitted, cwnd MUST be set to no more than
  // ssthresh and congestion avoidance MUST be used to further increase cwnd.
  const peer = flying(20);
  const sent: number[] = [];
  for (let i = 0; i < 19; i++) sent.push(...seqs(peer.send({ ack: 1 })));
  assert(sent.includes(1) && sent.some((seq) => seq > 22_000), `${sent}`);
  assert(sent.length <= 13, `${sent.length} segments for 19 that left the network`);
  peer.send({ ack: peer.tcb.info().bytesSent + 1 });
  // The acknowledgment that ends it is one of new data too, and may open the window by one segment.
  assertEquals([peer.tcb.recovery, peer.tcb.cwnd <= peer.tcb.ssthresh + 1000], [0, true]);
  const threshold = peer.tcb.cwnd;
  const base = (peer.tcb.sndUna - peer.iss) | 0;
  for (let acked = 1000; acked <= threshold; acked += 1000) peer.send({ ack: base + acked });
  assert(peer.tcb.cwnd <= threshold + 1000, "congestion avoidance, not slow start");
});

Deno.test("ssthresh after a loss: no more than half of what was in flight, and half of that when it happens again", () => {
  //= rfc2018#5.1 type=test
  // However, the congestion control algorithms present in the de facto standard TCP implementations MUST be preserved
  // [Stevens94].
  //= rfc5681#4.3 type=test
  // That is, when the first loss in a window of data is detected, ssthresh MUST be set to no more than the value given by
  // equation (4).
  //= rfc5681#4.3 type=test
  // Loss in two successive windows of data, or the loss of a retransmission, should be taken as two indications of congestion
  // and, therefore, cwnd (and ssthresh) MUST be lowered twice in this case.
  const peer = flying(40, true);
  const lose = () => {
    const { sndUna, sndNxt } = peer.tcb;
    const una = (sndUna - peer.iss) | 0;
    const flight = (sndNxt - sndUna) | 0;
    peer.send({ ack: una, options: sack(peer, una + 1000, una + flight) });
    assertEquals(peer.tcb.ssthresh, Math.max(2000, flight >> 1));
    peer.pass(50);
    peer.send({ ack: (peer.tcb.sndNxt - peer.iss) | 0 });
    assertEquals(peer.tcb.recovery, 0);
    return peer.tcb.ssthresh;
  };
  const first = lose();
  assert(lose() <= first / 2 + 1000);
  // The retransmission is lost too: the timer halves once more, and one segment goes.
  const again = flying(40, true);
  again.send({ ack: 1, options: sack(again, 1001, 40_001) });
  const { ssthresh } = again.tcb;
  again.pass(3000);
  assert(again.tcb.ssthresh <= ssthresh && again.tcb.cwnd === 1000, `${again.tcb.ssthresh} ${again.tcb.cwnd}`);
});

Deno.test("congestion avoidance with windows so large that a segment's share is nothing still grows", () => {
  //= rfc5681#3.1 type=test
  // If the above formula yields 0, the result SHOULD be rounded up to 1 byte.
  const peer = Peer.accepted({ syn: mss(100), config: RENO });
  peer.tcb.cwnd = peer.tcb.ssthresh = 20_000;
  peer.write(200_000);
  for (let ack = 101; ack <= 20_101; ack += 100) peer.send({ ack });
  assertEquals(peer.tcb.cwnd, 20_100); // SMSS * SMSS / cwnd is 0 in whole numbers for each of the 200
  assert(bytes(peer.out) > 0);
});
