/**
 * A driver's way to a virtio device on PCI (virtio 1.2, 4.1): modern, by its capabilities, or legacy, by the registers of BAR 0.
 *
 * @module
 */
import { INTERRUPT_CONFIG, INTERRUPT_USED } from "./net_config.ts";
import { BarWindow, type Capabilities, findCapabilities } from "./pci_capabilities.ts";
import type { PciFunction } from "./pci_device.ts";
import * as p from "./pci_registers.ts";
import { type QueueAddresses, VirtioError, type VirtioTransport } from "./transport.ts";

/** Options of {@link pciTransport}. */
export interface PciTransportOptions {
  /** Use the legacy registers of a device that has both. Default false. */
  preferLegacy?: boolean;
  /**
   * Have interrupts as messages: that of vector n writes `data + n` to `address`. Vector 0 tells of the configuration, the
   * others of queues. Default: the interrupt line.
   */
  msix?: { readonly address: number; readonly data: number };
}

const ENTRY_SIZE = 16;
const CONTROL_ENABLE = 0x8000;
/** The last of the ids of modern devices. */
const MODERN_LAST = 0x107f;

/**
 * Finds the device behind a PCI function.
 *
 * @throws {VirtioError} when it is none of virtio's, or lacks what a driver needs
 */
export function pciTransport(pci: PciFunction, options: PciTransportOptions = {}): VirtioTransport {
  const { config } = pci;
  const vendor = config.read(p.PCI.VENDOR, 2);
  const device = config.read(p.PCI.DEVICE, 2);
  const who = `${vendor.toString(16).padStart(4, "0")}:${device.toString(16).padStart(4, "0")}`;
  if (vendor !== p.PCI_VENDOR || device < p.PCI_DEVICE_LEGACY || device > MODERN_LAST) {
    throw new VirtioError("NOT_VIRTIO", `no virtio device: ${who}`);
  }
  const revision = config.read(p.PCI.REVISION, 1);
  const transitional = device <= p.PCI_DEVICE_LEGACY_LAST;
  const command = config.read(p.PCI.COMMAND, 2);
  config.write(p.PCI.COMMAND, 2, command | p.COMMAND_IO | p.COMMAND_MEMORY | p.COMMAND_MASTER);
  const found = findCapabilities(pci);
  if (transitional && (options.preferLegacy === true || found.common === null)) {
    if (revision !== 0) throw new VirtioError("UNSUPPORTED_VERSION", `a legacy device ${who} of revision ${revision}, not 0`);
    return new PciLegacyTransport(pci, found, options);
  }
  const id = transitional ? config.read(p.PCI.SUBSYSTEM, 2) : device - p.PCI_DEVICE_MODERN;
  return new PciTransport(pci, found, id, options);
}

/** Fills the MSI-X table in and turns it on. Vectors that there are, 0 without. */
function setUpMessages(pci: PciFunction, at: number, options: PciTransportOptions): number {
  const { msix } = options;
  if (msix === undefined) return 0;
  if (at < 0) throw new VirtioError("MISSING_CAPABILITY", "no MSI-X capability");
  const { config } = pci;
  const control = config.read(at + 2, 2);
  const count = (control & 0x7ff) + 1;
  const where = config.read(at + 4, 4);
  const table = pci.bar(where & 7);
  if (table === null) throw new VirtioError("MISSING_CAPABILITY", `an MSI-X table in BAR ${where & 7}, which isn't there`);
  for (let i = 0; i < count; i++) {
    const entry = (where & ~7) + ENTRY_SIZE * i;
    table.write(entry, 4, msix.address % 0x1_0000_0000);
    table.write(entry + 4, 4, Math.floor(msix.address / 0x1_0000_0000));
    table.write(entry + 8, 4, msix.data + i);
    table.write(entry + 12, 4, 0);
  }
  config.write(at + 2, 2, control | CONTROL_ENABLE);
  return count;
}

/** The vector of a queue: its own, or the last one with others. */
function queueVector(index: number, count: number): number {
  return Math.min(index + 1, count - 1);
}

/** What the message of a vector is about. */
function messageBits(vector: number, count: number): number {
  if (vector > 0) return INTERRUPT_USED;
  return count === 1 ? INTERRUPT_CONFIG | INTERRUPT_USED : INTERRUPT_CONFIG;
}

/** What a vector's register says must be what was written there. */
function accepted(vector: number, back: number): void {
  if (vector !== back) throw new VirtioError("QUEUES_UNAVAILABLE", `the device has no resources for MSI-X vector ${vector}`);
}

/** A modern device. */
class PciTransport implements VirtioTransport {
  readonly name = "pci";
  readonly legacy = false;
  readonly fixedQueueSize = false;
  readonly #common: BarWindow;
  readonly #config: BarWindow;
  readonly #notify: BarWindow;
  readonly #isr: BarWindow | null;
  readonly #multiplier: number;
  readonly #vectors: number;
  /** Where each queue is notified, in the BAR. */
  readonly #places: number[] = [];

  constructor(pci: PciFunction, found: Capabilities, readonly deviceId: number, options: PciTransportOptions) {
    const need = (window: BarWindow | null, what: string, size: number) => {
      if (window !== null && window.length >= size) return window;
      throw new VirtioError("MISSING_CAPABILITY", `missing ${what} capability`);
    };
    this.#common = need(found.common, "common configuration", p.COMMON.SIZE);
    this.#config = need(found.device, "device configuration", 1);
    this.#notify = need(found.notify, "notification", 2);
    this.#isr = found.isr;
    this.#multiplier = found.multiplier;
    if (options.msix === undefined) need(found.isr, "ISR", 1);
    this.#vectors = setUpMessages(pci, found.msix, options);
  }

  get status(): number {
    return this.#common.read(p.COMMON.STATUS, 1);
  }

  set status(value: number) {
    this.#common.write(p.COMMON.STATUS, 1, value);
  }

  deviceFeatures(): bigint {
    let features = 0n;
    for (let word = 1; word >= 0; word--) {
      this.#common.write(p.COMMON.DEVICE_FEATURE_SELECT, 4, word);
      features = (features << 32n) | BigInt(this.#common.read(p.COMMON.DEVICE_FEATURE, 4));
    }
    return features;
  }

  chooseFeatures(features: bigint): void {
    for (let word = 0; word < 2; word++) {
      this.#common.write(p.COMMON.DRIVER_FEATURE_SELECT, 4, word);
      this.#common.write(p.COMMON.DRIVER_FEATURE, 4, Number((features >> BigInt(32 * word)) & 0xffff_ffffn));
    }
  }

  configGeneration(): number {
    return this.#common.read(p.COMMON.GENERATION, 1);
  }

  readConfig(offset: number, size: number): number {
    // Fields of features that the device doesn't have may be missing.
    return offset + size > this.#config.length ? 0 : this.#config.read(offset, size);
  }

  #select(index: number): boolean {
    if (index >= this.#common.read(p.COMMON.NUM_QUEUES, 2)) return false;
    this.#common.write(p.COMMON.QUEUE_SELECT, 2, index);
    return true;
  }

  queueSizeMax(index: number): number {
    return this.#select(index) ? this.#common.read(p.COMMON.QUEUE_SIZE, 2) : 0;
  }

  queueReady(index: number): boolean {
    return this.#select(index) && this.#common.read(p.COMMON.QUEUE_ENABLE, 2) !== 0;
  }

  setUpQueue(index: number, addresses: QueueAddresses): void {
    this.#select(index);
    const common = this.#common;
    common.write(p.COMMON.QUEUE_SIZE, 2, addresses.size);
    this.#address(p.COMMON.QUEUE_DESC, addresses.descriptors);
    this.#address(p.COMMON.QUEUE_DRIVER, addresses.driver);
    this.#address(p.COMMON.QUEUE_DEVICE, addresses.device);
    if (this.#vectors > 0) {
      common.write(p.COMMON.CONFIG_VECTOR, 2, 0);
      accepted(0, common.read(p.COMMON.CONFIG_VECTOR, 2));
      const vector = queueVector(index, this.#vectors);
      common.write(p.COMMON.QUEUE_VECTOR, 2, vector);
      accepted(vector, common.read(p.COMMON.QUEUE_VECTOR, 2));
    }
    const place = common.read(p.COMMON.QUEUE_NOTIFY_OFF, 2) * this.#multiplier;
    if (place + 2 > this.#notify.length) {
      throw new VirtioError(
        "QUEUES_UNAVAILABLE",
        `queue ${index} is notified at ${place}, outside of ${this.#notify.length} bytes`,
      );
    }
    this.#places[index] = place;
    common.write(p.COMMON.QUEUE_ENABLE, 2, 1);
  }

  #address(at: number, address: number): void {
    this.#common.write(at, 4, address % 0x1_0000_0000);
    this.#common.write(at + 4, 4, Math.floor(address / 0x1_0000_0000));
  }

  notify(index: number): void {
    this.#notify.write(this.#places[index], 2, index);
  }

  interrupt(vector?: number): number {
    if (vector !== undefined) return messageBits(vector, this.#vectors);
    return this.#isr?.read(0, 1) ?? 0;
  }
}

/** A legacy device: everything in BAR 0. */
class PciLegacyTransport implements VirtioTransport {
  readonly name = "pci-legacy";
  readonly legacy = true;
  readonly fixedQueueSize = true;
  readonly deviceId: number;
  readonly #io: BarWindow;
  readonly #vectors: number;

  constructor(pci: PciFunction, found: Capabilities, options: PciTransportOptions) {
    const bar = pci.bar(0);
    if (bar === null) throw new VirtioError("MISSING_CAPABILITY", "a legacy device without BAR 0");
    this.#io = new BarWindow(bar, 0, Infinity);
    this.deviceId = pci.config.read(p.PCI.SUBSYSTEM, 2);
    this.#vectors = setUpMessages(pci, found.msix, options);
  }

  get status(): number {
    return this.#io.read(p.LEGACY.STATUS, 1);
  }

  set status(value: number) {
    this.#io.write(p.LEGACY.STATUS, 1, value);
  }

  deviceFeatures(): bigint {
    return BigInt(this.#io.read(p.LEGACY.DEVICE_FEATURES, 4));
  }

  chooseFeatures(features: bigint): void {
    this.#io.write(p.LEGACY.DRIVER_FEATURES, 4, Number(features & 0xffff_ffffn));
  }

  configGeneration(): number {
    return 0;
  }

  readConfig(offset: number, size: number): number {
    return this.#io.read((this.#vectors > 0 ? p.LEGACY.CONFIG_MSIX : p.LEGACY.CONFIG) + offset, size);
  }

  queueSizeMax(index: number): number {
    this.#io.write(p.LEGACY.QUEUE_SELECT, 2, index);
    return this.#io.read(p.LEGACY.QUEUE_SIZE, 2);
  }

  queueReady(index: number): boolean {
    this.#io.write(p.LEGACY.QUEUE_SELECT, 2, index);
    return this.#io.read(p.LEGACY.QUEUE_PFN, 4) !== 0;
  }

  setUpQueue(index: number, addresses: QueueAddresses): void {
    this.#io.write(p.LEGACY.QUEUE_SELECT, 2, index);
    if (this.#vectors > 0) {
      this.#io.write(p.LEGACY.CONFIG_VECTOR, 2, 0);
      accepted(0, this.#io.read(p.LEGACY.CONFIG_VECTOR, 2));
      const vector = queueVector(index, this.#vectors);
      this.#io.write(p.LEGACY.QUEUE_VECTOR, 2, vector);
      accepted(vector, this.#io.read(p.LEGACY.QUEUE_VECTOR, 2));
    }
    this.#io.write(p.LEGACY.QUEUE_PFN, 4, addresses.descriptors / p.LEGACY_PAGE);
  }

  notify(index: number): void {
    this.#io.write(p.LEGACY.QUEUE_NOTIFY, 2, index);
  }

  interrupt(vector?: number): number {
    if (vector !== undefined) return messageBits(vector, this.#vectors);
    return this.#io.read(p.LEGACY.ISR, 1);
  }
}
