import { assert, assertEquals } from "@std/assert";
import { EAGAIN, ECONNREFUSED, ETIMEDOUT } from "../../../stack/codes.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CLOSED, ESTABLISHED, SYN_RECEIVED, SYN_SENT } from "../../../stack/tcp/types.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";
import { packetOf } from "../../testing/packets.ts";
import { ipv4 } from "../../testing/frames.ts";
import { mss, Peer, SACK_OK, scale, stamps } from "../../testing/tcp_peer.ts";

const flags = (seen: { flags: string }[]) => seen.map((s) => s.flags);

Deno.test("active open: SYN, SYN-ACK, ACK with the right numbers", () => {
  const peer = Peer.connecting();
  assertEquals([peer.tcb.state, peer.out[0].flags, peer.out[0].seq], [SYN_SENT, "S", 0]);
  peer.seq = peer.ack = 1;
  const [ack] = peer.send({ flags: "SA", seq: 0, options: mss(1000) });
  assertEquals([ack.flags, ack.seq, ack.ack, ack.length], ["A", 1, 1, 0]);
  assertEquals([peer.tcb.state, peer.tcb.sendMss], [ESTABLISHED, 1000]);
});

Deno.test("SYN-SENT: an acknowledgment of something else is answered with a reset, and nothing changes", () => {
  for (const ack of [0, -1, 2, 1000]) {
    const peer = Peer.connecting();
    for (const letters of ["A", "SA"]) {
      const [rst] = peer.send({ flags: letters, seq: 0, ack });
      assertEquals([rst.flags, rst.seq, peer.tcb.state], ["R", ack, SYN_SENT]);
    }
    assertEquals(flags(peer.send({ flags: "RA", seq: 0, ack })), []);
    assertEquals(peer.tcb.state, SYN_SENT);
  }
});

Deno.test("SYN-SENT: only a reset that acknowledges the SYN refuses; segments without SYN are dropped", () => {
  //= rfc5961#3.2 type=test
  // In the SYN-SENT state (a RST received in response to an initial SYN), the RST is acceptable if the ACK field acknowledges the
  // SYN. In all other cases the receiver MUST silently discard the segment.
  const peer = Peer.connecting();
  assertEquals(flags(peer.send({ flags: "R", seq: 0 })), []);
  assertEquals(flags(peer.send({ flags: "A", seq: 0, ack: 1 })), []);
  assertEquals(peer.tcb.state, SYN_SENT);
  assertEquals(flags(peer.send({ flags: "RA", seq: 0, ack: 1 })), []);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ECONNREFUSED]);
  assertEquals(peer.host.table.size, 0);
});

Deno.test("SYN-SENT: data and FIN in the SYN-ACK are taken", () => {
  const peer = Peer.connecting();
  peer.seq = peer.ack = 1;
  const [ack] = peer.send({ flags: "SAF", seq: 0, ack: 1, data: 5 });
  assertEquals([ack.flags, ack.ack, peer.tcb.finReceived, peer.tcb.receiveQueued], ["A", 7, true, 5]);
});

Deno.test("simultaneous open: both ends get there, over any interleaving that loses one segment", () => {
  //= rfc9293#3.5 type=test
  // A TCP implementation MUST support simultaneous open attempts (MUST-10).
  for (let lost = -1; lost < 4; lost++) {
    let n = 0;
    const pair = new TcpPair({ delayMs: 10, filter: () => n++ !== lost });
    const a = pair.tcps[0].connect(0, 700, pair.ips[1].key, 800, pair.now) as Tcb;
    const b = pair.tcps[1].connect(0, 800, pair.ips[0].key, 700, pair.now) as Tcb;
    pair.run(30_000, () => a.state === ESTABLISHED && b.state === ESTABLISHED);
    assertEquals([a.state, b.state], [ESTABLISHED, ESTABLISHED], `segment ${lost} lost`);
    a.send(new Uint8Array(3000), 0, 3000);
    pair.run(5000);
    assertEquals(b.receiveQueued, 3000);
    assert(pair.carried < 30, `${pair.carried} segments`);
  }
});

Deno.test("simultaneous open by hand: figure 8 of RFC 9293", () => {
  const peer = Peer.connecting();
  const [reply] = peer.send({ flags: "S", seq: 0, options: mss(1460) });
  assertEquals([reply.flags, reply.seq, reply.ack, peer.tcb.state], ["SA", 0, 1, SYN_RECEIVED]);
  peer.send({ flags: "SA", seq: 0, ack: 1 });
  assertEquals(peer.tcb.state, ESTABLISHED);
});

Deno.test("passive open: a lost SYN-ACK is sent again at 1, 3, 7 seconds, and at each SYN", () => {
  const peer = new Peer();
  peer.host.listen(0, 80, 4);
  assertEquals(flags(peer.send({ flags: "S", seq: 0, options: mss(1460) })), ["SA"]);
  const start = peer.pair.now;
  assertEquals(peer.pass(8000).map((s) => Math.round((s.at - start) / 1000)), [1, 3, 7]);
  assertEquals(flags(peer.send({ flags: "S", seq: 0, options: mss(1460) })), ["SA"]);
  peer.pass(200_000);
  assertEquals(peer.host.table.size, 0);
});

Deno.test("a SYN is sent seven times, then the attempt times out", () => {
  //= rfc6298#5.5 type=test
  // The host MUST set RTO <- RTO * 2 ("back off the timer"). The maximum value discussed in (2.5) above may be used to
  // provide an upper bound to this doubling operation.
  const peer = Peer.connecting();
  const start = peer.pair.now;
  const times = peer.pass(200_000).map((s) => Math.round((s.at - start) / 1000));
  assertEquals(times, [1, 3, 7, 15, 31, 63]);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ETIMEDOUT]);
});

Deno.test("after a lost SYN the RTO is 3 s and the window one segment", () => {
  //= rfc5681#3.1 type=test
  // Further, if the SYN or SYN/ACK is lost, the initial window used by a sender after a correctly transmitted SYN MUST be one
  // segment consisting of at most SMSS bytes.
  //= rfc6298#5.7 type=test
  // If the timer expires awaiting the ACK of a SYN segment and the TCP implementation is using an RTO less than 3 seconds,
  // the RTO MUST be re-initialized to 3 seconds when data transmission begins
  //= rfc6928#2 type=test
  // If either the SYN or SYN/ACK is lost, the initial window used by a sender after a correctly transmitted SYN MUST be one
  // segment consisting of at most MSS bytes
  const peer = Peer.connecting();
  peer.pass(1500);
  peer.seq = peer.ack = 1;
  peer.send({ flags: "SA", seq: 0, ack: 1, options: mss(1000) });
  const start = peer.pair.now;
  assertEquals(peer.write(5000).map((s) => s.length), [1000]);
  assertEquals(peer.pass(3500).map((s) => Math.round(s.at - start)), [3000]);
});

Deno.test("the initial window is ten segments, at most 14600 bytes or two segments", () => {
  //= rfc6928#2 type=test
  // the upper bound for the initial window will change to: min (10*MSS, max (2*MSS, 14600))
  for (const [size, want] of [[536, 10], [1460, 10], [8960, 2]]) {
    const peer = Peer.accepted({ syn: mss(size), link: { mtu: 9000 } });
    assertEquals(peer.write(100_000).length, want);
  }
});

Deno.test("MSS: 536 when the peer does not say, never more than the path takes, nonsense bounded", () => {
  //= rfc9293#3.7.1 type=test
  // If an MSS Option is not received at connection setup, TCP implementations MUST assume a default send MSS of 536
  assertEquals(Peer.accepted({ syn: [] }).tcb.sendMss, 536);
  //= rfc9293#3.7.1 type=test
  // Eff.snd.MSS = min(SendMSS+20, MMS_S) - TCPhdrsize - IPoptionsize
  assertEquals(Peer.accepted({ syn: mss(65535) }).tcb.sendMss, 1460);
  assertEquals(Peer.accepted({ syn: [...mss(65535), ...stamps(1, 0)] }).tcb.sendMss, 1448);
  assertEquals(Peer.accepted({ syn: mss(0) }).tcb.sendMss, 48);
});

Deno.test("options are in use only when both ends offer them; the window of a SYN is not scaled", () => {
  //= rfc7323#2.2 type=test
  // The window field in a segment where the SYN bit is set (i.e., a <SYN> or <SYN,ACK>) MUST NOT be scaled.
  const all = [...mss(1460), ...SACK_OK, ...scale(15), ...stamps(5, 0)];
  const peer = new Peer();
  const listener = peer.host.listen(0, 80, 4) as Listener;
  const [reply] = peer.send({ flags: "S", seq: 0, options: all, window: 1000 });
  const [tcb] = peer.host.sockets();
  assertEquals([tcb.sndWnd, tcb.sndWndShift, tcb.sack, tcb.timestamps], [1000, 14, true, true]);
  assertEquals(reply.options.length, 20);
  peer.send({ seq: 1, ack: 1, window: 2, options: stamps(6, 0) });
  assertEquals((listener.accept() as Tcb).sndWnd, 2 << 14);
  const plain = new Peer({ config: { defaults: { sack: false, timestamps: false, windowScale: false } } });
  plain.host.listen(0, 80, 4);
  assertEquals(plain.send({ flags: "S", seq: 0, options: all })[0].options.length, 4);
  const bare = new Peer();
  bare.host.listen(0, 80, 4);
  assertEquals(bare.send({ flags: "S", seq: 0, options: mss(1460) })[0].options.length, 4);
});

Deno.test("SYN-RECEIVED: a reset goes back to LISTEN, a wrong acknowledgment is reset", () => {
  const peer = new Peer();
  const listener = peer.host.listen(0, 80, 4) as Listener;
  peer.send({ flags: "S", seq: 0, options: mss(1460) });
  assertEquals(flags(peer.send({ seq: 1, ack: 77 })), ["R"]);
  assertEquals(peer.out[0].seq, 77);
  assertEquals(flags(peer.send({ seq: 1, ack: 0 })), ["R"]);
  assertEquals([...peer.host.sockets()].map((t) => t.state), [SYN_RECEIVED]);
  assertEquals(flags(peer.send({ flags: "R", seq: 1 })), []);
  assertEquals([peer.host.table.size, listener.halfOpen.size, listener.accept()], [0, 0, EAGAIN]);
  assertEquals(flags(peer.send({ flags: "S", seq: 0, options: mss(1460) })), ["SA"]);
});

Deno.test("LISTEN: resets are ignored, acknowledgments reset, SYN with FIN dropped; CLOSED resets all but resets", () => {
  const peer = new Peer();
  peer.host.listen(0, 80, 4);
  assertEquals(flags(peer.send({ flags: "R" })), []);
  const [rst] = peer.send({ flags: "A", ack: 1234 });
  assertEquals([rst.flags, rst.seq], ["R", 1234]);
  assertEquals(flags(peer.send({ flags: "SA", ack: 1 })), ["R"]);
  for (const letters of ["SF", "", "F", "PU"]) assertEquals(flags(peer.send({ flags: letters })), []);
  assertEquals(peer.host.statistics.badHeader, 4);
  peer.hostPort = 81;
  const [closed] = peer.send({ flags: "SF", seq: 0, data: 10 });
  assertEquals([closed.flags, closed.seq, closed.ack], ["RA", (0 - peer.iss) | 0, 12]);
  assertEquals(flags(peer.send({ flags: "RA" })), []);
  assertEquals(peer.host.statistics.noListener, 1);
});

Deno.test("half-open discovery: a SYN for a connection that only one end knows leads to its reset", () => {
  //= rfc5961#4.2 type=test
  // If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred to as challenge ACK)
  // to the remote peer
  for (const seq of [0, 1, 5000, -5000]) {
    const peer = Peer.accepted();
    const [ack] = peer.send({ flags: "S", seq, options: mss(1460) });
    assertEquals([ack.flags, ack.seq, ack.ack, peer.tcb.state], ["A", 1, 1, ESTABLISHED]);
    peer.send({ flags: "R", seq: ack.ack });
    assertEquals(peer.tcb.state, CLOSED);
  }
});

Deno.test("a SYN without timestamps into a connection that has them is challenged too, wherever it lies", () => {
  //= rfc5961#4.2 type=test
  // If the SYN bit is set, irrespective of the sequence number, TCP MUST send an ACK (also referred to as challenge ACK)
  // to the remote peer
  for (const seq of [0, 1, 500, 5000, -5000, 1 << 30]) {
    const peer = Peer.accepted({ syn: [...mss(1460), ...stamps(1000, 0)] });
    const [ack] = peer.send({ flags: "S", seq, options: mss(1460) });
    assertEquals([ack?.flags, ack?.seq, ack?.ack, peer.tcb.state], ["A", 1, 1, ESTABLISHED], `${seq}`);
    assertEquals(peer.host.statistics.challengeAcks, 1);
    assertEquals(peer.send({ flags: "A", seq: 1, data: 5, options: [] }), []); // anything else is dropped
  }
  // While the connection opens, the SYN again is answered with the SYN-ACK again.
  const opening = new Peer();
  opening.host.listen(0, 80, 4);
  opening.send({ flags: "S", seq: 0, ack: 0, options: [...mss(1460), ...stamps(1000, 0)] });
  assertEquals(opening.send({ flags: "S", seq: 0, ack: 0, options: mss(1460) }).map((s) => s.flags), ["SA"]);
});

Deno.test("the backlog bounds what waits; connections behind it are established when there is room again", () => {
  const pair = new TcpPair({ delayMs: 1 });
  const listener = pair.tcps[1].listen(0, 80, 4) as Listener;
  const all = Array.from({ length: 8 }, () => pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now) as Tcb);
  pair.run(500);
  assertEquals(listener.pending, 4);
  assert(pair.tcps[1].statistics.listenOverflow > 0);
  for (let i = 0; i < 4; i++) assert(typeof listener.accept() !== "number");
  pair.run(20_000);
  assertEquals(listener.pending, 4);
  assertEquals(all.filter((tcb) => tcb.state === ESTABLISHED).length, 8);
  listener.close();
  pair.run(5000);
  assertEquals([listener.pending, all.filter((tcb) => tcb.state === ESTABLISHED).length], [0, 4]);
});

Deno.test("segments to broadcast addresses, with bad checksums or port 0 are dropped without a word", () => {
  //= rfc9293#3.1 type=test
  // The sender MUST generate it (MUST-2) and the receiver MUST check it (MUST-3).
  const peer = new Peer();
  peer.host.listen(0, 80, 4);
  const bytes = peer.build({ flags: "S" });
  bytes[16] ^= 1;
  assertEquals(peer.after(() => peer.pair.deliver(0, bytes)), []);
  assertEquals(peer.host.statistics.badChecksum, 1);
  peer.peerPort = 0;
  assertEquals(peer.send({ flags: "S" }), []);
  assertEquals(peer.host.statistics.badHeader, 1);
});

Deno.test("a SYN to a broadcast or multicast address is discarded without a word", () => {
  //= rfc9293#3.9.2.3 type=test
  // A TCP implementation MUST silently discard an incoming SYN segment that is addressed to a broadcast or multicast address
  const peer = new Peer();
  peer.host.listen(0, 80, 4);
  for (const cast of [1, 2]) {
    const packet = packetOf(ipv4({ protocol: 6 }, peer.build({ flags: "S", seq: 0 })), { cast, flags: 1 });
    assertEquals(peer.after(() => peer.host.input(packet, peer.pair.now)), []);
  }
  assertEquals([peer.host.table.size, peer.host.statistics.badHeader], [0, 2]);
});
