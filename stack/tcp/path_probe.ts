/**
 * Packetization layer path MTU discovery: RFC 4821. For paths that drop large packets and never say so: after timeouts of
 * full segments the segment shrinks, and then single larger segments of real data find out how large it may be.
 *
 * @module
 */
import { EAGAIN } from "../codes.ts";
import { ACK } from "../wire/tcp.ts";
import { updateSendMss } from "./handshake.ts";
import { recordSent, sendSegment } from "./output.ts";
import type { SentQueue } from "./sent.ts";
import { OPEN, type Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

//= rfc4821#7.2
// eff_pmtu is first set to a base size that works almost everywhere (1024 bytes; Linux, tcp_base_mss)
const MSS_BASE = 1024;
/** Smallest segment that a black hole brings us to (Linux, tcp_mtu_probe_floor is 48; RFC 4821 7.7 speaks of 512). */
const MSS_FLOOR = 512;
/** Timeouts of the same full segment that mean a black hole (Linux, tcp_retries1). */
const BLACK_HOLE_TIMEOUTS = 3;
/** The search ends when it is this close (Linux, tcp_probe_threshold), and begins again after ten minutes. */
const SEARCH_CLOSE = 8;
const SEARCH_AGAIN_MS = 600_000;
/** Segments in the window before one is risked (Linux). */
const WINDOW_SEGMENTS = 11;

/** The retransmission timer ran out, after `retries` times without progress. */
export function suspectBlackHole(tcb: Tcb): void {
  const { sent } = tcb;
  if (sent === null || tcb.retries % BLACK_HOLE_TIMEOUTS !== BLACK_HOLE_TIMEOUTS - 1 || tcb.sendMss <= MSS_FLOOR) return;
  if (((sent.end(0) - sent.start(0)) | 0) < Math.min(tcb.sendMss, MSS_FLOOR)) return;
  if (tcb.sendMss <= MSS_BASE && tcb.mssClamp === 0) return; // hardly any path is that narrow and silent
  //= rfc4821#7.7
  // Full stop timeout: it is likely that the path has a black hole; the eff_pmtu is reduced and the search begins again
  if (tcb.mssClamp === 0) tcb.mssHigh = tcb.sendMss;
  tcb.mssClamp = tcb.sendMss > MSS_BASE ? MSS_BASE : MSS_FLOOR;
  tcb.mssSearchAt = 0;
  tcb.tcp.statistics.blackHoles++;
  updateSendMss(tcb);
}

/** True when the next new segment may be one of a larger size. */
export function probeWanted(tcb: Tcb, now: number): boolean {
  if (tcb.mssClamp === 0 || tcb.mtuProbeSize !== 0 || tcb.recovery !== OPEN || tcb.sackedBytes > 0) return false;
  if (now < tcb.mssSearchAt || tcb.cwnd < WINDOW_SEGMENTS * tcb.sendMss) return false;
  if (tcb.mssHigh - tcb.sendMss <= SEARCH_CLOSE) {
    tcb.mssSearchAt = now + SEARCH_AGAIN_MS;
    tcb.mssHigh = Math.max(tcb.mssHigh, tcb.path.interfaceMtu - tcb.path.ipHeaderLength - 40);
    return false;
  }
  const size = probeSize(tcb);
  const window = (tcb.sndUna + tcb.sndWnd - tcb.sndNxt) | 0;
  return tcb.unsent >= size && window >= size && tcb.cwnd - tcb.inFlight >= size;
}

function probeSize(tcb: Tcb): number {
  return (tcb.sendMss + tcb.mssHigh + 1) >> 1;
}

/** Sends one segment of the size to be tried. Returns what `sendSegment` says. */
export function sendMtuProbe(tcp: Tcp, tcb: Tcb, now: number): number {
  const size = probeSize(tcb);
  tcb.mtuProbeSize = size;
  const code = sendSegment(tcp, tcb, tcb.sndNxt, size, ACK, now);
  if (code === EAGAIN) {
    tcb.mtuProbeSize = 0;
    return code;
  }
  recordSent(tcp, tcb, size, false);
  tcb.mtuProbeEnd = tcb.sndNxt;
  tcp.statistics.mtuProbes++;
  return code;
}

/** The probe arrived: segments may be as large as it was. */
export function mtuProbeArrived(tcb: Tcb): void {
  tcb.mssClamp = tcb.mtuProbeSize;
  tcb.mtuProbeSize = 0;
  updateSendMss(tcb);
}

/**
 * Record `index` is lost. True if it is the probe: then its size was too large, and the network isn't congested.
 */
export function mtuProbeLost(tcb: Tcb, sent: SentQueue, index: number): boolean {
  //= rfc4821#7.3
  // If the probe is lost, the probe size becomes search_high; the loss of the probe is not an indication of congestion
  if (tcb.mtuProbeSize === 0 || sent.end(index) !== tcb.mtuProbeEnd) return false;
  tcb.mssHigh = tcb.mtuProbeSize - 1;
  tcb.mtuProbeSize = 0;
  return true;
}
