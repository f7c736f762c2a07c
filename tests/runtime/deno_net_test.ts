/** `Deno.connect` and its kin over a stack, what stays with the host, and that undoing it leaves no trace. */
import { assert, assertEquals, assertRejects, assertStrictEquals, assertThrows } from "@std/assert";
import http from "node:http";
import net from "node:net";
import { NetStack, TcpConn, TcpListener, UdpConn, useStack } from "../../mod.ts";
import { CA, CERT, KEY } from "./certificate.ts";
import { echo, hooked, nameServer, say } from "./worlds.ts";
import tls from "node:tls";

Deno.test("Deno.connect and Deno.listen are the stack's", async () => {
  await using world = hooked();
  using there = world.peer.listen({ port: 7 });
  const echoing = echo(there);
  {
    using conn = await Deno.connect({ hostname: "10.0.0.1", port: 7 });
    assert(conn instanceof TcpConn);
    assertEquals(conn.localAddr.hostname, "10.0.0.2");
    assertEquals(await say(conn, "hello"), "hello");
  }
  using here = Deno.listen({ port: 8 });
  assert(here instanceof TcpListener);
  const echoingHere = echo(here);
  {
    using conn = await world.peer.connect({ hostname: "10.0.0.2", port: 8 });
    assertEquals(await say(conn, "back"), "back");
  }
  there.close();
  here.close();
  await Promise.all([echoing, echoingHere]);
  assertEquals(world.hook.statistics, { connects: 1, listens: 1, host: 0, proxied: 0, proxyRefused: 0 });
});

Deno.test("Deno.listenDatagram is the stack's", async () => {
  await using world = hooked();
  using there = world.peer.listenDatagram({ port: 7 });
  using here = Deno.listenDatagram({ hostname: "0.0.0.0", port: 0, transport: "udp" }) as Deno.DatagramConn & Disposable;
  assert(here instanceof UdpConn);
  await here.send(new TextEncoder().encode("hello"), { transport: "udp", hostname: "10.0.0.1", port: 7 });
  const [bytes, from] = await there.receive();
  assertEquals(new TextDecoder().decode(bytes), "hello");
  assertEquals(from.hostname, "10.0.0.2");
});

Deno.test("a listener without an address or a port is the stack's, as the kernel's is on all addresses", async () => {
  await using world = hooked();
  const udp = (Deno.listenDatagram as (options: object) => Deno.DatagramConn)({ transport: "udp" });
  assert(udp instanceof UdpConn);
  assertEquals(udp.addr.hostname, "0.0.0.0");
  udp.close();
  using tcp = Deno.listen({ tcpBacklog: 1 } as Deno.TcpListenOptions);
  assert(tcp instanceof TcpListener);
  const { port } = tcp.addr;
  const conns = [];
  for (let i = 0; i < 3; i++) {
    const abort = new AbortController();
    const timer = setTimeout(() => abort.abort(), 50);
    conns.push(await world.peer.connect({ hostname: "10.0.0.2", port, signal: abort.signal }).catch(() => null));
    clearTimeout(timer);
  }
  assertEquals(tcp.pending, 1, "tcpBacklog counts");
  for (const conn of conns) conn?.abort();
});

Deno.test("names are the stack's name servers'", async () => {
  await using world = hooked({}, { nameservers: ["10.0.0.1"] });
  void nameServer(world.peer, "10.0.0.1").catch(() => {});
  assertEquals(await Deno.resolveDns("site.test", "A"), ["10.0.0.1"]);
  await assertRejects(() => Deno.resolveDns("site.example", "A"), Deno.errors.NotFound);
  await assertRejects(() => Deno.resolveDns("site.test", "CAA"), Deno.errors.NotSupported);
  using there = world.peer.listen({ port: 7 });
  const [conn, accepted] = await Promise.all([Deno.connect({ hostname: "site.test", port: 7 }), there.accept()]);
  assertEquals(conn.remoteAddr.hostname, "10.0.0.1");
  conn.close();
  accepted.close();
});

Deno.test("nothing falls back to the host: refused, no way, aborted", async () => {
  await using world = hooked();
  await assertRejects(() => Deno.connect({ hostname: "10.0.0.1", port: 7 }), Deno.errors.ConnectionRefused);
  await assertRejects(() => Deno.connect({ hostname: "192.0.2.1", port: 7 }), Deno.errors.NetworkUnreachable);
  await assertRejects(() => Deno.connect({ hostname: "2001:db8::1", port: 7 }), Deno.errors.NetworkUnreachable);
  await assertRejects(() => Deno.connect({ hostname: "site.test", port: 7 }), Error, "Name or service not known");
  assertThrows(() => Deno.listen({ hostname: "192.0.2.1", port: 7 }), Deno.errors.AddrNotAvailable);
  assertThrows(() => Deno.listenTls({ port: 7, cert: CERT, key: KEY }), Deno.errors.NotSupported);
  using _taken = Deno.listen({ port: 7 });
  assertThrows(() => Deno.listen({ port: 7 }), Deno.errors.AddrInUse);
  const abort = new AbortController();
  const dialled = Deno.connect({ hostname: "10.0.0.9", port: 7, signal: abort.signal });
  abort.abort();
  assertEquals((await assertRejects(() => dialled) as Error).name, "AbortError");
  assertEquals(world.hook.statistics.host, 0);
});

Deno.test("loop-back and unix sockets stay with the host, unless they are asked for", async () => {
  {
    await using world = hooked();
    using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
    assert(!(listener instanceof TcpListener));
    const [conn, accepted] = await Promise.all([Deno.connect({ port: listener.addr.port }), listener.accept()]);
    assertEquals(conn.remoteAddr.hostname, "127.0.0.1");
    conn.close();
    accepted.close();
    for (const hostname of ["localhost", "127.8.0.1", "::ffff:127.0.0.1"]) {
      await assertRejects(() => Deno.connect({ hostname, port: 1 }), Deno.errors.ConnectionRefused);
    }
    const path = await Deno.makeTempFile();
    await Deno.remove(path);
    Deno.listen({ transport: "unix", path }).close();
    assertEquals(world.hook.statistics.connects + world.hook.statistics.listens, 0);
  }
  await using world = hooked({ loopback: true });
  using listener = Deno.listen({ port: 7 });
  const [conn, accepted] = await Promise.all([Deno.connect({ port: 7 }), listener.accept()]);
  assert(conn instanceof TcpConn);
  conn.close();
  accepted.close();
  assertEquals(world.hook.statistics.connects, 1);
});

Deno.test("match decides, and sees what it decides about", async () => {
  const seen: unknown[] = [];
  await using _world = hooked({
    match: (target) => {
      seen.push(target);
      return target.port === 7;
    },
  });
  using mine = Deno.listen({ hostname: "127.0.0.1", port: 7 });
  assert(mine instanceof TcpListener);
  await assertRejects(() => Deno.connect({ hostname: "[::ffff:127.0.0.1]", port: 1 }));
  assertEquals(seen, [
    { use: "listen", transport: "tcp", hostname: "127.0.0.1", port: 7 },
    { use: "connect", transport: "tcp", hostname: "127.0.0.1", port: 1 },
  ]);
});

Deno.test("Deno.connectTls and Deno.startTls run over the stack", async () => {
  await using world = hooked();
  // A TLS server that stands on the peer: the hook's stack for a moment.
  world.hook.undo();
  const server = tls.createServer({ cert: CERT, key: KEY }, (socket) => socket.pipe(socket).on("error", () => {}));
  {
    using _other = useStack(world.peer);
    await new Promise<void>((resolve) => server.listen(443, resolve));
  }
  using _hook = useStack(world.mine);
  const first = await Deno.connectTls({ hostname: "10.0.0.1", port: 443, caCerts: [CA] });
  assertEquals(first.remoteAddr, { transport: "tcp", hostname: "10.0.0.1", port: 443 });
  assertEquals(await say(first, "hello"), "hello");
  first.close();
  const plain = await Deno.connect({ hostname: "10.0.0.1", port: 443 });
  const second = await Deno.startTls(plain, { hostname: "site.test", caCerts: [CA] });
  assertEquals(await say(second, "again"), "again");
  second.close();
  await new Promise((resolve) => server.close(resolve));
});

Deno.test("Deno.connectTls: a server that resets ends it, and leaves nothing", async () => {
  await using world = hooked();
  using there = world.peer.listen({ port: 443 });
  const connecting = (async () => {
    using mine = await Deno.connectTls({ hostname: "10.0.0.1", port: 443, caCerts: [CA] });
    await mine.handshake();
  })();
  const conn = await there.accept();
  await conn.read(new Uint8Array(1000));
  conn.abort();
  await assertRejects(() => connecting);
  assertEquals(world.mine.connections().length, 0);
});

const PATCHED: [object, string][] = [
  ...["connect", "listen", "listenDatagram", "resolveDns", "startTls", "connectTls", "listenTls", "createHttpClient"]
    .map((name): [object, string] => [Deno, name]),
  [globalThis, "fetch"],
  [globalThis, "WebSocket"],
  [net.Socket.prototype, "connect"],
  [net.Server.prototype, "listen"],
];

Deno.test("undo puts everything back exactly; what is open goes on", async () => {
  const descriptors = () => PATCHED.map(([target, name]) => Object.getOwnPropertyDescriptor(target, name));
  const before = descriptors();
  const keys = Reflect.ownKeys(Deno);
  const connect = Deno.connect;
  await using world = hooked();
  for (const [i, [target, name]] of PATCHED.entries()) {
    const value = Reflect.get(target, name);
    assert(value !== (before[i]?.value ?? null), `${name} is replaced`);
    if (name !== "WebSocket") assertEquals(value.name, name);
  }
  using there = world.peer.listen({ port: 7 });
  const echoing = echo(there);
  using conn = await Deno.connect({ hostname: "10.0.0.1", port: 7 });
  const kept = Deno.listen;
  world.hook.undo();
  world.hook.undo();
  assertEquals(descriptors(), before);
  for (const [i, descriptor] of descriptors().entries()) {
    assertStrictEquals(descriptor?.value, before[i]?.value);
    assertStrictEquals(descriptor?.get, before[i]?.get);
  }
  assertStrictEquals(Deno.connect, connect);
  assertEquals(new Set(Reflect.ownKeys(Deno)), new Set(keys));
  assertEquals(await say(conn, "still here"), "still here");
  conn.close();
  using host = kept({ port: 0 });
  assert(!(host instanceof TcpListener), "who has kept a patched function gets the host's");
  there.close();
  await echoing;
});

Deno.test("a stack at a time; wrong options change nothing; what others replaced since then stays", async () => {
  await using world = hooked();
  assertThrows(() => useStack(world.peer), Error, "in use already");
  world.hook.undo();
  const original = Deno.connect;
  assertThrows(() => useStack({} as NetStack), TypeError);
  assertThrows(() => useStack(world.mine, { maxProxied: 0 }), RangeError);
  // deno-lint-ignore no-explicit-any
  assertThrows(() => useStack(world.mine, { loopback: 1 as any }), TypeError);
  // deno-lint-ignore no-explicit-any
  assertThrows(() => useStack(world.mine, { match: "*" as any }), TypeError);
  assertStrictEquals(Deno.connect, original);
  const again = useStack(world.mine);
  const mine = Deno.connect;
  const theirs = ((...args: unknown[]) => Reflect.apply(mine, Deno, args)) as typeof Deno.connect;
  Deno.connect = theirs;
  again.undo();
  assertStrictEquals(Deno.connect, theirs);
  await assertRejects(() => Deno.connect({ hostname: "127.0.0.1", port: 1 }), Deno.errors.ConnectionRefused);
  Deno.connect = original;
  assert(http.globalAgent !== undefined);
});
