/**
 * CoDel, the queue that looks at how long packets wait instead of how many they are (RFC 8289), and the ECN mark.
 *
 * @module
 */
import { ETHERTYPE_IPV4 } from "../stack/wire/ethernet.ts";
import type { QueueConditions } from "./conditions.ts";

/** What {@link Codel.decide} says about a packet at the head of the queue. */
export const PASS = 0;
export const DROP = 1;

/** With no more than this waiting, the queue isn't what delays: a packet of full size. */
const LEAST_BYTES = 1514;

/** The state of one queue, in the names of RFC 8289 5. */
export class Codel {
  #firstAbove = 0;
  #dropNext = 0;
  #count = 0;
  #lastCount = 0;
  #dropping = false;

  /**
   * A packet leaves the queue.
   *
   * @param now milliseconds; never less than before
   * @param sojourn how long the packet has waited
   * @param waiting bytes that still wait behind it
   * @returns PASS, or DROP (or mark it)
   */
  decide(options: Required<QueueConditions>, now: number, sojourn: number, waiting: number): number {
    const above = this.#tooLong(options, now, sojourn, waiting);
    const { interval } = options;
    if (this.#dropping) {
      if (!above) {
        this.#dropping = false;
        return PASS;
      }
      if (now < this.#dropNext) return PASS;
      this.#count++;
      this.#dropNext += interval / Math.sqrt(this.#count);
      return DROP;
    }
    if (!above) return PASS;
    this.#dropping = true;
    // RFC 8289 5.5: soon after the last episode, go on with the rate of dropping that had controlled the queue then.
    const delta = this.#count - this.#lastCount;
    this.#count = delta > 1 && now - this.#dropNext < 16 * interval ? delta : 1;
    this.#dropNext = now + interval / Math.sqrt(this.#count);
    this.#lastCount = this.#count;
    return DROP;
  }

  /** True when packets have waited too long for a whole interval. */
  #tooLong(options: Required<QueueConditions>, now: number, sojourn: number, waiting: number): boolean {
    if (sojourn < options.target || waiting <= LEAST_BYTES) {
      this.#firstAbove = 0;
      return false;
    }
    if (this.#firstAbove === 0) {
      this.#firstAbove = now + options.interval;
      return false;
    }
    return now >= this.#firstAbove;
  }
}

/** Bytes of the link header of a frame, with tags; 0 on medium "ip"; -1 if it ends in it. */
export function linkHeaderLength(view: DataView, offset: number, length: number, ethernet: boolean): number {
  if (!ethernet) return 0;
  if (length < 14) return -1;
  const type = view.getUint16(offset + 12);
  if (type !== 0x8100 && type !== 0x88a8) return 14;
  if (length < 18) return -1;
  const inner = view.getUint16(offset + 16);
  return inner !== 0x8100 && inner !== 0x88a8 ? 18 : length < 22 ? -1 : 22;
}

/** Where the IPv4 header lies in a frame, from `offset`; -1 if there is none whole. */
export function ipv4At(view: DataView, offset: number, length: number, ethernet: boolean): number {
  const link = linkHeaderLength(view, offset, length, ethernet);
  if (link < 0 || length < link + 20) return -1;
  if (ethernet && view.getUint16(offset + link - 2) !== ETHERTYPE_IPV4) return -1;
  return view.getUint8(offset + link) >>> 4 === 4 ? link : -1;
}

/**
 * Marks an IPv4 packet as Congestion Experienced, and corrects its header checksum in place (RFC 1624).
 *
 * @param at where the IPv4 header begins
 * @returns false if its sender doesn't understand the mark (not ECT)
 */
export function markCongestion(view: DataView, at: number): boolean {
  const old = view.getUint16(at);
  const ecn = old & 3;
  //= rfc3168#5
  // The not-ECT codepoint '00' indicates a packet that is not using ECN. The CE codepoint '11' is set by a router to indicate
  // congestion to the end nodes.
  if (ecn === 0) return false;
  //= rfc3168#5
  // Routers treat the ECT(0) and ECT(1) codepoints as equivalent.
  if (ecn === 3) return true;
  const now = old | 3;
  //= rfc1624#3
  // HC' = ~(~HC + ~m + m')
  let s = (~view.getUint16(at + 10) & 0xffff) + (~old & 0xffff) + now;
  s = (s & 0xffff) + (s >>> 16);
  s = (s & 0xffff) + (s >>> 16);
  view.setUint16(at, now);
  view.setUint16(at + 10, ~s & 0xffff);
  return true;
}
