import { assert, assertEquals, assertGreater } from "@std/assert";
import type { Tcb } from "../../../stack/tcp/tcb.ts";
import { CWR, ECE, parse, Segment, SYN } from "../../../stack/wire/tcp.ts";
import { type LinkOptions, TcpPair } from "../../testing/tcp_pair.ts";

function segmentOf(bytes: Uint8Array): Segment {
  const segment = new Segment();
  parse(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0, bytes.length, segment);
  return segment;
}

/** Writes `size` bytes on a warm connection and runs until they are acknowledged. */
function send(pair: TcpPair, from: Tcb, to: Tcb, size: number, limitMs: number): void {
  const bytes = new Uint8Array(size);
  const sink = new Uint8Array(65536);
  let sent = 0;
  const before = from.bytesAcked;
  const done = pair.run(limitMs, () => {
    if (sent < size) sent += Math.max(0, from.send(bytes, sent, size - sent));
    while (to.receive(sink, 0, sink.length) > 0);
    pair.flush();
    return from.bytesAcked - before >= size;
  });
  assert(done, JSON.stringify(from.info()));
}

Deno.test("a lost tail is repaired by a probe, without a timeout", () => {
  //= rfc8985#7.3 type=test
  // If both conditions are met, then the sender SHOULD transmit a previously unsent data segment, if one exists and the receive
  // window allows, and increment the FlightSize accordingly. … If such an unsent segment is not available, then the sender SHOULD
  // retransmit the highest-sequence segment sent so far and set TLP.is_retrans to true.
  //= rfc8985#7.4.2 type=test
  // If the TLP sender does not receive such an indication, then it MUST assume that the original data segment, the TLP
  // retransmission, or a corresponding ACK was lost for congestion control purposes. … The sender then SHOULD invoke a congestion
  // control response equivalent to a fast recovery.
  const link: LinkOptions = { delayMs: 20 };
  const pair = new TcpPair(link);
  const [client, server] = pair.connected();
  send(pair, client, server, 100_000, 10_000);
  const windowBefore = client.cwnd;
  let data = 0;
  link.filter = (from, bytes) => from !== 0 || segmentOf(bytes).textLength === 0 || ++data !== 10; // the tenth of ten
  const start = pair.now;
  send(pair, client, server, 10 * client.sendMss, 10_000);
  assertEquals(client.timeouts, 0);
  assertEquals(pair.tcps[0].statistics.tailProbes, 1);
  assert(pair.now - start < 500, `took ${pair.now - start} ms`);
  assert(client.cwnd < windowBefore + 10 * client.sendMss);
});

Deno.test("a timeout that only delay caused is undone (Eifel, timestamps)", () => {
  //= rfc3522#3.2 type=test
  // If the value of the Timestamp Echo Reply field is less than the value of RetransmitTS, the retransmission was spurious.
  const link: LinkOptions = { delayMs: 10 };
  const pair = new TcpPair(link);
  const [client, server] = pair.connected();
  send(pair, client, server, 200_000, 10_000);
  const before = client.cwnd;
  link.delayMs = 800; // the path is suddenly slow: the timer runs out, and then everything arrives
  send(pair, client, server, 5 * client.sendMss, 20_000);
  assertEquals(pair.tcps[0].statistics.spuriousRecoveries, 1);
  assert(client.cwnd >= before, `${client.cwnd} of ${before}`);
});

Deno.test("a timeout that only delay caused is undone (F-RTO, SACK without timestamps)", () => {
  //= rfc5682#3.1 type=test
  // if the ACK acknowledges data that was not retransmitted after the timeout, the timeout was spurious
  const link: LinkOptions = { delayMs: 10 };
  const pair = new TcpPair(link, 1, [{ defaults: { timestamps: false } }]);
  const [client, server] = pair.connected();
  send(pair, client, server, 200_000, 10_000);
  const before = client.cwnd;
  link.delayMs = 800;
  send(pair, client, server, 5 * client.sendMss, 20_000);
  assertEquals(pair.tcps[0].statistics.spuriousRecoveries, 1);
  assert(client.cwnd >= before, `${client.cwnd} of ${before}`);
});

Deno.test("ECN: asked for, a mark is echoed until CWR, and the window is reduced once for a window of data", () => {
  //= rfc9293#3.8.2 type=test
  // A TCP endpoint SHOULD implement ECN as described in RFC 3168 (SHLD-8).
  //= rfc3168#6.1.1 type=test
  // a SYN packet with both the ECE and CWR flags set is an "ECN-setup SYN packet"; a SYN-ACK packet with only the ECE flag
  // set and the CWR flag not set is an "ECN-setup SYN-ACK packet"
  //= rfc3168#6.1.2 type=test
  // The sending TCP ... SHOULD NOT react to congestion indications more than once every window of data
  //= rfc3168#6.1.3 type=test
  // the receiver sets the ECE flag in acknowledgments until it receives a CWR packet
  const flags: string[] = [];
  let cwr = 0;
  const link: LinkOptions = {
    delayMs: 10,
    filter: (from, bytes) => {
      const seg = segmentOf(bytes);
      if ((seg.flags & SYN) !== 0) flags.push(`${from}:${seg.flags & (ECE | CWR)}`);
      else if (from === 0 && (seg.flags & CWR) !== 0) cwr++;
      return true;
    },
  };
  const pair = new TcpPair(link, 1, [{ defaults: { ecn: true } }]);
  const [client, server] = pair.connected();
  assertEquals(flags, [`0:${ECE | CWR}`, `1:${ECE}`]);
  assertEquals([client.ecn, server.ecn], [true, true]);
  send(pair, client, server, 300_000, 10_000);
  const before = client.cwnd;
  let marks = 3;
  link.mark = () => marks-- > 0;
  send(pair, client, server, 40 * client.sendMss, 10_000);
  send(pair, client, server, client.sendMss, 10_000); // the next new segment tells that the window was reduced
  assertEquals(pair.tcps[0].statistics.ecnReductions, 1);
  assertEquals(cwr, 1);
  assertEquals(client.retransmissions, 0);
  assert(client.cwnd < before, `${client.cwnd} of ${before}`);
  assertEquals(server.ecnEcho, false);
});

Deno.test("ECN is not used with a peer that does not know it, and a lost ECN SYN is sent again without", () => {
  const pair = new TcpPair({}, 1, [{ defaults: { ecn: true } }, { defaults: { ecn: false } }]);
  const [client, server] = pair.connected();
  assertEquals([client.ecn, server.ecn], [false, false]);
  //= rfc3168#6.1.1.1 type=test
  // a host that receives no reply to an ECN-setup SYN within the normal SYN retransmission timeout interval MAY resend the
  // SYN and any subsequent SYN retransmissions with CWR and ECE cleared
  let syns = 0;
  const lossy = new TcpPair({ filter: (from, bytes) => from !== 0 || (segmentOf(bytes).flags & SYN) === 0 || ++syns > 1 }, 1, [
    { defaults: { ecn: true } },
  ]);
  const [other] = lossy.connected();
  assertEquals(other.ecn, false);
  assertEquals(syns, 2);
});

Deno.test("CUBIC grows past the old maximum, and HyStart++ leaves slow start before the queue overflows", () => {
  //= rfc5681#3.1 type=test
  // The initial value of ssthresh SHOULD be set arbitrarily high (e.g., to the size of the largest possible advertised window),
  // but ssthresh MUST be reduced in response to congestion.
  //= rfc9438#4.2 type=test
  // target = W_cubic(t + RTT), at least cwnd and at most 1.5 * cwnd; for each ACK cwnd += (target - cwnd) / cwnd
  const link: LinkOptions = { delayMs: 25 };
  const pair = new TcpPair(link);
  const [client, server] = pair.connected();
  assertEquals(client.info().congestionControl, "cubic");
  let drop = 0;
  link.filter = (from, bytes) => !(from === 0 && segmentOf(bytes).textLength > 0 && ++drop === 300);
  send(pair, client, server, 2_000_000, 60_000);
  assertEquals(client.fastRecoveries, 1);
  const afterLoss = client.ssthresh;
  send(pair, client, server, 60_000_000, 600_000);
  assertGreater(client.cwnd, afterLoss / 0.7);
});
