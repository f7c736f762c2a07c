/**
 * Reads and writes that wait, in a circle: the owner holds the last, which knows the first. An idle connection has one read
 * that waits, and 10,000 of them shouldn't have 10,000 arrays for it.
 *
 * @module
 */

/** A read or write that waits. */
export interface Waiter<T> {
  bytes: Uint8Array;
  resolve(value: T): void;
  reject(error: unknown): void;
  /** Kept by the circle: who comes after it; the first, for the last. */
  next: Waiter<T> | null;
}

/** Of a waiter that only wants its turn. */
export const NO_BYTES: Uint8Array = new Uint8Array(0);

/** Puts `waiter` behind `last`; it is the new last. */
export function append<T>(last: Waiter<T> | null, waiter: Waiter<T>): Waiter<T> {
  waiter.next = last === null ? waiter : last.next;
  if (last !== null) last.next = waiter;
  return waiter;
}

/** Takes the first away: the last, or null when nobody is left. */
export function withoutFirst<T>(last: Waiter<T>): Waiter<T> | null {
  const first = last.next!;
  if (first === last) return null;
  last.next = first.next;
  return last;
}

/** Rejects all, the first one first. */
export function rejectAll<T>(last: Waiter<T> | null, error: unknown): void {
  while (last !== null) {
    last.next!.reject(error);
    last = withoutFirst(last);
  }
}
