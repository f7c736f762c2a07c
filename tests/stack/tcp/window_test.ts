import { assert, assertEquals } from "@std/assert";
import { CLOSED, ESTABLISHED, EVENT_WRITABLE } from "../../../stack/tcp/types.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";
import { mss, Peer, scale, stamps } from "../../testing/tcp_peer.ts";

Deno.test("zero window: the first probe after the RTO, then with back-off, for as long as it is answered", () => {
  //= rfc9293#3.8.6.1 type=test
  // The transmitting host SHOULD send the first zero-window probe when a zero window has existed for the retransmission timeout
  // period (SHLD-29) (Section 3.8.1), and SHOULD increase exponentially the interval between successive probes (SHLD-30).
  //= rfc9293#3.8.6.1 type=test
  // As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP
  // peer MUST allow the connection to stay open (MUST-37)
  const peer = Peer.accepted({ window: 0 });
  assertEquals(peer.write(5000), []);
  const gaps: number[] = [];
  for (let i = 0, last = peer.pair.now; i < 60; i++) {
    peer.out.length = 0;
    peer.pair.run(300_000, () => peer.out.length > 0);
    const [probe] = peer.out;
    assertEquals([probe.seq, probe.length], [1, 1]);
    gaps.push(Math.round((probe.at - last) / 100));
    last = probe.at;
    peer.send({});
  }
  assertEquals(gaps.slice(0, 11), [2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 1200]);
  assertEquals([gaps[59], peer.tcb.state], [1200, ESTABLISHED]);
  //= rfc9293#3.9.1.2 type=test
  // However, a TCP implementation SHOULD send a maximum-sized segment whenever possible (SHLD-28) to improve performance (see
  // Section 3.8.6.2.1).
  // It opens: all goes at once, and what is then lost is sent again at the usual pace.
  const sent = peer.send({ window: 60_000 });
  assertEquals(sent.map((s) => s.length), [1, 1460, 1460, 1460, 619]);
  assert(peer.pass(2000).length >= 1);
});

Deno.test("zero window: without an answer it ends", () => {
  const peer = Peer.accepted({ window: 0 });
  peer.write(100);
  peer.pass(3 * 3600_000);
  assertEquals(peer.tcb.state, CLOSED);
});

Deno.test("a window that the peer takes back: nothing new, and only what is inside is sent again", () => {
  //= rfc9293#3.8.6 type=test
  // However, a sending TCP peer MUST be robust against window shrinking, which may cause the "usable window" (see Section
  // 3.8.6.2.1) to become negative (MUST-34).
  //= rfc9293#3.8.6 type=test
  // If the window shrinks to zero, the TCP implementation MUST probe it in the standard way (described below) (MUST-35).
  //= rfc7323#2.4 type=test
  // Implementations MUST ensure that they handle a shrinking window, as specified in Section 4.2.2.16 of [RFC1122].
  //= rfc7323#2.4 type=test
  // The initial transmission MUST be within the window announced by the most recent <ACK>.
  //= rfc9293#3.8.6 type=test
  // If this happens, the sender SHOULD NOT send new data (SHLD-15), but SHOULD retransmit normally the old unacknowledged data
  // between SND.UNA and SND.UNA+SND.WND (SHLD-16).
  const peer = Peer.accepted({ syn: mss(1000) });
  assertEquals(peer.write(6000).length, 6);
  assertEquals(peer.send({ ack: 1, window: 1500 }), []);
  for (const again of peer.pass(5000)) assert(again.seq + again.length <= 1501, `${again.seq} ${again.length}`);
  for (const next of peer.send({ ack: 1001, window: 500 })) assert(next.seq + next.length <= 1501);
  assertEquals(peer.write(5000), []);
  peer.send({ ack: 1001, window: 0 });
  for (const probe of peer.pass(20_000)) assertEquals([probe.seq, probe.length], [1001, 1]);
  assert(peer.send({ ack: 6001, window: 60_000 }).some((s) => s.seq === 6001 && s.length === 1000));
});

Deno.test("silly window, sender: full segments, or half of the largest window, or after the override timeout", () => {
  //= rfc9293#3.8.6.2.1 type=test
  // A TCP implementation MUST include a SWS avoidance algorithm in the sender (MUST-38). … (3) or if at least a fraction Fs of
  // the maximum window can be sent
  const peer = Peer.accepted({ syn: mss(1000), window: 4000 });
  assertEquals(peer.write(10_000).map((s) => s.length), [1000, 1000, 1000, 1000]);
  // As Linux: one short segment fills the window to its end, and no second before it is acknowledged.
  assertEquals(peer.send({ ack: 4001, window: 300 }).map((s) => s.length), [300]);
  assertEquals(peer.send({ ack: 4001, window: 999 }), []);
  assertEquals(peer.send({ ack: 4301, window: 2999 }).map((s) => s.length), [1000, 1000, 999]);
  const small = Peer.accepted({ syn: mss(1000), window: 600 });
  assertEquals(small.write(10_000).map((s) => s.length), [600]);
  assertEquals(small.send({ ack: 601, window: 300 }).map((s) => s.length), [300]);
});

Deno.test("silly window, receiver: the edge moves by a segment or half the buffer, and never back", () => {
  //= rfc9293#3.8.6 type=test
  // A TCP receiver SHOULD NOT shrink the window, i.e., move the right window edge to the left (SHLD-14).
  //= rfc9293#3.8.6.2.2 type=test
  // A TCP implementation MUST include a SWS avoidance algorithm in the receiver (MUST-39). … keep RCV.NXT+RCV.WND fixed until the
  // reduction satisfies: RCV.BUFF - RCV.USER - RCV.WND >= min( Fr * RCV.BUFF, Eff.snd.MSS )
  const peer = Peer.accepted({ config: { defaults: { receiveBufferMax: 8192 } } });
  let edge = 0;
  for (let at = 1, round = 0; round < 300; round++) {
    const length = 1 + (round * 37) % 500;
    const seen = [...peer.send({ seq: at, data: Math.min(length, Math.max(0, edge - at) || length) }), ...peer.pass(50)];
    for (const ack of seen) {
      const right = ack.ack + ack.window;
      assert(right >= edge, `the edge went from ${edge} to ${right}`);
      assert(edge === 0 || right === edge || right - edge >= 1460, `the edge moved by ${right - edge}`);
      edge = right;
      at = ack.ack;
    }
    if (round % 3 === 0) peer.read(400);
  }
});

Deno.test("window updates: none for crumbs, one when the window doubles", () => {
  const peer = Peer.accepted({ config: { defaults: { receiveBufferMax: 8192 } } });
  for (let at = 1; at < 8192; at += 1024) peer.send({ seq: at, data: 1024 });
  assertEquals(peer.pass(100).slice(-1).map((s) => s.window).concat(peer.tcb.receiveQueued).pop(), 8192);
  assertEquals(peer.after(() => peer.read(100)), []);
  assertEquals(peer.after(() => peer.read(1300)), []);
  assertEquals(peer.after(() => peer.read(100)).map((s) => s.window), [1500]);
  peer.read();
  peer.pair.flush();
  peer.send({ flags: "AF", seq: 8193 });
  peer.send({ seq: 8194 });
  assertEquals(peer.after(() => peer.read()), []); // nothing more can come
});

Deno.test("scaled windows: no acknowledgment offers more than is kept, and what was offered is taken", () => {
  //= rfc7323#2.4 type=test
  // When window scaling is in effect, the receiver SHOULD track the actual maximum window sequence number (which is likely to be
  // greater than the window announced by the most recent <ACK>, if more than one segment has arrived since the application
  // consumed any data in the receive buffer).
  //= rfc7323#2.4 type=test
  // 1) The receiver MUST honor, as in window, any segment that would have been in window for any <ACK> sent by the receiver.
  const peer = Peer.accepted({ syn: [...mss(1460), ...scale(7)] });
  const shift = peer.tcb.rcvWndShift;
  assert(shift > 0);
  let right = 0;
  let at = 1;
  for (let i = 0; i < 400; i++) {
    const seen = peer.send({ seq: at, data: 1 + (i * 7) % 1460 });
    for (const ack of [...seen, ...(i % 5 === 0 ? peer.pass(50) : [])]) right = Math.max(right, ack.ack + (ack.window << shift));
    at = peer.tcb.rcvNxt - 1_000_000;
    assert(((peer.tcb.rcvEdge - 1_000_000) | 0) >= right, "offered more than is kept");
    if (right - at < 1460) break;
  }
  for (; at < right; at = peer.tcb.rcvNxt - 1_000_000) {
    const before = at;
    peer.send({ seq: at, data: Math.min(1460, right - at) });
    assert(peer.tcb.rcvNxt - 1_000_000 > before, "an offered byte was refused");
  }
  assertEquals(peer.tcb.receiveQueued, right - 1);
  assert(peer.host.pool.used <= 256 * 1024);
});

Deno.test("the receive buffer grows for a fast reader and not for a slow one", () => {
  for (const reads of [true, false]) {
    const pair = new TcpPair({ delayMs: 20 });
    const [client, server] = pair.connected();
    const first = server.receiveLimit;
    const into = new Uint8Array(1 << 20);
    const until = pair.now + 3000;
    while (pair.now < until) {
      client.send(into, 0, into.length);
      if (reads) server.receive(into, 0, into.length);
      pair.flush();
      if (!pair.step(until)) break;
    }
    if (reads) assert(server.receiveLimit > 4 * first, `${server.receiveLimit}`);
    else assertEquals([server.receiveLimit, server.receiveQueued <= first], [first, true]);
  }
});

Deno.test("Nagle: one small segment in flight at most, but a FIN or NODELAY takes the rest along", () => {
  //= rfc9293#3.7.4 type=test
  // However, there MUST be a way for an application to disable the Nagle algorithm on an individual connection (MUST-17).
  //= rfc9293#3.7.4 type=test
  // If there is unacknowledged data (i.e., SND.NXT > SND.UNA), then the sending TCP endpoint buffers all user data (regardless of
  // the PSH bit) until the outstanding data has been acknowledged or until the TCP endpoint can send a full-sized segment
  // (Eff.snd.MSS bytes).
  const peer = Peer.accepted({ syn: mss(1000) });
  assertEquals(peer.write(10).length, 1);
  assertEquals([peer.write(10), peer.write(900)], [[], []]);
  assertEquals(peer.write(200).map((s) => s.length), [1000]);
  assertEquals(peer.send({ ack: 11 }).map((s) => s.length), [110]);
  assertEquals(peer.write(10), []);
  assertEquals(peer.after(() => peer.tcb.setNoDelay(true)).map((s) => s.length), [10]);
  const shut = Peer.accepted({ syn: mss(1000) });
  shut.write(10);
  shut.write(10);
  assertEquals(shut.after(() => shut.tcb.shutdownWrite()).map((s) => s.flags), ["FPA"]);
});

Deno.test("delayed acknowledgment: within half a second, and for every second full segment, timestamps or not", () => {
  //= rfc5681#4.2 type=test
  // The delayed ACK algorithm specified in [RFC1122] SHOULD be used by a TCP receiver.
  //= rfc5681#4.2 type=test
  // When using delayed ACKs, a TCP receiver MUST NOT excessively delay acknowledgments.
  //= rfc5681#4.2 type=test
  // Specifically, an ACK SHOULD be generated for at least every second full-sized segment, and MUST be generated within 500 ms of
  // the arrival of the first unacknowledged packet.
  //= rfc5681#4.2 type=test
  // Finally, we repeat that an ACK MUST NOT be delayed for more than 500 ms waiting on a second full-sized segment to arrive.
  //= rfc9293#3.8.6.3 type=test
  // A TCP endpoint SHOULD implement a delayed ACK (SHLD-18), but an ACK should not be excessively delayed; in particular, the
  // delay MUST be less than 0.5 seconds (MUST-40).
  const peer = Peer.accepted();
  const start = peer.pair.now;
  assertEquals(peer.send({ data: 10 }), []);
  assertEquals(peer.pass(500).map((s) => [s.ack, s.at - start < 500]), [[11, true]]);
  //= rfc9293#3.8.6.3 type=test
  // An ACK SHOULD be generated for at least every second full-sized segment or 2*RMSS bytes of new data … (SHLD-19).
  for (const stamped of [false, true]) {
    const full = Peer.accepted({ syn: [...mss(1460), ...(stamped ? stamps(1000, 0) : [])] });
    const data = stamped ? 1448 : 1460;
    const answers = Array.from({ length: 20 }, (_, i) => full.send({ seq: 1 + i * data, data }).length);
    assertEquals(answers.reduce((sum, n) => sum + n), 10);
  }
  assertEquals(peer.write(5)[0].ack, 11);
  peer.send({ seq: 11, ack: 6, data: 5 });
  assertEquals([peer.write(5)[0].ack, peer.pass(500)[0].seq], [16, 6]); // the answer took it along
});

Deno.test("a writer that found no memory is told when another connection gives some back", () => {
  const pair = new TcpPair({ delayMs: 1 }, 1, [{ limits: { memoryMax: 64 << 10, memoryReserved: 0, memoryKept: 0 } }]);
  const [one] = pair.connected(81);
  const [two] = pair.connected(82);
  const bytes = new Uint8Array(1 << 20);
  assertEquals(one.send(bytes, 0, 64 << 10), 64 << 10);
  assertEquals([two.send(bytes, 0, 10), one.send(bytes, 0, 10)], [0, 0]);
  assertEquals(pair.tcps[0].pool.used, 64 << 10);
  pair.tcps[0].ready.length = 0;
  two.events = 0;
  one.abort();
  pair.tcps[0].flush(pair.now);
  assertEquals(two.events & EVENT_WRITABLE, EVENT_WRITABLE);
  assertEquals(two.send(bytes, 0, 10), 10);
});
