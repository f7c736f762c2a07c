/**
 * Bringing a forwarder up, in the kernel or in this process.
 *
 * @module
 */
import {
  addInterfaces,
  followLinks,
  type ForwarderReport,
  interfaceKind,
  KernelForwarder,
  removeInterfaces,
  reportForwarder,
  XdpForwarder,
} from "../../mod.ts";
import { ControlServer, type Question } from "./control.ts";
import { type Command, UsageError } from "./options.ts";

/** Numbers that fit a tag. */
const IFINDEX_MAX = 4095;
/** What `--auto` takes as "the kernel can't": no rights, no BPF, no bpffs, a verifier that refuses, no XDP on an interface. */
const KERNEL_CANNOT = ["EPERM", "EACCES", "ENOSYS", "ENOBPFFS", "EVERIFIER", "EOPNOTSUPP", "EINVAL"];

const OWN = { kernel: "", tap: "a TAP of this process", xsk: "an AF_XDP socket of this process" };

/** Whether an interface has a device of this process, and can't be the kernel's. */
function isOwn(name: string): boolean {
  return interfaceKind(name) !== "kernel";
}

/** @throws {UsageError} for a name that the kernel can't have */
export function checkKernelNames(names: readonly string[]): void {
  const own = names.find(isOwn);
  if (own !== undefined) throw new UsageError(`${own}: ${OWN[interfaceKind(own)]} is for --user`);
}

function upKernel(command: Command, why: string): void {
  const { names, folder, attach, strict, promiscuous } = command;
  checkKernelNames(names);
  const forwarder = KernelForwarder.up(names, { folder, attach, mode: strict ? "strict" : "mask", promiscuous });
  console.log(`ready in the kernel${why}, pinned in ${folder}: ${describe(forwarder.report)}`);
}

/** Complains about interfaces that can't work. */
export function checkNumbers({ interfaces }: ForwarderReport, names?: readonly string[]): void {
  for (const [name, { ifindex, role }] of Object.entries(interfaces)) {
    if (role === "router" || ifindex <= IFINDEX_MAX || names?.some((one) => one.split(":").includes(name)) === false) {
      continue;
    }
    console.error(
      `xdp_forwarder: ${name} has number ${ifindex}: over ${IFINDEX_MAX}, so that no tag names it and all is dropped`,
    );
  }
}

/** "eth1 (physical, native), router0 (router, native)". */
function describe(report: ForwarderReport): string {
  checkNumbers(report);
  return Object.entries(report.interfaces).map(([name, { role, by }]) => `${name} (${role}, ${by})`).join(", ");
}

/** Names as a client sends them. */
function namesOf(question: Question & { names: string[] }): string[] {
  const { names } = question;
  if (!Array.isArray(names) || !names.every((name) => typeof name === "string")) {
    throw new TypeError("names of interfaces are needed");
  }
  return names;
}

/** Answers what may be asked of a forwarder in this process, but for its end. */
function answer(forwarder: XdpForwarder, command: Command, question: Question): unknown {
  switch (question.command) {
    case "add":
      return addInterfaces(forwarder, namesOf(question), { promiscuous: command.promiscuous || question.promiscuous === true });
    case "remove":
      return removeInterfaces(forwarder, namesOf(question));
    case "set-router-iface":
      return forwarder.setRouterInterface(question.name);
    case "stats":
      return reportForwarder(forwarder);
    default:
      throw new Error(`unknown command ${JSON.stringify(question)}`);
  }
}

async function upUser(command: Command, why: string): Promise<void> {
  const done = Promise.withResolvers<void>();
  using forwarder = new XdpForwarder({
    mode: command.strict ? "strict" : "mask",
    onGone: ({ name }, error) => {
      const why = error === undefined ? "" : `: ${error instanceof Error ? error.message : error}`;
      console.error(`xdp_forwarder: interface "${name}" is gone${why}`);
    },
  });
  using _following = followLinks(forwarder);
  const server = await ControlServer.open(command.socket, (question: Question) => {
    if (question.command !== "down") return answer(forwarder, command, question);
    // All is gone when the answer arrives.
    forwarder.close();
    server.stop();
    done.resolve();
  });
  try {
    addInterfaces(forwarder, command.names, command);
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
  const own = command.names.find(isOwn);
  if (own !== undefined) return await upUser(command, ` (auto: ${OWN[interfaceKind(own)]} is among the interfaces)`);
  try {
    upKernel(command, " (auto: it can)");
  } catch (error) {
    const { code = "", message } = error as { code?: string; message: string };
    if (!KERNEL_CANNOT.includes(code)) throw error;
    await upUser(command, ` (auto: the kernel can't. ${message.split("\n")[0]})`);
  }
}
