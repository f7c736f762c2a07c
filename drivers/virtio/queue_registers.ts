/**
 * What a driver has said about a queue, before it is put to use.
 *
 * @module
 */
import { FEATURES } from "./features.ts";
import type { SharedMemory } from "./memory.ts";
import { PackedDeviceQueue } from "./packed_device.ts";
import { areaSizes, checkQueueSize, DESC_SIZE, type DeviceQueue } from "./queue.ts";
import { SplitDeviceQueue } from "./split_device.ts";

/** The parts of a queue: descriptors, what the driver writes, what the device writes. */
export type QueuePart = "descriptors" | "driver" | "device";

/** The registers of one queue. */
export class QueueRegisters {
  /** Entries. */
  size: number;
  /** Address of the descriptors. */
  descriptors = 0;
  /** Address of what the driver writes. */
  driver = 0;
  /** Address of what the device writes. */
  device = 0;
  /** It is in use, or will be when the driver is ready. */
  enabled = false;

  /** Registers as after a reset. */
  constructor(readonly sizeMax: number) {
    this.size = sizeMax;
  }

  /** As after a reset. */
  reset(): void {
    this.size = this.sizeMax;
    this.descriptors =
      this.driver =
      this.device =
        0;
    this.enabled = false;
  }

  /** False when it is too large, or the queue is in use. */
  setSize(size: number): boolean {
    if (this.enabled || size > this.sizeMax) return false;
    this.size = size;
    return true;
  }

  /** 32 bits of an address, low (half 0) or high (1). False when the queue is in use. */
  setAddress(part: QueuePart, half: number, bits: number): boolean {
    if (this.enabled) return false;
    const low = half === 0 ? bits >>> 0 : this[part] % 0x1_0000_0000;
    const high = half === 1 ? bits >>> 0 : Math.floor(this[part] / 0x1_0000_0000);
    this[part] = high * 0x1_0000_0000 + low;
    return true;
  }

  /**
   * The queue itself, with the features that were agreed on.
   *
   * @throws {RangeError} for a size that can't be, or parts outside the memory or not aligned
   */
  start(memory: SharedMemory, features: bigint): DeviceQueue {
    const layout = {
      size: this.size,
      descriptors: this.descriptors,
      driver: this.driver,
      device: this.device,
      eventIndex: (features & FEATURES.RING_EVENT_IDX) !== 0n,
      indirect: (features & FEATURES.RING_INDIRECT_DESC) !== 0n,
    };
    return (features & FEATURES.RING_PACKED) !== 0n
      ? new PackedDeviceQueue(memory, layout)
      : new SplitDeviceQueue(memory, layout);
  }

  /** All three addresses of a legacy queue. False for a size or an alignment that can't be. */
  setLegacy(address: number, align: number): boolean {
    try {
      Object.assign(this, legacyLayout(address, this.size, align));
      return true;
    } catch {
      return false;
    }
  }
}

/**
 * Where the parts of a legacy queue lie (virtio 1.2, 2.7.2): behind one another, the used ring at the next multiple of `align`.
 *
 * @throws {RangeError} for a size or an alignment that can't be
 */
export function legacyLayout(
  address: number,
  size: number,
  align: number,
): { descriptors: number; driver: number; device: number } {
  checkQueueSize(size, false);
  if (align < 4 || align > 0x1_0000 || (align & (align - 1)) !== 0) throw new RangeError(`alignment ${align}`);
  const driver = address + DESC_SIZE * size;
  return { descriptors: address, driver, device: Math.ceil((driver + areaSizes(false, size).driver) / align) * align };
}
