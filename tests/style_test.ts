/**
 * Files and functions a person can read, names that say what they are, documents on everything public.
 */
import { assert, assertEquals } from "@std/assert";
import { blank, read, ROOT, sourceFiles } from "./testing/sources.ts";

const FILE_LINES_MAX = 400;
const FUNCTION_LINES_MAX = 70;

function files(): string[] {
  return [
    "mod.ts",
    ...["ffi", "stack", "drivers", "workers", "gateway", "runtime", "virtio_net", "examples", "tests"].flatMap((
      folder,
    ) => [...sourceFiles(folder)]),
  ];
}

/** A brace that opens a function's body: what stands before it ends a parameter list, a return type or an arrow. */
const BODY = /(?:=>|\)(?:\s*:\s*[^={};]*(?:\{[^{}]*\}[^={};]*)?)?)\s*$/;
const NOT_A_FUNCTION = /\b(?:if|for|while|switch|catch|with)\s*(?:await\s*)?\([\s\S]*\)\s*$/;

/** Where the statement or member that ends at `end` begins. */
function headStart(code: string, end: number): number {
  let depth = 0;
  for (let i = end - 1; i >= 0; i--) {
    const c = code[i];
    if (c === ")" || c === "]" || c === ">") depth += c === ">" ? 0 : 1;
    else if (c === "(" || c === "[") {
      if (depth === 0) return i + 1;
      depth--;
    } else if (depth === 0 && (c === ";" || c === "{" || c === "}")) return i + 1;
  }
  return 0;
}

/** First lines and lengths of the functions of a source text. */
export function functionLengths(source: string): { line: number; length: number }[] {
  const code = blank(source);
  const found: { line: number; length: number }[] = [];
  const open: { start: number; isFunction: boolean }[] = [];
  let line = 1;
  for (let i = 0; i < code.length; i++) {
    if (code[i] === "\n") line++;
    else if (code[i] === "{") {
      const head = code.slice(headStart(code, i), i);
      open.push({ start: line, isFunction: BODY.test(head) && !NOT_A_FUNCTION.test(head) });
    } else if (code[i] === "}") {
      const block = open.pop();
      if (block?.isFunction) found.push({ line: block.start, length: line - block.start + 1 });
    }
  }
  return found;
}

Deno.test("no file is longer than 400 lines", () => {
  const long = files().map((path) => [path, read(path).split("\n").length - 1] as const).filter(([, lines]) =>
    lines > FILE_LINES_MAX
  );
  assertEquals(long, []);
});

Deno.test("no function is longer than 70 lines", () => {
  const long = files().flatMap((path) =>
    functionLengths(read(path))
      .filter(({ length }) => length > FUNCTION_LINES_MAX)
      .map(({ line, length }) => `${path}:${line} ${length} lines`)
  );
  assertEquals(long, []);
});

Deno.test("files and folders are snake_case", () => {
  assertEquals(files().filter((path) => !/^([a-z0-9_]+\/)*[a-z0-9_]+(\.d)?\.ts$/.test(path)), []);
});

Deno.test("the style test sees a long function, and doesn't take a block for one", () => {
  const body = "  a();\n".repeat(80);
  assertEquals(functionLengths(`function f(a: { b: 1 }): void {\n${body}}\n`).map((f) => f.length), [82]);
  assertEquals(functionLengths(`if (a(b)) {\n${body}}\n`), []);
  assertEquals(functionLengths(`class A {\n  b() {\n${body}  }\n}\n`).map((f) => f.length), [82]);
  assertEquals(functionLengths(`const f = () => {\n${body}};\nconst s = "{";\n`).map((f) => f.length), [82]);
});

Deno.test("everything that mod.ts exports is documented", async () => {
  const command = new Deno.Command(Deno.execPath(), {
    args: ["doc", "--json", "mod.ts"],
    cwd: ROOT,
    stdout: "piped",
    stderr: "piped",
  });
  const { stdout, success, stderr } = await command.output();
  assert(success, new TextDecoder().decode(stderr));
  assertEquals(undocumented(JSON.parse(new TextDecoder().decode(stdout))), []);
});

interface DocumentedSymbol {
  name: string;
  declarations?: { declarationKind?: string; jsDoc?: { doc?: string }; kind?: string }[];
}

/** Names of the exported symbols without a word of documentation. */
function undocumented(json: { nodes: Record<string, { symbols: DocumentedSymbol[] }> }): string[] {
  const symbols = Object.values(json.nodes).flatMap((module) => module.symbols);
  assert(symbols.length > 0, "deno doc --json has changed its form");
  return symbols.filter(({ declarations = [] }) => {
    const exported = declarations.filter(({ declarationKind }) => declarationKind !== "private");
    return exported.length > 0 && exported.every(({ jsDoc }) => !jsDoc?.doc);
  }).map(({ name }) => name);
}
