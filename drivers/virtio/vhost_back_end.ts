/**
 * The back end of vhost-user: a virtual machine (QEMU) or a DPDK program brings its virtio rings over a unix socket, and is
 * on a network of ours.
 *
 * @module
 */
import { createWaker, Hold, type Waker } from "../../ffi/poll.ts";
import { UnixListener, UnixSocket } from "../../ffi/unix_socket.ts";
import { parseMac } from "../../ffi/inet.ts";
import { randomMac } from "../tap.ts";
import { featureNames, FEATURES } from "./features.ts";
import type { DeviceQueue } from "./queue.ts";
import { PAIRS_MAX, RingDevice } from "./ring_device.ts";
import { type SessionOwner, VhostSession } from "./vhost_session.ts";

/** How often a socket that isn't there is tried again, in milliseconds. */
const RETRY_MS = 250;

const BASE = FEATURES.VERSION_1 | FEATURES.NET_MRG_RXBUF | FEATURES.RING_INDIRECT_DESC | FEATURES.RING_EVENT_IDX |
  FEATURES.RING_PACKED | FEATURES.IN_ORDER | FEATURES.ANY_LAYOUT | FEATURES.NET_STATUS | FEATURES.NET_CTRL_VQ;
const OFFLOAD = FEATURES.NET_CSUM | FEATURES.NET_GUEST_CSUM | FEATURES.NET_HOST_TSO4 | FEATURES.NET_GUEST_TSO4 |
  FEATURES.NET_HOST_ECN | FEATURES.NET_GUEST_ECN;

/** Options of {@link VhostUserDevice.open}. */
export interface VhostUserOptions {
  /** Path of the unix socket, at most 107 bytes. */
  path: string;
  /** Connect to a front end that listens, instead of listening; tried again until it is there. Default false. */
  connect?: boolean;
  /** For people. Default "vhost0". */
  name?: string;
  /** Largest IP packet of the stack in bytes, 68 to 65535. Default 1500. */
  mtu?: number;
  /** The address of our own end of the wire: text or six bytes. Default: a random one. */
  mac?: string | Uint8Array;
  /** Offer checksum and segmentation offload both ways. Default true. */
  offload?: boolean;
  /** Queue pairs to offer, 1 to 16. Default 1. */
  pairs?: number;
  /**
   * Refuse memory whose owner could shorten it while it is mapped here (a memfd without F_SEAL_SHRINK): touching what is gone
   * ends this process. QEMU seals its memory; DPDK doesn't. Default false.
   */
  sealedOnly?: boolean;
}

/**
 * A network device whose other end is a virtual machine or a DPDK program, over vhost-user. One front end at a time; when it
 * goes, the next may come.
 *
 * ```ts ignore
 * const device = VhostUserDevice.open({ path: "/tmp/net.sock" });
 * const stack = new NetStack(device, { address: "10.0.2.2/24" });
 * // qemu -chardev socket,id=c,path=/tmp/net.sock -netdev vhost-user,id=n,chardev=c -device virtio-net-pci,netdev=n …
 * ```
 */
export class VhostUserDevice extends RingDevice implements Disposable {
  readonly #options: VhostUserOptions;
  readonly #listener: UnixListener | null;
  readonly #waker: Waker | null;
  readonly #hold = new Hold();
  #session: VhostSession | null = null;
  #retry: ReturnType<typeof setTimeout> | null = null;
  #sessions = 0;
  #refused = 0;
  readonly #owner: SessionOwner;

  private constructor(options: VhostUserOptions, mac: Uint8Array) {
    super(options.name ?? "vhost0", options.mtu ?? 1500, mac);
    this.#options = options;
    const pairs = options.pairs ?? 1;
    this.#owner = {
      offered: BASE | (options.offload === false ? 0n : OFFLOAD) | (pairs > 1 ? FEATURES.NET_MQ : 0n),
      pairs,
      sealedOnly: options.sealedOnly === true,
      hold: this.#hold,
      agreed: (features) => this.agree(features),
      ringChanged: (index, queue) => this.#ringChanged(index, queue),
      ringKicked: (index) => this.kicked(index),
      ended: (reason) => this.#ended(reason),
    };
    if (options.connect === true) {
      this.#listener = this.#waker = null;
      this.#connect();
      return;
    }
    const listener = this.#listener = UnixListener.listen(options.path);
    try {
      this.#waker = createWaker(listener.fd, () => this.#accept(), this.#hold);
    } catch (error) {
      listener.close();
      throw error;
    }
    this.#waker.arm();
  }

  /**
   * Listens on (or connects to) the socket. The device is down until a front end has brought its rings.
   *
   * @throws {TypeError | RangeError} for impossible options, before anything is opened
   * @throws {Deno.errors.AddrInUse} when somebody else listens there
   * @throws {Deno.errors.NotCapable} without `--allow-ffi`
   */
  static open(options: VhostUserOptions): VhostUserDevice {
    if (typeof options !== "object" || options === null) throw new TypeError(`Invalid options ${options}: an object is needed`);
    const { path, mtu = 1500, pairs = 1, mac } = options;
    if (typeof path !== "string") throw new TypeError(`Invalid path ${path}: a text is needed`);
    if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
    if (!(Number.isInteger(pairs) && pairs >= 1 && pairs <= PAIRS_MAX)) {
      throw new RangeError(`pairs must be 1 to ${PAIRS_MAX}: ${pairs}`);
    }
    for (const name of ["connect", "offload", "sealedOnly"] as const) {
      if (options[name] !== undefined && typeof options[name] !== "boolean") throw new TypeError(`${name} must be true or false`);
    }
    return new VhostUserDevice(options, mac === undefined ? randomMac() : parseMac(mac));
  }

  #accept(): void {
    const socket = this.#listener!.accept();
    if (this.closed) return;
    this.#waker!.arm();
    if (typeof socket === "number") return;
    this.#begin(socket);
  }

  readonly #connect = (): void => {
    this.#retry = null;
    if (this.closed || this.#session !== null) return;
    try {
      this.#begin(UnixSocket.connect(this.#options.path));
    } catch (error) {
      if (!(error instanceof Error) || !("code" in error)) throw error;
    }
    if (this.#session === null) this.#again();
  };

  #again(): void {
    if (this.#options.connect !== true || this.closed) return;
    this.#retry ??= this.#hold.withTimer(setTimeout(this.#connect, RETRY_MS));
  }

  #begin(socket: UnixSocket): void {
    if (this.#session !== null) {
      // Two machines on one set of rings would be chaos.
      this.#refused++;
      socket.close();
      return;
    }
    // What the last front end has agreed on says nothing of this one.
    this.agree(0n);
    try {
      this.#session = new VhostSession(socket, this.#owner);
    } catch (error) {
      // No descriptors, now: there may be some later.
      socket.close();
      this.fault = (error as Error).message;
      this.#refused++;
      return;
    }
    this.#sessions++;
    this.fault = null;
  }

  #ended(reason: string | null): void {
    this.#session = null;
    if (reason !== null) {
      this.fault = reason;
      this.counters.faults++;
    }
    this.#again();
  }

  #ringChanged(index: number, queue: DeviceQueue | null): void {
    this.setQueue(index, queue);
    let pairs = 1;
    while (pairs < PAIRS_MAX && this.queue(2 * pairs) !== null && this.queue(2 * pairs + 1) !== null) pairs++;
    this.setPairs(pairs);
  }

  /** Rings the front end. */
  protected override interrupt(index: number): void {
    this.#session?.interrupt(index);
  }

  /** Tells the front end, where it has said how. */
  protected override broke(): void {
    this.#session?.broke();
  }

  /** A front end is connected. */
  get connected(): boolean {
    return this.#session !== null;
  }

  /** What was agreed on with the front end, by name. */
  get agreedFeatures(): string[] {
    return featureNames(this.features);
  }

  /** Lets the waiting for frames and for the other side keep the process alive, as at first. */
  ref(): void {
    this.#hold.ref();
  }

  /** Lets the process end although the device is in use. */
  unref(): void {
    this.#hold.unref();
  }

  /** Ends the connection and takes the socket away. A second call does nothing. */
  override close(): void {
    if (this.closed) return;
    super.close();
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#session?.close();
    this.#session = null;
    this.#waker?.close();
    this.#listener?.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way, connections, and what failed, by reason. */
  override statistics(): Record<string, number> {
    return {
      ...super.statistics(),
      sessions: this.#sessions,
      /** Front ends that came while another one was there, or while there were no descriptors for one more. */
      sessionsRefused: this.#refused,
      /** Memory regions that their owner could shorten. */
      unsealedRegions: this.#session?.unsealed ?? 0,
    };
  }
}
