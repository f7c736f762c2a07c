/**
 * What the host of the demo offers: UDP echo, a web page, and both ends of a bulk transfer.
 *
 * @module
 */
import { type NetStack, serve } from "../../mod.ts";
import { BULK_IN_PORT, BULK_OUT_PORT, bulkBytes, receiveBulk, send, sha256 } from "./stranger.ts";

async function eachConnection(listener: Deno.TcpListener, handle: (conn: Deno.TcpConn) => Promise<void>): Promise<void> {
  for await (const conn of listener) {
    handle(conn).catch(() => {}).finally(() => conn[Symbol.dispose]());
  }
}

async function udpEcho(socket: Deno.DatagramConn): Promise<void> {
  for await (const [bytes, from] of socket) await socket.send(bytes, from).catch(() => {});
}

/** Starts the services; resolves to the SHA-256 of what the host sends in bulk. They end with the stack. */
export async function startServices(stack: NetStack, bulkSize: number): Promise<string> {
  const bytes = bulkBytes(bulkSize);
  serve(stack.listen({ port: 80 }), () => new Response("Hello from a TCP/IP stack in TypeScript.\n"));
  udpEcho(stack.listenDatagram({ port: 7 })).catch(() => {});
  eachConnection(stack.listen({ port: BULK_IN_PORT }), async (conn) => {
    const bulk = await receiveBulk(conn, bulkSize);
    await send(conn, new TextEncoder().encode(JSON.stringify(bulk)));
    await conn.closeWrite();
  });
  eachConnection(stack.listen({ port: BULK_OUT_PORT }), async (conn) => {
    await send(conn, bytes);
    await conn.closeWrite();
    // The stranger closes when it has everything: closing first with data under way would be a reset.
    while (await conn.read(new Uint8Array(1)) !== null);
  });
  return await sha256(bytes);
}
