/**
 * How one thread tells another that something changed: a bit for each slot, and one wake for all of them, only when the
 * other thread sleeps. Any number of threads may ring; one answers.
 *
 * @module
 */
import { SLOTS_MAX } from "./layout.ts";

/** 1 while the owner sleeps. */
const ASLEEP = 0;
/** Descriptor that wakes the owner, or 0: then it waits on `ASLEEP`. */
const DESCRIPTOR = 1;
/** Something besides slots: frames from another worker. */
const FRAMES = 2;
/** The owner lacks rings: whoever empties one must not let it sleep. */
const HUNGRY = 3;
const SUMMARY = 32;
const SUMMARY_CELLS = SLOTS_MAX / 1024;
const WORDS = 64;

/** Bytes of a bell. */
export const BELL_BYTES: number = 4 * (WORDS + SLOTS_MAX / 32);

/** Wakes through a descriptor. */
export type RingDescriptor = (fd: number) => void;

/** One bell, as either side sees it. */
export class Bell {
  readonly cells: Int32Array<SharedArrayBuffer>;
  readonly #ringDescriptor: RingDescriptor | null;

  constructor(memory: SharedArrayBuffer, ringDescriptor: RingDescriptor | null) {
    this.cells = new Int32Array(memory);
    this.#ringDescriptor = ringDescriptor;
  }

  /** A slot changed. */
  mark(slot: number): void {
    const word = slot >>> 5;
    Atomics.or(this.cells, WORDS + word, 1 << (slot & 31));
    Atomics.or(this.cells, SUMMARY + (word >>> 5), 1 << (word & 31));
  }

  /** Frames wait in a ring between workers. */
  markFrames(): void {
    Atomics.store(this.cells, FRAMES, 1);
  }

  /** Wakes the owner if it sleeps. */
  ring(): void {
    if (Atomics.load(this.cells, ASLEEP) !== 1 || Atomics.exchange(this.cells, ASLEEP, 0) !== 1) return;
    const fd = Atomics.load(this.cells, DESCRIPTOR);
    if (fd > 0 && this.#ringDescriptor !== null) this.#ringDescriptor(fd);
    Atomics.notify(this.cells, ASLEEP);
  }

  /** A slot changed, but there is time: the owner sees it when it next wakes, unless it waits for rings. */
  markLater(slot: number): void {
    this.mark(slot);
    if (Atomics.load(this.cells, HUNGRY) === 1) this.ring();
  }

  // ---- The owner's side.

  set descriptor(fd: number) {
    Atomics.store(this.cells, DESCRIPTOR, fd);
  }

  set hungry(on: boolean) {
    Atomics.store(this.cells, HUNGRY, on ? 1 : 0);
  }

  /** Takes the note about frames away. True if there was one. */
  takeFrames(): boolean {
    return Atomics.exchange(this.cells, FRAMES, 0) === 1;
  }

  /** Calls `visit` for every slot that changed. */
  drain(visit: (slot: number) => void): void {
    const { cells } = this;
    for (let top = 0; top < SUMMARY_CELLS; top++) {
      if (Atomics.load(cells, SUMMARY + top) === 0) continue;
      for (let words = Atomics.exchange(cells, SUMMARY + top, 0); words !== 0; words &= words - 1) {
        const word = top * 32 + lowest(words);
        for (let bits = Atomics.exchange(cells, WORDS + word, 0); bits !== 0; bits &= bits - 1) visit(word * 32 + lowest(bits));
      }
    }
  }

  get pending(): boolean {
    const { cells } = this;
    if (Atomics.load(cells, FRAMES) !== 0) return true;
    for (let top = 0; top < SUMMARY_CELLS; top++) if (Atomics.load(cells, SUMMARY + top) !== 0) return true;
    return false;
  }

  /** Lies down. False if something came meanwhile, and it is up again. */
  sleep(): boolean {
    Atomics.store(this.cells, ASLEEP, 1);
    if (!this.pending) return true;
    Atomics.store(this.cells, ASLEEP, 0);
    return false;
  }

  /** Resolves when somebody rings; at once when somebody has. */
  async rung(): Promise<void> {
    const waiting = Atomics.waitAsync(this.cells, ASLEEP, 1);
    if (waiting.async) await waiting.value;
  }
}

function lowest(bits: number): number {
  return 31 - Math.clz32(bits & -bits);
}
