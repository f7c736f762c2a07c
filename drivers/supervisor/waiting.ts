/**
 * Callers whose device has not answered yet: how many at once, for how long, and what becomes of them when it goes.
 *
 * @module
 */
import type { DeviceTable, IoctlDevice } from "../netdev/table.ts";

/** Most callers that wait for promises at once. */
export const WAITING_MAX = 1024;
/** How soon who waits for a removed device hears of it, in milliseconds. */
const SWEEP_MS = 50;

/** How waiting ends: in one of four ways. */
export interface Endings<T> {
  /** With an answer. One that comes when the waiting is over is nothing to anybody. */
  settled(value: T): void;
  /** With a fault, which is told in any case; `waits` is false when the waiting was over before. */
  failed(error: unknown, waits: boolean): void;
  /** The time is over. */
  late(): void;
  /** The device is no longer in the table. */
  gone(): void;
}

interface Waiting {
  readonly device: IoctlDevice;
  readonly timer: ReturnType<typeof setTimeout>;
  gone(): void;
}

/** Where they wait. */
export class WaitingRoom {
  readonly #devices: DeviceTable;
  readonly #timeoutMs: number;
  readonly #waiting = new Set<Waiting>();
  #sweep: ReturnType<typeof setInterval> | undefined;

  /** For devices of this table, each caller for so long. */
  constructor(devices: DeviceTable, timeoutMs: number) {
    this.#devices = devices;
    this.#timeoutMs = timeoutMs;
  }

  /** How many wait. */
  get size(): number {
    return this.#waiting.size;
  }

  /** Waits for a device's answer. False, and none of the endings, if too many wait already. */
  wait<T>(device: IoctlDevice, answer: PromiseLike<T>, endings: Endings<T>): boolean {
    if (this.#waiting.size >= WAITING_MAX) {
      answer.then(undefined, () => {});
      return false;
    }
    const timer = setTimeout(() => {
      if (this.#forget(waiting)) endings.late();
    }, this.#timeoutMs);
    const waiting: Waiting = { device, timer, gone: () => endings.gone() };
    this.#waiting.add(waiting);
    this.#sweep ??= setInterval(() => this.#dropRemoved(), SWEEP_MS);
    answer.then((value) => {
      if (this.#forget(waiting)) endings.settled(value);
    }, (error) => endings.failed(error, this.#forget(waiting)));
    return true;
  }

  /** It waits no longer. False if it didn't. */
  #forget(waiting: Waiting): boolean {
    clearTimeout(waiting.timer);
    const was = this.#waiting.delete(waiting);
    if (was && this.#waiting.size === 0) {
      clearInterval(this.#sweep);
      this.#sweep = undefined;
    }
    return was;
  }

  #dropRemoved(): void {
    for (const waiting of [...this.#waiting]) {
      if (!this.#devices.has(waiting.device) && this.#forget(waiting)) waiting.gone();
    }
  }

  /** Nobody waits any more, and nobody is told. */
  close(): void {
    for (const waiting of [...this.#waiting]) this.#forget(waiting);
  }
}
