/**
 * Bringing a forwarder up, in the kernel or in this process.
 *
 * @module
 */
import { type ForwarderReport, isTapName, KernelForwarder, openInterface, reportForwarder, XdpForwarder } from "../../mod.ts";
import { ControlServer, type Question } from "./control.ts";
import { type Command, UsageError } from "./options.ts";

/** Numbers that fit a tag. */
const IFINDEX_MAX = 4095;
/** What `--auto` takes as "the kernel can't": no rights, no BPF, no bpffs, a verifier that refuses, no XDP on an interface. */
const KERNEL_CANNOT = ["EPERM", "EACCES", "ENOSYS", "ENOBPFFS", "EVERIFIER", "EOPNOTSUPP", "EINVAL"];

function upKernel(command: Command, why: string): void {
  const { names, folder, attach, strict, promiscuous } = command;
  const tap = names.find(isTapName);
  if (tap !== undefined) throw new UsageError(`${tap}: a TAP of this process is for --user`);
  const forwarder = KernelForwarder.up(names, { folder, attach, mode: strict ? "strict" : "mask", promiscuous });
  console.log(`ready in the kernel${why}, pinned in ${folder}: ${describe(forwarder.report)}`);
}

/** "eth1 (physical, native), router0 (router, native)"; complains about interfaces that can't work. */
function describe({ interfaces }: ForwarderReport): string {
  for (const [name, { ifindex, role }] of Object.entries(interfaces)) {
    if (role === "router" || ifindex <= IFINDEX_MAX) continue;
    console.error(
      `xdp_forwarder: ${name} has number ${ifindex}: over ${IFINDEX_MAX}, so that no tag names it and all is dropped`,
    );
  }
  return Object.entries(interfaces).map(([name, { role, by }]) => `${name} (${role}, ${by})`).join(", ");
}

async function upUser(command: Command, why: string): Promise<void> {
  const done = Promise.withResolvers<void>();
  using forwarder = new XdpForwarder({
    mode: command.strict ? "strict" : "mask",
    onGone: (port) => console.error(`xdp_forwarder: interface "${port.name}" is gone`),
  });
  const server = await ControlServer.open(command.socket, (question: Question) => {
    if (question.command === "set-router-iface") forwarder.setRouterInterface(question.name);
    else if (question.command === "stats") return reportForwarder(forwarder);
    else if (question.command === "down") {
      // All is gone when the answer arrives.
      forwarder.close();
      server.stop();
      done.resolve();
    } else throw new Error(`unknown command ${JSON.stringify(question)}`);
  });
  try {
    for (const name of command.names) openInterface(forwarder, name, command);
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => done.resolve());
    console.log(`ready in user space${why}, commands at ${command.socket}: ${describe(reportForwarder(forwarder))}`);
    await done.promise;
  } finally {
    await server.close();
  }
}

/** Does `up`: ends at once in the kernel, and with the forwarder in user space. */
export async function up(command: Command): Promise<void> {
  if (command.place === "user") return await upUser(command, "");
  if (command.place === "kernel") return upKernel(command, "");
  if (command.names.some(isTapName)) return await upUser(command, " (auto: a TAP of this process is among the interfaces)");
  try {
    upKernel(command, " (auto: it can)");
  } catch (error) {
    const { code = "", message } = error as { code?: string; message: string };
    if (!KERNEL_CANNOT.includes(code)) throw error;
    await upUser(command, ` (auto: the kernel can't. ${message.split("\n")[0]})`);
  }
}
