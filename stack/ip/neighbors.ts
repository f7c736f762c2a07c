/**
 * The neighbour cache of one interface: MAC addresses by IP address, asked for by ARP (RFC 826), in the states of
 * RFC 4861 7.3.2 as Linux uses them for ARP, and the frames that wait for an answer.
 *
 * @module
 */
import { FrameMemory, TX_HEADROOM, TxFrame } from "../device.ts";
import * as limits from "./limits.ts";
import type { ArpStatistics } from "./arp_statistics.ts";
import type { NeighborEntry } from "./types.ts";

export const NONE = 0;
export const INCOMPLETE = 1;
export const REACHABLE = 2;
export const STALE = 3;
export const DELAY = 4;
export const PROBE = 5;
export const FAILED = 6;
export const PERMANENT = 7;
/** No longer in the table: whoever holds it looks again. */
export const DEAD = 8;

const NAMES: readonly NeighborEntry["state"][] = [
  "incomplete",
  "incomplete",
  "reachable",
  "stale",
  "delay",
  "probe",
  "failed",
  "permanent",
];

/** One neighbour, with the first 12 bytes of the Ethernet header that leads to it. */
export class Neighbor {
  readonly key: number;
  state: number;
  word0 = 0;
  word1 = 0;
  word2 = 0;
  /** While REACHABLE: until when. */
  freshUntil = 0;
  deadline = Infinity;
  tries = 0;
  usedAt = 0;
  readonly mac = new Uint8Array(6);
  readonly waiting: TxFrame[] = [];
  waitingBytes = 0;

  constructor(key: number, state: number) {
    this.key = key;
    this.state = state;
  }

  /** Sets the MAC address and the header words that follow from it and from our own address. */
  setMac(bytes: Uint8Array, offset: number, own: Uint8Array): boolean {
    let changed = false;
    for (let i = 0; i < 6; i++) {
      if (this.mac[i] !== bytes[offset + i]) changed = true;
      this.mac[i] = bytes[offset + i];
    }
    const m = this.mac;
    this.word0 = (m[0] << 24) | (m[1] << 16) | (m[2] << 8) | m[3];
    this.word1 = (m[4] << 24) | (m[5] << 16) | (own[0] << 8) | own[1];
    this.word2 = (own[2] << 24) | (own[3] << 16) | (own[4] << 8) | own[5];
    return changed;
  }
}

/** What a path holds before its first packet. */
export const NO_NEIGHBOR: Neighbor = new Neighbor(0, DEAD);

/** What the table asks of its interface. */
export interface NeighborHost {
  readonly ownMac: Uint8Array;
  random32(): number;
  /** Asks for `key`: by broadcast, or of the neighbour itself. */
  ask(key: number, neighbor: Neighbor | null): void;
  /** Sends a packet (from its IP header on) to a neighbour whose address is known. */
  output(neighbor: Neighbor, frame: TxFrame): number;
  /** A packet (from its IP header on) can't be delivered: its neighbour does not answer. */
  undeliverable(frame: TxFrame): void;
}

const SLOTS = limits.NEIGHBORS_MAX * 2;
const MASK = SLOTS - 1;

export class NeighborTable {
  count = 0;
  /** When the first timer is due; never later than that. */
  next = Infinity;
  readonly #host: NeighborHost;
  readonly #stats: ArpStatistics;
  // Open addressing, at most half full; removal shifts back.
  readonly #slots: (Neighbor | null)[] = new Array(SLOTS).fill(null);
  // A stranger who could choose addresses that fall into one slot would make a list of the table.
  readonly #seed: number;
  #waitingBytes = 0;
  #hand = 0;

  constructor(host: NeighborHost, stats: ArpStatistics) {
    this.#host = host;
    this.#stats = stats;
    this.#seed = host.random32() | 1;
  }

  get(key: number): Neighbor | null {
    for (let at = this.#home(key);; at = (at + 1) & MASK) {
      const n = this.#slots[at];
      if (n === null || n.key === key) return n;
    }
  }

  /** The entry of `key`, made if there is none; null when the table is full of entries that are in use. */
  obtain(key: number, now: number): Neighbor | null {
    const known = this.get(key);
    if (known !== null) return known;
    if (this.count >= limits.NEIGHBORS_MAX && !this.#evict()) {
      this.#stats.tableFull++;
      return null;
    }
    const made = new Neighbor(key, NONE);
    made.usedAt = now;
    let at = this.#home(key);
    while (this.#slots[at] !== null) at = (at + 1) & MASK;
    this.#slots[at] = made;
    this.count++;
    this.#stats.created++;
    return made;
  }

  /**
   * Called for a frame to a neighbour that isn't known to be reachable right now. True: send it. False: it waits for an answer, and
   * is reported as undeliverable if none comes.
   */
  use(n: Neighbor, frame: TxFrame, now: number): boolean {
    n.usedAt = now;
    switch (n.state) {
      case PERMANENT:
      case DELAY:
      case PROBE:
        return true;
      case REACHABLE:
        if (now < n.freshUntil) return true;
        /* falls through */
      case STALE:
        // Believed once more, while a transport's progress may confirm it: then nobody needs to be asked.
        n.state = DELAY;
        this.#arm(n, now + limits.DELAY_MS);
        return true;
      case FAILED: // As on Linux a packet begins anew. The last question is a second old, so that is no flood.
      case NONE:
        n.state = INCOMPLETE;
        n.tries = 1;
        this.#arm(n, now + limits.RETRANSMIT_MS);
        this.#enqueue(n, frame);
        this.#host.ask(n.key, null);
        return false;
      default: // INCOMPLETE
        this.#enqueue(n, frame);
        return false;
    }
  }

  /** The address of a neighbour was learned. `confirmed`: it answered us, so that the way there and back is known to work. */
  learn(n: Neighbor, bytes: Uint8Array, offset: number, confirmed: boolean, now: number): void {
    if (n.state === PERMANENT || n.state === DEAD) return;
    const known = n.state >= REACHABLE && n.state <= PROBE;
    const changed = n.setMac(bytes, offset, this.#host.ownMac);
    if (changed && known) this.#stats.updates++;
    if (confirmed) this.#reachable(n, now);
    else if (changed || !known) {
      n.state = STALE;
      n.deadline = Infinity;
    }
    this.#flush(n);
  }

  /** A transport made progress with this neighbour. */
  confirm(n: Neighbor, now: number): void {
    if (n.state >= REACHABLE && n.state <= PROBE) this.#reachable(n, now);
  }

  /** A transport's retransmissions go unanswered: the neighbour is asked again, unless progress confirms it first. */
  doubt(n: Neighbor): void {
    if (n.state !== REACHABLE) return;
    n.state = STALE;
    n.deadline = Infinity;
  }

  setPermanent(key: number, mac: Uint8Array, now: number): boolean {
    const n = this.obtain(key, now);
    if (n === null) return false;
    n.setMac(mac, 0, this.#host.ownMac);
    n.state = PERMANENT;
    n.deadline = Infinity;
    this.#flush(n);
    return true;
  }

  advance(now: number): void {
    if (now < this.next) return;
    this.next = Infinity;
    // A walk over the table, but only when a timer is due: at most once per second and asked neighbour.
    for (let at = 0; at < SLOTS; at++) {
      const n = this.#slots[at];
      if (n === null || n.deadline === Infinity) continue;
      if (n.deadline <= now) this.#expire(n, now);
      if (n.deadline < this.next) this.next = n.deadline;
    }
  }

  /** Forgets everything; what waits is dropped. */
  clear(): void {
    for (const n of this.#slots) {
      if (n === null) continue;
      this.#stats.queueDropped += n.waiting.length;
      n.waiting.length = 0;
      n.state = DEAD;
    }
    this.#slots.fill(null);
    this.count = this.#waitingBytes = 0;
    this.next = Infinity;
  }

  *entries(now: number): Iterable<{ neighbor: Neighbor; state: NeighborEntry["state"] }> {
    for (const n of this.#slots) {
      if (n === null || n.state === NONE) continue;
      const faded = n.state === REACHABLE && now >= n.freshUntil;
      yield { neighbor: n, state: NAMES[faded ? STALE : n.state] };
    }
  }

  #home(key: number): number {
    const h = Math.imul(key ^ this.#seed, 0x9e3779b1);
    return (h ^ (h >>> 15)) & MASK;
  }

  #arm(n: Neighbor, deadline: number): void {
    n.deadline = deadline;
    if (deadline < this.next) this.next = deadline;
  }

  #reachable(n: Neighbor, now: number): void {
    n.state = REACHABLE;
    n.deadline = Infinity;
    // RFC 4861 6.3.2: spread over 0.5 to 1.5 of the base, so that hosts don't ask in step.
    n.freshUntil = now + limits.REACHABLE_MS / 2 + limits.REACHABLE_MS * (this.#host.random32() / 0x1_0000_0000);
  }

  #expire(n: Neighbor, now: number): void {
    if (n.state === DELAY) {
      n.state = PROBE;
      n.tries = 0;
    }
    const most = n.state === PROBE ? limits.UNICAST_PROBES : limits.BROADCAST_PROBES;
    if (n.tries >= most) {
      this.#fail(n);
      return;
    }
    //= rfc1122#2.3.2.1
    // A mechanism to prevent ARP flooding (repeatedly sending an ARP Request for the same IP address, at a high rate) MUST be
    // included. The recommended maximum rate is 1 per second per destination.
    n.tries++;
    this.#arm(n, now + limits.RETRANSMIT_MS);
    this.#host.ask(n.key, n.state === PROBE ? n : null);
  }

  #fail(n: Neighbor): void {
    this.#stats.failures++;
    n.state = FAILED;
    n.deadline = Infinity;
    const waiting = n.waiting.splice(0);
    this.#waitingBytes -= n.waitingBytes;
    n.waitingBytes = 0;
    for (const frame of waiting) this.#host.undeliverable(frame);
  }

  #enqueue(n: Neighbor, frame: TxFrame): void {
    //= rfc1122#2.3.2.2
    // The link layer SHOULD save (rather than discard) at least one (the latest) packet of each set of packets destined to
    // the same unresolved IP address, and transmit the saved packet when the address has been resolved.
    const size = frame.size;
    if (size > limits.WAITING_BYTES || this.#waitingBytes + size > limits.WAITING_BYTES_TOTAL) {
      // Lost, as on Linux. "Try again" would make all others wait who send by this interface, until a stranger's neighbours fail.
      this.#stats.queueDropped++;
      return;
    }
    while (n.waiting.length >= limits.WAITING_FRAMES || n.waitingBytes + size > limits.WAITING_BYTES) {
      this.#uncount(n, n.waiting.shift()!);
      this.#stats.queueDropped++;
    }
    n.waiting.push(copyOf(frame));
    n.waitingBytes += size;
    this.#waitingBytes += size;
    this.#stats.queued++;
  }

  #uncount(n: Neighbor, frame: TxFrame): void {
    n.waitingBytes -= frame.size;
    this.#waitingBytes -= frame.size;
  }

  #flush(n: Neighbor): void {
    if (n.waiting.length === 0) return;
    // Taken out first: sending may come back here.
    const waiting = n.waiting.splice(0);
    this.#waitingBytes -= n.waitingBytes;
    n.waitingBytes = 0;
    for (const frame of waiting) if (this.#host.output(n, frame) < 0) this.#stats.queueDropped++;
  }

  /** Frees one entry: of sixteen from the clock's hand on, the one that is used least and matters least. */
  #evict(): boolean {
    let best = -1;
    let bestScore = Infinity;
    for (let i = 0, seen = 0; i < SLOTS && (seen < 16 || best < 0); i++) {
      const at = (this.#hand + i) & MASK;
      const n = this.#slots[at];
      if (n === null) continue;
      seen++;
      if (n.state === PERMANENT || n.waiting.length > 0) continue;
      // What is stale or failed goes before what works; then the one that was used longest ago.
      const works = n.state === REACHABLE || n.state === DELAY || n.state === PROBE;
      const score = n.usedAt + (works ? 1e15 : 0);
      if (score < bestScore) {
        bestScore = score;
        best = at;
      }
    }
    this.#hand = (this.#hand + 17) & MASK;
    if (best < 0) return false;
    this.#remove(best);
    this.#stats.evicted++;
    return true;
  }

  #remove(slot: number): void {
    const gone = this.#slots[slot]!;
    gone.state = DEAD;
    this.count--;
    let hole = slot;
    this.#slots[hole] = null;
    for (let at = (hole + 1) & MASK; this.#slots[at] !== null; at = (at + 1) & MASK) {
      const n = this.#slots[at]!;
      // An entry may move back into the hole if its home isn't between the hole and where it stands.
      if (((at - this.#home(n.key)) & MASK) < ((at - hole) & MASK)) continue;
      this.#slots[hole] = n;
      this.#slots[at] = null;
      hole = at;
    }
  }
}

/** A packet with memory of its own, all in one piece. */
function copyOf(frame: TxFrame): TxFrame {
  const copy = new TxFrame();
  const size = frame.size;
  if (TX_HEADROOM + size > copy.memory.bytes.length) copy.memory = new FrameMemory(TX_HEADROOM + size);
  frame.copyTo(copy.memory.bytes, TX_HEADROOM);
  copy.length = size;
  copy.checksumStart = frame.checksumStart;
  copy.checksumOffset = frame.checksumOffset;
  copy.segmentSize = frame.segmentSize;
  copy.segmentHeaderLength = frame.segmentHeaderLength;
  return copy;
}
