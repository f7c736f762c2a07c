import { assert, assertEquals, assertNotEquals } from "@std/assert";
import { EADDRINUSE, ECONNRESET, EPIPE, OK } from "../../../stack/codes.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import {
  CLOSE_WAIT,
  CLOSED,
  CLOSING,
  ESTABLISHED,
  FIN_WAIT_1,
  FIN_WAIT_2,
  LAST_ACK,
  TIME_WAIT,
} from "../../../stack/tcp/types.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";
import { mss, Peer, stamps } from "../../testing/tcp_peer.ts";

const flags = (seen: { flags: string }[]) => seen.map((s) => s.flags);

Deno.test("active close: FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT for 2 MSL, CLOSED", () => {
  //= rfc9293#3.6.1 type=test
  // When a connection is closed actively, it MUST linger in the TIME-WAIT state for a time 2xMSL (Maximum Segment Lifetime)
  // (MUST-13).
  const peer = Peer.accepted();
  const [fin] = peer.after(() => peer.tcb.close());
  assertEquals([fin.flags, fin.seq, peer.tcb.state], ["FA", 1, FIN_WAIT_1]);
  peer.send({ ack: 2 });
  assertEquals(peer.tcb.state, FIN_WAIT_2);
  const [ack] = peer.send({ flags: "AF", ack: 2 });
  assertEquals([ack.flags, ack.ack, peer.tcb.state], ["A", 2, TIME_WAIT]);
  peer.pass(59_000);
  // The peer did not get it: acknowledged, and 2 MSL begin again. What is not that FIN does not prolong it.
  assertEquals(flags(peer.send({ flags: "AF", ack: 2 })), ["A"]);
  peer.pass(59_000);
  peer.send({ flags: "AF", seq: 500_000, ack: 2 });
  peer.send({ flags: "AF", seq: -9000, ack: 2 });
  assertEquals(peer.tcb.state, TIME_WAIT);
  peer.pass(2000);
  assertEquals([peer.tcb.state, peer.host.table.size, peer.host.statistics.timeWait], [CLOSED, 0, 0]);
});

Deno.test("active close: FIN and its acknowledgment in one segment", () => {
  const peer = Peer.accepted();
  peer.after(() => peer.tcb.close());
  peer.send({ flags: "AF", ack: 2 });
  assertEquals(peer.tcb.state, TIME_WAIT);
});

Deno.test("simultaneous close: FIN-WAIT-1, CLOSING, TIME-WAIT", () => {
  const peer = Peer.accepted();
  peer.after(() => peer.tcb.close());
  assertEquals(flags(peer.send({ flags: "AF" })), ["A"]);
  assertEquals(peer.tcb.state, CLOSING);
  peer.send({ seq: 2, ack: 2 });
  assertEquals(peer.tcb.state, TIME_WAIT);
});

Deno.test("passive close: CLOSE-WAIT, LAST-ACK, CLOSED", () => {
  const peer = Peer.accepted();
  assertEquals(flags(peer.send({ flags: "AF" })), ["A"]);
  assertEquals([peer.tcb.state, peer.tcb.finReceived, peer.read()], [CLOSE_WAIT, true, 0]);
  const [fin] = peer.after(() => peer.tcb.close());
  assertEquals([fin.flags, fin.seq, fin.ack, peer.tcb.state], ["FA", 1, 2, LAST_ACK]);
  peer.send({ seq: 2, ack: 2 });
  assertEquals([peer.tcb.state, peer.tcb.error, peer.host.table.size], [CLOSED, OK, 0]);
});

Deno.test("half-close: data goes on for long in the direction that stays open, either way", () => {
  for (const first of [0, 1]) {
    const pair = new TcpPair({ delayMs: 5, loss: 0.02 }, 3);
    const both = pair.connected();
    const [shut, open] = [both[first], both[1 - first]];
    shut.shutdownWrite();
    pair.run(2000);
    assertEquals([shut.state, open.state], [FIN_WAIT_2, CLOSE_WAIT]);
    let got = 0;
    const into = new Uint8Array(65536);
    for (let round = 0; round < 200; round++) {
      assertEquals(open.send(new Uint8Array(1000), 0, 1000), 1000);
      pair.run(10_000);
      for (let n = 0; (n = shut.receive(into, 0, into.length)) > 0;) got += n;
    }
    assertEquals([got, shut.send(into, 0, 1)], [200_000, EPIPE]);
    open.close();
    pair.run(2000);
    assertEquals(shut.state, TIME_WAIT);
    shut.close();
    pair.run(100_000);
    assertEquals(pair.tcps.map((t) => t.table.size + t.pool.used), [0, 0]);
  }
});

Deno.test("FIN lost, out of order, with data, before its data", () => {
  const peer = Peer.accepted();
  peer.send({ flags: "AF", seq: 11, data: 5 }); // behind a hole
  assertEquals([peer.tcb.state, peer.tcb.finReceived], [ESTABLISHED, false]);
  const [ack] = peer.send({ seq: 1, data: 10 });
  assertEquals([ack.ack, peer.tcb.state, peer.read()], [17, CLOSE_WAIT, 15]);
  const late = Peer.accepted();
  late.send({ flags: "AF", seq: 11 }); // a FIN alone, before the text
  assertEquals(late.send({ seq: 1, data: 10 })[0].ack, 12);
  assertEquals(late.tcb.state, CLOSE_WAIT);
  const lost = Peer.accepted();
  lost.write(100);
  lost.send({ ack: 101 });
  lost.after(() => lost.tcb.close());
  assertEquals(flags(lost.pass(5000)).every((f) => f.includes("F")), true);
});

Deno.test("data behind the FIN is not taken", () => {
  const peer = Peer.accepted();
  peer.send({ flags: "AF", data: 10 });
  peer.send({ seq: 12, data: 10 });
  peer.send({ seq: 5, data: 100 });
  assertEquals([peer.read(), peer.tcb.state], [10, CLOSE_WAIT]);
});

Deno.test("close with unread data resets; so does data after close; linger 0 too", () => {
  //= rfc9293#3.6.1 type=test
  // If such a host issues a CLOSE call while received data is still pending in the TCP connection, or if new data is received
  // after CLOSE is called, its TCP implementation SHOULD send a RST to show that data was lost (SHLD-3).
  //= rfc1122#4.2.2.13 type=test
  // If such a host issues a CLOSE call while received data is still pending in TCP, or if new data is received after
  // CLOSE is called, its TCP SHOULD send a RST to show that data was lost.
  const unread = Peer.accepted();
  unread.send({ data: 10 });
  assertEquals(flags(unread.after(() => unread.tcb.close())), ["RA"]);
  assertEquals([unread.tcb.state, unread.host.pool.used], [CLOSED, 0]);
  //= rfc1122#4.2.2.13 type=test
  // if new data is received after CLOSE is called, its TCP SHOULD send a RST to show that data was lost
  const after = Peer.accepted();
  after.after(() => after.tcb.close());
  after.send({ ack: 2 });
  assertEquals(flags(after.send({ ack: 2, data: 10 })), ["RA"]);
  assertEquals([after.tcb.state, after.tcb.error, after.host.table.size], [CLOSED, ECONNRESET, 0]);
  const linger = Peer.accepted();
  linger.write(10);
  assertEquals(flags(linger.after(() => linger.tcb.close(0))), ["RA"]);
  assertEquals(linger.host.table.size, 0);
});

Deno.test("FIN-WAIT-2: an orphan ends after a minute, a half-closed socket that is held does not", () => {
  const orphan = Peer.accepted();
  orphan.after(() => orphan.tcb.close());
  orphan.send({ ack: 2 });
  orphan.pass(59_000);
  assertEquals(orphan.tcb.state, FIN_WAIT_2);
  orphan.pass(2000);
  assertEquals([orphan.tcb.state, orphan.host.table.size], [CLOSED, 0]);
  const held = Peer.accepted();
  held.after(() => held.tcb.shutdownWrite());
  held.send({ ack: 2 });
  held.pass(24 * 3600 * 1000);
  assertEquals(held.tcb.state, FIN_WAIT_2);
});

Deno.test("a FIN waits for the window as a byte does: into a closed one it goes as the probe, and leaves none behind", () => {
  //= rfc9293#3.8.6.1 type=test
  // Probing of zero (offered) windows MUST be supported (MUST-36).
  const full = Peer.accepted({ window: 500 });
  full.write(500);
  assertEquals(full.after(() => full.tcb.shutdownWrite()), []); // 500 bytes fill the window: no number is left for the FIN
  assertEquals(full.send({ ack: 501 }).map((s) => [s.flags, s.seq, s.length]), [["FA", 501, 0]]);
  const peer = Peer.accepted({ window: 0 });
  assertEquals(peer.after(() => peer.tcb.shutdownWrite()), []);
  assertEquals(peer.pass(1500).map((s) => [s.flags, s.seq, s.length])[0], ["FA", 1, 0]);
  peer.send({ ack: 2 });
  assertEquals(peer.tcb.state, FIN_WAIT_2);
  assertEquals(peer.pass(24 * 3600 * 1000), []);
  assertEquals(peer.tcb.state, FIN_WAIT_2);
});

Deno.test("TIME-WAIT gives way to a newer SYN, not to an old duplicate, and the new numbers are beyond the old", () => {
  //= rfc9293#3.6.1 type=test
  // This algorithm for reducing TIME-WAIT is a Best Current Practice that SHOULD be implemented since Timestamp Options are
  // commonly used, and using them to reduce TIME-WAIT provides benefits for busy Internet servers (SHLD-4).
  //= rfc6191#2 type=test
  // If the previous incarnation used timestamps and the timestamp of the SYN is greater than the last one seen, or equal
  // with a greater sequence number, the request SHOULD be accepted; an older timestamp makes it an old duplicate
  const make = () => {
    const peer = Peer.accepted({ syn: [...mss(1460), ...stamps(1000, 0)] });
    peer.options = () => stamps(1000, 0);
    peer.after(() => peer.tcb.close());
    peer.send({ flags: "AF", ack: 2 });
    assertEquals(peer.tcb.state, TIME_WAIT);
    peer.host.listen(0, 80, 4);
    return peer;
  };
  for (
    const [seq, stamp, taken] of [[-5000, 1001, true], [5000, 1000, true], [5000, 999, false], [-5000, 1000, false]] as const
  ) {
    const peer = make();
    const [reply] = peer.send({ flags: "S", seq, options: [...mss(1460), ...stamps(stamp, 0)] });
    assertEquals(reply.flags, taken ? "SA" : "A", `${seq} ${stamp}`);
    assertEquals(peer.host.statistics.timeWaitReused, taken ? 1 : 0);
  }
  //= rfc9293#3.6.1 type=test
  // However, it MAY accept a new SYN from the remote TCP endpoint to reopen the connection directly from TIME-WAIT state (MAY-2),
  // if it: (1) assigns its initial sequence number for the new connection to be larger than the largest sequence number it used
  // on the previous connection incarnation
  const fast = Peer.accepted({ syn: [...mss(1460), ...stamps(1000, 0)] });
  for (let sent = 0; sent < 3_000_000;) {
    sent += fast.write(14_000).reduce((sum, s) => sum + s.length, 0);
    fast.send({ ack: 1 + sent });
  }
  fast.after(() => fast.tcb.close());
  const before = fast.tcb.sndNxt;
  fast.send({ flags: "AF", ack: (before - fast.iss) | 0 });
  fast.host.listen(0, 80, 4);
  fast.send({ flags: "S", seq: 9000, options: [...mss(1460), ...stamps(2000, 0)] });
  assert(((fast.iss - before) | 0) > 0);
});

Deno.test("our own connect takes over a TIME-WAIT only with timestamps, and after a second", () => {
  const pair = new TcpPair({ delayMs: 1 });
  const listener = pair.tcps[1].listen(0, 80, 4) as Listener;
  const one = pair.tcps[0].connect(0, 999, pair.ips[1].key, 80, pair.now) as Tcb;
  pair.run(100);
  const server = listener.accept() as Tcb;
  one.close();
  pair.run(10);
  server.close();
  pair.run(500);
  assertEquals(one.state, TIME_WAIT);
  assertEquals(pair.tcps[0].connect(0, 999, pair.ips[1].key, 80, pair.now), EADDRINUSE);
  pair.run(1000);
  const again = pair.tcps[0].connect(0, 999, pair.ips[1].key, 80, pair.now) as Tcb;
  pair.run(100);
  assertEquals([again.state, one.state], [ESTABLISHED, CLOSED]);
  assertNotEquals(again.iss, one.iss);
});

Deno.test("TIME-WAIT is bounded: the oldest goes first", () => {
  const pair = new TcpPair({ delayMs: 1 }, 1, [{ limits: { timeWaitMax: 3 } }]);
  const all = Array.from({ length: 5 }, (_, i) => {
    const [client, server] = pair.connected(100 + i);
    client.close();
    pair.run(10);
    server.close();
    pair.run(10);
    return client;
  });
  assertEquals(all.map((tcb) => tcb.state), [CLOSED, CLOSED, TIME_WAIT, TIME_WAIT, TIME_WAIT]);
  assertEquals([pair.tcps[0].statistics.timeWaitOverflow, pair.tcps[0].statistics.timeWait], [2, 3]);
});

Deno.test("what was read too late: bytes and FIN stay readable after CLOSED, and closing gives the memory back", () => {
  for (const reads of [true, false]) {
    const peer = Peer.accepted();
    peer.send({ flags: "AF", data: 10 });
    peer.after(() => peer.tcb.shutdownWrite());
    peer.send({ seq: 12, ack: 2 });
    assertEquals([peer.tcb.state, peer.tcb.receiveQueued], [CLOSED, 10]);
    if (reads) assertEquals([peer.read(), peer.read()], [10, 0]);
    peer.tcb.close();
    assertEquals(peer.host.pool.used, 0);
  }
});

Deno.test("finAckDelayed: our FIN carries the acknowledgment of the peer's; without one it goes when text's would, and at once when it fills a gap", () => {
  const closing = Peer.accepted({ config: { finAckDelayed: true } });
  assertEquals(closing.send({ flags: "AF" }), []);
  const [fin] = closing.after(() => closing.tcb.close());
  assertEquals([fin.flags, fin.seq, fin.ack, closing.tcb.state], ["FA", 1, 2, LAST_ACK]);
  const waiting = Peer.accepted({ config: { finAckDelayed: true } });
  assertEquals([waiting.send({ flags: "AF" }), waiting.pass(39)], [[], []]);
  assertEquals(flags(waiting.pass(1)), ["A"]);
  const late = Peer.accepted({ config: { finAckDelayed: true } });
  late.send({ flags: "AF", seq: 11 });
  assertEquals(late.send({ seq: 1, data: 10 })[0].ack, 12);
});
