/**
 * Faults between a device and its user: a slow, full, lossy or broken link, in front of anything that carries frames.
 *
 * @module
 */
import { EAGAIN, ENODEV, OK } from "../stack/codes.ts";
import {
  type Device,
  type DeviceCapabilities,
  type FrameMemory,
  type FrameSink,
  RX_CHECKSUM_PARTIAL,
  TxFrame,
} from "../stack/device.ts";
import { type Clock, systemClock } from "../stack/host/clock.ts";
import { checkClock, checkObject, checkSwitch } from "../stack/checks.ts";
import { seededRandom32 } from "../stack/host/random.ts";
import { checkDirections, type LinkConditions } from "./conditions.ts";
import { locateChecksum, Normalizer } from "./normalize.ts";
import { type DirectionStatistics, Pipe } from "./pipe.ts";
import { Alarm } from "./schedule.ts";

/** Conditions of both directions, and of one alone where they differ. */
export interface FaultConditions extends LinkConditions {
  /** From the device to its user only. */
  in?: LinkConditions;
  /** From the user to the device only. */
  out?: LinkConditions;
}

/** Options of {@link faults}. */
export interface FaultOptions extends FaultConditions {
  /** Chooses what is lost, and everything else by chance: the same seed and the same frames give the same faults. Default 1. */
  seed?: number;
  /** Where time comes from: the same clock as the stack's. Default: the machine's. */
  clock?: Clock;
  /** Lowers the MTU that the device tells its user, in bytes of IP packet. Frames that come in larger are dropped. */
  mtu?: number;
  /**
   * Treat super-frames of up to 64 KiB as one packet each. Default false: they are cut, and faults act on packets as they are
   * on a wire.
   */
  superFrames?: boolean;
}

/** A device with faults in front of it; made by {@link faults}. */
export interface FaultyDevice extends Device {
  /** Changes conditions, at once; what isn't named stays as it is. Throws RangeError or TypeError with nothing changed. */
  set(conditions: FaultConditions): void;
  /** Breaks the link: what is on it, and everything from now on, is lost. Neither end is told. */
  down(): void;
  /** Mends it. */
  up(): void;
  /** What became of the frames: a copy. `in` is what came from the device, `out` what went to it. */
  readonly faults: { in: DirectionStatistics; out: DirectionStatistics };
}

/** Numbers from 0 up to 1 for one direction. */
export function randomFor(seed: number, direction: number): () => number {
  const next = seededRandom32(Math.imul(seed, 0x9e3779b1) + direction * 0x632be5ab);
  return () => next() / 4_294_967_296;
}

const PLAIN = { rxChecksum: false, txChecksum: false, txSegmentation: 0 };

class Faulty implements FaultyDevice, FrameSink {
  readonly name: string;
  readonly medium: "ethernet" | "ip";
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly capabilities: DeviceCapabilities;
  readonly #device: Device;
  readonly #clock: Clock;
  readonly #in: Pipe;
  readonly #out: Pipe;
  readonly #alarm: Alarm;
  /** Null: super-frames are left whole. */
  readonly #normalizer: Normalizer | null;
  readonly #entering = new TxFrame();
  readonly #leaving = new TxFrame();
  #now = 0;
  #wake: () => void = () => {};
  /** The device had no room for the frame at the head of `#out`. */
  #stuck = false;
  #closed = false;

  constructor(device: Device, options: FaultOptions) {
    checkObject(options);
    const { seed = 1, clock = systemClock, superFrames = false, mtu = device.mtu } = options;
    if (!Number.isFinite(seed)) throw new RangeError(`seed must be a number: ${seed}`);
    checkClock(clock);
    checkSwitch("superFrames", superFrames);
    if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= device.mtu)) {
      throw new RangeError(`mtu must be 68 to the device's ${device.mtu} bytes: ${mtu}`);
    }
    const ethernet = device.medium === "ethernet";
    this.#in = new Pipe(ethernet, randomFor(seed, 1), new TxFrame());
    this.#out = new Pipe(ethernet, randomFor(seed, 2), new TxFrame());
    this.#device = device;
    this.#clock = clock;
    this.name = device.name;
    this.medium = device.medium;
    this.mtu = mtu;
    this.mac = device.mac;
    this.capabilities = superFrames ? device.capabilities : { ...PLAIN, rxFrame: device.capabilities.rxFrame };
    this.#normalizer = superFrames ? null : new Normalizer(ethernet, (frame) => this.#enter(frame, 0));
    this.#alarm = new Alarm(clock, () => this.#ring());
    this.set(options);
  }

  set(conditions: FaultConditions): void {
    checkDirections(conditions, "in", "out");
    const incoming = this.#in.check({ ...conditions, ...conditions.in });
    const outgoing = this.#out.check({ ...conditions, ...conditions.out });
    const now = this.#clock.now();
    if (this.mtu < this.#device.mtu) incoming.blackHole = Math.min(incoming.blackHole, this.mtu);
    this.#in.apply(incoming, now);
    this.#out.apply(outgoing, now);
    this.#plan();
  }

  down(): void {
    const now = this.#clock.now();
    this.#in.setDown(true, now);
    this.#out.setDown(true, now);
  }

  up(): void {
    const now = this.#clock.now();
    this.#in.setDown(false, now);
    this.#out.setDown(false, now);
  }

  open(wake: () => void): void {
    this.#device.open(() => {
      // Not from inside the device's call: the alarm tries again.
      if (this.#stuck) this.#alarm.set(this.#clock.now());
      wake();
    });
    this.#wake = wake;
  }

  arm(): void {
    this.#device.arm();
    this.#plan();
  }

  #plan(): void {
    if (this.#closed) return;
    this.#alarm.set(Math.min(this.#in.nextAt(), this.#stuck ? Infinity : this.#out.nextAt()));
  }

  #ring(): void {
    if (this.#closed) return;
    const now = this.#clock.now();
    this.#stuck = false;
    this.#drain(now);
    this.#device.flush?.();
    // `receive` and then `arm` follow a call of `wake`, and plan what comes in next.
    if (this.#in.nextAt() <= now) this.#wake();
    else this.#alarm.set(this.#in.nextAt());
    if (!this.#stuck) this.#alarm.set(this.#out.nextAt());
  }

  receive(sink: FrameSink, budget: number): number {
    const now = this.#now = this.#clock.now();
    const count = this.#device.receive(this, budget);
    if (count < 0) return count;
    return this.#in.take(sink, budget, now);
  }

  /** A frame of the device. */
  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    if (this.#normalizer !== null) return this.#normalizer.frame(memory, offset, length, flags, segmentSize);
    const frame = this.#entering;
    frame.reset(length);
    frame.memory = memory;
    frame.offset = offset;
    if ((flags & RX_CHECKSUM_PARTIAL) !== 0) locateChecksum(frame, this.medium === "ethernet");
    frame.segmentSize = segmentSize;
    this.#enter(frame, flags);
  }

  #enter(frame: TxFrame, flags: number): void {
    this.#in.enter(frame, flags, this.#now);
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    const out = this.#out;
    if (out.transparent && !this.#stuck) {
      const size = frame.size;
      const code = this.#device.transmit(frame);
      if (code === OK) out.passed(size);
      return code;
    }
    const now = this.#clock.now();
    out.enter(frame, 0, now);
    this.#drain(now);
    if (!this.#stuck) this.#alarm.set(out.nextAt());
    return OK;
  }

  /** Gives the device what has arrived at it. */
  #drain(now: number): void {
    if (this.#stuck) return;
    const out = this.#out;
    for (let slot = out.due(now); slot >= 0; slot = out.due(now)) {
      const code = this.#device.transmit(this.#describe(slot));
      if (code === EAGAIN) {
        this.#stuck = true;
        return;
      }
      out.shift(code === OK);
    }
  }

  #describe(slot: number): TxFrame {
    const { pool } = this.#out;
    const frame = this.#leaving;
    const segmentSize = pool.segmentSize[slot];
    // A driver may put a header of its own in front: then the frame's headers must stand where there is room.
    const length = pool.length[slot];
    const inline = Math.min(length, segmentSize > 0 ? pool.segmentHeaderLength[slot] : INLINE_BYTES);
    const memory = pool.memory(slot);
    const offset = pool.offset(slot);
    frame.reset(inline);
    for (let i = 0; i < inline; i++) frame.memory.bytes[frame.offset + i] = memory.bytes[offset + i];
    if (length > inline) {
      frame.payload = memory;
      frame.payloadOffset1 = offset + inline;
      frame.payloadLength1 = length - inline;
    }
    frame.checksumStart = pool.checksumStart[slot];
    frame.checksumOffset = pool.checksumOffset[slot];
    frame.segmentSize = segmentSize;
    frame.segmentHeaderLength = pool.segmentHeaderLength[slot];
    return frame;
  }

  flush(): void {
    this.#device.flush?.();
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#alarm.clear();
    this.#in.close();
    this.#out.close();
    this.#device.close();
  }

  ref(): void {
    this.#alarm.reference(true);
    this.#device.ref?.();
  }

  unref(): void {
    this.#alarm.reference(false);
    this.#device.unref?.();
  }

  get faults(): { in: DirectionStatistics; out: DirectionStatistics } {
    return { in: this.#in.statistics(), out: this.#out.statistics() };
  }

  statistics(): Record<string, number> {
    const all: Record<string, number> = { ...this.#device.statistics?.(), ...this.#normalizer?.counters };
    for (const [name, value] of Object.entries(this.#in.statistics())) all[`in.${name}`] = value;
    for (const [name, value] of Object.entries(this.#out.statistics())) all[`out.${name}`] = value;
    return all;
  }
}

/** Bytes of a frame that are put behind the headroom: link, IP and TCP headers with all their options. */
const INLINE_BYTES = 138;

/**
 * Puts faults between any device and its user: in memory, or a TAP, so that the real kernel is at the other end of a bad link.
 * All are seeded, and go by the clock that is given; all can be changed while frames are under way. On the machine's clock
 * times are true to about 2 ms.
 *
 * Each packet meets in turn: `blackHole`; the queue, if there is a `rate`; `drop`; `loss`; `corrupt`; `delay` and `jitter`;
 * `reorder`; `duplicate`. In each direction at most 64 MiB are under way. Without `superFrames` the returned device has no
 * offload, and cuts what the device delivers in one piece (IPv4; other super-frames are dropped and counted).
 *
 * @param device any device that isn't opened yet; it is opened and closed with the returned one
 * @param options conditions of both directions, of one under `in` or `out`, and `seed`, `clock`, `mtu`, `superFrames`
 * @returns a device to be used in its place
 * @throws {RangeError | TypeError} for an option that is wrong, before the device is touched
 *
 * @example
 * ```ts
 * import { cable, faults, ManualClock, NetStack } from "@tapioca/tapioca";
 *
 * const clock = new ManualClock();
 * const [left, right] = cable();
 * const bad = faults(right, { delay: 50, out: { loss: 0.5 }, seed: 7, clock });
 * using alice = new NetStack(left, { address: "10.0.0.1/24", clock, seed: 1 });
 * using bob = new NetStack(bad, { address: "10.0.0.2/24", clock, seed: 2 });
 * const reply = await clock.run(bob.ping("10.0.0.1", { timeoutMs: 60_000 }).catch(() => null));
 * console.log(reply?.roundTripMs ?? "lost", bad.faults.out.lost, alice.addresses.length);
 * ```
 */
export function faults(device: Device, options: FaultOptions = {}): FaultyDevice {
  return new Faulty(device, options);
}
