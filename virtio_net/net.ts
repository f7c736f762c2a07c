/**
 * The seed's driver: brought up, then asked frame by frame, or left to move them to and from a {@link Nic}.
 *
 * @module
 */
import { NetDriver } from "../drivers/virtio/net_driver.ts";
import { type NetDriverOptions, PLAIN_FEATURES } from "../drivers/virtio/net_driver_options.ts";
import { readNetConfig } from "../drivers/virtio/transport.ts";
import { Config } from "./layouts.ts";
import type { FrameDevice, Nic } from "./nic.ts";

/** Largest frame that is moved at once. */
const FRAME_MAX = 65_557;
/** Frames moved before others have their turn. */
const BURST = 256;

/** A virtio network device behind a transport. */
export class Net implements FrameDevice, Disposable {
  readonly #options: NetDriverOptions;
  #driver: NetDriver | null = null;
  #opened = false;
  /** What the device's news is for: nothing while frames aren't moved. */
  #wake: () => void = () => {};
  #stop: (() => void) | null = null;

  /** Takes the transport, shared memory, and what differs from the defaults; nothing is touched before {@link init}. */
  constructor(options: NetDriverOptions) {
    // Whoever takes single frames wants them whole and finished: the features that the seed names, and no more.
    this.#options = { want: PLAIN_FEATURES, ...options };
  }

  /**
   * Brings the device up: reset, features, queues, all receive buffers posted.
   *
   * @throws {VirtioError} when the device can't be used: "incompatible device ID", "incompatible MTU", "queues unavailable" …
   */
  init(): void {
    if (this.#driver !== null) throw new Deno.errors.Busy("the device has been initialized already");
    this.#driver = new NetDriver(this.#options);
  }

  /** The driver below. @throws {Deno.errors.NotConnected} before {@link init} */
  get driver(): NetDriver {
    if (this.#driver === null) throw new Deno.errors.NotConnected("the device has not been initialized");
    return this.#driver;
  }

  /** To be called when the device raises an interrupt. */
  interrupt(vector?: number): void {
    this.#driver?.interrupt(vector);
  }

  /** The device's address. */
  get mac(): Uint8Array {
    return this.driver.mac;
  }

  /** Bytes of the header before each frame. */
  get headerLength(): number {
    return this.driver.headerLength;
  }

  /** The device's configuration, read now. */
  config(): Config {
    void this.driver;
    const { mac, status, pairs, mtu } = readNetConfig(this.#options.transport);
    return new Config(mac, status, pairs, mtu);
  }

  /** Takes one frame into `into`: its length, 0 for none. @throws {RangeError} "buffer too small" */
  rx(into: Uint8Array): number {
    return this.driver.rx(into);
  }

  /** Sends one frame. Returns 0, or a negative code with nothing sent. */
  tx(frame: Uint8Array): number {
    return this.driver.tx(frame);
  }

  /**
   * Moves frames between the device and a card until {@link stop}; then it may be started again, with this card or another one.
   *
   * @throws {Deno.errors.Busy} while it moves them already
   */
  start(nic: Nic): void {
    const { driver } = this;
    if (this.#stop !== null) throw new Deno.errors.Busy("the device has been started already");
    const buffer = new Uint8Array(FRAME_MAX);
    let scheduled = false;
    let stopped = false;
    let waiting: Uint8Array | null = null;
    const turn = () => {
      scheduled = false;
      if (stopped || driver.fault !== null) return;
      let moved = 0;
      for (; moved < BURST; moved++) {
        const length = driver.rx(buffer);
        if (length === 0) break;
        nic.rx(buffer.subarray(0, length));
      }
      for (; moved < 2 * BURST; moved++) {
        waiting ??= nic.tx();
        // What finds no room waits for the device's next interrupt.
        if (waiting === null || driver.tx(waiting) < 0) break;
        waiting = null;
      }
      if (moved > 0) schedule();
      else driver.arm();
    };
    const schedule = () => {
      if (scheduled || stopped) return;
      scheduled = true;
      setImmediate(turn);
    };
    if (!this.#opened) driver.open(() => this.#wake());
    this.#opened = true;
    this.#wake = nic.onTransmit = schedule;
    this.#stop = () => {
      stopped = true;
      this.#wake = nic.onTransmit = () => {};
    };
    schedule();
  }

  /** Ends {@link start}. A frame of the card's that waited for room is lost, as on a wire. */
  stop(): void {
    this.#stop?.();
    this.#stop = null;
  }

  /** Stops, resets the device and gives it up. */
  [Symbol.dispose](): void {
    this.stop();
    this.#opened = false;
    this.#driver?.close();
  }
}
