/**
 * Two devices joined by a pump: what one delivers is sent into the other. So a netkit end meets a TAP, or a leased queue a virtual machine.
 *
 * @module
 */
import type { Device } from "../../stack/device.ts";
import { Forwarder } from "./forward.ts";

/** Frames taken in one turn of the event loop, in each direction. */
const BURST = 256;
/** Frames taken before it is looked whether the other side still takes them. */
const STEP = 16;
/** How often a device that is down, or full, is tried again, in milliseconds. */
const RETRY_MS = 20;
const ENODEV = -19;

/** Two devices that are joined. */
export interface Join extends Disposable {
  /** Frames that went each way, and those that the other side refused: a copy. */
  readonly statistics: { forwarded: [number, number]; dropped: [number, number] };
  /** False once a device is gone. */
  readonly working: boolean;
  /** Closes both devices. A second call does nothing. */
  close(): void;
}

class Pump implements Join {
  readonly #devices: readonly [Device, Device];
  readonly #into: readonly [Forwarder, Forwarder];
  readonly #retries: (ReturnType<typeof setTimeout> | undefined)[] = [undefined, undefined];
  #scheduled = false;
  #closed = false;
  #gone = false;

  constructor(left: Device, right: Device) {
    this.#devices = [left, right];
    this.#into = [new Forwarder(right), new Forwarder(left)];
    left.open(() => this.#arrived());
    try {
      right.open(() => this.#arrived());
    } catch (error) {
      left.close();
      throw error;
    }
    this.#arrived();
  }

  #arrived(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    this.#side(0);
    this.#side(1);
  };

  #side(i: 0 | 1): void {
    if (this.#closed) return;
    const from = this.#devices[i], into = this.#into[i];
    into.full = false;
    let count = STEP;
    for (let taken = 0; taken < BURST && count === STEP && !into.full; taken += STEP) count = from.receive(into, STEP);
    this.#devices[1 - i].flush?.();
    if (count === ENODEV) this.#gone = true;
    // A device that is full wakes its user, which is this, when it has room; one that never says so is tried again.
    else if (count < 0 || into.full) this.#retry(i);
    else if (count === STEP) this.#arrived();
    else from.arm();
  }

  #retry(i: 0 | 1): void {
    if (this.#retries[i] !== undefined) return;
    this.#retries[i] = setTimeout(() => {
      this.#retries[i] = undefined;
      this.#arrived();
    }, RETRY_MS);
  }

  get working(): boolean {
    return !this.#closed && !this.#gone;
  }

  get statistics(): { forwarded: [number, number]; dropped: [number, number] } {
    const [a, b] = this.#into;
    return {
      forwarded: [a.counters.forwarded, b.counters.forwarded],
      dropped: [a.counters.dropped, b.counters.dropped],
    };
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const timer of this.#retries) clearTimeout(timer);
    for (const device of this.#devices) device.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Joins two devices of the same medium: it becomes the user of both. Frames that one side leaves to offload are completed for a side
 * that doesn't have it.
 *
 * @throws {TypeError} when one carries Ethernet frames and the other IP packets; what opening them throws
 */
export function joinDevices(left: Device, right: Device): Join {
  if (left.medium !== right.medium) {
    throw new TypeError(`Cannot join "${left.name}" and "${right.name}": one carries ${left.medium}, the other ${right.medium}`);
  }
  return new Pump(left, right);
}
