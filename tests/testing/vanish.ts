/**
 * Everything that can wait on a stack, on a TAP that is deleted or goes down: `vanish.ts NAME ROUNDS delete|down`.
 * Prints one line of JSON: what each who waited was told, and the descriptors and threads before and after. Ends by itself.
 *
 * @module
 */
import { deleteLink, setLink } from "../../ffi/rtnl_link.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { NetStack, TapDevice } from "../../mod.ts";

const KERNEL = "10.1.8.1", OURS = "10.1.8.2";
/** Has a neighbour entry, and never answers. */
const SILENT = "10.1.8.99";

/** The name and code of what a promise rejects with, or what it gave. */
async function outcome(promise: Promise<unknown>): Promise<string> {
  try {
    return `gave ${await promise}`;
  } catch (error) {
    const { name, code = "" } = error as Error & { code?: string };
    return `${name} ${code}`.trim();
  }
}

/** Open descriptors by what they are, and threads. Without the Unix sockets that Deno opens for itself when it likes. */
function resources(): Record<string, number> {
  const unix = Deno.readTextFileSync("/proc/net/unix");
  const found: Record<string, number> = { threads: [...Deno.readDirSync("/proc/self/task")].length };
  for (const { name } of Deno.readDirSync("/proc/self/fd")) {
    try {
      const link = Deno.readLinkSync(`/proc/self/fd/${name}`);
      const inode = link.match(/^socket:\[(\d+)\]$/)?.[1];
      if (inode !== undefined && unix.includes(` ${inode}`)) continue;
      const target = link.replace(/\[?\d+\]?$/, "");
      found[target] = (found[target] ?? 0) + 1;
    } catch { /* the one that lists them */ }
  }
  return found;
}

async function writeForEver(conn: Deno.Conn): Promise<void> {
  const bytes = new Uint8Array(1 << 20);
  for (;;) await conn.write(bytes);
}

async function receiveAll(socket: AsyncIterable<unknown>): Promise<void> {
  for await (const _ of socket);
}

/** One device with everything that waits on it, and its end. */
async function round(name: string, how: string): Promise<Record<string, string>> {
  const device = TapDevice.open({ name, host: { address: `${KERNEL}/24` } });
  // A user timeout, so that who sends into a device that is down is told soon.
  const stack = new NetStack(device, { address: `${OURS}/24`, nameservers: [SILENT], tcp: { userTimeoutMs: 1500 } });
  stack.setNeighbor(SILENT, "02:00:00:00:00:99");
  const kernel = Deno.listen({ hostname: KERNEL, port: 9000 });
  const open = () => Promise.all([kernel.accept(), stack.connect({ hostname: KERNEL, port: 9000 })]);
  const [theirs, ours] = await open();
  const [theirOther, stuck] = await open();
  const listener = stack.listen({ port: 7 }), datagrams = stack.listenDatagram({ port: 7 });
  const waiting: Record<string, Promise<string>> = {
    read: outcome(ours.read(new Uint8Array(1))),
    write: outcome(writeForEver(stuck)),
    accept: outcome(listener.accept()),
    receive: outcome(datagrams.receive()),
    iterate: outcome(receiveAll(stack.listenDatagram({ port: 8 }))),
    connect: outcome(stack.connect({ hostname: SILENT, port: 1 })),
    ping: outcome(stack.ping(SILENT, { timeoutMs: how === "down" ? 1500 : 60_000 })),
    resolve: outcome(stack.resolve("example.com")),
    closed: outcome(stack.closed),
  };
  await new Promise((resolve) => setTimeout(resolve, 20));
  if (how === "delete") deleteLink(name);
  else {
    setLink(name, { up: false });
    // These are told because they send; those who only listen go on when the device is up again, until the stack is closed.
    await Promise.all([waiting.write, waiting.connect, waiting.ping, waiting.resolve]);
    stack.close();
  }
  const told: Record<string, string> = {};
  for (const [what, promise] of Object.entries(waiting)) told[what] = await promise;
  for (const one of [theirs, theirOther, kernel, ours, stuck, listener, datagrams]) one.close();
  await wakersIdle();
  // Deno gives its own sockets back a little later than it says.
  await new Promise((resolve) => setTimeout(resolve, 50));
  return told;
}

const [name, rounds, how] = Deno.args;
// The first round opens what stays open for the process.
await round(name, "delete");
const before = resources();
let told = {};
for (let i = 0; i < Number(rounds); i++) told = await round(name, how);
console.log(JSON.stringify({ told, before, after: resources() }));
