/**
 * `/dev/net/tun`: one descriptor is one queue of a TUN or TAP interface. Everything that its ioctls offer; results are
 * a count or value, or a negative errno.
 *
 * @module
 */
import { Descriptor, O_NONBLOCK, O_RDWR, openFile } from "./descriptor.ts";
import { EINVAL, errnoError, PRIVILEGE_HINT } from "./errno.ts";
import { IfReq } from "./ifreq.ts";

export const TUNSETIFF = 0x400454ca;
export const TUNSETPERSIST = 0x400454cb;
export const TUNSETOWNER = 0x400454cc;
export const TUNSETLINK = 0x400454cd;
export const TUNSETGROUP = 0x400454ce;
export const TUNGETFEATURES = 0x800454cf;
export const TUNSETOFFLOAD = 0x400454d0;
export const TUNSETTXFILTER = 0x400454d1;
export const TUNGETIFF = 0x800454d2;
export const TUNGETSNDBUF = 0x800454d3;
export const TUNSETSNDBUF = 0x400454d4;
export const TUNGETVNETHDRSZ = 0x800454d7;
export const TUNSETVNETHDRSZ = 0x400454d8;
export const TUNSETQUEUE = 0x400454d9;
export const TUNSETVNETLE = 0x400454dc;
export const TUNGETVNETLE = 0x800454dd;
export const TUNSETVNETBE = 0x400454de;
export const TUNGETVNETBE = 0x800454df;
export const TUNSETCARRIER = 0x400454e2;

export const IFF_TUN = 0x0001;
export const IFF_TAP = 0x0002;
export const IFF_NAPI = 0x0010;
export const IFF_NAPI_FRAGS = 0x0020;
/** Create without carrier (Linux 6.2). */
export const IFF_NO_CARRIER = 0x0040;
export const IFF_MULTI_QUEUE = 0x0100;
export const IFF_ATTACH_QUEUE = 0x0200;
export const IFF_DETACH_QUEUE = 0x0400;
/** Only in the answer of TUNGETIFF. */
export const IFF_PERSIST = 0x0800;
export const IFF_NO_PI = 0x1000;
export const IFF_VNET_HDR = 0x4000;
/** Fail if the name exists. */
export const IFF_TUN_EXCL = 0x8000;

/** Bits of TUNSETOFFLOAD: what the reader of the descriptor understands. Every other bit needs CSUM; USO4 and USO6 go together. */
export const TUN_F_CSUM = 0x01;
export const TUN_F_TSO4 = 0x02;
export const TUN_F_TSO6 = 0x04;
export const TUN_F_TSO_ECN = 0x08;
export const TUN_F_UFO = 0x10;
export const TUN_F_USO4 = 0x20;
export const TUN_F_USO6 = 0x40;

/** Most addresses in a transmit filter (the kernel's table is a hash: more only means more false hits). */
export const TX_FILTER_MAX = 64;

/** What to do when `/dev/net/tun` cannot be opened. */
export function tunHint(errno: number): string {
  switch (Math.abs(errno)) {
    case 2:
    case 6:
    case 19:
      return "Load the module (`modprobe tun`), or give the container the device (`--device /dev/net/tun`)";
    case 13:
      return "Run as root, or let everyone open it as most distributions do (`chmod 666 /dev/net/tun`)";
    case 1:
      return PRIVILEGE_HINT;
    default:
      return "";
  }
}

/** An open `/dev/net/tun`, before and after it was attached to an interface. Reads and writes don't block. */
export class TunDescriptor extends Descriptor {
  readonly #int: Int32Array<ArrayBuffer> = new Int32Array(1);
  readonly #intBytes: Uint8Array<ArrayBuffer> = new Uint8Array(this.#int.buffer);

  /**
   * Opens the device file; nothing is attached yet.
   *
   * @param path where it is
   * @throws `PermissionDenied` (EACCES), `NotFound` (ENOENT) with what to do
   */
  static open(path = "/dev/net/tun"): TunDescriptor {
    const fd = openFile(path, O_RDWR | O_NONBLOCK);
    if (fd < 0) throw errnoError("open", `"${path}"`, fd, tunHint(fd));
    return new TunDescriptor(fd);
  }

  /** Flags of IFF_… that the kernel knows, or a negative errno. */
  features(): number {
    return this.#get(TUNGETFEATURES);
  }

  /**
   * Attaches to an interface, creating it when it doesn't exist. `%d` in the name lets the kernel choose a number.
   *
   * Failures: EEXIST-class when already attached (Linux answers EEXIST or EINVAL), EBUSY when the name is in use and exclusive or has
   * its one queue taken, EINVAL for another kind of interface, EPERM without the privilege, E2BIG too many queues.
   *
   * @throws {TypeError} for an impossible name
   * @returns the name, or a negative errno
   */
  attach(name: string, flags: number): string | number {
    const ifreq = new IfReq(name);
    ifreq.flags = flags;
    const code = this.ioctl(TUNSETIFF, ifreq.bytes);
    return code < 0 ? code : ifreq.name;
  }

  /**
   * The interface that this is attached to: its present name and flags; a negative errno (EBADFD) when there is none.
   * IFF_NO_PI is no answer here: its bit is set whenever there is no socket filter. `getLink(name).tun` knows.
   */
  attached(): { name: string; flags: number } | number {
    const ifreq = new IfReq("");
    const code = this.ioctl(TUNGETIFF, ifreq.bytes);
    return code < 0 ? code : { name: ifreq.name, flags: ifreq.flags };
  }

  /** Bits of TUN_F_…: the kernel may then hand over frames without checksum, and uncut. */
  setOffload(bits: number): number {
    return this.ioctl(TUNSETOFFLOAD, bits);
  }

  /** Size of the virtio_net_hdr before every frame: at least 10. */
  setHeaderSize(size: number): number {
    return this.#set(TUNSETVNETHDRSZ, size);
  }

  /** Size of the virtio_net_hdr before every frame. */
  headerSize(): number {
    return this.#get(TUNGETVNETHDRSZ);
  }

  /** The virtio_net_hdr is little-endian, whatever the machine is. */
  setLittleEndian(on: boolean): number {
    return this.#set(TUNSETVNETLE, on ? 1 : 0);
  }

  /** 1 if the virtio_net_hdr was set to little-endian, else 0. */
  littleEndian(): number {
    return this.#get(TUNGETVNETLE);
  }

  /** Big-endian headers; kernels built without cross-endian support answer EINVAL. */
  setBigEndian(on: boolean): number {
    return this.#set(TUNSETVNETBE, on ? 1 : 0);
  }

  /** The interface outlives the descriptor. */
  setPersist(on: boolean): number {
    return this.ioctl(TUNSETPERSIST, on ? 1 : 0);
  }

  /** The user who may attach without privilege; -1 for none. */
  setOwner(uid: number): number {
    return this.ioctl(TUNSETOWNER, uid);
  }

  /** The group that may attach without privilege; -1 for none. */
  setGroup(gid: number): number {
    return this.ioctl(TUNSETGROUP, gid);
  }

  /** Plugs the cable in or out. */
  setCarrier(on: boolean): number {
    return this.#set(TUNSETCARRIER, on ? 1 : 0);
  }

  /** Takes this queue of a multi-queue interface in or out of use. */
  setQueue(on: boolean): number {
    const ifreq = new IfReq("");
    ifreq.flags = on ? IFF_ATTACH_QUEUE : IFF_DETACH_QUEUE;
    return this.ioctl(TUNSETQUEUE, ifreq.bytes);
  }

  /** Bytes that may wait on their way into the kernel before writes answer EAGAIN. */
  setSendBuffer(bytes: number): number {
    return this.#set(TUNSETSNDBUF, bytes);
  }

  /** Bytes that may wait on their way into the kernel. */
  sendBuffer(): number {
    return this.#get(TUNGETSNDBUF);
  }

  /** The ARPHRD_… type that the interface shows; only while it is down (EBUSY else). */
  setLinkType(type: number): number {
    return this.ioctl(TUNSETLINK, type);
  }

  /**
   * TAP only: the kernel hands over frames for these MAC addresses only. Returns how many are matched exactly. An
   * empty list switches the filter off.
   *
   * @param addresses six bytes each, at most {@link TX_FILTER_MAX}
   */
  setTxFilter(addresses: readonly Uint8Array[], allMulticast = false): number {
    if (addresses.length > TX_FILTER_MAX || addresses.some((mac) => mac.length !== 6)) return -EINVAL;
    const bytes = new Uint8Array(4 + 6 * addresses.length);
    const view = new DataView(bytes.buffer);
    view.setUint16(0, allMulticast ? 1 : 0, true);
    view.setUint16(2, addresses.length, true);
    addresses.forEach((mac, i) => bytes.set(mac, 4 + 6 * i));
    return this.ioctl(TUNSETTXFILTER, bytes);
  }

  #get(request: number): number {
    this.#int[0] = 0;
    const code = this.ioctl(request, this.#intBytes);
    return code < 0 ? code : this.#int[0];
  }

  #set(request: number, value: number): number {
    this.#int[0] = value;
    return this.ioctl(request, this.#intBytes);
  }
}
