/**
 * A datagram socket as the main thread has it.
 *
 * @module
 */
import { EAGAIN, EMSGSIZE } from "../stack/codes.ts";
import type { SocketOwner } from "../stack/host/pump.ts";
import { EVENT_READABLE, type UdpOptions, type UdpSocket, type UdpSource } from "../stack/udp/types.ts";
import * as at from "./layout.ts";
import type { RemoteSlot, WorkerLink } from "./link.ts";
import { DATAGRAM_MAX, from, getDatagram, nextDatagram, putDatagram } from "./record.ts";
import { Inlet, Outlet } from "./ring.ts";

/** A datagram socket in a worker. */
export class RemoteUdpSocket implements UdpSocket, RemoteSlot {
  events = 0;
  owner: unknown = null;
  readonly statistics = { received: 0, sent: 0, dropped: 0 };
  readonly #link: WorkerLink;
  readonly #slot: number;
  readonly #inlet: Inlet;
  readonly #outlet: Outlet;
  #errors = 0;
  #closed = false;

  constructor(
    link: WorkerLink,
    slot: number,
    readonly localKey: number,
    readonly localPort: number,
    readonly remoteKey: number,
    readonly remotePort: number,
  ) {
    this.#link = link;
    this.#slot = slot;
    const mine = at.mainLine(slot), theirs = at.workerLine(slot);
    this.#inlet = new Inlet(link.cells, mine, theirs, link.down);
    this.#outlet = new Outlet(link.cells, mine, theirs, link.arena);
    link.put(slot, this);
  }

  serve(): void {
    if (this.#closed) {
      if ((this.#link.flags(this.#slot) & at.FREED) === 0) return;
      this.#outlet.drop();
      return this.#link.free(this.#slot);
    }
    this.#outlet.release();
    (this.owner as SocketOwner | null)?.onEvents(EVENT_READABLE);
  }

  get pending(): number {
    return this.nextLength < 0 ? 0 : 1;
  }

  get nextLength(): number {
    return nextDatagram(this.#inlet);
  }

  takeError(): number {
    const line = at.workerLine(this.#slot), { cells } = this.#link;
    const errors = Atomics.load(cells, line + at.ERRORS);
    if (errors === this.#errors) return 0;
    this.#errors = errors;
    return Atomics.load(cells, line + at.ERROR);
  }

  receive(into: Uint8Array, offset: number, length: number, source: UdpSource): number {
    const error = this.takeError();
    if (error < 0) return error;
    const inlet = this.#inlet;
    const count = getDatagram(inlet, into, offset, length);
    if (count < 0) return count;
    this.statistics.received++;
    source.key = from.key;
    source.port = from.port;
    source.length = from.length;
    if (inlet.awaited) this.#link.tell(this.#slot);
    else if (inlet.available === 0) this.#link.bell.markLater(this.#slot);
    return count;
  }

  send(bytes: Uint8Array, offset: number, length: number, remoteKey: number, remotePort: number): number {
    const error = this.takeError();
    if (error < 0) return error;
    if (length > DATAGRAM_MAX) return EMSGSIZE;
    const outlet = this.#outlet;
    outlet.expect(length);
    let count = putDatagram(outlet, remoteKey, remotePort, bytes, offset, length);
    if (count === EAGAIN) {
      outlet.blocked = true;
      count = putDatagram(outlet, remoteKey, remotePort, bytes, offset, length);
      if (count === EAGAIN) {
        if (outlet.hungry) this.#link.starve(this);
        return EAGAIN;
      }
    }
    outlet.blocked = false;
    this.statistics.sent++;
    this.#link.tell(this.#slot);
    return count;
  }

  connect(): number {
    return EAGAIN; // the worker has connected it when it was made
  }

  joinMulticast(group: number): number {
    return this.#set("join", group, {});
  }

  leaveMulticast(group: number): number {
    return this.#set("leave", group, {});
  }

  setOptions(options: UdpOptions): void {
    this.#set("options", 0, options);
  }

  #set(what: "join" | "leave" | "options", group: number, options: UdpOptions): number {
    return this.#link.callNow("setUdp", { slot: this.#slot, what, group, options }) as number;
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.owner = null;
    this.#link.ask(this.#slot, at.CLOSE);
  }
}
