import { assertEquals } from "@std/assert";
import { ESTABLISHED, EVENT_URGENT } from "../../../stack/tcp/types.ts";
import { mss, Peer } from "../../testing/tcp_peer.ts";

/** What the owner was told since it looked last. */
function told(peer: Peer): [boolean, number] {
  const urgent = (peer.tcb.events & EVENT_URGENT) !== 0;
  peer.tcb.events = 0;
  return [urgent, peer.tcb.info().urgentPending];
}

Deno.test("urgent data: the owner is told of each advance, and how much is left to read", () => {
  //= rfc9293#3.8.5 type=test
  // A TCP implementation MUST (MUST-32) inform the application layer asynchronously whenever it receives an urgent pointer
  // and there was previously no pending urgent data, or whenever the urgent pointer advances in the data stream.
  const peer = Peer.accepted();
  told(peer);
  peer.send({ flags: "AU", urgent: 5, data: 10 });
  assertEquals(told(peer), [true, 5]);
  peer.send({ flags: "AU", urgent: 5, data: 10 }); // the same again
  assertEquals(told(peer), [false, 5]);
  peer.send({ flags: "AU", seq: 11, urgent: 20, data: 10 });
  assertEquals(told(peer), [true, 30]);
  //= rfc9293#3.8.5 type=test
  // The TCP implementation MUST (MUST-33) provide a way for the application to learn how much urgent data remains to be read
  // from the connection, or at least to determine whether more urgent data remains to be read [19].
  assertEquals([peer.read(12), told(peer)], [12, [false, 18]]);
  peer.send({ seq: 21, data: 10 });
  assertEquals([peer.read(), told(peer)], [18, [false, 0]]);
  peer.send({ flags: "AU", seq: 31, urgent: 0, data: 1 }); // points to nothing
  assertEquals(told(peer), [false, 0]);
  peer.send({ flags: "AU", seq: 32, urgent: 1, data: 1 });
  assertEquals(told(peer), [true, 2]);
});

Deno.test("urgent data: a pointer counts while the window is closed, and nothing is left of it after 2 GiB", () => {
  //= rfc9293#3.4 type=test
  // A TCP receiver MUST process the RST and URG fields of all incoming segments, even when the receive window is zero (MUST-66).
  const peer = Peer.accepted({ config: { defaults: { receiveBufferMax: 4096 } } });
  for (let seq = 1; seq < 4097; seq += 1024) peer.send({ seq, data: 1024 });
  told(peer);
  peer.send({ flags: "AU", seq: 4097, urgent: 7, data: 7 });
  assertEquals([told(peer), peer.tcb.receiveQueued], [[true, 4103], 4096]);
  peer.after(() => peer.read()); // and the window opens
  peer.send({ seq: 4097, data: 7 });
  peer.read();
  assertEquals(peer.tcb.urgent, false); // so that no number half the space away can look like one ahead
  peer.send({ seq: 4104, flags: "R" });
  assertEquals(peer.host.table.size, 0);
});

Deno.test("urgent data is sent with a pointer to the octet behind it, alone and again", () => {
  //= rfc9293#3.8.5 type=test
  // However, TCP implementations MUST still include support for the urgent mechanism (MUST-30).
  //= rfc9293#3.8.5 type=test
  // The urgent pointer MUST point to the sequence number of the octet following the urgent data (MUST-62).
  const peer = Peer.accepted({ syn: mss(1000), link: { segmentation: 60_000 } });
  const pointers: [number, number][] = [];
  const see = peer.pair.link.filter!;
  peer.pair.link.filter = (from, bytes) => {
    if ((bytes[13] & 32) !== 0) pointers.push([bytes.length - 20, (bytes[18] << 8) | bytes[19]]);
    return see(from, bytes);
  };
  const seen = peer.after(() => peer.tcb.sendUrgent(new Uint8Array(2500), 0, 2500));
  assertEquals(seen.map((s) => s.flags.includes("U")), [true, true, true]);
  assertEquals(pointers, [[1000, 2500], [1000, 1500], [500, 500]]);
  peer.pass(3000); // again, by the timer
  assertEquals(pointers[3], [1000, 2500]);
  peer.send({ ack: 2501 });
  assertEquals(peer.write(10).map((s) => s.flags), ["PA"]);
  //= rfc9293#3.8.5 type=test
  // A TCP implementation MUST support a sequence of urgent data of any length (MUST-31) [19].
  const long = Peer.accepted({ syn: mss(1000) });
  pointers.length = 0;
  const sees = long.pair.link.filter!;
  long.pair.link.filter = (from, bytes) => {
    pointers.push([bytes.length - 20, (bytes[18] << 8) | bytes[19]]);
    return sees(from, bytes);
  };
  long.after(() => long.tcb.sendUrgent(new Uint8Array(100_000), 0, 100_000));
  assertEquals([pointers[0], long.tcb.state], [[1000, 65_535], ESTABLISHED]);
});
