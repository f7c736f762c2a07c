/**
 * Connections of the kernel's that can end with a reset: those of `node:net`. A `Deno.Conn` has no way to but to end well, which
 * an answer without a length takes for its end.
 *
 * @module
 */
import type { Buffer } from "node:buffer";
import net from "node:net";
import type { ServerInside } from "./node_inside.ts";
import type { Connection } from "./relay.ts";

/** Connections that wait to be accepted. */
const BACKLOG = 511;
const LOOPBACK = "127.0.0.1";

/** One that was accepted. */
export class KernelConn implements Connection {
  readonly #socket: net.Socket;
  #chunk: Buffer | null = null;
  #at = 0;
  #ended = false;
  #error: Error | null = null;
  /** Ends a wait of {@link read}. */
  #news: () => void = () => {};

  /** Takes a socket of a server with `allowHalfOpen`. */
  constructor(socket: net.Socket) {
    this.#socket = socket;
    socket.setNoDelay(true);
    socket.on("readable", () => this.#news());
    socket.on("end", () => {
      this.#ended = true;
      this.#news();
    });
    socket.on("error", (error) => this.#error = error);
    socket.on("close", () => {
      if (!this.#ended) this.#error ??= new Deno.errors.ConnectionAborted("the connection was closed");
      this.#news();
    });
  }

  /** Where it comes from; undefined when it has gone already. */
  get remoteAddress(): string | undefined {
    return this.#socket.remoteAddress;
  }

  async read(p: Uint8Array): Promise<number | null> {
    for (;;) {
      const chunk = this.#chunk ??= this.#socket.read() as Buffer | null;
      if (chunk !== null) {
        const count = Math.min(p.length, chunk.length - this.#at);
        p.set(chunk.subarray(this.#at, this.#at + count));
        this.#at += count;
        if (this.#at === chunk.length) {
          this.#chunk = null;
          this.#at = 0;
        }
        return count;
      }
      if (this.#error !== null) throw this.#error;
      if (this.#ended) return null;
      await new Promise<void>((resolve) => this.#news = resolve);
    }
  }

  /** Writes all of it; `p` is the kernel's until then. */
  write(p: Uint8Array): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#socket.write(p, (error) => error ? reject(error) : resolve(p.length));
    });
  }

  closeWrite(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#socket.end(((error?: Error | null) => error ? reject(error) : resolve()) as () => void);
    });
  }

  /** Ends it with a reset: the other side sees an error, whatever it has got so far. */
  abort(): void {
    this.#socket.resetAndDestroy();
  }

  [Symbol.dispose](): void {
    this.#socket.destroy();
  }
}

/** A port of the kernel's on 127.0.0.1. It doesn't keep the process alive. */
export class KernelListener {
  readonly #server: net.Server;
  /** The port, chosen by the kernel. */
  readonly port: number;

  /**
   * Listens.
   *
   * @throws {Deno.errors.NotCapable} without `--allow-net` for 127.0.0.1; {Deno.errors.AddrNotAvailable} when there is no port
   */
  constructor(accept: (conn: KernelConn) => void) {
    this.#server = net.createServer({ allowHalfOpen: true }, (socket) => accept(new KernelConn(socket)));
    let failure: Error | null = null;
    this.#server.on("error", (error) => failure = error);
    // Below `listen`, which the hook has replaced, and at once: there is no name to be found.
    (this.#server as unknown as ServerInside)._listen2(LOOPBACK, 0, 4, BACKLOG, undefined, 0);
    const address = this.#server.address();
    if (address === null || typeof address === "string") {
      throw failure ?? new Deno.errors.AddrNotAvailable(`cannot listen on ${LOOPBACK}`);
    }
    this.port = address.port;
    this.#server.unref();
  }

  /** Takes no more connections. */
  close(): void {
    this.#server.close();
  }
}
