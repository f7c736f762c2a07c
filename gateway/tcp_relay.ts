/**
 * Bytes carried between two connections until both directions have ended.
 *
 * @module
 */
/** A buffer begins small, for the many connections that carry little, and grows for those that fill it. */
const BUFFER_MIN = 8 * 1024;
const BUFFER_MAX = 512 * 1024;
/** All that buffers have grown by, together: who comes later carries on with what it has. */
const GROWN_MAX = 128 << 20;
let grown = 0;
/** What a connection has brought before it was reset gets so long to leave at the other end, in milliseconds. */
const RESET_MS = 2_000;
/** Small buffers that wait for the next connections: most connections are over before theirs has grown. */
const SPARES_MAX = 256;
const spares: Uint8Array<ArrayBuffer>[] = [];

/** The two ends of a relay: connections of Deno or of a stack. */
export interface RelayEnd {
  /** How many bytes were read, or null at the end. */
  read(p: Uint8Array): Promise<number | null>;
  /** How many bytes were taken. */
  write(p: Uint8Array): Promise<number>;
  /** Ends the direction from here. */
  closeWrite(): Promise<void>;
  /** Ends it with a reset, if it can; for the second time too. */
  abort?(): void;
  /** Resolves when the connection is over, whoever waits for it or not: by both ends, a reset, or silence. */
  readonly closed?: Promise<void>;
  /** Closes it, for the second time too. */
  [Symbol.dispose](): void;
}

async function carry(from: RelayEnd, to: RelayEnd, count: (bytes: number) => void): Promise<void> {
  const small = spares.pop() ?? new Uint8Array(BUFFER_MIN);
  let buffer = small;
  try {
    for (let n = await from.read(buffer); n !== null; n = await from.read(buffer)) {
      count(n);
      for (let done = 0; done < n;) done += await to.write(done === 0 && n === buffer.length ? buffer : buffer.subarray(done, n));
      if (n === buffer.length && n < BUFFER_MAX && grown + n * 3 <= GROWN_MAX) {
        grown += n * 3;
        buffer = new Uint8Array(n * 4);
      }
    }
    await to.closeWrite();
  } finally {
    grown -= buffer.length - small.length;
    // Nothing reads into it any more, and nothing is written from it: each was waited for.
    if (spares.length < SPARES_MAX) spares.push(small);
  }
}

/** Ends a connection in the middle: with a reset if it can, so that nobody takes what has come for all there is. */
export function reset(one: RelayEnd): void {
  if (one.abort !== undefined) one.abort();
  else one[Symbol.dispose]();
}

/**
 * A reset of `from` is met by whoever reads from it; not while all wait for `to`, which may take nothing more for ever. Not
 * for what has ended well: `ended` is true once `from` has been told of the end.
 */
function watch(from: RelayEnd, ended: () => boolean, reset: () => void): void {
  from.closed?.then(() => {
    if (!ended()) reset();
  });
}

/**
 * Carries both ways. An end in one direction is passed on, and the other goes on; whatever fails ends both, with a reset where
 * that is possible.
 *
 * @param count told of bytes in the direction from `a` to `b` (true) and back
 * @throws what failed
 */
export async function relay(a: RelayEnd, b: RelayEnd, count: (forth: boolean, bytes: number) => void): Promise<void> {
  const toB = carry(a, b, (bytes) => count(true, bytes)), toA = carry(b, a, (bytes) => count(false, bytes));
  let over = false, endedA = false, endedB = false;
  let timer: ReturnType<typeof setTimeout> | undefined;
  const resetSoon = () => {
    timer ??= setTimeout(() => {
      reset(a);
      reset(b);
    }, RESET_MS);
  };
  toA.then(() => endedA = true, () => {});
  toB.then(() => endedB = true, () => {});
  watch(a, () => over || endedA, resetSoon);
  watch(b, () => over || endedB, resetSoon);
  try {
    await Promise.all([toB, toA]);
    a[Symbol.dispose]();
    b[Symbol.dispose]();
  } catch (error) {
    reset(a);
    reset(b);
    // The other direction fails now; nobody is interested in how.
    await Promise.allSettled([toB, toA]);
    throw error;
  } finally {
    over = true;
    clearTimeout(timer);
  }
}
