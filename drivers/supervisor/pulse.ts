/**
 * What the answering isolate and the thread that watches over it share: who may take requests, and whether a device's
 * function is still running.
 *
 *      0       4          8         12        16          24         32             40
 *     +-------+----------+---------+---------+-----------+----------+--------------+
 *     | lock  | taken    | inside  |         | id inside | since    | id ended     |
 *     +-------+----------+---------+---------+-----------+----------+--------------+
 *
 * @module
 */

const BYTES = 40;
const LOCK = 0;
const TAKEN = 1;
const INSIDE = 2;
const FREE = 0;
const HELD = 1;
const ENDED = 2;
const ALONE = 3;

/** One per supervisor. */
export class Pulse {
  readonly memory: SharedArrayBuffer;
  readonly #words: Int32Array;
  readonly #ids: BigUint64Array;
  readonly #since: Float64Array;

  /** @param memory another thread's, to share it */
  constructor(memory: SharedArrayBuffer = new SharedArrayBuffer(BYTES)) {
    this.memory = memory;
    this.#words = new Int32Array(memory);
    this.#ids = new BigUint64Array(memory);
    this.#since = new Float64Array(memory);
  }

  /** Takes the listener; waits for the other thread's few microseconds. False once {@link end} was called. */
  lock(): boolean {
    for (;;) {
      const was = Atomics.compareExchange(this.#words, LOCK, FREE, HELD);
      if (was !== HELD) return was !== ENDED;
    }
  }

  /** {@link lock}, but never waits: false if it is held. */
  tryLock(): boolean {
    return Atomics.compareExchange(this.#words, LOCK, FREE, HELD) === FREE;
  }

  /** Gives the listener back. */
  unlock(): void {
    Atomics.compareExchange(this.#words, LOCK, HELD, FREE);
  }

  /** The other thread is about to be ended, perhaps in the middle of something: it never gets the lock again. */
  leaveAlone(): void {
    if (this.lock()) Atomics.store(this.#words, LOCK, ALONE);
  }

  /** Nobody gets the lock any more: the descriptor may be closed. */
  end(): void {
    if (this.lock()) Atomics.store(this.#words, LOCK, ENDED);
  }

  /** The answering isolate has taken a request, or has looked and found none: it lives. */
  beat(): void {
    Atomics.add(this.#words, TAKEN, 1);
  }

  /** How often {@link beat} was called, roughly for ever. */
  get beats(): number {
    return Atomics.load(this.#words, TAKEN);
  }

  /** A device's function begins to run for a request. */
  enter(id: bigint): void {
    this.#ids[2] = id;
    this.#since[3] = performance.timeOrigin + performance.now();
    Atomics.store(this.#words, INSIDE, 1);
  }

  /** It has returned. True if the caller was told meanwhile that nothing came. */
  leave(id: bigint): boolean {
    Atomics.store(this.#words, INSIDE, 0);
    return Atomics.load(this.#ids, 4) === id;
  }

  /** The request whose device's function has run for longer than this, or null. */
  overdue(ms: number): bigint | null {
    if (Atomics.load(this.#words, INSIDE) !== 1) return null;
    const id = Atomics.load(this.#ids, 2);
    if (performance.timeOrigin + performance.now() - this.#since[3] < ms) return null;
    return Atomics.load(this.#ids, 4) === id ? null : id;
  }

  /** The caller of this request has been told that nothing came. */
  markEnded(id: bigint): void {
    Atomics.store(this.#ids, 4, id);
  }
}
