/**
 * Builds valid frames for tests, byte by byte, knowing nothing of `stack/wire`: a second opinion. Addresses are text,
 * numbers go in as they are shown, and everything that could be derived (lengths, checksums) is, unless given.
 *
 * @module
 */
export { type CheckedFrame, checkFrame } from "./check_frame.ts";
export { corpus, mutate, randomFrame, randomSource } from "./mutate.ts";

export type Bytes = Uint8Array<ArrayBuffer>;

/** Joins numbers (a byte each) and byte arrays. */
export function bytesOf(...parts: (number | Uint8Array | readonly number[])[]): Bytes {
  const all: number[] = [];
  for (const part of parts) {
    if (typeof part === "number") all.push(part);
    else for (const byte of part) all.push(byte);
  }
  return Uint8Array.from(all);
}

export function u16(value: number): number[] {
  return [(value >>> 8) & 255, value & 255];
}

export function u32(value: number): number[] {
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

/** "10.0.0.1" as four bytes. */
export function ip(text: string): number[] {
  return text.split(".").map(Number);
}

/** "10.0.0.1" as the int32 key that the stack uses. */
export function keyOf(text: string): number {
  return ip(text).reduce((key, byte) => (key << 8) | byte, 0);
}

/** "02:00:00:00:00:01" as six bytes. */
export function mac(text: string): number[] {
  return text.split(":").map((part) => parseInt(part, 16));
}

/** The Internet checksum, the slow and plain way. */
export function checksumOf(bytes: Uint8Array | readonly number[]): number {
  let total = 0;
  for (let i = 0; i < bytes.length; i += 2) {
    total += bytes[i] * 256 + (i + 1 < bytes.length ? bytes[i + 1] : 0);
    if (total > 0xffff) total -= 0xffff;
  }
  return 0xffff - total;
}

export interface EthernetFields {
  destination?: string;
  source?: string;
  /** Tags from the outside in: VLAN id, or the whole TCI when over 4095 is wanted. */
  vlans?: readonly number[];
  type?: number;
}

/** An Ethernet frame; padded to 60 bytes only if `pad`. */
export function ethernet(fields: EthernetFields, payload: Uint8Array, pad = false): Bytes {
  const tags = (fields.vlans ?? []).flatMap((tci, i, all) => [...u16(i < all.length - 1 ? 0x88a8 : 0x8100), ...u16(tci)]);
  const destination = mac(fields.destination ?? "02:00:00:00:00:02");
  const source = mac(fields.source ?? "02:00:00:00:00:01");
  const frame = bytesOf(destination, source, tags, u16(fields.type ?? 0x0800), payload);
  return pad && frame.length < 60 ? bytesOf(frame, new Uint8Array(60 - frame.length)) : frame;
}

export interface ArpFields {
  operation?: number;
  senderMac?: string;
  senderIp?: string;
  targetMac?: string;
  targetIp?: string;
}

/** An ARP packet: a request by default. */
export function arp(fields: ArpFields): Bytes {
  return bytesOf(
    [0, 1, 8, 0, 6, 4, ...u16(fields.operation ?? 1)],
    mac(fields.senderMac ?? "02:00:00:00:00:01"),
    ip(fields.senderIp ?? "10.0.0.1"),
    mac(fields.targetMac ?? "00:00:00:00:00:00"),
    ip(fields.targetIp ?? "10.0.0.2"),
  );
}

export interface Ipv4Fields {
  source?: string;
  destination?: string;
  protocol?: number;
  ttl?: number;
  tos?: number;
  id?: number;
  dontFragment?: boolean;
  more?: boolean;
  /** Fragment offset in bytes. */
  fragmentOffset?: number;
  /** Padded with end-of-list to four bytes. */
  options?: readonly number[];
  /** Instead of the right ones. */
  totalLength?: number;
  checksum?: number;
  version?: number;
  headerWords?: number;
}

/** An IPv4 packet. */
export function ipv4(fields: Ipv4Fields, payload: Uint8Array): Bytes {
  const options = [...(fields.options ?? [])];
  while (options.length % 4 !== 0) options.push(0);
  const words = fields.headerWords ?? 5 + options.length / 4;
  const flags = (fields.dontFragment ? 0x4000 : 0) | (fields.more ? 0x2000 : 0) | ((fields.fragmentOffset ?? 0) >>> 3);
  const header = [
    ((fields.version ?? 4) << 4) | words,
    fields.tos ?? 0,
    ...u16(fields.totalLength ?? 20 + options.length + payload.length),
    ...u16(fields.id ?? 0x1234),
    ...u16(flags),
    fields.ttl ?? 64,
    fields.protocol ?? 17,
    0,
    0,
    ...ip(fields.source ?? "10.0.0.1"),
    ...ip(fields.destination ?? "10.0.0.2"),
    ...options,
  ];
  [header[10], header[11]] = u16(fields.checksum ?? checksumOf(header));
  return bytesOf(header, payload);
}

/** Sum over pseudo-header and transport bytes. */
export function transportChecksum(source: string, destination: string, protocol: number, bytes: readonly number[]): number {
  return checksumOf([...ip(source), ...ip(destination), 0, protocol, ...u16(bytes.length), ...bytes]);
}

export interface UdpFields {
  source?: string;
  destination?: string;
  sourcePort?: number;
  destinationPort?: number;
  length?: number;
  /** 0: none made. */
  checksum?: number;
}

/** A UDP datagram with its header. */
export function udp(fields: UdpFields, payload: Uint8Array): Bytes {
  const length = u16(fields.length ?? 8 + payload.length);
  const bytes = [...u16(fields.sourcePort ?? 1000), ...u16(fields.destinationPort ?? 7), ...length, 0, 0, ...payload];
  const sum = transportChecksum(fields.source ?? "10.0.0.1", fields.destination ?? "10.0.0.2", 17, bytes);
  [bytes[6], bytes[7]] = u16(fields.checksum ?? (sum === 0 ? 0xffff : sum));
  return Uint8Array.from(bytes);
}

export interface TcpFields {
  source?: string;
  destination?: string;
  sourcePort?: number;
  destinationPort?: number;
  sequence?: number;
  acknowledgment?: number;
  /** Letters of CEUAPRSF. */
  flags?: string;
  window?: number;
  urgent?: number;
  /** Padded with end-of-list to four bytes. */
  options?: readonly number[];
  checksum?: number;
  headerWords?: number;
}

/** A TCP segment. */
export function tcp(fields: TcpFields, payload: Uint8Array = new Uint8Array(0)): Bytes {
  const options = [...(fields.options ?? [])];
  while (options.length % 4 !== 0) options.push(0);
  const letters = "FSRPAUEC";
  const flags = [...(fields.flags ?? "A")].reduce((bits, letter) => bits | (1 << letters.indexOf(letter)), 0);
  const bytes = [
    ...u16(fields.sourcePort ?? 1000),
    ...u16(fields.destinationPort ?? 80),
    ...u32(fields.sequence ?? 0),
    ...u32(fields.acknowledgment ?? 0),
    (fields.headerWords ?? 5 + options.length / 4) << 4,
    flags,
    ...u16(fields.window ?? 65_535),
    0,
    0,
    ...u16(fields.urgent ?? 0),
    ...options,
    ...payload,
  ];
  const sum = transportChecksum(fields.source ?? "10.0.0.1", fields.destination ?? "10.0.0.2", 6, bytes);
  [bytes[16], bytes[17]] = u16(fields.checksum ?? sum);
  return Uint8Array.from(bytes);
}

/** An ICMP message; `rest` are the four bytes behind the checksum. */
export function icmp(type: number, code: number, rest: readonly number[], payload: Uint8Array = new Uint8Array(0)): Bytes {
  const bytes = [type, code, 0, 0, ...rest, ...payload];
  [bytes[2], bytes[3]] = u16(checksumOf(bytes));
  return Uint8Array.from(bytes);
}

/** An echo request. */
export function echo(identifier: number, sequence: number, payload: Uint8Array): Bytes {
  return icmp(8, 0, [...u16(identifier), ...u16(sequence)], payload);
}

/** An IGMP message of versions 1 and 2, or a query of version 3 when `more` is given. */
export function igmp(type: number, maxResponse: number, group: string, more: readonly number[] = []): Bytes {
  const bytes = [type, maxResponse, 0, 0, ...ip(group), ...more];
  [bytes[2], bytes[3]] = u16(checksumOf(bytes));
  return Uint8Array.from(bytes);
}

/** Cuts `payload` into the fragments of one datagram, each with at most `mtu` bytes of IP packet. */
export function fragments(fields: Ipv4Fields, payload: Uint8Array, mtu: number): Bytes[] {
  const header = 20 + Math.ceil((fields.options?.length ?? 0) / 4) * 4;
  const step = (mtu - header) & ~7;
  const packets: Bytes[] = [];
  for (let at = 0; at < payload.length; at += step) {
    const more = at + step < payload.length;
    packets.push(ipv4({ ...fields, more, fragmentOffset: at }, payload.slice(at, at + step)));
  }
  return packets;
}
