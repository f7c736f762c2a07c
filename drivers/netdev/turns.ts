/**
 * One change of a device after the other: what the RTNL lock is to Linux.
 *
 * @module
 */
import { AsyncLocalStorage } from "node:async_hooks";
import { EBUSY } from "../../ffi/errno.ts";

/** Changes of one device that may wait for their turn; more get EBUSY. */
export const TURNS_MAX = 1024;

/** What a change answers, now or later: 0 or more, or a negative errno. */
export type Code = number | Promise<number>;

/** Goes on with an answer: at once if it is there, so that what is synchronous stays so. */
export function after(code: Code, next: (code: number) => Code): Code {
  return typeof code === "number" ? next(code) : code.then(next);
}

interface Turn {
  /** The turn, of another device, in which this one was asked for. */
  outer: Turn | undefined;
  over: boolean;
}

/** Whose turn the running code is part of: an operation that asks for a further change must not wait for itself. */
const inside = new AsyncLocalStorage<Turn>();

function innermost(turn: Turn | undefined): Turn | undefined {
  while (turn?.over) turn = turn.outer;
  return turn;
}

/** The turns of one device. */
export class Turns {
  #running: Turn | null = null;
  readonly #waiting: (() => void)[] = [];
  #passing = false;

  /**
   * Makes a change when all that were asked for before are done: at once if there are none, or if it is part of the one that
   * is being made. Changes must come to an end by themselves.
   *
   * @param always also beyond {@link TURNS_MAX}
   */
  take(change: () => Code, always = false): Code {
    const outer = innermost(inside.getStore());
    if (this.#running === null) return this.#run(change, outer);
    for (let turn = outer; turn !== undefined; turn = turn.outer) if (turn === this.#running) return change();
    if (this.#waiting.length >= TURNS_MAX && !always) return -EBUSY;
    const { promise, resolve, reject } = Promise.withResolvers<number>();
    this.#waiting.push(() => {
      try {
        resolve(this.#run(change, outer));
      } catch (error) {
        reject(error);
      }
    });
    return promise;
  }

  #run(change: () => Code, outer: Turn | undefined): Code {
    const turn: Turn = { outer: innermost(outer), over: false };
    this.#running = turn;
    let code: Code = -EBUSY;
    try {
      code = inside.run(turn, change);
    } finally {
      if (typeof code === "number") this.#end(turn);
    }
    return typeof code === "number" ? code : code.finally(() => this.#end(turn));
  }

  #end(turn: Turn): void {
    turn.over = true;
    this.#running = null;
    if (this.#passing) return; // the loop below goes on
    this.#passing = true;
    while (this.#running === null) {
      const next = this.#waiting.shift();
      if (next === undefined) break;
      next();
    }
    this.#passing = false;
  }
}
