import { assertEquals } from "@std/assert";
import { mss, Peer, SACK_OK, type Seen } from "../../testing/tcp_peer.ts";

const sacks = (seen: readonly Seen[]) => seen.filter((s) => s.options.includes(5) && s.options[2] === 5).length;

Deno.test("SACK is sent whenever there is a hole, to a peer that permits it, and never to one that doesn't", () => {
  //= rfc2018#4 type=test
  // If the data receiver generates SACK options under any circumstance, it SHOULD generate them under all permitted
  // circumstances.
  //= rfc2018#4 type=test
  // If the data receiver has not received a SACK-Permitted option for a given connection, it MUST NOT send SACK options on that
  // connection.
  for (const permitted of [true, false]) {
    const peer = Peer.accepted({ syn: [...mss(1000), ...(permitted ? SACK_OK : [])] });
    const acks: Seen[] = [];
    for (let i = 0; i < 20; i++) acks.push(...peer.send({ seq: 1001 + 1000 * i, data: 900 }));
    assertEquals([acks.length, sacks(acks)], [20, permitted ? 20 : 0]);
    // Data that goes out beside an acknowledgment which is owed has none, and the acknowledgment goes by itself.
    peer.out.length = 0;
    peer.tcb.send(new Uint8Array(500), 0, 500);
    peer.pair.deliver(0, peer.build({ seq: 22_000, data: 100 }));
    peer.pair.flush();
    assertEquals([peer.out.map((s) => s.length), sacks(peer.out)], permitted ? [[500, 0], 1] : [[500], 0]);
    assertEquals(sacks(peer.send({ seq: 1, data: 1000 })), permitted ? 1 : 0);
    for (let i = 0; i < 20; i++) peer.send({ seq: 1901 + 1000 * i, data: 100 });
    const whole = peer.send({ seq: 21_001, data: 2000 });
    assertEquals([whole.length, sacks(whole)], [1, 0]); // no hole, no block
  }
});
