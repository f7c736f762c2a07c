/** The simulated network: what it is made of, how its time goes on, and that it is the same every time. */
import {
  assert,
  assertEquals,
  assertGreater,
  assertInstanceOf,
  assertLess,
  assertMatch,
  assertRejects,
  assertThrows,
} from "@std/assert";
import { cable, decodeCapture, ManualClock, NetStack, Network, NetworkDeadlockError, systemClock } from "../../mod.ts";
import { pair, transfer } from "./network_bench.ts";

const HOSTILE = { delay: 40, jitter: 5, loss: 0.02, reorder: 0.02, duplicate: 0.01, corrupt: 0.005, rate: 20e6 };

async function captured(seed: number): Promise<Uint8Array<ArrayBuffer>> {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  using world = pair(HOSTILE, { seed, pcap: { write: (bytes) => void chunks.push(bytes.slice()) } });
  const { net, alice, bob } = world;
  await net.run(() => transfer(alice, bob, "10.0.0.2", 500_000));
  await net.untilQuiet();
  net.close();
  return await new Blob(chunks).bytes();
}

Deno.test("the same seed gives the same capture, byte for byte; another seed another", async () => {
  const first = await captured(11);
  assertEquals(await captured(11), first);
  const other = await captured(12);
  assert(first.length !== other.length || first.some((byte, i) => byte !== other[i]));
  // Both ends of the link are in it, with the network's time: a packet leaves one and comes to the other after 40 to 45 ms.
  const packets = decodeCapture(first);
  assertGreater(packets.length, 1000);
  assertEquals(packets[0].timeNs, 0n);
  const ordered = packets.every(({ timeNs }, i) => i === 0 || timeNs >= packets[i - 1].timeNs);
  assert(ordered);
});

Deno.test("an hour of loss takes a moment: every byte arrives", async () => {
  using world = pair({ delay: 100, loss: 0.15, duplicate: 0.01, reorder: 0.05 }, { seed: 3 });
  const { net, alice, bob, link } = world;
  await net.run(async () => {
    while (net.now < 3_600_000) {
      await transfer(alice, bob, "10.0.0.2", 20_000);
      await net.delay(60_000);
    }
  });
  assertGreater(net.now, 3_600_000);
  assertGreater(link.statistics.aToB.lost, 100);
  assertLess(await net.untilQuiet(), 150_000);
  assertEquals([alice.connections().length, bob.connections().length], [0, 0]);
});

Deno.test("CoDel keeps the wait of others short beside a bulk transfer, tail drop does not", async () => {
  const wait = async (aqm: "codel" | "none") => {
    using world = pair({ delay: 10, rate: 8e6, queue: { packets: 1000, aqm } });
    const { net, alice, bob } = world;
    return await net.run(async () => {
      const bulk = transfer(alice, bob, "10.0.0.2", 12_000_000);
      await net.delay(3000);
      const waits: number[] = [];
      for (let i = 0; i < 10; i++) {
        waits.push((await alice.ping("10.0.0.2", { timeoutMs: 5000 }).catch(() => null))?.roundTripMs ?? 0);
        await net.delay(100);
      }
      await bulk;
      return waits.toSorted((a, b) => a - b)[5];
    });
  };
  const [short, long] = [await wait("codel"), await wait("none")];
  assertLess(short, 60);
  assertGreater(long, 3 * short);
});

Deno.test("a router says when a packet is too large, and the path MTU follows", async () => {
  using net = new Network();
  const alice = net.host("alice", { address: "10.0.1.2/24", gateway: "10.0.1.1" });
  const bob = net.host("bob", { address: "10.0.2.2/24", gateway: "10.0.2.1" });
  const router = net.router("r", { interfaces: ["10.0.1.1/24", { address: "10.0.2.1/24", mtu: 900 }] });
  net.link(alice, router, { delay: 2 });
  const narrow = net.link(router, bob, { delay: 2 });
  await net.run(() => transfer(alice, bob, "10.0.2.2", 200_000));
  assertGreater(router.statistics.internet.icmp.unreachableSent, 0);
  const { sent, sentBytes } = narrow.statistics.aToB;
  assertGreater(sent, 200_000 / 860);
  assertLess(sentBytes / sent, 914.1);
  // One router in between has lowered the answer's TTL by one.
  assertEquals((await net.run(() => alice.ping("10.0.2.2", { ttl: 9 }))).ttl, 63);
});

Deno.test("a black hole: small packets pass, large ones vanish without a word", async () => {
  using world = pair({ blackHole: 1000 });
  const { net, alice, link } = world;
  assertEquals((await net.run(() => alice.ping("10.0.0.2", { size: 972 }))).size, 972);
  await assertRejects(() => net.run(() => alice.ping("10.0.0.2", { size: 973, timeoutMs: 1000 })), Deno.errors.TimedOut);
  assertEquals(link.statistics.aToB.droppedLarge, 1);
  link.set({ blackHole: Infinity });
  await net.run(() => alice.ping("10.0.0.2", { size: 1400 }));
});

Deno.test("a link down for half a minute, and up again: the transfer goes on", async () => {
  using world = pair({ delay: 20, rate: 1e6 });
  const { net, alice, bob, link } = world;
  const began = net.now;
  await net.run(async () => {
    const work = transfer(alice, bob, "10.0.0.2", 1_000_000);
    await net.delay(2000);
    link.down();
    assert(link.isDown);
    await net.delay(30_000);
    link.up();
    await work;
  });
  assertGreater(net.now - began, 38_000);
  assertGreater(link.statistics.aToB.droppedDown, 5);
});

Deno.test("directions differ, and can be changed alone", async () => {
  using world = pair({ delay: 10, aToB: { delay: 30 } });
  const { net, alice, link } = world;
  await net.run(() => alice.ping("10.0.0.2"));
  assertEquals((await net.run(() => alice.ping("10.0.0.2"))).roundTripMs, 40);
  link.set({ bToA: { delay: 0 } });
  assertEquals((await net.run(() => alice.ping("10.0.0.2"))).roundTripMs, 30);
  assertThrows(() => link.set({ delay: 5, bToA: { loss: 2 } }), RangeError);
  assertEquals((await net.run(() => alice.ping("10.0.0.2"))).roundTripMs, 30);
});

Deno.test("code that waits for ever is told so, with who waits", async () => {
  using world = pair();
  const { net, alice, bob } = world;
  const error = await assertRejects(
    () =>
      net.run(async () => {
        const listener = bob.listen({ port: 7 });
        const [conn] = await Promise.all([alice.connect({ hostname: "10.0.0.2", port: 7 }), listener.accept()]);
        await conn.read(new Uint8Array(1));
      }),
    NetworkDeadlockError,
  );
  assertEquals(error.code, "EDEADLK");
  assertMatch(error.message, /^at \d+ ms nothing can ever happen any more/);
  assertMatch(
    error.waiting.join("\n"),
    /alice: connection 10\.0\.0\.1:\d+ -> 10\.0\.0\.2:7 ESTABLISHED, 0 bytes to read, 0 to send/,
  );
  assertMatch(error.waiting.join("\n"), /bob: 1 listener/);
  using empty = new Network();
  const nobody = await assertRejects(() => empty.run(() => new Promise(() => {})), NetworkDeadlockError);
  assertMatch(nobody.message, /nothing on the network/);
  using unplugged = new Network();
  const host = unplugged.host("lonely", { address: "10.0.0.1/24" });
  host.listenDatagram({ port: 9 }).receive().catch(() => {});
  const alone = await assertRejects(() => unplugged.run(() => new Promise(() => {})), NetworkDeadlockError);
  assertEquals(alone.waiting, ["lonely: no link"]);
});

Deno.test("limits, errors of the code itself, and two at once", async () => {
  using world = pair({ delay: 10 });
  const { net, alice } = world;
  const forever = async () => {
    while (true) await net.delay(1000);
  };
  await assertRejects(() => net.run(forever, { limitMs: 10_000 }), Deno.errors.TimedOut, "10000 ms");
  assertEquals(net.now, 10_000);
  await assertRejects(() => net.untilQuiet({ limitMs: 5000 }), Deno.errors.TimedOut);
  await assertRejects(() => net.run(() => Promise.reject(new SyntaxError("mine"))), SyntaxError, "mine");
  await assertRejects(
    () =>
      net.run(() => {
        throw new EvalError("at once");
      }),
    EvalError,
  );
  const running = net.run(() => net.delay(100));
  await assertRejects(() => net.run(() => 1), Deno.errors.Busy);
  await running;
  await net.run(async () => {
    const before = net.now;
    await net.advance(50);
    assertEquals(net.now - before, 50);
    await assertRejects(() => net.untilQuiet(), Deno.errors.Busy);
  });
  assertThrows(() => net.delay(-1), RangeError);
  await assertRejects(() => net.advance(NaN), RangeError);
  assertThrows(() => net.host("alice"), Deno.errors.AlreadyExists);
  assertThrows(() => net.link("carol", "alice"), Deno.errors.NotFound);
  assertThrows(() => net.link(alice, net.switch("s")), Deno.errors.Busy);
  assertThrows(() => net.router("r", { interfaces: [] }), RangeError);
  assertThrows(() => net.host("x", { address: "nonsense" }), TypeError);
  assertThrows(() => net.host("y", { mtu: 67 }), RangeError);
  assertThrows(() => new Network({ seed: NaN }), RangeError);
  const [end] = cable();
  using stranger = new NetStack(end);
  assertThrows(() => net.link(stranger, "s"), Deno.errors.NotFound);
});

Deno.test("time stands still while code computes, and while it waits for the real world", async () => {
  using world = pair({ delay: 10 });
  const { net, alice } = world;
  const order: string[] = [];
  await net.run(async () => {
    const first = net.delay(20).then(() => order.push(`b${net.now}`));
    const second = net.delay(10).then(() => order.push(`a${net.now}`));
    const digest = await net.real(crypto.subtle.digest("SHA-256", new Uint8Array(5_000_000)));
    order.push(`digest${net.now}`);
    assertEquals(digest.byteLength, 32);
    for (let i = 0; i < 1000; i++) await null;
    order.push(`computed${net.now}`);
    await Promise.all([first, second]);
    // Not wrapped: it is waited for when nothing else is left to happen.
    await crypto.subtle.digest("SHA-256", new Uint8Array(1000));
    await new Promise((resolve) => setTimeout(resolve, 30));
  });
  assertEquals(order, ["digest0", "computed0", "a10", "b20"]);
  await net.run(() => alice.ping("10.0.0.2"));
  assertEquals((await net.run(() => alice.ping("10.0.0.2"))).roundTripMs, 20);
});

Deno.test("streams, pipes and abort signals work as anywhere", async () => {
  using world = pair({ delay: 5, loss: 0.01 }, { seed: 8 });
  const { net, alice, bob } = world;
  const text = await net.run(async () => {
    const listener = bob.listen({ port: 80 });
    (async () => {
      for await (const conn of listener) conn.readable.pipeThrough(new TransformStream()).pipeTo(conn.writable).catch(() => {});
    })();
    const conn = await alice.connect({ hostname: "10.0.0.2", port: 80 });
    const writer = conn.writable.getWriter();
    for (let i = 0; i < 200; i++) await writer.write(new TextEncoder().encode(`line ${i} ${"x".repeat(500)}\n`));
    writer.releaseLock();
    await conn.closeWrite();
    const answer = await new Response(conn.readable).text();
    listener.close();
    return answer;
  });
  assertEquals(text.split("\n").length, 201);
  const signal = new AbortController();
  await net.run(async () => {
    const reading = alice.connect({ hostname: "10.0.0.99", port: 1, signal: signal.signal }).catch((error) => error.name);
    await net.delay(1);
    signal.abort();
    assertEquals(await reading, "AbortError");
  });
});

Deno.test("closed with everything under way: nobody is left waiting, and nothing happens later", async () => {
  const world = pair({ delay: 100, rate: 1e6 }, { pcap: { write() {} } });
  const { net, alice, bob } = world;
  const listener = bob.listen({ port: 7 });
  const accepting = assertRejects(() => listener.accept());
  const connecting = assertRejects(() => alice.connect({ hostname: "10.0.0.9", port: 7 }));
  const delaying = assertRejects(() => net.delay(1000), Deno.errors.Interrupted);
  await net.advance(10);
  net.close();
  net.close();
  await Promise.all([accepting, connecting, delaying]);
  assertEquals((net.clock as ManualClock).pending, 0);
  await assertRejects(() => net.run(() => 1), Deno.errors.BadResource);
  assertThrows(() => net.host("late"), Deno.errors.BadResource);
});

Deno.test("a device of another kind joins: here one end of a cable, with offload", async () => {
  for (const clock of [new ManualClock(), systemClock]) {
    using net = new Network({ clock });
    const [left, right] = cable({ offload: true });
    using outside = new NetStack(left, { address: "10.0.0.9/24", clock });
    const member = net.attach(right);
    const host = net.host("h", { address: "10.0.0.1/24" });
    const link = net.link(member, host, { delay: 1 });
    await net.run(() => transfer(outside, host, "10.0.0.1", 100_000));
    await net.run(() => transfer(host, outside, "10.0.0.9", 100_000));
    assertGreater(member.statistics.superFramesCut, 0);
    assertGreater(link.statistics.aToB.sent, 68);
    assertThrows(() => net.link(member, "h"), Deno.errors.Busy);
    assertThrows(() => net.attach(cable({ medium: "ip" })[0]), TypeError);
    if (clock === systemClock) await assertRejects(() => net.untilQuiet(), Deno.errors.NotSupported);
  }
});

Deno.test("ManualClock: step goes to the next moment and rings all that were set for it", () => {
  const clock = new ManualClock(5);
  const rang: string[] = [];
  clock.setTimer(10, () => {
    rang.push("a");
    clock.setTimer(10, () => rang.push("late"));
  });
  const gone = clock.setTimer(10, () => rang.push("gone"));
  clock.setTimer(10, () => rang.push("b"));
  clock.clearTimer(gone);
  const early = clock.setTimer(7, () => {});
  assertEquals(clock.nextAt, 7);
  clock.clearTimer(early);
  assertEquals([clock.nextAt, clock.now()], [10, 5]);
  assertEquals(clock.step(9), false);
  assertEquals(clock.now(), 5);
  assertEquals(clock.step(), true);
  assertEquals([rang.join(), clock.now()], ["a,b", 10]);
  assertEquals(clock.step(), true);
  assertEquals(rang.join(), "a,b,late");
  assertEquals([clock.step(), clock.nextAt], [false, Infinity]);
});

Deno.test("a capture whose sink fails doesn't stop the network", async () => {
  const failing = {
    write() {
      throw new Error("disk full");
    },
  };
  using world = pair({}, { pcap: failing });
  const { net, alice, bob } = world;
  await net.run(() => transfer(alice, bob, "10.0.0.2", 400_000));
  const { captured, notCaptured, writeErrors } = net.capture!;
  assert(writeErrors === 1 && captured > 100 && notCaptured > 100);
  assertInstanceOf(net.get("alice"), NetStack);
  assertEquals(net.links.map(({ name }) => name), ["alice - bob"]);
});
