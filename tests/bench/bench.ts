/**
 * Measures our stack on a TAP, with and without offload, beside the kernel's own over a veth pair, in interleaved rounds of one
 * run: `deno task bench [--json] [--rounds 3] [--seconds 2] [--only tapioca]`. Prints medians; compare only within one run.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { bold } from "@std/fmt/colors";
import { findEnclosure } from "../../examples/demo/enclosure.ts";
import { setLoopbackUp } from "../testing/loopback.ts";
import { findProgram, Namespace } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";

const SERVER = "10.9.0.2";
const CLIENT = "10.9.0.1/24";

interface Test {
  name: string;
  mode: string;
  streams: number;
  unit: string;
}

const TESTS: Test[] = [
  { name: "in x1", mode: "in", streams: 1, unit: "Gbit/s" },
  { name: "in x8", mode: "in", streams: 8, unit: "Gbit/s" },
  { name: "out x1", mode: "out", streams: 1, unit: "Gbit/s" },
  { name: "out x8", mode: "out", streams: 8, unit: "Gbit/s" },
  { name: "round trips", mode: "rr", streams: 1, unit: "/s" },
  { name: "round trips x32", mode: "rr", streams: 32, unit: "/s" },
  { name: "connections x1", mode: "crr", streams: 1, unit: "/s" },
  { name: "connections x50", mode: "crr", streams: 50, unit: "/s" },
];

interface Measurement {
  value: number;
  p50Us?: number;
  p99Us?: number;
}

type Server = AsyncDisposable & { client: Namespace };

/** Client ends run out of ports when TIME-WAIT keeps them for a minute; that is not what is measured. */
async function clientNamespace(): Promise<Namespace> {
  const namespace = await Namespace.create();
  const settings = { tcp_max_tw_buckets: "0", ip_local_port_range: "1024 65000" };
  for (const [name, value] of Object.entries(settings)) {
    await namespace.run("sh", ["-c", `echo ${value} > /proc/sys/net/ipv4/${name}`]);
  }
  return namespace;
}

async function must(result: Promise<{ code: number; stderr: string }>): Promise<void> {
  const { code, stderr } = await result;
  if (code !== 0) throw new Error(stderr.trim());
}

async function kernelServer(): Promise<Server> {
  const client = await clientNamespace();
  const server = await Namespace.create();
  await must(client.run("ip", ["link", "add", "c0", "type", "veth", "peer", "name", "s0", "netns", String(server.pid)]));
  for (const [namespace, device, address] of [[client, "c0", CLIENT], [server, "s0", `${SERVER}/24`]] as const) {
    await must(namespace.run("ip", ["address", "add", address, "dev", device]));
    await must(namespace.run("ip", ["link", "set", device, "up"]));
  }
  const service = await Service.start([], { prefix: server.prefix, program: "tests/bench/kernel_server.ts" });
  return { client, [Symbol.asyncDispose]: () => disposeAll(service, client, server) };
}

async function ourServer(more: string[]): Promise<Server> {
  const client = await clientNamespace();
  const args = ["--name", "bench0", "--address", `${SERVER}/24`, "--host-address", CLIENT, ...more];
  const service = await Service.start(args, { prefix: client.prefix });
  return { client, [Symbol.asyncDispose]: () => disposeAll(service, client) };
}

async function disposeAll(...resources: AsyncDisposable[]): Promise<void> {
  for (const resource of resources) await resource[Symbol.asyncDispose]();
}

const SERVERS: Record<string, () => Promise<Server>> = {
  "kernel, veth": kernelServer,
  "tapioca, offload": () => ourServer([]),
  "tapioca, plain": () => ourServer(["--no-offload"]),
};

async function measure(server: Server, test: Test, seconds: number): Promise<Measurement> {
  const args = ["run", "-A", "tests/bench/client.ts", test.mode, SERVER, String(test.streams), String(seconds)];
  const { code, stdout, stderr } = await server.client.run(Deno.execPath(), args, { timeoutMs: seconds * 1000 + 30_000 });
  if (code !== 0) throw new Error(`${test.name}: ${stderr}`);
  return JSON.parse(stdout);
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

type Results = Record<string, Record<string, Measurement[]>>;

async function measureAll(rounds: number, seconds: number, only: string): Promise<Results> {
  const results: Results = {};
  for (let round = 0; round < rounds; round++) {
    for (const [name, start] of Object.entries(SERVERS)) {
      if (!name.includes(only)) continue;
      await using server = await start();
      for (const test of TESTS) {
        console.error(`round ${round + 1} of ${rounds}: ${name}, ${test.name}`);
        ((results[name] ??= {})[test.name] ??= []).push(await measure(server, test, seconds));
      }
    }
  }
  return results;
}

function printTable(results: Results): void {
  const names = Object.keys(results);
  console.log(bold(["".padEnd(18), ...names.map((name) => name.padStart(18))].join("")));
  for (const { name, unit } of TESTS) {
    const cells = names.map((server) => {
      const value = median(results[server][name].map((measurement) => measurement.value));
      return `${unit === "/s" ? Math.round(value).toString() : value.toFixed(2)} ${unit}`.padStart(18);
    });
    console.log(name.padEnd(18) + cells.join(""));
  }
  const latency = names.map((server) =>
    `${median(results[server]["round trips"].map((m) => m.p50Us!)).toFixed(0)} us`.padStart(18)
  );
  console.log("round trip p50".padEnd(18) + latency.join(""));
  console.log(
    `\nMedians. "in" is from the kernel into the server. Client: Deno on kernel sockets, ${navigator.hardwareConcurrency} cores shared.`,
  );
}

async function main(): Promise<number> {
  const wrong = (argument: string) => {
    console.error(`bench: unknown argument ${argument}. usage: bench.ts [--json] [--rounds 3] [--seconds 2] [--only NAME]`);
    Deno.exit(2);
  };
  const options = parseArgs(Deno.args, { boolean: ["json", "inside"], string: ["rounds", "seconds", "only"], unknown: wrong });
  if (!options.inside) {
    const enclosure = findEnclosure();
    if (enclosure.prefix === null) throw new Error(`Cannot measure a TAP: ${enclosure.reason}`);
    if (findProgram("ip") === null) throw new Error("Cannot make a veth pair without ip: apt-get install iproute2");
    const [program, ...words] = enclosure.prefix;
    const args = [...words, Deno.execPath(), "run", "-A", new URL(import.meta.url).pathname, ...Deno.args, "--inside"];
    return (await new Deno.Command(program, { args }).spawn().status).code;
  }
  setLoopbackUp();
  const results = await measureAll(Number(options.rounds ?? 3), Number(options.seconds ?? 2), String(options.only ?? ""));
  if (options.json) console.log(JSON.stringify(results));
  else printTable(results);
  return 0;
}

try {
  Deno.exit(await main());
} catch (error) {
  console.error(`bench: ${(error as Error).message}`);
  Deno.exit(1);
}
