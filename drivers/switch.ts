/**
 * An Ethernet switch that learns where hosts are (IEEE 802.1D 7.8), for simulated networks.
 *
 * @module
 */
import { type FrameMemory, type FrameSink, TxFrame } from "../stack/device.ts";
import { checkObject } from "../stack/checks.ts";
import type { Clock } from "../stack/host/clock.ts";
import { ETHERNET_HEADER, isGroup, sourceHigh, sourceLow } from "../stack/wire/ethernet.ts";
import type { Jack, LinkEnd } from "./link.ts";

/** How long a frame stays in a switch, in milliseconds: so that even switches in a ring take time. */
const LATENCY_MS = 0.005;
/** Addresses that a switch remembers, unless told otherwise. */
const TABLE = 1024;
/** How long it remembers an address that it doesn't hear from, in milliseconds (802.1D 7.9.2). */
const AGEING_MS = 300_000;
/** Slots that are looked at for one address. */
const PROBES = 8;
/** Frames taken from one port at once. */
const BURST = 256;

/** Options of a switch. */
export interface SwitchOptions {
  /** Addresses that it remembers; frames to others go out of every port. 1 to 65536, rounded up to a power of two. Default 1024. */
  table?: number;
}

/** What a switch did; only grows. */
export interface SwitchStatistics {
  /** Frames that came in; the sum of the next five. */
  received: number;
  /** Sent out of the one port where their address is. */
  forwarded: number;
  /** Sent out of every other port: groups, and addresses that it doesn't know. */
  flooded: number;
  /** For the port that they came by. */
  filtered: number;
  /** Too short to be a frame. */
  dropShort: number;
  /** From a group address, or all zeros. */
  dropSource: number;
  /** Addresses not remembered because their part of the table was full. */
  notLearned: number;
  /** Addresses that were heard at another port than before. */
  moved: number;
}

class Port implements Jack {
  readonly name: string;
  readonly index: number;
  end: LinkEnd | null = null;
  readonly #owner: LearningSwitch;
  readonly #clock: Clock;
  #waiting = false;

  constructor(owner: LearningSwitch, index: number, clock: Clock) {
    this.name = `${owner.name}:${index}`;
    this.index = index;
    this.#owner = owner;
    this.#clock = clock;
  }

  arrived(): void {
    if (this.#waiting) return;
    this.#waiting = true;
    if (this.#clock.defer !== undefined) this.#clock.defer(this.#run);
    else setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#waiting = false;
    if (this.end === null) return;
    this.#owner.begin(this);
    if (this.end.receive(this.#owner, BURST) === BURST) this.arrived();
    else this.end.arm();
  };

  close(): void {
    this.end = null;
  }
}

/** A learning switch of a {@link Network}: made by `net.switch`. It has as many ports as links are plugged in. */
export interface NetworkSwitch {
  /** Its name. */
  readonly name: string;
  /** Addresses that it remembers now. */
  readonly addresses: number;
  /** Links that are plugged in. */
  readonly ports: number;
  /** The counters: a copy. */
  readonly statistics: SwitchStatistics;
}

/** The switch itself. */
export class LearningSwitch implements NetworkSwitch, FrameSink {
  readonly name: string;
  readonly #clock: Clock;
  readonly #ports: Port[] = [];
  readonly #mask: number;
  readonly #high: Int32Array;
  readonly #low: Int32Array;
  readonly #port: Int32Array;
  readonly #heard: Float64Array;
  readonly #counters: SwitchStatistics = {
    received: 0,
    forwarded: 0,
    flooded: 0,
    filtered: 0,
    dropShort: 0,
    dropSource: 0,
    notLearned: 0,
    moved: 0,
  };
  readonly #tx = new TxFrame();
  #from: Port | null = null;

  /** Throws a RangeError for a table under 1 or over 65536. */
  constructor(name: string, clock: Clock, options: SwitchOptions = {}) {
    checkObject(options);
    const { table = TABLE } = options;
    if (!(Number.isInteger(table) && table >= 1 && table <= 65_536)) throw new RangeError(`table must be 1 to 65536: ${table}`);
    const slots = 1 << Math.ceil(Math.log2(table));
    this.name = name;
    this.#clock = clock;
    this.#mask = slots - 1;
    this.#high = new Int32Array(slots);
    this.#low = new Int32Array(slots);
    this.#port = new Int32Array(slots).fill(-1);
    this.#heard = new Float64Array(slots);
  }

  /** A port for one more link. */
  addPort(): Jack {
    const port = new Port(this, this.#ports.length, this.#clock);
    this.#ports.push(port);
    return port;
  }

  /** The frames that come next are those of `port`. */
  begin(port: Jack): void {
    this.#from = port as Port;
  }

  /** A frame of the port that {@link begin} has named. */
  frame(memory: FrameMemory, offset: number, length: number): void {
    const counters = this.#counters;
    const { view } = memory;
    const from = this.#from!;
    counters.received++;
    if (length < ETHERNET_HEADER) {
      counters.dropShort++;
      return;
    }
    const high = sourceHigh(view, offset);
    const low = sourceLow(view, offset);
    if ((high & 0x100) !== 0 || (high === 0 && low === 0)) {
      counters.dropSource++;
      return;
    }
    const now = this.#clock.now();
    this.#learn(high, low, from.index, now);
    const tx = this.#tx;
    tx.reset(length);
    tx.memory = memory;
    tx.offset = offset;
    const to = isGroup(view, offset) ? -1 : this.#find(view.getUint16(offset), view.getInt32(offset + 2), now);
    if (to === from.index) counters.filtered++;
    else if (to >= 0) {
      counters.forwarded++;
      this.#ports[to].end?.send(tx, now + LATENCY_MS);
    } else {
      counters.flooded++;
      for (const port of this.#ports) if (port !== from) port.end?.send(tx, now + LATENCY_MS);
    }
  }

  #start(high: number, low: number): number {
    const hash = Math.imul(low ^ Math.imul(high, 0x85ebca6b), 0x9e3779b1);
    return hash ^ (hash >>> 15);
  }

  #find(high: number, low: number, now: number): number {
    const start = this.#start(high, low);
    for (let i = 0; i < PROBES; i++) {
      const at = (start + i) & this.#mask;
      if (this.#port[at] < 0) return -1;
      if (this.#low[at] === low && this.#high[at] === high) return now - this.#heard[at] > AGEING_MS ? -1 : this.#port[at];
    }
    return -1;
  }

  #learn(high: number, low: number, port: number, now: number): void {
    const start = this.#start(high, low);
    let use = -1;
    for (let i = 0; i < PROBES; i++) {
      const at = (start + i) & this.#mask;
      const known = this.#port[at];
      if (known >= 0 && this.#low[at] === low && this.#high[at] === high) {
        if (known !== port) this.#counters.moved++;
        use = at;
        break;
      }
      // Slots are never emptied, so that a search may end at the first empty one; old entries are written over.
      if (use < 0 && (known < 0 || now - this.#heard[at] > AGEING_MS)) use = at;
      if (known < 0) break;
    }
    if (use < 0) {
      this.#counters.notLearned++;
      return;
    }
    this.#high[use] = high;
    this.#low[use] = low;
    this.#port[use] = port;
    this.#heard[use] = now;
  }

  /** Addresses that it remembers now. */
  get addresses(): number {
    const now = this.#clock.now();
    return this.#port.filter((port, i) => port >= 0 && now - this.#heard[i] <= AGEING_MS).length;
  }

  /** Links that are plugged in. */
  get ports(): number {
    return this.#ports.filter((port) => port.end !== null).length;
  }

  /** The counters: a copy. */
  get statistics(): SwitchStatistics {
    return { ...this.#counters };
  }
}
