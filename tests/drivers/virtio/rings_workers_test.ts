/** A virtqueue between two threads that really run at once: the driver in one worker, the device in another. */
import { assertEquals } from "@std/assert";
import { type Job, places, type RigOptions, SLOT, type Verdict } from "./ring_rig.ts";

const BUFFERS = 100_000;

function start(job: Job): { worker: Worker; verdict: Promise<Verdict> } {
  const worker = new Worker(new URL("ring_worker.ts", import.meta.url), { type: "module" });
  const { promise: verdict, resolve } = Promise.withResolvers<Verdict>();
  worker.onmessage = ({ data }) => resolve(data);
  worker.onerror = (event) => {
    event.preventDefault();
    resolve(event.message);
  };
  worker.postMessage(job);
  return { worker, verdict };
}

async function between(options: RigOptions): Promise<void> {
  const ring = new SharedArrayBuffer(places(options).bytes);
  const bells = new SharedArrayBuffer(8);
  const sides = (["driver", "device"] as const).map((side) => start({ side, options, ring, bells, total: BUFFERS }));
  try {
    // The first one that fails: the other would wait for it.
    const failed = Promise.race(sides.map(({ verdict }) => verdict.then((v) => v ?? Promise.race<string>([]))));
    assertEquals(await Promise.race([failed, Promise.all(sides.map(({ verdict }) => verdict))]), [null, null]);
  } finally {
    sides.forEach(({ worker }) => worker.terminate());
  }
}

const CASES: [string, RigOptions][] = [
  ["split", { packed: false, size: 64 }],
  ["split, event index", { packed: false, size: 256, eventIndex: true }],
  ["split, event index, a small ring", { packed: false, size: 4, eventIndex: true }],
  ["split, indirect, in order", { packed: false, size: 32, indirect: true, inOrder: true }],
  ["packed", { packed: true, size: 100 }],
  ["packed, event index, in order", { packed: true, size: 255, eventIndex: true, inOrder: true }],
  ["packed, indirect, a small ring", { packed: true, size: 3, indirect: true }],
];

for (const [name, options] of CASES) {
  Deno.test(`virtio rings between two workers: ${name}: ${BUFFERS} buffers`, async () => {
    await between({ ...options, data: options.size * SLOT });
  });
}
