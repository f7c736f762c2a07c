/**
 * The SEND, RECEIVE and CLOSE calls (RFC 9293 3.10.2 to 3.10.4).
 *
 * @module
 */
import { EAGAIN, ENOTCONN, EPIPE, OK } from "../codes.ts";
import { mayWrite, moveAfterFinQueued } from "./states.ts";
import type { Tcb } from "./tcb.ts";
import { CLOSE_WAIT, CLOSED, ESTABLISHED, SYN_RECEIVED, SYN_SENT, TIME_WAIT } from "./types.ts";
import { urgentRead } from "./urgent.ts";
import { measureReader } from "./window.ts";

/** `TcpSocket.send`. */
export function sendBytes(tcb: Tcb, bytes: Uint8Array, offset: number, length: number): number {
  if (tcb.error !== 0) return tcb.error;
  if (tcb.writeShut) return EPIPE;
  if (!mayWrite(tcb)) return tcb.state === SYN_SENT || tcb.state === SYN_RECEIVED ? EAGAIN : ENOTCONN;
  // The limit follows the congestion window, so that a long fat path is filled and a short one costs little memory.
  tcb.sendLimit = Math.min(tcb.sendBufferMax, Math.max(tcb.sendLimit, 2 * tcb.cwnd));
  const n = Math.min(length, tcb.sendSpace);
  if (n < length) tcb.sendBlocked = true;
  if (n === 0) return 0;
  const ring = tcb.sendRing;
  const fits = tcb.tcp.prunable.send(tcb, n);
  if (fits < n) {
    tcb.sendBlocked = true;
    tcb.tcp.starving.add(tcb, tcb.tcp.pool.used);
    if (fits === 0) return 0;
  }
  ring.place(ring.count, bytes, offset, fits);
  ring.count += fits;
  tcb.tcp.mark(tcb);
  return fits;
}

/** `TcpSocket.receive`. */
export function receiveBytes(tcb: Tcb, into: Uint8Array, offset: number, length: number): number {
  const ring = tcb.receiveRing;
  if (ring.count === 0) {
    if (tcb.finReceived || tcb.readShut) return OK;
    return tcb.error !== 0 ? tcb.error : tcb.state === CLOSED ? ENOTCONN : EAGAIN;
  }
  const n = ring.take(into, offset, length);
  if (ring.count === 0 && (tcb.ranges === null || tcb.ranges.length === 0)) ring.free();
  if (tcb.urgent) urgentRead(tcb);
  measureReader(tcb, n, tcb.tcp.now);
  return n;
}

/** `TcpSocket.close`. */
export function closeSocket(tcb: Tcb, lingerMs?: number): void {
  if (tcb.orphan) return;
  tcb.orphan = true;
  if (tcb.state === CLOSED || tcb.state === TIME_WAIT) {
    tcb.receiveRing.free(); // what was not read until now never will be
    return;
  }
  //= rfc1122#4.2.2.13
  // If such a host issues a CLOSE call while received data is still pending in TCP, or if new data is received after
  // CLOSE is called, its TCP SHOULD send a RST to show that data was lost.
  if (lingerMs === 0 || tcb.receiveRing.count > 0 || tcb.state === SYN_SENT) return tcb.abort();
  tcb.writeShut = true;
  if (tcb.state === ESTABLISHED || tcb.state === CLOSE_WAIT || tcb.state === SYN_RECEIVED) moveAfterFinQueued(tcb);
  tcb.tcp.orphans.add(tcb);
  tcb.tcp.orphaned(tcb);
  tcb.tcp.mark(tcb);
}
