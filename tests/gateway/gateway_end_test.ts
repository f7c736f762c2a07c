/** A gateway packet by packet and at its end: what is left when it, the stack or one side of a flow goes. */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { cable, Gateway, type GatewayOptions, NetStack } from "../../mod.ts";
import { eachKind } from "./kinds.ts";
import { HostConn } from "../../drivers/host_sockets.ts";
import { wakersIdle } from "../../drivers/wake_event.ts";
import { Dialer } from "../../gateway/dialer.ts";
import { InFlight } from "../../gateway/udp_relay.ts";

const GUEST = "10.0.2.15";

// ---- The gateway as a whole, on the machine's own sockets; Deno's sanitizers see what is left over.

async function withGuest(options: GatewayOptions, test: (guest: NetStack, gateway: Gateway) => Promise<void>): Promise<void> {
  const [inside, outside] = cable({ offload: true });
  await using gateway = new Gateway(outside, { nameserver: null, ...options });
  await using guest = new NetStack(inside, { address: `${GUEST}/24`, gateway: "10.0.2.2" });
  await test(guest, gateway);
}

/** A listener that never accepts, with its queue full: who connects waits. Linux only; its queue of 0 takes one. */
async function withSilence(test: (port: number) => Promise<void>): Promise<void> {
  const listener = Deno.listen({ hostname: "127.0.0.1", port: 0, tcpBacklog: 1 } as Deno.TcpListenOptions & { port: number });
  const { port } = listener.addr;
  const fillers: Deno.TcpConn[] = [];
  const controller = new AbortController();
  for (let full = false; !full;) {
    const timer = setTimeout(() => controller.abort(), 300);
    const filler = await Deno.connect({ hostname: "127.0.0.1", port, signal: controller.signal }).catch(() => null);
    clearTimeout(timer);
    if (filler === null) full = true;
    else fillers.push(filler);
  }
  await test(port);
  for (const filler of fillers) filler.close();
  listener.close();
}

async function until(condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 1000) throw new Error("never");
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

eachKind(
  "closing the gateway, or losing its device, ends connections that are being dialled",
  async (sockets) => {
    if (Deno.build.os !== "linux") return;
    for (const how of ["gateway", "stack"]) {
      await withSilence(async (port) => {
        await withGuest({ sockets, hostLoopback: true }, async (guest, gateway) => {
          const asked = guest.connect({ hostname: "10.0.2.2", port });
          asked.catch(() => {});
          await until(() => gateway.statistics.tcpOpen === 1);
          if (how === "gateway") gateway.close();
          else gateway.stack.close();
          await until(() => gateway.statistics.tcpOpen === 0);
        });
      });
    }
  },
);

eachKind("a gateway that is closed while flows run leaves nothing: TCP, UDP, forwarded ports", async (sockets) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const datagrams = Deno.listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 });
  const forward = [{ port: 0, guest: GUEST, guestPort: 80 }, { transport: "udp" as const, port: 0, guest: GUEST, guestPort: 9 }];
  await withGuest({ sockets, hostLoopback: true, forward }, async (guest, gateway) => {
    await gateway.ready;
    assert(gateway.forwards[1].port > 0);
    using inner = guest.listen({ port: 80 });
    const flows: Promise<unknown>[] = [];
    for (let i = 0; i < 5; i++) {
      const conn = await guest.connect({ hostname: "10.0.2.2", port: listener.addr.port });
      const far = await listener.accept();
      flows.push(conn.readable.pipeTo(new WritableStream()).catch(() => {}), far.readable.pipeTo(far.writable).catch(() => {}));
      const outside = await Deno.connect({ hostname: "127.0.0.1", port: gateway.forwards[0].port });
      const near = await inner.accept();
      flows.push(
        near.readable.pipeTo(near.writable).catch(() => {}),
        outside.readable.pipeTo(new WritableStream()).catch(() => {}),
      );
      using socket = await guest.connectDatagram({ hostname: "10.0.2.2", port: (datagrams.addr as Deno.NetAddr).port });
      await socket.send(new Uint8Array(i));
    }
    await until(() => gateway.statistics.udpOpen === 5);
    gateway.close();
    await Promise.all(flows);
    assertEquals([gateway.statistics.udpOpen, gateway.statistics.tcpFlows, gateway.statistics.forwarded], [0, 5, 5]);
    await until(() => gateway.statistics.tcpOpen === 0);
  });
  datagrams.close();
});

Deno.test("the stack ends under a forwarded datagram port: the next datagram is counted, and nothing is thrown", async () => {
  const forward = [{ transport: "udp" as const, port: 0, guest: GUEST, guestPort: 9 }];
  const [, outside] = cable();
  const gateway = new Gateway(outside, { nameserver: null, forward });
  await gateway.ready;
  gateway.stack.close();
  await gateway.stack.closed;
  gateway.close();
});

Deno.test("a forwarded datagram port that is taken is told by ready, and bad options before anything is opened", async () => {
  const [, outside] = cable();
  const taken = { transport: "udp" as const, hostname: "127.0.0.79", port: 5355, guestPort: 9 };
  await using first = new Gateway(outside, { nameserver: null, forward: [taken] });
  await first.ready;
  const [, other] = cable();
  await using second = new Gateway(other, { nameserver: null, forward: [taken] });
  await assertRejects(() => second.ready);
  assertEquals(second.statistics.forwardFailed, 1);
  const [, third] = cable();
  for (
    const bad of [
      { nameserver: "x" },
      { allow: "10.0.0.0/8" as never },
      { deny: 5 as never },
      { forward: {} as never },
      { hostLoopback: "x" as never },
      { onLease: 5 as never },
      { dhcp: 5 as never },
      { dhcp: { leaseSeconds: -1 } },
      { dhcp: { mtu: NaN } },
      { dhcp: { mtu: 67 } },
      { dhcp: { nameservers: 5 as never } },
      { dhcp: { range: ["10.0.2.3"] as never } },
      { sockets: {} as never },
      { nameserver: "::1" },
      { udpIdleMs: 0 },
      { forward: [{ port: 1, guestPort: 0 }] },
      { forward: [{ port: 65_536, guestPort: 1 }] },
      { forward: [{ port: 1, guestPort: 1, guest: "x" }] },
      { forward: [{ port: 1, guestPort: 1, transport: "sctp" as never }] },
    ]
  ) {
    assertThrows(
      () => new Gateway(third, { nameserver: null, ...bad }),
      Error,
      undefined,
      JSON.stringify(bad),
    );
  }
  // The device is as it was.
  new Gateway(third, { nameserver: null }).close();
});

eachKind("what fails on one side of a flow is a reset on the other", async (sockets, libc) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await withGuest({ sockets, hostLoopback: true }, async (guest, gateway) => {
    const conn = await guest.connect({ hostname: "10.0.2.2", port: listener.addr.port });
    const far = await listener.accept();
    await conn.write(new Uint8Array(1000));
    await until(() => gateway.statistics.bytesOut === 1000);
    // Closed with unread bytes: Linux ends it, and resets what comes then.
    far.close();
    assertEquals(await conn.read(new Uint8Array(1)).catch(() => null), null);
    await assertRejects(async () => {
      for (let i = 0; i < 1000; i++) {
        await conn.write(new Uint8Array(1000));
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
    });
    conn.close();
    await until(() => gateway.statistics.tcpOpen === 0);
    const second = await guest.connect({ hostname: "10.0.2.2", port: listener.addr.port });
    using other = await listener.accept();
    second.abort();
    // Deno's sockets can't send one.
    if (libc) await assertRejects(() => other.read(new Uint8Array(1)), Deno.errors.ConnectionReset);
    else assertEquals(await other.read(new Uint8Array(1)).catch(() => null), null);
    await until(() => gateway.statistics.tcpOpen === 0);
  });
});

eachKind("a guest's reset ends its flow though the other end takes nothing more", async (sockets, libc) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  await withGuest({ sockets, hostLoopback: true }, async (guest, gateway) => {
    const conn = await guest.connect({ hostname: "10.0.2.2", port: listener.addr.port });
    using far = await listener.accept();
    let total = 0;
    const writing = (async () => {
      for (;;) total += await conn.write(new Uint8Array(1 << 18));
    })();
    writing.catch(() => {});
    for (let last = -1; last !== total; await new Promise((resolve) => setTimeout(resolve, 50))) last = total;
    conn.abort();
    await until(() => gateway.statistics.tcpOpen === 0);
    const all = new Response(far.readable).arrayBuffer();
    if (libc) await assertRejects(() => all, Deno.errors.ConnectionReset);
    else await all;
  });
});

eachKind("what ends with the gateway, and what no guest takes, is no clean end outside", async (sockets, libc) => {
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const forward = [{ port: 0, guest: GUEST, guestPort: 80 }, { port: 0, guest: GUEST, guestPort: 81 }];
  await withGuest({ sockets, hostLoopback: true, forward }, async (guest, gateway) => {
    const read = async (opened: Promise<Deno.TcpConn>) => {
      const read = async () => {
        using conn = await opened;
        return await conn.read(new Uint8Array(1));
      };
      // Deno's sockets can't send a reset.
      if (libc) await assertRejects(read, Deno.errors.ConnectionReset);
      else assertEquals(await read().catch(() => null), null);
    };
    await read(Deno.connect({ hostname: "127.0.0.1", port: gateway.forwards[1].port }));
    assertEquals(gateway.statistics.forwardFailed, 1);
    using inner = guest.listen({ port: 80 });
    const client = await Deno.connect({ hostname: "127.0.0.1", port: gateway.forwards[0].port });
    using _near = await inner.accept();
    using _conn = await guest.connect({ hostname: "10.0.2.2", port: listener.addr.port });
    const far = await listener.accept();
    await until(() => gateway.statistics.tcpFlows === 1);
    gateway.close();
    await read(Promise.resolve(client));
    await read(Promise.resolve(far));
  });
});

eachKind("connections that are reset before a forwarded port takes them keep nobody waiting", async (sockets) => {
  if (Deno.build.os !== "linux") return;
  await withGuest({ sockets, forward: [{ port: 0, guest: GUEST, guestPort: 80 }] }, async (guest, gateway) => {
    using inner = guest.listen({ port: 80 });
    const to = gateway.forwards[0];
    for (let i = 0; i < 50; i++) (await HostConn.connect(to)).abort();
    const since = performance.now();
    using _client = await Deno.connect(to);
    using _near = await inner.accept();
    assert(performance.now() - since < 2000);
  });
  await wakersIdle();
});

eachKind("a flow in use isn't forgotten, the quietest makes room, and large and empty datagrams are carried", async (sockets) => {
  const { createSocket } = await import("node:dgram");
  const server = createSocket("udp4");
  await new Promise<void>((resolve) => server.bind(0, "127.0.0.1", () => resolve()));
  server.on(
    "message",
    (bytes: Uint8Array, from: { port: number; address: string }) => server.send(bytes, from.port, from.address),
  );
  const { port } = server.address();
  await withGuest({ sockets, hostLoopback: true }, async (guest, gateway) => {
    {
      using socket = await guest.connectDatagram({ hostname: "10.0.2.2", port });
      for (const length of [0, 1, 1472, 9000, 60_000]) {
        await socket.send(new Uint8Array(length));
        assertEquals((await socket.receive())[0].length, length);
      }
    }
    // One flow more than may be open: all are answered.
    for (let i = 0; i < 1030; i++) {
      using socket = await guest.connectDatagram({ hostname: "10.0.2.2", port });
      await socket.send(Uint8Array.of(i & 255));
      assertEquals([...(await socket.receive())[0]], [i & 255]);
    }
    const { udpFlows, udpOpen, udpEvicted } = gateway.statistics;
    assert(udpOpen <= 1024 && udpFlows === udpOpen + udpEvicted, `${udpFlows} ${udpOpen} ${udpEvicted}`);
  });
  server.close();
  await new Promise((done) => server.once("close", done));
});

Deno.test("where Deno's permissions end, the guest is told that it is prohibited, by TCP and by UDP", async () => {
  const program = `
    import { cable, Gateway, NetStack } from "${new URL("../../mod.ts", import.meta.url)}";
    const [inside, outside] = cable();
    const gateway = new Gateway(outside, { nameserver: null });
    const guest = new NetStack(inside, { address: "${GUEST}/24", gateway: "10.0.2.2" });
    await guest.connect({ hostname: "10.9.9.9", port: 80 }).catch((error) => console.log(error.code));
    const socket = await guest.connectDatagram({ hostname: "10.9.9.9", port: 5353 });
    await socket.send(new Uint8Array(4));
    await socket.receive().catch((error) => console.log(error.code));
    console.log(gateway.statistics.udpFailed, gateway.statistics.udpOpen);
    gateway.close();
    guest.close();`;
  const child = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--no-prompt",
      "--no-check",
      "--allow-net=127.0.0.1",
      "--allow-env",
      "--allow-read",
      "--unstable-net",
      "--ext=ts",
      "-",
    ],
    stdin: "piped",
    stdout: "piped",
    stderr: "piped",
  }).spawn();
  const input = child.stdin.getWriter();
  await input.write(new TextEncoder().encode(program));
  await input.close();
  const { code, stdout, stderr } = await child.output();
  assertEquals([code, new TextDecoder().decode(stdout), new TextDecoder().decode(stderr)], [
    0,
    "EHOSTUNREACH\nEHOSTUNREACH\n1 0\n",
    "",
  ]);
});

Deno.test("a dialer ends what waits when it is closed, and takes nothing more", async () => {
  const dialer = new Dialer();
  const forever = (signal: AbortSignal) =>
    new Promise<never>((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  assertEquals(await dialer.dial(() => Promise.resolve(5)), 5);
  const waiting = [dialer.dial(forever), dialer.dial(forever)];
  assertEquals(dialer.waiting, 2);
  dialer.close();
  for (const one of waiting) await assertRejects(() => one, Deno.errors.TimedOut);
  assertEquals(dialer.waiting, 0);
  await assertRejects(() => dialer.dial(forever), Deno.errors.BadResource);
});

Deno.test("so many datagrams may be on their way, and so many bytes", () => {
  const flight = new InFlight();
  assertEquals(Array.from({ length: 70 }, () => flight.take(1)).filter(Boolean).length, 64);
  flight.sent(1);
  assertEquals([flight.take(1 << 20), flight.take(1), flight.take(1)], [false, true, false]);
});
