/**
 * The receive queue of a UDP socket: a ring of bytes and a ring of records. A queue that is empty holds no memory: it gives
 * it back to a pool that all sockets of a stack share, so that a thousand idle sockets cost nothing.
 *
 * @module
 */
import { copyBytes } from "../wire/copy.ts";
import type { UdpSource } from "./types.ts";

/** Bytes that wait in all queues of a stack together, at most (by the size of their rings). */
export const QUEUE_MEMORY_MAX = 64 << 20;
/** Bytes that the pool keeps for later. */
export const POOL_MEMORY_MAX = 4 << 20;

const SMALLEST = 4096;
/** Ring sizes: 4 KiB times a power of two, up to 64 MiB. */
const CLASSES = 15;
/** A ring of 4 KiB has this many records: a datagram of 128 bytes or more never waits for one. */
const SMALLEST_RECORDS = 32;

// One record: source key and port, the key it was sent to, interface, length.
const SOURCE_KEY = 0;
const SOURCE_PORT = 1;
const LOCAL_KEY = 2;
const INTERFACE = 3;
const LENGTH = 4;
const RECORD = 5;

class QueueMemory {
  readonly bytes: Uint8Array;
  readonly records: Int32Array;
  readonly recordLimit: number;
  constructor(readonly sizeClass: number) {
    this.bytes = new Uint8Array(SMALLEST << sizeClass);
    this.recordLimit = SMALLEST_RECORDS << sizeClass;
    this.records = new Int32Array(this.recordLimit * RECORD);
  }
}

/** The memory of all queues of a stack. */
export class QueuePool {
  /** Bytes lent to queues, and bytes that wait. */
  lent = 0;
  pooled = 0;
  readonly #free: QueueMemory[][] = Array.from({ length: CLASSES }, () => []);
  readonly #limit: number;

  constructor(limit = QUEUE_MEMORY_MAX) {
    this.#limit = limit;
  }

  take(sizeClass: number): QueueMemory | null {
    const size = SMALLEST << sizeClass;
    if (sizeClass >= CLASSES || this.lent + size > this.#limit) return null;
    this.lent += size;
    const memory = this.#free[sizeClass].pop();
    if (memory === undefined) return new QueueMemory(sizeClass);
    this.pooled -= size;
    return memory;
  }

  give(memory: QueueMemory): void {
    const size = memory.bytes.length;
    this.lent -= size;
    if (this.pooled + size > POOL_MEMORY_MAX) return;
    this.pooled += size;
    this.#free[memory.sizeClass].push(memory);
  }
}

/** Datagrams that wait to be received, in order. */
export class DatagramQueue {
  /** Datagrams that wait, and their bytes. */
  count = 0;
  bytes = 0;
  readonly #pool: QueuePool;
  #memory: QueueMemory | null = null;
  #head = 0;
  #headRecord = 0;

  constructor(pool: QueuePool) {
    this.#pool = pool;
  }

  /** Length of the first datagram, -1 if there is none. */
  get nextLength(): number {
    return this.#memory === null ? -1 : this.#memory.records[this.#headRecord * RECORD + LENGTH];
  }

  /** Adds a datagram. False, with nothing changed, when it would exceed `bytesMax`, `countMax` or the memory of all. */
  push(
    from: Uint8Array,
    offset: number,
    length: number,
    bytesMax: number,
    countMax: number,
    sourceKey: number,
    sourcePort: number,
    localKey: number,
    interfaceIndex: number,
  ): boolean {
    if (this.count >= countMax || this.bytes + length > bytesMax || !this.#reserve(length)) return false;
    const memory = this.#memory!;
    const size = memory.bytes.length;
    const tail = (this.#head + this.bytes) & (size - 1);
    const first = Math.min(length, size - tail);
    copyBytes(from, offset, memory.bytes, tail, first);
    if (first < length) copyBytes(from, offset + first, memory.bytes, 0, length - first);
    const { records } = memory;
    const at = ((this.#headRecord + this.count) & (memory.recordLimit - 1)) * RECORD;
    records[at + SOURCE_KEY] = sourceKey;
    records[at + SOURCE_PORT] = sourcePort;
    records[at + LOCAL_KEY] = localKey;
    records[at + INTERFACE] = interfaceIndex;
    records[at + LENGTH] = length;
    this.count++;
    this.bytes += length;
    return true;
  }

  /** Takes the first datagram out: at most `length` bytes are copied, the rest is lost. -1 if there is none. */
  shift(into: Uint8Array, offset: number, length: number, source: UdpSource): number {
    const memory = this.#memory;
    if (memory === null) return -1;
    const { records } = memory;
    const at = this.#headRecord * RECORD;
    source.key = records[at + SOURCE_KEY];
    source.port = records[at + SOURCE_PORT];
    source.localKey = records[at + LOCAL_KEY];
    source.interfaceIndex = records[at + INTERFACE];
    source.length = records[at + LENGTH];
    const copied = Math.min(length, source.length);
    const size = memory.bytes.length;
    const first = Math.min(copied, size - this.#head);
    copyBytes(memory.bytes, this.#head, into, offset, first);
    if (first < copied) copyBytes(memory.bytes, 0, into, offset + first, copied - first);
    this.#head = (this.#head + source.length) & (size - 1);
    this.#headRecord = (this.#headRecord + 1) & (memory.recordLimit - 1);
    this.count--;
    this.bytes -= source.length;
    if (this.count === 0) this.clear();
    return copied;
  }

  /** Throws away what waits, and gives the memory back. */
  clear(): void {
    if (this.#memory !== null) this.#pool.give(this.#memory);
    this.#memory = null;
    this.count = this.bytes = 0;
    this.#head = this.#headRecord = 0;
  }

  /** Room for one more datagram of `length` bytes, in a larger ring if need be. */
  #reserve(length: number): boolean {
    const old = this.#memory;
    let sizeClass = old === null ? 0 : old.sizeClass;
    while (sizeClass < CLASSES) {
      if (SMALLEST << sizeClass >= this.bytes + length && SMALLEST_RECORDS << sizeClass > this.count) break;
      sizeClass++;
    }
    if (old !== null && sizeClass === old.sizeClass) return true;
    const memory = this.#pool.take(sizeClass);
    if (memory === null) return false;
    if (old !== null) {
      const first = Math.min(this.bytes, old.bytes.length - this.#head);
      copyBytes(old.bytes, this.#head, memory.bytes, 0, first);
      copyBytes(old.bytes, 0, memory.bytes, first, this.bytes - first);
      const records = Math.min(this.count, old.recordLimit - this.#headRecord) * RECORD;
      memory.records.set(old.records.subarray(this.#headRecord * RECORD, this.#headRecord * RECORD + records));
      memory.records.set(old.records.subarray(0, this.count * RECORD - records), records);
      this.#pool.give(old);
    }
    this.#memory = memory;
    this.#head = this.#headRecord = 0;
    return true;
  }
}
