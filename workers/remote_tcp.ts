/**
 * Connections and listeners as the main thread has them: the sockets that `TcpConn` and `TcpListener` are made of, with
 * the machine in a worker.
 *
 * @module
 */
import { EAGAIN, EPIPE } from "../stack/codes.ts";
import type { SocketOwner } from "../stack/host/pump.ts";
import * as tcp from "../stack/tcp/types.ts";
import type { TcpInfo, TcpListenSocket, TcpOptions, TcpSocket } from "../stack/tcp/types.ts";
import * as at from "./layout.ts";
import type { RemoteSlot, WorkerLink } from "./link.ts";
import { Inlet, Outlet } from "./ring.ts";

/** A connection in a worker. */
export class RemoteTcpSocket implements TcpSocket, RemoteSlot {
  readonly localKey: number;
  readonly localPort: number;
  readonly remoteKey: number;
  readonly remotePort: number;
  events = 0;
  owner: unknown = null;
  readonly #link: WorkerLink;
  readonly #slot: number;
  readonly #inlet: Inlet;
  readonly #outlet: Outlet;
  #shut = false;
  #released = false;
  #freed = false;
  #info: TcpInfo | null = null;

  constructor(link: WorkerLink, slot: number) {
    this.#link = link;
    this.#slot = slot;
    const mine = at.mainLine(slot), theirs = at.workerLine(slot);
    const { cells } = link;
    this.localKey = Atomics.load(cells, theirs + at.LOCAL_KEY);
    this.remoteKey = Atomics.load(cells, theirs + at.REMOTE_KEY);
    const ports = Atomics.load(cells, theirs + at.PORTS);
    this.localPort = ports >>> 16;
    this.remotePort = ports & 0xffff;
    this.#inlet = new Inlet(cells, mine, theirs, link.down);
    this.#outlet = new Outlet(cells, mine, theirs, link.arena);
    link.put(slot, this);
  }

  serve(): void {
    const flags = this.#link.flags(this.#slot);
    if (this.#released) {
      if ((flags & at.FREED) === 0) return;
      this.#outlet.drop();
      this.#freed = true;
      return this.#link.free(this.#slot);
    }
    let events = tcp.EVENT_READABLE | tcp.EVENT_WRITABLE;
    if ((flags & at.FAILED) !== 0) events |= tcp.EVENT_ERROR;
    if ((flags & at.CLOSED) !== 0) events |= tcp.EVENT_CLOSED;
    this.#outlet.release();
    (this.owner as SocketOwner | null)?.onEvents(events);
  }

  #has(flag: number): boolean {
    return !this.#freed && (this.#link.flags(this.#slot) & flag) !== 0;
  }

  get state(): number {
    if (this.#released || this.#has(at.CLOSED)) return tcp.CLOSED; // a slot that was let go may be another's
    return this.#has(at.FIN) ? tcp.CLOSE_WAIT : tcp.ESTABLISHED;
  }

  get error(): number {
    return this.#has(at.FAILED) ? Atomics.load(this.#link.cells, at.workerLine(this.#slot) + at.ERROR) : 0;
  }

  get receiveQueued(): number {
    return this.#released ? 0 : this.#inlet.available;
  }

  get finReceived(): boolean {
    return this.#has(at.FIN);
  }

  get sendSpace(): number {
    return this.#outlet.room();
  }

  get sendQueued(): number {
    return this.#outlet.used;
  }

  get writeShut(): boolean {
    return this.#shut;
  }

  send(bytes: Uint8Array, offset: number, length: number): number {
    if (this.#shut) return EPIPE;
    const outlet = this.#outlet;
    const flags = this.#link.flags(this.#slot);
    if ((flags & at.FAILED) !== 0) return this.error;
    if ((flags & at.CLOSED) !== 0) return EPIPE;
    outlet.expect(length);
    let room = outlet.room();
    if (room === 0) {
      // Said first, then looked at once more: the worker may have made room in between.
      outlet.blocked = true;
      room = outlet.room();
      if (room === 0) {
        if (outlet.hungry) this.#link.starve(this);
        return 0;
      }
    }
    const count = Math.min(room, length);
    outlet.put(bytes, offset, count);
    outlet.publish();
    outlet.blocked = false;
    this.#link.tell(this.#slot);
    return count;
  }

  receive(into: Uint8Array, offset: number, length: number): number {
    // The flags first: what they tell is behind everything in the ring.
    const flags = this.#link.flags(this.#slot);
    const inlet = this.#inlet;
    const available = inlet.available;
    if (available === 0) {
      if ((flags & at.FAILED) !== 0) return this.error;
      return (flags & at.END) !== 0 ? 0 : EAGAIN;
    }
    const count = Math.min(available, length);
    inlet.peek(0, into, offset, count);
    inlet.advance(count);
    const left = available - count;
    // A worker that waits is woken for half a ring, not for every byte.
    if (left <= at.SMALL_RING / 2 || left <= count) {
      if (inlet.awaited) this.#link.tell(this.#slot);
      else if (left === 0) this.#link.bell.markLater(this.#slot);
    }
    return count;
  }

  shutdownWrite(): number {
    this.#shut = true;
    this.#link.ask(this.#slot, at.SHUT);
    return 0;
  }

  shutdownRead(): number {
    return 0;
  }

  close(): void {
    this.#release(at.CLOSE | (this.#inlet.available > 0 ? at.UNREAD : 0));
  }

  abort(): void {
    this.#release(at.ABORT);
  }

  #release(flags: number): void {
    // A connection that still sends what was written can be reset; one whose slot is free is nobody's.
    if (this.#freed || (this.#released && flags !== at.ABORT)) return;
    this.#released = true;
    this.owner = null;
    this.#link.ask(this.#slot, flags);
  }

  setNoDelay(on: boolean): void {
    this.#link.post("setTcp", { slot: this.#slot, what: "noDelay", values: [on] });
  }

  setKeepAlive(on: boolean, idleMs?: number, intervalMs?: number, count?: number): void {
    this.#link.post("setTcp", { slot: this.#slot, what: "keepAlive", values: [on, idleMs, intervalMs, count] });
  }

  setUserTimeout(ms: number): void {
    this.#link.post("setTcp", { slot: this.#slot, what: "userTimeout", values: [ms] });
  }

  setOptions(options: TcpOptions): number {
    return this.#link.callNow("setTcp", { slot: this.#slot, what: "options", values: [options] }) as number;
  }

  /** Asks the worker, and sleeps for the answer; after `close` what was told last. */
  info(): TcpInfo {
    if (!this.#released) {
      const info = this.#link.callNow("info", { slot: this.#slot }) as TcpInfo | null;
      if (info !== null) this.#info = info;
    }
    if (this.#info === null) {
      const { localPort, remotePort } = this;
      return { ...NOTHING, localPort, remotePort };
    }
    return this.#released ? { ...this.#info, state: "CLOSED" } : this.#info;
  }
}

const NOTHING: TcpInfo = {
  state: "CLOSED",
  localPort: 0,
  remotePort: 0,
  rttMs: 0,
  rttVarianceMs: 0,
  minRttMs: 0,
  rtoMs: 0,
  congestionControl: "",
  congestionWindow: 0,
  slowStartThreshold: 0,
  sendMss: 0,
  receiveMss: 0,
  inFlight: 0,
  sendWindow: 0,
  receiveWindow: 0,
  sendQueued: 0,
  receiveQueued: 0,
  urgentPending: 0,
  softError: 0,
  bytesSent: 0,
  bytesAcked: 0,
  bytesReceived: 0,
  segmentsSent: 0,
  segmentsReceived: 0,
  bytesRetransmitted: 0,
  retransmissions: 0,
  timeouts: 0,
  fastRecoveries: 0,
  spuriousRecoveries: 0,
  outOfOrder: 0,
  duplicateAcks: 0,
  sacksReceived: 0,
  dsacksReceived: 0,
  windowScale: [0, 0],
  timestamps: false,
  sack: false,
  ecn: false,
};

/** A listener's part in one worker. */
export class ListenerPart implements RemoteSlot {
  #taken = 0;
  #closed = false;

  constructor(readonly link: WorkerLink, readonly slot: number, readonly listener: RemoteListenSocket) {
    link.put(slot, this);
  }

  serve(): void {
    if (this.#closed && (this.link.flags(this.slot) & at.FREED) !== 0) this.link.free(this.slot);
  }

  /** One more of its connections was taken. */
  take(): void {
    Atomics.store(this.link.cells, at.mainLine(this.slot) + at.TAKEN, ++this.#taken);
    if (Atomics.load(this.link.cells, at.workerLine(this.slot) + at.BLOCKED) === 1) this.link.tell(this.slot);
  }

  close(): void {
    this.#closed = true;
    this.link.ask(this.slot, at.CLOSE);
  }
}

/** A listener in every worker, with one queue. */
export class RemoteListenSocket implements TcpListenSocket {
  events = 0;
  owner: unknown = null;
  localPort = 0;
  readonly parts: ListenerPart[] = [];
  readonly #queue: { socket: RemoteTcpSocket; part: ListenerPart }[] = [];
  #closed = false;

  constructor(readonly localKey: number) {}

  /** A worker has accepted one. */
  add(socket: RemoteTcpSocket, part: ListenerPart): void {
    if (this.#closed) return socket.abort();
    this.#queue.push({ socket, part });
    (this.owner as SocketOwner | null)?.onEvents(tcp.EVENT_ACCEPT);
  }

  get pending(): number {
    return this.#queue.length;
  }

  accept(): TcpSocket | number {
    const next = this.#queue.shift();
    if (next === undefined) return EAGAIN;
    next.part.take();
    return next.socket;
  }

  setOptions(options: TcpOptions): number {
    let code = 0;
    for (const { link, slot } of this.parts) {
      code ||= link.callNow("setTcp", { slot, what: "options", values: [options] }) as number;
    }
    return code;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const part of this.parts) part.close();
    for (const { socket } of this.#queue.splice(0)) socket.abort();
  }
}
