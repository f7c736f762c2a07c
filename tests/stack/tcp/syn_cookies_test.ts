import { assert, assertEquals } from "@std/assert";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import { ACK, emit, emitSynOptions, HEADER_LENGTH, SYN } from "../../../stack/wire/tcp.ts";
import { sealSegment, seeded, TcpPair } from "../../testing/tcp_pair.ts";

/** A SYN from host 0, forged: nobody will ever answer the SYN-ACK. */
function forgedSyn(pair: TcpPair, srcPort: number, dstPort: number, seq: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(60);
  const view = new DataView(bytes.buffer);
  const length = HEADER_LENGTH + emitSynOptions(view, HEADER_LENGTH, 1460, 7, true, true, 1, 0);
  emit(view, 0, (srcPort << 16) | dstPort, seq, 0, length, SYN, 65535);
  return sealSegment(pair, 0, bytes.slice(0, length));
}

function listen(pair: TcpPair, port: number, backlog: number): Listener {
  const listener = pair.tcps[1].listen(0, port, backlog);
  assert(typeof listener !== "number");
  return listener;
}

Deno.test("with the queue full, connections come about by cookies, with all their options", () => {
  //= rfc4987#3.6 type=test
  // SYN cookies: the listener keeps no state for a SYN; the sequence number of the SYN-ACK encodes what it needs
  const pair = new TcpPair({ delayMs: 5, filter: (from, bytes) => from === 0 || bytes[13] !== 0x12 || !mute }, 3);
  let mute = true; // the forged SYNs' answers go nowhere
  const listener = listen(pair, 80, 8);
  for (let i = 0; i < 8; i++) pair.deliver(1, forgedSyn(pair, 2000 + i, 80, i * 1000));
  assertEquals(listener.halfOpen.size, 8);
  mute = false;
  const client = pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now) as Tcb;
  let server: Tcb | number = -1;
  assert(pair.run(900, () => typeof (server = listener.accept()) !== "number"));
  const accepted = server as unknown as Tcb;
  assertEquals(pair.tcps[1].statistics.synCookiesReceived, 1);
  assertEquals(accepted.sndWndShift, client.rcvWndShift);
  assertEquals(accepted.rcvWndShift, client.sndWndShift);
  assertEquals([accepted.sack, accepted.timestamps, accepted.peerMss], [true, true, 1460]);
  const bytes = new Uint8Array(100_000).map((_, i) => i & 255);
  const got = new Uint8Array(bytes.length);
  let sent = 0, received = 0;
  pair.run(10_000, () => {
    sent += Math.max(0, client.send(bytes, sent, bytes.length - sent));
    received += Math.max(0, accepted.receive(got, received, got.length - received));
    pair.flush();
    return received === bytes.length;
  });
  assertEquals(got, bytes);
});

Deno.test("100,000 forged SYNs cost no memory, and 100 connections work on", () => {
  const pair = new TcpPair({ delayMs: 5 }, 5);
  const listener = listen(pair, 80, 256);
  const pairs: [Tcb, Tcb][] = [];
  for (let i = 0; i < 100; i++) {
    const client = pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now) as Tcb;
    let server: Tcb | number = -1;
    assert(pair.run(1000, () => typeof (server = listener.accept()) !== "number"));
    pairs.push([client, server as unknown as Tcb]);
  }
  const random = seeded(9);
  const chunk = new Uint8Array(1000).fill(5);
  const sink = new Uint8Array(65536);
  pair.link.filter = (from, bytes) => from === 0 || bytes[13] !== 0x12; // SYN-ACKs to forged addresses vanish
  for (let round = 0; round < 100; round++) {
    for (let i = 0; i < 1000; i++) {
      const known = (random() % 28_000) + 1024;
      pair.deliver(1, forgedSyn(pair, known, 80, random() | 0));
    }
    for (const [client] of pairs) client.send(chunk, 0, chunk.length);
    pair.run(50);
    for (const [, server] of pairs) assertEquals(server.receive(sink, 0, sink.length), chunk.length);
    pair.flush();
    assert(listener.halfOpen.size <= 256);
    assert(pair.tcps[1].table.size <= 100 + 256 + 1);
  }
  const { statistics } = pair.tcps[1];
  assert(statistics.synCookiesSent > 90_000, `${statistics.synCookiesSent}`);
  assertEquals(pair.tcps[1].pool.used, 0);
  for (const [client, server] of pairs) assertEquals([client.error, server.error, client.timeouts], [0, 0, 0]);
});

Deno.test("a guessed cookie opens nothing", () => {
  const pair = new TcpPair({}, 11);
  const listener = listen(pair, 80, 1);
  pair.link.filter = (from) => from === 0;
  pair.deliver(1, forgedSyn(pair, 3000, 80, 1));
  pair.deliver(1, forgedSyn(pair, 3001, 80, 1)); // this one is answered with a cookie
  const random = seeded(1);
  for (let i = 0; i < 20_000; i++) {
    const bytes = new Uint8Array(20);
    emit(new DataView(bytes.buffer), 0, (3002 << 16) | 80, random() | 0, random() | 0, 20, ACK, 1000);
    pair.deliver(1, sealSegment(pair, 0, bytes));
  }
  assertEquals(listener.pending, 0);
  assertEquals(pair.tcps[1].statistics.synCookiesFailed, 20_000);
});
