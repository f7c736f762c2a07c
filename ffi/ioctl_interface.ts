/**
 * Interface ioctls of the kernel's own devices: the standard ones by name, and `SIOCDEVPRIVATE+n`, whose meaning is the
 * device's own.
 *
 * @module
 */
import type { Descriptor } from "./descriptor.ts";
import { EPERM, errnoError, PRIVILEGE_HINT } from "./errno.ts";
import {
  checkInterfaceName,
  IfReq,
  interfaceSocket,
  SIOCDEVPRIVATE,
  SIOCETHTOOL,
  SIOCGIFFLAGS,
  SIOCGIFHWADDR,
  SIOCGIFINDEX,
  SIOCGIFMTU,
  SIOCGIFNAME,
  SIOCGIFTXQLEN,
  SIOCSIFFLAGS,
  SIOCSIFHWADDR,
  SIOCSIFMTU,
} from "./ifreq.ts";
import { parseMac } from "./inet.ts";
import { addressOf } from "./libc.ts";
import { inNamespace, type NamespaceReference } from "./namespace.ts";
import { structure, text, u32 } from "./structure.ts";

export const ETHTOOL_GDRVINFO = 0x3;
export const ETHTOOL_GLINK = 0xa;

/** `struct ethtool_drvinfo`, 196 bytes. */
export const ethtoolDrvinfo = structure("ethtool_drvinfo", {
  cmd: u32,
  driver: text(32),
  version: text(32),
  firmwareVersion: text(32),
  busInfo: text(32),
  eromVersion: text(32),
  reserved2: text(12),
  nPrivFlags: u32,
  nStats: u32,
  testinfoLen: u32,
  eedumpLen: u32,
  regdumpLen: u32,
});

/** What a driver says of itself. */
export interface EthtoolDrvinfo {
  /** The driver's name. */
  readonly driver: string;
  /** Its version. */
  readonly version: string;
  /** The firmware's, or "". */
  readonly firmwareVersion: string;
  /** Where the device is: "0000:00:03.0", "virtual", or "". */
  readonly busInfo: string;
}

/** `struct ethtool_value`. */
export const ethtoolValue = structure("ethtool_value", { cmd: u32, data: u32 });

/**
 * Asks one interface after another; one socket for all of it, in the namespace where it was opened.
 *
 *     using ioctls = new InterfaceIoctls();
 *     ioctls.mtu("eth0"); // 1500
 *
 * Failures of the standard requests are thrown: `NotFound` (ENODEV), `PermissionDenied` (EPERM), `NotSupported` (EOPNOTSUPP)…
 */
export class InterfaceIoctls implements Disposable {
  readonly #socket: Descriptor;
  /** What the kernel has the address of: it must not be collected while it reads. */
  #held: Uint8Array | null = null;

  /**
   * Opens a socket for the requests.
   *
   * @param namespace whose interfaces are meant. Default: those of the calling thread.
   */
  constructor(namespace?: NamespaceReference) {
    this.#socket = namespace === undefined ? interfaceSocket() : inNamespace(namespace, interfaceSocket);
  }

  /** Any request on an interface, in place: its result, or a negative errno. */
  raw(request: number, ifreq: Uint8Array<ArrayBuffer>): number {
    return this.#socket.ioctl(request, ifreq);
  }

  #request(name: string, request: number, prepare: (ifreq: IfReq) => void = () => {}): IfReq {
    checkInterfaceName(name);
    const ifreq = new IfReq(name);
    prepare(ifreq);
    this.#check(this.#socket.ioctl(request, ifreq.bytes), request, name);
    return ifreq;
  }

  #check(code: number, request: number, name: string): number {
    if (code >= 0) return code;
    const hint = code === -EPERM ? PRIVILEGE_HINT : "";
    throw errnoError(`do request 0x${request.toString(16)} on`, `interface "${name}"`, code, hint);
  }

  /** Bits of IFF_…. */
  flags(name: string): number {
    return this.#request(name, SIOCGIFFLAGS).flags;
  }

  /** Sets the bits of IFF_… (the 16 that an ioctl can carry). */
  setFlags(name: string, flags: number): void {
    this.#request(name, SIOCSIFFLAGS, (ifreq) => ifreq.flags = flags);
  }

  /** Bytes of IP packet. */
  mtu(name: string): number {
    return this.#request(name, SIOCGIFMTU).value;
  }

  /** Sets the MTU, in bytes of IP packet. */
  setMtu(name: string, mtu: number): void {
    if (!Number.isInteger(mtu) || mtu < 0 || mtu > 0x7fffffff) {
      throw new TypeError(`Invalid MTU ${mtu}: a whole number is needed`);
    }
    this.#request(name, SIOCSIFMTU, (ifreq) => ifreq.value = mtu);
  }

  /** Six bytes. */
  mac(name: string): Uint8Array<ArrayBuffer> {
    return this.#request(name, SIOCGIFHWADDR).mac;
  }

  /** Sets the MAC address. */
  setMac(name: string, mac: string | Uint8Array): void {
    const parsed = parseMac(mac);
    this.#request(name, SIOCSIFHWADDR, (ifreq) => ifreq.mac = parsed);
  }

  /** The kernel's number of the interface. */
  index(name: string): number {
    return this.#request(name, SIOCGIFINDEX).value;
  }

  /** The name of an interface by its number. */
  name(index: number): string {
    const ifreq = new IfReq("");
    ifreq.value = index;
    this.#check(this.#socket.ioctl(SIOCGIFNAME, ifreq.bytes), SIOCGIFNAME, String(index));
    return ifreq.name;
  }

  /** Frames that wait at most on the way out. */
  txQueueLength(name: string): number {
    return this.#request(name, SIOCGIFTXQLEN).value;
  }

  /** Name and version of the interface's driver, as `ethtool -i` shows them. */
  driver(name: string): EthtoolDrvinfo {
    const info = ethtoolDrvinfo.make({ cmd: ETHTOOL_GDRVINFO });
    this.#check(this.withData(name, SIOCETHTOOL, info), SIOCETHTOOL, name);
    return ethtoolDrvinfo.parse(info);
  }

  /** True if the cable is in, as `ethtool` shows it. */
  link(name: string): boolean {
    const value = ethtoolValue.make({ cmd: ETHTOOL_GLINK });
    this.#check(this.withData(name, SIOCETHTOOL, value), SIOCETHTOOL, name);
    return ethtoolValue.parse(value).data !== 0;
  }

  /** A request whose `ifr_data` points to `memory`, which the device reads or fills: its result, or a negative errno. */
  withData(name: string, request: number, memory: Uint8Array<ArrayBuffer>): number {
    checkInterfaceName(name);
    const ifreq = new IfReq(name);
    this.#held = memory;
    ifreq.data = memory.length === 0 ? 0 : addressOf(memory);
    const code = this.#socket.ioctl(request, ifreq.bytes);
    this.#held = null;
    return code;
  }

  /**
   * `SIOCDEVPRIVATE + n`: what it means is the device's own. Its result, or a negative errno: EOPNOTSUPP from a device
   * that has none, ENODEV without device.
   *
   * @param n 0 to 15
   * @param argument the ifreq's union, up to 24 bytes, overwritten with the answer; or `{ data }`: memory that `ifr_data` points to
   * @throws {RangeError} for another `n`, or more than 24 bytes
   */
  private(name: string, n: number, argument: Uint8Array | { data: Uint8Array<ArrayBuffer> } = new Uint8Array(0)): number {
    if (!Number.isInteger(n) || n < 0 || n > 15) throw new RangeError(`Invalid private request ${n}: there are 0 to 15`);
    if ("data" in argument) return this.withData(name, SIOCDEVPRIVATE + n, argument.data);
    if (argument.length > 24) throw new RangeError(`Invalid argument of ${argument.length} bytes: an ifreq has room for 24`);
    checkInterfaceName(name);
    const ifreq = new IfReq(name);
    ifreq.bytes.set(argument, 16);
    const code = this.#socket.ioctl(SIOCDEVPRIVATE + n, ifreq.bytes);
    if (code >= 0) argument.set(ifreq.bytes.subarray(16, 16 + argument.length));
    return code;
  }

  /** Closes the socket. */
  [Symbol.dispose](): void {
    this.#socket.close();
  }
}
