/**
 * `fetch`, `WebSocket` and `Deno.createHttpClient` over a stack, through a proxy of this process's own.
 *
 * @module
 */
import type { Hook } from "./hook.ts";
import type { Patches } from "./patches.ts";
import type { SocksProxy } from "./socks.ts";

type Init = RequestInit & { client?: Deno.HttpClient };

/** The options, and our client among them. A view and not a copy: a `Request` can be options, too, and has only getters. */
function withClient<T extends object>(options: T | undefined, client: Deno.HttpClient): T {
  const given = options ?? {} as T;
  return new Proxy(given, {
    get: (target, name) => {
      const value = Reflect.get(target, name, target);
      return name === "client" ? value ?? client : value;
    },
    has: (target, name) => name === "client" || Reflect.has(target, name),
  });
}

/** Sub-protocols where they stand instead of options: one, or several. */
function protocolsOf(given: unknown): { protocols: string[] } | null {
  if (typeof given === "string") return { protocols: [given] };
  const several = typeof given === "object" && given !== null && Symbol.iterator in given;
  return several ? { protocols: [...given as Iterable<string>] } : null;
}

/** The client that everything without one of its own gets: made when it is first needed. */
class SharedClient {
  readonly #make: () => Deno.HttpClient;
  #client: Deno.HttpClient | null = null;

  constructor(make: () => Deno.HttpClient) {
    this.#make = make;
  }

  get(): Deno.HttpClient {
    return this.#client ??= this.#make();
  }

  close(): void {
    this.#client?.close();
    this.#client = null;
  }
}

/** Sees a client's end, whichever of its two ways it takes. */
function onClose(client: Deno.HttpClient, closed: () => void): Deno.HttpClient {
  for (const name of ["close", Symbol.dispose] as const) {
    const original = client[name];
    const value = () => {
      closed();
      original.call(client);
    };
    Object.defineProperty(client, name, { value });
  }
  return client;
}

/** Replaces them. What it gives closes the shared client. */
export function patchFetch(patches: Patches, hook: Hook, proxy: SocksProxy): { close(): void } {
  const { createHttpClient } = Deno;
  const through = (options: Deno.CreateHttpClientOptions) => createHttpClient({ ...options, proxy: { url: proxy.url } });
  const shared = new SharedClient(() => through({}));
  patches.replace(Deno, "createHttpClient", (options: Deno.CreateHttpClientOptions) => {
    // One with a way of its own goes it.
    if (!hook.active || options?.proxy !== undefined) return createHttpClient(options);
    return onClose(through(options), proxy.hold());
  });
  const { fetch, WebSocket } = globalThis;
  patches.replace(globalThis, "fetch", (input: Request | URL | string, init?: Init) => {
    if (!hook.active) return fetch(input, init);
    return fetch(input, withClient(init, shared.get()));
  });
  const construct = (target: typeof WebSocket, [url, given]: unknown[], newTarget: unknown): WebSocket => {
    if (!hook.active) return Reflect.construct(target, [url, given], newTarget as typeof WebSocket);
    const options = protocolsOf(given) ?? given as object | undefined;
    return Reflect.construct(target, [url, withClient(options, shared.get())], newTarget as typeof WebSocket);
  };
  // The same class but for what it is constructed with: its constants, its prototype and instanceof stay.
  patches.replace(globalThis, "WebSocket", new Proxy(WebSocket, { construct }));
  return shared;
}
