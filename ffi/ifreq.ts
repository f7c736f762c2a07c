/**
 * `struct ifreq`, 40 bytes on 64-bit Linux: the interface's name in 16 bytes with a zero at the end, then a union of 24.
 *
 *      0                               16                                40
 *     +-------------------------------+-----------------------------------+
 *     | ifr_name                      | flags i16, or index, mtu, data ptr|
 *     +-------------------------------+-----------------------------------+
 *
 * @module
 */
import { Descriptor } from "./descriptor.ts";
import { errnoError } from "./errno.ts";
import { libc } from "./libc.ts";

export const IFREQ_SIZE = 40;
/** Longest name of an interface, in bytes. */
export const IFNAME_MAX = 15;

export const SIOCGIFNAME = 0x8910;
export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCGIFMETRIC = 0x891d;
export const SIOCGIFMTU = 0x8921;
export const SIOCSIFMTU = 0x8922;
export const SIOCSIFHWADDR = 0x8924;
export const SIOCGIFHWADDR = 0x8927;
export const SIOCGIFINDEX = 0x8933;
export const SIOCGIFTXQLEN = 0x8942;
export const SIOCSIFTXQLEN = 0x8943;
export const SIOCETHTOOL = 0x8946;
export const SIOCGIFMAP = 0x8970;
/** The first of 16 requests whose meaning is the device's own. */
export const SIOCDEVPRIVATE = 0x89f0;
/** The last of them. */
export const SIOCDEVPRIVATE_LAST = 0x89ff;

export const IFF_UP = 1;
export const IFF_BROADCAST = 2;
export const IFF_RUNNING = 0x40;
export const IFF_NOARP = 0x80;
export const IFF_PROMISC = 0x100;
export const IFF_ALLMULTI = 0x200;
export const IFF_MULTICAST = 0x1000;
export const ARPHRD_ETHER = 1;

/** Why a name cannot be an interface's, or "" if it can. The kernel's own rule; `%d` is allowed, for its choice of a number. */
export function interfaceNameProblem(name: string): string {
  const length = new TextEncoder().encode(name).length;
  if (length === 0) return "it is empty";
  if (length > IFNAME_MAX) return `it has ${length} bytes, at most ${IFNAME_MAX} are allowed`;
  if (name === "." || name === "..") return "it is a folder's name";
  // deno-lint-ignore no-control-regex
  if (/[\s/:\x00]/.test(name)) return "it holds a space, a slash, a colon or a zero";
  if (/%(?!d)|%d.*%/.test(name)) return "a percent sign stands for `%d` only, once";
  return "";
}

/** @throws {TypeError} for a name that cannot be an interface's */
export function checkInterfaceName(name: string): void {
  const problem = interfaceNameProblem(name);
  if (problem !== "") throw new TypeError(`Invalid interface name ${JSON.stringify(name)}: ${problem}`);
}

/** One ifreq: its bytes and a view of them. */
export class IfReq {
  /** All 40 bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** The same as numbers. */
  readonly view: DataView<ArrayBuffer>;

  /**
   * One for the interface of that name; or one that was received, a copy of its 40 bytes.
   *
   * @throws {TypeError} for a name over 15 bytes or with characters that the kernel refuses
   * @throws {RangeError} for bytes that are fewer
   */
  constructor(name: string | Uint8Array) {
    this.bytes = new Uint8Array(IFREQ_SIZE);
    this.view = new DataView(this.bytes.buffer);
    if (typeof name !== "string") {
      if (!(name instanceof Uint8Array)) throw new TypeError(`Invalid ifreq ${name}: a name or bytes are needed`);
      if (name.length < IFREQ_SIZE) throw new RangeError(`Invalid ifreq of ${name.length} bytes: it has ${IFREQ_SIZE}`);
      this.bytes.set(name.subarray(0, IFREQ_SIZE));
      return;
    }
    if (name !== "") checkInterfaceName(name);
    new TextEncoder().encodeInto(name, this.bytes.subarray(0, IFNAME_MAX));
  }

  /** `ifr_name`. */
  get name(): string {
    const end = this.bytes.indexOf(0);
    return new TextDecoder().decode(this.bytes.subarray(0, end < 0 || end > IFNAME_MAX ? IFNAME_MAX : end));
  }

  /** `ifr_flags`: bits of IFF_…. */
  get flags(): number {
    return this.view.getUint16(16, true);
  }

  set flags(value: number) {
    this.view.setUint16(16, value, true);
  }

  /** `ifr_data`: an address in the caller's memory. */
  get data(): number {
    return this.view.getUint32(16, true) + this.view.getUint32(20, true) * 0x1_0000_0000;
  }

  set data(address: number) {
    this.view.setUint32(16, address % 0x1_0000_0000, true);
    this.view.setUint32(20, Math.floor(address / 0x1_0000_0000), true);
  }

  /** `ifr_hwaddr`, six bytes behind the address family: a copy. */
  get mac(): Uint8Array<ArrayBuffer> {
    return this.bytes.slice(18, 24);
  }

  set mac(mac: Uint8Array) {
    this.view.setUint16(16, ARPHRD_ETHER, true);
    this.bytes.fill(0, 18, 32);
    this.bytes.set(mac.subarray(0, 6), 18);
  }

  /** Index, MTU or metric: the int in the union. */
  get value(): number {
    return this.view.getInt32(16, true);
  }

  set value(value: number) {
    this.view.setInt32(16, value, true);
  }
}

/** A datagram socket for interface ioctls, in the network namespace of the calling thread. */
export function interfaceSocket(): Descriptor {
  const lib = libc();
  const fd = lib.socket(2, /* AF_INET */ 2 /* SOCK_DGRAM */ | 0x80000, 0);
  if (fd < 0) throw errnoError("open", "a socket for interface requests", lib.errno[0]);
  return new Descriptor(fd);
}

/**
 * One interface request, for example `interfaceRequest("eth0", SIOCGIFMTU).value`.
 *
 * @throws the error of `errnoError`, for example `NotFound` (ENODEV)
 */
export function interfaceRequest(name: string, request: number, value = 0): IfReq {
  const ifreq = new IfReq(name);
  ifreq.value = value;
  using socket = interfaceSocket();
  const code = socket.ioctl(request, ifreq.bytes);
  if (code < 0) throw errnoError(`do request 0x${request.toString(16)} on`, `interface "${name}"`, code);
  return ifreq;
}
