/**
 * Resets: for segments that belong to nothing, and for connections that are given up (RFC 9293 3.5.2).
 *
 * @module
 */
import type { Packet, Path, SendOptions } from "../ip/types.ts";
import { PROTO_TCP } from "../ip/types.ts";
import { sealChecksum } from "../ip/seal.ts";
import * as wire from "../wire/tcp.ts";
import type { Segment } from "../wire/tcp.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

/** Timestamps of the reset that is sent next. */
let stamped = false;
let stamp = 0;
let echo = 0;

const RESET_OPTIONS: SendOptions = { ttl: 64, tos: 0, dontFragment: true };

function send(tcp: Tcp, path: Path, ports: number, seq: number, ack: number, flags: number): void {
  const { tx } = tcp.ip;
  tx.reset(wire.HEADER_LENGTH);
  let length = wire.HEADER_LENGTH;
  if (stamped) {
    wire.emitTimestamps(tx.memory.view, tx.offset + length, stamp, echo);
    length += wire.TIMESTAMPS_LENGTH;
    stamped = false;
  }
  tx.length = length;
  wire.emit(tx.memory.view, tx.offset, ports, seq, ack, length, flags, 0);
  sealChecksum(tx, path, PROTO_TCP, wire.CHECKSUM);
  tcp.ip.send(path, PROTO_TCP, tx, RESET_OPTIONS);
  tcp.statistics.resetsSent++;
  tcp.statistics.segmentsSent++;
}

/** Answers a segment in the way of RFC 9293 3.10.7.1. */
function answer(tcp: Tcp, path: Path, ports: number, seg: Segment): void {
  //= rfc7323#5.2
  // In the <RST> segment, SEG.TSecr SHOULD be set to SEG.TSval from the incoming segment and SEG.TSval SHOULD be set to zero.
  stamped = seg.hasTimestamps;
  stamp = 0;
  echo = seg.tsVal;
  if ((seg.flags & wire.ACK) !== 0) {
    // If the ACK bit is on, <SEQ=SEG.ACK><CTL=RST>
    send(tcp, path, ports, seg.ack, 0, wire.RST);
    return;
  }
  // If the ACK bit is off, sequence number zero is used, <SEQ=0><ACK=SEG.SEQ+SEG.LEN><CTL=RST,ACK>
  const length = seg.textLength + ((seg.flags & wire.SYN) !== 0 ? 1 : 0) + ((seg.flags & wire.FIN) !== 0 ? 1 : 0);
  send(tcp, path, ports, 0, (seg.seq + length) | 0, wire.RST | wire.ACK);
}

/** For a segment to a port that nobody listens on, or that a listener cannot use. */
export function resetStray(tcp: Tcp, packet: Packet, seg: Segment): void {
  const path = tcp.ip.path(packet.dstKey, packet.srcKey);
  if (typeof path === "number") tcp.statistics.noPath++;
  else answer(tcp, path, (seg.dstPort << 16) | seg.srcPort, seg);
}

/** For a segment that shows the peer to be in another connection than ours. */
export function resetFor(tcp: Tcp, path: Path, tcb: Tcb, seg: Segment): void {
  answer(tcp, path, (tcb.localPort << 16) | tcb.remotePort, seg);
}

/** Ends our own connection: <SEQ=SND.NXT><CTL=RST>, with the ACK that Linux adds. */
export function sendReset(tcp: Tcp, tcb: Tcb): void {
  if (tcb.path.stale) tcp.renewPath(tcb);
  //= rfc7323#5.2
  // If an <RST> is being generated because of a user abort, and Snd.TS.OK is set, then a Timestamps option SHOULD be included in
  // the <RST>.
  stamped = tcb.timestamps;
  stamp = tcp.timestamp(tcb);
  echo = tcb.tsRecent;
  send(tcp, tcb.path, (tcb.localPort << 16) | tcb.remotePort, tcb.sndNxt, tcb.rcvNxt, wire.RST | wire.ACK);
}
