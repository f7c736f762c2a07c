/**
 * What travels with a frame and isn't in it, as an skb's fields do: one record per device, used again for every frame.
 *
 * @module
 */
import type { Device } from "../../stack/device.ts";
import { NETKIT_REDIRECT } from "./options.ts";

/** A frame's mark, priority and time. */
export interface FrameMarks {
  /** `skb->mark`. */
  mark: number;
  /** `skb->priority`. */
  priority: number;
  /** `skb->tstamp`: milliseconds, 0 for none. */
  timestamp: number;
}

/** What a program is told of a frame, and what it says about it. */
export class NetkitMeta implements FrameMarks {
  /** `skb->mark`. */
  mark = 0;
  /** `skb->priority`. */
  priority = 0;
  /** `skb->tstamp`: milliseconds, 0 for none. */
  timestamp = 0;
  /** Index of the device that the frame is about to come out of: the peer's. */
  ifindex = 0;
  /** Index of the device that it was sent into. */
  sourceIndex = 0;
  /** The receiver's queue: 0 is the device's own, others are leased. A program may choose. */
  queue = 0;
  /** Where {@link redirect} sends it. */
  target: Device | null = null;
  /** It is to come out of the target, instead of being sent into it. */
  ingress = false;

  /**
   * Sends the frame elsewhere: `return meta.redirect(other)`.
   *
   * @param target a device of any kind to send it into, or a netkit device or leased queue to let it come out of
   * @param ingress let it come out: only netkit devices and queues can do that, others drop it
   */
  redirect(target: Device, ingress = false): number {
    this.target = target;
    this.ingress = ingress;
    return NETKIT_REDIRECT;
  }

  /** Begins a frame. */
  begin(mark: number, priority: number, timestamp: number, ifindex: number, sourceIndex: number): void {
    this.mark = mark;
    this.priority = priority;
    this.timestamp = timestamp;
    this.ifindex = ifindex;
    this.sourceIndex = sourceIndex;
    this.queue = 0;
    this.target = null;
    this.ingress = false;
  }
}
