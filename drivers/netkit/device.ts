/**
 * A netkit device: what is sent into it goes by its programs, and comes out of its peer.
 *
 * @module
 */
import { EBADF, EBUSY, EINVAL, EOPNOTSUPP, errnoError } from "../../ffi/errno.ts";
import * as ifr from "../../ffi/ifreq.ts";
import { ENETDOWN, ENODEV, ENOTCONN, OK } from "../../stack/codes.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../../stack/device.ts";
import type { NetFrame } from "../netdev/frame.ts";
import type { IoctlMemory } from "../netdev/memory.ts";
import { type Statistics64, zeroStatistics } from "../netdev/statistics.ts";
import type { DeviceTable, IoctlDevice } from "../netdev/table.ts";
import { randomMac } from "../tap.ts";
import { deliver, Inbox, netkitCapabilities } from "./inbox.ts";
import { netkitIoctl } from "./ioctl.ts";
import type { FrameMarks } from "./meta.ts";
import * as nk from "./options.ts";
import { NetkitQueue } from "./queue.ts";
import { ProgramList } from "./programs.ts";
import { LINK_HEADER, SKB_PAD } from "./staging.ts";
import { TransmitPath } from "./transmit_path.ts";

/** What one end is made with. */
export interface NetkitEnd {
  readonly name: string;
  readonly mac: Uint8Array<ArrayBuffer> | null;
  readonly namespace: string;
  readonly primary: boolean;
  readonly policy: number;
  readonly scrub: number;
}

/**
 * One end of a netkit pair, or a single device: a {@link Device} for one stack. In mode L2 its medium is "ethernet", in mode L3
 * "ip"; programs see an Ethernet header in both, in L3 one without addresses, as the kernel's do.
 */
export class NetkitDevice implements Device, IoctlDevice {
  /** At most 15 bytes. */
  readonly name: string;
  /** Of its table. */
  readonly index: number;
  /** NETKIT_L2 or NETKIT_L3. */
  readonly mode: number;
  /** NETKIT_DEVICE_PAIR or NETKIT_DEVICE_SINGLE. */
  readonly pairing: number;
  /** The one through which both are configured. */
  readonly primary: boolean;
  /** See {@link Device}. */
  readonly medium: "ethernet" | "ip";
  /** Six bytes in mode L2, null in mode L3. */
  readonly mac: Uint8Array<ArrayBuffer> | null;
  /** See {@link Device}. */
  readonly capabilities: DeviceCapabilities;
  /** Where it lives; see `NetkitPeerOptions.namespace`. */
  readonly namespace: string;
  /** NETKIT_SCRUB_NONE or NETKIT_SCRUB_DEFAULT. */
  readonly scrub: number;
  /** Mark, priority and time of the frame that `receive` is handing over. */
  readonly received: FrameMarks;
  /**
   * Programs for what this device sends; changed by `attachNetkit`.
   *
   * @internal
   */
  readonly programs: ProgramList = new ProgramList();
  /**
   * What comes out of it.
   *
   * @internal
   */
  readonly inbox: Inbox = new Inbox();
  /**
   * Its own count.
   *
   * @internal
   */
  readonly counters: Statistics64 = zeroStatistics();
  /**
   * Where it is registered.
   *
   * @internal
   */
  readonly table: DeviceTable;

  #mtu: number;
  #policy: number;
  #peer: NetkitDevice | null = null;
  #up = false;
  #carrier = false;
  #gone = false;
  #own = { headroom: 0, tailroom: 0 };
  #promiscuous = 0;
  readonly #queues: (NetkitQueue | null)[] = [];
  readonly #path = new TransmitPath(this);

  /**
   * Made by `createNetkit`.
   *
   * @internal
   */
  constructor(end: NetkitEnd, checked: nk.CheckedOptions, table: DeviceTable) {
    this.name = end.name;
    this.namespace = end.namespace;
    this.primary = end.primary;
    this.scrub = end.scrub;
    this.mode = checked.mode;
    this.pairing = checked.pairing;
    this.table = table;
    this.index = table.newIndex();
    this.medium = checked.mode === nk.NETKIT_L2 ? "ethernet" : "ip";
    this.mac = checked.mode === nk.NETKIT_L2 ? end.mac ?? randomMac() : null;
    this.capabilities = netkitCapabilities(checked.mtu);
    this.received = this.inbox.marks;
    this.#mtu = checked.mtu;
    this.#policy = end.policy;
    this.#own = { headroom: checked.headroom, tailroom: checked.tailroom };
  }

  /**
   * Joins it to its other end; from one side only.
   *
   * @internal
   */
  join(peer: NetkitDevice): void {
    this.#peer = peer;
    peer.#peer = this;
  }

  /** The other end; null for a single device, and when it is gone. */
  get peer(): NetkitDevice | null {
    return this.#peer;
  }

  /** Bytes of IP packet. */
  get mtu(): number {
    return this.#mtu;
  }

  /** What becomes of frames while no program is attached. */
  get policy(): number {
    return this.#policy;
  }

  /** Switched on. */
  get up(): boolean {
    return this.#up;
  }

  /** Both ends are up; of a single device: it is up. */
  get carrier(): boolean {
    return this.#carrier;
  }

  /** It has not been deleted. */
  get exists(): boolean {
    return !this.#gone;
  }

  /** Bits of IFF_…: mode L3 has IFF_NOARP. */
  get flags(): number {
    const base = ifr.IFF_BROADCAST | ifr.IFF_MULTICAST | this.#promiscuous;
    const arp = this.mode === nk.NETKIT_L3 ? ifr.IFF_NOARP : 0;
    return base | arp | (this.#up ? ifr.IFF_UP : 0) | (this.#up && this.#carrier ? ifr.IFF_RUNNING : 0);
  }

  /** Bytes that programs have in front of a frame: the larger of what both ends ask for. */
  get headroom(): number {
    return Math.max(this.#own.headroom, this.#peer === null ? 0 : this.#peer.#own.headroom);
  }

  /** Bytes behind a frame: the larger of what both ends ask for. */
  get tailroom(): number {
    return Math.max(this.#own.tailroom, this.#peer === null ? 0 : this.#peer.#own.tailroom);
  }

  /** What stands on this end needs more room in front (`ndo_set_rx_headroom`); negative for the kernel's default of 64. */
  setHeadroom(bytes: number): void {
    this.#own.headroom = bytes < 0 ? SKB_PAD : Math.min(bytes, 65_535);
  }

  /** Switches it on or off: 0, ENOTCONN without peer, ENODEV. Off takes the carrier of both. */
  setUp(up: boolean): number {
    if (this.#gone) return ENODEV;
    if (up === this.#up) return OK;
    const peer = this.#peer;
    if (up && this.pairing === nk.NETKIT_DEVICE_PAIR && peer === null) return ENOTCONN;
    this.#up = up;
    if (!up) {
      this.inbox.clear();
      this.#setCarrier(false);
      if (peer !== null) peer.#setCarrier(false);
    } else if (this.pairing === nk.NETKIT_DEVICE_SINGLE) this.#setCarrier(true);
    else if (peer !== null && peer.#up) {
      this.#setCarrier(true);
      peer.#setCarrier(true);
    }
    this.inbox.alert();
    return OK;
  }

  #setCarrier(on: boolean): void {
    if (this.#carrier === on) return;
    this.#carrier = on;
    this.inbox.alert();
  }

  /** Another MAC address. @throws EOPNOTSUPP in mode L3, EADDRNOTAVAIL, EINVAL */
  setMac(mac: string | Uint8Array): void {
    if (this.mac === null) throw errnoError("set the address of", `netkit device "${this.name}"`, EOPNOTSUPP, "It is in mode L3");
    this.mac.set(nk.checkNetkitMac(mac));
  }

  /** Another MTU of this end: 0 or EINVAL. */
  setMtu(mtu: number): number {
    if (!Number.isInteger(mtu) || mtu < 68 || mtu > nk.NETKIT_MTU_MAX) return -EINVAL;
    this.#mtu = mtu;
    return OK;
  }

  /** Takes IFF_PROMISC and IFF_ALLMULTI: netkit receives whatever is pushed to it anyway. */
  setRxMode(bits: number): void {
    this.#promiscuous = bits & (ifr.IFF_PROMISC | ifr.IFF_ALLMULTI);
  }

  /** Changes what can be changed: policies, through the primary device. @throws what the kernel answers, with nothing changed */
  change(change: nk.NetkitChange): void {
    if (this.#gone) throw errnoError("change", `netkit device "${this.name}"`, ENODEV);
    nk.checkChange(change, this.primary, this.pairing, this.#peer !== null);
    if (change.policy !== undefined) this.#policy = change.policy;
    if (change.peerPolicy !== undefined && this.#peer !== null) this.#peer.#policy = change.peerPolicy;
  }

  /**
   * Leases a receive queue to a back end in user space, which then owns it: a device of its own.
   *
   * @throws EOPNOTSUPP from the primary device of a pair, EINVAL when {@link nk.NETKIT_QUEUES_MAX} are leased
   */
  lease(): NetkitQueue {
    const what = `a queue of netkit device "${this.name}"`;
    if (this.#gone) throw errnoError("lease", what, ENODEV);
    if (this.pairing === nk.NETKIT_DEVICE_PAIR && this.primary) {
      throw errnoError("lease", what, EOPNOTSUPP, "Only the peer of a pair, or a single device, leases queues");
    }
    let index = this.#queues.findIndex((queue) => queue === null);
    if (index < 0) index = this.#queues.length;
    if (index >= nk.NETKIT_QUEUES_MAX) throw errnoError("lease", what, EINVAL, `At most ${nk.NETKIT_QUEUES_MAX} can be leased`);
    // Queue 0 is the device's own.
    const queue = new NetkitQueue(this, index + 1, () => this.#queues[index] = null);
    this.#queues[index] = queue;
    return queue;
  }

  /** A leased queue by its number; null if it isn't leased. */
  queue(index: number): NetkitQueue | null {
    return this.#queues[index - 1] ?? null;
  }

  /** The first leased queue that somebody reads: where a single device's frames go. */
  get owner(): NetkitQueue | null {
    return this.#queues.find((queue) => queue?.inbox.used) ?? null;
  }

  /** Frames and bytes of both directions, and what was dropped. */
  statistics64(): Statistics64 {
    return { ...this.counters };
  }

  /** The same; see {@link Device}. */
  statistics(): Record<string, number> {
    return this.statistics64();
  }

  /** See {@link IoctlDevice}: the standard requests; netkit has no private ones. */
  ioctl(request: number, ifreq: Uint8Array, data: IoctlMemory | null): number | Promise<number> {
    return this.#gone ? ENODEV : netkitIoctl(this, request, ifreq, data);
  }

  /** Takes it into use, and switches it on. Throws `Busy` when a stack has it, ENOTCONN without peer. */
  open(wake: () => void): void {
    const what = `device "${this.name}"`;
    if (this.#gone) throw errnoError("use", what, EBADF, "It was deleted");
    if (this.inbox.used) throw errnoError("use", what, EBUSY, "Another stack has it");
    const code = this.setUp(true);
    if (code < 0) throw errnoError("switch on", what, code);
    this.inbox.open(wake);
  }

  /** See {@link Device}. */
  arm(): void {
    this.inbox.arm(this.#gone);
  }

  /** See {@link Device}. */
  receive(sink: FrameSink, budget: number): number {
    return this.inbox.receive(sink, budget, this.#gone, !this.#up);
  }

  /** See {@link Device}: like a wire, it doesn't say what becomes of a frame. */
  transmit(frame: TxFrame): number {
    return this.transmitMarked(frame, 0, 0, 0);
  }

  /** The same with the marks that the frame has. */
  transmitMarked(frame: TxFrame, mark: number, priority: number, timestamp: number): number {
    if (this.#gone) return ENODEV;
    if (!this.#up) return ENETDOWN;
    this.#path.transmit(frame, mark, priority, timestamp);
    return OK;
  }

  /** Bytes that a frame of the stack lacks in front: mode L3 has no link header, and programs are shown one. */
  get linkHeader(): number {
    return this.mode === nk.NETKIT_L3 ? LINK_HEADER : 0;
  }

  /** Lets a frame with a link header come out of this device: false when it can't. Not counted. */
  emerge(frame: NetFrame, marks: FrameMarks, queue: number): boolean {
    if (this.#gone || !this.#up) return false;
    if (queue !== 0) return this.queue(queue)?.emerge(frame, marks) ?? false;
    return deliver(this.inbox, frame, marks, this.linkHeader);
  }

  /** The same, counted as received: for redirects and leased queues. */
  emergeCounted(frame: NetFrame, marks: FrameMarks): boolean {
    const { length } = frame;
    if (!this.emerge(frame, marks, 0)) {
      this.counters.rxDropped++;
      return false;
    }
    this.counters.rxPackets++;
    this.counters.rxBytes += length;
    return true;
  }

  /** The stack lets go of it: it goes down, and stays. See {@link delete}. */
  close(): void {
    this.inbox.close();
    this.setUp(false);
  }

  /** Deletes it, and its other end with it. A second call does nothing. */
  delete(): void {
    if (this.#gone) return;
    const peer = this.#peer;
    this.setUp(false);
    this.#gone = true;
    this.#peer = null;
    this.programs.clear();
    for (const queue of this.#queues) queue?.end();
    this.table.remove(this);
    this.inbox.alert();
    peer?.delete();
  }
}
