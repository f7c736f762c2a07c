/**
 * A device made of two arrays: packets are put in and taken out by hand.
 *
 * @module
 */
import { EMSGSIZE, ENODEV, OK } from "../stack/codes.ts";
import { FrameMemory } from "../stack/device.ts";
import { checkFunction, checkMac, checkObject } from "../stack/checks.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../stack/device.ts";

/** Link header with one tag. */
const LINK_HEADER = 18;
/** Largest IP packet. */
const PACKET_MAX = 65_535;

/** Options of a {@link PacketDevice}. */
export interface PacketDeviceOptions {
  /** What a packet begins with: the IP header (default), or an Ethernet header. */
  medium?: "ip" | "ethernet";
  /** Largest IP packet in bytes, 68 to 65535. Default 1500. */
  mtu?: number;
  /** For people. Default "packets0". */
  name?: string;
  /** Six bytes; for medium "ethernet" only. Default 02:00:00:00:00:01. */
  mac?: Uint8Array;
  /** Packets that may wait in each direction; what comes beyond is dropped and counted. Default 65536. */
  queue?: number;
  /** Gets each packet that the stack sends, instead of {@link PacketDevice.take}. The bytes are its own. Must not throw. */
  onPacket?: (packet: Uint8Array<ArrayBuffer>) => void;
}

/**
 * A device whose wire is the program: what is {@link PacketDevice.inject}ed the stack receives, and what the stack sends is
 * {@link PacketDevice.take}n. Checksums are computed by the stack, and nothing is cut or joined: what is seen is what a wire
 * would carry. With medium "ip" there is no ARP either.
 *
 * @example
 * ```ts
 * import { BareStack, PacketDevice } from "@tapioca/tapioca";
 *
 * const device = new PacketDevice({ mtu: 1500 });
 * const stack = new BareStack(device, { address: "192.0.2.1/24", seed: 1 });
 * stack.tcp().connect("192.0.2.2", 80);
 * const [syn] = device.take();
 * console.log(syn[9], syn[33]); // 6 2: the protocol is TCP, the only flag SYN
 * ```
 */
export class PacketDevice implements Device {
  readonly name: string;
  readonly medium: "ip" | "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly capabilities: DeviceCapabilities;
  /** Gets each packet that the stack sends; null when they wait for {@link take}. */
  onPacket: ((packet: Uint8Array<ArrayBuffer>) => void) | null;
  readonly #queue: number;
  readonly #counters = { received: 0, sent: 0, droppedFull: 0, tooLong: 0 };
  #in: Uint8Array<ArrayBuffer>[] = [];
  #first = 0;
  #out: Uint8Array<ArrayBuffer>[] = [];
  #wake: (() => void) | null = null;
  #armed = false;
  #closed = false;

  /**
   * A device with empty queues.
   *
   * @throws {RangeError} for an MTU under 68 or over 65535, or a queue without room; {TypeError} for a wrong MAC or medium
   */
  constructor(options: PacketDeviceOptions = {}) {
    checkObject(options);
    checkFunction("onPacket", options.onPacket);
    const { medium = "ip", mtu = 1500, name = "packets0", mac = Uint8Array.of(2, 0, 0, 0, 0, 1), queue = 65_536 } = options;
    if (medium !== "ip" && medium !== "ethernet") throw new TypeError(`medium must be "ip" or "ethernet": ${medium}`);
    if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= PACKET_MAX)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
    if (!(Number.isInteger(queue) && queue >= 1)) throw new RangeError(`queue must be 1 packet or more: ${queue}`);
    checkMac("mac", mac);
    this.name = name;
    this.medium = medium;
    this.mtu = mtu;
    this.mac = medium === "ip" ? null : mac;
    this.#queue = queue;
    this.onPacket = options.onPacket ?? null;
    const rxFrame = medium === "ip" ? mtu : mtu + LINK_HEADER;
    this.capabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame };
  }

  /**
   * Puts a packet in (a copy). The stack gets it at `BareStack.deliver`, or on its own if it is a `NetStack`.
   *
   * @returns false when the queue is full or the device closed
   */
  inject(packet: Uint8Array): boolean {
    if (this.#closed || this.#in.length - this.#first >= this.#queue) {
      this.#counters.droppedFull++;
      return false;
    }
    this.#in.push(packet.slice() as Uint8Array<ArrayBuffer>);
    this.#ring();
    return true;
  }

  /** Takes out everything that the stack has sent since the last time, oldest first. */
  take(): Uint8Array<ArrayBuffer>[] {
    const all = this.#out;
    this.#out = [];
    return all;
  }

  /** Packets injected and not received yet. */
  get waiting(): number {
    return this.#in.length - this.#first;
  }

  #ring(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#wake?.();
  }

  /** Called by the stack. */
  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.NotFound(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  /** Called by the stack. */
  arm(): void {
    this.#armed = true;
    if (this.waiting > 0 || this.#closed) this.#ring();
  }

  /** Called by the stack. */
  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    let count = 0;
    while (count < budget && this.#first < this.#in.length) {
      const packet = this.#in[this.#first++];
      count++;
      sink.frame(new FrameMemory(packet), 0, packet.length, 0, 0);
    }
    if (this.#first === this.#in.length) {
      this.#in.length = this.#first = 0;
    } else if (this.#first >= 1024) {
      this.#in.splice(0, this.#first);
      this.#first = 0;
    }
    this.#counters.received += count;
    return count;
  }

  /** Called by the stack. */
  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    const { size } = frame;
    if (size > this.capabilities.rxFrame) {
      this.#counters.tooLong++;
      return EMSGSIZE;
    }
    if (this.onPacket === null && this.#out.length >= this.#queue) {
      this.#counters.droppedFull++;
      return OK; // lost, as on a wire
    }
    const packet = new Uint8Array(size);
    frame.copyTo(packet, 0);
    this.#counters.sent++;
    if (this.onPacket === null) this.#out.push(packet);
    else this.onPacket(packet);
    return OK;
  }

  /** Called by the stack. What was sent can still be taken. */
  close(): void {
    this.#closed = true;
    this.#in.length = this.#first = 0;
    this.#ring();
  }

  /** Packets received and sent by the stack, and dropped. */
  statistics(): Record<string, number> {
    return { ...this.#counters };
  }
}
