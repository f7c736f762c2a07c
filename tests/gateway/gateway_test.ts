/** A gateway whose guest is another stack of ours, over a cable: what is carried, what is refused, and that nothing is left. */
import { assertEquals, assertRejects } from "@std/assert";
import { createSocket } from "node:dgram";
import { eachKind } from "./kinds.ts";
import { cable, Gateway, type GatewayOptions, NetStack } from "../../mod.ts";
import { sha256 } from "../../examples/demo/stranger.ts";

/** Where nobody listens: no program takes it by chance. */
const CLOSED_PORT = 9;
const GUEST = { address: "10.0.2.15/24", gateway: "10.0.2.2" };

async function withGateway(options: GatewayOptions, test: (guest: NetStack, gateway: Gateway) => Promise<void>): Promise<void> {
  const [inside, outside] = cable({ offload: true });
  await using gateway = new Gateway(outside, { nameserver: null, ...options });
  await using guest = new NetStack(inside, GUEST);
  await test(guest, gateway);
}

/** A TCP server of this machine that gives back what it gets, until it is disposed of. */
function echoServer(): { port: number } & AsyncDisposable {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const echoes: Promise<void>[] = [];
  const serve = (async () => {
    for await (const conn of listener) echoes.push(conn.readable.pipeTo(conn.writable).catch(() => {}));
  })();
  return {
    port: listener.addr.port,
    async [Symbol.asyncDispose]() {
      listener.close();
      await serve;
      await Promise.all(echoes);
    },
  };
}

eachKind("a guest's connections are carried, both ways, with their ends", async (sockets) => {
  await using server = echoServer();
  await withGateway({ sockets, allow: ["127.0.0.1"] }, async (guest, gateway) => {
    const bytes = crypto.getRandomValues(new Uint8Array(65_536));
    // 127.0.0.1 is the guest itself, as on every host: the gateway's address leads there only when it is told to.
    await assertRejects(() => guest.connect({ hostname: "10.0.2.2", port: server.port }), Deno.errors.ConnectionRefused);
    assertEquals([gateway.statistics.tcpDenied, gateway.statistics.tcpFlows, bytes.length], [1, 0, 65_536]);
  });
  await withGateway({ sockets, hostLoopback: true }, async (guest, gateway) => {
    const all = Array.from({ length: 20 }, async () => {
      const bytes = new Uint8Array(1 << 20);
      for (let at = 0; at < bytes.length; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
      const conn = await guest.connect({ hostname: "10.0.2.2", port: server.port });
      const send = (async () => {
        for (let done = 0; done < bytes.length;) done += await conn.write(bytes.subarray(done));
        await conn.closeWrite();
      })();
      const back = new Uint8Array(await new Response(conn.readable).arrayBuffer());
      await send;
      assertEquals(await sha256(back), await sha256(bytes));
    });
    await Promise.all(all);
    const { tcpFlows, bytesOut, bytesIn } = gateway.statistics;
    assertEquals([tcpFlows, bytesOut, bytesIn], [20, 20 << 20, 20 << 20]);
    for (let tries = 0; tries < 500 && gateway.statistics.tcpOpen > 0; tries++) await new Promise((done) => setTimeout(done, 10));
    assertEquals(gateway.statistics.tcpOpen, 0);
  });
});

eachKind("where nobody listens the guest is refused at once, and what is denied is prohibited", async (sockets) => {
  const closed = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const { port } = closed.addr;
  closed.close();
  await withGateway({ sockets, hostLoopback: true }, async (guest, gateway) => {
    await assertRejects(() => guest.connect({ hostname: "10.0.2.2", port }), Deno.errors.ConnectionRefused);
    assertEquals(gateway.statistics.tcpFailed, 1);
    for (const hostname of ["169.254.169.254", "240.1.2.3"]) {
      await assertRejects(() => guest.connect({ hostname, port: 80 }), Error);
    }
    assertEquals(gateway.statistics.tcpDenied, 1);
    // The gateway answers pings for itself, and for nobody else: whether that host is there is not for it to say.
    assertEquals((await guest.ping("10.0.2.2")).address, "10.0.2.2");
    await assertRejects(() => guest.ping("192.0.2.77", { timeoutMs: 100 }), Deno.errors.TimedOut);
    assertEquals(gateway.stack.statistics.internet.icmp.dropEchoForeign, 1);
  });
});

eachKind("datagrams are carried and answered; what is denied becomes the guest's error", async (sockets, libc) => {
  const server = createSocket("udp4");
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", () => resolve()));
  server.on(
    "message",
    (bytes: Uint8Array, from: { port: number; address: string }) => server.send(bytes, from.port, from.address),
  );
  const { port } = server.address();
  await withGateway({ sockets, hostLoopback: true, udpIdleMs: 200 }, async (guest, gateway) => {
    const sockets = Array.from({ length: 5 }, () => guest.connectDatagram({ hostname: "10.0.2.2", port }));
    for (const [i, opening] of sockets.entries()) {
      using socket = await opening;
      for (let n = 0; n < 3; n++) {
        await socket.send(new TextEncoder().encode(`flow ${i} ${n}`));
        const [bytes, from] = await socket.receive();
        assertEquals([new TextDecoder().decode(bytes), from.hostname, from.port], [`flow ${i} ${n}`, "10.0.2.2", port]);
      }
    }
    assertEquals(gateway.statistics.udpFlows, 5);
    // Idle flows end by themselves.
    for (let tries = 0; tries < 500 && gateway.statistics.udpOpen > 0; tries++) await new Promise((done) => setTimeout(done, 10));
    assertEquals(gateway.statistics.udpOpen, 0);
    // A port of the destination that is closed isn't told by Deno's sockets.
    using refused = await guest.connectDatagram({ hostname: "10.0.2.2", port: CLOSED_PORT });
    await refused.send(new Uint8Array(1));
    if (libc) await assertRejects(() => refused.receive(), Deno.errors.ConnectionRefused);
    // What may not be reached is the guest's error.
    using denied = await guest.connectDatagram({ hostname: "169.254.1.1", port: 9 });
    await denied.send(new Uint8Array(1));
    await assertRejects(() => denied.receive(), Error);
    assertEquals(gateway.statistics.udpDenied, 1);
  });
  server.close();
  await new Promise((done) => server.once("close", done));
});

eachKind("questions to the gateway's name server go to the machine's", async (sockets) => {
  // A name server that answers every question with the question: what matters is that it is carried.
  const server = createSocket("udp4");
  await new Promise<void>((resolve) => server.bind(53, "127.0.0.77", () => resolve()));
  server.on(
    "message",
    (bytes: Uint8Array, from: { port: number; address: string }) => server.send(bytes, from.port, from.address),
  );
  await withGateway({ sockets, nameserver: "127.0.0.77" }, async (guest) => {
    using socket = await guest.connectDatagram({ hostname: "10.0.2.2", port: 53 });
    await socket.send(Uint8Array.of(1, 2, 3));
    assertEquals([...(await socket.receive())[0]], [1, 2, 3]);
  });
  server.close();
  await new Promise((done) => server.once("close", done));
});

eachKind("forwarded ports lead to the guest, by TCP and by UDP", async (sockets) => {
  const forward = [
    { port: 0, guest: "10.0.2.15", guestPort: 80 },
    { transport: "udp" as const, hostname: "127.0.0.78", port: 5353, guest: "10.0.2.15", guestPort: 9 },
  ];
  await withGateway({ sockets, forward }, async (guest, gateway) => {
    using listener = guest.listen({ port: 80 });
    using datagrams = guest.listenDatagram({ port: 9 });
    using outside = await Deno.connect({ hostname: "127.0.0.1", port: gateway.forwards[0].port });
    using inside = await listener.accept();
    await outside.write(new TextEncoder().encode("to the guest"));
    const buffer = new Uint8Array(100);
    const count = await inside.read(buffer) ?? 0;
    assertEquals(new TextDecoder().decode(buffer.subarray(0, count)), "to the guest");
    const sender = createSocket("udp4");
    const answered = new Promise<string>((resolve) =>
      sender.on("message", (bytes: Uint8Array) => resolve(new TextDecoder().decode(bytes)))
    );
    sender.send("ping", 5353, "127.0.0.78");
    const [bytes, from] = await datagrams.receive();
    await datagrams.send(Uint8Array.from([...bytes].reverse()), from);
    assertEquals(await answered, "gnip");
    sender.close();
    await new Promise((done) => sender.once("close", done));
  });
});

Deno.test("a gateway refuses impossible options before it opens anything", () => {
  const [, outside] = cable();
  for (
    const options of [{ address: "10.0.2.2" }, { allow: ["10.0.0.0/33"] }, { deny: ["x"] }, {
      dhcp: { range: ["1.1.1.1", "1.1.1.2"] },
    }]
  ) {
    let thrown: unknown = null;
    try {
      new Gateway(outside, options as GatewayOptions);
    } catch (error) {
      thrown = error;
    }
    assertEquals(thrown instanceof TypeError || thrown instanceof RangeError, true, JSON.stringify(options));
  }
});
