/**
 * A driver's buffers for frames on their way out: pieces of one size, as many for a frame as it needs.
 *
 * @module
 */
import type { FrameMemory, TxFrame } from "../../stack/device.ts";
import { copyBytes } from "../../stack/wire/copy.ts";
import { FRAME_PIECES_MAX } from "./driver_start.ts";

/** Bytes of a piece: a frame of an ordinary MTU fits in one, and one of 64 KiB in 17. */
export const TX_PIECE = 4096;

/** Pieces in shared memory. */
export class TxBuffers {
  readonly #memory: FrameMemory;
  readonly #offset: number;
  readonly #address: number;
  readonly #headerLength: number;
  readonly #split: boolean;
  /** For each piece the next one of its frame, or the next free one. */
  readonly #next: Int32Array;
  /** For each chain under way its first piece. */
  readonly #chains: Int32Array;
  #free: number;
  #freeHead = 0;
  #head = -1;
  #piece = -1;
  #filled = 0;
  /** What {@link build} made: pieces' addresses and lengths, and how many. */
  readonly addresses: number[] = new Array(FRAME_PIECES_MAX).fill(0);
  readonly lengths: number[] = new Array(FRAME_PIECES_MAX).fill(0);
  count = 0;

  /**
   * @param offset where the first of `pieces` pieces lies in `memory`; the device knows the place by `address`
   * @param split the header needs a descriptor of its own, as legacy devices want it (virtio 1.2, 5.1.6.6)
   */
  constructor(
    place: { memory: FrameMemory; offset: number; address: number; pieces: number },
    chains: number,
    headerLength: number,
    split: boolean,
  ) {
    this.#memory = place.memory;
    this.#offset = place.offset;
    this.#address = place.address;
    this.#headerLength = headerLength;
    this.#split = split;
    this.#next = Int32Array.from({ length: place.pieces }, (_, i) => i + 1 < place.pieces ? i + 1 : -1);
    this.#chains = new Int32Array(chains).fill(-1);
    this.#free = place.pieces;
  }

  /** True if there are pieces for a frame of `size` bytes. */
  fits(size: number): boolean {
    return Math.ceil((this.#headerLength + size) / TX_PIECE) <= this.#free;
  }

  /** Copies header and frame into pieces; {@link fits} has said yes. */
  build(header: Uint8Array, frame: TxFrame): void {
    this.count = 0;
    this.#head = this.#piece = -1;
    this.#filled = TX_PIECE;
    this.#put(header, 0, this.#headerLength);
    if (this.#split) {
      this.addresses[1] = this.addresses[0] + this.#headerLength;
      this.lengths[1] = 0;
      this.count = 2;
    }
    this.#put(frame.memory.bytes, frame.offset, frame.length);
    if (frame.payloadLength1 > 0) this.#put(frame.payload.bytes, frame.payloadOffset1, frame.payloadLength1);
    if (frame.payloadLength2 > 0) this.#put(frame.payload.bytes, frame.payloadOffset2, frame.payloadLength2);
  }

  #put(bytes: Uint8Array, from: number, length: number): void {
    while (length > 0) {
      if (this.#filled === TX_PIECE) this.#grow();
      const part = Math.min(length, TX_PIECE - this.#filled);
      copyBytes(bytes, from, this.#memory.bytes, this.#offset + this.#piece * TX_PIECE + this.#filled, part);
      this.#filled += part;
      this.lengths[this.count - 1] += part;
      from += part;
      length -= part;
    }
  }

  #grow(): void {
    const piece = this.#freeHead;
    this.#freeHead = this.#next[piece];
    this.#next[piece] = -1;
    this.#free--;
    if (this.#piece < 0) this.#head = piece;
    else this.#next[this.#piece] = piece;
    this.#piece = piece;
    this.#filled = 0;
    this.addresses[this.count] = this.#address + piece * TX_PIECE;
    this.lengths[this.count++] = 0;
  }

  /** What was built is under way as chain `id`. */
  keep(id: number): void {
    this.#chains[id] = this.#head;
  }

  /** What was built isn't sent after all. */
  drop(): void {
    this.#giveBack(this.#head);
  }

  /** Chain `id` is done. */
  release(id: number): void {
    this.#giveBack(this.#chains[id]);
    this.#chains[id] = -1;
  }

  #giveBack(piece: number): void {
    while (piece >= 0) {
      const next = this.#next[piece];
      this.#next[piece] = this.#freeHead;
      this.#freeHead = piece;
      this.#free++;
      piece = next;
    }
  }
}
