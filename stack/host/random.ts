/**
 * Random numbers for a stack: real ones by default, the same every time for a seed.
 *
 * @module
 */
export { seededRandom32 } from "../random.ts";

/** Numbers drawn from the system's source at once. */
const BATCH = 256;

/** Uniformly random unsigned 32-bit numbers from the system's cryptographic source, drawn in batches. */
export function cryptoRandom32(): () => number {
  const batch = new Uint32Array(BATCH);
  let next = BATCH;
  return () => {
    if (next === BATCH) {
      crypto.getRandomValues(batch);
      next = 0;
    }
    return batch[next++];
  };
}
