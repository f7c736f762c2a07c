/**
 * A device in use by a stack's pump: what state it is in, and that nothing it does throws.
 *
 * @module
 */
import { EAGAIN, EIO, ENETDOWN, ENODEV } from "../codes.ts";
import type { Device, FrameMemory, FrameSink } from "../device.ts";
import type { NetInterface } from "../ip/types.ts";

/** How often a device that is down is looked at again, in milliseconds. */
export const DOWN_RETRY_MS = 250;

/** Bytes of a burst: what is read is still in the processor's cache when the reader copies it out. */
const BURST_BYTES = 1 << 20;
/** Frames of a burst, however large they are. */
const BURST_FRAMES_MIN = 16;

/** Told of exceptions that were survived. */
export type NoteFault = (error: unknown) => void;

/** A device in use: its frames go to its interface, and never an exception comes back. */
export class Port implements FrameSink {
  readonly device: Device;
  readonly interface: NetInterface;
  readonly #noteFault: NoteFault;
  /** Bytes and frames of the last burst. */
  #bytes = 0;
  #frames = 0;
  /** Frames may wait. */
  awake = true;
  /** It will never carry a frame again. */
  gone = false;
  /** When to look again at a device that is down; Infinity while it is up. */
  retryAt = Infinity;
  /** What the driver threw, if that is why it is gone. */
  fault: unknown = undefined;

  constructor(device: Device, netInterface: NetInterface, noteFault: NoteFault) {
    this.device = device;
    this.interface = netInterface;
    this.#noteFault = noteFault;
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.#bytes += length;
    try {
      this.interface.frame(memory, offset, length, flags, segmentSize);
    } catch (error) {
      this.#noteFault(error);
    }
  }

  /** Frames to take in the next burst, at most `most`: fewer where the last ones were super-frames. */
  budget(most: number): number {
    if (this.#bytes === 0) return most;
    return Math.min(most, Math.max(BURST_FRAMES_MIN, Math.floor((BURST_BYTES * this.#frames) / this.#bytes)));
  }

  /** Takes at most `budget` frames. Returns how many; -1 when the device was found down. */
  receive(budget: number, now: number): number {
    if (this.retryAt <= now) {
      this.retryAt = Infinity;
      this.awake = true;
    }
    if (!this.awake) return 0;
    let count: number;
    this.#bytes = 0;
    try {
      count = this.device.receive(this, budget);
    } catch (error) {
      this.fault = error;
      count = ENODEV;
    }
    this.#frames = count;
    if (count < budget) this.awake = false;
    if (count >= 0) return count;
    if (count === ENODEV) {
      this.gone = true;
    } else if (count !== EAGAIN) {
      if (count !== EIO && count !== ENETDOWN) this.#noteFault(count);
      this.retryAt = now + DOWN_RETRY_MS;
      return -1;
    }
    return 0;
  }

  /** Nothing waits and nothing is wrong: the device is to call when that changes. */
  get idle(): boolean {
    return !this.awake && !this.gone && this.retryAt === Infinity;
  }

  close(): void {
    this.gone = true;
    try {
      this.device.close();
    } catch (error) {
      this.#noteFault(error);
    }
  }
}
