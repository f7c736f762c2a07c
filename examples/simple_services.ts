/**
 * The oldest services of the Internet on one TAP device: echo (RFC 862), discard (RFC 863), chargen (RFC 864), by TCP and
 * UDP, and a web page.
 *
 *     unshare -Urn deno run -A examples/simple_services.ts --host-address 10.0.0.1/24
 *
 * Ends cleanly on SIGINT and SIGTERM; SIGUSR2 makes it print its statistics on standard error, as one line of JSON.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type Device, NetStack, pcapTap, serve, TapDevice } from "../mod.ts";
import { chargenPattern, httpServices, LINE } from "./services/content.ts";

const USAGE = `usage: simple_services.ts [--name tap0] [--address 10.0.0.2/24] [--host-address 10.0.0.1/24]
  [--gateway 10.0.0.1] [--mtu 1500] [--no-offload] [--pcap FILE]`;
const ECHO_BUFFER_MIN = 2 * 1024;
const ECHO_BUFFER_MAX = 128 * 1024;
const pattern = chargenPattern(256 * 1024);
/** What is thrown away may all be thrown away into the same place. */
const rubbish = new Uint8Array(256 * 1024);

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  let done = await conn.write(bytes);
  while (done < bytes.length) done += await conn.write(bytes.subarray(done));
}

async function echo(conn: Deno.Conn): Promise<void> {
  // Most connections carry little: the buffer grows for those that fill it.
  let buffer = new Uint8Array(ECHO_BUFFER_MIN);
  for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
    await writeAll(conn, buffer.subarray(0, n));
    if (n === buffer.length && n < ECHO_BUFFER_MAX) buffer = new Uint8Array(n * 4);
  }
}

async function discard(conn: Deno.Conn): Promise<void> {
  while (await conn.read(rubbish) !== null);
}

async function chargen(conn: Deno.Conn): Promise<void> {
  // RFC 864: what the client sends is thrown away. The stream ends when writing fails because the client has gone.
  discard(conn).catch(() => {});
  for (;;) await writeAll(conn, pattern);
}

/** What comes, until the stack ends; why it ended is told by `stack.closed`, once. */
async function* endless<T>(source: AsyncIterable<T>): AsyncGenerator<T> {
  try {
    yield* source;
  } catch { /* the stack has ended */ }
}

async function tcpService(listener: Deno.TcpListener, handle: (conn: Deno.Conn) => Promise<void>): Promise<void> {
  for await (const conn of endless(listener)) {
    // A client that resets or vanishes ends its own connection and nothing else.
    handle(conn).catch(() => {}).finally(() => conn[Symbol.dispose]());
  }
}

async function udpService(socket: Deno.DatagramConn, answer: (bytes: Uint8Array) => Uint8Array | null): Promise<void> {
  for await (const [bytes, from] of endless(socket)) {
    const reply = answer(bytes);
    // A full device or a client out of reach loses a datagram, as UDP may.
    if (reply !== null) await socket.send(reply, from).catch(() => {});
  }
}

function randomText(): Uint8Array {
  const length = Math.floor(Math.random() * 513);
  const start = Math.floor(Math.random() * 95) * LINE;
  return pattern.subarray(start, start + length);
}

function options() {
  const names = ["name", "address", "host-address", "gateway", "mtu", "pcap"];
  const values = parseArgs(Deno.args, {
    string: names,
    negatable: ["offload"],
    boolean: ["help", "offload"],
    default: { name: "tap0", address: "10.0.0.2/24", offload: true },
    unknown: (argument) => fail(`unknown argument ${argument}. ${USAGE}`, 2),
  });
  if (values.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  const text = (name: string) => values[name] as string | undefined;
  for (const name of names) if (text(name) === "") fail(`--${name} needs a value. ${USAGE}`, 2);
  if (values.mtu !== undefined && !/^\d+$/.test(text("mtu")!)) fail(`--mtu must be a number of bytes, not "${values.mtu}"`, 2);
  const mtu = values.mtu === undefined ? undefined : Number(values.mtu);
  return { text, mtu, offload: values.offload === true };
}

function fail(message: string, code: number): never {
  console.error(`simple_services: ${message}`);
  Deno.exit(code);
}

function start(): NetStack {
  const { text, mtu, offload } = options();
  const host = text("host-address");
  let tap: TapDevice | undefined;
  try {
    tap = TapDevice.open({ name: text("name"), mtu, offload, ...(host && { host: { address: host, mtu, up: true } }) });
    const device: Device = text("pcap") ? pcapTap(tap, text("pcap")!) : tap;
    return new NetStack(device, { address: text("address"), gateway: text("gateway") });
  } catch (error) {
    tap?.close();
    const wrongOption = error instanceof TypeError || error instanceof RangeError;
    fail((error as Error).message, wrongOption ? 2 : 1);
  }
}

const stack = start();
tcpService(stack.listen({ port: 7 }), echo);
tcpService(stack.listen({ port: 9 }), discard);
tcpService(stack.listen({ port: 19 }), chargen);
udpService(stack.listenDatagram({ port: 7 }), (bytes) => bytes);
udpService(stack.listenDatagram({ port: 9 }), () => null);
udpService(stack.listenDatagram({ port: 19 }), randomText);
serve(stack.listen({ port: 80 }), httpServices);

for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => stack.close());
Deno.addSignalListener("SIGUSR2", () => console.error(JSON.stringify(stack.statistics)));
console.log(`ready ${options().text("address")} on ${options().text("name")}: tcp 7 9 19 80, udp 7 9 19`);

try {
  await stack.closed;
} catch (error) {
  // The device is gone. Nothing is left that keeps the process alive: it ends by itself.
  console.error(`simple_services: ${(error as Error).message}`);
  Deno.exitCode = 1;
}
