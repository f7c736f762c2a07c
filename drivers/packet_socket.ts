/**
 * A device on an interface of the kernel, by a packet socket: what arrives there is received from a ring that the kernel
 * shares, without a system call and without a copy of ours, and what is sent leaves by it.
 *
 * The host goes on seeing what arrives: on an interface for a stack or a forwarder alone, give the host no address.
 *
 * @module
 */
import * as errno from "../ffi/errno.ts";
import { parseMac } from "../ffi/inet.ts";
import { inNamespace, type NamespaceReference } from "../ffi/namespace.ts";
import * as packet from "../ffi/packet_socket.ts";
import { PacketSocket } from "../ffi/packet_socket.ts";
import { createWaker, POLLERR, POLLHUP, POLLIN, POLLNVAL, POLLOUT, type Waker } from "../ffi/poll.ts";
import { getLink, type Link } from "../ffi/rtnl_link.ts";
import type { Mapping } from "../ffi/shared_memory.ts";
import { EAGAIN, EINVAL, EIO, EMSGSIZE, ENETDOWN, ENOBUFS, ENODEV } from "../stack/codes.ts";
import {
  type Device,
  type DeviceCapabilities,
  FrameMemory,
  type FrameSink,
  NO_MEMORY,
  RX_CHECKSUM_PARTIAL,
  RX_CHECKSUM_VALID,
  type TxFrame,
} from "../stack/device.ts";
import { FRAME_INVALID, FrameWriter } from "./frame_writer.ts";
import { ethernetIpOffset, putTxHeader, rxFlags, rxSegmentSize, VIRTIO_HEADER_SIZE } from "./virtio_header.ts";

export type { NamespaceReference } from "../ffi/namespace.ts";

/** Room before each frame for whoever changes it in place; a tag that is put back takes 4 of the bytes that come on top. */
const RX_HEADROOM = 256;
const HEADER_SIZE = 14;
/** Link header with two tags. */
const LINK_HEADER = 22;
/** What stands before a frame in a slot at most: header, address, alignment, reserve, virtio header. */
const SLOT_OVERHEAD = 96 + RX_HEADROOM;
/** An IP packet of 64 KiB and what is around it, in whole pages. */
const SLOT_OFFLOAD = 17 * 4096;
const SEGMENTATION_MAX = 65_535;
/** Bytes of the ring at most. */
const RING_BYTES_MAX = 256 << 20;

/** Options of {@link PacketSocketDevice.open}. */
export interface PacketSocketOptions {
  /** The interface. It must have an Ethernet header. */
  name: string;
  /** Where it is. Default: the namespace of this thread. */
  namespace?: NamespaceReference;
  /**
   * Take and give frames of up to 64 KiB uncut, with checksums left to be filled in, as the kernel's own hosts send them. Default
   * true. Without it, such frames arrive marked, and those too long for a slot are lost.
   */
  offload?: boolean;
  /** Slots of the ring, 16 to 65536; more that wait are lost. Default 128 with offload (9 MB), else 2048 (4 MB). */
  slots?: number;
  /** Receive also what isn't meant for the interface's address. Default false. */
  promiscuous?: boolean;
  /** Send past the interface's queueing discipline: quicker, but what its driver can't take at once is lost. Default true. */
  qdiscBypass?: boolean;
}

function check(code: number, op: string, name: string): void {
  if (code < 0) throw errno.errnoError(op, `interface "${name}"`, code, code === -errno.EPERM ? packet.RAW_HINT : "");
}

/** Frames of an interface. */
export class PacketSocketDevice implements Device, Disposable {
  /** The interface's name. */
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  /** The interface's own address. */
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities;
  /** The interface's number. */
  readonly ifindex: number;
  readonly #socket: PacketSocket;
  readonly #fd: number;
  readonly #writer: FrameWriter;
  readonly #virtio: boolean;
  readonly #slots: number;
  readonly #slotSize: number;
  #ring: Mapping | null;
  #memory: FrameMemory;
  /** The same memory, for the status of the slots. */
  #words: Int32Array<ArrayBuffer>;
  #next = 0;
  #receiving = false;
  #waker: Waker | null = null;
  #wake: () => void = () => {};
  #closed = false;
  #gone = false;
  #down = false;

  #rxFrames = 0;
  #rxBytes = 0;
  #rxTruncated = 0;
  #rxTagged = 0;
  #rxSegmented = 0;
  #rxLost = 0;
  #txFrames = 0;
  #txBytes = 0;
  #txFull = 0;
  #txInvalid = 0;
  #txDown = 0;
  #txErrors = 0;
  #wakes = 0;
  readonly #lost = new Int32Array(2);

  private constructor(link: Link, options: PacketSocketOptions, socket: PacketSocket) {
    const { offload = true, slots = offload ? 128 : 2048 } = options;
    this.name = link.name;
    this.mtu = link.mtu;
    this.mac = parseMac(link.mac);
    this.ifindex = link.index;
    this.#socket = socket;
    this.#fd = socket.fd;
    this.#virtio = offload;
    const plain = SLOT_OVERHEAD + link.mtu + LINK_HEADER;
    this.#slotSize = offload ? SLOT_OFFLOAD : plain <= 2048 ? 2048 : (plain + 4095) & ~4095;
    this.#slots = slots;
    if (slots * this.#slotSize > RING_BYTES_MAX) throw new RangeError(`A ring of ${slots} slots is too large`);
    check(socket.ignoreOutgoing(), "open a packet socket on", link.name);
    check(socket.setVirtioHeader(offload), "ask for offload on", link.name);
    if (options.qdiscBypass ?? true) check(socket.setQdiscBypass(true), "go past the queue of", link.name);
    const ring = socket.ring(slots, this.#slotSize, RX_HEADROOM);
    if (typeof ring === "number") throw errno.errnoError("make a ring for", `interface "${link.name}"`, ring);
    this.#ring = ring;
    this.#memory = new FrameMemory(ring.bytes);
    this.#words = new Int32Array(ring.bytes.buffer);
    this.#writer = new FrameWriter(
      offload ? VIRTIO_HEADER_SIZE : 0,
      offload ? SEGMENTATION_MAX + LINK_HEADER : link.mtu + LINK_HEADER,
      offload
        ? (frame, into, at) => putTxHeader(into.view, at, frame, frame.segmentSize > 0 ? ethernetIpOffset(frame) : 14)
        : (frame) => frame.checksumStart < 0 && frame.segmentSize === 0,
    );
    this.capabilities = {
      rxChecksum: true,
      txChecksum: offload,
      txSegmentation: offload ? SEGMENTATION_MAX : 0,
      rxFrame: this.#slotSize - SLOT_OVERHEAD,
      rxQueueFrames: offload ? 0 : slots,
      rxHeadroom: RX_HEADROOM,
      rxTailroom: 0,
    };
  }

  /**
   * Opens a device on an interface that exists.
   *
   * @throws {TypeError | RangeError} for impossible options
   * @throws {Deno.errors.NotFound} (ENODEV) when there is no such interface
   * @throws {Deno.errors.PermissionDenied} (EPERM) without CAP_NET_RAW
   * @throws {Deno.errors.NotSupported} (EOPNOTSUPP) for an interface without Ethernet header
   */
  static open(options: PacketSocketOptions): PacketSocketDevice {
    const { name, namespace, slots = 128 } = options;
    if (!(Number.isInteger(slots) && slots >= 16 && slots <= 65_536 && slots % 16 === 0)) {
      throw new RangeError(`slots must be 16 to 65536, in sixteens: ${slots}`);
    }
    return namespace === undefined ? this.#open(name, options) : inNamespace(namespace, () => this.#open(name, options));
  }

  static #open(name: string, options: PacketSocketOptions): PacketSocketDevice {
    const link = getLink(name);
    if (link.mac === "") throw errno.errnoError("open", `interface "${name}"`, errno.EOPNOTSUPP, "It has no Ethernet header");
    const socket = PacketSocket.open(link.index);
    let device: PacketSocketDevice | null = null;
    try {
      device = new PacketSocketDevice(link, options, socket);
      if (options.promiscuous === true) device.setPromiscuous(true);
      check(socket.bind(), "bind a packet socket to", name);
      return device;
    } catch (error) {
      device?.close();
      socket.close();
      throw error;
    }
  }

  /** Receives also what isn't meant for the interface's address, until it is closed. @throws what the kernel says */
  setPromiscuous(on: boolean): void {
    check(this.#socket.setPromiscuous(on), "make promiscuous", this.name);
  }

  /** Attaches the device to its one user. @throws `Busy` (EBUSY) when it has one, `BadResource` (EBADF) when it is closed */
  open(wake: () => void): void {
    if (this.#closed) throw errno.errnoError("use", `device "${this.name}"`, errno.EBADF, "It was closed");
    if (this.#waker !== null) throw errno.errnoError("use", `device "${this.name}"`, errno.EBUSY, "Another stack has it");
    this.#waker = createWaker(this.#fd, (events) => this.#ready(events));
    this.#wake = wake;
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
    // The interface went down (and may come back), or away.
    if ((events & (POLLERR | POLLHUP | POLLNVAL)) !== 0) {
      this.#down = this.#socket.takeError() === ENETDOWN;
      if (!this.#socket.interfaceExists()) this.#gone = true;
    }
    this.#wake();
  }

  /** Asks for one wake when frames wait. */
  arm(): void {
    if (!this.#gone) this.#waker?.arm(POLLIN);
  }

  /** Hands up at most `budget` frames, in the kernel's slots. `ENODEV` when the interface is gone, `ENETDOWN` once when it went down. */
  receive(sink: FrameSink, budget: number): number {
    let count = 0;
    this.#receiving = true;
    try {
      for (; count < budget && !this.#closed; count++) {
        const at = this.#next * this.#slotSize;
        const status = Atomics.load(this.#words, at >> 2);
        if ((status & packet.TP_STATUS_USER) === 0) break;
        try {
          this.#slot(sink, at, status);
        } finally {
          Atomics.store(this.#words, at >> 2, 0);
          this.#next = this.#next + 1 < this.#slots ? this.#next + 1 : 0;
        }
      }
    } finally {
      this.#receiving = false;
      if (this.#closed) this.#unmap();
    }
    if (count > 0) return count;
    if (this.#closed || this.#gone) return ENODEV;
    if (!this.#down) return 0;
    this.#down = false;
    return ENETDOWN;
  }

  /** One frame, in its slot. */
  #slot(sink: FrameSink, at: number, status: number): void {
    const { view } = this.#memory;
    let offset = at + view.getUint16(at + packet.SLOT_MAC, true);
    let length = view.getUint32(at + packet.SLOT_CAPTURED, true);
    if (length < view.getUint32(at + packet.SLOT_LENGTH, true)) {
      this.#rxTruncated++;
      return;
    }
    let flags = 0, segmentSize = 0;
    if (this.#virtio) {
      flags = rxFlags(view, offset - VIRTIO_HEADER_SIZE);
      segmentSize = rxSegmentSize(view, offset - VIRTIO_HEADER_SIZE);
      if (segmentSize > 0) this.#rxSegmented++;
    } else if ((status & packet.TP_STATUS_CSUMNOTREADY) !== 0) flags = RX_CHECKSUM_PARTIAL;
    else if ((status & packet.TP_STATUS_CSUM_VALID) !== 0) flags = RX_CHECKSUM_VALID;
    if ((status & packet.TP_STATUS_VLAN_VALID) !== 0) {
      // The kernel takes the tag off on the way in: a frame is to be as it was on the wire.
      const type = (status & packet.TP_STATUS_VLAN_TPID_VALID) !== 0 ? view.getUint16(at + packet.SLOT_VLAN_TPID, true) : 0x8100;
      for (let i = offset; i < offset + 12; i += 4) view.setInt32(i - 4, view.getInt32(i));
      view.setUint16(offset + 8, type);
      view.setUint16(offset + 10, view.getUint16(at + packet.SLOT_VLAN_TCI, true));
      offset -= 4;
      length += 4;
      this.#rxTagged++;
    }
    this.#rxFrames++;
    this.#rxBytes += length;
    sink.frame(this.#memory, offset, length, flags, segmentSize);
  }

  /**
   * Sends one frame: 0, or `EAGAIN` the socket takes no more (a wake follows), `ENOBUFS` it was lost in the interface's queue,
   * `EINVAL`, `EMSGSIZE`, `ENETDOWN`, `ENODEV`. Bytes before the frame in `memory` are overwritten.
   */
  transmit(frame: TxFrame): number {
    if (this.#closed || this.#gone) return ENODEV;
    // Of the machine's own root the kernel takes shorter ones, and fills them up.
    const n = frame.size < HEADER_SIZE ? FRAME_INVALID : this.#writer.write(this.#fd, frame);
    if (n >= 0) {
      this.#txFrames++;
      this.#txBytes += frame.size;
      return 0;
    }
    if (n !== FRAME_INVALID) return this.#failed(FRAME_INVALID - n);
    this.#txInvalid++;
    return EINVAL;
  }

  #failed(code: number): number {
    switch (code) {
      case errno.EAGAIN:
        this.#txFull++;
        this.#waker?.arm(POLLOUT);
        return EAGAIN;
      case errno.ENOBUFS:
        this.#txFull++;
        return ENOBUFS;
      case errno.EINVAL:
        this.#txInvalid++;
        return EINVAL;
      case errno.EMSGSIZE:
        this.#txInvalid++;
        return EMSGSIZE;
      case -ENETDOWN:
        this.#txDown++;
        return ENETDOWN;
    }
    this.#txErrors++;
    if (this.#socket.interfaceExists()) return EIO;
    this.#gone = true;
    return ENODEV;
  }

  /** Gives socket and ring back. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.statistics(); // while the kernel's counters can be had
    this.#closed = true;
    this.#waker?.close();
    this.#waker = null;
    this.#wake = () => {};
    this.#socket.close();
    // Whoever closes from inside `receive` still has a frame in the ring.
    if (!this.#receiving) this.#unmap();
  }

  /** Touching the memory after it was given back would end the process: nothing may know it any more. */
  #unmap(): void {
    this.#memory = NO_MEMORY;
    this.#words = new Int32Array(0);
    this.#ring?.unmap();
    this.#ring = null;
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way, and what failed, by reason. */
  statistics(): Record<string, number> {
    // The kernel forgets what it has told.
    if (!this.#closed && this.#socket.statistics(this.#lost) === 0) this.#rxLost += this.#lost[1];
    return {
      rxFrames: this.#rxFrames,
      rxBytes: this.#rxBytes,
      /** Longer than a slot. */
      rxTruncated: this.#rxTruncated,
      /** Whose tag was put back. */
      rxTagged: this.#rxTagged,
      /** Several segments in one. */
      rxSegmented: this.#rxSegmented,
      /** No slot was free. */
      rxLost: this.#rxLost,
      txFrames: this.#txFrames,
      txBytes: this.#txBytes,
      txFull: this.#txFull,
      txInvalid: this.#txInvalid,
      txDown: this.#txDown,
      txErrors: this.#txErrors,
      wakes: this.#wakes,
    };
  }
}
