// The same calls over the kernel's stack and over ours, here and in a worker, so that one test table runs three times.
import { cable, type CableEnd, type CableOptions, NetStack, type NetStackOptions, WorkerStack } from "../../../mod.ts";

/** A network in which one end listens and the other connects. */
export interface World extends AsyncDisposable {
  readonly name: string;
  readonly host: string;
  listen(port?: number): Deno.TcpListener;
  connect(port: number, signal?: AbortSignal): Promise<Deno.TcpConn>;
  listenDatagram(): Deno.DatagramConn;
  /** On all addresses, and from the same host. */
  listenAny(): Deno.TcpListener;
  connectTo(to: { hostname: string; port: number }): Promise<Deno.TcpConn>;
  listenDatagramAny(): Deno.DatagramConn;
}

const kernel: World = {
  name: "kernel",
  host: "127.0.0.1",
  listen: (port = 0) => Deno.listen({ hostname: "127.0.0.1", port }),
  connect: (port, signal) => Deno.connect({ hostname: "127.0.0.1", port, signal }),
  // deno-lint-ignore no-explicit-any
  listenDatagram: () => (Deno as any).listenDatagram({ transport: "udp", hostname: "127.0.0.1", port: 0 }),
  listenAny: () => Deno.listen({ port: 0 }),
  connectTo: (to) => Deno.connect(to),
  // deno-lint-ignore no-explicit-any
  listenDatagramAny: () => (Deno as any).listenDatagram({ transport: "udp", port: 0 }),
  [Symbol.asyncDispose]: () => Promise.resolve(),
};

/** Two stacks and the cable between them. */
export interface Pair extends Disposable {
  server: NetStack;
  client: NetStack;
  ends: [CableEnd, CableEnd];
}

export function pair(options: { cable?: CableOptions; server?: NetStackOptions; client?: NetStackOptions } = {}): Pair {
  const ends = cable(options.cable);
  const server = new NetStack(ends[0], { address: "10.0.0.1/24", ...options.server });
  const client = new NetStack(ends[1], { address: "10.0.0.2/24", ...options.client });
  return {
    server,
    client,
    ends,
    [Symbol.dispose]() {
      client.close();
      server.close();
    },
  };
}

function ours(): World {
  const { server, client } = pair();
  return {
    name: "ours",
    host: "10.0.0.1",
    listen: (port = 0) => server.listen({ hostname: "10.0.0.1", port }),
    connect: (port, signal) => client.connect({ hostname: "10.0.0.1", port, signal }),
    listenDatagram: () => server.listenDatagram({ hostname: "10.0.0.1", port: 0 }),
    listenAny: () => server.listen({}),
    connectTo: (to) => server.connect(to),
    listenDatagramAny: () => server.listenDatagram({}),
    async [Symbol.asyncDispose]() {
      await client[Symbol.asyncDispose]();
      await server[Symbol.asyncDispose]();
    },
  };
}

/** A stack in a worker that talks to itself: what differs from `ours` is the way between the threads. */
async function worker(): Promise<World> {
  const url = new URL("../../workers/no_device.ts", import.meta.url).href;
  const stack = await WorkerStack.open({ device: { kind: "module", url }, address: "10.0.0.1/24" });
  return {
    name: "worker",
    host: "10.0.0.1",
    listen: (port = 0) => stack.listen({ hostname: "10.0.0.1", port }),
    connect: (port, signal) => stack.connect({ hostname: "10.0.0.1", port, signal }),
    listenDatagram: () => stack.listenDatagram({ hostname: "10.0.0.1", port: 0 }),
    listenAny: () => stack.listen({}),
    connectTo: (to) => stack.connect(to),
    listenDatagramAny: () => stack.listenDatagram({}),
    [Symbol.asyncDispose]: () => stack[Symbol.asyncDispose](),
  };
}

/** Registers a test three times: over the kernel, over two of our stacks on a cable, and over one in a worker. */
export function both(name: string, test: (world: World) => Promise<void>): void {
  // deno-lint-ignore no-explicit-any
  const noDatagrams = typeof (Deno as any).listenDatagram !== "function" && name.includes("UDP");
  Deno.test({
    name: `${name}, kernel${noDatagrams ? " (skipped: run with --unstable-net)" : ""}`,
    ignore: noDatagrams,
    fn: () => test(kernel),
  });
  Deno.test(`${name}, ours`, async () => {
    await using world = ours();
    await test(world);
  });
  Deno.test(`${name}, worker`, async () => {
    await using world = await worker();
    await test(world);
  });
}

/** A listener, and both ends of a connection through it. */
export interface Connected extends Disposable {
  listener: Deno.TcpListener;
  server: Deno.TcpConn;
  client: Deno.TcpConn;
}

export async function connected(world: World): Promise<Connected> {
  const listener = world.listen();
  const [server, client] = await Promise.all([listener.accept(), world.connect(listener.addr.port)]);
  return {
    listener,
    server,
    client,
    [Symbol.dispose]() {
      client[Symbol.dispose]();
      server[Symbol.dispose]();
      listener[Symbol.dispose]();
    },
  };
}

/** What a promise or call ended with, as plain text that two worlds can be compared by. */
export async function outcome(run: () => unknown): Promise<string> {
  try {
    const value = await run();
    return `${typeof value === "object" && value !== null ? JSON.stringify(value) : value ?? "nothing"}`;
  } catch (error) {
    const { name, code } = error as { name: string; code?: string };
    return `${name} ${typeof code === "string" ? code : "-"}`;
  }
}

/** Lets real time pass: kernel worlds need it for segments to arrive. Nothing is asserted about it. */
export function moment(ms = 20): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms));
}

export async function readAll(conn: Deno.TcpConn): Promise<Uint8Array> {
  const chunks: Uint8Array[] = [];
  const buffer = new Uint8Array(65_536);
  for (let count = await conn.read(buffer); count !== null; count = await conn.read(buffer)) {
    chunks.push(buffer.slice(0, count));
  }
  return new Uint8Array(await new Blob(chunks as Uint8Array<ArrayBuffer>[]).arrayBuffer());
}

export async function writeAll(conn: Deno.TcpConn, bytes: Uint8Array): Promise<void> {
  for (let at = 0; at < bytes.length;) at += await conn.write(bytes.subarray(at));
}
