/**
 * The I/O registers of a legacy virtio function (virtio 1.2, 4.1.4.10): BAR 0.
 *
 * @module
 */
import type { VirtioNetDevice } from "./net_device.ts";
import type { Vectors } from "./pci_common.ts";
import type { MsixTable } from "./pci_msix.ts";
import { LEGACY, LEGACY_PAGE, NO_VECTOR } from "./pci_registers.ts";
import type { RegisterFile } from "./register_file.ts";

/** The legacy registers of a {@link VirtioNetDevice}. */
export class LegacyRegisters implements RegisterFile {
  readonly #device: VirtioNetDevice;
  readonly #vectors: Vectors;
  readonly #msix: MsixTable | null;
  readonly #pfn: number[];
  #queue = 0;

  constructor(device: VirtioNetDevice, vectors: Vectors, msix: MsixTable | null) {
    this.#device = device;
    this.#vectors = vectors;
    this.#msix = msix;
    this.#pfn = new Array(device.queueCount).fill(0);
  }

  /** As after a reset. */
  reset(): void {
    this.#queue = 0;
    this.#pfn.fill(0);
  }

  /** Where the configuration begins: with MSI-X in use two vectors stand before it. */
  get #config(): number {
    return this.#msix?.enabled === true ? LEGACY.CONFIG_MSIX : LEGACY.CONFIG;
  }

  read(offset: number, size: number): number {
    const device = this.#device;
    if (offset >= this.#config) return device.readConfig(offset - this.#config, size);
    const queue = device.queueRegisters(this.#queue);
    switch (8 * offset + size) {
      case 8 * LEGACY.DEVICE_FEATURES + 4:
        return Number(device.offered(true));
      case 8 * LEGACY.DRIVER_FEATURES + 4:
        return Number(device.chosen & 0xffff_ffffn);
      case 8 * LEGACY.QUEUE_PFN + 4:
        return this.#pfn[this.#queue] ?? 0;
      case 8 * LEGACY.QUEUE_SIZE + 2:
        return queue?.sizeMax ?? 0;
      case 8 * LEGACY.QUEUE_SELECT + 2:
        return this.#queue;
      case 8 * LEGACY.STATUS + 1:
        return device.status;
      case 8 * LEGACY.ISR + 1:
        return readIsr(device);
      case 8 * LEGACY.CONFIG_VECTOR + 2:
        return this.#vectors.config;
      case 8 * LEGACY.QUEUE_VECTOR + 2:
        return this.#vectors.queues[this.#queue] ?? NO_VECTOR;
    }
    device.badAccess();
    return 0;
  }

  write(offset: number, size: number, value: number): void {
    const device = this.#device;
    if (offset >= this.#config) return device.writeConfig(offset - this.#config, size, value, true);
    switch (8 * offset + size) {
      case 8 * LEGACY.DRIVER_FEATURES + 4:
        return device.choose(0, value, true);
      case 8 * LEGACY.QUEUE_PFN + 4:
        value = value >>> 0;
        if (this.#queue < this.#pfn.length) this.#pfn[this.#queue] = value;
        return device.setLegacyQueue(this.#queue, value * LEGACY_PAGE, LEGACY_PAGE);
      case 8 * LEGACY.QUEUE_SELECT + 2:
        this.#queue = value & 0xffff;
        return;
      case 8 * LEGACY.QUEUE_NOTIFY + 2:
        return device.notify(value & 0xffff);
      case 8 * LEGACY.STATUS + 1:
        return device.setStatus(value & 0xff, true);
      case 8 * LEGACY.CONFIG_VECTOR + 2:
        return this.#vectors.setConfig(value & 0xffff);
      case 8 * LEGACY.QUEUE_VECTOR + 2:
        return this.#vectors.setQueue(this.#queue, value & 0xffff);
    }
    device.badAccess();
  }
}

/** Reading the interrupt status acknowledges it. */
export function readIsr(device: VirtioNetDevice): number {
  const bits = device.interruptStatus;
  device.acknowledge(bits);
  return bits;
}
