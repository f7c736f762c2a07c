/** What the tests of simulated networks share: two hosts and a link, and a transfer that is checked. */
import { assertEquals } from "@std/assert";
import { type NetStack, Network, type NetworkLink, type NetworkLinkOptions, type NetworkOptions } from "../../mod.ts";

/** Two hosts on a link. */
export interface LinkedPair extends Disposable {
  net: Network;
  alice: NetStack;
  bob: NetStack;
  link: NetworkLink;
}

/** Sends `bytes` bytes from `from` to `to`, and checks all of them. */
export async function transfer(from: NetStack, to: NetStack, hostname: string, bytes: number): Promise<void> {
  using listener = to.listen({ port: 7 });
  const [conn, accepted] = await Promise.all([from.connect({ hostname, port: 7 }), listener.accept()]);
  const sending = (async () => {
    const chunk = new Uint8Array(16_384).map((_, i) => i * 7);
    for (let sent = 0; sent < bytes;) sent += await conn.write(chunk.subarray(sent % 16_384, (sent % 16_384) + bytes - sent));
    await conn.closeWrite();
  })();
  let received = 0;
  const buffer = new Uint8Array(65_536);
  for (let count; (count = await accepted.read(buffer)) !== null;) {
    for (let i = 0; i < count; i++) {
      if (buffer[i] !== (((received + i) % 16_384) * 7 & 0xff)) throw new Error(`wrong byte at ${received + i}`);
    }
    received += count;
  }
  assertEquals(received, bytes);
  await sending;
  conn.close();
  accepted.close();
}

/** alice and bob, and a link between them. */
export function pair(conditions: NetworkLinkOptions = {}, options: NetworkOptions = {}): LinkedPair {
  const net = new Network(options);
  const alice = net.host("alice", { address: "10.0.0.1/24" });
  const bob = net.host("bob", { address: "10.0.0.2/24" });
  return { net, alice, bob, link: net.link(alice, bob, conditions), [Symbol.dispose]: () => net.close() };
}
