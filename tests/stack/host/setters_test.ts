// What is set on a socket that lives has the ranges of the options that one is made with, and a wrong one changes nothing.
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { TcpConn, UdpConn } from "../../../mod.ts";
import { keepAliveIdleMs } from "../../../stack/host/options.ts";
import { both, connected, moment, outcome, pair } from "./worlds.ts";

/** Whatever a caller without types might give. */
// deno-lint-ignore no-explicit-any
type Anything = any;

both("TCP: keep-alive and the user timeout have the ranges of connect", async (world) => {
  using all = await connected(world);
  const { client } = all;
  // Deno takes anything for its one switch.
  for (const on of [undefined, true, false, "x", 0, null, () => {}] as Anything[]) {
    client.setKeepAlive(on);
    client.setNoDelay(on);
  }
  if (!(client instanceof TcpConn)) return;
  const wrong: Anything[][] = [
    [NaN],
    [-5],
    [0],
    [Infinity],
    ["x"],
    [1000, 0],
    [1000, NaN],
    [1000, 1000, 0],
    [1000, 1000, -1],
    [1000, 1000, 1.5],
    [1000, 1000, 128],
  ];
  for (const values of wrong) {
    assertThrows(() => client.setKeepAlive(true, ...values), RangeError, "keepAlive", Deno.inspect(values));
  }
  for (const ms of [NaN, -1, Infinity, "x", 1e20, undefined, null] as Anything[]) {
    assertThrows(() => client.setUserTimeout(ms), RangeError, "userTimeoutMs must be 0 to 2147483647", String(ms));
  }
  client.setKeepAlive(true, 1000, 1000, 3);
  client.setUserTimeout(0);
  await moment();
  assertEquals(client.info.state, "ESTABLISHED");
});

both("UDP: setOptions refuses what listenDatagram refuses, and nothing has changed", async (world) => {
  if (world.name === "kernel") return;
  using socket = world.listenDatagram() as UdpConn;
  const wrong = [{ ttl: 300 }, { ttl: 0 }, { ttl: NaN }, { tos: -1 }, { receiveBufferMax: NaN }, { receiveQueueMax: -1 }];
  for (const options of [...wrong, { broadcast: "no" }, { multicastTtl: "x" }] as Anything[]) {
    assertThrows(() => socket.setOptions(options), RangeError, Object.keys(options)[0]);
  }
  for (const options of [null, 5, undefined] as Anything[]) {
    assertThrows(() => socket.setOptions(options), TypeError, "options must be an object");
  }
  await socket.send(new Uint8Array(3), socket.addr);
  assertEquals((await socket.receive())[0].length, 3);
  socket.close();
  assertThrows(() => socket.setOptions({ ttl: 3 }), Deno.errors.BadResource);
});

both("UDP: a membership rejects what it can't do, and never throws", async (world) => {
  const socket = world.listenDatagram();
  // An interface that is there without any route to groups.
  const on = "127.0.0.1";
  const rejected = (call: () => Promise<unknown>) => outcome(() => assertIsPromise(call()));
  for (const address of ["zzz", "10.0.0.256", undefined, 5] as Anything[]) {
    const name = world.name === "kernel" ? "Error -" : "TypeError -";
    assertEquals(await rejected(() => socket.joinMulticastV4(address, on)), name);
  }
  assertEquals(await rejected(() => socket.joinMulticastV4("10.0.0.1", on)), "TypeError EINVAL");
  const group = await socket.joinMulticastV4("224.0.0.251", on);
  await group.setTTL(255);
  await group.setTTL(0);
  await group.setLoopback("x" as Anything);
  for (const ttl of [256, 300]) assertEquals(await rejected(() => group.setTTL(ttl)), "TypeError EINVAL");
  for (const ttl of ["x", undefined, null] as Anything[]) {
    assertEquals((await rejected(() => group.setTTL(ttl))).split(" ")[0], "TypeError");
  }
  assertEquals(await rejected(() => socket.joinMulticastV4("224.0.0.251", on)), "AddrInUse EADDRINUSE");
  await group.leave();
  assertEquals(await rejected(() => group.leave()), "AddrNotAvailable EADDRNOTAVAIL");
  const again = await socket.joinMulticastV4("224.0.0.251", on);
  socket.close();
  const calls = [() => again.setTTL(3), () => again.setLoopback(true), () => again.leave()];
  for (const call of [...calls, () => socket.joinMulticastV4("224.0.0.251", on)]) {
    const error = await assertRejects(() => assertIsPromise(call()), Deno.errors.BadResource);
    assertEquals(error.message, "Socket has been closed");
  }
});

function assertIsPromise(value: unknown): Promise<unknown> {
  assert(value instanceof Promise);
  return value;
}

Deno.test("node's delay of keep-alive may be anything, as with libuv", async () => {
  assertEquals([NaN, -1, 0, 0.5, 1000, 1e20].map(keepAliveIdleMs), [undefined, undefined, undefined, 1, 1000, 2 ** 31 - 1]);
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  const { nodeSocket } = await import("../../../mod.ts");
  const socket = nodeSocket(client);
  for (const ms of [NaN, -1, 0.5, 1e20]) socket.setKeepAlive(true, ms);
  socket.destroy();
  server.close();
});
