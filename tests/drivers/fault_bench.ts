/** A device of arrays behind faults, on a manual clock: what goes in when, and what comes out when. */
import { type FaultOptions, faults, type FaultyDevice, ManualClock } from "../../mod.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, TX_HEADROOM, TxFrame } from "../../stack/device.ts";

export interface Seen {
  at: number;
  bytes: Uint8Array<ArrayBuffer>;
  flags: number;
  segmentSize: number;
}

/** A device whose frames a test puts in and takes out. */
export class ArrayDevice implements Device {
  readonly name = "array0";
  readonly medium: "ethernet" | "ip";
  readonly mtu = 1500;
  readonly mac: Uint8Array | null;
  readonly capabilities: DeviceCapabilities;
  readonly waiting: { bytes: Uint8Array; flags: number; segmentSize: number }[] = [];
  readonly sent: Seen[] = [];
  /** Codes for the next calls of transmit; 0 when it is empty. */
  readonly codes: number[] = [];
  closed = 0;
  wake: () => void = () => {};
  readonly #clock: ManualClock;

  constructor(clock: ManualClock, medium: "ethernet" | "ip", offload: boolean) {
    this.#clock = clock;
    this.medium = medium;
    this.mac = medium === "ip" ? null : Uint8Array.of(2, 0, 0, 0, 0, 1);
    this.capabilities = { rxChecksum: offload, txChecksum: offload, txSegmentation: offload ? 65_553 : 0, rxFrame: 65_553 };
  }

  open(wake: () => void): void {
    this.wake = wake;
  }

  arm(): void {
    if (this.waiting.length > 0) this.wake();
  }

  receive(sink: FrameSink, budget: number): number {
    const all = this.waiting.splice(0, budget);
    for (const { bytes, flags, segmentSize } of all) {
      const memory = new FrameMemory(bytes.length + 7);
      memory.bytes.set(bytes, 7);
      sink.frame(memory, 7, bytes.length, flags, segmentSize);
    }
    return all.length;
  }

  transmit(frame: TxFrame): number {
    const code = this.codes.shift() ?? 0;
    if (code < 0) return code;
    const bytes = new Uint8Array(frame.size);
    frame.copyTo(bytes, 0);
    this.sent.push({ at: this.#clock.now(), bytes, flags: frame.checksumStart, segmentSize: frame.segmentSize });
    return 0;
  }

  close(): void {
    this.closed++;
  }
}

/** The bench: a faulty device over an {@link ArrayDevice}, and a user that receives whenever it is woken. */
export class Bench implements FrameSink, Disposable {
  readonly clock: ManualClock = new ManualClock();
  readonly device: ArrayDevice;
  readonly faulty: FaultyDevice;
  readonly received: Seen[] = [];
  readonly #tx = new TxFrame();

  constructor(options: FaultOptions, medium: "ethernet" | "ip" = "ip", offload = false) {
    this.device = new ArrayDevice(this.clock, medium, offload);
    this.faulty = faults(this.device, { clock: this.clock, ...options });
    this.faulty.open(() => this.receive());
    this.receive();
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.received.push({ at: this.clock.now(), bytes: memory.bytes.slice(offset, offset + length), flags, segmentSize });
  }

  receive(): void {
    while (this.faulty.receive(this, 64) === 64);
    this.faulty.arm();
  }

  /** Sends out. */
  send(bytes: Uint8Array): number {
    const tx = this.#tx;
    tx.reset(bytes.length);
    if (bytes.length + TX_HEADROOM > tx.memory.bytes.length) tx.memory = new FrameMemory(bytes.length + TX_HEADROOM);
    tx.memory.bytes.set(bytes, TX_HEADROOM);
    return this.faulty.transmit(tx);
  }

  /** Sends `count` numbered packets of `size` bytes, one every `everyMs`, and waits for all to come out. */
  stream(count: number, size: number, everyMs: number): Seen[] {
    const bytes = new Uint8Array(size);
    for (let i = 0; i < count; i++) {
      new DataView(bytes.buffer).setUint32(4, i);
      this.send(bytes);
      this.clock.advance(everyMs);
    }
    this.clock.runUntilIdle();
    return this.device.sent;
  }

  /** Lets a frame come in from the device. */
  arrive(bytes: Uint8Array, flags = 0, segmentSize = 0): void {
    this.device.waiting.push({ bytes, flags, segmentSize });
    this.device.wake();
  }

  [Symbol.dispose](): void {
    this.faulty.close();
  }
}

/** The number that {@link Bench.stream} has put into a packet. */
export function numberOf({ bytes }: Seen): number {
  return new DataView(bytes.buffer).getUint32(4);
}

/** What went in is what came out, was dropped for a reason, or is still under way. */
export function unaccounted(s: FaultyDevice["faults"]["in"]): number {
  const gone = s.lost + s.droppedByTest + s.droppedFull + s.droppedAqm + s.droppedLarge + s.droppedDown + s.droppedDevice;
  return s.sent + s.duplicated - s.delivered - gone - s.waiting - s.underWay;
}
