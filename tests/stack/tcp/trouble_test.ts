import { assertEquals } from "@std/assert";
import { ETIMEDOUT } from "../../../stack/codes.ts";
import type { IpLayer, Path } from "../../../stack/ip/types.ts";
import { CLOSED, ESTABLISHED, EVENT_TROUBLE, SYN_SENT } from "../../../stack/tcp/types.ts";
import { Peer } from "../../testing/tcp_peer.ts";

/** Counts the doubts that the internet layer is told of. */
function doubts(peer: Peer): { count: number } {
  const counted = { count: 0 };
  const ip: IpLayer = peer.pair.ips[0];
  ip.doubt = (_path: Path) => {
    counted.count++;
  };
  return counted;
}

Deno.test("R1: the third unanswered timeout casts doubt on the path and tells the owner; progress takes it back", () => {
  //= rfc9293#3.8.3 type=test
  // (b) When the number of transmissions of the same segment reaches or exceeds threshold R1, pass negative advice (see
  // Section 3.3.1.4 of [19]) to the IP layer, to trigger dead-gateway diagnosis.
  //= rfc9293#3.8.3 type=test
  // (e) TCP implementations SHOULD inform the application of the delivery problem …, when R1 is reached and before R2 (SHLD-9).
  //= rfc9293#3.8.3 type=test
  // The value of R1 SHOULD correspond to at least 3 retransmissions, at the current RTO (SHLD-10).
  const peer = Peer.accepted();
  const told = doubts(peer);
  peer.tcb.srttMs = 0;
  peer.tcb.rtoMs = 1000;
  peer.write(100);
  peer.pass(6900);
  assertEquals([told.count, peer.tcb.timeouts, peer.tcb.info().softError], [0, 2, 0]);
  peer.pair.now += 200; // not by `pass`, which takes the events away
  peer.host.advance(peer.pair.now);
  assertEquals([told.count, peer.tcb.timeouts, peer.tcb.info().softError], [1, 3, ETIMEDOUT]);
  assertEquals(peer.tcb.events & EVENT_TROUBLE, EVENT_TROUBLE);
  peer.send({ ack: 101 });
  assertEquals([peer.tcb.state, peer.tcb.info().softError], [ESTABLISHED, 0]);
});

Deno.test("R1 and R2 of an attempt: told at the third SYN again, and userTimeoutMs makes it last longer or shorter", () => {
  //= rfc9293#3.8.3 type=test
  // SYN retransmissions MUST be handled in the general way just described for data retransmissions, including notification of
  // the application layer.
  //= rfc9293#3.8.3 type=test
  // (d) An application MUST (MUST-21) be able to set the value for R2 for a particular connection.
  for (const [timeout, least, most] of [[5000, 5, 16], [0, 120, 130], [240_000, 240, 370]]) {
    const peer = new Peer();
    const told = doubts(peer);
    const tcb = peer.host.connect(0, 5000, 0x0a000002, 80, peer.pair.now, { userTimeoutMs: timeout });
    if (typeof tcb === "number") throw new Error(`${tcb}`);
    peer.tcb = tcb;
    peer.pass(5000);
    assertEquals([told.count, tcb.softError, tcb.state], [0, 0, SYN_SENT]);
    peer.pass(least * 1000 - 5100);
    assertEquals(tcb.state, SYN_SENT, `${timeout}`);
    peer.pass((most - least) * 1000 + 200);
    assertEquals([tcb.state, tcb.error], [CLOSED, ETIMEDOUT], `${timeout}`);
    assertEquals(told.count, timeout === 5000 ? 0 : 1);
  }
});

Deno.test("R2 of data is set by the user timeout, and is more than 100 s without", () => {
  //= rfc9293#3.8.3 type=test
  // The value of R2 SHOULD correspond to at least 100 seconds (SHLD-11).
  const peer = Peer.accepted();
  peer.write(100);
  peer.pass(600_000);
  assertEquals(peer.tcb.state, ESTABLISHED);
  peer.pass(3600_000);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ETIMEDOUT]);
  const short = Peer.accepted();
  short.tcb.setUserTimeout(3000);
  short.write(100);
  short.pass(10_000);
  assertEquals(short.tcb.state, CLOSED);
});
