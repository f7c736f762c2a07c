/**
 * A driver's way to a device behind memory-mapped registers (virtio 1.2, 4.2), of version 2 or 1.
 *
 * @module
 */
import type { QueueAddresses, VirtioTransport } from "./transport.ts";
import { VirtioError } from "./transport.ts";
import { LEGACY_PAGE } from "./pci_registers.ts";
import { MMIO, MMIO_MAGIC, MMIO_VERSION, MMIO_VERSION_LEGACY, type RegisterFile } from "./register_file.ts";

/** Options of an {@link MmioTransport}. */
export interface MmioTransportOptions {
  /** Take devices of version 1 too. Default true. */
  legacy?: boolean;
}

/** A device behind MMIO registers. */
export class MmioTransport implements VirtioTransport {
  readonly name = "mmio";
  readonly legacy: boolean;
  readonly deviceId: number;
  readonly fixedQueueSize = false;
  readonly #registers: RegisterFile;

  /**
   * Looks whether there is a device.
   *
   * @throws {VirtioError} when there is none, or one of a version that isn't wanted
   */
  constructor(registers: RegisterFile, options: MmioTransportOptions = {}) {
    this.#registers = registers;
    const magic = this.#read(MMIO.MAGIC);
    if (magic !== MMIO_MAGIC) throw new VirtioError("NOT_VIRTIO", `no virtio device: magic value 0x${magic.toString(16)}`);
    const version = this.#read(MMIO.VERSION);
    const known = version === MMIO_VERSION || (version === MMIO_VERSION_LEGACY && options.legacy !== false);
    if (!known) throw new VirtioError("UNSUPPORTED_VERSION", `unsupported version ${version} of the virtio registers`);
    this.legacy = version === MMIO_VERSION_LEGACY;
    this.deviceId = this.#read(MMIO.DEVICE_ID);
  }

  #read(offset: number): number {
    return this.#registers.read(offset, 4);
  }

  #write(offset: number, value: number): void {
    this.#registers.write(offset, 4, value);
  }

  get status(): number {
    return this.#read(MMIO.STATUS);
  }

  set status(value: number) {
    this.#write(MMIO.STATUS, value);
  }

  deviceFeatures(): bigint {
    let features = 0n;
    for (let word = this.legacy ? 0 : 1; word >= 0; word--) {
      this.#write(MMIO.DEVICE_FEATURES_SEL, word);
      features = (features << 32n) | BigInt(this.#read(MMIO.DEVICE_FEATURES));
    }
    return features;
  }

  chooseFeatures(features: bigint): void {
    for (let word = 0; word < (this.legacy ? 1 : 2); word++) {
      this.#write(MMIO.DRIVER_FEATURES_SEL, word);
      this.#write(MMIO.DRIVER_FEATURES, Number((features >> BigInt(32 * word)) & 0xffff_ffffn));
    }
  }

  configGeneration(): number {
    return this.legacy ? 0 : this.#read(MMIO.CONFIG_GENERATION);
  }

  readConfig(offset: number, size: number): number {
    return this.#registers.read(MMIO.CONFIG + offset, size);
  }

  queueSizeMax(index: number): number {
    this.#write(MMIO.QUEUE_SEL, index);
    return this.#read(MMIO.QUEUE_NUM_MAX);
  }

  queueReady(index: number): boolean {
    this.#write(MMIO.QUEUE_SEL, index);
    return this.#read(this.legacy ? MMIO.QUEUE_PFN : MMIO.QUEUE_READY) !== 0;
  }

  setUpQueue(index: number, addresses: QueueAddresses): void {
    const { size, descriptors, driver, device } = addresses;
    if (this.legacy) this.#write(MMIO.GUEST_PAGE_SIZE, LEGACY_PAGE);
    this.#write(MMIO.QUEUE_SEL, index);
    this.#write(MMIO.QUEUE_NUM, size);
    if (this.legacy) {
      this.#write(MMIO.QUEUE_ALIGN, LEGACY_PAGE);
      this.#write(MMIO.QUEUE_PFN, descriptors / LEGACY_PAGE);
      return;
    }
    this.#address(MMIO.QUEUE_DESC_LOW, descriptors);
    this.#address(MMIO.QUEUE_DRIVER_LOW, driver);
    this.#address(MMIO.QUEUE_DEVICE_LOW, device);
    this.#write(MMIO.QUEUE_READY, 1);
  }

  #address(low: number, address: number): void {
    this.#write(low, address % 0x1_0000_0000);
    this.#write(low + 4, Math.floor(address / 0x1_0000_0000));
  }

  notify(index: number): void {
    this.#write(MMIO.QUEUE_NOTIFY, index);
  }

  interrupt(): number {
    const bits = this.#read(MMIO.INTERRUPT_STATUS);
    if (bits !== 0) this.#write(MMIO.INTERRUPT_ACK, bits);
    return bits;
  }
}
