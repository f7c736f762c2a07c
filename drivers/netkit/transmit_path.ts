/**
 * What becomes of a frame that is sent into a netkit device.
 *
 * @module
 */
import { RX_CHECKSUM_PARTIAL, type TxFrame } from "../../stack/device.ts";
import type { NetkitDevice } from "./device.ts";
import { type Inbox, SUPER_FRAME } from "./inbox.ts";
import { NetkitMeta } from "./meta.ts";
import { NETKIT_DEVICE_SINGLE, NETKIT_PASS, NETKIT_SCRUB_DEFAULT } from "./options.ts";
import { LINK_HEADER, Staging } from "./staging.ts";
import { count, Verdicts } from "./verdicts.ts";

/** The way of the frames of one device: programs if there are any, else the policy. */
export class TransmitPath {
  readonly #device: NetkitDevice;
  readonly #verdicts: Verdicts;
  readonly #meta = new NetkitMeta();
  readonly #staging = new Staging();

  /** Of that device. */
  constructor(device: NetkitDevice) {
    this.#device = device;
    this.#verdicts = new Verdicts(device);
  }

  /** Takes a frame from the device's user. The device is up. */
  transmit(frame: TxFrame, mark: number, priority: number, timestamp: number): void {
    const device = this.#device;
    const length = frame.size + device.linkHeader;
    const to = this.#receiver(length);
    if (to === null) return count(device, false, length, null);
    const { peer } = device;
    const { active } = device.programs;
    if (active === null || peer === null) {
      this.#mark(this.#meta, mark, priority, timestamp, peer);
      return this.#plain(frame, to, length, peer);
    }
    // A program may send something itself: that is another frame, and goes by a record of its own.
    const nested = this.#staging.busy;
    const meta = nested ? new NetkitMeta() : this.#meta;
    this.#mark(meta, mark, priority, timestamp, peer);
    const staged = this.#staging.prepare(frame, device.linkHeader, device.headroom, device.tailroom);
    this.#staging.busy = true;
    this.#verdicts.run(active, staged, meta, peer);
    this.#staging.busy = nested;
  }

  /** Without programs: one copy, from where the sender has it to where the receiver reads it. */
  #plain(frame: TxFrame, to: Inbox, length: number, peer: NetkitDevice | null): void {
    const { mark, priority, timestamp } = this.#meta;
    const flags = frame.checksumStart >= 0 ? RX_CHECKSUM_PARTIAL : 0;
    const passes = this.#device.policy === NETKIT_PASS && to.gather(frame, flags, mark, priority, timestamp);
    count(this.#device, passes, length, peer);
  }

  /** Who takes a frame of that size; null when it is to be dropped. */
  #receiver(length: number): Inbox | null {
    const device = this.#device;
    if (length < LINK_HEADER || length > SUPER_FRAME + device.linkHeader) return null;
    if (device.pairing === NETKIT_DEVICE_SINGLE) return device.owner?.inbox ?? null;
    const { peer } = device;
    return peer !== null && peer.up ? peer.inbox : null;
  }

  /** Marks as they are on the other side: what crosses namespaces loses its time, and is scrubbed. */
  #mark(meta: NetkitMeta, mark: number, priority: number, timestamp: number, peer: NetkitDevice | null): void {
    const device = this.#device;
    const crosses = peer !== null && peer.namespace !== device.namespace;
    const scrubbed = crosses && device.scrub === NETKIT_SCRUB_DEFAULT;
    meta.begin(scrubbed ? 0 : mark, scrubbed ? 0 : priority, crosses ? 0 : timestamp, peer?.index ?? device.index, device.index);
  }
}
