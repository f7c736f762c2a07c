// A stack with two devices of which one goes: who is told what, and what goes on.
import { assertEquals, assertInstanceOf, assertRejects, assertStringIncludes } from "@std/assert";
import { cable, type CableEnd, type Device, DeviceGoneError, NetStack, type TcpConn } from "../../../mod.ts";
import { moment, outcome } from "./worlds.ts";

const GONE = "DeviceGoneError ENODEV";

/** A host on two wires, 10.0.0.1 and 10.1.0.1, with a peer on each. */
interface Home extends Disposable {
  home: NetStack;
  peers: [NetStack, NetStack];
  ends: [CableEnd, CableEnd];
  second: { interfaceIndex: number; ready: Promise<void> };
}

function atHome(): Home {
  const [a, b] = cable({ name: ["first", "peer0"] });
  const [c, d] = cable({ name: ["second", "peer1"] });
  const home = new NetStack(a, { address: "10.0.0.1/24" });
  const second = home.addDevice(c, { address: "10.1.0.1/24" });
  const peers: [NetStack, NetStack] = [new NetStack(b, { address: "10.0.0.2/24" }), new NetStack(d, { address: "10.1.0.2/24" })];
  return {
    home,
    peers,
    ends: [a, c],
    second,
    [Symbol.dispose]() {
      home.close();
      for (const peer of peers) peer.close();
    },
  };
}

/** A connection from home to one of the peers, and the peer's end of it. */
async function join({ home, peers }: Home, at: number): Promise<[TcpConn, TcpConn]> {
  using listener = peers[at].listen({ port: 80 });
  return await Promise.all([home.connect({ hostname: `10.${at}.0.2`, port: 80 }), listener.accept()]);
}

/** Everything that can wait on the device with 10.0.0.1, by name. */
async function waiting(world: Home): Promise<{ ours: TcpConn; theirs: TcpConn; told: Record<string, Promise<string>> }> {
  const { home } = world;
  const [ours, theirs] = await join(world, 0);
  const [stuck] = await join(world, 0);
  const connected = await home.connectDatagram({ hostname: "10.0.0.2", port: 9 });
  const told = {
    read: outcome(() => ours.read(new Uint8Array(1))),
    write: outcome(async () => {
      for (;;) await stuck.write(new Uint8Array(1 << 20));
    }),
    readable: outcome(() => stuck.readable.getReader().read()),
    accept: outcome(() => home.listen({ hostname: "10.0.0.1", port: 7 }).accept()),
    receive: outcome(() => home.listenDatagram({ hostname: "10.0.0.1", port: 7 }).receive()),
    receiveConnected: outcome(() => connected.receive()),
    connect: outcome(() => home.connect({ hostname: "10.0.0.77", port: 1 })),
    ping: outcome(() => home.ping("10.0.0.77", { timeoutMs: 60_000 })),
    addAddress: outcome(() => home.addAddress("10.0.0.5/24", { interfaceIndex: 1, detectConflicts: true })),
  };
  await moment();
  return { ours, theirs, told };
}

/** What else is open must not notice: returns what looks whether it did. */
async function elsewhere(world: Home): Promise<() => Promise<void>> {
  const { home, peers } = world;
  const [ours, theirs] = await join(world, 1);
  const listener = home.listen({ port: 70 }), datagrams = home.listenDatagram({ port: 70 });
  const bound = home.listenDatagram({ hostname: "10.1.0.1", port: 71 });
  // Not accepted yet: this one is for the listener that goes on, at an address that goes.
  const early = await peers[0].connect({ hostname: "10.0.0.1", port: 70 });
  await moment();
  return async () => {
    await ours.write(Uint8Array.of(1));
    assertEquals(await theirs.read(new Uint8Array(2)), 1);
    const [accepted, other] = await Promise.all([listener.accept(), peers[1].connect({ hostname: "10.1.0.1", port: 70 })]);
    assertEquals(accepted.remoteAddr.hostname, "10.1.0.2");
    const sender = peers[1].listenDatagram({ port: 0 });
    for (const [socket, port] of [[datagrams, 70], [bound, 71]] as const) {
      await sender.send(Uint8Array.of(2), { transport: "udp", hostname: "10.1.0.1", port });
      assertEquals((await socket.receive())[0], Uint8Array.of(2));
    }
    assertEquals((await home.ping("10.1.0.2")).address, "10.1.0.2");
    for (const one of [ours, theirs, accepted, other, early, listener, datagrams, bound, sender]) one.close();
  };
}

Deno.test("one of two devices vanishes: who waits on it is told, and nobody else", async () => {
  using world = atHome();
  const { home, ends } = world;
  const { ours, told } = await waiting(world);
  const goesOn = await elsewhere(world);
  ends[0].remove();
  for (const [what, said] of Object.entries(told)) assertEquals([what, await said], [what, GONE]);
  const error = await assertRejects(() => ours.write(new Uint8Array(1)), DeviceGoneError);
  assertStringIncludes(error.message, '"first"');
  assertEquals(home.addresses.map(({ address }) => address), ["10.1.0.1/24"]);
  assertEquals(home.connections().map(({ localAddress }) => localAddress.split(":")[0]), ["10.1.0.1"]);
  await goesOn();
  assertEquals(home.statistics.stack.faults, 0);
  ends[1].remove();
  assertInstanceOf(await home.closed.catch((error) => error), DeviceGoneError);
});

Deno.test("a device that is removed: as if it had vanished, and peers are told", async () => {
  using world = atHome();
  const { home } = world;
  const { theirs, told } = await waiting(world);
  const goesOn = await elsewhere(world);
  home.removeDevice(1);
  for (const [what, said] of Object.entries(told)) assertEquals([what, await said], [what, GONE]);
  assertEquals(await outcome(() => theirs.read(new Uint8Array(1))), "ConnectionReset ECONNRESET");
  await goesOn();
  const second = outcome(() => home.listenDatagram({ hostname: "10.1.0.1", port: 5 }).receive());
  home.removeDevice(world.second.interfaceIndex);
  assertEquals(await second, GONE);
  // The stack stays, and may have another device.
  const [end, other] = cable();
  using _peer = new NetStack(other, { address: "10.2.0.2/24" });
  home.addDevice(end, { address: "10.2.0.1/24" });
  assertEquals((await home.ping("10.2.0.2")).address, "10.2.0.2");
});

Deno.test("a device that is added to a stack that was let go is let go too, and all are held again together", () => {
  const said: string[] = [];
  const device = (name: string): Device => {
    const [end] = cable();
    return Object.assign(end as Device, { ref: () => said.push(`${name} ref`), unref: () => said.push(`${name} unref`) });
  };
  using stack = new NetStack(device("first"), { address: "10.0.0.1/24" });
  stack.unref();
  stack.addDevice(device("second"), { address: "10.1.0.1/24" });
  stack.ref();
  assertEquals(said, ["first unref", "second unref", "first ref", "second ref"]);
});
