/**
 * The VLAN multiplexing forwarder: what comes in by a physical interface goes to the router's with a tag that names it, and what
 * the router sends goes out by the interface that its tag names. In the kernel (XDP), or in this process.
 *
 *     deno run -A examples/xdp_forwarder.ts up --kernel eth1 eth2 router0    loads, attaches, pins, and ends: the forwarder goes on
 *     deno run -A examples/xdp_forwarder.ts up --user eth1 tap:t2 router0    runs until SIGINT, SIGTERM or `down`
 *     deno run -A examples/xdp_forwarder.ts set-router-iface router0
 *     deno run -A examples/xdp_forwarder.ts stats
 *     deno run -A examples/xdp_forwarder.ts down
 *
 * An interface whose address begins with 02:01 is the router's, the others are physical. The kernel's way needs root and a
 * mounted bpffs (`mount -t bpf bpf /sys/fs/bpf`); the other one CAP_NET_RAW, and CAP_NET_ADMIN for TAPs. Segments and checksums
 * that the kernel leaves to a card (offload) pass in user space only: for XDP turn them off at hosts behind veth interfaces. And what is redirected natively into a veth is lost unless its peer has
 * GRO: so `--mode auto` is generic with veth interfaces.
 *
 * Exit codes: 0, 1 when something failed, 2 for a wrong command line.
 *
 * @module
 */
import { KernelForwarder } from "../mod.ts";
import { ask, isListening } from "./xdp_forwarder/control.ts";
import { type Command, parseCommand, USAGE, UsageError } from "./xdp_forwarder/options.ts";
import { table } from "./xdp_forwarder/table.ts";
import { up } from "./xdp_forwarder/up.ts";
import type { ForwarderReport } from "../mod.ts";

/** Where the forwarder is that a command is for. */
async function findForwarder({ place, folder, socket }: Command): Promise<"kernel" | "user"> {
  if (place !== "auto") return place;
  const kernel = KernelForwarder.exists(folder);
  const user = await isListening(socket);
  if (kernel && user) throw new UsageError("one runs in the kernel and one in user space: say --kernel or --user");
  if (!kernel && !user) {
    throw new Error(
      `Cannot open map "router_iface" (ENOENT): no forwarder runs, neither ${folder} nor ${socket} is there. Bring one up`,
    );
  }
  return kernel ? "kernel" : "user";
}

async function setRouterInterface(command: Command): Promise<void> {
  const [name] = command.names;
  if (await findForwarder(command) === "kernel") KernelForwarder.open(command.folder).setRouterInterface(name);
  else await ask(command.socket, { command: "set-router-iface", name });
}

async function stats(command: Command): Promise<void> {
  const kernel = await findForwarder(command) === "kernel";
  const report = kernel
    ? KernelForwarder.open(command.folder).report
    : await ask(command.socket, { command: "stats" }) as ForwarderReport;
  console.log(command.json ? JSON.stringify(report) : table(report));
}

async function down(command: Command): Promise<void> {
  if (await findForwarder(command) === "kernel") KernelForwarder.open(command.folder).down();
  else await ask(command.socket, { command: "down" });
}

async function main(): Promise<number> {
  try {
    const command = parseCommand(Deno.args);
    if (command.name === "help") console.log(USAGE);
    else if (command.name === "up") await up(command);
    else if (command.name === "set-router-iface") await setRouterInterface(command);
    else if (command.name === "stats") await stats(command);
    else await down(command);
    return 0;
  } catch (error) {
    const usage = error instanceof UsageError;
    console.error(`xdp_forwarder: ${error instanceof Error ? error.message : error}${usage ? `\n${USAGE}` : ""}`);
    return usage ? 2 : 1;
  }
}

Deno.exit(await main());
