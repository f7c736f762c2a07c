/**
 * The whole thing at work, with no set-up: `deno task demo [--json] [--keep] [--pcap FILE]`.
 *
 * Goes into a network namespace of its own, makes a TAP, starts a host on it, and uses that host from the kernel's side as a
 * stranger would. Where namespaces are forbidden it does the same over the in-memory cable. Nothing on this machine changes.
 *
 * Ends with 0 if everything answered, 1 if something did not, 2 for wrong arguments.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { cable, type Device, NetStack, pcapTap, TapDevice } from "../mod.ts";
import { findEnclosure } from "./demo/enclosure.ts";
import { startServices } from "./demo/host.ts";
import { gbits, lossesOf, printReport, type Report, type Step } from "./demo/report.ts";
import { type Findings, visit } from "./demo/stranger.ts";

const HOST = "10.0.0.2";
const KERNEL = "10.0.0.1";
const MiB = 1 << 20;
const USAGE = "usage: demo.ts [--json] [--keep] [--pcap FILE]";

interface Options {
  json: boolean;
  keep: boolean;
  pcap: string | undefined;
  /** Set by the demo itself, once it is inside: the name of the place. */
  inside: string | undefined;
}

function options(): Options {
  const wrong = (argument: string) => {
    console.error(`demo: unknown argument ${argument}. ${USAGE}`);
    Deno.exit(2);
  };
  const values = parseArgs(Deno.args, { boolean: ["json", "keep"], string: ["pcap", "inside"], unknown: wrong });
  if (values.pcap === "") wrong("--pcap without a file");
  return values as unknown as Options;
}

/** Runs a system program; null if it isn't there or failed. */
async function system(program: string, args: string[]): Promise<string | null> {
  try {
    const { success, stdout } = await new Deno.Command(program, { args, stdin: "null", stderr: "null" }).output();
    return success ? new TextDecoder().decode(stdout) : null;
  } catch {
    return null;
  }
}

function pingStep(by: string, sent: number, received: number, averageMs: number): Step {
  const detail = `${received} of ${sent} answered, ${averageMs.toFixed(3)} ms on average (${by})`;
  return { name: "ping", ok: received === sent, detail, values: { by, sent, received, averageMs } };
}

/** The system's `ping` if there is one; else the host pings the other side, which proves both directions as well. */
async function ping(stack: NetStack, other: string, useSystem: boolean): Promise<Step> {
  const text = useSystem ? await system("ping", ["-q", "-c", "50", "-i", "0.01", "-w", "10", HOST]) : null;
  const counts = text?.match(/(\d+) packets transmitted, (\d+) received/);
  if (text && counts) {
    return pingStep("ping", Number(counts[1]), Number(counts[2]), Number(text.match(/= [\d.]+\/([\d.]+)/)?.[1]));
  }
  let total = 0;
  let received = 0;
  for (let sequence = 1; sequence <= 50; sequence++) {
    const reply = await stack.ping(other, { sequence, timeoutMs: 1000 }).catch(() => null);
    if (reply === null) continue;
    received++;
    total += reply.roundTripMs;
  }
  return pingStep("stack.ping", 50, received, total / received);
}

async function curl(): Promise<Step[]> {
  const text = await system("curl", [
    "-sS",
    "-m",
    "10",
    "-o",
    "/dev/null",
    "-w",
    "%{http_code} %{size_download} %{time_total}",
    `http://${HOST}/`,
  ]);
  if (text === null) return [];
  const [status, bytes, seconds] = text.split(" ").map(Number);
  const detail = `status ${status}, ${bytes} bytes in ${(seconds * 1000).toFixed(1)} ms`;
  return [{ name: "curl", ok: status === 200, detail, values: { status, bytes, ms: seconds * 1000 } }];
}

/** What the stranger found, as steps of the report. */
function judge(found: Findings, bulkSize: number, sentSha256: string): Step[] {
  const { udpEcho, http, bulkIn, bulkOut } = found;
  const bulk = (name: string, { bytes, ms, sha256 }: Findings["bulkOut"], expected: string): Step => {
    const same = sha256 === expected && bytes === bulkSize;
    const detail = `${bytes / MiB} MiB at ${gbits(bytes, ms)}, SHA-256 ${same ? "the same" : "DIFFERENT"}`;
    return { name, ok: same, detail, values: { bytes, ms, gbitPerSecond: bytes * 8 / ms / 1e6, sha256, expected } };
  };
  return [
    {
      name: "UDP echo",
      ok: udpEcho.received === udpEcho.sent,
      detail: `${udpEcho.received} of ${udpEcho.sent} came back, ${udpEcho.medianUs.toFixed(0)} us in the middle`,
      values: udpEcho,
    },
    {
      name: "HTTP",
      ok: http.status === 200 && http.bytes > 0,
      detail: `status ${http.status}, ${http.bytes} bytes in ${http.ms.toFixed(1)} ms`,
      values: http,
    },
    bulk("bulk in", bulkIn, bulkIn.expected),
    bulk("bulk out", bulkOut, sentSha256),
  ];
}

function makeReport(stack: NetStack, where: string, device: Device, realDevice: boolean, steps: Step[]): Report {
  const statistics = stack.statistics;
  const { segmentsReceived, segmentsSent, segmentsRetransmitted } = statistics.tcp;
  const tcp = { segmentsIn: segmentsReceived, segmentsOut: segmentsSent, retransmissions: segmentsRetransmitted };
  const ok = steps.every((step) => step.ok);
  return { ok, where, device: device.name, realDevice, steps, tcp, drops: lossesOf(statistics) };
}

/** A stranger in a process of its own, so that it doesn't take the host's time. */
async function kernelStranger(bulkSize: number): Promise<Findings> {
  const program = new URL("./demo/stranger.ts", import.meta.url).pathname;
  const text = await system(Deno.execPath(), ["run", "-A", "--unstable-net", program, HOST, String(bulkSize)]);
  if (text === null) throw new Error("The stranger in the kernel could not finish its visit");
  return JSON.parse(text);
}

function bulkSizeFor(pcap: string | undefined, ordinary: number): number {
  // A capture holds every byte: a small transfer shows as much.
  return pcap === undefined ? ordinary : 4 * MiB;
}

async function overTap({ pcap, keep, json }: Options, where: string): Promise<Report> {
  const bulkSize = bulkSizeFor(pcap, 256 * MiB);
  const tap = TapDevice.open({ name: "tap0", host: { address: `${KERNEL}/24`, up: true } });
  const device = pcap === undefined ? tap : pcapTap(tap, pcap);
  await using stack = new NetStack(device, { address: `${HOST}/24` });
  const sum = await startServices(stack, bulkSize);
  const steps = [await ping(stack, KERNEL, true), ...await curl()];
  steps.push(...judge(await kernelStranger(bulkSize), bulkSize, sum));
  const report = makeReport(stack, where, device, true, steps);
  if (keep) {
    print(report, json);
    const enter = `nsenter -t ${Deno.pid} ${where.includes("-U") ? "-U --preserve-credentials " : ""}-n`;
    console.error(
      `\nStaying up. From another terminal:\n  ${enter} ping ${HOST}\n  ${enter} curl http://${HOST}/\nEnd with Ctrl-C.`,
    );
    await interrupted();
  }
  return report;
}

function interrupted(): Promise<void> {
  return new Promise((resolve) => {
    for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => resolve());
  });
}

async function overCable({ pcap }: Options): Promise<Report> {
  const bulkSize = bulkSizeFor(pcap, 64 * MiB);
  const [left, right] = cable();
  const device = pcap === undefined ? right : pcapTap(right, pcap);
  await using stack = new NetStack(device, { address: `${HOST}/24` });
  await using stranger = new NetStack(left, { address: `${KERNEL}/24` });
  const sum = await startServices(stack, bulkSize);
  const steps = [await ping(stranger, HOST, false), ...judge(await visit(stranger, KERNEL, HOST, bulkSize), bulkSize, sum)];
  return makeReport(stack, "memory, joined to a second host by a cable", device, false, steps);
}

function print(report: Report, json: boolean): void {
  if (json) console.log(JSON.stringify(report, null, 2));
  else printReport(report);
}

/** Starts this program again inside a namespace, and ends as it ends. */
async function goInside(prefix: string[], name: string): Promise<never> {
  const [program, ...words] = prefix;
  const self = new URL(import.meta.url).pathname;
  const child = new Deno.Command(program, {
    args: [...words, Deno.execPath(), "run", "-A", self, ...Deno.args, "--inside", name],
  }).spawn();
  // Ctrl-C reaches both; the one inside decides when it is over.
  for (const signal of ["SIGINT", "SIGTERM"] as const) {
    Deno.addSignalListener(signal, () => {
      if (signal === "SIGTERM") child.kill(signal);
    });
  }
  Deno.exit((await child.status).code);
}

async function main(): Promise<number> {
  const chosen = options();
  if (chosen.inside === undefined) {
    const enclosure = findEnclosure();
    if (enclosure.prefix !== null) return await goInside(enclosure.prefix, enclosure.name);
    console.error(`No TAP here: ${enclosure.reason}. Running over the in-memory cable instead.`);
    if (chosen.keep) console.error("--keep does nothing over the cable: nobody else could reach it.");
    const report = await overCable(chosen);
    print(report, chosen.json);
    return report.ok ? 0 : 1;
  }
  const report = await overTap(chosen, chosen.inside);
  if (!chosen.keep) print(report, chosen.json);
  return report.ok ? 0 : 1;
}

try {
  Deno.exit(await main());
} catch (error) {
  console.error(`demo: ${(error as Error).message}`);
  Deno.exit(1);
}
