import { assertEquals } from "@std/assert";
import { EINVAL, ETIMEDOUT, OK } from "../../../stack/codes.ts";
import { TimerHeap } from "../../../stack/tcp/timers.ts";
import { CLOSED, ESTABLISHED } from "../../../stack/tcp/types.ts";
import { mss, Peer } from "../../testing/tcp_peer.ts";

const HOUR = 3600_000;

Deno.test("keep-alive: off unless asked for, turned on and off for one connection at any time", () => {
  //= rfc9293#3.8.4 type=test
  // If keep-alives are included, the application MUST be able to turn them on or off for each TCP connection (MUST-24), and they
  // MUST default to off (MUST-25).
  //= rfc9293#3.8.4 type=test
  // If keep-alives are included, the application MUST be able to turn them on or off for each TCP connection (MUST-24), and they
  // MUST default to off (MUST-25).
  const peer = Peer.accepted();
  assertEquals(peer.pass(10 * HOUR), []);
  peer.tcb.setKeepAlive(true, 1000, 1000, 9);
  const [probe] = peer.pass(1000);
  //= rfc9293#3.8.4 type=test
  // An implementation SHOULD send a keep-alive segment with no data (SHLD-12); however, it MAY be configurable to send a
  // keep-alive segment containing one garbage octet (MAY-6), for compatibility with erroneous TCP implementations.
  assertEquals([probe.flags, probe.seq, probe.length], ["A", 0, 0]);
  peer.send({});
  peer.tcb.setKeepAlive(false);
  assertEquals(peer.pass(10 * HOUR), []);
  assertEquals(peer.tcb.state, ESTABLISHED);
});

Deno.test("keep-alive: after two hours unless told otherwise, and each segment that comes begins them anew", () => {
  //= rfc9293#3.8.4 type=test
  // This interval MUST be configurable (MUST-27) and MUST default to no less than two hours (MUST-28).
  //= rfc9293#3.8.4 type=test
  // This interval MUST be configurable (MUST-27) and MUST default to no less than two hours (MUST-28).
  const peer = Peer.accepted({ config: { defaults: { keepAlive: true } } });
  assertEquals(peer.pass(2 * HOUR - 1), []);
  assertEquals(peer.pass(1).length, 1);
  peer.send({});
  peer.pass(HOUR);
  peer.send({ data: 1 });
  assertEquals(peer.pass(2 * HOUR - 1).map((s) => s.ack), [2]); // its acknowledgment alone
  assertEquals(peer.pass(1).map((s) => [s.seq, s.length]), [[0, 0]]);
  for (const idleMs of [1000, 30_000, 5 * HOUR]) {
    const other = Peer.accepted({ config: { defaults: { keepAlive: true, keepAliveIdleMs: idleMs } } });
    assertEquals([other.pass(idleMs - 1), other.pass(1).length], [[], 1]);
  }
});

Deno.test("keep-alive: no probe while sent data is outstanding", () => {
  //= rfc9293#3.8.4 type=test
  // Keep-alive packets MUST only be sent when no sent data is outstanding, and no data or acknowledgment packets have been
  // received for the connection within an interval (MUST-26).
  const defaults = { keepAlive: true, keepAliveIdleMs: 1000, keepAliveIntervalMs: 1000, keepAliveCount: 100 };
  const peer = Peer.accepted({ syn: mss(1000), config: { defaults } });
  peer.write(1000);
  const sent = peer.pass(60_000);
  assertEquals([...new Set(sent.map((s) => `${s.seq}:${s.length}`))], ["1:1000"]); // retransmissions and nothing else
  peer.send({ ack: 1001 });
  assertEquals(peer.pass(1000).map((s) => [s.seq, s.length]), [[1000, 0]]);
});

Deno.test("keep-alive: a probe that gets no answer is no proof, and the last of them is", () => {
  //= rfc9293#3.8.4 type=test
  // Consequently, if a keep-alive mechanism is implemented it MUST NOT interpret failure to respond to any specific probe as a
  // dead connection (MUST-29).
  const defaults = { keepAlive: true, keepAliveIdleMs: 1000, keepAliveIntervalMs: 1000 };
  const peer = Peer.accepted({ config: { defaults } });
  assertEquals(peer.pass(9500).length, 9); // Linux's nine
  assertEquals(peer.tcb.state, ESTABLISHED);
  peer.send({}); // one answer in time, and all is well
  assertEquals(peer.pass(9500).length, 9);
  assertEquals(peer.tcb.state, ESTABLISHED);
  peer.pass(1000);
  assertEquals([peer.tcb.state, peer.tcb.error], [CLOSED, ETIMEDOUT]);
});

Deno.test("keep-alive: numbers out of range change nothing, and a deadline that is none stops nobody's timers", () => {
  const peer = Peer.accepted({ config: { defaults: { keepAliveIdleMs: 1000, keepAliveIntervalMs: 1000 } } });
  const { tcb } = peer;
  for (const wrong of [[NaN], [0], [-1], [Infinity], [1000, NaN], [1000, 1000, 0], [1000, 1000, 1.5], [2 ** 31]]) {
    assertEquals(tcb.setKeepAlive(true, ...wrong), EINVAL, `${wrong}`);
    assertEquals([tcb.keepAlive, tcb.keepAliveIdleMs, tcb.keepAliveIntervalMs, tcb.keepAliveCount], [false, 1000, 1000, 9]);
  }
  assertEquals(tcb.setKeepAlive(true, 2000, 3000, 4), OK);
  assertEquals([tcb.keepAliveAt, tcb.keepAliveIntervalMs, tcb.keepAliveCount], [peer.pair.now + 2000, 3000, 4]);
  // Whatever may set one of its deadlines to NaN: the others count.
  tcb.keepAliveAt = NaN;
  peer.write(10);
  assertEquals(peer.pass(2000)[0]?.seq, 1); // sent again
});

Deno.test("the heap of deadlines takes NaN and Infinity for none, and keeps the order of the rest", () => {
  const heap = new TimerHeap<{ timerIndex: number; timerAt: number }>();
  const items = Array.from({ length: 100 }, () => ({ timerIndex: -1, timerAt: 0 }));
  items.forEach((item, i) => heap.schedule(item, i % 3 === 0 ? NaN : i % 3 === 1 ? (i * 37) % 101 : Infinity));
  heap.schedule(items[1], NaN);
  assertEquals([heap.size, heap.next()], [33, Math.min(...items.filter((i) => i.timerIndex >= 0).map((i) => i.timerAt))]);
  const order: number[] = [];
  for (let item = heap.pop(1000); item !== null; item = heap.pop(1000)) order.push(item.timerAt);
  assertEquals(order, [...order].sort((a, b) => a - b));
  assertEquals(order.length, 33);
});
