/**
 * The common configuration of a modern virtio function (virtio 1.2, 4.1.4.3). Every field is reached at its own width, the
 * 64-bit addresses as two halves.
 *
 * @module
 */
import type { VirtioNetDevice } from "./net_device.ts";
import { COMMON, NO_VECTOR } from "./pci_registers.ts";
import type { QueuePart } from "./queue_registers.ts";
import type { RegisterFile } from "./register_file.ts";

/** Which MSI-X vector tells of what. */
export class Vectors {
  /** For a change of the configuration. */
  config: number = NO_VECTOR;
  /** For each queue. */
  readonly queues: Uint16Array;
  /** Vectors that there are. */
  readonly #count: number;

  constructor(queues: number, count: number) {
    this.queues = new Uint16Array(queues).fill(NO_VECTOR);
    this.#count = count;
  }

  reset(): void {
    this.config = NO_VECTOR;
    this.queues.fill(NO_VECTOR);
  }

  setConfig(vector: number): void {
    this.config = this.#known(vector);
  }

  setQueue(index: number, vector: number): void {
    if (index < this.queues.length) this.queues[index] = this.#known(vector);
  }

  /** A vector that isn't there is refused by reading back as none. */
  #known(vector: number): number {
    return vector < this.#count ? vector : NO_VECTOR;
  }
}

/** Fields and their bytes; anything else is no access. */
const WIDTHS: Readonly<Record<number, number>> = {
  [COMMON.DEVICE_FEATURE_SELECT]: 4,
  [COMMON.DEVICE_FEATURE]: 4,
  [COMMON.DRIVER_FEATURE_SELECT]: 4,
  [COMMON.DRIVER_FEATURE]: 4,
  [COMMON.CONFIG_VECTOR]: 2,
  [COMMON.NUM_QUEUES]: 2,
  [COMMON.STATUS]: 1,
  [COMMON.GENERATION]: 1,
  [COMMON.QUEUE_SELECT]: 2,
  [COMMON.QUEUE_SIZE]: 2,
  [COMMON.QUEUE_VECTOR]: 2,
  [COMMON.QUEUE_ENABLE]: 2,
  [COMMON.QUEUE_NOTIFY_OFF]: 2,
  [COMMON.QUEUE_DESC]: 4,
  [COMMON.QUEUE_DESC + 4]: 4,
  [COMMON.QUEUE_DRIVER]: 4,
  [COMMON.QUEUE_DRIVER + 4]: 4,
  [COMMON.QUEUE_DEVICE]: 4,
  [COMMON.QUEUE_DEVICE + 4]: 4,
};

const PARTS: readonly QueuePart[] = ["descriptors", "driver", "device"];

/** The common configuration of a {@link VirtioNetDevice}. */
export class CommonConfig implements RegisterFile {
  readonly #device: VirtioNetDevice;
  readonly #vectors: Vectors;
  #deviceWord = 0;
  #driverWord = 0;
  #queue = 0;

  constructor(device: VirtioNetDevice, vectors: Vectors) {
    this.#device = device;
    this.#vectors = vectors;
  }

  /** As after a reset. */
  reset(): void {
    this.#deviceWord =
      this.#driverWord =
      this.#queue =
        0;
  }

  read(offset: number, size: number): number {
    const device = this.#device;
    if (WIDTHS[offset] !== size) {
      device.badAccess();
      return 0;
    }
    const queue = device.queueRegisters(this.#queue);
    switch (offset) {
      case COMMON.DEVICE_FEATURE_SELECT:
        return this.#deviceWord;
      case COMMON.DEVICE_FEATURE:
        return this.#word(device.offered(false), this.#deviceWord);
      case COMMON.DRIVER_FEATURE_SELECT:
        return this.#driverWord;
      case COMMON.DRIVER_FEATURE:
        return this.#word(device.chosen, this.#driverWord);
      case COMMON.CONFIG_VECTOR:
        return this.#vectors.config;
      case COMMON.NUM_QUEUES:
        return device.queueCount;
      case COMMON.STATUS:
        return device.status;
      case COMMON.GENERATION:
        return device.configGeneration & 0xff;
      case COMMON.QUEUE_SELECT:
        return this.#queue;
      case COMMON.QUEUE_SIZE:
        return queue?.size ?? 0;
      case COMMON.QUEUE_VECTOR:
        return this.#vectors.queues[this.#queue] ?? NO_VECTOR;
      case COMMON.QUEUE_ENABLE:
        return queue?.enabled === true ? 1 : 0;
      case COMMON.QUEUE_NOTIFY_OFF:
        return queue === null ? 0 : this.#queue;
    }
    const address = queue?.[PARTS[(offset - COMMON.QUEUE_DESC) >>> 3]] ?? 0;
    return (offset & 4) === 0 ? address % 0x1_0000_0000 : Math.floor(address / 0x1_0000_0000);
  }

  #word(features: bigint, word: number): number {
    return word > 1 ? 0 : Number((features >> BigInt(32 * word)) & 0xffff_ffffn);
  }

  write(offset: number, size: number, value: number): void {
    const device = this.#device;
    if (WIDTHS[offset] !== size) return device.badAccess();
    value = size === 4 ? value >>> 0 : value & (size === 2 ? 0xffff : 0xff);
    switch (offset) {
      case COMMON.DEVICE_FEATURE_SELECT:
        this.#deviceWord = value;
        return;
      case COMMON.DRIVER_FEATURE_SELECT:
        this.#driverWord = value;
        return;
      case COMMON.DRIVER_FEATURE:
        return device.choose(this.#driverWord, value, false);
      case COMMON.CONFIG_VECTOR:
        return this.#vectors.setConfig(value);
      case COMMON.STATUS:
        return device.setStatus(value, false);
      case COMMON.QUEUE_SELECT:
        this.#queue = value;
        return;
      case COMMON.QUEUE_SIZE:
        return device.setQueueSize(this.#queue, value);
      case COMMON.QUEUE_VECTOR:
        return this.#vectors.setQueue(this.#queue, value);
      case COMMON.QUEUE_ENABLE:
        // virtio 1.2, 4.1.4.3.2: a driver writes nothing but 1.
        return value === 1 ? device.enableQueue(this.#queue) : device.badAccess();
    }
    if (offset < COMMON.QUEUE_DESC) return device.badAccess();
    device.setQueueAddress(this.#queue, PARTS[(offset - COMMON.QUEUE_DESC) >>> 3], (offset & 4) >>> 2, value);
  }
}
