/**
 * What the pump counts.
 *
 * @module
 */

/** What the pump did; only grows. */
export interface PumpCounters {
  /** Times the pump ran. */
  runs: number;
  /** Frames taken from devices. */
  frames: number;
  /** Runs that stopped because the budget was used up, and went on in a macrotask. */
  yields: number;
  /** Timers that rang. */
  timers: number;
  /** Times a device was found down. */
  deviceDown: number;
  /** Devices that went away for good. */
  deviceGone: number;
  /** Exceptions inside the stack while it handled a frame or a timer: bugs, survived. */
  faults: number;
  /** User callbacks that threw or rejected. */
  callbackErrors: number;
}

/** All 0. */
export function newPumpCounters(): PumpCounters {
  return { runs: 0, frames: 0, yields: 0, timers: 0, deviceDown: 0, deviceGone: 0, faults: 0, callbackErrors: 0 };
}
