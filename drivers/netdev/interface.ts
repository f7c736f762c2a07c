/**
 * A device as the system sees it: what Linux calls a `net_device`, between a class and a kernel interface or a stack.
 *
 * @module
 */
import { EBUSY, EOPNOTSUPP, errnoError } from "../../ffi/errno.ts";
import { IFF_UP } from "../../ffi/ifreq.ts";
import { EAGAIN, EBADF, EINVAL, EMSGSIZE, ENETDOWN, ENOBUFS, ENODEV, OK } from "../../stack/codes.ts";
import {
  type Device,
  type DeviceCapabilities,
  FrameMemory,
  type FrameSink,
  RX_CHECKSUM_PARTIAL,
  type TxFrame,
} from "../../stack/device.ts";
import type { KernelBacking } from "./backing.ts";
import { Control } from "./control.ts";
import { gather, NetFrame, NetFrameQueue } from "./frame.ts";
import { interfaceIoctl } from "./ioctl.ts";
import type { IoctlMemory } from "./memory.ts";
import { NETDEV_TX_BUSY } from "./net_device.ts";
import {
  ETHERNET_HEADER,
  type InterfaceOptions,
  LINK_HEADER,
  MTU_MAX,
  NETIF_F_HW_CSUM,
  QUEUE_FRAMES,
} from "./interface_options.ts";
import { Operations } from "./operations.ts";
import { completeStatistics, type Statistics64, zeroStatistics } from "./statistics.ts";
import type { DeviceTable, IoctlDevice } from "./table.ts";

/**
 * A network device with a class behind it. In the process it is a {@link Device} for one `NetStack`; with a TAP behind it
 * the frames are the kernel's.
 */
export class NetInterface implements Device, IoctlDevice {
  /** `ifindex`: the kernel's, or one from 65536 on for a device of the process. */
  readonly index: number;
  /** True with a TAP or another interface of the kernel behind it. */
  readonly inKernel: boolean;
  /** Always Ethernet. */
  readonly medium = "ethernet";
  /** See {@link Device}. */
  readonly capabilities: DeviceCapabilities;
  /** Bits of `NETIF_F_…`. */
  readonly features: number;
  /**
   * The kernel's side, or null.
   *
   * @internal
   */
  readonly backing: KernelBacking | null;
  /**
   * Its state, and what changes it.
   *
   * @internal
   */
  readonly control: Control;
  /** Where it is registered. */
  readonly table: DeviceTable;

  #operations: Operations;
  #startXmit: ((frame: NetFrame, handle: NetInterface) => unknown) | null = null;
  readonly #options: InterfaceOptions;
  #gone = false;
  readonly #own = zeroStatistics();
  readonly #frame = new NetFrame();
  /** Frames of the class for the stack; null with a kernel behind. */
  readonly #queue: NetFrameQueue | null;
  /** An outgoing frame in one piece, for the class. */
  readonly #slot: FrameMemory;
  #wake: (() => void) | null = null;
  #armed = false;
  #blocked = false;

  /**
   * Made by a registry; see `NetDevices`.
   *
   * @internal
   */
  constructor(options: InterfaceOptions) {
    const { backing } = options;
    this.#options = options;
    this.backing = backing;
    this.table = options.table;
    this.index = backing?.index ?? options.table.newIndex();
    this.inKernel = backing !== null;
    this.features = options.features;
    const checksum = backing === null && (options.features & NETIF_F_HW_CSUM) !== 0;
    this.capabilities = {
      rxChecksum: checksum,
      txChecksum: checksum,
      txSegmentation: 0,
      rxFrame: MTU_MAX + LINK_HEADER,
      rxQueueFrames: QUEUE_FRAMES,
    };
    this.control = new Control(this, options, () => {
      this.#queue?.clear();
      this.#wake?.();
    });
    this.#operations = this.#wire(options.instance);
    this.#slot = new FrameMemory(backing === null ? MTU_MAX + LINK_HEADER : 64);
    this.#queue = backing === null
      ? new NetFrameQueue(QUEUE_FRAMES, Math.max(options.mtu + LINK_HEADER, 2048) * QUEUE_FRAMES)
      : null;
    if (backing === null) return;
    backing.start({
      frame: (memory, offset, length) => void this.#xmit(memory, offset, length, 0),
      changed: () => this.control.changed(),
      gone: () => this.#remove(true),
    });
  }

  #wire(instance: object | null): Operations {
    const operations = new Operations(this.name, instance, this.#options.limitMs, this.#options.report);
    this.#startXmit = operations.get("startXmit");
    return operations;
  }

  /** The class's operations. */
  get operations(): Operations {
    return this.#operations;
  }

  /** Another instance takes over. It is told of nothing that was before. */
  adopt(instance: object | null): void {
    this.#operations = this.#wire(instance);
  }

  /** At most 15 bytes. A kernel's interface may be given another. */
  get name(): string {
    return this.control.name;
  }

  /** Six bytes; changed by {@link setMac}. */
  get mac(): Uint8Array<ArrayBuffer> {
    return this.control.mac;
  }

  /** Bytes of IP packet. */
  get mtu(): number {
    return this.control.mtu;
  }

  /** Bits of IFF_…, as the kernel has them where there is one. */
  get flags(): number {
    return this.control.flags;
  }

  /** Switched on, and the class has opened it. */
  get up(): boolean {
    return (this.control.flags & IFF_UP) !== 0;
  }

  /** Nobody has taken it away. */
  get exists(): boolean {
    return !this.#gone;
  }

  /** Switches it on or off: 0, or the negative errno that the class answered; then it stays as it was. */
  async setUp(up: boolean): Promise<number> {
    return await this.control.setUp(up);
  }

  /** 0, or a negative errno, with nothing changed. */
  async setMtu(mtu: number): Promise<number> {
    return await this.control.setMtu(mtu);
  }

  /** 0, or a negative errno, with nothing changed. */
  async setMac(mac: Uint8Array): Promise<number> {
    return await this.control.setMac(mac);
  }

  /** Promiscuous or not, all multicast or not: the class's `setRxMode` is told. */
  async setRxMode(promiscuous: boolean, allMulticast: boolean): Promise<number> {
    return await this.control.setRxMode(promiscuous, allMulticast);
  }

  /** Answers a request; see {@link IoctlDevice}. */
  ioctl(request: number, ifreq: Uint8Array, data: IoctlMemory | null): number | Promise<number> {
    return this.#gone ? ENODEV : interfaceIoctl(this, request, ifreq, data);
  }

  /** The class's numbers; where it has none, the system's own count of frames. */
  statistics64(): Statistics64 {
    const operation = this.#operations.get("getStats64");
    try {
      return completeStatistics(operation?.(this), this.#own);
    } catch (error) {
      this.#operations.failed("getStats64", error);
      return { ...this.#own };
    }
  }

  /** The same, for people; see {@link Device}. */
  statistics = (): Record<string, number> => this.statistics64();

  /** A frame of the class for the system: 0, or a negative errno with the frame dropped and counted. */
  netifRx(frame: NetFrame | Uint8Array<ArrayBuffer>): number {
    const given = frame instanceof NetFrame;
    return given
      ? this.#rx(frame.memory, frame.offset, frame.length, frame.flags)
      : this.#rx(new FrameMemory(frame), 0, frame.length, 0);
  }

  #rx(memory: FrameMemory, offset: number, length: number, flags: number): number {
    let code = OK;
    if (this.#gone) code = ENODEV;
    else if (!this.up) code = ENETDOWN;
    else if (length < ETHERNET_HEADER || length > MTU_MAX + LINK_HEADER) code = EINVAL;
    else if (this.backing !== null) code = this.backing.send(memory, offset, length);
    else if (!this.#queue!.put(memory, offset, length, flags)) code = ENOBUFS;
    if (code < 0) {
      this.#own.rxDropped++;
      return code;
    }
    this.#own.rxPackets++;
    this.#own.rxBytes += length;
    this.#ring();
    return OK;
  }

  #ring(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#wake?.();
  }

  /** The class takes frames again, after it answered `NETDEV_TX_BUSY`. */
  wakeQueue(): void {
    if (!this.#blocked) return;
    this.#blocked = false;
    this.#wake?.();
  }

  /** A frame for the class. */
  #xmit(memory: FrameMemory, offset: number, length: number, flags: number): number {
    if (!this.up) {
      this.#own.txDropped++;
      return ENETDOWN;
    }
    const operation = this.#startXmit;
    if (operation === null) {
      this.#own.txDropped++;
      return OK;
    }
    const frame = this.#frame;
    frame.set(memory, offset, length, flags);
    try {
      const answer = operation(frame, this);
      if (answer === NETDEV_TX_BUSY) {
        // The kernel has given its frame away already: only a stack can be asked to wait.
        if (this.backing !== null) this.#own.txDropped++;
        else this.#blocked = true;
        return EAGAIN;
      }
      if (typeof answer === "object" && answer !== null) void this.#operations.run("startXmit", () => answer);
    } catch (error) {
      this.#own.txErrors++;
      this.#operations.failed("startXmit", error);
      return OK;
    }
    this.#own.txPackets++;
    this.#own.txBytes += length;
    return OK;
  }

  /** See {@link Device}. Throws `Busy` when a stack has it, `NotSupported` when its frames are the kernel's. */
  open(wake: () => void): void {
    const what = `device "${this.name}"`;
    if (this.#gone) throw errnoError("use", what, ENODEV, "It has been removed");
    if (this.backing !== null) throw errnoError("use", what, EOPNOTSUPP, "It is the kernel's: its frames go to the class");
    if (this.#wake !== null) throw errnoError("use", what, EBUSY, "Another stack has it");
    this.#wake = wake;
  }

  /** See {@link Device}. */
  arm(): void {
    this.#armed = true;
    if ((this.#queue?.count ?? 0) > 0 || this.#gone) this.#ring();
  }

  /** See {@link Device}. */
  receive(sink: FrameSink, budget: number): number {
    const queue = this.#queue;
    if (this.#gone || queue === null) return ENODEV;
    if (!this.up) return ENETDOWN;
    let count = 0;
    for (; count < budget && queue.count > 0; count++) {
      sink.frame(queue.memory, queue.offset, queue.length, queue.flags, 0);
      queue.shift();
    }
    return count;
  }

  /** See {@link Device}. */
  transmit(frame: TxFrame): number {
    if (this.#gone) return ENODEV;
    if (this.backing !== null) return EBADF;
    if (this.#blocked) return EAGAIN;
    const size = frame.size;
    if (size > this.control.mtu + LINK_HEADER) {
      this.#own.txErrors++;
      return EMSGSIZE;
    }
    gather(frame, this.#slot.bytes, 0);
    return this.#xmit(this.#slot, 0, size, frame.checksumStart >= 0 ? RX_CHECKSUM_PARTIAL : 0);
  }

  /** Its stack lets go of it: it stays as it is, for the next. A second call does nothing. */
  close(): void {
    this.#wake = null;
    this.#armed = this.#blocked = false;
    this.#queue?.clear();
  }

  /** Takes it away, whatever its class says of deletion. A second call does nothing. */
  remove(): void {
    this.#remove(false);
  }

  #remove(byKernel: boolean): void {
    if (this.#gone) return;
    this.control.end();
    this.#gone = true;
    this.backing?.close();
    this.table.remove(this);
    this.#wake?.();
    this.#wake = null;
    this.#options.onGone(this, byKernel);
  }
}
