/**
 * The inner loop-back device: packets to our own addresses, and our own broadcasts and multicasts, wait here until
 * `pump`. It takes super-frames with partial checksums, so that nothing is cut or summed that never sees a wire.
 *
 * @module
 */
import { EAGAIN, OK } from "../codes.ts";
import {
  type Device,
  type DeviceCapabilities,
  FrameMemory,
  type FrameSink,
  RX_CHECKSUM_PARTIAL,
  type TxFrame,
} from "../device.ts";
import { LOOP_SLOTS } from "./limits.ts";

const SLOT_MIN = 2048;

export class LoopDevice implements Device {
  readonly name = "loop";
  readonly medium = "ip" as const;
  readonly mtu = 65535;
  readonly mac = null;
  readonly capabilities: DeviceCapabilities = { rxChecksum: true, txChecksum: true, txSegmentation: 65535, rxFrame: 65535 };
  /** Packets that wait. */
  pending = 0;
  /** While a packet is being handed out: the interface it counts as received by. */
  arrivedBy = 0;
  readonly counts = { queued: 0, full: 0 };

  // Slots are made when the queue first gets that deep, and kept.
  readonly #slots: FrameMemory[] = [];
  readonly #lengths = new Int32Array(LOOP_SLOTS);
  readonly #flags = new Int32Array(LOOP_SLOTS);
  readonly #segments = new Int32Array(LOOP_SLOTS);
  readonly #interfaces = new Int32Array(LOOP_SLOTS);
  #head = 0;

  open(): void {}
  arm(): void {}
  close(): void {}

  transmit(frame: TxFrame): number {
    return this.enqueue(frame, 0);
  }

  /** Queues a copy of a packet, to be received as if by interface `interfaceIndex`. */
  enqueue(frame: TxFrame, interfaceIndex: number): number {
    if (this.pending === LOOP_SLOTS) {
      this.counts.full++;
      return EAGAIN;
    }
    // While the queue is empty the first slot is used again and again: it stays in the processor's cache.
    if (this.pending === 0) this.#head = 0;
    const at = (this.#head + this.pending) % LOOP_SLOTS;
    const size = frame.size;
    let slot = this.#slots[at];
    if (slot === undefined || slot.bytes.length < size) {
      slot = this.#slots[at] = new FrameMemory(size <= SLOT_MIN ? SLOT_MIN : 65536);
    }
    frame.copyTo(slot.bytes, 0);
    this.#lengths[at] = size;
    this.#flags[at] = frame.checksumStart >= 0 ? RX_CHECKSUM_PARTIAL : 0;
    this.#segments[at] = frame.segmentSize;
    this.#interfaces[at] = interfaceIndex;
    this.pending++;
    this.counts.queued++;
    return OK;
  }

  /** Takes back what was queued last, down to `count` packets: how many these were. */
  retract(count: number): number {
    const taken = this.pending - count;
    this.pending = count;
    this.counts.queued -= taken;
    return taken;
  }

  receive(sink: FrameSink, budget: number): number {
    let n = 0;
    while (n < budget && this.pending > 0) {
      const at = this.#head;
      this.arrivedBy = this.#interfaces[at];
      sink.frame(this.#slots[at], 0, this.#lengths[at], this.#flags[at], this.#segments[at]);
      // Only now is the slot free: what the packet caused to be sent to ourselves must not land in it.
      this.#head = (at + 1) % LOOP_SLOTS;
      this.pending--;
      n++;
    }
    return n;
  }
}
