/**
 * Brings a virtio network device up and makes its queues and buffers: what a `NetDriver` is made of.
 *
 * @module
 */
import { ControlClient } from "./control_client.ts";
import type { DmaArea } from "./dma_area.ts";
import { acknowledgeDevice, checkQueues, FRAME_PIECES_MAX, makeQueue, negotiate } from "./driver_start.ts";
import { FEATURES } from "./features.ts";
import * as c from "./net_config.ts";
import { headerLengthOf, type NetDriverOptions, wantedFeatures } from "./net_driver_options.ts";
import type { DriverQueue } from "./queue.ts";
import { FRAME_MAX } from "./ring_device.ts";
import { RxBuffers } from "./rx_buffers.ts";
import { type NetConfig, readNetConfig, VirtioError, type VirtioTransport } from "./transport.ts";
import { TX_PIECE, TxBuffers } from "./tx_buffers.ts";

/** Without several queue pairs the control queue is the third. */
const CONTROL = 2;
/** Bytes of an Ethernet header with two tags. */
const LINK_HEADER = 22;
/** A receive buffer where a frame may take several. */
const MERGEABLE_BUFFER = 4096;

/** Pieces of even the smallest transmit queue, where there is room: a chain may be of many. */
const TX_PIECES_MIN = 64;

/** A device that is up. */
export interface DriverState {
  readonly offered: bigint;
  readonly agreed: bigint;
  readonly config: NetConfig;
  readonly headerLength: number;
  readonly hostChecksum: boolean;
  readonly hostSegments: boolean;
  readonly hostEcn: boolean;
  readonly guestChecksum: boolean;
  readonly guestSegments: boolean;
  readonly rxQueue: DriverQueue;
  readonly txQueue: DriverQueue;
  readonly control: ControlClient | null;
  readonly rx: RxBuffers;
  readonly rxBufferSize: number;
  readonly rxCount: number;
  /** Largest frames. */
  readonly rxFrameMax: number;
  readonly txFrameMax: number;
  readonly tx: TxBuffers;
}

/**
 * In the order of virtio 1.2, 3.1.1. When it fails, the device is told.
 *
 * @param before what was agreed on the last time, which can't change under a stack
 * @throws {VirtioError} when the device isn't one that the driver can use
 * @throws {RangeError} when the driver's memory is too small
 */
export function bringUp(transport: VirtioTransport, area: DmaArea, options: NetDriverOptions, before?: bigint): DriverState {
  acknowledgeDevice(transport);
  try {
    const { offered, agreed } = negotiate(transport, (bits) => before ?? wantedFeatures(options, bits));
    if (before !== undefined && agreed !== before) {
      throw new VirtioError("FEATURES_REFUSED", "the device doesn't offer any more what was agreed on");
    }
    const config = readNetConfig(transport);
    const { mtu = 1500 } = options;
    if ((agreed & FEATURES.NET_MTU) !== 0n && config.mtu < mtu) {
      throw new VirtioError("INCOMPATIBLE_MTU", `incompatible MTU: the device's is ${config.mtu}, ours ${mtu}`);
    }
    const hasControl = (agreed & FEATURES.NET_CTRL_VQ) !== 0n;
    checkQueues(transport, hasControl ? [0, 1, CONTROL] : [0, 1]);
    const state = makeState(transport, area, options, { offered, agreed, config, hasControl });
    transport.status |= c.STATUS_DRIVER_OK;
    state.txQueue.wantInterrupts(false);
    if (state.rxQueue.publish()) transport.notify(0);
    return state;
  } catch (error) {
    transport.status |= c.STATUS_FAILED;
    throw error;
  }
}

interface Agreement {
  readonly offered: bigint;
  readonly agreed: bigint;
  readonly config: NetConfig;
  readonly hasControl: boolean;
}

function makeState(transport: VirtioTransport, area: DmaArea, options: NetDriverOptions, agreement: Agreement): DriverState {
  const { agreed } = agreement;
  const { memory: shared, mtu = 1500, queueSize: size = 256 } = options;
  const has = (bit: bigint) => (agreed & bit) !== 0n;
  const headerLength = headerLengthOf(options, transport.legacy, agreed);
  const split = transport.legacy && !has(FEATURES.ANY_LAYOUT);
  const mergeable = has(FEATURES.NET_MRG_RXBUF);
  const guestSegments = has(FEATURES.NET_GUEST_TSO4);
  const rxFrameMax = guestSegments ? FRAME_MAX : mtu + LINK_HEADER;
  const txWhole = has(FEATURES.NET_HOST_TSO4) ? FRAME_MAX : mtu + LINK_HEADER;
  const request = { size, features: agreed };
  const rxQueue = makeQueue(transport, shared, area, { ...request, index: 0, tables: split });
  const txQueue = makeQueue(transport, shared, area, {
    ...request,
    index: 1,
    tables: split || headerLength + txWhole > TX_PIECE,
  });
  const control = agreement.hasControl
    ? new ControlClient(
      makeQueue(transport, shared, area, { ...request, index: CONTROL, tables: false }),
      area,
      () => transport.notify(CONTROL),
    )
    : null;
  const indirect = has(FEATURES.RING_INDIRECT_DESC);
  const rxEntries = split && !indirect ? rxQueue.size >> 1 : rxQueue.size;
  const whole = headerLength + rxFrameMax;
  // The buffers of a small queue must hold the largest frame all together.
  const rxBufferSize = mergeable ? Math.max(MERGEABLE_BUFFER, Math.ceil(whole / rxEntries)) : whole;
  // Half of what is left for each direction.
  const rxCount = Math.min(rxEntries, Math.floor(area.left / 2 / rxBufferSize));
  if (rxCount < Math.max(1, Math.ceil(whole / rxBufferSize))) throw tooSmall(options);
  const rxAt = area.take(rxCount * rxBufferSize, 64);
  const pieces = Math.min(Math.max(txQueue.size, TX_PIECES_MIN), Math.floor((area.left - 64) / TX_PIECE));
  if (pieces < 1) throw tooSmall(options);
  const txAt = area.take(pieces * TX_PIECE, 64);
  // A frame that could never fit would wait for room for ever.
  const txPieces = Math.min(pieces, indirect ? FRAME_PIECES_MAX : txQueue.size) - (split ? 1 : 0);
  const { memory, base } = area;
  const rx = { memory, offset: rxAt - base, address: rxAt, size: rxBufferSize, count: rxCount, headerLength, split, mergeable };
  const tx = { memory, offset: txAt - base, address: txAt, pieces };
  return {
    ...agreement,
    headerLength,
    hostChecksum: has(FEATURES.NET_CSUM),
    hostSegments: has(FEATURES.NET_HOST_TSO4),
    hostEcn: has(FEATURES.NET_HOST_ECN),
    guestChecksum: has(FEATURES.NET_GUEST_CSUM),
    guestSegments,
    rxQueue,
    txQueue,
    control,
    rx: new RxBuffers(rxQueue, rx),
    rxBufferSize,
    rxCount,
    rxFrameMax,
    txFrameMax: Math.min(txWhole, txPieces * TX_PIECE - headerLength),
    tx: new TxBuffers(tx, txQueue.size, headerLength, split),
  };
}

function tooSmall(options: NetDriverOptions): RangeError {
  return new RangeError(`the driver's memory of ${options.area.length} bytes is too small for its buffers`);
}
