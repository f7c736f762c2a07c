/**
 * QEMU's stream socket (`-netdev stream`, and `-netdev socket`) as a device: a virtual machine joins with no privilege and no
 * FFI. Each frame stands behind its length, four bytes, big-endian.
 *
 * @module
 */
import { parseMac } from "../ffi/inet.ts";
import { EAGAIN, EMSGSIZE, ENETDOWN, ENODEV } from "../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../stack/device.ts";
import { copyBytes } from "../stack/wire/copy.ts";
import { randomMac } from "./tap.ts";

/** Largest frame that QEMU takes (its NET_BUFSIZE). */
const FRAME_MAX = 4096 + 65_536;
const LENGTH = 4;
/** Bytes read at once, and bytes that wait to be written. */
const BUFFER = 256 * 1024;
/** How often a socket that isn't there is tried again, in milliseconds. */
const RETRY_MS = 250;

/** Where QEMU is met: a unix socket's path, or an address and port of this machine. */
export type QemuAddress = { readonly path: string } | { readonly hostname?: string; readonly port: number };

/** Options of {@link QemuStreamDevice.open}. */
export type QemuStreamOptions = QemuAddress & {
  /** Connect to a QEMU that listens (`server=on`), instead of listening; tried again until it is there. Default false. */
  readonly connect?: boolean;
  /** For people. Default "qemu0". */
  readonly name?: string;
  /** Largest IP packet in bytes, 68 to 65535. Default 1500. */
  readonly mtu?: number;
  /** The address of our own end of the wire: text or six bytes. Default: a random one. */
  readonly mac?: string | Uint8Array;
};

/** Checks what both QEMU devices have in common. @throws {TypeError | RangeError} */
export function checkQemuOptions(options: { mtu?: number; name?: string; mac?: string | Uint8Array }): Uint8Array {
  if (typeof options !== "object" || options === null) throw new TypeError(`Invalid options ${options}: an object is needed`);
  const { mtu = 1500, mac } = options;
  if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
  return mac === undefined ? randomMac() : parseMac(mac);
}

/**
 * A network device whose other end is a virtual machine's network card, over a stream socket. One machine at a time; when it
 * goes, the next may come.
 *
 * ```ts ignore
 * const device = QemuStreamDevice.open({ path: "/tmp/net.sock" });
 * const stack = new NetStack(device, { address: "10.0.2.2/24" });
 * // qemu -netdev stream,id=n,addr.type=unix,addr.path=/tmp/net.sock -device virtio-net-pci,netdev=n …
 * ```
 */
export class QemuStreamDevice implements Device, Disposable {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame: FRAME_MAX };
  readonly #options: QemuStreamOptions;
  readonly #listener: Deno.Listener<Deno.UnixConn> | Deno.TcpListener | null = null;
  readonly #in = new FrameMemory(BUFFER);
  #begin = 0;
  #end = 0;
  /** What is being filled, and what is on its way. */
  #out = new Uint8Array(BUFFER);
  #spare = new Uint8Array(BUFFER);
  #filled = 0;
  #writing = false;
  #conn: Deno.TcpConn | Deno.UnixConn | null = null;
  #reading = false;
  /** Of the socket that isn't there yet, or of a listener that failed. */
  #retry: ReturnType<typeof setTimeout> | null = null;
  #referenced = true;
  #wake: (() => void) | null = null;
  #armed = false;
  #full = false;
  #closed = false;
  readonly #counters = {
    rxFrames: 0,
    rxBytes: 0,
    /** Less than an Ethernet header. */
    rxShort: 0,
    txFrames: 0,
    txBytes: 0,
    /** QEMU took no more for the moment. */
    txFull: 0,
    /** No machine is there. */
    txDown: 0,
    connections: 0,
    /** Machines that came while another one was there. */
    connectionsRefused: 0,
    /** Ended because of a length that no frame has. */
    protocolErrors: 0,
  };

  private constructor(options: QemuStreamOptions, mac: Uint8Array) {
    this.name = options.name ?? "qemu0";
    this.mtu = options.mtu ?? 1500;
    this.mac = mac;
    this.#options = options;
    if (options.connect === true) this.#dial();
    else {
      this.#listener = "path" in options
        ? Deno.listen({ transport: "unix", path: options.path })
        : Deno.listen({ hostname: options.hostname ?? "127.0.0.1", port: options.port });
      this.#accept(this.#listener);
    }
  }

  /**
   * Listens for QEMU, or connects to it.
   *
   * @throws {TypeError | RangeError} for impossible options, before anything is opened; what `Deno.listen` throws
   */
  static open(options: QemuStreamOptions): QemuStreamDevice {
    const mac = checkQemuOptions(options);
    if (!("path" in options) && !("port" in options)) throw new TypeError("a path or a port is needed");
    return new QemuStreamDevice(options, mac);
  }

  /** The address that it listens on, or null. */
  get address(): Deno.Addr | null {
    return this.#listener?.addr ?? null;
  }

  /** A machine is connected. */
  get connected(): boolean {
    return this.#conn !== null;
  }

  async #accept(listener: Deno.Listener<Deno.UnixConn> | Deno.TcpListener): Promise<void> {
    while (!this.#closed) {
      let conn: Deno.TcpConn | Deno.UnixConn;
      try {
        conn = await listener.accept();
      } catch {
        if (this.#closed) return;
        // One connection that failed, or too many open files: the next one may go better.
        await new Promise<void>((resolve) => this.#later(resolve));
        continue;
      }
      if (this.#closed || this.#conn !== null) {
        this.#counters.connectionsRefused++;
        conn.close();
      } else this.#use(conn);
    }
  }

  readonly #dial = async (): Promise<void> => {
    const options = this.#options;
    try {
      const conn = "path" in options
        ? await Deno.connect({ transport: "unix", path: options.path })
        : await Deno.connect({ hostname: options.hostname ?? "127.0.0.1", port: options.port });
      if (this.#closed) conn.close();
      else this.#use(conn);
    } catch {
      this.#redial();
    }
  };

  #redial(): void {
    if (!this.#closed && this.#options.connect === true && this.#retry === null) this.#later(this.#dial);
  }

  #later(callback: () => void): void {
    this.#retry = setTimeout(() => {
      this.#retry = null;
      callback();
    }, RETRY_MS);
    if (!this.#referenced) Deno.unrefTimer(this.#retry as unknown as number);
  }

  #use(conn: Deno.TcpConn | Deno.UnixConn): void {
    this.#counters.connections++;
    this.#conn = conn;
    // What was meant for the machine before is none of this one's business.
    this.#begin = this.#end = this.#filled = 0;
    this.#full = false;
    if (!this.#referenced) conn.unref();
    this.#read(conn);
    this.#wake?.();
  }

  /** Reads once more; `receive` asks again when it has taken what came. */
  async #read(conn: Deno.TcpConn | Deno.UnixConn): Promise<void> {
    if (this.#reading) return;
    this.#reading = true;
    const { bytes } = this.#in;
    if (this.#begin > 0) bytes.copyWithin(0, this.#begin, this.#end);
    this.#end -= this.#begin;
    this.#begin = 0;
    const count = await conn.read(bytes.subarray(this.#end)).catch(() => null);
    this.#reading = false;
    if (this.#conn !== conn) {
      // The next machine came while this read was still being given up.
      if (this.#conn !== null) this.#read(this.#conn);
      return;
    }
    if (count === null) return this.#lose(conn);
    this.#end += count;
    this.#ring();
  }

  #lose(conn: Deno.TcpConn | Deno.UnixConn): void {
    if (this.#conn !== conn) return;
    this.#conn = null;
    // Also so that a length that no frame has isn't found again, and again.
    this.#begin = this.#end = this.#filled = 0;
    this.#full = false;
    conn.close();
    this.#wake?.();
    this.#redial();
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
    if (this.#whole() !== 0) this.#ring();
  }

  /** The length of the next frame if all of it is here; 0 if not, -1 if there can't be such a frame. */
  #whole(): number {
    if (this.#end - this.#begin < LENGTH) return 0;
    const length = this.#in.view.getUint32(this.#begin);
    if (length === 0 || length > FRAME_MAX) return -1;
    return this.#end - this.#begin - LENGTH >= length ? length : 0;
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    const conn = this.#conn;
    // In the middle of a read the bytes are about to change.
    if (conn === null || this.#reading) return 0;
    let count = 0;
    for (; count < budget; count++) {
      const length = this.#whole();
      if (length < 0) {
        this.#counters.protocolErrors++;
        this.#lose(conn);
        return count;
      }
      if (length === 0) break;
      const at = this.#begin + LENGTH;
      this.#begin = at + length;
      if (length < 14) {
        this.#counters.rxShort++;
        continue;
      }
      this.#counters.rxFrames++;
      this.#counters.rxBytes += length;
      sink.frame(this.#in, at, length, 0, 0);
      if (this.#conn !== conn) return count + 1;
    }
    if (count < budget) this.#read(conn);
    return count;
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    if (this.#conn === null) {
      this.#counters.txDown++;
      return ENETDOWN;
    }
    const size = frame.size;
    if (size > FRAME_MAX) return EMSGSIZE;
    if (this.#filled + LENGTH + size > BUFFER) {
      this.#counters.txFull++;
      this.#full = true;
      this.#write();
      return EAGAIN;
    }
    const out = this.#out;
    let at = this.#filled;
    out[at++] = size >>> 24;
    out[at++] = size >>> 16;
    out[at++] = size >>> 8;
    out[at++] = size;
    copyBytes(frame.memory.bytes, frame.offset, out, at, frame.length);
    at += frame.length;
    const { payload, payloadLength1, payloadLength2 } = frame;
    if (payloadLength1 > 0) copyBytes(payload.bytes, frame.payloadOffset1, out, at, payloadLength1);
    if (payloadLength2 > 0) copyBytes(payload.bytes, frame.payloadOffset2, out, at + payloadLength1, payloadLength2);
    this.#filled = at + payloadLength1 + payloadLength2;
    this.#counters.txFrames++;
    this.#counters.txBytes += size;
    return 0;
  }

  flush(): void {
    if (this.#filled > 0) this.#write();
  }

  async #write(): Promise<void> {
    const conn = this.#conn;
    if (this.#writing || conn === null) return;
    this.#writing = true;
    try {
      while (this.#filled > 0 && this.#conn === conn) {
        const bytes = this.#out.subarray(0, this.#filled);
        [this.#out, this.#spare] = [this.#spare, this.#out];
        this.#filled = 0;
        if (this.#full) {
          this.#full = false;
          this.#wake?.();
        }
        for (let done = 0; done < bytes.length;) done += await conn.write(bytes.subarray(done));
      }
    } catch {
      this.#lose(conn);
    } finally {
      this.#writing = false;
    }
    // For the machine that came while the last one's bytes were still being given up.
    if (this.#filled > 0 && this.#conn !== null && this.#conn !== conn) this.#write();
  }

  /** Lets the wait for the machine keep the process alive, as it does at first. */
  ref(): void {
    this.#reference(true);
  }

  /** Lets the process end although the device is open. */
  unref(): void {
    this.#reference(false);
  }

  #reference(on: boolean): void {
    this.#referenced = on;
    if (on) {
      this.#listener?.ref();
      this.#conn?.ref();
      if (this.#retry !== null) Deno.refTimer(this.#retry as unknown as number);
    } else {
      this.#listener?.unref();
      this.#conn?.unref();
      if (this.#retry !== null) Deno.unrefTimer(this.#retry as unknown as number);
    }
  }

  /** Ends it for good; Deno takes the socket's file away a moment later. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#retry !== null) clearTimeout(this.#retry);
    const conn = this.#conn;
    this.#conn = null;
    conn?.close();
    this.#wake = null;
    this.#listener?.close();
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
