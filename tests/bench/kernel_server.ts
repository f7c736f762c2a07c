/**
 * The same services as `examples/simple_services.ts`, on the kernel's own sockets: what the benchmark compares with.
 *
 * @module
 */
import { chargenPattern } from "../../examples/services/content.ts";

const pattern = chargenPattern(256 * 1024);
const rubbish = new Uint8Array(512 * 1024);

async function discard(conn: Deno.Conn): Promise<void> {
  while (await conn.read(rubbish) !== null);
}

async function echo(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(64 * 1024);
  for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
    for (let at = 0; at < n;) at += await conn.write(buffer.subarray(at, n));
  }
}

async function chargen(conn: Deno.Conn): Promise<void> {
  for (;;) {
    for (let at = 0; at < pattern.length;) at += await conn.write(pattern.subarray(at));
  }
}

async function serveOn(port: number, handle: (conn: Deno.Conn) => Promise<void>): Promise<void> {
  for await (const conn of Deno.listen({ port, hostname: "0.0.0.0" })) {
    conn.setNoDelay(true);
    handle(conn).catch(() => {}).finally(() => conn[Symbol.dispose]());
  }
}

async function echoDatagrams(): Promise<void> {
  const socket = Deno.listenDatagram({ transport: "udp", port: 7, hostname: "0.0.0.0" });
  // A client that has gone loses its answer.
  for await (const [bytes, from] of socket) await socket.send(bytes, from).catch(() => {});
}

echoDatagrams();
serveOn(7, echo);
serveOn(9, discard);
serveOn(19, chargen);
console.log("ready kernel");
