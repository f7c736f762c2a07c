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

export const SIOCGIFFLAGS = 0x8913;
export const SIOCSIFFLAGS = 0x8914;
export const SIOCGIFMTU = 0x8921;
export const SIOCSIFMTU = 0x8922;
export const SIOCGIFINDEX = 0x8933;

export const IFF_UP = 1;
export const IFF_RUNNING = 0x40;
export const IFF_PROMISC = 0x100;

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
  readonly bytes: Uint8Array<ArrayBuffer> = new Uint8Array(IFREQ_SIZE);
  readonly view: DataView<ArrayBuffer> = new DataView(this.bytes.buffer);

  /** @throws {TypeError} for a name over 15 bytes or with characters that the kernel refuses */
  constructor(name: string) {
    if (name !== "") checkInterfaceName(name);
    new TextEncoder().encodeInto(name, this.bytes.subarray(0, IFNAME_MAX));
  }

  get name(): string {
    const end = this.bytes.indexOf(0);
    return new TextDecoder().decode(this.bytes.subarray(0, end < 0 || end > IFNAME_MAX ? IFNAME_MAX : end));
  }

  get flags(): number {
    return this.view.getUint16(16, true);
  }

  set flags(value: number) {
    this.view.setUint16(16, value, true);
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
