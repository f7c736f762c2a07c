/**
 * Drawings of a TCP connection: a ladder as text, and a time-sequence graph as SVG.
 *
 * @module
 */
import { ACK, CWR, ECE, FIN, PSH, RST, SYN, URG } from "../stack/wire/tcp.ts";
import type { TcpTrace, TraceSegment } from "./tcp_trace.ts";

/** Segments that are drawn at most: what a browser shows without pain. */
export const DRAWN_MAX = 50_000;
const NAMES: readonly [number, string][] = [[SYN, "SYN"], [FIN, "FIN"], [RST, "RST"], [URG, "URG"], [ECE, "ECE"], [CWR, "CWR"]];

/** What to draw of a connection. */
export interface LadderOptions {
  /** From when on, in milliseconds since the connection's beginning. Default 0. */
  fromMs?: number;
  /** Until when. Default: the end. */
  toMs?: number;
  /** Segments at most. Default 200. */
  limit?: number;
  /** Columns between the two ends. Default 64. */
  width?: number;
}

function checked(name: string, value: number | undefined, fallback: number, least: number, most: number): number {
  const number = value ?? fallback;
  if (!(number >= least && number <= most)) throw new RangeError(`${name} must be ${least} to ${most}: ${value}`);
  return number;
}

/** "SYN ECE CWR seq 0 win 65535", "1:1449 ack 1 again". */
function label({ flags, seq, ack, length, window, sacks, again }: TraceSegment): string {
  const names = NAMES.filter(([bit]) => (flags & bit) !== 0).map(([, name]) => name);
  // As tcpdump, and everybody who was taught by Stevens: a segment of text is first:end.
  const numbers = length > 0 ? [`${seq}:${seq + length}`] : names.length > 0 ? [`seq ${seq}`] : [];
  const acknowledgment = ack === null || (flags & (ACK | RST)) === (ACK | RST) ? [] : [`ack ${ack}`];
  const push = length > 0 && (flags & PSH) !== 0 ? ["PSH"] : [];
  const selective = sacks.map(([from, to]) => `sack ${from}:${to}`);
  return [...names, ...numbers, ...push, ...acknowledgment, ...selective, `win ${window}`, ...(again ? ["again"] : [])].join(" ");
}

/**
 * Draws a connection the way that RFCs do: a line for each segment, time downwards. An arrow that ends in `x` did not arrive.
 *
 * @throws {RangeError} for impossible options
 *
 * @example
 * ```ts
 * import { drawLadder, readTcpTraces } from "@tapioca/tapioca";
 *
 * for (const trace of readTcpTraces([])) console.log(drawLadder(trace, { limit: 20 }));
 * //        ms 10.0.0.1:49152                                     10.0.0.2:7
 * //     0.000 |-- SYN seq 0 win 65535 ----------------------------------->|  arrives 50.000
 * ```
 */
export function drawLadder(trace: TcpTrace, options: LadderOptions = {}): string {
  const width = checked("width", options.width, 64, 20, 1000);
  const limit = checked("limit", options.limit, 200, 1, DRAWN_MAX);
  const fromMs = checked("fromMs", options.fromMs, 0, 0, Number.MAX_SAFE_INTEGER);
  const toMs = checked("toMs", options.toMs, Infinity, fromMs, Infinity);
  const chosen = trace.segments.filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs);
  const rows = chosen.slice(0, limit).map((segment) => row(segment, width));
  const head = `${"ms".padStart(11)} ${trace.client}${trace.server.padStart(Math.max(1, width + 2 - trace.client.length))}`;
  const more = chosen.length > limit ? [`${"".padStart(11)} ${chosen.length - limit} more`] : [];
  return [head, ...rows, ...more].join("\n");
}

function row(segment: TraceSegment, width: number): string {
  const lost = segment.arrivedMs === null;
  const text = ` ${label(segment)} `;
  // A lost one gets three quarters of the way; whatever its label needs it has.
  const room = Math.max(text.length + 3, lost ? Math.floor(width * 3 / 4) : width - 1);
  const shaft = `--${text}`.padEnd(room, "-");
  const arrow = segment.fromClient ? `${shaft}${lost ? "x" : ">"}` : `${lost ? "x" : "<"}${`${text}--`.padStart(room, "-")}`;
  const line = segment.fromClient ? arrow.padEnd(width) : arrow.padStart(width);
  const { arrivedMs } = segment;
  const arrives = typeof arrivedMs === "number" && arrivedMs > segment.timeMs ? `  arrives ${arrivedMs.toFixed(3)}` : "";
  return `${segment.timeMs.toFixed(3).padStart(11)} |${line}|${arrives}`;
}

/** What to draw of a stream. */
export interface TimeSequenceOptions {
  /** Whose bytes. Default: of whoever sent more. */
  from?: "client" | "server";
  /** From when on, in milliseconds since the connection's beginning. Default 0. */
  fromMs?: number;
  /** Until when. Default: the end. */
  toMs?: number;
  /** Pixels. Default 1000. */
  width?: number;
  /** Pixels. Default 600. */
  height?: number;
}

const COLOURS = { sent: "#1f2933", again: "#d64545", lost: "#f0b429", ack: "#3f9142", window: "#2186eb", sack: "#8719e0" };
const MARGIN = { left: 90, right: 20, top: 40, bottom: 50 };
const TICKS = 8;

/** Bytes that a direction has sent. */
function sentBytes({ segments }: TcpTrace, fromClient: boolean): number {
  return segments.reduce((sum, segment) => segment.fromClient === fromClient ? sum + segment.length : sum, 0);
}

/** 1, 2 or 5 times a power of ten, so that about TICKS of them fill `span`. */
function step(span: number): number {
  const raw = span / TICKS;
  const power = 10 ** Math.floor(Math.log10(raw));
  return [1, 2, 5, 10].map((n) => n * power).find((n) => n >= raw) ?? raw;
}

/**
 * Draws the bytes of one direction over time, as tcptrace does: a bar for each segment (black; red when sent again, yellow when it
 * got lost), below it the acknowledgments, when they came, as a green staircase, above it the window as a blue one, and purple what was
 * acknowledged selectively. It opens in any browser.
 *
 * @throws {RangeError} for impossible options
 *
 * @example
 * ```ts
 * import { drawTimeSequence, readTcpTraces } from "@tapioca/tapioca";
 *
 * for (const [i, trace] of readTcpTraces([]).entries()) Deno.writeTextFileSync(`${i}.svg`, drawTimeSequence(trace));
 * ```
 */
export function drawTimeSequence(trace: TcpTrace, options: TimeSequenceOptions = {}): string {
  const width = checked("width", options.width, 1000, 200, 20_000);
  const height = checked("height", options.height, 600, 150, 20_000);
  const fromMs = checked("fromMs", options.fromMs, 0, 0, Number.MAX_SAFE_INTEGER);
  const { from = sentBytes(trace, true) >= sentBytes(trace, false) ? "client" : "server" } = options;
  if (from !== "client" && from !== "server") throw new RangeError(`from must be "client" or "server": ${from}`);
  const lastMs = trace.segments.at(-1)?.timeMs ?? 0;
  const toMs = checked("toMs", options.toMs, Math.max(lastMs, fromMs + 1e-3), fromMs, Infinity);
  const chosen = trace.segments.filter(({ timeMs }) => timeMs >= fromMs && timeMs <= toMs).slice(0, DRAWN_MAX);
  const forth = chosen.filter(({ fromClient }) => fromClient === (from === "client"));
  // As the sender sees it: its own segments when they leave, the other's when they come, if they do.
  const back = chosen.filter((s) => s.fromClient !== (from === "client") && s.ack !== null && s.arrivedMs !== null)
    .map((segment) => ({ ...segment, timeMs: Math.min(segment.arrivedMs ?? segment.timeMs, toMs) }));
  const graph = new Graph(fromMs, toMs, forth, back, width, height);
  const who = from === "client" ? `${trace.client} to ${trace.server}` : `${trace.server} to ${trace.client}`;
  return graph.draw(who);
}

class Graph {
  readonly #low: number;
  readonly #high: number;

  constructor(
    readonly fromMs: number,
    readonly toMs: number,
    readonly forth: readonly TraceSegment[],
    readonly back: readonly TraceSegment[],
    readonly width: number,
    readonly height: number,
  ) {
    const ends = [...forth.flatMap(({ seq, length }) => [seq, seq + length]), ...back.map(({ ack }) => ack!)];
    const { min, max } = ends.reduce(({ min, max }, n) => ({ min: Math.min(min, n), max: Math.max(max, n) }), {
      min: ends[0] ?? 0,
      max: ends[0] ?? 0,
    });
    this.#low = min;
    this.#high = Math.max(max, min + 1);
  }

  #x(ms: number): string {
    const inner = this.width - MARGIN.left - MARGIN.right;
    return (MARGIN.left + (ms - this.fromMs) / Math.max(1e-3, this.toMs - this.fromMs) * inner).toFixed(1);
  }

  #y(seq: number): string {
    const inner = this.height - MARGIN.top - MARGIN.bottom;
    const part = (Math.min(seq, this.#high) - this.#low) / (this.#high - this.#low);
    return (this.height - MARGIN.bottom - part * inner).toFixed(1);
  }

  draw(who: string): string {
    const { width, height } = this;
    return [
      `<svg xmlns="http://www.w3.org/2000/svg" width="${width}" height="${height}" viewBox="0 0 ${width} ${height}" ` +
      `font-family="sans-serif" font-size="12">`,
      `<rect width="100%" height="100%" fill="#fff"/>`,
      `<text x="${MARGIN.left}" y="18" font-size="14">${who}</text>`,
      this.#legend(),
      this.#axes(),
      this.#staircase(this.back, ({ ack, window }) => ack! + window, COLOURS.window),
      this.#staircase(this.back, ({ ack }) => ack!, COLOURS.ack),
      this.#bars(this.forth.filter((s) => s.length > 0 && !s.again && s.arrivedMs !== null), COLOURS.sent),
      this.#bars(this.forth.filter((s) => s.length > 0 && s.again && s.arrivedMs !== null), COLOURS.again),
      this.#bars(this.forth.filter((s) => s.length > 0 && s.arrivedMs === null), COLOURS.lost),
      this.#selective(),
      "</svg>\n",
    ].join("\n");
  }

  #legend(): string {
    const names: [string, string][] = [["sent", COLOURS.sent], ["sent again", COLOURS.again], ["lost", COLOURS.lost]];
    names.push(["acknowledged", COLOURS.ack], ["selectively", COLOURS.sack], ["window", COLOURS.window]);
    return names.map(([name, colour], i) => `<text x="${MARGIN.left + i * 110}" y="34" fill="${colour}">${name}</text>`).join("");
  }

  #axes(): string {
    const [left, bottom] = [MARGIN.left, this.height - MARGIN.bottom];
    const right = this.width - MARGIN.right;
    const lines = [`<path d="M${left} ${MARGIN.top}V${bottom}H${right}" fill="none" stroke="#9aa5b1"/>`];
    const inTime = step(Math.max(1e-3, this.toMs - this.fromMs));
    for (let i = Math.ceil(this.fromMs / inTime); i * inTime <= this.toMs; i++) {
      const ms = i * inTime;
      const text = Number(ms.toPrecision(12)).toLocaleString("en");
      lines.push(`<text x="${this.#x(ms)}" y="${bottom + 18}" text-anchor="middle" fill="#616e7c">${text}</text>`);
    }
    const inBytes = Math.max(1, step(this.#high - this.#low));
    for (let i = Math.ceil(this.#low / inBytes); i * inBytes <= this.#high; i++) {
      const y = this.#y(i * inBytes);
      lines.push(`<path d="M${left} ${y}H${right}" stroke="#e4e7eb"/>`);
      const text = (i * inBytes).toLocaleString("en");
      lines.push(`<text x="${left - 6}" y="${y}" text-anchor="end" dominant-baseline="middle" fill="#616e7c">${text}</text>`);
    }
    lines.push(
      `<text x="${right}" y="${bottom + 38}" text-anchor="end" fill="#616e7c">milliseconds; sequence numbers upwards</text>`,
    );
    return lines.join("\n");
  }

  /** One path for all: a browser draws it in no time. */
  #bars(segments: readonly TraceSegment[], colour: string): string {
    const path = segments.map(({ timeMs, seq, length }) => `M${this.#x(timeMs)} ${this.#y(seq)}V${this.#y(seq + length)}`).join(
      "",
    );
    return `<path d="${path}" stroke="${colour}" stroke-width="1.5" stroke-linecap="square" fill="none"/>`;
  }

  #staircase(segments: readonly TraceSegment[], level: (segment: TraceSegment) => number, colour: string): string {
    const path = segments.map((segment, i) => {
      const [x, y] = [this.#x(segment.timeMs), this.#y(level(segment))];
      return i === 0 ? `M${x} ${y}` : `H${x}V${y}`;
    }).join("");
    return `<path d="${path}" stroke="${colour}" fill="none"/>`;
  }

  #selective(): string {
    const path = this.back.flatMap(({ timeMs, sacks }) =>
      sacks.map(([from, to]) => `M${this.#x(timeMs)} ${this.#y(from)}V${this.#y(to)}`)
    ).join("");
    return `<path d="${path}" stroke="${COLOURS.sack}" stroke-opacity="0.5" fill="none"/>`;
  }
}
