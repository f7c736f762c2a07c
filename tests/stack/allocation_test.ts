/**
 * Nothing is allocated per frame in steady state: frames go both ways through the whole receive and send path of two stacks, and
 * the heap hardly grows, garbage included.
 */
import { assertGreater, assertLess } from "@std/assert";
import type { MEASURES } from "../testing/garbage.ts";
import { HeapGrowth } from "../testing/heap_growth.ts";

const TRIES = 6;

/**
 * Bytes a frame: the least of up to six isolates. What V8 puts into one function differs from one isolate to the next, and where
 * it doesn't inline a call whose argument has a fraction, that costs a number in the heap. Garbage of ours is in every one.
 */
async function leastOf(what: keyof typeof MEASURES, enough: number): Promise<number> {
  let least = Infinity;
  for (let i = 0; i < TRIES && !(least < enough); i++) {
    const worker = new Worker(import.meta.resolve("../testing/garbage.ts"), { type: "module" });
    const found = await new Promise<number>((resolve, reject) => {
      worker.onmessage = (event) => resolve(event.data);
      worker.onerror = (event) => {
        event.preventDefault();
        reject(new Error(event.message));
      };
      worker.postMessage(what);
    });
    worker.terminate();
    least = Math.min(least, found);
  }
  return least;
}

Deno.test("the meter sees what it is there to see", () => {
  const kept: Uint8Array[] = [];
  const heap = new HeapGrowth();
  const bytes = new Uint8Array(64);
  for (let i = 0; i < 20; i++) {
    heap.begin();
    for (let j = 0; j < 1000; j++) kept[j] = bytes.subarray(1);
    heap.look(1000);
  }
  assertGreater(heap.perCount, 40);
});

/** Bytes of heap per frame that pass for none: less than the smallest thing there is, a number with a fraction. */
const NEXT_TO_NOTHING = 16;
/** Reads and writes of 64 KiB, and what wraps around in a ring, need views: a few per hundred frames. */
const READS_AND_WRITES = 20;
/** A view, as `copyBytes` makes for what is longer than it copies byte by byte. */
const VIEW = 112;

for (
  const [name, what, most] of [
    ["TCP, plain: a million frames each way leave no garbage", "tcpPlain", NEXT_TO_NOTHING + READS_AND_WRITES],
    ["TCP, offload: frames of 64 KiB leave no more than a few views, whatever they carry", "tcpOffload", 4 * VIEW],
    ["UDP: half a million datagrams each way leave no garbage", "udpShort", NEXT_TO_NOTHING],
    [
      "UDP: a long datagram leaves the views that its copies need: in, into the queue, out",
      "udpLong",
      3 * VIEW + 2 * NEXT_TO_NOTHING,
    ],
  ] as const
) {
  Deno.test(name, async () => assertLess(await leastOf(what, most), most));
}
