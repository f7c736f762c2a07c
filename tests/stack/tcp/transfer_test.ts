import { assertEquals } from "@std/assert";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CLOSED, TIME_WAIT } from "../../../stack/tcp/types.ts";
import { type LinkOptions, seeded, TcpPair } from "../../testing/tcp_pair.ts";

/** Sends `bytes` from `from` to `to` and returns what arrived, and when. */
function transfer(pair: TcpPair, from: Tcb, to: Tcb, bytes: Uint8Array, limitMs: number): { got: Uint8Array; ms: number } {
  const got = new Uint8Array(bytes.length + 1);
  let sent = 0;
  let received = 0;
  const start = pair.now;
  const work = () => {
    while (sent < bytes.length) {
      const n = from.send(bytes, sent, Math.min(bytes.length - sent, 65536));
      if (n <= 0) break;
      sent += n;
    }
    if (sent === bytes.length && !from.writeShut) from.shutdownWrite();
    for (;;) {
      const n = to.receive(got, received, got.length - received);
      if (n <= 0) break;
      received += n;
    }
    pair.flush();
    return to.finReceived && to.receiveQueued === 0;
  };
  pair.run(limitMs, work);
  return { got: got.subarray(0, received), ms: pair.now - start };
}

function check(link: LinkOptions, size: number, seed: number, limitMs: number): Tcb {
  const pair = new TcpPair(link, seed);
  const [client, server] = pair.connected();
  const random = seeded(seed + 99);
  const bytes = new Uint8Array(size).map(() => random() & 255);
  const { got } = transfer(pair, client, server, bytes, limitMs);
  assertEquals(got.length, bytes.length, `received ${got.length} of ${bytes.length}: ${JSON.stringify(client.info())}`);
  assertEquals(got, bytes);
  server.close();
  client.close();
  pair.run(200_000, () => pair.tcps[0].table.size + pair.tcps[1].table.size === 0);
  assertEquals([pair.tcps[0].table.size, pair.tcps[1].table.size], [0, 0]);
  assertEquals([pair.tcps[0].pool.used, pair.tcps[1].pool.used], [0, 0]);
  return client;
}

Deno.test("bulk data arrives whole over a clean link, plain and as super-frames", () => {
  const plain = check({ delayMs: 5 }, 3_000_000, 1, 600_000);
  assertEquals(plain.retransmissions, 0);
  const fat = check({ delayMs: 5, segmentation: 65535 }, 3_000_000, 2, 600_000);
  assertEquals(fat.retransmissions, 0);
});

for (const loss of [0.001, 0.01, 0.05, 0.1, 0.2, 0.3]) {
  Deno.test(`bulk data arrives whole at ${loss * 100} % loss, with reordering and duplication`, () => {
    for (let seed = 1; seed <= 20; seed++) {
      check({ delayMs: 10, loss }, 300_000, seed, 3_600_000);
      check({ delayMs: 10, loss, reorder: 0.1, duplicate: 0.05 }, 300_000, seed, 3_600_000);
      check({ delayMs: 10, loss, segmentation: 65535 }, 300_000, seed, 3_600_000);
    }
  });
}

Deno.test("without SACK and timestamps, NewReno brings the data through", () => {
  const pair = new TcpPair({ delayMs: 10, loss: 0.05 }, 7, [
    { defaults: { sack: false, timestamps: false } },
    {},
  ]);
  const [client, server] = pair.connected();
  const bytes = new Uint8Array(300_000).fill(7);
  assertEquals(client.sack, false);
  const { got } = transfer(pair, client, server, bytes, 3_600_000);
  assertEquals(got.length, bytes.length);
});

Deno.test("both ends close at once and both pass through TIME-WAIT", () => {
  const pair = new TcpPair({ delayMs: 10 });
  const [client, server] = pair.connected();
  client.close();
  server.close();
  pair.run(100);
  assertEquals([client.state, server.state], [TIME_WAIT, TIME_WAIT]);
  pair.run(120_000);
  assertEquals([client.state, server.state], [CLOSED, CLOSED]);
});
