/**
 * One side of a virtqueue in a worker: it acts on the ring and on its doorbell, and on nothing else.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { Chain } from "../../../drivers/virtio/chain.ts";
import { SharedMemory } from "../../../drivers/virtio/memory.ts";
import { BASE, deviceQueue, driverQueue, type Job, numbers, places, SLOT, type Verdict } from "./ring_rig.ts";

const KICK = 0;
const INTERRUPT = 1;
/** Longer than anything here takes: whoever waits so long was not told. */
const LOST_MS = 60_000;

/** Bytes to read and to write of buffer `serial`. */
function shapeOf(serial: number): { readable: number; writable: number } {
  return { readable: 1 + serial % 61, writable: serial % 3 === 0 ? 0 : 1 + serial % 59 };
}

function byteOf(serial: number, i: number, written: boolean): number {
  return (Math.imul(serial + 1, 2654435761) >>> 11) + i * 13 + (written ? 77 : 0) & 0xff;
}

function ring(bells: Int32Array, bell: number): void {
  Atomics.add(bells, bell, 1);
  Atomics.notify(bells, bell);
}

function sleep(bells: Int32Array, bell: number, seen: number, what: string): void {
  if (Atomics.wait(bells, bell, seen, LOST_MS) === "timed-out") throw new Error(`a lost notification: ${what}`);
}

function drive({ options, ring: buffer, bells: counters, total }: Job): void {
  const bytes = new Uint8Array(buffer);
  const bells = new Int32Array(counters);
  const queue = driverQueue(SharedMemory.of(bytes, BASE), options);
  const { buffers } = places(options);
  const slots = Array.from({ length: options.size }, (_, i) => i);
  const serials = new Map<number, { serial: number; slot: number }>();
  let added = 0;
  let collected = 0;
  const offer = () => {
    const { readable, writable } = shapeOf(added);
    const slot = slots[slots.length - 1];
    if (slot === undefined) return false;
    const at = buffers + slot * SLOT;
    for (let i = 0; i < readable; i++) bytes[at + i] = byteOf(added, i, false);
    const lengths = writable > 0 ? [readable, writable] : [readable];
    const id = queue.add([BASE + at, BASE + at + readable], lengths, 1, lengths.length);
    if (id < 0) return false;
    slots.pop();
    serials.set(id, { serial: added++, slot });
    return true;
  };
  const collect = () => {
    const id = queue.collect();
    if (id < 0) return false;
    const { serial, slot } = serials.get(id)!;
    const { readable, writable } = shapeOf(serial);
    assertEquals(queue.written, writable);
    for (let i = 0, at = buffers + slot * SLOT + readable; i < writable; i++) {
      if (bytes[at + i] !== byteOf(serial, i, true)) assertEquals(bytes[at + i], byteOf(serial, i, true), `buffer ${serial}`);
    }
    serials.delete(id);
    slots.push(slot);
    collected++;
    return true;
  };
  while (collected < total) {
    const seen = Atomics.load(bells, INTERRUPT);
    queue.wantInterrupts(false);
    while (collect());
    for (let i = 0; i < 17 && added < total && offer(); i++);
    if (queue.publish()) ring(bells, KICK);
    assertEquals(queue.broken, null);
    if (queue.wantInterrupts(true) || collected === total || (added < total && queue.free >= 2)) continue;
    sleep(bells, INTERRUPT, seen, `the driver has ${collected} of ${total} back`);
  }
  assertEquals([serials.size, queue.free, added], [0, options.size, total]);
}

function serve({ options, ring: buffer, bells: counters, total }: Job): void {
  const bells = new Int32Array(counters);
  const queue = deviceQueue(SharedMemory.of(new Uint8Array(buffer), BASE), options);
  const scratch = new Uint8Array(SLOT);
  const random = numbers(total + options.size);
  const held: { chain: Chain; serial: number }[] = [];
  const spare: Chain[] = [];
  let taken = 0;
  let given = 0;
  const take = () => {
    const chain = spare.pop() ?? new Chain();
    const code = queue.take(chain);
    if (code !== 1) {
      spare.push(chain);
      return false;
    }
    const { readable, writable } = shapeOf(taken);
    assertEquals([chain.readableBytes, chain.writableBytes], [readable, writable]);
    chain.gather(0, scratch, 0, readable);
    for (let i = 0; i < readable; i++) {
      if (scratch[i] !== byteOf(taken, i, false)) assertEquals(scratch[i], byteOf(taken, i, false), `buffer ${taken}`);
    }
    held.push({ chain, serial: taken++ });
    return true;
  };
  const give = () => {
    const [{ chain, serial }] = held.splice(options.inOrder ? 0 : random(held.length), 1);
    const { writable } = shapeOf(serial);
    for (let i = 0; i < writable; i++) scratch[i] = byteOf(serial, i, true);
    chain.scatter(0, scratch, 0, writable);
    queue.give(chain.id, chain.descriptors, writable);
    spare.push(chain);
    given++;
  };
  while (given < total) {
    const seen = Atomics.load(bells, KICK);
    queue.wantKicks(false);
    for (let i = 0; i < 23 && take(); i++);
    for (let i = random(held.length + 1); i > 0; i--) give();
    if (queue.publish()) ring(bells, INTERRUPT);
    assertEquals(queue.broken, null);
    if (queue.wantKicks(true) || held.length > 0 || given === total) continue;
    sleep(bells, KICK, seen, `the device has had ${given} of ${total}`);
  }
  assert(taken === total);
}

const scope = self as unknown as { onmessage: (event: MessageEvent<Job>) => void; postMessage(verdict: Verdict): void };
scope.onmessage = ({ data }) => {
  try {
    (data.side === "driver" ? drive : serve)(data);
    scope.postMessage(null);
  } catch (error) {
    scope.postMessage((error as Error).stack ?? String(error));
  }
};
