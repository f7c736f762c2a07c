/**
 * TCP of one stack: the table of connections, the listeners, demultiplexing, and the clock's hand on all of them.
 *
 * @module
 */
import { EADDRNOTAVAIL, EAGAIN, ECONNABORTED, EINVAL, OK } from "../codes.ts";
import { type FrameMemory, NO_MEMORY, RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID } from "../device.ts";
import {
  ANY,
  CAST_UNICAST,
  type IpLayer,
  type Packet,
  type PacketError,
  type Path,
  PROTO_TCP,
  type SendOptions,
  type Transport,
} from "../ip/types.ts";
import { empty } from "../wire/copy.ts";
import { finish, sum } from "../wire/checksum.ts";
import * as wire from "../wire/tcp.ts";
import { Segment } from "../wire/tcp.ts";
import { activeOpen } from "./active.ts";
import { challenge } from "./challenge.ts";
import { earliest, expire, reschedule } from "./expire.ts";
import { FastOpenCache, fastOpenProved } from "./fast_open.ts";
import { updateSendMss, windowShift } from "./handshake.ts";
import { packetError } from "./icmp_error.ts";
import { segmentArrives } from "./input.ts";
import { DEFAULT_LIMITS, type TcpConfig, type TcpLimits } from "./limits.ts";
import { Listener } from "./listener.ts";
import { ListenerTable } from "./listeners.ts";
import { Orphans } from "./orphans.ts";
import { output } from "./output.ts";
import { noConnection } from "./passive.ts";
import { PortAllocator } from "./ports.ts";
import { Prunable } from "./prune.ts";
import { sendReset } from "./reset.ts";
import { RingPool } from "./ring.ts";
import { Secret } from "./secret.ts";
import { ReceiveShare } from "./share.ts";
import { Spares } from "./spares.ts";
import { Starving } from "./starving.ts";
import { noStatistics } from "./statistics.ts";
import { ConnectionTable } from "./table.ts";
import { Tcb } from "./tcb.ts";
import { TimeWaits } from "./time_wait.ts";
import { TimerHeap } from "./timers.ts";
import {
  CLOSED,
  CLOSING,
  EVENT_CLOSED,
  EVENT_ERROR,
  EVENT_READABLE,
  EVENT_WRITABLE,
  FIN_WAIT_2,
  LAST_ACK,
  LISTEN,
  SYN_SENT,
  type TcpLayer,
  type TcpListenSocket,
  type TcpOptions,
  type TcpSocket,
  type TcpStatistics,
  TIME_WAIT,
} from "./types.ts";

export class Tcp implements TcpLayer, Transport {
  readonly ready: (TcpSocket | TcpListenSocket)[] = [];
  readonly statistics: TcpStatistics = noStatistics();
  readonly limits: TcpLimits;
  readonly pool: RingPool;
  readonly table: ConnectionTable<Tcb>;
  readonly secret: Secret;
  readonly fastOpenCache: FastOpenCache = new FastOpenCache();
  /** Of the frame that is sent now. */
  readonly sendOptions: SendOptions = { ttl: 64, tos: 0, dontFragment: true };
  readonly share: ReceiveShare = new ReceiveShare();
  readonly spares: Spares = new Spares();
  readonly starving: Starving = new Starving();
  readonly prunable: Prunable = new Prunable(this);
  readonly orphans: Orphans = new Orphans(this);
  /** Time of the present call: milliseconds, and microseconds as a wrapping int32. */
  now = 0;
  nowUs = 0;
  /** Holds the frame that is being processed. */
  frame: FrameMemory = NO_MEMORY;
  readonly finAckDelayed: boolean;
  readonly defaults: TcpOptions;
  readonly #onFault: TcpConfig["onFault"];
  readonly #segment = new Segment();
  readonly listeners: ListenerTable = new ListenerTable();
  intercept: TcpLayer["intercept"] = null;
  readonly #timers = new TimerHeap<Tcb>();
  readonly ports: PortAllocator;
  readonly timeWaits: TimeWaits = new TimeWaits(this);
  #dirty: Tcb[] = [];
  #flushing: Tcb[] = [];

  constructor(readonly ip: IpLayer, config: TcpConfig = {}) {
    this.limits = { ...DEFAULT_LIMITS, ...config.limits };
    this.defaults = config.defaults ?? {};
    this.#onFault = config.onFault;
    this.finAckDelayed = config.finAckDelayed === true;
    const { memoryMax, memoryKept, memoryReserved } = this.limits;
    this.pool = new RingPool(memoryMax, memoryKept, Math.min(memoryReserved, Math.floor(memoryMax / 8)));
    this.secret = new Secret(() => ip.random32());
    this.table = new ConnectionTable(ip.random32() | 0);
    this.ports = new PortAllocator(this.secret, () => ip.random32());
    ip.register(PROTO_TCP, this);
  }

  get dirty(): boolean {
    return this.#dirty.length > 0;
  }

  // ---- The socket calls.

  listen(localKey: number, port: number, backlog: number, options: TcpOptions = {}): Listener | number {
    if (!(port >= 0 && port <= 65535) || !(backlog >= 1)) return EINVAL;
    if (localKey !== ANY && !this.ip.isLocal(localKey)) return EADDRNOTAVAIL;
    const chosen = this.listeners.choose(localKey, port, this.ports);
    if (chosen < 0) return chosen;
    const merged = { ...this.defaults, ...options };
    const listener = new Listener(this, localKey, chosen, Math.min(backlog, this.limits.backlogMax), merged);
    this.listeners.add(listener);
    this.statistics.listeners++;
    return listener;
  }

  unlisten(listener: Listener): void {
    this.listeners.remove(listener);
    this.statistics.listeners--;
  }

  connect(
    localKey: number,
    localPort: number,
    remoteKey: number,
    remotePort: number,
    now: number,
    options: TcpOptions = {},
  ): Tcb | number {
    this.#at(now);
    return activeOpen(this, localKey, localPort, remoteKey, remotePort, options);
  }

  /** A connection in the table, with its initial sequence number; it takes the place of one in TIME-WAIT. */
  make(path: Path, localKey: number, localPort: number, remoteKey: number, remotePort: number, options: TcpOptions): Tcb {
    const old = this.table.get(localKey, localPort, remoteKey, remotePort);
    if (old !== null) this.timeWaits.succeed(old);
    const tcb = new Tcb(this, path, localKey, localPort, remoteKey, remotePort, options);
    //= rfc6528#3
    // ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M the 4 microsecond timer
    tcb.iss = (this.secret.hash(localKey, remoteKey, (localPort << 16) | remotePort, 1) + Math.floor(this.now * 250)) | 0;
    this.timeWaits.raiseIss(tcb);
    tcb.tsOffset = this.timestampOffset(localKey, remoteKey);
    tcb.rcvWndShift = windowShift(tcb.receiveBufferMax);
    this.table.add(tcb);
    this.statistics.connections++;
    return tcb;
  }

  // ---- Frames.

  input(packet: Packet, now: number): void {
    const { statistics } = this;
    statistics.segmentsReceived++;
    if (packet.cast !== CAST_UNICAST) {
      //= rfc9293#3.9.2.3
      // A TCP implementation MUST silently discard an incoming SYN segment that is addressed to a broadcast or multicast address
      statistics.badHeader++;
      return;
    }
    const seg = this.#segment;
    const { view } = packet.memory;
    if (!wire.parse(view, packet.offset, packet.length, seg) || seg.srcPort === 0 || seg.dstPort === 0) {
      statistics.badHeader++;
      return;
    }
    //= rfc9293#3.1
    // The sender MUST generate it (MUST-2) and the receiver MUST check it (MUST-3).
    if (
      (packet.flags & (RX_CHECKSUM_VALID | RX_CHECKSUM_PARTIAL)) === 0 &&
      finish(sum(view, packet.offset, packet.length, packet.pseudoSum)) !== 0
    ) {
      statistics.badChecksum++;
      return;
    }
    if (seg.badOptions) statistics.badOptions++;
    this.#at(now);
    seg.congestionExperienced = (packet.tos & 3) === 3;
    this.frame = packet.memory;
    const tcb = this.table.get(packet.dstKey, seg.dstPort, packet.srcKey, seg.srcPort);
    if (tcb !== null && !(tcb.state === TIME_WAIT && this.#renews(tcb, seg))) segmentArrives(this, tcb, seg, now);
    else noConnection(this, packet, seg, now);
  }

  #renews(tcb: Tcb, seg: Segment): boolean {
    const listener = this.intercept !== null || this.listeners.find(tcb.localKey, tcb.localPort) !== null;
    return listener && this.timeWaits.renewedBy(tcb, seg);
  }

  error(error: PacketError, now: number): boolean {
    this.#at(now);
    return packetError(this, error);
  }

  // ---- What the machine calls.

  /** Wants output at the next flush. */
  mark(tcb: Tcb): void {
    if (tcb.queued || tcb.state === CLOSED || tcb.state === LISTEN) return;
    tcb.queued = true;
    this.#dirty.push(tcb);
  }

  acknowledgeNow(tcb: Tcb): void {
    tcb.ackNow = true;
    this.mark(tcb);
  }

  challenge(tcb: Tcb, now: number): void {
    challenge(this, tcb, now);
  }

  /** The acknowledgment for a segment that was not acceptable: limited unless it carries data (Linux, tcp_oow_rate_limited). */
  duplicateAck(tcb: Tcb, seg: Segment, now: number): void {
    if (seg.textLength > 0) this.acknowledgeNow(tcb);
    else challenge(this, tcb, now);
  }

  //= rfc7323#7.1
  // It is therefore RECOMMENDED to generate a random, per-connection offset to be used with the clock source when generating the
  // Timestamps option value (see Section 5.4).
  timestampOffset(localKey: number, remoteKey: number): number {
    return this.secret.hash(localKey, remoteKey, 0, 2);
  }

  /** Milliseconds as the timestamps option carries them. */
  timestamp(tcb: Tcb): number {
    return (this.now + tcb.tsOffset) | 0;
  }

  schedule(tcb: Tcb): void {
    this.#timers.schedule(tcb, earliest(tcb));
  }

  renewPath(tcb: Tcb): void {
    const path = this.ip.renew(tcb.path);
    if (typeof path === "number") {
      tcb.softError = path;
      return;
    }
    tcb.path = path;
    updateSendMss(tcb);
  }

  armKeepAlive(tcb: Tcb): void {
    tcb.keepAliveProbes = 0;
    tcb.keepAliveAt = Math.max(this.now, tcb.lastReceivedAt) + tcb.keepAliveIdleMs;
    this.schedule(tcb);
  }

  /** Nobody holds the socket: FIN-WAIT-2 must not last for ever (Linux, tcp_fin_timeout). */
  orphaned(tcb: Tcb): void {
    if (tcb.state !== FIN_WAIT_2) return;
    tcb.waitAt = this.now + this.limits.finWaitMs;
    this.schedule(tcb);
  }

  enterTimeWait(tcb: Tcb, now: number): void {
    this.timeWaits.enter(tcb, now);
  }

  /** Ends the connection without a word to the peer. `code` 0 for a normal end. */
  fail(tcb: Tcb, code: number): void {
    if (tcb.state === CLOSED) return;
    if (tcb.state === TIME_WAIT) this.timeWaits.leave(tcb);
    else if (code !== OK && tcb.state <= 3) this.statistics.failedAttempts++;
    tcb.state = CLOSED;
    tcb.error = code;
    this.table.delete(tcb);
    this.#timers.remove(tcb);
    this.statistics.connections--;
    tcb.sendRing.free();
    if (tcb.sent !== null) this.spares.returnSent(tcb.sent);
    tcb.sent = null;
    this.releaseRanges(tcb);
    this.starving.forget(tcb);
    this.orphans.delete(tcb);
    // What the peer sent before it reset the connection is thrown away, as Linux does; after a normal end it can still be read.
    if (code !== OK || tcb.orphan || tcb.receiveQueued === 0) tcb.receiveRing.free();
    if (tcb.fastOpenPending !== null) fastOpenProved(tcb);
    if (tcb.listener !== null) tcb.listener.forget(tcb);
    tcb.listener = null;
    tcb.raise(EVENT_CLOSED | EVENT_READABLE | EVENT_WRITABLE | (code !== OK ? EVENT_ERROR : 0));
  }

  /** RFC 9293 3.10.5: a reset to the peer in every state that has one, then the end. */
  abort(tcb: Tcb, code: number): void {
    //= rfc9293#3.10.5
    // CLOSING STATE, LAST-ACK STATE, TIME-WAIT STATE: Respond with "ok" and delete the TCB
    const closing = (tcb.state === CLOSING || tcb.state === LAST_ACK) && tcb.finSent;
    if (!closing && tcb.state !== CLOSED && tcb.state !== SYN_SENT && tcb.state !== TIME_WAIT) sendReset(this, tcb);
    this.fail(tcb, code);
  }

  /** A user's congestion control threw, or its maker did, or that made none; the connection goes on with one of ours. */
  controlFault(fault: unknown): void {
    this.statistics.controlFaults++;
    this.#onFault?.(fault);
  }

  releaseRanges(tcb: Tcb): void {
    if (tcb.ranges !== null) this.spares.returnRanges(tcb.ranges);
    tcb.ranges = null;
    this.prunable.remove(tcb);
  }

  // ---- What the shell calls.

  flush(now: number): void {
    this.#at(now);
    this.starving.feed(this.pool.used);
    const list = this.#dirty;
    this.#dirty = this.#flushing;
    this.#flushing = list;
    for (let i = 0; i < list.length; i++) {
      const tcb = list[i];
      tcb.queued = false;
      if (output(this, tcb, now) === EAGAIN) {
        // The device is full: all that is left waits for its wake.
        this.mark(tcb); // unless its own output did, for what is left of its turn
        for (let rest = i + 1; rest < list.length; rest++) {
          list[rest].queued = false;
          this.mark(list[rest]);
        }
        break;
      }
    }
    empty(list);
  }

  nextDeadline(): number {
    return this.#timers.next();
  }

  advance(now: number): void {
    this.#at(now);
    for (let budget = this.#timers.size; budget > 0; budget--) {
      const tcb = this.#timers.pop(now);
      if (tcb === null) return;
      expire(this, tcb, now);
      reschedule(this, tcb);
    }
  }

  sockets(): Iterable<Tcb> {
    return this.table;
  }

  shutdown(code: number, reset: boolean, localKey: number = ANY): void {
    const meant = (key: number) => localKey === ANY || key === localKey;
    for (const listener of this.listeners.all()) if (meant(listener.localKey)) listener.close();
    for (const tcb of this.table) {
      if (!meant(tcb.localKey)) continue;
      if (reset) this.abort(tcb, code === OK ? ECONNABORTED : code);
      else this.fail(tcb, code);
    }
    if (localKey === ANY) this.#dirty.length = 0;
  }

  #at(now: number): void {
    this.now = now;
    this.nowUs = (now * 1000) | 0;
  }
}
