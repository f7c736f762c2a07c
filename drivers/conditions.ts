/**
 * What a direction of a link is like: rate, delay, queue, and what goes wrong on it.
 *
 * @module
 */
import type { FrameMemory } from "../stack/device.ts";
import { checkFunction, checkObject } from "../stack/checks.ts";

/** Packets that wait for their turn unless `queue` says otherwise: what a Linux interface has by default. */
const QUEUE_PACKETS = 1000;
/** Extra delay of a reordered packet in milliseconds, unless said otherwise. */
const REORDER_DELAY_MS = 5;
/** CoDel's constants (RFC 8289 4.2 and 4.3), in milliseconds. */
const CODEL_TARGET_MS = 5;
const CODEL_INTERVAL_MS = 100;

/** Bursts of loss: a chain with a good and a bad state, which takes one step a packet (Gilbert and Elliott). */
export interface BurstLoss {
  /** Chance to turn bad, for each packet in the good state: 0 to 1. */
  toBad: number;
  /** Chance to turn good again, for each packet in the bad state: 0 to 1. Bursts are 1 / `toGood` packets long. */
  toGood: number;
  /** Chance that a packet is lost in the bad state. Default 1. */
  lossInBad?: number;
  /** Chance that a packet is lost in the good state. Default 0. */
  lossInGood?: number;
}

/** The queue in front of a link with a rate. */
export interface QueueConditions {
  /** Packets that may wait; what comes beyond is dropped (tail drop). Default 1000. */
  packets?: number;
  /** Bytes that may wait. Default: no limit but that of packets. */
  bytes?: number;
  /** "codel" keeps the queue short by dropping, or by marking, early (RFC 8289). Default "none". */
  aqm?: "none" | "codel";
  /** CoDel: waiting time that is good enough, in milliseconds. Default 5. */
  target?: number;
  /** CoDel: how long it may be exceeded, in milliseconds. Default 100. */
  interval?: number;
  /** CoDel marks packets of senders that understand it (ECT) as Congestion Experienced instead of dropping. Default true. */
  ecn?: boolean;
}

/** One direction of a link. All can be changed while frames are on their way; what isn't named stays as it is. */
export interface LinkConditions {
  /** Bits a second, by the length of the frame. Default Infinity. */
  rate?: number;
  /** Milliseconds that every frame takes. Default 0. */
  delay?: number;
  /** Up to so many milliseconds more, evenly spread. Frames keep their order. Default 0. */
  jitter?: number;
  /** Packets that may wait for a link with a rate, or more about that queue. */
  queue?: number | QueueConditions;
  /** Chance that a packet is lost, 0 to 1, or bursts of loss. Default 0. */
  loss?: number | BurstLoss;
  /** Chance that a packet falls behind those after it, and by how many milliseconds. Default 0, and 5 ms. */
  reorder?: number | { probability: number; delay?: number };
  /** Chance that a packet comes twice. Default 0. */
  duplicate?: number;
  /** Chance that bits of a packet (behind the link header) are flipped, and how many. Default 0, and 1 bit. */
  corrupt?: number | { probability: number; bits?: number };
  /** IP packets of more bytes than this vanish without a word. Default Infinity. */
  blackHole?: number;
  /** True throws this frame away: for the test that must lose just the third SYN. Valid during the call only. Default null. */
  drop?: ((memory: FrameMemory, offset: number, length: number) => boolean) | null;
}

/** The same with every default filled in. */
export interface CheckedConditions {
  rate: number;
  delay: number;
  jitter: number;
  queue: Required<QueueConditions>;
  loss: Required<BurstLoss>;
  reorder: number;
  reorderDelay: number;
  duplicate: number;
  corrupt: number;
  corruptBits: number;
  blackHole: number;
  drop: ((memory: FrameMemory, offset: number, length: number) => boolean) | null;
}

/** Nothing goes wrong, and nothing takes time. */
export function perfectConditions(): CheckedConditions {
  return {
    rate: Infinity,
    delay: 0,
    jitter: 0,
    queue: {
      packets: QUEUE_PACKETS,
      bytes: Infinity,
      aqm: "none",
      target: CODEL_TARGET_MS,
      interval: CODEL_INTERVAL_MS,
      ecn: true,
    },
    loss: { toBad: 0, toGood: 1, lossInBad: 0, lossInGood: 0 },
    reorder: 0,
    reorderDelay: REORDER_DELAY_MS,
    duplicate: 0,
    corrupt: 0,
    corruptBits: 1,
    blackHole: Infinity,
    drop: null,
  };
}

/** Conditions of two directions, and of each alone. Throws a TypeError for what is no object. */
export function checkDirections<T extends object>(given: T, ...names: (keyof T & string)[]): void {
  checkObject(given, "conditions");
  for (const name of names) if (given[name] !== undefined) checkObject(given[name], name);
}

function number(name: string, value: unknown): number {
  if (typeof value !== "number") throw new TypeError(`${name} must be a number: ${value}`);
  return value;
}

/** A number, or more about it. */
function checkKind(name: string, value: unknown): void {
  if (typeof value !== "number" && value !== undefined) checkObject(value, name);
}

function chance(name: string, value: number): number {
  if (!(number(name, value) >= 0 && value <= 1)) throw new RangeError(`${name} must be a chance from 0 to 1: ${value}`);
  return value;
}

function duration(name: string, value: number): number {
  if (!(number(name, value) >= 0 && value < Infinity)) throw new RangeError(`${name} must be 0 or more milliseconds: ${value}`);
  return value;
}

function atLeast(name: string, value: number, least: number): number {
  if (!(number(name, value) >= least)) throw new RangeError(`${name} must be ${least} or more: ${value}`);
  return value;
}

function checkQueue(given: number | QueueConditions, before: Required<QueueConditions>): Required<QueueConditions> {
  const queue = { ...before, ...(typeof given === "number" ? { packets: given } : given) };
  atLeast("queue.packets", queue.packets, 1);
  atLeast("queue.bytes", queue.bytes, 1);
  duration("queue.target", queue.target);
  duration("queue.interval", queue.interval);
  if (queue.aqm !== "none" && queue.aqm !== "codel") throw new TypeError(`queue.aqm must be "none" or "codel": ${queue.aqm}`);
  if (typeof queue.ecn !== "boolean") throw new TypeError(`queue.ecn must be true or false: ${queue.ecn}`);
  return queue;
}

function checkLoss(given: number | BurstLoss): Required<BurstLoss> {
  if (typeof given === "number") return { toBad: 0, toGood: 1, lossInBad: 0, lossInGood: chance("loss", given) };
  const { toBad, toGood, lossInBad = 1, lossInGood = 0 } = given;
  chance("loss.toBad", toBad);
  chance("loss.toGood", toGood);
  chance("loss.lossInBad", lossInBad);
  chance("loss.lossInGood", lossInGood);
  return { toBad, toGood, lossInBad, lossInGood };
}

/** `given` over `before`, checked. Throws a RangeError or TypeError that names what is wrong, with nothing changed. */
export function checkConditions(given: LinkConditions, before: CheckedConditions): CheckedConditions {
  const { rate = before.rate, blackHole = before.blackHole, drop = before.drop } = given;
  if (!(number("rate", rate) > 0)) throw new RangeError(`rate must be more than 0 bits a second: ${rate}`);
  const next: CheckedConditions = {
    ...before,
    rate,
    blackHole: atLeast("blackHole", blackHole, 0),
    delay: duration("delay", given.delay ?? before.delay),
    jitter: duration("jitter", given.jitter ?? before.jitter),
    duplicate: chance("duplicate", given.duplicate ?? before.duplicate),
    drop,
  };
  if (drop !== null) checkFunction("drop", drop);
  for (const name of ["queue", "loss", "reorder", "corrupt"] as const) checkKind(name, given[name]);
  if (given.queue !== undefined) next.queue = checkQueue(given.queue, before.queue);
  if (given.loss !== undefined) next.loss = checkLoss(given.loss);
  if (typeof given.reorder === "number") next.reorder = chance("reorder", given.reorder);
  else if (given.reorder !== undefined) {
    next.reorder = chance("reorder.probability", given.reorder.probability);
    next.reorderDelay = duration("reorder.delay", given.reorder.delay ?? REORDER_DELAY_MS);
  }
  if (typeof given.corrupt === "number") next.corrupt = chance("corrupt", given.corrupt);
  else if (given.corrupt !== undefined) {
    next.corrupt = chance("corrupt.probability", given.corrupt.probability);
    next.corruptBits = atLeast("corrupt.bits", given.corrupt.bits ?? 1, 1);
  }
  return next;
}

/** True if a frame passes as it is, at once. */
export function isPerfect(c: CheckedConditions): boolean {
  return c.rate === Infinity && c.delay === 0 && c.jitter === 0 && c.loss.lossInGood === 0 && c.loss.toBad === 0 &&
    c.reorder === 0 && c.duplicate === 0 && c.corrupt === 0 && c.blackHole === Infinity && c.drop === null;
}
