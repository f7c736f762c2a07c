/**
 * Ports of this machine that lead to guests.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import type { NetStack } from "../stack/host/net_stack.ts";
import type { UdpConn } from "../stack/host/udp_conn.ts";
import { tryParseAddress } from "../stack/wire/address.ts";
import type { Dialer } from "./dialer.ts";
import { closeQuietly, type ConnectionSource, denoSockets, type GatewaySockets } from "./sockets.ts";
import { relay, type RelayEnd, reset } from "./tcp_relay.ts";
import { InFlight } from "./udp_relay.ts";

/** Connections that a gateway carries inwards at once, and senders that a datagram port remembers; more are turned away. */
export const FORWARDED_MAX = 1024;
/** After a connection that could not be taken (too many open files), in milliseconds. */
const RETRY_MS = 100;

/** A port of this machine that leads to a guest. */
export interface PortForward {
  /** Default "tcp". */
  readonly transport?: "tcp" | "udp";
  /** Address of this machine. Default "127.0.0.1". */
  readonly hostname?: string;
  /** Port of this machine; 0 for a free one. */
  readonly port: number;
  /** Address of the guest. Default: the first that DHCP gives out. */
  readonly guest?: string;
  /** Port of the guest. */
  readonly guestPort: number;
}

/** What forwarding needs of its gateway. */
export interface ForwardOwner {
  readonly stack: NetStack;
  readonly dialer: Dialer;
  readonly sockets: GatewaySockets;
  /** The gateway's own address. */
  readonly address: string;
  readonly udpIdleMs: number;
  /** The guest that has no address of its own in the rule. */
  firstGuest(): string | null;
  count(out: boolean, bytes: number): void;
  forwarded(): void;
  failed(): void;
  dropped(): void;
}

/** @throws {TypeError | RangeError} for what can't be a forwarded port */
export function checkForward(forward: PortForward): void {
  if (typeof forward !== "object" || forward === null) throw new TypeError(`a port to forward is needed: ${forward}`);
  const { transport = "tcp", hostname, guest, port, guestPort } = forward;
  if (transport !== "tcp" && transport !== "udp") throw new TypeError(`transport must be "tcp" or "udp": ${transport}`);
  if (!(Number.isInteger(port) && port >= 0 && port <= 65_535)) throw new RangeError(`port must be 0 to 65535: ${port}`);
  if (!(Number.isInteger(guestPort) && guestPort >= 1 && guestPort <= 65_535)) {
    throw new RangeError(`guestPort must be 1 to 65535: ${guestPort}`);
  }
  for (const address of [hostname, guest]) {
    if (address !== undefined && tryParseAddress(address) === null) throw new TypeError(`an IPv4 address is needed: ${address}`);
  }
}

/** A forwarded port that is open. */
export interface OpenForward extends Disposable {
  readonly address: { hostname: string; port: number };
  /** Resolves when it is; a datagram port is opened in the background. */
  readonly ready: Promise<void>;
}

/** Opens a forwarded port. @throws what listening throws; a datagram port tells it by `ready` */
export function openForward(owner: ForwardOwner, forward: PortForward): OpenForward {
  return forward.transport === "udp" ? new UdpForward(owner, forward) : new TcpForward(owner, forward);
}

class TcpForward implements OpenForward {
  readonly address: { hostname: string; port: number };
  readonly ready: Promise<void> = Promise.resolve();
  readonly #owner: ForwardOwner;
  readonly #forward: PortForward;
  readonly #listener: ConnectionSource;
  readonly #outside = new Set<RelayEnd>();
  #timer: ReturnType<typeof setTimeout> | null = null;
  #closed = false;

  constructor(owner: ForwardOwner, forward: PortForward) {
    this.#owner = owner;
    this.#forward = forward;
    const { hostname = "127.0.0.1", port } = forward;
    const { sockets } = owner;
    this.#listener = sockets.listen?.({ hostname, port }) ?? denoSockets.listen({ hostname, port });
    this.address = { hostname, port: this.#listener.addr.port };
    this.#acceptAll();
  }

  async #acceptAll(): Promise<void> {
    while (!this.#closed) {
      try {
        const outside = await this.#listener.accept();
        if (this.#closed) return reset(outside);
        if (this.#outside.size >= FORWARDED_MAX) {
          this.#owner.failed();
          reset(outside);
        } else this.#bringIn(outside);
      } catch (error) {
        if (this.#closed) return;
        // Deno's accept says so of a connection that was reset before: the next one must not wait for that.
        if (error instanceof Deno.errors.NotConnected) continue;
        // Too many open files: the next one may go better.
        await new Promise<void>((resolve) => this.#timer = setTimeout(resolve, RETRY_MS));
      }
    }
  }

  async #bringIn(outside: RelayEnd): Promise<void> {
    const owner = this.#owner;
    this.#outside.add(outside);
    try {
      const hostname = this.#forward.guest ?? owner.firstGuest();
      if (hostname === null) throw new Deno.errors.NotConnected("no guest has an address");
      const port = this.#forward.guestPort;
      const inside = await owner.dialer.dial((signal) => owner.stack.connect({ hostname, port, noDelay: true, signal }));
      if (this.#closed) return inside.abort();
      owner.forwarded();
      await relay(outside, inside, (forth, bytes) => owner.count(!forth, bytes)).catch(() => {});
    } catch {
      owner.failed();
      // Refused, as far as that can be told by now.
      reset(outside);
    } finally {
      this.#outside.delete(outside);
      outside[Symbol.dispose]();
    }
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#listener.close();
    for (const conn of this.#outside) reset(conn);
  }
}

class UdpForward implements OpenForward {
  readonly address: { hostname: string; port: number };
  readonly ready: Promise<void>;
  readonly #owner: ForwardOwner;
  readonly #forward: PortForward;
  readonly #outside: Socket = createSocket("udp4");
  /** By sender: each gets a port of the gateway's, so that answers find their way. */
  readonly #ways = new Map<string, Way>();
  #closed = false;

  constructor(owner: ForwardOwner, forward: PortForward) {
    this.#owner = owner;
    this.#forward = forward;
    const address = this.address = { hostname: forward.hostname ?? "127.0.0.1", port: forward.port };
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    this.ready = promise;
    promise.catch(() => {});
    const outside = this.#outside;
    outside.on("error", (error: Error) => {
      owner.failed();
      reject(error);
    });
    outside.on("message", (bytes: Uint8Array, from: { address: string; port: number }) => this.#bringIn(bytes, from));
    outside.bind(forward.port, address.hostname, () => {
      if (!this.#closed) address.port = outside.address().port;
      resolve();
    });
  }

  #bringIn(bytes: Uint8Array, from: { address: string; port: number }): void {
    const owner = this.#owner;
    const guest = this.#forward.guest ?? owner.firstGuest();
    if (guest === null || this.#closed || from.port === 0) return owner.failed();
    const key = `${from.address}:${from.port}`;
    let way = this.#ways.get(key);
    if (way === undefined) {
      if (this.#ways.size >= FORWARDED_MAX) return owner.failed();
      try {
        way = this.#way(guest, key, from);
      } catch {
        // No free port, or the stack has ended.
        return owner.failed();
      }
    }
    way.send(bytes);
  }

  #way(guest: string, key: string, from: { address: string; port: number }): Way {
    const owner = this.#owner;
    const answers = new InFlight();
    const answer = (bytes: Uint8Array) => {
      if (this.#closed || !answers.take(bytes.length)) return owner.dropped();
      this.#outside.send(bytes, from.port, from.address, () => answers.sent(bytes.length));
    };
    const socket = owner.stack.listenDatagram({ port: 0, hostname: owner.address });
    const way = new Way(owner, socket, guest, this.#forward.guestPort, answer, () => this.#ways.delete(key));
    owner.forwarded();
    this.#ways.set(key, way);
    return way;
  }

  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    closeQuietly(this.#outside);
    for (const way of [...this.#ways.values()]) way.close();
  }
}

/** One sender's way to the guest, and back. */
class Way {
  readonly #sending = new InFlight();
  #timer: ReturnType<typeof setTimeout>;
  #closed = false;

  constructor(
    readonly owner: ForwardOwner,
    readonly socket: UdpConn,
    readonly hostname: string,
    readonly port: number,
    readonly answer: (bytes: Uint8Array) => void,
    readonly ended: () => void,
  ) {
    this.#timer = setTimeout(() => this.close(), owner.udpIdleMs);
    this.#receive();
  }

  #touch(): void {
    clearTimeout(this.#timer);
    if (!this.#closed) this.#timer = setTimeout(() => this.close(), this.owner.udpIdleMs);
  }

  async #receive(): Promise<void> {
    try {
      for await (const [bytes, from] of this.socket) {
        if (from.hostname !== this.hostname || from.port !== this.port) continue;
        this.#touch();
        this.owner.count(true, bytes.length);
        this.answer(bytes);
      }
    } catch { /* the stack has ended */ }
    this.close();
  }

  async send(bytes: Uint8Array): Promise<void> {
    const { length } = bytes;
    if (!this.#sending.take(length)) return this.owner.dropped();
    this.#touch();
    this.owner.count(false, length);
    try {
      await this.socket.send(bytes, { transport: "udp", hostname: this.hostname, port: this.port });
    } catch { /* the guest isn't there */ }
    this.#sending.sent(length);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#timer);
    this.socket[Symbol.dispose]();
    this.ended();
  }
}
