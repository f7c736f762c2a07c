/**
 * A network for virtual machines and namespaces with no privilege on this side: what slirp4netns and passt do. Guests get an
 * address by DHCP; their connections and datagrams are carried on by ordinary sockets of this process.
 *
 * @module
 */
import type { Device } from "../stack/device.ts";
import { intercept, type InterceptedConnection, type InterceptedDatagrams, type Interception } from "../stack/host/intercept.ts";
import { NetStack } from "../stack/host/net_stack.ts";
import { checkList, checkObject, checkSwitch } from "../stack/checks.ts";
import type { TcpOptions } from "../stack/tcp/types.ts";
import { parsePrefix, tryParseAddress } from "../stack/wire/address.ts";
import { checkDhcp, type DhcpLease, type DhcpOptions, DhcpServer } from "./dhcp_server.ts";
import { Dialer } from "./dialer.ts";
import { checkForward, type ForwardOwner, type OpenForward, openForward, type PortForward } from "./forward.ts";
import { Policy } from "./policy.ts";
import { denoSockets, type Destination, type GatewaySockets } from "./sockets.ts";
import { relay, type RelayEnd, reset } from "./tcp_relay.ts";
import { UdpRelay } from "./udp_relay.ts";

/** Datagram flows that may be open; the one that was quiet for longest makes room. */
export const UDP_FLOWS_MAX = 1024;
/** Connections that are carried at once; who wants more gets no answer, and asks again. */
export const TCP_FLOWS_MAX = 4096;
/** Of these, connections whose destination hasn't answered yet: a guest that tries every address there is keeps no others out. */
export const TCP_DIALS_MAX = 1024;
/** A guest that is gone without a word is noticed after so long without traffic, in milliseconds; it must not be for ever. */
const KEEP_ALIVE_MS = 600_000;
const DNS_PORT = 53;
/** What this machine is short of now says nothing of the destination: the guest asks again. */
const SHORTAGES = ["EMFILE", "ENFILE", "ENOBUFS", "ENOMEM", "EADDRNOTAVAIL"];

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
  /** Milliseconds until a datagram flow is forgotten. Default 180,000, above the two minutes that RFC 4787 asks for. */
  udpIdleMs?: number;
  /** Makes the sockets outside. Default: Deno's own; `new HostSockets()` is faster where FFI is allowed. */
  sockets?: GatewaySockets;
  /** Options of the guests' connections. */
  tcp?: TcpOptions;
  /** Told when a guest has got an address. */
  onLease?: (lease: DhcpLease) => void;
}

/** What a gateway counts. */
export interface GatewayStatistics {
  /** Connections of guests that were carried. */
  tcpFlows: number;
  /** Refused by rule. */
  tcpDenied: number;
  /** The destination didn't take them. */
  tcpFailed: number;
  /** SYNs that were left without an answer, because of {@link TCP_FLOWS_MAX} or {@link TCP_DIALS_MAX}. */
  tcpOverflow: number;
  /** Gauge: connections that are carried now, or wait for their destination. */
  tcpOpen: number;
  /** Datagram flows that were carried. */
  udpFlows: number;
  /** Refused by rule. */
  udpDenied: number;
  /** Whose socket outside could not be opened, or didn't work, as when the destination refuses. */
  udpFailed: number;
  /** Flows ended early for others. */
  udpEvicted: number;
  /** Datagrams lost, because too many of their flow were on their way. */
  udpDropped: number;
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
  /** Addresses of the forwarded ports, in the order of the option; a free port for datagrams is known when it is {@link ready}. */
  readonly forwards: readonly { hostname: string; port: number }[];
  /** Resolves when the forwarded ports are open; rejects with what opening one for datagrams failed of. */
  readonly ready: Promise<void>;
  readonly #address: string;
  readonly #options: GatewayOptions;
  readonly #policy: Policy;
  readonly #nameserver: string | null;
  readonly #udpIdleMs: number;
  readonly #interception: Interception;
  readonly #udp = new Map<UdpRelay, true>();
  readonly #open: OpenForward[] = [];
  readonly #outside = new Set<RelayEnd>();
  readonly #sockets: GatewaySockets;
  readonly #dialer = new Dialer();
  readonly #counters = {
    tcpFlows: 0,
    tcpDenied: 0,
    tcpFailed: 0,
    tcpOverflow: 0,
    tcpOpen: 0,
    udpFlows: 0,
    udpDenied: 0,
    udpFailed: 0,
    udpEvicted: 0,
    udpDropped: 0,
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
    checkObject(options);
    const address = options.address ?? "10.0.2.2/24";
    parsePrefix(address);
    this.#options = options;
    for (const name of ["allow", "deny", "forward"] as const) checkList(name, options[name] ?? undefined);
    this.#policy = new Policy(options.allow ?? [], options.deny ?? []);
    this.#address = address.split("/")[0];
    this.#nameserver = options.nameserver === undefined ? systemNameserver() : options.nameserver;
    if (this.#nameserver !== null && tryParseAddress(this.#nameserver) === null) {
      throw new TypeError(`nameserver must be an IPv4 address: ${this.#nameserver}`);
    }
    const { udpIdleMs = 180_000 } = options;
    if (!(udpIdleMs >= 1 && udpIdleMs <= 0x7fffffff)) throw new RangeError(`udpIdleMs must be 1 or more: ${udpIdleMs}`);
    this.#udpIdleMs = udpIdleMs;
    const { sockets = denoSockets } = options;
    if (typeof sockets?.connect !== "function" || typeof sockets.datagrams !== "function") {
      throw new TypeError("sockets must have connect and datagrams");
    }
    this.#sockets = sockets;
    checkSwitch("hostLoopback", options.hostLoopback);
    for (const forward of options.forward ?? []) checkForward(forward);
    if (options.dhcp !== false) checkObject(options.dhcp ?? {}, "dhcp");
    const dhcp = options.dhcp === false ? null : { address, mtu: Math.min(device.mtu, 65_535), ...options.dhcp };
    if (dhcp !== null) checkDhcp(dhcp, options.onLease);
    const stack = this.stack = new NetStack(device, { address, tcp: options.tcp });
    try {
      this.#interception = intercept(stack, {
        connection: (flow) => this.#connection(flow),
        datagrams: (flow) => this.#datagrams(flow),
      }, { noDelay: true, keepAlive: true, keepAliveIdleMs: KEEP_ALIVE_MS, ...options.tcp });
      this.dhcp = dhcp === null ? null : new DhcpServer(stack, dhcp, options.onLease);
      for (const forward of options.forward ?? []) this.#open.push(openForward(this.#forwardOwner(), forward));
    } catch (error) {
      for (const one of this.#open) one[Symbol.dispose]();
      stack.close();
      throw error;
    }
    this.forwards = this.#open.map((one) => one.address);
    this.ready = Promise.all(this.#open.map((one) => one.ready)).then(() => {});
    this.ready.catch(() => {});
    // Without a device there is nobody left to serve.
    stack.closed.then(() => this.close(), () => this.close());
  }

  /** Where a guest's destination really is, or null if it may not go there. */
  #target(destination: Deno.NetAddr): Destination | null {
    const { hostname, port } = destination;
    if (hostname !== this.#address) return this.#policy.allows(hostname) ? { hostname, port } : null;
    if (port === DNS_PORT && this.#nameserver !== null) return { hostname: this.#nameserver, port };
    return this.#options.hostLoopback === true ? { hostname: "127.0.0.1", port } : null;
  }

  async #connection(flow: InterceptedConnection): Promise<void> {
    const target = this.#target(flow.destination);
    if (target === null) {
      this.#counters.tcpDenied++;
      return flow.destination.hostname === this.#address ? flow.refuse() : flow.unreachable("prohibited");
    }
    if (this.#counters.tcpOpen >= TCP_FLOWS_MAX || this.#dialer.waiting >= TCP_DIALS_MAX) {
      this.#counters.tcpOverflow++;
      return flow.ignore();
    }
    this.#counters.tcpOpen++;
    try {
      const outside = await this.#dial(target, flow);
      if (outside === null) return;
      this.#outside.add(outside);
      try {
        const inside = await flow.accept();
        this.#counters.tcpFlows++;
        await relay(inside, outside, this.#count);
      } finally {
        this.#outside.delete(outside);
        outside[Symbol.dispose]();
      }
    } catch {
      /* one of the two has gone, or the gateway is closed */
    } finally {
      flow.ignore();
      this.#counters.tcpOpen--;
    }
  }

  async #dial(target: Destination, flow: InterceptedConnection): Promise<RelayEnd | null> {
    try {
      return await this.#dialer.dial((signal) => this.#sockets.connect(target, signal));
    } catch (error) {
      this.#counters.tcpFailed++;
      if (error instanceof Deno.errors.ConnectionRefused || error instanceof Deno.errors.ConnectionReset) flow.refuse();
      else if (error instanceof Deno.errors.NotCapable) flow.unreachable("prohibited");
      else if (SHORTAGES.includes((error as { code?: string }).code ?? "")) flow.ignore();
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
    try {
      const one: UdpRelay = new UdpRelay(flow.socket, target, this.#sockets, this.#udpIdleMs, {
        count: this.#count,
        dropped: () => this.#counters.udpDropped++,
        failed: (error) => this.#refuse(flow, error),
        ended: () => this.#udp.delete(one),
      });
      this.#udp.set(one, true);
      this.#counters.udpFlows++;
    } catch (error) {
      this.#refuse(flow, error);
    }
  }

  #refuse(flow: InterceptedDatagrams, error: unknown): void {
    this.#counters.udpFailed++;
    if (error instanceof Deno.errors.ConnectionRefused) flow.unreachable("port");
    else if (error instanceof Deno.errors.NotCapable) flow.unreachable("prohibited");
    else flow.unreachable("host");
  }

  #evict(): void {
    let oldest: UdpRelay | null = null;
    for (const one of this.#udp.keys()) if (oldest === null || one.lastAt < oldest.lastAt) oldest = one;
    this.#counters.udpEvicted++;
    oldest?.close();
  }

  #forwardOwner(): ForwardOwner {
    return {
      stack: this.stack,
      dialer: this.#dialer,
      sockets: this.#sockets,
      address: this.#address,
      udpIdleMs: this.#udpIdleMs,
      firstGuest: () => this.dhcp?.leases[0]?.address ?? null,
      count: this.#count,
      forwarded: () => this.#counters.forwarded++,
      failed: () => this.#counters.forwardFailed++,
      dropped: () => this.#counters.udpDropped++,
    };
  }

  /** What was carried, and what was not. */
  get statistics(): GatewayStatistics {
    return { ...this.#counters, udpOpen: this.#udp.size };
  }

  /** Where guests may go: the rules, the one that counts first at the top. */
  get rules(): string[] {
    return this.#policy.describe();
  }

  /** Ends everything at once, as the end of the stack does. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#dialer.close();
    for (const one of this.#open) one[Symbol.dispose]();
    this.dhcp?.[Symbol.dispose]();
    this.#interception[Symbol.dispose]();
    for (const one of [...this.#udp.keys()]) one.close();
    for (const conn of this.#outside) reset(conn);
    this.stack.close();
  }

  /** {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    this.close();
    return Promise.resolve();
  }
}
