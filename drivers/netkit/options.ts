/**
 * Netkit's constants, what a netkit is made with, and what of it is refused: the kernel's own errors in the kernel's own words.
 *
 * @module
 */
import { EACCES, EADDRNOTAVAIL, EINVAL, EOPNOTSUPP, ERANGE, errnoError, type SystemError } from "../../ffi/errno.ts";
import { parseMac } from "../../ffi/inet.ts";
import { checkObject } from "../../stack/checks.ts";
import { checkDeviceName } from "../netdev/names.ts";

/** Verdict: ask the next program. */
export const NETKIT_NEXT: number = -1;
/** Verdict and policy: the frame goes on to the peer. */
export const NETKIT_PASS = 0;
/** Verdict and policy: the frame is dropped. */
export const NETKIT_DROP = 2;
/** Verdict: the frame goes where `meta.redirect` said. */
export const NETKIT_REDIRECT = 7;
/** Mode: Ethernet, with addresses. */
export const NETKIT_L2 = 0;
/** Mode: IP packets, without addresses of a link (IFF_NOARP). */
export const NETKIT_L3 = 1;
/** Pairing: two devices, what is sent into one comes out of the other. */
export const NETKIT_DEVICE_PAIR = 0;
/** Pairing: one device, whose queues a back end in user space owns. */
export const NETKIT_DEVICE_SINGLE = 1;
/** Mark and priority stay when a frame crosses namespaces. */
export const NETKIT_SCRUB_NONE = 0;
/** Mark and priority are zeroed when a frame crosses namespaces. */
export const NETKIT_SCRUB_DEFAULT = 1;
/** Attach type: programs for what the primary device sends. */
export const BPF_NETKIT_PRIMARY = 54;
/** Attach type: programs for what the peer sends. */
export const BPF_NETKIT_PEER = 55;

/** Most receive queues of a device: leases. */
export const NETKIT_QUEUES_MAX = 1024;
/** The largest MTU: an IPv4 packet's own limit. */
export const NETKIT_MTU_MAX = 65_535;
const MTU_MIN = 68;
const ROOM_MAX = 65_535;

/** The other end of a pair. */
export interface NetkitPeerOptions {
  /** Default `nk%d`: the lowest free number. */
  name?: string;
  /** Mode L2 only; default random. */
  mac?: string | Uint8Array;
  /** Where it lives: any text. Ends in different ones count as in different network namespaces. Default: where the other end does. */
  namespace?: string;
}

/** Options of `createNetkit`. */
export interface NetkitOptions extends NetkitPeerOptions {
  /** NETKIT_L2 or NETKIT_L3. Default L3. */
  mode?: number;
  /** NETKIT_DEVICE_PAIR or NETKIT_DEVICE_SINGLE. Default PAIR. */
  pairing?: number;
  /** What becomes of frames while no program is attached: NETKIT_PASS or NETKIT_DROP. Default PASS. */
  policy?: number;
  /** The same of the peer. */
  peerPolicy?: number;
  /** NETKIT_SCRUB_NONE or NETKIT_SCRUB_DEFAULT. Default DEFAULT. */
  scrub?: number;
  /** The same of the peer. */
  peerScrub?: number;
  /** Bytes that programs have in front of a frame, of both ends. */
  headroom?: number;
  /** Bytes behind it. */
  tailroom?: number;
  /** The other end. */
  peer?: NetkitPeerOptions;
  /** Bytes of IP packet, of both ends. Default 1500. */
  mtu?: number;
  /** Read-only: giving it is an error. */
  primary?: never;
}

/** What can be asked to change later: most of it is refused. */
export type NetkitChange = Pick<
  NetkitOptions,
  "mode" | "pairing" | "policy" | "peerPolicy" | "scrub" | "peerScrub" | "headroom" | "tailroom" | "peer" | "primary"
>;

function refuse(op: string, errno: number, said = ""): SystemError {
  return errnoError(op, "netkit device", errno, said);
}

/** @throws TypeError (neither text nor bytes), EINVAL (wrong length), EADDRNOTAVAIL (multicast or zero) */
export function checkNetkitMac(mac: string | Uint8Array): Uint8Array<ArrayBuffer> {
  if (typeof mac !== "string" && !(mac instanceof Uint8Array)) throw new TypeError(`mac must be text or bytes: ${mac}`);
  if (typeof mac !== "string" && mac.length !== 6) {
    throw refuse("set the address of", EINVAL, `It has ${mac.length} bytes, not 6`);
  }
  // A text is what a person writes; its own errors say more.
  const bytes = typeof mac === "string" ? macOfText(mac) : new Uint8Array(mac);
  if ((bytes[0] & 1) !== 0 || bytes.every((byte) => byte === 0)) {
    throw refuse("set the address of", EADDRNOTAVAIL, "It is a group's, or zero");
  }
  return bytes;
}

function macOfText(mac: string): Uint8Array<ArrayBuffer> {
  const parts = mac.split(/[:-]/);
  if (parts.length !== 6 || !parts.every((part) => /^[0-9a-fA-F]{1,2}$/.test(part))) {
    throw refuse("set the address of", EINVAL, `${JSON.stringify(mac)} is no MAC address`);
  }
  const bytes = Uint8Array.from(parts, (part) => parseInt(part, 16));
  // A good one is written in one way only from here on.
  return (bytes[0] & 1) === 0 && bytes.some((byte) => byte !== 0) ? parseMac(bytes) : bytes;
}

/** @throws EINVAL "Provided default xmit policy not supported" */
export function checkPolicy(policy: number | undefined): void {
  if (policy === undefined || policy === NETKIT_PASS || policy === NETKIT_DROP) return;
  throw refuse("create or change", EINVAL, "Provided default xmit policy not supported");
}

function checkUpTo(what: string, value: number | undefined, most: number): void {
  if (value === undefined || (Number.isInteger(value) && value >= 0 && value <= most)) return;
  throw refuse("create", ERANGE, `${what} must be 0 to ${most}`);
}

function checkReadOnly(options: object): void {
  if ("primary" in options && options.primary !== undefined) throw refuse("change", EINVAL, "Primary attribute is read-only");
}

/** Checked and complete. */
export interface CheckedOptions {
  readonly mode: number;
  readonly pairing: number;
  readonly policy: number;
  readonly peerPolicy: number;
  readonly scrub: number;
  readonly peerScrub: number;
  readonly headroom: number;
  readonly tailroom: number;
  readonly mtu: number;
  readonly name: string;
  readonly mac: Uint8Array<ArrayBuffer> | null;
  readonly namespace: string;
  readonly peer: { readonly name: string; readonly mac: Uint8Array<ArrayBuffer> | null; readonly namespace: string };
}

function checkName(name: string | undefined): string {
  if (name === undefined) return "nk%d";
  checkDeviceName(typeof name === "string" ? name.replace("%d", "0") : name);
  return name;
}

/** @throws what the kernel answers, with nothing made */
export function checkNetkitOptions(options: NetkitOptions): CheckedOptions {
  checkObject(options);
  const { mode = NETKIT_L3, pairing = NETKIT_DEVICE_PAIR, mtu = 1500, peer = {} } = options;
  checkObject(peer, "peer");
  checkReadOnly(options);
  checkUpTo("pairing", options.pairing, NETKIT_DEVICE_SINGLE);
  checkUpTo("scrub", options.scrub, NETKIT_SCRUB_DEFAULT);
  checkUpTo("peerScrub", options.peerScrub, NETKIT_SCRUB_DEFAULT);
  checkUpTo("headroom", options.headroom, ROOM_MAX);
  checkUpTo("tailroom", options.tailroom, ROOM_MAX);
  const mac = options.mac === undefined ? null : checkNetkitMac(options.mac);
  if (mode !== NETKIT_L2 && mode !== NETKIT_L3) throw refuse("create", EINVAL, "Provided device mode can only be L2 or L3");
  const peerMac = peer.mac === undefined ? null : checkNetkitMac(peer.mac);
  checkPolicy(options.policy);
  checkPolicy(options.peerPolicy);
  const name = checkName(options.name), peerName = checkName(peer.name);
  if (!(Number.isInteger(mtu) && mtu >= MTU_MIN && mtu <= NETKIT_MTU_MAX)) {
    throw refuse("create", EINVAL, `mtu must be ${MTU_MIN} to ${NETKIT_MTU_MAX}`);
  }
  if (mode === NETKIT_L3 && (mac !== null || peerMac !== null)) {
    throw refuse("create", EOPNOTSUPP, "Devices in mode L3 have no address of their own");
  }
  if (pairing === NETKIT_DEVICE_SINGLE) {
    const peerGiven = options.peer !== undefined || options.peerPolicy !== undefined || options.peerScrub !== undefined;
    if (peerGiven || options.scrub !== undefined || (options.policy ?? NETKIT_PASS) !== NETKIT_PASS) {
      throw refuse("create", EOPNOTSUPP, "A single device has no peer, no scrubbing, and passes");
    }
  }
  for (const text of [options.namespace, peer.namespace]) {
    if (text !== undefined && typeof text !== "string") throw new TypeError(`namespace must be text: ${text}`);
  }
  const namespace = options.namespace ?? "";
  return {
    mode,
    pairing,
    mtu,
    name,
    mac,
    namespace,
    policy: options.policy ?? NETKIT_PASS,
    peerPolicy: options.peerPolicy ?? NETKIT_PASS,
    scrub: options.scrub ?? NETKIT_SCRUB_DEFAULT,
    peerScrub: options.peerScrub ?? NETKIT_SCRUB_DEFAULT,
    headroom: options.headroom ?? 0,
    tailroom: options.tailroom ?? 0,
    peer: { name: peerName, mac: peerMac, namespace: peer.namespace ?? namespace },
  };
}

const FIXED: [keyof NetkitChange, string][] = [
  ["mode", "operating mode"],
  ["scrub", "scrubbing"],
  ["peerScrub", "peer scrubbing"],
  ["peer", "peer info"],
  ["headroom", "headroom"],
  ["tailroom", "tailroom"],
  ["pairing", "pairing"],
];

/** What of a change is refused. @throws what the kernel answers */
export function checkChange(change: NetkitChange, primary: boolean, pairing: number, hasPeer: boolean): void {
  checkReadOnly(change);
  if (!primary) throw refuse("change", EACCES, "netkit link settings can be changed only through the primary device");
  for (const [name, words] of FIXED) {
    if (change[name] !== undefined) {
      throw refuse("change", EACCES, `netkit link ${words} cannot be changed after device creation`);
    }
  }
  if (change.policy !== undefined && pairing === NETKIT_DEVICE_SINGLE) throw refuse("change the policy of", EOPNOTSUPP);
  checkPolicy(change.policy);
  if (change.peerPolicy !== undefined && !hasPeer) throw refuse("change the peer's policy of", EOPNOTSUPP);
  checkPolicy(change.peerPolicy);
}
