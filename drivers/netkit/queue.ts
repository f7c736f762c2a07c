/**
 * A leased receive queue: the face that a back end in user space (a virtual machine, a ring) has of a netkit device.
 *
 * @module
 */
import { EBADF, EBUSY, errnoError } from "../../ffi/errno.ts";
import { ENETDOWN, ENODEV, OK } from "../../stack/codes.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../../stack/device.ts";
import type { NetFrame } from "../netdev/frame.ts";
import { randomMac } from "../tap.ts";
import type { NetkitDevice } from "./device.ts";
import { deliver, Inbox, netkitCapabilities, SUPER_FRAME } from "./inbox.ts";
import { type FrameMarks, NetkitMeta } from "./meta.ts";
import { NETKIT_NEXT, NETKIT_PASS, NETKIT_REDIRECT } from "./options.ts";
import type { NetkitProgram } from "./programs.ts";
import { LINK_HEADER, Staging } from "./staging.ts";
import { Verdicts } from "./verdicts.ts";

/**
 * A queue of a netkit device, owned by whoever opens it. What the owner sends comes out of the device, on the host's side, unless the
 * queue's {@link program} says otherwise; what the host sends into a single device comes to the owner.
 */
export class NetkitQueue implements Device {
  /** Device and number: "nk0:1". */
  readonly name: string;
  /** From 1 on: 0 is the device's own. */
  readonly index: number;
  /** The device that it belongs to. */
  readonly device: NetkitDevice;
  /** That of the device. */
  readonly medium: "ethernet" | "ip";
  /** The owner's own address, not the device's; null in mode L3. */
  readonly mac: Uint8Array<ArrayBuffer> | null;
  /** See {@link Device}. */
  readonly capabilities: DeviceCapabilities;
  /** Mark, priority and time of the frame that `receive` is handing over. */
  readonly received: FrameMarks;
  /**
   * What becomes of the owner's frames: NETKIT_PASS up to the host, NETKIT_DROP, or `meta.redirect(…)`. Without one they pass.
   * This is the program at the queue itself (XDP's place): netkit's own can't be attached to a single device.
   */
  program: NetkitProgram | null = null;
  /**
   * What comes to the owner.
   *
   * @internal
   */
  readonly inbox: Inbox = new Inbox();
  readonly #counters = { sent: 0, sentBytes: 0, received: 0, droppedDown: 0, droppedFull: 0, droppedByProgram: 0, redirected: 0 };
  readonly #verdicts: Verdicts;
  readonly #meta = new NetkitMeta();
  readonly #programs: NetkitProgram[] = [];
  readonly #staging = new Staging();
  readonly #released: () => void;
  #over = false;

  /**
   * Made by `NetkitDevice.lease`.
   *
   * @internal
   */
  constructor(device: NetkitDevice, index: number, released: () => void) {
    this.device = device;
    this.index = index;
    this.name = `${device.name}:${index}`;
    this.medium = device.medium;
    this.mac = device.mac === null ? null : randomMac();
    this.capabilities = netkitCapabilities(device.mtu);
    this.received = this.inbox.marks;
    this.#verdicts = new Verdicts(device);
    this.#released = released;
  }

  /** Bytes of IP packet: the device's. */
  get mtu(): number {
    return this.device.mtu;
  }

  /** Takes the queue into use. Throws `Busy` when another owner has it. */
  open(wake: () => void): void {
    if (this.#over) throw errnoError("use", `queue "${this.name}"`, EBADF, "Its lease is over");
    if (this.inbox.used) throw errnoError("use", `queue "${this.name}"`, EBUSY, "Another owner has it");
    this.inbox.open(wake);
  }

  /** See {@link Device}. */
  arm(): void {
    this.inbox.arm(this.#over);
  }

  /** See {@link Device}. */
  receive(sink: FrameSink, budget: number): number {
    const count = this.inbox.receive(sink, budget, this.#over, false);
    if (count > 0) this.#counters.received += count;
    return count;
  }

  /** A frame of the owner. */
  transmit(tx: TxFrame): number {
    if (this.#over) return ENODEV;
    const { device } = this;
    if (!device.up) {
      this.#counters.droppedDown++;
      return ENETDOWN;
    }
    const strip = device.linkHeader;
    if (tx.size + strip < LINK_HEADER || tx.size > SUPER_FRAME) {
      this.#counters.droppedFull++;
      return OK;
    }
    this.#counters.sent++;
    this.#counters.sentBytes += tx.size;
    const nested = this.#staging.busy;
    const frame = this.#staging.prepare(tx, strip, device.headroom, device.tailroom);
    this.#staging.busy = true;
    this.#decide(frame, nested ? new NetkitMeta() : this.#meta);
    this.#staging.busy = nested;
    return OK;
  }

  #decide(frame: NetFrame, meta: NetkitMeta): void {
    const { device, program } = this;
    meta.begin(0, 0, 0, device.index, device.index);
    let verdict = NETKIT_PASS;
    if (program !== null) {
      this.#programs[0] = program;
      verdict = this.#verdicts.ask(this.#programs, frame, meta);
    }
    if (verdict === NETKIT_PASS || verdict === NETKIT_NEXT) {
      if (!device.emergeCounted(frame, meta)) this.#counters.droppedFull++;
    } else if (verdict === NETKIT_REDIRECT) {
      if (this.#verdicts.redirect(frame, meta)) this.#counters.redirected++;
      else this.#counters.droppedFull++;
    } else this.#counters.droppedByProgram++;
  }

  /** Lets a frame with a link header come to the owner: false when nobody is there, or it is full. */
  emerge(frame: NetFrame, marks: FrameMarks): boolean {
    return !this.#over && this.inbox.used && deliver(this.inbox, frame, marks, this.device.linkHeader);
  }

  /** {@link emerge}, for redirects. */
  emergeCounted(frame: NetFrame, marks: FrameMarks): boolean {
    const emerged = this.emerge(frame, marks);
    if (!emerged) this.#counters.droppedFull++;
    return emerged;
  }

  /** What it carried, and what was dropped, by reason. */
  statistics(): Record<string, number> {
    return { ...this.#counters };
  }

  /**
   * The lease is over because the device is gone.
   *
   * @internal
   */
  end(): void {
    this.#over = true;
    this.inbox.alert();
  }

  /** Ends the lease. A second call does nothing. */
  close(): void {
    if (this.#over) return;
    this.#over = true;
    this.inbox.close();
    this.#released();
  }
}
