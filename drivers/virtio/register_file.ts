/**
 * Registers, as a processor sees them.
 *
 * @module
 */

/** A range of addresses that answers reads and writes of 1, 2 or 4 bytes. */
export interface RegisterFile {
  /** The number at `offset`, little-endian; 0 where there is nothing. */
  read(offset: number, size: number): number;
  /** Writes a number; what can't be written stays as it is. */
  write(offset: number, size: number, value: number): void;
}

/** MMIO registers (virtio 1.2, 4.2.2 and 4.2.4), those of both versions under the names of the newer one. */
export const MMIO = {
  MAGIC: 0x000,
  VERSION: 0x004,
  DEVICE_ID: 0x008,
  VENDOR_ID: 0x00c,
  DEVICE_FEATURES: 0x010,
  DEVICE_FEATURES_SEL: 0x014,
  DRIVER_FEATURES: 0x020,
  DRIVER_FEATURES_SEL: 0x024,
  /** Legacy. */
  GUEST_PAGE_SIZE: 0x028,
  QUEUE_SEL: 0x030,
  QUEUE_NUM_MAX: 0x034,
  QUEUE_NUM: 0x038,
  /** Legacy. */
  QUEUE_ALIGN: 0x03c,
  /** Legacy. */
  QUEUE_PFN: 0x040,
  QUEUE_READY: 0x044,
  QUEUE_NOTIFY: 0x050,
  INTERRUPT_STATUS: 0x060,
  INTERRUPT_ACK: 0x064,
  STATUS: 0x070,
  QUEUE_DESC_LOW: 0x080,
  QUEUE_DESC_HIGH: 0x084,
  QUEUE_DRIVER_LOW: 0x090,
  QUEUE_DRIVER_HIGH: 0x094,
  QUEUE_DEVICE_LOW: 0x0a0,
  QUEUE_DEVICE_HIGH: 0x0a4,
  SHM_SEL: 0x0ac,
  SHM_LEN_LOW: 0x0b0,
  SHM_LEN_HIGH: 0x0b4,
  SHM_BASE_LOW: 0x0b8,
  SHM_BASE_HIGH: 0x0bc,
  CONFIG_GENERATION: 0x0fc,
  CONFIG: 0x100,
} as const;

/** "virt". */
export const MMIO_MAGIC = 0x74726976;
/** The version of virtio 1.0 and later. */
export const MMIO_VERSION = 2;
/** The version before that. */
export const MMIO_VERSION_LEGACY = 1;
/** "TPCA": nobody's vendor id. */
export const VENDOR_ID = 0x41435054;
