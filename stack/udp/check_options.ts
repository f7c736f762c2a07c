/**
 * What an option of a datagram socket may be: checked before anything has changed.
 *
 * @module
 */
import type { UdpOptions } from "./types.ts";

/** Least and most of the options that are numbers; all of them are whole. */
const RANGES: { readonly [name in keyof UdpOptions]?: readonly [number, number] } = {
  receiveBufferMax: [1, 64 << 20],
  receiveQueueMax: [1, 1 << 20],
  ttl: [1, 255],
  multicastTtl: [0, 255],
  tos: [0, 255],
};

const SWITCHES: readonly (keyof UdpOptions)[] = ["broadcast", "reuseAddress", "multicastLoop", "dontFragment"];

/** Says what is wrong, "ttl must be 1 to 255: 300"; null when nothing is. */
export function wrongUdpOption(options: UdpOptions): string | null {
  for (const [name, range] of Object.entries(RANGES)) {
    const value = options[name as keyof UdpOptions];
    if (value === undefined) continue;
    const [least, most] = range;
    const fits = typeof value === "number" && Number.isInteger(value) && value >= least && value <= most;
    if (!fits) return `${name} must be ${least} to ${most}: ${value}`;
  }
  for (const name of SWITCHES) {
    const value = options[name];
    if (value !== undefined && typeof value !== "boolean") return `${name} must be true or false: ${value}`;
  }
  return null;
}
