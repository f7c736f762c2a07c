/**
 * Feature bits of virtio 1.2 (5.1.3 and 6), as bigints: they are negotiated once, and there are more than 32.
 *
 * @module
 */
import { VIRTIO_NET_HDR_GSO_TCPV4, VIRTIO_NET_HDR_GSO_TCPV6, VIRTIO_NET_HDR_GSO_UDP_L4 } from "../virtio_header.ts";

/** Names as in the specification, without VIRTIO_ and F_. */
export const FEATURES = {
  NET_CSUM: 1n << 0n,
  NET_GUEST_CSUM: 1n << 1n,
  NET_CTRL_GUEST_OFFLOADS: 1n << 2n,
  NET_MTU: 1n << 3n,
  NET_MAC: 1n << 5n,
  NET_GUEST_TSO4: 1n << 7n,
  NET_GUEST_TSO6: 1n << 8n,
  NET_GUEST_ECN: 1n << 9n,
  NET_GUEST_UFO: 1n << 10n,
  NET_HOST_TSO4: 1n << 11n,
  NET_HOST_TSO6: 1n << 12n,
  NET_HOST_ECN: 1n << 13n,
  NET_MRG_RXBUF: 1n << 15n,
  NET_STATUS: 1n << 16n,
  NET_CTRL_VQ: 1n << 17n,
  NET_CTRL_RX: 1n << 18n,
  NET_CTRL_VLAN: 1n << 19n,
  NET_CTRL_RX_EXTRA: 1n << 20n,
  NET_GUEST_ANNOUNCE: 1n << 21n,
  NET_MQ: 1n << 22n,
  NET_CTRL_MAC_ADDR: 1n << 23n,
  ANY_LAYOUT: 1n << 27n,
  RING_INDIRECT_DESC: 1n << 28n,
  RING_EVENT_IDX: 1n << 29n,
  /** Of vhost-user, not of virtio: the back end has protocol features. */
  VHOST_PROTOCOL: 1n << 30n,
  VERSION_1: 1n << 32n,
  ACCESS_PLATFORM: 1n << 33n,
  RING_PACKED: 1n << 34n,
  IN_ORDER: 1n << 35n,
  NET_GUEST_USO4: 1n << 54n,
  NET_GUEST_USO6: 1n << 55n,
  NET_HOST_USO: 1n << 56n,
  NET_SPEED_DUPLEX: 1n << 63n,
} as const;

/** What a feature is called. */
export type FeatureName = keyof typeof FEATURES;

/** The names of the bits that are set; unknown ones as "bit 57". */
export function featureNames(bits: bigint): string[] {
  const names: string[] = [];
  for (let i = 0; i < 64; i++) {
    const bit = 1n << BigInt(i);
    if ((bits & bit) === 0n) continue;
    names.push(Object.entries(FEATURES).find(([, value]) => value === bit)?.[0] ?? `bit ${i}`);
  }
  return names;
}

/** Bits that mean something only together with another one (virtio 1.2, 5.1.3.1). */
const NEEDS: readonly (readonly [FeatureName, FeatureName])[] = [
  ["NET_GUEST_TSO4", "NET_GUEST_CSUM"],
  ["NET_GUEST_TSO6", "NET_GUEST_CSUM"],
  ["NET_HOST_TSO4", "NET_CSUM"],
  ["NET_HOST_TSO6", "NET_CSUM"],
  ["NET_CTRL_RX", "NET_CTRL_VQ"],
  ["NET_GUEST_USO4", "NET_GUEST_CSUM"],
  ["NET_GUEST_USO6", "NET_GUEST_CSUM"],
  ["NET_HOST_USO", "NET_CSUM"],
  ["NET_CTRL_RX_EXTRA", "NET_CTRL_VQ"],
  ["NET_CTRL_VLAN", "NET_CTRL_VQ"],
  ["NET_GUEST_ANNOUNCE", "NET_CTRL_VQ"],
  ["NET_MQ", "NET_CTRL_VQ"],
  ["NET_CTRL_MAC_ADDR", "NET_CTRL_VQ"],
  ["NET_CTRL_GUEST_OFFLOADS", "NET_CTRL_VQ"],
  ["NET_GUEST_ECN", "NET_GUEST_TSO4"],
  ["NET_HOST_ECN", "NET_HOST_TSO4"],
];

/** Why a driver's choice can't be taken, or null. */
export function wrongChoice(offered: bigint, chosen: bigint): string | null {
  const foreign = chosen & ~offered;
  if (foreign !== 0n) return `features that were not offered: ${featureNames(foreign).join(", ")}`;
  for (const [name, needed] of NEEDS) {
    if ((chosen & FEATURES[name]) !== 0n && (chosen & FEATURES[needed]) === 0n) return `${name} without ${needed}`;
  }
  return null;
}

/** The gso_types of the segments that a guest may send, as bits. */
export function hostSegmentKinds(features: bigint): number {
  const kind = (feature: bigint, type: number) => (features & feature) !== 0n ? 1 << type : 0;
  return kind(FEATURES.NET_HOST_TSO4, VIRTIO_NET_HDR_GSO_TCPV4) | kind(FEATURES.NET_HOST_TSO6, VIRTIO_NET_HDR_GSO_TCPV6) |
    kind(FEATURES.NET_HOST_USO, VIRTIO_NET_HDR_GSO_UDP_L4);
}

/** All that {@link NEEDS} asks for taken away with what it needs. */
export function consistent(bits: bigint): bigint {
  for (const [name, needed] of NEEDS) if ((bits & FEATURES[needed]) === 0n) bits &= ~FEATURES[name];
  return bits;
}
