/**
 * The sample driver: a loopback of one's own, with a private ioctl.
 *
 * @module
 */
import { EOPNOTSUPP } from "../../ffi/errno.ts";
import { IFF_NOARP, type IfReq, SIOCDEVPRIVATE } from "../../ffi/ifreq.ts";
import { NetFrame, NetFrameQueue } from "../netdev/frame.ts";
import type { NetInterface } from "../netdev/interface.ts";
import { NETIF_F_HW_CSUM } from "../netdev/interface_options.ts";
import { NetDevice } from "../netdev/net_device.ts";
import type { Statistics64 } from "../netdev/statistics.ts";
import { randomMac } from "../tap.ts";

/** `SIOCDEVPRIVATE + 0` of a {@link LoopbackDevice}: all counters become zero at once. */
export const RESET_STATS: number = SIOCDEVPRIVATE;

/** Frames that may be on their way around. */
const QUEUE_FRAMES = 1024;
/** Their bytes. */
const QUEUE_BYTES = 4 << 20;

/**
 * Every frame that is sent comes back up as received, in order, a turn of the event loop later. IFF_NOARP, checksums left
 * to the "hardware", a random local MAC address.
 *
 * ```ts ignore
 * await using devices = new NetDevices();
 * await devices.register("loop0", LoopbackDevice).ready;
 * ```
 */
export class LoopbackDevice extends NetDevice {
  /** IFF_NOARP. */
  override flags: number = IFF_NOARP;
  /** NETIF_F_HW_CSUM. */
  override features: number = NETIF_F_HW_CSUM;
  /** Random, of its own. */
  override mac: Uint8Array = randomMac();

  readonly #frame = new NetFrame();
  #queue: NetFrameQueue | null = null;
  #scheduled = false;
  #rxPackets = 0;
  #rxBytes = 0;
  #txPackets = 0;
  #txBytes = 0;
  #txDropped = 0;

  /** Frames on their way around. */
  get waiting(): number {
    return this.#queue?.count ?? 0;
  }

  /** Initialises the queue. */
  override open(): void {
    this.#queue ??= new NetFrameQueue(QUEUE_FRAMES, QUEUE_BYTES);
    this.#queue.clear();
  }

  /** Flushes the queue: what is on its way is lost, and counted as dropped. */
  override stop(): void {
    this.#txDropped += this.waiting;
    this.#queue?.clear();
  }

  /** Queues the frame; what has no room is dropped. */
  override startXmit(frame: NetFrame): void {
    if (this.#queue === null || !this.#queue.put(frame.memory, frame.offset, frame.length, frame.flags)) {
      this.#txDropped++;
      return;
    }
    this.#txPackets++;
    this.#txBytes += frame.length;
    if (this.#scheduled) return;
    this.#scheduled = true;
    // Not from inside the sender's call, like any wire.
    queueMicrotask(this.#deliver);
  }

  readonly #deliver = (): void => {
    this.#scheduled = false;
    const queue = this.#queue, frame = this.#frame;
    if (queue === null) return;
    while (queue.count > 0) {
      frame.set(queue.memory, queue.offset, queue.length, queue.flags);
      if (this.handle.netifRx(frame) === 0) {
        this.#rxPackets++;
        this.#rxBytes += frame.length;
      }
      // Whoever was told may have taken the device down.
      queue.shift();
    }
  };

  /** The device's own counters. */
  override getStats64(): Partial<Statistics64> {
    return {
      rxPackets: this.#rxPackets,
      rxBytes: this.#rxBytes,
      txPackets: this.#txPackets,
      txBytes: this.#txBytes,
      txDropped: this.#txDropped,
    };
  }

  /** {@link RESET_STATS}, and nothing else. */
  override siocdevprivate(_handle: NetInterface, _ifreq: IfReq, cmd: number): number {
    if (cmd !== RESET_STATS) return -EOPNOTSUPP;
    this.#rxPackets =
      this.#rxBytes =
      this.#txPackets =
      this.#txBytes =
      this.#txDropped =
        0;
    return 0;
  }
}
