/**
 * A virtio device as memory-mapped registers (virtio 1.2, 4.2), of version 2 or of the legacy version 1.
 *
 * @module
 */
import { checkFunction, checkObject, checkSwitch } from "../../stack/checks.ts";
import { NET_DEVICE_ID } from "./net_config.ts";
import type { VirtioNetDevice } from "./net_device.ts";
import type { QueuePart } from "./queue_registers.ts";
import { MMIO, MMIO_MAGIC, MMIO_VERSION, MMIO_VERSION_LEGACY, type RegisterFile, VENDOR_ID } from "./register_file.ts";

/** Options of an {@link MmioDevice}. */
export interface MmioOptions {
  /** Registers of version 1. Default false. */
  legacy?: boolean;
  /** The interrupt line goes up (again, for every new event) or down. Only takes note: it is called from everywhere. */
  interrupt?: (up: boolean) => void;
}

/** Which half of which address a register holds. */
const ADDRESSES: Readonly<Record<number, readonly [QueuePart, 0 | 1]>> = {
  [MMIO.QUEUE_DESC_LOW]: ["descriptors", 0],
  [MMIO.QUEUE_DESC_HIGH]: ["descriptors", 1],
  [MMIO.QUEUE_DRIVER_LOW]: ["driver", 0],
  [MMIO.QUEUE_DRIVER_HIGH]: ["driver", 1],
  [MMIO.QUEUE_DEVICE_LOW]: ["device", 0],
  [MMIO.QUEUE_DEVICE_HIGH]: ["device", 1],
};

/** The registers of a {@link VirtioNetDevice}. */
export class MmioDevice implements RegisterFile {
  readonly #device: VirtioNetDevice;
  readonly #legacy: boolean;
  #deviceWord = 0;
  #driverWord = 0;
  #queue = 0;
  #pageSize = 0;
  #align = 0;
  /** What the legacy driver wrote last into QueuePFN of each queue. */
  readonly #pfn: number[];

  /**
   * Registers for `device`.
   *
   * @throws {Deno.errors.Busy} when the device has registers already; {TypeError} for a wrong option
   */
  constructor(device: VirtioNetDevice, options: MmioOptions = {}) {
    checkObject(options);
    const { legacy = false, interrupt } = options;
    checkSwitch("legacy", legacy);
    checkFunction("interrupt", interrupt);
    device.connect({
      message: () => false,
      line: (up) => interrupt?.(up),
      reset: () => this.#reset(),
    });
    this.#device = device;
    this.#legacy = legacy;
    this.#pfn = new Array(device.queueCount).fill(0);
  }

  #reset(): void {
    this.#deviceWord =
      this.#driverWord =
      this.#queue =
      this.#align =
        0;
    this.#pfn.fill(0);
  }

  read(offset: number, size: number): number {
    if (offset >= MMIO.CONFIG) return this.#device.readConfig(offset - MMIO.CONFIG, size);
    if (size !== 4) {
      this.#device.badAccess();
      return 0;
    }
    return this.#read(offset) >>> 0;
  }

  #read(offset: number): number {
    const device = this.#device;
    const queue = device.queueRegisters(this.#queue);
    switch (offset) {
      case MMIO.MAGIC:
        return MMIO_MAGIC;
      case MMIO.VERSION:
        return this.#legacy ? MMIO_VERSION_LEGACY : MMIO_VERSION;
      case MMIO.DEVICE_ID:
        return NET_DEVICE_ID;
      case MMIO.VENDOR_ID:
        return VENDOR_ID;
      case MMIO.DEVICE_FEATURES:
        if (this.#deviceWord > 1) return 0;
        return Number((device.offered(this.#legacy) >> BigInt(32 * this.#deviceWord)) & 0xffff_ffffn);
      case MMIO.QUEUE_NUM_MAX:
        return queue?.sizeMax ?? 0;
      case MMIO.INTERRUPT_STATUS:
        return device.interruptStatus;
      case MMIO.STATUS:
        return device.status;
    }
    if (this.#legacy) return offset === MMIO.QUEUE_PFN ? this.#pfn[this.#queue] ?? 0 : 0;
    switch (offset) {
      case MMIO.QUEUE_READY:
        return queue?.enabled === true ? 1 : 0;
      case MMIO.CONFIG_GENERATION:
        return device.configGeneration;
      case MMIO.SHM_LEN_LOW:
      case MMIO.SHM_LEN_HIGH:
      case MMIO.SHM_BASE_LOW:
      case MMIO.SHM_BASE_HIGH:
        // virtio 1.2, 4.2.2.1: a shared memory region that doesn't exist.
        return 0xffff_ffff;
    }
    return 0;
  }

  write(offset: number, size: number, value: number): void {
    const device = this.#device;
    if (offset >= MMIO.CONFIG) return device.writeConfig(offset - MMIO.CONFIG, size, value, this.#legacy);
    if (size !== 4) return device.badAccess();
    value = value >>> 0;
    switch (offset) {
      case MMIO.DEVICE_FEATURES_SEL:
        this.#deviceWord = value;
        return;
      case MMIO.DRIVER_FEATURES_SEL:
        this.#driverWord = value;
        return;
      case MMIO.DRIVER_FEATURES:
        return device.choose(this.#driverWord, value, this.#legacy);
      case MMIO.QUEUE_SEL:
        this.#queue = value;
        return;
      case MMIO.QUEUE_NUM:
        return device.setQueueSize(this.#queue, value);
      case MMIO.QUEUE_NOTIFY:
        return device.notify(value);
      case MMIO.INTERRUPT_ACK:
        return device.acknowledge(value);
      case MMIO.STATUS:
        return device.setStatus(value & 0xff, this.#legacy);
    }
    if (this.#legacy) this.#writeLegacy(offset, value);
    else this.#writeModern(offset, value);
  }

  #writeModern(offset: number, value: number): void {
    if (offset === MMIO.QUEUE_READY) {
      if (value === 1) this.#device.enableQueue(this.#queue);
      else this.#device.disableQueue(this.#queue);
      return;
    }
    const address = ADDRESSES[offset];
    if (address !== undefined) return this.#device.setQueueAddress(this.#queue, address[0], address[1], value);
    if (offset !== MMIO.SHM_SEL) this.#device.badAccess();
  }

  #writeLegacy(offset: number, value: number): void {
    switch (offset) {
      case MMIO.GUEST_PAGE_SIZE:
        this.#pageSize = value;
        return;
      case MMIO.QUEUE_ALIGN:
        this.#align = value;
        return;
      case MMIO.QUEUE_PFN:
        if (this.#queue < this.#pfn.length) this.#pfn[this.#queue] = value;
        return this.#device.setLegacyQueue(this.#queue, value * this.#pageSize, this.#align);
    }
    this.#device.badAccess();
  }
}
