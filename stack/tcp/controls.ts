/**
 * Congestion controls by name.
 *
 * @module
 */
import { type CongestionControl, Reno } from "./congestion.ts";
import { Cubic } from "./cubic.ts";
import type { TcpOptions } from "./types.ts";

/** The module for one connection: by name, or made by the user's own function. */
export function congestionControl(choice: TcpOptions["congestionControl"]): CongestionControl {
  if (typeof choice === "function") return choice();
  return choice === "reno" ? new Reno() : new Cubic();
}
