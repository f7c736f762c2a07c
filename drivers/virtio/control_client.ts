/**
 * A driver's side of the control queue (virtio 1.2, 5.1.6.5): one command at a time.
 *
 * @module
 */
import { CONTROL_OK } from "./control_queue.ts";
import type { DmaArea } from "./dma_area.ts";
import type { DriverQueue } from "./queue.ts";

/** Most bytes of a command's data. */
export const CONTROL_DATA_MAX = 2048;
/** What stands in the answer's place until there is one. */
const NO_ANSWER = 0xff;

/** Sends commands. */
export class ControlClient {
  readonly #queue: DriverQueue;
  readonly #kick: () => void;
  readonly #bytes: Uint8Array;
  readonly #offset: number;
  readonly #address: number;
  #waiting: PromiseWithResolvers<boolean> | null = null;

  /**
   * Uses `queue`, and room for one command in `area`.
   *
   * @param kick tells the device that there is a command
   */
  constructor(queue: DriverQueue, area: DmaArea, kick: () => void) {
    this.#queue = queue;
    this.#kick = kick;
    this.#address = area.take(3 + CONTROL_DATA_MAX, 16);
    this.#bytes = area.memory.bytes;
    this.#offset = this.#address - area.base;
    queue.wantInterrupts(true);
  }

  /**
   * Sends a command; resolves to whether the device carried it out.
   *
   * @throws {RangeError} when there is too much data
   * @throws {Deno.errors.Busy} while another command is under way
   */
  command(kind: number, command: number, data: Uint8Array): Promise<boolean> {
    if (data.length > CONTROL_DATA_MAX) throw new RangeError(`${data.length} bytes of data, at most ${CONTROL_DATA_MAX}`);
    if (this.#waiting !== null) throw new Deno.errors.Busy("a control command is under way");
    // The answer stands first, so that its place is always the same.
    const at = this.#offset;
    this.#bytes[at] = NO_ANSWER;
    this.#bytes[at + 1] = kind;
    this.#bytes[at + 2] = command;
    this.#bytes.set(data, at + 3);
    const address = this.#address;
    const id = data.length > 0
      ? this.#queue.add([address + 1, address + 3, address], [2, data.length, 1], 2, 3)
      : this.#queue.add([address + 1, address], [2, 1], 1, 2);
    if (id < 0) return Promise.reject(new Deno.errors.Busy("the control queue is full"));
    const waiting = this.#waiting = Promise.withResolvers<boolean>();
    if (this.#queue.publish()) this.#kick();
    this.settle();
    return waiting.promise;
  }

  /** Looks whether the answer has come. Returns why the queue is broken, or null. */
  settle(): string | null {
    const id = this.#queue.collect();
    if (id === -2) return this.#queue.broken;
    if (id < 0) {
      // Asked for anew: with event indexes an interrupt is asked for once.
      if (this.#waiting !== null && this.#queue.wantInterrupts(true)) return this.settle();
      return null;
    }
    const waiting = this.#waiting;
    this.#waiting = null;
    waiting?.resolve(this.#bytes[this.#offset] === CONTROL_OK);
    return null;
  }

  /** Ends what waits. */
  close(): void {
    this.#waiting?.reject(new Deno.errors.Interrupted("the device has been reset"));
    this.#waiting = null;
  }
}
