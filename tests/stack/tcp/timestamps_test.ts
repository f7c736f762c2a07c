import { assert, assertEquals } from "@std/assert";
import { ECONNRESET } from "../../../stack/codes.ts";
import { CLOSED, ESTABLISHED } from "../../../stack/tcp/types.ts";
import { mss, Peer, SACK_OK, type Seen, stamps } from "../../testing/tcp_peer.ts";

/** TSval and TSecr of a segment, or null. */
function stampsOf(seen: Seen): [value: number, echo: number] | null {
  const { options } = seen;
  for (let at = 0; at < options.length; at += options[at] < 2 ? 1 : options[at + 1]) {
    if (options[at] !== 8) continue;
    const view = new DataView(options.buffer, options.byteOffset + at);
    return [view.getUint32(2), view.getUint32(6)];
  }
  return null;
}

/** A connection with timestamps whose peer writes down its own. */
function stamped(config = {}): Peer {
  return Peer.accepted({ syn: [...mss(1000), ...SACK_OK, ...stamps(1000, 0)], config });
}

const at = (peer: Peer, value: number) => stamps(value, peer.lastStamp);

Deno.test("timestamps: once both SYNs had them every segment has, the resets too; TSecr is 0 without ACK, an echo with", () => {
  //= rfc7323#3.2 type=test
  // If the ACK bit is not set in the outgoing TCP header, the sender of that segment SHOULD set the TSecr field to zero.
  const opening = Peer.connecting();
  assertEquals(stampsOf(opening.out[0])![1], 0);
  //= rfc7323#3.2 type=test
  // When the ACK bit is set in an outgoing segment, the sender MUST echo a recently received TSval sent by the remote TCP in the
  // TSval field of a Timestamps option.
  //= rfc7323#3.2 type=test
  // Once TSopt has been successfully negotiated, that is both <SYN> and <SYN,ACK> contain TSopt, the TSopt MUST be sent in every
  // non-<RST> segment for the duration of the connection, and SHOULD be sent in an <RST> segment (see Section 5.2 for details).
  const peer = stamped();
  const sent = [...peer.write(5000), ...peer.send({ data: 10, options: at(peer, 2000) }), ...peer.pass(100)];
  assert(sent.length >= 6);
  for (const seen of sent) assert([1000, 1001, 2000].includes(stampsOf(seen)![1]), `${stampsOf(seen)}`);
  //= rfc7323#5.2 type=test
  // If an <RST> is being generated because of a user abort, and Snd.TS.OK is set, then a Timestamps option SHOULD be included in
  // the <RST>.
  const [reset] = peer.after(() => peer.tcb.abort());
  assertEquals([reset.flags, stampsOf(reset)![1]], ["RA", 2000]);
});

Deno.test("timestamps: a peer that did not offer them gets none, and what it sends of them is nothing", () => {
  //= rfc7323#3.2 type=test
  // If a TSopt is received on a connection where TSopt was not negotiated in the initial three-way handshake, the TSopt MUST be
  // ignored and the packet processed normally.
  //= rfc7323#3.2 type=test
  // The TCP SHOULD remember this state by setting a flag, referred to as Snd.TS.OK, to one.
  const peer = Peer.accepted({ syn: mss(1000) });
  peer.send({ data: 10, options: stamps(5000, 77) });
  peer.send({ data: 10, seq: 11, options: stamps(1, 77) }); // PAWS would drop it
  assertEquals([peer.tcb.receiveQueued, peer.tcb.timestamps, peer.tcb.tsRecent], [20, false, 0]);
  for (const seen of [...peer.write(2000), ...peer.pass(1000)]) assertEquals(stampsOf(seen), null);
});

Deno.test("timestamps: a segment without them ends nothing, and a SYN's echo is not looked at", () => {
  //= rfc7323#3.2 type=test
  // A TCP MUST NOT abort a TCP connection because any segment lacks an expected TSopt.
  const peer = stamped();
  peer.send({ data: 10, options: [] });
  assertEquals(peer.tcb.state, ESTABLISHED);
  peer.send({ data: 10, options: at(peer, 2000) });
  assertEquals([peer.tcb.state, peer.tcb.receiveQueued], [ESTABLISHED, 10]);
  //= rfc7323#3.2 type=test
  // When the ACK bit is not set, the receiver MUST ignore the value of the TSecr field.
  const odd = Peer.accepted({ syn: [...mss(1000), ...stamps(1000, 0xdeadbeef)] });
  assertEquals([odd.tcb.state, odd.tcb.srttMs < 1000], [ESTABLISHED, true]);
});

Deno.test("timestamps: what is echoed is the earliest that is not acknowledged, or the one that filled the hole", () => {
  //= rfc7323#3.2 type=test
  // The exact rules on which TSval MUST be echoed are given in Section 4.3.
  //= rfc7323#4.3 type=test
  // Thus, when delayed ACKs are in use, the receiver SHOULD reply with the TSval field from the earliest unacknowledged segment.
  const delayed = stamped();
  delayed.send({ data: 100, seq: 1, options: at(delayed, 2000) });
  delayed.send({ data: 100, seq: 101, options: at(delayed, 2100) });
  assertEquals(delayed.pass(100).map((s) => [s.ack, stampsOf(s)![1]]), [[201, 2000]]);
  //= rfc7323#4.3 type=test
  // An <ACK> for an out-of-order segment SHOULD, therefore, contain the timestamp from the most recent segment that advanced
  // RCV.NXT.
  const peer = stamped();
  const first = [...peer.send({ data: 1000, seq: 1, options: at(peer, 2000) }), ...peer.pass(100)];
  assertEquals(first.map((s) => stampsOf(s)![1]), [2000]);
  const outOfOrder = peer.send({ data: 1000, seq: 2001, options: at(peer, 2200) });
  assertEquals(outOfOrder.map((s) => [s.ack, stampsOf(s)![1]]), [[1001, 2000]]);
  //= rfc7323#4.3 type=test
  // Thus, the timestamp from the latest segment (which filled the hole) MUST be echoed.
  const filled = peer.send({ data: 1000, seq: 1001, options: at(peer, 2100) });
  assertEquals(filled.map((s) => [s.ack, stampsOf(s)![1]]), [[3001, 2100]]);
});

Deno.test("timestamps: ours follow the clock, a thousand ticks a second, from a place that is another one each time", () => {
  //= rfc7323#4.1 type=test
  // Values of this clock MUST be at least approximately proportional to real time, in order to measure actual RTT.
  //= rfc7323#5.4 type=test
  // It MUST tick at least once for each 2^31 bytes sent.
  //= rfc7323#5.4 type=test
  // In fact, in order to be useful to the sender for round-trip timing, the clock SHOULD tick at least once per window's worth of
  // data, and even with the window extension defined in Section 2.2, 2^31 bytes must be at least two windows.
  //= rfc7323#5.4 type=test
  // The recycling time of the timestamp clock MUST be greater than MSL seconds.
  // 2^32 ms are 49 days: more than an MSL of two minutes; and 2^31 bytes a millisecond are 17 Tbit/s.
  const peer = stamped({ defaults: { noDelay: true } });
  const stamp = () => stampsOf(peer.write(500)[0])![0];
  const start = stamp();
  for (const passed of [1, 10, 1000, 3600_000]) {
    const before = stamp();
    peer.tcb.cwnd = 1e6;
    peer.send({ ack: 1 + peer.tcb.info().bytesSent, options: at(peer, 2000) });
    peer.pass(passed);
    assertEquals((stamp() - before) >>> 0, passed);
    peer.send({ ack: 1 + peer.tcb.info().bytesSent, options: at(peer, 2000) });
  }
  assert(start !== 0);
  //= rfc7323#7 type=test
  // It is therefore RECOMMENDED to generate a random, per-connection offset to be used with the clock source when generating the
  // Timestamps option value (see Section 5.4).
  //= rfc7323#7.1 type=test
  // It is therefore RECOMMENDED to generate a random, per-connection offset to be used with the clock source when generating the
  // Timestamps option value (see Section 5.4).
  const places = new Set([1, 2, 3, 4].map((seed) => stampsOf(Peer.connecting({ seed }).out[0])![0]));
  assertEquals(places.size, 4);
});

Deno.test("PAWS comes before the window, for every segment but a reset, and a reset teaches nothing", () => {
  //= rfc7323#5.3 type=test
  // If the PAWS algorithm is used, the following processing MUST be performed on all incoming segments for a synchronized
  // connection.
  //= rfc7323#5.3 type=test
  // Also, PAWS processing MUST take precedence over the regular TCP acceptability check (Section 3.3 in [RFC0793]), which is
  // performed after verification of the received Timestamps option:
  const peer = stamped();
  peer.send({ data: 10, options: at(peer, 5000) });
  const { statistics } = peer.host;
  const before = [statistics.pawsDropped, statistics.outOfWindow];
  peer.send({ data: 10, seq: 11, options: at(peer, 4999) }); // in the window
  peer.send({ data: 10, seq: 9_000_000, options: at(peer, 4999) }); // beside it
  assertEquals([statistics.pawsDropped, statistics.outOfWindow], [before[0] + 2, before[1]]);
  //= rfc7323#5.3 type=test
  // It is important to note that the timestamp MUST be checked only when a segment first arrives at the receiver, regardless of
  // whether it is in sequence or it must be queued for later delivery.
  // Out of order now, read later: its stamp is looked at when it comes.
  peer.send({ data: 10, seq: 21, options: at(peer, 5001) });
  peer.send({ data: 10, seq: 11, options: at(peer, 6000) });
  assertEquals(peer.tcb.receiveQueued, 30);
  //= rfc7323#5.2 type=test
  // The choice of incoming timestamps to be saved for this comparison MUST guarantee a value that is monotonically
  // non-decreasing.
  let last = peer.tcb.tsRecent;
  for (const value of [6001, 5999, 6001, 7000, 3, 6500, 7001]) {
    peer.send({ data: 10, seq: peer.tcb.rcvNxt - 1_000_000, options: at(peer, value) });
    peer.pass(50);
    assert(((peer.tcb.tsRecent - last) | 0) >= 0);
    last = peer.tcb.tsRecent;
  }
  assertEquals(last, 7001);
  //= rfc7323#5.2 type=test
  // When an <RST> segment is received, it MUST NOT be subjected to the PAWS check by verifying an acceptable value in SEG.TSval,
  // and information from the Timestamps option MUST NOT be used to update connection state information.
  peer.send({ flags: "R", seq: 9_000_000, options: at(peer, 9000) });
  assertEquals([peer.tcb.tsRecent, peer.tcb.state], [7001, ESTABLISHED]);
  peer.send({ flags: "R", seq: peer.tcb.rcvNxt - 1_000_000, options: at(peer, 1) });
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ECONNRESET]);
});

Deno.test("timestamps: the reset for a segment of nobody echoes it, with a zero of its own", () => {
  //= rfc7323#5.2 type=test
  // While still under discussion, to enable research into this area it is now RECOMMENDED that when generating an <RST>, if the
  // segment causing the <RST> to be generated contains a Timestamps option, the <RST> should also contain a Timestamps option.
  //= rfc7323#5.2 type=test
  // In the <RST> segment, SEG.TSecr SHOULD be set to SEG.TSval from the incoming segment and SEG.TSval SHOULD be set to zero.
  const peer = new Peer();
  const [reset] = peer.send({ flags: "A", seq: 5, ack: 7, options: stamps(4321, 99) });
  assertEquals([reset.flags, stampsOf(reset)], ["R", [0, 4321]]);
  const [plain] = peer.send({ flags: "A", seq: 5, ack: 7 });
  assertEquals([plain.flags, stampsOf(plain)], ["R", null]);
});
