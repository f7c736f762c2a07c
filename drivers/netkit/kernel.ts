/**
 * The real netkit, by the same options: where the running kernel has it.
 *
 * @module
 */
import { inNamespace, type NamespaceReference } from "../../ffi/namespace.ts";
import type { NetlinkMessage } from "../../ffi/netlink.ts";
import { createLink } from "../../ffi/rtnl_link.ts";
import { checkNetkitOptions, type NetkitOptions } from "./options.ts";

const IFLA_NETKIT_POLICY = 3;
const IFLA_NETKIT_PEER_POLICY = 4;
const IFLA_NETKIT_MODE = 5;
const IFLA_NETKIT_SCRUB = 6;
const IFLA_NETKIT_PEER_SCRUB = 7;
const IFLA_NETKIT_HEADROOM = 8;
const IFLA_NETKIT_TAILROOM = 9;
const IFLA_NETKIT_PAIRING = 10;

function u16(value: number): Uint8Array {
  return new Uint8Array([value & 255, value >> 8]);
}

/** Writes what was given, and only that: what is left out is the kernel's default, and older kernels don't know all of it. */
export function putNetkitData(message: NetlinkMessage, options: NetkitOptions): void {
  const put = (type: number, value: number | undefined) => {
    if (value !== undefined) message.attributeU32(type, value);
  };
  put(IFLA_NETKIT_POLICY, options.policy);
  put(IFLA_NETKIT_PEER_POLICY, options.peerPolicy);
  put(IFLA_NETKIT_MODE, options.mode);
  put(IFLA_NETKIT_SCRUB, options.scrub);
  put(IFLA_NETKIT_PEER_SCRUB, options.peerScrub);
  put(IFLA_NETKIT_PAIRING, options.pairing);
  if (options.headroom !== undefined) message.attribute(IFLA_NETKIT_HEADROOM, u16(options.headroom));
  if (options.tailroom !== undefined) message.attribute(IFLA_NETKIT_TAILROOM, u16(options.tailroom));
}

/**
 * Makes a netkit of the kernel. `namespace` of the ends is for netkits in the process; here `where` says it.
 *
 * @throws what the options are refused for; then whatever the kernel answers: `NotSupported` (EOPNOTSUPP) from one without netkit
 */
export function createKernelNetkit(
  options: NetkitOptions = {},
  where: { namespace?: NamespaceReference; peerPid?: number } = {},
): void {
  checkNetkitOptions(options);
  const { peer, mtu } = options;
  const link = {
    name: options.name ?? "nk%d",
    kind: "netkit",
    mac: options.mac,
    mtu,
    // The attribute of the peer has the number that veth's has.
    peer: peer === undefined && where.peerPid === undefined ? undefined : {
      name: peer?.name ?? "nk%d",
      mac: peer?.mac,
      mtu,
      namespace: where.peerPid === undefined ? undefined : { pid: where.peerPid },
    },
    data: (message: NetlinkMessage) => putNetkitData(message, options),
  };
  if (where.namespace === undefined) createLink(link);
  else inNamespace(where.namespace, () => createLink(link));
}
