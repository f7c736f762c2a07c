/**
 * A device of two arrays: frames in slots made once, copied without garbage, so that whatever garbage there is comes from the stack.
 *
 * @module
 */
import { EAGAIN, OK } from "../../stack/codes.ts";
import { FrameMemory, RX_CHECKSUM_PARTIAL } from "../../stack/device.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../../stack/device.ts";

const SLOTS = 512;

/** Copies by words: `set` would need a view of the source, which is the very garbage that is looked for. */
function copy(from: FrameMemory, offset: number, to: FrameMemory, at: number, length: number): void {
  let i = 0;
  for (; i + 4 <= length; i += 4) to.view.setInt32(at + i, from.view.getInt32(offset + i));
  for (; i < length; i++) to.bytes[at + i] = from.bytes[offset + i];
}

export class ArrayDevice implements Device {
  readonly name = "array";
  readonly medium = "ip";
  readonly mtu = 1500;
  readonly mac = null;
  readonly capabilities: DeviceCapabilities;
  /** Frames sent. */
  sent = 0;
  peer: ArrayDevice = this;
  readonly #slots: FrameMemory[];
  readonly #lengths = new Int32Array(SLOTS);
  readonly #flags = new Int32Array(SLOTS);
  readonly #segmentSizes = new Int32Array(SLOTS);
  #head = 0;
  #count = 0;

  constructor(offload: boolean) {
    const size = offload ? 65_535 : 1500;
    this.capabilities = { rxChecksum: offload, txChecksum: offload, txSegmentation: offload ? size : 0, rxFrame: size };
    this.#slots = Array.from({ length: SLOTS }, () => new FrameMemory(size));
  }

  /** Two, joined. */
  static pair(offload = false): [ArrayDevice, ArrayDevice] {
    const [a, b] = [new ArrayDevice(offload), new ArrayDevice(offload)];
    a.peer = b;
    b.peer = a;
    return [a, b];
  }

  open(): void {}
  arm(): void {}
  close(): void {}

  receive(sink: FrameSink, budget: number): number {
    const count = Math.min(budget, this.#count);
    for (let i = 0; i < count; i++) {
      const slot = this.#head;
      sink.frame(this.#slots[slot], 0, this.#lengths[slot], this.#flags[slot], this.#segmentSizes[slot]);
      this.#head = (slot + 1) % SLOTS;
      this.#count--;
    }
    return count;
  }

  transmit(frame: TxFrame): number {
    if (!this.peer.#take(frame)) return EAGAIN;
    this.sent++;
    return OK;
  }

  #take(frame: TxFrame): boolean {
    if (this.#count === SLOTS) return false;
    const slot = (this.#head + this.#count) % SLOTS;
    const memory = this.#slots[slot];
    const { length, payloadLength1, payloadLength2 } = frame;
    copy(frame.memory, frame.offset, memory, 0, length);
    if (payloadLength1 > 0) copy(frame.payload, frame.payloadOffset1, memory, length, payloadLength1);
    if (payloadLength2 > 0) copy(frame.payload, frame.payloadOffset2, memory, length + payloadLength1, payloadLength2);
    this.#lengths[slot] = length + payloadLength1 + payloadLength2;
    this.#flags[slot] = frame.checksumStart >= 0 ? RX_CHECKSUM_PARTIAL : 0;
    this.#segmentSizes[slot] = frame.segmentSize;
    this.#count++;
    return true;
  }
}
