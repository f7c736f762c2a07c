// What Deno.TcpListener and Deno.DatagramConn do over the kernel, ours do over a stack.
import { assert, assertEquals } from "@std/assert";
import type { TcpConn } from "../../../mod.ts";
import { both, connected, moment, outcome, pair } from "./worlds.ts";

const GONE = "BadResource -";

both("TCP listener: address, and one accept at a time", async (world) => {
  using listener = world.listen();
  assertEquals({ ...listener.addr }, { transport: "tcp", hostname: world.host, port: listener.addr.port });
  const first = listener.accept();
  assertEquals(await outcome(() => listener.accept()), "Busy -");
  using client = await world.connect(listener.addr.port);
  using server = await first;
  assertEquals(server.remoteAddr.port, client.localAddr.port);
});

both("TCP listener: close rejects an accept that waits, and later ones", async (world) => {
  const listener = world.listen();
  const waiting = outcome(() => listener.accept());
  listener.close();
  assertEquals(await waiting, GONE);
  assertEquals(await outcome(() => listener.accept()), GONE);
  assertEquals(await outcome(() => listener.close()), GONE);
  listener[Symbol.dispose]();
});

both("TCP listener: for await ends quietly when it is closed", async (world) => {
  const listener = world.listen();
  let count = 0;
  const loop = (async () => {
    for await (const conn of listener) {
      count++;
      conn.close();
    }
  })();
  (await world.connect(listener.addr.port)).close();
  await moment();
  listener.close();
  await loop;
  for await (const _ of listener) count++;
  assertEquals(count, 1);
});

both("TCP listener: leaving for await closes it", async (world) => {
  const listener = world.listen();
  const connecting = world.connect(listener.addr.port);
  for await (const conn of listener) {
    conn.close();
    break;
  }
  (await connecting).close();
  assertEquals(await outcome(() => listener.close()), GONE);
});

both("TCP listener: a taken port is in use", async (world) => {
  using listener = world.listen();
  assertEquals(await outcome(() => world.listen(listener.addr.port)), "AddrInUse EADDRINUSE");
  assertEquals(await outcome(() => world.listen(70_000)), "RangeError -");
});

both("TCP listener: a connection nobody accepted is reset when the listener closes", async (world) => {
  const listener = world.listen();
  using client = await world.connect(listener.addr.port);
  await moment();
  listener.close();
  await moment();
  assertEquals(await outcome(() => client.read(new Uint8Array(1))), "ConnectionReset ECONNRESET");
});

Deno.test("TCP listener: an address that isn't the stack's is not available", async () => {
  using all = pair();
  assertEquals(await outcome(() => all.server.listen({ hostname: "1.2.3.4", port: 0 })), "AddrNotAvailable EADDRNOTAVAIL");
  assertEquals(await outcome(() => all.server.listen({ hostname: "example.org", port: 0 })), "TypeError -");
  assertEquals(await outcome(() => all.server.listen({ port: 1, backlog: 0 })), "RangeError -");
  using listener = all.server.listen({ port: 0 });
  assertEquals(listener.addr.hostname, "0.0.0.0");
  assert(listener.addr.port > 0);
});

both("TCP listener: leaving for await when it is closed already says so", async (world) => {
  const listener = world.listen();
  listener.close();
  assertEquals(await outcome(() => (listener as unknown as AsyncIterableIterator<Deno.TcpConn>).return!()), GONE);
});

both("TCP and UDP: addresses print as Deno's", async (world) => {
  using all = await connected(world);
  const socket = world.listenDatagram();
  await socket.send(new Uint8Array(1), socket.addr);
  const [, from] = await socket.receive();
  const { client, server, listener } = all;
  const addresses = [client.localAddr, client.remoteAddr, server.remoteAddr, listener.addr, socket.addr, from];
  for (const address of addresses) assertEquals(Object.keys(address), ["hostname", "port", "transport"]);
  socket.close();
});

Deno.test("TCP listener: without a port a free one, and Deno's tcpBacklog", async () => {
  using all = pair();
  const kernel = (options: object) => Deno.listen({ hostname: "127.0.0.1", ...options } as Deno.TcpListenOptions);
  for (const listen of [kernel, (options: object) => all.server.listen(options)]) {
    using free = listen({});
    assert(free.addr.port > 0);
    for (const tcpBacklog of [NaN, -1, 0, 1, 1e9, 1.5, null, undefined]) listen({ port: 0, tcpBacklog }).close();
    for (const tcpBacklog of ["x", true, {}]) assertEquals(await outcome(() => listen({ tcpBacklog })), "TypeError -");
  }
  for (const [tcpBacklog, most] of [[1, 1], [0, 1], [3, 3], [-1, 5]]) {
    using listener = all.server.listen({ port: 7, tcpBacklog });
    const abort = new AbortController();
    const to = { hostname: "10.0.0.1", port: 7, signal: abort.signal };
    const connects = Array.from({ length: 5 }, () => all.client.connect(to));
    await moment(50);
    abort.abort();
    const opened = await Promise.allSettled(connects);
    assertEquals(listener.pending, most, `tcpBacklog ${tcpBacklog}`);
    for (const { status, ...rest } of opened) if (status === "fulfilled") (rest as { value: TcpConn }).value.abort();
  }
});

Deno.test("TCP listener: reusePort doesn't make a second one silently deaf", async () => {
  using all = pair();
  using first = all.server.listen({ port: 7, reusePort: true });
  assertEquals(first.addr.port, 7);
  const error = await Promise.resolve().then(() => all.server.listen({ port: 7, reusePort: true })).catch((error) => error);
  assert(error instanceof Deno.errors.AddrInUse);
  assertEquals(error.message.includes("reusePort"), true, error.message);
});

both("TCP: 0.0.0.0 is this host", async (world) => {
  using listener = world.listenAny();
  using client = await world.connectTo({ hostname: "0.0.0.0", port: listener.addr.port });
  using server = await listener.accept();
  assertEquals(client.remoteAddr, { ...server.localAddr });
  assertEquals(client.remoteAddr.hostname, "127.0.0.1");
});

both("UDP: to no address, and to 0.0.0.0, is to this host", async (world) => {
  const socket = world.listenDatagramAny();
  const { port } = socket.addr as Deno.NetAddr;
  for (const to of [{ transport: "udp", port }, { transport: "udp", hostname: "0.0.0.0", port }] as Deno.NetAddr[]) {
    assertEquals(await socket.send(Uint8Array.of(5), to), 1);
    const [bytes, from] = await socket.receive();
    assertEquals([bytes[0], (from as Deno.NetAddr).hostname], [5, "127.0.0.1"]);
  }
  assertEquals(await outcome(() => socket.send(new Uint8Array(1), null as unknown as Deno.Addr)), "TypeError -");
  const { ref, unref } = socket as Deno.DatagramConn & { ref(): void; unref(): void };
  unref.call(socket);
  ref.call(socket);
  socket.close();
});

Deno.test("UDP: a socket connected to 0.0.0.0 is connected to this host", async () => {
  using all = pair();
  using server = all.client.listenDatagram({ port: 9 });
  using client = await all.client.connectDatagram({ hostname: "0.0.0.0", port: 9 });
  assertEquals(client.remoteAddr?.hostname, "127.0.0.1");
  await client.send(Uint8Array.of(6));
  assertEquals((await server.receive())[0][0], 6);
});

both("UDP: a datagram to oneself, cut, empty, and too long", async (world) => {
  const socket = world.listenDatagram();
  const addr = socket.addr as Deno.NetAddr;
  assertEquals(await socket.send(new Uint8Array([1, 2, 3, 4, 5]), addr), 5);
  const [cut, from] = await socket.receive(new Uint8Array(3));
  assertEquals([...cut], [1, 2, 3]);
  assertEquals({ ...from }, { transport: "udp", hostname: world.host, port: addr.port });
  await socket.send(new Uint8Array(0), addr);
  assertEquals((await socket.receive())[0].length, 0);
  assertEquals(await outcome(() => socket.send(new Uint8Array(65_508), addr)), "Error EMSGSIZE");
  socket.close();
});

// Over the kernel Deno promises no order.
Deno.test("UDP: receives that wait are served in order", async () => {
  using all = pair();
  const socket = all.server.listenDatagram({ port: 0, hostname: "10.0.0.1" });
  const order: string[] = [];
  const reads = [0, 1].map((i) => socket.receive().then(([bytes]) => order.push(`${i}:${bytes.length}`)));
  await socket.send(new Uint8Array(1), socket.addr);
  await socket.send(new Uint8Array(2), socket.addr);
  await Promise.all(reads);
  assertEquals(order, ["0:1", "1:2"]);
  socket.close();
});

both("UDP: a closed socket", async (world) => {
  const socket = world.listenDatagram();
  const addr = socket.addr;
  const waiting = outcome(() => socket.receive());
  socket.close();
  assertEquals(await waiting, "Interrupted EINTR");
  assertEquals(await outcome(() => socket.receive()), GONE);
  assertEquals(await outcome(() => socket.send(new Uint8Array(1), addr)), GONE);
  assertEquals(await outcome(() => socket.close()), GONE);
  for await (const _ of socket) throw new Error("nothing can come");
});

both("UDP: for await ends quietly", async (world) => {
  const socket = world.listenDatagram();
  const loop = (async () => {
    for await (const [bytes] of socket) if (bytes.length === 2) socket.close();
  })();
  await socket.send(new Uint8Array(1), socket.addr);
  await socket.send(new Uint8Array(2), socket.addr);
  await loop;
});

Deno.test("UDP: between two stacks, up to the largest datagram", async () => {
  using all = pair();
  using server = all.server.listenDatagram({ port: 7 });
  using client = all.client.listenDatagram({ port: 0 });
  const data = crypto.getRandomValues(new Uint8Array(65_507));
  await client.send(data, { transport: "udp", hostname: "10.0.0.1", port: 7 });
  const [bytes, from] = await server.receive();
  assertEquals(bytes, data);
  await server.send(new Uint8Array([1]), from);
  assertEquals((await client.receive())[1], { transport: "udp", hostname: "10.0.0.1", port: 7 });
  assertEquals(client.statistics.received, 1);
});

Deno.test("UDP: port unreachable reaches a connected socket as refused, once", async () => {
  using all = pair();
  using client = await all.client.connectDatagram({ hostname: "10.0.0.1", port: 9 });
  assertEquals(client.remoteAddr, { transport: "udp", hostname: "10.0.0.1", port: 9 });
  const waiting = outcome(() => client.receive());
  await client.send(new Uint8Array(3));
  assertEquals(await waiting, "ConnectionRefused ECONNREFUSED");
  using server = all.server.listenDatagram({ port: 9 });
  await client.send(new Uint8Array(3));
  const [bytes, from] = await server.receive();
  assertEquals(bytes.length, 3);
  await server.send(bytes, from);
  assertEquals((await client.receive())[0].length, 3);
});

Deno.test("UDP: multicast is heard by who joined, until it leaves", async () => {
  using all = pair();
  using server = all.server.listenDatagram({ port: 5353 });
  using client = all.client.listenDatagram({ port: 0 });
  const membership = await server.joinMulticastV4("239.1.2.3", "0.0.0.0");
  const to: Deno.NetAddr = { transport: "udp", hostname: "239.1.2.3", port: 5353 };
  await client.send(new Uint8Array([42]), to);
  assertEquals([...(await server.receive())[0]], [42]);
  await membership.setTTL(3);
  await membership.setLoopback(true);
  await membership.leave();
  await client.send(new Uint8Array([43]), to);
  await client.send(new Uint8Array([44]), { transport: "udp", hostname: "10.0.0.1", port: 5353 });
  assertEquals([...(await server.receive())[0]], [44]);
  assertEquals(await outcome(() => server.joinMulticastV4("10.0.0.9", "")), "TypeError EINVAL");
});

both("TCP: both ends of a connection see it closed", async (world) => {
  const all = await connected(world);
  all.client.close();
  assertEquals(await all.server.read(new Uint8Array(1)), null);
  all.server.close();
  all.listener.close();
});

Deno.test("whoever sends datagrams without end lets timers and readers have their turn", async () => {
  using all = pair();
  using sender = all.client.listenDatagram({ port: 0 });
  let rang = false;
  setTimeout(() => rang = true, 1);
  const to = { transport: "udp" as const, hostname: "10.0.0.1", port: 9 };
  let sent = 0;
  for (; !rang && sent < 1_000_000; sent++) await sender.send(new Uint8Array(1), to);
  assert(sent < 1_000_000, "a million datagrams went out before the timer rang");
});
