/**
 * Frames that a device left unfinished (a checksum to be filled in, segments to be cut), on their way to another one: where
 * their transport header lies, however many tags and extension headers a program has put before it.
 *
 * @module
 */
import type { TxFrame } from "../../stack/device.ts";
import { checksumFieldOf } from "../../stack/ip/offload.ts";
import { ETHERNET_SIZE, isVlanType, VLAN_SIZE } from "./helpers.ts";

/** Tags that are looked behind: two that frames come with, and two that programs push. */
const TAGS_MAX = 4;
/** IPv6 extension headers that are looked behind. */
const EXTENSIONS_MAX = 8;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
const PROTO_TCP = 6;
const HOP_BY_HOP = 0;
const ROUTING = 43;
const DESTINATION = 60;

/** The protocol that {@link transportAt} found. */
let proto = -1;

/** Where the transport header of the frame from `at` to `end` begins, or -1. */
function transportAt(view: DataView, at: number, end: number): number {
  if (at + ETHERNET_SIZE > end) return -1;
  let type = view.getUint16(at + 12);
  at += ETHERNET_SIZE;
  for (let tags = 0; tags < TAGS_MAX && isVlanType(type) && at + VLAN_SIZE <= end; tags++) {
    type = view.getUint16(at + 2);
    at += VLAN_SIZE;
  }
  if (type === ETHERTYPE_IPV4) {
    if (at + 20 > end || (view.getUint16(at + 6) & 0x1fff) !== 0) return -1;
    proto = view.getUint8(at + 9);
    return at + (view.getUint8(at) & 15) * 4;
  }
  if (type !== ETHERTYPE_IPV6 || at + 40 > end) return -1;
  proto = view.getUint8(at + 6);
  at += 40;
  for (let i = 0; i < EXTENSIONS_MAX && (proto === HOP_BY_HOP || proto === ROUTING || proto === DESTINATION); i++) {
    if (at + 8 > end) return -1;
    proto = view.getUint8(at);
    at += 8 * (view.getUint8(at + 1) + 1);
  }
  return at;
}

/**
 * Says in `frame`, which lies in `memory` as a whole, where its checksum is to be filled in and where it is to be cut.
 *
 * @param segmentSize payload bytes per segment, or 0
 * @returns false if there is no TCP or UDP header
 */
export function locateTransport(frame: TxFrame, segmentSize: number): boolean {
  const { view } = frame.memory;
  const end = frame.offset + frame.length;
  const at = transportAt(view, frame.offset, end);
  const field = at < 0 ? -1 : checksumFieldOf(proto);
  if (field < 0 || at + field + 2 > end) return false;
  let header = 8;
  if (proto === PROTO_TCP) {
    if (at + 20 > end) return false;
    header = (view.getUint8(at + 12) >> 4) * 4;
  }
  if (at + header > end) return false;
  frame.checksumStart = at - frame.offset;
  frame.checksumOffset = field;
  frame.segmentSize = segmentSize;
  frame.segmentHeaderLength = segmentSize > 0 ? frame.checksumStart + header : 0;
  return true;
}
