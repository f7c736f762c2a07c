/**
 * One call, and what a program does with the network it does over a stack; one more, and it is the host's again.
 *
 * @module
 */
import { checkObject } from "../stack/host/options.ts";
import { NetStack } from "../stack/host/net_stack.ts";
import { patchDenoNet } from "./deno_net.ts";
import { patchFetch } from "./fetch.ts";
import type { Hook, RuntimeStatistics } from "./hook.ts";
import { checkNodeInside } from "./node_inside.ts";
import { patchNodeNet } from "./node_net.ts";
import { Patches } from "./patches.ts";
import { ruleFrom, type RuntimeTarget } from "./rule.ts";
import { SocksProxy } from "./socks.ts";

/** Connections that `fetch` and `WebSocket` may have open at once, unless the options say otherwise. */
const PROXY_CONNECTIONS_MAX = 1024;

/** Options of {@link useStack}. */
export interface UseStackOptions {
  /** Take loop-back, too: 127.0.0.0/8, `::1` and "localhost" then are the stack itself. Default false. */
  loopback?: boolean;
  /** Decides for each call instead of the rule: true for the stack, false for the host. Must not wait. */
  match?: (target: RuntimeTarget) => boolean;
  /** Connections that `fetch` and `WebSocket` may have open at once, 1 to 65535. Default 1024. */
  maxProxied?: number;
}

/** A stack in the place of the host's network, until it is undone: what {@link useStack} gives. */
export interface RuntimeHook extends Disposable {
  /** The stack in use. */
  readonly stack: NetStack;
  /** How often programs have met it: a copy. */
  readonly statistics: RuntimeStatistics;
  /**
   * Puts back what was replaced. Open connections and listeners go on, and so do clients of `Deno.createHttpClient`: until they
   * are closed they use the stack, through the proxy, which stays for them. A second call does nothing.
   */
  undo(): void;
}

let installed = false;

function checkOptions(stack: unknown, options: UseStackOptions): void {
  if (!(stack instanceof NetStack)) throw new TypeError("useStack needs a NetStack");
  checkObject(options);
  const { loopback, match, maxProxied = PROXY_CONNECTIONS_MAX } = options;
  if (loopback !== undefined && typeof loopback !== "boolean") throw new TypeError(`loopback must be true or false: ${loopback}`);
  if (match !== undefined && typeof match !== "function") throw new TypeError("match must be a function");
  if (!(Number.isInteger(maxProxied) && maxProxied >= 1 && maxProxied <= 65_535)) {
    throw new RangeError(`maxProxied must be 1 to 65535: ${maxProxied}`);
  }
  if (installed) throw new Error("A stack is in use already: undo it first");
}

/**
 * From here on this thread's programs use the stack where they would use the host's network, without knowing it:
 *
 * - `Deno.connect`, `Deno.listen`, `Deno.listenDatagram`, `Deno.resolveDns`, `Deno.connectTls`, `Deno.startTls`;
 * - `node:net`, client and server, and all that stands on it: `node:http`, `node:https`, `node:tls`, and npm packages like
 *   undici, ws and pg;
 * - `fetch`, `WebSocket` and `Deno.createHttpClient`, through a proxy on 127.0.0.1 that is opened when it is first needed
 *   and lets in nobody but this process.
 *
 * **What goes where.** Loop-back (127.0.0.0/8, `::1`, "localhost", and names below it) and unix sockets stay with the host;
 * everything else is the stack's, and never falls back to the host: a name that the stack's name servers don't know is not
 * found, and an IPv6 address is unreachable. A listener without an address listens on the stack, though `Deno.connect`
 * without one means 127.0.0.1 and so the host; `loopback: true` brings the two together. `match` decides otherwise.
 *
 * **What stays with the host:** `Deno.serve` (use {@link serve}), `node:dgram` and `node:dns`, `EventSource`, other threads,
 * and imports of modules. `Deno.listenTls` and client certificates in `Deno.connectTls` throw `Deno.errors.NotSupported`
 * where they would have to run over the stack; `node:tls` has both.
 *
 * @param stack stays open when the hook is undone
 * @returns undoes it when it is disposed of
 * @throws {Error} when a stack is in use already; {TypeError | RangeError} for a wrong option;
 * {Deno.errors.NotSupported} when this Deno's `node:net` isn't made as this needs it
 *
 * @example
 * ```ts
 * import { get } from "node:http";
 * import { cable, NetStack, serve, useStack } from "@tapioca/tapioca";
 *
 * const [left, right] = cable();
 * await using server = new NetStack(left, { address: "10.0.0.1/24" });
 * await using client = new NetStack(right, { address: "10.0.0.2/24" });
 * await using _site = serve(server.listen({ port: 80 }), () => new Response("hello"));
 *
 * using _hook = useStack(client);
 * const response = await fetch("http://10.0.0.1/");
 * console.log(await response.text()); // hello
 * await new Promise<void>((done) => get("http://10.0.0.1/", (answer) => answer.resume().on("end", done)));
 * ```
 */
export function useStack(stack: NetStack, options: UseStackOptions = {}): RuntimeHook {
  checkOptions(stack, options);
  checkNodeInside();
  const statistics: RuntimeStatistics = { connects: 0, listens: 0, host: 0, proxied: 0, proxyRefused: 0 };
  const hook: Hook = { stack, rule: ruleFrom(options.match, options.loopback ?? false), statistics, active: true };
  const proxy = new SocksProxy(hook, Deno.connect, options.maxProxied ?? PROXY_CONNECTIONS_MAX);
  const patches = new Patches();
  let client: { close(): void };
  try {
    patchDenoNet(patches, hook);
    patchNodeNet(patches, hook);
    client = patchFetch(patches, hook, proxy);
  } catch (error) {
    patches.undo();
    throw error;
  }
  installed = true;
  const undo = () => {
    if (!hook.active) return;
    hook.active = installed = false;
    patches.undo();
    client.close();
    proxy.close();
  };
  return {
    stack,
    get statistics() {
      return { ...statistics };
    },
    undo,
    [Symbol.dispose]: undo,
  };
}
