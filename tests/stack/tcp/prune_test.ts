import { assert, assertEquals } from "@std/assert";
import type { Listener } from "../../../stack/tcp/listener.ts";
import { ByteRing, RingPool } from "../../../stack/tcp/ring.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { seeded } from "../../testing/tcp_pair.ts";
import { mss, Peer, PEER_ISS, SACK_OK } from "../../testing/tcp_peer.ts";

const KIB = 1024;

/** A host with little memory, and strangers who each open a connection and send `given`. */
function besieged(memoryMax: number, strangers: number, given: { seq: number; data: number }[]) {
  const peer = new Peer({ config: { limits: { memoryMax, memoryKept: 0 } } });
  const listener = peer.host.listen(0, 80, 60_000) as Listener;
  const isses: number[] = [];
  /** Opens the connection from port 1000 + `index`. */
  const open = (index: number): Tcb => {
    peer.peerPort = 1000 + index;
    peer.send({ flags: "S", seq: 0, ack: 0, options: [...mss(1460), ...SACK_OK] });
    peer.seq = peer.ack = 1;
    peer.send({});
    isses[index] = peer.iss;
    peer.tcb = listener.accept() as Tcb;
    return peer.tcb;
  };
  const turnTo = (index: number) => {
    peer.peerPort = 1000 + index;
    peer.iss = isses[index];
  };
  const tcbs = Array.from({ length: strangers }, (_, index) => {
    const tcb = open(index);
    for (const one of given) peer.send(one);
    return tcb;
  });
  return { peer, open, turnTo, tcbs };
}

const FAR = { seq: 65_535, data: 1 };

Deno.test("single bytes at the far ends of many windows: the newcomer's data goes on, both ways, however much it is", () => {
  const { peer, open } = besieged(1024 * KIB, 100, [FAR]);
  const { pool, statistics } = peer.host;
  assertEquals([pool.used, statistics.outOfOrderDropped], [14 * 64 * KIB, 86]);
  peer.pass(3600_000);
  const tcb = open(100);
  peer.send({ data: 100 });
  assertEquals(tcb.receiveQueued, 100);
  assertEquals(tcb.send(new Uint8Array(60_000), 0, 60_000), 60_000);
  peer.pair.flush();
  for (let seq = 101; seq < 60_000; seq += 1460) peer.send({ seq, data: 1460 });
  assert(tcb.receiveQueued >= 60_000 - 1460, `${tcb.receiveQueued}`);
  assert(statistics.outOfOrderPruned > 0 && statistics.outOfOrderPruned <= 8, `${statistics.outOfOrderPruned}`);
  assert(pool.used <= 1024 * KIB);
});

Deno.test("what was dropped again is reported no more, and arrives when it is sent again", () => {
  //= rfc2018#8 type=test
  // The data receiver MAY elect not to keep data which it has reported in a SACK option.
  //= rfc2018#8 type=test
  // Except for the newest segment, all SACK blocks MUST NOT report any old data which is no longer actually held by the receiver.
  const inOrder = { seq: 1, data: 100 };
  const { peer, open, turnTo, tcbs } = besieged(256 * KIB, 3, [inOrder, { seq: 1101, data: 500 }, FAR]);
  assertEquals(peer.host.pool.used, 3 * 64 * KIB);
  const newcomer = open(3);
  for (let seq = 1; seq < 10_000; seq += 1000) peer.send({ seq, data: 1000 });
  assertEquals([newcomer.receiveQueued, peer.host.statistics.outOfOrderPruned], [10_000, 0]); // there was room
  for (let seq = 10_001; seq < 30_000; seq += 1000) peer.send({ seq, data: 1000 });
  assertEquals([newcomer.receiveQueued, peer.host.statistics.outOfOrderPruned], [30_000, 1]); // the first of the three
  assertEquals(tcbs.map((tcb) => [tcb.receiveRing.capacity, tcb.ranges?.length]), [[4 * KIB, undefined], [64 * KIB, 2], [
    64 * KIB,
    2,
  ]]);
  turnTo(0);
  const [ack] = peer.send({ seq: 2101, data: 10 });
  const view = new DataView(ack.options.buffer);
  assertEquals([ack.ack, ack.options.length, (view.getInt32(4) - PEER_ISS) | 0], [101, 12, 2101]); // one block, the newest
  const bytes = Uint8Array.from({ length: 2000 }, (_, i) => i % 251);
  peer.send({ seq: 101, data: bytes as Uint8Array<ArrayBuffer> });
  const got = new Uint8Array(5000);
  assertEquals(tcbs[0].receive(got, 0, 5000), 2110);
  assertEquals([got.subarray(0, 100), got.subarray(100, 2100)], [new Uint8Array(100).fill(0x61), bytes]);
});

Deno.test("when all memory holds what is in order, each newcomer still has the least that there is", () => {
  const { peer, open } = besieged(256 * KIB, 14, [{ seq: 1, data: 10_000 }]);
  assertEquals(peer.host.pool.used, 224 * KIB);
  for (let i = 14; i < 18; i++) {
    const tcb = open(i);
    // A segment larger than the ring: the first part of it counts, and the rest when it comes again.
    const [ack] = [...peer.send({ data: 60_000 }), ...peer.pass(100)];
    assertEquals([tcb.receiveQueued, ack.ack], [4 * KIB, 1 + 4 * KIB]);
    assertEquals(peer.read(), 4 * KIB);
    peer.send({ flags: "FA", seq: 1 + 4 * KIB, data: 4 * KIB });
    assertEquals([tcb.receiveQueued, tcb.finReceived], [4 * KIB, true]);
    assert(tcb.send(new Uint8Array(10_000), 0, 10_000) > 0);
  }
  assert(peer.host.pool.used <= 256 * KIB);
});

Deno.test("memory that is trimmed keeps what is in order, and a connection that has no more is passed over", () => {
  const pool = new RingPool(64 * KIB, 0);
  const ring = new ByteRing(pool);
  for (const [head, count] of [[0, 0], [0, 5000], [30_000, 3000], [0, 20_000], [20_000, 16_384]]) {
    ring.reserve(32 * KIB, 0);
    ring.head = head;
    ring.count = 0;
    ring.place(0, Uint8Array.from({ length: count }, (_, i) => i % 253), 0, count);
    ring.count = count;
    const least = count === 0 ? 0 : Math.max(4 * KIB, 2 ** Math.ceil(Math.log2(count)));
    assertEquals(ring.trims, least < 32 * KIB);
    ring.trim();
    assertEquals([ring.capacity, pool.used], [least, least]);
    const out = new Uint8Array(count);
    assertEquals(ring.take(out, 0, count), count);
    assert(out.every((byte, i) => byte === i % 253));
    ring.free();
  }
  const { peer, open, tcbs } = besieged(128 * KIB, 2, [{ seq: 1, data: 40_000 }, { seq: 41_001, data: 10 }]);
  assertEquals(tcbs.map((tcb) => tcb.ranges?.length), [1, undefined]); // no room for the second
  const newcomer = open(2);
  for (let seq = 1; seq < 20_000; seq += 1000) peer.send({ seq, data: 1000 });
  assertEquals([peer.host.statistics.outOfOrderPruned, tcbs[0].ranges?.length], [0, 1]); // it would give nothing back
  assert(newcomer.receiveQueued > 0);
});

Deno.test("the list of those that can be pruned, against a plain list", () => {
  const { peer, tcbs } = besieged(1 << 20, 8, []);
  const { prunable } = peer.host;
  const random = seeded(5);
  const model: Tcb[] = [];
  for (let i = 0; i < 5000; i++) {
    const tcb = tcbs[random() % 8];
    const at = model.indexOf(tcb);
    if (random() % 2 === 0) {
      prunable.add(tcb);
      if (at < 0) model.push(tcb);
    } else {
      prunable.remove(tcb);
      if (at >= 0) model.splice(at, 1);
    }
    for (const one of tcbs) {
      const where = model.indexOf(one);
      const around = where < 0 ? [null, null] : [model[where - 1] ?? null, model[where + 1] ?? null];
      assert(one.prunable === where >= 0 && one.prunedAfter === around[0] && one.prunedBefore === around[1]);
    }
  }
});
