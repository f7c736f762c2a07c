/**
 * The demo's report: for people, in colour on a terminal, or as JSON.
 *
 * @module
 */
import { bold, cyan, dim, green, red } from "@std/fmt/colors";

export interface Step {
  name: string;
  ok: boolean;
  /** For people. */
  detail: string;
  /** For programs; units last in the names. */
  values: Record<string, number | string | boolean>;
}

export interface Report {
  ok: boolean;
  /** Where it ran, and over what. */
  where: string;
  device: string;
  realDevice: boolean;
  steps: Step[];
  tcp: { segmentsIn: number; segmentsOut: number; retransmissions: number };
  /** Counters of refused or lost frames, packets and segments that aren't 0: by layer and name. */
  drops: Record<string, number>;
}

export function gbits(bytes: number, ms: number): string {
  return `${(bytes * 8 / ms / 1e6).toFixed(2)} Gbit/s`;
}

const LOSS = /drop|bad|full|overflow|error|failed|refused|evicted|expired/i;

/** Every counter below `statistics` that speaks of a loss and isn't 0. */
export function lossesOf(statistics: unknown, path = ""): Record<string, number> {
  const losses: Record<string, number> = {};
  if (typeof statistics !== "object" || statistics === null) return losses;
  for (const [name, value] of Object.entries(statistics)) {
    const key = path === "" ? name : `${path}.${name}`;
    if (typeof value === "number" && value > 0 && LOSS.test(name)) losses[key] = value;
    else Object.assign(losses, lossesOf(value, key));
  }
  return losses;
}

export function printReport(report: Report): void {
  console.log(`${bold("tapioca")}: a TCP/IP host in this process, on ${cyan(report.device)}, in ${report.where}\n`);
  const width = Math.max(...report.steps.map((step) => step.name.length));
  for (const step of report.steps) {
    console.log(`  ${step.ok ? green("ok") : red("no")}  ${step.name.padEnd(width)}  ${step.detail}`);
  }
  const { segmentsIn, segmentsOut, retransmissions } = report.tcp;
  console.log(`\n  TCP segments in ${segmentsIn}, out ${segmentsOut}, retransmitted ${retransmissions}`);
  const drops = Object.entries(report.drops);
  console.log(`  dropped: ${drops.length === 0 ? "nothing" : drops.map(([name, count]) => `${name} ${count}`).join(", ")}`);
  console.log(report.ok ? green("\nEverything answered.") : red("\nSomething did not answer as it should."));
  if (!report.realDevice) console.log(dim("This was the in-memory cable; a real TAP needs a network namespace or root."));
}
