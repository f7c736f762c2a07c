import { assertEquals } from "@std/assert";
import { CLOSE_WAIT, CLOSED, ESTABLISHED } from "../../../stack/tcp/types.ts";
import { mss, Peer, SACK_OK, stamps } from "../../testing/tcp_peer.ts";

const flags = (seen: { flags: string }[]) => seen.map((s) => s.flags);

/** The window that the host last offered, in bytes from RCV.NXT. */
const edge = (peer: Peer) => (peer.tcb.rcvEdge - peer.tcb.rcvNxt) | 0;

Deno.test("acceptability: the table of RFC 9293 3.10.7.4, from before the window to behind it", () => {
  const window = edge(Peer.accepted());
  // [sequence number, length, taken, answered]
  const rows: [number, number, number, string[]][] = [
    [1, 0, 0, []],
    [0, 0, 0, ["A"]], // a keep-alive probe
    [-100, 0, 0, ["A"]],
    [1 + window, 0, 0, []], // the right edge itself: an acknowledgment from there counts
    [2 + window, 0, 0, ["A"]],
    [1, 10, 10, []],
    [-9, 10, 0, ["A"]], // all of it old
    [-9, 11, 1, ["A"]], // trimmed to its last byte
    [5, 10, 0, ["A"]], // out of order
    [1 + window, 10, 0, ["A"]],
    [window, 10, 0, ["A"]], // one byte fits
    [-5000, 10, 0, ["A"]],
    [0x7fffffff, 10, 0, ["A"]],
  ];
  for (const [seq, data, taken, answer] of rows) {
    const peer = Peer.accepted();
    assertEquals(flags(peer.send({ seq, data })), answer, `seq ${seq} length ${data}`);
    assertEquals([peer.tcb.receiveQueued, peer.tcb.state], [taken, ESTABLISHED], `seq ${seq} length ${data}`);
  }
});

Deno.test("zero window: nothing is taken, acknowledgments and resets still count", () => {
  const peer = Peer.accepted({ config: { defaults: { receiveBufferMax: 4096 } } });
  peer.send({ data: 1460 });
  peer.send({ seq: 1461, data: 1460 });
  peer.send({ seq: 2921, data: 1176 });
  const [full] = peer.pass(100); // the delayed acknowledgment
  assertEquals([full.ack, full.window], [4097, 0]);
  const [probe] = peer.send({ seq: 4097, data: 1 });
  assertEquals([probe.ack, probe.window, peer.tcb.receiveQueued], [4097, 0, 4096]);
  peer.write(100);
  peer.send({ seq: 4097, ack: 101 });
  assertEquals(peer.tcb.sendQueued, 0);
  peer.send({ seq: 4097, flags: "R" });
  assertEquals(peer.tcb.state, CLOSED);
});

Deno.test("text in pieces of every overlap arrives once and in order", () => {
  //= rfc9293#3.10.7.4 type=test
  // Segments with higher beginning sequence numbers SHOULD be held for later processing (SHLD-31).
  const text = Uint8Array.from({ length: 26 }, (_, i) => 97 + i);
  for (const order of [[0, 5, 3, 9, 20, 14, 8], [20, 14, 9, 8, 5, 3, 0], [5, 0, 14, 3, 9, 20, 8]]) {
    const peer = Peer.accepted();
    for (const at of order) peer.send({ seq: 1 + at, data: text.slice(at, at + 9) });
    const into = new Uint8Array(40);
    assertEquals([...into.subarray(0, peer.tcb.receive(into, 0, 40))], [...text]);
  }
});

Deno.test("segments without ACK are dropped in a synchronized state", () => {
  const peer = Peer.accepted();
  assertEquals(flags(peer.send({ flags: "P", data: 5 })), []);
  assertEquals(peer.tcb.receiveQueued, 0);
});

Deno.test("PAWS: an old timestamp is answered and dropped, but not a reset's", () => {
  //= rfc7323#5.3 type=test
  // R1) If there is a Timestamps option in the arriving segment, SEG.TSval < TS.Recent, TS.Recent is valid (see later
  // discussion), and if the RST bit is not set, then treat the arriving segment as not acceptable: Send an acknowledgment in
  // reply … and drop the segment.
  const peer = Peer.accepted({ syn: [...mss(1460), ...stamps(1000, 0)] });
  peer.options = () => stamps(1000, 0);
  assertEquals(flags(peer.send({ data: 5, options: stamps(999, 0) })), ["A"]);
  assertEquals([peer.tcb.receiveQueued, peer.host.statistics.pawsDropped], [0, 1]);
  peer.send({ data: 5 });
  assertEquals(peer.tcb.receiveQueued, 5);
  //= rfc7323#3.2 type=test
  // If a non-<RST> segment is received without a TSopt, a TCP SHOULD silently drop the segment.
  assertEquals(flags(peer.send({ seq: 6, data: 5, options: [] })), []);
  assertEquals(peer.tcb.receiveQueued, 5);
  peer.send({ seq: 6, flags: "R", options: [] });
  assertEquals(peer.tcb.state, CLOSED);
});

Deno.test("PAWS: after 24 idle days the peer's clock may stand anywhere", () => {
  const peer = Peer.accepted({ syn: [...mss(1460), ...stamps(1000, 0)] });
  peer.pass(25 * 24 * 3600 * 1000);
  peer.send({ data: 5, options: stamps(-2_000_000, 0) });
  assertEquals(peer.tcb.receiveQueued, 5);
});

Deno.test("TS.Recent follows only segments that begin at or before what was acknowledged", () => {
  //= rfc7323#4.3 type=test
  // (2) If: SEG.TSval >= TS.Recent and SEG.SEQ <= Last.ACK.sent then SEG.TSval is copied to TS.Recent; otherwise, it is
  // ignored.
  const peer = Peer.accepted({ syn: [...mss(1460), ...stamps(1000, 0)] });
  peer.send({ seq: 1001, data: 1000, options: stamps(2000, 0) });
  assertEquals(peer.tcb.tsRecent === 2000, false);
  const [ack] = peer.send({ seq: 1, data: 1000, options: stamps(1990, 0) });
  assertEquals([ack.ack, peer.tcb.tsRecent], [2001, 1990]);
});

Deno.test("an acknowledgment of what was never sent is answered and dropped; a very old one too", () => {
  //= rfc5961#5.2 type=test
  // TCP stacks that implement this mitigation MUST add an additional input check to any incoming segment.
  //= rfc9293#3.10.7.4 type=test
  // If the ACK acks something not yet sent (SEG.ACK > SND.NXT), then send an ACK, drop the segment, and return.
  const peer = Peer.accepted({ window: 1000 });
  peer.write(500);
  assertEquals(flags(peer.send({ ack: 502, data: 5 })), ["A"]);
  assertEquals([peer.tcb.sendQueued, peer.tcb.receiveQueued], [500, 0]);
  //= rfc5961#5.2 type=test
  // All incoming segments whose ACK value doesn't satisfy the above condition MUST be discarded and an ACK sent back.
  assertEquals(flags(peer.send({ ack: -1000, data: 5 })), ["A"]);
  assertEquals(peer.tcb.receiveQueued, 0);
  peer.send({ ack: -998, data: 5 });
  assertEquals(peer.tcb.receiveQueued, 5);
});

Deno.test("the send window follows WL1 and WL2, not the order of arrival", () => {
  //= rfc9293#3.10.7.4 type=test
  // If SND.UNA =< SEG.ACK =< SND.NXT, the send window should be updated. If (SND.WL1 < SEG.SEQ or (SND.WL1 = SEG.SEQ and
  // SND.WL2 =< SEG.ACK)), set SND.WND <- SEG.WND, set SND.WL1 <- SEG.SEQ, and set SND.WL2 <- SEG.ACK.
  const peer = Peer.accepted();
  peer.send({ seq: 1, data: 10, window: 5000 });
  peer.send({ seq: 11, window: 4000 });
  assertEquals(peer.tcb.sndWnd, 4000);
  peer.send({ seq: 5, data: 10, window: 9000 }); // older, though part of it is new
  assertEquals(peer.tcb.sndWnd, 4000);
  peer.send({ seq: 15, window: 3000 });
  assertEquals(peer.tcb.sndWnd, 3000);
});

Deno.test("urgent data stays in the stream, however long", () => {
  //= rfc9293#3.8.5 type=test
  // A TCP implementation MUST support a sequence of urgent data of any length (MUST-31).
  const peer = Peer.accepted();
  peer.send({ flags: "AU", urgent: 60_000, data: 1000 });
  peer.send({ flags: "AU", seq: 1001, urgent: 65_535, data: 1000 });
  peer.send({ flags: "AU", seq: 2001, urgent: 0 });
  peer.send({ seq: 2001, data: 1000 });
  assertEquals([peer.read(), peer.tcb.state], [3000, ESTABLISHED]);
});

Deno.test("text at or behind a FIN is none, in whatever order the two come, and the FIN counts", () => {
  const fin = { seq: 101, flags: "FA", data: 10 }; // the FIN has number 111
  const beyond = { seq: 111, data: 50 };
  const across = { seq: 105, data: 50 };
  const later = { seq: 161, flags: "FA" };
  const hole = { seq: 1, data: 100 };
  for (
    const order of [
      [fin, beyond, hole],
      [fin, across, hole],
      [beyond, fin, hole],
      [beyond, hole, fin],
      [across, { seq: 111, flags: "FA" }, { seq: 1, data: 104 }],
      [beyond, { seq: 1, flags: "FA", data: 110 }],
      [later, fin, hole],
      [fin, later, hole],
    ]
  ) {
    const peer = Peer.accepted({ syn: [...mss(1460), ...SACK_OK] });
    const last = order.flatMap((given) => peer.send(given)).slice(-1);
    assertEquals([peer.tcb.state, peer.read(), peer.tcb.finReceived], [CLOSE_WAIT, 110, true], JSON.stringify(order));
    assertEquals([last[0].ack, last[0].options.length], [112, 0]); // and no SACK of what is forgotten
    assertEquals([peer.tcb.ranges, peer.host.pool.used], [null, 0]);
  }
});
