/**
 * Listening sockets: two bounded queues, of connections half open and of connections to be accepted.
 *
 * @module
 */
import { EAGAIN, EINVAL, OK } from "../codes.ts";
import { wrongTcpOption } from "./check_options.ts";
import { mergedOptions } from "./set_options.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import { EVENT_ACCEPT, type TcpListenSocket, type TcpOptions } from "./types.ts";

export class Listener implements TcpListenSocket {
  events = 0;
  owner: unknown = undefined;
  closed = false;
  /** Connections whose data came in the SYN, and whose peer is not known to be there. */
  fastOpenPending = 0;
  /** When a SYN was last answered with a cookie. */
  cookieAt = -Infinity;
  /** Connections in SYN-RECEIVED. */
  readonly halfOpen: Set<Tcb> = new Set();
  #accept: Tcb[] = [];
  #first = 0;

  /** @param backlog connections that may wait to be accepted; as many again may be half open */
  constructor(
    readonly tcp: Tcp,
    readonly localKey: number,
    readonly localPort: number,
    readonly backlog: number,
    public options: TcpOptions,
  ) {}

  get pending(): number {
    return this.#accept.length - this.#first;
  }

  /** One more may be established. */
  get hasRoom(): boolean {
    return this.pending < this.backlog;
  }

  /** One more SYN may be answered. */
  get takesSyn(): boolean {
    return this.hasRoom && this.halfOpen.size < this.backlog;
  }

  established(tcb: Tcb): void {
    this.halfOpen.delete(tcb);
    this.#accept.push(tcb);
    if (this.events === 0) this.tcp.ready.push(this);
    this.events |= EVENT_ACCEPT;
  }

  accept(): Tcb | number {
    while (this.#first < this.#accept.length) {
      const tcb = this.#accept[this.#first++];
      if (2 * this.#first >= this.#accept.length) {
        this.#accept = this.#accept.slice(this.#first);
        this.#first = 0;
      }
      if (tcb.listener === this) {
        tcb.listener = null;
        return tcb;
      }
    }
    return EAGAIN;
  }

  setOptions(options: TcpOptions): number {
    if (wrongTcpOption(options) !== null) return EINVAL;
    this.options = mergedOptions(this.options, options);
    return OK;
  }

  /** A connection that waits here has ended. */
  forget(tcb: Tcb): void {
    if (this.halfOpen.delete(tcb)) return;
    const index = this.#accept.indexOf(tcb, this.#first);
    if (index >= 0) this.#accept.splice(index, 1);
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.tcp.unlisten(this);
    for (const tcb of [...this.halfOpen]) tcb.abort();
    for (const tcb of this.#accept.splice(this.#first)) tcb.abort();
  }
}
