/**
 * A virtio network device as its registers show it (virtio 1.2, 2.1, 2.2, 3.1 and 5.1): features, status, queues,
 * configuration, control queue. `MmioDevice` and `PciDevice` are the registers; whatever a guest writes into them ends here.
 *
 * @module
 */
import type { FrameSink, TxFrame } from "../../stack/device.ts";
import { ENETDOWN } from "../../stack/codes.ts";
import { Chain } from "./chain.ts";
import { ControlCommands } from "./control_queue.ts";
import { consistent, featureNames, FEATURES, wrongChoice } from "./features.ts";
import type { SharedMemory } from "./memory.ts";
import { CONFIG_CHANGED, type InterruptTarget } from "./interrupts.ts";
import * as c from "./net_config.ts";
import { type CheckedNetOptions, checkNetOptions, CONTROL_QUEUE_SIZE, LEGACY_FEATURES } from "./net_options.ts";
import type { VirtioNetOptions } from "./net_options.ts";
import type { DeviceQueue } from "./queue.ts";
import { type QueuePart, QueueRegisters } from "./queue_registers.ts";
import { ReceiveFilter } from "./receive_filter.ts";
import { RingDevice } from "./ring_device.ts";

/**
 * The host's end of a virtio network device that is made of registers.
 *
 * ```ts ignore
 * const memory = SharedMemory.of(new Uint8Array(new SharedArrayBuffer(64 << 20)));
 * const device = new VirtioNetDevice(memory, { mtu: 1500 });
 * const registers = new MmioDevice(device, { interrupt: (up) => … });
 * const stack = new NetStack(device, { address: "10.0.2.2/24" });
 * ```
 */
export class VirtioNetDevice extends RingDevice implements Disposable {
  readonly #memory: SharedMemory;
  readonly #options: CheckedNetOptions;
  readonly #queues: QueueRegisters[];
  readonly #config = new c.ConfigSpace();
  readonly #filter = new ReceiveFilter();
  readonly #commands: ControlCommands;
  readonly #chain = new Chain();
  #control: DeviceQueue | null = null;
  /** A command waits that the last kick had no time for. */
  #controlWaits = false;
  #target: InterruptTarget | null = null;
  #status = 0;
  #chosen = 0n;
  #legacy = false;
  #generation = 0;
  #interrupts = 0;
  #linkUp = true;
  /** Why the driver's last choice of features was refused, or null. */
  refusal: string | null = null;
  readonly #own = { resets: 0, featuresRefused: 0, txFiltered: 0, badAccesses: 0 };

  /**
   * A device without registers yet, and so without a driver.
   *
   * @param memory what the guest's addresses mean
   * @throws {TypeError | RangeError} for impossible options
   */
  constructor(memory: SharedMemory, options: VirtioNetOptions = {}) {
    const checked = checkNetOptions(options);
    super(checked.name, checked.mtu, checked.mac);
    this.#memory = memory;
    this.#options = checked;
    this.#queues = Array.from(
      { length: checked.pairs * 2 + 1 },
      (_, i) => new QueueRegisters(i === checked.pairs * 2 ? Math.min(CONTROL_QUEUE_SIZE, checked.queueSize) : checked.queueSize),
    );
    this.#commands = new ControlCommands({
      features: () => this.features,
      filter: this.#filter,
      pairs: checked.pairs,
      usePairs: (pairs) => this.setPairs(pairs),
      useOffloads: (bits) => this.setGuestOffloads(bits),
      useMac: (mac) => this.#config.bytes.set(mac),
      announced: () => this.#setLink(0, c.LINK_ANNOUNCE, false),
    });
    this.#fillConfig();
  }

  #fillConfig(): void {
    this.#config.fill(
      this.#options.guestMac,
      this.#linkUp ? c.LINK_UP : 0,
      this.#options.pairs,
      this.mtu,
      this.#options.speedMbps,
    );
  }

  /** Tells where interrupts go: whoever shows the registers to the guest. */
  connect(target: InterruptTarget): void {
    if (this.#target !== null) throw new Deno.errors.Busy(`device "${this.name}" has registers already`);
    this.#target = target;
  }

  /** What is offered; a legacy driver sees 32 bits. */
  offered(legacy: boolean): bigint {
    const { offered } = this.#options;
    return legacy ? consistent(offered & LEGACY_FEATURES) | FEATURES.ANY_LAYOUT : offered;
  }

  /** What the driver has chosen so far. */
  get chosen(): bigint {
    return this.#chosen;
  }

  /** 32 bits of the driver's choice; word 0 or 1, and nothing once it is settled. */
  choose(word: number, bits: number, legacy: boolean): void {
    const settled = (this.#status & (legacy ? c.STATUS_DRIVER_OK : c.STATUS_FEATURES_OK)) !== 0;
    if (word > 1 || settled) {
      // A modern driver clears the words that nobody has bits in yet.
      if (settled || bits !== 0) this.badAccess();
      return;
    }
    const shift = BigInt(32 * word);
    this.#chosen = (this.#chosen & ~(0xffff_ffffn << shift)) | (BigInt(bits >>> 0) << shift);
  }

  /** The device status register. */
  get status(): number {
    return this.#status;
  }

  /** The driver writes the status: 0 resets, other bits are added. */
  setStatus(value: number, legacy: boolean): void {
    if (value === 0) return this.#reset();
    this.#legacy = legacy;
    // Bits can't be taken back, and what needs a reset says so itself.
    const news = value & ~this.#status & ~c.STATUS_NEEDS_RESET & 0xff;
    if ((this.#status & c.STATUS_NEEDS_RESET) !== 0) return;
    this.#status |= news & ~(c.STATUS_FEATURES_OK | c.STATUS_DRIVER_OK);
    if ((this.#status & c.STATUS_FAILED) !== 0) return this.#stop();
    if ((news & c.STATUS_FEATURES_OK) !== 0 && !legacy) this.#settle();
    if ((news & c.STATUS_DRIVER_OK) !== 0) this.#start();
  }

  /** Takes the driver's choice of features, or leaves FEATURES_OK away. */
  #settle(): void {
    const old = (this.#chosen & FEATURES.VERSION_1) === 0n ? "without VERSION_1, over registers that are not legacy" : null;
    this.refusal = old ?? wrongChoice(this.#options.offered, this.#chosen);
    if (this.refusal === null) this.#status |= c.STATUS_FEATURES_OK;
    else this.#own.featuresRefused++;
  }

  #start(): void {
    const legacy = this.#legacy;
    if (!legacy && (this.#status & c.STATUS_FEATURES_OK) === 0) {
      return this.fail("DRIVER_OK before the features were agreed on");
    }
    // A legacy driver can't be told that its choice makes no sense.
    if (legacy) this.#chosen = consistent(this.#chosen & this.offered(true));
    this.#status |= c.STATUS_DRIVER_OK;
    this.agree(this.#chosen);
    this.setPairs(1);
    this.#filter.reset((this.#chosen & FEATURES.NET_CTRL_VLAN) !== 0n);
    for (let i = 0; i < this.#queues.length && this.fault === null; i++) this.#startQueue(i);
  }

  #has(feature: bigint): boolean {
    return (this.#chosen & feature) !== 0n;
  }

  /** Which queue takes commands: behind all others; -1 for none. */
  get #controlIndex(): number {
    return this.#has(FEATURES.NET_CTRL_VQ) ? this.#frameQueues : -1;
  }

  get #frameQueues(): number {
    return this.#has(FEATURES.NET_MQ) ? 2 * this.#options.pairs : 2;
  }

  #startQueue(index: number): void {
    const registers = this.#queues[index];
    const control = index === this.#controlIndex;
    if (!registers.enabled || (!control && index >= this.#frameQueues)) return;
    let queue: DeviceQueue;
    try {
      queue = registers.start(this.#memory, this.#chosen);
    } catch (error) {
      if (!(error instanceof RangeError)) throw error;
      return this.fail(`queue ${index}: ${error.message}`);
    }
    if (control) this.#control = queue;
    else this.setQueue(index, queue);
  }

  #stop(): void {
    this.#control = null;
    this.#controlWaits = false;
    for (let i = 0; i < 2 * this.#options.pairs; i++) this.setQueue(i, null);
  }

  #reset(): void {
    this.#own.resets++;
    this.#stop();
    for (const queue of this.#queues) queue.reset();
    this.#status = 0;
    this.#interrupts = 0;
    this.#chosen = 0n;
    this.#legacy = false;
    this.fault = this.refusal = null;
    this.agree(0n);
    this.setPairs(1);
    this.#filter.reset(false);
    this.#fillConfig();
    this.#target?.reset();
    this.#target?.line(false);
  }

  /** Queues that there are, the control queue included. */
  get queueCount(): number {
    return this.#queues.length;
  }

  /** What the driver has said about queue `index`; null if there is none. */
  queueRegisters(index: number): QueueRegisters | null {
    return this.#queues[index] ?? null;
  }

  /** A size from the driver. One that can't be is left to fail when the queue starts. */
  setQueueSize(index: number, size: number): void {
    if (this.#queues[index]?.setSize(size) !== true) this.badAccess();
  }

  /** Half of an address from the driver: 32 bits, low (0) or high (1). */
  setQueueAddress(index: number, part: QueuePart, half: number, bits: number): void {
    if (this.#queues[index]?.setAddress(part, half, bits) !== true) this.badAccess();
  }

  /** Puts a queue to use, at once if the driver runs already. */
  enableQueue(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined || queue.enabled) return this.badAccess();
    queue.enabled = true;
    if ((this.#status & (c.STATUS_DRIVER_OK | c.STATUS_NEEDS_RESET)) === c.STATUS_DRIVER_OK) this.#startQueue(index);
  }

  /** Takes a queue out of use; its addresses stay. */
  disableQueue(index: number): void {
    const queue = this.#queues[index];
    if (queue === undefined) return this.badAccess();
    queue.enabled = false;
    if (index === this.#controlIndex) this.#control = null;
    else if (index < 2 * this.#options.pairs) this.setQueue(index, null);
  }

  /** The one address of a legacy queue: its parts follow one another, the used ring at the next multiple of `align`. 0 ends it. */
  setLegacyQueue(index: number, address: number, align: number): void {
    this.disableQueue(index);
    const queue = this.#queues[index];
    if (queue === undefined || address === 0) return;
    if (!queue.setLegacy(address, align)) return this.fail(`queue ${index}: size ${queue.size}, alignment ${align}`);
    this.enableQueue(index);
  }

  /** The driver has something new in queue `index`. */
  notify(index: number): void {
    if ((this.#status & c.STATUS_DRIVER_OK) === 0 || index >= this.#queues.length) return this.badAccess();
    if (index === this.#controlIndex) this.#runControl();
    else this.kicked(index);
  }

  /** Carries commands out, as many as fit in the queue at once: what a driver adds meanwhile has its turn later. */
  #runControl(): void {
    const queue = this.#control;
    if (queue === null) return;
    this.#controlWaits = false;
    let done = 0;
    for (; done < queue.size; done++) {
      const code = queue.take(this.#chain);
      if (code === 0) break;
      if (code > 0) queue.broken = ControlCommands.malformed(this.#chain);
      if (queue.broken !== null) return this.fail(queue.broken);
      queue.give(this.#chain.id, this.#chain.descriptors, this.#commands.run(this.#chain));
    }
    if (queue.publish()) this.interrupt(this.#controlIndex);
    if (queue.wantKicks(true)) {
      this.#controlWaits = true;
      this.news();
    }
  }

  /** Hands frames from the guest to `sink`. */
  override receive(sink: FrameSink, budget: number): number {
    if (this.#controlWaits) this.#runControl();
    return super.receive(sink, budget);
  }

  /** Sends a frame to the guest, if the guest wants such frames. */
  override transmit(frame: TxFrame): number {
    if (!this.#linkUp && !this.closed) {
      this.counters.txDown++;
      return ENETDOWN;
    }
    if (this.running && !this.#filter.wants(frame.memory.bytes, frame.offset, frame.length, this.#config.bytes)) {
      this.#own.txFiltered++;
      return 0;
    }
    return super.transmit(frame);
  }

  /** Tells the driver of queue `index`. */
  protected override interrupt(index: number): void {
    if (this.#target?.message(index) === true) return;
    this.#interrupts |= c.INTERRUPT_USED;
    this.#target?.line(true);
  }

  /** Asks the driver for a reset. */
  protected override broke(): void {
    this.#control = null;
    const ran = (this.#status & c.STATUS_DRIVER_OK) !== 0;
    this.#status |= c.STATUS_NEEDS_RESET;
    if (ran) this.#tellConfig();
  }

  #tellConfig(): void {
    this.#generation++;
    this.#interrupts |= c.INTERRUPT_CONFIG;
    if (this.#target?.message(CONFIG_CHANGED) !== true) this.#target?.line(true);
  }

  /** The interrupt status register. */
  get interruptStatus(): number {
    return this.#interrupts;
  }

  /** The driver has seen these bits of the interrupt status. */
  acknowledge(bits: number): void {
    this.#interrupts &= ~bits;
    this.#target?.line(this.#interrupts !== 0);
  }

  /** Grows with every change of the configuration. */
  get configGeneration(): number {
    return this.#generation;
  }

  /** Reads 1, 2 or 4 bytes of the configuration. */
  readConfig(offset: number, size: number): number {
    return this.#config.read(offset, size);
  }

  /** Only a legacy driver writes here, and only its address, when it has no command for that. */
  writeConfig(offset: number, size: number, value: number, legacy: boolean): void {
    if (!legacy || offset < 0 || offset + size > 6 || this.#has(FEATURES.NET_CTRL_MAC_ADDR)) return this.badAccess();
    for (let i = 0; i < size; i++) this.#config.bytes[offset + i] = value >>> (8 * i);
  }

  /** Counts an access to registers that makes no sense. */
  badAccess(): void {
    this.#own.badAccesses++;
  }

  #setLink(set: number, clear: number, tell: boolean): void {
    this.#config.status = (this.#config.status & ~clear) | set;
    if (tell && (this.#status & c.STATUS_DRIVER_OK) !== 0 && this.#has(FEATURES.NET_STATUS)) this.#tellConfig();
  }

  /** Plugs the guest's cable in, or out. */
  setLink(up: boolean): void {
    if (up === this.#linkUp) return;
    this.#linkUp = up;
    this.#setLink(up ? c.LINK_UP : 0, c.LINK_UP, true);
    this.news();
  }

  /** Asks the guest to announce its addresses, as after a move. False if it can't. */
  announce(): boolean {
    if ((this.#status & c.STATUS_DRIVER_OK) === 0 || !this.#has(FEATURES.NET_GUEST_ANNOUNCE)) return false;
    this.#setLink(c.LINK_ANNOUNCE, 0, true);
    return true;
  }

  /** What was agreed on, by name. */
  get agreedFeatures(): string[] {
    return featureNames(this.features);
  }

  /** The address that the guest has now. */
  get guestMac(): Uint8Array {
    return this.#config.bytes.slice(0, 6);
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  /** Frames and bytes each way, commands, and what failed, by reason. */
  override statistics(): Record<string, number> {
    return { ...super.statistics(), ...this.#own, ...this.#commands.counters };
  }
}
