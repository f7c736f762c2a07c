/**
 * AF_XDP sockets: frames in memory that the kernel shares (the UMEM), and four rings of places in it. The kernel is given free
 * places in the fill ring and returns them with a frame in the receive ring; we put frames into the transmit ring and get their
 * places back in the completion ring.
 *
 * @module
 */
import { EAGAIN, EBUSY, errnoError } from "./errno.ts";
import { libc } from "./libc.ts";
import { pauseMs } from "./poll.ts";
import { Mapping } from "./shared_memory.ts";
import { Socket } from "./socket.ts";

/** How often a queue that is busy is asked for again, a millisecond apart. */
const BUSY_RETRIES = 50;

const AF_XDP = 44;
const SOCK_RAW_CLOEXEC = 3 | 0x80000;
const SOL_XDP = 283;
const XDP_MMAP_OFFSETS = 1;
const XDP_UMEM_REG = 4;
const XDP_STATISTICS = 7;
const XDP_OPTIONS = 8;
const MSG_DONTWAIT = 0x40;

/** The four rings: their socket option, where they are mapped, their place among the offsets, bytes of an entry. */
const RINGS = {
  rx: { option: 2, page: 0, index: 0, entry: 16 },
  tx: { option: 3, page: 0x8000_0000, index: 1, entry: 16 },
  fill: { option: 5, page: 0x1_0000_0000, index: 2, entry: 8 },
  completion: { option: 6, page: 0x1_8000_0000, index: 3, entry: 8 },
} as const;
/** A ring's name. */
export type XdpRingName = keyof typeof RINGS;

/** Flag of {@link XdpSocket.bind}: another socket's UMEM. */
export const XDP_SHARED_UMEM = 1;
/** Bytes that the kernel leaves free before each received frame. */
export const XDP_PACKET_HEADROOM = 256;

/** What to do about a refusal. */
export const XDP_HINT = "Run as root, with CAP_NET_RAW, or under `unshare -Urn`";

/** A ring of the socket, mapped. Indexes run freely, modulo 2^32. */
export class XdpRing {
  /** The ring's memory in words. */
  readonly words: Int32Array<ArrayBuffer>;
  /** Places of the producer's and the consumer's index in `words`, and of the first entry. */
  readonly producerAt: number;
  readonly consumerAt: number;
  readonly entriesAt: number;
  readonly mask: number;

  /** @param offsets of producer, consumer and entries, in bytes */
  constructor(readonly mapping: Mapping, offsets: readonly number[], readonly entries: number) {
    this.words = new Int32Array(mapping.bytes.buffer, 0, mapping.bytes.length >> 2);
    [this.producerAt, this.consumerAt, this.entriesAt] = offsets.map((offset) => offset >> 2);
    this.mask = entries - 1;
  }

  /** The producer's index. */
  get producer(): number {
    return Atomics.load(this.words, this.producerAt);
  }

  /** Publishes entries up to here. */
  set producer(index: number) {
    Atomics.store(this.words, this.producerAt, index);
  }

  /** The consumer's index. */
  get consumer(): number {
    return Atomics.load(this.words, this.consumerAt);
  }

  /** Gives entries back up to here. */
  set consumer(index: number) {
    Atomics.store(this.words, this.consumerAt, index);
  }

  /** Place of an address entry (fill, completion) in `words`. */
  addressAt(index: number): number {
    return this.entriesAt + 2 * (index & this.mask);
  }

  /** Place of a frame entry (rx, tx) in `words`: address (2 words), length, options. */
  frameAt(index: number): number {
    return this.entriesAt + 4 * (index & this.mask);
  }
}

/** An AF_XDP socket: everything it does returns 0 or a negative errno. */
export class XdpSocket extends Socket {
  /** @throws `PermissionDenied` (EPERM) without CAP_NET_RAW, `NotSupported` (EAFNOSUPPORT) from a kernel without AF_XDP */
  static open(): XdpSocket {
    const lib = libc();
    const fd = lib.socket(AF_XDP, SOCK_RAW_CLOEXEC, 0);
    if (fd < 0) throw errnoError("open", "an AF_XDP socket", lib.errno[0], XDP_HINT);
    return new XdpSocket(fd);
  }

  /** Gives memory at a page's beginning to the kernel, as chunks. It counts against the user's limit of locked memory (ENOBUFS). */
  registerUmem(address: number, bytes: number, chunkSize: number): number {
    const request = new DataView(new ArrayBuffer(24));
    request.setBigUint64(0, BigInt(address), true);
    request.setBigUint64(8, BigInt(bytes), true);
    request.setUint32(16, chunkSize, true);
    return this.setOption(SOL_XDP, XDP_UMEM_REG, new Uint8Array(request.buffer));
  }

  /** Makes a ring of a power of two of entries and maps it: the ring, or a negative errno. */
  ring(name: XdpRingName, entries: number): XdpRing | number {
    const { option, page, index, entry } = RINGS[name];
    let code = this.setOption(SOL_XDP, option, new Uint8Array(Int32Array.of(entries).buffer));
    // Of each ring: producer, consumer, entries, flags.
    const offsets = new BigUint64Array(16);
    if (code === 0) code = this.getOption(SOL_XDP, XDP_MMAP_OFFSETS, offsets);
    if (code < 0) return code;
    const [producer, consumer, first] = [...offsets.subarray(4 * index, 4 * index + 3)].map(Number);
    const mapping = Mapping.mapDevice(this.fd, first + entries * entry, page);
    return typeof mapping === "number" ? mapping : new XdpRing(mapping, [producer, consumer, first], entries);
  }

  /**
   * Binds to a queue of an interface. With {@link XDP_SHARED_UMEM} the memory is that of the socket `shared`. A queue that is busy is
   * asked for again, because the kernel lets it go a moment after its last socket was closed.
   */
  bind(ifindex: number, queue: number, flags: number, shared = 0): number {
    const address = new DataView(new ArrayBuffer(16));
    address.setUint16(0, AF_XDP, true);
    address.setUint16(2, flags, true);
    address.setUint32(4, ifindex, true);
    address.setUint32(8, queue, true);
    address.setUint32(12, shared, true);
    const lib = libc();
    for (let i = 0;; i++) {
      if (lib.bind(this.fd, new Uint8Array(address.buffer), 16) === 0) return 0;
      const code = lib.errno[0];
      if (code !== EBUSY || i === BUSY_RETRIES) return -code;
      pauseMs(1);
    }
  }

  /** True if the kernel moves no bytes. */
  get zeroCopy(): boolean {
    const options = new Int32Array(1);
    return this.getOption(SOL_XDP, XDP_OPTIONS, options) === 0 && (options[0] & 1) !== 0;
  }

  /** What the kernel dropped, into six numbers: rx dropped, rx and tx invalid, rx ring full, fill ring empty, tx ring empty. */
  statistics(into: BigUint64Array<ArrayBuffer>): number {
    return this.getOption(SOL_XDP, XDP_STATISTICS, into);
  }

  /** Tells the kernel to send what is in the transmit ring: 0, or a negative errno (EAGAIN: call again). */
  kick(): number {
    const lib = libc();
    if (lib.sendNothing(this.fd, null, 0, MSG_DONTWAIT, null, 0) >= 0) return 0;
    return -(lib.errno[0] || EAGAIN);
  }
}
