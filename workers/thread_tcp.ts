/**
 * A connection and a listener as the worker has them: bytes go between TCP's buffers and the shared rings, here and
 * nowhere else. Nothing here waits, and nothing here throws.
 *
 * @module
 */
import { EAGAIN } from "../stack/codes.ts";
import type { SocketOwner } from "../stack/host/pump.ts";
import { EVENT_CLOSED, EVENT_ERROR, type TcpListenSocket, type TcpSocket } from "../stack/tcp/types.ts";
import * as at from "./layout.ts";
import { Inlet, Outlet } from "./ring.ts";
import type { Slot, SlotTable } from "./slots.ts";

/** Connections that the main thread is given before it asks for them; the others wait in TCP's own backlog. */
const AHEAD = 64;

/** A connection's slot. */
export class ConnectionSlot implements Slot, SocketOwner {
  readonly #table: SlotTable;
  readonly #socket: TcpSocket;
  readonly #inlet: Inlet;
  readonly #outlet: Outlet;
  #flags: number;
  #shut = false;
  #over = false;
  #closed = false;

  constructor(readonly index: number, table: SlotTable, socket: TcpSocket, listener: number) {
    this.#table = table;
    this.#socket = socket;
    const mine = at.workerLine(index), theirs = at.mainLine(index);
    const { cells } = table;
    this.#inlet = new Inlet(cells, mine, theirs, table.up);
    this.#outlet = new Outlet(cells, mine, theirs, table.arena);
    Atomics.store(cells, mine + at.LISTENER, listener);
    Atomics.store(cells, mine + at.LOCAL_KEY, socket.localKey);
    Atomics.store(cells, mine + at.REMOTE_KEY, socket.remoteKey);
    Atomics.store(cells, mine + at.PORTS, (socket.localPort << 16) | socket.remotePort);
    this.#flags = listener >= 0 ? at.NEW : 0;
    Atomics.store(cells, mine + at.FLAGS, this.#flags);
    socket.owner = this;
    if (listener >= 0) table.tell(index);
    this.serve();
  }

  get socket(): TcpSocket {
    return this.#socket;
  }

  onEvents(events: number): void {
    if ((events & (EVENT_CLOSED | EVENT_ERROR)) !== 0) this.#over = true;
    this.serve();
  }

  /** Moves what can be moved, both ways, and does what the main thread asks for. */
  serve(): void {
    if (this.#closed) return this.#reclaim();
    const asked = this.#table.asked(this.index);
    if ((asked & at.ABORT) !== 0) {
      this.#socket.abort();
      return this.#finish();
    }
    this.#takeIn();
    const all = this.#inlet.available === 0;
    if ((asked & at.CLOSE) !== 0) {
      const unread = (asked & at.UNREAD) !== 0 || this.#socket.receiveQueued > 0;
      if (all || unread || this.#over) this.#close(unread);
      return;
    }
    if ((asked & at.SHUT) !== 0 && all && !this.#shut) {
      this.#shut = true;
      this.#socket.shutdownWrite();
    }
    this.#giveOut();
  }

  /** From the main thread's ring into TCP. */
  #takeIn(): void {
    const inlet = this.#inlet;
    let taken = 0;
    for (let length = inlet.contiguous; length > 0; length = inlet.contiguous) {
      const count = this.#socket.send(inlet.bytes, inlet.position, length);
      if (count === 0 || count === EAGAIN) break;
      if (count < 0) {
        // It will never go out. The writer learns why.
        inlet.advance(length);
        this.#failed(count);
      } else inlet.advance(count);
      taken++;
    }
    if (taken === 0) return;
    if (inlet.awaited) this.#table.tell(this.index);
    else if (inlet.available === 0) this.#table.tellLater(this.index);
  }

  /** From TCP into the worker's ring, and what became of the connection. */
  #giveOut(): void {
    const socket = this.#socket, outlet = this.#outlet;
    let moved = false;
    outlet.expect(socket.receiveQueued);
    while (socket.receiveQueued > 0 && this.#hasRoom()) {
      const count = socket.receive(outlet.bytes, outlet.position, outlet.contiguous);
      if (count <= 0) break;
      outlet.advance(count);
      moved = true;
    }
    if (moved) outlet.publish();
    else outlet.release();
    let flags = this.#flags;
    if (socket.finReceived) flags |= at.FIN;
    if (this.#over) flags |= at.CLOSED;
    if (socket.receiveQueued === 0) {
      outlet.blocked = false;
      if (socket.finReceived || this.#over) flags |= at.END;
      if (this.#over && socket.error < 0) flags |= at.FAILED;
    }
    if (flags !== this.#flags) {
      const line = at.workerLine(this.index), { cells } = this.#table;
      if ((flags & ~this.#flags & at.FAILED) !== 0) Atomics.store(cells, line + at.ERROR, socket.error);
      this.#flags = flags;
      Atomics.store(cells, line + at.FLAGS, flags);
      moved = true;
    }
    if (moved) this.#table.tell(this.index);
  }

  #hasRoom(): boolean {
    const outlet = this.#outlet;
    if (outlet.room() > 0) return true;
    // Said first, then looked at once more: the reader may have made room in between.
    outlet.blocked = true;
    if (outlet.room() > 0) return true;
    if (outlet.hungry) this.#table.starve(this.index);
    return false;
  }

  #failed(code: number): void {
    const line = at.workerLine(this.index);
    Atomics.store(this.#table.cells, line + at.ERROR, code);
    this.#flags |= at.FAILED;
    Atomics.store(this.#table.cells, line + at.FLAGS, this.#flags);
    this.#table.tell(this.index);
  }

  /** As `TcpConn.close` does it: with unread data the peer reads the end, and then meets a reset. */
  #close(unread: boolean): void {
    if (unread) {
      this.#socket.shutdownWrite();
      this.#table.flush();
      if (this.#socket.receiveQueued > 0) this.#socket.close();
      else this.#socket.abort();
    } else this.#socket.close();
    this.#finish();
  }

  #finish(): void {
    this.#closed = true;
    this.#socket.owner = null;
    this.#outlet.drop();
    this.#table.let(this.index);
  }

  #reclaim(): void {
    if ((this.#table.asked(this.index) & at.DONE) !== 0) this.#table.free(this.index);
  }

  /** True when everything that the main thread wrote is TCP's, or never will be. */
  get drained(): boolean {
    return this.#closed || this.#over || this.#inlet.available === 0;
  }

  end(): void {
    if (!this.#closed) this.serve();
  }
}

/** A listener's slot. */
export class ListenerSlot implements Slot, SocketOwner {
  #given = 0;
  #closed = false;

  constructor(readonly index: number, readonly table: SlotTable, readonly socket: TcpListenSocket) {
    socket.owner = this;
    Atomics.store(table.cells, at.workerLine(index) + at.FLAGS, 0);
    this.serve();
  }

  onEvents(): void {
    this.serve();
  }

  serve(): void {
    const { table, index } = this;
    const asked = table.asked(index);
    if (this.#closed) {
      if ((asked & at.DONE) !== 0) table.free(index);
      return;
    }
    if ((asked & at.CLOSE) !== 0) {
      this.#closed = true;
      this.socket.owner = null;
      this.socket.close();
      table.let(index);
      return;
    }
    const blocked = at.workerLine(index) + at.BLOCKED;
    for (let again = false;;) {
      const waiting = this.#given - Atomics.load(table.cells, at.mainLine(index) + at.TAKEN);
      if (waiting >= AHEAD) {
        if (again) return;
        again = true;
        Atomics.store(table.cells, blocked, 1);
        continue;
      }
      Atomics.store(table.cells, blocked, 0);
      const socket = this.socket.accept();
      if (typeof socket === "number") return;
      const slot = table.take();
      if (slot < 0) socket.abort();
      else {
        this.#given++;
        table.put(new ConnectionSlot(slot, table, socket, index));
      }
    }
  }

  get drained(): boolean {
    return true;
  }

  end(): void {}
}
