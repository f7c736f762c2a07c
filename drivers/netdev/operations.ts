/**
 * A class's operations: found by name, called so that nothing they do harms the caller.
 *
 * @module
 */
import { EIO, errnoNumber, ETIMEDOUT } from "../../ffi/errno.ts";

/** How long an operation may take before its caller gets ETIMEDOUT, in milliseconds. */
export const OPERATION_LIMIT_MS = 1000;

/** An operation by the name that we use; the kernel's is `ndo` and the same. */
export type OperationName =
  | "open"
  | "stop"
  | "startXmit"
  | "getStats64"
  | "siocdevprivate"
  | "doIoctl"
  | "changeMtu"
  | "setMacAddress"
  | "setRxMode";

const NAMES: readonly OperationName[] = [
  "open",
  "stop",
  "startXmit",
  "getStats64",
  "siocdevprivate",
  "doIoctl",
  "changeMtu",
  "setMacAddress",
  "setRxMode",
];

/** Something that a class did wrong. */
export interface DeviceFailure {
  /** The device. */
  readonly device: string;
  /** The operation, or "create" or "setup". */
  readonly operation: string;
  /** What it threw, or an error that says what happened. */
  readonly error: unknown;
  /** What the caller got: "EIO", "ETIMEDOUT"… */
  readonly code: string;
}

/** Told of every failure. */
export type FailureReport = (failure: DeviceFailure) => void;

/** A method of a class. */
// deno-lint-ignore no-explicit-any
export type Operation = (...args: any[]) => unknown;

/** The errno for what a class threw: the error's own code if it has a known one, else EIO. */
export function errnoOf(error: unknown): number {
  const code = typeof error === "object" && error !== null && "code" in error ? error.code : "";
  return (typeof code === "string" && errnoNumber(code)) || EIO;
}

function isPromise(value: unknown): value is PromiseLike<unknown> {
  return typeof value === "object" && value !== null && "then" in value && typeof value.then === "function";
}

/** The operations of an instance. */
export class Operations {
  /** The instance whose operations they are; null for a device without class. */
  readonly instance: object | null;
  readonly #found = new Map<OperationName, Operation>();
  readonly #device: string;
  readonly #limitMs: number;
  readonly #report: FailureReport;

  /** Looks for the operations of `instance`, by our names first, then by the kernel's. */
  constructor(device: string, instance: object | null, limitMs: number, report: FailureReport) {
    this.#device = device;
    this.#limitMs = limitMs;
    this.#report = report;
    this.instance = instance;
    if (instance === null) return;
    const members = instance as Record<string, unknown>;
    for (const name of NAMES) {
      const method = members[name] ?? members[`ndo${name[0].toUpperCase()}${name.slice(1)}`];
      if (typeof method === "function") this.#found.set(name, (method as Operation).bind(instance));
    }
  }

  /** False when the class says `ALLOW_DELETE = false`. */
  get mayDelete(): boolean {
    return this.instance === null || (this.instance.constructor as { ALLOW_DELETE?: unknown }).ALLOW_DELETE !== false;
  }

  /** True if the class has it. */
  has(name: OperationName): boolean {
    return this.#found.has(name);
  }

  /** The operation itself, for calls that are made for every frame. */
  get(name: OperationName): Operation | null {
    return this.#found.get(name) ?? null;
  }

  /** How many failures it has reported. */
  reports = 0;

  /** Reports what went wrong; a report that throws is ignored. */
  report(operation: string, error: unknown, code: string): void {
    this.reports++;
    try {
      this.#report({ device: this.#device, operation, error, code });
    } catch { /* the class's failure must not become the system's */ }
  }

  /** The errno, negative, for what an operation threw; reported unless the class meant it as an answer to its caller. */
  failed(operation: string, error: unknown): number {
    const errno = errnoOf(error);
    const deliberate = typeof error === "object" && error !== null && "code" in error && errnoNumber(String(error.code)) !== 0;
    if (!deliberate) this.report(operation, error, "EIO");
    return -errno;
  }

  #number(operation: string, value: unknown): number {
    if (value === undefined || value === null) return 0;
    if (typeof value === "number" && Number.isInteger(value) && value >= -4095 && value <= 0x7fffffff) return value;
    const error = new TypeError(`${operation} of device "${this.#device}" answered ${String(value)}: 0 or an errno was expected`);
    this.report(operation, error, "EIO");
    return -EIO;
  }

  /**
   * Calls an operation: its answer, a negative errno for what it threw, ETIMEDOUT if it hasn't settled within the limit.
   * At once if the operation answers at once. 0 if the class doesn't have it.
   */
  call(name: OperationName, ...args: unknown[]): number | Promise<number> {
    const operation = this.#found.get(name);
    if (operation === undefined) return 0;
    return this.run(name, () => operation(...args));
  }

  /** The same for any function. */
  run(name: string, operation: () => unknown): number | Promise<number> {
    let value: unknown;
    try {
      value = operation();
    } catch (error) {
      return this.failed(name, error);
    }
    return isPromise(value) ? this.#later(name, value) : this.#number(name, value);
  }

  async #later(name: string, value: PromiseLike<unknown>): Promise<number> {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const late = Symbol();
    const limit = new Promise<typeof late>((resolve) => timer = setTimeout(() => resolve(late), this.#limitMs));
    try {
      const answer = await Promise.race([value, limit]);
      if (answer !== late) return this.#number(name, answer);
    } catch (error) {
      return this.failed(name, error);
    } finally {
      clearTimeout(timer);
    }
    // Whatever it does in the end is too late to be anybody's answer.
    value.then(undefined, () => {});
    const error = new Error(`${name} of device "${this.#device}" has not answered within ${this.#limitMs} ms`);
    this.report(name, error, "ETIMEDOUT");
    return -ETIMEDOUT;
  }
}
