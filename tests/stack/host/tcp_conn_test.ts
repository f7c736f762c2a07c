// What Deno.TcpConn does over the kernel, TcpConn does over a stack: in its own thread and in a worker: one table, run three times.
import { assert, assertEquals } from "@std/assert";
import { TcpConn } from "../../../mod.ts";
import { both, connected, moment, outcome, pair, readAll, writeAll } from "./worlds.ts";

const BAD = "BadResource -";
const BROKEN = "BrokenPipe EPIPE";

both("TCP: addresses, and bytes both ways", async (world) => {
  using all = await connected(world);
  assertEquals(all.client.remoteAddr, { ...all.listener.addr });
  assertEquals({ ...all.server.remoteAddr }, { ...all.client.localAddr });
  assertEquals(all.client.remoteAddr.transport, "tcp");
  assertEquals(await all.client.write(new Uint8Array([1, 2, 3])), 3);
  const buffer = new Uint8Array(8);
  assertEquals(await all.server.read(buffer), 3);
  assertEquals([...buffer.subarray(0, 4)], [1, 2, 3, 0]);
  await all.server.write(new Uint8Array([9]));
  assertEquals(await all.client.read(buffer), 1);
});

both("TCP: nothing read and nothing written is 0", async (world) => {
  using all = await connected(world);
  assertEquals(await all.client.read(new Uint8Array(0)), 0);
  assertEquals(await all.client.write(new Uint8Array(0)), 0);
});

both("TCP: reads that wait are served in order", async (world) => {
  using all = await connected(world);
  const order: string[] = [];
  const reads = [0, 1, 2].map((i) => all.client.read(new Uint8Array(4)).then((count) => order.push(`${i}:${count}`)));
  await all.server.write(new Uint8Array(10));
  await Promise.all(reads);
  assertEquals(order, ["0:4", "1:4", "2:2"]);
});

both("TCP: the peer's end reads as null, again and again, and the other direction stays open", async (world) => {
  using all = await connected(world);
  await all.client.closeWrite();
  assertEquals(await all.server.read(new Uint8Array(4)), null);
  assertEquals(await all.server.read(new Uint8Array(4)), null);
  assertEquals(await all.server.write(new Uint8Array(5)), 5);
  assertEquals(await all.client.read(new Uint8Array(9)), 5);
  assertEquals(await outcome(() => all.client.write(new Uint8Array(1))), BROKEN);
  assert(["nothing"].includes(await outcome(() => all.client.closeWrite())));
});

both("TCP: everything on a closed connection is a bad resource, but dispose isn't", async (world) => {
  using all = await connected(world);
  const { client } = all;
  client.close();
  assertEquals(await outcome(() => client.close()), BAD);
  assertEquals(await outcome(() => client.read(new Uint8Array(4))), BAD);
  assertEquals(await outcome(() => client.read(new Uint8Array(0))), "0");
  assertEquals(await outcome(() => client.write(new Uint8Array(4))), BAD);
  assertEquals(await outcome(() => client.closeWrite()), BAD);
  assertEquals(await outcome(() => client.setNoDelay()), BAD);
  assertEquals(await outcome(() => client.setKeepAlive()), BAD);
  client[Symbol.dispose]();
  assert(client.localAddr.port > 0);
});

both("TCP: close interrupts reads that wait", async (world) => {
  using all = await connected(world);
  const reads = [outcome(() => all.client.read(new Uint8Array(4))), outcome(() => all.client.read(new Uint8Array(4)))];
  all.client.close();
  assertEquals(await Promise.all(reads), ["Interrupted EINTR", "Interrupted EINTR"]);
});

both("TCP: close interrupts a write that waits, and what was accepted still arrives", async (world) => {
  using all = await connected(world);
  const big = new Uint8Array(8 << 20);
  let written = 0;
  const writer = outcome(async () => {
    for (;;) written += await all.client.write(big);
  });
  await moment(60);
  all.client.close();
  assertEquals(await writer, "Interrupted EINTR");
  assertEquals((await readAll(all.server)).length, written);
});

both("TCP: writing to a peer that is gone breaks", async (world) => {
  using all = await connected(world);
  all.client.close();
  assertEquals(await all.server.read(new Uint8Array(4)), null);
  assertEquals(await outcome(() => all.server.write(new Uint8Array(4))), "4");
  await moment();
  assertEquals(await outcome(() => all.server.write(new Uint8Array(4))), BROKEN);
  assertEquals(await outcome(() => all.server.read(new Uint8Array(4))), "nothing");
});

both("TCP: close with unread data is a FIN and then a reset", async (world) => {
  using all = await connected(world);
  await all.client.write(new Uint8Array(10));
  await moment();
  all.server.close();
  await moment();
  assertEquals(await outcome(() => all.client.write(new Uint8Array(4))), BROKEN);
  assertEquals(await outcome(() => all.client.read(new Uint8Array(4))), "nothing");
});

both("TCP: a stream ends with null, and closes the connection with it", async (world) => {
  using all = await connected(world);
  await all.client.write(new Uint8Array([7, 8]));
  await all.client.closeWrite();
  const reader = all.server.readable.getReader({ mode: "byob" });
  const first = await reader.read(new Uint8Array(64));
  assertEquals([...first.value!], [7, 8]);
  const last = await reader.read(new Uint8Array(64));
  assertEquals([last.done, last.value?.length], [true, 0]);
  assertEquals(await outcome(() => all.server.close()), BAD);
});

both("TCP: a stream fills the reader's own buffer at its own place", async (world) => {
  using all = await connected(world);
  await all.client.write(new Uint8Array([1, 2, 3]));
  const reader = all.server.readable.getReader({ mode: "byob" });
  const { value } = await reader.read(new Uint8Array(new ArrayBuffer(100), 10, 20));
  assertEquals([value!.byteOffset, value!.byteLength, value!.buffer.byteLength], [10, 3, 100]);
});

both("TCP: a reader without a buffer gets chunks of at most 64 KiB", async (world) => {
  using all = await connected(world);
  const reader = all.server.readable.getReader();
  const read = reader.read();
  await all.client.write(new Uint8Array(10));
  const { value } = await read;
  assertEquals([value!.length, value!.buffer.byteLength], [10, 65_536]);
});

both("TCP: closing the writable closes the connection", async (world) => {
  using all = await connected(world);
  const writer = all.client.writable.getWriter();
  await writer.write(new Uint8Array([1]));
  assertEquals(writer.desiredSize, 1);
  await writer.close();
  assertEquals(await outcome(() => all.client.write(new Uint8Array(1))), BAD);
  assertEquals([...await readAll(all.server)], [1]);
});

both("TCP: cancelling or aborting a stream closes the connection", async (world) => {
  using all = await connected(world);
  await all.server.readable.getReader().cancel();
  assertEquals(await outcome(() => all.server.read(new Uint8Array(3))), BAD);
  await all.client.writable.getWriter().abort();
  assertEquals(await outcome(() => all.client.read(new Uint8Array(3))), BAD);
});

both("TCP: a stream that waits when its connection is closed fails", async (world) => {
  using all = await connected(world);
  const reader = all.server.readable.getReader();
  const read = outcome(() => reader.read());
  all.server.close();
  assertEquals(await read, BAD);
});

both("TCP: a writable after closeWrite breaks, and closes the connection", async (world) => {
  using all = await connected(world);
  await all.client.closeWrite();
  assertEquals(await outcome(() => all.client.writable.getWriter().write(new Uint8Array(3))), BROKEN);
  assertEquals(await outcome(() => all.client.close()), BAD);
});

both("TCP: an echo by streams gives back every byte, with back-pressure", async (world) => {
  using all = await connected(world);
  const data = crypto.getRandomValues(new Uint8Array(65_536));
  const echo = all.server.readable.pipeTo(all.server.writable);
  const back = readAll(all.client);
  for (let i = 0; i < 32; i++) await writeAll(all.client, data);
  await all.client.closeWrite();
  const bytes = await back;
  await echo;
  assertEquals(bytes.length, 32 * data.length);
  assertEquals(bytes.subarray(31 * data.length), data);
});

both("TCP: refused, aborted, and out of range", async (world) => {
  const listener = world.listen();
  const { port } = listener.addr;
  listener.close();
  assertEquals(await outcome(() => world.connect(port)), "ConnectionRefused ECONNREFUSED");
  assertEquals(await outcome(() => world.connect(70_000)), "RangeError -");
  assertEquals(await outcome(() => world.connect(-1)), "RangeError -");
  assertEquals(await outcome(() => world.connect(port, AbortSignal.abort())), "AbortError -");
  assertEquals(await outcome(() => world.connect(port, AbortSignal.abort(new TypeError("why")))), "TypeError -");
});

Deno.test("TCP: an abort in the middle of connecting rejects with its reason and leaves nothing", async () => {
  using all = pair();
  const abort = new AbortController();
  const connecting = outcome(() => all.client.connect({ hostname: "10.0.0.99", port: 1, signal: abort.signal }));
  await Promise.resolve();
  await Promise.resolve();
  abort.abort();
  assertEquals(await connecting, "AbortError -");
  assertEquals(all.client.connections().length, 0);
});

Deno.test("TCP: refused says what was tried", async () => {
  using all = pair();
  const error = await all.client.connect({ hostname: "10.0.0.1", port: 81 }).catch((error) => error);
  assertEquals(error.message, "Connection refused (os error 111): connect 10.0.0.1:81");
  assert(error instanceof Deno.errors.ConnectionRefused);
});

Deno.test("TCP: abort() resets, closed resolves, info stays", async () => {
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  assert(client instanceof TcpConn);
  assertEquals(client.info.state, "ESTABLISHED");
  client.abort();
  await client.closed;
  await server.closed;
  assertEquals(await outcome(() => server.read(new Uint8Array(1))), "ConnectionReset ECONNRESET");
  assertEquals(await outcome(() => server.read(new Uint8Array(1))), "nothing");
  assertEquals(client.info.remotePort, 7);
  client.abort();
  server.close();
});

Deno.test("TCP: a user timeout out of range is refused before anything changes", async () => {
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  assertEquals(await outcome(() => client.setUserTimeout(-1)), "RangeError -");
  client.setUserTimeout(1000);
  client.setKeepAlive(true, 1000, 100, 3);
  client.setNoDelay();
  client.close();
  server.close();
});

Deno.test("TCP: a stack talks to itself over loop-back", async () => {
  using all = pair();
  using listener = all.client.listen({ port: 7 });
  for (const hostname of ["127.0.0.1", "10.0.0.2", "localhost"]) {
    const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname, port: 7 })]);
    const writing = writeAll(client, new Uint8Array(300_000)).then(() => client.closeWrite());
    assertEquals((await readAll(server)).length, 300_000);
    await writing;
    client.close();
    server.close();
  }
});
