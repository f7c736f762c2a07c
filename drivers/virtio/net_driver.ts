/**
 * A driver for virtio network devices: the guest's side of virtio-net (virtio 1.2, 5.1), behind any transport. A stack can run
 * over it, in this process or in another one that shares memory with the device.
 *
 * @module
 */
import { parseMac } from "../../ffi/inet.ts";
import { EAGAIN, EINVAL, EIO, EMSGSIZE, ENETDOWN, ENODEV } from "../../stack/codes.ts";
import {
  type Device,
  type DeviceCapabilities,
  FrameMemory,
  type FrameSink,
  RX_CHECKSUM_PARTIAL,
  TxFrame,
} from "../../stack/device.ts";
import { randomMac } from "../tap.ts";
import * as header from "../virtio_header.ts";
import type { ControlClient } from "./control_client.ts";
import { DmaArea } from "./dma_area.ts";
import { checkDeviceId } from "./driver_start.ts";
import { featureNames, FEATURES } from "./features.ts";
import * as c from "./net_config.ts";
import { bringUp, type DriverState } from "./net_driver_start.ts";
import { checkDriverOptions, type NetDriverOptions } from "./net_driver_options.ts";
import { RX_BROKEN, RX_FRAME_AT, RX_NONE } from "./rx_buffers.ts";
import type { VirtioTransport } from "./transport.ts";

/** Queues: frames from the device, and to it. */
const RX = 0;
const TX = 1;
/** Bytes of an Ethernet header. */
const ETHERNET = 14;
/** The longest header: an override may be longer than what virtio has. */
const TX_HEADER_MAX = 128;

/**
 * A virtio network device, as its driver sees it.
 *
 * ```ts ignore
 * const driver = new NetDriver({ transport: new MmioTransport(registers), memory, area: { address: 0, length: 4 << 20 } });
 * const stack = new NetStack(driver, { address: "10.0.2.15/24" });
 * ```
 */
export class NetDriver implements Device, Disposable {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities;
  readonly #transport: VirtioTransport;
  readonly #options: NetDriverOptions;
  readonly #area: DmaArea;
  readonly #txHeader = new FrameMemory(TX_HEADER_MAX);
  readonly #single = new TxFrame();
  #state: DriverState;
  #wake: (() => void) | null = null;
  #closed = false;
  #linkUp: boolean;
  /** A frame found no room: an interrupt of the transmit queue is news. */
  #starved = false;
  /** Length of a frame that was taken and not yet handed on ({@link rx} had too small a buffer). */
  #held = 0;
  /** Why the device can't be used before a {@link restart}, or null. */
  fault: string | null = null;
  readonly #counters = {
    rxFrames: 0,
    rxBytes: 0,
    rxSegmented: 0,
    /** Frames shorter than their header, or longer than 64 KiB. */
    rxUnusable: 0,
    /** Headers that tell of what was not agreed on, or point outside the frame. */
    rxBadHeader: 0,
    txFrames: 0,
    txBytes: 0,
    txSegmented: 0,
    /** The device was behind. */
    txFull: 0,
    txTooLong: 0,
    notifications: 0,
    interrupts: 0,
    configChanges: 0,
    restarts: 0,
    faults: 0,
  };

  /**
   * Brings the device up, and gives it all receive buffers.
   *
   * @throws {TypeError | RangeError} for impossible options
   * @throws {VirtioError} when the device isn't one that the driver can use
   */
  constructor(options: NetDriverOptions) {
    checkDriverOptions(options);
    const own = options.mac === undefined ? null : parseMac(options.mac);
    this.#area = new DmaArea(options.memory, options.area);
    checkDeviceId(options.transport);
    this.#options = { ...options };
    this.#transport = options.transport;
    this.name = options.name ?? "virtio0";
    this.mtu = options.mtu ?? 1500;
    const state = this.#state = bringUp(this.#transport, this.#area, this.#options);
    const hasMac = (state.offered & FEATURES.NET_MAC) !== 0n;
    this.mac = own ?? (hasMac ? state.config.mac : randomMac());
    this.capabilities = {
      rxChecksum: state.guestChecksum,
      txChecksum: state.hostChecksum,
      txSegmentation: state.hostSegments ? Math.min(65_535, state.txFrameMax) : 0,
      rxFrame: state.rxFrameMax,
      rxQueueFrames: state.guestSegments ? 0 : state.rxCount,
    };
    this.#linkUp = this.#linkOf(state.config.status);
  }

  #linkOf(status: number): boolean {
    return (this.#state.agreed & FEATURES.NET_STATUS) === 0n || (status & c.LINK_UP) !== 0;
  }

  /** What was agreed on with the device, by name. */
  get agreedFeatures(): string[] {
    return featureNames(this.#state.agreed);
  }

  /** Bytes of the header before each frame. */
  get headerLength(): number {
    return this.#state.headerLength;
  }

  /** Bytes of a receive buffer, header included, and how many the device has. */
  get receiveBuffers(): { readonly size: number; readonly count: number } {
    return { size: this.#state.rxBufferSize, count: this.#state.rxCount };
  }

  /** The link is up, as far as the device tells. */
  get linkUp(): boolean {
    return this.#linkUp;
  }

  /** The control queue; null if there is none. */
  get control(): ControlClient | null {
    return this.#state.control;
  }

  /**
   * The device has raised an interrupt. Only takes note.
   *
   * @param vector of a message; left out for the line
   */
  interrupt(vector?: number): void {
    if (this.#closed) return;
    const bits = this.#transport.interrupt(vector);
    this.#counters.interrupts++;
    if ((bits & c.INTERRUPT_CONFIG) !== 0) this.#reconfigure();
    const broken = this.#state.control?.settle() ?? null;
    if (broken !== null) this.#fail(broken);
    // What was told of a fault may have ended all this.
    if (this.#closed || this.fault !== null) return;
    if (this.#starved) {
      this.#starved = false;
      this.#state.txQueue.wantInterrupts(false);
    }
    this.#wake?.();
  }

  #reconfigure(): void {
    this.#counters.configChanges++;
    if ((this.#transport.status & c.STATUS_NEEDS_RESET) !== 0) this.#fail("the device needs a reset");
    else this.#linkUp = this.#linkOf(this.#transport.readConfig(c.CONFIG_STATUS, 2));
  }

  #fail(reason: string): number {
    if (this.fault === null) {
      this.fault = reason;
      this.#counters.faults++;
      this.#transport.status |= c.STATUS_FAILED;
      this.#state.control?.close();
      this.#wake?.();
    }
    return EIO;
  }

  /**
   * Resets the device and brings it up again, with empty queues: after a fault, or at any time.
   *
   * @throws {VirtioError} when it isn't the device that it was
   */
  restart(): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    this.#state.control?.close();
    this.fault = "it could not be started again";
    this.#area.clear();
    this.#state = bringUp(this.#transport, this.#area, this.#options, this.#state.agreed);
    this.#linkUp = this.#linkOf(this.#state.config.status);
    this.fault = null;
    this.#held = 0;
    this.#starved = false;
    this.#counters.restarts++;
    this.#wake?.();
  }

  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    if (!this.#closed && this.fault === null && this.#state.rxQueue.wantInterrupts(true)) this.#wake?.();
  }

  /** What the device is good for at the moment: 0, or a negative code. */
  #condition(): number {
    if (this.#closed) return ENODEV;
    return this.fault !== null ? EIO : this.#linkUp ? 0 : ENETDOWN;
  }

  receive(sink: FrameSink, budget: number): number {
    const condition = this.#condition();
    if (condition < 0) return condition;
    const state = this.#state;
    state.rxQueue.wantInterrupts(false);
    let count = 0;
    while (count < budget) {
      const length = this.#next();
      if (length === RX_NONE) break;
      if (length === RX_BROKEN) return this.#fail(state.rxQueue.broken ?? "the receive queue is broken");
      count++;
      if (length > 0) this.#deliver(sink, length);
      // What the sink did may have ended or begun all this anew.
      if (this.#closed || this.#state !== state) return count;
    }
    this.#returnBuffers();
    return count;
  }

  #next(): number {
    const held = this.#held;
    this.#held = 0;
    if (held > 0) return held;
    const length = this.#state.rx.next();
    if (length < RX_BROKEN) this.#counters.rxUnusable++;
    return length;
  }

  #returnBuffers(): void {
    if (this.#state.rxQueue.publish()) this.#notify(RX);
  }

  #notify(queue: number): void {
    this.#counters.notifications++;
    this.#transport.notify(queue);
  }

  #deliver(sink: FrameSink, length: number): void {
    const { guestChecksum, rx } = this.#state;
    const flags = guestChecksum ? header.rxFlags(rx.header.view, 0) : 0;
    const segmentSize = header.rxSegmentSize(rx.header.view, 0);
    if (!this.#sound(rx.header.view, length, flags, segmentSize)) {
      this.#counters.rxBadHeader++;
      return;
    }
    this.#counters.rxFrames++;
    this.#counters.rxBytes += length;
    if (segmentSize > 0) this.#counters.rxSegmented++;
    sink.frame(rx.slot, RX_FRAME_AT, length, flags, segmentSize);
  }

  /** What the header says was agreed on, and lies inside the frame. */
  #sound(view: DataView, length: number, flags: number, segmentSize: number): boolean {
    if (length < ETHERNET) return false;
    if (flags === RX_CHECKSUM_PARTIAL && view.getUint16(6, true) + view.getUint16(8, true) + 2 > length) return false;
    const type = view.getUint8(1);
    if (type === header.VIRTIO_NET_HDR_GSO_NONE) return true;
    const tcp4 = (type & ~header.VIRTIO_NET_HDR_GSO_ECN) === header.VIRTIO_NET_HDR_GSO_TCPV4;
    return tcp4 && this.#state.guestSegments && flags === RX_CHECKSUM_PARTIAL && segmentSize > 0;
  }

  transmit(frame: TxFrame): number {
    const condition = this.#condition();
    if (condition < 0) return condition;
    const { tx, txQueue, txFrameMax, hostChecksum, hostSegments, hostEcn } = this.#state;
    const size = frame.size;
    if (size > txFrameMax) {
      this.#counters.txTooLong++;
      return EMSGSIZE;
    }
    if ((frame.checksumStart >= 0 && !hostChecksum) || (frame.segmentSize > 0 && !hostSegments)) return EINVAL;
    if (!header.putTxHeader(this.#txHeader.view, 0, frame, header.ethernetIpOffset(frame))) return EINVAL;
    // Without HOST_ECN the mark may not be set: CWR is then in every segment, which tells a receiver nothing false.
    if (!hostEcn) this.#txHeader.bytes[1] &= ~header.VIRTIO_NET_HDR_GSO_ECN;
    if (!tx.fits(size) && !(this.#reclaim() > 0 && tx.fits(size))) return this.#full();
    tx.build(this.#txHeader.bytes, frame);
    let id = txQueue.add(tx.addresses, tx.lengths, tx.count, tx.count);
    if (id < 0 && this.#reclaim() > 0) id = txQueue.add(tx.addresses, tx.lengths, tx.count, tx.count);
    if (id < 0) {
      tx.drop();
      return this.#full();
    }
    tx.keep(id);
    this.#counters.txFrames++;
    this.#counters.txBytes += size;
    if (frame.segmentSize > 0) this.#counters.txSegmented++;
    return 0;
  }

  /** Takes back what the device is done with: how many, or a negative code when the queue is broken. */
  #reclaim(): number {
    const { tx, txQueue } = this.#state;
    for (let count = 0;; count++) {
      const id = txQueue.collect();
      if (id === -2) return this.#fail(txQueue.broken ?? "the transmit queue is broken");
      if (id < 0) return count;
      tx.release(id);
    }
  }

  #full(): number {
    const condition = this.#condition();
    if (condition < 0) return condition;
    this.#counters.txFull++;
    this.#starved = true;
    // The device may have used some meanwhile, without an interrupt.
    if (this.#state.txQueue.wantInterrupts(true)) this.#wake?.();
    return EAGAIN;
  }

  flush(): void {
    if (this.#condition() < 0) return;
    if (this.#state.txQueue.publish()) this.#notify(TX);
    this.#reclaim();
  }

  /**
   * Takes one frame, for programs without a stack. Its checksum may be incomplete where NET_GUEST_CSUM was agreed on.
   *
   * @returns bytes of the frame; 0 for none, or one that was shorter than its header
   * @throws {RangeError} "buffer too small"; the frame waits for a larger one
   * @throws {Deno.errors.BadResource} when the device is closed or broken
   */
  rx(into: Uint8Array): number {
    if (this.#closed || this.fault !== null) {
      throw new Deno.errors.BadResource(`device "${this.name}": ${this.fault ?? "closed"}`);
    }
    const length = this.#next();
    if (length === RX_BROKEN) {
      this.#fail(this.#state.rxQueue.broken ?? "the receive queue is broken");
      return 0;
    }
    this.#returnBuffers();
    if (length <= 0) return 0;
    if (into.length < length) {
      this.#held = length;
      throw new RangeError(`buffer too small: ${into.length} bytes, the frame has ${length}`);
    }
    into.set(this.#state.rx.slot.bytes.subarray(RX_FRAME_AT, RX_FRAME_AT + length));
    return length;
  }

  /** Sends one whole frame at once, for programs without a stack. Returns 0, or a negative code with nothing sent. */
  tx(frame: Uint8Array): number {
    if (frame.length > this.#state.txFrameMax) return EMSGSIZE;
    const single = this.#single;
    if (single.memory.bytes.length < frame.length) single.memory = new FrameMemory(this.#state.txFrameMax);
    single.reset(frame.length);
    single.offset = 0;
    single.memory.bytes.set(frame);
    const code = this.transmit(single);
    this.flush();
    return code;
  }

  /** Resets the device and gives it up. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake = null;
    this.#state.control?.close();
    this.#transport.status = 0;
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way, and what failed, by reason. */
  statistics(): Record<string, number> {
    return { ...this.#counters };
  }
}
