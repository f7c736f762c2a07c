/**
 * Reassembly of IPv4 fragments (RFC 791 section 3.2, RFC 815), with RFC 5722's lesson: an overlap spoils the whole datagram.
 *
 * Everything is bounded: datagrams, bytes, fragments and runs per datagram, time. What is known about a datagram stands in
 * integer tables; its bytes stand in pooled memory at the place where they belong, so that a complete datagram is complete
 * without one more copy.
 *
 * @module
 */
import { FrameMemory } from "../device.ts";
import { finish, sum } from "../wire/checksum.ts";
import { copyBytes, sameBytes } from "../wire/copy.ts";
import { MemoryPool } from "./memory_pool.ts";
import { DEFAULT_LIMITS, newStatistics, type ReassemblyLimits, type ReassemblyStatistics } from "./reassembly_limits.ts";
import { RANGE_CROSSES, RANGE_FREE, RunTable } from "./run_table.ts";
import type { Packet } from "./types.ts";

export type { ReassemblyLimits, ReassemblyStatistics } from "./reassembly_limits.ts";

const MIN_HEADER = 20;
const MAX_PACKET = 65_535;

// Columns of the slot table.
const SRC = 0;
const DST = 1;
const PROTO_ID = 2;
/** SLOT_FREE, SLOT_ACTIVE, or SLOT_SPOILED: known to be bad, holds no memory, and swallows what still comes. */
const STATE = 3;
/** Bytes of data (without header), -1 until the last fragment came. */
const TOTAL = 4;
/** Highest byte of data seen so far. */
const HIGHEST = 5;
const FRAGMENTS = 6;
/** Where data begins in the memory: the length of the first fragment's header, MIN_HEADER before it came. */
const BASE = 7;
/** Length of the first fragment as it came, with its header; 0 before it came. */
const FIRST_LENGTH = 8;
/** One bit per ECN code point seen. */
const ECN = 9;
const COLUMNS = 10;

const SLOT_FREE = 0;
const SLOT_ACTIVE = 1;
const SLOT_SPOILED = 2;

const ECN_NOT_ECT_BIT = 1;
const ECN_CE_BIT = 8;

/**
 * Puts fragments together. Pure: time is an argument.
 *
 * A returned memory is valid until the next call of {@link Reassembler.input} or {@link Reassembler.advance}. The packet in it
 * carries no receive flags: the transport has to verify its checksum.
 */
export class Reassembler {
  /** Length in bytes of the packet that `input` returned last, header included. */
  length = 0;
  readonly statistics: ReassemblyStatistics = newStatistics();
  readonly #limits: ReassemblyLimits;
  readonly #pool: MemoryPool;
  readonly #slots: Int32Array;
  readonly #deadlines: Float64Array;
  readonly #runs: RunTable;
  readonly #memories: (FrameMemory | null)[];
  #lent: FrameMemory | null = null;
  #nextDeadline = Infinity;
  /** Pooled memory goes back to the system when nothing came for a whole timeout. */
  #idleDeadline = Infinity;
  #lastSlot = 0;

  constructor(limits: Partial<ReassemblyLimits> = {}) {
    this.#limits = { ...DEFAULT_LIMITS, ...limits };
    const { datagrams, runs } = this.#limits;
    this.#pool = new MemoryPool(Math.max(this.#limits.bytes, MAX_PACKET + 1));
    this.#slots = new Int32Array(datagrams * COLUMNS);
    this.#deadlines = new Float64Array(datagrams);
    this.#runs = new RunTable(datagrams, runs);
    this.#memories = new Array<FrameMemory | null>(datagrams).fill(null);
  }

  /**
   * One fragment: the packet that holds it (valid header, `offset` and `length` of its data), with the fields of its header.
   *
   * @param id the header's identification
   * @param fragmentOffset where its data belongs, in bytes
   * @param more the more-fragments flag
   * @returns the memory with the complete packet at offset 0 and its length in {@link Reassembler.length}, or null
   */
  input(packet: Packet, id: number, fragmentOffset: number, more: boolean, now: number): FrameMemory | null {
    this.#takeBack();
    const stats = this.statistics;
    stats.fragments++;
    const { length } = packet;
    //= rfc791#3.2
    //# If an internet datagram is fragmented, its data portion must be broken on 8 octet boundaries.
    if (length <= 0 || (more && (length & 7) !== 0) || fragmentOffset < 0 || (fragmentOffset & 7) !== 0) {
      stats.badLength++;
      return null;
    }
    const protoId = (packet.proto << 16) | (id & 0xffff);
    let slot = this.#find(packet.srcKey, packet.dstKey, protoId);
    if (slot < 0) slot = this.#open(packet.srcKey, packet.dstKey, protoId, now);
    if (this.#slots[slot * COLUMNS + STATE] === SLOT_SPOILED) {
      stats.spoiled++;
      return null;
    }
    this.#idleDeadline = now + this.#limits.timeoutMs;
    const complete = this.#add(slot, packet, fragmentOffset, fragmentOffset + length, more);
    const memory = complete ? this.#complete(slot) : null;
    stats.bytes = this.#pool.allocated;
    return memory;
  }

  /** When {@link Reassembler.advance} is next needed, or Infinity. */
  nextDeadline(): number {
    return Math.min(this.#nextDeadline, this.#idleDeadline);
  }

  /**
   * Gives up what is too old. `onExpired` is called for a datagram whose first fragment was there, with that fragment as it
   * came (header at offset 0): the caller answers with ICMP time exceeded, code 1.
   */
  advance(now: number, onExpired: (memory: FrameMemory, length: number) => void): void {
    this.#takeBack();
    if (now >= this.#nextDeadline) {
      for (let slot = 0; slot < this.#limits.datagrams; slot++) {
        const at = slot * COLUMNS;
        if (this.#slots[at + STATE] === SLOT_FREE || now < this.#deadlines[slot]) continue;
        if (this.#slots[at + STATE] === SLOT_ACTIVE) {
          this.statistics.timeouts++;
          const memory = this.#memories[slot];
          //= rfc1122#3.3.2
          //# If this timeout expires, the partially-reassembled datagram MUST be discarded and an ICMP Time
          //# Exceeded message sent to the source host (if fragment zero has been received).
          if (memory !== null && this.#slots[at + FIRST_LENGTH] > 0) onExpired(memory, this.#slots[at + FIRST_LENGTH]);
        }
        this.#close(slot);
      }
      this.#findDeadline();
    }
    if (now >= this.#idleDeadline) {
      this.#idleDeadline = Infinity;
      this.#pool.trim();
    }
    this.statistics.bytes = this.#pool.allocated;
  }

  #takeBack(): void {
    if (this.#lent === null) return;
    this.#pool.give(this.#lent);
    this.#lent = null;
  }

  //= rfc791#2.3
  //# To assemble the fragments of an internet datagram, an internet protocol module (for example at a destination host)
  //# combines internet datagrams that all have the same value for the four fields: identification, source, destination, and
  //# protocol.
  #find(src: number, dst: number, protoId: number): number {
    const slots = this.#slots;
    let slot = this.#lastSlot;
    // Fragments come in trains: the slot of the last one is looked at first. The table is small enough to be walked.
    for (let i = this.#limits.datagrams; i > 0; i--) {
      const at = slot * COLUMNS;
      const same = slots[at + PROTO_ID] === protoId && slots[at + SRC] === src && slots[at + DST] === dst;
      if (same && slots[at + STATE] !== SLOT_FREE) {
        this.#lastSlot = slot;
        return slot;
      }
      if (++slot === this.#limits.datagrams) slot = 0;
    }
    return -1;
  }

  #open(src: number, dst: number, protoId: number, now: number): number {
    const slots = this.#slots;
    let slot = 0;
    while (slot < this.#limits.datagrams && slots[slot * COLUMNS + STATE] !== SLOT_FREE) slot++;
    if (slot === this.#limits.datagrams) {
      slot = this.#oldest(-1, false);
      this.#evict(slot);
    }
    const at = slot * COLUMNS;
    slots.fill(0, at, at + COLUMNS);
    slots[at + SRC] = src;
    slots[at + DST] = dst;
    slots[at + PROTO_ID] = protoId;
    slots[at + STATE] = SLOT_ACTIVE;
    slots[at + TOTAL] = -1;
    slots[at + BASE] = MIN_HEADER;
    this.#runs.clear(slot);
    //= rfc1122#3.3.2 type=exception reason=30 seconds as Linux: half a minute of waiting memory is enough for today's paths
    //# The reassembly timeout value SHOULD be a fixed value, not set from the remaining TTL. It is recommended that the value
    //# lie between 60 seconds and 120 seconds.
    this.#deadlines[slot] = now + this.#limits.timeoutMs;
    if (this.#deadlines[slot] < this.#nextDeadline) this.#nextDeadline = this.#deadlines[slot];
    this.#lastSlot = slot;
    this.statistics.datagrams++;
    return slot;
  }

  /** Puts a fragment's bytes in their place. True when the datagram is complete. */
  #add(slot: number, packet: Packet, start: number, end: number, more: boolean): boolean {
    const slots = this.#slots;
    const at = slot * COLUMNS;
    const stats = this.statistics;
    const header = packet.ipHeaderLength;
    // The first fragment's header may be longer than what was assumed for the bytes that came before it.
    if (Math.max(header, slots[at + BASE]) + Math.max(end, slots[at + HIGHEST]) > MAX_PACKET) {
      return this.#spoil(slot, "oversized");
    }
    const total = slots[at + TOTAL];
    if (more ? total >= 0 && end > total : (total >= 0 && end !== total) || end < slots[at + HIGHEST]) {
      return this.#spoil(slot, "inconsistent");
    }
    const place = this.#runs.place(slot, start, end);
    if (place !== RANGE_FREE) {
      if (place === RANGE_CROSSES || !this.#same(slot, packet, start, end)) return this.#spoil(slot, "overlaps");
      stats.duplicates++;
      return false;
    }
    if (++slots[at + FRAGMENTS] > this.#limits.fragments || !this.#runs.add(slot, start, end)) {
      return this.#spoil(slot, "tooManyFragments");
    }
    if (!more) slots[at + TOTAL] = end;
    if (end > slots[at + HIGHEST]) slots[at + HIGHEST] = end;
    slots[at + ECN] |= 1 << (packet.tos & 3);
    const memory = this.#room(slot, start === 0 ? header : slots[at + BASE], end);
    copyBytes(packet.memory.bytes, packet.offset, memory.bytes, slots[at + BASE] + start, end - start);
    if (start === 0) {
      copyBytes(packet.memory.bytes, packet.ipOffset, memory.bytes, 0, header);
      slots[at + FIRST_LENGTH] = header + end;
    }
    return slots[at + TOTAL] >= 0 && this.#runs.isWhole(slot, slots[at + TOTAL]);
  }

  /** True if the memory holds the same bytes at [start, end) as the packet. */
  #same(slot: number, packet: Packet, start: number, end: number): boolean {
    const memory = this.#memories[slot];
    if (memory === null) return false;
    // Linux ignores whatever lies within what is there. The bytes are compared here: a network's duplicate is the same,
    // an attacker's is not.
    return sameBytes(memory.bytes, this.#slots[slot * COLUMNS + BASE] + start, packet.memory.bytes, packet.offset, end - start);
  }

  /** The slot's memory with room for data up to `end` behind a header of `base` bytes. Grown or shifted when needed. */
  #room(slot: number, base: number, end: number): FrameMemory {
    const at = slot * COLUMNS;
    const slots = this.#slots;
    let memory = this.#memories[slot];
    const oldBase = slots[at + BASE];
    const used = memory === null ? 0 : oldBase + slots[at + HIGHEST];
    const need = Math.max(base, oldBase) + Math.max(end, slots[at + HIGHEST]);
    if (memory === null || memory.bytes.length < need) {
      const larger = this.#allocate(slot, need);
      if (memory !== null) {
        copyBytes(memory.bytes, 0, larger.bytes, 0, Math.min(used, memory.bytes.length));
        this.#pool.give(memory);
      }
      this.#memories[slot] = memory = larger;
    }
    if (base !== oldBase) {
      // The first fragment has options, and others came before it.
      memory.bytes.copyWithin(base, oldBase, oldBase + slots[at + HIGHEST]);
      slots[at + BASE] = base;
    }
    return memory;
  }

  #allocate(slot: number, size: number): FrameMemory {
    let memory = this.#pool.take(size);
    // At most one turn per datagram. Alone, a datagram may exceed the limit while it grows: old and new memory at once.
    while (memory === null) {
      const oldest = this.#oldest(slot, true);
      if (oldest < 0) return this.#pool.force(size);
      this.#evict(oldest);
      memory = this.#pool.take(size);
    }
    return memory;
  }

  /** The slot with the earliest deadline other than `except`; spoiled ones first, as they are worth nothing. */
  #oldest(except: number, withMemory: boolean): number {
    let found = -1;
    let best = Infinity;
    for (let slot = 0; slot < this.#limits.datagrams; slot++) {
      const state = this.#slots[slot * COLUMNS + STATE];
      if (slot === except || state === SLOT_FREE || (withMemory && this.#memories[slot] === null)) continue;
      const worth = state === SLOT_SPOILED ? this.#deadlines[slot] - this.#limits.timeoutMs : this.#deadlines[slot];
      if (worth < best) {
        best = worth;
        found = slot;
      }
    }
    return found;
  }

  #evict(slot: number): void {
    this.statistics.evicted++;
    this.#close(slot);
    this.#findDeadline();
  }

  //= rfc5722#4
  //# When reassembling an IPv6 datagram, if one or more its constituent fragments is determined to be an overlapping fragment,
  //# the entire datagram (and any constituent fragments, including those not yet received) MUST be silently discarded.
  #spoil(slot: number, reason: "overlaps" | "inconsistent" | "oversized" | "tooManyFragments" | "badEcn"): false {
    this.statistics[reason]++;
    this.#slots[slot * COLUMNS + STATE] = SLOT_SPOILED;
    this.#release(slot);
    return false;
  }

  #release(slot: number): void {
    const memory = this.#memories[slot];
    if (memory !== null) this.#pool.give(memory);
    this.#memories[slot] = null;
  }

  #close(slot: number): void {
    this.#slots[slot * COLUMNS + STATE] = SLOT_FREE;
    this.statistics.datagrams--;
    this.#release(slot);
  }

  #findDeadline(): void {
    let next = Infinity;
    for (let slot = 0; slot < this.#limits.datagrams; slot++) {
      if (this.#slots[slot * COLUMNS + STATE] !== SLOT_FREE && this.#deadlines[slot] < next) next = this.#deadlines[slot];
    }
    this.#nextDeadline = next;
  }

  /** Makes one packet of a complete datagram, and lends its memory to the caller. */
  #complete(slot: number): FrameMemory | null {
    const at = slot * COLUMNS;
    const ecn = this.#slots[at + ECN];
    if ((ecn & ECN_NOT_ECT_BIT) !== 0 && ecn !== ECN_NOT_ECT_BIT) {
      this.#spoil(slot, "badEcn");
      return null;
    }
    const memory = this.#memories[slot]!;
    const base = this.#slots[at + BASE];
    const { view } = memory;
    this.length = base + this.#slots[at + TOTAL];
    //= rfc3168#5.3
    //# Reassembly of a fragmented packet MUST NOT lose indications of congestion.
    if ((ecn & ECN_CE_BIT) !== 0) view.setUint8(1, view.getUint8(1) | 3);
    view.setUint16(2, this.length);
    view.setUint16(6, 0);
    view.setUint16(10, 0);
    view.setUint16(10, finish(sum(view, 0, base, 0)));
    this.#memories[slot] = null;
    this.#lent = memory;
    this.statistics.reassembled++;
    this.#close(slot);
    this.#findDeadline();
    return memory;
  }
}
