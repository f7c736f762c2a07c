/**
 * Opening a TCP connection: from `TcpLayer.connect` to a {@link TcpConn}, or an error that says what was tried.
 *
 * @module
 */
import { EVENT_CLOSED, EVENT_CONNECTED, EVENT_ERROR } from "../tcp/types.ts";
import type { TcpOptions, TcpSocket } from "../tcp/types.ts";
import { ECONNABORTED, ENOBUFS } from "../codes.ts";
import { formatKey } from "../wire/address.ts";
import { abortReason, errorFrom } from "./errors.ts";
import { hostOrSelf } from "./options.ts";
import type { Failable, Pump, SocketOwner } from "./pump.ts";
import { TcpConn } from "./tcp_conn.ts";

/** A handshake that somebody waits for. */
class Handshake implements SocketOwner, Failable {
  readonly #socket: TcpSocket;
  readonly #pump: Pump;
  readonly #tried: string;
  readonly #signal: AbortSignal | undefined;
  readonly #resolve: (conn: TcpConn) => void;
  readonly #reject: (error: unknown) => void;

  constructor(
    socket: TcpSocket,
    pump: Pump,
    tried: string,
    signal: AbortSignal | undefined,
    resolve: (conn: TcpConn) => void,
    reject: (error: unknown) => void,
  ) {
    this.#socket = socket;
    this.#pump = pump;
    this.#tried = tried;
    this.#signal = signal;
    this.#resolve = resolve;
    this.#reject = reject;
    socket.owner = this;
    pump.failables.add(this);
    signal?.addEventListener("abort", this.#onAbort);
  }

  get localKey(): number {
    return this.#socket.localKey;
  }

  onEvents(events: number): void {
    if ((events & EVENT_CONNECTED) !== 0) {
      this.#settle();
      const conn = new TcpConn(this.#socket, this.#pump);
      // What came in the same burst, for example the peer's reset, is the connection's business.
      const rest = events & ~EVENT_CONNECTED;
      if (rest !== 0) (this.#socket.owner as SocketOwner).onEvents(rest);
      this.#resolve(conn);
    } else if ((events & (EVENT_ERROR | EVENT_CLOSED)) !== 0) {
      this.fail(errorFrom(this.#socket.error || ECONNABORTED, this.#tried));
    }
  }

  fail(error: unknown): void {
    this.#settle();
    this.#socket.owner = null;
    this.#reject(error);
  }

  readonly #onAbort = (): void => {
    this.#pump.now();
    this.#socket.abort();
    this.fail(abortReason(this.#signal!));
    this.#pump.schedule();
  };

  #settle(): void {
    this.#pump.failables.delete(this);
    this.#signal?.removeEventListener("abort", this.#onAbort);
  }
}

/** Where to connect to, all checked. */
export interface Destination {
  localKey: number;
  localPort: number;
  remoteKey: number;
  remotePort: number;
  signal?: AbortSignal;
  initialData?: Uint8Array;
  options?: TcpOptions;
}

/** Connects to one address. */
export function connectTo(pump: Pump, to: Destination): Promise<TcpConn> {
  const { localKey, localPort, remotePort, signal } = to;
  const remoteKey = hostOrSelf(to.remoteKey, localKey);
  if (signal?.aborted) return Promise.reject(abortReason(signal));
  let tried = `connect ${formatKey(remoteKey)}:${remotePort}`;
  if (localKey !== 0 || localPort !== 0) tried += ` from ${formatKey(localKey)}:${localPort}`;
  const { initialData } = to;
  const options = initialData === undefined ? to.options : { ...to.options, fastOpen: true };
  const socket = pump.tcp.connect(localKey, localPort, remoteKey, remotePort, pump.now(), options);
  if (typeof socket === "number") return Promise.reject(errorFrom(socket, tried));
  // The SYN goes out with the next flush: what is sent before it goes along.
  if (initialData !== undefined && socket.send(initialData, 0, initialData.byteLength) < initialData.byteLength) {
    socket.abort();
    return Promise.reject(errorFrom(ENOBUFS, tried));
  }
  pump.schedule();
  return new Promise((resolve, reject) => {
    new Handshake(socket, pump, tried, signal, resolve, reject);
  });
}
