import { assert, assertEquals } from "@std/assert";
import { CLOSED, ESTABLISHED, FIN_WAIT_1, LAST_ACK } from "../../../stack/tcp/types.ts";
import { Peer, type Seen } from "../../testing/tcp_peer.ts";

const MINUTE = 60_000;

/** Lets time go by second by second; the peer answers all that comes with `answer`. What was sent. */
function answered(peer: Peer, ms: number, answer: { ack: number; window: number }): Seen[] {
  const seen: Seen[] = [];
  for (let passed = 0; passed < ms && peer.tcb.state !== CLOSED; passed += 1000) {
    const now = peer.pass(1000);
    seen.push(...now);
    if (now.length > 0) peer.send(answer);
  }
  return seen;
}

Deno.test("a closed connection whose peer answers probes and takes nothing ends with a reset, and its memory comes back", () => {
  for (const state of [FIN_WAIT_1, LAST_ACK]) {
    const peer = Peer.accepted({ window: 1000 });
    if (state === LAST_ACK) peer.send({ flags: "FA" });
    peer.seq = state === LAST_ACK ? 2 : 1;
    peer.write(100_000);
    peer.send({ ack: 1001, window: 0 });
    answered(peer, 60 * MINUTE, { ack: 1001, window: 0 });
    //= rfc9293#3.8.6.1 type=test
    // As long as the receiving TCP peer continues to send acknowledgments in response to the probe segments, the sending TCP
    // peer MUST allow the connection to stay open (MUST-37)
    assert(peer.tcb.state >= ESTABLISHED); // as long as somebody holds it
    peer.tcb.close();
    const early = answered(peer, 3 * MINUTE, { ack: 1001, window: 0 });
    assertEquals([peer.tcb.state, early.every((s) => s.flags.includes("R"))], [state, false]);
    const late = answered(peer, 6 * MINUTE, { ack: 1001, window: 0 });
    assertEquals([peer.tcb.state, late.at(-1)?.flags, peer.host.pool.used], [CLOSED, "RA", 0]);
    assertEquals([peer.host.table.size, peer.host.orphans.size], [0, 0]);
  }
});

Deno.test("a closed connection whose peer takes a little now and then brings it all", () => {
  const peer = Peer.accepted({ window: 1000 });
  peer.write(5000);
  peer.tcb.close();
  for (let ack = 1001; ack <= 5001; ack += 1000) {
    peer.send({ ack, window: 0 });
    answered(peer, 3 * MINUTE, { ack, window: 0 });
    assertEquals(peer.tcb.state, FIN_WAIT_1);
    const seen = peer.send({ ack, window: 1000 }); // the reader comes back
    assert(seen.length > 0, `${ack}`);
  }
  assertEquals(peer.tcb.finSent, true);
});

Deno.test("connections that nobody holds are bounded: the one that was let go of first is reset", () => {
  const peer = Peer.accepted({ config: { limits: { orphansMax: 2 } } });
  const tcbs = [peer.tcb];
  for (let i = 0; i < 3; i++) {
    const tcb = peer.host.connect(0, 0, 0x0a000002, 80, peer.pair.now);
    assert(typeof tcb !== "number");
    peer.pair.flush();
    [peer.hostPort, peer.peerPort] = [tcb.localPort, 80];
    peer.send({ flags: "SA", seq: 0, ack: 1 });
    tcbs.push(tcb);
  }
  for (const tcb of tcbs) tcb.send(new Uint8Array(100), 0, 100);
  const seen = peer.after(() => tcbs.forEach((tcb) => tcb.close()));
  assertEquals(tcbs.map((tcb) => tcb.state), [CLOSED, CLOSED, FIN_WAIT_1, FIN_WAIT_1]);
  assertEquals([seen.filter((s) => s.flags.includes("R")).length, peer.host.statistics.orphanOverflow], [2, 2]);
  for (const tcb of tcbs) tcb.abort();
  assertEquals([peer.host.orphans.size, peer.host.pool.used], [0, 0]);
});
