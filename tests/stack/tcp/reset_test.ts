import { assertEquals } from "@std/assert";
import { ECONNABORTED, ECONNRESET, OK } from "../../../stack/codes.ts";
import { CLOSED, CLOSING, ESTABLISHED, FIN_WAIT_1, FIN_WAIT_2, LAST_ACK, TIME_WAIT } from "../../../stack/tcp/types.ts";
import { mss, Peer } from "../../testing/tcp_peer.ts";

const flags = (seen: { flags: string }[]) => seen.map((s) => s.flags);

Deno.test("a reset counts at RCV.NXT alone; elsewhere in the window it is challenged, outside it is nothing", () => {
  //= rfc5961#3.2 type=test
  // 2) If the RST bit is set and the sequence number exactly matches the next expected sequence number (RCV.NXT), then TCP MUST
  // reset the connection.
  //= rfc5961#3.2 type=test
  // 3) If the RST bit is set and the sequence number does not exactly match the next expected sequence value, yet is within the
  // current receive window (RCV.NXT < SEG.SEQ < RCV.NXT+RCV.WND), TCP MUST send an acknowledgment (challenge ACK):
  const peer = Peer.accepted();
  for (const letters of ["R", "RA", "RSA", "RF"]) {
    assertEquals(flags(peer.send({ flags: letters, seq: 2 })), ["A"]);
    assertEquals(flags(peer.send({ flags: letters, seq: -1 })), []);
    assertEquals(flags(peer.send({ flags: letters, seq: 1_000_000 })), []);
  }
  //= rfc5961#3.2 type=test
  // Instead, implementations SHOULD implement the following steps in place of those specified in [RFC0793] (as listed above).
  //= rfc5961#3.2 type=test
  // After sending the challenge ACK, TCP MUST drop the unacceptable segment and stop processing the incoming packet further.
  //= rfc5961#3.2 type=test
  // In all other cases, where the SEQ-field does not match and is outside the window, the receiver MUST silently discard the
  // segment.
  assertEquals(peer.tcb.state, ESTABLISHED);
  assertEquals(flags(peer.send({ flags: "R", seq: 1 })), []);
  //= rfc5961#4.2 type=test
  // Upon receipt of a valid RST, the local TCP endpoint MUST terminate its connection.
  assertEquals([peer.tcb.state, peer.tcb.error, peer.host.statistics.resetsReceived], [CLOSED, ECONNRESET, 1]);
});

Deno.test("challenges are limited to ten in five seconds, each connection by itself", () => {
  //= rfc5961#7 type=test
  // An implementation SHOULD include an ACK throttling mechanism to be conservative.
  const peer = Peer.accepted();
  let answers = 0;
  for (let i = 0; i < 100; i++) answers += peer.send({ flags: "S", seq: 5, options: mss(1460) }).length;
  assertEquals(answers, 10);
  peer.pass(5001);
  assertEquals(flags(peer.send({ flags: "S", seq: 5 })), ["A"]);
});

Deno.test("challenges: how many, and in how long, is the owner's to say", () => {
  //= rfc5961#7 type=test
  // The values for both the time and number of ACKs SHOULD be tunable by the system administrator to accommodate different
  // perceived levels of threat and/or system resources.
  //= rfc5961#7 type=test
  // The time limit SHOULD be tunable to help timeout brute force attacks faster than a potential legitimate flood of RSTs.
  const peer = Peer.accepted({ config: { limits: { challengesMax: 3, challengePeriodMs: 100 } } });
  const ask = () => flags(Array.from({ length: 20 }, () => peer.send({ flags: "S", seq: 5 })).flat()).length;
  assertEquals([ask(), peer.host.statistics.challengesWithheld], [3, 17]);
  peer.pass(99);
  assertEquals(ask(), 0);
  peer.pass(1);
  assertEquals(ask(), 3);
});

Deno.test("a SYN in the middle of a connection is challenged, and nothing else that it carries counts", () => {
  //= rfc5961#4.2 type=test
  // After sending the acknowledgment, TCP MUST drop the unacceptable segment and stop processing further.
  const peer = Peer.accepted();
  peer.write(100);
  assertEquals(flags(peer.send({ flags: "SA", seq: 1, ack: 101, data: 50, window: 7 })), ["A"]);
  assertEquals([peer.tcb.receiveQueued, peer.tcb.sndWnd, peer.tcb.sendQueued], [0, 65_535, 100]);
});

Deno.test("ABORT: a reset in every state that has a peer who waits, none in the others", () => {
  //= rfc9293#3.10.5 type=test
  // CLOSING STATE, LAST-ACK STATE, TIME-WAIT STATE: Respond with "ok" and delete the TCB
  const made: [number, string[], (peer: Peer) => void][] = [
    [ESTABLISHED, ["RA"], () => {}],
    [FIN_WAIT_1, ["RA"], (p) => p.after(() => p.tcb.shutdownWrite())],
    [FIN_WAIT_2, ["RA"], (p) => {
      p.after(() => p.tcb.shutdownWrite());
      p.send({ ack: 2 });
    }],
    [CLOSING, [], (p) => {
      p.after(() => p.tcb.shutdownWrite());
      p.send({ flags: "AF" });
    }],
    [LAST_ACK, [], (p) => {
      p.send({ flags: "AF" });
      p.after(() => p.tcb.shutdownWrite());
    }],
    [TIME_WAIT, [], (p) => {
      p.after(() => p.tcb.shutdownWrite());
      p.send({ flags: "AF", ack: 2 });
    }],
  ];
  for (const [state, answer, prepare] of made) {
    const peer = Peer.accepted();
    prepare(peer);
    assertEquals(peer.tcb.state, state);
    assertEquals(flags(peer.after(() => peer.tcb.abort())), answer);
    assertEquals([peer.tcb.state, peer.tcb.error, peer.host.table.size], [CLOSED, ECONNABORTED, 0]);
  }
  const connecting = Peer.connecting();
  assertEquals(connecting.after(() => connecting.tcb.abort()), []);
});

Deno.test("a reset at the end of a closed connection is no error", () => {
  const peer = Peer.accepted();
  peer.send({ flags: "AF" });
  peer.after(() => peer.tcb.shutdownWrite());
  peer.send({ flags: "R", seq: 2 });
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, OK]);
});
