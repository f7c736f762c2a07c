/**
 * The project's own source text, for the tests and tools that read it.
 *
 * @module
 */

export const ROOT: string = new URL("../../", import.meta.url).pathname;

/** Every TypeScript file below `folder`, as paths from the root of the project, sorted. */
export function* sourceFiles(folder: string): Generator<string> {
  let entries: Deno.DirEntry[];
  try {
    entries = [...Deno.readDirSync(ROOT + folder)];
  } catch (error) {
    if (error instanceof Deno.errors.NotFound) return;
    throw error;
  }
  for (const entry of entries.sort((a, b) => a.name < b.name ? -1 : 1)) {
    const path = `${folder}/${entry.name}`;
    if (entry.isDirectory) yield* sourceFiles(path);
    else if (entry.name.endsWith(".ts")) yield path;
  }
}

export function read(path: string): string {
  return Deno.readTextFileSync(ROOT + path);
}

/**
 * Source text with comments and the inside of strings blanked, line breaks and columns kept. Good for what `deno fmt`
 * leaves behind; a regular expression literal is known by what stands before it.
 */
export function blank(source: string): string {
  const out = source.split("");
  const hide = (from: number, to: number) => {
    for (let i = from; i < to; i++) if (out[i] !== "\n") out[i] = " ";
  };
  /** For every open `${`: how many braces are open inside it. */
  const holes: number[] = [];
  let at = 0;
  const template = () => {
    const start = at;
    while (at < source.length && source[at] !== "`" && !source.startsWith("${", at)) at += source[at] === "\\" ? 2 : 1;
    hide(start, at);
    if (source[at] === "`") at++;
    else {
      hide(at, at + 2);
      holes.push(0);
      at += 2;
    }
  };
  while (at < source.length) {
    const c = source[at];
    const rest = source.slice(at, at + 2);
    if (rest === "//" || rest === "/*") {
      const end = rest === "//" ? source.indexOf("\n", at) : source.indexOf("*/", at) + 2;
      hide(at, end < 2 ? source.length : end);
      at = end < 2 ? source.length : end;
    } else if (
      c === '"' || c === "'" ||
      (c === "/" && /(^|[=(,:;!&|?{}[+\n]|\breturn|=>)\s*$/.test(source.slice(Math.max(0, at - 40), at)))
    ) {
      const start = ++at;
      let inClass = false;
      while (at < source.length && (source[at] !== c || inClass) && source[at] !== "\n") {
        if (c === "/" && source[at] === "[") inClass = true;
        if (source[at] === "]") inClass = false;
        at += source[at] === "\\" ? 2 : 1;
      }
      hide(start, at++);
    } else if (c === "`") {
      at++;
      template();
    } else if (c === "}" && holes.at(-1) === 0) {
      holes.pop();
      hide(at, ++at);
      template();
    } else {
      if (holes.length > 0 && (c === "{" || c === "}")) holes[holes.length - 1] += c === "{" ? 1 : -1;
      at++;
    }
  }
  return out.join("");
}

/** What a file imports or re-exports, as it is written. */
export function importsOf(source: string): string[] {
  const pattern =
    /(?:^|\n)\s*(?:import|export)\b[^;"'`]*?from\s*"([^"]+)"|(?:^|\n)\s*import\s*"([^"]+)"|\bimport\(\s*"([^"]+)"\s*\)/g;
  // Comments hold examples with imports of their own.
  const bare = source.replace(/\/\*[\s\S]*?\*\//g, (comment) => comment.replace(/[^\n]/g, " ")).replace(/^\s*\/\/.*$/gm, "");
  return [...bare.matchAll(pattern)].map((match) => match[1] ?? match[2] ?? match[3]);
}

/** An import made a path from the root of the project, or left as it is when it isn't a relative one. */
export function resolveImport(from: string, specifier: string): string {
  if (!specifier.startsWith(".")) return specifier;
  return new URL(specifier, `file:///${from}`).pathname.slice(1);
}
