/**
 * A UDP socket with the face of `Deno.DatagramConn`.
 *
 * @module
 */
import { EAGAIN, EINVAL, OK } from "../codes.ts";
import { wrongUdpOption } from "../udp/check_options.ts";
import type { UdpOptions, UdpSocket, UdpSource } from "../udp/types.ts";
import { formatKey, parseAddress, tryParseAddress } from "../wire/address.ts";
import { isBytes, notBytes, transferred } from "./bytes.ts";
import { badResource, errorFrom, interrupted } from "./errors.ts";
import { checkObject, checkPort, checkUdpOptions, hostOrSelf } from "./options.ts";
import type { Failable, SocketOwner, SocketPump } from "./pump.ts";

/** A datagram and where it came from. */
export type Datagram = [Uint8Array<ArrayBuffer>, Deno.NetAddr];

interface Waiter {
  into: Uint8Array | undefined;
  resolve(value: Datagram): void;
  reject(error: unknown): void;
}

class Owner implements SocketOwner, Failable {
  readonly waiters: Waiter[] = [];
  readonly socket: UdpSocket;
  fatal: Error | null = null;
  #source: UdpSource = { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };
  #lastKey = 0;
  #lastHost = "0.0.0.0";

  constructor(socket: UdpSocket) {
    this.socket = socket;
  }

  get localKey(): number {
    return this.socket.localKey;
  }

  fail(error: Error): void {
    this.fatal = error;
    this.cancel(error);
  }

  onEvents(): void {
    let served = 0;
    while (served < this.waiters.length) {
      const waiter = this.waiters[served];
      try {
        const datagram = this.take(waiter.into);
        if (datagram === null) break;
        waiter.resolve(datagram);
      } catch (error) {
        waiter.reject(error);
      }
      served++;
    }
    if (served > 0) this.waiters.splice(0, served);
  }

  /** The next datagram, or null when none waits. Throws the socket's pending error. */
  take(into: Uint8Array | undefined): Datagram | null {
    const { socket } = this;
    // The datagram would be cut to nothing.
    if (into?.byteLength === 0 && (into.buffer as ArrayBuffer).detached) throw transferred();
    const buffer = into ?? new Uint8Array(Math.max(0, socket.nextLength));
    const count = socket.receive(buffer, 0, buffer.byteLength, this.#source);
    if (count === EAGAIN) return null;
    if (count < 0) throw errorFrom(count);
    const { key, port } = this.#source;
    if (key !== this.#lastKey) {
      this.#lastKey = key;
      this.#lastHost = formatKey(key);
    }
    const bytes = new Uint8Array(buffer.buffer as ArrayBuffer, buffer.byteOffset, count);
    return [bytes, { hostname: this.#lastHost, port, transport: "udp" }];
  }

  cancel(error: Error): void {
    for (const waiter of this.waiters.splice(0)) waiter.reject(error);
  }
}

/** A stack's way to look names up, for `send`. */
export type LookUp = (hostname: string) => Promise<number>;

/**
 * A UDP socket of a {@link NetStack}: what `Deno.DatagramConn` is over the kernel. Made by `stack.listenDatagram()`, and by
 * `stack.connectDatagram()` for one peer, whose "port unreachable" then rejects with `Deno.errors.ConnectionRefused`.
 *
 * @example
 * ```ts
 * import type { NetStack } from "@tapioca/tapioca";
 *
 * export async function echo(stack: NetStack): Promise<void> {
 *   using socket = stack.listenDatagram({ port: 7 });
 *   for await (const [bytes, from] of socket) await socket.send(bytes, from);
 * }
 * ```
 */
export class UdpConn implements Deno.DatagramConn, Disposable {
  readonly #socket: UdpSocket;
  readonly #owner: Owner;
  readonly #pump: SocketPump;
  readonly #lookUp: LookUp;
  #isClosed = false;
  #lastHost = "";
  #lastKey = 0;

  /** Made by the stack; there is no other way to a socket. */
  constructor(socket: UdpSocket, pump: SocketPump, lookUp: LookUp) {
    this.#socket = socket;
    this.#pump = pump;
    this.#lookUp = lookUp;
    this.#owner = new Owner(socket);
    socket.owner = this.#owner;
    pump.failables.add(this.#owner);
  }

  /** The address of the socket: "0.0.0.0" while it is bound to all of the stack's. */
  get addr(): Deno.NetAddr {
    return { hostname: formatKey(this.#socket.localKey), port: this.#socket.localPort, transport: "udp" };
  }

  /** The one peer of a connected socket; null if it has none. */
  get remoteAddr(): Deno.NetAddr | null {
    const { remoteKey, remotePort } = this.#socket;
    return remotePort === 0 ? null : { hostname: formatKey(remoteKey), port: remotePort, transport: "udp" };
  }

  /** Datagrams received, sent, and dropped because nobody read them. */
  get statistics(): { received: number; sent: number; dropped: number } {
    return { ...this.#socket.statistics };
  }

  /**
   * Waits for the next datagram.
   *
   * @param p buffer to use, cut to the datagram; what doesn't fit is lost. Without it a new one of the right size.
   * @returns the bytes, and where they came from
   * @throws {Deno.errors.ConnectionRefused} a connected socket's peer has no such port; {Deno.errors.BadResource} after
   * `close()`; {Deno.errors.Interrupted} when closed while it waits; {TypeError} when `p` is no Uint8Array, or was transferred
   */
  receive(p?: Uint8Array): Promise<Datagram> {
    const into = p ?? undefined;
    if (into !== undefined && !isBytes(into)) return notBytes();
    const owner = this.#owner;
    if (owner.fatal !== null) return Promise.reject(owner.fatal);
    if (this.#isClosed) return Promise.reject(badResource("Socket has been closed"));
    if (owner.waiters.length === 0) {
      try {
        const datagram = owner.take(into);
        if (datagram !== null) return Promise.resolve(datagram);
      } catch (error) {
        return Promise.reject(error);
      }
    }
    return new Promise((resolve, reject) => owner.waiters.push({ into, resolve, reject }));
  }

  /**
   * Sends one datagram; waits while the device has no room. That its next hop doesn't answer is only known later: the next call
   * on a connected socket rejects with code "EHOSTUNREACH", and another socket isn't told, as on Linux.
   *
   * @param p its bytes, at most 65507
   * @param addr where to: a `Deno.NetAddr`, without `hostname` the stack itself; a connected socket needs none
   * @returns bytes sent
   * @throws {Error} with code "EMSGSIZE" for too many bytes; {Deno.errors.NetworkUnreachable} without a route;
   * {RangeError} for a port over 65535; {TypeError} when `p` is no Uint8Array, or was transferred; {Deno.errors.BadResource} after `close()`
   */
  send(p: Uint8Array, addr?: Deno.Addr): Promise<number> {
    if (!isBytes(p)) return notBytes();
    const owner = this.#owner;
    if (owner.fatal !== null) return Promise.reject(owner.fatal);
    if (this.#isClosed) return Promise.reject(badResource("Socket has been closed"));
    try {
      if (addr === undefined) return this.#transmit(p, 0, 0);
      if (typeof addr !== "object" || addr === null || "path" in addr) {
        throw new TypeError('send() takes an address like { hostname: "10.0.0.1", port: 7 }');
      }
      const { hostname = "127.0.0.1" } = addr as Partial<Deno.NetAddr>;
      const port = checkPort((addr as Partial<Deno.NetAddr>).port);
      if (hostname === this.#lastHost) return this.#transmit(p, this.#lastKey, port);
      const literal = tryParseAddress(hostname);
      if (literal !== null) {
        this.#lastHost = hostname;
        this.#lastKey = hostOrSelf(literal);
        return this.#transmit(p, this.#lastKey, port);
      }
      return this.#lookUp(hostname).then((key) => this.#transmit(p, hostOrSelf(key), port));
    } catch (error) {
      return Promise.reject(error);
    }
  }

  #transmit(p: Uint8Array, key: number, port: number): Promise<number> {
    // It would be an empty datagram.
    if (p.byteLength === 0 && (p.buffer as ArrayBuffer).detached) return Promise.reject(transferred());
    if (this.#owner.fatal !== null) return Promise.reject(this.#owner.fatal);
    if (this.#isClosed) return Promise.reject(badResource("Socket has been closed"));
    this.#pump.now();
    const count = this.#socket.send(p, 0, p.byteLength, key, port);
    // A full device wakes the pump itself when it has room; a run now would only try again, and again.
    if (count !== EAGAIN && this.#pump.sent() && count >= 0) return new Promise((done) => this.#pump.whenRoom(() => done(count)));
    if (count >= 0) return Promise.resolve(count);
    if (count !== EAGAIN) {
      return Promise.reject(errorFrom(count, key === 0 ? undefined : `send to ${formatKey(key)}:${port}`));
    }
    return new Promise((resolve) => this.#pump.whenRoom(() => resolve(this.#transmit(p, key, port))));
  }

  /**
   * Joins an IPv4 multicast group.
   *
   * @param address the group, "224.0.0.251"
   * @param _networkInterface for compatibility; the group is joined on the interface that the route to it names
   * @returns the membership, whose `setTTL` rejects with code "EINVAL" for anything but 0 to 255; all of it rejects with
   * BadResource after `close()`
   * @throws {TypeError} when `address` is no group; {Deno.errors.AddrInUse} when it was joined before
   */
  async joinMulticastV4(address: string, _networkInterface?: string): Promise<Deno.MulticastV4Membership> {
    const group = parseAddress(address);
    await this.#change(`join ${address}`, () => this.#socket.joinMulticast(group));
    return {
      leave: () => this.#change(`leave ${address}`, () => this.#socket.leaveMulticast(group)),
      setLoopback: (loopback) => this.#change("setLoopback", () => this.#configure({ multicastLoop: Boolean(loopback) })),
      setTTL: (ttl) => this.#change(`setTTL ${ttl}`, () => this.#configure({ multicastTtl: ttl ?? NaN })),
    };
  }

  /** Does something with the open socket that gives a code. */
  #change(tried: string, change: () => number): Promise<void> {
    return new Promise((resolve) => {
      if (this.#isClosed) throw badResource("Socket has been closed");
      this.#pump.now();
      const code = change();
      this.#pump.schedule();
      if (code < 0) throw errorFrom(code, tried);
      resolve();
    });
  }

  #configure(options: UdpOptions): number {
    if (wrongUdpOption(options) !== null) return EINVAL;
    this.#socket.setOptions(options);
    return OK;
  }

  /** IPv6 isn't spoken yet: rejects with `Deno.errors.NotSupported`. */
  joinMulticastV6(_address: string, _networkInterface: number): Promise<Deno.MulticastV6Membership> {
    return Promise.reject(new Deno.errors.NotSupported("IPv6 multicast"));
  }

  /**
   * Changes options of the socket: TTL, DSCP, broadcast, buffer.
   *
   * @throws {TypeError | RangeError} for an option that is wrong, before any has changed; {Deno.errors.BadResource} after `close()`
   */
  setOptions(options: UdpOptions): void {
    checkObject(options);
    checkUdpOptions(options);
    if (this.#isClosed) throw badResource("Socket has been closed");
    this.#socket.setOptions(options);
  }

  /**
   * Closes the socket. Calls that wait reject with `Deno.errors.Interrupted`.
   *
   * @throws {Deno.errors.BadResource} when it is closed already
   */
  close(): void {
    if (this.#isClosed) throw badResource();
    this.#isClosed = true;
    this.#pump.now();
    this.#pump.failables.delete(this.#owner);
    this.#owner.cancel(interrupted());
    this.#socket.close();
    this.#pump.schedule();
  }

  /** Closes it; no error when it is closed already. */
  [Symbol.dispose](): void {
    if (!this.#isClosed) this.close();
  }

  /** For compatibility: the stack as a whole keeps the process alive, see `NetStack.ref`. */
  ref(): void {}

  /** For compatibility: the stack as a whole keeps the process alive, see `NetStack.unref`. */
  unref(): void {}

  /** The datagrams as they come; ends quietly when the socket is closed. */
  async *[Symbol.asyncIterator](): AsyncIterableIterator<Datagram> {
    for (;;) {
      let datagram: Datagram;
      try {
        datagram = await this.receive();
      } catch (error) {
        if (error instanceof Deno.errors.BadResource || error instanceof Deno.errors.Interrupted) return;
        throw error;
      }
      yield datagram;
    }
  }
}
