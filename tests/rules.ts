/**
 * Which rule of which RFC is kept where, and which test proves it: `deno task rules [--check]`.
 *
 * Reads the citations (`//= rfc9293#3.10.7.4` and the lines of the rule behind it) of code and tests, writes docs/rules.md,
 * and prints the rules without a test.
 *
 * @module
 */
import { type Citation, DOCUMENTS, type Kept, normal, requirements, state } from "./rules/requirements.ts";
import { read, ROOT, sourceFiles } from "./testing/sources.ts";

const DOCUMENT = "docs/rules.md";
const CITATION = /^\s*\/\/=\s*(rfc\d+)#(\S+)(?:\s+type=(test|exception))?(?:\s+reason=(.*))?\s*$/;

/** Every citation of a file. The comment lines behind the first are the rule's text. */
export function citationsOf(path: string, source: string): Citation[] {
  const lines = source.split("\n");
  const found: Citation[] = [];
  for (let i = 0; i < lines.length; i++) {
    const match = lines[i].match(CITATION);
    if (match === null) continue;
    const text: string[] = [];
    for (let j = i + 1; j < lines.length && /^\s*\/\/(?!=)/.test(lines[j]); j++) {
      text.push(lines[j].replace(/^\s*\/\/[#\s]*/, "").trim());
    }
    const kind = (match[3] ?? (path.startsWith("tests/") ? "test" : "code")) as Citation["kind"];
    found.push({ document: match[1], section: match[2], kind, reason: match[4]?.trim() ?? "", text: text.join(" "), path });
  }
  return found;
}

/** Every citation of the project. */
export function collect(): Citation[] {
  const folders = ["stack", "ffi", "drivers", "workers", "runtime", "gateway", "virtio_net", "examples", "tests"];
  // The tests of this tool hold citations that are only examples.
  const paths = folders.flatMap((folder) => [...sourceFiles(folder)]).filter((path) => !/^tests\/rules/.test(path));
  return paths.flatMap((path) => citationsOf(path, read(path)));
}

/** Sorts sections as people count: 3.9 before 3.10. */
function compare(a: Citation, b: Citation): number {
  const byDocument = Number(a.document.slice(3)) - Number(b.document.slice(3));
  return byDocument || a.section.localeCompare(b.section, "en", { numeric: true }) || (normal(a.text) < normal(b.text) ? -1 : 1);
}

interface Rule {
  id: string;
  text: string;
  code: Set<string>;
  tests: Set<string>;
  exceptions: Map<string, string>;
}

/** Citations of one rule together. A test may quote less of the rule than the code, or the other way round. */
export function rulesOf(citations: Citation[]): Rule[] {
  const rules: (Rule & { words: string })[] = [];
  for (const citation of [...citations].sort(compare)) {
    const id = `${citation.document}#${citation.section}`;
    const words = normal(citation.text);
    let rule = rules.find((other) => other.id === id && (other.words.startsWith(words) || words.startsWith(other.words)));
    if (rule === undefined) {
      rule = { id, words, text: citation.text, code: new Set(), tests: new Set(), exceptions: new Map() };
      rules.push(rule);
    }
    if (citation.text.length > rule.text.length) rule.text = citation.text;
    if (citation.kind === "test") rule.tests.add(citation.path);
    else if (citation.kind === "code") rule.code.add(citation.path);
    else rule.exceptions.set(citation.path, citation.reason);
  }
  return rules;
}

function cell(text: string): string {
  return text.replaceAll("|", "\\|").replaceAll("<", "&lt;");
}

function places(paths: Iterable<string>): string {
  return [...paths].map((path) => `[${path.split("/").slice(-2).join("/")}](../${path})`).join(", ") || "—";
}

/** The document that the task writes. */
export function render(rules: Rule[]): string {
  const kept = rules.filter((rule) => rule.code.size > 0 || (rule.tests.size > 0 && rule.exceptions.size === 0));
  const excepted = rules.filter((rule) => rule.exceptions.size > 0);
  const untested = kept.filter((rule) => rule.tests.size === 0);
  const lines = [
    "# Rules of the RFCs, where they are kept, and what proves it",
    "",
    "Written by `deno task rules` from the citations in the code; a test checks that it is current.",
    "",
    `${kept.length} rules, ${kept.length - untested.length} of them with a test; ${excepted.length} exceptions.`,
    "",
    "| rule | text | code | test |",
    "| --- | --- | --- | --- |",
    ...kept.map((rule) => `| ${rule.id} | ${cell(rule.text)} | ${places(rule.code)} | ${places(rule.tests)} |`),
    "",
    "## Where we differ",
    "",
    "| rule | text | code | reason |",
    "| --- | --- | --- | --- |",
    ...excepted.map((rule) => {
      const reasons = [...new Set(rule.exceptions.values())].join("; ");
      return `| ${rule.id} | ${cell(rule.text)} | ${places(rule.exceptions.keys())} | ${cell(reasons)} |`;
    }),
    "",
    "## Rules without a test",
    "",
    ...untested.map((rule) => `- ${rule.id}: ${cell(rule.text)}`),
    ...(untested.length === 0 ? ["None."] : []),
    "",
  ];
  return lines.join("\n");
}

/** What stands in the last column. */
function verdict(kept: Kept): string {
  const how = state(kept);
  if (how === "exception") return `exception: ${[...kept.exceptions].join("; ")}`;
  if (how === "not ours") return `not ours: ${kept.not}`;
  return how === "test" ? places(kept.tests) : how;
}

/** Sentence by sentence: the requirement summary of RFC 9293, and of the RFCs around it. */
export function renderRequirements(all: readonly Kept[]): string {
  const lines = ["", "# Every MUST, SHOULD and MAY of seven RFCs", ""];
  for (const document of DOCUMENTS) {
    const own = all.filter((kept) => kept.document === document);
    const count = (how: string) => own.filter((kept) => state(kept) === how).length;
    lines.push(
      `## ${document.toUpperCase().replace("RFC", "RFC ")}${document === "rfc9293" ? ", appendix B" : ""}`,
      "",
      `${own.length} sentences: ${count("test")} with a test, ${count("exception")} exceptions, ${
        count("not ours")
      } not said to ` +
        `a TCP, ${count("left out")} MAY that we don't, ${count("missing")} missing.`,
      "",
      "| id | section | text | code | test, or why not |",
      "| --- | --- | --- | --- | --- |",
      ...own.map((kept) =>
        `| ${kept.id} | ${kept.section} | ${cell(kept.text)} | ${places(kept.code)} | ${cell(verdict(kept))} |`
      ),
      "",
    );
  }
  return lines.join("\n");
}

/** The document as it should be, and as it is. */
export function current(): { wanted: string; found: string } {
  const citations = collect();
  const wanted = render(rulesOf(citations)) + renderRequirements(requirements(citations));
  try {
    return { wanted, found: read(DOCUMENT) };
  } catch {
    return { wanted, found: "" };
  }
}

if (import.meta.main) {
  const { wanted } = current();
  Deno.mkdirSync(`${ROOT}docs`, { recursive: true });
  Deno.writeTextFileSync(ROOT + DOCUMENT, wanted);
  for (const kept of requirements(collect())) {
    console.log(`${kept.document} ${kept.id.padEnd(8)} ${state(kept).padEnd(9)} ${kept.text.slice(0, 100)}`);
  }
  console.log(`\n${wanted.split("\n")[4]} The table is in ${DOCUMENT}.`);
}
