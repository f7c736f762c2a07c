/**
 * What a register-level virtio network device can be told, and what it offers.
 *
 * @module
 */
import { checkObject } from "../../stack/checks.ts";
import { parseMac } from "../../ffi/inet.ts";
import { randomMac } from "../tap.ts";
import { consistent, FEATURES } from "./features.ts";
import { checkQueueSize } from "./queue.ts";
import { PAIRS_MAX } from "./ring_device.ts";

/** Entries of the control queue. */
export const CONTROL_QUEUE_SIZE = 64;
/** The feature bits that a legacy driver can see. */
export const LEGACY_FEATURES = 0xffff_ffffn;

const BASE = FEATURES.VERSION_1 | FEATURES.RING_INDIRECT_DESC | FEATURES.RING_EVENT_IDX | FEATURES.RING_PACKED |
  FEATURES.IN_ORDER |
  FEATURES.NET_MAC | FEATURES.NET_MTU | FEATURES.NET_STATUS | FEATURES.NET_SPEED_DUPLEX | FEATURES.NET_MRG_RXBUF |
  FEATURES.NET_CTRL_VQ | FEATURES.NET_CTRL_RX | FEATURES.NET_CTRL_RX_EXTRA | FEATURES.NET_CTRL_VLAN |
  FEATURES.NET_CTRL_MAC_ADDR | FEATURES.NET_GUEST_ANNOUNCE;
const OFFLOAD = FEATURES.NET_CSUM | FEATURES.NET_GUEST_CSUM | FEATURES.NET_HOST_TSO4 | FEATURES.NET_GUEST_TSO4 |
  FEATURES.NET_HOST_ECN | FEATURES.NET_GUEST_ECN | FEATURES.NET_HOST_USO | FEATURES.NET_CTRL_GUEST_OFFLOADS;

/** Options of a `VirtioNetDevice`. */
export interface VirtioNetOptions {
  /** For people. Default "virtio0". */
  name?: string;
  /** Largest IP packet of the stack in bytes, 68 to 65535; the guest is told so. Default 1500. */
  mtu?: number;
  /** The address of our own end of the wire: text or six bytes. Default: a random one. */
  mac?: string | Uint8Array;
  /** The address that the guest is given. Default: a random one. */
  guestMac?: string | Uint8Array;
  /** Offer checksum and segmentation offload both ways. Default true. */
  offload?: boolean;
  /** Queue pairs, 1 to 16. Default 1. */
  pairs?: number;
  /** Entries of each queue of frames: a power of two up to 32768. Default 256. */
  queueSize?: number;
  /** What the guest is told about the link, in Mbit/s. Default 10000. */
  speedMbps?: number;
  /** Feature bits that are not offered. Default none. */
  withhold?: bigint;
}

/** The options with everything filled in. */
export interface CheckedNetOptions {
  readonly name: string;
  readonly mtu: number;
  readonly mac: Uint8Array;
  readonly guestMac: Uint8Array;
  readonly pairs: number;
  readonly queueSize: number;
  readonly speedMbps: number;
  readonly offered: bigint;
}

/** @throws {TypeError | RangeError} for what can't be */
export function checkNetOptions(options: VirtioNetOptions): CheckedNetOptions {
  checkObject(options);
  const { name = "virtio0", mtu = 1500, pairs = 1, queueSize = 256, speedMbps = 10_000, withhold = 0n, offload = true } = options;
  if (typeof name !== "string") throw new TypeError(`Invalid name ${name}: a text is needed`);
  if (!(Number.isInteger(mtu) && mtu >= 68 && mtu <= 65_535)) throw new RangeError(`mtu must be 68 to 65535 bytes: ${mtu}`);
  if (!(Number.isInteger(pairs) && pairs >= 1 && pairs <= PAIRS_MAX)) {
    throw new RangeError(`pairs must be 1 to ${PAIRS_MAX}: ${pairs}`);
  }
  checkQueueSize(queueSize, false);
  if (!(Number.isInteger(speedMbps) && speedMbps >= 0 && speedMbps <= 0x7fff_ffff)) {
    throw new RangeError(`speedMbps must be 0 to 2147483647: ${speedMbps}`);
  }
  if (typeof offload !== "boolean") throw new TypeError("offload must be true or false");
  if (typeof withhold !== "bigint") throw new TypeError(`withhold must be a bigint of feature bits: ${withhold}`);
  const offered = BASE | (offload ? OFFLOAD : 0n) | (pairs > 1 ? FEATURES.NET_MQ : 0n);
  return {
    name,
    mtu,
    pairs,
    queueSize,
    speedMbps,
    mac: options.mac === undefined ? randomMac() : parseMac(options.mac),
    guestMac: options.guestMac === undefined ? randomMac() : parseMac(options.guestMac),
    offered: consistent(offered & ~withhold),
  };
}
