/**
 * Making netkits, and attaching programs to them.
 *
 * @module
 */
import { EACCES, EEXIST, EINVAL, ENODEV, ENXIO, EOPNOTSUPP, errnoError } from "../../ffi/errno.ts";
import { devices, type DeviceTable, type IoctlDevice } from "../netdev/table.ts";
import { NetkitDevice } from "./device.ts";
import {
  BPF_NETKIT_PEER,
  BPF_NETKIT_PRIMARY,
  checkNetkitOptions,
  NETKIT_DEVICE_PAIR,
  NETKIT_DEVICE_SINGLE,
  type NetkitOptions,
} from "./options.ts";
import type { NetkitProgram, Position, ProgramLink } from "./programs.ts";

/** What {@link createNetkit} has made. */
export interface Netkit extends Disposable {
  /** The device through which both are configured; of a single device the only one. */
  readonly primary: NetkitDevice;
  /** The other end; null for a single device. */
  readonly peer: NetkitDevice | null;
}

/**
 * Makes a netkit in the process: a pair, or with `pairing: NETKIT_DEVICE_SINGLE` a single device.
 *
 * ```ts ignore
 * using kit = createNetkit({ mode: NETKIT_L2 });
 * const a = new NetStack(kit.primary, { address: "10.0.0.1/24" });
 * const b = new NetStack(kit.peer!, { address: "10.0.0.2/24" });
 * ```
 *
 * @throws what the kernel answers, by its code: EINVAL, EOPNOTSUPP, EADDRNOTAVAIL, ERANGE; EEXIST for a taken name. Nothing was made then.
 */
export function createNetkit(options: NetkitOptions = {}, table: DeviceTable = devices): Netkit {
  const checked = checkNetkitOptions(options);
  const single = checked.pairing === NETKIT_DEVICE_SINGLE;
  // As the kernel does: the peer comes first, and has the lower number.
  const peerName = single ? "" : table.freeName(checked.peer.name);
  let name = table.freeName(checked.name);
  if (name === peerName && checked.name.includes("%d")) name = nextName(checked.name, table, peerName);
  for (const taken of [name, ...(single ? [] : [peerName])]) {
    if (table.lookup(taken) !== null || (!single && name === peerName)) {
      throw errnoError("create", `netkit device "${taken}"`, EEXIST);
    }
  }
  const end = (primary: boolean) => ({
    name: primary ? name : peerName,
    mac: primary ? checked.mac : checked.peer.mac,
    namespace: primary ? checked.namespace : checked.peer.namespace,
    policy: primary ? checked.policy : checked.peerPolicy,
    scrub: primary ? checked.scrub : checked.peerScrub,
    primary,
  });
  const peer = single ? null : new NetkitDevice(end(false), checked, table);
  const primary = new NetkitDevice(end(true), checked, table);
  if (peer !== null) {
    primary.join(peer);
    table.add(peer);
  }
  table.add(primary);
  return { primary, peer, [Symbol.dispose]: () => primary.delete() };
}

function nextName(pattern: string, table: DeviceTable, taken: string): string {
  for (let n = 0;; n++) {
    const name = pattern.replace("%d", String(n));
    if (name !== taken && table.lookup(name) === null) return name;
  }
}

/** Whose programs are meant: BPF_NETKIT_PRIMARY or BPF_NETKIT_PEER. */
export interface AttachOptions extends Position {
  /** BPF_NETKIT_PRIMARY: what the primary device sends; BPF_NETKIT_PEER: what its peer sends. Default PRIMARY. */
  type?: number;
  /** Where to look for the device. Default: the process's table. */
  table?: DeviceTable;
}

/** A device by itself, by its name or by its index. */
export type NetkitTarget = IoctlDevice | string | number;

function refuse(op: string, target: NetkitTarget, errno: number, said = ""): never {
  const name = typeof target === "object" ? target.name : target;
  throw errnoError(op, `netkit device "${name}"`, errno, said);
}

/** The device whose programs are meant: always named by the primary device, as in the kernel. */
function fetch(op: string, target: NetkitTarget, { type = BPF_NETKIT_PRIMARY, table = devices }: AttachOptions): NetkitDevice {
  if (type !== BPF_NETKIT_PRIMARY && type !== BPF_NETKIT_PEER) refuse(op, target, EINVAL, `There is no attach type ${type}`);
  const found = typeof target === "string" ? table.lookup(target) : typeof target === "number" ? table.byIndex(target) : target;
  if (found === null) refuse(op, target, ENODEV);
  if (!(found instanceof NetkitDevice)) refuse(op, target, ENXIO, "It is no netkit device");
  if (!found.exists) refuse(op, target, ENODEV);
  if (!found.primary) refuse(op, target, EACCES, "Programs of both ends are attached through the primary device");
  if (found.pairing !== NETKIT_DEVICE_PAIR) refuse(op, target, EOPNOTSUPP, "A single device has no programs");
  if (type === BPF_NETKIT_PRIMARY) return found;
  return found.peer ?? refuse(op, target, ENODEV, "Its peer is gone");
}

function check(op: string, target: NetkitTarget, code: number): void {
  if (code < 0) refuse(op, target, code);
}

/** A program that is attached by a link: only the link takes it out again. */
export class NetkitLink implements ProgramLink, Disposable {
  #device: NetkitDevice | null;
  #program: NetkitProgram;

  /**
   * Made by `linkNetkit`.
   *
   * @internal
   */
  constructor(device: NetkitDevice, program: NetkitProgram, position: Position) {
    this.#device = device;
    this.#program = program;
    check("attach to", device, device.programs.attach(program, this, position));
  }

  /** The program that it holds. */
  get program(): NetkitProgram {
    return this.#program;
  }

  /** It is attached, and its device exists. */
  get attached(): boolean {
    return this.#device?.exists ?? false;
  }

  /** Puts another program in its place. @throws EEXIST when that one is attached already, ENODEV when the device is gone */
  update(program: NetkitProgram): void {
    const device = this.#device;
    if (device === null || !device.exists) throw errnoError("update", "a netkit link", ENODEV, "Its device is gone");
    if (program === this.#program) return;
    check("update the link of", device, device.programs.attach(program, this, { replace: this.#program }));
    this.#program = program;
  }

  /** Takes the program out. A second call does nothing. */
  detach(): void {
    const device = this.#device;
    this.#device = null;
    if (device !== null && device.exists) device.programs.detach(this.#program, this);
  }

  /** {@link detach}. */
  [Symbol.dispose](): void {
    this.detach();
  }
}

function checkProgram(program: unknown): void {
  if (typeof program !== "function") throw new TypeError(`Invalid program ${String(program)}: a function is needed`);
}

/**
 * Attaches a program to a pair.
 *
 * @param target the primary device
 * @returns the revision of the list afterwards
 * @throws EINVAL wrong type, ENODEV no such device or peer, ENXIO no netkit, EACCES not the primary device, EOPNOTSUPP a single device,
 * ESTALE another revision, EEXIST attached already, ERANGE positions that disagree or a full list, ENOENT no such relative
 */
export function attachNetkit(target: NetkitTarget, program: NetkitProgram, options: AttachOptions = {}): number {
  checkProgram(program);
  const { programs } = fetch("attach to", target, options);
  check("attach to", target, programs.attach(program, null, options));
  return programs.revision;
}

/** The same by a link, which holds the program until it is detached. */
export function linkNetkit(target: NetkitTarget, program: NetkitProgram, options: AttachOptions = {}): NetkitLink {
  checkProgram(program);
  return new NetkitLink(fetch("attach to", target, options), program, options);
}

/**
 * Takes a program out; with null the one that the position names.
 *
 * @returns the revision of the list afterwards
 * @throws as {@link attachNetkit}; EBUSY for a program that a link holds
 */
export function detachNetkit(target: NetkitTarget, program: NetkitProgram | null, options: AttachOptions = {}): number {
  const { programs } = fetch("detach from", target, options);
  check("detach from", target, programs.detach(program, null, options));
  return programs.revision;
}

/** The programs in their order, who holds them, and the list's revision. */
export function queryNetkit(
  target: NetkitTarget,
  options: Pick<AttachOptions, "type" | "table"> = {},
): { revision: number; programs: { program: NetkitProgram; link: ProgramLink | null }[] } {
  const { programs } = fetch("query", target, options);
  return { revision: programs.revision, programs: [...programs.entries] };
}
