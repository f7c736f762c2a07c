/**
 * A TUN device: an interface of the kernel that carries IP packets without a link header, and whose other end is this process.
 *
 * @module
 */
import { IFF_TUN } from "../ffi/tun.ts";
import { TunTapDevice } from "./tuntap.ts";
import type { TunTapOptions } from "./tuntap_options.ts";

/**
 * An IP device on a Linux TUN interface. Rights as for `TapDevice`; no MAC addresses, no ARP.
 *
 * ```ts ignore
 * using device = TunDevice.open({ name: "tun0", host: { address: "10.0.0.1/24" } });
 * const stack = new NetStack(device, { address: "10.0.0.2/24" });
 * ```
 */
export class TunDevice extends TunTapDevice {
  /** There is none. */
  declare readonly mac: null;
  /** Frames begin with an IP header. */
  declare readonly medium: "ip";

  private constructor(options: TunTapOptions) {
    super(IFF_TUN, options, null);
  }

  /**
   * Opens or creates the interface.
   *
   * @throws {TypeError} for impossible options, before anything is opened; `host.mac` and `host.neighbors` are for TAP only
   * @throws {Deno.errors.NotCapable} without `--allow-ffi`
   * @throws {Deno.errors.PermissionDenied} without the privilege (EPERM) or right to `/dev/net/tun` (EACCES)
   * @throws {Deno.errors.Busy} when it is open elsewhere, or exists and `exclusive` was asked for (EBUSY)
   * @throws {Deno.errors.InvalidData} when the name belongs to another kind of interface (EINVAL)
   */
  static open(options: TunTapOptions = {}): TunDevice {
    if (options.host?.mac !== undefined) throw new TypeError("Invalid option host.mac: a TUN device has no MAC address");
    if (options.host?.neighbors !== undefined) throw new TypeError("Invalid option host.neighbors: a TUN device has none");
    return new TunDevice(options);
  }
}
