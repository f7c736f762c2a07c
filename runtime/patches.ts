/**
 * Members of global objects, replaced and put back exactly.
 *
 * @module
 */

/** What {@link Patches} has put in the place of something. */
interface Patch {
  target: object;
  name: PropertyKey;
  before: PropertyDescriptor | undefined;
  now: unknown;
}

// deno-lint-ignore no-explicit-any
type AnyFunction = (...args: any[]) => any;

/** Replaced members, in the order in which they were replaced. */
export class Patches {
  readonly #patches: Patch[] = [];

  /**
   * Replaces a member. The new one has the kind of the old one: enumerable or not, and writable where it was.
   *
   * @throws {TypeError} when it can't be replaced
   */
  replace(target: object, name: PropertyKey, value: unknown): void {
    const before = Object.getOwnPropertyDescriptor(target, name);
    if (typeof value === "function" && typeof name === "string") {
      Object.defineProperty(value, "name", { value: name, configurable: true });
    }
    Object.defineProperty(target, name, {
      value,
      writable: before?.writable ?? true,
      enumerable: before?.enumerable ?? true,
      configurable: true,
    });
    this.#patches.push({ target, name, before, now: value });
  }

  /**
   * Puts everything back, the last first. What somebody else has replaced since then is theirs and stays; it may well call
   * ours, which therefore has to work after this, too.
   */
  undo(): void {
    for (const { target, name, before, now } of this.#patches.splice(0).reverse()) {
      if (Object.getOwnPropertyDescriptor(target, name)?.value !== now) continue;
      if (before === undefined) Reflect.deleteProperty(target, name);
      else Object.defineProperty(target, name, before);
    }
  }
}

/** The present value of a member, as a function. */
export function member<T extends AnyFunction>(target: object, name: PropertyKey): T | undefined {
  return Reflect.get(target, name) as T | undefined;
}
