/**
 * Connections in TIME-WAIT: bounded, the oldest goes first, and the rules by which a new connection takes the place of one.
 *
 * @module
 */
import { OK } from "../codes.ts";
import { ACK, RST, type Segment, SYN } from "../wire/tcp.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { EVENT_CLOSED, TIME_WAIT } from "./types.ts";

/** A connection of our own may take the place of one whose peer's timestamps are older than this (RFC 6191). */
const REUSE_AFTER_MS = 1000;

/** Numbers left between a connection in TIME-WAIT and the one that takes its place (Linux, tcp_twsk_unique). */
const ISS_GAP = 65_537;

export class TimeWaits {
  /** Whose place the connection that is made next takes. */
  #ended: Tcb | null = null;
  /** In the order they began to wait. */
  readonly #waiting = new Set<Tcb>();

  constructor(readonly tcp: Tcp) {}

  /** Enters TIME-WAIT, or starts its 2 MSL again. */
  enter(tcb: Tcb, now: number): void {
    const { tcp } = this;
    if (tcb.state !== TIME_WAIT) {
      tcb.state = TIME_WAIT;
      tcb.waitSince = now;
      if (this.#waiting.size >= tcp.limits.timeWaitMax) {
        tcp.statistics.timeWaitOverflow++;
        const [oldest] = this.#waiting;
        tcp.fail(oldest, OK);
      }
      this.#waiting.add(tcb);
      tcp.statistics.timeWait++;
      tcb.sendRing.free();
      tcp.orphans.delete(tcb);
      tcb.raise(EVENT_CLOSED);
    }
    tcb.rtoAt =
      tcb.persistAt =
      tcb.keepAliveAt =
      tcb.reorderAt =
        Infinity;
    //= rfc9293#3.6.1
    // When a connection is closed actively, it MUST linger in the TIME-WAIT state for a time 2xMSL (Maximum Segment Lifetime)
    // (MUST-13).
    tcb.waitAt = now + tcp.limits.timeWaitMs;
    tcp.schedule(tcb);
  }

  /** The wait is over, whatever the reason. */
  leave(tcb: Tcb): void {
    this.#waiting.delete(tcb);
    this.tcp.statistics.timeWait--;
  }

  /** Ends `old`, whose four-tuple the connection that is made next takes. */
  succeed(old: Tcb): void {
    this.tcp.statistics.timeWaitReused++;
    this.tcp.fail(old, OK);
    this.#ended = old;
  }

  //= rfc9293#3.6.1
  // However, it MAY accept a new SYN from the remote TCP endpoint to reopen the connection directly from TIME-WAIT state (MAY-2),
  // if it: (1) assigns its initial sequence number for the new connection to be larger than the largest sequence number it used
  // on the previous connection incarnation
  raiseIss(tcb: Tcb): void {
    const old = this.#ended;
    this.#ended = null;
    // Nobody but the peer of the old connection may learn from it where the new one begins.
    const same = old !== null && old.remoteKey === tcb.remoteKey && old.remotePort === tcb.remotePort &&
      old.localKey === tcb.localKey && old.localPort === tcb.localPort;
    if (!same) return;
    const floor = (old.sndNxt + ISS_GAP) | 0;
    if (((tcb.iss - floor) | 0) < 0) tcb.iss = floor;
  }

  /** A four-tuple that a connection of our own may take: free, or in a TIME-WAIT that timestamps let us leave (RFC 6191). */
  reusable(old: Tcb | null): boolean {
    return old === null || (old.state === TIME_WAIT && old.timestamps && this.tcp.now - old.waitSince > REUSE_AFTER_MS);
  }

  /** A SYN from the peer that may take the place of `tcb` (RFC 1122 4.2.2.13, RFC 6191). */
  renewedBy(tcb: Tcb, seg: Segment): boolean {
    if ((seg.flags & (SYN | ACK | RST)) !== SYN) return false;
    //= rfc6191#2
    // If the previous incarnation used timestamps and the timestamp of the SYN is greater than the last one seen, or equal
    // with a greater sequence number, the request SHOULD be accepted; an older timestamp makes it an old duplicate
    const age = tcb.timestamps && seg.hasTimestamps ? (seg.tsVal - tcb.tsRecent) | 0 : 0;
    return age > 0 || (age === 0 && ((seg.seq - tcb.rcvNxt) | 0) > 0);
  }
}
