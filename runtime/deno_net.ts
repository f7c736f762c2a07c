/**
 * `Deno.connect`, `Deno.listen` and their kin over a stack.
 *
 * @module
 */
import { TcpConn } from "../stack/host/tcp_conn.ts";
import type { RecordType } from "../stack/host/resolver.ts";
import { type Hook, takes } from "./hook.ts";
import { member, type Patches } from "./patches.ts";
import { type KernelNet, kernelPair, relay } from "./relay.ts";
import { isLoopbackHost, stackHost, stackListenHost } from "./rule.ts";

/** Types of records that a stack can ask for. */
const RECORD_TYPES: ReadonlySet<string> = new Set<RecordType>(["A", "AAAA", "CNAME", "NS", "PTR", "MX", "SRV", "TXT"]);

interface AddressOptions {
  transport?: string;
  hostname?: string;
  port?: number;
}

/** Options with an address of the internet in them: no unix socket, nothing that isn't even an object. */
function internet(options: unknown, transport: string): AddressOptions | null {
  if (typeof options !== "object" || options === null) return null;
  const given = options as AddressOptions;
  const { hostname = "" } = given;
  return (given.transport ?? transport) === transport && typeof hostname === "string" ? given : null;
}

/** `Deno.connect`, which gives a {@link TcpConn}. */
function patchConnect(patches: Patches, hook: Hook): void {
  const original = Deno.connect as (options: unknown) => Promise<unknown>;
  patches.replace(Deno, "connect", async (options: Deno.ConnectOptions) => {
    const { hostname = "127.0.0.1", port } = internet(options, "tcp") ?? {};
    if (internet(options, "tcp") === null || !takes(hook, "connect", "tcp", hostname, port)) return await original(options);
    return await hook.stack.connect({ ...options, hostname: stackHost(hostname) });
  });
}

/** `Deno.listen`, which gives a `TcpListener`. */
function patchListen(patches: Patches, hook: Hook): void {
  const original = Deno.listen as (options: unknown) => unknown;
  patches.replace(Deno, "listen", (options: Deno.TcpListenOptions) => {
    const { hostname = "0.0.0.0", port } = internet(options, "tcp") ?? {};
    if (internet(options, "tcp") === null || !takes(hook, "listen", "tcp", hostname, port)) return original(options);
    return hook.stack.listen({
      ...options,
      hostname: stackListenHost(hostname),
      transport: "tcp",
    });
  });
}

/** `Deno.listenDatagram`, which without `--unstable-net` isn't there, and then is there as long as the hook. */
function patchListenDatagram(patches: Patches, hook: Hook): void {
  const original = member<(options: unknown) => unknown>(Deno, "listenDatagram");
  patches.replace(Deno, "listenDatagram", (options: AddressOptions & { port: number }) => {
    const { hostname = "0.0.0.0", port } = internet(options, "udp") ?? {};
    if (internet(options, "udp") === null || !takes(hook, "listen", "udp", hostname, port)) {
      if (original === undefined) throw new Deno.errors.NotSupported("Datagrams of the host need `deno run --unstable-net`");
      return original(options);
    }
    return hook.stack.listenDatagram({ ...options, hostname: stackListenHost(hostname), transport: "udp" });
  });
}

/** `Deno.resolveDns`: names are the stack's name servers' to tell. */
function patchResolveDns(patches: Patches, hook: Hook): void {
  const original = Deno.resolveDns as (...args: unknown[]) => Promise<unknown>;
  patches.replace(Deno, "resolveDns", async (name: string, type: RecordType, options: Deno.ResolveDnsOptions = {}) => {
    if (!hook.active || isLoopbackHost(String(name))) return await original(name, type, options);
    if (!RECORD_TYPES.has(type)) throw new Deno.errors.NotSupported(`The stack can't ask for records of type ${type}`);
    if (options?.nameServer !== undefined) {
      throw new Deno.errors.NotSupported("The stack asks the name servers that it was made with: leave out nameServer");
    }
    return await hook.stack.resolve(name, type, { signal: options?.signal });
  });
}

/** A connection of the kernel's that carries the bytes of one of the stack's: Deno's TLS takes no other. */
async function kernelTwin(conn: TcpConn, kernel: KernelNet): Promise<Deno.TcpConn> {
  try {
    const [near, far] = await kernelPair(kernel);
    void relay(far, conn);
    return near;
  } catch (error) {
    conn.abort();
    throw error;
  }
}

/** Says of a TLS connection what its connection over the stack says. */
function withAddresses(tls: Deno.TlsConn, { localAddr, remoteAddr }: TcpConn): Deno.TlsConn {
  return Object.defineProperties(tls, {
    localAddr: { value: localAddr, configurable: true },
    remoteAddr: { value: remoteAddr, configurable: true },
  });
}

/** `Deno.startTls` and `Deno.connectTls`. */
function patchTls(patches: Patches, hook: Hook, kernel: KernelNet): void {
  const { startTls, connectTls } = Deno;
  const secure = async (conn: TcpConn, options: Deno.StartTlsOptions | undefined): Promise<Deno.TlsConn> => {
    return withAddresses(await startTls(await kernelTwin(conn, kernel), options), conn);
  };
  patches.replace(Deno, "startTls", async (conn: Deno.TcpConn, options?: Deno.StartTlsOptions) => {
    return conn instanceof TcpConn ? await secure(conn, options) : await startTls(conn, options);
  });
  patches.replace(Deno, "connectTls", async (options: Deno.ConnectTlsOptions & { signal?: AbortSignal }) => {
    const { hostname = "127.0.0.1", port } = internet(options, "tcp") ?? {};
    if (internet(options, "tcp") === null || !takes(hook, "connect", "tcp", hostname, port)) return await connectTls(options);
    if ("key" in options || "cert" in options) {
      throw new Deno.errors.NotSupported("Client certificates over a stack: use node:tls instead of Deno.connectTls");
    }
    const conn = await hook.stack.connect({ hostname: stackHost(hostname), port: options.port, signal: options.signal });
    return await secure(conn, { ...options, hostname });
  });
  const { listenTls } = Deno;
  patches.replace(Deno, "listenTls", (options: Deno.ListenTlsOptions & Deno.TlsCertifiedKeyPem) => {
    const { hostname = "0.0.0.0", port } = internet(options, "tcp") ?? {};
    if (internet(options, "tcp") === null || !takes(hook, "listen", "tcp", hostname, port)) return listenTls(options);
    throw new Deno.errors.NotSupported("Deno.listenTls over a stack: use node:tls or node:https");
  });
}

/** Replaces what the `Deno` namespace connects and listens with. */
export function patchDenoNet(patches: Patches, hook: Hook): void {
  const kernel: KernelNet = { connect: Deno.connect, listen: Deno.listen };
  patchConnect(patches, hook);
  patchListen(patches, hook);
  patchListenDatagram(patches, hook);
  patchResolveDns(patches, hook);
  patchTls(patches, hook, kernel);
}
