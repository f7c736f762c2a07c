/**
 * A guest that writes registers and descriptors itself, and so can write any nonsense: over MMIO, split or packed queues.
 */
import { SharedMemory } from "../../../drivers/virtio/memory.ts";
import { MmioDevice } from "../../../drivers/virtio/mmio_device.ts";
import { VirtioNetDevice } from "../../../drivers/virtio/net_device.ts";
import type { VirtioNetOptions } from "../../../drivers/virtio/net_options.ts";
import { MMIO } from "../../../drivers/virtio/register_file.ts";

/** The guest's memory, between two pages that are nobody's. */
export const GUEST_BASE = 0x8000_0000;
export const GUEST_SIZE = 0x10_0000;
const FENCE = 4096;
const FENCE_BYTE = 0xcc;
/** Queue i has its parts at GUEST_BASE + i * QUEUE_STEP, and buffers behind all of them. */
export const QUEUE_STEP = 0x4000;
export const DRIVER_PART = 0x2000;
export const DEVICE_PART = 0x3000;
export const BUFFERS = GUEST_BASE + 0x4_0000;

export const NEXT = 1;
export const WRITE = 2;
export const INDIRECT = 4;

export class RawGuest implements Disposable {
  readonly #all = new Uint8Array(FENCE + GUEST_SIZE + FENCE).fill(FENCE_BYTE);
  readonly bytes = this.#all.subarray(FENCE, FENCE + GUEST_SIZE);
  readonly view = new DataView(this.bytes.buffer, FENCE, GUEST_SIZE);
  readonly device: VirtioNetDevice;
  readonly registers: MmioDevice;
  lines = 0;
  packed = false;
  size = 0;
  /** Available indexes of split queues. */
  readonly added = [0, 0, 0, 0, 0];

  constructor(options: VirtioNetOptions = {}) {
    this.bytes.fill(0);
    this.device = new VirtioNetDevice(SharedMemory.of(this.bytes, GUEST_BASE), { queueSize: 16, ...options });
    this.registers = new MmioDevice(this.device, { interrupt: (up) => this.lines += up ? 1 : 0 });
  }

  write(offset: number, value: number): void {
    this.registers.write(offset, 4, value);
  }

  /** Up to FEATURES_OK; true if it stays. */
  negotiate(features: bigint): boolean {
    this.write(MMIO.STATUS, 0);
    this.added.fill(0);
    this.bytes.fill(0);
    this.packed = (features & 1n << 34n) !== 0n;
    this.write(MMIO.STATUS, 1);
    this.write(MMIO.STATUS, 3);
    for (let word = 0; word < 2; word++) {
      this.write(MMIO.DRIVER_FEATURES_SEL, word);
      this.write(MMIO.DRIVER_FEATURES, Number((features >> BigInt(32 * word)) & 0xffff_ffffn));
    }
    this.write(MMIO.STATUS, 11);
    return (this.registers.read(MMIO.STATUS, 4) & 8) !== 0;
  }

  /** Puts a queue where it belongs, or somewhere else. */
  queue(index: number, size: number, at = GUEST_BASE + index * QUEUE_STEP): void {
    this.size = size;
    this.write(MMIO.QUEUE_SEL, index);
    this.write(MMIO.QUEUE_NUM, size);
    [MMIO.QUEUE_DESC_LOW, MMIO.QUEUE_DRIVER_LOW, MMIO.QUEUE_DEVICE_LOW].forEach((low, part) => {
      const address = at + [0, DRIVER_PART, DEVICE_PART][part];
      this.write(low, address % 2 ** 32);
      this.write(low + 4, Math.floor(address / 2 ** 32));
    });
    this.write(MMIO.QUEUE_READY, 1);
  }

  run(): void {
    this.write(MMIO.STATUS, 15);
  }

  /** Everything at once: queues 0 and 1, and 2 for control. */
  start(features: bigint, size = 8, queues = 2): void {
    if (!this.negotiate(features)) throw new Error(`refused: ${this.device.refusal}`);
    for (let i = 0; i < queues; i++) this.queue(i, size);
    this.run();
  }

  /** A descriptor anywhere: of a split queue's table, or (fields 12 and 14 being id and flags) of a packed ring. */
  put(at: number, address: bigint, length: number, flags: number, next: number): void {
    const offset = at - GUEST_BASE;
    this.view.setBigUint64(offset, address, true);
    this.view.setUint32(offset + 8, length, true);
    this.view.setUint16(offset + 12, this.packed ? next : flags, true);
    this.view.setUint16(offset + 14, this.packed ? flags : next, true);
  }

  table(queue: number, index = 0): number {
    return GUEST_BASE + queue * QUEUE_STEP + 16 * index;
  }

  /** Descriptor `index` of a queue; in a packed ring it is given to the device by that. */
  descriptor(queue: number, index: number, address: number | bigint, length: number, flags: number, next = 0): void {
    this.put(this.table(queue, index), BigInt(address), length, flags | (this.packed ? 1 << 7 : 0), next);
  }

  /** Gives the chain that begins at `head` to the device, and kicks. */
  offer(queue: number, head = 0, kick = true): void {
    if (!this.packed) {
      const at = queue * QUEUE_STEP + DRIVER_PART;
      this.view.setUint16(at + 4 + 2 * (this.added[queue] % this.size), head, true);
      this.view.setUint16(at + 2, ++this.added[queue], true);
    }
    if (kick) this.write(MMIO.QUEUE_NOTIFY, queue);
  }

  /** The used index of a split queue. */
  used(queue: number): number {
    return this.view.getUint16(queue * QUEUE_STEP + DEVICE_PART + 2, true);
  }

  /** Bytes written into the chain of a used entry. */
  usedLength(queue: number, entry: number): number {
    return this.view.getUint32(queue * QUEUE_STEP + DEVICE_PART + 4 + 8 * (entry % this.size) + 4, true);
  }

  /** True if nothing outside of the guest's memory was written. */
  get fenced(): boolean {
    const end = FENCE + GUEST_SIZE;
    return this.#all.subarray(0, FENCE).every((byte) => byte === FENCE_BYTE) &&
      this.#all.subarray(end).every((byte) => byte === FENCE_BYTE);
  }

  [Symbol.dispose](): void {
    this.device.close();
  }
}
