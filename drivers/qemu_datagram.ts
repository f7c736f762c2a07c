/**
 * QEMU's datagram socket (`-netdev dgram`) as a device: one datagram is one frame.
 *
 * @module
 */
import { EAGAIN, EMSGSIZE, ENODEV } from "../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../stack/device.ts";
import { tryParseAddress } from "../stack/wire/address.ts";
import { copyBytes } from "../stack/wire/copy.ts";
import { checkQemuOptions } from "./qemu_stream.ts";

const FRAME_MAX = 65_535;
/** Frames that wait, in each direction. */
const QUEUE = 256;
const SLOT = 2048;
/** After an error of the socket, in milliseconds. */
const RETRY_MS = 10;

/** An end of a datagram wire: a unix socket's path, or an address and port. */
export type DatagramEnd = { readonly path: string } | { readonly hostname?: string; readonly port: number };

/** Options of {@link QemuDatagramDevice.open}. */
export interface QemuDatagramOptions {
  /** Our end: QEMU's `remote`. */
  readonly local: DatagramEnd;
  /** QEMU's end: its `local`. */
  readonly remote: DatagramEnd;
  /** For people. Default "qemu0". */
  readonly name?: string;
  /** Largest IP packet in bytes, 68 to 1500. Default 1500. */
  readonly mtu?: number;
  /** The address of our own end of the wire: text or six bytes. Default: a random one. */
  readonly mac?: string | Uint8Array;
}

/**
 * Deno's unix datagram sockets do one thing at a time, and ours always waits for frames: what it sends goes by a second socket,
 * whose file stands beside the first. QEMU doesn't ask who sends; another one of our devices does, and knows this name.
 */
const SENDER = ".out";

function addressOf(end: DatagramEnd): Deno.Addr {
  if ("path" in end) return { transport: "unixpacket", path: end.path };
  return { transport: "udp", hostname: end.hostname ?? "127.0.0.1", port: end.port };
}

function sameAddress(a: Deno.Addr, b: Deno.Addr): boolean {
  if ("path" in a) return "path" in b && a.path === b.path;
  return "hostname" in a && "hostname" in b && a.hostname === b.hostname && a.port === b.port;
}

function closeWithFile(socket: Deno.DatagramConn): void {
  const { addr } = socket;
  socket.close();
  if (!("path" in addr)) return;
  try {
    Deno.removeSync(addr.path as string);
  } catch { /* somebody else has done it, or may do it only */ }
}

/**
 * A network device whose other end is a virtual machine's network card, over datagrams. Needs Deno's `--unstable-net`, as its
 * datagram sockets do.
 *
 * ```ts ignore
 * const device = QemuDatagramDevice.open({ local: { path: "/tmp/ours" }, remote: { path: "/tmp/theirs" } });
 * // qemu -netdev dgram,id=n,local.type=unix,local.path=/tmp/theirs,remote.type=unix,remote.path=/tmp/ours …
 * ```
 */
export class QemuDatagramDevice implements Device, Disposable {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame: FRAME_MAX };
  readonly #socket: Deno.DatagramConn;
  /** The same one, or the one that sends. */
  readonly #sender: Deno.DatagramConn;
  readonly #remote: Deno.Addr;
  /** Who else sends for the other end. */
  readonly #remoteSender: Deno.Addr;
  /** Frames to be sent: each has to wait for the one before. */
  readonly #out: Uint8Array[] = [];
  /** What came and was not yet taken: slots in a ring. */
  readonly #in = new FrameMemory(QUEUE * SLOT);
  readonly #lengths = new Int32Array(QUEUE);
  #first = 0;
  #count = 0;
  readonly #buffer = new Uint8Array(FRAME_MAX);
  #sending = false;
  #full = false;
  #wake: (() => void) | null = null;
  #armed = false;
  #closed = false;
  #retry: ReturnType<typeof setTimeout> | null = null;
  #referenced = true;
  readonly #counters = {
    rxFrames: 0,
    rxBytes: 0,
    /** Not from QEMU's address, shorter than an Ethernet header, or longer than the MTU allows. */
    rxForeign: 0,
    rxBadLength: 0,
    /** Nobody took them in time. */
    rxDropped: 0,
    txFrames: 0,
    txBytes: 0,
    txFull: 0,
    /** QEMU isn't there. */
    txErrors: 0,
  };

  private constructor(options: QemuDatagramOptions, mac: Uint8Array, listen: typeof Deno.listenDatagram) {
    this.name = options.name ?? "qemu0";
    this.mtu = options.mtu ?? 1500;
    this.mac = mac;
    const remote = this.#remote = addressOf(options.remote);
    this.#remoteSender = "path" in remote ? { transport: "unixpacket", path: `${remote.path}${SENDER}` } : remote;
    const local = addressOf(options.local);
    if ("path" in local) {
      this.#socket = listen({ transport: "unixpacket", path: local.path as string });
      try {
        this.#sender = listen({ transport: "unixpacket", path: `${local.path}${SENDER}` });
      } catch (error) {
        closeWithFile(this.#socket);
        throw error;
      }
    } else {
      const { hostname, port } = local as Deno.NetAddr;
      this.#socket = this.#sender = listen({ transport: "udp", hostname, port });
    }
    this.#receiveAll();
  }

  /** Opens the sockets. @throws {TypeError | RangeError} for impossible options; {@link Deno.errors.NotSupported} without `--unstable-net` */
  static open(options: QemuDatagramOptions): QemuDatagramDevice {
    const mac = checkQemuOptions(options);
    if ((options.mtu ?? 1500) > 1500) throw new RangeError(`mtu must be 68 to 1500 bytes: ${options.mtu}`);
    for (const end of [options.local, options.remote]) {
      if (typeof end !== "object" || end === null || !("path" in end || "port" in end)) {
        throw new TypeError("local and remote need a path or a port each");
      }
      // Who sends is known by the address, and a name is none.
      if (!("path" in end) && tryParseAddress(end.hostname ?? "127.0.0.1") === null) {
        throw new TypeError(`hostname must be an IPv4 address: ${end.hostname}`);
      }
    }
    const listen = (Deno as { listenDatagram?: typeof Deno.listenDatagram }).listenDatagram;
    if (listen === undefined) throw new Deno.errors.NotSupported("Datagram sockets need deno run --unstable-net");
    return new QemuDatagramDevice(options, mac, listen);
  }

  /** The address of our own end. */
  get address(): Deno.Addr {
    return this.#socket.addr;
  }

  async #receiveAll(): Promise<void> {
    while (!this.#closed) {
      let received: [Uint8Array, Deno.Addr];
      try {
        received = await this.#socket.receive(this.#buffer);
      } catch {
        if (this.#closed) return;
        // A peer that isn't there shows itself here too; the next datagram is as good as ever.
        await new Promise<void>((resolve) => {
          this.#retry = setTimeout(resolve, RETRY_MS);
          if (!this.#referenced) Deno.unrefTimer(this.#retry as unknown as number);
        });
        continue;
      }
      const [bytes, from] = received;
      if (!sameAddress(from, this.#remote) && !sameAddress(from, this.#remoteSender)) this.#counters.rxForeign++;
      else if (bytes.length < 14 || bytes.length > SLOT) this.#counters.rxBadLength++;
      else if (this.#count === QUEUE) this.#counters.rxDropped++;
      else this.#keep(bytes);
    }
  }

  #keep(bytes: Uint8Array): void {
    const slot = (this.#first + this.#count++) % QUEUE;
    copyBytes(bytes, 0, this.#in.bytes, slot * SLOT, bytes.length);
    this.#lengths[slot] = bytes.length;
    this.#ring();
  }

  #ring(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#wake?.();
  }

  /** Attaches the device to its one user. */
  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    this.#armed = true;
    if (this.#count > 0) this.#ring();
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    let done = 0;
    for (; done < budget && this.#count > 0; done++) {
      const slot = this.#first;
      const length = this.#lengths[slot];
      this.#counters.rxFrames++;
      this.#counters.rxBytes += length;
      sink.frame(this.#in, slot * SLOT, length, 0, 0);
      this.#first = (this.#first + 1) % QUEUE;
      this.#count--;
    }
    return done;
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    const size = frame.size;
    if (size > FRAME_MAX) return EMSGSIZE;
    if (this.#out.length === QUEUE) {
      this.#counters.txFull++;
      this.#full = true;
      return EAGAIN;
    }
    // The socket keeps what it is given until it is sent.
    const bytes = new Uint8Array(size);
    frame.copyTo(bytes, 0);
    this.#out.push(bytes);
    if (!this.#sending) this.#sendAll();
    return 0;
  }

  async #sendAll(): Promise<void> {
    this.#sending = true;
    for (let bytes = this.#out.shift(); bytes !== undefined && !this.#closed; bytes = this.#out.shift()) {
      try {
        await this.#sender.send(bytes, this.#remote);
        this.#counters.txFrames++;
        this.#counters.txBytes += bytes.length;
      } catch {
        this.#counters.txErrors++;
      }
      if (!this.#full) continue;
      this.#full = false;
      this.#wake?.();
    }
    this.#sending = false;
  }

  /** Lets the wait for datagrams keep the process alive, as it does at first. */
  ref(): void {
    this.#reference(true);
  }

  /** Lets the process end although the device is open: over UDP. A wait on Deno's unix datagram sockets keeps it alive regardless. */
  unref(): void {
    this.#reference(false);
  }

  #reference(on: boolean): void {
    this.#referenced = on;
    // Deno has them, and its types don't.
    for (const socket of new Set([this.#socket, this.#sender]) as Set<{ ref?(): void; unref?(): void }>) {
      if (on) socket.ref?.();
      else socket.unref?.();
    }
    if (this.#retry === null) return;
    if (on) Deno.refTimer(this.#retry as unknown as number);
    else Deno.unrefTimer(this.#retry as unknown as number);
  }

  /** Ends it for good, and takes the sockets' files away. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake = null;
    if (this.#retry !== null) clearTimeout(this.#retry);
    closeWithFile(this.#socket);
    if (this.#sender !== this.#socket) closeWithFile(this.#sender);
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
