/**
 * Frames a second and processor time per frame of the VLAN forwarder: in user space over TAP, packet ring and AF_XDP; in the
 * kernel by our bytecode and, where clang is installed, by the same programs in C; beside them the kernel's own bridge. All in
 * interleaved rounds of one run, in a namespace of its own: compare within this run only. Wants two cores with nothing else to do.
 *
 *     deno task bench:xdp [--rounds 5] [--seconds 0.5] [--only NAME,…] [--json]
 *
 * `--only` takes beginnings of names. The kernel's ways and AF_XDP need root; clang is `apt-get install clang libbpf-dev`.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { findEnclosure } from "../../examples/demo/enclosure.ts";
import { physicalProgram, routerProgram } from "../../drivers/xdp/programs/vlan_mux.ts";
import { probeBpf } from "../../ffi/bpf_program.ts";
import { setLoopbackUp } from "../testing/loopback.ts";
import { compileC } from "./clang_programs.ts";
import { kernelWays, type Maker, measureKernel, type Sample, testRunNs } from "./xdp_kernel.ts";
import { functionNs, measureUser, USER_WAYS } from "./xdp_user.ts";

const USAGE = "usage: deno task bench:xdp [--rounds 5] [--seconds 0.5] [--only NAME,…] [--json]";
/** Short runs of a program alone, each round. */
const RUNS = 2000;
/** So often a kernel's way is set up in each round, for a part of its time: where its code and frames lie makes a tenth of its time. */
const LOADS = 3;
const BRIDGE = "kernel's bridge";

/** Samples by round, of everything by name; NaN where it failed. */
type Table = Record<string, Sample[]>;

interface Options {
  rounds: number;
  seconds: number;
  only: (name: string) => boolean;
}

interface Found {
  ways: Table;
  /** By name of the program and of who compiled it: the least, and the mean of the faster half, by round. */
  programs: Record<string, number[][]>;
  functionNs: number;
  notes: string[];
}

function median(values: number[]): number {
  const known = values.filter((value) => !Number.isNaN(value)).sort((a, b) => a - b);
  return known.length === 0 ? NaN : known[known.length >> 1];
}

function fail(message: string): never {
  console.error(`bench:xdp: ${message}`);
  Deno.exit(2);
}

function readArguments() {
  const values = parseArgs(Deno.args, {
    boolean: ["json", "inside"],
    string: ["rounds", "seconds", "only"],
    unknown: (argument) => fail(`unknown argument ${argument}. ${USAGE}`),
  });
  const number = (name: "rounds" | "seconds", otherwise: number) => {
    const value = Number(values[name] ?? otherwise);
    if (!(value > 0)) fail(`--${name} must be a number above 0. ${USAGE}`);
    return value;
  };
  const starts = String(values.only ?? "").split(",");
  const only = (name: string) => starts.some((start) => name.startsWith(start));
  return { options: { rounds: number("rounds", 5), seconds: number("seconds", 0.5), only }, values };
}

async function measureAll({ rounds, seconds, only }: Options): Promise<Found> {
  const found: Found = { ways: {}, programs: {}, functionNs: functionNs(), notes: [] };
  const { reason } = probeBpf();
  if (reason !== "") found.notes.push(`Not measured, the kernel's ways: ${reason}`);
  const compiled = reason === "" ? compileC() : "";
  if (typeof compiled === "string" && compiled !== "") found.notes.push(`Not measured, clang's programs: ${compiled}`);
  const object = typeof compiled === "string" ? null : compiled;
  const makers: Maker[] = object === null ? ["tapioca"] : ["tapioca", "clang"];
  const kernel = (reason === "" ? kernelWays(object !== null) : []).map((way) => {
    return { name: way.name, measure: () => measureKernel(way, seconds / LOADS, object) };
  });
  const ways: { name: string; measure: () => Sample | Promise<Sample> }[] = [
    ...USER_WAYS.map((way) => ({ name: way.name, measure: () => measureUser(way, seconds) })),
    ...Array.from({ length: LOADS }, () => kernel).flat(),
  ].filter(({ name }) => only(name));
  for (let round = 1; round <= rounds; round++) {
    // Whoever comes second may find a warmer machine.
    for (const { name, measure } of round % 2 === 0 ? ways.toReversed() : ways) {
      console.error(`round ${round} of ${rounds}: ${name}`);
      const samples = found.ways[name] ??= [];
      try {
        samples.push(await measure());
      } catch (error) {
        samples.push({ rate: NaN, cpu: NaN });
        found.notes.push(`${name}: ${(error as Error).message}`);
      }
    }
    if (reason !== "") continue;
    for (const program of [physicalProgram(), routerProgram()]) {
      for (const maker of makers) {
        (found.programs[`${program.name}, ${maker}`] ??= []).push(testRunNs(program, maker, object, RUNS));
      }
    }
  }
  return found;
}

/** The median over the rounds of one divided by the other of the same round. */
function ratio(one: number[], other: number[]): number {
  return median(one.map((value, i) => value / other[i]));
}

function printTargets({ ways, programs, functionNs }: Found): void {
  const say = (met: boolean, text: string) => console.log(`${met ? "met   " : "MISSED"} ${text}`);
  say(functionNs < 100, `a program in TypeScript: ${functionNs.toFixed(0)} ns for each frame (under 100)`);
  const xdp = Object.entries(ways).filter(([name]) => name.startsWith("AF_XDP")).map(([, samples]) => {
    return median(samples.map(({ rate }) => rate));
  });
  const best = Math.max(...xdp.filter((rate) => !Number.isNaN(rate)));
  if (best > 0) say(best >= 0.5, `AF_XDP, the best: ${best.toFixed(3)} M frames/s (at least 0.5)`);
  for (const name of Object.keys(ways).filter((name) => name.endsWith(", tapioca"))) {
    const column = (of: string, what: keyof Sample) => (ways[of] ?? []).map((sample) => sample[what]);
    const clang = ratio(column(name, "cpu"), column(name.replace(/tapioca$/, "clang"), "cpu"));
    if (!Number.isNaN(clang)) say(clang <= 1.1, `${name}: ${clang.toFixed(2)} of the time that clang's takes (at most 1.10)`);
    const bridge = ratio(column(name, "rate"), column(BRIDGE, "rate"));
    if (!Number.isNaN(bridge)) say(bridge >= 1, `${name}: ${bridge.toFixed(2)} of the bridge's rate (at least 1)`);
  }
  for (const name of ["physical", "router"]) {
    const [ours, clang] = ["tapioca", "clang"].map((maker) => (programs[`${name}, ${maker}`] ?? []).map(([, mean]) => mean));
    const part = ratio(ours, clang);
    if (!Number.isNaN(part)) say(part <= 1.1, `${name} alone: ${part.toFixed(2)} of the time that clang's takes (at most 1.10)`);
  }
}

function print(found: Found, { rounds, seconds }: Options): void {
  console.log(`${"".padEnd(38)} M frames/s          ns CPU a frame (least)  M/s on a whole core`);
  for (const [name, samples] of Object.entries(found.ways)) {
    const rates = samples.map(({ rate }) => rate).filter((rate) => !Number.isNaN(rate));
    const cpu = samples.map((sample) => sample.cpu).filter((ns) => !Number.isNaN(ns));
    const spread = (Math.max(...rates) - Math.min(...rates)) / 2;
    const text = rates.length === 0
      ? "failed"
      : `${median(rates).toFixed(3).padStart(7)} ± ${spread.toFixed(3).padEnd(8)} ${median(cpu).toFixed(0).padStart(8)} (${
        Math.min(...cpu).toFixed(0)
      })`.padEnd(42) + (1000 / median(cpu)).toFixed(2).padStart(14);
    console.log(`${name.padEnd(38)} ${text}`);
  }
  for (const [name, rows] of Object.entries(found.programs)) {
    const [least, mean] = [Math.min(...rows.map(([ns]) => ns)), median(rows.map(([, ns]) => ns))];
    console.log(`${`BPF_PROG_TEST_RUN, ${name}`.padEnd(38)} ${`${mean.toFixed(1)} ns (least ${least})`}`);
  }
  console.log(
    `Medians of ${rounds} interleaved rounds of ${seconds} s (in the kernel ${LOADS} parts each), ± half the range; frames of 60 bytes. In user space the processor time ` +
      `is the forwarder's, its source has the other core; in the kernel it is everything, the source included.`,
  );
  printTargets(found);
  for (const note of new Set(found.notes)) console.log(note);
}

/** Runs this program again, in a namespace of its own. */
async function enclose(): Promise<number> {
  const enclosure = findEnclosure();
  if (enclosure.prefix === null) throw new Error(`Cannot make interfaces: ${enclosure.reason}`);
  const [program, ...words] = enclosure.prefix;
  const args = [...words, Deno.execPath(), "run", "-A", import.meta.filename!, ...Deno.args, "--inside"];
  return (await new Deno.Command(program, { args }).spawn().status).code;
}

const { options, values } = readArguments();
if (!values.inside) Deno.exit(await enclose());
setLoopbackUp();
const found = await measureAll(options);
if (values.json) console.log(JSON.stringify(found));
else print(found, options);
