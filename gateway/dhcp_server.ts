/**
 * A small DHCP server (RFC 2131) on a stack's own UDP: addresses for the machines on its link.
 *
 * @module
 */
import type { NetStack } from "../stack/host/net_stack.ts";
import type { UdpConn } from "../stack/host/udp_conn.ts";
import { broadcastOf, formatKey, maskOf, parseAddress, parsePrefix } from "../stack/wire/address.ts";
import * as m from "./dhcp_message.ts";

/** Most leases, whatever the range's size is. */
export const LEASES_MAX = 4096;
/** An address that was offered is kept for so long, in milliseconds; one that somebody else has, for longer. */
const OFFER_MS = 60_000;
const DECLINED_MS = 600_000;

/** Options of a {@link DhcpServer}. */
export interface DhcpOptions {
  /** The server's own address with its prefix length: "10.0.2.2/24". It is the router and the name server too, unless told otherwise. */
  address: string;
  /** First and last address to give out. Default: the 15th of the network to the last but one. */
  range?: readonly [string, string];
  /** Router; null for none. */
  router?: string | null;
  /** Name servers. */
  nameservers?: readonly string[];
  /** Search domain. */
  domain?: string;
  /** MTU to tell, in bytes. */
  mtu?: number;
  /** Seconds that a lease holds. Default a day. */
  leaseSeconds?: number;
}

/** An address that is given out. */
export interface DhcpLease {
  /** The address. */
  readonly address: string;
  /** The client's identifier, or its MAC address. */
  readonly client: string;
  /** What the client calls itself; may be empty. */
  readonly hostname: string;
  /** When it ends: milliseconds since 1970. */
  readonly expiresAt: number;
}

interface Lease {
  key: number;
  client: string;
  hostname: string;
  expiresAt: number;
  bound: boolean;
}

/** Gives out addresses until it is disposed of. */
export class DhcpServer implements Disposable {
  readonly #socket: UdpConn;
  readonly #serverKey: number;
  readonly #first: number;
  readonly #last: number;
  readonly #leaseMs: number;
  readonly #options: [number, m.OptionValue][];
  readonly #byClient = new Map<string, Lease>();
  readonly #byKey = new Map<number, Lease>();
  readonly #counters = { received: 0, malformed: 0, offers: 0, acks: 0, naks: 0, declined: 0, exhausted: 0 };
  readonly #onLease: ((lease: DhcpLease) => void) | undefined;

  /**
   * Gives out addresses from now on.
   *
   * @param onLease told when a client has got an address
   * @throws {TypeError | RangeError} for impossible options; {Deno.errors.AddrInUse} when port 67 is taken
   */
  constructor(stack: NetStack, options: DhcpOptions, onLease?: (lease: DhcpLease) => void) {
    const { key, prefixLength } = parsePrefix(options.address);
    const broadcast = broadcastOf(key, prefixLength) >>> 0;
    const network = (key & maskOf(prefixLength)) >>> 0;
    const range = options.range?.map((text) => parseAddress(text) >>> 0);
    this.#first = range?.[0] ?? Math.min(network + 15, broadcast - 1);
    this.#last = range?.[1] ?? broadcast - 1;
    if (!(this.#first > network && this.#first <= this.#last && this.#last < broadcast)) {
      throw new RangeError(
        `the range ${formatKey(this.#first | 0)} to ${formatKey(this.#last | 0)} is not in ${options.address}`,
      );
    }
    const leaseSeconds = options.leaseSeconds ?? 86_400;
    if (!(Number.isInteger(leaseSeconds) && leaseSeconds >= 60 && leaseSeconds <= 0x7fffffff)) {
      throw new RangeError(`leaseSeconds must be 60 or more: ${leaseSeconds}`);
    }
    this.#serverKey = key;
    this.#leaseMs = leaseSeconds * 1000;
    this.#onLease = onLease;
    this.#options = [[m.OPTION_MASK, [maskOf(prefixLength)]], [m.OPTION_BROADCAST, [broadcast | 0]]];
    const router = options.router === undefined ? formatKey(key) : options.router;
    if (router !== null) this.#options.push([m.OPTION_ROUTER, [parseAddress(router)]]);
    const nameservers = options.nameservers ?? [formatKey(key)];
    if (nameservers.length > 0) this.#options.push([m.OPTION_NAMESERVER, nameservers.slice(0, 8).map(parseAddress)]);
    if (options.domain !== undefined) this.#options.push([m.OPTION_DOMAIN, options.domain]);
    if (options.mtu !== undefined) this.#options.push([m.OPTION_MTU, { short: options.mtu }]);
    this.#socket = stack.listenDatagram({ port: 67 });
    this.#serve();
  }

  async #serve(): Promise<void> {
    try {
      for await (const [bytes, from] of this.#socket) {
        const answer = this.#answer(bytes);
        if (answer === null) continue;
        // A client that has its address can be reached there; the others hear broadcasts only.
        const hostname = from.hostname === "0.0.0.0" ? "255.255.255.255" : from.hostname;
        await this.#socket.send(answer, { transport: "udp", hostname, port: 68 }).catch(() => {});
      }
    } catch { /* the stack has ended */ }
  }

  #answer(bytes: Uint8Array): Uint8Array | null {
    this.#counters.received++;
    const request = m.parseRequest(bytes);
    if (request === null) {
      this.#counters.malformed++;
      return null;
    }
    switch (request.type) {
      case m.DISCOVER:
        return this.#offer(request);
      case m.REQUEST:
        return this.#acknowledge(request);
      case m.DECLINE:
        this.#decline(request);
        return null;
      case m.RELEASE:
        this.#release(request);
        return null;
      case m.INFORM:
        return m.buildReply(request, m.ACK, 0, [[m.OPTION_SERVER, [this.#serverKey]], ...this.#options]);
    }
    return null;
  }

  #leaseOptions(): [number, m.OptionValue][] {
    const seconds = this.#leaseMs / 1000;
    return [
      [m.OPTION_SERVER, [this.#serverKey]],
      [m.OPTION_LEASE, [seconds]],
      [m.OPTION_RENEW, [seconds >>> 1]],
      [m.OPTION_REBIND, [Math.floor(seconds * 0.875)]],
      ...this.#options,
    ];
  }

  #offer(request: m.DhcpRequest): Uint8Array | null {
    const lease = this.#find(request);
    if (lease === null) {
      this.#counters.exhausted++;
      return null;
    }
    this.#counters.offers++;
    return m.buildReply(request, m.OFFER, lease.key, this.#leaseOptions());
  }

  #acknowledge(request: m.DhcpRequest): Uint8Array | null {
    // It has chosen another server.
    if (request.serverKey !== 0 && request.serverKey !== this.#serverKey) {
      const lease = this.#byClient.get(request.client);
      if (lease?.bound === false) this.#forget(lease);
      return null;
    }
    const wanted = request.requestedKey !== 0 ? request.requestedKey : request.clientKey;
    const lease = this.#find(request);
    if (lease === null || lease.key !== wanted) {
      this.#counters.naks++;
      return m.buildReply(request, m.NAK, 0, [[m.OPTION_SERVER, [this.#serverKey]]]);
    }
    lease.bound = true;
    lease.expiresAt = Date.now() + this.#leaseMs;
    this.#counters.acks++;
    this.#onLease?.(shown(lease));
    return m.buildReply(request, m.ACK, lease.key, this.#leaseOptions());
  }

  #usable(key: number): boolean {
    const address = key >>> 0;
    if (address < this.#first || address > this.#last || key === this.#serverKey) return false;
    const lease = this.#byKey.get(key);
    if (lease === undefined) return true;
    if (lease.expiresAt > Date.now()) return false;
    this.#forget(lease);
    return true;
  }

  /** The client's lease: the one that it has, the one that it wants, or a free one. */
  #find(request: m.DhcpRequest): Lease | null {
    const { client, hostname } = request;
    const known = this.#byClient.get(client);
    if (known !== undefined) {
      known.expiresAt = Math.max(known.expiresAt, Date.now() + OFFER_MS);
      return known;
    }
    const wanted = request.requestedKey !== 0 ? request.requestedKey : request.clientKey;
    let key = this.#usable(wanted) ? wanted : 0;
    for (let address = this.#first; key === 0 && address <= this.#last; address++) {
      if (this.#usable(address | 0)) key = address | 0;
      if (address - this.#first >= LEASES_MAX) break;
    }
    if (key === 0 || this.#byKey.size >= LEASES_MAX) return null;
    const lease: Lease = { key, client, hostname: hostname.slice(0, 63), expiresAt: Date.now() + OFFER_MS, bound: false };
    this.#byClient.set(client, lease);
    this.#byKey.set(key, lease);
    return lease;
  }

  #forget(lease: Lease): void {
    this.#byKey.delete(lease.key);
    if (this.#byClient.get(lease.client) === lease) this.#byClient.delete(lease.client);
  }

  /** Somebody else has the address: nobody gets it for a while. */
  #decline(request: m.DhcpRequest): void {
    const lease = this.#byClient.get(request.client);
    if (lease === undefined || lease.key !== request.requestedKey) return;
    this.#counters.declined++;
    this.#byClient.delete(request.client);
    lease.client = "";
    lease.bound = false;
    lease.expiresAt = Date.now() + DECLINED_MS;
  }

  #release(request: m.DhcpRequest): void {
    const lease = this.#byClient.get(request.client);
    if (lease !== undefined && lease.key === request.clientKey) this.#forget(lease);
  }

  /** The addresses that are given out. */
  get leases(): DhcpLease[] {
    return [...this.#byKey.values()].filter((lease) => lease.bound && lease.expiresAt > Date.now()).map(shown);
  }

  /** Messages, by what they were and what was answered. */
  get statistics(): Record<string, number> {
    return { ...this.#counters };
  }

  /** Gives out no more. */
  [Symbol.dispose](): void {
    this.#socket[Symbol.dispose]();
  }
}

function shown(lease: Lease): DhcpLease {
  return { address: formatKey(lease.key), client: lease.client, hostname: lease.hostname, expiresAt: lease.expiresAt };
}
