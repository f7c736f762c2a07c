/**
 * Names to addresses over the stack's own UDP, and TCP where an answer doesn't fit.
 *
 * @module
 */
import { ANY } from "../ip/types.ts";
import { formatKey, tryParseAddress } from "../wire/address.ts";
import { answers, answersFor, decodeMessage, DNS_TYPES, encodeQuery, RCODE_NO_NAME, RCODE_OK } from "../wire/dns.ts";
import type { DnsMessage, DnsRecord, DnsType } from "../wire/dns.ts";
import { abortReason, errorFrom } from "./errors.ts";
import type { Pump } from "./pump.ts";
import type { TcpConn } from "./tcp_conn.ts";
import { UdpConn } from "./udp_conn.ts";

const DNS_PORT = 53;
/** How long one server has for one answer, in milliseconds. */
export const ANSWER_TIMEOUT_MS = 2_000;
/** How often all servers are asked. */
export const ROUNDS = 2;
/** Wrong or forged datagrams that one question reads before it gives up on the server. */
const STRAYS_MAX = 64;

/** Types of records that can be asked for. */
export type RecordType = DnsType;

/** What {@link NetStack.resolve} gives, by type of record: the same shapes as `Deno.resolveDns`. */
export interface RecordsByType {
  /** Addresses. */
  A: string[];
  /** IPv6 addresses. */
  AAAA: string[];
  /** The name that this one stands for. */
  CNAME: string[];
  /** Names of name servers. */
  NS: string[];
  /** Names of an address. */
  PTR: string[];
  /** Mail servers. */
  MX: { preference: number; exchange: string }[];
  /** Servers of a service. */
  SRV: { priority: number; weight: number; port: number; target: string }[];
  /** Texts, each in its pieces. */
  TXT: string[][];
}

/** Options of {@link NetStack.resolve}. */
export interface ResolveOptions {
  /** Gives up when aborted. */
  signal?: AbortSignal;
}

/** The resolver of one stack. */
export class Resolver {
  readonly #pump: Pump;
  readonly #servers: readonly number[];
  readonly #dial: (key: number, port: number, signal?: AbortSignal) => Promise<TcpConn>;

  constructor(
    pump: Pump,
    servers: readonly number[],
    dial: (key: number, port: number, signal?: AbortSignal) => Promise<TcpConn>,
  ) {
    this.#pump = pump;
    this.#servers = servers;
    this.#dial = dial;
  }

  /** Addresses of a host: the literal itself, 127.0.0.1 for localhost, or what the name servers say. Never empty. */
  async lookUp(hostname: string, signal?: AbortSignal): Promise<number[]> {
    const literal = literalKey(hostname);
    if (literal !== null) return [literal];
    try {
      const texts = await this.resolve(hostname, "A", signal) as string[];
      return texts.map((text) => tryParseAddress(text)).filter((key) => key !== null);
    } catch (cause) {
      if (!(cause instanceof Deno.errors.NotFound)) throw cause;
      throw new Error(`failed to lookup address information: Name or service not known: ${hostname}`, { cause });
    }
  }

  /** Records of a name. */
  async resolve(name: string, type: DnsType, signal?: AbortSignal): Promise<RecordsByType[DnsType]> {
    if (!Object.hasOwn(DNS_TYPES, type)) throw new TypeError(`type must be one of ${Object.keys(DNS_TYPES).join(", ")}: ${type}`);
    if (signal?.aborted) throw abortReason(signal);
    const literal = literalKey(name);
    if (literal !== null && type === "A") return [formatKey(literal)];
    if (encodeQuery(0, name, type) === null) throw new TypeError(`Not a domain name: ${JSON.stringify(name)}`);
    if (this.#servers.length === 0) {
      throw new Deno.errors.NotFound(`cannot resolve "${name}": the stack has no name servers (option nameservers)`);
    }
    let last: unknown;
    for (let round = 0; round < ROUNDS; round++) {
      for (const server of this.#servers) {
        try {
          const message = await this.#ask(server, name, type, signal);
          if (message.rcode === RCODE_NO_NAME) throw new Deno.errors.NotFound(`no record found for "${name}"`);
          if (message.rcode === RCODE_OK) return recordsOf(message, name, type);
          last = new Error(`name server ${formatKey(server)} answered "${name}" with code ${message.rcode}`);
        } catch (error) {
          if (signal?.aborted) throw abortReason(signal);
          if (error instanceof Deno.errors.NotFound || this.#pump.closed) throw error;
          last = error;
        }
      }
    }
    throw last;
  }

  async #ask(server: number, name: string, type: DnsType, signal?: AbortSignal): Promise<DnsMessage> {
    const id = this.#pump.ip.random32() & 0xffff;
    const query = encodeQuery(id, name, type)!;
    // A socket, and so a random port, of its own for each question: RFC 5452 9.2.
    const socket = this.#pump.udp.open(ANY, 0);
    if (typeof socket === "number") throw errorFrom(socket, `ask name server ${formatKey(server)}`);
    const conn = new UdpConn(socket, this.#pump, () => Promise.reject(new TypeError("no names here")));
    const message = await this.#limited(server, name, signal, () => conn[Symbol.dispose](), async () => {
      const code = socket.connect(server, DNS_PORT);
      if (code < 0) throw errorFrom(code, `ask name server ${formatKey(server)}`);
      await conn.send(query);
      for (let strays = 0; strays < STRAYS_MAX; strays++) {
        const [bytes] = await conn.receive();
        const answer = decodeMessage(bytes);
        if (answer !== null && answers(answer, id, name, type)) return answer;
      }
      throw new Deno.errors.InvalidData(`name server ${formatKey(server)} sends no usable answer`);
    });
    return message.truncated ? this.#askTcp(server, name, type, signal) : message;
  }

  async #askTcp(server: number, name: string, type: DnsType, signal?: AbortSignal): Promise<DnsMessage> {
    const abort = new AbortController();
    let conn: TcpConn | null = null;
    const stop = () => {
      abort.abort();
      conn?.[Symbol.dispose]();
    };
    return await this.#limited(server, name, signal, stop, async () => {
      conn = await this.#dial(server, DNS_PORT, abort.signal);
      const id = this.#pump.ip.random32() & 0xffff;
      const query = encodeQuery(id, name, type)!;
      const framed = new Uint8Array(query.length + 2);
      framed[0] = query.length >> 8;
      framed[1] = query.length & 255;
      framed.set(query, 2);
      for (let at = 0; at < framed.length;) at += await conn.write(framed.subarray(at));
      const size = await readFully(conn, 2);
      const answer = decodeMessage(await readFully(conn, size[0] << 8 | size[1]));
      if (answer !== null && answers(answer, id, name, type)) return answer;
      throw new Deno.errors.InvalidData(`name server ${formatKey(server)} sends no usable answer`);
    });
  }

  /** Runs `work` with a time limit and a signal; `stop` ends it early, and cleans up in any case. */
  async #limited<T>(
    server: number,
    name: string,
    signal: AbortSignal | undefined,
    stop: () => void,
    work: () => Promise<T>,
  ): Promise<T> {
    let late = false;
    const stopTimer = this.#pump.setTimer(ANSWER_TIMEOUT_MS, () => {
      late = true;
      stop();
    });
    signal?.addEventListener("abort", stop);
    try {
      return await work();
    } catch (error) {
      if (!late) throw error;
      throw new Deno.errors.TimedOut(`name server ${formatKey(server)} doesn't answer for "${name}"`);
    } finally {
      stopTimer();
      signal?.removeEventListener("abort", stop);
      stop();
    }
  }
}

function literalKey(hostname: string): number | null {
  if (typeof hostname !== "string") throw new TypeError(`a name or an address is needed, not ${hostname}`);
  const name = hostname.toLowerCase();
  if (name === "localhost" || name === "localhost.") return tryParseAddress("127.0.0.1");
  return tryParseAddress(name);
}

async function readFully(conn: TcpConn, length: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(length);
  for (let at = 0; at < length;) {
    const count = await conn.read(bytes.subarray(at));
    if (count === null) throw new Deno.errors.UnexpectedEof("name server closed the connection in the middle of an answer");
    at += count;
  }
  return bytes;
}

function recordsOf(message: DnsMessage, name: string, type: DnsType): RecordsByType[DnsType] {
  const records: DnsRecord[] = answersFor(message, name, type);
  if (records.length === 0) throw new Deno.errors.NotFound(`no ${type} record found for "${name}"`);
  switch (type) {
    case "MX":
      return records.map((record) => record.mx!);
    case "SRV":
      return records.map((record) => record.srv!);
    case "TXT":
      return records.map((record) => record.txt!);
    default:
      return records.map((record) => record.text!);
  }
}
