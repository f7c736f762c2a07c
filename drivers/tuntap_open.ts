/**
 * Opening a queue of a TAP or TUN interface: which flags the kernel and an interface that exists already agree to.
 *
 * @module
 */
import { EACCES, EBUSY, EEXIST, EINVAL, EPERM, errnoError, PRIVILEGE_HINT } from "../ffi/errno.ts";
import { getLink } from "../ffi/rtnl_link.ts";
import * as tunFlags from "../ffi/tun.ts";
import { TunDescriptor } from "../ffi/tun.ts";
import { VIRTIO_HEADER_SIZE } from "./virtio_header.ts";
import type { TunTapOptions } from "./tuntap_options.ts";

/** An open queue and what was agreed. */
export interface Queue {
  readonly descriptor: TunDescriptor;
  readonly name: string;
  /** A virtio_net_hdr stands before every frame. */
  readonly virtioHeader: boolean;
  /** Packet information stands before that. */
  readonly packetInfo: boolean;
  /** Bits of TUN_F_… that the kernel may use towards us. */
  readonly offload: number;
}

const { TUN_F_CSUM, TUN_F_TSO4, TUN_F_TSO6, TUN_F_TSO_ECN } = tunFlags;
/** What we ask for, best first: an older kernel may know less. */
const OFFLOADS = [
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN,
  TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6,
  TUN_F_CSUM,
  0,
];

function attachHint(errno: number, name: string, exclusive: boolean): string {
  switch (-errno) {
    case EPERM:
    case EACCES:
      return PRIVILEGE_HINT;
    case EBUSY:
      return exclusive
        ? "It exists already, and `exclusive` was asked for"
        : "Another program has it open; close that, or use `multiQueue` in both";
    case EEXIST:
      return "An interface of that name exists and is not a TAP or TUN";
    case EINVAL:
      return `An interface "${name}" of another kind may exist, or its kernel lacks what was asked for`;
    default:
      return "";
  }
}

/** Attaches, giving way where the kernel or the interface itself is of another opinion. */
function attach(descriptor: TunDescriptor, kind: number, name: string, options: TunTapOptions): string {
  const { IFF_NO_PI, IFF_VNET_HDR, IFF_MULTI_QUEUE, IFF_TUN_EXCL } = tunFlags;
  let flags = kind;
  if (options.packetInfo !== true) flags |= IFF_NO_PI;
  if (options.offload !== false) flags |= IFF_VNET_HDR;
  if (options.multiQueue === true) flags |= IFF_MULTI_QUEUE;
  if (options.exclusive === true) flags |= IFF_TUN_EXCL;
  // EINVAL: a persistent interface has another number of queues in mind, or the header isn't known.
  const attempts = [flags];
  if (options.multiQueue === undefined) attempts.push(flags | IFF_MULTI_QUEUE);
  if ((flags & IFF_VNET_HDR) !== 0) attempts.push(...attempts.map((other) => other & ~IFF_VNET_HDR));
  let code = 0;
  for (const attempt of attempts) {
    const result = descriptor.attach(name, attempt);
    if (typeof result === "string") return result;
    code ||= result;
    if (result !== -EINVAL) {
      code = result;
      break;
    }
  }
  const what = `${kind === tunFlags.IFF_TAP ? "TAP" : "TUN"} device "${name}"`;
  throw errnoError("open", what, code, attachHint(code, name, options.exclusive === true));
}

function check(code: number, op: string, name: string): void {
  if (code < 0) throw errnoError(op, `device "${name}"`, code);
}

/** Opens a queue; nothing stays open when it throws. */
export function openQueue(kind: number, name: string, options: TunTapOptions): Queue {
  const descriptor = TunDescriptor.open();
  try {
    const attachedName = attach(descriptor, kind, name, options);
    // The interface's own flags count: with another queue attached the kernel ignores what we asked for.
    const attached = descriptor.attached();
    if (typeof attached === "number") throw errnoError("read the flags of", `device "${attachedName}"`, attached);
    const virtioHeader = (attached.flags & tunFlags.IFF_VNET_HDR) !== 0;
    if (virtioHeader) {
      // Size and byte order outlive the last user of a persistent interface: set both.
      check(descriptor.setHeaderSize(VIRTIO_HEADER_SIZE), "set the header size of", attachedName);
      check(descriptor.setLittleEndian(true), "set the byte order of", attachedName);
    }
    let offload = 0;
    // Also 0 has to be said: the interface may remember that its last user took more.
    for (const bits of virtioHeader && options.offload !== false ? OFFLOADS : [0]) {
      offload = bits;
      if (descriptor.setOffload(bits) >= 0) break;
    }
    if (options.persist !== undefined) check(descriptor.setPersist(options.persist), "make persistent", attachedName);
    if (options.owner !== undefined) check(descriptor.setOwner(options.owner), "set the owner of", attachedName);
    if (options.group !== undefined) check(descriptor.setGroup(options.group), "set the group of", attachedName);
    if (options.sendBuffer !== undefined) {
      check(descriptor.setSendBuffer(options.sendBuffer), "set the send buffer of", attachedName);
    }
    // TUNGETIFF's bit for this one also means "no filter", so the link itself is asked.
    const packetInfo = getLink(attachedName).tun?.packetInfo ?? options.packetInfo === true;
    return { descriptor, name: attachedName, virtioHeader, packetInfo, offload };
  } catch (error) {
    descriptor.close();
    throw error;
  }
}
