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
  /** Ends it with a reset, if it can. */
  abort?(): void;
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

function end(one: RelayEnd, failed: boolean): void {
  if (failed && one.abort !== undefined) one.abort();
  else one[Symbol.dispose]();
}

/**
 * Carries both ways. An end in one direction is passed on, and the other goes on; whatever fails ends both, with a reset where
 * that is possible.
 *
 * @param count told of bytes in the direction from `a` to `b` (true) and back
 * @throws what failed
 */
export async function relay(a: RelayEnd, b: RelayEnd, count: (forth: boolean, bytes: number) => void): Promise<void> {
  const both = [carry(a, b, (bytes) => count(true, bytes)), carry(b, a, (bytes) => count(false, bytes))];
  let failed = true;
  try {
    await Promise.all(both);
    failed = false;
  } finally {
    end(a, failed);
    end(b, failed);
    // The other direction fails now; nobody is interested in how.
    if (failed) await Promise.allSettled(both);
  }
}
