/**
 * Random numbers for a stack: real ones by default, the same every time for a seed.
 *
 * @module
 */

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

/** The same for the same seed: SplitMix32. For tests; anyone can foretell its port and sequence numbers. */
export function seededRandom32(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x9e3779b9) | 0;
    let z = state;
    z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
    z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
    return (z ^ (z >>> 15)) >>> 0;
  };
}
