/**
 * A datagram socket as the worker has it.
 *
 * @module
 */
import { EAGAIN } from "../stack/codes.ts";
import type { SocketOwner } from "../stack/host/pump.ts";
import type { UdpSocket, UdpSource } from "../stack/udp/types.ts";
import * as at from "./layout.ts";
import { DATAGRAM_MAX, from, getDatagram, nextDatagram, putDatagram } from "./record.ts";
import { Inlet, Outlet } from "./ring.ts";
import type { Slot, SlotTable } from "./slots.ts";

/** One datagram on its way; shared by all sockets, because nothing here waits. */
const passing = new Uint8Array(DATAGRAM_MAX);
const source: UdpSource = { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };

/** A datagram socket's slot. */
export class DatagramSlot implements Slot, SocketOwner {
  readonly #inlet: Inlet;
  readonly #outlet: Outlet;
  #closed = false;
  /** Datagram in `passing` order: one that the device had no room for is kept here. */
  #held: { bytes: Uint8Array; key: number; port: number } | null = null;

  constructor(readonly index: number, readonly table: SlotTable, readonly socket: UdpSocket) {
    const mine = at.workerLine(index), theirs = at.mainLine(index);
    this.#inlet = new Inlet(table.cells, mine, theirs, table.up);
    this.#outlet = new Outlet(table.cells, mine, theirs, table.arena);
    Atomics.store(table.cells, mine + at.FLAGS, 0);
    socket.owner = this;
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
    this.#takeIn();
    if ((asked & at.CLOSE) !== 0 && (this.drained || (asked & at.ABORT) !== 0)) {
      this.#closed = true;
      this.socket.owner = null;
      this.socket.close();
      this.#outlet.drop();
      table.let(index);
    } else this.#giveOut();
  }

  #takeIn(): void {
    const inlet = this.#inlet;
    let sent = false;
    while (this.#held !== null || nextDatagram(inlet) >= 0) {
      let code: number;
      if (this.#held !== null) {
        code = this.socket.send(this.#held.bytes, 0, this.#held.bytes.length, this.#held.key, this.#held.port);
        if (code === EAGAIN) break;
        this.#held = null;
      } else {
        const length = getDatagram(inlet, passing, 0, DATAGRAM_MAX);
        code = this.socket.send(passing, 0, length, from.key, from.port);
        if (code === EAGAIN) {
          this.#held = { bytes: passing.slice(0, length), key: from.key, port: from.port };
          this.table.pump.whenRoom(this.#retry);
          break;
        }
      }
      sent = true;
      if (code < 0) this.#report(code);
    }
    if (!sent) return;
    if (inlet.awaited) this.table.tell(this.index);
    else if (inlet.available === 0) this.table.tellLater(this.index);
  }

  readonly #retry = (): void => {
    if (this.#closed) return;
    this.serve();
    if (this.#held !== null) this.table.pump.whenRoom(this.#retry);
  };

  #giveOut(): void {
    const { socket } = this;
    let moved = false;
    for (;;) {
      const length = socket.nextLength;
      if (length >= 0 && !this.#hasRoom(length)) break;
      const count = socket.receive(passing, 0, DATAGRAM_MAX, source);
      if (count === EAGAIN) break;
      if (count < 0) this.#report(count);
      else putDatagram(this.#outlet, source.key, source.port, passing, 0, count);
      moved = true;
    }
    if (moved) this.table.tell(this.index);
    else this.#outlet.release();
  }

  #hasRoom(length: number): boolean {
    const outlet = this.#outlet;
    const size = length + 16;
    outlet.blocked = outlet.room(size) < size;
    if (outlet.room(size) >= size) return true;
    if (outlet.hungry) this.table.starve(this.index);
    return false;
  }

  /** The next call of the user learns about it, as with a pending error of a socket. */
  #report(code: number): void {
    const line = at.workerLine(this.index), { cells } = this.table;
    Atomics.store(cells, line + at.ERROR, code);
    Atomics.add(cells, line + at.ERRORS, 1);
    this.table.tell(this.index);
  }

  get drained(): boolean {
    return this.#closed || (this.#held === null && this.#inlet.available === 0);
  }

  end(): void {
    this.serve();
  }
}
