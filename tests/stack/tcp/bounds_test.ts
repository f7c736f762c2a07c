import { assert, assertEquals } from "@std/assert";
import { EAGAIN } from "../../../stack/codes.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import { RECOVERY } from "../../../stack/tcp/tcb.ts";
import { ESTABLISHED, SYN_RECEIVED } from "../../../stack/tcp/types.ts";
import { u32 } from "../../testing/frames.ts";
import { mss, Peer, SACK_OK, scale } from "../../testing/tcp_peer.ts";

/** The SACK option with blocks in the host's relative numbers. */
function sack(peer: Peer, ...edges: number[]): number[] {
  return [1, 1, 5, 2 + 4 * edges.length, ...edges.flatMap((edge) => u32((peer.iss + edge) >>> 0))];
}

/** So many segments of 1000 bytes are in flight, on a path of 100 ms. */
function flying(segments: number): Peer {
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK, ...scale(10)], window: 65_535 });
  const { tcb } = peer;
  tcb.srttMs = tcb.minRttMs = 100;
  tcb.rttVarMs = 25;
  tcb.rtoMs = 30_000;
  tcb.cwnd = tcb.ssthresh = 1000 * segments;
  peer.send({}); // the window, scaled
  for (let left = 1000 * segments; left > 0; left -= 100_000) {
    const before = tcb.cwnd;
    peer.write(Math.min(left, 100_000));
    tcb.cwnd = before;
  }
  assertEquals(tcb.sent?.length, segments);
  peer.pass(100);
  return peer;
}

Deno.test("recovery of a window of 4 MiB looks at its holes, not at the window", () => {
  const peer = flying(4000);
  const sent = peer.tcb.sent!;
  let looks = 0;
  const flags = sent.flags.bind(sent);
  sent.flags = (index: number) => {
    looks++;
    return flags(index);
  };
  let most = 0;
  // Every hundredth is lost; each other segment is acknowledged by itself.
  for (let i = 1; i < 4000; i++) {
    if (i % 100 === 0) continue;
    looks = 0;
    const hole = 1000 * (i - (i % 100)) + (i > 99 ? 1000 : 1000);
    peer.send({ ack: 1, options: sack(peer, hole + 1, 1000 * i + 1001) });
    most = Math.max(most, looks);
  }
  assertEquals(peer.tcb.recovery, RECOVERY);
  assert(sent.length < 2 * 40 + 700, `${sent.length} records`); // the holes, what lies between, and what was sent since
  assert(most < 1000, `${most} records looked at for one acknowledgment`);
  peer.send({ ack: 4_000_001 });
  assertEquals([peer.tcb.sackedBytes, peer.tcb.lostBytes], [0, 0]);
});

Deno.test("records that joined stay right: crumbs in any order, FIN at the end, reneged after all", () => {
  const peer = flying(10);
  peer.after(() => peer.tcb.shutdownWrite());
  for (const i of [3, 1, 7, 5, 9, 2, 8, 6, 4]) peer.send({ ack: 1, options: sack(peer, 1000 * i + 1, 1000 * i + 1001) });
  const sent = peer.tcb.sent!;
  const joined = Array.from({ length: sent.length }, (_, i) => [sent.start(i) - peer.iss, sent.end(i) - peer.iss]);
  assertEquals(joined, [[1, 1001], [1001, 10_001], [10_001, 10_002]]);
  assertEquals(peer.tcb.sackedBytes, 9000);
  peer.send({ ack: 1001, options: sack(peer, 2001, 10_002) }); // the FIN too
  assertEquals([sent.length, sent.start(0) - peer.iss, peer.tcb.sackedBytes], [1, 1001, 9001]);
  //= rfc2018#5.1 type=test
  // Because the data receiver is allowed to discard SACKed data, when a retransmit timeout occurs the data sender MUST ignore
  // prior SACK information in determining which data to retransmit.
  const got = new Set<number>();
  for (let ack = 1001; ack < 10_001;) {
    for (const seen of peer.pass(130_000)) got.add(seen.seq);
    while (got.has(ack)) {
      ack += 1000;
      for (const seen of peer.send({ ack })) got.add(seen.seq);
    }
  }
  assertEquals(got.has(9001), true);
});

Deno.test("a peer that reports crumbs gets at most 16,384 records, and its data all the same", () => {
  const peer = flying(50);
  for (let at = 11; at < 49_900; at += 16) {
    peer.send({ ack: 1, options: sack(peer, at, at + 1, at + 4, at + 5, at + 8, at + 9, at + 12, at + 13) });
  }
  const records = peer.tcb.sent!.length;
  assert(records >= 16_384 && records < 16_384 + 16, `${records}`);
  peer.send({ ack: 50_001 });
  assertEquals([peer.tcb.sackedBytes, peer.tcb.lostBytes, peer.tcb.sent], [0, 0, null]);
});

Deno.test("a device that fills up in the middle of a turn: each connection waits once", () => {
  const peer = flying(600);
  const { tcb, host } = peer;
  const [ip] = peer.pair.ips;
  const send = ip.send.bind(ip);
  let room = 256; // the frames of one turn, all of them retransmissions: the turn ends and the device is full
  ip.send = (...given) => room-- > 0 ? send(...given) : EAGAIN;
  tcb.send(new Uint8Array(10_000), 0, 10_000); // new data behind them: the device says no to it
  tcb.rtoAt = peer.pair.now;
  host.schedule(tcb);
  host.advance(peer.pair.now);
  room = 256;
  tcb.cwnd = 600_000;
  let calls = 0;
  host.mark(tcb);
  const marked = host.mark.bind(host);
  host.mark = (one) => {
    if (!one.queued) calls++;
    marked(one);
  };
  host.flush(peer.pair.now);
  assertEquals([calls, tcb.queued], [1, true]);
  room = 10_000;
  host.flush(peer.pair.now);
  host.flush(peer.pair.now);
  assertEquals(tcb.unsent, 0);
});

Deno.test("an MSS that grows beyond the window, or shrinks below it, holds nothing up", () => {
  const peer = Peer.accepted({ syn: mss(60_000), link: { mtu: 576 } });
  peer.tcb.cwnd = peer.tcb.sendMss;
  for (const mtu of [9000, 296, 65_535]) {
    peer.pair.link.mtu = mtu;
    peer.host.renewPath(peer.tcb);
    const before = peer.tcb.sendQueued;
    const seen = peer.write(70_000);
    assert(seen.length > 0, `mtu ${mtu}: ${before} queued`);
    while (peer.tcb.sendQueued > 0) peer.send({ ack: (peer.tcb.sndNxt - peer.iss) | 0, window: 65_535 });
  }
});

Deno.test("the end of the last small segment may lie half the number space back, or seem ahead", () => {
  //= rfc9293#3.7.4 type=test
  // A TCP implementation SHOULD implement the Nagle algorithm to coalesce short segments (SHLD-7).
  for (const back of [0x7ffffff0, -0x7ffffff0, 0x40000000, 0]) {
    const peer = Peer.accepted({ syn: mss(1000) });
    peer.write(1000); // in flight, and not small
    peer.tcb.sndSml = (peer.tcb.sndUna - back) | 0;
    assertEquals(peer.write(10).length, 1, `${back}`);
    assertEquals(peer.write(10).length, 0); // now a small one is out
  }
});

Deno.test("Fast Open: opens that nobody has proved are limited, and count until they are proved or gone", () => {
  //= rfc7413#5.1 type=test
  // The server MUST limit the number of total pending TFO connection requests: when exceeded, it disables TFO until the number
  // falls below the limit
  const peer = new Peer({ config: { defaults: { fastOpen: true }, limits: { fastOpenPendingMax: 2 } } });
  const listener = peer.host.listen(0, 80, 16) as Listener;
  const [first] = peer.send({ flags: "S", seq: 0, options: [...mss(1460), 34, 2] });
  const at = first.options.indexOf(34);
  const cookie = [...first.options.subarray(at, at + first.options[at + 1])];
  const open = () => {
    const port = ++peer.peerPort;
    peer.send({ flags: "S", seq: 0, options: [...mss(1460), ...cookie], data: 100 });
    return { port, iss: peer.iss };
  };
  const opened = [open(), open(), open()];
  assertEquals([listener.pending, listener.fastOpenPending, peer.host.statistics.fastOpenOverflow], [2, 2, 1]);
  opened.slice(0, 2).forEach(({ port, iss }, i) => {
    [peer.peerPort, peer.iss] = [port, iss];
    peer.send({ seq: 101, ack: 1, flags: i === 0 ? "A" : "R" }); // one proves itself, the other is reset
  });
  assertEquals(listener.fastOpenPending, 0);
  peer.peerPort = 9000;
  open();
  assertEquals([listener.fastOpenPending, peer.host.statistics.fastOpens], [1, 3]);
  peer.pass(300_000);
  assertEquals(listener.fastOpenPending, 0);
});

Deno.test("what is dropped without an answer is counted, by reason", () => {
  //= rfc9293#3.1 type=test
  // TCP implementations MUST be prepared to handle an illegal option length (e.g., zero); a suggested procedure is to reset
  // the connection and log the error cause (MUST-7).
  const peer = Peer.accepted();
  const { statistics } = peer.host;
  peer.send({ data: 5, options: [8, 0, 0, 0] });
  peer.send({ seq: 6, data: 5, options: [2, 40, 0, 0] });
  assertEquals([statistics.badOptions, peer.tcb.receiveQueued], [2, 10]);
  peer.send({ flags: "P", seq: 11, data: 5 });
  assertEquals([statistics.noAck, peer.tcb.receiveQueued], [1, 10]);
  peer.peerPort++;
  peer.send({ flags: "R" });
  assertEquals(statistics.resetsIgnored, 1);
  const ip = peer.pair.ips[0];
  ip.path = () => -101 as never;
  peer.send({ data: 5 });
  assertEquals(statistics.noPath, 1);
  const opening = Peer.connecting();
  opening.send({ flags: "A", seq: 0, ack: 1 });
  opening.send({ flags: "R", seq: 0 });
  assertEquals([opening.host.statistics.noSyn, opening.host.statistics.resetsIgnored], [1, 1]);
});

Deno.test("SYN-RECEIVED: what is not acceptable is answered with an ACK, the SYN again with a SYN-ACK; a new SYN ends it", () => {
  const make = () => {
    const peer = new Peer();
    const listener = peer.host.listen(0, 80, 4) as Listener;
    peer.send({ flags: "S", seq: 0, ack: 0, options: mss(1460) });
    peer.seq = peer.ack = 1;
    const [tcb] = listener.halfOpen;
    assertEquals(tcb.state, SYN_RECEIVED);
    peer.tcb = tcb;
    return peer;
  };
  const peer = make();
  //= rfc9293#3.10.7.4 type=test
  // If an incoming segment is not acceptable, an acknowledgment should be sent in reply (unless the RST bit is set, if so drop
  // the segment and return): <SEQ=SND.NXT><ACK=RCV.NXT><CTL=ACK>
  for (const seq of [500_000, -100]) {
    assertEquals(peer.send({ seq, data: 10 }).map((s) => [s.flags, s.seq, s.ack]), [["A", 1, 1]]);
  }
  assertEquals(peer.send({ flags: "S", seq: 0, ack: 0, options: mss(1460) }).map((s) => s.flags), ["SA"]);
  assertEquals([peer.send({}), peer.tcb.state], [[], ESTABLISHED]);
  //= rfc9293#3.10.7.4 type=test
  // SYN-RECEIVED STATE … If the connection was initiated with a passive OPEN, then return this connection to the LISTEN state and
  // return. Otherwise, handle per the directions for synchronized states below.
  const again = make();
  assertEquals(again.send({ flags: "S", seq: 50, ack: 0 }), []);
  assertEquals([again.host.table.size, again.send({ flags: "S", seq: 50, ack: 0 })[0].flags], [0, "SA"]);
});
