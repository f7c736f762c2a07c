/**
 * The command line of the forwarder.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { KERNEL_FORWARDER_FOLDER } from "../../mod.ts";

/** How the program is called. */
export const USAGE = `usage: xdp_forwarder.ts COMMAND
  up [--kernel|--user|--auto] [--mode native|generic|auto] [--strict] [--promiscuous] IFACE…
                            an IFACE is the name of an interface; with --user also tap:NAME, a TAP of this process, and
                            xsk:NAME[:QUEUE], an interface's queue by AF_XDP
  add [--promiscuous] IFACE…, remove IFACE…
                            while the others go on
  set-router-iface NAME     where frames of the physical interfaces go
  stats [--json]            counters by interface and action
  down                      takes everything away again
all: [--folder PATH] (in bpffs) [--socket PATH] (of --user); --kernel or --user where both are`;

/** A command line that makes no sense. */
export class UsageError extends Error {}

/** What the user wants. */
export interface Command {
  name: typeof COMMANDS[number] | "help";
  /** Interfaces. */
  names: string[];
  place: "kernel" | "user" | "auto";
  attach: "native" | "generic" | "auto";
  strict: boolean;
  promiscuous: boolean;
  json: boolean;
  folder: string;
  socket: string;
}

const COMMANDS = ["up", "add", "remove", "set-router-iface", "stats", "down"] as const;
const TAKE_INTERFACES = ["up", "add", "remove"];

/** How many names a command takes. */
function checkNames(name: string, names: string[]): void {
  if (TAKE_INTERFACES.includes(name) && names.length === 0) throw new UsageError(`${name}: which interfaces?`);
  if (name === "set-router-iface" && (names.length !== 1 || names[0] === "")) {
    throw new UsageError("set-router-iface: the name of one interface is needed");
  }
  if ((name === "stats" || name === "down") && names.length > 0) throw new UsageError(`${name}: what is ${names[0]} for?`);
  const twice = names.find((one, i) => names.indexOf(one) !== i);
  if (twice !== undefined) throw new UsageError(`${twice} is named twice`);
}

/** Where this user's sockets are. */
function runFolder(): string {
  return Deno.uid() === 0 ? "/run" : Deno.env.get("XDG_RUNTIME_DIR") ?? "/tmp";
}

/** Reads the command line. @throws {UsageError} */
export function parseCommand(args: readonly string[]): Command {
  const values = parseArgs(args, {
    // "_": names of interfaces may be numbers.
    string: ["folder", "socket", "mode", "_"],
    boolean: ["kernel", "user", "auto", "strict", "promiscuous", "json", "help"],
    default: { folder: KERNEL_FORWARDER_FOLDER, socket: `${runFolder()}/xdp_forwarder.sock` },
    unknown: (argument) => {
      if (argument.startsWith("-")) throw new UsageError(`unknown option ${argument}`);
    },
  });
  const [first = "", ...names] = values._.map(String);
  const flag = (name: string) => values[name] === true;
  const places = (["kernel", "user", "auto"] as const).filter(flag);
  if (places.length > 1) throw new UsageError(`--${places[0]} or --${places[1]}?`);
  const { folder, socket } = values as Record<string, string>;
  const mode = values.mode ?? "auto";
  if (mode !== "native" && mode !== "generic" && mode !== "auto") throw new UsageError("--mode is native, generic or auto");
  if (folder === "" || socket === "") throw new UsageError("--folder and --socket need a path");
  const name = flag("help") ? "help" : COMMANDS.find((command) => command === first);
  if (name === undefined) throw new UsageError(first === "" ? "a command is needed" : `unknown command ${first}`);
  if (name !== "help") checkNames(name, names);
  for (const option of ["strict", "promiscuous", "mode", "auto"]) {
    if (option === "promiscuous" && name === "add") continue;
    if (values[option] && name !== "up" && name !== "help") throw new UsageError(`--${option} is for up`);
  }
  if (flag("json") && name !== "stats" && name !== "help") throw new UsageError("--json is for stats");
  if (values.mode !== undefined && places[0] === "user") throw new UsageError("--mode is for the kernel");
  return {
    name,
    names,
    place: places[0] ?? "auto",
    attach: mode,
    strict: flag("strict"),
    promiscuous: flag("promiscuous"),
    json: flag("json"),
    folder,
    socket,
  };
}
