/**
 * A device on one queue of an interface, by an AF_XDP socket: frames come straight from the driver (or, in generic mode, from
 * the kernel's receive path), before the host sees them. With XDP in the kernel as its program says "this queue is that
 * socket's".
 *
 * @module
 */
import * as xdp from "../ffi/af_xdp.ts";
import { type XdpRing, type XdpRingName, XdpSocket } from "../ffi/af_xdp.ts";
import type { AttachMode } from "../ffi/bpf_program.ts";
import * as errno from "../ffi/errno.ts";
import { parseMac } from "../ffi/inet.ts";
import { PacketSocket } from "../ffi/packet_socket.ts";
import { createWaker, POLLIN, type Waker } from "../ffi/poll.ts";
import { getLink, type Link } from "../ffi/rtnl_link.ts";
import { LinkMonitor } from "../ffi/rtnl_monitor.ts";
import { EAGAIN, EINVAL, EMSGSIZE, ENETDOWN, ENODEV } from "../stack/codes.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../stack/device.ts";
import { afXdpCapabilities, type AfXdpOptions, checkAfXdpOptions, LINK_HEADER, MTU_MAX, TX_OFFSET } from "./af_xdp_options.ts";
import { CHUNK_SIZE, Umem, type UmemChunks, umemChunks } from "./umem.ts";
import { type AttachedSocket, attachSocket } from "./xdp/socket_program.ts";

export type { AttachMode } from "../ffi/bpf_program.ts";
export type { AfXdpOptions } from "./af_xdp_options.ts";
export { Umem, type UmemOptions } from "./umem.ts";

const HEADER_SIZE = 14;
/** Frames that the kernel sends for one call. */
const KERNEL_BATCH = 32;

function check(code: number, op: string, name: string): void {
  if (code < 0) throw errno.errnoError(op, `interface "${name}"`, code, code === -errno.EPERM ? xdp.XDP_HINT : "");
}

/**
 * Frames of one queue of an interface. It needs root, or CAP_NET_RAW, CAP_BPF and CAP_NET_ADMIN of the machine itself.
 *
 * ```ts ignore
 * const device = AfXdpDevice.open({ name: "eth1" });
 * await using stack = new NetStack(device, { address: "192.0.2.7/24" });
 * ```
 */
export class AfXdpDevice implements Device, Disposable {
  /** The interface's name. */
  readonly name: string;
  readonly medium = "ethernet";
  /** Follows the interface's, as far as its frames fit into a chunk. */
  mtu: number;
  /** The interface's own address. */
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities;
  /** The interface's number. */
  readonly ifindex: number;
  /** How the program is attached. */
  readonly mode: AttachMode;
  readonly #umem: UmemChunks;
  readonly #socket: XdpSocket;
  readonly #rings: XdpRing[] = [];
  readonly #rx: XdpRing;
  readonly #tx: XdpRing;
  readonly #fill: XdpRing;
  readonly #completion: XdpRing;
  readonly #user: number = 0;
  #program: AttachedSocket | null = null;
  #waker: Waker | null = null;
  /** The socket's own descriptor doesn't say that its interface is gone. */
  #monitor: LinkMonitor | null = null;
  #wake: () => void = () => {};
  /** Chunks in the fill ring, and frames in the transmit ring that haven't come back. */
  #filled = 0;
  #sending = 0;
  #unsent = 0;
  /** Makes the interface promiscuous as long as it is open: it ends with the process, however that ends. */
  #promiscuous: PacketSocket | null = null;
  #receiving = false;
  #closed = false;
  #gone = false;

  #rxFrames = 0;
  #rxBytes = 0;
  #txFrames = 0;
  #txBytes = 0;
  #txMoved = 0;
  #txFull = 0;
  #txInvalid = 0;
  #kicks = 0;
  #wakes = 0;
  readonly #dropped = new BigUint64Array(6);

  private constructor(link: Link, options: AfXdpOptions, umem: UmemChunks) {
    const { queue = 0, ring = 1024 } = options;
    this.name = link.name;
    this.mac = parseMac(link.mac);
    this.ifindex = link.index;
    this.mtu = Math.min(link.mtu, MTU_MAX);
    this.capabilities = afXdpCapabilities(ring);
    this.#umem = umem;
    this.#socket = XdpSocket.open();
    try {
      this.#user = umem.join(this.#socket);
      const partner = umem.partner(this.#user);
      [this.#fill, this.#completion, this.#rx, this.#tx] = (["fill", "completion", "rx", "tx"] as const).map((name) =>
        this.#makeRing(name, ring)
      );
      // Half of the memory at most waits for frames: the other half is there for sending.
      this.#refill();
      const flags = partner < 0 ? 0 : xdp.XDP_SHARED_UMEM;
      check(this.#socket.bind(link.index, queue, flags, Math.max(0, partner)), "bind an AF_XDP socket to", link.name);
      this.#program = attachSocket(this.#socket, link, queue, options.mode);
      this.mode = this.#program.mode;
      if (options.promiscuous === true) this.setPromiscuous(true);
    } catch (error) {
      this.close();
      throw error;
    }
  }

  /**
   * Opens a device on an interface of this thread's namespace, and attaches the program that it needs.
   *
   * @throws {RangeError} for impossible options
   * @throws {Deno.errors.NotFound} (ENODEV) when there is no such interface
   * @throws {Deno.errors.PermissionDenied} (EPERM) without CAP_NET_RAW, CAP_BPF and CAP_NET_ADMIN
   * @throws {Deno.errors.Busy} (EBUSY) when another program is attached or the queue has a socket
   */
  static open(options: AfXdpOptions): AfXdpDevice {
    checkAfXdpOptions(options);
    const link = getLink(options.name);
    if (link.mac === "") {
      throw errno.errnoError("open", `interface "${link.name}"`, errno.EOPNOTSUPP, "It has no Ethernet header");
    }
    const umem = options.umem ?? new Umem({ chunks: Math.max(4096, 4 * (options.ring ?? 1024)) });
    try {
      return new AfXdpDevice(link, options, umemChunks(umem));
    } catch (error) {
      if (options.umem === undefined) umem.close();
      throw error;
    }
  }

  #makeRing(name: XdpRingName, entries: number): XdpRing {
    const ring = this.#socket.ring(name, entries);
    if (typeof ring === "number") throw errno.errnoError("make a ring for", `interface "${this.name}"`, ring);
    this.#rings.push(ring);
    return ring;
  }

  /** True if not even the kernel copies. */
  get zeroCopy(): boolean {
    return this.#socket.zeroCopy;
  }

  /** Switches the interface's promiscuous mode, until it is closed. @throws what the kernel says */
  setPromiscuous(on: boolean): void {
    if (on === (this.#promiscuous !== null)) return;
    this.#promiscuous?.close();
    this.#promiscuous = null;
    if (!on) return;
    const socket = PacketSocket.open(this.ifindex);
    const code = socket.setPromiscuous(true);
    if (code < 0) socket.close();
    check(code, "make promiscuous", this.name);
    this.#promiscuous = socket;
  }

  /** Attaches the device to its one user. @throws `Busy` (EBUSY) when it has one, `BadResource` (EBADF) when it is closed */
  open(wake: () => void): void {
    if (this.#closed) throw errno.errnoError("use", `device "${this.name}"`, errno.EBADF, "It was closed");
    if (this.#waker !== null) throw errno.errnoError("use", `device "${this.name}"`, errno.EBUSY, "Another stack has it");
    this.#monitor = new LinkMonitor((link, deleted) => this.#linkChanged(link, deleted));
    this.#waker = createWaker(this.#socket.fd, () => {
      this.#wakes++;
      this.#wake();
    });
    this.#wake = wake;
  }

  #linkChanged({ index, mtu }: Link, deleted: boolean): void {
    if (index === this.ifindex && !deleted) this.mtu = Math.min(mtu, MTU_MAX);
    if (this.#socket.takeError() === 0) return;
    // It never comes back to this socket, even if there is one of its name again.
    this.#gone = true;
    this.#monitor?.close();
    this.#waker?.close();
    this.#wake();
  }

  /** Lets the waiting for frames keep the process alive, as at first. */
  ref(): void {
    this.#waker?.ref();
    this.#monitor?.ref();
  }

  /** Lets the process end although the device is in use. */
  unref(): void {
    this.#waker?.unref();
    this.#monitor?.unref();
  }

  /** Asks for one wake when frames wait. */
  arm(): void {
    if (!this.#gone) this.#waker?.arm(POLLIN);
  }

  /** Hands up at most `budget` frames, where the kernel has put them. `ENODEV` when the interface is gone. */
  receive(sink: FrameSink, budget: number): number {
    if (this.#closed || this.#gone) return ENODEV;
    const rx = this.#rx;
    let consumer = rx.consumer;
    const count = Math.min(budget, (rx.producer - consumer) | 0);
    if (count <= 0) return 0;
    this.#receiving = true;
    let done = 0;
    try {
      for (; done < count && !this.#closed; done++) this.#hand(sink, rx.frameAt(consumer++));
    } finally {
      // A frame on which the sink threw was received too.
      this.#receiving = false;
      if (this.#closed) this.#unmap();
      else {
        rx.consumer = consumer;
        this.#refill();
      }
    }
    return done;
  }

  /** One frame, where the kernel has put it; its chunk is free again unless somebody sends it on. */
  #hand(sink: FrameSink, at: number): void {
    const umem = this.#umem;
    const { words } = this.#rx;
    const address = words[at];
    const length = words[at + 2];
    umem.held = address & -CHUNK_SIZE;
    this.#rxFrames++;
    this.#rxBytes += length;
    try {
      sink.frame(umem.memory, address, length, 0, 0);
    } finally {
      if (umem.held >= 0) umem.release(umem.held);
      umem.held = -1;
      this.#filled--;
    }
  }

  /** Gives the kernel free chunks to receive into. */
  #refill(): void {
    const fill = this.#fill, umem = this.#umem;
    let producer = fill.producer;
    while (this.#filled < fill.entries) {
      const chunk = umem.take(this.#user);
      if (chunk < 0) break;
      const at = fill.addressAt(producer++);
      fill.words[at] = chunk;
      fill.words[at + 1] = 0;
      this.#filled++;
    }
    fill.producer = producer;
  }

  /** Takes back what was sent. */
  #reap(): void {
    const completion = this.#completion;
    let consumer = completion.consumer;
    const producer = completion.producer;
    while (consumer !== producer) {
      this.#umem.release(completion.words[completion.addressAt(consumer)]);
      consumer = (consumer + 1) | 0;
      this.#sending--;
    }
    completion.consumer = consumer;
  }

  /**
   * Puts one frame into the ring; {@link flush} sends. A frame that was received by a device of the same memory is sent from where it
   * lies. 0, or `EAGAIN` no room, `EMSGSIZE`, `EINVAL`, `ENODEV`.
   */
  transmit(frame: TxFrame): number {
    if (this.#closed || this.#gone) return ENODEV;
    const { size, memory, offset } = frame;
    if (size < HEADER_SIZE || frame.checksumStart >= 0 || frame.segmentSize > 0) {
      this.#txInvalid++;
      return EINVAL;
    }
    if (size > this.mtu + LINK_HEADER) {
      this.#txInvalid++;
      return EMSGSIZE;
    }
    const tx = this.#tx, umem = this.#umem;
    if (this.#sending >= tx.entries) this.#kick();
    if (this.#sending >= tx.entries) {
      this.#txFull++;
      return EAGAIN;
    }
    let address = offset;
    if (memory === umem.memory && umem.held === (offset & -CHUNK_SIZE) && size === frame.length) {
      umem.move(this.#user);
      this.#txMoved++;
    } else {
      const chunk = this.#chunk();
      if (chunk < 0) {
        this.#txFull++;
        return EAGAIN;
      }
      address = chunk + TX_OFFSET;
      frame.copyTo(umem.memory.bytes, address);
    }
    const producer = tx.producer;
    const at = tx.frameAt(producer);
    tx.words[at] = address;
    tx.words[at + 1] = 0;
    tx.words[at + 2] = size;
    tx.words[at + 3] = 0;
    tx.producer = producer + 1;
    this.#sending++;
    this.#txFrames++;
    this.#txBytes += size;
    if (++this.#unsent >= KERNEL_BATCH) this.#kick();
    return 0;
  }

  #chunk(): number {
    const chunk = this.#umem.take(this.#user);
    if (chunk >= 0 || this.#sending === 0) return chunk;
    this.#kick();
    return this.#umem.take(this.#user);
  }

  /** Lets the kernel send; what it hasn't taken stays in the ring for the next time. */
  #kick(): void {
    const tx = this.#tx;
    for (let i = 0; i <= tx.entries / KERNEL_BATCH; i++) {
      const before = tx.consumer;
      if (before === tx.producer) break;
      this.#kicks++;
      const code = this.#socket.kick();
      if (code === ENETDOWN || code === -6) break;
      // It says EAGAIN also when it has more to do: what counts is whether it got on.
      if (tx.consumer === before) break;
    }
    this.#unsent = (tx.producer - tx.consumer) | 0;
    this.#reap();
  }

  /** Sends what is in the ring. */
  flush(): void {
    if (this.#unsent > 0 && !this.#closed) this.#kick();
    else if (this.#sending > 0 && !this.#closed) this.#reap();
  }

  /** Takes the program off and gives everything back. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#waker?.close();
    this.#waker = null;
    this.setPromiscuous(false);
    this.#monitor?.close();
    this.#wake = () => {};
    this.#program?.close();
    this.#socket.close();
    if (!this.#receiving) this.#unmap();
  }

  /** Whoever closes from inside `receive` still has a frame in the memory. */
  #unmap(): void {
    // Closing the socket isn't enough: a mapped ring keeps it bound.
    for (const ring of this.#rings) ring.mapping.unmap();
    this.#rings.length = 0;
    if (this.#user > 0) this.#umem.leave(this.#user);
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way, and what the kernel dropped, by reason. */
  statistics(): Record<string, number> {
    if (!this.#closed) this.#socket.statistics(this.#dropped);
    const [rxDropped, rxInvalid, txInvalid, rxRingFull, fillEmpty] = Array.from(this.#dropped, Number);
    return {
      rxFrames: this.#rxFrames,
      rxBytes: this.#rxBytes,
      rxDropped,
      rxInvalid,
      rxRingFull,
      fillEmpty,
      txFrames: this.#txFrames,
      txBytes: this.#txBytes,
      /** Of these: sent from where they had been received. */
      txMoved: this.#txMoved,
      txFull: this.#txFull,
      txInvalid: this.#txInvalid + txInvalid,
      kicks: this.#kicks,
      wakes: this.#wakes,
    };
  }
}
