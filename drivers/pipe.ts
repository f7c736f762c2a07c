/**
 * One direction of a link: a queue, the time a frame takes, and what happens to it on the way. Time is an argument.
 *
 * @module
 */
import type { FrameSink, TxFrame } from "../stack/device.ts";
import { completeChecksum } from "../stack/ip/offload.ts";
import { copyBytes } from "../stack/wire/copy.ts";
import { Codel, DROP, ipv4At, linkHeaderLength, markCongestion } from "./aqm.ts";
import { checkConditions, type CheckedConditions, isPerfect, type LinkConditions, perfectConditions } from "./conditions.ts";
import { FramePool } from "./frame_pool.ts";
import { LossModel, type Random } from "./loss_models.ts";
import { ArrivalHeap, WaitingRing } from "./schedule.ts";

/** Bytes of memory for frames that wait or are under way in one direction; what comes beyond is lost (`droppedMemory`). */
export const IN_FLIGHT_BYTES = 64 << 20;

/** What became of the frames of one direction; only grows, but for the gauges. Frames in, and copies: one of the others each. */
export interface DirectionStatistics {
  /** Frames that went in. */
  sent: number;
  /** Their bytes. */
  sentBytes: number;
  /** Frames that came out. */
  delivered: number;
  /** Their bytes. */
  deliveredBytes: number;
  /** Lost by `loss`. */
  lost: number;
  /** Thrown away by `drop`. */
  droppedByTest: number;
  /** The queue was full (tail drop). */
  droppedFull: number;
  /** Dropped by CoDel. */
  droppedAqm: number;
  /** Larger than `blackHole`. */
  droppedLarge: number;
  /** The link was down, or went down while they were under way. */
  droppedDown: number;
  /** More than 64 MiB were under way. */
  droppedMemory: number;
  /** Refused by the device that they were sent to. */
  droppedDevice: number;
  /** Marked Congestion Experienced by CoDel. */
  marked: number;
  /** With flipped bits. */
  corrupted: number;
  /** Copies made. */
  duplicated: number;
  /** Fell behind. */
  reordered: number;
  /** Gauge: frames in the queue. */
  waiting: number;
  /** Gauge: frames on the wire. */
  underWay: number;
}

function newStatistics(): DirectionStatistics {
  return {
    sent: 0,
    sentBytes: 0,
    delivered: 0,
    deliveredBytes: 0,
    lost: 0,
    droppedByTest: 0,
    droppedFull: 0,
    droppedAqm: 0,
    droppedLarge: 0,
    droppedDown: 0,
    droppedMemory: 0,
    droppedDevice: 0,
    marked: 0,
    corrupted: 0,
    duplicated: 0,
    reordered: 0,
    waiting: 0,
    underWay: 0,
  };
}

export class Pipe {
  readonly counters: DirectionStatistics = newStatistics();
  readonly pool: FramePool = new FramePool(IN_FLIGHT_BYTES);
  readonly #ethernet: boolean;
  readonly #random: Random;
  readonly #loss = new LossModel();
  readonly #codel = new Codel();
  readonly #queue = new WaitingRing();
  readonly #wire = new ArrivalHeap();
  readonly #whole: TxFrame;
  #conditions: CheckedConditions = perfectConditions();
  #perfect = true;
  #down = false;
  #waitingBytes = 0;
  /** When the frame that is being sent is out. */
  #busyUntil = 0;
  #lastArrival = 0;

  /** @param scratch a record for whoever corrects a checksum; one may serve many pipes */
  constructor(ethernet: boolean, random: Random, scratch: TxFrame) {
    this.#ethernet = ethernet;
    this.#random = random;
    this.#whole = scratch;
  }

  /** What `given` makes of the conditions; throws if something is wrong, with nothing changed. */
  check(given: LinkConditions): CheckedConditions {
    return checkConditions(given, this.#conditions);
  }

  /** Puts conditions in force from `now` on: frames on the wire keep their times, frames in the queue get the new ones. */
  apply(conditions: CheckedConditions, now: number): void {
    this.#catchUp(now);
    this.#conditions = conditions;
    this.#perfect = isPerfect(conditions);
  }

  /** True if a frame would go through as it is, at once, behind no other. */
  get transparent(): boolean {
    return this.#perfect && !this.#down && this.#wire.count === 0 && this.#queue.count === 0;
  }

  /** A frame went by without going in, because this was transparent. */
  passed(size: number): void {
    const { counters } = this;
    counters.sent++;
    counters.sentBytes += size;
    counters.delivered++;
    counters.deliveredBytes += size;
  }

  /** Takes the link down, with everything on it, or up. */
  setDown(down: boolean, now: number): void {
    this.#catchUp(now);
    this.#down = down;
    if (!down) return;
    this.counters.droppedDown += this.#wire.count + this.#queue.count;
    this.#empty();
    this.#busyUntil = now;
  }

  /** Forgets everything. */
  close(): void {
    this.#down = true;
    this.#empty();
  }

  #empty(): void {
    for (; this.#wire.count > 0; this.#wire.shift()) this.pool.release(this.#wire.first);
    for (; this.#queue.count > 0; this.#queue.shift()) this.pool.release(this.#queue.first);
    this.#waitingBytes = 0;
    this.#lastArrival = 0;
  }

  /** A frame goes in at `now`. Like a wire, it doesn't tell what becomes of it. */
  enter(frame: TxFrame, flags: number, now: number): void {
    const { counters } = this;
    const size = frame.size;
    counters.sent++;
    counters.sentBytes += size;
    if (this.#down) {
      counters.droppedDown++;
      return;
    }
    const slot = this.pool.take(size);
    if (slot < 0) {
      counters.droppedMemory++;
      return;
    }
    this.#keep(slot, frame, flags);
    if (this.#tooLarge(slot)) return this.#forget(slot, "droppedLarge");
    const { rate, queue } = this.#conditions;
    if (rate === Infinity && this.#queue.count === 0) return this.#launch(slot, now);
    this.#catchUp(now);
    if (this.#queue.count >= queue.packets || this.#waitingBytes + size > queue.bytes) return this.#forget(slot, "droppedFull");
    this.#queue.push(slot, now);
    this.#waitingBytes += size;
    this.#catchUp(now);
  }

  #keep(slot: number, frame: TxFrame, flags: number): void {
    const { pool } = this;
    const memory = pool.memory(slot);
    const offset = pool.offset(slot);
    if (frame.payloadLength1 === 0) copyBytes(frame.memory.bytes, frame.offset, memory.bytes, offset, frame.length);
    else frame.copyTo(memory.bytes, offset);
    pool.flags[slot] = flags;
    pool.segmentSize[slot] = frame.segmentSize;
    pool.segmentHeaderLength[slot] = frame.segmentHeaderLength;
    pool.checksumStart[slot] = frame.checksumStart;
    pool.checksumOffset[slot] = frame.checksumOffset;
  }

  #forget(slot: number, reason: "lost" | "droppedByTest" | "droppedFull" | "droppedAqm" | "droppedLarge"): void {
    this.counters[reason]++;
    this.pool.release(slot);
  }

  #tooLarge(slot: number): boolean {
    const { blackHole } = this.#conditions;
    if (blackHole === Infinity) return false;
    const { pool } = this;
    const length = pool.length[slot];
    const { view } = pool.memory(slot);
    const link = linkHeaderLength(view, pool.offset(slot), length, this.#ethernet);
    if (link < 0) return false;
    // A super-frame is as large as its segments; 40 bytes of headers where nobody has counted them.
    const segment = pool.segmentSize[slot];
    const header = pool.segmentHeaderLength[slot] || link + 40;
    const largest = segment > 0 ? Math.min(length, segment + header) : length;
    return largest - link > blackHole;
  }

  /** Sends what could leave the queue by `now`, each at its own time. */
  #catchUp(now: number): void {
    const queue = this.#queue;
    while (queue.count > 0) {
      const since = queue.firstSince;
      const start = Math.max(this.#busyUntil, since);
      if (start > now) return;
      const slot = queue.first;
      const size = this.pool.length[slot];
      queue.shift();
      this.#waitingBytes -= size;
      const options = this.#conditions;
      if (options.queue.aqm === "codel") {
        const decision = this.#codel.decide(options.queue, start, start - since, this.#waitingBytes);
        if (decision === DROP && !(options.queue.ecn && this.#mark(slot))) {
          this.#forget(slot, "droppedAqm");
          continue;
        }
      }
      this.#busyUntil = start + size * 8000 / options.rate;
      this.#launch(slot, this.#busyUntil);
    }
  }

  #mark(slot: number): boolean {
    const { view } = this.pool.memory(slot);
    const offset = this.pool.offset(slot);
    const at = ipv4At(view, offset, this.pool.length[slot], this.#ethernet);
    if (at < 0 || !markCongestion(view, offset + at)) return false;
    this.counters.marked++;
    return true;
  }

  /** A frame is on the wire at `at`. */
  #launch(slot: number, at: number): void {
    const c = this.#conditions;
    const { counters } = this;
    if (this.#perfect) return this.#wire.push(this.#lastArrival = Math.max(at, this.#lastArrival), slot);
    if (c.drop !== null && this.#wanted(slot, c.drop)) return this.#forget(slot, "droppedByTest");
    if (this.#loss.loses(c.loss, this.#random)) return this.#forget(slot, "lost");
    if (c.corrupt > 0 && this.#random() < c.corrupt) this.#corrupt(slot, c.corruptBits);
    let arrival = at + c.delay + (c.jitter > 0 ? c.jitter * this.#random() : 0);
    if (c.reorder > 0 && this.#random() < c.reorder) {
      counters.reordered++;
      arrival += c.reorderDelay;
    } else arrival = this.#lastArrival = Math.max(arrival, this.#lastArrival);
    this.#wire.push(arrival, slot);
    if (c.duplicate > 0 && this.#random() < c.duplicate) {
      const copy = this.#copy(slot);
      if (copy < 0) counters.droppedMemory++;
      else this.#wire.push(arrival, copy);
    }
  }

  #wanted(slot: number, drop: NonNullable<CheckedConditions["drop"]>): boolean {
    try {
      return drop(this.pool.memory(slot), this.pool.offset(slot), this.pool.length[slot]);
    } catch {
      // A test's own mistake must not stop the network.
      return false;
    }
  }

  #copy(slot: number): number {
    const { pool } = this;
    const length = pool.length[slot];
    const copy = pool.take(length);
    if (copy < 0) return -1;
    this.counters.duplicated++;
    copyBytes(pool.memory(slot).bytes, pool.offset(slot), pool.memory(copy).bytes, pool.offset(copy), length);
    pool.flags[copy] = pool.flags[slot];
    pool.segmentSize[copy] = pool.segmentSize[slot];
    pool.segmentHeaderLength[copy] = pool.segmentHeaderLength[slot];
    pool.checksumStart[copy] = pool.checksumStart[slot];
    pool.checksumOffset[copy] = pool.checksumOffset[slot];
    return copy;
  }

  /** Flips bits behind the link header. Nobody may vouch for the checksum any more, so it is made complete before. */
  #corrupt(slot: number, bits: number): void {
    const { pool } = this;
    const { view, bytes } = pool.memory(slot);
    const offset = pool.offset(slot);
    const length = pool.length[slot];
    const link = linkHeaderLength(view, offset, length, this.#ethernet);
    if (link < 0 || link >= length) return;
    if (pool.checksumStart[slot] >= 0) {
      const whole = this.#whole;
      whole.reset(length);
      whole.memory = pool.memory(slot);
      whole.offset = offset;
      whole.checksumStart = pool.checksumStart[slot];
      whole.checksumOffset = pool.checksumOffset[slot];
      completeChecksum(whole);
      pool.checksumStart[slot] = -1;
    }
    pool.flags[slot] = 0;
    for (let i = 0; i < bits; i++) {
      const bit = Math.floor(this.#random() * (length - link) * 8);
      bytes[offset + link + (bit >>> 3)] ^= 1 << (bit & 7);
    }
    this.counters.corrupted++;
  }

  /** Not later than this, {@link due} has to be asked again; Infinity when nothing is under way. */
  nextAt(): number {
    const at = this.#wire.firstAt;
    if (this.#queue.count === 0) return at;
    return Math.min(at, Math.max(this.#busyUntil, this.#queue.firstSince) + this.#conditions.delay);
  }

  /** The slot of the next frame that has arrived by `now`, or -1. */
  due(now: number): number {
    if (this.#queue.count > 0) this.#catchUp(now);
    return this.#wire.firstAt <= now ? this.#wire.first : -1;
  }

  /** Takes away the frame that {@link due} told of. */
  shift(delivered: boolean): void {
    const slot = this.#wire.first;
    this.#wire.shift();
    if (delivered) {
      this.counters.delivered++;
      this.counters.deliveredBytes += this.pool.length[slot];
    } else this.counters.droppedDevice++;
    this.pool.release(slot);
  }

  /** Hands at most `budget` frames that have arrived to `sink`. */
  take(sink: FrameSink, budget: number, now: number): number {
    const { pool } = this;
    let count = 0;
    while (count < budget) {
      const slot = this.due(now);
      if (slot < 0) break;
      // Off the wire first: what the sink does may take the link down.
      this.#wire.shift();
      this.counters.delivered++;
      this.counters.deliveredBytes += pool.length[slot];
      count++;
      sink.frame(pool.memory(slot), pool.offset(slot), pool.length[slot], pool.flags[slot], pool.segmentSize[slot]);
      pool.release(slot);
    }
    return count;
  }

  /** A copy of the counters. */
  statistics(): DirectionStatistics {
    return { ...this.counters, waiting: this.#queue.count, underWay: this.#wire.count };
  }
}
