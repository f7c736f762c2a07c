/**
 * What an argument must be, said with a TypeError before anything has changed. Undefined is an option left out.
 *
 * @module
 */

/** What can have options in it: no text, no null. */
export function checkObject(options: unknown, what = "options"): void {
  if (typeof options !== "object" || options === null) throw new TypeError(`${what} must be an object: ${options}`);
}

/** True or false. */
export function checkSwitch(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "boolean") throw new TypeError(`${name} must be true or false: ${value}`);
}

/** A list. */
export function checkList(name: string, value: unknown): void {
  if (value !== undefined && !Array.isArray(value)) throw new TypeError(`${name} must be an array: ${value}`);
}

/** Something that is called. */
export function checkFunction(name: string, value: unknown): void {
  if (value !== undefined && typeof value !== "function") throw new TypeError(`${name} must be a function: ${value}`);
}

/** One of some words. */
export function checkWord(name: string, value: unknown, words: readonly string[]): void {
  if (value === undefined || words.includes(value as string)) return;
  throw new TypeError(`${name} must be ${words.map((word) => `"${word}"`).join(" or ")}: ${value}`);
}

/** Where time comes from. */
export function checkClock(value: unknown): void {
  const clock = value as { now?: unknown; setTimer?: unknown } | null | undefined;
  if (clock === undefined || (typeof clock?.now === "function" && typeof clock.setTimer === "function")) return;
  throw new TypeError("clock must be a Clock, like systemClock or a ManualClock");
}

/** A MAC address as bytes. */
export function checkMac(name: string, value: unknown): void {
  if (value === undefined || (value instanceof Uint8Array && value.length === 6 && (value[0] & 1) === 0)) return;
  throw new TypeError(`${name} must be 6 bytes, and no group's: ${value}`);
}
