/**
 * Two hosts on a bad link: 10 MiB over 1 % loss and 100 ms round trip, in simulated time, and what TCP made of it.
 * `deno run examples/lossy_link.ts [--json] [--pcap FILE] [--loss 0.01] [--rtt 100] [--mib 10] [--seed 1]`
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { type FrameMemory, Network } from "../mod.ts";

const WIDTH = 76;
const HEIGHT = 24;
/** Ethernet and IP header in front of TCP's. */
const TCP_AT = 34;

const options = parseArgs(Deno.args, { boolean: ["json"], string: ["pcap", "loss", "rtt", "mib", "seed"] });
const [loss, rtt, mib, seed] = (["loss", "rtt", "mib", "seed"] as const).map((name, i) =>
  Number(options[name] ?? [0.01, 100, 10, 1][i])
);
const known = ["_", "json", "pcap", "loss", "rtt", "mib", "seed"];
const valid = loss >= 0 && loss < 1 && rtt >= 0 && rtt < 1e6 && mib > 0 && mib <= 1024 && Number.isInteger(seed);
if (options._.length > 0 || Object.keys(options).some((name) => !known.includes(name)) || !valid) {
  console.error("usage: lossy_link.ts [--json] [--pcap FILE] [--loss 0.01] [--rtt 100] [--mib 10] [--seed 1]");
  Deno.exit(2);
}
const bytes = Math.round(mib * 2 ** 20);

using net = new Network({ seed, pcap: options.pcap as string | undefined });
const alice = net.host("alice", { address: "10.0.0.1/24" });
const bob = net.host("bob", { address: "10.0.0.2/24" });

/** Every data segment on its way to bob: when, where in the stream, and whether it was sent before. */
const segments: { at: number; seq: number; again: boolean }[] = [];
let first = -1;
let highest = 0;

/** Looks at a frame on the link, and lets it pass. */
function watch({ view }: FrameMemory, offset: number, length: number): boolean {
  if (length < TCP_AT + 20 || view.getUint8(offset + 23) !== 6) return false;
  const header = (view.getUint8(offset + TCP_AT + 12) >>> 4) * 4;
  const payload = view.getUint16(offset + 16) - 20 - header;
  const number = view.getUint32(offset + TCP_AT + 4);
  if (payload <= 0) return false;
  if (first < 0) first = number;
  const seq = (number - first) >>> 0;
  segments.push({ at: net.now, seq, again: seq < highest });
  highest = Math.max(highest, seq + payload);
  return false;
}

const link = net.link(alice, bob, { delay: rtt / 2, loss, aToB: { drop: watch } });
const began = performance.now();

const result = await net.run(async () => {
  using listener = bob.listen({ port: 7 });
  const [conn, accepted] = await Promise.all([alice.connect({ hostname: "10.0.0.2", port: 7 }), listener.accept()]);
  const start = net.now;
  const chunk = new Uint8Array(65_536);
  const sending = (async () => {
    for (let sent = 0; sent < bytes;) sent += await conn.write(chunk.subarray(0, Math.min(chunk.length, bytes - sent)));
  })();
  let received = 0;
  const buffer = new Uint8Array(65_536);
  while (received < bytes) received += await accepted.read(buffer) ?? 0;
  const seconds = (net.now - start) / 1000;
  await sending;
  await net.delay(2 * rtt);
  const [info] = alice.connections();
  conn.close();
  accepted.close();
  return { seconds, info };
});

const { seconds, info } = result;
const { sent, lost } = link.statistics.aToB;
const figures = {
  bytes,
  seconds,
  bytesPerSecond: Math.round(bytes / seconds),
  frames: sent,
  lost,
  retransmissions: info.retransmissions,
  timeouts: info.timeouts,
  fastRecoveries: info.fastRecoveries,
  rttMs: info.rttMs,
  congestionControl: info.congestionControl,
};

/** The stream upwards, time to the right: `.` sent for the first time, `R` again. */
function diagram(): string {
  const rows = Array.from({ length: HEIGHT }, () => Array<string>(WIDTH).fill(" "));
  const [begin, end] = [segments[0].at, segments.at(-1)!.at];
  for (const { at, seq, again } of segments) {
    const column = Math.min(WIDTH - 1, Math.floor((at - begin) / Math.max(1, end - begin) * WIDTH));
    const row = HEIGHT - 1 - Math.min(HEIGHT - 1, Math.floor(seq / bytes * HEIGHT));
    if (again || rows[row][column] === " ") rows[row][column] = again ? "R" : ".";
  }
  const label = (i: number) => i === 0 ? `${mib} MiB` : i === HEIGHT - 1 ? "0" : "";
  const axis = `${" ".repeat(9)}+${"-".repeat(WIDTH)}\n${" ".repeat(10)}0${
    `${((end - begin) / 1000).toFixed(1)} s`.padStart(WIDTH - 1)
  }`;
  return [...rows.map((row, i) => `${label(i).padStart(8)} |${row.join("").trimEnd()}`), axis].join("\n");
}

if (options.json) console.log(JSON.stringify(figures));
else {
  console.log(
    `${mib} MiB over ${loss * 100} % loss and ${rtt} ms round trip, seed ${seed}. '.' sent, 'R' sent again:\n\n${diagram()}\n`,
  );
  console.log(
    `${seconds.toFixed(2)} s simulated, ${figures.bytesPerSecond.toLocaleString("en")} bytes/s (${info.congestionControl})`,
  );
  console.log(`${sent} frames, ${lost} lost, ${info.retransmissions} retransmissions, ${info.timeouts} timeouts`);
  console.log(`${Math.round(performance.now() - began)} ms of real time`);
}
