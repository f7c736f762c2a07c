/**
 * Measures our stack on a TAP, with and without offload, beside the kernel's own over a veth pair and whoever else is there
 * (slirp4netns, pasta, and the peers in the folder that `PEERS` names), in interleaved rounds of one run; then our stack alone
 * over a cable in memory. Prints medians and spread: compare only within one run.
 *
 *     deno task bench [--quick] [--rounds 5] [--seconds 1] [--only NAME,…] [--tests NAME,…] [--json] [--no-c]
 *                     [--save FILE] [--compare [FILE]]
 *
 * `--only` and `--tests` take beginnings of names: `--only tapioca,kernel --tests in,out`. `--no-c` does as if
 * there were no C compiler. `--json` prints the summary instead of tables, `--save` writes it, `--compare` divides it by an earlier one (tests/bench/baseline.json) and ends with 1 if we fell.
 *
 * @module
 */
import { delay } from "@std/async/delay";
import { parseArgs } from "@std/cli/parse-args";
import { findEnclosure } from "../../examples/demo/enclosure.ts";
import { setLoopbackUp } from "../testing/loopback.ts";
import { findProgram, ROOT } from "../testing/namespace.ts";
import { measureCable } from "./cable.ts";
import { findTools, measure, type Tools, withIdle } from "./load.ts";
import { compare, printCable, printSummary, summarize, type Summary } from "./report.ts";
import { type Footprint, type Results, type Test, TESTS } from "./suite.ts";
import { type Entry, findWorlds } from "./worlds.ts";

const USAGE = `usage: bench.ts [--quick] [--rounds 5] [--seconds 1] [--only NAME,…] [--tests NAME,…] [--json] [--no-c]
  [--save FILE] [--compare [FILE]]
The VLAN forwarder is measured by: deno task bench:xdp`;
const BASELINE = `${ROOT}tests/bench/baseline.json`;
const IDLE_CONNECTIONS = 10_000;
const IDLE_WARM_UP = 500;
const IDLE_MS = 2000;
/** What a burst left behind is cleared away first: V8 collects for a second or two. */
const SETTLE_MS = 1500;
/** After so long without work V8 gives back what it had kept for more. */
const GIVEN_BACK_MS = 35_000;
/** How a failure begins that concerns the whole server. */
const ABSENT = "not measured: ";

interface Options {
  rounds: number;
  seconds: number;
  worlds: (name: string) => boolean;
  tests: Test[];
  idle: number;
}

/** Resident bytes of a process. */
function memoryOf(pid: number): number {
  return Number(Deno.readTextFileSync(`/proc/${pid}/status`).match(/VmRSS:\s+(\d+)/)?.[1] ?? 0) * 1024;
}

/** Processor time of all threads of a process, in milliseconds: schedstat counts nanoseconds, where stat has only ticks. */
function busyMs(pid: number): number {
  let ns = 0;
  for (const { name } of Deno.readDirSync(`/proc/${pid}/task`)) {
    try {
      ns += Number(Deno.readTextFileSync(`/proc/${pid}/task/${name}/schedstat`).split(" ")[0]);
    } catch { /* a thread that has ended */ }
  }
  return ns / 1e6;
}

/** How busy a process is that has nothing to do, in percent. */
async function idlePercent(pid: number): Promise<number> {
  await delay(SETTLE_MS);
  const before = busyMs(pid);
  await delay(IDLE_MS);
  return (busyMs(pid) - before) / IDLE_MS * 100;
}

/** Time and memory of a fresh server, and what idle connections add, after some that were opened and closed before. */
async function footprint(tools: Tools, entry: Entry, idle: number, patient: boolean): Promise<Footprint> {
  await using world = await entry.start();
  const { pid, client, firstAnswerMs } = world;
  const firstAnswerMiB = memoryOf(pid) / 2 ** 20;
  const idleAlone = await idlePercent(pid);
  await withIdle(tools, client, IDLE_WARM_UP, () => Promise.resolve());
  await delay(300);
  const before = memoryOf(pid);
  const [connections, [added, idleOpenPercent, kept]] = await withIdle(tools, client, idle, async () => {
    const added = memoryOf(pid) - before;
    const percent = await idlePercent(pid);
    if (patient) await delay(GIVEN_BACK_MS);
    return [added, percent, patient ? memoryOf(pid) - before : NaN] as const;
  });
  return {
    firstAnswerMs,
    firstAnswerMiB,
    idlePercent: idleAlone,
    idleOpenPercent,
    connectionsMiB: added / 2 ** 20,
    connectionsKeptMiB: kept / 2 ** 20,
    bytesPerConnection: added / connections,
    connections,
  };
}

async function measureWorld(tools: Tools, entry: Entry, round: number, options: Options, results: Results): Promise<void> {
  const { measurements, footprints } = results;
  const tests = measurements[entry.name] ??= {};
  const early = options.tests.some(({ name }) => tests[name]?.some(({ failed }) => failed?.startsWith(ABSENT)));
  // A server that never answered won't in the next round either.
  if (early) return;
  try {
    await using world = await entry.start();
    for (const test of options.tests) {
      console.error(`round ${round} of ${options.rounds}: ${entry.name}, ${test.name}`);
      (tests[test.name] ??= []).push(await measure(tools, world.client, test, options.seconds, world.pid));
    }
  } catch (error) {
    for (const test of options.tests) {
      (tests[test.name] ??= []).push({ value: NaN, failed: `${ABSENT}${(error as Error).message}` });
    }
    return;
  }
  if (entry.kernel || round > Math.min(3, options.rounds)) return;
  try {
    const found = await footprint(tools, entry, options.idle, round === 1 && options.idle === IDLE_CONNECTIONS);
    (footprints[entry.name] ??= []).push(found);
  } catch (error) {
    console.error(`round ${round} of ${options.rounds}: ${entry.name}, idle connections: ${(error as Error).message}`);
  }
}

async function measureAll(tools: Tools, options: Options): Promise<Results> {
  const results: Results = { measurements: {}, footprints: {} };
  const entries = findWorlds(tools).filter(({ name }) => options.worlds(name));
  for (let round = 1; round <= options.rounds; round++) {
    for (const entry of entries) await measureWorld(tools, entry, round, options, results);
  }
  return results;
}

function fail(message: string): never {
  console.error(`bench: ${message}`);
  Deno.exit(2);
}

function readArguments() {
  const values = parseArgs(Deno.args, {
    boolean: ["json", "inside", "quick", "no-c"],
    string: ["rounds", "seconds", "only", "tests", "save", "compare"],
    unknown: (argument) => fail(`unknown argument ${argument}. ${USAGE}`),
  });
  const number = (name: string, otherwise: number) => {
    const value = Number(values[name] ?? otherwise);
    if (!(value > 0)) fail(`--${name} must be a number above 0. ${USAGE}`);
    return value;
  };
  const chosen = (name: string) => {
    const starts = values[name] === undefined ? [""] : String(values[name]).split(",");
    return (text: string) => starts.some((start) => text.startsWith(start));
  };
  const isTest = chosen("tests");
  const quick = values.quick === true;
  const ours = (name: string) => name.startsWith("tapioca") || name === "kernel, veth";
  const options: Options = {
    rounds: number("rounds", quick ? 1 : 5),
    seconds: number("seconds", quick ? 0.3 : 1),
    worlds: quick && values.only === undefined ? ours : chosen("only"),
    tests: TESTS.filter(({ name }) => isTest(name)),
    idle: quick ? 1000 : IDLE_CONNECTIONS,
  };
  if (options.tests.length === 0) fail(`no test begins with ${values.tests}: ${TESTS.map(({ name }) => name).join("; ")}`);
  return { options, values };
}

/** Runs this program again, in namespaces of its own. */
async function enclose(): Promise<number> {
  const enclosure = findEnclosure();
  if (enclosure.prefix === null) throw new Error(`Cannot measure a TAP: ${enclosure.reason}`);
  if (findProgram("ip") === null) throw new Error("Cannot make a veth pair without ip: apt-get install iproute2");
  const [program, ...words] = enclosure.prefix;
  const args = [...words, Deno.execPath(), "run", "-A", new URL(import.meta.url).pathname, ...Deno.args, "--inside"];
  return (await new Deno.Command(program, { args }).spawn().status).code;
}

async function main(): Promise<number> {
  const { options, values } = readArguments();
  if (!values.inside) return await enclose();
  const comparing = values.compare === undefined ? null : String(values.compare) || BASELINE;
  const before: Summary | null = comparing === null ? null : JSON.parse(await Deno.readTextFile(comparing));
  setLoopbackUp();
  const folder = await Deno.makeTempDir({ prefix: "tapioca_bench_" });
  try {
    const tools = await findTools(folder, values["no-c"] === true);
    const results = await measureAll(tools, options);
    const cable = await measureCable(options.seconds);
    const summary = summarize(results, { client: tools.name, rounds: options.rounds, seconds: options.seconds, cable });
    if (values.save) await Deno.writeTextFile(String(values.save), JSON.stringify(summary, null, 2) + "\n");
    if (values.json) console.log(JSON.stringify(summary));
    else printAll(summary, options);
    return before !== null && !compare(summary, before, options.tests) ? 1 : 0;
  } finally {
    await Deno.remove(folder, { recursive: true });
  }
}

function printAll(summary: Summary, { tests, rounds, seconds }: Options): void {
  printSummary(summary, tests);
  printCable(summary.cable);
  const { machine } = summary;
  console.log(
    `Medians of ${rounds} interleaved rounds of ${seconds} s, ± half the range. "in" is from the kernel into the server, acknowledged ` +
      `bytes. Blast counts the echoes that came back.\nLoad client: ${summary.client}. ${machine.processors} processors (${machine.cpu}), ` +
      `Linux ${machine.kernel}, Deno ${machine.deno}; client and server share them: compare within this run only.`,
  );
}

try {
  Deno.exit(await main());
} catch (error) {
  console.error(`bench: ${(error as Error).message}`);
  Deno.exit(1);
}
