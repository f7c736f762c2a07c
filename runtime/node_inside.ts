/**
 * What this needs of the inside of `node:net` and `node:tls`, found once and checked, so that a Deno whose inside is
 * different says so at once instead of behaving strangely.
 *
 * @module
 */
import net from "node:net";
import process from "node:process";
import { Duplex } from "node:stream";
import tls from "node:tls";

/** Asks for a connection. */
export interface ConnectRequest {
  oncomplete(status: number, handle: object, request: ConnectRequest, readable: boolean, writable: boolean): void;
}

/** Asks for a write. */
export interface WriteRequest {
  oncomplete(status: number, handle: object, error: unknown): void;
}

/** A `net.Socket` from inside. */
export interface SocketInside {
  _handle: object | null;
  _peername?: object;
  _sockname?: object;
  readonly destroyed: boolean;
  destroy(error?: Error): this;
  on(event: string, listener: () => void): this;
  [member: symbol]: unknown;
}

/** Options of `connect`, as `net._normalizeArgs` gives them. */
export interface ConnectArguments {
  host?: string;
  port?: number | string;
  path?: string;
  lookup?: unknown;
  allowHalfOpen?: boolean;
}

/** Options of `listen`, likewise. */
export interface ListenArguments {
  host?: string;
  port?: number | string | null;
  path?: string;
  fd?: number;
  handle?: unknown;
  _handle?: unknown;
  backlog?: number;
  signal?: AbortSignal;
}

/** A `net.Server` from inside. */
export interface ServerInside {
  _handle: object | null;
  _listeningId: number;
  _listen2(address: string, port: number, addressType: number, backlog: number, fd: undefined, flags: number): void;
  once(event: string, listener: () => void): void;
  emit(event: string, value: unknown): boolean;
  close(): void;
}

/** `net` with what isn't in its documents. */
export interface NetInside {
  _normalizeArgs(args: unknown[]): [ConnectArguments & ListenArguments, ((...args: unknown[]) => void) | null];
}

type Binding = (name: string) => Record<string, unknown>;

const binding = (process as unknown as { binding?: Binding }).binding;

function bound(name: string): Record<string, unknown> {
  try {
    return binding?.(name) ?? {};
  } catch {
    return {};
  }
}

const streams = bound("stream_wrap");

/** Says which socket a handle belongs to. */
export const ownerSymbol = (bound("symbols").ownerSymbol ?? Symbol("owner")) as symbol;

/** The few numbers through which handles and streams talk: where they are, and what they mean. */
export const streamState = {
  state: (streams.streamBaseState ?? new Int32Array(8)) as Int32Array,
  count: streams.kReadBytesOrError as number,
  offset: streams.kArrayBufferOffset as number,
  written: streams.kBytesWritten as number,
  async: streams.kLastWriteWasAsync as number,
};

/** What libuv calls the end of a stream. */
export const UV_EOF = (bound("uv").UV_EOF ?? -4095) as number;

/** Numbers that tell asynchronous resources apart. */
export const newAsyncId = (bound("async_wrap").newAsyncId ?? (() => 1)) as () => number;

/** Gives a socket another handle. */
export const reinitialize: symbol = Object.getOwnPropertySymbols(net.Socket.prototype)
  .find(({ description }) => description === "kReinitializeHandle") ?? Symbol("missing");

/** The class that makes a `net.Socket` of a stream, which Node's TLS runs over. */
export type StreamSocket = new (stream: Duplex) => Duplex & { _handle: Record<string, unknown> };

let streamSocket: StreamSocket | null | undefined;

/** Finds {@link StreamSocket}: it is nowhere to be imported from, but below every TLS socket over a stream. */
export function streamSocketClass(): StreamSocket | null {
  if (streamSocket !== undefined) return streamSocket;
  const nothing = new Duplex({ read() {}, write: (_chunk, _encoding, done) => done() });
  const probe = new tls.TLSSocket(nothing as unknown as net.Socket);
  probe.on("error", () => {});
  const inside = probe as unknown as { _handle?: { _parentWrap?: { constructor: StreamSocket } } };
  streamSocket = inside._handle?._parentWrap?.constructor ?? null;
  probe.destroy();
  return streamSocket;
}

/** Throws if this Deno's `node:net` isn't made as expected. */
export function checkNodeInside(): void {
  const socket = net.Socket.prototype as unknown as Record<PropertyKey, unknown>;
  const secure = tls.TLSSocket.prototype as unknown as Record<PropertyKey, unknown>;
  const server = net.Server.prototype as unknown as Record<PropertyKey, unknown>;
  const { state, count, offset, written, async } = streamState;
  const known = binding !== undefined && streams.streamBaseState === state && bound("symbols").ownerSymbol === ownerSymbol &&
    [count, offset, written, async].every((at) => Number.isInteger(at)) && typeof socket[reinitialize] === "function" &&
    typeof server._listen2 === "function" && typeof secure._init === "function" &&
    typeof (net as unknown as NetInside)._normalizeArgs === "function";
  if (!known) throw new Deno.errors.NotSupported(`node:net of Deno ${Deno.version.deno} isn't made as this needs it`);
}
