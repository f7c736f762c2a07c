/**
 * Frames in one piece, with room on both sides and a link header: as programs see them.
 *
 * @module
 */
import { FrameMemory, RX_CHECKSUM_PARTIAL, type TxFrame } from "../../stack/device.ts";
import { gather, NetFrame } from "../netdev/frame.ts";
import { SUPER_FRAME } from "./inbox.ts";

/** Room in front of a frame that there always is: the kernel's `NET_SKB_PAD`. */
export const SKB_PAD = 64;
/** An Ethernet header. */
export const LINK_HEADER = 14;

/** Where one frame at a time is put together. */
export class Staging {
  /** A frame is in there: what a program sends meanwhile is put elsewhere. */
  busy = false;
  readonly #frame = new NetFrame();
  #memory: FrameMemory | null = null;
  #room = 0;
  #tailroom = 0;

  /** Puts a frame together. `linkHeader` bytes are made up in front: no addresses, the packet's own EtherType. */
  prepare(tx: TxFrame, linkHeader: number, headroom: number, tailroom: number): NetFrame {
    const room = Math.max(headroom, SKB_PAD);
    const memory = this.#space(room, tailroom);
    const frame = this.busy ? new NetFrame() : this.#frame;
    const at = room + linkHeader;
    const length = gather(tx, memory.bytes, at) + linkHeader;
    if (linkHeader > 0) {
      memory.bytes.fill(0, room, room + 12);
      memory.view.setUint16(room + 12, memory.bytes[at] >> 4 === 6 ? 0x86dd : 0x0800);
    }
    frame.set(memory, room, length, tx.checksumStart >= 0 ? RX_CHECKSUM_PARTIAL : 0, tx.segmentSize);
    frame.roomStart = 0;
    frame.roomEnd = room + length + tailroom;
    return frame;
  }

  #space(room: number, tailroom: number): FrameMemory {
    if (this.busy) return new FrameMemory(room + LINK_HEADER + SUPER_FRAME + tailroom);
    if (this.#memory === null || this.#room < room || this.#tailroom < tailroom) {
      this.#memory = new FrameMemory(room + LINK_HEADER + SUPER_FRAME + tailroom);
      this.#room = room;
      this.#tailroom = tailroom;
    }
    return this.#memory;
  }
}
