import { assert, assertEquals } from "@std/assert";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import type { Listener } from "../../../stack/tcp/listener.ts";
import { parse, Segment, SYN } from "../../../stack/wire/tcp.ts";
import { type LinkOptions, TcpPair } from "../../testing/tcp_pair.ts";

const ON = { defaults: { fastOpen: true } };
const DELAY = 50;

function open(pair: TcpPair, listener: Listener, data?: Uint8Array): { client: Tcb; accept: () => Tcb } {
  const client = pair.tcps[0].connect(0, 0, pair.ips[1].key, 80, pair.now) as Tcb;
  if (data !== undefined) assertEquals(client.send(data, 0, data.length), data.length);
  const accept = () => {
    let server: Tcb | number = -1;
    assert(pair.run(10_000, () => typeof (server = listener.accept()) !== "number"), "nothing to accept");
    return server as unknown as Tcb;
  };
  return { client, accept };
}

function warm(link: LinkOptions): { pair: TcpPair; listener: Listener } {
  const pair = new TcpPair({ delayMs: DELAY, ...link }, 1, [ON, ON]);
  const listener = pair.tcps[1].listen(0, 80, 16) as Listener;
  const { client, accept } = open(pair, listener);
  const server = accept();
  pair.run(500);
  client.close();
  server.close();
  pair.run(500);
  return { pair, listener };
}

Deno.test("Fast Open: request and answer in one round trip to a known server", () => {
  //= rfc7413#4.2.2 type=test
  // If the cookie is valid, the server ... passes the data to the application, and MAY send response data before the
  // handshake completes
  const { pair, listener } = warm({});
  const request = new TextEncoder().encode("what time is it?");
  const start = pair.now;
  const { client, accept } = open(pair, listener, request);
  const server = accept();
  assertEquals(pair.now - start, DELAY); // half a round trip: the SYN brought it
  const buffer = new Uint8Array(100);
  assertEquals(server.receive(buffer, 0, 100), request.length);
  assertEquals(buffer.subarray(0, request.length), request);
  const answer = new Uint8Array(5000).fill(9);
  assertEquals(server.send(answer, 0, answer.length), answer.length);
  const got = new Uint8Array(5000);
  let received = 0;
  pair.run(10_000, () => {
    received += Math.max(0, client.receive(got, received, got.length - received));
    pair.flush();
    return received === answer.length;
  });
  assertEquals(pair.now - start, 2 * DELAY);
  assertEquals(got, answer);
  assertEquals(client.bytesAcked, request.length);
  client.shutdownWrite();
  server.shutdownWrite();
  pair.run(1000);
  assertEquals([client.retransmissions, server.retransmissions, pair.tcps[0].statistics.resetsSent], [0, 0, 0]);
  pair.run(200_000);
  assertEquals([pair.tcps[0].table.size, pair.tcps[1].table.size], [0, 0]);
});

Deno.test("Fast Open: a lost SYN with data comes again without, and nothing is delivered twice", () => {
  //= rfc7413#4.1.3 type=test
  // If the SYN with data times out, the client should resend it without the option and data
  for (const lost of ["SYN", "SYN-ACK"]) {
    const { pair, listener } = warm({});
    let dropped = false;
    const syns: number[] = [];
    pair.link.filter = (from, bytes) => {
      const seg = new Segment();
      parse(new DataView(bytes.buffer), 0, bytes.length, seg);
      if ((seg.flags & SYN) === 0) return true;
      if (from === 0) syns.push(seg.textLength);
      if (dropped || from !== (lost === "SYN" ? 0 : 1)) return true;
      dropped = true;
      return false;
    };
    const request = new Uint8Array(1000).map((_, i) => i & 255);
    const { client, accept } = open(pair, listener, request);
    const server = accept();
    client.shutdownWrite();
    const got = new Uint8Array(3000);
    let received = 0;
    pair.run(20_000, () => {
      received += Math.max(0, server.receive(got, received, got.length - received));
      pair.flush();
      return server.finReceived && server.receiveQueued === 0;
    });
    assertEquals(received, request.length, lost);
    assertEquals(got.subarray(0, received), request);
    assertEquals(syns, [1000, 0]);
  }
});

Deno.test("Fast Open: a wrong cookie gets the ordinary handshake", () => {
  //= rfc7413#4.1.2 type=test
  // The cookie is an encrypted data string suitable to authenticate the source IP address of the SYN packet.
  const { pair, listener } = warm({});
  pair.tcps[0].fastOpenCache.put(pair.ips[1].key, new Uint8Array(8).fill(1), 1460);
  const request = new Uint8Array(100).fill(3);
  const start = pair.now;
  const { accept } = open(pair, listener, request);
  const server = accept();
  assertEquals(pair.now - start, 3 * DELAY);
  const buffer = new Uint8Array(200);
  pair.run(1000, () => server.receiveQueued === 100);
  assertEquals(server.receive(buffer, 0, 200), 100);
  assertEquals(server.fastOpened, false);
});
