/**
 * Path MTU discovery (RFC 1191): what the network told us about how large a packet to an address may be.
 *
 * @module
 */
import { IPV4_MIN_MTU } from "../wire/ipv4.ts";
import { PMTU_ENTRIES, PMTU_EXPIRY_MS, PMTU_MIN } from "./limits.ts";

/** RFC 1191 7.1, table 7-1: what to try when an old router names no MTU. */
const PLATEAUS = [65535, 32000, 17914, 8166, 4352, 2002, 1492, 1006, 508, 296, 68];

interface Entry {
  mtu: number;
  /** The path is narrower than we believe anybody: packets go without DF and may be fragmented on the way. */
  locked: boolean;
  expires: number;
}

export class PathMtuTable {
  readonly counts = { updates: 0, ignored: 0, evicted: 0, expired: 0 };
  // In order of change, so that the first is the oldest: it expires first, and is evicted first.
  readonly #entries = new Map<number, Entry>();

  get size(): number {
    return this.#entries.size;
  }

  /** What is known about the path to `key`, or undefined. */
  get(key: number): Readonly<Entry> | undefined {
    return this.#entries.get(key);
  }

  /**
   * Believes a "fragmentation needed".
   *
   * @param nextHop the MTU that the message names, 0 from an old router
   * @param quoted total length of the packet that was too big
   * @param current what the path MTU is now
   * @returns the new path MTU, or 0 if nothing changed
   */
  update(key: number, nextHop: number, quoted: number, current: number, now: number): number {
    //= rfc1191#5
    // If the Next-Hop MTU field is zero … the host … should use the greatest plateau value less than the returned
    // Total Length.
    let mtu = nextHop;
    if (mtu === 0) mtu = PLATEAUS.find((plateau) => plateau < quoted) ?? IPV4_MIN_MTU;
    //= rfc1191#3
    // A host MUST never reduce its estimate of the Path MTU below 68 octets.
    const locked = mtu < PMTU_MIN;
    if (locked) mtu = Math.min(PMTU_MIN, current);
    const known = this.#entries.get(key);
    //= rfc1191#3
    // A host MUST NOT increase its estimate of the Path MTU in response to the contents of a Datagram Too Big message.
    if (mtu > current || (mtu === current && !(locked && !known?.locked))) {
      this.counts.ignored++;
      return 0;
    }
    this.#entries.delete(key);
    if (this.#entries.size >= PMTU_ENTRIES) {
      for (const oldest of this.#entries.keys()) {
        this.#entries.delete(oldest);
        break;
      }
      this.counts.evicted++;
    }
    this.#entries.set(key, { mtu, locked, expires: now + PMTU_EXPIRY_MS });
    this.counts.updates++;
    return mtu;
  }

  /** Puts back what `get` gave before an update that turned out to be forged. */
  restore(key: number, entry: Readonly<Entry> | undefined): void {
    this.#entries.delete(key);
    if (entry !== undefined) this.#entries.set(key, { ...entry });
  }

  nextDeadline(): number {
    for (const entry of this.#entries.values()) return entry.expires;
    return Infinity;
  }

  /** Forgets what is older than ten minutes. Returns true if something was. */
  advance(now: number): boolean {
    let changed = false;
    for (const [key, entry] of this.#entries) {
      if (entry.expires > now) break;
      //= rfc1191#6.3
      // …the PMTU should be… set to the MTU of the first hop (after a timeout of about 10 minutes)
      this.#entries.delete(key);
      this.counts.expired++;
      changed = true;
    }
    return changed;
  }
}
