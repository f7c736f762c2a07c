/**
 * `node:net` over a stack, and with it all that stands on it: http, https, tls, and packages from npm.
 *
 * Only two methods are replaced, on the prototypes of `net.Socket` and `net.Server`: whoever has imported which function from
 * where, all of them end there.
 *
 * @module
 */
import net from "node:net";
import tls from "node:tls";
import type { NetStack } from "../stack/host/net_stack.ts";
import { type Hook, takes } from "./hook.ts";
import { reinitialize, streamSocketClass } from "./node_inside.ts";
import type { ConnectArguments, ConnectRequest, ListenArguments, NetInside, ServerInside, SocketInside } from "./node_inside.ts";
import { type Patches } from "./patches.ts";
import { stackHost } from "./rule.ts";
import { StackHandle, StackServerHandle } from "./stack_handle.ts";

type Callback = (...args: unknown[]) => void;
type Method<T> = (this: T, ...args: unknown[]) => unknown;

/** Arguments of `connect` and `listen`, which may have been looked through already. */
function normalize(args: unknown[]): [ConnectArguments & ListenArguments, Callback | null] {
  if (Array.isArray(args[0])) return args[0] as unknown as [ConnectArguments, Callback | null];
  return (net as unknown as NetInside)._normalizeArgs(args);
}

type Answer = { address: string; family: number };
type LookupDone = (error: Error | null, address?: string | Answer[], family?: number) => void;

/** Names are the stack's to resolve, with Node's shape of result and error. */
function lookupOver(stack: NetStack) {
  return (hostname: string, options: { all?: boolean }, done: LookupDone): void => {
    const find = async () => await stack.resolve(stackHost(hostname), "A");
    find().then((addresses) => {
      if (options.all) done(null, addresses.map((address) => ({ address, family: 4 })));
      else done(null, addresses[0], 4);
    }, (cause) => {
      const code = cause instanceof Deno.errors.NotFound ? "ENOTFOUND" : cause?.code ?? "EAI_AGAIN";
      const text = `getaddrinfo ${code} ${hostname}`;
      done(Object.assign(new Error(text, { cause }), { code, syscall: "getaddrinfo", hostname }));
    });
  };
}

/** Puts a stack's handle below a socket that is to connect. */
function giveHandle(socket: SocketInside, stack: NetStack, allowHalfOpen: boolean): void {
  if (socket.destroyed) {
    socket._handle = null;
    socket._peername = socket._sockname = undefined;
  }
  const handle = new StackHandle(stack);
  if (socket instanceof tls.TLSSocket) giveTlsHandle(socket as unknown as SocketInside, handle, allowHalfOpen);
  else (socket[reinitialize] as (handle: object) => void)(handle);
}

/**
 * Below a TLS socket is a TLS engine, and that runs over a stream only by way of a class of Node's own. The members that
 * the engine doesn't have are passed on to ours.
 */
function giveTlsHandle(socket: SocketInside, handle: StackHandle, allowHalfOpen: boolean): void {
  const StreamSocket = streamSocketClass();
  if (StreamSocket === null) throw new Deno.errors.NotSupported("TLS over a stack: node:tls isn't made as this needs it");
  // deno-lint-ignore no-explicit-any
  const below = new net.Socket({ handle, manualStart: true, allowHalfOpen } as any);
  const stream = new StreamSocket(below);
  stream.on("error", () => {});
  Object.assign(stream._handle, {
    connect: (request: ConnectRequest, address: string, port: number) => {
      return handle.connectFor(socket._handle!, request, address, port);
    },
    connect6: () => handle.connect6(),
    bind: (address: string, port: number) => handle.bind(address, port),
    bind6: () => handle.bind6(),
    getsockname: (name: object) => handle.getsockname(name),
    getpeername: (name: object) => handle.getpeername(name),
    setNoDelay: (on: boolean) => handle.setNoDelay(on),
    setKeepAlive: (on: boolean, seconds: number) => handle.setKeepAlive(on, seconds),
    ref: () => {},
    unref: () => {},
  });
  (socket[reinitialize] as (handle: object) => void)(stream._handle);
  stream.on("close", () => void socket.destroy());
  // Without the owner of the stream's end nobody closes it when the TLS socket is destroyed.
  socket.on("close", () => void stream.destroy());
}

function patchConnect(patches: Patches, hook: Hook): void {
  const original = net.Socket.prototype.connect as unknown as Method<SocketInside>;
  patches.replace(net.Socket.prototype, "connect", function (this: SocketInside, ...args: unknown[]): unknown {
    const [options, callback] = normalize(args);
    const { host = "localhost", port, path } = options;
    if (path != null || port === undefined || !takes(hook, "connect", "tcp", host, port)) return original.apply(this, args);
    giveHandle(this, hook.stack, options.allowHalfOpen ?? false);
    const lookup = options.lookup ?? lookupOver(hook.stack);
    // Trying several addresses at once is done with handles of Node's own.
    const mine = { ...options, host, lookup, autoSelectFamily: false };
    return callback === null ? original.call(this, mine) : original.call(this, mine, callback);
  });
}

/**
 * TLS over a socket that is still connecting: when it is connected Node gives its handle to the TLS engine, which can't take
 * ours, and has the stream already.
 */
function patchTls(patches: Patches, hook: Hook): void {
  const prototype = tls.TLSSocket.prototype as unknown as { _init: Method<SocketInside> };
  const original = prototype._init;
  patches.replace(prototype, "_init", function (this: SocketInside, ...args: unknown[]): unknown {
    const result = original.apply(this, args);
    const engine = this._handle as { _attachNativeHandle?: (handle: object) => void } | null;
    const attach = engine?._attachNativeHandle;
    if (engine !== null && attach !== undefined && hook.active) {
      engine._attachNativeHandle = (handle) => handle instanceof StackHandle ? undefined : attach(handle);
    }
    return result;
  });
}

/** A port that Node takes; for another one it has an error of its own. */
function portOf(port: unknown): number | null {
  if (port === undefined || port === null) return 0;
  const number = typeof port === "string" && port.trim() === "" ? NaN : Number(port);
  return Number.isInteger(number) && number >= 0 && number <= 65_535 ? number : null;
}

function patchListen(patches: Patches, hook: Hook): void {
  const original = net.Server.prototype.listen as unknown as Method<ServerInside>;
  patches.replace(net.Server.prototype, "listen", function (this: ServerInside, ...args: unknown[]): unknown {
    const [options, callback] = normalize(args);
    const { path, fd, handle, _handle } = options;
    const port = portOf(options.port);
    const special = path != null || fd !== undefined || handle !== undefined || _handle !== undefined || this._handle !== null;
    const host = options.host ?? "0.0.0.0";
    if (special || port === null || !takes(hook, "listen", "tcp", host, port)) return original.apply(this, args);
    this._listeningId++;
    if (callback !== null) this.once("listening", callback);
    closeOnAbort(this, options.signal);
    const given = options.backlog ?? args.slice(1, 3).find((value) => typeof value === "number");
    this._handle = new StackServerHandle(hook.stack, host, port);
    this._listen2(host, port, 4, Number(given) || 0, undefined, 0);
    return this;
  });
}

function closeOnAbort(server: ServerInside, signal: AbortSignal | undefined): void {
  if (signal === undefined) return;
  const close = () => server.close();
  if (signal.aborted) return queueMicrotask(close);
  signal.addEventListener("abort", close, { once: true });
  server.once("close", () => signal.removeEventListener("abort", close));
}

/** Replaces what `node:net` connects and listens with. */
export function patchNodeNet(patches: Patches, hook: Hook): void {
  patchConnect(patches, hook);
  patchListen(patches, hook);
  patchTls(patches, hook);
}
