/**
 * A listening socket with the face of `Deno.TcpListener`.
 *
 * @module
 */
import { EAGAIN } from "../codes.ts";
import type { TcpListenSocket } from "../tcp/types.ts";
import { formatKey } from "../wire/address.ts";
import { badResource, errorFrom } from "./errors.ts";
import type { Failable, SocketOwner, SocketPump } from "./pump.ts";
import { TcpConn } from "./tcp_conn.ts";

class Owner implements SocketOwner, Failable {
  readonly socket: TcpListenSocket;
  readonly pump: SocketPump;
  fatal: Error | null = null;
  resolve: ((conn: TcpConn) => void) | null = null;
  reject: ((error: unknown) => void) | null = null;

  constructor(socket: TcpListenSocket, pump: SocketPump) {
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
  }

  onEvents(): void {
    if (this.resolve === null) return;
    const next = this.next();
    if (next === null) return;
    const { resolve } = this;
    this.resolve = this.reject = null;
    resolve(next);
  }

  next(): TcpConn | null {
    const socket = this.socket.accept();
    if (typeof socket !== "number") return new TcpConn(socket, this.pump);
    if (socket === EAGAIN) return null;
    throw errorFrom(socket, "accept");
  }

  cancel(error: unknown): void {
    const { reject } = this;
    this.resolve = this.reject = null;
    reject?.(error);
  }
}

/**
 * A listening TCP socket of a {@link NetStack}: what `Deno.TcpListener` is over the kernel. Made by `stack.listen()`.
 *
 * @example
 * ```ts
 * import type { NetStack } from "@tapioca/tapioca";
 *
 * export async function echo(stack: NetStack): Promise<void> {
 *   using listener = stack.listen({ port: 7 });
 *   for await (const conn of listener) {
 *     conn.readable.pipeTo(conn.writable).catch(() => {});
 *   }
 * }
 * ```
 */
export class TcpListener implements Deno.TcpListener {
  readonly #socket: TcpListenSocket;
  readonly #owner: Owner;
  readonly #pump: SocketPump;
  readonly #addr: Deno.NetAddr;
  #isClosed = false;

  /** Made by the stack; there is no other way to a socket. */
  constructor(socket: TcpListenSocket, pump: SocketPump) {
    this.#socket = socket;
    this.#pump = pump;
    this.#owner = new Owner(socket, pump);
    socket.owner = this.#owner;
    this.#addr = { hostname: formatKey(socket.localKey), port: socket.localPort, transport: "tcp" };
  }

  /** The address that it listens on: "0.0.0.0" for all of the stack's. */
  get addr(): Deno.NetAddr {
    return this.#addr;
  }

  /** Connections that wait to be accepted. */
  get pending(): number {
    return this.#isClosed ? 0 : this.#socket.pending;
  }

  /**
   * Waits for the next connection.
   *
   * @throws {Deno.errors.Busy} while another `accept()` waits; {Deno.errors.BadResource} when the listener is closed or gets
   * closed meanwhile
   */
  accept(): Promise<TcpConn> {
    const owner = this.#owner;
    if (owner.fatal !== null) return Promise.reject(owner.fatal);
    if (this.#isClosed) return Promise.reject(badResource("Listener has been closed"));
    if (owner.resolve !== null) return Promise.reject(new Deno.errors.Busy("Another accept task is ongoing"));
    try {
      const next = owner.next();
      if (next !== null) return Promise.resolve(next);
    } catch (error) {
      return Promise.reject(error);
    }
    return new Promise((resolve, reject) => {
      owner.resolve = resolve;
      owner.reject = reject;
    });
  }

  /** The next connection, or the end once the listener is closed. */
  async next(): Promise<IteratorResult<TcpConn>> {
    try {
      return { value: await this.accept(), done: false };
    } catch (error) {
      if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) {
        return { value: undefined, done: true };
      }
      throw error;
    }
  }

  /**
   * Leaving a `for await` closes the listener, as with Deno.
   *
   * @throws {Deno.errors.BadResource} when it is closed already
   */
  return(value?: unknown): Promise<IteratorResult<TcpConn>> {
    this.close();
    return Promise.resolve({ value, done: true });
  }

  /** The connections as they come; ends quietly when the listener is closed. */
  [Symbol.asyncIterator](): AsyncIterableIterator<TcpConn> {
    return this;
  }

  /**
   * Stops listening. Connections nobody has accepted are reset; an `accept()` that waits rejects with BadResource.
   *
   * @throws {Deno.errors.BadResource} when it is closed already
   */
  close(): void {
    if (this.#isClosed) throw badResource();
    this.#isClosed = true;
    this.#pump.now();
    this.#pump.failables.delete(this.#owner);
    this.#owner.cancel(badResource("Listener has been closed"));
    this.#socket.close();
    this.#pump.schedule();
  }

  /** Closes it; no error when it is closed already. */
  [Symbol.dispose](): void {
    if (!this.#isClosed) this.close();
  }

  /** For compatibility: the stack as a whole keeps the process alive, see `NetStack.ref`. */
  ref(): void {}

  /** For compatibility: the stack as a whole keeps the process alive, see `NetStack.unref`. */
  unref(): void {}
}
