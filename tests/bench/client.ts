/**
 * The load client of the benchmark, on the kernel's sockets, in a process of its own: `client.ts MODE ADDRESS STREAMS SECONDS`.
 * Prints one line of JSON. The same program measures every server, so that only the server differs.
 *
 * @module
 */

const PIECE = 512 * 1024;
const WARM_UP_MS = 300;

interface Clock {
  /** Work began before and ended after: it counts if it lies between the two. */
  measuring: boolean;
  done: boolean;
  ms: number;
}

function startClock(seconds: number): Clock {
  const clock = { measuring: false, done: false, ms: 0 };
  setTimeout(() => {
    clock.measuring = true;
    const begin = performance.now();
    setTimeout(() => {
      clock.done = true;
      clock.ms = performance.now() - begin;
    }, seconds * 1000);
  }, WARM_UP_MS);
  return clock;
}

function percentile(sorted: number[], part: number): number {
  return sorted[Math.floor((sorted.length - 1) * part)] ?? NaN;
}

/** Bytes from us to the server's discard port. */
async function bulkIn(hostname: string, clock: Clock, piece: Uint8Array): Promise<number> {
  using conn = await Deno.connect({ hostname, port: 9 });
  let bytes = 0;
  while (!clock.done) {
    const n = await conn.write(piece);
    if (clock.measuring && !clock.done) bytes += n;
  }
  return bytes;
}

/** Bytes from the server's chargen port to us. */
async function bulkOut(hostname: string, clock: Clock): Promise<number> {
  using conn = await Deno.connect({ hostname, port: 19 });
  const buffer = new Uint8Array(PIECE);
  let bytes = 0;
  while (!clock.done) {
    const n = await conn.read(buffer);
    if (n === null) throw new Error("the server closed");
    if (clock.measuring && !clock.done) bytes += n;
  }
  return bytes;
}

/** One byte there and back, again and again. */
async function roundTrips(hostname: string, clock: Clock, times: number[]): Promise<number> {
  using conn = await Deno.connect({ hostname, port: 7 });
  conn.setNoDelay(true);
  const byte = new Uint8Array(1);
  let count = 0;
  while (!clock.done) {
    const begin = performance.now();
    await conn.write(byte);
    await conn.read(byte);
    if (!clock.measuring || clock.done) continue;
    count++;
    times.push((performance.now() - begin) * 1000);
  }
  return count;
}

/** A connection, one byte each way, and both FINs, again and again. */
async function connections(hostname: string, clock: Clock): Promise<number> {
  const byte = new Uint8Array(1);
  let count = 0;
  while (!clock.done) {
    using conn = await Deno.connect({ hostname, port: 7 });
    await conn.write(byte);
    await conn.read(byte);
    await conn.closeWrite();
    if (await conn.read(byte) === null && clock.measuring && !clock.done) count++;
  }
  return count;
}

async function main(): Promise<void> {
  const [mode, hostname, streams, seconds] = Deno.args;
  const clock = startClock(Number(seconds));
  const times: number[] = [];
  const piece = new Uint8Array(PIECE);
  const work: Record<string, () => Promise<number>> = {
    in: () => bulkIn(hostname, clock, piece),
    out: () => bulkOut(hostname, clock),
    rr: () => roundTrips(hostname, clock, times),
    crr: () => connections(hostname, clock),
  };
  const counts = await Promise.all(Array.from({ length: Number(streams) }, work[mode]));
  const total = counts.reduce((sum, count) => sum + count, 0);
  const value = mode === "in" || mode === "out" ? total * 8 / clock.ms / 1e6 : total / clock.ms * 1000;
  times.sort((a, b) => a - b);
  const latency = mode === "rr" ? { p50Us: percentile(times, 0.5), p99Us: percentile(times, 0.99) } : {};
  console.log(JSON.stringify({ value, ...latency }));
}

await main();
Deno.exit(0);
