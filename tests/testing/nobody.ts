/**
 * What a test needs to run the project as user nobody: copies of what root's home hides.
 *
 * @module
 */
import { ROOT, run } from "./namespace.ts";

const NOBODY = "65534";

/** A folder that nobody can read and write, with all that is needed to run the project. */
export async function copyForNobody(folder: string): Promise<void> {
  await Deno.mkdir(`${folder}/project`);
  await Deno.mkdir(`${folder}/cache`);
  await Deno.copyFile(Deno.execPath(), `${folder}/deno`);
  const info = await run(Deno.execPath(), ["info", "--json"]);
  const { npmCache } = JSON.parse(info.stdout);
  await run("cp", ["-r", npmCache, `${folder}/cache/npm`]);
  // What is published is what there is, but for the tests.
  const { publish } = JSON.parse(await Deno.readTextFile(`${ROOT}deno.json`)) as { publish: { include: string[] } };
  const parts = [...publish.include, "deno.lock", "tests"];
  await run("cp", ["-r", ...parts.map((part) => ROOT + part), `${folder}/project`]);
  await run("chown", ["-R", `${NOBODY}:${NOBODY}`, folder]);
  await run("mknod", ["-m", "666", `${folder}/tun`, "c", "10", "200"]);
}

/** The words that run a command as nobody, in such a folder. */
export function wordsOfNobody(folder: string, command: string[]): string[] {
  const identity = ["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "--reset-env"];
  const environment = [`HOME=${folder}`, `DENO_DIR=${folder}/cache`, "PATH=/usr/bin:/bin"];
  return ["setpriv", ...identity, "env", "-C", folder, ...environment, ...command];
}
