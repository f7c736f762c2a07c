/**
 * A small DHCP server (RFC 2131) on a stack's own UDP: addresses for the machines on its link.
 *
 * @module
 */
import { checkFunction, checkObject } from "../stack/checks.ts";
import { layersOf, type NetStack } from "../stack/host/net_stack.ts";
import type { UdpConn } from "../stack/host/udp_conn.ts";
import { broadcastOf, formatKey, isUnicast, maskOf, parseAddress, parsePrefix } from "../stack/wire/address.ts";
import * as m from "./dhcp_message.ts";

/** Most leases, whatever the range's size is. */
export const LEASES_MAX = 4096;
/** An address that was offered is kept for so long, in milliseconds; one that somebody else has, for longer. */
const OFFER_MS = 60_000;
const DECLINED_MS = 600_000;
const BROADCAST = "255.255.255.255";

/** Options of a {@link DhcpServer}. */
export interface DhcpOptions {
  /** The server's own address with its prefix length: "10.0.2.2/24". It is the router and the name server too, unless told otherwise. */
  address: string;
  /** First and last address to give out. Default: the 15th of the network (if it is so large) to the last but one. */
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

/** An answer that is to be sent. */
interface Answer {
  readonly type: number;
  readonly bytes: Uint8Array;
}

interface Lease {
  key: number;
  client: string;
  hostname: string;
  /** On the stack's clock. */
  expiresAt: number;
  bound: boolean;
}

/** What a server's options come to. */
interface DhcpPlan {
  readonly serverKey: number;
  /** First and last address to give out, unsigned. */
  readonly first: number;
  readonly last: number;
  readonly leaseMs: number;
  readonly options: readonly [number, m.OptionValue][];
}

/** What a server is made of, read before anything is opened. @throws {TypeError | RangeError} for what is impossible */
export function checkDhcp(options: DhcpOptions, onLease?: unknown): DhcpPlan {
  checkFunction("onLease", onLease);
  return planOf(options);
}

function planOf(options: DhcpOptions): DhcpPlan {
  checkObject(options, "DHCP options");
  const { key, prefixLength } = parsePrefix(options.address);
  const [first, last] = rangeOf(options, key, prefixLength);
  const { leaseSeconds = 86_400, domain, mtu, router = formatKey(key), nameservers = [formatKey(key)] } = options;
  if (!(Number.isInteger(leaseSeconds) && leaseSeconds >= 60 && leaseSeconds <= 0x7fffffff)) {
    throw new RangeError(`leaseSeconds must be 60 or more: ${leaseSeconds}`);
  }
  if (domain !== undefined && !/^[A-Za-z0-9._-]{1,253}$/.test(domain)) throw new TypeError(`domain must be a name: ${domain}`);
  //= rfc2132#5.1
  // The minimum legal value for the MTU is 68.
  if (mtu !== undefined && !(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) {
    throw new RangeError(`mtu must be 68 to 65535: ${mtu}`);
  }
  if (!Array.isArray(nameservers)) throw new TypeError(`nameservers must be an array of addresses: ${nameservers}`);
  const values: [number, m.OptionValue][] = [
    [m.OPTION_MASK, [maskOf(prefixLength)]],
    [m.OPTION_BROADCAST, [broadcastOf(key, prefixLength)]],
  ];
  if (router !== null) values.push([m.OPTION_ROUTER, [parseAddress(router)]]);
  if (nameservers.length > 0) values.push([m.OPTION_NAMESERVER, nameservers.slice(0, 8).map(parseAddress)]);
  if (domain !== undefined) values.push([m.OPTION_DOMAIN, domain]);
  if (mtu !== undefined) values.push([m.OPTION_MTU, { short: mtu }]);
  return { serverKey: key, first, last, leaseMs: leaseSeconds * 1000, options: values };
}

function rangeOf({ address, range }: DhcpOptions, key: number, prefixLength: number): [number, number] {
  if (prefixLength > 30) throw new RangeError(`${address} has no address to give out`);
  const broadcast = broadcastOf(key, prefixLength) >>> 0;
  const network = (key & maskOf(prefixLength)) >>> 0;
  if (range !== undefined && !(Array.isArray(range) && range.length === 2)) {
    throw new TypeError(`range must be two addresses: ${range}`);
  }
  const [first, last] = range?.map((text: string) => parseAddress(text) >>> 0) ??
    [network + 15 < broadcast - 1 ? network + 15 : network + 1, broadcast - 1];
  if (first > network && first <= last && last < broadcast) return [first, last];
  throw new RangeError(`the range ${formatKey(first | 0)} to ${formatKey(last | 0)} is not in ${address}`);
}

/** Gives out addresses until it is disposed of. */
export class DhcpServer implements Disposable {
  readonly #socket: UdpConn;
  readonly #plan: DhcpPlan;
  readonly #byClient = new Map<string, Lease>();
  readonly #byKey = new Map<number, Lease>();
  readonly #counters = {
    received: 0,
    malformed: 0,
    offers: 0,
    acks: 0,
    naks: 0,
    declined: 0,
    released: 0,
    informed: 0,
    /** Of no type that a client sends, or for another server. */
    ignored: 0,
    /** No address was free. */
    exhausted: 0,
  };
  readonly #now: () => number;
  readonly #tell: (callback: () => void) => void;
  readonly #onLease: ((lease: DhcpLease) => void) | undefined;

  /**
   * Gives out addresses from now on.
   *
   * @param onLease told when a client has got an address
   * @throws {TypeError | RangeError} for impossible options; {Deno.errors.AddrInUse} when port 67 is taken
   */
  constructor(stack: NetStack, options: DhcpOptions, onLease?: (lease: DhcpLease) => void) {
    this.#plan = checkDhcp(options, onLease);
    this.#onLease = onLease;
    const { pump } = layersOf(stack);
    this.#now = () => pump.clock.now();
    this.#tell = (callback) => pump.callUser(callback);
    this.#socket = stack.listenDatagram({ port: 67 });
    this.#serve();
  }

  /**
   * The address that the first client gets, if nobody asks for another: for a machine that doesn't ask.
   *
   * @throws {TypeError | RangeError} for impossible options
   */
  static firstAddress(options: DhcpOptions): string {
    const { first, last, serverKey } = planOf(options);
    if (first !== serverKey >>> 0) return formatKey(first | 0);
    if (first === last) throw new RangeError(`${options.address} leaves no address to give out`);
    return formatKey((first + 1) | 0);
  }

  async #serve(): Promise<void> {
    try {
      for await (const [bytes, from] of this.#socket) {
        const request = this.#parse(bytes);
        const answer = request === null ? null : this.#answer(request);
        if (answer === null) continue;
        const hostname = this.#destination(request!, answer.type, from.hostname);
        await this.#socket.send(answer.bytes, { transport: "udp", hostname, port: 68 }).catch(() => {});
      }
    } catch { /* the stack has ended */ }
  }

  #parse(bytes: Uint8Array): m.DhcpRequest | null {
    this.#counters.received++;
    const request = m.parseRequest(bytes);
    if (request === null) this.#counters.malformed++;
    return request;
  }

  /** Where an answer goes. There are no relay agents on this link, and who claims to be one is answered as a client. */
  #destination(request: m.DhcpRequest, type: number, from: string): string {
    //= rfc2131#4.1
    // In all cases, when 'giaddr' is zero, the server broadcasts any DHCPNAK messages to 0xffffffff.
    if (type === m.NAK) return BROADCAST;
    //= rfc2131#4.1
    // If the 'giaddr' field is zero and the 'ciaddr' field is nonzero, then the server unicasts DHCPOFFER and DHCPACK messages to
    // the address in 'ciaddr'.
    if (request.clientKey !== 0) return isUnicast(request.clientKey) ? formatKey(request.clientKey) : BROADCAST;
    // Some clients leave it out when they ask for parameters only.
    if (request.type === m.INFORM && from !== "0.0.0.0") return from;
    //= rfc2131#4.1 type=exception reason=a client without an address is asked to hear broadcasts; all of them do (as the RFC allows)
    // If the broadcast bit is not set and 'giaddr' is zero and 'ciaddr' is zero, then the server unicasts DHCPOFFER and DHCPACK
    // messages to the client's hardware address and 'yiaddr' address.
    return BROADCAST;
  }

  #answer(request: m.DhcpRequest): Answer | null {
    //= rfc2131#4.3.2
    // If the DHCPREQUEST message contains a 'server identifier' option, the message is in response to a DHCPOFFER message.
    if (request.serverKey !== 0 && request.serverKey !== this.#plan.serverKey) {
      this.#counters.ignored++;
      const lease = this.#byClient.get(request.client);
      // It has chosen another server.
      if (request.type === m.REQUEST && lease?.bound === false) this.#forget(lease);
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
      case m.INFORM: {
        this.#counters.informed++;
        return {
          type: m.ACK,
          bytes: m.buildReply(request, m.ACK, 0, [[m.OPTION_SERVER, [this.#plan.serverKey]], ...this.#plan.options]),
        };
      }
    }
    this.#counters.ignored++;
    return null;
  }

  #leaseOptions(): [number, m.OptionValue][] {
    const seconds = this.#plan.leaseMs / 1000;
    return [
      [m.OPTION_SERVER, [this.#plan.serverKey]],
      [m.OPTION_LEASE, [seconds]],
      [m.OPTION_RENEW, [seconds >>> 1]],
      [m.OPTION_REBIND, [Math.floor(seconds * 0.875)]],
      ...this.#plan.options,
    ];
  }

  #offer(request: m.DhcpRequest): Answer | null {
    const lease = this.#find(request);
    if (lease === null) {
      this.#counters.exhausted++;
      return null;
    }
    this.#counters.offers++;
    return { type: m.OFFER, bytes: m.buildReply(request, m.OFFER, lease.key, this.#leaseOptions()) };
  }

  #acknowledge(request: m.DhcpRequest): Answer | null {
    const wanted = request.requestedKey !== 0 ? request.requestedKey : request.clientKey;
    const known = this.#byClient.get(request.client);
    //= rfc2131#4.3.2 type=exception reason=this is the link's only server, and leases are forgotten when it starts anew: a client that asks for an address that is free gets it
    // If the DHCP server has no record of this client, then it MUST remain silent
    const right = known === undefined ? this.#usable(wanted) : known.key === wanted;
    const lease = right ? this.#find(request) : null;
    if (lease === null) {
      this.#counters.naks++;
      return { type: m.NAK, bytes: m.buildReply(request, m.NAK, 0, [[m.OPTION_SERVER, [this.#plan.serverKey]]]) };
    }
    lease.bound = true;
    lease.expiresAt = this.#now() + this.#plan.leaseMs;
    if (request.hostname !== "") lease.hostname = request.hostname;
    this.#counters.acks++;
    const shown = this.#shown(lease);
    this.#tell(() => this.#onLease?.(shown));
    return { type: m.ACK, bytes: m.buildReply(request, m.ACK, lease.key, this.#leaseOptions()) };
  }

  #usable(key: number): boolean {
    const address = key >>> 0;
    if (address < this.#plan.first || address > this.#plan.last || key === this.#plan.serverKey) return false;
    const lease = this.#byKey.get(key);
    if (lease === undefined) return true;
    if (lease.expiresAt > this.#now()) return false;
    this.#forget(lease);
    return true;
  }

  /** The client's lease: the one that it has, the one that it wants, or a free one. */
  #find(request: m.DhcpRequest): Lease | null {
    const { client, hostname } = request;
    const known = this.#byClient.get(client);
    if (known !== undefined) {
      known.expiresAt = Math.max(known.expiresAt, this.#now() + OFFER_MS);
      return known;
    }
    const wanted = request.requestedKey !== 0 ? request.requestedKey : request.clientKey;
    let key = this.#usable(wanted) ? wanted : 0;
    for (let address = this.#plan.first; key === 0 && address <= this.#plan.last; address++) {
      if (this.#usable(address | 0)) key = address | 0;
      if (address - this.#plan.first >= LEASES_MAX) break;
    }
    if (key === 0 || this.#byKey.size >= LEASES_MAX) return null;
    const lease: Lease = { key, client, hostname, expiresAt: this.#now() + OFFER_MS, bound: false };
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
    lease.expiresAt = this.#now() + DECLINED_MS;
  }

  #release(request: m.DhcpRequest): void {
    const lease = this.#byClient.get(request.client);
    if (lease === undefined || lease.key !== request.clientKey) return;
    this.#counters.released++;
    this.#forget(lease);
  }

  #shown(lease: Lease): DhcpLease {
    const { client, hostname } = lease;
    return { address: formatKey(lease.key), client, hostname, expiresAt: Date.now() + lease.expiresAt - this.#now() };
  }

  /** The addresses that are given out. */
  get leases(): DhcpLease[] {
    return [...this.#byKey.values()].filter((lease) => lease.bound && lease.expiresAt > this.#now()).map((lease) =>
      this.#shown(lease)
    );
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
