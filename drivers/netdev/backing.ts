/**
 * What stands behind a device's name: a TAP of the kernel, an interface of the kernel that exists already, or nothing
 * but the process.
 *
 * @module
 */
import type { NamespaceReference } from "../../ffi/namespace.ts";
import { currentNamespace, inNamespace } from "../../ffi/namespace.ts";
import { EEXIST, ENODEV, errnoError } from "../../ffi/errno.ts";
import { ARPHRD_ETHER, IFF_RUNNING, IFF_UP } from "../../ffi/ifreq.ts";
import { getLink, type Link, linkExists, type LinkSettings, setLink } from "../../ffi/rtnl_link.ts";
import { LinkMonitor } from "../../ffi/rtnl_monitor.ts";
import type { Descriptor } from "../../ffi/descriptor.ts";
import { type FrameMemory, type FrameSink, TxFrame } from "../../stack/device.ts";
import { TapDevice } from "../tap.ts";

/** Frames taken from the kernel at once. */
const BURST = 256;
/** How often a device that is down is looked at again, in milliseconds. */
const DOWN_RETRY_MS = 100;

/** Where a device's frames come from and go to. */
export interface BackingEvents {
  /** The kernel sends a frame. */
  frame(memory: FrameMemory, offset: number, length: number): void;
  /** The interface has changed: somebody ran `ip link set`. */
  changed(): void;
  /** The interface has been deleted. */
  gone(): void;
}

/** Runs a function in a namespace; null is the thread's own, which needs no privilege. */
function within<T>(namespace: Descriptor | null, run: () => T): T {
  return namespace === null ? run() : inNamespace(namespace, run);
}

/** An interface of the kernel's own, which is only looked after: its frames aren't ours. */
export class KernelBacking {
  /** `ifindex`. */
  readonly index: number;
  /** Its frames have Ethernet's header, and its address six bytes. */
  readonly ethernet: boolean;
  /** Held open, so that the interface can be asked whatever becomes of the process that the namespace was of. */
  protected readonly namespace: Descriptor | null;
  #name: string;
  #monitor: LinkMonitor | null = null;
  /** It was let go. */
  protected closed = false;

  /** Takes an interface that exists. @throws `NotFound` (ENODEV) */
  constructor(name: string, namespace: Descriptor | null) {
    this.#name = name;
    this.namespace = namespace;
    const { index, type } = this.#in(() => getLink(name));
    this.index = index;
    this.ethernet = type === ARPHRD_ETHER;
  }

  #in<T>(run: () => T): T {
    return within(this.namespace, run);
  }

  /** The kernel's frames come to `events` from now on, and what happens to the interface. */
  start(events: BackingEvents): void {
    this.#monitor = this.#in(() =>
      new LinkMonitor((link, deleted) => {
        if (link.index !== this.index || this.closed) return;
        if (deleted) return events.gone();
        this.#name = link.name;
        events.changed();
      }, () => this.#present(events))
    );
  }

  /** The interface, after messages were lost; if it is not there, that was one of them. */
  #present(events: BackingEvents): Link[] {
    try {
      return [this.link()];
    } catch {
      events.gone();
      return [];
    }
  }

  /** As the kernel sees it. @throws `NotFound` (ENODEV) when it is gone */
  link(): Link {
    return this.#in(() => getLink(this.index));
  }

  /** Changes it. @throws what the kernel answers */
  set(settings: LinkSettings): void {
    this.#in(() => setLink(this.index, settings));
  }

  /** Nothing is sent: the frames of an interface of another kind are its own. */
  send(_memory: FrameMemory, _offset: number, _length: number): number {
    return -ENODEV;
  }

  /** Deletes the interface if it is ours; in any case it is let go. */
  close(): void {
    if (this.closed) return;
    this.closed = true;
    this.#monitor?.close();
    this.namespace?.close();
  }

  /** The interface's present name. */
  get name(): string {
    return this.#name;
  }
}

/** A TAP: what the kernel sends comes to the class, and what the class sends comes to the kernel. */
export class TapBacking extends KernelBacking {
  readonly #tap: TapDevice;
  readonly #sink: FrameSink;
  readonly #tx = new TxFrame();
  #events: BackingEvents | null = null;
  #scheduled = false;
  #retry: ReturnType<typeof setTimeout> | undefined;

  /** Takes over an open TAP. */
  constructor(tap: TapDevice, namespace: Descriptor | null) {
    super(tap.name, namespace);
    this.#tap = tap;
    this.#sink = { frame: (memory, offset, length) => this.#events?.frame(memory, offset, length) };
  }

  override start(events: BackingEvents): void {
    super.start(events);
    this.#events = events;
    this.#tap.open(() => this.#arrived());
    this.#arrived();
  }

  #arrived(): void {
    if (this.#scheduled || this.closed) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    if (this.closed) return;
    const count = this.#tap.receive(this.#sink, BURST);
    if (this.closed) return;
    if (count === BURST) return this.#arrived();
    if (count >= 0) return this.#tap.arm();
    // The monitor tells about deletion; anything else passes.
    if (this.#retry === undefined && count !== -ENODEV) {
      this.#retry = setTimeout(() => {
        this.#retry = undefined;
        this.#arrived();
      }, DOWN_RETRY_MS);
    }
  };

  override send(memory: FrameMemory, offset: number, length: number): number {
    const tx = this.#tx;
    tx.reset(length);
    tx.memory = memory;
    tx.offset = offset;
    return this.#tap.transmit(tx);
  }

  override close(): void {
    if (this.closed) return;
    clearTimeout(this.#retry);
    this.#tap.close();
    super.close();
  }
}

/** How a device of the kernel is made. */
export interface KernelOptions {
  /** Where. Default: the namespace of the calling thread. */
  namespace?: NamespaceReference;
  /** The interface's MAC address. */
  mac?: Uint8Array;
  /** Bytes of IP packet. */
  mtu?: number;
  /** False: IFF_NOARP. */
  arp?: boolean;
  /** An interface of that name that exists is taken, of whatever kind it is. */
  existOk: boolean;
}

/** What an interface that existed is; its address only where that has six bytes. */
export interface Existed {
  readonly mtu: number;
  /** Bits of IFF_…, without those of one that is up. */
  readonly flags: number;
  readonly mac?: Uint8Array<ArrayBuffer>;
}

function existed({ mtu, flags, mac }: Link): Existed {
  const down = flags & 0xffff & ~(IFF_UP | IFF_RUNNING);
  // Also one of zeros, as the loopback's is.
  return mac === ""
    ? { mtu, flags: down }
    : { mtu, flags: down, mac: Uint8Array.from(mac.split(":"), (part) => parseInt(part, 16)) };
}

/**
 * Makes a TAP, or takes the interface that is there.
 *
 * @throws `AlreadyExists` (EEXIST) for a name that exists without `existOk`; what opening a TAP throws
 */
export function openKernel(name: string, options: KernelOptions): { backing: KernelBacking; existed: Existed | null } {
  const namespace = options.namespace === undefined ? null : inNamespace(options.namespace, currentNamespace);
  try {
    const there = within(namespace, () => linkExists(name) ? getLink(name) : null);
    if (there !== null && !options.existOk) {
      throw errnoError("create", `device "${name}"`, EEXIST, "Register it with `existOk` to take the one that is there");
    }
    // An interface of another kind (a TUN too, which carries no Ethernet), or one that another program has, is used as it is.
    const tap = there?.kind === "tun" && there.type === ARPHRD_ETHER;
    if (there !== null && (!tap || there.carrier)) {
      return { backing: new KernelBacking(name, namespace), existed: existed(there) };
    }
    const device = within(namespace, () => TapDevice.open({ name, offload: false, mac: options.mac }));
    try {
      const backing = new TapBacking(device, namespace);
      const first = { mac: options.mac, mtu: options.mtu, arp: options.arp };
      if (there === null && Object.values(first).some((value) => value !== undefined)) backing.set(first);
      return { backing, existed: there === null ? null : existed(there) };
    } catch (error) {
      device.close();
      throw error;
    }
  } catch (error) {
    namespace?.close();
    throw error;
  }
}
