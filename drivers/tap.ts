/**
 * A TAP device: an Ethernet interface of the kernel whose other end is this process.
 *
 * @module
 */
import { parseMac } from "../ffi/inet.ts";
import { IFF_TAP } from "../ffi/tun.ts";
import { TunTapDevice } from "./tuntap.ts";
import type { TunTapOptions } from "./tuntap_options.ts";

export type { Descriptor } from "../ffi/descriptor.ts";
export type { NamespaceReference } from "../ffi/namespace.ts";
export type { TunDescriptor } from "../ffi/tun.ts";
export { TunTapDevice } from "./tuntap.ts";
export type { HostOptions, HostRoute, TunTapOptions } from "./tuntap_options.ts";

/** Options of {@link TapDevice.open}. */
export interface TapOptions extends TunTapOptions {
  /** The stack's own MAC address, not the host side's: text or six bytes. Default: a random, locally administered one. */
  mac?: string | Uint8Array;
}

/** A random unicast MAC address with the "locally administered" bit. */
export function randomMac(): Uint8Array<ArrayBuffer> {
  const mac = crypto.getRandomValues(new Uint8Array(6));
  mac[0] = (mac[0] & 0xfc) | 0x02;
  return mac;
}

/**
 * An Ethernet device on a Linux TAP interface.
 *
 * Creating one needs CAP_NET_ADMIN, or `unshare -Urn`, or a persistent interface that belongs to the user; and Deno's
 * `--allow-ffi`. The device's MTU counts IP bytes: an Ethernet header and tags come on top.
 *
 * ```ts ignore
 * using device = TapDevice.open({ name: "tap0", host: { address: "10.0.0.1/24" } });
 * const stack = new NetStack(device, { address: "10.0.0.2/24" });
 * ```
 */
export class TapDevice extends TunTapDevice {
  /** The stack's own MAC address, six bytes. */
  declare readonly mac: Uint8Array;
  /** Frames begin with an Ethernet header. */
  declare readonly medium: "ethernet";

  private constructor(options: TapOptions, mac: Uint8Array) {
    super(IFF_TAP, options, mac);
  }

  /**
   * Opens or creates the interface.
   *
   * @throws {TypeError} for impossible options, before anything is opened
   * @throws {Deno.errors.NotCapable} without `--allow-ffi`
   * @throws {Deno.errors.PermissionDenied} without the privilege (EPERM) or right to `/dev/net/tun` (EACCES)
   * @throws {Deno.errors.Busy} when it is open elsewhere, or exists and `exclusive` was asked for (EBUSY)
   * @throws {Deno.errors.InvalidData} when the name belongs to another kind of interface (EINVAL)
   */
  static open(options: TapOptions = {}): TapDevice {
    if (typeof options !== "object" || options === null) throw new TypeError(`Invalid options ${options}: an object is needed`);
    return new TapDevice(options, options.mac === undefined ? randomMac() : parseMac(options.mac));
  }
}
