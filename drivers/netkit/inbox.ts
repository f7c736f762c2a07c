/**
 * What frames come out of: a bounded queue with a waiting reader. Of a netkit device itself, and of every leased queue.
 *
 * @module
 */
import { ENETDOWN, ENODEV } from "../../stack/codes.ts";
import type { DeviceCapabilities, FrameMemory, FrameSink, TxFrame } from "../../stack/device.ts";
import { copyBytes } from "../../stack/wire/copy.ts";
import { gather, type NetFrame, NetFrameQueue } from "../netdev/frame.ts";
import type { FrameMarks } from "./meta.ts";

/** A 64 KiB IP packet and its link header, with a tag. */
export const SUPER_FRAME = 65_535 + 18;
/** Link header with a tag. */
const TAGGED_HEADER = 18;
const ETHERNET_HEADER = 14;
const QUEUE_FRAMES = 1024;
const QUEUE_BYTES = 8 << 20;

/** What netkit devices can do: as the kernel's, they leave checksums and segmentation to whoever needs them. */
export function netkitCapabilities(mtu: number): DeviceCapabilities {
  return {
    rxChecksum: true,
    txChecksum: true,
    txSegmentation: SUPER_FRAME,
    rxFrame: SUPER_FRAME,
    rxQueueFrames: Math.floor(QUEUE_BYTES / (mtu + TAGGED_HEADER)),
  };
}

/** A queue of frames and one who reads it. */
export class Inbox {
  /** Made when somebody comes to read: a thousand leases must not cost their memory before they are used. */
  #queue: NetFrameQueue | null = null;
  /** The marks of the frame that is being handed over. */
  readonly marks: FrameMarks = { mark: 0, priority: 0, timestamp: 0 };
  #wake: (() => void) | null = null;
  #armed = false;

  /** Somebody reads. */
  get used(): boolean {
    return this.#wake !== null;
  }

  /** Frames that wait. */
  get count(): number {
    return this.#queue?.count ?? 0;
  }

  /** Whom to wake. */
  open(wake: () => void): void {
    this.#wake = wake;
    this.#queue ??= new NetFrameQueue(QUEUE_FRAMES, QUEUE_BYTES);
  }

  /** Nobody any more; what waits is lost. */
  close(): void {
    this.#wake = null;
    this.#queue = null;
  }

  /** What waits is lost. */
  clear(): void {
    this.#queue?.clear();
  }

  /** One wake when something waits. */
  arm(now: boolean): void {
    this.#armed = true;
    if (now || this.count > 0) this.ring();
  }

  /** Wakes whoever asked for it. */
  ring(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#wake?.();
  }

  /** Wakes the reader in any case: the device has changed. */
  alert(): void {
    this.#wake?.();
  }

  /** Copies a frame in: false when it is full. Where nobody reads, a frame is received and forgotten. */
  put(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number, marks: FrameMarks): boolean {
    const queue = this.#queue;
    if (queue === null) return true;
    const at = queue.reserve(length);
    if (at < 0) return false;
    copyBytes(memory.bytes, offset, queue.memory.bytes, at, length);
    queue.push(at, length, flags, segmentSize, marks.mark, marks.priority, marks.timestamp);
    this.ring();
    return true;
  }

  /** Gathers an outgoing frame in, as {@link put} does. */
  gather(frame: TxFrame, flags: number, mark: number, priority: number, timestamp: number): boolean {
    const queue = this.#queue;
    if (queue === null) return true;
    const size = frame.size;
    const at = queue.reserve(size);
    if (at < 0) return false;
    gather(frame, queue.memory.bytes, at);
    queue.push(at, size, flags, frame.segmentSize, mark, priority, timestamp);
    this.ring();
    return true;
  }

  /** Hands over at most `budget` frames; what they were marked with stands in {@link marks} meanwhile. */
  receive(sink: FrameSink, budget: number, gone: boolean, down: boolean): number {
    if (gone) return ENODEV;
    const queue = this.#queue, marks = this.marks;
    if (down || queue === null) return ENETDOWN;
    let count = 0;
    while (count < budget && queue.count > 0) {
      marks.mark = queue.mark;
      marks.priority = queue.priority;
      marks.timestamp = queue.timestamp;
      sink.frame(queue.memory, queue.offset, queue.length, queue.flags, queue.segmentSize);
      queue.shift();
      count++;
    }
    return count;
  }
}

/** Puts a frame into an inbox without the link header that its reader doesn't know; false when it is full, or there is nothing left. */
export function deliver(inbox: Inbox, frame: NetFrame, marks: FrameMarks, linkHeader: number): boolean {
  const length = frame.length - linkHeader;
  if (length < 0 || frame.length < ETHERNET_HEADER || length > SUPER_FRAME) return false;
  return inbox.put(frame.memory, frame.offset + linkHeader, length, frame.flags, frame.segmentSize, marks);
}
