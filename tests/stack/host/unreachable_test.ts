// A next hop that doesn't answer: what strangers can do with it to a UDP socket, and what is told to whom.
import { assertEquals } from "@std/assert";
import { cable, type CableEnd, FrameMemory, ManualClock, NetStack, TxFrame } from "../../../mod.ts";
import { NEIGHBORS_MAX } from "../../../stack/ip/limits.ts";
import { ethernet, ipv4, udp } from "../../testing/frames.ts";
import { outcome, pair } from "./worlds.ts";

/** A host at 10.0.0.1/16 in a time of its own, on a wire where nobody answers. */
function lonely(): { stack: NetStack; clock: ManualClock; wire: CableEnd } & Disposable {
  const clock = new ManualClock();
  const [end, wire] = cable();
  wire.open(() => {});
  const stack = new NetStack(end, { address: "10.0.0.1/16", clock, seed: 1 });
  return { stack, clock, wire, [Symbol.dispose]: () => stack.close() };
}

/** A datagram to port 7, from an address that may be anybody's. */
function spoof(wire: CableEnd, source: string): void {
  const destination = "10.0.0.1";
  const datagram = udp({ source, destination, sourcePort: 9, destinationPort: 7 }, Uint8Array.of(1));
  const frame = ethernet(
    { type: 0x800, destination: "02:00:00:00:00:01", source: "02:00:00:00:00:02" },
    ipv4({ source, destination }, datagram),
  );
  const tx = new TxFrame();
  tx.memory = new FrameMemory(2048);
  tx.reset(frame.length);
  tx.memory.bytes.set(frame, tx.offset);
  wire.transmit(tx);
  wire.receive({ frame() {} }, 256);
}

Deno.test("the UDP echo loop outlives datagrams whose sender doesn't answer", async () => {
  using host = lonely();
  const { stack, clock, wire } = host;
  const socket = stack.listenDatagram({ port: 7 });
  let echoed = 0;
  const loop = outcome(async () => {
    for await (const [bytes, from] of socket) {
      await socket.send(bytes, from);
      echoed++;
    }
  });
  // While the sender is asked for, when that has failed, and through the next two attempts.
  for (let i = 0; i < 24; i++) {
    spoof(wire, "10.0.0.99");
    await clock.advanceAsync(500);
  }
  assertEquals([echoed, stack.statistics.internet.icmp.neighborErrors > 0], [24, true]);
  // More senders at once than there are neighbour entries: what finds none is lost, like a datagram anywhere.
  for (let i = 0; i < NEIGHBORS_MAX + 20; i++) {
    spoof(wire, `10.0.${1 + (i >> 8)}.${i & 255}`);
    if (i % 64 === 0) await clock.settle();
  }
  await clock.settle();
  assertEquals(echoed, 24 + NEIGHBORS_MAX + 20);
  assertEquals(stack.statistics.udp.sendErrors > 0, true);
  socket.close();
  assertEquals(await loop, "nothing");
});

Deno.test("a connected UDP socket is told once that its peer's neighbour entry failed, and others never", async () => {
  using host = lonely();
  const { stack, clock } = host;
  using connected = await stack.connectDatagram({ hostname: "10.0.0.98", port: 7 });
  using other = stack.listenDatagram({ port: 0 });
  const to: Deno.NetAddr = { transport: "udp", hostname: "10.0.0.98", port: 7 };
  assertEquals([await connected.send(new Uint8Array(1)), await other.send(new Uint8Array(1), to)], [1, 1]);
  const received = outcome(() => connected.receive());
  await clock.advanceAsync(3000);
  assertEquals(await received, "Error EHOSTUNREACH");
  assertEquals([await connected.send(new Uint8Array(1)), await other.send(new Uint8Array(1), to)], [1, 1]);
  await clock.advanceAsync(3000);
  assertEquals(await outcome(() => connected.send(new Uint8Array(1))), "Error EHOSTUNREACH");
  assertEquals(await other.send(new Uint8Array(1), to), 1);
});

Deno.test("connect to a neighbour that isn't there: unreachable after three questions, in three seconds", async () => {
  using host = lonely();
  const { stack, clock } = host;
  const said = outcome(() => stack.connect({ hostname: "10.0.0.97", port: 80 }));
  await clock.advanceAsync(2999);
  assertEquals(stack.connections().map(({ state }) => state), ["SYN-SENT"]);
  await clock.advanceAsync(1);
  assertEquals(await said, "Error EHOSTUNREACH");
  assertEquals([clock.now(), stack.connections().length], [3000, 0]);
});

Deno.test("a connection goes on trying while its neighbour doesn't answer", async () => {
  const clock = new ManualClock();
  using all = pair({ client: { clock, seed: 1 }, server: { clock, seed: 2 } });
  using listener = all.server.listen({ port: 7 });
  const accepting = listener.accept();
  using client = await clock.run(all.client.connect({ hostname: "10.0.0.1", port: 7 }));
  using server = await clock.run(accepting);
  all.ends[0].setCarrier(false);
  await client.write(Uint8Array.of(1));
  const failures = () => all.client.statistics.internet.icmp.neighborErrors;
  await clock.advanceAsync(120_000);
  assertEquals([failures() > 1, all.client.connections().map(({ state }) => state)], [true, ["ESTABLISHED"]]);
  all.ends[0].setCarrier(true);
  assertEquals(await clock.run(server.read(new Uint8Array(2))), 1);
});
