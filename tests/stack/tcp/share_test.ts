import { assert, assertEquals } from "@std/assert";
import type { Listener } from "../../../stack/tcp/listener.ts";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";

Deno.test("connections on a device with a short queue share it: their windows together stay below", () => {
  const frames = 200;
  const pair = new TcpPair({ delayMs: 2, rxQueueFrames: frames });
  const listener = pair.tcps[1].listen(0, 80, 16) as Listener;
  const clients: Tcb[] = [], servers: Tcb[] = [];
  for (let i = 0; i < 8; i++) {
    clients.push(pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now) as Tcb);
    pair.run(20);
    servers.push(listener.accept() as Tcb);
  }
  const bytes = new Uint8Array(65536), sink = new Uint8Array(1 << 20);
  let worst = 0;
  const start = pair.now;
  pair.run(3000, () => {
    for (const client of clients) while (client.send(bytes, 0, bytes.length) > 0);
    for (const server of servers) while (server.receive(sink, 0, sink.length) > 0);
    pair.flush();
    const open = servers.reduce((sum, s) => sum + ((s.rcvEdge - s.rcvNxt) | 0), 0);
    if (pair.now - start > 500) worst = Math.max(worst, open);
    return false;
  });
  assert(worst > 0 && worst <= frames * 1460, `${worst} bytes offered, ${frames * 1460} in the queue`);
  for (const server of servers) assert(server.bytesReceived > 1_000_000);
  // One alone has it all.
  for (const client of clients.slice(1)) client.abort();
  pair.run(200, () => false);
  let most = 0;
  pair.run(1000, () => {
    while (clients[0].send(bytes, 0, bytes.length) > 0);
    while (servers[0].receive(sink, 0, sink.length) > 0);
    pair.flush();
    most = Math.max(most, (servers[0].rcvEdge - servers[0].rcvNxt) | 0);
    return false;
  });
  assert(most > 0.5 * frames * 1460 && most <= frames * 1460, `${most}`);
  assertEquals(clients[0].retransmissions, 0);
});
