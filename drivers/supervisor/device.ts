/**
 * What answers ioctls: devices by the names of their interfaces, and the memory behind a request.
 *
 * @module
 */
import { EFAULT, ENODEV, errnoName, errnoText } from "../../ffi/errno.ts";
import { interfaceNameProblem } from "../../ffi/ifreq.ts";
import type { Structure } from "./structure.ts";

/**
 * A request that ends with an errno: thrown by {@link IoctlMemory} for a bad pointer, and by a device that would rather
 * throw than return. It is the caller's errno, and no fault of the device.
 */
export class IoctlError extends Error {
  override readonly name = "IoctlError";
  /** Positive: 14 for EFAULT. */
  readonly errno: number;
  /** "EFAULT" */
  readonly code: string;

  /** @param errno positive or negative */
  constructor(errno: number, message: string = errnoText(errno)) {
    super(`${message} (${errnoName(errno)})`);
    this.errno = Math.abs(errno);
    this.code = errnoName(errno);
  }
}

/**
 * The memory that a request points to: the caller's own. Whatever is outside it, or is asked for after the request has been
 * answered, throws {@link IoctlError} EFAULT, which is the caller's result if the device lets it pass.
 */
export interface IoctlMemory {
  /** Where it begins, as the caller numbers its memory. */
  readonly address: number;
  /** `length` bytes at `offset`, copied. At most 1 MiB. */
  read(length: number, offset?: number): Uint8Array<ArrayBuffer>;
  /** Copies bytes there. At most 1 MiB. */
  write(bytes: Uint8Array, offset?: number): void;
  /** A structure's fields. */
  get<T>(structure: Structure<T>, offset?: number): T;
  /** Writes a structure whole: fields that `value` lacks are zero. */
  set<T>(structure: Structure<T>, value: Partial<T>, offset?: number): void;
  /** A text with a zero at its end, without it. */
  text(max: number, offset?: number): string;
  /** The memory that a pointer found in a structure points to. */
  at(address: number | bigint): IoctlMemory;
}

/** Counters of an interface: those of `rtnl_link_stats64`; what is missing is 0. */
export interface IoctlDeviceStatistics {
  /** Frames received. */
  readonly rxPackets?: number | bigint;
  /** Frames sent. */
  readonly txPackets?: number | bigint;
  /** Bytes received. */
  readonly rxBytes?: number | bigint;
  /** Bytes sent. */
  readonly txBytes?: number | bigint;
  /** Bad frames received. */
  readonly rxErrors?: number | bigint;
  /** Frames that could not be sent. */
  readonly txErrors?: number | bigint;
  /** Good frames that were not taken. */
  readonly rxDropped?: number | bigint;
  /** Frames that were not sent for want of room. */
  readonly txDropped?: number | bigint;
  /** Multicast frames received. */
  readonly multicast?: number | bigint;
  /** Collisions. */
  readonly collisions?: number | bigint;
  /** Received with a wrong length. */
  readonly rxLengthErrors?: number | bigint;
  /** Received beyond the ring. */
  readonly rxOverErrors?: number | bigint;
  /** Received with a wrong checksum. */
  readonly rxCrcErrors?: number | bigint;
  /** Received out of alignment. */
  readonly rxFrameErrors?: number | bigint;
  /** Received beyond the queue. */
  readonly rxFifoErrors?: number | bigint;
  /** Missed by the device. */
  readonly rxMissedErrors?: number | bigint;
  /** Sending given up. */
  readonly txAbortedErrors?: number | bigint;
  /** Sending without carrier. */
  readonly txCarrierErrors?: number | bigint;
  /** Sending beyond the queue. */
  readonly txFifoErrors?: number | bigint;
  /** Heartbeats missed. */
  readonly txHeartbeatErrors?: number | bigint;
  /** Late collisions. */
  readonly txWindowErrors?: number | bigint;
  /** Compressed frames received. */
  readonly rxCompressed?: number | bigint;
  /** Compressed frames sent. */
  readonly txCompressed?: number | bigint;
  /** Received for nobody. */
  readonly rxNohandler?: number | bigint;
}

/** What answers the requests for an interface. */
export interface IoctlDevice {
  /**
   * Answers a request: 0 or more, or a negative errno. `-ENOIOCTLCMD` (-515) leaves it to the kernel, and its real device
   * of that name, if there is one.
   *
   * @param request the ioctl's number: 0x89f0 to 0x89ff are private, others are the standard ones
   * @param ifreq `struct ifreq`, 40 bytes, name and union: what is changed in it goes back to the caller if the answer is 0 or more
   * @param data what `ifr_data` points to, for requests that have it and when it isn't null
   */
  ioctl(request: number, ifreq: Uint8Array<ArrayBuffer>, data: IoctlMemory | null): number | Promise<number>;
  /** The counters that readers of `/proc/net/dev` and `/sys/class/net/X/statistics` see. Without it they see the kernel's. */
  ioctlStatistics?(): IoctlDeviceStatistics;
}

/** Devices by name, for one supervisor or several. */
export class IoctlDevices implements Iterable<[string, IoctlDevice]> {
  readonly #devices = new Map<string, IoctlDevice>();
  readonly #listeners = new Set<(name: string, device: IoctlDevice | null) => void>();

  /** @param devices the first ones. @throws {TypeError} for a name that no interface can have */
  constructor(devices: Iterable<readonly [string, IoctlDevice]> | Readonly<Record<string, IoctlDevice>> = []) {
    const pairs = Symbol.iterator in devices ? devices as Iterable<[string, IoctlDevice]> : Object.entries(devices);
    for (const [name, device] of pairs) this.add(name, device);
  }

  /** Adds a device, or puts another in the place of one. @throws {TypeError} for a name that no interface can have */
  add(name: string, device: IoctlDevice): this {
    const problem = interfaceNameProblem(name);
    if (problem !== "") throw new TypeError(`Invalid interface name ${JSON.stringify(name)}: ${problem}`);
    if (typeof device?.ioctl !== "function") throw new TypeError(`Invalid device ${name}: it has no function ioctl`);
    this.#devices.set(name, device);
    for (const listener of this.#listeners) listener(name, device);
    return this;
  }

  /** Takes a device away. Whoever waits for its answer gets ENODEV now. False if there was none. */
  remove(name: string): boolean {
    if (!this.#devices.delete(name)) return false;
    for (const listener of this.#listeners) listener(name, null);
    return true;
  }

  /** The device of this name. */
  get(name: string): IoctlDevice | undefined {
    return this.#devices.get(name);
  }

  /** Devices. */
  get size(): number {
    return this.#devices.size;
  }

  /** Names and devices, in the order in which they were added. */
  [Symbol.iterator](): IterableIterator<[string, IoctlDevice]> {
    return this.#devices.entries();
  }

  /** Calls back for every device added, replaced or (with null) removed, until the function that it returns is called. */
  watch(listener: (name: string, device: IoctlDevice | null) => void): () => void {
    this.#listeners.add(listener);
    return () => void this.#listeners.delete(listener);
  }
}

/** A pointer to nothing of the caller's. */
export function badAddress(): IoctlError {
  return new IoctlError(EFAULT);
}

/** The device went while somebody waited. */
export const GONE: number = -ENODEV;
