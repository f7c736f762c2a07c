/**
 * What the benchmark says: tables for people, a summary for programs, and the comparison with an earlier summary.
 *
 * @module
 */
import { bold, dim, green, red, yellow } from "@std/fmt/colors";
import { type CableCost } from "./cable.ts";
import { type Footprint, type Measurement, median, type Results, type Test } from "./suite.ts";

/** The server that everything is divided by in a comparison: what the machine could do in that same run. */
const YARDSTICK = "kernel, veth";
/** A ratio that fell below this is worth a look; the machine's own noise is of that size. */
const WORSE = 0.8;
const BETTER = 1.25;

/** Medians of one run. Committed as baseline.json. */
export interface Summary {
  when: string;
  machine: { processors: number; cpu: string; kernel: string; deno: string };
  client: string;
  rounds: number;
  seconds: number;
  servers: Record<string, Record<string, Figure>>;
  footprints: Record<string, Footprint>;
  cable: CableCost[];
}

/** One test of one server: medians over the rounds, and the least and the most. */
export interface Figure {
  median: number | null;
  min: number | null;
  max: number | null;
  p50Us?: number;
  p99Us?: number;
  cpuSecondsPerGB?: number;
  retransmits?: number;
  lost?: number;
  failed?: string;
}

function rounded(value: number): number {
  return Number(value.toPrecision(4));
}

function figureOf(runs: Measurement[]): Figure {
  const good = runs.filter(({ value }) => !Number.isNaN(value));
  const failed = runs.find((run) => run.failed !== undefined)?.failed;
  if (good.length === 0) return { median: null, min: null, max: null, failed };
  const values = good.map(({ value }) => value);
  const of = (pick: (run: Measurement) => number | undefined) => {
    const all = good.map(pick).filter((value) => value !== undefined);
    return all.length === 0 ? undefined : rounded(median(all));
  };
  return {
    median: rounded(median(values)),
    min: rounded(Math.min(...values)),
    max: rounded(Math.max(...values)),
    p50Us: of((run) => run.p50Us),
    p99Us: of((run) => run.p99Us),
    cpuSecondsPerGB: of((run) => run.bytes && run.cpuSeconds !== undefined ? run.cpuSeconds / (run.bytes / 1e9) : undefined),
    retransmits: of((run) => run.retransmits),
    lost: of((run) => run.lost),
    failed,
  };
}

function processorName(): string {
  try {
    return Deno.readTextFileSync("/proc/cpuinfo").match(/^model name\s*: (.*)$/m)?.[1] ?? Deno.build.arch;
  } catch {
    return Deno.build.arch;
  }
}

export function summarize(results: Results, about: Pick<Summary, "client" | "rounds" | "seconds" | "cable">): Summary {
  const servers: Summary["servers"] = {};
  for (const [server, tests] of Object.entries(results.measurements)) {
    servers[server] = Object.fromEntries(Object.entries(tests).map(([test, runs]) => [test, figureOf(runs)]));
  }
  const footprints: Summary["footprints"] = {};
  for (const [server, all] of Object.entries(results.footprints)) {
    const of = (pick: (footprint: Footprint) => number) => rounded(median(all.map(pick)));
    footprints[server] = {
      firstAnswerMs: of((footprint) => footprint.firstAnswerMs),
      firstAnswerMiB: of((footprint) => footprint.firstAnswerMiB),
      idlePercent: of((footprint) => footprint.idlePercent),
      idleOpenPercent: of((footprint) => footprint.idleOpenPercent),
      connectionsMiB: of((footprint) => footprint.connectionsMiB),
      connectionsKeptMiB: of((footprint) => footprint.connectionsKeptMiB),
      bytesPerConnection: of((footprint) => footprint.bytesPerConnection),
      connections: of((footprint) => footprint.connections),
    };
  }
  const machine = {
    processors: navigator.hardwareConcurrency,
    cpu: processorName(),
    kernel: Deno.osRelease(),
    deno: Deno.version.deno,
  };
  return { when: new Date().toISOString().slice(0, 10), machine, ...about, servers, footprints };
}

function short(value: number | null | undefined): string {
  if (value === null || value === undefined || Number.isNaN(value)) return "-";
  if (value >= 10_000) return `${(value / 1000).toFixed(value >= 100_000 ? 0 : 1)}k`;
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

/** A median and, dim, half of what lies between the least and the most, in percent of it. */
function cell(figure: Figure | undefined, width: number): string {
  if (figure === undefined || figure.median === null) return "-".padStart(width);
  const spread = Math.round((figure.max! - figure.min!) / 2 / figure.median * 100);
  const text = short(figure.median);
  const tail = ` ±${spread}%`;
  return " ".repeat(Math.max(1, width - text.length - tail.length)) + text + dim(tail);
}

function printRows(title: string, names: string[], rows: [string, (name: string) => string][]): void {
  const width = Math.max(14, ...names.map((name) => name.length + 2));
  const first = Math.max(...rows.map(([label]) => label.length), title.length) + 2;
  console.log(bold(title.padEnd(first) + names.map((name) => name.padStart(width)).join("")));
  for (const [label, text] of rows) {
    // Colours take no room on the screen.
    const cells = names.map((name) => text(name)).map((shown) => {
      // deno-lint-ignore no-control-regex
      const plain = shown.replace(/\x1b\[\d+m/g, "").trimStart();
      return " ".repeat(Math.max(1, width - plain.length)) + shown.trimStart();
    });
    console.log(label.padEnd(first) + cells.join(""));
  }
  console.log();
}

export function printSummary(summary: Summary, tests: Test[]): void {
  const { servers, footprints } = summary;
  const names = Object.keys(servers);
  const figure = (name: string, test: string): Figure | undefined => servers[name][test];
  printRows("", names, tests.map((test) => [`${test.name}, ${test.unit}`, (name) => cell(figure(name, test.name), 0)]));
  const timed = tests.filter((test) => names.some((name) => figure(name, test.name)?.p50Us !== undefined));
  const latency = (name: string, test: Test) => {
    const found = figure(name, test.name);
    return found?.p50Us === undefined ? "-" : `${short(found.p50Us)} / ${short(found.p99Us)}`;
  };
  if (timed.length > 0) {
    printRows("p50 / p99, us", names, timed.map((test) => [test.name, (name) => latency(name, test)]));
  }
  const bulk = tests.filter((test) => test.unit === "Gbit/s");
  if (bulk.length > 0) {
    const cost = (name: string, test: Test) => short(figure(name, test.name)?.cpuSecondsPerGB);
    printRows("CPU s per GB of the server", names, bulk.map((test) => [test.name, (name) => cost(name, test)]));
    const resent = (name: string, test: Test) => String(Math.round(figure(name, test.name)?.retransmits ?? NaN));
    const inward = bulk.filter((test) => test.load[0] === "in");
    printRows("resent by the kernel", names, inward.map((test) => [test.name, (name) => resent(name, test).replace("NaN", "-")]));
  }
  printFootprints(footprints);
  for (const name of names) printFailures(name, servers[name]);
}

/** Why there are gaps in a server's column, or rounds without a figure; tests that failed alike share a line. */
function printFailures(name: string, figures: Record<string, Figure>): void {
  const why = new Map<string, string[]>();
  for (const [test, { failed }] of Object.entries(figures)) {
    if (failed !== undefined) why.set(failed, [...(why.get(failed) ?? []), test]);
  }
  for (const [failed, tests] of why) console.log(yellow(`${name}: ${failed} (${tests.join("; ")})`));
}

function printFootprints(footprints: Record<string, Footprint>): void {
  const names = Object.keys(footprints);
  if (names.length === 0) return;
  printRows("process", names, [
    ["start to first answer, ms", (name) => footprints[name].firstAnswerMs.toFixed(0)],
    ["memory then, MiB", (name) => footprints[name].firstAnswerMiB.toFixed(1)],
    ["processor when idle, %", (name) => short(footprints[name].idlePercent)],
    ["processor with idle connections, %", (name) => short(footprints[name].idleOpenPercent)],
    ["memory of the idle connections, MiB", (name) => short(footprints[name].connectionsMiB)],
    ["  after half a minute, MiB", (name) => short(footprints[name].connectionsKeptMiB)],
    ["memory per idle connection, bytes", (name) => short(footprints[name].bytesPerConnection)],
    ["  of so many connections", (name) => short(footprints[name].connections)],
  ]);
}

export function printCable(costs: CableCost[]): void {
  if (costs.length === 0) return;
  const of = (what: string) => costs.find((cost) => cost.what === what)!;
  console.log("Without the kernel: two of our stacks and an in-memory cable, all in one thread; both ends' cost together.");
  printRows("", costs.map(({ what }) => what), [
    ["ns per frame", (what) => short(of(what).nsPerFrame)],
    ["ns per payload byte", (what) => of(what).nsPerByte.toFixed(3)],
    ["payload bytes per frame", (what) => short(of(what).bytesPerFrame)],
    ["Gbit/s", (what) => short(of(what).gbps)],
    ["heap bytes allocated per frame", (what) => short(of(what).heapPerFrame)],
  ]);
}

/** This run against an earlier one, each figure first divided by the kernel's of its own run. True when nothing fell. */
export function compare(now: Summary, before: Summary, tests: Test[]): boolean {
  const names = Object.keys(now.servers).filter((name) => name in before.servers && name !== YARDSTICK);
  const share = (summary: Summary, name: string, test: string): number => {
    const [mine, kernel] = [summary.servers[name]?.[test]?.median, summary.servers[YARDSTICK]?.[test]?.median];
    return typeof mine === "number" && typeof kernel === "number" ? mine / kernel : NaN;
  };
  console.log(`Against ${before.when}: (figure / kernel's) now over (figure / kernel's) then; 1 is no change.`);
  let fell = false;
  printRows(
    "",
    names,
    tests.map((test) => [test.name, (name) => {
      const ratio = share(now, name, test.name) / share(before, name, test.name);
      if (Number.isNaN(ratio)) return "-";
      if (ratio < WORSE && name.startsWith("tapioca")) fell = true;
      const text = ratio.toFixed(2);
      return ratio < WORSE ? red(text) : ratio > BETTER ? green(text) : text;
    }]),
  );
  return !fell;
}
