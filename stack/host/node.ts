/**
 * Connections as Node streams, so that node:http, TLS, WebSocket and database programs run over a stack.
 *
 * @module
 */
import { Duplex } from "node:stream";
import { Agent } from "node:http";
import { checkObject, checkSwitch } from "../checks.ts";
import { keepAliveIdleMs } from "./options.ts";
import type { TcpConn } from "./tcp_conn.ts";
import type { NetStack } from "./net_stack.ts";

/** Bytes read at once. */
const READ_BYTES = 65_536;

/** Options of {@link nodeSocket}. */
export interface NodeSocketOptions {
  /** Keep this direction open when the peer has ended its own. Default false, as `net.Socket`. */
  allowHalfOpen?: boolean;
}

/** What Node calls an address: `{ address, family, port }`. */
export interface NodeAddress {
  /** The address, as text. */
  address: string;
  /** Always "IPv4". */
  family: "IPv4";
  /** Port. */
  port: number;
}

type Done = (error?: Error | null) => void;

/** A connection with the face of `net.Socket`, as much of it as programs ask for. */
class NodeSocket extends Duplex {
  readonly #conn: TcpConn;
  #buffer: Uint8Array<ArrayBuffer> = new Uint8Array(READ_BYTES);
  #timer: ReturnType<typeof setTimeout> | null = null;
  #timeoutMs = 0;
  /** Bytes in each direction. */
  bytesRead = 0;
  bytesWritten = 0;
  /** For programs that ask whether `connect` is still to come. */
  readonly connecting: boolean = false;
  readonly pending: boolean = false;

  constructor(conn: TcpConn, options: NodeSocketOptions) {
    super({ allowHalfOpen: options.allowHalfOpen ?? false });
    this.#conn = conn;
  }

  get localAddress(): string {
    return this.#conn.localAddr.hostname;
  }

  get localPort(): number {
    return this.#conn.localAddr.port;
  }

  get localFamily(): string {
    return "IPv4";
  }

  get remoteAddress(): string {
    return this.#conn.remoteAddr.hostname;
  }

  get remotePort(): number {
    return this.#conn.remoteAddr.port;
  }

  get remoteFamily(): string {
    return "IPv4";
  }

  get timeout(): number {
    return this.#timeoutMs;
  }

  address(): NodeAddress {
    return { address: this.localAddress, family: "IPv4", port: this.localPort };
  }

  override _read(): void {
    this.#conn.read(this.#buffer).then((count) => this.#onRead(count), (error) => this.destroy(error));
  }

  #onRead(count: number | null): void {
    if (this.destroyed) return;
    this.#refresh();
    if (count === null) {
      this.push(null);
      return;
    }
    this.bytesRead += count;
    // A small piece is copied, so that it doesn't hold 64 KiB; a large one is given away.
    if (count < READ_BYTES / 2) {
      this.push(this.#buffer.slice(0, count));
    } else {
      const full = this.#buffer;
      this.#buffer = new Uint8Array(READ_BYTES);
      this.push(full.subarray(0, count));
    }
  }

  override _write(chunk: Uint8Array, _encoding: string, done: Done): void {
    this.#writeAll(chunk).then(() => done(), done);
  }

  override _writev(chunks: { chunk: Uint8Array }[], done: Done): void {
    const all = async () => {
      for (const { chunk } of chunks) await this.#writeAll(chunk);
    };
    all().then(() => done(), done);
  }

  async #writeAll(chunk: Uint8Array): Promise<void> {
    for (let at = 0; at < chunk.length;) at += await this.#conn.write(at === 0 ? chunk : chunk.subarray(at));
    this.bytesWritten += chunk.length;
    this.#refresh();
  }

  override _final(done: Done): void {
    this.#conn.closeWrite().then(() => done(), () => done());
  }

  override _destroy(error: Error | null, done: Done): void {
    this.setTimeout(0);
    this.#conn[Symbol.dispose]();
    done(error);
  }

  /** Emits "timeout" after so many idle milliseconds; 0 turns it off. */
  setTimeout(ms: number, callback?: () => void): this {
    this.#timeoutMs = ms;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (ms > 0 && !this.destroyed) this.#timer = setTimeout(() => this.emit("timeout"), ms);
    if (callback !== undefined) {
      if (ms > 0) this.once("timeout", callback);
      else this.removeListener("timeout", callback);
    }
    return this;
  }

  #refresh(): void {
    if (this.#timer !== null) this.setTimeout(this.#timeoutMs);
  }

  setKeepAlive(on = false, initialDelayMs = 0): this {
    if (!this.destroyed) this.#conn.setKeepAlive(on, keepAliveIdleMs(initialDelayMs));
    return this;
  }

  setNoDelay(on = true): this {
    if (!this.destroyed) this.#conn.setNoDelay(on);
    return this;
  }

  /** Ends the connection with a reset. */
  resetAndDestroy(): this {
    this.#conn.abort();
    return this.destroy();
  }

  /** Writes what waits, then destroys. */
  destroySoon(): void {
    if (this.writableFinished) this.destroy();
    else this.end(() => this.destroy());
  }

  ref(): this {
    return this;
  }

  unref(): this {
    return this;
  }
}

/** A {@link TcpConn} as Node's programs want it: what {@link nodeSocket} gives. */
export type NodeStream = Duplex & {
  readonly bytesRead: number;
  readonly bytesWritten: number;
  readonly localAddress: string;
  readonly localPort: number;
  readonly remoteAddress: string;
  readonly remotePort: number;
  address(): NodeAddress;
  setTimeout(ms: number, callback?: () => void): unknown;
  setKeepAlive(on?: boolean, initialDelayMs?: number): unknown;
  setNoDelay(on?: boolean): unknown;
  resetAndDestroy(): unknown;
  destroySoon(): void;
  ref(): unknown;
  unref(): unknown;
};

/**
 * A connection as a Node stream with the members of `net.Socket` that programs use. The stream owns the connection from
 * then on: ending it sends a FIN, destroying it closes.
 *
 * Use it with `http.Server` (`server.emit("connection", stream)`), `tls.connect({ socket: stream })`, and whatever takes a
 * Duplex.
 *
 * @example
 * ```ts
 * import { connect } from "node:tls";
 * import { type NetStack, nodeSocket } from "@tapioca/tapioca";
 *
 * export async function secure(stack: NetStack, hostname: string) {
 *   const conn = await stack.connect({ hostname, port: 443 });
 *   return connect({ socket: nodeSocket(conn), servername: hostname });
 * }
 * ```
 */
export function nodeSocket(conn: TcpConn, options: NodeSocketOptions = {}): NodeStream {
  checkObject(options);
  checkSwitch("allowHalfOpen", options.allowHalfOpen);
  return new NodeSocket(conn, options) as unknown as NodeStream;
}

/**
 * A node:http Agent whose connections go over a stack.
 *
 * @example
 * ```ts
 * import { get } from "node:http";
 * import { httpAgent, type NetStack } from "@tapioca/tapioca";
 *
 * export function fetchOver(stack: NetStack) {
 *   get("http://10.0.0.1/", { agent: httpAgent(stack) }, (response) => console.log(response.statusCode));
 * }
 * ```
 */
export function httpAgent(stack: NetStack, options: { keepAlive?: boolean; maxSockets?: number } = {}): Agent {
  checkObject(options);
  const agent = new Agent(options);
  const createConnection = (
    to: { host?: string; hostname?: string; port?: number | string },
    callback: (error: Error | null, stream?: NodeStream) => void,
  ): void => {
    const hostname = to.host ?? to.hostname ?? "localhost";
    stack.connect({ hostname, port: Number(to.port ?? 80) }).then(
      (conn) => {
        // As Node's own agents do it.
        conn.setNoDelay(true);
        callback(null, nodeSocket(conn));
      },
      (error) => callback(error),
    );
  };
  return Object.assign(agent, { createConnection });
}
