import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { citationsOf, collect, current, render, rulesOf } from "./rules.ts";
import { misquoted, requirements, state } from "./rules/requirements.ts";

Deno.test("docs/rules.md is current", () => {
  const { wanted, found } = current();
  assert(wanted === found, "docs/rules.md is not current: run `deno task rules` and commit it");
});

Deno.test("every MUST and SHOULD of the seven RFCs has a test, or an exception that says why", () => {
  const missing = requirements(collect()).filter((kept) => state(kept) === "missing");
  assertEquals(missing.map(({ document, id, text }) => `${document} ${id}: ${text}`), []);
  // The list itself must not shrink: what RFC 9293's appendix B counts, and the sentences of the others.
  const count = (document: string) => requirements([]).filter((kept) => kept.document === document).length;
  assertEquals(
    ["rfc9293", "rfc2018", "rfc5681", "rfc5961", "rfc6298", "rfc7323", "rfc8985"].map(count),
    [119, 19, 45, 18, 18, 53, 27],
  );
});

Deno.test("labels of RFC 9293 stand with the RFC's own words", () => assertEquals(misquoted(collect()), []));

Deno.test("every exception has a reason, and every citation the rule's text", () => {
  const bare = rulesOf([]);
  assertEquals(bare, []);
  const source =
    "//= rfc793#1.2 type=exception reason=because\n// A host MUST.\n  //= rfc793#1.10\n  //# It MUST\n  //# not.\ncode();\n";
  const [first, second] = citationsOf("stack/a.ts", source);
  assertEquals([first.kind, first.reason, first.text], ["exception", "because", "A host MUST."]);
  assertEquals([second.kind, second.section, second.text], ["code", "1.10", "It MUST not."]);
});

Deno.test("a rule is joined to the test that quotes less of it", () => {
  const code = citationsOf("stack/a.ts", "//= rfc1#2\n// A host MUST do this, always.\n");
  const test = citationsOf("tests/a_test.ts", "//= rfc1#2 type=test\n// A host must do this\n");
  const other = citationsOf("tests/b_test.ts", "//= rfc1#2 type=test\n// Another thing\n");
  const rules = rulesOf([...code, ...test, ...other]);
  assertEquals(rules.map((rule) => [rule.code.size, rule.tests.size]), [[1, 1], [0, 1]]);
  assertStringIncludes(render(rules), "2 rules, 2 of them with a test; 0 exceptions.");
});
