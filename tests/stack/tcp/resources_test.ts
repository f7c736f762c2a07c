import { assert, assertEquals } from "@std/assert";
import { EADDRINUSE, EADDRNOTAVAIL, EHOSTUNREACH, EINVAL, EMSGSIZE, ENOBUFS } from "../../../stack/codes.ts";
import type { PacketError } from "../../../stack/ip/types.ts";
import { FrameMemory } from "../../../stack/device.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import { RANGES_MAX, RangeSet } from "../../../stack/tcp/ranges.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CLOSED, ESTABLISHED, SYN_SENT } from "../../../stack/tcp/types.ts";
import { seeded, TcpPair } from "../../testing/tcp_pair.ts";
import { mss, Peer, PEER_ISS, SACK_OK } from "../../testing/tcp_peer.ts";

Deno.test("10,000 connections opened, used and closed in any order leave nothing (1,000 at once)", () => {
  const limits = { timeWaitMs: 1000 };
  const pair = new TcpPair({ delayMs: 2 }, 4, [{ limits }, { limits }]);
  const listener = pair.tcps[1].listen(0, 80, 2000) as Listener;
  const random = seeded(9);
  const bytes = new Uint8Array(2000);
  for (let batch = 0; batch < 10; batch++) {
    const clients: Tcb[] = [];
    const servers: Tcb[] = [];
    for (let i = 0; i < 1000; i++) {
      const tcb = pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now);
      assert(typeof tcb !== "number", `connect: ${tcb}`);
      clients.push(tcb);
    }
    pair.run(20);
    for (let tcb = listener.accept(); typeof tcb !== "number"; tcb = listener.accept()) servers.push(tcb);
    assertEquals(servers.length, 1000);
    for (const tcb of [...clients, ...servers]) {
      tcb.send(bytes, 0, random() % 2000);
      if (random() % 3 === 0) tcb.shutdownWrite();
    }
    pair.run(10);
    for (const tcb of [...clients, ...servers]) {
      if (random() % 4 > 0) { while (tcb.receive(bytes, 0, 2000) > 0); }
      if (random() % 8 === 0) tcb.abort();
      else tcb.close();
    }
    pair.run(5000);
    assertEquals(pair.tcps.map((t) => [t.table.size, t.pool.used, t.nextDeadline()]), [[0, 0, Infinity], [0, 0, Infinity]]);
  }
  for (const { statistics } of pair.tcps) {
    assertEquals([statistics.connections, statistics.timeWait, statistics.synDropped], [0, 0, 0]);
  }
});

Deno.test("crumbs at the far end of the window cost bounded ranges and the buffer once", () => {
  const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK] });
  const { tcb } = peer;
  const edge = (tcb.rcvEdge - PEER_ISS) | 0;
  for (let i = 0; i < 1000; i++) peer.send({ seq: edge - 1 - 2 * i, data: 1 });
  assertEquals(tcb.ranges?.length, RANGES_MAX);
  assertEquals(peer.host.statistics.outOfOrderDropped, 1000 - RANGES_MAX);
  assert(peer.host.pool.used <= 2 * tcb.receiveLimit, `${peer.host.pool.used}`);
  tcb.close();
  assertEquals(peer.host.pool.used > 0, true);
  peer.send({ seq: 1, data: 1 }); // new data behind a close
  assertEquals([tcb.state, peer.host.pool.used], [CLOSED, 0]);
});

Deno.test("memoryMax is kept: a receiver drops what it has no room for and lives, a writer waits", () => {
  const config = { limits: { memoryMax: 16 << 10, memoryKept: 4096 } };
  const pair = new TcpPair({ delayMs: 5 }, 2, [config, config]);
  const pairs = [81, 82, 83].map((port) => pair.connected(port));
  const bytes = new Uint8Array(20_000).fill(7);
  const sent = pairs.map(() => 0);
  const got = pairs.map(() => 0);
  pair.run(3600_000, () => {
    for (const tcp of pair.tcps) assert(tcp.pool.used <= 16 << 10);
    pairs.forEach(([client, server], i) => {
      sent[i] += Math.max(0, client.send(bytes, sent[i], bytes.length - sent[i]));
      got[i] += Math.max(0, server.receive(new Uint8Array(bytes.length), 0, bytes.length));
    });
    pair.flush();
    return got.every((n) => n === bytes.length);
  });
  assertEquals(got, [20_000, 20_000, 20_000]);
});

Deno.test("the table of connections is bounded, for what we open and for what comes", () => {
  const limits = { connectionsMax: 3 };
  const pair = new TcpPair({ delayMs: 1 }, 1, [{}, { limits }]);
  pair.tcps[1].listen(0, 80, 100);
  for (let i = 0; i < 5; i++) pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now);
  pair.run(20);
  assertEquals([pair.tcps[1].table.size, pair.tcps[1].statistics.synDropped], [3, 2]);
  assertEquals(pair.tcps[1].connect(0, 0, pair.ips[0].key, 80, pair.now), ENOBUFS);
  assertEquals(pair.tcps[1].statistics.tableFull, 1);
});

Deno.test("ports: the caller's, a free one, all of them used up; listeners exclude each other", () => {
  const pair = new TcpPair();
  const [tcp] = pair.tcps;
  const to = pair.ips[1].key;
  assertEquals(tcp.connect(0, 0, to, 0, 1000), EINVAL);
  assertEquals(tcp.connect(0, 70_000, to, 80, 1000), EINVAL);
  assertEquals(tcp.connect(0, 0, 0, 80, 1000), EINVAL);
  assertEquals((tcp.connect(0, 7, to, 80, 1000) as Tcb).localPort, 7);
  assertEquals(tcp.connect(0, 7, to, 80, 1000), EADDRINUSE);
  assertEquals((tcp.connect(0, 7, to, 81, 1000) as Tcb).state, SYN_SENT);
  const used = new Set<number>();
  for (let i = 0; i < 28_232; i++) used.add((tcp.connect(0, 0, to, 99, 1000) as Tcb).localPort);
  assertEquals([used.size, Math.min(...used), Math.max(...used)], [28_232, 32_768, 60_999]);
  assertEquals(tcp.connect(0, 0, to, 99, 1000), EADDRNOTAVAIL);
  tcp.shutdown(0, false);
  assertEquals([tcp.table.size, tcp.nextDeadline()], [0, Infinity]);
  assert(typeof tcp.listen(0, 80, 1) !== "number");
  assertEquals([tcp.listen(0, 80, 1), tcp.listen(pair.ips[0].key, 80, 1)], [EADDRINUSE, EADDRINUSE]);
  assertEquals([tcp.listen(0, -1, 1), tcp.listen(0, 81, 0), tcp.listen(5, 81, 1)], [EINVAL, EINVAL, EADDRNOTAVAIL]);
});

Deno.test("initial sequence numbers: a clock of 4 microseconds for each four-tuple, unlike for others", () => {
  //= rfc9293#3.4.1 type=test
  // A TCP implementation MUST use the above type of "clock" for clock-driven selection of initial sequence numbers (MUST-8), and
  // SHOULD generate its initial sequence numbers with the expression:
  //= rfc9293#3.4.1 type=test
  // and SHOULD generate its initial sequence numbers with the expression: ISN = M + F(localip, localport, remoteip, remoteport,
  // secretkey)
  //= rfc9293#3.4.1 type=test
  // F() MUST NOT be computable from the outside (MUST-9), or an attacker could still guess at sequence numbers from the ISN used
  // for some other connection.
  //= rfc6528#3 type=test
  // ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M the 4 microsecond timer
  //= rfc6056#3.3.4 type=test
  // Algorithm 4: Double-Hash Port Selection Algorithm: offset = F(local_IP, remote_IP, remote_port, secret_key1); index =
  // G(local_IP, remote_IP, remote_port, secret_key2); port = min_ephemeral + (offset + table[index]) % num_ephemeral
  const iss = (seed: number, now: number, port: number) => {
    const pair = new TcpPair({}, seed);
    const tcb = pair.tcps[0].connect(0, port, pair.ips[1].key, 80, now) as Tcb;
    return tcb.iss;
  };
  assertEquals((iss(1, 3000, 9) - iss(1, 1000, 9)) | 0, 500_000);
  assertEquals(new Set([iss(1, 0, 9), iss(1, 0, 10), iss(2, 0, 9), iss(2, 0, 10)]).size, 4);
  const ports = [1, 2, 3].map((seed) => {
    const pair = new TcpPair({}, seed);
    return [80, 81].map((to) => (pair.tcps[0].connect(0, 0, pair.ips[1].key, to, 0) as Tcb).localPort);
  });
  assertEquals(new Set(ports.flat()).size > 3, true);
});

Deno.test("SACK blocks: the four that changed last, each once, wherever they stand among many", () => {
  //= rfc2018#4 type=test
  // The data receiver SHOULD include as many distinct SACK blocks as possible in the SACK option.
  //= rfc2018#4 type=test
  // The SACK option SHOULD be filled out by repeating the most recently reported SACK blocks (based on first SACK blocks in
  // previous SACK options) that are not subsets of a SACK block already included in the SACK option being constructed.
  const set = new RangeSet();
  for (let i = 0; i < 100; i++) set.add(10 * i, 10 * i + 5);
  for (const i of [1, 2, 33, 65]) set.add(10 * i, 10 * i + 6);
  const view = new DataView(new ArrayBuffer(40));
  assertEquals(set.emit(view, 4, 4), 4);
  assertEquals([0, 1, 2, 3].map((k) => view.getInt32(4 + 8 * k)), [650, 330, 20, 10]);
  set.advance(340); // takes along the range that begins there
  assertEquals(set.emit(view, 4, 4), 4);
  assertEquals([0, 1, 2, 3].map((k) => view.getInt32(4 + 8 * k)), [650, 350, 360, 370]);
});

Deno.test("RangeSet against a plain set of numbers", () => {
  const random = seeded(3);
  for (let run = 0; run < 300; run++) {
    const set = new RangeSet();
    const base = random() | 0;
    const have = new Set<number>();
    let next = 0;
    for (let i = 0; i < 60; i++) {
      const left = next + 1 + random() % 200;
      const right = left + 1 + random() % 30;
      const covered = Array.from({ length: right - left }, (_, k) => have.has(left + k)).every((x) => x);
      assertEquals(set.covers((base + left) | 0, (base + right) | 0), covered);
      const before = have.size;
      for (let k = left; k < right; k++) have.add(k);
      assertEquals(set.add((base + left) | 0, (base + right) | 0), have.size - before);
      if (random() % 8 === 0) {
        next += random() % 100;
        let end = next;
        while (have.has(end)) end++;
        assertEquals((set.advance((base + next) | 0) - base) | 0, end);
        next = end;
        for (const k of have) if (k < next) have.delete(k);
      }
      const listed: number[] = [];
      for (let r = 0; r < set.length; r++) {
        for (let k = (set.left(r) - base) | 0; k < ((set.right(r) - base) | 0); k++) listed.push(k);
      }
      assertEquals(listed, [...have].sort((a, b) => a - b));
    }
  }
});

Deno.test("Fast Open: a peer that falls silent behind its SYN is given up, with what it sent and what we answered", () => {
  for (const answers of [0, 500]) {
    const peer = new Peer({ config: { defaults: { fastOpen: true } } });
    const listener = peer.host.listen(0, 80, 4) as Listener;
    const [first] = peer.send({ flags: "S", seq: 0, options: [...mss(1460), 34, 2] });
    const at = first.options.indexOf(34);
    const cookie = [...first.options.subarray(at, at + first.options[at + 1])];
    peer.send({ flags: "R", seq: 1 });
    peer.peerPort++;
    peer.send({ flags: "S", seq: 0, options: [...mss(1460), ...cookie], data: 100 });
    const tcb = listener.accept() as Tcb;
    assertEquals([tcb.fastOpened, tcb.receiveQueued], [true, 100]);
    if (answers > 0) peer.after(() => tcb.send(new Uint8Array(answers), 0, answers));
    assert(peer.host.nextDeadline() < Infinity, "nothing will ever end it");
    assert(peer.pass(300_000).some((s) => s.flags.includes("S")), "the SYN-ACK is sent again");
    assertEquals([tcb.state, peer.host.table.size], [CLOSED, 0]);
    tcb.close();
    assertEquals(peer.host.pool.used, 0);
  }
});

/** An ICMP error about the segment of `tcb` at `seq`. */
function icmp(tcb: Tcb, seq: number, more: Partial<PacketError>): PacketError {
  const memory = new FrameMemory(8);
  memory.view.setUint16(0, tcb.localPort);
  memory.view.setUint16(2, tcb.remotePort);
  memory.view.setInt32(4, seq);
  const { localKey, remoteKey } = tcb;
  return {
    code: EHOSTUNREACH,
    hard: false,
    mtu: 0,
    localKey,
    remoteKey,
    memory,
    offset: 0,
    length: 8,
    icmpType: 3,
    icmpCode: 1,
    ...more,
  };
}

Deno.test("ICMP: believed only of what is in flight; hard errors end attempts, never connections", () => {
  //= rfc9293#3.9.2.2 type=test
  // TCP implementations MUST act on an ICMP error message passed up from the IP layer, directing it to the connection that
  // created the error (MUST-54).
  //= rfc9293#3.9.1.8 type=test
  // There MUST be a mechanism for reporting soft TCP error conditions to the application (MUST-47).
  //= rfc5927#4.1 type=test
  // TCP should check that the TCP sequence number contained in the payload of the ICMP error message is within the range
  // SND.UNA =< SEG.SEQ < SND.NXT.
  const peer = Peer.accepted();
  peer.write(100);
  const { tcb, host } = peer;
  for (const [offset, believed] of [[-1, false], [0, true], [99, true], [100, false]] as const) {
    assertEquals(host.error(icmp(tcb, (tcb.sndUna + offset) | 0, {}), peer.pair.now), believed);
  }
  assertEquals(host.error(icmp(tcb, tcb.sndUna, { length: 7 }), peer.pair.now), false);
  //= rfc9293#3.9.2.2 type=test
  // Since these Unreachable messages indicate soft error conditions, a TCP implementation MUST NOT abort the connection
  // (MUST-56), and it SHOULD make the information available to the application (SHLD-25).
  host.error(icmp(tcb, tcb.sndUna, { hard: true }), peer.pair.now);
  assertEquals([tcb.state, tcb.softError], [ESTABLISHED, EHOSTUNREACH]);
  const opening = Peer.connecting();
  opening.host.error(icmp(opening.tcb, opening.tcb.iss, {}), opening.pair.now);
  assertEquals(opening.tcb.state, SYN_SENT);
  opening.host.error(icmp(opening.tcb, opening.tcb.iss, { hard: true }), opening.pair.now);
  assertEquals([opening.tcb.state, opening.tcb.error], [CLOSED, EHOSTUNREACH]);
});

Deno.test("ICMP: a smaller path MTU cuts what is in flight again and sends it at once", () => {
  //= rfc7323#5.7 type=test
  // Setting the DF bit implies the use of Path MTU Discovery as described in [RFC1191], [RFC1981], and [RFC4821]; thus, any TCP
  // implementation that implements PAWS MUST also implement Path MTU Discovery.
  const peer = Peer.accepted();
  peer.write(2920);
  const { cwnd } = peer.tcb;
  peer.pair.link.mtu = 600;
  const again = peer.after(() => peer.host.error(icmp(peer.tcb, peer.tcb.sndUna, { code: EMSGSIZE, mtu: 600 }), peer.pair.now));
  assertEquals(again.map((s) => [s.seq, s.length])[0], [1, 560]);
  assert(again.every((s) => s.length <= 560));
  //= rfc5681#3.1 type=test
  // When initial congestion windows of more than one segment are implemented along with Path MTU Discovery [RFC1191], and the MSS
  // being used is found to be too large, the congestion window cwnd SHOULD be reduced to prevent large bursts of smaller
  // segments.
  //= rfc5681#3.1 type=test
  // Specifically, cwnd SHOULD be reduced by the ratio of the old segment size to the new segment size.
  assertEquals([peer.tcb.sendMss, peer.tcb.cwnd], [560, Math.floor(cwnd * 560 / 1460)]);
});
