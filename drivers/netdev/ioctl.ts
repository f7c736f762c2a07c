/**
 * How devices answer ioctls: private ones by their class, standard ones by what the system knows; and the way in for
 * callers in the process, with the kernel's own errors.
 *
 * @module
 */
import { EINVAL, ENODEV, ENOTTY, EOPNOTSUPP } from "../../ffi/errno.ts";
import * as ifr from "../../ffi/ifreq.ts";
import { IfReq } from "../../ffi/ifreq.ts";
import { ETHTOOL_GDRVINFO, ETHTOOL_GLINK, ethtoolDrvinfo, ethtoolValue } from "../../ffi/ioctl_interface.ts";
import { u32 } from "../../ffi/structure.ts";
import type { KernelBacking } from "./backing.ts";
import type { NetInterface } from "./interface.ts";
import { IoctlData, type IoctlMemory } from "./memory.ts";
import type { Operations } from "./operations.ts";
import { STATISTICS } from "./statistics.ts";
import { devices, type DeviceTable, ENOIOCTLCMD } from "./table.ts";

/** Where the union of an ifreq begins. */
const UNION = 16;
const ETHTOOL_GTXCSUM = 0x16;
const ETHTOOL_GSTRINGS = 0x1b;
const ETHTOOL_GSTATS = 0x1d;
const ETHTOOL_GSSET_INFO = 0x37;
const ETH_SS_STATS = 1;
const STRING_SIZE = 32;

/** Answers that only the kernel has, of an interface that is its own. */
const KERNEL_KNOWS = new Set([ifr.SIOCGIFTXQLEN, ifr.SIOCGIFMETRIC, ifr.SIOCGIFMAP]);

/** What a standard request needs to know of a device. */
export interface InterfaceFacts {
  readonly name: string;
  readonly index: number;
  readonly flags: number;
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly driver: string;
  readonly link: boolean;
  readonly txChecksum: boolean;
  readonly statistics: Record<string, number>;
  readonly txQueueLength: number;
}

/** True for `SIOCDEVPRIVATE` to `SIOCDEVPRIVATE + 15`. */
export function isPrivate(request: number): boolean {
  return request >= ifr.SIOCDEVPRIVATE && request <= ifr.SIOCDEVPRIVATE_LAST;
}

/** The standard requests that only ask: 0 with the answer in `ifreq`, a negative errno, or `-ENOIOCTLCMD` for one that isn't known. */
export function factIoctl(facts: InterfaceFacts, request: number, ifreq: IfReq, data: IoctlData): number {
  switch (request) {
    case ifr.SIOCGIFFLAGS:
      ifreq.flags = facts.flags & 0xffff;
      return 0;
    case ifr.SIOCGIFMTU:
      ifreq.value = facts.mtu;
      return 0;
    case ifr.SIOCGIFINDEX:
      ifreq.value = facts.index;
      return 0;
    case ifr.SIOCGIFHWADDR:
      if (facts.mac !== null) ifreq.mac = facts.mac;
      else {
        ifreq.bytes.fill(0, UNION, UNION + 16);
        ifreq.view.setUint16(UNION, 0xfffe, true); // ARPHRD_NONE
      }
      return 0;
    case ifr.SIOCGIFMETRIC:
      ifreq.value = 0;
      return 0;
    case ifr.SIOCGIFTXQLEN:
      ifreq.value = facts.txQueueLength;
      return 0;
    case ifr.SIOCGIFMAP:
      ifreq.bytes.fill(0, UNION);
      return 0;
    case ifr.SIOCETHTOOL:
      return ethtool(facts, data);
    default:
      return -ENOIOCTLCMD;
  }
}

function ethtool(facts: InterfaceFacts, data: IoctlData): number {
  const cmd = u32.read(new DataView(data.read(4).buffer), 0);
  switch (cmd) {
    case ETHTOOL_GDRVINFO:
      data.set(ethtoolDrvinfo, {
        cmd,
        driver: facts.driver.slice(0, 31),
        version: "1.0",
        busInfo: "virtual",
        nStats: STATISTICS.length,
      });
      return 0;
    case ETHTOOL_GLINK:
      data.set(ethtoolValue, { cmd, data: facts.link ? 1 : 0 });
      return 0;
    case ETHTOOL_GTXCSUM:
      data.set(ethtoolValue, { cmd, data: facts.txChecksum ? 1 : 0 });
      return 0;
    case ETHTOOL_GSSET_INFO:
      return statisticsSet(data);
    case ETHTOOL_GSTRINGS:
      return statisticsNames(data);
    case ETHTOOL_GSTATS:
      return statisticsValues(facts, data);
    default:
      return -ENOIOCTLCMD;
  }
}

/** `struct ethtool_sset_info`: which sets of names there are, and how large each asked for is. */
function statisticsSet(data: IoctlData): number {
  const head = data.read(16);
  const view = new DataView(head.buffer);
  const wanted = view.getBigUint64(8, true) & (1n << BigInt(ETH_SS_STATS));
  view.setBigUint64(8, wanted, true);
  data.write(head);
  if (wanted === 0n) return 0;
  const count = new Uint8Array(4);
  new DataView(count.buffer).setUint32(0, STATISTICS.length, true);
  data.write(count, 16);
  return 0;
}

/** `struct ethtool_gstrings`: names of 32 bytes each. */
function statisticsNames(data: IoctlData): number {
  const head = data.read(12);
  const view = new DataView(head.buffer);
  if (view.getUint32(4, true) !== ETH_SS_STATS) return -ENOIOCTLCMD;
  view.setUint32(8, STATISTICS.length, true);
  const names = new Uint8Array(STRING_SIZE * STATISTICS.length);
  STATISTICS.forEach((name, i) => {
    const snake = name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
    new TextEncoder().encodeInto(snake, names.subarray(i * STRING_SIZE, (i + 1) * STRING_SIZE - 1));
  });
  data.write(head);
  data.write(names, 12);
  return 0;
}

/** `struct ethtool_stats`: 64 bits each. */
function statisticsValues(facts: InterfaceFacts, data: IoctlData): number {
  const head = new Uint8Array(8 + 8 * STATISTICS.length);
  const view = new DataView(head.buffer);
  view.setUint32(0, ETHTOOL_GSTATS, true);
  view.setUint32(4, STATISTICS.length, true);
  STATISTICS.forEach((name, i) => view.setBigUint64(8 + 8 * i, BigInt(facts.statistics[name] ?? 0), true));
  data.write(head);
  return 0;
}

function factsOf(device: NetInterface): InterfaceFacts {
  const { instance } = device.operations;
  return {
    name: device.name,
    index: device.index,
    flags: device.flags,
    mtu: device.mtu,
    mac: device.mac,
    driver: instance === null ? "dummy" : instance.constructor.name,
    link: device.up,
    txChecksum: device.capabilities.txChecksum,
    statistics: device.statistics64(),
    txQueueLength: device.control.txQueueLength,
  };
}

/** The standard requests that change something. Each operation has its time; waiting for its turn is no part of it. */
function change(device: NetInterface, request: number, ifreq: IfReq): number | Promise<number> {
  switch (request) {
    case ifr.SIOCSIFMTU:
      return device.control.setMtu(ifreq.value);
    case ifr.SIOCSIFHWADDR:
      return ifreq.view.getUint16(UNION, true) === ifr.ARPHRD_ETHER ? device.control.setMac(ifreq.mac) : -EINVAL;
    case ifr.SIOCSIFFLAGS:
      return device.control.setFlags(ifreq.flags);
    case ifr.SIOCSIFTXQLEN:
      return device.control.setTxQueueLength(ifreq.value);
    default:
      return -EOPNOTSUPP;
  }
}

/** Copies a request's answer to where its caller sees it, unless it failed. */
function finish(code: number, ifreq: IfReq, to: Uint8Array, data: IoctlData): number {
  data.end();
  if (code >= 0) to.set(ifreq.bytes);
  return code;
}

/**
 * Runs a handler on a copy of the ifreq, which goes back to the caller if it succeeds: a handler that fails, or answers too late, has
 * changed nothing. What it throws becomes an errno.
 */
export function answer(
  operations: Operations,
  name: string,
  to: Uint8Array,
  memory: IoctlMemory | null,
  handler: (ifreq: IfReq, data: IoctlData) => unknown,
): number | Promise<number> {
  const ifreq = new IfReq(to);
  const data = new IoctlData(memory, ifreq.data);
  const code = operations.run(name, () => handler(ifreq, data));
  return typeof code === "number" ? finish(code, ifreq, to, data) : code.then((late) => finish(late, ifreq, to, data));
}

/** A request to a device with a class: see `IoctlDevice.ioctl`. */
export function interfaceIoctl(
  device: NetInterface,
  request: number,
  ifreq: Uint8Array,
  memory: IoctlMemory | null,
): number | Promise<number> {
  const { operations } = device;
  if (ifreq.length < ifr.IFREQ_SIZE) return -EINVAL;
  if (isPrivate(request)) {
    const name = operations.has("siocdevprivate") ? "siocdevprivate" : "doIoctl";
    const operation = operations.get(name);
    if (operation === null) return -EOPNOTSUPP;
    return answer(operations, name, ifreq, memory, (copy, data) => operation(device, copy, request, data));
  }
  if (isChange(request)) return change(device, request, new IfReq(ifreq));
  return answer(operations, "ioctl", ifreq, memory, (copy, data) => {
    // What the kernel knows of a real interface (its addresses, its queue), it says itself.
    if (device.backing !== null && kernelKnows(device.backing, request)) return -ENOIOCTLCMD;
    const code = factIoctl(factsOf(device), request, copy, data);
    if (code !== -ENOIOCTLCMD) return code;
    return device.backing === null ? change(device, request, copy) : -ENOIOCTLCMD;
  });
}

function kernelKnows({ ethernet }: KernelBacking, request: number): boolean {
  return KERNEL_KNOWS.has(request) || !ethernet && request === ifr.SIOCGIFHWADDR;
}

function isChange(request: number): boolean {
  return request === ifr.SIOCSIFMTU || request === ifr.SIOCSIFHWADDR || request === ifr.SIOCSIFFLAGS;
}

/**
 * `ioctl(socket, request, &ifreq)` on the devices of the process, by the same numbers and with the same errors as the kernel's: ENODEV
 * without such a device, EOPNOTSUPP from one without the operation, ENOTTY for a number that is no interface request.
 *
 * @param ifreq 40 bytes; the device is named in the first 16, cut at 15 bytes and at ':'
 * @param memory what `ifr_data` points into
 */
export async function ioctl(
  request: number,
  ifreq: Uint8Array,
  memory: IoctlMemory | null = null,
  table: DeviceTable = devices,
): Promise<number> {
  if (ifreq.length < ifr.IFREQ_SIZE) return -EINVAL;
  const standard = request >= 0x8910 && request <= 0x8970 || request === ifr.SIOCETHTOOL;
  if (!standard && !isPrivate(request)) return -ENOTTY;
  if (request === ifr.SIOCGIFNAME) {
    const copy = new IfReq(ifreq);
    const named = table.byIndex(copy.value);
    if (named === null) return -ENODEV;
    ifreq.fill(0, 0, UNION);
    new TextEncoder().encodeInto(named.name, ifreq.subarray(0, UNION - 1));
    return 0;
  }
  const device = table.lookup(ifreq.subarray(0, UNION));
  if (device === null) return -ENODEV;
  const code = await device.ioctl(request, ifreq, memory);
  return code === -ENOIOCTLCMD ? -EOPNOTSUPP : code;
}
