import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import fc from "fast-check";
import { DatagramQueue, POOL_MEMORY_MAX, QueuePool } from "../../../stack/udp/queue.ts";
import type { UdpSource } from "../../../stack/udp/types.ts";

const source: UdpSource = { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };
const into = new Uint8Array(70_000);

Deno.test("udp/queue: behaves as an array of datagrams, through growth and wrapping", () => {
  const step = fc.oneof(
    fc.record({ push: fc.oneof(fc.nat(40), fc.nat(3000), fc.nat(65_507)) }),
    fc.record({ shift: fc.nat(70_000) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 200 }), (steps) => {
      const pool = new QueuePool();
      const queue = new DatagramQueue(pool);
      const model: Uint8Array[] = [];
      let number = 0;
      for (const action of steps) {
        if ("push" in action) {
          const bytes = new Uint8Array(action.push + 3).fill(++number).map((byte, i) => byte ^ i);
          const waiting = model.reduce((sum, one) => sum + one.length, 0);
          const fits = model.length < 50 && waiting + action.push <= 200_000;
          assertEquals(queue.push(bytes, 3, action.push, 200_000, 50, number, number & 0xffff, -number, 4), fits);
          if (fits) model.push(bytes.slice(3));
        } else {
          const next = model.shift();
          assertEquals(queue.nextLength, next === undefined ? -1 : next.length);
          const copied = queue.shift(into, 0, action.shift, source);
          if (next === undefined) assertEquals(copied, -1);
          else {
            assertEquals([copied, source.length], [Math.min(next.length, action.shift), next.length]);
            assertEquals(into.subarray(0, copied), next.subarray(0, copied));
            assertEquals(source.key, -source.localKey);
          }
        }
        assertEquals([queue.count, queue.bytes], [model.length, model.reduce((sum, one) => sum + one.length, 0)]);
        if (model.length === 0) assertEquals(pool.lent, 0);
      }
      queue.clear();
      assertEquals(pool.lent, 0);
    }),
    { numRuns: 100, seed: 1 },
  );
});

Deno.test("udp/queue: datagrams wrap around the end of the ring", () => {
  const pool = new QueuePool();
  const queue = new DatagramQueue(pool);
  const made = (number: number) => Uint8Array.from({ length: 700 }, (_, i) => number * 7 + i);
  for (let i = 0; i < 4; i++) assert(queue.push(made(i), 0, 700, 4096, 10, i, 0, 0, 0));
  for (let i = 4; i < 200; i++) {
    assert(queue.push(made(i), 0, 700, 4096, 10, i, 0, 0, 0));
    assertEquals([queue.shift(into, 0, 700, source), source.key], [700, i - 4]);
    assertEquals(into.slice(0, 700), made(i - 4));
  }
  assertEquals(pool.lent, 4096);
});

Deno.test("udp/queue: steady traffic makes no new memory, idle queues hold none, all together are bounded", () => {
  const pool = new QueuePool(1 << 20);
  const bytes = new Uint8Array(1000);
  const one = new DatagramQueue(pool);
  one.push(bytes, 0, 1000, 1e6, 1e6, 0, 0, 0, 0);
  one.shift(into, 0, 1000, source);
  const pooled = pool.pooled;
  for (let i = 0; i < 1000; i++) {
    one.push(bytes, 0, 1000, 1e6, 1e6, 0, 0, 0, 0);
    one.shift(into, 0, 1000, source);
  }
  assertEquals([pool.pooled, pool.lent], [pooled, 0]);
  const queues = Array.from({ length: 400 }, () => new DatagramQueue(pool));
  const accepted = queues.filter((queue) => queue.push(bytes, 0, 1000, 1e6, 1e6, 0, 0, 0, 0)).length;
  assertEquals([accepted, pool.lent], [256, 1 << 20]);
  assert(queues.map((queue) => queue.clear()).length > 0);
  assertEquals(pool.lent, 0);
  assertLessOrEqual(pool.pooled, POOL_MEMORY_MAX);
});

Deno.test("udp/queue: empty datagrams count too", () => {
  const queue = new DatagramQueue(new QueuePool());
  for (let i = 0; i < 1000; i++) assert(queue.push(into, 0, 0, 0, 1000, i, i, i, i));
  assertEquals(queue.push(into, 0, 0, 0, 1000, 0, 0, 0, 0), false);
  for (let i = 0; i < 1000; i++) assertEquals([queue.shift(into, 0, 10, source), source.key, source.length], [0, i, 0]);
  assertEquals(queue.nextLength, -1);
});
