/**
 * The piece of shared memory that a driver lays its queues and buffers out in.
 *
 * @module
 */
import type { FrameMemory } from "../../stack/device.ts";
import type { SharedMemory } from "./memory.ts";

/** Where a driver's own memory lies. */
export interface DmaRange {
  /** Address of the first byte, as the device knows it. */
  readonly address: number;
  /** Bytes. */
  readonly length: number;
}

/** Hands pieces out, from the beginning to the end, and takes all of them back at once. */
export class DmaArea {
  /** The memory, and the address of its first byte: `address - base` is an offset in it. */
  readonly memory: FrameMemory;
  readonly base: number;
  readonly #range: DmaRange;
  #used = 0;

  /** @throws {RangeError} when it isn't all in one region of the memory */
  constructor(shared: SharedMemory, range: DmaRange) {
    const { address, length } = range;
    if (!(Number.isSafeInteger(address) && address >= 0 && Number.isSafeInteger(length) && length > 0)) {
      throw new RangeError(`${length} bytes at ${address}`);
    }
    const region = shared.find(address, length);
    if (region === null) throw new RangeError(`${length} bytes at 0x${address.toString(16)} are not in shared memory`);
    this.memory = region.memory;
    this.base = region.base;
    this.#range = range;
  }

  /** Bytes that are left. */
  get left(): number {
    return this.#range.length - this.#used;
  }

  /** Takes everything back. */
  clear(): void {
    this.#used = 0;
  }

  /**
   * The address of so many zero bytes.
   *
   * @throws {RangeError} when there is no room
   */
  take(length: number, alignment: number): number {
    const address = Math.ceil((this.#range.address + this.#used) / alignment) * alignment;
    const end = address - this.#range.address + length;
    if (end > this.#range.length) throw new RangeError(`the driver's memory is too small: ${end} of ${this.#range.length} bytes`);
    this.#used = end;
    this.memory.bytes.fill(0, address - this.base, address - this.base + length);
    return address;
  }
}
