/**
 * What the main thread asks a worker's stack by message.
 *
 * @module
 */
import { EADDRINUSE, ECONNABORTED, ENOBUFS } from "../stack/codes.ts";
import { abortReason, errorFrom } from "../stack/host/errors.ts";
import { layersOf, type NetStack } from "../stack/host/net_stack.ts";
import { hostOrSelf } from "../stack/host/options.ts";
import type { PingOptions } from "../stack/host/ping.ts";
import type { Failable, SocketOwner } from "../stack/host/pump.ts";
import type { RecordType } from "../stack/host/resolver.ts";
import { EVENT_CLOSED, EVENT_CONNECTED, EVENT_ERROR, type TcpOptions, type TcpSocket } from "../stack/tcp/types.ts";
import { formatKey, tryParseAddress } from "../stack/wire/address.ts";
import type { Requests } from "./messages.ts";
import type { SlotTable } from "./slots.ts";
import { ConnectionSlot, ListenerSlot } from "./thread_tcp.ts";
import { DatagramSlot } from "./thread_udp.ts";

/** Linux's range of local ports. */
const PORT_MIN = 32_768;
const PORT_COUNT = 28_232;

type Layers = ReturnType<typeof layersOf>;

/** The calls of one worker. */
export class Calls {
  readonly #layers: Layers;
  readonly #attempts = new Map<number, AbortController>();

  /** @param index of the worker and `count` of all: its local ports are those with that remainder */
  constructor(readonly stack: NetStack, readonly table: SlotTable, readonly index: number, readonly count: number) {
    this.#layers = layersOf(stack);
  }

  /** Runs `call` with a signal that {@link abort} can end. */
  async #attempt<T>(attempt: number, call: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const controller = new AbortController();
    this.#attempts.set(attempt, controller);
    try {
      return await call(controller.signal);
    } finally {
      this.#attempts.delete(attempt);
    }
  }

  abort({ attempt }: Requests["abort"]): void {
    this.#attempts.get(attempt)?.abort();
  }

  /** Opens a connection. Its slot. */
  connect(args: Requests["connect"]): Promise<number> {
    return this.#attempt(args.attempt, async (signal) => {
      let last: unknown;
      for (const address of await this.stack.resolve(args.hostname, "A", { signal })) {
        try {
          return await this.#handshake(hostOrSelf(tryParseAddress(address) ?? 0, args.localKey), args, signal);
        } catch (error) {
          last = error;
          if (signal.aborted) break;
        }
      }
      throw last;
    });
  }

  #handshake(remoteKey: number, args: Requests["connect"], signal: AbortSignal): Promise<number> {
    const { localKey, localPort, port, initialData } = args;
    let tried = `connect ${formatKey(remoteKey)}:${port}`;
    if (localKey !== 0 || localPort !== 0) tried += ` from ${formatKey(localKey)}:${localPort}`;
    const options = initialData === undefined ? args.options : { ...args.options, fastOpen: true };
    const socket = this.#open(localKey, localPort, remoteKey, port, options);
    if (typeof socket === "number") throw errorFrom(socket, tried);
    if (initialData !== undefined && socket.send(initialData, 0, initialData.byteLength) < initialData.byteLength) {
      socket.abort();
      throw errorFrom(ENOBUFS, tried);
    }
    this.#layers.pump.schedule();
    return new Promise((resolve, reject) => {
      new Handshake(socket, this.#layers, this.table, signal, tried, resolve, reject);
    });
  }

  /** With several workers each has its own local ports: two of them can't make the same connection. */
  #open(localKey: number, localPort: number, remoteKey: number, port: number, options: TcpOptions): TcpSocket | number {
    const { tcp, ip, pump } = this.#layers;
    const now = pump.now();
    if (this.count === 1 || localPort !== 0) return tcp.connect(localKey, localPort, remoteKey, port, now, options);
    //= rfc6056#3.3.1
    // next_ephemeral = min_ephemeral + (random() % num_ephemeral), and on from there until one is free
    const groups = Math.floor(PORT_COUNT / this.count);
    let group = ip.random32() % groups;
    let code = 0;
    for (let tries = 0; tries < groups; tries++) {
      const chosen = PORT_MIN + group * this.count + ((this.index - PORT_MIN % this.count + this.count) % this.count);
      const socket = tcp.connect(localKey, chosen, remoteKey, port, now, options);
      if (typeof socket !== "number") return socket;
      code = socket;
      // Another port wouldn't help.
      if (code !== EADDRINUSE) return code;
      group = (group + 1) % groups;
    }
    return code;
  }

  listen({ key, port, backlog, options }: Requests["listen"]): { slot: number; port: number } | number {
    this.#layers.pump.now();
    const slot = this.table.take();
    if (slot < 0) return ENOBUFS;
    const socket = this.#layers.tcp.listen(key, port, backlog, options);
    if (typeof socket === "number") {
      this.table.free(slot);
      return socket;
    }
    this.table.put(new ListenerSlot(slot, this.table, socket));
    return { slot, port: socket.localPort };
  }

  openDatagram(args: Requests["openDatagram"]): { slot: number; key: number; port: number } | number {
    this.#layers.pump.now();
    const slot = this.table.take();
    if (slot < 0) return ENOBUFS;
    const socket = this.#layers.udp.open(args.key, args.port, args.options);
    let code = typeof socket === "number" ? socket : 0;
    if (typeof socket !== "number" && args.remotePort !== 0) {
      code = socket.connect(args.remoteKey, args.remotePort);
      if (code < 0) socket.close();
    }
    if (typeof socket === "number" || code < 0) {
      this.table.free(slot);
      return code;
    }
    this.table.put(new DatagramSlot(slot, this.table, socket));
    return { slot, key: socket.localKey, port: socket.localPort };
  }

  setTcp({ slot, what, values }: Requests["setTcp"]): number {
    const found = this.table.get(slot);
    if (!(found instanceof ConnectionSlot) && !(found instanceof ListenerSlot)) return 0;
    const { socket } = found;
    this.#layers.pump.now();
    let code = 0;
    if (what === "options") code = socket.setOptions(values[0] as TcpOptions);
    else if (found instanceof ConnectionSlot) {
      const tcp = found.socket;
      if (what === "noDelay") tcp.setNoDelay(values[0] as boolean);
      else if (what === "userTimeout") tcp.setUserTimeout(values[0] as number);
      else tcp.setKeepAlive(values[0] as boolean, values[1] as number, values[2] as number, values[3] as number);
    }
    this.#layers.pump.schedule();
    return code;
  }

  setUdp({ slot, what, group, options }: Requests["setUdp"]): number {
    const found = this.table.get(slot);
    if (!(found instanceof DatagramSlot)) return 0;
    this.#layers.pump.now();
    let code = 0;
    if (what === "join") code = found.socket.joinMulticast(group);
    else if (what === "leave") code = found.socket.leaveMulticast(group);
    else found.socket.setOptions(options);
    this.#layers.pump.schedule();
    return code;
  }

  info({ slot }: Requests["info"]): unknown {
    const found = this.table.get(slot);
    return found instanceof ConnectionSlot ? found.socket.info() : null;
  }

  ping({ host, options, attempt }: Requests["ping"]): Promise<unknown> {
    return this.#attempt(attempt, (signal) => this.stack.ping(host, { ...options as PingOptions, signal }));
  }

  resolve({ name, type, attempt }: Requests["resolve"]): Promise<unknown> {
    return this.#attempt(attempt, (signal) => this.stack.resolve(name, type as RecordType, { signal }));
  }

  statistics(): unknown {
    return { ...this.stack.statistics, worker: this.table.statistics };
  }

  show({ what }: Requests["show"]): unknown {
    return what === "connections" ? this.stack.connections() : this.stack[what];
  }
}

/** A handshake that the main thread waits for. */
class Handshake implements SocketOwner, Failable {
  constructor(
    readonly socket: TcpSocket,
    readonly layers: Layers,
    readonly table: SlotTable,
    readonly signal: AbortSignal,
    readonly tried: string,
    readonly resolve: (slot: number) => void,
    readonly reject: (error: unknown) => void,
  ) {
    socket.owner = this;
    layers.pump.failables.add(this);
    signal.addEventListener("abort", this.#onAbort);
  }

  onEvents(events: number): void {
    if ((events & EVENT_CONNECTED) !== 0) {
      this.#settle();
      const index = this.table.take();
      if (index < 0) {
        this.socket.abort();
        return this.reject(errorFrom(ENOBUFS, this.tried));
      }
      const slot = new ConnectionSlot(index, this.table, this.socket, -1);
      this.table.put(slot);
      const rest = events & ~EVENT_CONNECTED;
      if (rest !== 0) slot.onEvents(rest);
      this.resolve(index);
    } else if ((events & (EVENT_ERROR | EVENT_CLOSED)) !== 0) {
      this.fail(errorFrom(this.socket.error || ECONNABORTED, this.tried));
    }
  }

  fail(error: unknown): void {
    this.#settle();
    this.socket.owner = null;
    this.reject(error);
  }

  readonly #onAbort = (): void => {
    this.layers.pump.now();
    this.socket.abort();
    this.fail(abortReason(this.signal));
    this.layers.pump.schedule();
  };

  #settle(): void {
    this.layers.pump.failables.delete(this);
    this.signal.removeEventListener("abort", this.#onAbort);
  }
}
