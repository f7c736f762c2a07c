/** Sockets by libc, beside Deno's own at the other end. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { HostConn, HostDatagrams, HostSockets } from "../../drivers/host_sockets.ts";
import { InternetSocket } from "../../ffi/internet_socket.ts";
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../drivers/wake_event.ts";
import { sha256 } from "../../examples/demo/stranger.ts";

const LOOPBACK = "127.0.0.1";
// Opens the library before the first test looks for leaks.
if (Deno.build.os === "linux") new HostSockets();

function test(name: string, fn: () => Promise<void>): void {
  Deno.test({
    name,
    ignore: Deno.build.os !== "linux",
    fn: async () => {
      await fn();
      await wakersIdle();
    },
  });
}

async function pair(): Promise<{ ours: HostConn; theirs: Deno.TcpConn }> {
  using listener = Deno.listen({ hostname: LOOPBACK, port: 0 });
  const [ours, theirs] = await Promise.all([
    HostConn.connect({ hostname: LOOPBACK, port: listener.addr.port }),
    listener.accept(),
  ]);
  return { ours, theirs };
}

async function readAll(conn: { read(p: Uint8Array): Promise<number | null> }, size = 65_536): Promise<Uint8Array<ArrayBuffer>> {
  const pieces: Uint8Array[] = [];
  for (const buffer = new Uint8Array(size);;) {
    const n = await conn.read(buffer);
    if (n === null) return new Uint8Array(await new Blob(pieces as Uint8Array<ArrayBuffer>[]).arrayBuffer());
    pieces.push(buffer.slice(0, n));
  }
}

async function writeAll(conn: { write(p: Uint8Array): Promise<number>; closeWrite(): Promise<void> }, bytes: Uint8Array) {
  for (let done = 0; done < bytes.length;) done += await conn.write(bytes.subarray(done));
  await conn.closeWrite();
}

test("bytes go both ways at once, with their ends", async () => {
  const { ours, theirs } = await pair();
  const bytes = new Uint8Array(8 << 20);
  for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  const [here, there] = await Promise.all([readAll(ours), readAll(theirs), writeAll(ours, bytes), writeAll(theirs, bytes)]);
  assertEquals([await sha256(here), await sha256(there)], [await sha256(bytes), await sha256(bytes)]);
  ours[Symbol.dispose]();
  theirs.close();
});

test("an end that comes with the last bytes is not missed, whatever the reader's buffer is", async () => {
  for (const size of [1, 3, 4, 5, 100]) {
    const { ours, theirs } = await pair();
    await theirs.write(Uint8Array.of(1, 2, 3, 4));
    theirs.close();
    await new Promise((resolve) => setTimeout(resolve, 10));
    assertEquals([...await readAll(ours, size)], [1, 2, 3, 4]);
    assertEquals(await ours.read(new Uint8Array(1)), null);
    ours[Symbol.dispose]();
  }
});

test("an end that comes while a reader waits, with data and alone", async () => {
  for (const data of [[], [7], [7, 8, 9]]) {
    const { ours, theirs } = await pair();
    const all = readAll(ours, 100);
    await new Promise((resolve) => setTimeout(resolve, 5));
    if (data.length > 0) await theirs.write(Uint8Array.from(data));
    theirs.close();
    assertEquals([...await all], data);
    ours[Symbol.dispose]();
  }
});

test("a reset comes as ConnectionReset, and abort sends one", async () => {
  {
    const { ours, theirs } = await pair();
    theirs.close();
    await ours.write(new Uint8Array(10)); // nobody is there to read it: Linux resets
    await new Promise((resolve) => setTimeout(resolve, 20));
    await assertRejects(() => ours.write(new Uint8Array(10)), Deno.errors.BrokenPipe);
    ours[Symbol.dispose]();
  }
  const { ours, theirs } = await pair();
  ours.abort();
  await assertRejects(() => readAll(theirs), Deno.errors.ConnectionReset);
  theirs.close();
});

test("one read and one write at a time; closing ends both, and nothing works afterwards", async () => {
  const { ours, theirs } = await pair();
  const read = ours.read(new Uint8Array(1));
  await assertRejects(() => ours.read(new Uint8Array(1)), Deno.errors.Busy);
  const big = new Uint8Array(1 << 20);
  const writing = (async () => {
    for (;;) await ours.write(big);
  })();
  writing.catch(() => {});
  await new Promise((resolve) => setTimeout(resolve, 20));
  await assertRejects(() => ours.write(big), Deno.errors.Busy);
  ours[Symbol.dispose]();
  await assertRejects(() => read, Deno.errors.Interrupted);
  await assertRejects(() => writing, Deno.errors.Interrupted);
  await assertRejects(() => ours.read(new Uint8Array(1)), Deno.errors.BadResource);
  await assertRejects(() => ours.write(new Uint8Array(1)), Deno.errors.BadResource);
  await assertRejects(() => ours.closeWrite(), Deno.errors.BadResource);
  ours[Symbol.dispose]();
  theirs.close();
});

test("connecting: refused, no route, a signal before and meanwhile, impossible destinations", async () => {
  const closed = Deno.listen({ hostname: LOOPBACK, port: 0 });
  const { port } = closed.addr;
  closed.close();
  const sockets = new HostSockets();
  await assertRejects(() => sockets.connect({ hostname: LOOPBACK, port }), Deno.errors.ConnectionRefused);
  await assertRejects(() => sockets.connect({ hostname: LOOPBACK, port }, AbortSignal.abort()), DOMException);
  for (const [hostname, at] of [["localhost", 1], ["::1", 1], [LOOPBACK, -1], [LOOPBACK, 65_536], [LOOPBACK, 1.5]] as const) {
    const error = await sockets.connect({ hostname, port: at }).then(() => null, (error) => error);
    assert(error instanceof TypeError || error instanceof RangeError, `${hostname}:${at} ${error}`);
    assertThrows(() => sockets.datagrams({ hostname, port: at }, { message() {}, failed() {} }), Error);
  }
  // A listener that never accepts, with its queue full: who connects waits.
  const listener = Deno.listen({ hostname: LOOPBACK, port: 0, tcpBacklog: 1 } as Deno.TcpListenOptions & { port: number });
  const to = { hostname: LOOPBACK, port: listener.addr.port };
  const fillers: HostConn[] = [];
  let last: unknown = null;
  while (last === null && fillers.length < 10) {
    await sockets.connect(to, AbortSignal.timeout(300)).then((conn) => fillers.push(conn), (error) => last = error);
  }
  assertEquals((last as DOMException).name, "TimeoutError");
  for (const filler of fillers) filler[Symbol.dispose]();
  listener.close();
});

test("a connection that is made while its program waits for it", async () => {
  const listener = Deno.listen({ hostname: LOOPBACK, port: 0, tcpBacklog: 1 } as Deno.TcpListenOptions & { port: number });
  const to = { hostname: LOOPBACK, port: listener.addr.port };
  // Two fill the queue; the third's SYN is taken when it comes again, a second later.
  const all = [HostConn.connect(to), HostConn.connect(to), HostConn.connect(to)];
  await Promise.all(all.slice(0, 2));
  const accepted = [await listener.accept(), await listener.accept(), await listener.accept()];
  for (const conn of await Promise.all(all)) {
    assertEquals(await conn.write(Uint8Array.of(1)), 1);
    conn[Symbol.dispose]();
  }
  for (const conn of accepted) conn.close();
  listener.close();
});

test("a port of this machine: accept before and after the client, its end, and taken ports", async () => {
  const sockets = new HostSockets();
  const listener = sockets.listen({ hostname: LOOPBACK, port: 0 });
  const { port } = listener.addr;
  const first = listener.accept();
  await assertRejects(() => listener.accept(), Deno.errors.Busy);
  const clients = [];
  for (let i = 0; i < 20; i++) clients.push(await Deno.connect({ hostname: LOOPBACK, port }));
  // All of them were told of at once.
  const served = [await first];
  while (served.length < 20) served.push(await listener.accept());
  for (const [i, conn] of served.entries()) {
    await conn.write(Uint8Array.of(i));
    conn[Symbol.dispose]();
  }
  const got = [];
  for (const client of clients) {
    got.push(...await readAll(client));
    client.close();
  }
  assertEquals(got, Array.from({ length: 20 }, (_, i) => i));
  const last = listener.accept();
  assertThrows(() => sockets.listen({ hostname: LOOPBACK, port }), Deno.errors.AddrInUse);
  assertThrows(() => sockets.listen({ hostname: "192.0.2.1", port: 0 }), Deno.errors.AddrNotAvailable);
  assertThrows(() => sockets.listen({ hostname: "x", port: 0 }), TypeError);
  listener.close();
  listener.close();
  await assertRejects(() => last, Deno.errors.Interrupted);
  await assertRejects(() => listener.accept(), Deno.errors.BadResource);
});

test("datagrams: bursts, empty ones, strangers, and a port where nobody listens", async () => {
  const server = Deno.listenDatagram({ transport: "udp", hostname: LOOPBACK, port: 0 });
  const { port } = server.addr as Deno.NetAddr;
  const got: Uint8Array[] = [];
  const all = Promise.withResolvers<void>();
  using ours = new HostDatagrams({ hostname: LOOPBACK, port }, {
    message: (bytes) => void (got.push(bytes) === 101 && all.resolve()),
    failed: all.reject,
  });
  ours.send(new Uint8Array(0));
  const [first, from] = await server.receive();
  assertEquals(first.length, 0);
  // A stranger's datagram to the same port is not heard.
  const stranger = Deno.listenDatagram({ transport: "udp", hostname: LOOPBACK, port: 0 });
  await stranger.send(Uint8Array.of(99), from);
  // More than one turn takes.
  for (let i = 0; i < 101; i++) await server.send(new Uint8Array(i).fill(i), from);
  await all.promise;
  assertEquals(got.map((bytes) => bytes.length), Array.from({ length: 101 }, (_, i) => i));
  stranger.close();
  server.close();

  const refused = Promise.withResolvers<Error>();
  using nobody = new HostDatagrams({ hostname: LOOPBACK, port }, { message() {}, failed: refused.resolve });
  nobody.send(new Uint8Array(1));
  assert(await refused.promise instanceof Deno.errors.ConnectionRefused);
  nobody.send(new Uint8Array(70_000)); // too long: lost
  nobody.close();
  nobody.send(new Uint8Array(1));
});

test("urgent data stays in the stream, and what is behind it is not missed", async () => {
  const MSG_OOB = 1;
  using listener = new HostSockets().listen({ hostname: LOOPBACK, port: 0 });
  using sender = InternetSocket.create("tcp", LOOPBACK, listener.addr.port);
  sender.connect();
  using receiver = await listener.accept();
  for (const text of ["abc!defgh", "!", "i!j!"]) {
    const bytes = new TextEncoder().encode(text);
    for (const byte of bytes) libc().send(sender.fd, Uint8Array.of(byte), 1, byte === 0x21 ? MSG_OOB : 0);
    const got: number[] = [];
    const buffer = new Uint8Array(100);
    while (got.length < bytes.length) got.push(...buffer.subarray(0, (await receiver.read(buffer))!));
    assertEquals(new TextDecoder().decode(Uint8Array.from(got)), text);
  }
});

test("datagrams that come faster than they are taken leave others their turn", async () => {
  const server = Deno.listenDatagram({ transport: "udp", hostname: LOOPBACK, port: 0 });
  const { port } = server.addr as Deno.NetAddr;
  // Each that is taken brings another, until enough have come.
  let got = 0, turn = 0, most = 0;
  const all = Promise.withResolvers<void>();
  using sender = InternetSocket.create("udp", LOOPBACK, port);
  using ours = new HostDatagrams({ hostname: LOOPBACK, port }, {
    message() {
      got++;
      most = Math.max(most, ++turn);
      if (got < 20_000) sender.send(new Uint8Array(1));
      else all.resolve();
    },
    failed: all.reject,
  });
  ours.send(new Uint8Array(1));
  const [, from] = await server.receive();
  server.close();
  // From the port that ours is connected to; there is no "listen" for datagrams, but an address.
  sender.listen(0);
  const address = new Uint8Array([2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]);
  new DataView(address.buffer).setUint16(2, (from as Deno.NetAddr).port);
  assertEquals(libc().connect(sender.fd, address, 16), 0);
  const ticks = setInterval(() => turn = 0);
  for (let i = 0; i < 100; i++) sender.send(new Uint8Array(1));
  await all.promise;
  clearInterval(ticks);
  assert(most <= 1024, `${most} in one turn`);
});
