/**
 * A TCP/IP host: devices, addresses, and the calls that a Deno user knows.
 *
 * @module
 */
import { ECONNABORTED } from "../codes.ts";
import type { Device } from "../device.ts";
import { InternetLayer } from "../ip/internet.ts";
import type { Internet, NetInterface } from "../ip/types.ts";
import type { TcpLayer } from "../tcp/types.ts";
import { Tcp } from "../tcp/tcp.ts";
import type { UdpLayer } from "../udp/types.ts";
import { Udp } from "../udp/udp.ts";
import { formatKey } from "../wire/address.ts";
import { systemClock } from "./clock.ts";
import { connectTo } from "./connector.ts";
import { abortReason, DeviceGoneError, errorFrom } from "./errors.ts";
import { linger, LINGER_MS } from "./linger.ts";
import { Links } from "./links.ts";
import * as check from "./options.ts";
import type {
  ConnectDatagramOptions,
  ConnectOptions,
  DatagramOptions,
  DeviceOptions,
  ListenOptions,
  NetStackOptions,
  RouteOptions,
} from "./options.ts";
import { checkPingOptions, Pinger } from "./ping.ts";
import type { PingOptions, PingReply } from "./ping.ts";
import { Pump } from "./pump.ts";
import { cryptoRandom32, seededRandom32 } from "./random.ts";
import { Resolver } from "./resolver.ts";
import type { RecordsByType, RecordType, ResolveOptions } from "./resolver.ts";
import * as show from "./statistics.ts";
import type { AddressInfo, ConnectionInfo, NeighborInfo, RouteInfo, StackStatistics } from "./statistics.ts";
import type { TcpConn } from "./tcp_conn.ts";
import { TcpListener } from "./tcp_listener.ts";
import { UdpConn } from "./udp_conn.ts";

/** The insides of a stack, for who runs it in a thread of its own: not on the public face. */
export let layersOf: (stack: NetStack) => { pump: Pump; ip: Internet; tcp: TcpLayer; udp: UdpLayer };

/**
 * A TCP/IP host of its own over a device: addresses, routes, and connections with the faces of `Deno.TcpConn`,
 * `Deno.TcpListener` and `Deno.DatagramConn`.
 *
 * `close()` resets everything at once; `await using` first lets connections end in an orderly way.
 *
 * @example Two hosts in memory, no privilege needed
 * ```ts
 * import { cable, NetStack } from "@tapioca/tapioca";
 *
 * const [left, right] = cable();
 * await using server = new NetStack(left, { address: "10.0.0.1/24" });
 * await using client = new NetStack(right, { address: "10.0.0.2/24" });
 * const { roundTripMs } = await client.ping("10.0.0.1");
 * console.log(roundTripMs >= 0); // true
 * ```
 */
export class NetStack {
  readonly #ip: Internet;
  readonly #tcp: TcpLayer;
  readonly #udp: UdpLayer;
  readonly #pump: Pump;
  readonly #links: Links;
  readonly #pinger: Pinger;
  readonly #resolver: Resolver;
  readonly #closed: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #ready: Promise<void>;
  #reason: Error | null = null;

  static {
    layersOf = (stack) => ({ pump: stack.#pump, ip: stack.#ip, tcp: stack.#tcp, udp: stack.#udp });
  }

  /**
   * Takes the device, and is on the wire when it returns (see {@link ready} for `detectConflicts`).
   *
   * @param device opened by the stack, and closed with it
   * @throws {TypeError | RangeError} for an option that is wrong, before the device is touched; what the device's `open` throws
   */
  constructor(device: Device, options: NetStackOptions = {}) {
    const checked = check.checkDeviceOptions(device, options);
    const { gateway, nameservers } = check.checkStackOptions(options);
    const random32 = options.seed === undefined ? cryptoRandom32() : seededRandom32(options.seed);
    const ip: Internet = new InternetLayer({ random32, forwarding: options.forwarding ?? false });
    this.#ip = ip;
    this.#tcp = new Tcp(ip, { defaults: options.tcp, finAckDelayed: true, onFault: (fault) => this.#pump.noteFault(fault) });
    this.#udp = new Udp(ip);
    const layers = { ip, tcp: this.#tcp, udp: this.#udp };
    this.#pump = new Pump(layers, options.clock ?? systemClock, (...lost) => this.#lose(...lost));
    this.#pump.now();
    this.#links = new Links(ip, this.#pump);
    this.#pinger = new Pinger(ip, this.#pump);
    this.#resolver = new Resolver(this.#pump, nameservers, (remoteKey, remotePort, signal) => {
      return connectTo(this.#pump, { localKey: 0, localPort: 0, remoteKey, remotePort, signal });
    });
    // Whoever doesn't look at it must not meet an unhandled rejection.
    this.#closed.promise.catch(() => {});
    if (options.onConflict !== undefined) this.#links.tellConflicts(options.onConflict);
    try {
      this.#ready = this.#links.attach(device, options, checked).ready;
      if (gateway !== 0) this.#links.addRouteKeys({ destination: 0, prefixLength: 0, gateway, metric: 0 });
      for (const route of options.routes ?? []) this.addRoute(route);
    } catch (error) {
      this.#pump.close();
      throw error;
    }
  }

  /** Resolves when the addresses that the stack was made with are in use; rejects with AddrInUse if another host has one. */
  get ready(): Promise<void> {
    return this.#ready;
  }

  /** Resolves when the stack is closed; rejects with what ended it, for example a {@link DeviceGoneError}. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  #open(): void {
    if (this.#reason !== null) throw this.#reason;
  }

  /**
   * Opens a TCP connection. Names are resolved, and each of their addresses is tried in turn.
   *
   * @throws {Deno.errors.ConnectionRefused} nobody listens there; {Deno.errors.TimedOut} no answer; {Deno.errors.NetworkUnreachable} no way
   * there; {Error} with code "EHOSTUNREACH" the next hop doesn't answer; {Deno.errors.AddrNotAvailable} `localAddress` isn't the stack's;
   * {TypeError | RangeError} a wrong option; the signal's reason when aborted
   */
  async connect(options: ConnectOptions): Promise<TcpConn> {
    this.#open();
    check.checkCall(options, "tcp");
    const remotePort = check.checkPort(options.port, 1);
    const localPort = options.localPort === undefined ? 0 : check.checkPort(options.localPort);
    const localKey = options.localAddress === undefined ? 0 : check.checkAddress(options.localAddress, "localAddress");
    check.checkTcpOptions(options);
    const { signal } = options;
    const initialData = check.checkInitialData(options.initialData);
    if (signal?.aborted) throw abortReason(signal);
    let last: unknown;
    for (const remoteKey of await this.#resolver.lookUp(options.hostname ?? "127.0.0.1", signal)) {
      try {
        this.#open();
        return await connectTo(this.#pump, { localKey, localPort, remoteKey, remotePort, signal, initialData, options });
      } catch (error) {
        last = error;
        if (signal?.aborted) break;
      }
    }
    throw last;
  }

  /**
   * Listens for TCP connections. Options like `noDelay` are inherited by the accepted ones.
   *
   * @throws {Deno.errors.AddrInUse} the port is taken; {Deno.errors.AddrNotAvailable} `hostname` isn't the stack's; {RangeError} bad port
   */
  listen(options: ListenOptions): TcpListener {
    this.#open();
    check.checkCall(options, "tcp");
    const port = check.checkPort(options.port ?? 0);
    const key = check.checkAddress(options.hostname ?? "0.0.0.0", "hostname");
    const backlog = check.checkBacklog(options);
    check.checkTcpOptions(options);
    this.#pump.now();
    const socket = this.#tcp.listen(key, port, backlog, options);
    if (typeof socket === "number") throw errorFrom(socket, check.listenText(key, port, options));
    return new TcpListener(socket, this.#pump);
  }

  /**
   * Opens a UDP socket for datagrams from and to anybody.
   *
   * @throws {Deno.errors.AddrInUse} the port is taken; {Deno.errors.AddrNotAvailable} `hostname` isn't the stack's; {RangeError} bad port
   */
  listenDatagram(options: DatagramOptions): UdpConn {
    this.#open();
    check.checkCall(options, "udp");
    const port = check.checkPort(options.port ?? 0);
    const key = check.checkAddress(options.hostname ?? "0.0.0.0", "hostname");
    check.checkUdpOptions(options);
    this.#pump.now();
    const socket = this.#udp.open(key, port, { ...options, multicastLoop: options.multicastLoop ?? options.loopback ?? false });
    if (typeof socket === "number") throw errorFrom(socket, `listen for datagrams at ${formatKey(key)}:${port}`);
    return new UdpConn(socket, this.#pump, (hostname) => this.#lookUpFirst(hostname));
  }

  /**
   * Opens a UDP socket for one peer: only its datagrams come in, and its "port unreachable" rejects the next call with
   * `Deno.errors.ConnectionRefused`.
   *
   * @throws {Deno.errors.NetworkUnreachable} no way there; {RangeError} bad port
   */
  async connectDatagram(options: ConnectDatagramOptions): Promise<UdpConn> {
    this.#open();
    check.checkCall(options, "udp");
    const port = check.checkPort(options.port, 1);
    const localPort = options.localPort === undefined ? 0 : check.checkPort(options.localPort);
    check.checkUdpOptions(options);
    const key = check.hostOrSelf(await this.#lookUpFirst(options.hostname));
    this.#open();
    this.#pump.now();
    const socket = this.#udp.open(0, localPort, options);
    if (typeof socket === "number") throw errorFrom(socket, `open a datagram socket at port ${localPort}`);
    const code = socket.connect(key, port);
    if (code < 0) {
      socket.close();
      throw errorFrom(code, `connect datagrams to ${formatKey(key)}:${port}`);
    }
    return new UdpConn(socket, this.#pump, (hostname) => this.#lookUpFirst(hostname));
  }

  async #lookUpFirst(hostname: string): Promise<number> {
    return (await this.#resolver.lookUp(hostname))[0];
  }

  /**
   * Sends an ICMP echo request and waits for the answer.
   *
   * @param host literal address or name
   * @throws {Deno.errors.TimedOut} no answer; a `PingError` with code "EHOSTUNREACH" and others when an ICMP error came
   */
  async ping(host: string, options: PingOptions = {}): Promise<PingReply> {
    this.#open();
    checkPingOptions(options);
    const [key] = await this.#resolver.lookUp(host, options.signal);
    this.#open();
    return await this.#pinger.ping(key, options);
  }

  /**
   * Asks the name servers (option `nameservers`) for records. Literal addresses and "localhost" are answered at once.
   *
   * @param name domain name
   * @param type of record; the results have the shapes of `Deno.resolveDns`
   * @throws {Deno.errors.NotFound} there is no such record; {Deno.errors.TimedOut} no name server answers; {TypeError} no domain name
   */
  async resolve<T extends RecordType = "A">(
    name: string,
    type: T = "A" as T,
    options: ResolveOptions = {},
  ): Promise<RecordsByType[T]> {
    this.#open();
    check.checkObject(options);
    check.checkSignal(options.signal);
    return await this.#resolver.resolve(name, type, options.signal) as RecordsByType[T];
  }

  /**
   * Takes another device. Returns the index of its interface, and a promise for its addresses (see {@link ready}).
   *
   * @throws {TypeError | RangeError} for an option that is wrong; what the device's `open` throws
   */
  addDevice(device: Device, options: DeviceOptions = {}): { interfaceIndex: number; ready: Promise<void> } {
    this.#open();
    const { index, ready } = this.#links.attach(device, options, check.checkDeviceOptions(device, options));
    return { interfaceIndex: index, ready };
  }

  /**
   * Closes a device and forgets its addresses and routes. What is bound to its addresses, and nothing else, ends as if it had gone by
   * itself, with a {@link DeviceGoneError} for who waits; connections are reset. The stack stays, even without a device.
   */
  removeDevice(interfaceIndex: number): void {
    const netInterface = this.#links.find(interfaceIndex);
    this.#links.remove(netInterface, new DeviceGoneError(netInterface.device.name), true);
  }

  /**
   * Adds an address, "10.0.0.3/24". With `detectConflicts` it is probed first and the promise tells (RFC 5227).
   *
   * @throws {Deno.errors.AddrInUse} another host has it, or the stack already; {TypeError} no address
   */
  async addAddress(address: string, options: { interfaceIndex?: number; detectConflicts?: boolean } = {}): Promise<void> {
    this.#open();
    check.checkAddAddress(options);
    await this.#links.addAddress(address, options.interfaceIndex, options.detectConflicts ?? false);
  }

  /** Removes an address, with or without its prefix length. */
  removeAddress(address: string): void {
    this.#open();
    this.#links.removeAddress(address);
  }

  /** Adds a route. */
  addRoute(route: RouteOptions): void {
    this.#open();
    this.#links.addRoute(route);
  }

  /** Removes a route that {@link addRoute} has added. */
  removeRoute(route: RouteOptions): void {
    this.#open();
    this.#links.removeRoute(route);
  }

  /** Adds a neighbour that never expires: address and MAC "02:00:00:00:00:01". */
  setNeighbor(address: string, mac: string, interfaceIndex?: number): void {
    this.#open();
    this.#links.setNeighbor(address, mac, interfaceIndex);
  }

  /** All counters, as `netstat -s` shows them: a copy. */
  get statistics(): StackStatistics {
    return show.collectStatistics(this.#pump, this.#ip, this.#tcp, this.#udp);
  }

  /** Every TCP connection, as `ss -i` shows them. */
  connections(): ConnectionInfo[] {
    return show.listConnections(this.#tcp);
  }

  /** The neighbour cache. */
  get neighbors(): NeighborInfo[] {
    return show.listNeighbors(this.#ip);
  }

  /** The routing table. */
  get routes(): RouteInfo[] {
    return show.listRoutes(this.#ip);
  }

  /** The stack's addresses. */
  get addresses(): AddressInfo[] {
    return show.listAddresses(this.#ip);
  }

  /** The last exception that the stack survived, if `statistics.stack.faults` or `callbackErrors` isn't 0. */
  get lastFault(): unknown {
    return this.#pump.lastFault;
  }

  /**
   * Lets the stack keep the process alive, as it does at first, by what it waits for: frames from outside the process, and timers. Over
   * devices in memory alone, like a cable, nothing can come from outside: there a process that has nothing else to do ends, even
   * while an `accept()` waits.
   */
  ref(): void {
    this.#pump.reference(true);
  }

  /**
   * Lets the process end although the stack is open. A descriptor's device (TAP, TUN, packet socket, AF_XDP, vhost-user) needs a part
   * of Deno's insides for it; a Deno without that looks for frames each 5 ms instead. A device of your own needs `Device.unref`.
   */
  unref(): void {
    this.#pump.reference(false);
  }

  #lose(device: Device, netInterface: NetInterface, cause: unknown): void {
    const reason = new DeviceGoneError(device.name, cause === undefined ? undefined : { cause });
    this.#links.remove(netInterface, reason, false);
    if (this.#pump.devices.length === 0) this.#end(reason, false, false);
  }

  /** Ends everything; `failure` tells whether it was the user's wish. */
  #end(reason: Error, wished: boolean, reset: boolean): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    this.#pump.now();
    this.#pump.fail(reason);
    this.#tcp.shutdown(ECONNABORTED, reset);
    this.#udp.shutdown(ECONNABORTED);
    this.#pump.close();
    if (wished) this.#closed.resolve();
    else this.#closed.reject(reason);
  }

  /** Resets every connection, rejects everyone who waits, and closes the devices. A second call does nothing. */
  close(): void {
    this.#end(stackClosed(), true, true);
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /**
   * Closes in an orderly way: what was written is sent, connections end with a FIN, for at most 5 seconds; then {@link close}.
   */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#reason !== null) return;
    await linger(this.#pump, LINGER_MS);
    this.#end(stackClosed(), true, false);
  }
}

function stackClosed(): Error {
  return errorFrom(ECONNABORTED, "the network stack was closed");
}
