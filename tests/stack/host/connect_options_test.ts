/** Options of connections at the face: checked before anything changes, and data that goes with the SYN. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import { cable } from "../../../drivers/cable.ts";
import { NetStack } from "../../../stack/host/net_stack.ts";
import type { ConnectOptions } from "../../../stack/host/options.ts";
import type { TcpOptions } from "../../../stack/tcp/types.ts";

const WRONG: [TcpOptions, string][] = [
  [{ ttl: 0 }, "ttl must be 1 to 255: 0"],
  [{ tos: 256 }, "tos must be 0 to 255: 256"],
  [{ keepAliveCount: 0 }, "keepAliveCount must be 1 to 127: 0"],
  [{ userTimeoutMs: -1 }, "userTimeoutMs must be"],
  [{ receiveBufferMax: NaN }, "receiveBufferMax must be"],
  [{ sack: 1 as unknown as boolean }, "sack must be true or false: 1"],
  [{ ecn: "yes" as "accept" }, 'ecn must be true, false or "accept": yes'],
  [{ congestionControl: "bbr" as "cubic" }, 'congestionControl must be "cubic", "reno" or a function: bbr'],
];

Deno.test("wrong options of a stack, a connection and a listener throw a RangeError that names them, and nothing was sent", async () => {
  const [left] = cable();
  using stack = new NetStack(left, { address: "10.0.0.1/24" });
  const before = stack.statistics;
  for (const [options, message] of WRONG) {
    assertThrows(() => stack.listen({ port: 7, ...options }), RangeError, message);
    await assertRejects(() => stack.connect({ hostname: "10.0.0.2", port: 7, ...options }), RangeError, message);
    assertThrows(() => new NetStack(cable()[0], { tcp: options }), RangeError, message);
  }
  const data: ConnectOptions = { hostname: "10.0.0.2", port: 7, initialData: "text" as unknown as Uint8Array };
  await assertRejects(() => stack.connect(data), TypeError, "initialData must be a Uint8Array");
  await assertRejects(() => stack.connect({ ...data, initialData: new Uint8Array(65_537) }), RangeError, "at most 65536 bytes");
  assertEquals(stack.statistics.tcp, before.tcp);
  assertEquals(stack.statistics.internet.ip.sent, before.internet.ip.sent);
});

Deno.test("initialData: behind the handshake at first, with the SYN as soon as the server has given its cookie", async () => {
  const [left, right] = cable();
  using server = new NetStack(left, { address: "10.0.0.1/24", tcp: { fastOpen: true } });
  using client = new NetStack(right, { address: "10.0.0.2/24" });
  using listener = server.listen({ port: 7 });
  for (const withSyn of [0, 1, 2]) {
    const [conn, accepted] = await Promise.all([
      client.connect({ hostname: "10.0.0.1", port: 7, initialData: new TextEncoder().encode("hello") }),
      listener.accept(),
    ]);
    const buffer = new Uint8Array(10);
    assertEquals(await accepted.read(buffer), 5);
    assertEquals(new TextDecoder().decode(buffer.subarray(0, 5)), "hello");
    assertEquals(client.statistics.tcp.fastOpens, withSyn);
    conn.close();
    accepted.close();
  }
});
