/**
 * Names and numbers of virtio over PCI (virtio 1.2, 4.1).
 *
 * @module
 */

/** Red Hat's vendor id, which virtio devices have. */
export const PCI_VENDOR = 0x1af4;
/** A modern device's id, less the kind of device. */
export const PCI_DEVICE_MODERN = 0x1040;
/** The first of the legacy (and transitional) devices' ids, and a network device's own. */
export const PCI_DEVICE_LEGACY = 0x1000;
/** The last of them. */
export const PCI_DEVICE_LEGACY_LAST = 0x103f;

/** Offsets in a function's configuration space. */
export const PCI = {
  VENDOR: 0x00,
  DEVICE: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  CLASS: 0x0b,
  BAR0: 0x10,
  SUBSYSTEM_VENDOR: 0x2c,
  SUBSYSTEM: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_PIN: 0x3d,
} as const;

/** Command register: answers I/O addresses. */
export const COMMAND_IO = 1;
/** Command register: answers memory addresses. */
export const COMMAND_MEMORY = 2;
/** Command register: may use memory. */
export const COMMAND_MASTER = 4;
/** Command register: no interrupt line. */
export const COMMAND_NO_LINE = 0x400;
/** Status register: the line is up. */
export const STATUS_LINE = 8;
/** Status register: there is a list of capabilities. */
export const STATUS_CAPABILITIES = 0x10;
/** Capability: the vendor's own, which is virtio's. */
export const CAPABILITY_VENDOR = 0x09;
/** Capability: MSI-X. */
export const CAPABILITY_MSIX = 0x11;

/** Kinds of virtio's capabilities. */
export const VIRTIO_CAP = { COMMON: 1, NOTIFY: 2, ISR: 3, DEVICE: 4, PCI_CFG: 5 } as const;

/** Offsets in the common configuration. */
export const COMMON = {
  DEVICE_FEATURE_SELECT: 0x00,
  DEVICE_FEATURE: 0x04,
  DRIVER_FEATURE_SELECT: 0x08,
  DRIVER_FEATURE: 0x0c,
  CONFIG_VECTOR: 0x10,
  NUM_QUEUES: 0x12,
  STATUS: 0x14,
  GENERATION: 0x15,
  QUEUE_SELECT: 0x16,
  QUEUE_SIZE: 0x18,
  QUEUE_VECTOR: 0x1a,
  QUEUE_ENABLE: 0x1c,
  QUEUE_NOTIFY_OFF: 0x1e,
  QUEUE_DESC: 0x20,
  QUEUE_DRIVER: 0x28,
  QUEUE_DEVICE: 0x30,
  SIZE: 0x38,
} as const;

/** Offsets in the legacy registers of BAR 0. */
export const LEGACY = {
  DEVICE_FEATURES: 0x00,
  DRIVER_FEATURES: 0x04,
  QUEUE_PFN: 0x08,
  QUEUE_SIZE: 0x0c,
  QUEUE_SELECT: 0x0e,
  QUEUE_NOTIFY: 0x10,
  STATUS: 0x12,
  ISR: 0x13,
  /** The configuration, or with MSI-X these two vectors and then the configuration. */
  CONFIG: 0x14,
  CONFIG_VECTOR: 0x14,
  QUEUE_VECTOR: 0x16,
  CONFIG_MSIX: 0x18,
} as const;

/** The page that a legacy queue's address counts, and the alignment of its used ring. */
export const LEGACY_PAGE = 4096;
/** No MSI-X vector. */
export const NO_VECTOR = 0xffff;
