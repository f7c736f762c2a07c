/**
 * A SOCKS5 proxy (RFC 1928, RFC 1929) on 127.0.0.1, for the one client of this process that takes no connection but the
 * kernel's: Deno's `fetch` and `WebSocket`. Whoever has no password of this process's is turned away.
 *
 * @module
 */
import { type Hook } from "./hook.ts";
import { type KernelConn, KernelListener } from "./kernel_conn.ts";
import { type Connection, type KernelNet, relay, writeAll } from "./relay.ts";
import { stackHost } from "./rule.ts";

/** How long a client has to say what it wants, in milliseconds: this process's own says it at once. */
const GREETING_MS_MAX = 10_000;
/** Only the password matters. */
const USER = "tapioca";

const VERSION = 5;
const AUTH_VERSION = 1;
const METHOD_PASSWORD = 2;
const METHOD_NONE = 0xff;
const COMMAND_CONNECT = 1;
const ADDRESS_IPV4 = 1;
const ADDRESS_NAME = 3;
const ADDRESS_IPV6 = 4;

/** Answers of RFC 1928, section 6. */
const SUCCEEDED = 0;
const FAILURE = 1;
const NETWORK_UNREACHABLE = 3;
const HOST_UNREACHABLE = 4;
const REFUSED = 5;
const COMMAND_NOT_SUPPORTED = 7;
const ADDRESS_NOT_SUPPORTED = 8;

/** Where a client wants to go. */
interface Wish {
  hostname: string;
  port: number;
}

async function take(conn: Connection, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(count);
  for (let at = 0; at < count;) {
    const got = await conn.read(bytes.subarray(at));
    if (got === null) throw new Deno.errors.UnexpectedEof("a SOCKS client has gone");
    at += got;
  }
  return bytes;
}

function answer(conn: Connection, code: number): Promise<void> {
  return writeAll(conn, Uint8Array.of(VERSION, code, 0, ADDRESS_IPV4, 0, 0, 0, 0, 0, 0));
}

function answerTo(error: unknown): number {
  switch ((error as { code?: string } | null)?.code) {
    case "ECONNREFUSED":
      return REFUSED;
    case "ENETUNREACH":
      return NETWORK_UNREACHABLE;
    case "EHOSTUNREACH":
    case "ETIMEDOUT":
      return HOST_UNREACHABLE;
    default:
      return FAILURE;
  }
}

/** Same time for a wrong password wherever it is wrong. */
function same(left: Uint8Array, right: Uint8Array): boolean {
  let difference = left.length ^ right.length;
  for (let i = 0; i < left.length; i++) difference |= left[i] ^ right[i % right.length];
  return difference === 0;
}

/** The proxy of one installation. Opened by its first {@link url}. */
export class SocksProxy {
  readonly #hook: Hook;
  readonly #connect: KernelNet["connect"];
  readonly #connectionsMax: number;
  readonly #password: string = crypto.randomUUID();
  #listener: KernelListener | null = null;
  #connections = 0;
  /** Clients of a program's own that know the port. */
  #holders = 0;
  #ending = false;

  /** @param connect the host's own, as it was before the hook */
  constructor(hook: Hook, connect: KernelNet["connect"], connectionsMax: number) {
    this.#hook = hook;
    this.#connect = connect;
    this.#connectionsMax = connectionsMax;
  }

  /** What `Deno.createHttpClient` is to be given: names are sent to the proxy as they are. */
  get url(): string {
    // It has nothing to do unless somebody fetches, and who fetches keeps the process alive.
    this.#listener ??= new KernelListener((conn) => this.#accept(conn));
    return `socks5h://${USER}:${this.#password}@127.0.0.1:${this.#listener.port}`;
  }

  /** Stays open, even when {@link close} is called, until what this gives is called. */
  hold(): () => void {
    this.#holders++;
    let held = true;
    return () => {
      if (!held) return;
      held = false;
      if (--this.#holders === 0 && this.#ending) this.close();
    };
  }

  /** Takes no more connections, once nobody holds it. Those that are open go on. */
  close(): void {
    this.#ending = true;
    if (this.#holders > 0) return;
    this.#listener?.close();
    this.#listener = null;
  }

  #accept(conn: KernelConn): void {
    if (this.#connections >= this.#connectionsMax || conn.remoteAddress !== "127.0.0.1") {
      this.#hook.statistics.proxyRefused++;
      return conn[Symbol.dispose]();
    }
    this.#connections++;
    void this.#serve(conn).finally(() => this.#connections--);
  }

  /** One client, from its greeting to its end. Never rejects. */
  async #serve(client: KernelConn): Promise<void> {
    let server: Connection;
    const timer = setTimeout(() => client[Symbol.dispose](), GREETING_MS_MAX);
    try {
      const wish = await this.#greet(client);
      clearTimeout(timer);
      try {
        server = await this.#dial(wish);
      } catch (error) {
        await answer(client, answerTo(error));
        return client[Symbol.dispose]();
      }
      await answer(client, SUCCEEDED);
    } catch {
      this.#hook.statistics.proxyRefused++;
      return client[Symbol.dispose]();
    } finally {
      clearTimeout(timer);
    }
    await relay(client, server);
  }

  /** The stack or the host, by the rule: asked for each hop, so that no redirect leads around it. */
  async #dial({ hostname, port }: Wish): Promise<Connection> {
    const hook = this.#hook;
    if (!hook.rule.takes({ use: "connect", transport: "tcp", hostname, port })) {
      hook.statistics.host++;
      return await this.#connect({ hostname, port });
    }
    const conn = await hook.stack.connect({ hostname: stackHost(hostname), port });
    hook.statistics.proxied++;
    conn.setNoDelay(true);
    return conn;
  }

  async #greet(client: Connection): Promise<Wish> {
    const [version, methods] = await take(client, 2);
    const offered = await take(client, methods);
    if (version !== VERSION || !offered.includes(METHOD_PASSWORD)) {
      await writeAll(client, Uint8Array.of(VERSION, METHOD_NONE));
      throw new Deno.errors.PermissionDenied("a SOCKS client without a password");
    }
    await writeAll(client, Uint8Array.of(VERSION, METHOD_PASSWORD));
    const [, userLength] = await take(client, 2);
    await take(client, userLength);
    const password = await take(client, (await take(client, 1))[0]);
    const right = same(password, new TextEncoder().encode(this.#password));
    await writeAll(client, Uint8Array.of(AUTH_VERSION, right ? 0 : 1));
    if (!right) throw new Deno.errors.PermissionDenied("a SOCKS client with a wrong password");
    return await this.#request(client);
  }

  async #request(client: Connection): Promise<Wish> {
    const [version, command, , kind] = await take(client, 4);
    if (version !== VERSION || command !== COMMAND_CONNECT) {
      await answer(client, COMMAND_NOT_SUPPORTED);
      throw new Deno.errors.NotSupported(`SOCKS command ${command}`);
    }
    let hostname: string;
    if (kind === ADDRESS_IPV4) hostname = (await take(client, 4)).join(".");
    else if (kind === ADDRESS_NAME) hostname = new TextDecoder().decode(await take(client, (await take(client, 1))[0]));
    else if (kind === ADDRESS_IPV6) hostname = ipv6(await take(client, 16));
    else {
      await answer(client, ADDRESS_NOT_SUPPORTED);
      throw new Deno.errors.NotSupported(`SOCKS address type ${kind}`);
    }
    const [high, low] = await take(client, 2);
    return { hostname, port: high << 8 | low };
  }
}

/** An IPv6 address as text; only the forms that the rule looks at are short. */
function ipv6(bytes: Uint8Array): string {
  const words = Array.from({ length: 8 }, (_, i) => (bytes[2 * i] << 8 | bytes[2 * i + 1]));
  const first = words.findIndex((word) => word !== 0);
  if (first === 7 && words[7] === 1) return "::1";
  if (first === 5 && words[5] === 0xffff) return `::ffff:${bytes.subarray(12).join(".")}`;
  return words.map((word) => word.toString(16)).join(":");
}
