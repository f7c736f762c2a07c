/**
 * A TCP socket with the calls of POSIX, none of which waits.
 *
 * @module
 */
import {
  EADDRNOTAVAIL,
  EAGAIN,
  EALREADY,
  EBADF,
  EINPROGRESS,
  EINVAL,
  EISCONN,
  ENOPROTOOPT,
  ENOTCONN,
  EPIPE,
  OK,
} from "../codes.ts";
import { ANY } from "../ip/types.ts";
import { wrongTcpOption } from "../tcp/check_options.ts";
import { mergedOptions } from "../tcp/set_options.ts";
import type { Tcp } from "../tcp/tcp.ts";
import type { TcpInfo, TcpListenSocket, TcpOptions, TcpSocket } from "../tcp/types.ts";
import { CLOSED, ESTABLISHED, LISTEN, STATE_NAMES, SYN_RECEIVED, SYN_SENT } from "../tcp/types.ts";
import { formatKey, tryParseAddress } from "../wire/address.ts";
import type { BoundPorts } from "./bound_ports.ts";
import { fromField, TCP_OPTIONS, type TcpOptionName, toField } from "./options.ts";

/** Bits of `poll`, as in `<poll.h>`: something can be received (or accepted). */
export const POLLIN = 1;
/** Something can be sent. */
export const POLLOUT = 4;
/** There is a pending error. */
export const POLLERR = 8;
/** Both directions have ended. */
export const POLLHUP = 16;
/** The peer has ended its direction. */
export const POLLRDHUP = 0x2000;

/** What a socket needs of its stack. */
export interface BareTcpHost {
  tcp: Tcp;
  ports: BoundPorts;
  settle(): void;
}

/**
 * A TCP socket of a {@link BareStack}. Every call returns at once: a count or 0 when it went well, else a negative errno code
 * (`codes`), the one that Linux gives to a non-blocking socket. Nothing here throws.
 *
 * @example
 * ```ts
 * import { BareStack, codes, PacketDevice } from "@tapioca/tapioca";
 *
 * const stack = new BareStack(new PacketDevice(), { address: "192.0.2.1/24" });
 * const socket = stack.tcp();
 * console.log(socket.bind("192.0.2.1", 80), socket.state); // 0 CLOSED
 * console.log(socket.listen(16), socket.state); // 0 LISTEN
 * console.log(socket.accept() === codes.EAGAIN); // true
 * console.log(socket.setOption("IP_TTL", 300) === codes.EINVAL, socket.getOption("IP_TTL")); // true 64
 * ```
 */
export class BareTcpSocket {
  readonly #host: BareTcpHost;
  #options: TcpOptions = {};
  #socket: TcpSocket | null = null;
  #listener: TcpListenSocket | null = null;
  #localKey = ANY;
  #localPort = 0;
  #bound = false;
  #reuse = 0;
  #lingerSeconds = -1;
  /** `connect` waits for the first `send`. */
  #deferred: { key: number; port: number } | null = null;
  #connectTold = false;
  #errorTold = false;
  #closed = false;

  /** Made by `BareStack.tcp()` and {@link accept}. */
  constructor(host: BareTcpHost, accepted: TcpSocket | null = null) {
    this.#host = host;
    this.#socket = accepted;
    if (accepted === null) return;
    this.#connectTold = true;
    this.#localKey = accepted.localKey;
    this.#localPort = accepted.localPort;
  }

  /** State by the name that the RFC gives it: "CLOSED", "SYN-SENT", … Also after {@link close}. */
  get state(): string {
    if (this.#listener !== null) return STATE_NAMES[LISTEN];
    return STATE_NAMES[this.#socket?.state ?? CLOSED];
  }

  /** The address of this end; "0.0.0.0" while it is open. */
  get localAddress(): string {
    return formatKey(this.#socket?.localKey ?? this.#listener?.localKey ?? this.#localKey);
  }

  /** The port of this end; 0 while it is open. */
  get localPort(): number {
    return this.#socket?.localPort ?? this.#listener?.localPort ?? this.#localPort;
  }

  /** The address of the peer; "0.0.0.0" without one. */
  get remoteAddress(): string {
    return formatKey(this.#socket?.remoteKey ?? ANY);
  }

  /** The port of the peer; 0 without one. */
  get remotePort(): number {
    return this.#socket?.remotePort ?? 0;
  }

  /** Bytes (on a listener: connections) that wait to be received. */
  get receiveQueued(): number {
    return this.#listener?.pending ?? this.#socket?.receiveQueued ?? 0;
  }

  /** Bytes that were sent and not acknowledged yet. */
  get sendQueued(): number {
    return this.#socket?.sendQueued ?? 0;
  }

  /** The connection's figures; null before {@link connect} and on a listener. */
  info(): TcpInfo | null {
    return this.#socket?.info() ?? null;
  }

  /** The pending error, cleared by this: 0 or a negative code (SO_ERROR). */
  takeError(): number {
    const error = this.#pendingError;
    if (error !== 0) this.#errorTold = true;
    return error;
  }

  get #pendingError(): number {
    return this.#errorTold ? OK : this.#socket?.error ?? OK;
  }

  /** What can be done now: a sum of `POLLIN` 1, `POLLOUT` 4, `POLLERR` 8, `POLLHUP` 16 and `POLLRDHUP` 0x2000. */
  poll(): number {
    if (this.#listener !== null) return this.#listener.pending > 0 ? POLLIN : 0;
    const socket = this.#socket;
    if (socket === null) return POLLOUT | POLLHUP;
    const { state } = socket;
    let bits = this.#pendingError !== 0 ? POLLERR : 0;
    if (state === SYN_SENT || (state === SYN_RECEIVED && socket.receiveQueued === 0)) return bits;
    if (socket.finReceived || state === CLOSED) bits |= POLLRDHUP | POLLIN;
    if (socket.receiveQueued > 0) bits |= POLLIN;
    if (state === CLOSED || (socket.finReceived && socket.writeShut)) bits |= POLLHUP;
    if (state === CLOSED || socket.writeShut || 3 * socket.sendSpace >= socket.sendQueued) bits |= POLLOUT;
    return bits;
  }

  /**
   * Gives the socket its address; port 0 for a free one.
   *
   * @returns 0; `EADDRINUSE`, `EADDRNOTAVAIL` no address of the stack, `EINVAL` bound already, or no address
   */
  bind(address: string, port: number): number {
    if (this.#closed) return EBADF;
    const key = tryParseAddress(address);
    if (this.#bound || this.#socket !== null || this.#listener !== null || key === null) return EINVAL;
    if (!Number.isInteger(port) || port < 0 || port > 65_535) return EINVAL;
    const { tcp, ports } = this.#host;
    if (key !== ANY && !tcp.ip.isLocal(key)) return EADDRNOTAVAIL;
    const chosen = ports.reserve(key, port, this.#reuse !== 0);
    if (chosen < 0) return chosen;
    this.#bound = true;
    this.#localKey = key;
    this.#localPort = chosen;
    return OK;
  }

  #unbind(): void {
    if (this.#bound) this.#host.ports.release(this.#localKey, this.#localPort);
    this.#bound = false;
  }

  /**
   * Listens; on a listener it changes nothing but succeeds.
   *
   * @param backlog connections that may wait to be accepted, at least 1
   * @returns 0; `EADDRINUSE` another listens there, `EINVAL` connected
   */
  listen(backlog: number): number {
    if (this.#closed) return EBADF;
    if (this.#listener !== null) return OK;
    if (this.#socket !== null) return EINVAL;
    const listener = this.#host.tcp.listen(this.#localKey, this.#localPort, Math.max(1, backlog), this.#options);
    if (typeof listener === "number") return listener;
    this.#listener = listener;
    this.#localPort = listener.localPort;
    return OK;
  }

  /**
   * Begins to connect, or tells how far that is.
   *
   * @returns `EINPROGRESS` begun, `EALREADY` not done yet, 0 the first time after it was done, `EISCONN` from then on; what it
   * failed of, once; 0 with TCP_FASTOPEN_CONNECT, when nothing is sent yet; `EADDRNOTAVAIL`, `ENETUNREACH`, `EINVAL`
   */
  connect(address: string, port: number): number {
    if (this.#closed) return EBADF;
    if (this.#listener !== null) return EISCONN;
    const pending = this.#progress();
    if (pending !== null) return pending;
    const key = tryParseAddress(address);
    if (key === null || !Number.isInteger(port) || port < 1 || port > 65_535) return EINVAL;
    if (this.#options.fastOpen === true) {
      this.#deferred = { key, port };
      return OK;
    }
    return this.#begin(key, port);
  }

  /** What `connect` says about a connection that was begun; null when there is none. */
  #progress(): number | null {
    const socket = this.#socket;
    if (this.#deferred !== null) return EALREADY;
    if (socket === null) return null;
    if (socket.state === SYN_SENT || socket.state === SYN_RECEIVED) return EALREADY;
    if (socket.state === CLOSED && socket.error !== 0) {
      const error = this.takeError();
      if (error !== 0) return error;
      this.#socket = null; // it failed and that was told: another try
      return null;
    }
    if (this.#connectTold) return EISCONN;
    this.#connectTold = true;
    return OK;
  }

  #begin(key: number, port: number): number {
    const { tcp } = this.#host;
    const socket = tcp.connect(this.#localKey, this.#localPort, key, port, tcp.now, { ...this.#options });
    if (typeof socket === "number") return socket;
    this.#socket = socket;
    this.#connectTold = this.#errorTold = false;
    if (this.#deferred === null) this.#host.settle();
    return EINPROGRESS;
  }

  /** The next connection that waits; `EAGAIN` when none does, `EINVAL` not a listener. */
  accept(): BareTcpSocket | number {
    if (this.#closed) return EBADF;
    if (this.#listener === null) return EINVAL;
    const socket = this.#listener.accept();
    if (typeof socket === "number") return socket;
    const accepted = new BareTcpSocket(this.#host, socket);
    accepted.#options = { ...this.#options };
    accepted.#lingerSeconds = this.#lingerSeconds;
    return accepted;
  }

  /**
   * Sends.
   *
   * @returns how many bytes were taken; `EAGAIN` there is no room, or no connection yet; `EPIPE` after shutdown; the pending
   * error, once
   */
  send(bytes: Uint8Array): number {
    if (this.#closed) return EBADF;
    const deferred = this.#deferred;
    if (deferred !== null) {
      const code = this.#begin(deferred.key, deferred.port);
      this.#deferred = null;
      if (code !== EINPROGRESS) return code;
    }
    const socket = this.#socket;
    if (socket === null) return EPIPE;
    if (bytes.length === 0) return OK;
    const count = socket.send(bytes, 0, bytes.length);
    this.#host.settle();
    if (count > 0) return count;
    if (count === 0 || count === EAGAIN) return EAGAIN;
    return count === EPIPE ? EPIPE : this.takeError() || EPIPE;
  }

  /**
   * Receives into `into`.
   *
   * @returns how many bytes; 0 at the end of what the peer sends; `EAGAIN` nothing now; `ENOTCONN`; the pending error, once
   */
  receive(into: Uint8Array): number {
    if (this.#closed) return EBADF;
    const socket = this.#socket;
    if (socket === null) return ENOTCONN;
    const count = socket.receive(into, 0, into.length);
    this.#host.settle();
    if (count >= 0 || count === EAGAIN) return count;
    return this.takeError();
  }

  /** Ends one direction or both. 0, or `ENOTCONN`; on a listener "read" and "both" stop it. */
  shutdown(how: "read" | "write" | "both"): number {
    if (this.#closed) return EBADF;
    if (how !== "read" && how !== "write" && how !== "both") return EINVAL;
    if (this.#listener !== null) {
      if (how !== "write") this.#stopListening();
      return OK;
    }
    const socket = this.#socket;
    if (socket === null || socket.state === CLOSED) return ENOTCONN;
    if (how !== "write") socket.shutdownRead();
    const code = how !== "read" ? socket.shutdownWrite() : OK;
    this.#host.settle();
    return code;
  }

  #stopListening(): void {
    this.#listener?.close();
    this.#listener = null;
    this.#host.settle();
  }

  /**
   * Lets go of the socket: what was sent goes on in the background, and {@link state} shows it. A reset goes out at once with
   * SO_LINGER 0, and when something was received that nobody took.
   *
   * @returns 0, or `EBADF` the second time
   */
  close(): number {
    if (this.#closed) return EBADF;
    this.#closed = true;
    if (this.#listener !== null) this.#stopListening();
    this.#socket?.close(this.#lingerSeconds === 0 ? 0 : undefined);
    this.#unbind();
    this.#host.settle();
    return OK;
  }

  /** Sets an option. 0; `EINVAL` and nothing changed for a wrong value, `ENOPROTOOPT` for one that isn't known. */
  setOption(name: TcpOptionName, value: number | string): number {
    if (this.#closed) return EBADF;
    const rule = TCP_OPTIONS[name];
    if (rule !== undefined) {
      const options: TcpOptions = { [rule.field]: toField(rule, value) };
      if (wrongTcpOption(options) !== null) return EINVAL;
      const code = this.#socket?.setOptions(options) ?? this.#listener?.setOptions(options) ?? OK;
      if (code === OK) this.#options = mergedOptions(this.#options, options);
      this.#host.settle();
      return code;
    }
    if (typeof value !== "number" || !Number.isInteger(value)) return EINVAL;
    if (name === "SO_LINGER") {
      if (value < -1) return EINVAL;
      this.#lingerSeconds = value;
    } else if (name === "SO_REUSEADDR") {
      this.#reuse = value === 0 ? 0 : 1;
    } else {
      return ENOPROTOOPT;
    }
    return OK;
  }

  /** An option's value, `SO_ERROR` (then cleared) and `SO_ACCEPTCONN` among them; `ENOPROTOOPT` for one that isn't known. */
  getOption(name: TcpOptionName | "SO_ERROR" | "SO_ACCEPTCONN"): number | string {
    if (name === "SO_ERROR") return this.takeError();
    if (name === "SO_ACCEPTCONN") return this.#listener !== null ? 1 : 0;
    if (name === "SO_LINGER") return this.#lingerSeconds;
    if (name === "SO_REUSEADDR") return this.#reuse;
    if (name === "TCP_MAXSEG" && this.#socket !== null && this.#socket.state >= ESTABLISHED) return this.#socket.info().sendMss;
    const rule = TCP_OPTIONS[name];
    return rule === undefined ? ENOPROTOOPT : fromField(rule, this.#options);
  }
}
