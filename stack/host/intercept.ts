/**
 * Connections and datagrams to addresses that are nobody's here, taken in by the stack: what a user-mode gateway is made of.
 *
 * @module
 */
import { FrameMemory } from "../device.ts";
import type { Packet } from "../ip/types.ts";
import { Listener } from "../tcp/listener.ts";
import type { Tcb } from "../tcp/tcb.ts";
import type { Tcp } from "../tcp/tcp.ts";
import type { TcpListenSocket, TcpOptions, TcpSocket } from "../tcp/types.ts";
import type { UdpSocket } from "../udp/types.ts";
import { formatKey } from "../wire/address.ts";
import { copyBytes } from "../wire/copy.ts";
import * as ipv4 from "../wire/ipv4.ts";
import { badResource } from "./errors.ts";
import { checkFunction, checkObject } from "../checks.ts";
import { layersOf, NetStack } from "./net_stack.ts";
import { checkTcpOptions } from "./options.ts";
import type { Failable, SocketOwner } from "./pump.ts";
import { TcpConn } from "./tcp_conn.ts";
import { UdpConn } from "./udp_conn.ts";

/** Connections that may wait for an answer at once. */
export const FLOWS_MAX = 4096;
/** Connections that may be in their handshake, and as many that nobody has taken yet. */
const BACKLOG = 1024;
/** A SYN that the stack had no room for comes again in this time, or never, in milliseconds. */
const HANDSHAKE_MS = 60_000;
/** Bytes that are kept of a datagram: what an error about it quotes at most (RFC 1812 4.3.2.3). */
const QUOTE_MAX = 548;
/** Where the length of a TCP header stands, in 32-bit words in the upper half of the byte. */
const TCP_DATA_OFFSET = 12;
/** Codes of "destination unreachable" (RFC 792, RFC 1812 5.2.7.1). */
export const UNREACHABLE = { network: 0, host: 1, port: 3, prohibited: 13 } as const;

/** A connection that somebody wants. One of its four answers must be given; until then nothing is said to who asks. */
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
  /** Says nothing: when the SYN comes again, it is asked again. */
  ignore(): void;
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
  drop(flow: Flow): void;
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

  ignore(): void {
    if (this.state === WAITING) this.owner.drop(this);
  }
}

/** Makes the connections; in no table, so that it is found by {@link Interception} only. */
class Taker extends Listener {
  constructor(tcp: Tcp, options: TcpOptions, readonly lost: (tcb: Tcb) => void) {
    super(tcp, 0, 0, BACKLOG, options);
  }

  override forget(tcb: Tcb): void {
    super.forget(tcb);
    this.lost(tcb);
  }
}

/** What {@link intercept} counts. */
export interface InterceptStatistics {
  /** Connections asked for. */
  connections: number;
  /** Datagram flows begun. */
  datagramFlows: number;
  /** Not even noted, because {@link FLOWS_MAX} were there, or as many sockets as there may be. */
  overflow: number;
  /** Gauge: connections that wait for an answer or for the end of their handshake. */
  waiting: number;
}

/** All that a stack hands over; see {@link intercept}. Ends with the stack. */
export class Interception implements Disposable {
  readonly #layers: ReturnType<typeof layersOf>;
  readonly #handlers: InterceptHandlers;
  readonly #flows = new Map<string, Flow>();
  readonly #owner: FlowOwner = {
    proceed: (flow, state) => this.#proceed(flow, state),
    reject: (flow, code) => this.#reject(flow, code),
    drop: (flow) => this.#drop(flow),
  };
  readonly #taker: Taker;
  readonly #ending: Failable = { fail: () => this[Symbol.dispose]() };
  readonly #counters = { connections: 0, datagramFlows: 0, overflow: 0 };
  #closed = false;

  /** @internal */
  constructor(stack: NetStack, handlers: InterceptHandlers, options: TcpOptions) {
    const layers = this.#layers = layersOf(stack);
    const tcp = layers.tcp as Tcp;
    this.#handlers = handlers;
    this.#taker = new Taker(tcp, options, (tcb) => this.#lost(tcb));
    tcp.statistics.listeners++;
    const owner: SocketOwner = { onEvents: () => this.#takeAll() };
    this.#taker.owner = owner;
    layers.ip.anyAddress = true;
    tcp.intercept = (packet, sourcePort, port, begins, found) => this.#segment(packet, sourcePort, port, begins, found);
    layers.udp.intercept = (packet, sourcePort, port, found) => this.#datagram(packet, sourcePort, port, found);
    layers.pump.failables.add(this.#ending);
  }

  /** What happened so far. */
  get statistics(): InterceptStatistics {
    return { ...this.#counters, waiting: this.#flows.size };
  }

  /** The address is one of the stack's own: a socket for all addresses means these, not all that there are. */
  #own(key: number): boolean {
    return this.#layers.ip.interfaces.some(({ addresses }) => addresses.some((held) => held.key === key));
  }

  #segment(
    packet: Packet,
    sourcePort: number,
    port: number,
    begins: boolean,
    found: TcpListenSocket | null,
  ): TcpListenSocket | null | undefined {
    if (found !== null && (found.localKey === packet.dstKey || this.#own(packet.dstKey))) return found;
    const key = keyOf(packet.srcKey, sourcePort, packet.dstKey, port);
    const known = this.#flows.get(key);
    if (known !== undefined) return known.state === WAITING ? undefined : known.state === ACCEPTED ? this.#taker : null;
    if (!begins) return null;
    // Who can't be answered isn't worth a connection.
    if (typeof this.#layers.ip.path(packet.dstKey, packet.srcKey) === "number") return undefined;
    if (this.#flows.size >= FLOWS_MAX) {
      this.#counters.overflow++;
      return undefined;
    }
    this.#counters.connections++;
    const flow = new Flow(this.#owner, key, keepSyn(packet), packet.interfaceIndex, ...ends("tcp", packet, sourcePort, port));
    this.#flows.set(key, flow);
    this.#layers.pump.callUser(() => this.#handlers.connection(flow));
    return undefined;
  }

  #datagram(packet: Packet, sourcePort: number, port: number, found: UdpSocket | null): UdpSocket | null | undefined {
    if (found !== null && this.#own(packet.dstKey)) return found;
    // No socket has port 0: one opened for it would get another port, and never hear of this flow again.
    if (port === 0 || sourcePort === 0) return null;
    const { udp, pump } = this.#layers;
    const socket = udp.open(packet.dstKey, port, {}, true);
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
    const memory = keep(packet, QUOTE_MAX);
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
    pump.now();
    ip.inject(flow.interfaceIndex, flow.packet, flow.packet.bytes.length);
    pump.schedule();
    if (state === REFUSED) this.#drop(flow);
    // A connection in its handshake tells when it is over; a SYN that there was no room for has nobody to tell.
    else if (!this.#begun(flow)) flow.cancelTimer = pump.setTimer(HANDSHAKE_MS, () => this.#drop(flow));
  }

  #begun({ source, destination, packet }: Flow): boolean {
    const { view } = packet;
    const tcb = (this.#layers.tcp as Tcp).table.get(
      ipv4.ipDestination(view, 0),
      destination.port,
      ipv4.ipSource(view, 0),
      source.port,
    );
    return tcb !== null && tcb.listener === this.#taker;
  }

  /** Gives the flow up with "destination unreachable". */
  #reject(flow: Flow, code: number): void {
    this.#drop(flow);
    this.#answer(flow.interfaceIndex, flow.packet, code);
  }

  /** Forgets the flow. */
  #drop(flow: Flow): void {
    flow.state = REFUSED;
    this.#flows.delete(flow.key);
    flow.cancelTimer();
    flow.done.reject(new Deno.errors.ConnectionAborted("the handshake was not finished"));
  }

  /** The connection has ended before anybody got it. */
  #lost(tcb: Tcb): void {
    const flow = this.#flows.get(keyOf(tcb.remoteKey, tcb.remotePort, tcb.localKey, tcb.localPort));
    if (flow?.state === ACCEPTED) this.#drop(flow);
  }

  #takeAll(): void {
    for (let socket = this.#taker.accept(); typeof socket !== "number"; socket = this.#taker.accept()) this.#established(socket);
  }

  #established(socket: TcpSocket): void {
    const conn = new TcpConn(socket, this.#layers.pump);
    const flow = this.#flows.get(keyOf(socket.remoteKey, socket.remotePort, socket.localKey, socket.localPort));
    if (flow?.state !== ACCEPTED) return conn.abort();
    this.#flows.delete(flow.key);
    flow.cancelTimer();
    flow.done.resolve(conn);
  }

  /** Takes nothing in any more; connections that were accepted stay. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    const { tcp, udp, ip, pump } = this.#layers;
    pump.failables.delete(this.#ending);
    tcp.intercept = udp.intercept = null;
    pump.now();
    for (const flow of [...this.#flows.values()]) this.#drop(flow);
    this.#taker.close();
    pump.schedule();
    ip.anyAddress = false;
  }
}

function keyOf(sourceKey: number, sourcePort: number, key: number, port: number): string {
  return `${sourceKey}:${sourcePort}>${key}:${port}`;
}

/** A copy of a packet, which is gone after the call that hands it in; of at most `most` bytes. */
function keep(packet: Packet, most: number): FrameMemory {
  const length = Math.min(packet.ipHeaderLength + packet.length, most);
  const memory = new FrameMemory(length);
  copyBytes(packet.memory.bytes, packet.ipOffset, memory.bytes, 0, length);
  return memory;
}

/** A copy of a SYN without its data, which comes again: what strangers send must not cost memory while it waits. */
function keepSyn(packet: Packet): FrameMemory {
  const header = (packet.memory.bytes[packet.offset + TCP_DATA_OFFSET] >>> 4) * 4;
  const memory = keep(packet, packet.ipHeaderLength + header);
  const { view } = memory;
  ipv4.setIpTotalLength(view, 0, memory.bytes.length);
  // It may have come in fragments.
  ipv4.setIpFlags(view, 0, ipv4.ipFlags(view, 0) & ipv4.FLAG_DONT_FRAGMENT);
  ipv4.sealIpHeader(view, 0, packet.ipHeaderLength);
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
 * @throws {TypeError | RangeError} for a wrong argument
 */
export function intercept(stack: NetStack, handlers: InterceptHandlers, options: TcpOptions = {}): Interception {
  if (!(stack instanceof NetStack)) throw new TypeError("intercept needs a NetStack");
  checkObject(handlers, "handlers");
  for (const name of ["connection", "datagrams"] as const) checkFunction(name, handlers[name] ?? null);
  checkObject(options);
  checkTcpOptions(options);
  return new Interception(stack, handlers, options);
}
