/**
 * A real device as a member of a simulated network: what it delivers goes over a link, and the other way.
 *
 * @module
 */
import { type Device, type FrameMemory, type FrameSink, TxFrame } from "../stack/device.ts";
import type { Clock } from "../stack/host/clock.ts";
import { faults } from "./faults.ts";
import type { Jack, LinkEnd } from "./link.ts";

/** Frames taken at once, in each direction. */
const BURST = 256;
/** How often a device that is down is tried again, in milliseconds. */
const DOWN_RETRY_MS = 250;
/** Bytes of a frame that are put behind the headroom. */
const INLINE_BYTES = 138;

/** A device that has joined a {@link Network}: made by `net.attach`. */
export interface AttachedDevice {
  /** The device's name. */
  readonly name: string;
  /** Frames in each direction, those lost, and the device's own counters: a copy. */
  readonly statistics: Record<string, number>;
}

/** The device's place in the network. */
export class Attachment implements AttachedDevice, Jack {
  readonly name: string;
  end: LinkEnd | null = null;
  readonly #device: Device;
  readonly #clock: Clock;
  readonly #tx = new TxFrame();
  readonly #fromDevice: FrameSink;
  readonly #fromLink: FrameSink;
  readonly #counters = { fromDevice: 0, toDevice: 0, unplugged: 0, droppedDevice: 0 };
  #scheduled = false;
  #closed = false;
  #retry: unknown = null;

  /** Throws what opening the device throws. */
  constructor(device: Device, clock: Clock) {
    if (device.medium !== "ethernet") {
      throw new TypeError(`device "${device.name}" carries IP packets: only Ethernet devices can be attached`);
    }
    this.name = device.name;
    this.#clock = clock;
    // For its other gift: what a device with offload delivers comes out as frames of a wire.
    this.#device = faults(device, { clock });
    this.#fromDevice = { frame: (memory, offset, length) => this.#sendOn(memory, offset, length) };
    this.#fromLink = { frame: (memory, offset, length) => this.#handOver(memory, offset, length) };
    this.#device.open(() => this.arrived());
    this.arrived();
  }

  /** Frames wait, on either side. */
  arrived(): void {
    if (this.#scheduled || this.#closed) return;
    this.#scheduled = true;
    if (this.#clock.defer !== undefined) this.#clock.defer(this.#run);
    else setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    if (this.#closed) return;
    const count = this.#device.receive(this.#fromDevice, BURST);
    if (count === BURST) this.arrived();
    else if (count >= 0) this.#device.arm();
    else this.#retry ??= this.#clock.setTimer(this.#clock.now() + DOWN_RETRY_MS, this.#again);
    if (this.end === null) return;
    if (this.end.receive(this.#fromLink, BURST) === BURST) this.arrived();
    else this.end.arm();
    this.#device.flush?.();
  };

  readonly #again = (): void => {
    this.#retry = null;
    this.arrived();
  };

  #sendOn(memory: FrameMemory, offset: number, length: number): void {
    this.#counters.fromDevice++;
    if (this.end === null) {
      this.#counters.unplugged++;
      return;
    }
    const tx = this.#tx;
    tx.reset(length);
    tx.memory = memory;
    tx.offset = offset;
    this.end.send(tx);
  }

  readonly #out = new TxFrame();

  #handOver(memory: FrameMemory, offset: number, length: number): void {
    this.#counters.toDevice++;
    const tx = this.#out;
    const inline = Math.min(length, INLINE_BYTES);
    tx.reset(inline);
    // A driver may put a header in front, so the first bytes go where there is room.
    for (let i = 0; i < inline; i++) tx.memory.bytes[tx.offset + i] = memory.bytes[offset + i];
    if (length > inline) {
      tx.payload = memory;
      tx.payloadOffset1 = offset + inline;
      tx.payloadLength1 = length - inline;
    }
    if (this.#device.transmit(tx) < 0) this.#counters.droppedDevice++;
  }

  get statistics(): Record<string, number> {
    return { ...this.#device.statistics?.(), ...this.#counters };
  }

  /** Closes the device. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#retry !== null) this.#clock.clearTimer(this.#retry);
    this.#device.close();
  }
}
