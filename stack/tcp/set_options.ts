/**
 * Options of a connection that lives already.
 *
 * @module
 */
import { EINVAL, OK } from "../codes.ts";
import { wrongTcpOption } from "./check_options.ts";
import type { CongestionControl } from "./congestion.ts";
import { congestionControl, ownControl } from "./controls.ts";
import { updateSendMss } from "./handshake.ts";
import type { Tcb } from "./tcb.ts";
import type { TcpOptions } from "./types.ts";
import { CLOSED } from "./types.ts";

/** Those are settled by the SYN: later they would be a lie. */
const OF_THE_SYN: readonly (keyof TcpOptions)[] = [
  "windowScale",
  "timestamps",
  "sack",
  "ecn",
  "fastOpen",
  "userTimeoutOption",
];

/** A copy with what is given; what is undefined stays as it was. A listener and all that it accepts share one record. */
export function mergedOptions(before: TcpOptions, options: TcpOptions): TcpOptions {
  const merged = { ...before };
  for (const [name, value] of Object.entries(options)) {
    if (value !== undefined) Object.assign(merged, { [name]: value });
  }
  return merged;
}

/** Changes a connection's options. `EINVAL`, and nothing changed, when one is out of range or can be changed no more. */
export function setTcpOptions(tcb: Tcb, options: TcpOptions): number {
  if (wrongTcpOption(options) !== null) return EINVAL;
  if (tcb.state !== CLOSED && OF_THE_SYN.some((name) => options[name] !== undefined)) return EINVAL;
  let own: CongestionControl | null;
  try {
    own = ownControl(options.congestionControl);
  } catch (fault) {
    tcb.tcp.controlFault(fault);
    return EINVAL;
  }
  tcb.options = mergedOptions(tcb.options, options);
  const { keepAlive, keepAliveIdleMs, keepAliveIntervalMs, keepAliveCount } = options;
  if (options.noDelay !== undefined) tcb.setNoDelay(options.noDelay);
  if (
    keepAlive !== undefined || keepAliveIdleMs !== undefined || keepAliveIntervalMs !== undefined || keepAliveCount !== undefined
  ) {
    tcb.setKeepAlive(keepAlive ?? tcb.keepAlive, keepAliveIdleMs, keepAliveIntervalMs, keepAliveCount);
  }
  if (options.userTimeoutMs !== undefined) tcb.setUserTimeout(options.userTimeoutMs);
  // A limit that sinks below what is queued takes nothing back (RFC 9293 3.8.6: the window must not shrink).
  tcb.sendLimit = Math.min(tcb.sendLimit, tcb.sendBufferMax);
  tcb.receiveLimit = Math.min(tcb.receiveLimit, tcb.receiveBufferMax);
  if (options.maxSegmentSize !== undefined) updateSendMss(tcb);
  if (options.congestionControl !== undefined) tcb.congestion = own ?? congestionControl(tcb.tcp, options.congestionControl);
  return OK;
}
