/**
 * What `ethtool -K DEVICE …` does, for machines without it.
 *
 * @module
 */
import { errnoError } from "../../ffi/errno.ts";
import { IfReq, interfaceSocket } from "../../ffi/ifreq.ts";
import { addressOf } from "../../ffi/libc.ts";
import { inNamespace, type NamespaceReference } from "../../ffi/namespace.ts";

const SIOCETHTOOL = 0x8946;
/** Commands of linux/ethtool.h, in the order in which they can be taken away: segmentation before the checksums that it needs. */
const SET = { gro: 0x2c, gso: 0x24, tso: 0x1f, tx: 0x17 } as const;

/** Switches features of an interface on or off. */
export function setFeatures(
  name: string,
  features: Partial<Record<keyof typeof SET, boolean>>,
  namespace?: NamespaceReference,
): void {
  if (namespace !== undefined) return inNamespace(namespace, () => setFeatures(name, features));
  using socket = interfaceSocket();
  for (const [feature, command] of Object.entries(SET)) {
    const on = features[feature as keyof typeof SET];
    if (on === undefined) continue;
    // struct ethtool_value: the command and its value.
    const value = new Uint8Array(Uint32Array.of(command, on ? 1 : 0).buffer);
    const ifreq = new IfReq(name);
    ifreq.view.setBigUint64(16, BigInt(addressOf(value)), true);
    const code = socket.ioctl(SIOCETHTOOL, ifreq.bytes);
    if (code < 0) throw errnoError(`set ${feature} of`, `interface "${name}"`, code);
    if (value.length !== 8) throw new RangeError("kept until the call is over");
  }
}
