// Demultiplexing, timers and rings: what TCP pays for each segment beside the headers.
import { ByteRing, RingPool } from "../../../stack/tcp/ring.ts";
import { ConnectionTable, type FourTuple } from "../../../stack/tcp/table.ts";
import { TimerHeap } from "../../../stack/tcp/timers.ts";

const CONNECTIONS = 10_000;

const table = new ConnectionTable<FourTuple>(1);
for (let i = 0; i < CONNECTIONS; i++) table.add({ localKey: 1, remoteKey: 2 + (i >> 12), localPort: 80, remotePort: 1024 + i });
let turn = 0;
Deno.bench("find one of 10,000 connections", () => {
  turn = (turn + 7919) % CONNECTIONS;
  if (table.get(1, 80, 2 + (turn >> 12), 1024 + turn) === null) throw new Error("not found");
});

const heap = new TimerHeap<{ timerIndex: number; timerAt: number }>();
const timers = Array.from({ length: CONNECTIONS }, () => ({ timerIndex: -1, timerAt: 0 }));
timers.forEach((timer, i) => heap.schedule(timer, (i * 7919) % CONNECTIONS));
Deno.bench("bring up the earliest of 10,000 timers and set it again", () => {
  const timer = heap.pop(Infinity)!;
  heap.schedule(timer, timer.timerAt + CONNECTIONS);
});

const ring = new ByteRing(new RingPool(1 << 24, 1 << 24));
const segment = new Uint8Array(1448), into = new Uint8Array(1448);
ring.reserve(1 << 16, 0);
Deno.bench("1448 bytes into a ring and out again", () => {
  ring.place(ring.count, segment, 0, segment.length);
  ring.count += segment.length;
  ring.take(into, 0, into.length);
});
