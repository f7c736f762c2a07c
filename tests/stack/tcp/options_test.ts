import { assert, assertEquals } from "@std/assert";
import { ESTABLISHED } from "../../../stack/tcp/types.ts";
import { mss, Peer, SACK_OK, scale, type Seen, stamps } from "../../testing/tcp_peer.ts";

/** The kinds of the options of a segment, and the body of one of them. */
function kinds(seen: Seen): number[] {
  const found: number[] = [];
  for (let at = 0; at < seen.options.length; at += seen.options[at] < 2 ? 1 : seen.options[at + 1]) found.push(seen.options[at]);
  return found;
}

function body(seen: Seen, kind: number): number[] | null {
  for (let at = 0; at < seen.options.length; at += seen.options[at] < 2 ? 1 : seen.options[at + 1]) {
    if (seen.options[at] === kind) return [...seen.options.subarray(at + 2, at + seen.options[at + 1])];
  }
  return null;
}

const ALL = [...mss(1000), ...SACK_OK, ...stamps(1, 0), ...scale(7)];

Deno.test("options of the SYN: MSS, window scale, SACK permitted and timestamps, offered both ways and in no other segment", () => {
  //= rfc9293#3.1 type=test
  // A given TCP implementation can support any currently defined options, but the following options MUST be supported (MUST-4 --
  // note Maximum Segment Size Option support is also part of MUST-14 in Section 3.7.1):
  //= rfc9293#3.7.1 type=test
  // TCP endpoints MUST implement both sending and receiving the MSS Option (MUST-14).
  //= rfc9293#3.7.1 type=test
  // TCP implementations SHOULD send an MSS Option in every SYN segment when its receive MSS differs from the default 536 for IPv4
  // or 1220 for IPv6 (SHLD-5), and MAY send it always (MAY-3).
  //= rfc7323#2.2 type=test
  // Thus, a TCP that is prepared to scale windows SHOULD send the option, even if its own scale factor is 1 and the exponent 0.
  const opening = Peer.connecting();
  const [syn] = opening.out;
  assertEquals(kinds(syn).filter((kind) => kind > 1).sort(), [2, 3, 4, 8]);
  assertEquals(body(syn, 2), [0x05, 0xb4]); // 1460
  const server = new Peer();
  server.host.listen(0, 80, 1);
  const [synAck] = server.send({ flags: "S", seq: 0, ack: 0, options: ALL });
  //= rfc7323#2.3 type=test
  // If a TCP receives a <SYN> segment containing a Window Scale option, it SHOULD send its own Window Scale option in the
  // <SYN,ACK> segment.
  assertEquals([synAck.flags, kinds(synAck).filter((kind) => kind > 1).sort()], ["SA", [2, 3, 4, 8]]);
  //= rfc9293#3.2 type=test
  // This field may be sent in the initial connection request (i.e., in segments with the SYN control bit set) and MUST NOT be
  // sent in other segments (MUST-65).
  //= rfc2018#2 type=test
  // It MUST NOT be sent on non-SYN segments.
  const peer = Peer.accepted({ syn: ALL });
  const later = [
    ...peer.write(5000),
    ...peer.send({ data: 100, seq: 1 }),
    ...peer.pass(500),
    ...peer.after(() => peer.tcb.close()),
  ];
  assert(later.length > 4);
  for (const seen of later) {
    for (const kind of kinds(seen)) assert(![2, 3, 4].includes(kind), `${seen.flags} with option ${kind}`);
  }
});

Deno.test("the MSS that is offered: the MTU less both headers; what is sent: no more than the peer's, or 536", () => {
  //= rfc9293#3.7.1 type=test
  // MMS_R - 20 where MMS_R is the maximum size for a transport-layer message that can be received (and reassembled at the IP
  // layer) (MUST-67).
  //= rfc9293#3.7.3 type=test
  // As a result, when the effective MTU of an interface varies packet-to-packet, TCP implementations SHOULD use the smallest
  // effective MTU of the interface to calculate the value to advertise in the MSS Option (SHLD-6).
  for (const mtu of [68, 576, 1500, 9000, 65_535]) {
    const peer = Peer.connecting({ link: { mtu } });
    const [high, low] = body(peer.out[0], 2)!;
    assertEquals(high * 256 + low, mtu - 40);
  }
  const peer = Peer.accepted({ syn: mss(700) });
  assertEquals(peer.write(2100).map((s) => s.length), [700, 700, 700]);
});

Deno.test("an option may come in any segment, at any place, unknown ones too, and nothing is wrong", () => {
  //= rfc9293#3.1 type=test
  // A TCP implementation MUST be able to receive a TCP Option in any segment (MUST-5).
  //= rfc9293#3.1 type=test
  // A TCP implementation MUST (MUST-6) ignore without error any TCP Option it does not implement, assuming that the option has a
  // length field.
  //= rfc9293#3.2 type=test
  // There is no guarantee that senders will use this option, so receivers MUST be prepared to process options even if they do not
  // begin on a word boundary (MUST-64).
  const odd: number[][] = [
    [253, 4, 1, 2], // an experiment
    [1, 1, 1, 253, 2, 1, 30, 3, 7], // unknown ones behind an odd number of paddings
    [253, 3, 9, ...stamps(5000, 0).slice(2), 1, 1, 1], // timestamps that begin at byte 3
    [0, 99, 99, 99], // rubbish behind the end
    [...mss(50), ...scale(14), ...SACK_OK], // of a SYN, in a segment without one
  ];
  for (const options of odd) {
    const peer = Peer.accepted({ syn: [...mss(1000), ...SACK_OK, ...scale(7)] });
    const before = [peer.tcb.sendMss, peer.tcb.sndWndShift];
    //= rfc7323#2.2 type=test
    // A Window Scale option in a segment without a SYN bit MUST be ignored.
    peer.send({ data: 10, options });
    assertEquals([peer.tcb.receiveQueued, peer.tcb.state], [10, ESTABLISHED]);
    assertEquals([peer.tcb.sendMss, peer.tcb.sndWndShift], before);
    const fin = peer.send({ flags: "AF", seq: 11, options });
    assertEquals([fin[0].ack, peer.tcb.finReceived], [12, true]);
  }
});

Deno.test("behind the options there are zeros or no-operations, and the data begins on a word", () => {
  //= rfc9293#3.1 type=test
  // The content of the header beyond the End of Option List Option MUST be header padding of zeros (MUST-69).
  for (
    const without of [{}, { sack: false }, { timestamps: false }, { windowScale: false }, {
      windowScale: false,
      timestamps: false,
    }]
  ) {
    const peer = Peer.connecting({ config: { defaults: without } });
    const { options } = peer.out[0];
    assertEquals(options.length % 4, 0);
    const end = options.indexOf(0, options.length - 4);
    if (kinds(peer.out[0]).includes(0)) { for (let at = end; at < options.length; at++) assertEquals(options[at], 0); }
    assert(kinds(peer.out[0]).every((kind) => kind < 5 || kind === 8));
  }
});

Deno.test("window scale: in use when both SYNs carry it, at most 14, never for the window of a SYN", () => {
  //= rfc7323#2.2 type=test
  // This option is an offer, not a promise; both sides MUST send Window Scale options in their <SYN> segments to enable window
  // scaling in either direction.
  //= rfc7323#2.3 type=test
  // Upon receiving a <SYN> segment with a Window Scale option containing shift.cnt = S, a TCP MUST set Snd.Wind.Shift to S and
  // MUST set Rcv.Wind.Shift to R; otherwise, it MUST set both Snd.Wind.Shift and Rcv.Wind.Shift to zero.
  const plain = Peer.accepted({ syn: mss(1000), window: 1000 });
  assertEquals([plain.tcb.sndWndShift, plain.tcb.rcvWndShift], [0, 0]);
  const quiet = Peer.connected({ config: { defaults: { windowScale: false } }, syn: [...mss(1000), ...scale(7)], window: 1000 });
  assertEquals([quiet.tcb.sndWndShift, quiet.tcb.rcvWndShift, quiet.tcb.sndWnd], [0, 0, 1000]);
  for (const shift of [0, 1, 7, 14]) {
    const peer = new Peer({ window: 1000 });
    const listener = peer.host.listen(0, 80, 4);
    const [synAck] = peer.send({ flags: "S", seq: 0, ack: 0, options: [...mss(1000), ...scale(shift)] });
    //= rfc7323#2.3 type=test
    // The Window Scale option MUST be sent with shift.cnt = R, where R is the value that the TCP would like to use for its
    // receive window.
    const [ours] = body(synAck, 3)!;
    peer.seq = peer.ack = 1;
    peer.send({});
    if (typeof listener === "number") throw new Error("listen");
    const tcb = listener.accept();
    if (typeof tcb === "number") throw new Error("accept");
    //= rfc7323#2.3 type=test
    // The window field (SEG.WND) in the header of every incoming segment, with the exception of <SYN> segments, MUST be
    // left-shifted by Snd.Wind.Shift bits before updating SND.WND:
    //= rfc7323#2.3 type=test
    // The window field (SEG.WND) of every outgoing segment, with the exception of <SYN> segments, MUST be right-shifted by
    // Rcv.Wind.Shift bits:
    assertEquals([tcb.info().windowScale, tcb.info().sendWindow], [[shift, ours], 1000 * 2 ** shift]);
    const [ack] = [...peer.send({ data: 1000 }), ...peer.pass(50)];
    // The edge that is offered is the one that is kept, cut off at the scale.
    assertEquals(ack.window, Math.floor(tcb.info().receiveWindow / 2 ** ours));
  }
  //= rfc7323#2.3 type=test
  // Thus, the shift count MUST be limited to 14 (which allows windows of 2^30 = 1 GiB).
  //= rfc7323#2.3 type=test
  // If a Window Scale option is received with a shift.cnt value larger than 14, the TCP SHOULD log the error but MUST use 14
  // instead of the specified value.
  const beyond = Peer.accepted({ syn: [...mss(1000), ...scale(200)], window: 1 });
  assertEquals([beyond.tcb.sndWndShift, beyond.tcb.sndWnd], [14, 1 << 14]);
  const huge = Peer.connecting({ config: { defaults: { receiveBufferMax: 1 << 30 } } });
  assert(body(huge.out[0], 3)![0] <= 14);
});

Deno.test("windows are numbers without a sign, of 32 bits: 40,000 and a gigabyte alike", () => {
  //= rfc9293#3.1 type=test
  // The window size MUST be treated as an unsigned number, or else large window sizes will appear like negative windows and TCP
  // will not work (MUST-1).
  //= rfc9293#3.1 type=test
  // It is RECOMMENDED that implementations will reserve 32-bit fields for the send and receive window sizes in the connection
  // record and do all window computations with 32 bits (REC-1).
  const peer = Peer.accepted({ syn: mss(1000), window: 0xffff });
  assertEquals(peer.tcb.info().sendWindow, 65_535);
  const large = Peer.accepted({ syn: [...mss(1000), ...scale(14)], window: 0xffff });
  assertEquals(large.tcb.info().sendWindow, 65_535 * 2 ** 14);
  large.tcb.cwnd = 100_000;
  assertEquals(large.write(100_000).reduce((sum, s) => sum + s.length, 0), 100_000);
});
