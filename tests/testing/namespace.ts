/**
 * Helpers of the tests that use a real kernel: is there one, which programs are there, namespaces beside our own.
 * A test file that imports this one is run inside a fresh network namespace by `deno task test`.
 *
 * @module
 */

/** True inside the network namespace that `deno task test` makes: devices may be made, nobody else is there. */
export const kernel: boolean = Deno.env.get("TAPIOCA_KERNEL") === "1";
/** True under `deno task test:long`. */
export const long: boolean = Deno.env.get("TAPIOCA_LONG") === "1";

export const ROOT: string = new URL("../../", import.meta.url).pathname;

const FOLDERS = [...(Deno.env.get("PATH") ?? "").split(":"), "/usr/sbin", "/sbin", "/usr/bin", "/bin"];

/** The path of a program, or null. `PATH` of an ordinary user often lacks the sbin folders. */
export function findProgram(name: string): string | null {
  for (const folder of FOLDERS) {
    try {
      if (Deno.statSync(`${folder}/${name}`).isFile) return `${folder}/${name}`;
    } catch { /* not in this folder */ }
  }
  return null;
}

/** Says in one line why a test is skipped; `deno task test` collects the lines, and in CI they fail the run. */
export function reportSkip(line: string): void {
  const path = Deno.env.get("TAPIOCA_SKIPS");
  if (path !== undefined) Deno.writeTextFileSync(path, `${line}\n`, { append: true });
}

/** True if one of `programs` is missing: for `ignore`. `packages` is what to give to `apt-get install`. */
export function lacksPrograms(programs: string[], packages: string): boolean {
  const missing = programs.filter((name) => findProgram(name) === null);
  if (missing.length > 0) reportSkip(`tests with ${missing.join(", ")}: to run them, apt-get install ${packages}`);
  return missing.length > 0;
}

/** The machine's own root; not an ordinary user, and not one who is root in a user namespace. */
export const ownRoot: boolean = Deno.uid() === 0 &&
  /^\s*0\s+0\s+4294967295$/m.test(Deno.readTextFileSync("/proc/self/uid_map"));

/** True if this isn't the machine's own root: for `ignore`. */
export function lacksRoot(): boolean {
  if (!ownRoot) reportSkip("tests that become another user: to run them, be root");
  return !ownRoot;
}

/** For `ignore`: no kernel, or one whose switches (`/proc/sys/net`) can't be set here. */
/** True below `unshare -U`: some rights are asked for outside of it. */
export function isOwnUserNamespace(): boolean {
  return !/^\s*0\s+0\s+4294967295\s*$/.test(Deno.readTextFileSync("/proc/self/uid_map"));
}

export function lacksSysctl(): boolean {
  if (!kernel) return true;
  try {
    const path = "/proc/sys/net/ipv4/tcp_sack";
    Deno.writeTextFileSync(path, Deno.readTextFileSync(path));
    return false;
  } catch {
    reportSkip("tests that switch features of the kernel's TCP: to run them, mount /proc/sys writable");
    return true;
  }
}

/** For `ignore`: no kernel, or a program that isn't there. */
export function lacksKernel(programs: string[] = [], packages = programs.join(" ")): boolean {
  return !kernel || lacksPrograms(programs, packages);
}

export interface RunResult {
  code: number;
  stdout: string;
  stderr: string;
}

export interface RunOptions {
  stdin?: string | Uint8Array<ArrayBuffer>;
  /** Ends the program after so long: a test must not hang. Default a minute. */
  timeoutMs?: number;
  env?: Record<string, string>;
}

/** Runs a program to its end. A program that outlives its time is killed, and the code is then not 0. */
export async function run(program: string, args: string[], options: RunOptions = {}): Promise<RunResult> {
  const { stdin, timeoutMs = 60_000, env } = options;
  const command = new Deno.Command(findProgram(program) ?? program, {
    args,
    env,
    cwd: ROOT,
    stdin: stdin === undefined ? "null" : "piped",
    stdout: "piped",
    stderr: "piped",
  });
  const child = command.spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), timeoutMs);
  if (stdin !== undefined) {
    const writer = child.stdin.getWriter();
    const bytes = typeof stdin === "string" ? new TextEncoder().encode(stdin) : stdin;
    // A program may end without having read all that it was given.
    await writer.write(bytes).then(() => writer.close()).catch(() => {});
  }
  const { code, stdout, stderr } = await child.output();
  clearTimeout(timer);
  const decoder = new TextDecoder();
  return { code, stdout: decoder.decode(stdout), stderr: decoder.decode(stderr) };
}

/** A network namespace beside our own, kept by a process that ends with us, whatever happens to us. */
export class Namespace implements AsyncDisposable {
  readonly pid: number;
  #holder: Deno.ChildProcess;

  private constructor(holder: Deno.ChildProcess) {
    this.#holder = holder;
    this.pid = holder.pid;
  }

  static async create(): Promise<Namespace> {
    // `cat` ends when its standard input does: nothing is left behind even if this process is killed.
    const command = new Deno.Command("unshare", {
      args: ["-n", "sh", "-c", "echo in; exec cat"],
      stdin: "piped",
      stdout: "piped",
      stderr: "null",
    });
    const holder = command.spawn();
    const reader = holder.stdout.getReader();
    const { done } = await reader.read();
    reader.releaseLock();
    if (done) throw new Error("Cannot create a network namespace: unshare -n was refused");
    const namespace = new Namespace(holder);
    await namespace.run("ip", ["link", "set", "lo", "up"]);
    return namespace;
  }

  /** The words to put before a program so that it runs inside. */
  get prefix(): string[] {
    return ["nsenter", "-t", String(this.pid), "-n", "--"];
  }

  run(program: string, args: string[], options?: RunOptions): Promise<RunResult> {
    return run("nsenter", [...this.prefix.slice(1), program, ...args], options);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#holder.stdin.close();
    await this.#holder.stdout.cancel();
    await this.#holder.status;
  }
}
