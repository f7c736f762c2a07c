// Names over the stack's own UDP and TCP: answers, retries, forgeries, and what isn't asked at all.
import { assertEquals } from "@std/assert";
import { ManualClock, type TcpConn, type UdpConn } from "../../../mod.ts";
import { outcome, pair, writeAll } from "./worlds.ts";

/** An answer with one A record (or none), made byte by byte. */
function answerTo(query: Uint8Array, address: number[] | null, flags = 0x8180, rcode = 0): Uint8Array {
  let end = 12;
  while (query[end] !== 0) end += query[end] + 1;
  const question = query.subarray(12, end + 5);
  const record = address === null ? [] : [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, ...address];
  const head = [query[0], query[1], flags >> 8, flags & 0xf0 | rcode, 0, 1, 0, address === null ? 0 : 1, 0, 0, 0, 0];
  return Uint8Array.from([...head, ...question, ...record]);
}

function nameOf(query: Uint8Array): string {
  const labels: string[] = [];
  for (let at = 12; query[at] !== 0; at += query[at] + 1) {
    labels.push(new TextDecoder().decode(query.subarray(at + 1, at + 1 + query[at])));
  }
  return labels.join(".");
}

async function serveNames(socket: UdpConn, asked: string[]): Promise<void> {
  for await (const [query, from] of socket) {
    const name = nameOf(query);
    asked.push(name);
    if (name === "server.test") {
      // First a forgery with a wrong id, then rubbish.
      const forged = answerTo(query, [6, 6, 6, 6]);
      forged[1] ^= 1;
      await socket.send(forged, from);
      await socket.send(new Uint8Array(5), from);
      await socket.send(answerTo(query, [10, 0, 0, 1]), from);
    } else if (name === "long.test") {
      await socket.send(answerTo(query, null, 0x8380), from);
    } else if (name === "none.test") {
      await socket.send(answerTo(query, null, 0x8180, 3), from);
    } else if (name === "broken.test") {
      await socket.send(answerTo(query, null, 0x8180, 2), from);
    }
  }
}

async function serveLongNames(conn: TcpConn): Promise<void> {
  const query = new Uint8Array(512);
  const count = await conn.read(query) ?? 0;
  const answer = answerTo(query.subarray(2, count), [10, 0, 0, 9]);
  // In two pieces, to see that they are put together.
  await writeAll(conn, Uint8Array.of(answer.length >> 8, answer.length & 255, ...answer.subarray(0, 7)));
  await writeAll(conn, answer.subarray(7));
  conn.close();
}

Deno.test("names: answers by UDP and TCP, connect by name, and errors", async () => {
  using all = pair({ client: { address: "10.0.0.2/24", nameservers: ["10.0.0.1"] } });
  using socket = all.server.listenDatagram({ port: 53 });
  using listener = all.server.listen({ port: 53 });
  const asked: string[] = [];
  const serving = serveNames(socket, asked);
  const { client } = all;
  assertEquals(await client.resolve("server.test"), ["10.0.0.1"]);
  const accepting = listener.accept().then(serveLongNames);
  assertEquals(await client.resolve("long.test", "A"), ["10.0.0.9"]);
  await accepting;
  assertEquals(await outcome(() => client.resolve("none.test")), "NotFound -");
  assertEquals(await outcome(() => client.resolve("broken.test")), "Error -");
  assertEquals(asked, ["server.test", "long.test", "none.test", "broken.test", "broken.test"]);
  using web = all.server.listen({ port: 80 });
  const [server, conn] = await Promise.all([web.accept(), client.connect({ hostname: "server.test", port: 80 })]);
  assertEquals(conn.remoteAddr.hostname, "10.0.0.1");
  conn.close();
  server.close();
  assertEquals(await outcome(() => client.connect({ hostname: "none.test", port: 80 })), "Error -");
  assertEquals((await client.ping("server.test")).address, "10.0.0.1");
  socket.close();
  await serving;
});

Deno.test("names: literals and localhost are not asked, bad names and missing servers are errors", async () => {
  using all = pair();
  assertEquals(await all.client.resolve("10.9.8.7"), ["10.9.8.7"]);
  assertEquals(await all.client.resolve("localhost"), ["127.0.0.1"]);
  assertEquals(await outcome(() => all.client.resolve("example.test")), "NotFound -");
  assertEquals(await outcome(() => all.client.resolve("a..b")), "TypeError -");
  assertEquals(await outcome(() => all.client.resolve("example.test", "TYPE65" as "A")), "TypeError -");
  assertEquals(all.client.statistics.udp.sent, 0);
});

Deno.test("names: a server that is silent is asked twice, then it is a time-out; an abort ends it at once", async () => {
  const clock = new ManualClock();
  using all = pair({ client: { address: "10.0.0.2/24", nameservers: ["10.0.0.1"], clock, seed: 3 }, server: { clock, seed: 4 } });
  using _deaf = all.server.listenDatagram({ port: 53 });
  assertEquals(await clock.run(outcome(() => all.client.resolve("silent.test"))), "TimedOut -");
  assertEquals(clock.now(), 4000);
  assertEquals(all.client.statistics.udp.sent, 2);
  const abort = new AbortController();
  const waiting = outcome(() => all.client.resolve("silent.test", "A", { signal: abort.signal }));
  await clock.advanceAsync(100);
  abort.abort();
  assertEquals(await waiting, "AbortError -");
});
