/**
 * A network card that moves single frames: what stands between a driver without a stack and a stack without a driver.
 *
 * @module
 */
import { checkObject } from "../stack/checks.ts";
import { parseMac } from "../stack/wire/address.ts";
import { EAGAIN, ENODEV } from "../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../stack/device.ts";
import { copyBytes } from "../stack/wire/copy.ts";

/** Bytes of an Ethernet header: a shorter frame is none. */
const ETHERNET = 14;
/** Frames that wait in each direction. */
const QUEUE = 256;

/** What moves single frames: a {@link Net}, or whatever has its two methods. */
export interface FrameDevice {
  /** Takes one frame into `into`: its length, 0 for none. */
  rx(into: Uint8Array): number;
  /** Sends one frame. Returns 0, or a negative code with nothing sent. */
  tx(frame: Uint8Array): number;
}

/** Frames in slots of one memory: nothing is allocated for one. */
class Ring {
  readonly memory: FrameMemory;
  readonly lengths = new Int32Array(QUEUE);
  first = 0;
  count = 0;

  constructor(readonly slot: number) {
    this.memory = new FrameMemory(QUEUE * slot);
  }

  /** Where the next frame goes, or -1. */
  reserve(length: number): number {
    if (this.count === QUEUE || length > this.slot) return -1;
    const slot = (this.first + this.count++) % QUEUE;
    this.lengths[slot] = length;
    return slot * this.slot;
  }

  shift(): void {
    this.first = (this.first + 1) % QUEUE;
    this.count--;
  }
}

/** Options of a {@link Nic}. */
export interface NicOptions {
  /** Text or six bytes. */
  mac: string | Uint8Array;
  /** Largest IP packet in bytes. Default 1500. */
  mtu?: number;
  /** For people. Default "nic0". */
  name?: string;
}

/**
 * A card of a stack: {@link rx} hands the stack a frame, {@link tx} takes one that the stack sends.
 *
 * @example
 * ```ts
 * import { NetStack, Nic } from "@tapioca/tapioca";
 *
 * const nic = new Nic({ mac: "02:00:00:00:00:01" });
 * await using stack = new NetStack(nic, { address: "10.0.0.1/24" });
 * nic.rx(new Uint8Array(60)); // a frame for nobody
 * console.log(nic.statistics().rxFrames, stack.addresses[0].address); // 1 10.0.0.1
 * ```
 */
export class Nic implements Device {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities;
  readonly #in: Ring;
  readonly #out: Ring;
  #wake: (() => void) | null = null;
  #armed = false;
  #full = false;
  #closed = false;
  /** Told when a frame waits for {@link tx}. */
  onTransmit: () => void = () => {};
  readonly #counters = { rxFrames: 0, rxShort: 0, rxDropped: 0, txFrames: 0, txFull: 0 };

  /** A card without a stack. @throws {TypeError | RangeError} for a wrong address or MTU */
  constructor(options: NicOptions) {
    checkObject(options);
    if (typeof options.mac !== "string" && !(options.mac instanceof Uint8Array)) {
      throw new TypeError(`mac must be text or bytes: ${options.mac}`);
    }
    this.mac = typeof options.mac === "string" ? parseMac(options.mac) : options.mac.slice();
    if (this.mac.length !== 6) throw new TypeError(`a MAC address has 6 bytes, not ${this.mac.length}`);
    this.mtu = options.mtu ?? 1500;
    if (!(Number.isInteger(this.mtu) && this.mtu >= 68 && this.mtu <= 65_535)) {
      throw new RangeError(`mtu must be 68 to 65535 bytes: ${this.mtu}`);
    }
    this.name = options.name ?? "nic0";
    const slot = this.mtu + ETHERNET + 8;
    this.capabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame: slot, rxQueueFrames: QUEUE };
    this.#in = new Ring(slot);
    this.#out = new Ring(slot);
  }

  /** A frame for the stack. False when it was dropped: shorter than 14 bytes, longer than the MTU allows, or one too many. */
  rx(frame: Uint8Array): boolean {
    if (this.#closed || frame.length < ETHERNET) {
      this.#counters.rxShort++;
      return false;
    }
    const at = this.#in.reserve(frame.length);
    if (at < 0) {
      this.#counters.rxDropped++;
      return false;
    }
    copyBytes(frame, 0, this.#in.memory.bytes, at, frame.length);
    this.#counters.rxFrames++;
    if (this.#armed) {
      this.#armed = false;
      this.#wake?.();
    }
    return true;
  }

  /** The next frame that the stack sends, valid until the next call; null for none. */
  tx(): Uint8Array | null {
    const ring = this.#out;
    if (ring.count === 0) return null;
    const at = ring.first * ring.slot;
    const frame = ring.memory.window(at, ring.lengths[ring.first]);
    ring.shift();
    if (this.#full) {
      this.#full = false;
      this.#wake?.();
    }
    return frame;
  }

  /** True while {@link tx} has something. */
  get pending(): boolean {
    return this.#out.count > 0;
  }

  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    this.#armed = true;
    if (this.#in.count > 0) {
      this.#armed = false;
      this.#wake?.();
    }
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    const ring = this.#in;
    let done = 0;
    for (; done < budget && ring.count > 0; done++) {
      sink.frame(ring.memory, ring.first * ring.slot, ring.lengths[ring.first], 0, 0);
      ring.shift();
    }
    return done;
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    const at = this.#out.reserve(frame.size);
    if (at < 0) {
      this.#counters.txFull++;
      this.#full = true;
      this.onTransmit();
      return EAGAIN;
    }
    frame.copyTo(this.#out.memory.bytes, at);
    this.#counters.txFrames++;
    return 0;
  }

  flush(): void {
    if (this.#out.count > 0) this.onTransmit();
  }

  close(): void {
    this.#closed = true;
    this.#wake = null;
  }

  /** Frames each way, and those dropped, by reason. */
  statistics(): Record<string, number> {
    return { ...this.#counters };
  }
}
