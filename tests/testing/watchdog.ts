/**
 * Runs a command that must not hang the run of all tests: after its time it is asked which test it is in, and ended with
 * every process that it has started.
 *
 * @module
 */

export interface WatchOptions {
  cwd?: string;
  env?: Record<string, string>;
  /** Ends the command after so many milliseconds. */
  limitMs: number;
}

export interface Watched {
  code: number;
  /** It had to be ended. */
  hung: boolean;
}

/** Between asking and killing: `deno test` needs a moment to print the names of the tests that it is in. */
const GRACE_MS = 3_000;

/** One process at one time: a number alone may be somebody else's by the time that it is used. */
interface Process {
  pid: number;
  parent: number;
  startedAt: string;
}

function readProcess(pid: number): Process | null {
  try {
    // The name, in parentheses, may contain anything; what follows the last one is numbers.
    const text = Deno.readTextFileSync(`/proc/${pid}/stat`);
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return { pid, parent: Number(fields[1]), startedAt: fields[19] };
  } catch {
    return null; // it has ended
  }
}

/** `pid` and all that it started, the youngest generation last. */
function family(pid: number): Process[] {
  const all = [...Deno.readDirSync("/proc")].filter(({ name }) => /^\d+$/.test(name)).flatMap(({ name }) =>
    readProcess(Number(name)) ?? []
  );
  const found = all.filter((process) => process.pid === pid);
  for (let i = 0; i < found.length; i++) found.push(...all.filter(({ parent }) => parent === found[i].pid));
  return found;
}

function kill(pid: number, signal: Deno.Signal): void {
  try {
    Deno.kill(pid, signal);
  } catch { /* it has ended, or isn't ours any more */ }
}

/** Runs `command` to its end, or to the end of its time. Its input is empty, its output ours. */
export async function runWatched(command: string[], options: WatchOptions): Promise<Watched> {
  const { cwd, env, limitMs } = options;
  const [program, ...args] = command;
  const child = new Deno.Command(program, { args, cwd, env, stdin: "null" }).spawn();
  let ended: Promise<void> | null = null;
  const timer = setTimeout(() => {
    console.error(`Not done in ${limitMs / 1000} seconds: ended. The tests that it was in:`);
    ended = end(child.pid);
  }, limitMs);
  const { code } = await child.status;
  clearTimeout(timer);
  await ended;
  return { code, hung: ended !== null };
}

/** Asks, waits a moment, and kills whatever is left. */
async function end(pid: number): Promise<void> {
  // Listed first: whoever has lost his parent can't be found any more.
  const started = family(pid);
  // `deno test` answers SIGINT with the names of the pending tests; whoever starts it hands the signal on.
  kill(pid, "SIGINT");
  await new Promise((resolve) => setTimeout(resolve, GRACE_MS));
  for (const one of started) if (readProcess(one.pid)?.startedAt === one.startedAt) kill(one.pid, "SIGKILL");
}
