/**
 * All devices of the process that have a name and answer ioctls, of whatever kind: `NetDevice` classes, loopbacks, netkits.
 *
 * @module
 */
import { EEXIST, errnoError } from "../../ffi/errno.ts";
import type { IoctlMemory } from "./memory.ts";
import { checkDeviceName, cutName } from "./names.ts";
import type { Statistics64 } from "./statistics.ts";

/**
 * What {@link IoctlDevice.ioctl} answers when the device is a real one of the kernel too, and the kernel knows better:
 * Linux's own `-ENOIOCTLCMD`. Never a caller's errno.
 */
export const ENOIOCTLCMD = 515;

/** Indexes of devices that only live in the process begin here, far above those of a kernel. */
const FIRST_INDEX = 0x10000;

/** A device that answers ioctls by its name. */
export interface IoctlDevice {
  /** At most 15 bytes. */
  readonly name: string;
  /** `ifindex`: the kernel's where the device is a real one, else from 65536 on. In two namespaces two devices may have the same. */
  readonly index: number;
  /** True where the index is the kernel's: of that number, and of others below 65536, only the kernel knows whose it is in a caller's namespace. */
  readonly inKernel?: boolean;
  /**
   * Answers a request: 0 or more, or a negative errno; `-ENOIOCTLCMD` leaves it to the kernel.
   *
   * @param ifreq 40 bytes, changed in place if the answer isn't negative
   * @param data the caller's memory, for what `ifr_data` points to; null if there is none
   */
  ioctl(request: number, ifreq: Uint8Array, data: IoctlMemory | null): number | Promise<number>;
  /** The device's own numbers. */
  statistics64?(): Statistics64;
}

/** Devices by name and by index. */
export class DeviceTable implements Iterable<IoctlDevice> {
  readonly #byName = new Map<string, IoctlDevice>();
  /** What a device is found by; it may call itself something else by now. */
  readonly #names = new Map<IoctlDevice, string>();
  #next = FIRST_INDEX;

  /** An index for a device that no kernel knows. */
  newIndex(): number {
    return this.#next++;
  }

  /** A name that is free: `%d` becomes the lowest number. Names without it are given back. */
  freeName(pattern: string): string {
    if (!pattern.includes("%d")) return pattern;
    for (let n = 0;; n++) {
      const name = pattern.replace("%d", String(n));
      if (!this.#byName.has(name)) return name;
    }
  }

  /** Puts a device in. @throws {DeviceNameError} for a bad name, `AlreadyExists` (EEXIST) for a taken one, or a device that is in */
  add(device: IoctlDevice): void {
    checkDeviceName(device.name);
    if (this.#byName.has(device.name) || this.#names.has(device)) {
      throw errnoError("register", `device "${device.name}"`, EEXIST);
    }
    this.#byName.set(device.name, device);
    this.#names.set(device, device.name);
  }

  /** Takes a device out; nothing if it isn't in. */
  remove(device: IoctlDevice): void {
    const name = this.#names.get(device);
    if (name === undefined) return;
    this.#names.delete(device);
    this.#byName.delete(name);
  }

  /** True if a device is in, under whatever name. */
  has(device: IoctlDevice): boolean {
    return this.#names.has(device);
  }

  /** A device that was called `before` has another name now. One that has the name already keeps it. */
  renamed(device: IoctlDevice, before: string): void {
    if (this.#byName.get(before) !== device || this.#byName.has(device.name)) return;
    this.#byName.delete(before);
    this.#byName.set(device.name, device);
    this.#names.set(device, device.name);
  }

  /** By name, or by the first 16 bytes of an ifreq: cut at 15 bytes and at ':'. */
  lookup(name: string | Uint8Array): IoctlDevice | null {
    return this.#byName.get(cutName(name)) ?? null;
  }

  /** By index: the first that came, where namespaces have given several the same. */
  byIndex(index: number): IoctlDevice | null {
    for (const device of this.#byName.values()) if (device.index === index) return device;
    return null;
  }

  /** By an index that no kernel gave: one from 65536 on, of a device that only lives in the process. */
  byOwnIndex(index: number): IoctlDevice | null {
    if (index < FIRST_INDEX) return null;
    for (const device of this.#byName.values()) if (device.index === index && device.inKernel !== true) return device;
    return null;
  }

  /** All, in the order in which they came. */
  [Symbol.iterator](): Iterator<IoctlDevice> {
    return this.#byName.values();
  }
}

/** The table that everything goes into unless another is named. */
export const devices: DeviceTable = new DeviceTable();
