/**
 * Congestion controls by name, and the calls of those that users bring: what one of them throws or leaves behind harms nobody.
 *
 * @module
 */
import { type CongestionControl, CWND_MAX, Reno, SSTHRESH_MAX } from "./congestion.ts";
import { Cubic } from "./cubic.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";
import type { TcpOptions } from "./types.ts";

type Choice = TcpOptions["congestionControl"];

/** The module of a user's own function, or null for one by name. Throws what the function throws, or a TypeError. */
export function ownControl(choice: Choice): CongestionControl | null {
  if (typeof choice !== "function") return null;
  const made: Partial<Record<keyof CongestionControl, unknown>> | null | undefined = choice();
  const kind = made === null ? "null" : typeof made;
  if (made === null || made === undefined || kind !== "object") {
    throw new TypeError(`congestionControl must return an object with name, onAck, onLoss and onTimeout: ${kind}`);
  }
  if (typeof made.name !== "string") throw new TypeError(`congestionControl: name must be a string: ${typeof made.name}`);
  for (const name of ["onAck", "onLoss", "onTimeout"] as const) {
    if (typeof made[name] !== "function") {
      throw new TypeError(`congestionControl: ${name} must be a function: ${typeof made[name]}`);
    }
  }
  for (const name of ["onUndo", "onIdle"] as const) {
    if (made[name] === undefined || typeof made[name] === "function") continue;
    throw new TypeError(`congestionControl: ${name} must be a function, if it is there: ${typeof made[name]}`);
  }
  return made as CongestionControl;
}

/** The module for one connection: by name, or made by the user's own function. A fault of that is reported; the default steps in. */
export function congestionControl(tcp: Tcp, choice: Choice): CongestionControl {
  try {
    return ownControl(choice) ?? (choice === "reno" ? new Reno() : new Cubic());
  } catch (fault) {
    tcp.controlFault(fault);
    return new Cubic();
  }
}

/** A module threw: the connection goes on with Reno. */
function fallBack(tcb: Tcb, fault: unknown): void {
  tcb.congestion = new Reno();
  tcb.tcp.controlFault(fault);
}

function bounded(value: unknown, least: number, most: number): number {
  return typeof value === "number" && value >= least ? (value <= most ? Math.floor(value) : most) : least;
}

/** What a module left is made a window with which the connection can go on. Written only if it must be changed. */
function settle(tcb: Tcb): void {
  const cwnd = bounded(tcb.cwnd, tcb.sendMss, CWND_MAX);
  if (cwnd !== tcb.cwnd) tcb.cwnd = cwnd;
  const ssthresh = bounded(tcb.ssthresh, tcb.sendMss, SSTHRESH_MAX);
  if (ssthresh !== tcb.ssthresh) tcb.ssthresh = ssthresh;
}

/** `CongestionControl.onAck`. */
export function controlAck(tcb: Tcb, acked: number, now: number): void {
  try {
    tcb.congestion.onAck(tcb, acked, now);
  } catch (fault) {
    fallBack(tcb, fault);
  }
  settle(tcb);
}

/** `CongestionControl.onLoss`: sets ssthresh. */
export function controlLoss(tcb: Tcb, inFlight: number, now: number): void {
  try {
    tcb.ssthresh = tcb.congestion.onLoss(tcb, inFlight, now);
  } catch (fault) {
    fallBack(tcb, fault);
    tcb.ssthresh = tcb.congestion.onLoss(tcb, inFlight, now);
  }
  settle(tcb);
}

/** `CongestionControl.onTimeout`: sets ssthresh. */
export function controlTimeout(tcb: Tcb, inFlight: number, now: number): void {
  try {
    tcb.ssthresh = tcb.congestion.onTimeout(tcb, inFlight, now);
  } catch (fault) {
    fallBack(tcb, fault);
    tcb.ssthresh = tcb.congestion.onTimeout(tcb, inFlight, now);
  }
  settle(tcb);
}

/** `CongestionControl.onUndo`. */
export function controlUndo(tcb: Tcb, now: number): void {
  try {
    tcb.congestion.onUndo?.(tcb, now);
  } catch (fault) {
    fallBack(tcb, fault);
  }
  settle(tcb);
}

/** `CongestionControl.onIdle`. */
export function controlIdle(tcb: Tcb, now: number): void {
  try {
    tcb.congestion.onIdle?.(tcb, now);
  } catch (fault) {
    fallBack(tcb, fault);
  }
  settle(tcb);
}
