/**
 * A device that plugs into a vhost-user switch: DPDK's vhost port, Open vSwitch, VPP, another {@link VhostUserDevice}.
 *
 * @module
 */
import { parseMac } from "../../ffi/inet.ts";
import { createWaker, Hold, type Waker } from "../../ffi/poll.ts";
import { UnixListener, UnixSocket } from "../../ffi/unix_socket.ts";
import { ENETDOWN, ENODEV } from "../../stack/codes.ts";
import type { Device, DeviceCapabilities, FrameSink, TxFrame } from "../../stack/device.ts";
import { randomMac } from "../tap.ts";
import { NetDriver } from "./net_driver.ts";
import { SHARED_BYTES, VhostTransport } from "./vhost_transport.ts";

/** How often a socket that isn't there, or a back end that is none, is tried again, in milliseconds. */
const RETRY_MS = 250;

/** Options of {@link VhostUserPort.open}. */
export interface VhostPortOptions {
  /** Path of the unix socket, at most 107 bytes. */
  path: string;
  /** Wait for a back end that connects, instead of connecting to it. Default false. */
  listen?: boolean;
  /** For people. Default "vhost0". */
  name?: string;
  /** Largest IP packet in bytes, 68 to 65535. Default 1500. */
  mtu?: number;
  /** Our own address: text or six bytes. Default: a random one. */
  mac?: string | Uint8Array;
  /** Most entries of a queue. Default 256. */
  queueSize?: number;
  /** Features to ask for, of those that the driver knows. Default: all. */
  want?: bigint;
}

/**
 * A port of a vhost-user switch. While the switch is away the port is down; when it is there again it goes on.
 *
 * ```ts ignore
 * const port = await VhostUserPort.open({ path: "/run/switch.sock" });
 * const stack = new NetStack(port, { address: "10.0.0.2/24" });
 * ```
 */
export class VhostUserPort implements Device, Disposable {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly #options: VhostPortOptions;
  readonly #listener: UnixListener | null;
  readonly #waker: Waker | null;
  readonly #hold = new Hold();
  #transport: VhostTransport | null = null;
  #driver: NetDriver | null = null;
  #capabilities: DeviceCapabilities | null = null;
  #retry: ReturnType<typeof setTimeout> | null = null;
  #wake: (() => void) | null = null;
  #closed = false;
  #sessions = 0;
  readonly #first: PromiseWithResolvers<void> = Promise.withResolvers<void>();
  /** Why the last connection ended, or could not be used; null if the other side just went. */
  fault: string | null = null;

  private constructor(options: VhostPortOptions, mac: Uint8Array) {
    this.name = options.name ?? "vhost0";
    this.mtu = options.mtu ?? 1500;
    this.mac = mac;
    this.#options = options;
    this.#first.promise.catch(() => {});
    const listener = this.#listener = options.listen === true ? UnixListener.listen(options.path) : null;
    try {
      this.#waker = listener === null ? null : createWaker(listener.fd, () => this.#accept(), this.#hold);
    } catch (error) {
      listener?.close();
      throw error;
    }
    this.#waker?.arm();
    if (listener === null) this.#connect();
  }

  /**
   * Plugs in: resolves when the first back end has taken the rings.
   *
   * @throws {TypeError | RangeError} for impossible options, before anything is opened
   * @throws {Deno.errors.NotCapable} without `--allow-ffi`; the signal's reason when aborted
   */
  static async open(options: VhostPortOptions, signal?: AbortSignal): Promise<VhostUserPort> {
    if (typeof options !== "object" || options === null) throw new TypeError(`Invalid options ${options}: an object is needed`);
    const { path, mtu = 1500, mac, listen } = options;
    if (typeof path !== "string") throw new TypeError(`Invalid path ${path}: a text is needed`);
    if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
    if (listen !== undefined && typeof listen !== "boolean") throw new TypeError("listen must be true or false");
    signal?.throwIfAborted();
    const port = new VhostUserPort(options, mac === undefined ? randomMac() : parseMac(mac));
    const abort = () => port.#first.reject(signal!.reason);
    signal?.addEventListener("abort", abort);
    try {
      await port.#first.promise;
      return port;
    } catch (error) {
      port.close();
      throw error;
    } finally {
      signal?.removeEventListener("abort", abort);
    }
  }

  /** What the first back end could do; one that comes later and can do less is not taken. */
  get capabilities(): DeviceCapabilities {
    return this.#capabilities!;
  }

  /** A back end has our rings. */
  get connected(): boolean {
    return this.#driver !== null;
  }

  /** What was agreed on, by name. */
  get agreedFeatures(): string[] {
    return this.#driver?.agreedFeatures ?? [];
  }

  #accept(): void {
    const socket = this.#listener!.accept();
    if (this.#closed) return;
    this.#waker!.arm();
    if (typeof socket === "number") return;
    if (this.#transport === null) this.#begin(socket);
    else socket.close();
  }

  readonly #connect = (): void => {
    this.#retry = null;
    if (this.#closed) return;
    try {
      this.#begin(UnixSocket.connect(this.#options.path));
    } catch (error) {
      if (!(error instanceof Error) || !("code" in error)) {
        this.#first.reject(error);
        return;
      }
      this.#again();
    }
  };

  #again(): void {
    if (this.#listener === null && !this.#closed) this.#retry ??= this.#hold.withTimer(setTimeout(this.#connect, RETRY_MS));
  }

  async #begin(socket: UnixSocket): Promise<void> {
    let transport: VhostTransport;
    try {
      transport = new VhostTransport(
        socket,
        () => this.#driver?.interrupt(),
        (reason) => this.#lose(transport, reason),
        this.#hold,
      );
    } catch (error) {
      // No memory or no descriptors, now: there may be some later.
      this.fault = (error as Error).message;
      return this.#again();
    }
    this.#transport = transport;
    try {
      await transport.begin();
      if (this.#transport !== transport) return;
      this.#use(transport);
    } catch (error) {
      this.#lose(transport, (error as Error).message);
    }
  }

  #use(transport: VhostTransport): void {
    const { mtu, queueSize, want } = this.#options;
    const area = { address: transport.base, length: SHARED_BYTES };
    const driver = new NetDriver({
      transport,
      memory: transport.memory,
      area,
      name: this.name,
      mtu,
      mac: this.mac,
      queueSize,
      want,
    });
    const own = this.#capabilities;
    const can = driver.capabilities;
    if (
      own !== null && (own.txChecksum && !can.txChecksum || own.txSegmentation > can.txSegmentation || own.rxFrame < can.rxFrame)
    ) {
      driver.close();
      throw new RangeError("this back end can do less than the one before");
    }
    // It has gone meanwhile, and its end is told in a moment.
    if (transport.broken !== null) return driver.close();
    this.#capabilities ??= can;
    this.#sessions++;
    this.fault = null;
    driver.open(() => this.#wake?.());
    this.#driver = driver;
    this.#first.resolve();
    this.#wake?.();
  }

  #lose(transport: VhostTransport, reason: string | null): void {
    if (this.#transport !== transport) return;
    this.fault = reason;
    this.#transport = null;
    this.#driver?.close();
    this.#driver = null;
    transport.close();
    this.#wake?.();
    this.#again();
  }

  /** Attaches the device to its one user. */
  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    this.#driver?.arm();
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    const count = this.#driver?.receive(sink, budget) ?? 0;
    // A ring that makes no sense: the back end is left, and asked to begin anew.
    if (this.#driver !== null && this.#driver.fault !== null) this.#lose(this.#transport!, this.#driver.fault);
    return Math.max(0, count);
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    return this.#driver?.transmit(frame) ?? ENETDOWN;
  }

  flush(): void {
    this.#driver?.flush();
  }

  /** Lets the waiting for frames and for the other side keep the process alive, as at first. */
  ref(): void {
    this.#hold.ref();
  }

  /** Lets the process end although the device is in use. */
  unref(): void {
    this.#hold.unref();
  }

  /** Unplugs. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#wake = null;
    if (this.#retry !== null) clearTimeout(this.#retry);
    this.#driver?.close();
    this.#driver = null;
    this.#transport?.close();
    this.#transport = null;
    this.#waker?.close();
    this.#listener?.close();
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way since the last connection, and what failed, by reason. */
  statistics(): Record<string, number> {
    return { ...this.#driver?.statistics(), sessions: this.#sessions };
  }
}
