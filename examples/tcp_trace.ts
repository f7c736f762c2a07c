/**
 * Draws the TCP connections of a capture: a list, a ladder of one, or a time-sequence graph as SVG.
 *
 *     deno run --allow-read examples/tcp_trace.ts capture.pcapng                        the connections
 *     deno run --allow-read examples/tcp_trace.ts capture.pcapng --flow 1               the first one's ladder
 *     deno run --allow-read --allow-write examples/tcp_trace.ts capture.pcapng --flow 1 --svg graph.svg
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import { drawLadder, drawTimeSequence, readTcpTraces, type TcpTrace } from "../mod.ts";

const USAGE = `usage: tcp_trace.ts CAPTURE [--flow N [--svg FILE]] [--from MS] [--to MS] [--limit 200] [--json]`;

function fail(message: string, code: number): never {
  console.error(`tcp_trace: ${message}`);
  Deno.exit(code);
}

const values = parseArgs(Deno.args, {
  boolean: ["json", "help"],
  string: ["flow", "svg", "from", "to", "limit"],
  unknown: (argument) => argument.startsWith("-") ? fail(`unknown argument ${argument}. ${USAGE}`, 2) : true,
});
if (values.help) {
  console.log(USAGE);
  Deno.exit(0);
}
if (values._.length !== 1) fail(USAGE, 2);

function number(name: "flow" | "from" | "to" | "limit"): number | undefined {
  const text = values[name] as string | undefined;
  if (text === undefined) return undefined;
  if (!/^\d+(\.\d+)?$/.test(text)) fail(`--${name} must be a number, not "${text}"`, 2);
  return Number(text);
}

function summary({ client, server, segments }: TcpTrace) {
  const side = (fromClient: boolean) => {
    const own = segments.filter((segment) => segment.fromClient === fromClient);
    return {
      segments: own.length,
      bytes: own.reduce((sum, { length, again }) => sum + (again ? 0 : length), 0),
      again: own.filter(({ again }) => again).length,
      lost: own.filter(({ arrivedMs }) => arrivedMs === null).length,
    };
  };
  return { client, server, seconds: segments.at(-1)!.timeMs / 1000, fromClient: side(true), fromServer: side(false) };
}

function table(traces: readonly TcpTrace[]): string {
  const head = ["", "client", "server", "seconds", "bytes >", "again", "lost", "bytes <", "again", "lost"];
  const rows = traces.map(summary).map(({ client, server, seconds, fromClient, fromServer }, i) => [
    i + 1,
    client,
    server,
    seconds.toFixed(3),
    ...[fromClient, fromServer].flatMap(({ bytes, again, lost }) => [bytes, again, lost]),
  ]);
  const all = [head, ...rows.map((row) => row.map(String))];
  const widths = head.map((_, column) => Math.max(...all.map((row) => row[column].length)));
  const isText = (column: number) => column === 1 || column === 2;
  return all.map((row) =>
    row.map((cell, column) => isText(column) ? cell.padEnd(widths[column]) : cell.padStart(widths[column])).join("  ")
  ).join("\n");
}

try {
  const traces = readTcpTraces(String(values._[0]));
  const flow = number("flow");
  const window = { fromMs: number("from"), toMs: number("to") };
  if (flow === undefined) {
    if (values.svg !== undefined) fail(`--svg needs --flow. ${USAGE}`, 2);
    console.log(values.json ? JSON.stringify(traces.map(summary)) : traces.length > 0 ? table(traces) : "no TCP connection");
  } else {
    const trace = traces[flow - 1];
    if (trace === undefined) fail(`there is no connection ${flow}: the capture has ${traces.length}`, 1);
    if (values.svg !== undefined) Deno.writeTextFileSync(values.svg as string, drawTimeSequence(trace, window));
    else if (values.json) console.log(JSON.stringify({ ...summary(trace), segments: trace.segments }));
    else console.log(drawLadder(trace, { ...window, limit: number("limit") }));
  }
} catch (error) {
  fail((error as Error).message, error instanceof RangeError ? 2 : 1);
}
