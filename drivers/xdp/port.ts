/**
 * A port of the engine: a device, the program that its frames go through, and what became of them.
 *
 * @module
 */
import { EAGAIN, EINVAL, EMSGSIZE } from "../../stack/codes.ts";
import { type Device, type FrameMemory, RX_CHECKSUM_PARTIAL, TxFrame } from "../../stack/device.ts";
import { completeChecksum } from "../../stack/ip/offload.ts";
import { Normalizer } from "../normalize.ts";
import { XDP_ACTIONS } from "./context.ts";
import { locateTransport } from "./offload.ts";
import { ACTION_NAMES } from "./ir.ts";
import type { PortProgram } from "./context.ts";

/** Ethernet header and one tag: what a frame may have beyond the MTU, as in the kernel. */
const LINK_BYTES = 18;

/** A program that was loaded, and how often it returned what. */
export class CountedProgram {
  /** Frames by action. */
  readonly actions: Float64Array<ArrayBuffer> = new Float64Array(XDP_ACTIONS);
  /** Frames on which it threw; a part of the aborted ones. */
  thrown = 0;

  /** For people, and the function. */
  constructor(readonly name: string, readonly run: PortProgram) {}
}

/** What a port did; only grows. */
export class PortCounters {
  /** Frames received, before their program. */
  rxFrames = 0;
  /** Bytes of them. */
  rxBytes = 0;
  /** Frames that the device took. */
  txFrames = 0;
  /** Bytes of them. */
  txBytes = 0;
  /** Its device took no more (EAGAIN). */
  txFull = 0;
  /** Its device refused, was down, or is gone. */
  txErrors = 0;
  /** Longer than the MTU with a link header and one tag. */
  txTooLong = 0;
  /** Unfinished (checksum, segments), with no TCP or UDP header to finish. */
  txUnfinished = 0;
  /** Sent to an interface that doesn't exist. */
  redirectErrors = 0;
  /** Passed, with nobody to take it. */
  passedToNobody = 0;
  /** Received frames longer than the device had promised. */
  rxTooLong = 0;
  /** Frames that had to be copied before their program ran. */
  copied = 0;
}

/** One interface of the engine. */
export class XdpPort {
  /** Frames by action. */
  readonly actions: Float64Array<ArrayBuffer> = new Float64Array(XDP_ACTIONS);
  /** What it did. */
  readonly counters: PortCounters = new PortCounters();
  /** The program that its frames go through; null passes all. */
  program: CountedProgram | null = null;
  /** True from `add` to `remove`. */
  attached = true;
  /** It has sent since the last flush. */
  dirty = false;
  readonly #tx = new TxFrame();
  #name: string;
  #frameMax: number;
  readonly #segmentation: number;
  readonly #checksum: boolean;
  #normalizer: Normalizer | null = null;

  /** A port for an opened device. */
  constructor(readonly device: Device, name: string, readonly ifindex: number, readonly queue: number) {
    this.#name = name;
    const { txChecksum, txSegmentation } = device.capabilities;
    this.#frameMax = device.mtu + LINK_BYTES;
    this.#segmentation = txSegmentation;
    this.#checksum = txChecksum;
  }

  /** What it is called: at first as `add` was told. */
  get name(): string {
    return this.#name;
  }

  /** Its interface has got another name, or another MTU. */
  follow(name: string, mtu: number): void {
    this.#name = name;
    this.#frameMax = mtu + LINK_BYTES;
  }

  /**
   * Sends a frame out of this port: `length` bytes at `offset` of `memory`, which may be changed.
   *
   * @param flags and `segmentSize`: as the frame was received
   * @returns 0 or a negative code; counted
   */
  send(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): number {
    const tx = this.#tx;
    tx.reset(length);
    tx.memory = memory;
    tx.offset = offset;
    this.dirty = true;
    if (segmentSize === 0 && length > this.#frameMax) {
      this.counters.txTooLong++;
      return EMSGSIZE;
    }
    if (segmentSize > 0 || (flags & RX_CHECKSUM_PARTIAL) !== 0) return this.#finish(tx, flags, segmentSize);
    return this.#give(tx);
  }

  #give(tx: TxFrame): number {
    const { counters } = this;
    const code = this.device.transmit(tx);
    if (code === 0) {
      counters.txFrames++;
      counters.txBytes += tx.length;
    } else if (code === EAGAIN) counters.txFull++;
    else counters.txErrors++;
    return code;
  }

  /** A frame as devices with offload deliver it: handed on as it is, or finished here if this device can't. */
  #finish(tx: TxFrame, flags: number, segmentSize: number): number {
    if (segmentSize > 0 && tx.length > this.#segmentation) {
      this.#normalizer ??= new Normalizer(true, (frame) => this.#give(frame));
      this.#normalizer.frame(tx.memory, tx.offset, tx.length, flags, segmentSize);
      return 0;
    }
    if (!locateTransport(tx, segmentSize)) {
      this.counters.txUnfinished++;
      return EINVAL;
    }
    if (!this.#checksum) completeChecksum(tx);
    return this.#give(tx);
  }

  /** Frames that were to leave by it and didn't, for whatever reason. */
  get notSent(): number {
    const { txFull, txErrors, txTooLong, txUnfinished } = this.counters;
    return txFull + txErrors + txTooLong + txUnfinished;
  }

  /** Everything that was counted, with the device's own counters: a copy. */
  get statistics(): Record<string, number> {
    const all: Record<string, number> = { ...this.counters };
    for (let i = 0; i < XDP_ACTIONS; i++) all[`xdp${ACTION_NAMES[i]}`] = this.actions[i];
    for (const [name, value] of Object.entries(this.#normalizer?.counters ?? {})) all[name] = value;
    for (const [name, value] of Object.entries(this.device.statistics?.() ?? {})) all[`device.${name}`] = value;
    return all;
  }
}
