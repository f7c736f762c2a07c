/**
 * A TCP/IP interface on a card: dial, listen, answer pings.
 *
 * @module
 */
import { layersOf, NetStack } from "../stack/host/net_stack.ts";
import type { TcpConn } from "../stack/host/tcp_conn.ts";
import type { TcpListener } from "../stack/host/tcp_listener.ts";
import type { UdpConn } from "../stack/host/udp_conn.ts";
import { maskOf, parseAddress } from "../stack/wire/address.ts";
import type { Nic } from "./nic.ts";

/** IPv4, as C has it. */
export const AF_INET = 2;
/** A stream, as C has it. */
export const SOCK_STREAM = 1;
/** Datagrams, as C has them. */
export const SOCK_DGRAM = 2;

/** An address and port, or "10.0.0.1:80". */
export type Endpoint = string | { readonly hostname: string; readonly port: number };

function endpoint(given: Endpoint): { hostname: string; port: number } {
  if (typeof given !== "string") return { hostname: given.hostname, port: given.port };
  const match = given.match(/^([^:]*):(\d{1,5})$/);
  if (match === null || Number(match[2]) > 65_535) {
    throw new TypeError(`Invalid address ${JSON.stringify(given)}: write it as 10.0.0.1:80`);
  }
  return { hostname: match[1] === "" ? "0.0.0.0" : match[1], port: Number(match[2]) };
}

/** "255.255.255.0" as 24. @throws {TypeError} when it isn't ones, then zeros */
function prefixLengthOf(netmask: string): number {
  const mask = parseAddress(netmask);
  for (let length = 1; length <= 32; length++) if (maskOf(length) === mask) return length;
  throw new TypeError(`Invalid netmask ${netmask}`);
}

/**
 * An address of one's own on a {@link Nic}. Pings are answered once {@link enableIcmp} was called.
 *
 * @example
 * ```ts
 * import { Interface, Nic } from "@tapioca/tapioca";
 *
 * const nic = new Nic({ mac: "02:00:00:00:00:01" });
 * await using iface = new Interface();
 * iface.init(nic, "10.0.0.1", "255.255.255.0", "10.0.0.2");
 * using listener = iface.listenerTcp4(80);
 * console.log(listener.addr.port, iface.stack.routes.length); // 80 2
 * ```
 */
export class Interface implements AsyncDisposable {
  #stack: NetStack | null = null;

  /**
   * Puts the interface on a card: its network is reached directly, everything else by the gateway.
   *
   * @throws {TypeError | RangeError} for impossible addresses; {Deno.errors.Busy} when it was done before, or the card has a stack
   */
  init(nic: Nic, ip: string, netmask: string, gateway?: string): void {
    if (this.#stack !== null) throw new Deno.errors.Busy("the interface has been initialized already");
    const stack = new NetStack(nic, { address: `${ip}/${prefixLengthOf(netmask)}`, gateway: gateway || undefined });
    layersOf(stack).ip.answerEcho = false;
    this.#stack = stack;
  }

  /** The stack below. @throws {Deno.errors.NotConnected} before {@link init} */
  get stack(): NetStack {
    if (this.#stack === null) throw new Deno.errors.NotConnected("the interface has not been initialized");
    return this.#stack;
  }

  /** Answers pings from now on. */
  enableIcmp(): void {
    layersOf(this.stack).ip.answerEcho = true;
  }

  /** Listens for TCP connections. */
  listenerTcp4(port: number): TcpListener {
    return this.stack.listen({ port });
  }

  /** Opens a TCP connection. */
  async dialTcp4(address: Endpoint): Promise<TcpConn> {
    return await this.stack.connect(endpoint(address));
  }

  /** The same, until the signal aborts it or so many milliseconds have passed. */
  async dialContextTcp4(context: AbortSignal | number, address: Endpoint): Promise<TcpConn> {
    if (typeof context !== "number") return await this.stack.connect({ ...endpoint(address), signal: context });
    const end = new AbortController();
    const timer = setTimeout(() => end.abort(new Deno.errors.TimedOut(`no connection in ${context} ms`)), context);
    try {
      return await this.stack.connect({ ...endpoint(address), signal: end.signal });
    } finally {
      clearTimeout(timer);
    }
  }

  /** Opens a UDP socket to one peer; or for everybody, without `remote`. */
  async dialUdp4(local: Endpoint | null, remote: Endpoint | null): Promise<UdpConn> {
    if (remote === null) {
      const { hostname, port } = endpoint(local ?? "0.0.0.0:0");
      return this.stack.listenDatagram({ hostname, port });
    }
    const localPort = local === null ? undefined : endpoint(local).port;
    return await this.stack.connectDatagram({ ...endpoint(remote), localPort });
  }

  /**
   * A socket as a runtime asks for it: a connection, a listener (TCP without `remote`), or datagrams.
   *
   * @throws {TypeError} "unsupported address family", "unsupported socket type" or "unsupported network"
   */
  async socket(
    network: string,
    family: number,
    type: number,
    local: Endpoint | null,
    remote: Endpoint | null,
    signal?: AbortSignal,
  ): Promise<TcpConn | TcpListener | UdpConn> {
    if (family !== AF_INET) throw new TypeError("unsupported address family");
    if (network === "udp" || network === "udp4") {
      if (type !== SOCK_DGRAM) throw new TypeError("unsupported socket type");
      return await this.dialUdp4(local, remote);
    }
    if (network !== "tcp" && network !== "tcp4") throw new TypeError("unsupported network");
    if (type !== SOCK_STREAM) throw new TypeError("unsupported socket type");
    if (remote === null) return this.stack.listen(endpoint(local ?? "0.0.0.0:0"));
    const from = local === null ? {} : { localPort: endpoint(local).port };
    return await this.stack.connect({ ...endpoint(remote), ...from, signal });
  }

  /** Ends connections in an orderly way, then everything. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.#stack?.[Symbol.asyncDispose]();
  }
}
