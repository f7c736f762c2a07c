/**
 * The user timeout option: RFC 5482. Each end says for how long it keeps unacknowledged data, and keeps it at least as
 * long as the other.
 *
 * @module
 */
import type { Segment } from "../wire/tcp.ts";
import type { Tcb } from "./tcb.ts";

/** RFC 5482 3.1: what is advertised when the user did not say (RFC 9293 3.8.3: five minutes), and the bounds of what is taken. */
const ADV_UTO_MS = 300_000;
const U_LIMIT_MS = 7_200_000;
const L_LIMIT_MS = 100_000;

/** The user timeout to say to the peer. */
export function advertisedTimeout(tcb: Tcb): number {
  return tcb.userTimeoutMs > 0 ? tcb.userTimeoutMs : ADV_UTO_MS;
}

/** The peer has said its own. */
export function takeUserTimeout(tcb: Tcb, seg: Segment): void {
  if (tcb.options.userTimeoutOption !== true || seg.userTimeoutMs < 0) return;
  //= rfc5482#3.1
  // USER_TIMEOUT = min(U_LIMIT, max(ADV_UTO, REMOTE_UTO, L_LIMIT))
  tcb.userTimeoutMs = Math.min(U_LIMIT_MS, Math.max(advertisedTimeout(tcb), seg.userTimeoutMs, L_LIMIT_MS));
}
