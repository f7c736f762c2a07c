/**
 * A stranger who uses the host: UDP echo, HTTP, a bulk transfer in each direction. It speaks to whatever has Deno's own
 * networking calls: the kernel (`Deno` itself), or another stack of ours.
 *
 * Run as a program it uses the kernel and prints its findings as JSON: `stranger.ts ADDRESS BULK_BYTES`.
 *
 * @module
 */

/** What the stranger needs of a network; `Deno` and `NetStack` both have it. */
export interface Net {
  connect(options: { hostname: string; port: number }): Promise<Deno.Conn>;
  listenDatagram(options: { hostname: string; port: number; transport: "udp" }): Deno.DatagramConn;
}

/** A bulk transfer as its receiver saw it. */
export interface Bulk {
  bytes: number;
  ms: number;
  sha256: string;
}

export interface Findings {
  udpEcho: { sent: number; received: number; medianUs: number };
  http: { status: number; bytes: number; ms: number };
  /** From the stranger into the host, and the sum of what was sent. */
  bulkIn: Bulk & { expected: string };
  bulkOut: Bulk;
}

export const BULK_IN_PORT = 5001;
export const BULK_OUT_PORT = 5002;
const UDP_ROUNDS = 500;
const UDP_PATIENCE_MS = 1000;
const PIECE = 1 << 18;

/** Bytes that don't repeat, so that a piece lost, doubled or out of place changes the sum. */
export function bulkBytes(size: number): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(size);
  const block = crypto.getRandomValues(new Uint8Array(1 << 16));
  const view = new DataView(bytes.buffer);
  for (let at = 0; at < size; at += block.length) {
    bytes.set(block.subarray(0, Math.min(block.length, size - at)), at);
    if (at + 4 <= size) view.setUint32(at, at);
  }
  return bytes;
}

export async function sha256(bytes: Uint8Array<ArrayBuffer>): Promise<string> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).toHex();
}

export async function send(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at, Math.min(bytes.length, at + PIECE)));
}

/** Reads up to `size` bytes, to the end of the stream if they are fewer. Time runs from the first byte to the last. */
export async function receiveBulk(conn: Deno.Conn, size: number): Promise<Bulk> {
  // Touched once beforehand: the kernel hands out memory on first use, which isn't what is measured here.
  const buffer = new Uint8Array(size).fill(1);
  let length = 0;
  let begin = 0;
  while (length < size) {
    const n = await conn.read(buffer.subarray(length, Math.min(size, length + 2 * PIECE)));
    if (n === null) break;
    if (length === 0) begin = performance.now();
    length += n;
  }
  const ms = performance.now() - begin;
  return { bytes: length, ms, sha256: await sha256(buffer.subarray(0, length)) };
}

/** What `promise` gives, or null if it takes too long: UDP may lose a datagram. */
function inTime<T>(promise: Promise<T>): Promise<T | null> {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, UDP_PATIENCE_MS, null);
    promise.catch(() => null).then((value) => {
      clearTimeout(timer);
      resolve(value);
    });
  });
}

async function udpEcho(net: Net, local: string, remote: string): Promise<Findings["udpEcho"]> {
  const socket = net.listenDatagram({ hostname: local, port: 0, transport: "udp" });
  const times: number[] = [];
  const message = new Uint8Array(32);
  for (let round = 0; round < UDP_ROUNDS; round++) {
    message[0] = round & 255;
    message[1] = round >> 8;
    const begin = performance.now();
    await socket.send(message, { transport: "udp", hostname: remote, port: 7 });
    const answer = await inTime(socket.receive());
    if (answer === null) break;
    if (answer[0][0] === message[0] && answer[0][1] === message[1]) times.push((performance.now() - begin) * 1000);
  }
  socket.close();
  times.sort((a, b) => a - b);
  return { sent: UDP_ROUNDS, received: times.length, medianUs: times[times.length >> 1] ?? NaN };
}

/** A page by HTTP/1.1 over a connection; enough HTTP for a server that we know. */
async function http(net: Net, remote: string): Promise<Findings["http"]> {
  const begin = performance.now();
  using conn = await net.connect({ hostname: remote, port: 80 });
  await send(conn, new TextEncoder().encode(`GET / HTTP/1.1\r\nHost: ${remote}\r\nConnection: close\r\n\r\n`));
  const answer = await new Response(conn.readable).text();
  const body = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  return { status: Number(answer.split(" ")[1]), bytes: body.length, ms: performance.now() - begin };
}

async function bulkIn(net: Net, remote: string, size: number): Promise<Findings["bulkIn"]> {
  const bytes = bulkBytes(size);
  using conn = await net.connect({ hostname: remote, port: BULK_IN_PORT });
  await send(conn, bytes);
  const answer = JSON.parse(await new Response(conn.readable).text()) as Bulk;
  return { ...answer, expected: await sha256(bytes) };
}

async function bulkOut(net: Net, remote: string, size: number): Promise<Bulk> {
  using conn = await net.connect({ hostname: remote, port: BULK_OUT_PORT });
  return await receiveBulk(conn, size);
}

/** Uses every service of the host at `remote` once. */
export async function visit(net: Net, local: string, remote: string, bulkSize: number): Promise<Findings> {
  return {
    udpEcho: await udpEcho(net, local, remote),
    http: await http(net, remote),
    bulkIn: await bulkIn(net, remote, bulkSize),
    bulkOut: await bulkOut(net, remote, bulkSize),
  };
}

if (import.meta.main) {
  const [remote, size] = Deno.args;
  console.log(JSON.stringify(await visit(Deno as Net, "0.0.0.0", remote, Number(size))));
}
