/** A run of tests that hangs ends, says which test it was in, and leaves no process behind; in a namespace too. */
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { ROOT, run } from "./namespace.ts";

/** Makes the runner take a file for one that needs a kernel device, and so a namespace. */
const IN_NAMESPACE = "// TAPIOCA_KERNEL\n";
/** Written to files of their own, since they must not be found by a run of everything. */
const HANGS = [
  {
    name: "waits for what never comes",
    prefix: IN_NAMESPACE,
    body: `const child = new Deno.Command("sleep", { args: ["7654"] }).spawn();
     await Deno.writeTextFile(Deno.env.get("CHILD_FILE")!, String(child.pid));
     await new Promise((resolve) => setTimeout(resolve, 1e9));`,
  },
  { name: "goes round for ever", prefix: "", body: "for (;;);" },
];
/** Seconds for the run: enough to come as far as the test; the second is for a machine that is very busy. */
const LIMITS = [10, 60];

/** Runs a file with a test that hangs, and checks how it is ended. False if its time was over before the test had begun. */
async function endsWell(name: string, body: string, prefix: string, limit: number): Promise<boolean> {
  const folder = await Deno.makeTempDir({ prefix: "tapioca_watchdog_" });
  const path = `${folder}/hang_test.ts`;
  const childFile = `${folder}/child`;
  await Deno.writeTextFile(path, `${prefix}Deno.test("it ${name}", async () => { await 0; ${body} });\n`);
  const args = ["run", "-A", "tests/testing/run.ts", "test", "--limit", String(limit), path];
  const options = { env: { CHILD_FILE: childFile, NO_COLOR: "1" }, timeoutMs: (limit + 60) * 1000 };
  const { code, stdout, stderr } = await run(Deno.execPath(), args, options);
  const child = await Deno.readTextFile(childFile).catch(() => null);
  await Deno.remove(folder, { recursive: true });
  assertEquals(code, 1, stdout + stderr);
  assertStringIncludes(stderr, `Not done in ${limit} seconds`);
  assertStringIncludes(stdout, "0 passed, 1 failed");
  if (child !== null) assert(!isAlive(child), `process ${child} that the test had started is still there`);
  const begun = stdout.includes("were pending");
  if (begun) assertStringIncludes(stdout.slice(stdout.indexOf("were pending")), `it ${name} => `);
  return begun;
}

Deno.test("watchdog: a run that hangs is ended with all that it has started, and says in which test it was", async () => {
  await Promise.all(HANGS.map(async ({ name, body, prefix }) => {
    for (const limit of LIMITS) if (await endsWell(name, body, prefix, limit)) return;
    throw new Error(`A test that ${name} had not begun after ${LIMITS.at(-1)} seconds`);
  }));
});

function isAlive(pid: string): boolean {
  try {
    // A zombie has ended; its new parent may not have noticed yet.
    return !/^State:\s+Z/m.test(Deno.readTextFileSync(`/proc/${pid}/status`));
  } catch {
    return false;
  }
}

Deno.test("watchdog: a file that isn't there, a limit that is none", async () => {
  for (const args of [["test", "tests/no_such_test.ts"], ["test", "--limit", "soon"], ["tset"]]) {
    const { code, stderr } = await run(Deno.execPath(), ["run", "-A", `${ROOT}tests/testing/run.ts`, ...args]);
    assertEquals([code, stderr.trim().split("\n").length], [2, 1], stderr);
  }
});
