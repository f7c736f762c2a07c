import { assert, assertEquals } from "@std/assert";
import { EADDRNOTAVAIL, ECONNREFUSED, ECONNRESET, OK } from "../../../stack/codes.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CLOSE_WAIT, CLOSED, ESTABLISHED, EVENT_ERROR, EVENT_READABLE, SYN_RECEIVED } from "../../../stack/tcp/types.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";
import { mss, Peer } from "../../testing/tcp_peer.ts";

Deno.test("OPEN: a listener on a port that connections use already, and connections on a port that is listened on", () => {
  //= rfc9293#3.9.1.1 type=test
  // Every passive OPEN call either creates a new connection record in LISTEN state, or it returns an error; it MUST NOT affect
  // any previously created connection record (MUST-41).
  //= rfc9293#3.9.1.1 type=test
  // A TCP implementation that supports multiple concurrent connections MUST provide an OPEN call that will functionally allow an
  // application to LISTEN on a port while a connection block with the same local port is in SYN-SENT or SYN-RECEIVED state
  // (MUST-42).
  const pair = new TcpPair({ delayMs: 1 });
  const [tcp, other] = pair.tcps;
  const opening = tcp.connect(0, 7, pair.ips[1].key, 80, pair.now) as Tcb; // SYN-SENT on port 7
  const listener = tcp.listen(0, 7, 4) as Listener;
  assert(typeof listener !== "number");
  const before = [opening.state, opening.localPort, opening.iss];
  const accepted = other.connect(0, 0, pair.ips[0].key, 7, pair.now) as Tcb;
  pair.step(pair.now + 2); // the SYN comes: SYN-RECEIVED on port 7
  assertEquals(typeof tcp.listen(0, 7, 4), "number"); // a second LISTEN is refused, and the first goes on
  assertEquals([opening.state, opening.localPort, opening.iss], before);
  pair.run(100);
  assertEquals([accepted.state, (listener.accept() as Tcb).state], [ESTABLISHED, ESTABLISHED]);
});

Deno.test("OPEN: the local address is the caller's when given, else the IP layer's choice, and stays the same", () => {
  //= rfc9293#3.9.1.1 type=test
  // The optional "local IP address" parameter MUST be supported to allow the specification of the local IP address (MUST-43).
  const pair = new TcpPair({ delayMs: 1 });
  const [tcp, other] = pair.tcps;
  const here = pair.ips[0].key;
  const there = pair.ips[1].key;
  assertEquals(tcp.listen(here + 9, 80, 1), EADDRNOTAVAIL);
  assertEquals((tcp.connect(here, 0, there, 80, pair.now) as Tcb).localKey, here);
  //= rfc9293#3.9.1.1 type=test
  // If an application on a multihomed host does not specify the local IP address when actively opening a TCP connection, then the
  // TCP implementation MUST ask the IP layer to select a local IP address before sending the (first) SYN (MUST-44).
  const chosen = tcp.connect(0, 0, there, 81, pair.now) as Tcb;
  assertEquals(chosen.localKey, here);
  //= rfc9293#3.9.1.1 type=test
  // At all other times, a previous segment has either been sent or received on this connection, and TCP implementations MUST use
  // the same local address that was used in those previous segments (MUST-45).
  const listener = other.listen(there, 82, 1) as Listener;
  const tcb = tcp.connect(0, 0, there, 82, pair.now) as Tcb;
  pair.run(50);
  const end = listener.accept() as Tcb;
  // The connection is found by its four-tuple alone: a segment to or from another address would not reach it.
  tcb.send(new Uint8Array(10), 0, 10);
  pair.run(50);
  assertEquals([tcb.localKey, end.remoteKey, end.receiveQueued], [here, here, 10]);
});

Deno.test("how it ended is told: a FIN is the end of the stream, a reset an error", () => {
  //= rfc9293#3.6 type=test
  // If the local TCP connection is closed by the remote side due to a FIN or RST received from the remote side, then the local
  // application MUST be informed whether it closed normally or was aborted (MUST-12).
  const ended = Peer.accepted();
  ended.tcb.events = 0;
  ended.send({ flags: "AF" });
  assertEquals([ended.tcb.state, ended.tcb.finReceived, ended.read(), ended.tcb.error], [CLOSE_WAIT, true, 0, OK]);
  assertEquals(ended.tcb.events & (EVENT_READABLE | EVENT_ERROR), EVENT_READABLE);
  const reset = Peer.accepted();
  reset.send({ flags: "R" });
  assertEquals([reset.tcb.state, reset.tcb.finReceived, reset.tcb.error], [CLOSED, false, ECONNRESET]);
  assert((reset.tcb.events & EVENT_ERROR) !== 0);
});

Deno.test("SYN-RECEIVED remembers who opened: a reset refuses our own attempt, and a listener listens on", () => {
  //= rfc9293#3.5 type=test
  // Note that a TCP implementation MUST keep track of whether a connection has reached SYN-RECEIVED state as the result of a
  // passive OPEN or an active OPEN (MUST-11).
  const active = Peer.connecting();
  active.send({ flags: "S", seq: 0, ack: 0, options: mss(1460) }); // crosses ours
  assertEquals(active.tcb.state, SYN_RECEIVED);
  active.send({ flags: "R", seq: 1, ack: 0 });
  assertEquals([active.tcb.state, active.tcb.error], [CLOSED, ECONNREFUSED]);
  const passive = new Peer();
  const listener = passive.host.listen(0, 80, 4) as Listener;
  passive.send({ flags: "S", seq: 0, ack: 0, options: mss(1460) });
  assertEquals(passive.host.table.size, 1);
  passive.send({ flags: "R", seq: 1, ack: 0 });
  assertEquals([passive.host.table.size, listener.pending], [0, 0]);
  passive.peerPort++;
  assertEquals(passive.send({ flags: "S", seq: 0, ack: 0, options: mss(1460) }).map((s) => s.flags), ["SA"]);
});

Deno.test("a reset may carry text, which is not delivered", () => {
  //= rfc9293#3.5.3 type=test
  // TCP implementations SHOULD allow a received RST segment to include data (SHLD-2).
  const peer = Peer.accepted();
  peer.send({ flags: "RA", data: new TextEncoder().encode("no such service") as Uint8Array<ArrayBuffer> });
  assertEquals([peer.tcb.state, peer.tcb.error, peer.tcb.receiveQueued], [CLOSED, ECONNRESET, 0]);
});

Deno.test("a series of segments is acknowledged once, when all were taken", () => {
  //= rfc9293#3.10.7.4 type=test
  // In general, the processing of received segments MUST be implemented to aggregate ACK segments whenever possible (MUST-58).
  //= rfc9293#3.10.7.4 type=test
  // For example, if the TCP endpoint is processing a series of queued segments, it MUST process them all before sending any ACK
  // segments (MUST-59).
  const peer = Peer.accepted();
  peer.out.length = 0;
  for (let i = 0; i < 40; i++) peer.pair.deliver(0, peer.build({ seq: 1 + 1000 * i, data: 1000 }));
  assertEquals(peer.out, []);
  peer.pair.flush();
  assertEquals(peer.out.map((s) => [s.flags, s.ack]), [["A", 40_001]]);
});

Deno.test("what is written goes out at once or when it may, and the last of it with PSH", () => {
  //= rfc9293#3.9.1.2 type=test
  // If PUSH flags are not implemented, then the sending TCP peer: (1) MUST NOT buffer data indefinitely (MUST-60), and (2) MUST
  // set the PSH bit in the last buffered segment (i.e., when there is no more queued data to be sent) (MUST-61).
  //= rfc9293#3.9.1.2 type=test
  // If PUSH flags are not implemented, then the sending TCP peer: (1) MUST NOT buffer data indefinitely (MUST-60), and (2) MUST
  // set the PSH bit in the last buffered segment (i.e., when there is no more queued data to be sent) (MUST-61).
  const peer = Peer.accepted({ syn: mss(1000) });
  assertEquals(peer.write(2500).map((s) => [s.length, s.flags]), [[1000, "A"], [1000, "A"], [500, "PA"]]);
  assertEquals(peer.write(300), []); // Nagle keeps it ...
  assertEquals(peer.send({ ack: 2501 }).map((s) => [s.length, s.flags]), [[300, "PA"]]); // ... no longer than this
  peer.send({ ack: 2801 });
  assertEquals(peer.write(3000).map((s) => s.flags), ["A", "A", "PA"]);
});

Deno.test("crumbs that were written one by one go out as the largest segments", () => {
  //= rfc9293#3.9.1.2 type=test
  // The transmitter SHOULD collapse successive bits when it packetizes data, to send the largest possible segment (SHLD-27).
  const peer = Peer.accepted({ syn: mss(1000), window: 0 });
  for (let i = 0; i < 300; i++) assertEquals(peer.write(10), []);
  assertEquals(peer.send({ window: 10_000 }).map((s) => s.length), [1000, 1000, 1000]);
});

Deno.test("what lies behind the right edge of a window that shrank may stay unacknowledged for ever", () => {
  //= rfc9293#3.8.6 type=test
  // The sender MAY also retransmit old data beyond SND.UNA+SND.WND (MAY-7), but SHOULD NOT time out the connection if data beyond
  // the right window edge is not acknowledged (SHLD-17).
  const peer = Peer.accepted({ syn: mss(1000) });
  peer.write(6000);
  peer.send({ ack: 1501, window: 0 }); // 4500 bytes are out beyond the edge
  const until = peer.pair.now + 6 * 3600_000;
  let probes = 0;
  while (peer.pair.now < until) {
    peer.out.length = 0;
    peer.pair.run(until - peer.pair.now, () => peer.out.length > 0);
    if (peer.out.length === 0) break;
    probes++;
    for (const probe of peer.out) assert(probe.seq <= 1501, `${probe.seq}`);
    peer.send({ ack: 1501, window: 0 });
  }
  assert(probes > 100);
  assertEquals([peer.tcb.state, peer.tcb.error], [ESTABLISHED, OK]);
});

Deno.test("soft errors are told to those who look, and to nobody else", () => {
  //= rfc9293#3.9.1.8 type=test
  // However, an application program that does not want to receive such ERROR_REPORT calls SHOULD be able to effectively disable
  // these calls (SHLD-20).
  const peer = Peer.accepted();
  peer.write(100);
  peer.pass(20_000);
  // A figure of `info()` and an event that nobody need look at: calls and state are those of a connection that goes on.
  assertEquals([peer.tcb.state, peer.tcb.error, peer.tcb.info().softError < 0], [ESTABLISHED, OK, true]);
});
