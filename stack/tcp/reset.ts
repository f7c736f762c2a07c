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

const RESET_OPTIONS: SendOptions = { ttl: 64, tos: 0, dontFragment: true };

function send(tcp: Tcp, path: Path, ports: number, seq: number, ack: number, flags: number): void {
  const { tx } = tcp.ip;
  tx.reset(wire.HEADER_LENGTH);
  wire.emit(tx.memory.view, tx.offset, ports, seq, ack, wire.HEADER_LENGTH, flags, 0);
  sealChecksum(tx, path, PROTO_TCP, wire.CHECKSUM);
  tcp.ip.send(path, PROTO_TCP, tx, RESET_OPTIONS);
  tcp.statistics.resetsSent++;
  tcp.statistics.segmentsSent++;
}

/** Answers a segment in the way of RFC 9293 3.10.7.1. */
function answer(tcp: Tcp, path: Path, ports: number, seg: Segment): void {
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
  send(tcp, tcb.path, (tcb.localPort << 16) | tcb.remotePort, tcb.sndNxt, tcb.rcvNxt, wire.RST | wire.ACK);
}
