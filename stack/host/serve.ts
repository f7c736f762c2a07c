/**
 * An HTTP server over a listener of a stack: node:http below, `Request` and `Response` above.
 *
 * @module
 */
import { createServer } from "node:http";
import type { IncomingMessage, Server, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { isBytes } from "./bytes.ts";
import { nodeSocket } from "./node.ts";
import type { NodeStream } from "./node.ts";
import { checkFunction, checkObject } from "../checks.ts";
import { checkSignal } from "./options.ts";
import type { TcpListener } from "./tcp_listener.ts";

/** Who asks. */
export interface ServeInfo {
  /** Address and port of the client. */
  remoteAddr: Deno.NetAddr;
}

/** Answers a request. What it throws becomes a response 500, or what `onError` says. */
export type ServeHandler = (request: Request, info: ServeInfo) => Response | Promise<Response>;

/** Options of {@link serve}. */
export interface ServeOptions {
  /** Shuts the server down when aborted. */
  signal?: AbortSignal;
  /** Makes a response of what the handler threw. Default, and when it throws or gives no `Response`: a plain 500. */
  onError?: (error: unknown) => Response | Promise<Response>;
}

/** A running server, with the face of `Deno.HttpServer`. */
export interface StackHttpServer extends AsyncDisposable {
  /** Resolves when the server has ended; rejects when its listener failed, for example because the device is gone. */
  readonly finished: Promise<void>;
  /** Where it listens. */
  readonly addr: Deno.NetAddr;
  /** Stops listening, lets requests that run finish, and closes the connections. */
  shutdown(): Promise<void>;
  /** For compatibility with `Deno.HttpServer`. */
  ref(): void;
  /** For compatibility with `Deno.HttpServer`. */
  unref(): void;
}

class HttpServer implements StackHttpServer {
  readonly addr: Deno.NetAddr;
  readonly finished: Promise<void>;
  readonly #listener: TcpListener;
  readonly #handler: ServeHandler;
  readonly #options: ServeOptions;
  readonly #server: Server;
  /** Connections, and how many requests each is busy with. */
  readonly #busy = new Map<NodeStream, number>();
  #stopping = false;
  #allClosed: (() => void) | null = null;

  constructor(listener: TcpListener, handler: ServeHandler, options: ServeOptions) {
    this.#listener = listener;
    this.#handler = handler;
    this.#options = options;
    this.addr = listener.addr;
    this.#server = createServer((request, response) => void this.#onRequest(request, response));
    // Deno ends keep-alive on a server that doesn't listen itself.
    Object.defineProperty(this.#server, "listening", { get: () => true });
    this.#server.on("clientError", (_error: Error, socket: Duplexish) => badRequest(socket));
    this.finished = this.#run();
    this.finished.catch(() => {});
    options.signal?.addEventListener("abort", this.#onAbort);
    if (options.signal?.aborted) this.#stop();
  }

  readonly #onAbort = (): void => this.#stop();

  async #run(): Promise<void> {
    try {
      for await (const conn of this.#listener) {
        conn.setNoDelay(true);
        const socket = nodeSocket(conn, { allowHalfOpen: true });
        this.#busy.set(socket, 0);
        socket.on("error", () => {});
        socket.on("close", () => this.#onClose(socket));
        this.#server.emit("connection", socket);
      }
    } finally {
      this.#options.signal?.removeEventListener("abort", this.#onAbort);
      this.#stop();
      if (this.#busy.size > 0) await new Promise<void>((resolve) => this.#allClosed = resolve);
      this.#server.removeAllListeners();
    }
  }

  #onClose(socket: NodeStream): void {
    this.#busy.delete(socket);
    if (this.#busy.size === 0) this.#allClosed?.();
  }

  #stop(): void {
    if (this.#stopping) return;
    this.#stopping = true;
    this.#listener[Symbol.dispose]();
    for (const [socket, count] of this.#busy) if (count === 0) socket.destroy();
  }

  shutdown(): Promise<void> {
    this.#stop();
    return this.finished;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.shutdown();
  }

  ref(): void {}

  unref(): void {}

  async #onRequest(incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
    const socket = incoming.socket as unknown as NodeStream;
    this.#busy.set(socket, (this.#busy.get(socket) ?? 0) + 1);
    outgoing.on("error", () => {});
    try {
      if (this.#stopping) outgoing.setHeader("connection", "close");
      await send(await this.#answer(incoming, outgoing, socket), incoming, outgoing);
    } catch {
      // The connection broke, or the body's stream failed after the head was sent: the client must see a cut answer.
      socket.destroy();
    }
    const left = (this.#busy.get(socket) ?? 1) - 1;
    if (this.#busy.has(socket)) this.#busy.set(socket, left);
    if (this.#stopping && left === 0) socket.destroySoon();
  }

  async #answer(incoming: IncomingMessage, outgoing: ServerResponse, socket: NodeStream): Promise<Response> {
    let request: Request;
    try {
      request = toRequest(incoming, outgoing, this.addr);
    } catch {
      return new Response("Bad Request\n", { status: 400, headers: { connection: "close" } });
    }
    try {
      const remoteAddr: Deno.NetAddr = { hostname: socket.remoteAddress, port: socket.remotePort, transport: "tcp" };
      return sendable(await this.#handler(request, { remoteAddr }), "the handler");
    } catch (error) {
      return await this.#failure(error);
    }
  }

  async #failure(error: unknown): Promise<Response> {
    const { onError } = this.#options;
    if (onError !== undefined) {
      try {
        return sendable(await onError(error), "onError");
      } catch {
        // Falls through to the plain answer.
      }
    }
    return new Response("Internal Server Error\n", { status: 500 });
  }
}

function sendable(response: unknown, who: string): Response {
  if (!(response instanceof Response)) throw new TypeError(`${who} must give a Response`);
  if (response.bodyUsed) throw new TypeError("the response's body has been used already");
  return response;
}

interface Duplexish {
  writable: boolean;
  end(text: string): void;
  destroy(): void;
}

function badRequest(socket: Duplexish): void {
  if (socket.writable) socket.end("HTTP/1.1 400 Bad Request\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
  else socket.destroy();
}

function toRequest(incoming: IncomingMessage, outgoing: ServerResponse, addr: Deno.NetAddr): Request {
  const method = incoming.method ?? "GET";
  const headers = new Headers();
  const raw = incoming.rawHeaders;
  for (let i = 0; i + 1 < raw.length; i += 2) headers.append(raw[i], raw[i + 1]);
  const target = incoming.url ?? "/";
  const host = headers.get("host") ?? `${addr.hostname}:${addr.port}`;
  const url = target.startsWith("/") ? `http://${host}${target}` : target === "*" ? `http://${host}/` : target;
  const gone = new AbortController();
  outgoing.on("close", () => {
    if (!outgoing.writableFinished) gone.abort();
  });
  const hasBody = method !== "GET" && method !== "HEAD";
  const body = hasBody ? Readable.toWeb(incoming) as unknown as ReadableStream<Uint8Array<ArrayBuffer>> : null;
  return new Request(url, { method, headers, body, signal: gone.signal });
}

function writeHead(response: Response, outgoing: ServerResponse, length: number | null): void {
  outgoing.statusCode = response.status;
  if (response.statusText !== "") outgoing.statusMessage = response.statusText;
  for (const [name, value] of response.headers) if (name !== "set-cookie") outgoing.setHeader(name, value);
  const cookies = response.headers.getSetCookie();
  if (cookies.length > 0) outgoing.setHeader("set-cookie", cookies);
  if (length !== null && !outgoing.hasHeader("content-length")) outgoing.setHeader("content-length", length);
}

/** Sends a response; resolves when its last byte was taken. */
async function send(response: Response, incoming: IncomingMessage, outgoing: ServerResponse): Promise<void> {
  if (response.body === null || incoming.method === "HEAD") {
    const none = response.body === null && incoming.method !== "HEAD" && response.status >= 200 &&
      response.status !== 204 && response.status !== 304;
    writeHead(response, outgoing, none ? 0 : null);
    await response.body?.cancel().catch(() => {});
    return await end(outgoing);
  }
  const reader = response.body.getReader();
  const stop = () => void reader.cancel().catch(() => {});
  outgoing.on("close", stop);
  const late = new Promise<null>((resolve) => setImmediate(resolve, null));
  let next = reader.read();
  const first = await Promise.race([next, late]);
  if (first?.done) {
    writeHead(response, outgoing, 0);
    return await end(outgoing);
  }
  if (first === null) {
    // A body that takes its time, events for example: the client is told at once that it comes.
    writeHead(response, outgoing, null);
    outgoing.flushHeaders();
  } else {
    next = reader.read();
    // A body that is one chunk (a string, bytes) ends at once: then its length can be told.
    const alone = (await Promise.race([next, late]))?.done === true && isBytes(first.value);
    writeHead(response, outgoing, alone ? first.value.byteLength : null);
    if (alone) return await end(outgoing, first.value);
    await write(outgoing, first.value);
  }
  for (;;) {
    const { done, value } = await next;
    if (done) break;
    await write(outgoing, value);
    next = reader.read();
  }
  await end(outgoing);
}

function write(outgoing: ServerResponse, chunk: Uint8Array): Promise<void> | void {
  if (!isBytes(chunk)) throw new TypeError("a chunk of the body is no Uint8Array");
  if (outgoing.destroyed) throw new Error("the client has gone");
  if (outgoing.write(chunk)) return;
  return new Promise((resolve, reject) => {
    const settle = (error?: Error) => {
      outgoing.off("drain", onDrain);
      outgoing.off("close", onClose);
      if (error === undefined) resolve();
      else reject(error);
    };
    const onDrain = () => settle();
    const onClose = () => settle(new Error("the client has gone"));
    outgoing.on("drain", onDrain);
    outgoing.on("close", onClose);
  });
}

function end(outgoing: ServerResponse, chunk?: Uint8Array): Promise<void> {
  return new Promise((resolve) => {
    outgoing.on("close", () => resolve());
    if (chunk === undefined) outgoing.end(() => resolve());
    else outgoing.end(chunk, () => resolve());
  });
}

/**
 * Serves HTTP/1.1 on a listener of a stack: what `Deno.serve` is over the kernel. Connections are kept alive, bodies are
 * streamed in both directions. The server owns the listener.
 *
 * @param listener from `stack.listen({ port: 80 })`
 * @param handler answers a request
 * @throws {TypeError} for a wrong argument, before anything is accepted
 *
 * @example
 * ```ts
 * import { type NetStack, serve } from "@tapioca/tapioca";
 *
 * export async function hello(stack: NetStack): Promise<void> {
 *   const server = serve(stack.listen({ port: 80 }), () => new Response("hello\n"));
 *   await server.finished;
 * }
 * ```
 */
export function serve(listener: TcpListener, handler: ServeHandler, options: ServeOptions = {}): StackHttpServer {
  if (typeof listener?.accept !== "function") throw new TypeError("serve needs a listener, like stack.listen({ port: 80 })");
  if (typeof handler !== "function") throw new TypeError(`handler must be a function: ${handler}`);
  checkObject(options);
  checkSignal(options.signal);
  checkFunction("onError", options.onError);
  return new HttpServer(listener, handler, options);
}
