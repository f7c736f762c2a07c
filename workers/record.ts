/**
 * Datagrams in a byte ring: length, address and port, then the bytes, each record a multiple of four long.
 *
 * @module
 */
import { EAGAIN, EMSGSIZE } from "../stack/codes.ts";
import type { Inlet, Outlet } from "./ring.ts";

const HEADER = 12;
/** Largest datagram of UDP over IPv4. */
export const DATAGRAM_MAX = 65_507;

const scratch = new Uint8Array(HEADER);
const view = new DataView(scratch.buffer);

function recordSize(length: number): number {
  return (HEADER + length + 3) & ~3;
}

/** The address of the datagram that {@link getDatagram} gave last. */
export const from: { key: number; port: number; length: number } = { key: 0, port: 0, length: 0 };

/** Puts one in, and publishes it. Bytes, or `EAGAIN` when it doesn't fit now. */
export function putDatagram(
  outlet: Outlet,
  key: number,
  port: number,
  bytes: Uint8Array,
  offset: number,
  length: number,
): number {
  if (length > DATAGRAM_MAX) return EMSGSIZE;
  const size = recordSize(length);
  if (outlet.room(size) < size) return EAGAIN;
  view.setInt32(0, length);
  view.setInt32(4, key);
  view.setInt32(8, port);
  outlet.put(scratch, 0, HEADER);
  outlet.put(bytes, offset, length);
  outlet.advance(size - HEADER - length);
  outlet.publish();
  return length;
}

/** Bytes of the next one, -1 for none. */
export function nextDatagram(inlet: Inlet): number {
  if (inlet.available === 0) return -1;
  inlet.peek(0, scratch, 0, HEADER);
  return view.getInt32(0);
}

/** Takes the next one out, cut to `length`; its address stands in {@link from}. Bytes copied, or `EAGAIN`. */
export function getDatagram(inlet: Inlet, into: Uint8Array, offset: number, length: number): number {
  const size = nextDatagram(inlet);
  if (size < 0) return EAGAIN;
  from.length = size;
  from.key = view.getInt32(4);
  from.port = view.getInt32(8);
  const count = Math.min(size, length);
  inlet.peek(HEADER, into, offset, count);
  inlet.advance(recordSize(size));
  return count;
}
