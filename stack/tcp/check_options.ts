/**
 * What a TCP option may be: checked before anything has changed.
 *
 * @module
 */
import type { TcpOptions } from "./types.ts";

/** Least and most of the options that are numbers. */
const RANGES: { readonly [name in keyof TcpOptions]?: readonly [number, number] } = {
  keepAliveIdleMs: [1, 2 ** 31 - 1],
  keepAliveIntervalMs: [1, 2 ** 31 - 1],
  keepAliveCount: [1, 127],
  userTimeoutMs: [0, 2 ** 31 - 1],
  // More than the windows of RFC 7323 can say, and more than the rings hold, is no use.
  receiveBufferMax: [1, 64 << 20],
  sendBufferMax: [1, 64 << 20],
  maxSegmentSize: [0, 65_495],
  rtoMinMs: [1, 120_000],
  ttl: [1, 255],
  tos: [0, 255],
};

/** Those that count something, and so must be whole. */
const WHOLE = new Set(["keepAliveCount", "receiveBufferMax", "sendBufferMax", "maxSegmentSize", "ttl", "tos"]);

const SWITCHES: readonly (keyof TcpOptions)[] = [
  "noDelay",
  "keepAlive",
  "userTimeoutOption",
  "windowScale",
  "timestamps",
  "sack",
  "fastOpen",
  "thinLinearTimeouts",
];

/** Says what is wrong, "ttl must be 1 to 255: 300"; null when nothing is. */
export function wrongTcpOption(options: TcpOptions): string | null {
  for (const [name, range] of Object.entries(RANGES)) {
    const value = options[name as keyof TcpOptions];
    if (value === undefined) continue;
    const [least, most] = range;
    const fits = typeof value === "number" && value >= least && value <= most && !(WHOLE.has(name) && value % 1 !== 0);
    if (!fits) return `${name} must be ${least} to ${most}: ${value}`;
  }
  for (const name of SWITCHES) {
    const value = options[name];
    if (value !== undefined && typeof value !== "boolean") return `${name} must be true or false: ${value}`;
  }
  const { ecn, congestionControl } = options;
  if (ecn !== undefined && ecn !== "accept" && typeof ecn !== "boolean") return `ecn must be true, false or "accept": ${ecn}`;
  if (
    congestionControl !== undefined && congestionControl !== "cubic" && congestionControl !== "reno" &&
    typeof congestionControl !== "function"
  ) {
    return `congestionControl must be "cubic", "reno" or a function: ${congestionControl}`;
  }
  return null;
}
