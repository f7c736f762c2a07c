/**
 * The links of a simulated network, and the network cards that they are plugged into.
 *
 * @module
 */
import { ENODEV, OK } from "../stack/codes.ts";
import { type Device, type DeviceCapabilities, type FrameMemory, type FrameSink, TxFrame } from "../stack/device.ts";
import type { Clock } from "../stack/host/clock.ts";
import { checkDirections, type LinkConditions } from "./conditions.ts";
import { type DirectionStatistics, Pipe } from "./pipe.ts";
import { Alarm } from "./schedule.ts";

/** Link header with two tags. */
const LINK_HEADER = 22;

/** What a link's end is plugged into. */
export interface Jack {
  readonly name: string;
  /** The end of the link that is plugged in. */
  end: LinkEnd | null;
  /** Frames have arrived at the end, or will have: asked for by {@link LinkEnd.arm}. Must only take note. */
  arrived(): void;
  close(): void;
}

/** Writes down what goes in and comes out at one end. */
export interface EndCapture {
  sent(frame: TxFrame): void;
  received(memory: FrameMemory, offset: number, length: number): void;
}

/** Conditions of both directions of a link, and of one alone where they differ. */
export interface NetworkLinkOptions extends LinkConditions {
  /** From the first end to the second only. */
  aToB?: LinkConditions;
  /** From the second end to the first only. */
  bToA?: LinkConditions;
}

/** What became of a link's frames. */
export interface NetworkLinkStatistics {
  /** From the first end to the second. */
  aToB: DirectionStatistics;
  /** From the second end to the first. */
  bToA: DirectionStatistics;
}

/** One end of a link: a pipe out, and a pipe in. */
export class LinkEnd implements FrameSink {
  readonly #clock: Clock;
  readonly #in: Pipe;
  readonly #out: Pipe;
  readonly #jack: Jack;
  readonly #capture: EndCapture | null;
  readonly #alarm: Alarm;
  #peer: LinkEnd | null = null;
  #armed = false;
  #sink: FrameSink | null = null;

  constructor(clock: Clock, incoming: Pipe, outgoing: Pipe, jack: Jack, capture: EndCapture | null) {
    this.#clock = clock;
    this.#in = incoming;
    this.#out = outgoing;
    this.#jack = jack;
    this.#capture = capture;
    this.#alarm = new Alarm(clock, () => this.#plan());
  }

  join(peer: LinkEnd): void {
    this.#peer = peer;
  }

  /** Sends a frame, not before `at`. */
  send(frame: TxFrame, at: number = this.#clock.now()): void {
    this.#capture?.sent(frame);
    this.#out.enter(frame, 0, at);
    this.#peer!.#plan();
  }

  /** Asks for one call of `arrived` when a frame has arrived. */
  arm(): void {
    this.#armed = true;
    this.#plan();
  }

  #plan(): void {
    if (!this.#armed) return;
    const at = this.#in.nextAt();
    if (at > this.#clock.now()) return this.#alarm.set(at);
    this.#armed = false;
    this.#jack.arrived();
  }

  /** Conditions have changed: frames may arrive earlier than expected. */
  replan(): void {
    this.#plan();
  }

  receive(sink: FrameSink, budget: number): number {
    const now = this.#clock.now();
    if (this.#capture === null) return this.#in.take(sink, budget, now);
    this.#sink = sink;
    return this.#in.take(this, budget, now);
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.#capture!.received(memory, offset, length);
    this.#sink!.frame(memory, offset, length, flags, segmentSize);
  }

  close(): void {
    this.#armed = false;
    this.#alarm.clear();
    this.#in.close();
  }
}

/** A link of a {@link Network}: made by `net.link`. */
export class NetworkLink {
  /** For people: "alice - s1". */
  readonly name: string;
  readonly #clock: Clock;
  readonly #aToB: Pipe;
  readonly #bToA: Pipe;
  readonly #ends: readonly [LinkEnd, LinkEnd];
  readonly #jacks: readonly [Jack, Jack];
  #isDown = false;

  /** Plugs a link into two jacks; called by `net.link`. */
  constructor(
    clock: Clock,
    jacks: readonly [Jack, Jack],
    random: readonly [() => number, () => number],
    captures: readonly [EndCapture | null, EndCapture | null],
    options: NetworkLinkOptions,
  ) {
    const [a, b] = jacks;
    this.name = `${a.name} - ${b.name}`;
    this.#clock = clock;
    const scratch = new TxFrame();
    this.#aToB = new Pipe(true, random[0], scratch);
    this.#bToA = new Pipe(true, random[1], scratch);
    this.set(options);
    const endA = new LinkEnd(clock, this.#bToA, this.#aToB, a, captures[0]);
    const endB = new LinkEnd(clock, this.#aToB, this.#bToA, b, captures[1]);
    endA.join(endB);
    endB.join(endA);
    this.#ends = [endA, endB];
    this.#jacks = jacks;
    a.end = endA;
    b.end = endB;
    // A user may wait for frames already.
    a.arrived();
    b.arrived();
  }

  /**
   * Changes conditions, at once. What isn't named stays as it is; frames on the wire keep their times.
   *
   * @param options conditions of both directions, and of one under `aToB` or `bToA`
   * @throws {RangeError | TypeError} for a condition that is wrong, with nothing changed
   */
  set(options: NetworkLinkOptions): void {
    checkDirections(options, "aToB", "bToA");
    const there = this.#aToB.check({ ...options, ...options.aToB });
    const back = this.#bToA.check({ ...options, ...options.bToA });
    const now = this.#clock.now();
    this.#aToB.apply(there, now);
    this.#bToA.apply(back, now);
    for (const end of this.#ends ?? []) end.replan();
  }

  /** True between {@link down} and {@link up}. */
  get isDown(): boolean {
    return this.#isDown;
  }

  /** Cuts the link: what is on it, and everything from now on, is lost and counted. Neither end is told. */
  down(): void {
    this.#setDown(true);
  }

  /** Mends it. */
  up(): void {
    this.#setDown(false);
  }

  #setDown(down: boolean): void {
    const now = this.#clock.now();
    this.#isDown = down;
    this.#aToB.setDown(down, now);
    this.#bToA.setDown(down, now);
  }

  /** What became of the frames: a copy. */
  get statistics(): NetworkLinkStatistics {
    return { aToB: this.#aToB.statistics(), bToA: this.#bToA.statistics() };
  }

  /** Unplugs the link and forgets it, with everything on it. A second call does nothing. */
  close(): void {
    this.#ends.forEach((end, i) => {
      if (this.#jacks[i].end === end) this.#jacks[i].end = null;
      end.close();
    });
  }
}

/** A network card: a device that carries frames once a link is plugged in; until then they are lost. */
export class NetworkCard implements Device, Jack {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly capabilities: DeviceCapabilities;
  end: LinkEnd | null = null;
  readonly #counters = { unplugged: 0, tooLong: 0 };
  #wake: (() => void) | null = null;
  #armed = false;
  #closed = false;

  constructor(name: string, mac: Uint8Array, mtu: number) {
    if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
    this.name = name;
    this.mac = mac;
    this.mtu = mtu;
    this.capabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame: mtu + LINK_HEADER };
  }

  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    this.#wake = wake;
  }

  arm(): void {
    this.#armed = true;
    this.end?.arm();
  }

  arrived(): void {
    if (!this.#armed) return;
    this.#armed = false;
    this.#wake?.();
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    return this.end === null ? 0 : this.end.receive(sink, budget);
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    if (this.end === null) this.#counters.unplugged++;
    else if (frame.size > this.capabilities.rxFrame) this.#counters.tooLong++;
    else this.end.send(frame);
    return OK;
  }

  close(): void {
    this.#closed = true;
    this.#wake = null;
  }

  statistics(): Record<string, number> {
    return { ...this.#counters };
  }
}
