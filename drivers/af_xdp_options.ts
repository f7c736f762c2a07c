/**
 * Options of AF_XDP devices.
 *
 * @module
 */
import type { AttachMode } from "../ffi/bpf_program.ts";
import type { Umem } from "./umem.ts";
import { QUEUES_MAX } from "./xdp/socket_program.ts";

/** Options of `AfXdpDevice.open`. */
export interface AfXdpOptions {
  /** The interface. */
  name: string;
  /** Its queue, 0 to 63. Default 0; frames of other queues go to the host. */
  queue?: number;
  /** Memory shared with other devices, so that frames go from one to the other without being copied. Default: its own. */
  umem?: Umem;
  /** Frames in each ring, a power of two from 64 to 32768. Default 1024. */
  ring?: number;
  /** Where the program runs: in the driver, or in the kernel's receive path. Default: in the driver if it can. */
  mode?: AttachMode;
  /** Receive also what isn't meant for the interface's address. Default false. */
  promiscuous?: boolean;
}

/** @throws {RangeError} for impossible numbers, before anything is opened */
export function checkAfXdpOptions({ queue = 0, ring = 1024 }: AfXdpOptions): void {
  if (!(Number.isInteger(queue) && queue >= 0 && queue < QUEUES_MAX)) throw new RangeError(`queue must be 0 to 63: ${queue}`);
  if (!(Number.isInteger(ring) && ring >= 64 && ring <= 32_768 && (ring & (ring - 1)) === 0)) {
    throw new RangeError(`ring must be a power of two, 64 to 32768: ${ring}`);
  }
}
