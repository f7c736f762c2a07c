/**
 * Handing a received frame to a device of any kind: with the offload that the device has, or made plain where it has none.
 *
 * @module
 */
import { EAGAIN } from "../../stack/codes.ts";
import { type Device, type FrameMemory, type FrameSink, RX_CHECKSUM_PARTIAL, TxFrame } from "../../stack/device.ts";
import { transportHeaderLength } from "../../stack/ip/offload.ts";
import { ipHeaderLength, ipProto } from "../../stack/wire/ipv4.ts";
import { locateChecksum, Normalizer } from "../normalize.ts";

/** Bytes copied behind the headroom, so that a driver may put its own header in front. */
const INLINE_BYTES = 138;

/** The way into a device for frames that came out of another. */
export class Forwarder implements FrameSink {
  readonly #device: Device;
  readonly #ethernet: boolean;
  readonly #tx = new TxFrame();
  readonly #normalizer: Normalizer;
  /** Frames taken, and those that the device refused. */
  readonly counters = { forwarded: 0, dropped: 0 };
  /** The device takes no more now: frames are lost until it does. */
  full = false;

  /** Into that device. */
  constructor(device: Device) {
    this.#device = device;
    this.#ethernet = device.medium === "ethernet";
    this.#normalizer = new Normalizer(this.#ethernet, (frame) => this.#plain(frame));
  }

  #sent(code: number): void {
    if (code >= 0) this.counters.forwarded++;
    else this.counters.dropped++;
    this.full = code === EAGAIN;
  }

  #plain(frame: TxFrame): void {
    this.#place(frame.memory, frame.offset, frame.length);
    this.#sent(this.#device.transmit(this.#tx));
  }

  /** The frame as the record that devices take: its first bytes behind the headroom. */
  #place(memory: FrameMemory, offset: number, length: number): void {
    const tx = this.#tx;
    const inline = Math.min(length, INLINE_BYTES);
    tx.reset(inline);
    const { bytes } = tx.memory;
    for (let i = 0; i < inline; i++) bytes[tx.offset + i] = memory.bytes[offset + i];
    if (length === inline) return;
    tx.payload = memory;
    tx.payloadOffset1 = offset + inline;
    tx.payloadLength1 = length - inline;
  }

  /** See {@link FrameSink}. */
  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    if ((flags & RX_CHECKSUM_PARTIAL) === 0 && segmentSize === 0) {
      this.#place(memory, offset, length);
      return this.#sent(this.#device.transmit(this.#tx));
    }
    const { txChecksum, txSegmentation } = this.#device.capabilities;
    this.#place(memory, offset, length);
    const tx = this.#tx;
    // Inline are all headers of IPv4 and TCP: the checksum's place can be found there.
    if (!txChecksum || (segmentSize > 0 && txSegmentation < length) || !this.#locate(tx, segmentSize)) {
      return this.#normalizer.frame(memory, offset, length, flags, segmentSize);
    }
    this.#sent(this.#device.transmit(tx));
  }

  #locate(tx: TxFrame, segmentSize: number): boolean {
    if (!locateChecksum(tx, this.#ethernet)) return false;
    if (segmentSize === 0) return true;
    const { view } = tx.memory;
    const ip = tx.checksumStart;
    let at = tx.offset + (this.#ethernet ? 14 : 0);
    while (this.#ethernet && (view.getUint16(at - 2) === 0x8100 || view.getUint16(at - 2) === 0x88a8)) at += 4;
    if (ipHeaderLength(view, at) !== tx.offset + ip - at) return false;
    const header = transportHeaderLength(view, tx.offset + ip, tx.length - ip, ipProto(view, at));
    if (header < 0) return false;
    tx.segmentSize = segmentSize;
    tx.segmentHeaderLength = ip + header;
    return true;
  }
}
