/**
 * What TAP and TUN devices share: bursts read from the descriptor into one slot, frames gathered into it by `writev`.
 * Nothing is allocated per frame.
 *
 * @module
 */
import * as errno from "../ffi/errno.ts";
import { type Libc, libc, pointerTo } from "../ffi/libc.ts";
import { createWaker, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, type Waker } from "../ffi/poll.ts";
import { getLink } from "../ffi/rtnl_link.ts";
import { IFF_TAP, type TunDescriptor } from "../ffi/tun.ts";
import { EAGAIN, EINVAL, EIO, ENOBUFS, ENODEV } from "../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../stack/device.ts";
import { FRAME_INVALID, FrameWriter } from "./frame_writer.ts";
import { openQueue } from "./tuntap_open.ts";
import { checkOptions, configureHost, type TunTapOptions } from "./tuntap_options.ts";
import { ethernetIpOffset, putTxHeader, rxFlags, rxSegmentSize, VIRTIO_HEADER_SIZE } from "./virtio_header.ts";

const PACKET_INFO_SIZE = 4;
/** `TUN_PKT_STRIP` of the packet information: the frame was longer than the slot. */
const PACKET_STRIPPED = 1;
/** The slot of a received frame: 64 KiB of packet, its Ethernet header and tags, and our own headers. */
const SLOT_SIZE = 65536 + 64;
/** Room before and behind the slot for whoever changes frames in place: as much as the kernel's own programs have. */
const RX_HEADROOM = 256;
/** Largest frame that the kernel cuts into segments: an IPv4 packet's own limit. */
const SEGMENTATION_MAX = 65535;
/** Wakes with an error and nothing to read, in a row, before the device counts as gone (removal itself takes a moment). */
const ERROR_WAKES_MAX = 8;

/** The largest MTU of a TAP, as the kernel has it: 64 KiB with the Ethernet header. */
export const TAP_MTU_MAX = 65521;
/** The largest MTU of a TUN. */
export const TUN_MTU_MAX = 65535;

/** A TAP or TUN device; see `TapDevice` and `TunDevice`. */
export abstract class TunTapDevice implements Device, Disposable {
  /** The interface's name, as the kernel chose it. */
  readonly name: string;
  /** "ethernet" for a TAP, "ip" for a TUN. */
  readonly medium: "ethernet" | "ip";
  /** Largest IP packet of the stack in bytes. */
  readonly mtu: number;
  /** The stack's own MAC address, six bytes; null for a TUN. */
  readonly mac: Uint8Array | null;
  /** What was agreed with the kernel. */
  readonly capabilities: DeviceCapabilities;
  /** The control side of the descriptor: carrier, queues, filters. */
  readonly descriptor: TunDescriptor;

  readonly #libc: Libc;
  readonly #fd: number;
  readonly #virtio: boolean;
  readonly #packetInfo: boolean;
  /** Bytes before a frame: packet information, then virtio header. */
  readonly #headerSize: number;
  readonly #slot = new FrameMemory(RX_HEADROOM + SLOT_SIZE + RX_HEADROOM);
  readonly #slotPointer: Deno.PointerObject;
  readonly #writer: FrameWriter;
  #closed = false;
  #gone = false;
  /** `receive` has said so: from then on there is nothing to wait for. */
  #goneTold = false;
  #waker: Waker | null = null;
  #wake: () => void = () => {};
  #errorWakes = 0;

  #rxFrames = 0;
  #rxBytes = 0;
  #rxSegmented = 0;
  #rxTruncated = 0;
  #rxShort = 0;
  #rxErrors = 0;
  #txFrames = 0;
  #txBytes = 0;
  #txSegmented = 0;
  #txDown = 0;
  #txFull = 0;
  #txInvalid = 0;
  #txGone = 0;
  #txErrors = 0;
  #wakes = 0;

  /**
   * Opens the interface and configures the host side; see `TapDevice.open`. Nothing stays open when it throws.
   *
   * @param kind IFF_TAP or IFF_TUN
   */
  protected constructor(kind: number, options: TunTapOptions, mac: Uint8Array | null) {
    const tap = kind === IFF_TAP;
    checkOptions(options, tap ? TAP_MTU_MAX : TUN_MTU_MAX);
    const queue = openQueue(kind, options.name ?? (tap ? "tap%d" : "tun%d"), options);
    let queueLength: number;
    try {
      const link = getLink(queue.name);
      queueLength = link.txQueueLength;
      const interfaceMtu = options.mtu ?? options.host?.mtu ?? link.mtu;
      this.name = options.host === undefined ? queue.name : configureHost(queue.name, options.mtu, options.host);
      this.mtu = interfaceMtu;
      this.#slotPointer = pointerTo(this.#slot.bytes.subarray(RX_HEADROOM));
    } catch (error) {
      queue.descriptor.close();
      throw error;
    }
    this.#libc = libc();
    this.descriptor = queue.descriptor;
    this.#fd = queue.descriptor.fd;
    this.medium = tap ? "ethernet" : "ip";
    this.mac = mac;
    this.#virtio = queue.virtioHeader;
    this.#packetInfo = queue.packetInfo;
    this.#headerSize = (queue.packetInfo ? PACKET_INFO_SIZE : 0) + (queue.virtioHeader ? VIRTIO_HEADER_SIZE : 0);
    this.#writer = new FrameWriter(this.#headerSize, SLOT_SIZE, (frame, into, at) => this.#putHeader(frame, into, at));
    const out = queue.virtioHeader && options.offload !== false;
    this.capabilities = {
      rxChecksum: queue.offload !== 0,
      txChecksum: out,
      txSegmentation: out ? SEGMENTATION_MAX : 0,
      rxFrame: SLOT_SIZE - this.#headerSize - 1,
      // With offload a queued frame holds up to 64 KiB, and the queue is never what overflows.
      rxQueueFrames: queue.offload !== 0 ? 0 : queueLength,
      rxHeadroom: RX_HEADROOM,
      rxTailroom: RX_HEADROOM,
    };
  }

  /**
   * Attaches the device to its one user. `wake` is called from the event loop.
   *
   * @throws `Busy` (EBUSY) when a stack has it already, `BadResource` (EBADF) when it is closed
   */
  open(wake: () => void): void {
    if (this.#closed) throw errno.errnoError("use", `device "${this.name}"`, errno.EBADF, "It was closed");
    if (this.#waker !== null) throw errno.errnoError("use", `device "${this.name}"`, errno.EBUSY, "Another stack has it");
    this.#waker = createWaker(this.#fd, (events) => this.#ready(events));
    this.#wake = wake;
  }

  /** Asks for one wake when frames wait. Keeps the process alive until then, unless {@link unref} was called. Nothing once the interface is gone. */
  arm(): void {
    // A descriptor without interface is in error for ever: waiting for it would go round and round.
    if (!this.#goneTold) this.#waker?.arm(POLLIN);
  }

  /** Lets the waiting for frames keep the process alive, as at first. */
  ref(): void {
    this.#waker?.ref();
  }

  /** Lets the process end although the device is in use. */
  unref(): void {
    this.#waker?.unref();
  }

  #ready(events: number): void {
    this.#wakes++;
    // Errors come apart from data: the next read tells which, but it must not go round for ever.
    if ((events & (POLLERR | POLLHUP | POLLNVAL)) !== 0) {
      if ((events & POLLNVAL) !== 0 || ++this.#errorWakes >= ERROR_WAKES_MAX) this.#gone = true;
    } else this.#errorWakes = 0;
    this.#wake();
  }

  /** Hands up at most `budget` frames. How many, or `ENODEV` when the interface was removed or the device closed, or `EIO`. */
  receive(sink: FrameSink, budget: number): number {
    const memory = this.#slot;
    const header = this.#headerSize;
    for (let count = 0; count < budget;) {
      if (this.#closed || this.#gone) return count > 0 ? count : this.#tellGone();
      const n = this.#libc.read(this.#fd, this.#slotPointer, SLOT_SIZE);
      if (n < 0) {
        const code = this.#libc.errno[0];
        if (code === errno.EAGAIN || code === errno.EINTR) return count;
        this.#rxErrors++;
        this.#gone = isGone(code);
        if (count > 0) return count;
        return this.#gone ? this.#tellGone() : EIO;
      }
      // Dropped frames count as handled: the budget bounds the time that a burst takes.
      count++;
      if (n <= header) {
        this.#rxShort++;
        continue;
      }
      if (n === SLOT_SIZE || (this.#packetInfo && (memory.view.getUint16(RX_HEADROOM, true) & PACKET_STRIPPED) !== 0)) {
        this.#rxTruncated++;
        continue;
      }
      let flags = 0, segmentSize = 0;
      if (this.#virtio) {
        const at = RX_HEADROOM + header - VIRTIO_HEADER_SIZE;
        flags = rxFlags(memory.view, at);
        segmentSize = rxSegmentSize(memory.view, at);
        if (segmentSize > 0) this.#rxSegmented++;
      }
      this.#rxFrames++;
      this.#rxBytes += n - header;
      sink.frame(memory, RX_HEADROOM + header, n - header, flags, segmentSize);
    }
    return budget;
  }

  #tellGone(): number {
    this.#goneTold = true;
    return ENODEV;
  }

  /**
   * Writes one frame: 0, or `EIO` the interface is down, `EAGAIN` it takes no more (a wake follows), `EINVAL` the frame is
   * too short or asks for what the device cannot do, `ENOBUFS`, `ENODEV` it is gone. Bytes before the frame in `memory` are overwritten.
   */
  transmit(frame: TxFrame): number {
    if (this.#closed || this.#gone) {
      this.#txGone++;
      return ENODEV;
    }
    const n = this.#writer.write(this.#fd, frame);
    if (n === FRAME_INVALID) {
      this.#txInvalid++;
      return EINVAL;
    }
    if (n < 0) return this.#failed(FRAME_INVALID - n);
    this.#txFrames++;
    this.#txBytes += n - this.#headerSize;
    if (frame.segmentSize > 0) this.#txSegmented++;
    return 0;
  }

  /** Writes the device's own header at `at` of `into`. */
  #putHeader(frame: TxFrame, into: FrameMemory, at: number): boolean {
    const ipOffset = this.medium === "ip" ? 0 : frame.segmentSize > 0 || this.#packetInfo ? ethernetIpOffset(frame) : 14;
    if (this.#packetInfo) {
      // Flags, then the EtherType: a TUN goes by it, a TAP ignores it.
      const first = frame.length > ipOffset ? frame.memory.view.getUint8(frame.offset + ipOffset) : 0;
      into.view.setUint16(at, 0);
      into.view.setUint16(at + 2, first >> 4 === 6 ? 0x86dd : 0x0800);
      at += PACKET_INFO_SIZE;
    }
    if (this.#virtio) return putTxHeader(into.view, at, frame, ipOffset);
    return frame.checksumStart < 0 && frame.segmentSize === 0;
  }

  /** Counts a failed write and says what it means to the stack. */
  #failed(code: number): number {
    switch (code) {
      case errno.EAGAIN:
        this.#txFull++;
        this.#waker?.arm(POLLOUT);
        return EAGAIN;
      case errno.EIO:
        this.#txDown++;
        return EIO;
      case errno.EINVAL:
      case errno.EMSGSIZE:
        this.#txInvalid++;
        return EINVAL;
      case errno.ENOMEM:
      case errno.ENOBUFS:
        this.#txErrors++;
        return ENOBUFS;
    }
    if (isGone(code)) {
      this.#gone = true;
      this.#txGone++;
      return ENODEV;
    }
    this.#txErrors++;
    return -code;
  }

  /** Gives the descriptor back; a device that isn't persistent is gone then. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waker?.close();
    this.#waker = null;
    this.#wake = () => {};
    this.descriptor.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way, and what failed, by reason. Bytes are those of the frames, without the device's own header. */
  statistics(): Record<string, number> {
    return {
      rxFrames: this.#rxFrames,
      rxBytes: this.#rxBytes,
      /** Frames of several segments in one. */
      rxSegmented: this.#rxSegmented,
      /** Longer than the slot. */
      rxTruncated: this.#rxTruncated,
      /** Nothing behind the device's own header. */
      rxShort: this.#rxShort,
      rxErrors: this.#rxErrors,
      txFrames: this.#txFrames,
      txBytes: this.#txBytes,
      txSegmented: this.#txSegmented,
      /** The interface was down (EIO). */
      txDown: this.#txDown,
      /** The kernel took no more (EAGAIN). */
      txFull: this.#txFull,
      /** Refused: too short, too long, outside its memory, or asking for an offload that isn't there. */
      txInvalid: this.#txInvalid,
      /** After the interface was removed or closed. */
      txGone: this.#txGone,
      txErrors: this.#txErrors,
      wakes: this.#wakes,
    };
  }
}

function isGone(code: number): boolean {
  return code === errno.EBADFD || code === errno.EBADF || code === errno.ENODEV;
}
