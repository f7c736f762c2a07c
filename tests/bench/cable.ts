/**
 * What our stack costs without the kernel: two of them joined by a cable in memory, in one thread. The cost of both ends, of
 * the cable, and of the program that reads and writes is in the figures.
 *
 * @module
 */
import { cable, type CableEnd, type CableOptions, NetStack } from "../../mod.ts";

const PIECE = new Uint8Array(256 * 1024);
/** Heap is looked at so often, between two collections. */
const LOOK_MS = 20;

export interface CableCost {
  what: string;
  nsPerFrame: number;
  nsPerByte: number;
  bytesPerFrame: number;
  gbps: number;
  /** Garbage: what the JavaScript heap grew by, collections left out. */
  heapPerFrame: number;
}

interface Pair extends AsyncDisposable {
  left: NetStack;
  right: NetStack;
  ends: CableEnd[];
}

function join(options: CableOptions): Pair {
  const ends = cable(options);
  const left = new NetStack(ends[0], { address: "10.0.0.1/24" });
  const right = new NetStack(ends[1], { address: "10.0.0.2/24" });
  return {
    left,
    right,
    ends,
    [Symbol.asyncDispose]: async () => {
      await left[Symbol.asyncDispose]();
      await right[Symbol.asyncDispose]();
    },
  };
}

/** Adds up what the heap grows by. A collection makes it smaller; such a step tells nothing, and its frames don't count. */
class HeapGrowth {
  bytes = 0;
  frames = 0;
  #heap = 0;
  #seen = 0;

  look(frames: number): void {
    const { heapUsed } = Deno.memoryUsage();
    if (this.#heap !== 0 && heapUsed >= this.#heap) {
      this.bytes += heapUsed - this.#heap;
      this.frames += frames - this.#seen;
    }
    this.#heap = heapUsed;
    this.#seen = frames;
  }
}

function framesOf(ends: CableEnd[]): number {
  return ends.reduce((sum, end) => sum + end.statistics!().sent, 0);
}

/** Runs `work` until the time is over, and counts frames, bytes and garbage from the end of the warm-up on. */
async function measure(
  what: string,
  pair: Pair,
  seconds: number,
  work: (running: () => boolean) => Promise<void>,
  moved: () => number,
): Promise<CableCost> {
  let running = true;
  const worker = work(() => running);
  const heap = new HeapGrowth();
  const wait = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));
  await wait(Math.min(500, seconds * 500));
  const [frames0, bytes0, begin] = [framesOf(pair.ends), moved(), performance.now()];
  while (performance.now() - begin < seconds * 1000) {
    heap.look(framesOf(pair.ends));
    await wait(LOOK_MS);
  }
  const [frames, bytes, ns] = [framesOf(pair.ends) - frames0, moved() - bytes0, (performance.now() - begin) * 1e6];
  running = false;
  await worker;
  return {
    what,
    nsPerFrame: ns / frames,
    nsPerByte: ns / bytes,
    bytesPerFrame: bytes / frames,
    gbps: bytes * 8 / ns,
    heapPerFrame: heap.bytes / heap.frames,
  };
}

async function tcp(what: string, options: CableOptions, seconds: number): Promise<CableCost> {
  await using pair = join(options);
  const listener = pair.right.listen({ port: 9 });
  const [conn, accepted] = await Promise.all([pair.left.connect({ hostname: "10.0.0.2", port: 9 }), listener.accept()]);
  const buffer = new Uint8Array(PIECE.length);
  let bytes = 0;
  const read = async () => {
    for (let n = await accepted.read(buffer); n !== null; n = await accepted.read(buffer)) bytes += n;
  };
  return await measure(what, pair, seconds, async (running) => {
    const reading = read();
    while (running()) await conn.write(PIECE);
    conn.close();
    await reading;
    accepted.close();
  }, () => bytes);
}

/** Datagrams in handfuls that the receiver's queue can hold, so that what is sent arrives. */
async function udp(what: string, size: number, seconds: number): Promise<CableCost> {
  await using pair = join({});
  const from = pair.left.listenDatagram({ port: 5000 });
  const to = pair.right.listenDatagram({ port: 5001 });
  const address: Deno.NetAddr = { transport: "udp", hostname: "10.0.0.2", port: 5001 };
  const datagram = new Uint8Array(size);
  const buffer = new Uint8Array(2048);
  let bytes = 0;
  return await measure(what, pair, seconds, async (running) => {
    while (running()) {
      for (let i = 0; i < 64; i++) from.send(datagram, address);
      for (let i = 0; i < 64; i++) bytes += (await to.receive(buffer))[0].length;
      // Datagrams go in microtasks: let the clock have its turn.
      await new Promise((resolve) => setImmediate(resolve));
    }
  }, () => bytes);
}

/** All rows of the second table. */
export async function measureCable(seconds: number): Promise<CableCost[]> {
  return [
    await tcp("TCP, plain", {}, seconds),
    await tcp("TCP, offload", { offload: true }, seconds),
    await udp("UDP 64 B", 64, seconds),
    await udp("UDP 1400 B", 1400, seconds),
  ];
}

if (import.meta.main) console.log(JSON.stringify(await measureCable(Number(Deno.args[0] ?? 1)), null, 1));
