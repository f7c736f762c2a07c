/**
 * ICMP errors about our segments: RFC 9293 3.9.2.2, RFC 5927.
 *
 * @module
 */
import { EMSGSIZE, ETIMEDOUT } from "../codes.ts";
import type { PacketError } from "../ip/types.ts";
import { markLost } from "./recovery.ts";
import type { Tcp } from "./tcp.ts";
import { CLOSED, EVENT_TROUBLE, SYN_RECEIVED, SYN_SENT } from "./types.ts";

/** Returns false when the quoted bytes are not of a segment that is in flight. */
export function packetError(tcp: Tcp, error: PacketError): boolean {
  if (error.length < 8) return false;
  const { view } = error.memory;
  const ports = view.getUint32(error.offset);
  const tcb = tcp.table.get(error.localKey, ports >>> 16, error.remoteKey, ports & 0xffff);
  if (tcb === null || tcb.state === CLOSED) return false;
  //= rfc5927#4.1
  // TCP should check that the TCP sequence number contained in the payload of the ICMP error message is within the range
  // SND.UNA =< SEG.SEQ < SND.NXT.
  const seq = view.getInt32(error.offset + 4);
  if (((seq - tcb.sndUna) | 0) < 0 || ((seq - tcb.sndNxt) | 0) >= 0) return false;
  if (error.code === EMSGSIZE) {
    const before = tcb.sendMss;
    tcp.renewPath(tcb);
    if (tcb.sendMss >= before) return true;
    //= rfc5681#3.1
    // Specifically, cwnd SHOULD be reduced by the ratio of the old segment size to the new segment size.
    tcb.cwnd = Math.max(tcb.sendMss, Math.floor(tcb.cwnd * tcb.sendMss / before));
    // What is out and too large was dropped on the way, and not for congestion: it goes again without slowing down
    // (RFC 1191 6.4).
    const { sent } = tcb;
    for (let i = 0; sent !== null && i < sent.length; i++) markLost(tcb, sent, i);
    tcb.rtoAt = Infinity;
    tcp.mark(tcb);
    return true;
  }
  // Once R1 was reached the silence itself is the reason: that a neighbour which fell silent answers no ARP either says no more.
  //= rfc9293#3.9.2.2
  // Since these Unreachable messages indicate soft error conditions, a TCP implementation MUST NOT abort the connection
  // (MUST-56), and it SHOULD make the information available to the application (SHLD-25).
  if (tcb.softError !== ETIMEDOUT) tcb.softError = error.code;
  tcb.raise(EVENT_TROUBLE);
  //= rfc9293#3.9.2.2 type=exception reason=anybody can forge them; in a synchronized state they are soft errors (RFC 5927 5.2), as on Linux
  // These are hard error conditions, so TCP implementations SHOULD abort the connection (SHLD-26).
  //= rfc5927#5.2 type=exception reason=hard errors end a connection that is being opened, as on Linux, and never one that is established
  // TCP should treat all of the hard errors as soft errors when they are received for connections in any of the synchronized
  // states; and no differently in the others.
  if (error.hard && (tcb.state === SYN_SENT || tcb.state === SYN_RECEIVED)) tcp.fail(tcb, error.code);
  return true;
}
