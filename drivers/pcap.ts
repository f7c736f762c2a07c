/**
 * A capture of what goes through a device, for Wireshark and tcpdump.
 *
 * @module
 */
import { checkFunction, checkObject } from "../stack/checks.ts";
import type { Device, DeviceCapabilities, FrameMemory, FrameSink, TxFrame } from "../stack/device.ts";
import {
  encodeHeader,
  encodePacket,
  INBOUND,
  LINK_ETHERNET,
  LINK_RAW,
  OUTBOUND,
  PACKET_OVERHEAD,
  padded,
} from "./pcap_format.ts";

/** Largest frame that any device carries, with room to spare. */
const FRAME_MAX = 65_536 + 64;
/** Bytes gathered before they are written. */
const BUFFER_BYTES = 256 << 10;

/** Takes the bytes of a capture, in order. The bytes are valid during the call only. */
export interface PcapSink {
  /** Takes the next bytes; what it throws ends the capture. */
  write(bytes: Uint8Array): void;
  /** Called when the device is closed. */
  close?(): void;
}

/** Options of {@link pcapTap}. */
export interface PcapOptions {
  /** Keep only so many bytes of each frame. Default 65600: all. */
  snaplen?: number;
  /** Stop capturing (not carrying) after so many bytes of file. Default 1 GiB. */
  maxBytes?: number;
  /** Nanoseconds since 1970, for captures that are the same every time. Default: the machine's clock. */
  nowNs?: () => bigint;
}

/** Something that takes the bytes. Throws a TypeError for what doesn't. */
export function checkSink(sink: PcapSink): void {
  checkObject(sink, "what takes the capture");
  if (typeof sink.write !== "function") throw new TypeError(`write must be a function: ${sink.write}`);
  checkFunction("close", sink.close);
}

/** A device that writes down what goes through it. */
class PcapTap implements Device, FrameSink {
  readonly #device: Device;
  readonly #sink: PcapSink;
  readonly #snaplen: number;
  readonly #nowNs: (() => bigint) | null;
  readonly #buffer: FrameMemory["bytes"] = new Uint8Array(BUFFER_BYTES);
  readonly #view: DataView = new DataView(this.#buffer.buffer);
  readonly #counters = { captured: 0, truncated: 0, notCaptured: 0, writeErrors: 0 };
  #used = 0;
  #left: number;
  #inner: FrameSink | null = null;
  #closed = false;

  constructor(device: Device, sink: PcapSink, options: PcapOptions) {
    const { snaplen = FRAME_MAX, maxBytes = 1 << 30 } = options;
    if (!(Number.isInteger(snaplen) && snaplen >= 1)) throw new RangeError(`snaplen must be 1 byte or more: ${snaplen}`);
    if (!(typeof maxBytes === "number" && maxBytes >= 1)) throw new RangeError(`maxBytes must be 1 or more: ${maxBytes}`);
    checkFunction("nowNs", options.nowNs);
    this.#device = device;
    this.#sink = sink;
    this.#snaplen = Math.min(snaplen, FRAME_MAX);
    this.#left = maxBytes;
    this.#nowNs = options.nowNs ?? null;
    const header = encodeHeader(device.medium === "ethernet" ? LINK_ETHERNET : LINK_RAW, this.#snaplen, device.name);
    this.#buffer.set(header);
    this.#used = header.length;
    this.#left -= header.length;
  }

  get name(): string {
    return this.#device.name;
  }

  get medium(): "ethernet" | "ip" {
    return this.#device.medium;
  }

  get mtu(): number {
    return this.#device.mtu;
  }

  get mac(): Uint8Array | null {
    return this.#device.mac;
  }

  get capabilities(): DeviceCapabilities {
    return this.#device.capabilities;
  }

  open(wake: () => void): void {
    this.#device.open(wake);
  }

  /** The stack has nothing to do now: a good moment to write. */
  arm(): void {
    this.#write();
    this.#device.arm();
  }

  receive(sink: FrameSink, budget: number): number {
    this.#inner = sink;
    return this.#device.receive(this, budget);
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    const at = this.#packet(length, INBOUND);
    if (at >= 0) this.#buffer.set(memory.bytes.subarray(offset, offset + Math.min(length, this.#snaplen)), at);
    this.#inner!.frame(memory, offset, length, flags, segmentSize);
  }

  transmit(frame: TxFrame): number {
    const size = frame.size;
    const used = this.#used;
    const at = this.#packet(size, OUTBOUND);
    if (at >= 0) this.#copy(frame, at);
    const code = this.#device.transmit(frame);
    // What the device didn't take was not sent. (If the buffer was written meanwhile, the frame is its only content.)
    if (code < 0 && at >= 0) this.#forget(at, used);
    return code;
  }

  #copy(frame: TxFrame, at: number): void {
    if (frame.size <= this.#snaplen) {
      frame.copyTo(this.#buffer, at);
      return;
    }
    let room = this.#snaplen;
    const piece = (bytes: Uint8Array, offset: number, length: number) => {
      const count = Math.min(room, length);
      this.#buffer.set(bytes.subarray(offset, offset + count), at);
      at += count;
      room -= count;
    };
    piece(frame.memory.bytes, frame.offset, frame.length);
    piece(frame.payload.bytes, frame.payloadOffset1, frame.payloadLength1);
    piece(frame.payload.bytes, frame.payloadOffset2, frame.payloadLength2);
  }

  #forget(at: number, used: number): void {
    const begin = at - 28;
    if (begin !== used && begin !== 0) return;
    this.#left += this.#used - begin;
    this.#used = begin;
    this.#counters.captured--;
  }

  /** Writes the block around a frame; returns where its bytes go, or -1 when it isn't captured. */
  #packet(length: number, direction: number): number {
    const captured = Math.min(length, this.#snaplen);
    const total = PACKET_OVERHEAD + padded(captured);
    if (this.#closed || total > this.#left || length > FRAME_MAX) {
      this.#counters.notCaptured++;
      return -1;
    }
    if (this.#used + total > BUFFER_BYTES) this.#write();
    this.#left -= total;
    this.#counters.captured++;
    if (captured < length) this.#counters.truncated++;
    const { high, low } = this.#time();
    const at = encodePacket(this.#view, this.#used, high, low, captured, length, direction);
    this.#used += total;
    return at;
  }

  readonly #timeParts = { high: 0, low: 0 };

  #time(): { high: number; low: number } {
    const parts = this.#timeParts;
    if (this.#nowNs !== null) {
      const ns = this.#nowNs();
      parts.high = Number(ns >> 32n);
      parts.low = Number(ns & 0xffffffffn);
      return parts;
    }
    // Nanoseconds don't fit into a double: milliseconds are cut at 2^16 ns x 2^16, without a BigInt per frame.
    const ms = performance.timeOrigin + performance.now();
    const whole = Math.floor(ms);
    const rest = Math.round((ms - whole) * 1e6);
    // whole * 10^6 = high * 2^32 + low, in pieces that stay below 2^53.
    const upper = Math.floor(whole / 65_536) * 1e6;
    const lower = (whole % 65_536) * 1e6 + rest;
    // upper * 2^16 + lower
    const carry = (upper % 65_536) * 65_536 + lower;
    parts.high = Math.floor(upper / 65_536) + Math.floor(carry / 4_294_967_296);
    parts.low = carry % 4_294_967_296;
    return parts;
  }

  #write(): void {
    if (this.#used === 0) return;
    const bytes = this.#buffer.subarray(0, this.#used);
    this.#used = 0;
    try {
      this.#sink.write(bytes);
    } catch {
      // A full disk must not stop the host; the capture ends here.
      this.#counters.writeErrors++;
      this.#left = 0;
    }
  }

  flush(): void {
    this.#device.flush?.();
  }

  close(): void {
    this.#device.close();
    if (this.#closed) return;
    this.#closed = true;
    this.#write();
    this.#sink.close?.();
  }

  ref(): void {
    this.#device.ref?.();
  }

  unref(): void {
    this.#device.unref?.();
  }

  statistics(): Record<string, number> {
    const all: Record<string, number> = { ...this.#device.statistics?.() };
    for (const [name, value] of Object.entries(this.#counters)) all[`pcap.${name}`] = value;
    return all;
  }
}

/** Writes to a file, created or overwritten. */
export function fileSink(path: string): PcapSink {
  const file = Deno.openSync(path, { write: true, create: true, truncate: true });
  return {
    write(bytes: Uint8Array): void {
      for (let at = 0; at < bytes.length;) at += file.writeSync(bytes.subarray(at));
    },
    close: () => file.close(),
  };
}

/**
 * Puts a capture between a device and its user: both directions are written as pcapng, with nanosecond times. Frames are
 * written as the device carries them: with offload, segments of up to 64 KiB whose checksums aren't filled in yet.
 *
 * @param device any device; use the returned one in its place
 * @param to path of a file (created or overwritten), or something that takes the bytes
 * @returns a device like the one given
 * @throws {RangeError} for a `snaplen` or `maxBytes` under 1; what opening the file throws
 *
 * @example
 * ```ts
 * import { cable, NetStack, pcapTap } from "@tapioca/tapioca";
 *
 * const chunks: Uint8Array[] = [];
 * const [left, right] = cable();
 * const server = new NetStack(left, { address: "10.0.0.1/24" });
 * const client = new NetStack(pcapTap(right, { write: (bytes) => void chunks.push(bytes.slice()) }), { address: "10.0.0.2/24" });
 * await client.ping("10.0.0.1");
 * client.close();
 * server.close();
 * console.log(chunks.length > 0); // true
 * ```
 */
export function pcapTap(device: Device, to: string | PcapSink, options: PcapOptions = {}): Device {
  if (typeof to !== "string") checkSink(to);
  checkObject(options);
  return new PcapTap(device, typeof to === "string" ? fileSink(to) : to, options);
}
