/**
 * Random numbers that are the same every time for a seed.
 *
 * @module
 */

/** Uniformly random unsigned 32-bit numbers from a seed: SplitMix32. For tests; anyone can foretell its port and sequence numbers. */
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
