/**
 * Frames a second of a vhost-user device whose driver is DPDK's: from testpmd, and echoed to it, for each format of rings and
 * buffers. Every frame of 64 bytes is looked at. Wants two cores with nothing else to do, and root; testpmd is
 * `apt-get install dpdk-dev librte-net-virtio23`.
 *
 *     deno task bench:virtio [--rounds 3] [--seconds 1] [--json]
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { VhostUserDevice } from "../../mod.ts";
import { findProgram } from "../testing/namespace.ts";
import { socketPath } from "../testing/socket_path.ts";
import { Testpmd } from "../testing/testpmd.ts";
import { Consumer, testpmdMode, VIRTIO_FORMATS } from "../testing/testpmd_frames.ts";

const USAGE = "usage: deno task bench:virtio [--rounds 3] [--seconds 1] [--json]";
/** Frames before the clock is started. */
const WARM_UP = 200_000;
/** What the project wants of the slowest format, in millions of frames a second: from testpmd, and echoed. */
const TARGETS = { from: 3, echo: 1 };

/** Millions of frames a second, by round. */
interface Rates {
  from: number[];
  echo: number[];
}

function fail(message: string): never {
  console.error(`bench:virtio: ${message}`);
  Deno.exit(2);
}

function readArguments(): { rounds: number; seconds: number; json: boolean } {
  const values = parseArgs(Deno.args, {
    boolean: ["json"],
    string: ["rounds", "seconds"],
    unknown: (argument) => fail(`unknown argument ${argument}. ${USAGE}`),
  });
  const rounds = Number(values.rounds ?? 3);
  const seconds = Number(values.seconds ?? 1);
  if (!(Number.isInteger(rounds) && rounds > 0 && seconds > 0)) fail(`rounds and seconds must be above 0. ${USAGE}`);
  return { rounds, seconds, json: values.json === true };
}

async function measure(words: string, echo: boolean, seconds: number): Promise<number> {
  const path = socketPath();
  using device = VhostUserDevice.open({ path });
  const consumer = new Consumer(device, echo);
  await using testpmd = new Testpmd(`net_virtio_user0,path=${path},queues=1,${words}`, testpmdMode(echo));
  await consumer.until(WARM_UP);
  const count = () => echo ? consumer.echoed : consumer.frames;
  const before = count();
  const began = performance.now();
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const rate = (count() - before) / (performance.now() - began) / 1000;
  await testpmd.stop();
  if (consumer.wrong > 0) throw new Error(`${words}: ${consumer.wrong} frames were not as testpmd makes them`);
  return rate;
}

function median(values: number[]): number {
  return values.toSorted((a, b) => a - b)[values.length >> 1];
}

function print(found: Record<string, Rates>): void {
  const figure = (values: number[]) => `${median(values).toFixed(2)} (${values.map((value) => value.toFixed(1)).join(" ")})`;
  console.log("M frames/s, median (by round)".padEnd(46), "from testpmd".padEnd(24), "echoed");
  for (const [words, { from, echo }] of Object.entries(found)) {
    console.log(words.padEnd(46), figure(from).padEnd(24), figure(echo));
  }
  for (const way of ["from", "echo"] as const) {
    const least = Math.min(...Object.values(found).map((rates) => median(rates[way])));
    const met = least >= TARGETS[way] ? "met   " : "MISSED";
    console.log(`${met} ${way === "from" ? "from testpmd" : "echoed"}: ${least.toFixed(2)} (at least ${TARGETS[way]})`);
  }
}

if (import.meta.main) {
  const { rounds, seconds, json } = readArguments();
  if (findProgram("dpdk-testpmd") === null) {
    console.log("bench:virtio: skipped, there is no dpdk-testpmd (apt-get install dpdk-dev librte-net-virtio23)");
    Deno.exit();
  }
  const found: Record<string, Rates> = {};
  for (let round = 1; round <= rounds; round++) {
    for (const words of VIRTIO_FORMATS) {
      console.error(`round ${round} of ${rounds}: ${words}`);
      const rates = found[words] ??= { from: [], echo: [] };
      rates.from.push(await measure(words, false, seconds));
      rates.echo.push(await measure(words, true, seconds));
    }
  }
  if (json) console.log(JSON.stringify({ unit: "M frames/s", rounds, seconds, formats: found }, null, 2));
  else print(found);
  Deno.exit();
}
