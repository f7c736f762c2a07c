/**
 * The rules that RFC 9293's appendix B and six more RFCs lay down, each with the place, the test or the exception that the
 * citations tell of. The texts are the RFCs' own: every sentence with MUST, SHOULD or MAY that an implementation can keep.
 *
 * @module
 */
import { read } from "../testing/sources.ts";

/** Documents with a list, `tests/rules/<name>.json`. */
export const DOCUMENTS = ["rfc9293", "rfc2018", "rfc5681", "rfc5961", "rfc6298", "rfc7323", "rfc8985"] as const;

/** One `//=` citation. */
export interface Citation {
  document: string;
  section: string;
  kind: "code" | "test" | "exception";
  reason: string;
  text: string;
  path: string;
}

/** One sentence. */
export interface Requirement {
  /** The RFC's own label, or section and count. */
  id: string;
  section: string;
  level: "MUST" | "SHOULD" | "MAY";
  text: string;
  /** Why it is nothing that this code could keep or break: it speaks to somebody else, or of something else. */
  not?: string;
}

/** A sentence with what the citations say of it. */
export interface Kept extends Requirement {
  document: string;
  code: Set<string>;
  tests: Set<string>;
  exceptions: Set<string>;
}

/** Words only: how a text is wrapped and quoted doesn't matter. */
export function normal(text: string): string {
  return text.toLowerCase().replace(/[^a-z0-9]+/g, " ").trim();
}

/** The pieces of a quotation between its ellipses. */
function pieces(text: string): string[] {
  return text.split(/…|\.\.\./).map(normal).filter((piece) => piece !== "");
}

const LABEL = /\b(?:MUST|SHLD|MAY|REC)-\d+\b/g;
/** Fewer words than this could be of any sentence. */
const WORDS_MIN = 5;

/** True when the citation quotes the sentence, or a part of it that is long enough to tell it from others. */
export function quotes(citation: Citation, requirement: Requirement): boolean {
  if (citation.section !== requirement.section && !citation.section.startsWith(requirement.section + ".")) return false;
  const labels = citation.text.match(LABEL);
  if (labels !== null && /^[A-Z]+-\d+$/.test(requirement.id)) return labels.includes(requirement.id);
  const whole = ` ${normal(requirement.text)} `;
  return pieces(citation.text).some((piece) =>
    ` ${piece} `.includes(whole) || (piece.split(" ").length >= WORDS_MIN && whole.includes(` ${piece} `))
  );
}

/** Every sentence of every list, with its citations. */
export function requirements(citations: readonly Citation[]): Kept[] {
  return DOCUMENTS.flatMap((document) => {
    const list = JSON.parse(read(`tests/rules/${document}.json`)) as Requirement[];
    const own = citations.filter((citation) => citation.document === document);
    return list.map((requirement) => {
      const kept: Kept = { ...requirement, document, code: new Set(), tests: new Set(), exceptions: new Set() };
      for (const citation of own) {
        if (!quotes(citation, requirement)) continue;
        if (citation.kind === "test") kept.tests.add(citation.path);
        else if (citation.kind === "code") kept.code.add(citation.path);
        else kept.exceptions.add(citation.reason);
      }
      return kept;
    });
  });
}

/** How it stands with a sentence. */
export function state(kept: Kept): "test" | "exception" | "not ours" | "left out" | "missing" {
  if (kept.exceptions.size > 0) return "exception";
  if (kept.tests.size > 0) return "test";
  if (kept.not !== undefined) return "not ours";
  return kept.level === "MAY" ? "left out" : "missing";
}

/** Labels in citations whose words are not the RFC's: `rfc9293#3.1 MUST-6: …`. */
export function misquoted(citations: readonly Citation[]): string[] {
  const list = JSON.parse(read("tests/rules/rfc9293.json")) as Requirement[];
  const found: string[] = [];
  for (const citation of citations) {
    if (citation.document !== "rfc9293") continue;
    for (const label of citation.text.match(LABEL) ?? []) {
      // The sentence of the label, or one of the same section that only mentions it.
      const requirement = list.find((one) => one.section === citation.section && one.text.includes(label));
      const words = requirement === undefined ? "" : normal(requirement.text);
      const same = pieces(citation.text).some((piece) => words.includes(piece) || piece.includes(words));
      if (requirement === undefined || !same) {
        found.push(`${citation.path}: ${citation.document}#${citation.section} ${label}: ${citation.text}`);
      }
    }
  }
  return found;
}
