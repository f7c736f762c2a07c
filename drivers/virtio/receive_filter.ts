/**
 * Which frames a guest wants to see (virtio 1.2, 5.1.6.5.1 to 5.1.6.5.3): its own address, those that it has named, modes, VLANs.
 *
 * @module
 */

/** Addresses that are kept of each kind; a longer list lets all of its kind in. */
export const FILTER_MACS_MAX = 64;
/** VLAN identifiers. */
export const VLANS = 4096;
const TAG_8021Q = 0x8100;

/** A list of addresses, all in one array. */
export class MacList {
  readonly bytes: Uint8Array = new Uint8Array(6 * FILTER_MACS_MAX);
  count = 0;
  /** There were more than fit: every one counts as listed. */
  overflow = false;

  clear(): void {
    this.count = 0;
    this.overflow = false;
  }

  has(bytes: Uint8Array, at: number): boolean {
    if (this.overflow) return true;
    for (let i = 0; i < this.count; i++) if (sameMac(this.bytes, 6 * i, bytes, at)) return true;
    return false;
  }
}

function sameMac(a: Uint8Array, aAt: number, b: Uint8Array, bAt: number): boolean {
  for (let i = 0; i < 6; i++) if (a[aAt + i] !== b[bAt + i]) return false;
  return true;
}

/** The filter of one device. */
export class ReceiveFilter {
  /** What a device does that has been told nothing: everything comes in. */
  promiscuous = true;
  allMulticast = false;
  allUnicast = false;
  noMulticast = false;
  noUnicast = false;
  noBroadcast = false;
  readonly unicast: MacList = new MacList();
  readonly multicast: MacList = new MacList();
  readonly #vlans = new Uint32Array(VLANS / 32);
  #filtersVlans = false;

  /** As after a reset. `vlans`: VIRTIO_NET_F_CTRL_VLAN was agreed on, and none comes in before it is named. */
  reset(vlans: boolean): void {
    this.promiscuous = true;
    this.allMulticast =
      this.allUnicast =
      this.noMulticast =
      this.noUnicast =
      this.noBroadcast =
        false;
    this.unicast.clear();
    this.multicast.clear();
    this.#vlans.fill(0);
    this.#filtersVlans = vlans;
  }

  /** Lets a VLAN in, or not. */
  setVlan(id: number, on: boolean): void {
    if (on) this.#vlans[id >>> 5] |= 1 << (id & 31);
    else this.#vlans[id >>> 5] &= ~(1 << (id & 31));
  }

  /** True if the frame of `length` bytes at `at` is for a guest with the address `own`. */
  wants(bytes: Uint8Array, at: number, length: number, own: Uint8Array): boolean {
    if (length < 14) return true;
    if (this.#filtersVlans && length >= 18 && ((bytes[at + 12] << 8) | bytes[at + 13]) === TAG_8021Q) {
      const id = ((bytes[at + 14] << 8) | bytes[at + 15]) & 0xfff;
      if ((this.#vlans[id >>> 5] & (1 << (id & 31))) === 0) return false;
    }
    if (this.promiscuous) return true;
    if ((bytes[at] & 1) === 0) {
      if (this.noUnicast) return false;
      return this.allUnicast || sameMac(own, 0, bytes, at) || this.unicast.has(bytes, at);
    }
    let broadcast = true;
    for (let i = 0; i < 6; i++) broadcast &&= bytes[at + i] === 0xff;
    if (broadcast) return !this.noBroadcast;
    return !this.noMulticast && (this.allMulticast || this.multicast.has(bytes, at));
  }
}
