/**
 * The VLAN multiplexing forwarder: what comes in by a physical interface goes to the router's with a tag that names it, and what
 * the router sends goes out by the interface that its tag names. In the kernel (XDP), or in this process.
 *
 *     deno run -A examples/xdp_forwarder.ts up --kernel eth1 eth2 router0    loads, attaches, pins, and ends: the forwarder goes on
 *     deno run -A examples/xdp_forwarder.ts up --user eth1 tap:t2 router0    runs until SIGINT, SIGTERM or `down`
 *     deno run -A examples/xdp_forwarder.ts set-router-iface router0
 *     deno run -A examples/xdp_forwarder.ts add eth3
 *     deno run -A examples/xdp_forwarder.ts remove eth1
 *     deno run -A examples/xdp_forwarder.ts stats
 *     deno run -A examples/xdp_forwarder.ts down
 *
 * An interface whose address begins with 02:01 is the router's, the others are physical. The kernel's way needs root and a
 * mounted bpffs (`mount -t bpf bpf /sys/fs/bpf`); the other one CAP_NET_RAW, and CAP_NET_ADMIN for TAPs. Segments and checksums
 * that the kernel leaves to a card (offload) pass in user space only: for XDP turn them off at hosts behind veth interfaces. And
 * what is redirected natively into a veth is lost unless its peer has GRO: so `--mode auto` is generic with veth interfaces.
 *
 * Exit codes: 0, 1 when something failed, 2 for a wrong command line.
 *
 * @module
 */
import { KernelForwarder } from "../mod.ts";
import { ask, isListening } from "./xdp_forwarder/control.ts";
import { type Command, parseCommand, USAGE, UsageError } from "./xdp_forwarder/options.ts";
import { table } from "./xdp_forwarder/table.ts";
import { checkKernelNames, checkNumbers, up } from "./xdp_forwarder/up.ts";
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

async function add(command: Command): Promise<void> {
  const { names, promiscuous } = command;
  const place = await findForwarder(command);
  if (place === "kernel") {
    checkKernelNames(names);
    KernelForwarder.open(command.folder).add(names, promiscuous ? { promiscuous } : {});
  } else await ask(command.socket, { command: "add", names, promiscuous });
  checkNumbers(await readReport({ ...command, place }), names);
}

async function remove(command: Command): Promise<void> {
  if (await findForwarder(command) === "kernel") KernelForwarder.open(command.folder).remove(command.names);
  else await ask(command.socket, { command: "remove", names: command.names });
}

async function readReport(command: Command): Promise<ForwarderReport> {
  if (await findForwarder(command) === "kernel") return KernelForwarder.open(command.folder).report;
  return await ask(command.socket, { command: "stats" }) as ForwarderReport;
}

async function stats(command: Command): Promise<void> {
  const report = await readReport(command);
  console.log(command.json ? JSON.stringify(report) : table(report));
}

async function down(command: Command): Promise<void> {
  if (await findForwarder(command) === "kernel") KernelForwarder.open(command.folder).down();
  else await ask(command.socket, { command: "down" });
}

const COMMANDS = { up, add, remove, "set-router-iface": setRouterInterface, stats, down };

async function main(): Promise<number> {
  try {
    const command = parseCommand(Deno.args);
    if (command.name === "help") console.log(USAGE);
    else await COMMANDS[command.name](command);
    return 0;
  } catch (error) {
    const usage = error instanceof UsageError;
    console.error(`xdp_forwarder: ${error instanceof Error ? error.message : error}${usage ? `\n${USAGE}` : ""}`);
    return usage ? 2 : 1;
  }
}

Deno.exit(await main());
