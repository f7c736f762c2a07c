/**
 * Where a stack's time comes from: the machine's, or a clock that a test turns by hand.
 *
 * @module
 */

/** A pending timer, as the clock that made it knows it. */
export type TimerHandle = unknown;

/** Time for a stack. Milliseconds, monotonic, from any origin. */
export interface Clock {
  /** Milliseconds now. */
  now(): number;
  /** Calls back once, not before `atMs`. */
  setTimer(atMs: number, callback: () => void): TimerHandle;
  /** Forgets a timer; one that has fired is no error. */
  clearTimer(handle: TimerHandle): void;
  /** Calls back soon, but after I/O and timers that are ready had their turn. Without it `setImmediate` is used. */
  defer?(callback: () => void): void;
  /** Lets a timer keep the process alive (true, as at first), or not. */
  refTimer?(handle: TimerHandle, on: boolean): void;
}

/** Timers further away than this are set in steps, because `setTimeout` overflows at 2^31 ms. */
const LONGEST_TIMEOUT_MS = 1 << 30;

/** The machine's clock: `performance.now()`, `setTimeout` and `setImmediate`. */
export const systemClock: Clock = {
  now: () => performance.now(),
  setTimer(atMs: number, callback: () => void): TimerHandle {
    const wait = Math.min(Math.max(0, Math.ceil(atMs - performance.now())), LONGEST_TIMEOUT_MS);
    return setTimeout(callback, wait);
  },
  clearTimer(handle: TimerHandle): void {
    clearTimeout(handle as ReturnType<typeof setTimeout>);
  },
  defer(callback: () => void): void {
    setImmediate(callback);
  },
  refTimer(handle: TimerHandle, on: boolean): void {
    const timer = handle as ReturnType<typeof setTimeout>;
    if (on) timer.ref();
    else timer.unref();
  },
};

interface ManualTimer {
  at: number;
  order: number;
  callback: (() => void) | null;
}

/** Deferred callbacks run at one moment before the clock gives up on them ever ending. */
const DEFERRED_PER_MOMENT_MAX = 10_000_000;

/**
 * A clock that stands still until it is told to go on, so that an hour of loss and retransmission between stacks takes
 * a second, and is the same every time.
 *
 * The synchronous calls run timers only. The `…Async` calls also let promises settle between two events, which programs
 * that await something (and stacks joined by a cable) need.
 *
 * @example
 * ```ts
 * import { ManualClock } from "@tapioca/tapioca";
 *
 * const clock = new ManualClock();
 * let rang = 0;
 * clock.setTimer(60_000, () => rang = clock.now());
 * clock.advance(3_600_000);
 * console.log(rang); // 60000
 * ```
 */
export class ManualClock implements Clock {
  #now: number;
  #order = 0;
  #heap: ManualTimer[] = [];
  #deferred: (() => void)[] = [];

  /**
   * A clock that stands still.
   *
   * @param startMs what `now()` says at first, in milliseconds
   */
  constructor(startMs = 0) {
    this.#now = startMs;
  }

  /** Milliseconds since the origin. */
  now(): number {
    return this.#now;
  }

  /** Timers that are set. */
  get pending(): number {
    let count = 0;
    for (const timer of this.#heap) if (timer.callback !== null) count++;
    return count;
  }

  /** When the next timer rings, in milliseconds; Infinity when none is set. */
  get nextAt(): number {
    const heap = this.#heap;
    while (heap.length > 0 && heap[0].callback === null) this.#pop();
    return heap.length === 0 ? Infinity : heap[0].at;
  }

  /**
   * Goes on to the next moment at which a timer is set, if that is not after `endMs`, and lets all ring that were set for it
   * before. Nothing else runs meanwhile: {@link settle} is to follow. Returns false when there is no such moment.
   */
  step(endMs = Infinity): boolean {
    const at = this.nextAt;
    if (at > endMs || at === Infinity) return false;
    const heap = this.#heap;
    const newcomers = this.#order;
    while (heap.length > 0 && heap[0].at === at && heap[0].order < newcomers) this.#step(at);
    return true;
  }

  /** Sets a timer. Two for one moment ring in the order in which they were set. */
  setTimer(atMs: number, callback: () => void): TimerHandle {
    const timer: ManualTimer = { at: Math.max(atMs, this.#now), order: this.#order++, callback };
    const heap = this.#heap;
    let i = heap.push(timer) - 1;
    while (i > 0) {
      const up = (i - 1) >> 1;
      if (!before(timer, heap[up])) break;
      heap[i] = heap[up];
      i = up;
    }
    heap[i] = timer;
    return timer;
  }

  /** Forgets a timer. */
  clearTimer(handle: TimerHandle): void {
    (handle as ManualTimer).callback = null;
  }

  /** Calls back before time goes on, after everything that is running now. */
  defer(callback: () => void): void {
    this.#deferred.push(callback);
  }

  /** Lets `ms` milliseconds pass, with the timers in them. */
  advance(ms: number): void {
    const end = this.#now + ms;
    this.#runDeferred();
    while (this.#step(end)) this.#runDeferred();
    this.#now = end;
  }

  /** Lets `ms` milliseconds pass; promises settle between two timers. */
  async advanceAsync(ms: number): Promise<void> {
    const end = this.#now + ms;
    await this.settle();
    while (this.#step(end)) await this.settle();
    this.#now = end;
  }

  /** Goes on until no timer is set, at most `limitMs`. Returns the milliseconds that passed. */
  runUntilIdle(limitMs = 3_600_000): number {
    const start = this.#now;
    this.#runDeferred();
    while (this.#step(start + limitMs)) this.#runDeferred();
    return this.#now - start;
  }

  /** The same, with promises settling between two timers. */
  async runUntilIdleAsync(limitMs = 3_600_000): Promise<number> {
    const start = this.#now;
    await this.settle();
    while (this.#step(start + limitMs)) await this.settle();
    return this.#now - start;
  }

  /**
   * Goes on until `promise` settles, and gives what it gave.
   *
   * @throws {Deno.errors.TimedOut} when it hasn't after `limitMs` milliseconds of this clock, or nothing is left to happen
   */
  async run<T>(promise: Promise<T>, limitMs = 3_600_000): Promise<T> {
    let settled = false;
    const watch = () => {
      settled = true;
    };
    promise.then(watch, watch);
    const end = this.#now + limitMs;
    await this.settle();
    while (!settled) {
      if (!this.#step(end)) {
        throw new Deno.errors.TimedOut(`not settled at ${this.#now} ms: nothing left to happen until ${end} ms`);
      }
      await this.settle();
    }
    return promise;
  }

  /** Lets every promise and deferred call of this moment run, without letting time pass. */
  async settle(): Promise<void> {
    do {
      // Microtasks are all done when a macrotask runs.
      await new Promise<void>((resolve) => setImmediate(resolve));
    } while (this.#runDeferred());
  }

  #runDeferred(): boolean {
    const queue = this.#deferred;
    if (queue.length === 0) return false;
    for (let i = 0; i < queue.length; i++) {
      if (i >= DEFERRED_PER_MOMENT_MAX) throw new RangeError("deferred calls don't come to an end");
      queue[i]();
    }
    queue.length = 0;
    return true;
  }

  /** Runs the next timer that is due by `end`. */
  #step(end: number): boolean {
    const heap = this.#heap;
    while (heap.length > 0) {
      const timer = heap[0];
      if (timer.callback !== null && timer.at > end) return false;
      this.#pop();
      if (timer.callback === null) continue;
      this.#now = Math.max(this.#now, timer.at);
      timer.callback();
      return true;
    }
    return false;
  }

  #pop(): void {
    const heap = this.#heap;
    const last = heap.pop()!;
    const size = heap.length;
    if (size === 0) return;
    let i = 0;
    for (;;) {
      let child = 2 * i + 1;
      if (child >= size) break;
      if (child + 1 < size && before(heap[child + 1], heap[child])) child++;
      if (!before(heap[child], last)) break;
      heap[i] = heap[child];
      i = child;
    }
    heap[i] = last;
  }
}

function before(a: ManualTimer, b: ManualTimer): boolean {
  return a.at < b.at || (a.at === b.at && a.order < b.order);
}
