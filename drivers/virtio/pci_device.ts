/**
 * A virtio device as a PCI function (virtio 1.2, 4.1): a configuration space with capabilities, and BARs. Laid out as QEMU
 * does it: BAR 0 has the legacy registers, BAR 1 the MSI-X table, BAR 4 everything modern.
 *
 * @module
 */
import { CONFIG_CHANGED } from "./interrupts.ts";
import { CONFIG_BYTES, NET_DEVICE_ID } from "./net_config.ts";
import type { VirtioNetDevice } from "./net_device.ts";
import { CommonConfig, Vectors } from "./pci_common.ts";
import { LegacyRegisters, readIsr } from "./pci_legacy.ts";
import { MSIX_PENDING, MSIX_VECTORS_MAX, MsixTable } from "./pci_msix.ts";
import * as p from "./pci_registers.ts";
import type { RegisterFile } from "./register_file.ts";

/** A PCI function as a driver sees it. */
export interface PciFunction {
  /** Its configuration space, 256 bytes. */
  readonly config: RegisterFile;
  /** What a base address register leads to; null if there is nothing. */
  bar(index: number): RegisterFile | null;
}

/** Options of a {@link PciDevice}. */
export interface PciOptions {
  /** Which drivers it is for: 1.0 and later, older ones, or both. Default "modern". */
  kind?: "modern" | "legacy" | "transitional";
  /** MSI-X vectors, 0 to 128; 0 leaves the capability away. Default: one for each queue and one for the configuration. */
  vectors?: number;
  /** Bytes between the places that two queues are notified at: 0, or a power of two from 2 to 64. Default 4. */
  notifyMultiplier?: number;
  /** The interrupt line goes up (again, for every new event) or down. Only takes note. */
  interrupt?: (up: boolean) => void;
  /** An MSI-X message: writes `data` to `address`. Only takes note. */
  message?: (address: number, data: number) => void;
}

const MODERN_BAR = 4;
const MSIX_BAR = 1;
const LEGACY_BAR = 0;
/** Where the parts of the modern BAR begin, a page each, and its size. */
const COMMON_AT = 0x0000;
const ISR_AT = 0x1000;
const DEVICE_AT = 0x2000;
const NOTIFY_AT = 0x3000;
const MODERN_SIZE = 0x4000;
const LEGACY_SIZE = 0x40;
const MSIX_SIZE = 0x1000;
const CONFIG_SPACE_SIZE = 256;

/** The modern registers as one BAR. */
class ModernRegisters implements RegisterFile {
  constructor(readonly device: VirtioNetDevice, readonly common: CommonConfig, readonly multiplier: number) {}

  read(offset: number, size: number): number {
    const at = offset & 0xfff;
    switch (offset - at) {
      case COMMON_AT:
        return this.common.read(at, size);
      case ISR_AT:
        // Whatever the width, there is one byte.
        return at === 0 ? readIsr(this.device) : 0;
      case DEVICE_AT:
        return this.device.readConfig(at, size);
    }
    return 0;
  }

  write(offset: number, size: number, value: number): void {
    const at = offset & 0xfff;
    switch (offset - at) {
      case COMMON_AT:
        return this.common.write(at, size, value);
      case DEVICE_AT:
        return this.device.writeConfig(at, size, value, false);
      case NOTIFY_AT:
        if (size >= 2) return this.#notify(at, value & 0xffff);
    }
    this.device.badAccess();
  }

  /** Where it is written tells the queue; with all at one place, what is written does. */
  #notify(at: number, value: number): void {
    const { multiplier } = this;
    if (multiplier === 0 ? at === 0 : at === value * multiplier) this.device.notify(value);
    else this.device.badAccess();
  }
}

/** A {@link VirtioNetDevice} as a PCI function. */
export class PciDevice implements PciFunction {
  readonly config: RegisterFile;
  readonly #bytes = new Uint8Array(CONFIG_SPACE_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  /** Bits of the configuration space that can be written. */
  readonly #mask = new Uint8Array(CONFIG_SPACE_SIZE);
  readonly #bars: (RegisterFile | null)[] = new Array(6).fill(null);
  readonly #device: VirtioNetDevice;
  readonly #vectors: Vectors;
  readonly #msix: MsixTable | null;
  #msixAt = -1;
  #windowAt = -1;
  readonly #interrupt: ((up: boolean) => void) | null;
  /** Where the next capability goes, and what points there. */
  #free = 0x40;
  #link: number = p.PCI.CAPABILITIES;

  /**
   * A function with registers for `device`.
   *
   * @throws {TypeError | RangeError} for impossible options
   * @throws {Deno.errors.Busy} when the device has registers already
   */
  constructor(device: VirtioNetDevice, options: PciOptions = {}) {
    const { kind = "modern", vectors = device.queueCount + 1, notifyMultiplier = 4, interrupt, message } = options;
    if (kind !== "modern" && kind !== "legacy" && kind !== "transitional") throw new TypeError(`Invalid kind ${kind}`);
    if (!(Number.isInteger(vectors) && vectors >= 0 && vectors <= MSIX_VECTORS_MAX)) {
      throw new RangeError(`vectors must be 0 to ${MSIX_VECTORS_MAX}: ${vectors}`);
    }
    if (![0, 2, 4, 8, 16, 32, 64].includes(notifyMultiplier)) {
      throw new RangeError(`notifyMultiplier must be 0 or a power of two from 2 to 64: ${notifyMultiplier}`);
    }
    this.#vectors = new Vectors(device.queueCount, vectors);
    this.#msix = vectors === 0 ? null : new MsixTable(vectors, (address, data) => message?.(address, data));
    const common = new CommonConfig(device, this.#vectors);
    const legacy = new LegacyRegisters(device, this.#vectors, this.#msix);
    device.connect({
      message: (index) => this.#message(index),
      line: (up) => this.#line(up),
      reset: () => {
        common.reset();
        legacy.reset();
        this.#vectors.reset();
      },
    });
    this.#device = device;
    this.#interrupt = interrupt ?? null;
    this.#identify(kind);
    if (this.#msix !== null) this.#addMsix(this.#msix);
    if (kind !== "modern") this.#addBar(LEGACY_BAR, LEGACY_SIZE, legacy, true);
    if (kind !== "legacy") this.#addModern(new ModernRegisters(device, common, notifyMultiplier));
    this.config = { read: (offset, size) => this.#readConfig(offset, size), write: (...args) => this.#writeConfig(...args) };
  }

  #identify(kind: "modern" | "legacy" | "transitional"): void {
    const view = this.#view;
    const modern = kind === "modern";
    view.setUint16(p.PCI.VENDOR, p.PCI_VENDOR, true);
    view.setUint16(p.PCI.DEVICE, modern ? p.PCI_DEVICE_MODERN + NET_DEVICE_ID : p.PCI_DEVICE_LEGACY, true);
    view.setUint8(p.PCI.REVISION, modern ? 1 : 0);
    // A network controller, Ethernet.
    view.setUint8(p.PCI.CLASS, 2);
    view.setUint16(p.PCI.SUBSYSTEM_VENDOR, p.PCI_VENDOR, true);
    view.setUint16(p.PCI.SUBSYSTEM, NET_DEVICE_ID, true);
    view.setUint8(p.PCI.INTERRUPT_PIN, 1);
    this.#mask[p.PCI.INTERRUPT_PIN - 1] = 0xff;
    this.#mask[p.PCI.COMMAND] = p.COMMAND_IO | p.COMMAND_MEMORY | p.COMMAND_MASTER;
    this.#mask[p.PCI.COMMAND + 1] = p.COMMAND_NO_LINE >> 8;
  }

  /** A base address: what can't be written of it tells size and kind. */
  #addBar(index: number, size: number, registers: RegisterFile, io: boolean): void {
    const at = p.PCI.BAR0 + 4 * index;
    this.#bars[index] = registers;
    this.#view.setUint32(at, io ? 1 : 0, true);
    new DataView(this.#mask.buffer).setUint32(at, ~(size - 1), true);
  }

  /** Puts a capability of `size` bytes at the end of the list. */
  #addCapability(id: number, size: number): number {
    const at = this.#free;
    this.#bytes[p.PCI.STATUS] |= p.STATUS_CAPABILITIES;
    this.#bytes[this.#link] = at;
    this.#bytes[at] = id;
    this.#link = at + 1;
    this.#free = at + size;
    return at;
  }

  #addMsix(msix: MsixTable): void {
    const at = this.#msixAt = this.#addCapability(p.CAPABILITY_MSIX, 12);
    this.#view.setUint16(at + 2, msix.control, true);
    this.#mask[at + 3] = 0xc0;
    this.#view.setUint32(at + 4, MSIX_BAR, true);
    this.#view.setUint32(at + 8, MSIX_PENDING | MSIX_BAR, true);
    this.#addBar(MSIX_BAR, MSIX_SIZE, msix, false);
  }

  #addModern(registers: ModernRegisters): void {
    this.#addBar(MODERN_BAR, MODERN_SIZE, registers, false);
    const add = (type: number, offset: number, length: number, extra = 0) => {
      const at = this.#addCapability(p.CAPABILITY_VENDOR, 16 + extra);
      this.#bytes[at + 2] = 16 + extra;
      this.#bytes[at + 3] = type;
      this.#bytes[at + 4] = MODERN_BAR;
      this.#view.setUint32(at + 8, offset, true);
      this.#view.setUint32(at + 12, length, true);
      return at;
    };
    add(p.VIRTIO_CAP.COMMON, COMMON_AT, p.COMMON.SIZE);
    add(p.VIRTIO_CAP.ISR, ISR_AT, 1);
    add(p.VIRTIO_CAP.DEVICE, DEVICE_AT, CONFIG_BYTES);
    const { queueCount } = registers.device;
    const notify = add(p.VIRTIO_CAP.NOTIFY, NOTIFY_AT, registers.multiplier * (queueCount - 1) + 2, 4);
    this.#view.setUint32(notify + 16, registers.multiplier, true);
    const window = this.#windowAt = add(p.VIRTIO_CAP.PCI_CFG, 0, 0, 4);
    // The driver writes where it wants to look: BAR, offset and length.
    this.#bytes[window + 4] = 0;
    this.#mask[window + 4] = 0xff;
    this.#mask.fill(0xff, window + 8, window + 20);
  }

  #message(index: number): boolean {
    if (this.#msix?.enabled !== true) return false;
    this.#msix.raise(index === CONFIG_CHANGED ? this.#vectors.config : this.#vectors.queues[index]);
    return true;
  }

  #line(up: boolean): void {
    if (this.#msix?.enabled === true) up = false;
    this.#bytes[p.PCI.STATUS] = (this.#bytes[p.PCI.STATUS] & ~p.STATUS_LINE) | (up ? p.STATUS_LINE : 0);
    if (!up || (this.#view.getUint16(p.PCI.COMMAND, true) & p.COMMAND_NO_LINE) === 0) this.#interrupt?.(up);
  }

  /** What lies behind a BAR while the function answers there. */
  #open(index: number): RegisterFile | null {
    const needed = index === LEGACY_BAR ? p.COMMAND_IO : p.COMMAND_MEMORY;
    return (this.#bytes[p.PCI.COMMAND] & needed) === 0 ? null : this.#bars[index] ?? null;
  }

  bar(index: number): RegisterFile | null {
    if ((this.#bars[index] ?? null) === null) return null;
    return {
      // Nobody answers: all bits are ones.
      read: (offset, size) => this.#open(index)?.read(offset, size) ?? 2 ** (8 * size) - 1,
      write: (offset, size, value) => this.#open(index)?.write(offset, size, value),
    };
  }

  /** The registers that the window of the PCI_CFG capability shows, if the access is for its data. */
  #window(offset: number, size: number): RegisterFile | null {
    const at = this.#windowAt;
    if (at < 0 || offset !== at + 16 || size !== this.#view.getUint32(at + 12, true)) return null;
    return this.#open(this.#bytes[at + 4]);
  }

  #readConfig(offset: number, size: number): number {
    if (offset < 0 || offset + size > CONFIG_SPACE_SIZE) return 2 ** (8 * size) - 1;
    const window = this.#window(offset, size);
    if (window !== null) return window.read(this.#view.getUint32(this.#windowAt + 8, true), size);
    let value = 0;
    for (let i = size - 1; i >= 0; i--) value = value * 256 + this.#bytes[offset + i];
    return value;
  }

  #writeConfig(offset: number, size: number, value: number): void {
    if (offset < 0 || offset + size > CONFIG_SPACE_SIZE) return this.#device.badAccess();
    const window = this.#window(offset, size);
    if (window !== null) return window.write(this.#view.getUint32(this.#windowAt + 8, true), size, value);
    for (let i = 0; i < size; i++) {
      const mask = this.#mask[offset + i];
      this.#bytes[offset + i] = (this.#bytes[offset + i] & ~mask) | ((value >>> (8 * i)) & mask);
    }
    const at = this.#msixAt;
    if (this.#msix !== null && offset <= at + 3 && offset + size > at + 2) {
      this.#msix.control = this.#view.getUint16(at + 2, true);
    }
  }
}
