/**
 * Finding virtio's registers by the list of capabilities in a PCI function's configuration space (virtio 1.2, 4.1.4).
 *
 * @module
 */
import type { PciFunction } from "./pci_device.ts";
import { CAPABILITY_MSIX, CAPABILITY_VENDOR, PCI, STATUS_CAPABILITIES, VIRTIO_CAP } from "./pci_registers.ts";
import type { RegisterFile } from "./register_file.ts";
import { VirtioError } from "./transport.ts";

/** More capabilities than fit: the list is a loop. */
const CAPABILITIES_MAX = 48;

/** A part of a BAR. */
export class BarWindow {
  constructor(readonly registers: RegisterFile, readonly offset: number, readonly length: number) {}

  /** @throws {RangeError} outside of it */
  read(at: number, size: number): number {
    return this.registers.read(this.#place(at, size), size);
  }

  /** @throws {RangeError} outside of it */
  write(at: number, size: number, value: number): void {
    this.registers.write(this.#place(at, size), size, value);
  }

  #place(at: number, size: number): number {
    if (at + size > this.length) throw new RangeError(`offset ${at} in registers of ${this.length} bytes`);
    return this.offset + at;
  }
}

/** What the list led to. */
export interface Capabilities {
  readonly common: BarWindow | null;
  readonly notify: BarWindow | null;
  readonly multiplier: number;
  readonly isr: BarWindow | null;
  readonly device: BarWindow | null;
  /** Where the MSI-X capability lies, or -1. */
  readonly msix: number;
}

/** Follows the list. Of several of a kind the first one that leads somewhere counts (virtio 1.2, 4.1.4.1). */
export function findCapabilities(pci: PciFunction): Capabilities {
  const { config } = pci;
  const found: (BarWindow | null)[] = [null, null, null, null, null];
  let multiplier = 0;
  let msix = -1;
  const listed = (config.read(PCI.STATUS, 2) & STATUS_CAPABILITIES) !== 0;
  let at = listed ? config.read(PCI.CAPABILITIES, 1) & ~3 : 0;
  for (let steps = 0; at >= 0x40; steps++) {
    if (steps === CAPABILITIES_MAX) throw new VirtioError("MISSING_CAPABILITY", "the list of capabilities is a loop");
    const id = config.read(at, 1);
    const type = config.read(at + 3, 1);
    if (id === CAPABILITY_MSIX && msix < 0) msix = at;
    else if (id === CAPABILITY_VENDOR && type >= VIRTIO_CAP.COMMON && type <= VIRTIO_CAP.DEVICE && found[type] === null) {
      const bar = config.read(at + 4, 1);
      const registers = bar <= 5 ? pci.bar(bar) : null;
      if (registers !== null) {
        found[type] = new BarWindow(registers, config.read(at + 8, 4), config.read(at + 12, 4));
        if (type === VIRTIO_CAP.NOTIFY) multiplier = config.read(at + 16, 4);
      }
    }
    at = config.read(at + 1, 1) & ~3;
  }
  const [, common, notify, isr, device] = found;
  return { common, notify, multiplier, isr, device, msix };
}
