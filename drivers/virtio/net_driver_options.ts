/**
 * What a driver for virtio network devices can be told, and which features it wants.
 *
 * @module
 */
import { checkObject } from "../../stack/checks.ts";
import type { DmaRange } from "./dma_area.ts";
import { consistent, FEATURES } from "./features.ts";
import { SharedMemory } from "./memory.ts";
import { checkQueueSize } from "./queue.ts";
import { HEADER_SIZE } from "./ring_device.ts";
import type { VirtioTransport } from "./transport.ts";

/** The features that a plain driver knows: checksums, MTU, address, link status, speed. */
export const PLAIN_FEATURES: bigint = FEATURES.NET_CSUM | FEATURES.NET_MTU | FEATURES.NET_MAC | FEATURES.NET_STATUS |
  FEATURES.NET_SPEED_DUPLEX;
/** All that this driver knows. */
export const DRIVER_FEATURES: bigint = PLAIN_FEATURES | FEATURES.VERSION_1 | FEATURES.ANY_LAYOUT | FEATURES.RING_INDIRECT_DESC |
  FEATURES.RING_EVENT_IDX | FEATURES.RING_PACKED | FEATURES.IN_ORDER | FEATURES.NET_MRG_RXBUF | FEATURES.NET_GUEST_CSUM |
  FEATURES.NET_HOST_TSO4 | FEATURES.NET_GUEST_TSO4 | FEATURES.NET_HOST_ECN | FEATURES.NET_GUEST_ECN | FEATURES.NET_CTRL_VQ |
  FEATURES.NET_CTRL_RX | FEATURES.NET_CTRL_RX_EXTRA | FEATURES.NET_CTRL_MAC_ADDR | FEATURES.NET_CTRL_GUEST_OFFLOADS;
/** The header of a legacy device without mergeable buffers. */
const SHORT_HEADER = 10;
/** Longest header that can be asked for. */
const HEADER_MAX = 128;

/** Options of a `NetDriver`. */
export interface NetDriverOptions {
  /** The way to the device. */
  transport: VirtioTransport;
  /** Memory that is shared with the device. */
  memory: SharedMemory;
  /** What part of it is the driver's own. 4 MiB is enough for queues of 256. */
  area: DmaRange;
  /** For people. Default "virtio0". */
  name?: string;
  /** Largest IP packet in bytes, 68 to 65535. Default 1500. */
  mtu?: number;
  /** The driver's address, if not the one that the device gives: text or six bytes. */
  mac?: string | Uint8Array;
  /** Bytes of the header before each frame, 10 to 128; 0 for what was agreed on: 12, or 10 for legacy devices. Default 0. */
  headerLength?: number;
  /** Most entries of a queue. Default 256. */
  queueSize?: number;
  /** Features to ask for, of those that the driver knows. Default: all. */
  want?: bigint;
  /** "maskAll" asks for no feature at all but VERSION_1, as usbarmory's driver does. Default "none". */
  compatibility?: "none" | "maskAll";
}

/** @throws {TypeError | RangeError} for what can't be */
export function checkDriverOptions(options: NetDriverOptions): void {
  checkObject(options);
  checkObject(options.transport, "transport");
  if (typeof options.transport.deviceFeatures !== "function") throw new TypeError("transport must be a VirtioTransport");
  if (!(options.memory instanceof SharedMemory)) throw new TypeError(`memory must be a SharedMemory: ${options.memory}`);
  checkObject(options.area, "area");
  const { mac } = options;
  if (mac !== undefined && typeof mac !== "string" && !(mac instanceof Uint8Array)) {
    throw new TypeError(`mac must be text or bytes: ${mac}`);
  }
  const { mtu = 1500, headerLength = 0, queueSize = 256, want = 0n, compatibility = "none" } = options;
  if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
  if (headerLength !== 0 && !(Number.isInteger(headerLength) && headerLength >= SHORT_HEADER && headerLength <= HEADER_MAX)) {
    throw new RangeError(`headerLength must be 0, or ${SHORT_HEADER} to ${HEADER_MAX}: ${headerLength}`);
  }
  checkQueueSize(queueSize, true);
  if (typeof want !== "bigint") throw new TypeError(`want must be a bigint of feature bits: ${want}`);
  if (compatibility !== "none" && compatibility !== "maskAll") throw new TypeError(`Invalid compatibility ${compatibility}`);
}

/** What to ask for of what is offered. */
export function wantedFeatures(options: NetDriverOptions, offered: bigint): bigint {
  const { want = DRIVER_FEATURES, compatibility, headerLength = 0 } = options;
  if (compatibility === "maskAll") return offered & FEATURES.VERSION_1;
  let features = offered & DRIVER_FEATURES & (want | FEATURES.VERSION_1);
  // A shorter header has no room for the number of buffers.
  if (headerLength > 0 && headerLength < HEADER_SIZE) features &= ~FEATURES.NET_MRG_RXBUF;
  return consistent(features);
}

/** Bytes of the header. */
export function headerLengthOf(options: NetDriverOptions, legacy: boolean, agreed: bigint): number {
  if (options.headerLength !== undefined && options.headerLength > 0) return options.headerLength;
  return legacy && (agreed & FEATURES.NET_MRG_RXBUF) === 0n ? SHORT_HEADER : HEADER_SIZE;
}
