// What isn't bytes is refused in Deno's words, and what was bytes until it was transferred loses nothing.
import { assertEquals, assertRejects } from "@std/assert";
import vm from "node:vm";
import { both, connected, moment, outcome, pair, readAll, writeAll } from "./worlds.ts";

/** Whatever a caller without types might give. */
// deno-lint-ignore no-explicit-any
type Anything = any;

const NO_BYTES: Anything[] = [
  "abc",
  5,
  undefined,
  [1, 2],
  {},
  new Uint8Array([1, 2]).buffer,
  new DataView(new ArrayBuffer(2)),
  new Uint16Array(2),
  new Uint8ClampedArray(2),
];

/** The message, and that the call gives a promise for it: it doesn't throw. */
async function said(call: () => Promise<unknown>): Promise<string> {
  return (await assertRejects(() => Promise.resolve(call()), TypeError)).message;
}

function give(bytes: Uint8Array): void {
  structuredClone(bytes.buffer, { transfer: [bytes.buffer as ArrayBuffer] });
}

both("TCP: what isn't bytes is neither written nor read into", async (world) => {
  using all = await connected(world);
  const { client, server } = all;
  for (const given of NO_BYTES) {
    assertEquals(await said(() => client.write(given)), "expected typed ArrayBufferView", Deno.inspect(given));
    // Deno reads the length of undefined.
    if (given !== undefined) assertEquals(await said(() => server.read(given)), "expected typed ArrayBufferView");
  }
  assertEquals(await client.write(new Uint8Array([7, 8])), 2);
  const buffer = new Uint8Array(9);
  assertEquals(await server.read(buffer), 2);
  assertEquals([...buffer.subarray(0, 2)], [7, 8]);
  assertEquals(await server.write(vm.runInNewContext("new Uint8Array([1, 2, 3])")), 3);
  assertEquals(await client.read(buffer), 3);
});

both("TCP: a writable takes every buffer and view as its bytes", async (world) => {
  using all = await connected(world);
  const writer = all.client.writable.getWriter() as WritableStreamDefaultWriter<Anything>;
  const six = Uint8Array.of(1, 2, 3, 4, 5, 6);
  await writer.write(six.buffer);
  await writer.write(new DataView(six.buffer, 1, 2));
  await writer.write(new Uint16Array(six.buffer, 2, 2));
  await writer.write(new Float64Array([1.5]));
  const shared = new SharedArrayBuffer(2);
  new Uint8Array(shared).set([8, 9]);
  await writer.write(shared);
  await writer.close();
  const f64 = [0, 0, 0, 0, 0, 0, 0xf8, 0x3f];
  assertEquals([...await readAll(all.server)], [1, 2, 3, 4, 5, 6, 2, 3, 3, 4, 5, 6, ...f64, 8, 9]);
});

for (const chunk of ["abc", 5, null, [1, 2]]) {
  both(`TCP: a writable fails and is closed over ${JSON.stringify(chunk)}`, async (world) => {
    using all = await connected(world);
    const writer = all.client.writable.getWriter() as WritableStreamDefaultWriter<Anything>;
    const message = "Expected ArrayBuffer or ArrayBufferView for write chunk";
    const closed = said(() => writer.closed);
    assertEquals(await said(() => writer.write(chunk)), message);
    assertEquals(await closed, message);
    assertEquals(await outcome(() => all.client.write(new Uint8Array(1))), "BadResource -");
    assertEquals([...await readAll(all.server)], []);
  });
}

both("TCP: a read whose buffer was transferred is no end of the stream", async (world) => {
  using all = await connected(world);
  const buffer = new Uint8Array(4);
  const read = outcome(() => all.server.read(buffer));
  give(buffer);
  await all.client.write(Uint8Array.of(1, 2, 3));
  // The kernel's bytes are lost with the buffer; ours are there for the next who reads.
  assertEquals(await read, world.name === "kernel" ? "3" : "TypeError -");
  if (world.name === "kernel") return;
  assertEquals(await all.server.read(new Uint8Array(9)), 3);
});

both("TCP: a write whose buffer was transferred isn't taken for written", async (world) => {
  if (world.name === "kernel") return;
  using all = await connected(world);
  const first = writeAll(all.client, new Uint8Array(24 << 20));
  await moment();
  const buffer = new Uint8Array(4);
  const write = outcome(() => all.client.write(buffer));
  give(buffer);
  const reading = readAll(all.server);
  await first;
  assertEquals(await write, "TypeError -");
  await all.client.closeWrite();
  assertEquals((await reading).length, 24 << 20);
});

both("UDP: what isn't bytes is neither sent nor received into", async (world) => {
  const socket = world.listenDatagram();
  using _close = { [Symbol.dispose]: () => socket.close() };
  const { addr } = socket;
  for (const given of NO_BYTES) {
    assertEquals(await said(() => socket.send(given, addr)), "expected typed ArrayBufferView", Deno.inspect(given));
  }
  await socket.send(Uint8Array.of(1, 2), addr);
  for (const given of [new DataView(new ArrayBuffer(2)), new Uint16Array(2), "abc"] as Anything[]) {
    // The kernel's DatagramConn takes the datagram first, and then it is lost.
    if (world.name !== "kernel") assertEquals(await said(() => socket.receive(given)), "expected typed ArrayBufferView");
  }
  const [bytes] = await socket.receive();
  assertEquals([...bytes], [1, 2]);
});

both("UDP: a datagram isn't lost in a buffer that was transferred", async (world) => {
  const socket = world.listenDatagram();
  using _close = { [Symbol.dispose]: () => socket.close() };
  const buffer = new Uint8Array(4);
  const received = outcome(() => socket.receive(buffer));
  give(buffer);
  await socket.send(Uint8Array.of(1, 2, 3), socket.addr);
  assertEquals(await received, "TypeError -");
  if (world.name === "kernel") return;
  assertEquals((await socket.receive())[0].length, 3);
});

both("TCP: streams of a connection that is closed say so as Deno's do", async (world) => {
  using all = await connected(world);
  const reader = all.server.readable.getReader();
  const read = outcome(() => reader.read());
  const closed = outcome(() => reader.closed);
  await moment();
  all.server.close();
  assertEquals([await read, await closed], ["Interrupted EINTR", "Interrupted EINTR"]);
  all.client.close();
  const write = () => all.client.writable.getWriter().write(new Uint8Array(1));
  const error = await assertRejects(write, Deno.errors.BadResource);
  assertEquals(error.message, "The stream's underlying resource was closed or consumed");
});

Deno.test("TCP: initialData is what it was when connect was called", async () => {
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const initialData = Uint8Array.of(1, 2, 3);
  const connecting = all.client.connect({ hostname: "10.0.0.1", port: 7, initialData });
  give(initialData);
  const [client, server] = await Promise.all([connecting, listener.accept()]);
  const buffer = new Uint8Array(9);
  assertEquals([await server.read(buffer), ...buffer.subarray(0, 3)], [3, 1, 2, 3]);
  client.close();
  server.close();
});

Deno.test("UDP: a datagram whose buffer is transferred while its name is looked up isn't sent empty", async () => {
  using all = pair();
  using socket = all.server.listenDatagram({ port: 7 });
  const bytes = Uint8Array.of(1, 2, 3);
  const sending = outcome(() => socket.send(bytes, { transport: "udp", hostname: "localhost", port: 7 }));
  give(bytes);
  assertEquals(await sending, "TypeError -");
  assertEquals(await socket.send(Uint8Array.of(4), { transport: "udp", hostname: "localhost", port: 7 }), 1);
  assertEquals([...(await socket.receive())[0]], [4]);
});
