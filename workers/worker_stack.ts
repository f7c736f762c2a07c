/**
 * A TCP/IP host in threads of its own: the device and the stack in a worker, or in one for each queue of the device, and
 * the connections here.
 *
 * @module
 */
import { closeWakeEvent } from "../drivers/wake_event.ts";
import { EADDRNOTAVAIL, ECONNABORTED } from "../stack/codes.ts";
import { abortReason, errorFrom } from "../stack/host/errors.ts";
import * as check from "../stack/host/options.ts";
import type { ConnectDatagramOptions, ConnectOptions, DatagramOptions, ListenOptions } from "../stack/host/options.ts";
import { checkPingOptions, type PingOptions, type PingReply } from "../stack/host/ping.ts";
import type { RecordsByType, RecordType, ResolveOptions } from "../stack/host/resolver.ts";
import type { AddressInfo, ConnectionInfo, NeighborInfo, RouteInfo } from "../stack/host/statistics.ts";
import { TcpConn } from "../stack/host/tcp_conn.ts";
import { TcpListener } from "../stack/host/tcp_listener.ts";
import { UdpConn } from "../stack/host/udp_conn.ts";
import { formatKey, tryParseAddress } from "../stack/wire/address.ts";
import { FrameRing } from "./frames.ts";
import { type RemoteSlot, WorkerLink } from "./link.ts";
import type { Requests } from "./messages.ts";
import { type CheckedWorkerOptions, checkSendable, checkWorkerOptions } from "./options.ts";
import type { WorkerStackOptions, WorkerStatistics } from "./options.ts";
import { ListenerPart, RemoteListenSocket, RemoteTcpSocket } from "./remote_tcp.ts";
import { RemoteUdpSocket } from "./remote_udp.ts";

/** How long a worker may take to end, in milliseconds: its connections linger for 5 seconds at most. */
const END_MS = 12_000;

/**
 * A TCP/IP host whose device and stack run in a worker, so that a busy main thread doesn't stall the network: frames are
 * answered, acknowledged and sent again, and bytes received, while it works. Connections have the faces of `Deno.TcpConn`,
 * `Deno.TcpListener` and `Deno.DatagramConn`, as those of `NetStack` do. Bytes cross by rings of shared memory.
 *
 * With `queues` more than 1 the device is a multi-queue TAP, every queue has a worker with a whole stack, and one listener
 * stands in all of them: the kernel spreads connections over the queues.
 *
 * ```ts ignore
 * await using stack = await WorkerStack.open({ device: { kind: "tap", host: { address: "10.0.0.1/24" } }, address: "10.0.0.2/24" });
 * for await (const conn of stack.listen({ port: 7 })) conn.readable.pipeTo(conn.writable);
 * ```
 */
export class WorkerStack {
  readonly #links: WorkerLink[] = [];
  readonly #closed: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  #name = "";
  #reason: Error | null = null;
  #ending: Promise<void> | null = null;
  #nextLink = 0;
  #nextAttempt = 1;

  private constructor() {
    // Whoever doesn't look at it must not meet an unhandled rejection.
    this.#closed.promise.catch(() => {});
  }

  /**
   * Starts the workers, opens the device in them, and resolves when they are on the wire.
   *
   * @throws {TypeError | RangeError} for an option that is wrong, before anything is started; what opening the device throws,
   * see `TapDevice.open`, with nothing left behind
   */
  static async open(options: WorkerStackOptions): Promise<WorkerStack> {
    const checked = checkWorkerOptions(options);
    const stack = new WorkerStack();
    try {
      await stack.#start(checked, options);
    } catch (error) {
      stack.#end(error instanceof Error ? error : new Error(String(error)), true, false);
      await stack.#ending;
      throw error;
    }
    return stack;
  }

  async #start({ net, devices, queues }: CheckedWorkerOptions, options: WorkerStackOptions): Promise<void> {
    for (let i = 0; i < queues; i++) this.#links.push(new WorkerLink(this.#accept, (error) => this.#end(error, false, false)));
    const frameRings = devices.map((_, from) => devices.map((_, to) => from === to ? null : FrameRing.create()));
    const bells = this.#links.map((link) => link.memory.workerBell);
    let device = devices[0];
    for (const [index, link] of this.#links.entries()) {
      if (index > 0) {
        device = device.kind === "module" ? devices[index] : { ...devices[index], name: this.#name } as typeof device;
      }
      const { memory } = link;
      const begin = { device, net, memory, index, count: queues, frameRings, bells };
      const opened = await link.call("begin", begin) as { name: string; descriptor: number };
      this.#name = opened.name;
      link.descriptor = opened.descriptor;
    }
    // The host's side comes up when all queues are there: its first frames are spread over all of them.
    const given = options.device;
    if (given.kind !== "module" && given.host !== undefined) {
      const { host, mtu } = given;
      await this.#links[0].call("host", { options: { host, mtu } });
      this.#name = host.name ?? this.#name;
    }
    await Promise.all(this.#links.map((link) => link.call("start", {})));
  }

  /** The device's name. */
  get name(): string {
    return this.#name;
  }

  /** Workers, and queues of the device. */
  get queues(): number {
    return this.#links.length;
  }

  /** Resolves when the stack is closed and its workers have ended; rejects with what ended it, for example when the device is gone. */
  get closed(): Promise<void> {
    return this.#closed.promise;
  }

  readonly #accept = (link: WorkerLink, slot: number, listener: RemoteSlot | undefined): void => {
    const socket = new RemoteTcpSocket(link, slot);
    if (listener instanceof ListenerPart) listener.listener.add(socket, listener);
    else socket.abort();
  };

  #open(): void {
    if (this.#reason !== null) throw this.#reason;
  }

  /** Asks a worker for something that a signal can end. */
  async #attempt<K extends "connect" | "ping" | "resolve">(
    link: WorkerLink,
    op: K,
    args: Omit<Requests[K], "attempt">,
    signal: AbortSignal | undefined,
    late?: (value: unknown) => void,
  ): Promise<unknown> {
    if (signal?.aborted) throw abortReason(signal);
    const attempt = this.#nextAttempt++;
    const asked = link.call(op, { ...args, attempt } as unknown as Requests[K]);
    if (signal === undefined) return await asked;
    const { promise, reject } = Promise.withResolvers<never>();
    const onAbort = () => {
      link.post("abort", { attempt });
      asked.then(late, () => {});
      reject(abortReason(signal));
    };
    signal.addEventListener("abort", onAbort);
    try {
      return await Promise.race([asked, promise]);
    } finally {
      signal.removeEventListener("abort", onAbort);
    }
  }

  /** Opens a TCP connection: as `NetStack.connect`, with the same options and errors. With several queues the workers take turns. */
  async connect(options: ConnectOptions): Promise<TcpConn> {
    this.#open();
    check.checkCall(options, "tcp");
    const { hostname = "127.0.0.1", localAddress, signal, initialData, transport: _, ...tcp } = options;
    const port = check.checkPort(options.port, 1);
    const localPort = options.localPort === undefined ? 0 : check.checkPort(options.localPort);
    const localKey = localAddress === undefined ? 0 : check.checkAddress(localAddress, "localAddress");
    check.checkTcpOptions(options);
    checkSendable(options);
    check.checkInitialData(initialData);
    // A port belongs to one worker: so two of them can't make the same connection.
    const links = this.#links;
    const link = localPort > 0 ? links[localPort % links.length] : links[this.#nextLink++ % links.length];
    const args = { hostname, port, localKey, localPort, initialData, options: tcp };
    const slot = await this.#attempt(link, "connect", args, signal, (slot) => new RemoteTcpSocket(link, slot as number).abort());
    const socket = new RemoteTcpSocket(link, slot as number);
    this.#open();
    const conn = new TcpConn(socket, link);
    socket.serve();
    return conn;
  }

  /**
   * Listens for TCP connections in every worker: as `NetStack.listen`, with the same options and errors. It sleeps for some
   * microseconds until the workers listen.
   */
  listen(options: ListenOptions): TcpListener {
    this.#open();
    check.checkCall(options, "tcp");
    const { hostname = "0.0.0.0", backlog: _, tcpBacklog: __, transport: ___, ...tcp } = options;
    let port = check.checkPort(options.port ?? 0);
    const key = check.checkAddress(hostname, "hostname");
    const backlog = check.checkBacklog(options);
    check.checkTcpOptions(options);
    checkSendable(options);
    const socket = new RemoteListenSocket(key);
    for (const link of this.#links) {
      const made = link.callNow("listen", { key, port, backlog, options: tcp }) as { slot: number; port: number } | number;
      if (typeof made === "number") {
        socket.close();
        throw errorFrom(made, check.listenText(key, port, options));
      }
      port = socket.localPort = made.port;
      socket.parts.push(new ListenerPart(link, made.slot, socket));
    }
    return new TcpListener(socket, this.#links[0]);
  }

  /**
   * Opens a UDP socket for datagrams from and to anybody: as `NetStack.listenDatagram`. It lives in the first worker; what
   * comes to the others is handed over. An error of sending, for example no route, is the next call's.
   */
  listenDatagram(options: DatagramOptions): UdpConn {
    this.#open();
    check.checkCall(options, "udp");
    const { hostname = "0.0.0.0", transport: _, loopback, ...udp } = options;
    const port = check.checkPort(options.port ?? 0);
    const key = check.checkAddress(hostname, "hostname");
    check.checkUdpOptions(options);
    const all = { ...udp, multicastLoop: options.multicastLoop ?? loopback ?? false };
    return this.#openDatagram(key, port, 0, 0, all, `listen for datagrams at ${formatKey(key)}:${port}`);
  }

  /** Opens a UDP socket for one peer: as `NetStack.connectDatagram`. */
  async connectDatagram(options: ConnectDatagramOptions): Promise<UdpConn> {
    this.#open();
    check.checkCall(options, "udp");
    check.checkUdpOptions(options);
    const { hostname, port: _, localPort: __, ...udp } = options;
    const port = check.checkPort(options.port, 1);
    const localPort = options.localPort === undefined ? 0 : check.checkPort(options.localPort);
    const key = check.hostOrSelf(await this.#lookUp(hostname));
    this.#open();
    return this.#openDatagram(0, localPort, key, port, udp, `connect datagrams to ${formatKey(key)}:${port}`);
  }

  #openDatagram(
    key: number,
    port: number,
    remoteKey: number,
    remotePort: number,
    options: Requests["openDatagram"]["options"],
    tried: string,
  ): UdpConn {
    const [link] = this.#links;
    const made = link.callNow("openDatagram", { key, port, remoteKey, remotePort, options });
    if (typeof made === "number") throw errorFrom(made, tried);
    const { slot, key: localKey, port: localPort } = made as { slot: number; key: number; port: number };
    const socket = new RemoteUdpSocket(link, slot, localKey, localPort, remoteKey, remotePort);
    return new UdpConn(socket, link, (hostname) => this.#lookUp(hostname));
  }

  async #lookUp(hostname: string): Promise<number> {
    const [address] = await this.resolve(hostname);
    const key = tryParseAddress(address);
    if (key === null) throw errorFrom(EADDRNOTAVAIL, `look up ${hostname}`);
    return key;
  }

  /** Sends an ICMP echo request and waits for the answer: as `NetStack.ping`. */
  async ping(host: string, options: PingOptions = {}): Promise<PingReply> {
    this.#open();
    checkPingOptions(options);
    const { signal, ...rest } = options;
    return await this.#attempt(this.#links[0], "ping", { host, options: rest }, signal) as PingReply;
  }

  /** Asks the name servers: as `NetStack.resolve`. */
  async resolve<T extends RecordType = "A">(
    name: string,
    type: T = "A" as T,
    options: ResolveOptions = {},
  ): Promise<RecordsByType[T]> {
    this.#open();
    return await this.#attempt(this.#links[0], "resolve", { name, type }, options.signal) as RecordsByType[T];
  }

  /** All counters, one entry a worker. */
  async statistics(): Promise<WorkerStatistics[]> {
    this.#open();
    return await Promise.all(this.#links.map((link) => link.call("statistics", {}))) as WorkerStatistics[];
  }

  /** Every TCP connection of every worker, as `ss -i` shows them. */
  async connections(): Promise<ConnectionInfo[]> {
    this.#open();
    const all = await Promise.all(this.#links.map((link) => link.call("show", { what: "connections" })));
    return (all as ConnectionInfo[][]).flat();
  }

  /** The neighbour cache of the first worker; each has its own. */
  async neighbors(): Promise<NeighborInfo[]> {
    return await this.#show("neighbors") as NeighborInfo[];
  }

  /** The routing table, which is the same in every worker. */
  async routes(): Promise<RouteInfo[]> {
    return await this.#show("routes") as RouteInfo[];
  }

  /** The stack's addresses. */
  async addresses(): Promise<AddressInfo[]> {
    return await this.#show("addresses") as AddressInfo[];
  }

  async #show(what: Requests["show"]["what"]): Promise<unknown> {
    this.#open();
    return await this.#links[0].call("show", { what });
  }

  /** Ends everything; `wished` tells whether that was the user's wish. */
  #end(reason: Error, wished: boolean, orderly: boolean): void {
    if (this.#reason !== null) return;
    this.#reason = reason;
    for (const link of this.#links) link.fail(reason);
    this.#ending = this.#finish(reason, orderly).then(() => {
      if (wished) this.#closed.resolve();
      else this.#closed.reject(reason);
    });
  }

  /** The workers give their descriptors back, and are ended. */
  async #finish(reason: Error, orderly: boolean): Promise<void> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = new Promise<void>((resolve) => timer = setTimeout(resolve, END_MS));
    const ended = Promise.allSettled(this.#links.map((link) => link.call("end", { orderly })));
    await Promise.race([ended, late]);
    clearTimeout(timer);
    for (const link of this.#links) link.terminate(reason);
    for (const link of this.#links) if (link.descriptor >= 0) closeWakeEvent(link.descriptor);
  }

  /** Resets every connection and rejects everyone who waits, at once. {@link closed} tells when the workers have ended. */
  close(): void {
    this.#end(errorFrom(ECONNABORTED, "the network stack was closed"), true, false);
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Closes in an orderly way: what was written is sent, connections end with a FIN, for at most 5 seconds; then the workers end. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#end(errorFrom(ECONNABORTED, "the network stack was closed"), true, true);
    await this.#ending;
  }
}
