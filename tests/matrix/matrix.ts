/**
 * The seeded matrix: `deno task matrix [--update] [--json]`.
 *
 * Runs every cell of {@link ./cells.ts} in two workers, prints the bytes a second, and compares them with the committed table
 * (tests/matrix/matrix.json); `--update` writes it anew. Exits with 1 when a cell differs, 2 for wrong arguments.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import {
  allCells,
  type Cell,
  compared,
  type Condition,
  CONDITIONS,
  indexOf,
  LOSSES,
  RTTS,
  SEEDS,
  SENDERS,
  WINDOWS,
} from "./cells.ts";

const WORKERS = 2;
const TABLE = new URL("matrix.json", import.meta.url);
/** smoltcp with a window of 32 KiB and a round trip of 100 ms, in bytes a second; nothing was measured at 0.1 and 2 %. */
export const SMOLTCP: readonly (number | null)[] = [322_945, null, 219_671, null, 76_626, 37_775, 6_079, 1_156];

/** Bytes a second, in the order of {@link everyCell}. */
export function committed(): number[] {
  return JSON.parse(Deno.readTextFileSync(TABLE)) as number[];
}

/** The matrix, and behind it the other senders. */
export function everyCell(): Cell[] {
  return [...allCells(), ...compared()];
}

/** Runs the cells, two at a time. */
export async function runAll(cells: readonly Cell[], onCell: (index: number, rate: number) => void): Promise<void> {
  let next = 0;
  const lane = async () => {
    const worker = new Worker(import.meta.resolve("./cells.ts"), { type: "module" });
    try {
      while (next < cells.length) {
        const index = next++;
        const answer = await new Promise<{ rate: number; error?: string }>((resolve, reject) => {
          worker.onmessage = (event) => resolve(event.data);
          worker.onerror = (event) => {
            event.preventDefault();
            reject(new Error(event.message));
          };
          worker.postMessage(cells[index]);
        });
        if (answer.error !== undefined) throw new Error(answer.error);
        onCell(index, answer.rate);
      }
    } finally {
      worker.terminate();
    }
  };
  await Promise.all(Array.from({ length: WORKERS }, lane));
}

/** What people call these sizes. */
function size(bytes: number): string {
  return bytes >= 1 << 20 ? `${bytes >> 20} MiB` : `${bytes >> 10} KiB`;
}

/** One table for each condition, and the line beside smoltcp. */
export function render(rates: readonly number[]): string {
  const lines: string[] = [];
  const row = (cells: (string | number)[]) =>
    lines.push(cells.map((cell, i) => String(cell).padStart(i === 0 ? 16 : 12)).join(""));
  const head = LOSSES.map((loss) => `${loss * 100} %`);
  for (const condition of Object.keys(CONDITIONS) as Condition[]) {
    lines.push("", `${condition}, bytes a second by loss each way`);
    row(["window, RTT", ...head]);
    for (let window = 0; window < WINDOWS.length; window++) {
      for (let rtt = 0; rtt < RTTS.length; rtt++) {
        const from = indexOf({ condition, window, rtt, loss: 0 });
        row([`${size(WINDOWS[window])}, ${RTTS[rtt]} ms`, ...rates.slice(from, from + LOSSES.length)]);
      }
    }
  }
  lines.push("", `beside smoltcp, 32 KiB and 100 ms (the window's ceiling is 327,680), ${SEEDS} transfers one after another`);
  row(["", ...head]);
  row(["smoltcp", ...SMOLTCP.map((rate) => rate ?? "-")]);
  Object.keys(SENDERS).forEach((sender, i) => {
    const ours = LOSSES.map((_, loss) => {
      const at = allCells().length + (i * LOSSES.length + loss) * SEEDS;
      return Math.round(SEEDS / rates.slice(at, at + SEEDS).reduce((seconds, rate) => seconds + 1 / rate, 0));
    });
    row([sender, ...ours]);
    row(["ratio", ...SMOLTCP.map((rate, loss) => rate === null ? "-" : (ours[loss] / rate).toFixed(2))]);
  });
  return lines.join("\n");
}

async function main(): Promise<number> {
  const values = parseArgs(Deno.args, {
    boolean: ["update", "json", "help"],
    unknown: (argument) => {
      console.error(`matrix: unknown argument ${argument}. usage: deno task matrix [--update] [--json]`);
      Deno.exit(2);
    },
  });
  if (values.help) {
    console.log("usage: deno task matrix [--update] [--json]");
    return 0;
  }
  const cells = everyCell();
  const rates: number[] = new Array(cells.length).fill(0);
  let done = 0;
  const progress = Deno.stderr.isTerminal();
  await runAll(cells, (index, rate) => {
    rates[index] = rate;
    done++;
    if (progress) Deno.stderr.writeSync(new TextEncoder().encode(`\r${done} of ${cells.length} cells`));
  });
  if (progress) Deno.stderr.writeSync(new TextEncoder().encode("\r\x1b[K"));
  if (values.update) Deno.writeTextFileSync(TABLE, JSON.stringify(rates, null, 2) + "\n");
  console.log(values.json ? JSON.stringify(cells.map((cell, i) => ({ ...cell, rate: rates[i] }))) : render(rates));
  const differs = committed().filter((rate, i) => rate !== rates[i]).length;
  if (differs > 0) console.error(`matrix: ${differs} of ${cells.length} cells differ from matrix.json; --update writes it anew`);
  return differs > 0 ? 1 : 0;
}

if (import.meta.main) Deno.exit(await main());
