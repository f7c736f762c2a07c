/**
 * TCP of one stack: the table of connections, the listeners, demultiplexing, and the clock's hand on all of them.
 *
 * @module
 */
import { EADDRINUSE, EADDRNOTAVAIL, EAGAIN, ECONNABORTED, EINVAL, ENOBUFS, OK } from "../codes.ts";
import { RX_CHECKSUM_PARTIAL, RX_CHECKSUM_VALID } from "../device.ts";
import {
  ANY,
  CAST_UNICAST,
  type IpLayer,
  type Packet,
  type PacketError,
  type Path,
  PROTO_TCP,
  type Transport,
} from "../ip/types.ts";
import { finish, sum } from "../wire/checksum.ts";
import * as wire from "../wire/tcp.ts";
import { Segment } from "../wire/tcp.ts";
import { earliest, expire, reschedule } from "./expire.ts";
import { listenSyn, updateSendMss, windowShift } from "./handshake.ts";
import { packetError } from "./icmp_error.ts";
import { restartRto, segmentArrives, textAndFin } from "./input.ts";
import { DEFAULT_LIMITS, type TcpLimits } from "./limits.ts";
import { Listener } from "./listener.ts";
import { output } from "./output.ts";
import { PortAllocator } from "./ports.ts";
import { RangeSet } from "./ranges.ts";
import { resetFor, resetStray, sendReset } from "./reset.ts";
import { RingPool } from "./ring.ts";
import { Secret } from "./secret.ts";
import { SentQueue } from "./sent.ts";
import { noStatistics } from "./statistics.ts";
import { ConnectionTable } from "./table.ts";
import { Tcb } from "./tcb.ts";
import { TimerHeap } from "./timers.ts";
import {
  CLOSED,
  EVENT_CLOSED,
  EVENT_ERROR,
  EVENT_READABLE,
  EVENT_WRITABLE,
  FIN_WAIT_2,
  LISTEN,
  SYN_SENT,
  type TcpLayer,
  type TcpListenSocket,
  type TcpOptions,
  type TcpSocket,
  type TcpStatistics,
  TIME_WAIT,
} from "./types.ts";

/** How a TCP is made. */
export interface TcpConfig {
  /** Options of every connection that does not say otherwise. */
  defaults?: TcpOptions;
  limits?: Partial<TcpLimits>;
}

export class Tcp implements TcpLayer, Transport {
  readonly ready: (TcpSocket | TcpListenSocket)[] = [];
  readonly statistics: TcpStatistics = noStatistics();
  readonly limits: TcpLimits;
  readonly pool: RingPool;
  readonly table: ConnectionTable<Tcb>;
  readonly secret: Secret;
  /** Time of the present call: milliseconds, and microseconds as a wrapping int32. */
  now = 0;
  nowUs = 0;
  /** Bytes of the frame that is being processed. */
  frameBytes: Uint8Array = new Uint8Array(0);
  readonly #defaults: TcpOptions;
  readonly #segment = new Segment();
  readonly #listeners = new Map<number, Listener[]>();
  readonly #timers = new TimerHeap<Tcb>();
  readonly #ports: PortAllocator;
  /** In the order they began to wait: the first is the oldest. */
  readonly #timeWait = new Set<Tcb>();
  readonly #spareSent: SentQueue[] = [];
  readonly #spareRanges: RangeSet[] = [];
  #dirty: Tcb[] = [];
  #flushing: Tcb[] = [];

  constructor(readonly ip: IpLayer, config: TcpConfig = {}) {
    this.limits = { ...DEFAULT_LIMITS, ...config.limits };
    this.#defaults = config.defaults ?? {};
    this.pool = new RingPool(this.limits.memoryMax, this.limits.memoryKept);
    this.secret = new Secret(() => ip.random32());
    this.table = new ConnectionTable(ip.random32() | 0);
    this.#ports = new PortAllocator(this.secret, () => ip.random32());
    ip.register(PROTO_TCP, this);
  }

  get dirty(): boolean {
    return this.#dirty.length > 0;
  }

  // ---- The socket calls.

  listen(localKey: number, port: number, backlog: number, options: TcpOptions = {}): Listener | number {
    if (!(port >= 0 && port <= 65535) || !(backlog >= 1)) return EINVAL;
    if (localKey !== ANY && !this.ip.isLocal(localKey)) return EADDRNOTAVAIL;
    const free = (p: number) =>
      !(this.#listeners.get(p) ?? []).some((l) => l.localKey === localKey || l.localKey === ANY || localKey === ANY);
    const chosen = port === 0 ? this.#ports.any(free) : port;
    if (chosen < 0 || !free(chosen)) return EADDRINUSE;
    const merged = { ...this.#defaults, ...options };
    const listener = new Listener(this, localKey, chosen, Math.min(backlog, this.limits.backlogMax), merged);
    const list = this.#listeners.get(chosen);
    if (list === undefined) this.#listeners.set(chosen, [listener]);
    else list.push(listener);
    this.statistics.listeners++;
    return listener;
  }

  unlisten(listener: Listener): void {
    const list = this.#listeners.get(listener.localPort)!;
    list.splice(list.indexOf(listener), 1);
    if (list.length === 0) this.#listeners.delete(listener.localPort);
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
    const portsFit = localPort >= 0 && localPort <= 65535 && remotePort >= 1 && remotePort <= 65535;
    if (!portsFit || remoteKey === ANY) return EINVAL;
    if (this.table.size >= this.limits.connectionsMax) return this.#full();
    const path = this.ip.path(localKey, remoteKey);
    if (typeof path === "number") return path;
    const free = (p: number) => this.#reusable(path.localKey, p, remoteKey, remotePort);
    const port = localPort === 0 ? this.#ports.forPeer(path.localKey, remoteKey, remotePort, free) : localPort;
    if (port < 0) return EADDRNOTAVAIL;
    if (!free(port)) return EADDRINUSE;
    const old = this.table.get(path.localKey, port, remoteKey, remotePort);
    if (old !== null) this.fail(old, OK);
    const tcb = this.#make(path, path.localKey, port, remoteKey, remotePort, { ...this.#defaults, ...options });
    tcb.state = SYN_SENT;
    tcb.sndUna = tcb.iss;
    tcb.sndNxt = (tcb.iss + 1) | 0;
    tcb.silentSince = now;
    tcb.ackNow = true;
    this.statistics.activeOpens++;
    this.mark(tcb);
    return tcb;
  }

  /** A four-tuple is free, or in a TIME-WAIT that timestamps let us leave (RFC 6191). */
  #reusable(localKey: number, localPort: number, remoteKey: number, remotePort: number): boolean {
    const old = this.table.get(localKey, localPort, remoteKey, remotePort);
    return old === null || (old.state === TIME_WAIT && old.timestamps && this.now - old.waitSince > 1000);
  }

  #full(): number {
    this.statistics.tableFull++;
    return ENOBUFS;
  }

  #make(path: Path, localKey: number, localPort: number, remoteKey: number, remotePort: number, options: TcpOptions): Tcb {
    const tcb = new Tcb(this, path, localKey, localPort, remoteKey, remotePort, options);
    //= rfc6528#3
    // ISN = M + F(localip, localport, remoteip, remoteport, secretkey), M the 4 microsecond timer
    tcb.iss = (this.secret.hash(localKey, remoteKey, (localPort << 16) | remotePort, 1) + Math.floor(this.now * 250)) | 0;
    tcb.tsOffset = this.secret.hash(localKey, remoteKey, 0, 2); // RFC 7323 7.1: an offset of its own for each peer
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
    // The receiver MUST check it (the checksum) (MUST-3).
    if (
      (packet.flags & (RX_CHECKSUM_VALID | RX_CHECKSUM_PARTIAL)) === 0 &&
      finish(sum(view, packet.offset, packet.length, packet.pseudoSum)) !== 0
    ) {
      statistics.badChecksum++;
      return;
    }
    this.#at(now);
    this.frameBytes = packet.memory.bytes;
    const tcb = this.table.get(packet.dstKey, seg.dstPort, packet.srcKey, seg.srcPort);
    if (tcb !== null && !(tcb.state === TIME_WAIT && this.#renews(tcb, seg))) segmentArrives(this, tcb, seg, now);
    else this.#noConnection(packet, seg, now);
  }

  /** A SYN for a connection in TIME-WAIT that may take its place (RFC 1122 4.2.2.13, RFC 6191). */
  #renews(tcb: Tcb, seg: Segment): boolean {
    if ((seg.flags & (wire.SYN | wire.ACK | wire.RST)) !== wire.SYN) return false;
    const newer = tcb.timestamps && seg.hasTimestamps ? ((seg.tsVal - tcb.tsRecent) | 0) > 0 : false;
    if (!newer && ((seg.seq - tcb.rcvNxt) | 0) <= 0) return false;
    if (this.#listener(tcb.localKey, tcb.localPort) === null) return false;
    this.statistics.timeWaitReused++;
    this.fail(tcb, OK);
    return true;
  }

  #listener(localKey: number, port: number): Listener | null {
    const list = this.#listeners.get(port);
    if (list === undefined) return null;
    let any: Listener | null = null;
    for (const listener of list) {
      if (listener.localKey === localKey) return listener;
      if (listener.localKey === ANY) any = listener;
    }
    return any;
  }

  /** CLOSED and LISTEN: RFC 9293 3.10.7.1 and 3.10.7.2. */
  #noConnection(packet: Packet, seg: Segment, now: number): void {
    if ((seg.flags & wire.RST) !== 0) return;
    const listener = this.#listener(packet.dstKey, seg.dstPort);
    if (listener === null || (seg.flags & wire.ACK) !== 0) {
      if (listener === null) this.statistics.noListener++;
      resetStray(this, packet, seg);
      return;
    }
    if ((seg.flags & wire.SYN) === 0) return;
    if ((seg.flags & wire.FIN) !== 0) return; // SYN with FIN is nobody's honest segment (Linux drops it too)
    if (!listener.takesSyn || this.table.size >= this.limits.connectionsMax) {
      this.statistics.synDropped++;
      if (!listener.hasRoom) this.statistics.listenOverflow++;
      return;
    }
    const path = this.ip.path(packet.dstKey, packet.srcKey);
    if (typeof path === "number") return;
    const tcb = this.#make(path, packet.dstKey, seg.dstPort, packet.srcKey, seg.srcPort, listener.options);
    listener.halfOpen.add(tcb);
    this.statistics.passiveOpens++;
    listenSyn(this, tcb, listener, seg, now);
  }

  error(error: PacketError, now: number): void {
    this.#at(now);
    packetError(this, error);
  }

  // ---- What the machine calls.

  acceptText(tcb: Tcb, seg: Segment, now: number): void {
    textAndFin(this, tcb, seg, now);
  }

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

  //= rfc5961#7
  // it is RECOMMENDED to limit the number of challenge ACKs that can be sent in a given period of time (10 in 5 seconds);
  // the count is each connection's own, so that it tells a stranger nothing (CVE-2016-5696)
  challenge(tcb: Tcb, now: number): void {
    if (now - tcb.challengeAt >= 5000) {
      tcb.challengeAt = now;
      tcb.challengeTokens = 10;
    }
    if (tcb.challengeTokens === 0) return;
    tcb.challengeTokens--;
    this.statistics.challengeAcks++;
    this.acknowledgeNow(tcb);
  }

  /** The acknowledgment for a segment that was not acceptable: limited unless it carries data (Linux, tcp_oow_rate_limited). */
  duplicateAck(tcb: Tcb, seg: Segment, now: number): void {
    if (seg.textLength > 0) this.acknowledgeNow(tcb);
    else this.challenge(tcb, now);
  }

  resetFor(path: Path, tcb: Tcb, seg: Segment): void {
    resetFor(this, path, tcb, seg);
  }

  restartRto(tcb: Tcb, now: number): void {
    restartRto(tcb, now);
  }

  /** Milliseconds as the timestamps option carries them. */
  timestamp(tcb: Tcb): number {
    return (this.now + tcb.tsOffset) | 0;
  }

  schedule(tcb: Tcb): void {
    const at = earliest(tcb);
    if (at !== Infinity) this.#timers.schedule(tcb, at);
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
    if (tcb.state !== TIME_WAIT) {
      tcb.state = TIME_WAIT;
      tcb.waitSince = now;
      if (this.#timeWait.size >= this.limits.timeWaitMax) {
        this.statistics.timeWaitOverflow++;
        for (const oldest of this.#timeWait) {
          this.fail(oldest, OK);
          break;
        }
      }
      this.#timeWait.add(tcb);
      this.statistics.timeWait++;
      tcb.sendRing.free();
      tcb.raise(EVENT_CLOSED);
    }
    tcb.rtoAt =
      tcb.persistAt =
      tcb.keepAliveAt =
      tcb.reorderAt =
        Infinity;
    //= rfc9293#3.6.1
    // When a connection is closed actively, it MUST linger in the TIME-WAIT state for a time 2xMSL (MUST-13).
    tcb.waitAt = now + this.limits.timeWaitMs;
    this.schedule(tcb);
  }

  /** Ends the connection without a word to the peer. `code` 0 for a normal end. */
  fail(tcb: Tcb, code: number): void {
    if (tcb.state === CLOSED) return;
    if (tcb.state === TIME_WAIT) {
      this.#timeWait.delete(tcb);
      this.statistics.timeWait--;
    } else if (code !== OK && tcb.state <= 3) this.statistics.failedAttempts++;
    tcb.state = CLOSED;
    tcb.error = code;
    this.table.delete(tcb);
    this.#timers.remove(tcb);
    this.statistics.connections--;
    tcb.sendRing.free();
    if (tcb.sent !== null) this.releaseSent(tcb.sent);
    tcb.sent = null;
    if (tcb.ranges !== null) this.releaseRanges(tcb);
    // What the peer sent before it reset the connection is thrown away, as Linux does; after a normal end it can still be read.
    if (code !== OK || tcb.orphan) tcb.receiveRing.free();
    if (tcb.listener !== null) tcb.listener.forget(tcb);
    tcb.listener = null;
    tcb.raise(EVENT_CLOSED | EVENT_READABLE | EVENT_WRITABLE | (code !== OK ? EVENT_ERROR : 0));
  }

  /** RFC 9293 3.10.5: a reset to the peer in every state that has one, then the end. */
  abort(tcb: Tcb, code: number): void {
    if (tcb.state !== CLOSED && tcb.state !== SYN_SENT && tcb.state !== TIME_WAIT) sendReset(this, tcb);
    this.fail(tcb, code);
  }

  acquireSent(): SentQueue {
    return this.#spareSent.pop() ?? new SentQueue();
  }

  releaseSent(sent: SentQueue): void {
    sent.clear();
    if (sent.capacity <= 4096 && this.#spareSent.length < 256) this.#spareSent.push(sent);
  }

  acquireRanges(): RangeSet {
    return this.#spareRanges.pop() ?? new RangeSet();
  }

  releaseRanges(tcb: Tcb): void {
    const { ranges } = tcb;
    if (ranges === null) return;
    ranges.clear();
    tcb.ranges = null;
    if (this.#spareRanges.length < 64) this.#spareRanges.push(ranges);
  }

  // ---- What the shell calls.

  flush(now: number): void {
    this.#at(now);
    const list = this.#dirty;
    this.#dirty = this.#flushing;
    this.#flushing = list;
    for (let i = 0; i < list.length; i++) {
      const tcb = list[i];
      tcb.queued = false;
      if (output(this, tcb, now) === EAGAIN) {
        // The device is full: all that is left waits for its wake.
        for (let rest = i; rest < list.length; rest++) {
          list[rest].queued = false;
          this.mark(list[rest]);
        }
        break;
      }
    }
    list.length = 0;
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

  shutdown(code: number, reset: boolean): void {
    for (const list of [...this.#listeners.values()]) for (const listener of [...list]) listener.close();
    for (const tcb of this.table) {
      if (reset) this.abort(tcb, code === OK ? ECONNABORTED : code);
      else this.fail(tcb, code);
    }
    this.#dirty.length = 0;
  }

  #at(now: number): void {
    this.now = now;
    this.nowUs = (now * 1000) | 0;
  }
}
