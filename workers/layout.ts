/**
 * What the main thread and a worker share: a table of slots, one a socket, with a line of numbers for each side, and
 * memory that rings are leased from. Every number has one writer; the other side only reads it.
 *
 * @module
 */

/** Sockets of one worker: connections, listeners and datagram sockets together. A connection beyond it is reset, and counted. */
export const SLOTS_MAX = 16_384;

/** Numbers of a slot: the worker's line, then the main thread's. Each is a cache line, so that the two don't fight over one. */
export const SLOT_CELLS = 32;
const LINE_CELLS = 16;

// The same places in both lines.
/** What this side says, bits below. */
export const FLAGS = 0;
/** A code of `stack/codes.ts` that goes with `FAILED`. */
export const ERROR = 1;
/** Where the ring that this side writes lies, its size, and how many bytes were ever put in. */
export const BASE = 2;
export const SIZE = 3;
export const HEAD = 4;
/** How many bytes this side has ever taken out of the other's ring. */
export const TAIL = 5;
/** 1: this side waits for room in its ring. */
export const BLOCKED = 6;

// The rest of the worker's line.
/** The listener's slot, for an accepted connection. */
export const LISTENER = 7;
/** For a datagram socket: how many errors there were; `ERROR` is the last. */
export const ERRORS = 7;
export const LOCAL_KEY = 8;
export const REMOTE_KEY = 9;
/** Local port in the upper half, remote port in the lower. */
export const PORTS = 10;

/** In the main thread's line, for a listener: connections that it has taken over from the worker. */
export const TAKEN = 7;

// The worker's flags.
/** An accepted connection that the main thread has not seen yet, until it makes its own side. */
export const NEW = 1;
/** The peer's FIN has come. */
export const FIN = 2;
/** All that the peer sent is in the ring. */
export const END = 4;
/** `ERROR` says why it failed. */
export const FAILED = 8;
/** TCP is done with it. */
export const CLOSED = 16;
/** The worker has let go of the slot. */
export const FREED = 32;

// The main thread's flags.
/** No more will be written. */
export const SHUT = 1;
/** The user has let go; what was written is still sent. */
export const CLOSE = 2;
/** The user had not read everything. */
export const UNREAD = 4;
/** Reset it at once. */
export const ABORT = 8;
/** The main thread has let go of the slot too: it may be used again. */
export const DONE = 16;

/** A ring that a socket gets with its first bytes, and how many there are each way. */
export const SMALL_RING = 16_384;
export const SMALL_RINGS = 4_096;
/** A ring that it gets when it has filled a small one; also what datagrams need. */
export const LARGE_RING = 262_144;
export const LARGE_RINGS = 128;
/** Bytes of memory for the rings of one direction: addresses only, the kernel gives pages to what is used. */
export const ARENA_BYTES: number = SMALL_RING * SMALL_RINGS + LARGE_RING * LARGE_RINGS;

/** The memory of one worker, as it goes to it. */
export interface SharedMemory {
  slots: SharedArrayBuffer;
  /** Rings that the worker writes. */
  down: SharedArrayBuffer;
  /** Rings that the main thread writes. */
  up: SharedArrayBuffer;
  /** What wakes the worker, and what wakes the main thread. */
  workerBell: SharedArrayBuffer;
  mainBell: SharedArrayBuffer;
}

/** Where the worker's line of a slot begins. */
export function workerLine(slot: number): number {
  return slot * SLOT_CELLS;
}

/** Where the main thread's line of a slot begins. */
export function mainLine(slot: number): number {
  return slot * SLOT_CELLS + LINE_CELLS;
}
