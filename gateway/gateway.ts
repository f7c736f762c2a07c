/**
 * A network for virtual machines and namespaces with no privilege on this side: what slirp4netns and passt do. Guests get an
 * address by DHCP; their connections and datagrams are carried on by ordinary sockets of this process.
 *
 * @module
 */
import { createSocket, type Socket } from "node:dgram";
import type { Device } from "../stack/device.ts";
import { intercept, type InterceptedConnection, type InterceptedDatagrams, type Interception } from "../stack/host/intercept.ts";
import { NetStack } from "../stack/host/net_stack.ts";
import type { TcpOptions } from "../stack/tcp/types.ts";
import { parsePrefix } from "../stack/wire/address.ts";
import { type DhcpLease, type DhcpOptions, DhcpServer } from "./dhcp_server.ts";
import { Policy } from "./policy.ts";
import { relay } from "./tcp_relay.ts";
import { UdpRelay } from "./udp_relay.ts";

/** Datagram flows that may be open; the one that was quiet for longest makes room. */
export const UDP_FLOWS_MAX = 1024;
/** Connections that are carried at once; more are refused. */
export const TCP_FLOWS_MAX = 4096;
/** Until a destination answers, in milliseconds. */
const CONNECT_MS = 30_000;
const DNS_PORT = 53;

/** A port of this machine that leads to a guest. */
export interface PortForward {
  /** Default "tcp". */
  readonly transport?: "tcp" | "udp";
  /** Address of this machine. Default "127.0.0.1". */
  readonly hostname?: string;
  /** Port of this machine; 0 for a free one (TCP only). */
  readonly port: number;
  /** Address of the guest. Default: the first that DHCP gives out. */
  readonly guest?: string;
  /** Port of the guest. */
  readonly guestPort: number;
}

/** Options of a {@link Gateway}. */
export interface GatewayOptions {
  /** The gateway's own address. Default "10.0.2.2/24". */
  address?: string;
  /** DHCP: false for none, or what differs from the defaults. */
  dhcp?: false | Partial<DhcpOptions>;
  /** Where questions to the gateway's port 53 go. Default: the first name server of /etc/resolv.conf; null for nowhere. */
  nameserver?: string | null;
  /** Destinations to allow, "192.168.0.0/16" or "127.0.0.1"; the longest prefix counts. Default: all but those denied. */
  allow?: readonly string[];
  /** Destinations to deny, beside loopback, link-local, multicast and reserved addresses. */
  deny?: readonly string[];
  /** Ports of the gateway's address that nothing listens on are those of this machine's 127.0.0.1. Default false. */
  hostLoopback?: boolean;
  /** Ports of this machine that lead to guests. */
  forward?: readonly PortForward[];
  /** Milliseconds until a datagram flow is forgotten. Default 60,000. */
  udpIdleMs?: number;
  /** Options of the guests' connections. */
  tcp?: TcpOptions;
  /** Told when a guest has got an address. */
  onLease?: (lease: DhcpLease) => void;
}

/** What a gateway counts. */
export interface GatewayStatistics {
  /** Connections of guests that were carried. */
  tcpFlows: number;
  /** Refused by rule, or one too many. */
  tcpDenied: number;
  /** The destination didn't take them. */
  tcpFailed: number;
  /** Gauge: connections that are carried now, or wait for their destination. */
  tcpOpen: number;
  /** Datagram flows that were carried. */
  udpFlows: number;
  /** Refused by rule. */
  udpDenied: number;
  /** Flows ended early for others. */
  udpEvicted: number;
  /** Gauge: datagram flows that are open. */
  udpOpen: number;
  /** Bytes from guests. */
  bytesOut: number;
  /** Bytes to guests. */
  bytesIn: number;
  /** Connections and datagram flows from outside to guests. */
  forwarded: number;
  /** Those that no guest took. */
  forwardFailed: number;
}

function systemNameserver(): string | null {
  try {
    return Deno.readTextFileSync("/etc/resolv.conf").match(/^\s*nameserver\s+(\d+\.\d+\.\d+\.\d+)\s*$/m)?.[1] ?? null;
  } catch {
    return null;
  }
}

/**
 * The router, name server and DHCP server of a small network behind a device, and its way out.
 *
 * @example A guest in memory reaches a server of this machine through the gateway
 * ```ts
 * import { cable, Gateway, NetStack } from "@tapioca/tapioca";
 *
 * const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen() {} }, () => new Response("hello"));
 * const [inside, outside] = cable();
 * await using gateway = new Gateway(outside, { hostLoopback: true });
 * await using guest = new NetStack(inside, { address: "10.0.2.15/24", gateway: "10.0.2.2" });
 * const conn = await guest.connect({ hostname: "10.0.2.2", port: server.addr.port });
 * await conn.write(new TextEncoder().encode("GET / HTTP/1.0\r\n\r\n"));
 * console.log(await new Response(conn.readable).text(), gateway.statistics.tcpFlows); // … hello 1
 * await server.shutdown();
 * ```
 */
export class Gateway implements AsyncDisposable {
  /** The gateway's own stack: listen on it for services that guests see at the gateway's address. */
  readonly stack: NetStack;
  /** The DHCP server, unless there is none. */
  readonly dhcp: DhcpServer | null;
  /** Addresses of the forwarded ports, in the order of the option. */
  readonly forwards: readonly { hostname: string; port: number }[];
  readonly #address: string;
  readonly #options: GatewayOptions;
  readonly #policy: Policy;
  readonly #nameserver: string | null;
  readonly #interception: Interception;
  readonly #udp = new Map<UdpRelay, true>();
  readonly #open: Disposable[] = [];
  readonly #outside = new Set<Deno.TcpConn>();
  readonly #counters = {
    tcpFlows: 0,
    tcpDenied: 0,
    tcpFailed: 0,
    tcpOpen: 0,
    udpFlows: 0,
    udpDenied: 0,
    udpEvicted: 0,
    bytesOut: 0,
    bytesIn: 0,
    forwarded: 0,
    forwardFailed: 0,
  };
  #closed = false;

  /**
   * Is there when it returns.
   *
   * @param device leads to the guests; closed with the gateway
   * @throws {TypeError | RangeError} for impossible options, before anything is opened; what listening on a forwarded port throws
   */
  constructor(device: Device, options: GatewayOptions = {}) {
    const address = options.address ?? "10.0.2.2/24";
    parsePrefix(address);
    this.#options = options;
    this.#policy = new Policy(options.allow ?? [], options.deny ?? []);
    this.#address = address.split("/")[0];
    this.#nameserver = options.nameserver === undefined ? systemNameserver() : options.nameserver;
    const stack = this.stack = new NetStack(device, { address, tcp: options.tcp });
    try {
      this.#interception = intercept(stack, {
        connection: (flow) => this.#connection(flow),
        datagrams: (flow) => this.#datagrams(flow),
      }, options.tcp);
      this.dhcp = options.dhcp === false
        ? null
        : new DhcpServer(stack, { address, mtu: Math.min(device.mtu, 65_535), ...options.dhcp }, options.onLease);
      this.forwards = (options.forward ?? []).map((forward) => this.#forward(forward));
    } catch (error) {
      for (const one of this.#open) one[Symbol.dispose]();
      stack.close();
      throw error;
    }
  }

  /** Where a guest's destination really is, or null if it may not go there. */
  #target(destination: Deno.NetAddr): { hostname: string; port: number } | null {
    const { hostname, port } = destination;
    if (hostname !== this.#address) return this.#policy.allows(hostname) ? { hostname, port } : null;
    if (port === DNS_PORT && this.#nameserver !== null) return { hostname: this.#nameserver, port };
    return this.#options.hostLoopback === true ? { hostname: "127.0.0.1", port } : null;
  }

  async #connection(flow: InterceptedConnection): Promise<void> {
    const target = this.#target(flow.destination);
    if (target === null || this.#counters.tcpOpen >= TCP_FLOWS_MAX) {
      this.#counters.tcpDenied++;
      return flow.destination.hostname === this.#address ? flow.refuse() : flow.unreachable("prohibited");
    }
    this.#counters.tcpOpen++;
    try {
      const outside = await this.#dial(target, flow);
      if (outside === null) return;
      this.#outside.add(outside);
      try {
        const inside = await flow.accept();
        this.#counters.tcpFlows++;
        outside.setNoDelay(true);
        inside.setNoDelay(true);
        await relay(inside, outside, this.#count).catch(() => inside.abort());
      } finally {
        this.#outside.delete(outside);
        outside[Symbol.dispose]();
      }
    } catch {
      /* the guest has gone, or the gateway is closed */
    } finally {
      this.#counters.tcpOpen--;
    }
  }

  async #dial(target: { hostname: string; port: number }, flow: InterceptedConnection): Promise<Deno.TcpConn | null> {
    try {
      return await Deno.connect({ ...target, signal: AbortSignal.timeout(CONNECT_MS) });
    } catch (error) {
      this.#counters.tcpFailed++;
      // Silence stays silence: the guest's own timeout tells it.
      if (error instanceof Deno.errors.ConnectionRefused) flow.refuse();
      else flow.unreachable("host");
      return null;
    }
  }

  readonly #count = (out: boolean, bytes: number): void => {
    if (out) this.#counters.bytesOut += bytes;
    else this.#counters.bytesIn += bytes;
  };

  #datagrams(flow: InterceptedDatagrams): void {
    const target = this.#target(flow.destination);
    if (target === null || this.#closed) {
      this.#counters.udpDenied++;
      return flow.unreachable(flow.destination.hostname === this.#address ? "port" : "prohibited");
    }
    if (this.#udp.size >= UDP_FLOWS_MAX) this.#evict();
    this.#counters.udpFlows++;
    const idleMs = this.#options.udpIdleMs ?? 60_000;
    const one: UdpRelay = new UdpRelay(
      flow.socket,
      target,
      idleMs,
      this.#count,
      () => flow.unreachable("port"),
      () => this.#udp.delete(one),
    );
    this.#udp.set(one, true);
  }

  #evict(): void {
    let oldest: UdpRelay | null = null;
    for (const one of this.#udp.keys()) if (oldest === null || one.lastAt < oldest.lastAt) oldest = one;
    this.#counters.udpEvicted++;
    oldest?.close();
  }

  #forward(forward: PortForward): { hostname: string; port: number } {
    const hostname = forward.hostname ?? "127.0.0.1";
    if (forward.transport === "udp") return this.#forwardUdp(forward, hostname);
    const listener = Deno.listen({ hostname, port: forward.port });
    this.#open.push(listener);
    this.#acceptForwarded(listener, forward);
    return { hostname, port: listener.addr.port };
  }

  async #acceptForwarded(listener: Deno.TcpListener, forward: PortForward): Promise<void> {
    for await (const outside of listener) {
      if (this.#outside.size >= TCP_FLOWS_MAX) outside[Symbol.dispose]();
      else this.#bringIn(outside, forward);
    }
  }

  #guestOf(forward: PortForward): string | null {
    return forward.guest ?? this.dhcp?.leases[0]?.address ?? null;
  }

  async #bringIn(outside: Deno.TcpConn, forward: PortForward): Promise<void> {
    this.#outside.add(outside);
    try {
      const hostname = this.#guestOf(forward);
      if (hostname === null) throw new Deno.errors.NotConnected("no guest has an address");
      const inside = await this.stack.connect({ hostname, port: forward.guestPort, signal: AbortSignal.timeout(CONNECT_MS) });
      this.#counters.forwarded++;
      await relay(outside, inside, (forth, bytes) => this.#count(!forth, bytes)).catch(() => inside.abort());
    } catch {
      this.#counters.forwardFailed++;
    } finally {
      this.#outside.delete(outside);
      outside[Symbol.dispose]();
    }
  }

  /** Each sender outside gets a port of the gateway's, so that answers find their way. */
  #forwardUdp(forward: PortForward, hostname: string): { hostname: string; port: number } {
    const outside: Socket = createSocket("udp4");
    const inside = new Map<string, { send(bytes: Uint8Array): void; close(): void }>();
    outside.on("error", () => this.#counters.forwardFailed++);
    outside.on("message", (bytes: Uint8Array, from: { address: string; port: number }) => {
      const guest = this.#guestOf(forward);
      if (guest === null || this.#closed) return void this.#counters.forwardFailed++;
      const key = `${from.address}:${from.port}`;
      let way = inside.get(key);
      if (way === undefined) {
        if (inside.size >= UDP_FLOWS_MAX) return void this.#counters.forwardFailed++;
        this.#counters.forwarded++;
        way = this.#way(
          guest,
          forward.guestPort,
          (answer) => outside.send(answer, from.port, from.address),
          () => inside.delete(key),
        );
        inside.set(key, way);
      }
      this.#count(false, bytes.length);
      way.send(bytes);
    });
    outside.bind(forward.port, hostname);
    this.#open.push({
      [Symbol.dispose]: () => {
        outside.close();
        for (const way of [...inside.values()]) way.close();
      },
    });
    return { hostname, port: forward.port };
  }

  #way(guest: string, port: number, answer: (bytes: Uint8Array) => void, ended: () => void) {
    const socket = this.stack.listenDatagram({ port: 0, hostname: this.#address });
    let timer = setTimeout(close, this.#options.udpIdleMs ?? 60_000);
    const alive = () => {
      clearTimeout(timer);
      timer = setTimeout(close, this.#options.udpIdleMs ?? 60_000);
    };
    function close(): void {
      clearTimeout(timer);
      socket[Symbol.dispose]();
      ended();
    }
    const receive = async () => {
      for await (const [bytes, from] of socket) {
        if (from.hostname !== guest || from.port !== port) continue;
        alive();
        this.#count(true, bytes.length);
        answer(bytes);
      }
    };
    receive().catch(() => {});
    const send = (bytes: Uint8Array) => {
      alive();
      socket.send(bytes, { transport: "udp", hostname: guest, port }).catch(() => {});
    };
    return { send, close };
  }

  /** What was carried, and what was not. */
  get statistics(): GatewayStatistics {
    return { ...this.#counters, udpOpen: this.#udp.size };
  }

  /** Where guests may go: the rules, the one that counts first at the top. */
  get rules(): string[] {
    return this.#policy.describe();
  }

  /** Ends everything at once. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const one of this.#open) one[Symbol.dispose]();
    this.dhcp?.[Symbol.dispose]();
    this.#interception[Symbol.dispose]();
    for (const one of [...this.#udp.keys()]) one.close();
    for (const conn of this.#outside) conn[Symbol.dispose]();
    this.stack.close();
  }

  /** {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
