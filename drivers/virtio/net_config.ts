/**
 * The configuration space of a virtio network device (virtio 1.2, 5.1.4), and what a status register says (2.1). The
 * fields are little-endian, on the legacy interface too: every machine that a guest of ours may be is.
 *
 *      0       6        8                    10    12      16       17
 *     +-------+--------+--------------------+-----+-------+--------+
 *     | mac   | status | max_virtqueue_pairs| mtu | speed | duplex |
 *     +-------+--------+--------------------+-----+-------+--------+
 *
 * @module
 */

/** The device id of a network device. */
export const NET_DEVICE_ID = 1;
/** Device status: the driver has seen the device. */
export const STATUS_ACKNOWLEDGE = 1;
/** Device status: there is a driver for it. */
export const STATUS_DRIVER = 2;
/** Device status: the driver is ready. */
export const STATUS_DRIVER_OK = 4;
/** Device status: the features are agreed on; the device leaves it away when they are not. */
export const STATUS_FEATURES_OK = 8;
/** Device status: nothing goes on before a reset. */
export const STATUS_NEEDS_RESET = 64;
/** Device status: the driver has given up. */
export const STATUS_FAILED = 128;
/** Interrupt status: a queue has used buffers. */
export const INTERRUPT_USED = 1;
/** Interrupt status: the configuration has changed. */
export const INTERRUPT_CONFIG = 2;
/** Link status: it is up. */
export const LINK_UP = 1;
/** Link status: the driver is asked to announce itself. */
export const LINK_ANNOUNCE = 2;
/** Bytes of the whole configuration, up to speed and duplex, rounded up. */
export const CONFIG_BYTES = 20;
/** Where the link status lies. */
export const CONFIG_STATUS = 6;
/** Where the number of queue pairs lies. */
export const CONFIG_PAIRS = 8;
/** Where the MTU lies. */
export const CONFIG_MTU = 10;
/** Where the speed lies, in Mbit/s. */
export const CONFIG_SPEED = 12;
/** Where the duplex mode lies. */
export const CONFIG_DUPLEX = 16;
/** Full duplex; there is no other now. */
export const DUPLEX_FULL = 1;

/** A configuration space that answers at any width, and nothing beyond its end. */
export class ConfigSpace {
  readonly bytes: Uint8Array = new Uint8Array(CONFIG_BYTES);
  readonly #view: DataView = new DataView(this.bytes.buffer);

  /** A little-endian number of 1, 2 or 4 bytes; 0 for what lies outside. */
  read(offset: number, size: number): number {
    if (offset < 0 || offset + size > CONFIG_BYTES) return 0;
    const view = this.#view;
    return size === 4
      ? view.getUint32(offset, true)
      : size === 2
      ? view.getUint16(offset, true)
      : size === 1
      ? view.getUint8(offset)
      : 0;
  }

  /** Everything anew. */
  fill(mac: Uint8Array, status: number, pairs: number, mtu: number, speedMbps: number): void {
    this.bytes.set(mac);
    this.status = status;
    this.#view.setUint16(CONFIG_PAIRS, pairs, true);
    this.#view.setUint16(CONFIG_MTU, mtu, true);
    this.#view.setUint32(CONFIG_SPEED, speedMbps, true);
    this.bytes[CONFIG_DUPLEX] = DUPLEX_FULL;
  }

  /** The link status. */
  get status(): number {
    return this.#view.getUint16(CONFIG_STATUS, true);
  }

  set status(value: number) {
    this.#view.setUint16(CONFIG_STATUS, value, true);
  }
}
