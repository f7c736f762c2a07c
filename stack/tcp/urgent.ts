/**
 * The urgent mechanism (RFC 9293 3.8.5): a mark in the stream, in both directions. The bytes stay in the stream (RFC 6093);
 * the owner learns by EVENT_URGENT and `urgentPending` that there are some, and how far they go.
 *
 * @module
 */
import type { Segment } from "../wire/tcp.ts";
import type { Tcb } from "./tcb.ts";
import { EVENT_URGENT } from "./types.ts";

/** Number of the byte that the owner reads next. */
function nextRead(tcb: Tcb): number {
  return (tcb.rcvNxt - (tcb.finReceived ? 1 : 0) - tcb.receiveRing.count) | 0;
}

/** Sixth step of RFC 9293 3.10.7.4: RCV.UP <- max(RCV.UP, SEG.UP). */
export function urgentArrives(tcb: Tcb, seg: Segment): void {
  if (tcb.readShut || tcb.finReceived) return;
  const up = (seg.seq + seg.urgent) | 0;
  const ahead = (up - nextRead(tcb)) | 0;
  if (ahead <= 0) return; // read already
  //= rfc9293#3.8.5
  // A TCP implementation MUST (MUST-32) inform the application layer asynchronously whenever it receives an urgent pointer
  // and there was previously no pending urgent data, or whenever the urgent pointer advances in the data stream.
  if (urgentPending(tcb) > 0 && ((up - tcb.rcvUp) | 0) <= 0) return;
  tcb.urgent = true;
  tcb.rcvUp = up;
  tcb.raise(EVENT_URGENT);
}

//= rfc9293#3.8.5
// The TCP implementation MUST (MUST-33) provide a way for the application to learn how much urgent data remains to be read
// from the connection, or at least to determine whether more urgent data remains to be read [19].
export function urgentPending(tcb: Tcb): number {
  return tcb.urgent ? Math.max(0, (tcb.rcvUp - nextRead(tcb)) | 0) : 0;
}

/** The owner has read: behind the mark it is forgotten, before numbers wrap around to it. */
export function urgentRead(tcb: Tcb): void {
  if (urgentPending(tcb) === 0) tcb.urgent = false;
}

//= rfc9293#3.8.5
// The urgent pointer MUST point to the sequence number of the octet following the urgent data (MUST-62).
/** What was queued last is urgent. */
export function urgentSent(tcb: Tcb): void {
  tcb.sendingUrgent = true;
  tcb.sndUp = (tcb.sndUna + tcb.sendRing.count) | 0;
}

/** The urgent pointer of a segment that begins at `seq`, or 0. */
export function urgentPointer(tcb: Tcb, seq: number): number {
  if (((tcb.sndUp - tcb.sndUna) | 0) <= 0) tcb.sendingUrgent = false;
  const ahead = (tcb.sndUp - seq) | 0;
  return tcb.sendingUrgent && ahead > 0 ? Math.min(65_535, ahead) : 0;
}
