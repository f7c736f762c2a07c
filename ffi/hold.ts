/**
 * Whether those who wait keep the process alive, and letting it end although a nonblocking call is under way. Deno has no public way
 * to say that of a foreign call. What its own `unref()`s are made of is used where it is to be had; whoever asks must know what to
 * do where it isn't.
 *
 * @module
 */

/** Armed wakers of this isolate that keep the process alive, and who is told when a {@link Hold} changes their number. */
export const holders = { count: 0, changed: (): void => {} };

/** Whether wakers keep the process alive while they are armed: for those of one device, which may come and go, together. */
export class Hold {
  #referenced = true;
  #armed = 0;
  #timer: ReturnType<typeof setTimeout> | null = null;

  /** So many more wakers are armed. */
  count(by: number): void {
    this.#armed += by;
    if (this.#referenced) holders.count += by;
  }

  /** A timer that is to be held like them; it takes the place of the one before. */
  withTimer(timer: ReturnType<typeof setTimeout>): ReturnType<typeof setTimeout> {
    this.#timer = timer;
    if (!this.#referenced) Deno.unrefTimer(timer as unknown as number);
    return timer;
  }

  /** They do, as at first. */
  ref(): void {
    if (this.#referenced) return;
    this.#referenced = true;
    if (this.#timer !== null) Deno.refTimer(this.#timer as unknown as number);
    holders.count += this.#armed;
    holders.changed();
  }

  /** They don't. */
  unref(): void {
    if (!this.#referenced) return;
    this.#referenced = false;
    if (this.#timer !== null) Deno.unrefTimer(this.#timer as unknown as number);
    holders.count -= this.#armed;
    holders.changed();
  }
}

/** The part of Deno's insides that is used; none of it is promised to stay. */
interface Insides {
  readonly promiseIdSymbol: symbol;
  refOpPromise(call: Promise<unknown>): void;
  unrefOpPromise(call: Promise<unknown>): void;
}

let found: Insides | null | undefined;

function insides(): Insides | null {
  const deno = Deno as unknown as Record<PropertyKey, unknown>;
  const { core } = (deno[deno.internal as symbol] ?? {}) as { core?: Partial<Insides> };
  const usable = typeof core?.promiseIdSymbol === "symbol" && typeof core.refOpPromise === "function" &&
    typeof core.unrefOpPromise === "function";
  return usable ? core as Insides : null;
}

/** Lets a nonblocking call keep the process alive (as at first), or not. False: this Deno has no way to. */
export function holdCall(call: Promise<unknown>, on: boolean): boolean {
  if (found === undefined) found = insides();
  if (found === null || !(found.promiseIdSymbol in call)) return false;
  if (on) found.refOpPromise(call);
  else found.unrefOpPromise(call);
  return true;
}
