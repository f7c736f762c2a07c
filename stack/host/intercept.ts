/**
 * Connections and datagrams to addresses that are nobody's here, taken in by the stack: what a user-mode gateway is made of.
 *
 * @module
 */
import { FrameMemory } from "../device.ts";
import type { Packet } from "../ip/types.ts";
import { Listener } from "../tcp/listener.ts";
import type { Tcp } from "../tcp/tcp.ts";
import type { TcpListenSocket, TcpOptions } from "../tcp/types.ts";
import type { UdpSocket } from "../udp/types.ts";
import { copyBytes } from "../wire/copy.ts";
import { formatKey, parseAddress } from "../wire/address.ts";
import { badResource } from "./errors.ts";
import { layersOf, type NetStack } from "./net_stack.ts";
import { TcpConn } from "./tcp_conn.ts";
import { TcpListener } from "./tcp_listener.ts";
import { UdpConn } from "./udp_conn.ts";

/** Connections that may wait for an answer at once. */
export const FLOWS_MAX = 4096;
/** A handshake that the other end doesn't finish in this time never will, in milliseconds. */
const HANDSHAKE_MS = 60_000;
/** Codes of "destination unreachable" (RFC 792, RFC 1812 5.2.7.1). */
export const UNREACHABLE = { network: 0, host: 1, port: 3, prohibited: 13 } as const;

/** A connection that somebody wants. One of its three answers must be given; until then nothing is said to who asks. */
export interface InterceptedConnection {
  /** Who asks. */
  readonly source: Deno.NetAddr;
  /** For whom it is meant. */
  readonly destination: Deno.NetAddr;
  /** Answers the SYN. Rejects when the other end doesn't finish the handshake, or the stack ends. */
  accept(): Promise<TcpConn>;
  /** Answers with a reset: connection refused. */
  refuse(): void;
  /** Answers with "destination unreachable". */
  unreachable(reason: keyof typeof UNREACHABLE): void;
}

/** Datagrams that somebody sends to an address of nobody here. */
export interface InterceptedDatagrams {
  /** Who sends them. */
  readonly source: Deno.NetAddr;
  /** For whom they are meant. */
  readonly destination: Deno.NetAddr;
  /** Stands for the destination: receives what is sent there, and sends back from there. Whoever takes it closes it. */
  readonly socket: UdpConn;
  /** Answers the first datagram with "destination unreachable"; the socket is closed. */
  unreachable(reason: keyof typeof UNREACHABLE): void;
}

/** Told of what was intercepted, outside of the stack's own work. */
export interface InterceptHandlers {
  /** A connection is asked for. */
  connection(flow: InterceptedConnection): unknown;
  /** A flow of datagrams begins. */
  datagrams(flow: InterceptedDatagrams): unknown;
}

/** Who carries out what was answered. */
interface FlowOwner {
  proceed(flow: Flow, state: number): void;
  reject(flow: Flow, code: number): void;
}

const WAITING = 0;
const ACCEPTED = 1;
const REFUSED = 2;

class Flow implements InterceptedConnection {
  state = WAITING;
  readonly source: Deno.NetAddr;
  readonly destination: Deno.NetAddr;
  readonly done: PromiseWithResolvers<TcpConn> = Promise.withResolvers<TcpConn>();
  cancelTimer: () => void = () => {};

  constructor(
    readonly owner: FlowOwner,
    readonly key: string,
    readonly packet: FrameMemory,
    readonly interfaceIndex: number,
    source: Deno.NetAddr,
    destination: Deno.NetAddr,
  ) {
    this.source = source;
    this.destination = destination;
    this.done.promise.catch(() => {});
  }

  accept(): Promise<TcpConn> {
    if (this.state === WAITING) this.owner.proceed(this, ACCEPTED);
    return this.done.promise;
  }

  refuse(): void {
    if (this.state === WAITING) this.owner.proceed(this, REFUSED);
  }

  unreachable(reason: keyof typeof UNREACHABLE): void {
    if (this.state === WAITING) this.owner.reject(this, UNREACHABLE[reason]);
  }
}

/** What {@link intercept} counts. */
export interface InterceptStatistics {
  /** Connections asked for. */
  connections: number;
  /** Datagram flows begun. */
  datagramFlows: number;
  /** Not even noted, because {@link FLOWS_MAX} were there. */
  overflow: number;
  /** Gauge: connections that wait for an answer or for the end of their handshake. */
  waiting: number;
}

/** All that a stack hands over; see {@link intercept}. */
export class Interception implements Disposable {
  readonly #layers: ReturnType<typeof layersOf>;
  readonly #handlers: InterceptHandlers;
  readonly #flows = new Map<string, Flow>();
  readonly #listener: TcpListenSocket;
  readonly #accepting: TcpListener;
  readonly #owner: FlowOwner = {
    proceed: (flow, state) => this.#proceed(flow, state),
    reject: (flow, code) => this.#reject(flow, code),
  };
  readonly #counters = { connections: 0, datagramFlows: 0, overflow: 0 };
  #closed = false;

  /** @internal */
  constructor(stack: NetStack, handlers: InterceptHandlers, options: TcpOptions) {
    const layers = this.#layers = layersOf(stack);
    const tcp = layers.tcp as Tcp;
    this.#handlers = handlers;
    tcp.statistics.listeners++;
    this.#listener = new Listener(tcp, 0, 0, 1024, options);
    this.#accepting = new TcpListener(this.#listener, layers.pump);
    layers.ip.anyAddress = true;
    tcp.intercept = (packet, sourcePort, port, begins) => this.#segment(packet, sourcePort, port, begins);
    layers.udp.intercept = (packet, sourcePort, port) => this.#datagram(packet, sourcePort, port);
    this.#acceptAll();
  }

  /** What happened so far. */
  get statistics(): InterceptStatistics {
    return { ...this.#counters, waiting: this.#flows.size };
  }

  #segment(packet: Packet, sourcePort: number, port: number, begins: boolean): TcpListenSocket | null | undefined {
    const key = `${packet.srcKey}:${sourcePort}>${packet.dstKey}:${port}`;
    const known = this.#flows.get(key);
    if (known !== undefined) return known.state === WAITING ? undefined : known.state === ACCEPTED ? this.#listener : null;
    if (!begins) return null;
    if (this.#flows.size >= FLOWS_MAX) {
      this.#counters.overflow++;
      return undefined;
    }
    this.#counters.connections++;
    const flow = new Flow(this.#owner, key, keep(packet), packet.interfaceIndex, ...ends("tcp", packet, sourcePort, port));
    this.#flows.set(key, flow);
    this.#layers.pump.callUser(() => this.#handlers.connection(flow));
    return undefined;
  }

  #datagram(packet: Packet, sourcePort: number, port: number): UdpSocket | null | undefined {
    const { udp, pump } = this.#layers;
    const socket = udp.open(packet.dstKey, port, { reuseAddress: true });
    if (typeof socket === "number") {
      this.#counters.overflow++;
      return undefined;
    }
    if (socket.connect(packet.srcKey, sourcePort) < 0) {
      socket.close();
      return undefined;
    }
    this.#counters.datagramFlows++;
    const [source, destination] = ends("udp", packet, sourcePort, port);
    const memory = keep(packet);
    const { interfaceIndex } = packet;
    const conn = new UdpConn(socket, pump, () => Promise.reject(badResource("no names here")));
    const unreachable = (reason: keyof typeof UNREACHABLE) => {
      conn[Symbol.dispose]();
      this.#answer(interfaceIndex, memory, UNREACHABLE[reason]);
    };
    pump.callUser(() => this.#handlers.datagrams({ source, destination, socket: conn, unreachable }));
    return socket;
  }

  #answer(interfaceIndex: number, memory: FrameMemory, code: number): void {
    if (this.#closed) return;
    this.#layers.pump.now();
    this.#layers.ip.reject(interfaceIndex, memory, code);
    this.#layers.pump.schedule();
  }

  /** Hands the SYN in again: now there is an answer to it. */
  #proceed(flow: Flow, state: number): void {
    flow.state = state;
    if (this.#closed) return this.#drop(flow);
    const { pump, ip } = this.#layers;
    if (state === ACCEPTED) flow.cancelTimer = pump.setTimer(HANDSHAKE_MS, () => this.#drop(flow));
    pump.now();
    ip.inject(flow.interfaceIndex, flow.packet, flow.packet.bytes.length);
    pump.schedule();
    if (state === REFUSED) this.#drop(flow);
  }

  #reject(flow: Flow, code: number): void {
    flow.state = REFUSED;
    this.#drop(flow);
    this.#answer(flow.interfaceIndex, flow.packet, code);
  }

  #drop(flow: Flow): void {
    this.#flows.delete(flow.key);
    flow.cancelTimer();
    flow.done.reject(new Deno.errors.ConnectionAborted("the handshake was not finished"));
  }

  async #acceptAll(): Promise<void> {
    try {
      for await (const conn of this.#accepting) this.#established(conn);
    } catch { /* the stack has ended, and says why itself */ }
  }

  #established(conn: TcpConn): void {
    const { localAddr, remoteAddr } = conn;
    const key = `${parseAddress(remoteAddr.hostname)}:${remoteAddr.port}>${parseAddress(localAddr.hostname)}:${localAddr.port}`;
    const flow = this.#flows.get(key);
    if (flow === undefined) return conn.abort();
    this.#flows.delete(key);
    flow.cancelTimer();
    flow.done.resolve(conn);
  }

  /** Takes nothing in any more; connections that were accepted stay. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    const { tcp, udp, ip } = this.#layers;
    tcp.intercept = udp.intercept = null;
    ip.anyAddress = false;
    this.#accepting[Symbol.dispose]();
    for (const flow of [...this.#flows.values()]) this.#drop(flow);
  }
}

/** A copy of a packet, which is gone after the call that hands it in. */
function keep(packet: Packet): FrameMemory {
  const length = packet.ipHeaderLength + packet.length;
  const memory = new FrameMemory(length);
  copyBytes(packet.memory.bytes, packet.ipOffset, memory.bytes, 0, length);
  return memory;
}

function ends(transport: "tcp" | "udp", packet: Packet, sourcePort: number, port: number): [Deno.NetAddr, Deno.NetAddr] {
  return [
    { transport, hostname: formatKey(packet.srcKey), port: sourcePort },
    { transport, hostname: formatKey(packet.dstKey), port },
  ];
}

/**
 * Hands over what comes to a stack for addresses, or ports, of nobody here: the stack then stands for every address there is.
 * Give it one device, and no forwarding.
 *
 * @param options of the connections that are accepted
 */
export function intercept(stack: NetStack, handlers: InterceptHandlers, options: TcpOptions = {}): Interception {
  return new Interception(stack, handlers, options);
}
