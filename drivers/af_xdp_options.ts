/**
 * Options of AF_XDP devices.
 *
 * @module
 */
import { XDP_PACKET_HEADROOM } from "../ffi/af_xdp.ts";
import type { AttachMode } from "../ffi/bpf_program.ts";
import type { DeviceCapabilities } from "../stack/device.ts";
import { CHUNK_SIZE, type Umem } from "./umem.ts";
import { QUEUES_MAX } from "./xdp/socket_program.ts";

/** Where a frame of ours begins in its chunk. */
export const TX_OFFSET = XDP_PACKET_HEADROOM;
/** The largest frame: what fits behind the headroom. */
const FRAME_MAX = CHUNK_SIZE - TX_OFFSET;
/** Ethernet with two tags. */
export const LINK_HEADER = 22;
/** The largest MTU whose frames fit. */
export const MTU_MAX = FRAME_MAX - LINK_HEADER;

/** Options of `AfXdpDevice.open`. */
export interface AfXdpOptions {
  /** The interface. */
  name: string;
  /** Its queue, 0 to 63. Default 0. Each queue may have a device; frames of queues without one go to the host. */
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

/** What the kernel gives and takes, with rings of so many frames. */
export function afXdpCapabilities(ring: number): DeviceCapabilities {
  return {
    rxChecksum: false,
    txChecksum: false,
    txSegmentation: 0,
    rxFrame: FRAME_MAX,
    rxQueueFrames: ring,
    rxHeadroom: XDP_PACKET_HEADROOM,
    rxTailroom: 0,
  };
}
