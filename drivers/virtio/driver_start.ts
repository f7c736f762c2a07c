/**
 * How a driver brings a device up (virtio 1.2, 3.1.1): reset, status bits, features, queues.
 *
 * @module
 */
import type { DmaArea } from "./dma_area.ts";
import { featureNames, FEATURES } from "./features.ts";
import type { SharedMemory } from "./memory.ts";
import * as c from "./net_config.ts";
import { PackedDriverQueue } from "./packed_driver.ts";
import { LEGACY_PAGE } from "./pci_registers.ts";
import { areaSizes, type DriverQueue } from "./queue.ts";
import { legacyLayout } from "./queue_registers.ts";
import { SplitDriverQueue } from "./split_driver.ts";
import { VirtioError, type VirtioTransport } from "./transport.ts";

/** How often the status is read until a reset is done. */
const RESET_TRIES = 10_000;
/** Pieces of one frame, at most: entries of an indirect table. */
export const FRAME_PIECES_MAX = 20;

/** @throws {VirtioError} for a device of another kind */
export function checkDeviceId(transport: VirtioTransport): void {
  const { deviceId } = transport;
  if (deviceId === c.NET_DEVICE_ID) return;
  throw new VirtioError(
    "INCOMPATIBLE_DEVICE_ID",
    `incompatible device ID (0x${deviceId.toString(16)}, not 0x${c.NET_DEVICE_ID.toString(16)})`,
  );
}

/** Resets a device and tells it that there is a driver. */
export function acknowledgeDevice(transport: VirtioTransport): void {
  transport.status = 0;
  for (let tries = 0; transport.status !== 0; tries++) {
    if (tries === RESET_TRIES) throw new VirtioError("NO_RESET", "the device doesn't end its reset");
  }
  transport.status = c.STATUS_ACKNOWLEDGE;
  transport.status |= c.STATUS_DRIVER;
}

/** Agrees on features: what the device offers of `wanted`. A legacy device isn't asked whether it likes that. */
export function negotiate(transport: VirtioTransport, wanted: (offered: bigint) => bigint): { offered: bigint; agreed: bigint } {
  const offered = transport.deviceFeatures();
  const agreed = wanted(offered) & offered;
  transport.chooseFeatures(agreed);
  if (transport.legacy) return { offered, agreed };
  transport.status |= c.STATUS_FEATURES_OK;
  if ((transport.status & c.STATUS_FEATURES_OK) !== 0) return { offered, agreed };
  throw new VirtioError("FEATURES_REFUSED", `the device refuses these features: ${featureNames(agreed).join(", ") || "none"}`);
}

/** @throws {VirtioError} when one of the queues is in use, or isn't there */
export function checkQueues(transport: VirtioTransport, queues: readonly number[]): void {
  for (const index of queues) {
    if (transport.queueReady(index)) throw new VirtioError("QUEUES_UNAVAILABLE", `queues unavailable: queue ${index} is in use`);
    if (transport.queueSizeMax(index) === 0) throw new VirtioError("QUEUES_UNAVAILABLE", `queues unavailable: no queue ${index}`);
  }
}

/** What a queue is made of. */
export interface QueueRequest {
  readonly index: number;
  /** Entries that are wanted. */
  readonly size: number;
  readonly features: bigint;
  /** Chains are of several pieces: with tables of their own, where that was agreed on. */
  readonly tables: boolean;
}

/** Makes a queue in the driver's memory and puts it to use. */
export function makeQueue(transport: VirtioTransport, shared: SharedMemory, area: DmaArea, request: QueueRequest): DriverQueue {
  const { index, features, tables } = request;
  const has = (bit: bigint) => (features & bit) !== 0n;
  const packed = has(FEATURES.RING_PACKED);
  const largest = transport.queueSizeMax(index);
  // The greatest power of two that both sides take.
  const size = transport.fixedQueueSize ? largest : 1 << Math.floor(Math.log2(Math.min(largest, request.size)));
  const parts = transport.legacy ? legacyParts(area, size) : modernParts(area, size, packed);
  const layout = {
    size,
    ...parts,
    eventIndex: has(FEATURES.RING_EVENT_IDX),
    indirect: has(FEATURES.RING_INDIRECT_DESC),
    inOrder: has(FEATURES.IN_ORDER),
  };
  const indirect = tables && layout.indirect
    ? { address: area.take(16 * FRAME_PIECES_MAX * size, 16), entries: FRAME_PIECES_MAX }
    : null;
  const queue = packed ? new PackedDriverQueue(shared, layout, indirect) : new SplitDriverQueue(shared, layout, indirect);
  transport.setUpQueue(index, { size, ...parts });
  return queue;
}

function modernParts(area: DmaArea, size: number, packed: boolean): { descriptors: number; driver: number; device: number } {
  const sizes = areaSizes(packed, size);
  return {
    descriptors: area.take(sizes.descriptors, 64),
    driver: area.take(sizes.driver, 64),
    device: area.take(sizes.device, 64),
  };
}

function legacyParts(area: DmaArea, size: number): { descriptors: number; driver: number; device: number } {
  const { device } = legacyLayout(0, size, LEGACY_PAGE);
  return legacyLayout(area.take(device + areaSizes(false, size).device, LEGACY_PAGE), size, LEGACY_PAGE);
}
