// The queue that all these devices share, against a naive one; and frames that grow and shrink.
import { assert, assertEquals } from "@std/assert";
import { FrameMemory } from "../../../stack/device.ts";
import { NetFrame, NetFrameQueue } from "./face.ts";

Deno.test("the queue keeps order, bytes and notes through every wrap, and is bounded by frames and by bytes", () => {
  let state = 7;
  const random = (n: number) => (state = Math.imul(state, 1103515245) + 12345 | 0, (state >>> 8) % n);
  for (const [frames, bytes] of [[4, 10_000], [64, 500], [1, 100], [7, 1000]]) {
    const queue = new NetFrameQueue(frames, bytes);
    const source = new FrameMemory(200);
    const model: [number, number, number][] = [];
    for (let i = 0; i < 30_000; i++) {
      if (random(2) === 0) {
        const length = 1 + random(120), flags = random(4), fill = random(256);
        source.bytes.fill(fill);
        const room = model.length < frames && (model.length === 0 ? length <= bytes : true);
        if (queue.put(source, 5, length, flags)) {
          assert(room);
          model.push([length, flags, fill]);
        } else if (model.length === 0) assert(length > bytes, "an empty queue takes what fits");
      } else if (model.length > 0) {
        const [length, flags, fill] = model.shift()!;
        assertEquals([queue.length, queue.flags], [length, flags]);
        for (let j = 0; j < length; j++) assert(queue.memory.bytes[queue.offset + j] === fill);
        queue.shift();
      }
      assertEquals(queue.count, model.length);
    }
  }
});

Deno.test("notes hold what an skb's fields can: 32 bits, and a time with fractions", () => {
  const queue = new NetFrameQueue(2, 100);
  queue.push(queue.reserve(10), 10, 3, 1460, 0xffffffff, 0x80000000, 1234567.5);
  assertEquals([queue.flags, queue.segmentSize, queue.mark, queue.priority, queue.timestamp], [
    3,
    1460,
    0xffffffff,
    0x80000000,
    1234567.5,
  ]);
  queue.shift();
  queue.shift();
  assertEquals([queue.count, queue.reserve(101), queue.reserve(100)], [0, -1, 0]);
});

Deno.test("a frame moves its begin and end within its room, and never to nothing", () => {
  const frame = new NetFrame();
  frame.set(new FrameMemory(100), 20, 40);
  frame.roomStart = 10;
  frame.roomEnd = 70;
  assertEquals([frame.adjustHead(-11), frame.adjustHead(-10), frame.offset, frame.length], [false, true, 10, 50]);
  assertEquals([frame.adjustTail(11), frame.adjustTail(10), frame.length], [false, true, 60]);
  assertEquals([frame.adjustHead(60), frame.adjustHead(59), frame.length], [false, true, 1]);
  assertEquals([frame.adjustTail(-1), frame.adjustHead(0.5), frame.adjustTail(NaN), frame.length], [false, false, false, 1]);
});
