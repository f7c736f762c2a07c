/**
 * Connections to the outside that end in time: when nobody answers, and when the gateway is closed.
 *
 * @module
 */
/** Until a destination answers, in milliseconds. */
export const CONNECT_MS = 30_000;
/** Connections that are begun in this time share one signal: a timer and a controller for each would cost more than they. */
const SHARED_MS = 1_000;

/** Connections begun at about the same time. */
class Group {
  readonly controller = new AbortController();
  readonly begun = performance.now();
  readonly timer: ReturnType<typeof setTimeout>;
  waiting = 0;

  constructor(over: (group: Group) => void) {
    this.timer = setTimeout(() => over(this), CONNECT_MS);
    // Whatever waits keeps the process alive by itself.
    Deno.unrefTimer(this.timer as unknown as number);
  }
}

/** Makes connections, and ends those that wait. */
export class Dialer {
  readonly #groups = new Set<Group>();
  #last: Group | null = null;
  #waiting = 0;
  #closed = false;

  /** Connections that wait for an answer. */
  get waiting(): number {
    return this.#waiting;
  }

  /**
   * Calls `connect` with a signal that is aborted after {@link CONNECT_MS} or at {@link close}.
   *
   * @throws {Deno.errors.TimedOut} then, and what `connect` throws
   */
  async dial<T>(connect: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const group = this.#group();
    group.waiting++;
    this.#waiting++;
    try {
      return await connect(group.controller.signal);
    } finally {
      this.#waiting--;
      if (--group.waiting === 0 && group !== this.#last) this.#end(group);
    }
  }

  #group(): Group {
    if (this.#closed) throw new Deno.errors.BadResource("the gateway is closed");
    const last = this.#last;
    if (last !== null && performance.now() - last.begun < SHARED_MS) return last;
    const group = new Group((over) => this.#end(over));
    this.#groups.add(group);
    this.#last = group;
    if (last !== null && last.waiting === 0) this.#end(last);
    return group;
  }

  #end(group: Group): void {
    clearTimeout(group.timer);
    this.#groups.delete(group);
    if (this.#last === group) this.#last = null;
    if (group.waiting > 0) group.controller.abort(new Deno.errors.TimedOut("nobody answers"));
  }

  /** Ends all that wait. */
  close(): void {
    this.#closed = true;
    for (const group of [...this.#groups]) this.#end(group);
  }
}
