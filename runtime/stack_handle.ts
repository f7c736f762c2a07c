/**
 * What is below a `net.Socket` and a `net.Server`: Node's "handle", over a stack instead of libuv. Node's own code above it
 * stays as it is, and with it every event, option and error message.
 *
 * @module
 */
import { Buffer } from "node:buffer";
import { constants } from "node:os";
import tls from "node:tls";
import type { NetStack } from "../stack/host/net_stack.ts";
import { keepAliveIdleMs } from "../stack/host/options.ts";
import type { TcpConn } from "../stack/host/tcp_conn.ts";
import type { TcpListener } from "../stack/host/tcp_listener.ts";
import { stackListenHost } from "./rule.ts";
import {
  type ConnectRequest,
  newAsyncId,
  ownerSymbol,
  type SocketInside,
  streamState,
  UV_EOF,
  type WriteRequest,
} from "./node_inside.ts";

/** Bytes read at once. */
const READ_BYTES = 65_536;

/** The negative number that libuv has for an error. */
export function uvCode(error: unknown, otherwise: number = constants.errno.EIO): number {
  const name = (error as { code?: unknown } | null)?.code;
  const errno = constants.errno as unknown as Record<string, number>;
  return -(typeof name === "string" && name in errno ? errno[name] : otherwise);
}

/** What a user's callback throws is the process's to meet as an uncaught exception, not as a rejected promise of ours. */
function callUser(callback: () => void): void {
  try {
    callback();
  } catch (error) {
    queueMicrotask(() => {
      throw error;
    });
  }
}

interface Name {
  address?: string;
  family?: string;
  port?: number;
}

/** Below a `net.Socket`. The names of its members, and when they call back, are Node's. */
export class StackHandle {
  readonly #stack: NetStack;
  #conn: TcpConn | null;
  #abort: AbortController | null = null;
  #local: { localAddress?: string; localPort?: number } = {};
  #noDelay = false;
  #keepAlive: [on: boolean, seconds: number] | null = null;
  /** Writes one after the other; a FIN behind the last. */
  #writes: Promise<void> = Promise.resolve();
  #pumping = false;
  #ended = false;
  #closed = false;
  #buffer: Uint8Array<ArrayBuffer> | null = null;
  #userBuffer: Uint8Array | null = null;
  #owner: SocketInside | null = null;
  readonly #asyncId: number = newAsyncId();
  /** Set by Node: takes what was read. */
  onread: ((buffer: ArrayBufferLike | undefined, count: number) => void) | null = null;
  reading = false;
  bytesRead = 0;
  bytesWritten = 0;

  /** Without a connection it is to `connect`. */
  constructor(stack: NetStack, conn: TcpConn | null = null) {
    this.#stack = stack;
    this.#conn = conn;
    Object.defineProperty(this, ownerSymbol, {
      get: () => this.#owner,
      set: (owner: SocketInside) => this.#adopt(owner),
    });
  }

  #adopt(owner: SocketInside): void {
    // A TLS socket over a stream reads from the stream; for a moment Node takes ours for a handle that does TLS itself.
    if (owner instanceof tls.TLSSocket) return;
    this.#owner = owner;
    // Node's own resets only what is libuv's.
    Object.defineProperty(owner, "resetAndDestroy", { value: () => this.#reset(owner), configurable: true, writable: true });
  }

  #reset(owner: SocketInside): SocketInside {
    if (owner.destroyed) return owner;
    this.#conn?.abort();
    return owner.destroy();
  }

  getAsyncId(): number {
    return this.#asyncId;
  }

  bind(address: string, port: number): number {
    this.#local = { localAddress: address === "0.0.0.0" ? undefined : address, localPort: port };
    return 0;
  }

  bind6(): number {
    return -constants.errno.EADDRNOTAVAIL;
  }

  /** Starts a connection; `request.oncomplete` tells how it went. */
  connect(request: ConnectRequest, address: string, port: number): number {
    return this.connectFor(this, request, address, port);
  }

  /** The stack speaks IPv4: no way there, and the host's must not be used instead. */
  connect6(): number {
    return -constants.errno.ENETUNREACH;
  }

  /** As {@link connect}, for a handle that stands upon this one. */
  connectFor(handle: object, request: ConnectRequest, address: string, port: number): number {
    this.#abort = new AbortController();
    const complete = (status: number) => callUser(() => request.oncomplete(status, handle, request, true, true));
    this.#stack.connect({ ...this.#local, hostname: address, port, signal: this.#abort.signal }).then((conn) => {
      if (this.#closed) return conn.abort();
      this.#take(conn);
      complete(0);
    }, (error) => {
      if (!this.#closed) complete(uvCode(error));
    });
    return 0;
  }

  #take(conn: TcpConn): void {
    this.#conn = conn;
    this.#abort = null;
    conn.setNoDelay(this.#noDelay);
    if (this.#keepAlive !== null) this.setKeepAlive(...this.#keepAlive);
    if (this.reading) this.readStart();
  }

  readStart(): number {
    this.reading = true;
    if (!this.#pumping && !this.#ended && this.#conn !== null) void this.#pump(this.#conn);
    return 0;
  }

  readStop(): number {
    this.reading = false;
    return 0;
  }

  /** From now on into a buffer of the user's. */
  useUserBuffer(buffer: Uint8Array): void {
    this.#userBuffer = buffer;
  }

  async #pump(conn: TcpConn): Promise<void> {
    this.#pumping = true;
    while (this.reading && !this.#closed) {
      const into = this.#userBuffer ?? (this.#buffer ??= new Uint8Array(READ_BYTES));
      let count: number | null;
      try {
        count = await conn.read(into);
      } catch (error) {
        if (!this.#closed) this.#give(undefined, uvCode(error));
        break;
      }
      if (this.#closed) break;
      if (count === null) {
        this.#ended = true;
        this.#give(undefined, UV_EOF);
        break;
      }
      this.bytesRead += count;
      this.#give(into === this.#buffer ? this.#piece(count) : undefined, count);
    }
    this.#pumping = false;
  }

  /** A small piece is copied, so that it doesn't hold 64 KiB; a large one is given away. */
  #piece(count: number): ArrayBuffer {
    const full = this.#buffer!;
    if (count < READ_BYTES / 2) return full.slice(0, count).buffer;
    this.#buffer = null;
    return full.buffer;
  }

  #give(buffer: ArrayBuffer | undefined, count: number): void {
    streamState.state[streamState.offset] = 0;
    streamState.state[streamState.count] = count;
    callUser(() => this.onread?.(buffer, count));
  }

  writeBuffer(request: WriteRequest, bytes: Uint8Array): number {
    return this.#write(request, [bytes]);
  }

  /** Either buffers alone, or each followed by its encoding. */
  writev(request: WriteRequest, chunks: (Uint8Array | string)[], allBuffers: boolean): number {
    if (allBuffers) return this.#write(request, chunks as Uint8Array[]);
    const buffers: Uint8Array[] = [];
    for (let i = 0; i < chunks.length; i += 2) {
      const chunk = chunks[i];
      buffers.push(typeof chunk === "string" ? Buffer.from(chunk, chunks[i + 1] as BufferEncoding) : chunk);
    }
    return this.#write(request, buffers);
  }

  writeUtf8String(request: WriteRequest, text: string): number {
    return this.#write(request, [Buffer.from(text, "utf8")]);
  }

  writeAsciiString(request: WriteRequest, text: string): number {
    return this.#write(request, [Buffer.from(text, "ascii")]);
  }

  writeLatin1String(request: WriteRequest, text: string): number {
    return this.#write(request, [Buffer.from(text, "latin1")]);
  }

  writeUcs2String(request: WriteRequest, text: string): number {
    return this.#write(request, [Buffer.from(text, "utf16le")]);
  }

  #write(request: WriteRequest, buffers: Uint8Array[]): number {
    const conn = this.#conn;
    if (conn === null) return -constants.errno.ENOTCONN;
    let length = 0;
    for (const { byteLength } of buffers) length += byteLength;
    streamState.state[streamState.written] = length;
    streamState.state[streamState.async] = 1;
    this.#writes = this.#writes.then(async () => {
      let status = 0;
      try {
        for (const bytes of buffers) {
          for (let at = 0; at < bytes.length;) at += await conn.write(at === 0 ? bytes : bytes.subarray(at));
        }
        this.bytesWritten += length;
      } catch (error) {
        status = this.#closed ? -constants.errno.ECANCELED : uvCode(error);
      }
      callUser(() => request.oncomplete(status, this, undefined));
    });
    return 0;
  }

  /** Sends a FIN behind everything written. */
  shutdown(request: { oncomplete(status: number): void }): number {
    const conn = this.#conn;
    if (conn === null) return -constants.errno.ENOTCONN;
    this.#writes = this.#writes.then(async () => {
      // One that is over already has nothing left to shut.
      await conn.closeWrite().catch(() => {});
      callUser(() => request.oncomplete(0));
    });
    return 0;
  }

  close(done?: () => void): void {
    if (!this.#closed) {
      this.#closed = true;
      this.reading = false;
      this.#abort?.abort();
      this.#conn?.[Symbol.dispose]();
    }
    if (typeof done === "function") setImmediate(() => callUser(done));
  }

  reset(done?: () => void): number {
    this.#conn?.abort();
    this.close(done);
    return 0;
  }

  setNoDelay(on: boolean): number {
    this.#noDelay = on;
    if (!this.#closed) this.#conn?.setNoDelay(on);
    return 0;
  }

  setKeepAlive(on: boolean, seconds: number): number {
    this.#keepAlive = [on, seconds];
    if (!this.#closed) this.#conn?.setKeepAlive(on, keepAliveIdleMs(seconds * 1000));
    return 0;
  }

  /** Before there is a connection, what was bound: Node looks whether that is what it asked for. */
  getsockname(name: Name): number {
    const { localAddress: hostname = "0.0.0.0", localPort: port } = this.#local;
    return describe(name, this.#conn?.localAddr ?? (port === undefined ? undefined : { transport: "tcp", hostname, port }));
  }

  getpeername(name: Name): number {
    return describe(name, this.#conn?.remoteAddr);
  }

  getBytesRead(): number {
    return this.bytesRead;
  }

  getBytesWritten(): number {
    return this.bytesWritten;
  }

  hasRef(): boolean {
    return true;
  }

  /** The stack as a whole keeps the process alive, see `NetStack.ref`. */
  ref(): void {}

  unref(): void {}
}

function describe(name: Name, address: Deno.NetAddr | undefined): number {
  if (address === undefined) return -constants.errno.ENOTCONN;
  name.address = address.hostname;
  name.family = "IPv4";
  name.port = address.port;
  return 0;
}

/** Below a `net.Server`. */
export class StackServerHandle {
  readonly #stack: NetStack;
  readonly #hostname: string;
  readonly #port: number;
  #listener: TcpListener | null = null;
  /** Set by Node: takes a connection. */
  onconnection: ((status: number, handle: StackHandle | undefined) => void) | null = null;

  constructor(stack: NetStack, hostname: string, port: number) {
    this.#stack = stack;
    this.#hostname = hostname;
    this.#port = port;
  }

  listen(backlog: number): number {
    try {
      const hostname = stackListenHost(this.#hostname);
      this.#listener = this.#stack.listen({ hostname, port: this.#port, backlog: Math.max(1, backlog) });
    } catch (error) {
      // A name, which the stack doesn't listen on.
      return uvCode(error, constants.errno.EADDRNOTAVAIL);
    }
    void this.#accept(this.#listener);
    return 0;
  }

  async #accept(listener: TcpListener): Promise<void> {
    try {
      for await (const conn of listener) callUser(() => this.onconnection?.(0, new StackHandle(this.#stack, conn)));
    } catch (error) {
      // The stack has gone. Node has no way to say more of a server than this.
      callUser(() => this.onconnection?.(uvCode(error), undefined));
    }
  }

  close(done?: () => void): void {
    this.#listener?.[Symbol.dispose]();
    this.#listener = null;
    if (typeof done === "function") setImmediate(() => callUser(done));
  }

  getsockname(name: Name): number {
    return describe(name, this.#listener?.addr);
  }

  hasRef(): boolean {
    return true;
  }

  /** The stack as a whole keeps the process alive, see `NetStack.ref`. */
  ref(): void {}

  unref(): void {}
}
