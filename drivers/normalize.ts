/**
 * Frames as they would be on a wire: super-frames cut into segments, checksums complete.
 *
 * @module
 */
import { FrameMemory, RX_CHECKSUM_PARTIAL, TX_HEADROOM, TxFrame } from "../stack/device.ts";
import { checksumFieldOf, completeChecksum, cutSegments, type PieceSink, transportHeaderLength } from "../stack/ip/offload.ts";
import { copyBytes } from "../stack/wire/copy.ts";
import { ipHeaderLength, ipProto, ipTotalLength } from "../stack/wire/ipv4.ts";
import { ipv4At } from "./aqm.ts";

/** A packet of 64 KiB behind the headroom, and some. */
const SCRATCH_BYTES = TX_HEADROOM + 65_536 + 64;

/** Where the transport checksum of a received IPv4 frame lies, as a TxFrame tells it; false if the frame has none. */
export function locateChecksum(frame: TxFrame, ethernet: boolean): boolean {
  const { view } = frame.memory;
  const at = ipv4At(view, frame.offset, frame.length, ethernet);
  if (at < 0) return false;
  const header = ipHeaderLength(view, frame.offset + at);
  const proto = ipProto(view, frame.offset + at);
  const field = checksumFieldOf(proto);
  const transport = frame.offset + at + header;
  if (field < 0 || header < 20 || transportHeaderLength(view, transport, frame.length - at - header, proto) < 0) return false;
  frame.checksumStart = at + header;
  frame.checksumOffset = field;
  return true;
}

/** Takes received frames, and hands on what a wire would have carried: IPv4 only, what else needs cutting is dropped. */
export class Normalizer implements PieceSink {
  /** Super-frames that were cut, frames whose checksum was completed, and frames that could not be made plain. */
  readonly counters = { superFramesCut: 0, checksumsCompleted: 0, droppedSuper: 0 };
  readonly #ethernet: boolean;
  readonly #give: (frame: TxFrame) => void;
  readonly #out = new TxFrame();
  readonly #link = new Uint8Array(22);
  #linkLength = 0;
  #scratch: FrameMemory | null = null;

  constructor(ethernet: boolean, give: (frame: TxFrame) => void) {
    this.#ethernet = ethernet;
    this.#give = give;
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    const out = this.#out;
    out.reset(length);
    out.memory = memory;
    out.offset = offset;
    if (segmentSize > 0) return this.#cut(segmentSize);
    if ((flags & RX_CHECKSUM_PARTIAL) !== 0) this.#complete();
    this.#give(out);
  }

  #copy(from: number, length: number): FrameMemory {
    const scratch = this.#scratch ??= new FrameMemory(SCRATCH_BYTES);
    copyBytes(this.#out.memory.bytes, from, scratch.bytes, TX_HEADROOM, length);
    return scratch;
  }

  /** The device's own memory stays as it is. */
  #complete(): void {
    const out = this.#out;
    if (out.length > SCRATCH_BYTES - TX_HEADROOM || !locateChecksum(out, this.#ethernet)) return;
    out.memory = this.#copy(out.offset, out.length);
    out.offset = TX_HEADROOM;
    this.counters.checksumsCompleted++;
    completeChecksum(out);
  }

  #cut(segmentSize: number): void {
    const { view, bytes } = this.#out.memory;
    const { offset, length } = this.#out;
    const at = ipv4At(view, offset, length, this.#ethernet);
    const header = at < 0 ? 0 : ipHeaderLength(view, offset + at);
    // A packet of more than 65,535 bytes can't say its length.
    const total = at < 0 ? 0 : Math.min(length - at, ipTotalLength(view, offset + at) || length - at);
    if (at < 0 || header < 20 || header > total || length > SCRATCH_BYTES - TX_HEADROOM) {
      this.counters.droppedSuper++;
      return;
    }
    this.counters.superFramesCut++;
    for (let i = 0; i < at; i++) this.#link[i] = bytes[offset + i];
    this.#linkLength = at;
    const scratch = this.#copy(offset + at, total);
    cutSegments(scratch, header, ipProto(view, offset + at), total, segmentSize, this);
  }

  /** One segment: the link header goes over the end of the one before, which is done with. */
  piece(memory: FrameMemory, offset: number, length: number): number {
    const out = this.#out;
    const link = this.#linkLength;
    for (let i = 0; i < link; i++) memory.bytes[offset - link + i] = this.#link[i];
    out.reset(length + link);
    out.memory = memory;
    out.offset = offset - link;
    this.#give(out);
    return 0;
  }
}
