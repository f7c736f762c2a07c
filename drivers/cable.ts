/**
 * Two devices joined in memory: what goes into one end comes out of the other.
 *
 * @module
 */
import { EMSGSIZE, ENETDOWN, ENODEV, OK } from "../stack/codes.ts";
import { FrameMemory, RX_CHECKSUM_PARTIAL } from "../stack/device.ts";
import { checkMac, checkObject } from "../stack/checks.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../stack/device.ts";

/** Largest frame of a cable with offload, in bytes: a 64 KiB IP packet and its link header. */
const SUPER_FRAME = 65_535 + 18;
/** Link header with one tag. */
const LINK_HEADER = 18;
/** Words of a queued frame's note: offset, length, flags, segment size. */
const NOTE_WORDS = 4;

/** Options of {@link cable}. */
export interface CableOptions {
  /** Largest IP packet in bytes, 68 to 65535. Default 1500. */
  mtu?: number;
  /** Carry frames of up to 64 KiB uncut, without checksums, as a TAP with offload does. Default false. */
  offload?: boolean;
  /** What a frame begins with. Default "ethernet". */
  medium?: "ethernet" | "ip";
  /** Frames that may wait at each end; what comes beyond is dropped and counted. Default 1024. */
  queue?: number;
  /** Bytes that may wait at each end. Default: `queue` frames of full size, but at most 8 MiB. */
  queueBytes?: number;
  /** MAC addresses of the two ends. Default 02:00:00:00:00:01 and …:02. */
  mac?: readonly [Uint8Array, Uint8Array];
  /** Names of the two ends. Default "cable0" and "cable1". */
  name?: readonly [string, string];
}

/** One end of a {@link cable}. */
export interface CableEnd extends Device {
  /** Pulls this end out (false) or puts it in again: meanwhile it is down, and what comes is lost. */
  setCarrier(up: boolean): void;
  /** Takes this end away for good, as `ip link delete` does with a TAP: its user gets `ENODEV`. */
  remove(): void;
}

/** Bytes of frames in one ring, and a ring of notes about them: nothing is allocated per frame. */
class FrameQueue {
  readonly memory: FrameMemory;
  readonly #notes: Int32Array;
  readonly #limit: number;
  #head = 0;
  #count = 0;
  /** Where the next frame goes, and where the oldest begins. */
  #end = 0;
  #begin = 0;

  constructor(frames: number, bytes: number) {
    this.memory = new FrameMemory(bytes);
    this.#notes = new Int32Array(frames * NOTE_WORDS);
    this.#limit = frames;
  }

  get count(): number {
    return this.#count;
  }

  /** Room for `size` bytes in one piece, or -1. */
  reserve(size: number): number {
    if (this.#count === this.#limit) return -1;
    if (this.#count === 0) this.#end = this.#begin = 0;
    const total = this.memory.bytes.length;
    if (this.#end >= this.#begin && (this.#count === 0 || this.#end > this.#begin)) {
      if (this.#end + size <= total) return this.#end;
      return size < this.#begin ? 0 : -1;
    }
    return this.#end + size <= this.#begin ? this.#end : -1;
  }

  push(offset: number, length: number, flags: number, segmentSize: number): void {
    const note = ((this.#head + this.#count) % this.#limit) * NOTE_WORDS;
    this.#notes[note] = offset;
    this.#notes[note + 1] = length;
    this.#notes[note + 2] = flags;
    this.#notes[note + 3] = segmentSize;
    this.#end = offset + length;
    this.#count++;
  }

  /** Hands the oldest frame over, and forgets it afterwards: `sink` may send over the cable meanwhile. Returns its length. */
  shift(sink: FrameSink): number {
    const note = this.#head * NOTE_WORDS;
    const length = this.#notes[note + 1];
    sink.frame(this.memory, this.#notes[note], length, this.#notes[note + 2], this.#notes[note + 3]);
    this.#head = (this.#head + 1) % this.#limit;
    this.#count--;
    if (this.#count > 0) this.#begin = this.#notes[this.#head * NOTE_WORDS];
    return length;
  }

  clear(): void {
    this.#count =
      this.#head =
      this.#begin =
      this.#end =
        0;
  }
}

class End implements CableEnd {
  readonly name: string;
  readonly medium: "ethernet" | "ip";
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly capabilities: DeviceCapabilities;
  readonly #queue: FrameQueue;
  readonly #counters = { received: 0, receivedBytes: 0, sent: 0, sentBytes: 0, droppedFull: 0, droppedDown: 0, tooLong: 0 };
  #peer: End | null = null;
  #wake: (() => void) | null = null;
  #armed = false;
  #down = false;
  #gone = false;

  constructor(name: string, mac: Uint8Array | null, options: Required<Omit<CableOptions, "mac" | "name">>) {
    this.name = name;
    this.mac = mac;
    this.medium = options.medium;
    this.mtu = options.mtu;
    const rxFrame = options.offload ? SUPER_FRAME : options.mtu + (mac === null ? 0 : LINK_HEADER);
    const full = options.mtu + LINK_HEADER;
    this.capabilities = {
      rxChecksum: options.offload,
      txChecksum: options.offload,
      txSegmentation: options.offload ? SUPER_FRAME : 0,
      rxFrame,
      // Receivers share what the queue holds, so that no clean cable ever drops for want of room.
      rxQueueFrames: Math.floor(Math.min(options.queueBytes, options.offload ? Infinity : options.queue * full) / full),
    };
    this.#queue = new FrameQueue(options.queue, Math.max(options.queueBytes, 2 * rxFrame));
  }

  join(peer: End): void {
    this.#peer = peer;
  }

  open(wake: () => void): void {
    if (this.#gone) throw new Deno.errors.NotFound(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    this.#armed = true;
    if (this.#queue.count > 0 || this.#gone) this.#ring();
  }

  #ring(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#wake?.();
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#gone) return ENODEV;
    if (this.#down) return ENETDOWN;
    let count = 0;
    while (count < budget && this.#queue.count > 0) {
      this.#counters.receivedBytes += this.#queue.shift(sink);
      count++;
    }
    this.#counters.received += count;
    return count;
  }

  transmit(frame: TxFrame): number {
    if (this.#gone) return ENODEV;
    if (this.#down) return ENETDOWN;
    const size = frame.size;
    if (size > this.capabilities.rxFrame) {
      this.#counters.tooLong++;
      return EMSGSIZE;
    }
    this.#counters.sent++;
    this.#counters.sentBytes += size;
    this.#peer?.take(frame, size);
    return OK;
  }

  /** A frame from the other end. Like a wire, it doesn't tell the sender what became of it. */
  take(frame: TxFrame, size: number): void {
    if (this.#gone || this.#down || this.#wake === null) {
      this.#counters.droppedDown++;
      return;
    }
    const at = this.#queue.reserve(size);
    if (at < 0) {
      this.#counters.droppedFull++;
      return;
    }
    frame.copyTo(this.#queue.memory.bytes, at);
    this.#queue.push(at, size, frame.checksumStart >= 0 ? RX_CHECKSUM_PARTIAL : 0, frame.segmentSize);
    this.#ring();
  }

  close(): void {
    this.#gone = true;
    this.#queue.clear();
    this.#wake = null;
  }

  setCarrier(up: boolean): void {
    this.#down = !up;
    if (!up) this.#queue.clear();
    this.#wake?.();
  }

  remove(): void {
    this.#gone = true;
    this.#queue.clear();
    this.#wake?.();
  }

  statistics(): Record<string, number> {
    return { ...this.#counters };
  }
}

/**
 * Joins two devices in memory: no kernel, no privilege. Frames are copied into a bounded queue and delivered through the
 * receiver's own loop, never from inside the sender's call. What doesn't fit is lost and counted, as on a wire.
 *
 * @returns the two ends; each is for one {@link NetStack}
 * @throws {TypeError | RangeError} for an MTU under 68 or over 65535, a queue without room, or another wrong option
 *
 * @example
 * ```ts
 * import { cable, NetStack } from "@tapioca/tapioca";
 *
 * const [left, right] = cable({ mtu: 9000 });
 * using a = new NetStack(left, { address: "10.0.0.1/24" });
 * using b = new NetStack(right, { address: "10.0.0.2/24" });
 * console.log((await a.ping("10.0.0.2")).size); // 56
 * ```
 */
export function cable(options: CableOptions = {}): [CableEnd, CableEnd] {
  checkObject(options);
  const { mtu = 1500, offload = false, medium = "ethernet", queue = 1024 } = options;
  for (const what of ["mac", "name"] as const) {
    const pair = options[what];
    if (pair !== undefined && !(Array.isArray(pair) && pair.length === 2)) {
      throw new TypeError(`${what} must be an array of two: ${pair}`);
    }
  }
  for (const mac of options.mac ?? []) checkMac("mac", mac);
  if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
  if (!(Number.isInteger(queue) && queue >= 1)) throw new RangeError(`queue must be 1 frame or more: ${queue}`);
  const { queueBytes = Math.min(queue * (offload ? SUPER_FRAME : mtu + LINK_HEADER), 8 << 20) } = options;
  if (!(Number.isInteger(queueBytes) && queueBytes >= 1)) throw new RangeError(`queueBytes must be 1 or more: ${queueBytes}`);
  if (typeof offload !== "boolean") throw new TypeError(`offload must be true or false: ${offload}`);
  if (medium !== "ethernet" && medium !== "ip") throw new TypeError(`medium must be "ethernet" or "ip": ${medium}`);
  const all = { mtu, offload, medium, queue, queueBytes };
  const ends = [0, 1].map((i) => {
    const mac = medium === "ip" ? null : options.mac?.[i] ?? Uint8Array.of(2, 0, 0, 0, 0, i + 1);
    return new End(options.name?.[i] ?? `cable${i}`, mac, all);
  });
  ends[0].join(ends[1]);
  ends[1].join(ends[0]);
  return [ends[0], ends[1]];
}
