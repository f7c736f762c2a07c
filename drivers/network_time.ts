/**
 * How a simulated network's time goes on while code runs on it.
 *
 * @module
 */
import { checkObject } from "../stack/checks.ts";
import type { ManualClock } from "../stack/host/clock.ts";

/** How long the machine's own time may pass without anything happening before code that waits is given up. */
const PATIENCE_MS = 200;
const PATIENCE_STEP_MS = 10;

/** Simulated time that one call may take unless told otherwise: a day. */
const LIMIT_MS = 86_400_000;

/** How long code may take. */
export interface RunOptions {
  /** Milliseconds of the network's clock. Default 86,400,000: a day. */
  limitMs?: number;
}

/** How long code may run on a network. Throws a RangeError for what is no time. */
export function limitOf(options: RunOptions): number {
  checkObject(options);
  const { limitMs = LIMIT_MS } = options;
  if (typeof limitMs !== "number" || !(limitMs >= 0)) throw new RangeError(`limitMs must be 0 or more milliseconds: ${limitMs}`);
  return limitMs;
}

/** What {@link waitsForEver} throws, and who waits. */
export class NetworkDeadlockError extends Error {
  /** Its name. */
  override name = "NetworkDeadlockError";
  /** As Node has it. */
  readonly code = "EDEADLK";
  /** What still waits, one line each: connections, listeners, frames without a link. */
  readonly waiting: readonly string[];

  /** Says when it was, and who waits. */
  constructor(now: number, waiting: readonly string[]) {
    const list = waiting.length === 0 ? "nothing on the network: no connection, no listener" : `\n  ${waiting.join("\n  ")}`;
    super(`at ${now} ms nothing can ever happen any more, but the code given to run() still waits. There is ${list}`);
    this.waiting = waiting;
  }
}

/** Promises of the machine's own world: while one is pending, simulated time stands still. */
export class Holds {
  #count = 0;
  #released: PromiseWithResolvers<void> | null = null;

  get pending(): number {
    return this.#count;
  }

  hold<T>(promise: Promise<T>): Promise<T> {
    this.#count++;
    return promise.finally(() => {
      if (--this.#count > 0) return;
      this.#released?.resolve();
      this.#released = null;
    });
  }

  /** Resolves when none is pending. */
  async over(): Promise<void> {
    while (this.#count > 0) await (this.#released ??= Promise.withResolvers<void>()).promise;
  }
}

/**
 * Lets time go on until `done()`, moment by moment. Returns false when nothing is left to happen by `end`.
 *
 * Between two moments everything that is ready runs: microtasks (all of them, which is what the macrotask in `settle` is
 * for), and what stacks have deferred.
 */
export async function goOn(clock: ManualClock, holds: Holds, end: number, done: () => boolean): Promise<boolean> {
  await clock.settle();
  while (!done()) {
    if (holds.pending > 0) {
      await holds.over();
      await clock.settle();
      continue;
    }
    if (!clock.step(end)) return false;
    await clock.settle();
  }
  return true;
}

/** Gives the machine's own world (files, crypto, timers of its own) a moment: true if something has happened then. */
export async function bePatient(clock: ManualClock, end: number, done: () => boolean): Promise<boolean> {
  for (let waited = 0; waited < PATIENCE_MS; waited += PATIENCE_STEP_MS) {
    await new Promise((resolve) => setTimeout(resolve, PATIENCE_STEP_MS));
    await clock.settle();
    if (done() || clock.nextAt <= end) return true;
  }
  return false;
}
