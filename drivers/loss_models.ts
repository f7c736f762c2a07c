/**
 * Which packets are lost: each by itself, or in bursts.
 *
 * @module
 */
import type { BurstLoss } from "./conditions.ts";

/** A number from 0 up to, not including, 1. */
export type Random = () => number;

/** Gilbert's and Elliott's chain. Independent loss is a chain that never leaves its good state. */
export class LossModel {
  #bad = false;

  /** Takes one step, and tells whether this packet is lost. Draws no number that can't matter. */
  loses(loss: Required<BurstLoss>, random: Random): boolean {
    if (this.#bad) {
      if (random() < loss.toGood) this.#bad = false;
    } else if (loss.toBad > 0 && random() < loss.toBad) this.#bad = true;
    const p = this.#bad ? loss.lossInBad : loss.lossInGood;
    return p > 0 && (p === 1 || random() < p);
  }
}
