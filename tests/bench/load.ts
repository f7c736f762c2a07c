/**
 * Which load client runs, and running it: the one in C where there is a compiler (`gcc`, `cc` or `clang`), because a client
 * in TypeScript would be what is measured at high rates; else the one in TypeScript.
 *
 * @module
 */
import { findProgram, type Namespace, ROOT, run } from "../testing/namespace.ts";
import { type Measurement, SERVER, type Test } from "./suite.ts";

const DENO = Deno.execPath();

/** The words that start a program of the benchmark. */
export interface Tools {
  /** For people: what drove the load, and what served on the kernel's sockets. */
  name: string;
  inC: boolean;
  load: string[];
  serve: string[];
  taskset: string | null;
  /** For what lives as long as the run. */
  folder: string;
}

/** Compiles the programs in C into `folder`. Without a compiler, or when it fails, those in TypeScript are used. */
export async function findTools(folder: string, noC: boolean): Promise<Tools> {
  const taskset = navigator.hardwareConcurrency > 1 ? findProgram("taskset") : null;
  const compiler = noC ? undefined : ["gcc", "cc", "clang"].map(findProgram).find((path) => path !== null);
  if (compiler !== undefined) {
    const results = [];
    for (const name of ["load", "serve"]) {
      results.push(await run(compiler, ["-O2", "-o", `${folder}/${name}`, `${ROOT}tests/bench/${name}.c`]));
    }
    const failed = results.find(({ code }) => code !== 0);
    if (failed === undefined) {
      return { name: "in C, one thread", inC: true, load: [`${folder}/load`], serve: [`${folder}/serve`], taskset, folder };
    }
    console.error(`bench: ${compiler}: ${failed.stderr.trim().split("\n")[0]}; the client in TypeScript is used`);
  }
  const script = (name: string) => [DENO, "run", "-A", "--unstable-net", `${ROOT}tests/bench/${name}.ts`];
  const name = "in TypeScript, on Deno's sockets";
  return { name, inC: false, load: script("client"), serve: script("kernel_server"), taskset, folder };
}

/** Puts all threads of a process on one processor, or lets them run on all again. */
async function pin(tools: Tools, pid: number, on: boolean): Promise<void> {
  const processors = on ? "0" : `0-${navigator.hardwareConcurrency - 1}`;
  await run(tools.taskset!, ["-a", "-c", "-p", processors, String(pid)]);
}

/** One run of the load client from inside `client`. A run that fails gives a measurement that says so. */
export async function measure(
  tools: Tools,
  client: Namespace,
  test: Test,
  seconds: number,
  serverPid: number,
): Promise<Measurement> {
  if (test.needsC && !tools.inC) return { value: NaN, failed: "needs the client in C: apt-get install gcc libc6-dev" };
  const pinned = test.pinned === true && tools.taskset !== null;
  const [mode, ...more] = test.load;
  const [program, ...words] = [...(pinned ? [tools.taskset!, "-c", "0"] : []), ...tools.load];
  const args = [...words, mode, SERVER, ...more, "-t", String(seconds), "-p", String(serverPid)];
  if (pinned) await pin(tools, serverPid, true);
  const { code, stdout, stderr } = await client.run(program, args, { timeoutMs: seconds * 1000 + 15_000 });
  if (pinned) await pin(tools, serverPid, false);
  if (code !== 0) return { value: NaN, failed: stderr.trim().split("\n")[0] || `the client ended with ${code}` };
  const measurement: Measurement = JSON.parse(stdout);
  return measurement.value > 0 ? measurement : { ...measurement, value: NaN, failed: "nothing came back" };
}

/** When the server first answered, as a time of day in milliseconds; rejects when it doesn't. */
export async function firstAnswer(tools: Tools, client: Namespace): Promise<number> {
  const [program, ...words] = tools.load;
  const { code, stdout, stderr } = await client.run(program, [...words, "first", SERVER], { timeoutMs: 30_000 });
  if (code !== 0) throw new Error(stderr.trim().split("\n")[0] || "the server doesn't answer");
  return JSON.parse(stdout).value;
}

/** Opens connections and holds them while `look` looks; gives how many there were, and what `look` gave. */
export async function withIdle<T>(
  tools: Tools,
  client: Namespace,
  connections: number,
  look: () => Promise<T>,
): Promise<[number, T]> {
  const [program, ...words] = [...client.prefix, ...tools.load, "idle", SERVER, "-n", String(connections)];
  const child = new Deno.Command(program, { args: words, stdin: "piped", stdout: "piped", stderr: "null" }).spawn();
  const timer = setTimeout(() => child.kill("SIGKILL"), 60_000);
  try {
    const reader = child.stdout.getReader();
    const { value, done } = await reader.read();
    reader.releaseLock();
    if (done) throw new Error("could not open them all");
    return [JSON.parse(new TextDecoder().decode(value)).value, await look()];
  } finally {
    clearTimeout(timer);
    await child.stdin.close();
    await child.stdout.cancel();
    await child.status;
  }
}
