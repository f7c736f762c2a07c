/**
 * The load client on Deno's sockets, for machines without a C compiler: the modes and options of `load.c`, except ping.
 * At high rates it is itself what is measured; the table says which client ran.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { findProgram } from "../testing/namespace.ts";

const PIECE = 512 * 1024;
const WARM_UP_MS = 300;
const LOST_MS = 100;
const ECHO = 7;
/** Clock ticks a second of /proc/PID/stat, on every Linux that Deno runs on. */
const TICKS = 100;

const options = parseArgs(Deno.args, { string: ["n", "t", "s", "f", "p", "w"] });
const [mode, hostname] = options._.map(String);
const connections = Number(options.n ?? 1);
const seconds = Number(options.t ?? 1);
const size = Number(options.s ?? 1);
const flight = Number(options.f ?? 1);
const serverPid = Number(options.p ?? 0);

let measuring = false;
let done = false;
let tookMs = 0;
let cpuSeconds = 0;
let lost = 0;
let acknowledged = 0;
const times: number[] = [];
const clock = Promise.withResolvers<void>();

function serverCpu(): number {
  if (serverPid === 0) return 0;
  const fields = Deno.readTextFileSync(`/proc/${serverPid}/stat`).replace(/^.*\) /, "").split(" ");
  return (Number(fields[11]) + Number(fields[12])) / TICKS;
}

/** Bytes that the server has acknowledged on all connections; Deno doesn't ask TCP_INFO, `ss` (with `ip` in iproute2) does. */
async function acked(): Promise<number> {
  const ss = findProgram("ss");
  if (mode !== "in" || ss === null) return NaN;
  const { stdout } = await new Deno.Command(ss, { args: ["-tnHi", "dst", hostname] }).output();
  const found = new TextDecoder().decode(stdout).matchAll(/bytes_acked:(\d+)/g);
  return [...found].reduce((total, match) => total + Number(match[1]), 0);
}

async function runClock(): Promise<void> {
  await new Promise((resolve) => setTimeout(resolve, WARM_UP_MS));
  const ackedBefore = await acked();
  const cpuBefore = serverCpu();
  const begin = performance.now();
  measuring = true;
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  acknowledged = await acked() - ackedBefore;
  done = true;
  tookMs = performance.now() - begin;
  cpuSeconds = serverCpu() - cpuBefore;
  clock.resolve();
}

/** Bytes from us to the server's discard port. */
async function bulkIn(): Promise<number> {
  using conn = await Deno.connect({ hostname, port: 9 });
  const piece = new Uint8Array(PIECE);
  let bytes = 0;
  while (!done) {
    const n = await conn.write(piece);
    if (measuring && !done) bytes += n;
  }
  return bytes;
}

/** Bytes from the server's chargen port to us. */
async function bulkOut(): Promise<number> {
  using conn = await Deno.connect({ hostname, port: 19 });
  const buffer = new Uint8Array(PIECE);
  let bytes = 0;
  while (!done) {
    const n = await conn.read(buffer);
    if (n === null) throw new Error("the server closed");
    if (measuring && !done) bytes += n;
  }
  return bytes;
}

/** `size` bytes there and back, again and again. */
async function roundTrips(): Promise<number> {
  using conn = await Deno.connect({ hostname, port: ECHO });
  conn.setNoDelay(true);
  const bytes = new Uint8Array(size);
  let count = 0;
  while (!done) {
    const counted = measuring;
    const begin = performance.now();
    await conn.write(bytes);
    for (let got = 0; got < size;) got += await conn.read(bytes) ?? size;
    if (!counted || done) continue;
    count++;
    times.push((performance.now() - begin) * 1000);
  }
  return count;
}

/** A connection, one byte each way, and both FINs, again and again. */
async function newConnections(): Promise<number> {
  const byte = new Uint8Array(1);
  let count = 0;
  while (!done) {
    const counted = measuring;
    const begin = performance.now();
    using conn = await Deno.connect({ hostname, port: ECHO });
    await conn.write(byte);
    await conn.read(byte);
    await conn.closeWrite();
    if (await conn.read(byte) !== null || !counted || done) continue;
    count++;
    times.push((performance.now() - begin) * 1000);
  }
  return count;
}

function datagramSocket(): [Deno.DatagramConn, Deno.NetAddr] {
  const socket = Deno.listenDatagram({ transport: "udp", port: 0, hostname: "0.0.0.0" });
  return [socket, { transport: "udp", hostname, port: ECHO }];
}

/** Datagrams to the echo port: `flight` under way, or (blast) as many as go. Counts what comes back. */
async function datagrams(blast: boolean): Promise<number> {
  const [socket, to] = datagramSocket();
  const bytes = new Uint8Array(Math.max(size, 8));
  const stamp = new DataView(bytes.buffer);
  let count = 0;
  let underWay = 0;
  let heardAt = performance.now();
  const send = async () => {
    underWay++;
    stamp.setFloat64(0, performance.now());
    await socket.send(bytes, to);
  };
  const receive = async () => {
    for await (const [reply] of socket) {
      underWay--;
      heardAt = performance.now();
      const began = new DataView(reply.buffer, reply.byteOffset).getFloat64(0);
      if (measuring && !done) {
        count++;
        times.push((heardAt - began) * 1000);
      }
      if (!blast && !done) await send();
    }
  };
  const receiving = receive();
  while (!done) {
    if (blast) {
      for (let i = 0; i < 16; i++) await send();
    } else if (underWay <= 0 || performance.now() - heardAt > LOST_MS) {
      lost += measuring ? Math.max(0, underWay) : 0;
      for (underWay = 0; underWay < flight;) await send();
    }
    await new Promise((resolve) => setTimeout(resolve, blast ? 0 : LOST_MS));
  }
  socket.close();
  await receiving.catch(() => {});
  return count;
}

/** The time of day of the server's first answer. */
async function firstAnswer(): Promise<void> {
  const [socket, to] = datagramSocket();
  const timer = setInterval(() => socket.send(new Uint8Array(8), to).catch(() => {}), 2);
  await socket.receive();
  clearInterval(timer);
  console.log(JSON.stringify({ value: performance.timeOrigin + performance.now() }));
  Deno.exit(0);
}

/** Opens connections and holds them until standard input ends. */
async function idle(): Promise<void> {
  const all: Deno.Conn[] = [];
  while (all.length < connections) {
    const some = Math.min(64, connections - all.length);
    all.push(...await Promise.all(Array.from({ length: some }, () => Deno.connect({ hostname, port: 9 }))));
  }
  console.log(JSON.stringify({ value: all.length }));
  while (await Deno.stdin.read(new Uint8Array(1)) !== null);
  Deno.exit(0);
}

function percentile(part: number): number {
  return times[Math.floor((times.length - 1) * part)];
}

async function main(): Promise<void> {
  if (mode === "first") return await firstAnswer();
  if (mode === "idle") return await idle();
  const work: Record<string, () => Promise<number>> = {
    in: bulkIn,
    out: bulkOut,
    rr: roundTrips,
    crr: newConnections,
    udp: () => datagrams(false),
    blast: () => datagrams(true),
  };
  const workers = mode === "udp" || mode === "blast" ? 1 : connections;
  const counts = Promise.all(Array.from({ length: workers }, () => work[mode]()));
  // A failed worker must end the run, and a slow one must not hold it up.
  counts.catch(clock.reject);
  await Promise.all([clock.promise, runClock()]);
  let total = (await counts).reduce((sum, count) => sum + count, 0);
  if (mode === "in" && !Number.isNaN(acknowledged)) total = acknowledged;
  const isBulk = mode === "in" || mode === "out";
  times.sort((a, b) => a - b);
  const latency = times.length > 0 ? { p50Us: percentile(0.5), p99Us: percentile(0.99) } : {};
  const value = isBulk ? total * 8 / tookMs / 1e6 : total / tookMs * 1000;
  console.log(JSON.stringify({ value, ...latency, ...(isBulk && { bytes: total }), cpuSeconds, seconds: tookMs / 1000, lost }));
}

try {
  await main();
  Deno.exit(0);
} catch (error) {
  console.error(`client: ${(error as Error).message}`);
  Deno.exit(1);
}
