// The stack as a whole: options, devices that fail, orderly and abrupt ends, limits, and what it shows of itself.
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { cable, codes, type Device, DeviceGoneError, ManualClock, NetStack, type NetStackOptions } from "../../../mod.ts";
import { moment, outcome, pair, readAll, writeAll } from "./worlds.ts";

Deno.test("bad options are refused before the device is touched", () => {
  const [end] = cable();
  let opened = 0;
  const device: Device = new Proxy(end, {
    get: (target, name) => {
      if (name === "open") opened++;
      const value = Reflect.get(target, name, target);
      return typeof value === "function" ? value.bind(target) : value;
    },
  });
  const bad: [NetStackOptions, string][] = [
    [{ address: "10.0.0.2" }, "10.0.0.2"],
    [{ address: "10.0.0.2/33" }, "10.0.0.2/33"],
    [{ address: ["10.0.0.2/24", "224.0.0.1/4"] }, "224.0.0.1"],
    [{ mtu: 67 }, "mtu"],
    [{ mtu: 1501 }, "mtu"],
    [{ vlan: 4095 }, "vlan"],
    [{ gateway: "nowhere" }, "gateway"],
    [{ gateway: "255.255.255.255" }, "gateway"],
    [{ nameservers: ["dns"] }, "nameserver"],
    [{ routes: [{ destination: "10.0.0.0" }] }, "10.0.0.0"],
    [{ seed: NaN }, "seed"],
  ];
  for (const [options, said] of bad) {
    const error = assertThrows(() => new NetStack(device, options));
    assert(error instanceof TypeError || error instanceof RangeError, String(error));
    assertStringIncludes(error.message, said);
  }
  assertEquals(opened, 0);
  assertThrows(() => new NetStack({} as Device), TypeError, "device");
  using _stack = new NetStack(device, { address: "10.0.0.2/24" });
  assertEquals(opened, 1);
});

Deno.test("a device that is in use already is left alone", () => {
  const [end] = cable();
  using _stack = new NetStack(end);
  assertThrows(() => new NetStack(end), Deno.errors.Busy);
});

Deno.test("a device that vanishes: everyone who waits is told, and the stack is closed", async () => {
  using all = pair();
  const listener = all.server.listen({ port: 7 });
  const datagrams = all.server.listenDatagram({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  const waiting = [
    outcome(() => server.read(new Uint8Array(1))),
    outcome(() => listener.accept()),
    outcome(() => datagrams.receive()),
    outcome(() => all.server.ping("10.0.0.77")),
    outcome(() => all.server.connect({ hostname: "10.0.0.77", port: 1 })),
    outcome(async () => {
      for await (const _ of all.server.listenDatagram({ port: 8 })) { /* none */ }
    }),
  ];
  await moment(0);
  all.ends[0].remove();
  assertEquals(await Promise.all(waiting), new Array(6).fill("DeviceGoneError ENODEV"));
  const reason = await all.server.closed.catch((error) => error);
  assert(reason instanceof DeviceGoneError);
  assertStringIncludes(reason.message, "cable0");
  assertEquals(await outcome(() => server.read(new Uint8Array(1))), "DeviceGoneError ENODEV");
  assertEquals(await outcome(() => server.write(new Uint8Array(1))), "DeviceGoneError ENODEV");
  assertThrows(() => all.server.listen({ port: 1 }), DeviceGoneError);
  server.close();
  listener.close();
  datagrams.close();
  client.close();
  assertEquals(all.server.connections().length, 0);
});

Deno.test("a device that throws is gone, with the cause", async () => {
  const [end] = cable();
  const cause = new Error("driver bug");
  end.receive = () => {
    throw cause;
  };
  const stack = new NetStack(end, { address: "10.0.0.2/24" });
  const reason = await stack.closed.catch((error) => error);
  assert(reason instanceof DeviceGoneError);
  assertEquals(reason.cause, cause);
});

Deno.test("a device that is down for a while loses frames, and goes on when it is up", async () => {
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  all.ends[0].setCarrier(false);
  await client.write(new Uint8Array([1]));
  await moment(50);
  assert(all.server.statistics.stack.deviceDown >= 1);
  all.ends[0].setCarrier(true);
  const buffer = new Uint8Array(4);
  assertEquals(await server.read(buffer), 1);
  client.close();
  server.close();
});

Deno.test("a device that comes up without a word is found by looking again, four times a second and no more", async () => {
  const clock = new ManualClock();
  using all = pair({ client: { clock, seed: 1 }, server: { clock, seed: 2 } });
  await clock.settle();
  const [end] = all.ends;
  const receive = end.receive.bind(end);
  let looks = 0;
  end.receive = () => {
    looks++;
    return codes.ENETDOWN;
  };
  const asking = outcome(() => all.client.ping("10.0.0.1", { timeoutMs: 60_000 }).then(({ size }) => size));
  await clock.advanceAsync(2000);
  assert(looks >= 7 && looks <= 12, `${looks} looks in two seconds`);
  end.receive = receive;
  assertEquals(await clock.run(asking), "56");
});

Deno.test("a datagram that waits for room goes out when there is room, and is given up with the stack", async () => {
  using all = pair();
  using socket = all.client.listenDatagram({ port: 0 });
  using server = all.server.listenDatagram({ port: 7 });
  await all.client.ping("10.0.0.1");
  const [, end] = all.ends;
  const transmit = end.transmit;
  end.transmit = () => codes.EAGAIN;
  const to: Deno.NetAddr = { transport: "udp", hostname: "10.0.0.1", port: 7 };
  const sending = socket.send(new Uint8Array(5), to);
  await moment(5);
  end.transmit = transmit;
  await all.client.ping("10.0.0.1");
  assertEquals(await sending, 5);
  assertEquals((await server.receive())[0].length, 5);
  end.transmit = () => codes.EAGAIN;
  const lost = outcome(() => socket.send(new Uint8Array(5), to));
  all.client.close();
  assertEquals(await lost, "ConnectionAborted ECONNABORTED");
});

Deno.test("close: connections are reset, waiting calls reject, a second close does nothing", async () => {
  const all = pair();
  const listener = all.server.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  const waiting = [outcome(() => server.read(new Uint8Array(1))), outcome(() => listener.accept())];
  const peer = outcome(() => client.read(new Uint8Array(1)));
  all.server.close();
  all.server.close();
  assertEquals(await Promise.all(waiting), ["ConnectionAborted ECONNABORTED", "ConnectionAborted ECONNABORTED"]);
  assertEquals(await peer, "ConnectionReset ECONNRESET");
  await all.server.closed;
  assertEquals(await outcome(() => all.server.ping("10.0.0.2")), "ConnectionAborted ECONNABORTED");
  all.client.close();
});

Deno.test("await using: what was written arrives, and the end after it", async () => {
  using all = pair();
  using listener = all.server.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), all.client.connect({ hostname: "10.0.0.1", port: 7 })]);
  const reading = readAll(server);
  await writeAll(client, new Uint8Array(500_000));
  await all.client[Symbol.asyncDispose]();
  assertEquals((await reading).length, 500_000);
  server.close();
});

Deno.test("statistics and tables show what is there", async () => {
  using all = pair({ client: { address: "10.0.0.2/24", gateway: "10.0.0.1", mtu: 1400 } });
  await all.client.ping("10.0.0.1", { size: 4000, ttl: 9 });
  assertEquals(all.client.addresses, [{
    address: "10.0.0.2/24",
    interfaceIndex: all.client.addresses[0].interfaceIndex,
    device: "cable1",
  }]);
  assert(all.client.routes.some((route) => route.destination === "0.0.0.0/0" && route.gateway === "10.0.0.1"));
  assertEquals(all.client.neighbors.map(({ address, mac }) => ({ address, mac })), [{
    address: "10.0.0.1",
    mac: "02:00:00:00:00:01",
  }]);
  const { devices, stack, tcp, udp } = all.client.statistics;
  assertEquals(devices[0].name, "cable1");
  assert(devices[0].counters.sent >= 4, "an ARP request and three fragments");
  assert(stack.runs > 0 && stack.faults === 0);
  assertEquals([tcp.connections, udp.received], [0, 0]);
  all.client.addRoute({ destination: "192.168.0.0/16", gateway: "10.0.0.1" });
  all.client.removeRoute({ destination: "192.168.0.0/16", gateway: "10.0.0.1" });
  await all.client.addAddress("10.0.0.3/24");
  assertEquals((await all.server.ping("10.0.0.3")).address, "10.0.0.3");
  all.client.removeAddress("10.0.0.3");
  assertEquals(all.client.addresses.length, 1);
  assertEquals(await outcome(() => all.client.addAddress("10.0.0.2/24")), "AddrInUse EADDRINUSE");
  all.client.setNeighbor("10.0.0.50", "02:00:00:00:00:50");
  all.client.unref();
  all.client.ref();
});

Deno.test("two devices: packets are forwarded between them", async () => {
  const [a, routerA] = cable({ name: ["a", "ra"] });
  const [b, routerB] = cable({ name: ["b", "rb"] });
  using left = new NetStack(a, { address: "10.1.0.2/24", gateway: "10.1.0.1" });
  using right = new NetStack(b, { address: "10.2.0.2/24", gateway: "10.2.0.1" });
  using router = new NetStack(routerA, { address: "10.1.0.1/24", forwarding: true });
  router.addDevice(routerB, { address: "10.2.0.1/24" });
  const reply = await left.ping("10.2.0.2");
  assertEquals([reply.address, reply.ttl], ["10.2.0.2", 63]);
  using listener = right.listen({ port: 7 });
  const [server, client] = await Promise.all([listener.accept(), left.connect({ hostname: "10.2.0.2", port: 7 })]);
  client.close();
  server.close();
});

Deno.test("1000 connections at once, opened, used and closed: all tables are empty, and memory is given back", async () => {
  const all = pair({ cable: { queue: 8192 } });
  const listener = all.server.listen({ port: 7, backlog: 1000 });
  const serving = (async () => {
    for await (const conn of listener) {
      conn.readable.pipeTo(conn.writable).catch(() => {});
    }
  })();
  const conns = await Promise.all(Array.from({ length: 1000 }, () => all.client.connect({ hostname: "10.0.0.1", port: 7 })));
  assertEquals(all.client.statistics.tcp.connections, 1000);
  const buffer = new Uint8Array(64);
  for (let i = 0; i < conns.length; i++) await conns[i].write(Uint8Array.of(i & 255, i >> 8));
  for (let i = 0; i < conns.length; i++) {
    assertEquals(await conns[i].read(buffer), 2);
    assertEquals(buffer[0] | buffer[1] << 8, i);
    conns[i].close();
  }
  listener.close();
  await serving;
  await all.client[Symbol.asyncDispose]();
  await all.server[Symbol.asyncDispose]();
  for (const stack of [all.client, all.server]) {
    const { tcp, stack: { faults } } = stack.statistics;
    assertEquals([tcp.connections, tcp.timeWait, tcp.listeners, faults], [0, 0, 0, 0]);
  }
});
