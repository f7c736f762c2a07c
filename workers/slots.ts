/**
 * The worker's side of the table of slots: which are in use, whom the main thread asks for something, and who waits for a
 * ring.
 *
 * @module
 */
import type { Pump } from "../stack/host/pump.ts";
import { Arena } from "./arena.ts";
import type { Bell } from "./bell.ts";
import * as at from "./layout.ts";

/** What stands in a slot. */
export interface Slot {
  readonly index: number;
  /** Looks after both directions. */
  serve(): void;
  /** True when nothing that the main thread wrote waits here. */
  readonly drained: boolean;
  /** The stack is about to end. */
  end(): void;
}

/** What the table counts; only grows, but for the gauges. */
export interface SlotStatistics {
  /** Connections that there was no slot for: reset. */
  slotsFull: number;
  /** Times that a socket had data and found no free ring. */
  ringsMissing: number;
  /** Gauge: slots in use. */
  slots: number;
  /** Gauge: rings in use for what was received. */
  rings: number;
}

/** The slots of one worker. */
export class SlotTable {
  readonly cells: Int32Array<SharedArrayBuffer>;
  readonly up: Uint8Array<SharedArrayBuffer>;
  readonly arena: Arena;
  readonly #slots: (Slot | undefined)[] = [];
  readonly #returned: number[] = [];
  readonly #starving = new Set<number>();
  #fresh = 0;
  #full = 0;
  #missing = 0;

  constructor(
    memory: at.SharedMemory,
    readonly own: Bell,
    readonly main: Bell,
    readonly pump: Pump,
  ) {
    this.cells = new Int32Array(memory.slots);
    this.up = new Uint8Array(memory.up);
    this.arena = new Arena(new Uint8Array(memory.down));
  }

  get statistics(): SlotStatistics {
    return {
      slotsFull: this.#full,
      ringsMissing: this.#missing,
      slots: this.#fresh - this.#returned.length,
      rings: this.arena.used,
    };
  }

  /** A free slot, or -1. */
  take(): number {
    const slot = this.#returned.pop();
    if (slot !== undefined) return slot;
    if (this.#fresh < at.SLOTS_MAX) return this.#fresh++;
    this.#full++;
    return -1;
  }

  put(slot: Slot): void {
    this.#slots[slot.index] = slot;
  }

  get(index: number): Slot | undefined {
    return this.#slots[index];
  }

  *[Symbol.iterator](): Generator<Slot> {
    for (const slot of this.#slots) if (slot !== undefined) yield slot;
  }

  /** The main thread's flags of a slot. */
  asked(index: number): number {
    return Atomics.load(this.cells, at.mainLine(index) + at.FLAGS);
  }

  /** Tells the main thread that a slot changed. */
  tell(index: number): void {
    this.main.mark(index);
    this.main.ring();
  }

  /** The same, when it next looks. */
  tellLater(index: number): void {
    this.main.markLater(index);
  }

  /** The worker lets go of a slot; the main thread has to as well. */
  let(index: number): void {
    this.#starving.delete(index);
    const flags = at.workerLine(index) + at.FLAGS;
    Atomics.store(this.cells, flags, Atomics.load(this.cells, flags) | at.FREED);
    this.tell(index);
  }

  /** Both have let go: the slot is empty. */
  free(index: number): void {
    this.#slots[index] = undefined;
    this.cells.fill(0, at.workerLine(index), at.workerLine(index) + at.SLOT_CELLS);
    this.#returned.push(index);
  }

  /** A socket has something to tell, and no ring. It is served again when there may be one. */
  starve(index: number): void {
    this.#missing++;
    this.#starving.add(index);
    this.own.hungry = true;
  }

  /** Sends what TCP has to send now. */
  flush(): void {
    this.pump.tcp.flush(this.pump.ip.now);
  }

  /** Does what the main thread has asked for. */
  attend(): void {
    this.pump.now();
    this.own.drain(this.#visit);
    if (this.#starving.size > 0) this.#feed();
    this.pump.schedule();
  }

  readonly #visit = (index: number): void => {
    this.#slots[index]?.serve();
  };

  #feed(): void {
    const all = [...this.#starving];
    this.#starving.clear();
    this.own.hungry = false;
    for (const index of all) this.#slots[index]?.serve();
  }
}
