/**
 * Everything in the README and in docs/ is run. `ts` blocks are type-checked and run; `ts tap` ones and `sh kernel` in the namespace of
 * `deno task test`; `sh by-ci` is what CI itself calls.
 */
import { assert, assertEquals } from "@std/assert";
import { kernel, lacksPrograms, ROOT, run } from "./testing/namespace.ts";

interface Block {
  /** File that it stands in. */
  page: string;
  /** The words behind the fence. */
  kind: string;
  code: string;
  line: number;
}

const readme = Deno.readTextFileSync(`${ROOT}README.md`);

function blocks(page = "README.md", text = readme): Block[] {
  return [...text.matchAll(/^```(.*)\n([\s\S]*?)^```$/gm)].map((match) => {
    return { page, kind: match[1].trim(), code: match[2], line: text.slice(0, match.index).split("\n").length };
  });
}

/** Blocks of the pages in docs/. Those without a kind are drawings. */
function guideBlocks(): Block[] {
  const pages = [...Deno.readDirSync(`${ROOT}docs`)].map(({ name }) => name).filter((name) => name.endsWith(".md")).sort();
  return pages.flatMap((name) => blocks(`docs/${name}`, Deno.readTextFileSync(`${ROOT}docs/${name}`)))
    .filter(({ kind }) => kind !== "");
}

const KINDS = ["ts", "ts tap", "sh", "sh kernel", "sh by-ci"];

Deno.test("README: every block says what it is, and every file it speaks of is there", () => {
  assertEquals([...blocks(), ...guideBlocks()].filter(({ kind }) => !KINDS.includes(kind)), []);
  const links = [...readme.matchAll(/\]\(([^)#:]+)\)/g)].map((match) => match[1]);
  const named = [...readme.matchAll(/\b(?:examples|tests|stack|docs)\/[a-z_\/]+\.(?:ts|md)\b/g)].map((match) => match[0]);
  for (const path of [...links, ...named]) assert(Deno.statSync(ROOT + path).isFile, path);
  const tasks = Object.keys(JSON.parse(Deno.readTextFileSync(`${ROOT}deno.json`)).tasks);
  for (const [, task] of readme.matchAll(/\btask ([a-z:]+)/g)) assert(tasks.includes(task), `task ${task}`);
});

Deno.test("README: the CI calls the commands that it promises", () => {
  const ci = Deno.readTextFileSync(`${ROOT}.ci/run`);
  for (const { code } of blocks().filter(({ kind }) => kind === "sh by-ci")) assert(ci.includes(code.trim()), code);
});

Deno.test("README: the limits are those of the code", () => {
  const rows = [...readme.matchAll(/^\| [^|]+ \| ([\d, <]+?) +\| `(\w+)` in `([\w\/.]+)`/gm)];
  assert(rows.length > 10, "the table of limits has changed its form");
  for (const [, value, name, path] of rows) {
    const set = [...Deno.readTextFileSync(ROOT + path).matchAll(new RegExp(`\\b${name}(?: =|:) ([\\d_ <]+)`, "g"))];
    const values = set.map((match) => match[1].replaceAll("_", "").trim());
    assert(values.includes(value.replaceAll(",", "").trim()), `${name} is ${values} in ${path}, and ${value} in the README`);
  }
});

/** Runs a block as a reader would have it: a file beside mod.ts. */
async function runCode({ code, line, page }: Block): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "tapioca_readme_" });
  const path = `${folder}/line_${line}.ts`;
  await Deno.writeTextFile(path, code.replaceAll(/"\.\.?\/mod\.ts"/g, JSON.stringify(`file://${ROOT}mod.ts`)));
  const result = await run(Deno.execPath(), ["run", "--check", "-A", "--config", `${ROOT}deno.json`, path]);
  await Deno.remove(folder, { recursive: true });
  assertEquals(result.code, 0, `${page} line ${line}: ${result.stderr}`);
  assert(result.stdout.trim() !== "", `${page} line ${line} shows nothing`);
}

/** Runs a block with the Deno that runs this test, under the names that the README uses. */
async function runShell({ code, line, page }: Block): Promise<void> {
  const folder = await Deno.makeTempDir({ prefix: "tapioca_readme_" });
  await Deno.symlink(Deno.execPath(), `${folder}/deno`);
  const env = { PATH: `${folder}:${Deno.env.get("PATH")}:/usr/sbin:/sbin` };
  const result = await run("sh", ["-ec", code.replaceAll("npx -y deno@2.9.6", "deno")], { env, timeoutMs: 120_000 });
  await Deno.remove(folder, { recursive: true });
  assertEquals(result.code, 0, `${page} line ${line}: ${result.stdout}${result.stderr}`);
}

for (const block of [...blocks(), ...guideBlocks()]) {
  const name = `${block.page.replace(".md", "")} line ${block.line}: ${block.kind} block runs`;
  if (block.kind.startsWith("ts")) Deno.test({ name, ignore: block.kind === "ts tap" && !kernel, fn: () => runCode(block) });
  if (block.kind === "sh") Deno.test({ name, fn: () => runShell(block) });
  if (block.kind === "sh kernel") {
    const ignore = !kernel || lacksPrograms(["ping", "nc", "curl"], "iputils-ping netcat-openbsd curl");
    Deno.test({ name, ignore, fn: () => runShell(block) });
  }
}
