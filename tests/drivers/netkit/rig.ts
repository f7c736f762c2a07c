/**
 * Frames, readers and errors for the tests of netkit.
 *
 * @module
 */
import type { Device, FrameMemory } from "../../../stack/device.ts";
import { TxFrame } from "../../../stack/device.ts";
import { createNetkit, type Netkit } from "../../../drivers/netkit/netkit.ts";
import type { NetkitOptions } from "../../../drivers/netkit/options.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";

/** A frame of so many bytes, all the same. */
export function frameOf(length: number, fill = 7): TxFrame {
  const tx = new TxFrame();
  tx.reset(Math.min(length, 1500));
  tx.memory.bytes.fill(fill, tx.offset, tx.offset + tx.length);
  return tx;
}

/** Collects what a device delivers: length and first byte. */
export class Reader {
  frames: [number, number][] = [];
  bytes: Uint8Array[] = [];
  constructor(readonly device: Device) {
    device.open(() => {});
  }
  frame(memory: FrameMemory, offset: number, length: number): void {
    this.frames.push([length, memory.bytes[offset]]);
    this.bytes.push(memory.bytes.slice(offset, offset + length));
  }
  /** What has come since the last call. */
  take(): [number, number][] {
    this.frames = [];
    this.bytes = [];
    this.device.receive(this, 1000);
    return this.frames;
  }
}

/** A netkit in a table of its own. */
export function kit(options: NetkitOptions = {}): Netkit & { table: DeviceTable } {
  const table = new DeviceTable();
  const made = createNetkit(options, table);
  return { ...made, table };
}

/** The code of what `run` throws, "" if it doesn't. */
export function codeOf(run: () => unknown): string {
  try {
    run();
    return "";
  } catch (error) {
    return (error as { code?: string }).code ?? String(error);
  }
}

/** What `run` says when it throws. */
export function messageOf(run: () => unknown): string {
  try {
    run();
    return "";
  } catch (error) {
    return (error as Error).message;
  }
}
