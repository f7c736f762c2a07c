/**
 * A TCP connection with the face of `Deno.TcpConn`.
 *
 * @module
 */
import { EAGAIN, ECONNRESET, EPIPE } from "../codes.ts";
import { EVENT_CLOSED, EVENT_ERROR, EVENT_READABLE, EVENT_WRITABLE } from "../tcp/types.ts";
import type { TcpInfo, TcpSocket } from "../tcp/types.ts";
import { formatKey } from "../wire/address.ts";
import { isBytes, notBytes, transferred } from "./bytes.ts";
import { badResource, errorFrom, interrupted } from "./errors.ts";
import { checkTcpOptions } from "./options.ts";
import type { Failable, SocketOwner, SocketPump } from "./pump.ts";
import { readableOf, writableOf } from "./streams.ts";
import { append, NO_BYTES, rejectAll, type Waiter, withoutFirst } from "./waiters.ts";

/** What {@link Owner} does for a connection; in an object of its own, so that its methods aren't on the public face. */
class Owner implements SocketOwner, Failable {
  /** The last of those that wait, see `waiters.ts`. */
  reads: Waiter<number | null> | null = null;
  writes: Waiter<number> | null = null;
  /** The pending error was given to somebody: from then on reads say the end and writes a broken pipe, as on Linux. */
  reported = false;
  /** Why the whole stack ended, which counts more than what the socket says. */
  fatal: Error | null = null;
  done = false;
  onDone: (() => void) | null = null;
  readonly socket: TcpSocket;
  readonly pump: SocketPump;

  constructor(socket: TcpSocket, pump: SocketPump) {
    this.socket = socket;
    this.pump = pump;
    pump.failables.add(this);
  }

  get localKey(): number {
    return this.socket.localKey;
  }

  fail(error: Error): void {
    this.fatal = error;
    this.cancel(error);
    this.end();
  }

  end(): void {
    if (this.done) return;
    this.done = true;
    this.pump.failables.delete(this);
    this.onDone?.();
  }

  onEvents(events: number): void {
    const over = (events & (EVENT_ERROR | EVENT_CLOSED)) !== 0;
    if (this.reads !== null && (over || (events & EVENT_READABLE) !== 0)) this.#serveReads();
    if (this.writes !== null && (over || (events & EVENT_WRITABLE) !== 0)) this.serveWrites();
    if (over) this.end();
  }

  /** Bytes read, null at the end, or `EAGAIN`. Throws what the connection died of, once. */
  tryRead(into: Uint8Array): number | null {
    if (this.fatal !== null) throw this.fatal;
    const count = this.socket.receive(into, 0, into.byteLength);
    if (count > 0 || count === EAGAIN) return count;
    if (count === 0) return null;
    if (this.reported || count === EPIPE || this.brokenPipe(count)) return null;
    this.reported = true;
    throw errorFrom(count);
  }

  /** Bytes taken, 0 when there is no room. */
  tryWrite(bytes: Uint8Array): number {
    if (this.fatal !== null) throw this.fatal;
    const count = this.socket.send(bytes, 0, bytes.byteLength);
    if (count >= 0) return count;
    if (count === EAGAIN) return 0;
    const broken = this.reported || this.brokenPipe(count);
    this.reported = true;
    if (broken) throw errorFrom(EPIPE);
    throw errorFrom(count);
  }

  /** A reset behind the peer's FIN is no news to a reader, and a broken pipe to a writer, as on Linux. */
  brokenPipe(code: number): boolean {
    return code === ECONNRESET && this.socket.finReceived;
  }

  #serveReads(): void {
    while (this.reads !== null) {
      const waiter = this.reads.next!;
      try {
        // A buffer that was given away meanwhile has no room, and 0 bytes would be the end.
        if (waiter.bytes.byteLength === 0) throw transferred();
        const count = this.tryRead(waiter.bytes);
        if (count === EAGAIN) break;
        waiter.resolve(count);
      } catch (error) {
        waiter.reject(error);
      }
      this.reads = withoutFirst(this.reads);
    }
  }

  serveWrites(): void {
    while (this.writes !== null) {
      const waiter = this.writes.next!;
      try {
        if (waiter.bytes.byteLength === 0 && waiter.bytes !== NO_BYTES) throw transferred();
        const count = waiter.bytes === NO_BYTES ? 1 : this.tryWrite(waiter.bytes);
        if (count === 0) break;
        waiter.resolve(count);
      } catch (error) {
        waiter.reject(error);
      }
      this.writes = withoutFirst(this.writes);
    }
  }

  get waiting(): boolean {
    return this.reads !== null || this.writes !== null;
  }

  cancel(error: Error): void {
    const { reads, writes } = this;
    this.reads = this.writes = null;
    rejectAll(reads, error);
    rejectAll(writes, error);
  }
}

/**
 * A TCP connection over a {@link NetStack}: what `Deno.TcpConn` is over the kernel, with the same members, results and
 * errors. Made by `stack.connect()` and `TcpListener.accept()`.
 *
 * Beyond that it has {@link info}, {@link abort}, {@link setUserTimeout} and {@link closed}.
 *
 * @example
 * ```ts
 * import type { NetStack } from "@tapioca/tapioca";
 *
 * export async function hello(stack: NetStack): Promise<string> {
 *   using conn = await stack.connect({ hostname: "10.0.0.1", port: 7 });
 *   await conn.write(new TextEncoder().encode("hello"));
 *   const buffer = new Uint8Array(1024);
 *   const count = await conn.read(buffer) ?? 0;
 *   return new TextDecoder().decode(buffer.subarray(0, count));
 * }
 * ```
 */
export class TcpConn implements Deno.TcpConn {
  readonly #socket: TcpSocket;
  readonly #owner: Owner;
  readonly #pump: SocketPump;
  #localAddr: Deno.NetAddr | null = null;
  #remoteAddr: Deno.NetAddr | null = null;
  #isClosed = false;
  #shut = false;
  #closedPromise: Promise<void> | null = null;
  #readable: ReadableStream<Uint8Array<ArrayBuffer>> | null = null;
  #writable: WritableStream<Uint8Array<ArrayBufferLike>> | null = null;

  /** Made by the stack; there is no other way to a socket. */
  constructor(socket: TcpSocket, pump: SocketPump) {
    this.#socket = socket;
    this.#pump = pump;
    this.#owner = new Owner(socket, pump);
    socket.owner = this.#owner;
  }

  /** The address of this end. */
  get localAddr(): Deno.NetAddr {
    const { localKey, localPort } = this.#socket;
    return this.#localAddr ??= { hostname: formatKey(localKey), port: localPort, transport: "tcp" };
  }

  /** The address of the other end. */
  get remoteAddr(): Deno.NetAddr {
    const { remoteKey, remotePort } = this.#socket;
    return this.#remoteAddr ??= { hostname: formatKey(remoteKey), port: remotePort, transport: "tcp" };
  }

  /** The connection's figures, as `ss -i` shows them. Times in milliseconds, sizes in bytes. Also after `close()`. */
  get info(): TcpInfo {
    return this.#socket.info();
  }

  /**
   * Copies received bytes into `p`, straight from the connection's buffer.
   *
   * @returns how many bytes, at least 1 (0 only for an empty `p`); null at the end of what the peer sends
   * @throws {Deno.errors.ConnectionReset} once, when the peer has reset the connection; {Deno.errors.TimedOut} when it has
   * vanished; {Deno.errors.BadResource} after `close()`; {Deno.errors.Interrupted} when closed while it waits; {TypeError} when
   * `p` is no Uint8Array, or is transferred while it waits
   */
  read(p: Uint8Array): Promise<number | null> {
    if (!isBytes(p)) return notBytes();
    if (p.byteLength === 0) return Promise.resolve(0);
    if (this.#isClosed) return Promise.reject(badResource());
    const owner = this.#owner;
    if (owner.reads === null) {
      try {
        const count = owner.tryRead(p);
        if (count !== EAGAIN) {
          this.#pump.touch();
          return Promise.resolve(count);
        }
      } catch (error) {
        return Promise.reject(error);
      }
    }
    return new Promise((resolve, reject) => {
      owner.reads = append(owner.reads, { bytes: p, resolve, reject, next: null });
    });
  }

  /**
   * Copies bytes of `p` into the connection's send buffer, as many as there is room for, and waits when there is none.
   *
   * @returns how many bytes, maybe fewer than `p` has
   * @throws {Deno.errors.ConnectionReset} once, when the peer has reset the connection; {Deno.errors.BrokenPipe} from then on
   * and after `closeWrite()`; {Deno.errors.BadResource} after `close()`; {Deno.errors.Interrupted} when closed while it waits;
   * {TypeError} when `p` is no Uint8Array, or is transferred while it waits
   */
  write(p: Uint8Array): Promise<number> {
    if (!isBytes(p)) return notBytes();
    if (this.#isClosed) return Promise.reject(badResource());
    if (p.byteLength === 0) return Promise.resolve(0);
    const owner = this.#owner;
    if (owner.writes === null) {
      try {
        const count = owner.tryWrite(p);
        if (count > 0) {
          this.#pump.touch();
          return Promise.resolve(count);
        }
      } catch (error) {
        return Promise.reject(error);
      }
    }
    return new Promise((resolve, reject) => {
      owner.writes = append(owner.writes, { bytes: p, resolve, reject, next: null });
    });
  }

  /**
   * Ends this direction: the peer reads to the end of what was written, then null. The other direction stays open.
   *
   * @throws {Deno.errors.BadResource} after `close()`
   */
  closeWrite(): Promise<void> {
    if (this.#isClosed) return Promise.reject(badResource());
    if (this.#shut) return Promise.resolve();
    this.#shut = true;
    const shut = () => {
      this.#pump.now();
      this.#socket.shutdownWrite();
      this.#pump.schedule();
    };
    const owner = this.#owner;
    if (owner.writes === null) {
      shut();
      return Promise.resolve();
    }
    return new Promise((done) => {
      const resolve = () => {
        shut();
        done();
      };
      owner.writes = append(owner.writes, { bytes: NO_BYTES, resolve, reject: resolve, next: null });
    });
  }

  /**
   * Lets go of the connection. What was written is still sent, then a FIN; with unread data a reset follows at once.
   * Reads and writes that wait reject with `Deno.errors.Interrupted`.
   *
   * @throws {Deno.errors.BadResource} when it is closed already
   */
  close(): void {
    if (this.#isClosed) throw badResource();
    this.#release();
    if (this.#socket.receiveQueued > 0) {
      // As Deno does it: the peer reads what it can, and the end, before it meets the reset.
      this.#socket.shutdownWrite();
      this.#pump.tcp.flush(this.#pump.ip.now);
    }
    this.#socket.close();
    this.#pump.schedule();
  }

  /** Resets the connection: nothing more is sent or received, and the peer is told. No error when it is closed already. */
  abort(): void {
    this.#release();
    this.#socket.abort();
    this.#pump.schedule();
  }

  #release(): void {
    this.#isClosed = true;
    this.#pump.now();
    // An error costs a stack trace: only for somebody who waits.
    if (this.#owner.waiting) this.#owner.cancel(interrupted());
    this.#owner.end();
  }

  /** Closes it; no error when it is closed already. */
  [Symbol.dispose](): void {
    if (!this.#isClosed) this.close();
  }

  /** Resolves when the connection is over: closed here, ended by both sides, reset, or given up. Never rejects. */
  get closed(): Promise<void> {
    return this.#closedPromise ??= new Promise((resolve) => {
      if (this.#owner.done) resolve();
      else this.#owner.onDone = resolve;
    });
  }

  /**
   * What the peer sends, as a byte stream: a BYOB reader gets its own buffer filled. As with Deno, the connection is closed
   * at the end of the stream, when it fails, and when it is cancelled.
   */
  get readable(): ReadableStream<Uint8Array<ArrayBuffer>> {
    return this.#readable ??= readableOf({
      isClosed: () => this.#isClosed,
      tryRead: (into) => {
        const count = this.#owner.reads !== null ? EAGAIN : this.#owner.tryRead(into);
        this.#pump.touch();
        return count;
      },
      read: (into) => this.read(into),
      release: () => this[Symbol.dispose](),
    });
  }

  /**
   * What the peer gets, with back-pressure: a chunk, any buffer or view, is done when it is in the send buffer. Closing it
   * closes the connection, and so does anything else as a chunk.
   */
  get writable(): WritableStream<Uint8Array<ArrayBufferLike>> {
    return this.#writable ??= writableOf({
      isClosed: () => this.#isClosed,
      write: (bytes) => this.write(bytes),
      release: () => this[Symbol.dispose](),
    });
  }

  /**
   * Turns Nagle's algorithm (RFC 896) off or on.
   *
   * @param noDelay true sends small writes at once, false gathers them
   * @throws {Deno.errors.BadResource} after `close()`
   */
  setNoDelay(noDelay = true): void {
    if (this.#isClosed) throw badResource();
    this.#pump.now();
    this.#socket.setNoDelay(Boolean(noDelay));
    this.#pump.touch();
  }

  /**
   * Turns keep-alive on or off.
   *
   * @param keepAlive probe the peer while the connection is idle (RFC 9293 3.8.4)
   * @param idleMs milliseconds until the first probe, and `intervalMs` between probes, `count` of them; as before when left out
   * @throws {RangeError} a number outside the range that `connect` has for it; {Deno.errors.BadResource} after `close()`
   */
  setKeepAlive(keepAlive = true, idleMs?: number, intervalMs?: number, count?: number): void {
    checkTcpOptions({ keepAliveIdleMs: idleMs, keepAliveIntervalMs: intervalMs, keepAliveCount: count });
    if (this.#isClosed) throw badResource();
    this.#pump.now();
    this.#socket.setKeepAlive(Boolean(keepAlive), idleMs, intervalMs, count);
    this.#pump.schedule();
  }

  /**
   * Gives up when what was sent isn't acknowledged for so long (RFC 5482).
   *
   * @param ms milliseconds up to 2^31 - 1, 0 for the normal number of retransmissions
   * @throws {RangeError} when it is none of these; {Deno.errors.BadResource} after `close()`
   */
  setUserTimeout(ms: number): void {
    // Undefined would be an option left out.
    checkTcpOptions({ userTimeoutMs: ms ?? NaN });
    if (this.#isClosed) throw badResource();
    this.#pump.now();
    this.#socket.setUserTimeout(ms);
    this.#pump.schedule();
  }

  /** For compatibility: the stack as a whole keeps the process alive, see `NetStack.ref`. */
  ref(): void {}

  /** For compatibility: the stack as a whole keeps the process alive, see `NetStack.unref`. */
  unref(): void {}
}
