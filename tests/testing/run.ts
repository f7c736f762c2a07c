/**
 * Runs the tests, or the whole gate: `run.ts test [--long] [--limit SECONDS] [files or folders…]`, `run.ts ok`.
 *
 * Tests that need the real kernel (their files speak of TAPIOCA_KERNEL or of testing/namespace.ts) run in a network
 * namespace of their own; everything else runs where it is. The last line is `N passed, N failed, N skipped`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { bold, green, red, yellow } from "@std/fmt/colors";
import { findEnclosure } from "../../examples/demo/enclosure.ts";
import { runWatched } from "./watchdog.ts";

const ROOT = new URL("../../", import.meta.url).pathname;
/** A test that hangs must fail the run, in the time that a CI gives it. */
const PLAIN_LIMIT_MS = 6 * 60_000;
const KERNEL_LIMIT_MS = 15 * 60_000;
const LONG_LIMIT_MS = 90 * 60_000;
/** What a run that had to be ended counts as, whatever it says itself; `timeout` of the shell has the same. */
const HUNG = 124;
/** Tests compare our datagram sockets with Deno's own, which are still behind a flag. */
const TEST = ["test", "-A", "--unstable-net"];

interface Totals {
  passed: number;
  failed: number;
  skipped: number;
}

/** Test files below `folder`, as paths from the root of the project. */
function* testFiles(folder: string): Generator<string> {
  const entries = [...Deno.readDirSync(ROOT + folder)].sort((a, b) => a.name < b.name ? -1 : 1);
  for (const entry of entries) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* testFiles(path);
    else if (entry.name.endsWith("_test.ts")) yield path;
  }
}

/** The test files that the user named, by file or by folder. */
function chosenFiles(names: string[]): string[] {
  return names.flatMap((name) => {
    const path = name.replace(/^\.\//, "").replace(/\/$/, "");
    try {
      // A file from elsewhere too: the harness's own tests have some.
      if (path.startsWith("/")) return Deno.statSync(path).isFile ? [path] : [];
      return Deno.statSync(ROOT + path).isDirectory ? [...testFiles(path)] : [path];
    } catch {
      console.error(`run.ts: there is no ${name}`);
      Deno.exit(2);
    }
  });
}

function needsKernel(path: string): boolean {
  return /TAPIOCA_KERNEL|\/(namespace|kernel|testing\/bpf)\.ts"/.test(
    Deno.readTextFileSync(path.startsWith("/") ? path : ROOT + path),
  );
}

async function run(command: string[], env: Record<string, string> = {}, limitMs = PLAIN_LIMIT_MS): Promise<number> {
  const { code, hung } = await runWatched(command, { cwd: ROOT, env, limitMs });
  return hung ? HUNG : code;
}

/** Counts what a JUnit report says. A run that died before it wrote one is one failure. */
function count(report: string, code: number): Totals {
  let xml = "";
  try {
    xml = Deno.readTextFileSync(report);
  } catch {
    return { passed: 0, failed: 1, skipped: 0 };
  }
  const total = xml.match(/<testcase\b/g)?.length ?? 0;
  const skipped = xml.match(/<skipped\b/g)?.length ?? 0;
  const broken = xml.match(/<(failure|error)\b/g)?.length ?? 0;
  // A leaked resource outside a test, an uncaught error or a hang has no test case of its own.
  const failed = broken === 0 && code !== 0 ? 1 : broken;
  return { passed: Math.max(0, total - skipped - broken), failed, skipped };
}

/** `--limit` in milliseconds. */
let chosenLimitMs: number | undefined;

async function runFiles(prefix: string[], files: string[], env: Record<string, string>, flags: string[]): Promise<Totals> {
  if (files.length === 0) return { passed: 0, failed: 0, skipped: 0 };
  const report = Deno.makeTempFileSync({ prefix: "tapioca_", suffix: ".xml" });
  Deno.removeSync(report);
  const ordinary = prefix.length === 0 ? PLAIN_LIMIT_MS : KERNEL_LIMIT_MS;
  const limitMs = chosenLimitMs ?? (env.TAPIOCA_LONG === "1" ? LONG_LIMIT_MS : ordinary);
  const code = await run([...prefix, Deno.execPath(), ...flags, `--junit-path=${report}`, ...files], env, limitMs);
  const totals = count(report, code);
  await Deno.remove(report).catch(() => {});
  return totals;
}

function readSkips(path: string): string[] {
  return [...new Set(Deno.readTextFileSync(path).split("\n").filter((line) => line !== ""))];
}

async function test(long: boolean, chosen: string[]): Promise<boolean> {
  const files = chosen.length > 0 ? chosenFiles(chosen) : [...testFiles("tests")];
  const kernelFiles = files.filter(needsKernel);
  const plainFiles = files.filter((file) => !kernelFiles.includes(file));
  const skips = Deno.makeTempFileSync({ prefix: "tapioca_skips_" });
  const env: Record<string, string> = { TAPIOCA_SKIPS: skips, NO_COLOR: Deno.env.get("NO_COLOR") ?? "" };
  if (env.NO_COLOR === "") delete env.NO_COLOR;
  if (long) env.TAPIOCA_LONG = "1";
  const enclosure = findEnclosure();
  // Everything that may have to be downloaded is, before there is no network.
  if (kernelFiles.length > 0) await run([Deno.execPath(), "cache", "-q", ...kernelFiles], {});
  const plain = await runFiles([], plainFiles, env, [...TEST, "--parallel"]);
  const inside = ["run", "-A", "tests/testing/inside.ts", ...TEST];
  const kernel = enclosure.prefix === null
    ? await runFiles([], kernelFiles, env, TEST)
    : await runFiles(enclosure.prefix, kernelFiles, { ...env, TAPIOCA_KERNEL: "1" }, inside);
  const missing = readSkips(skips);
  Deno.removeSync(skips);
  for (const line of missing) console.log(yellow(`skipped: ${line}`));
  if (kernelFiles.length > 0 && enclosure.prefix === null) {
    console.log(yellow(`No test ran on a real kernel device: ${enclosure.reason}`));
  }
  if (enclosure.prefix !== null && kernelFiles.length > 0) {
    console.log(`On a real kernel, in ${enclosure.name}: ${kernel.passed + kernel.failed} tests of`);
    for (const file of kernelFiles) console.log(`  ${file}`);
  }
  // What went wrong may be far up by now.
  if (plain.failed > 0 && kernelFiles.length > 0) {
    console.error(red(`Of the tests without a kernel ${plain.failed} failed: see above`));
  }
  const failed = plain.failed + kernel.failed;
  console.log(`${plain.passed + kernel.passed} passed, ${failed} failed, ${plain.skipped + kernel.skipped} skipped`);
  // A right that the machine doesn't give can't be installed; a program can.
  const wanting = Deno.env.get("CI") === "true" && missing.some((line) => line.includes("apt-get install"));
  if (wanting) console.error(red("CI installs every program that a test needs: a skipped test is a failed run there."));
  // A run that found no test proves nothing.
  return failed === 0 && plain.passed + kernel.passed > 0 && !wanting;
}

/** The one gate: everything that must hold before a commit, cheapest first. */
async function ok(): Promise<boolean> {
  const deno = Deno.execPath();
  const steps: [string, string[]][] = [
    ["format", [deno, "fmt", "--check", "-q"]],
    ["lint", [deno, "lint", "-q"]],
    ["types", [deno, "check", "-q", "."]],
    ["documentation", [deno, "doc", "--lint", "mod.ts"]],
    ["package", [deno, "publish", "--dry-run", "--allow-dirty", "-q"]],
    ["documented examples", [
      deno,
      "test",
      "-A",
      "-q",
      "--doc",
      "mod.ts",
      "stack",
      "drivers",
      "workers",
      "gateway",
      "runtime",
      "virtio_net",
      "ffi",
    ]],
  ];
  const broken: string[] = [];
  for (const [name, command] of steps) {
    console.log(bold(`# ${name}`));
    if (await run(command) !== 0) broken.push(name);
  }
  console.log(bold("# tests (the layers, style and README among them)"));
  if (!await test(false, [])) broken.push("tests");
  console.log(broken.length === 0 ? green("ok") : red(`not ok: ${broken.join(", ")}`));
  return broken.length === 0;
}

if (import.meta.main) {
  const options = parseArgs(Deno.args, { boolean: ["long"], string: ["limit"] });
  const [command, ...files] = options._.map(String);
  const limit = options.limit === undefined ? undefined : Number(options.limit);
  if ((command !== "test" && command !== "ok") || (limit !== undefined && !(limit > 0))) {
    console.error("usage: run.ts test [--long] [--limit SECONDS] [files…] | run.ts ok");
    Deno.exit(2);
  }
  if (limit !== undefined) chosenLimitMs = limit * 1000;
  Deno.exit((command === "ok" ? await ok() : await test(options.long === true, files)) ? 0 : 1);
}
