/**
 * Questions about states, and the moves that a FIN makes.
 *
 * @module
 */
import type { Tcb } from "./tcb.ts";
import { CLOSE_WAIT, ESTABLISHED, FIN_WAIT_1, LAST_ACK, SYN_RECEIVED, SYN_SENT } from "./types.ts";

/** The user may still write in this state. */
export function canSendData(state: number): boolean {
  return state === ESTABLISHED || state === CLOSE_WAIT;
}

/** The same, with the exceptions that Fast Open makes (RFC 7413): before the SYN goes out, and before its ACK has come. */
export function mayWrite(tcb: Tcb): boolean {
  return canSendData(tcb.state) || (tcb.state === SYN_RECEIVED && tcb.fastOpened) ||
    (tcb.state === SYN_SENT && tcb.options.fastOpen === true);
}

/**
 * The states of a CLOSE call (RFC 9293 3.10.4): taken when the FIN is queued behind the data; it goes out when the data has.
 */
export function moveAfterFinQueued(tcb: Tcb): void {
  // In SYN-RECEIVED the move waits until the connection is established (3.10.4: "queue for processing").
  if (tcb.state === ESTABLISHED) tcb.state = FIN_WAIT_1;
  else if (tcb.state === CLOSE_WAIT) tcb.state = LAST_ACK;
}
