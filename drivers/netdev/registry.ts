/**
 * Registering classes and making their devices: one after the other, each brought up, whatever becomes of the others.
 *
 * @module
 */
import { EEXIST, EOPNOTSUPP, errnoError, errnoName } from "../../ffi/errno.ts";
import type { NamespaceReference } from "../../ffi/namespace.ts";
import { checkFunction, checkObject } from "../../stack/checks.ts";
import { type KernelBacking, openKernel } from "./backing.ts";
import { IFF_NOARP } from "../../ffi/ifreq.ts";
import { NetInterface } from "./interface.ts";
import { checkDeviceName, mayAutoCreate, nameInPath } from "./names.ts";
import type { NetDeviceClass } from "./net_device.ts";
import { factsOf, MTU_DEFAULT, type RegisterOptions, Registration, reportLine } from "./registration.ts";
import { errnoOf, type FailureReport, OPERATION_LIMIT_MS } from "./operations.ts";
import { devices as everyDevice, DeviceTable, type IoctlDevice } from "./table.ts";

/** Most names that one registry takes: a program that asks for path after path must not fill the machine. */
export const REGISTRATIONS_MAX = 4096;

/** Options of {@link NetDevices}. */
export interface NetDevicesOptions {
  /**
   * What stands behind the devices. "tap": an interface of the kernel, which every program sees. "process": nothing, the device is for a
   * `NetStack`. Default "tap".
   */
  backing?: "tap" | "process";
  /** The namespace of the kernel's interfaces. Default: the calling thread's. */
  namespace?: NamespaceReference;
  /** Where the devices are found by name. Default: one table for the whole process. */
  table?: DeviceTable;
  /** Told what classes do wrong, and which devices could not be made. Default: a line on standard error. */
  onFailure?: FailureReport;
  /** How long an operation may take, in milliseconds. Default 1000. */
  operationLimitMs?: number;
}

/**
 * A registry of device classes.
 *
 * ```ts ignore
 * class Echo extends NetDevice {
 *   override startXmit(frame: NetFrame, handle: NetInterface) {
 *     handle.netifRx(frame);
 *   }
 * }
 * await using devices = new NetDevices();
 * await devices.register("echo0", Echo).ready;
 * ```
 */
export class NetDevices implements AsyncDisposable {
  /** Where the devices are found. */
  readonly table: DeviceTable;
  readonly #options: NetDevicesOptions;
  readonly #report: FailureReport;
  readonly #registrations = new Map<string, Registration>();
  readonly #queue: Registration[] = [];
  #wildcard: Registration | null = null;
  #draining: Promise<void> | null = null;
  #closed = false;

  /** An empty registry. @throws {TypeError} for impossible options */
  constructor(options: NetDevicesOptions = {}) {
    checkObject(options);
    const { backing = "tap", operationLimitMs = OPERATION_LIMIT_MS, table } = options;
    if (backing !== "tap" && backing !== "process") {
      throw new TypeError(`Invalid backing ${backing}: "tap" or "process" is needed`);
    }
    if (!(operationLimitMs > 0 && operationLimitMs <= 0x7fffffff)) {
      throw new TypeError(`Invalid operationLimitMs ${operationLimitMs}: milliseconds above 0 are needed`);
    }
    if (table !== undefined && !(table instanceof DeviceTable)) throw new TypeError(`table must be a DeviceTable: ${table}`);
    checkFunction("onFailure", options.onFailure);
    this.#options = options;
    this.table = options.table ?? everyDevice;
    this.#report = options.onFailure ?? reportLine;
  }

  /** {@link registerNetdev} with the class's arguments in a row. */
  register<C extends NetDeviceClass>(name: string, kind?: C | null, ...args: ConstructorParameters<C>): Registration {
    return this.registerNetdev(name, kind, { args });
  }

  /**
   * Registers a name: the instance is built now, the device is queued and made soon. Without class it is a dummy: up, it drops
   * what it is sent, and it answers the standard ioctls. The name "*" makes no device: its class's `setup` is called for
   * names without a class. A name that is known already is neither made again nor doubled, but a class given now takes over.
   *
   * @throws {DeviceNameError} for a bad name, and what the class's constructor throws; nothing has changed then
   */
  registerNetdev(name: string, kind: NetDeviceClass | null = null, options: RegisterOptions = {}): Registration {
    if (name !== "*") checkDeviceName(name);
    if (kind !== null && typeof kind !== "function") throw new TypeError(`Invalid class for device "${name}": a class is needed`);
    checkObject(options);
    const { args = [], existOk, mtu = MTU_DEFAULT } = options;
    if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_521)) throw new TypeError(`Invalid MTU ${mtu}: 68 to 65521 is needed`);
    if (this.#closed) throw Object.assign(new Deno.errors.BadResource("The registry was closed"), { code: "EBADF" });
    const known = name === "*" ? this.#wildcard : this.#registrations.get(name);
    if (known === undefined && this.#registrations.size >= REGISTRATIONS_MAX) {
      throw new RangeError(`Cannot register device "${name}": a registry takes ${REGISTRATIONS_MAX}`);
    }
    const instance = kind === null ? null : new kind(...args);
    if (known !== undefined && known !== null) {
      if (existOk !== undefined) known.existOk = existOk;
      if (instance !== null) this.#replace(known, instance);
      return known;
    }
    const registration = new Registration(name, instance, existOk ?? false, mtu);
    if (name === "*") this.#wildcard = registration;
    else {
      this.#registrations.set(name, registration);
      this.#queue.push(registration);
      this.#draining ??= this.#drain();
    }
    return registration;
  }

  #replace(registration: Registration, instance: object): void {
    registration.instance = instance;
    const { handle } = registration;
    if (handle === null) return;
    handle.adopt(instance);
    void this.#setup(handle, instance);
  }

  /** Registrations, without "*". */
  get registrations(): Iterable<Registration> {
    return this.#registrations.values();
  }

  /** Devices that wait to be made. */
  get queued(): number {
    return this.#queue.length;
  }

  /** Resolves when every device that was registered has been made, or could not be. */
  async settled(): Promise<void> {
    while (this.#draining !== null) await this.#draining;
  }

  async #drain(): Promise<void> {
    // Whoever registers several in a row finds them all in the queue.
    await Promise.resolve();
    for (let next = this.#queue.shift(); next !== undefined; next = this.#queue.shift()) {
      try {
        next.settle.resolve(await this.#create(next));
      } catch (error) {
        this.#registrations.delete(next.name);
        this.#report({ device: next.name, operation: "create", error, code: errnoName(errnoOf(error)) });
        next.settle.reject(error);
      }
    }
    this.#draining = null;
  }

  /** Makes one device, sets it up and switches it on. */
  async #create(registration: Registration): Promise<NetInterface> {
    const { name } = registration;
    const there = this.table.lookup(name);
    if (there !== null) {
      if (registration.existOk && there instanceof NetInterface) return this.#take(registration, there);
      throw errnoError("create", `device "${name}"`, EEXIST, "Another device of this process has the name");
    }
    let facts = factsOf(registration);
    let backing: KernelBacking | null = null;
    if (this.#options.backing !== "process") {
      const { mac, mtu, flags } = facts;
      const arp = (flags & IFF_NOARP) === 0 ? undefined : false;
      const opened = openKernel(name, { namespace: this.#options.namespace, mac, mtu, arp, existOk: registration.existOk });
      backing = opened.backing;
      if (opened.existed) facts = { ...facts, ...opened.existed };
    }
    const handle = this.#interface(registration, backing, facts);
    return await this.#begin(registration, handle);
  }

  #interface(registration: Registration, backing: KernelBacking | null, facts: ReturnType<typeof factsOf>): NetInterface {
    try {
      const handle = new NetInterface({
        name: registration.name,
        instance: registration.instance,
        backing,
        table: this.table,
        ...facts,
        limitMs: this.#options.operationLimitMs ?? OPERATION_LIMIT_MS,
        report: this.#report,
        onGone: (device, byKernel) => this.#gone(registration, device, byKernel),
      });
      this.table.add(handle);
      return handle;
    } catch (error) {
      backing?.close();
      throw error;
    }
  }

  /** A device is gone. One that refuses deletion, and that somebody deleted in the kernel all the same, is made anew. */
  #gone(registration: Registration, device: NetInterface, byKernel: boolean): void {
    if (registration.handle !== device) return;
    registration.handle = null;
    if (!byKernel || device.operations.mayDelete || this.#closed) {
      this.#registrations.delete(registration.name);
      return;
    }
    const error = new Error(`device "${device.name}" was deleted although it refuses that: it is made anew`);
    this.#report({ device: device.name, operation: "delete", error, code: "EOPNOTSUPP" });
    this.#queue.push(registration);
    this.#draining ??= this.#drain();
  }

  #take(registration: Registration, handle: NetInterface): Promise<NetInterface> {
    if (registration.instance !== null) handle.adopt(registration.instance);
    return this.#begin(registration, handle);
  }

  async #begin(registration: Registration, handle: NetInterface): Promise<NetInterface> {
    registration.handle = handle;
    await this.#setup(handle, registration.instance ?? this.#wildcard?.instance ?? null);
    const { operations } = handle;
    const { reports } = operations;
    const code = await handle.setUp(true);
    // What a class throws has been reported, with all that it said.
    if (code < 0 && operations.reports === reports) {
      const error = errnoError("switch on", `device "${registration.name}"`, code);
      this.#report({ device: registration.name, operation: "open", error, code: errnoName(code) });
    }
    return handle;
  }

  /** Names the device to its instance, and lets it prepare. What it throws is reported, and the device is there all the same. */
  async #setup(handle: NetInterface, instance: object | null): Promise<void> {
    if (instance === null) return;
    const target = instance as { name?: unknown; handle?: unknown; setup?: unknown };
    try {
      target.name = handle.name;
      target.handle = handle;
      const { setup } = target;
      if (typeof setup === "function") await handle.operations.run("setup", () => setup.call(instance, handle));
    } catch (error) {
      this.#report({ device: handle.name, operation: "setup", error, code: "EIO" });
    }
  }

  /** The device of that name, cut at 15 bytes and at ':'; null without. */
  lookup(name: string): NetInterface | null {
    const found = this.table.lookup(name);
    return found instanceof NetInterface ? found : null;
  }

  /** True if the device is up, false if it is down, null without device. With a TAP behind it the kernel is asked. */
  getState(name: string): boolean | null {
    const device = this.lookup(name);
    if (device === null || !device.exists) return null;
    try {
      return device.backing === null ? device.up : device.backing.link().up;
    } catch {
      return null;
    }
  }

  /** Switches a device on or off: true only if its state, read back, is the one asked for; null without device. */
  async setState(name: string, up: boolean): Promise<boolean | null> {
    const device = this.lookup(name);
    if (device === null) return null;
    await device.setUp(up);
    const state = this.getState(name);
    return state === null ? null : state === up;
  }

  /**
   * Registers the device that a path under `/proc/sys/net/ipv{4,6}/{conf,neigh}`, `/sys/class/net` or `/sys/devices/virtual/net`
   * speaks of, with `existOk`. Null when the path speaks of none, or of one that is never made by itself (`lo`, `br0`, `eth0.5`…).
   */
  ensureFromPath(path: string): Registration | null {
    const name = nameInPath(path);
    if (name === null || !mayAutoCreate(name)) return null;
    const known = this.#registrations.get(name);
    return known ?? this.registerNetdev(name, null, { existOk: true });
  }

  /**
   * Deletes a device. False when there is none of that name in this registry.
   *
   * @throws `NotSupported` (EOPNOTSUPP) when its class has `ALLOW_DELETE = false`
   */
  unregister(name: string): boolean {
    const registration = this.#registrations.get(name);
    if (registration === undefined) return false;
    const { handle } = registration;
    if (handle === null) {
      const at = this.#queue.indexOf(registration);
      if (at < 0) return false;
      this.#queue.splice(at, 1);
      this.#registrations.delete(name);
      registration.settle.reject(
        Object.assign(new Deno.errors.NotFound(`device "${name}" was unregistered`), { code: "ENODEV" }),
      );
      return true;
    }
    if (!handle.operations.mayDelete) {
      throw errnoError("delete", `device "${name}"`, EOPNOTSUPP, "Its class has ALLOW_DELETE = false");
    }
    handle.remove();
    return true;
  }

  /** Removes all its devices, also those that refuse to be deleted: their class goes with the program. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.settled();
    for (const { handle } of [...this.#registrations.values()]) handle?.remove();
    this.#registrations.clear();
  }

  /** {@link close}. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** The device that an ioctl's name means, cut at 15 bytes and at ':'; null without. */
export function lookup(name: string | Uint8Array, table: DeviceTable = everyDevice): IoctlDevice | null {
  return table.lookup(name);
}
