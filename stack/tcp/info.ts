/**
 * The figures of a connection, as `ss -i` shows them.
 *
 * @module
 */
import { currentRto } from "./rtt.ts";
import type { Tcb } from "./tcb.ts";
import { STATE_NAMES, type TcpInfo } from "./types.ts";

export function tcpInfo(tcb: Tcb): TcpInfo {
  return {
    state: STATE_NAMES[tcb.state],
    localPort: tcb.localPort,
    remotePort: tcb.remotePort,
    rttMs: tcb.srttMs,
    rttVarianceMs: tcb.rttVarMs,
    minRttMs: tcb.minRttMs,
    rtoMs: currentRto(tcb),
    congestionControl: tcb.congestion.name,
    congestionWindow: tcb.cwnd,
    slowStartThreshold: tcb.ssthresh,
    sendMss: tcb.sendMss,
    receiveMss: tcb.receiveMss,
    inFlight: tcb.inFlight,
    sendWindow: tcb.sndWnd,
    receiveWindow: Math.max(0, (tcb.rcvEdge - tcb.rcvNxt) | 0),
    sendQueued: tcb.sendQueued,
    receiveQueued: tcb.receiveQueued,
    urgentPending: tcb.urgentPending,
    softError: tcb.softError,
    bytesSent: tcb.bytesSent,
    bytesAcked: tcb.bytesAcked,
    bytesReceived: tcb.bytesReceived,
    segmentsSent: tcb.segmentsSent,
    segmentsReceived: tcb.segmentsReceived,
    bytesRetransmitted: tcb.bytesRetransmitted,
    retransmissions: tcb.retransmissions,
    timeouts: tcb.timeouts,
    fastRecoveries: tcb.fastRecoveries,
    spuriousRecoveries: tcb.spuriousRecoveries,
    outOfOrder: tcb.outOfOrder,
    duplicateAcks: tcb.duplicateAcksSeen,
    sacksReceived: tcb.sacksReceived,
    dsacksReceived: tcb.dsacksReceived,
    windowScale: [tcb.sndWndShift, tcb.rcvWndShift],
    timestamps: tcb.timestamps,
    sack: tcb.sack,
    ecn: tcb.ecn,
  };
}
