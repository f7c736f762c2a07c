/**
 * A virtqueue in memory between two canaries, with both of its sides, and room for buffers.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { putAddress, SharedMemory } from "../../../drivers/virtio/memory.ts";
import { PackedDeviceQueue } from "../../../drivers/virtio/packed_device.ts";
import { PackedDriverQueue } from "../../../drivers/virtio/packed_driver.ts";
import { areaSizes, type DeviceQueue, type DriverQueue, type QueueLayout } from "../../../drivers/virtio/queue.ts";
import { SplitDeviceQueue } from "../../../drivers/virtio/split_device.ts";
import { type IndirectTables, SplitDriverQueue } from "../../../drivers/virtio/split_driver.ts";

/** What the shared memory begins at, as descriptors see it: more than 32 bits. */
export const BASE = 0x1_0000_1000;
/** Bytes of canary before and behind the shared memory. */
const GUARD = 256;
const CANARY = [0xa5, 0x5a, 0x96, 0x69, 0xc3, 0x3c, 0xf0, 0x0e];
/** Entries of an indirect table. */
export const ENTRIES = 8;

/** What a rig is made of. */
export interface RigOptions {
  packed: boolean;
  size: number;
  eventIndex?: boolean;
  indirect?: boolean;
  inOrder?: boolean;
  /** Over a SharedArrayBuffer. */
  shared?: boolean;
  /** Bytes for buffers. */
  data?: number;
}

/** What a worker with one side of a ring is told. */
export interface Job {
  side: "driver" | "device";
  options: RigOptions;
  ring: SharedArrayBuffer;
  /** Two counters: kicks and interrupts. */
  bells: SharedArrayBuffer;
  total: number;
}

/** How it went: null, or what was wrong. */
export type Verdict = string | null;

/** Bytes of a buffer's place in those rings. */
export const SLOT = 128;

/** Where everything lies, from the first shared byte. */
export function places({ packed, size, data = 4096 }: RigOptions) {
  const up = (at: number) => Math.ceil(at / 16) * 16;
  const sizes = areaSizes(packed, size);
  const driver = up(sizes.descriptors);
  const device = driver + up(sizes.driver);
  const tables = device + up(sizes.device);
  const buffers = tables + size * ENTRIES * 16;
  return { descriptors: 0, driver, device, tables, buffers, bytes: buffers + data };
}

/** The layout of a queue at {@link BASE}. */
export function layoutOf(options: RigOptions): { layout: QueueLayout; tables: IndirectTables } {
  const { descriptors, driver, device, tables } = places(options);
  const { size, eventIndex = false, indirect = false, inOrder = false } = options;
  return {
    layout: {
      size,
      descriptors: BASE + descriptors,
      driver: BASE + driver,
      device: BASE + device,
      eventIndex,
      indirect,
      inOrder,
    },
    tables: { address: BASE + tables, entries: ENTRIES },
  };
}

/** The driver's side over `memory`. */
export function driverQueue(memory: SharedMemory, options: RigOptions): DriverQueue {
  const { layout, tables } = layoutOf(options);
  const Queue = options.packed ? PackedDriverQueue : SplitDriverQueue;
  return new Queue(memory, layout, tables);
}

/** The device's side over `memory`. */
export function deviceQueue(memory: SharedMemory, options: RigOptions): DeviceQueue {
  const Queue = options.packed ? PackedDeviceQueue : SplitDeviceQueue;
  return new Queue(memory, layoutOf(options).layout);
}

/** Both sides, and what lies around. */
export class Rig {
  readonly at: ReturnType<typeof places>;
  readonly whole: Uint8Array<ArrayBufferLike>;
  /** The shared bytes. */
  readonly bytes: Uint8Array<ArrayBufferLike>;
  readonly view: DataView;
  readonly memory: SharedMemory;
  driver: DriverQueue;
  device: DeviceQueue;

  constructor(readonly options: RigOptions) {
    this.at = places(options);
    const length = this.at.bytes + 2 * GUARD;
    this.whole = new Uint8Array(options.shared ? new SharedArrayBuffer(length) : new ArrayBuffer(length));
    this.whole.forEach((_, i) => this.whole[i] = i < GUARD || i >= length - GUARD ? CANARY[i % 8] : 0);
    this.bytes = this.whole.subarray(GUARD, length - GUARD);
    this.view = new DataView(this.whole.buffer, GUARD, this.at.bytes);
    this.memory = SharedMemory.of(this.bytes, BASE);
    this.driver = driverQueue(this.memory, options);
    this.device = deviceQueue(this.memory, options);
  }

  /** Empties the ring and makes both sides anew. */
  restart(): void {
    this.bytes.fill(0, 0, this.at.buffers);
    this.driver = driverQueue(this.memory, this.options);
    this.device = deviceQueue(this.memory, this.options);
  }

  /** Nothing was written outside. */
  checkCanaries(): void {
    const { whole } = this;
    for (let i = 0; i < GUARD; i++) {
      if (whole[i] !== CANARY[i % 8]) assertEquals(whole[i], CANARY[i % 8], `byte ${i - GUARD} was written`);
      const end = whole.length - 1 - i;
      if (whole[end] !== CANARY[end % 8]) assertEquals(whole[end], CANARY[end % 8], `byte ${end - GUARD} was written`);
    }
  }

  /** Nothing was read from outside. */
  checkNoCanary(bytes: Uint8Array): void {
    for (let i = 0; i + 8 <= bytes.length; i++) {
      const phase = CANARY.indexOf(bytes[i]);
      let same = 0;
      while (phase >= 0 && same < 8 && bytes[i + same] === CANARY[(phase + same) % 8]) same++;
      if (same === 8) throw new Error(`a canary was read at ${i}`);
    }
  }

  /** Writes a descriptor; `last` is `next` (split) or the id (packed). */
  descriptor(index: number, address: number | bigint, length: number, flags: number, last = 0, table = 0): void {
    const at = table + 16 * index;
    if (typeof address === "bigint") this.view.setBigUint64(at, address, true);
    else putAddress(this.view, at, address);
    this.view.setUint32(at + 8, length, true);
    this.view.setUint16(at + (this.options.packed ? 14 : 12), flags, true);
    this.view.setUint16(at + (this.options.packed ? 12 : 14), last, true);
  }

  /** Makes `heads` available in a split queue, as entries `from` and following. */
  available(heads: number[], from = 0): void {
    const { driver } = this.at;
    heads.forEach((head, i) => this.view.setUint16(driver + 4 + 2 * ((from + i) % this.options.size), head, true));
    this.view.setUint16(driver + 2, from + heads.length, true);
  }
}

/** A small generator of numbers below `n`, the same for the same seed. */
export function numbers(seed: number): (n: number) => number {
  let state = seed >>> 0 || 1;
  return (n) => {
    state ^= state << 13;
    state >>>= 0;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state % n;
  };
}

/** Numbers that are more likely to hit something than others. */
function nasty(random: (n: number) => number, rig: Rig): bigint {
  const from = [0n, BigInt(BASE), BigInt(BASE + rig.at.bytes), BigInt(BASE + rig.at.buffers), 2n ** 53n, 2n ** 64n - 1n];
  return BigInt.asUintN(64, from[random(from.length)] + BigInt(random(64)) - 32n);
}

/** Writes something somewhere in the part of memory where rings and tables lie. */
export function mutate(random: (n: number) => number, rig: Rig): void {
  const { view, at } = rig;
  const top = at.buffers + 512;
  switch (random(6)) {
    case 0:
      return view.setUint8(random(top), random(256));
    case 1:
      return view.setUint16(random(top >> 1) * 2, [0, 1, 0xffff, 0x8000, 0x80, 0x8080, random(65536)][random(7)], true);
    case 2:
      return view.setBigUint64(random(top >> 4) * 16, nasty(random, rig), true);
    case 3:
      // A whole descriptor that might do.
      return rig.descriptor(
        random(rig.options.size),
        BASE + at.buffers + random(4000),
        [1, 16, 32, 64, 160, 0][random(6)],
        random(8) | [0, 0x80, 0x8000, 0x8080][random(4)],
        random(rig.options.size + 1),
      );
    case 4:
      return view.setUint16(at.driver + 2 * random(4), random(20), true);
    default:
      return view.setUint16(at.device + 2 * random(4), random(20), true);
  }
}
