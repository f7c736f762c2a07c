/**
 * DHCP messages (RFC 2131, options RFC 2132).
 *
 *      0      1       2      3      4                8      10      12       16       20       24       28      44      236
 *     +------+-------+------+------+----------------+------+-------+--------+--------+--------+--------+-------+- - --+---------
 *     | op   | htype | hlen | hops | xid            | secs | flags | ciaddr | yiaddr | siaddr | giaddr | chaddr| names| cookie…
 *     +------+-------+------+------+----------------+------+-------+--------+--------+--------+--------+-------+- - --+---------
 *
 * @module
 */
export const DISCOVER = 1;
export const OFFER = 2;
export const REQUEST = 3;
export const DECLINE = 4;
export const ACK = 5;
export const NAK = 6;
export const RELEASE = 7;
export const INFORM = 8;

export const OPTION_MASK = 1;
export const OPTION_ROUTER = 3;
export const OPTION_NAMESERVER = 6;
export const OPTION_HOSTNAME = 12;
export const OPTION_DOMAIN = 15;
export const OPTION_MTU = 26;
export const OPTION_BROADCAST = 28;
export const OPTION_REQUESTED = 50;
export const OPTION_LEASE = 51;
export const OPTION_TYPE = 53;
export const OPTION_SERVER = 54;
export const OPTION_RENEW = 58;
export const OPTION_REBIND = 59;
export const OPTION_CLIENT = 61;
const OPTION_END = 255;

const COOKIE = 0x63825363;
const FIXED = 240;
/** What every client takes (RFC 2131 2), without IP and UDP headers; and what some drop if it is shorter (BOOTP). */
const SIZE_MIN = 300;

/** A message of a client. */
export interface DhcpRequest {
  readonly type: number;
  readonly xid: number;
  readonly flags: number;
  /** The address that the client has, 0 for none. */
  readonly clientKey: number;
  /** Hardware address. */
  readonly mac: Uint8Array;
  /** What tells clients apart: the client identifier, or the hardware address. */
  readonly client: string;
  /** The client identifier as it came; empty for none. */
  readonly clientId: Uint8Array;
  /** The relay agent's address; 0 for none. */
  readonly relayKey: number;
  readonly requestedKey: number;
  readonly serverKey: number;
  readonly hostname: string;
}

function hex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}

/** The options by number; null if one is cut off. */
function parseOptions(bytes: Uint8Array): Map<number, Uint8Array> | null {
  const options = new Map<number, Uint8Array>();
  for (let at = FIXED; at < bytes.length && bytes[at] !== OPTION_END;) {
    if (bytes[at] === 0) {
      at++;
      continue;
    }
    if (at + 2 > bytes.length || at + 2 + bytes[at + 1] > bytes.length) return null;
    // An option that is there twice is one that was cut (RFC 3396); none of those that we read is as long as that.
    if (!options.has(bytes[at])) options.set(bytes[at], bytes.slice(at + 2, at + 2 + bytes[at + 1]));
    at += 2 + bytes[at + 1];
  }
  return options;
}

/** What of a client's name may be shown to people: a terminal obeys other characters. */
function plainName(bytes: Uint8Array | undefined): string {
  return new TextDecoder().decode(bytes ?? new Uint8Array()).replace(/[^A-Za-z0-9._-]/g, "").slice(0, 63);
}

/** Reads a client's message; null for what is none. Never throws. */
export function parseRequest(bytes: Uint8Array): DhcpRequest | null {
  if (bytes.length < FIXED) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  // A request, of Ethernet.
  if (bytes[0] !== 1 || bytes[1] !== 1 || bytes[2] !== 6 || view.getUint32(236) !== COOKIE) return null;
  const options = parseOptions(bytes);
  const type = options?.get(OPTION_TYPE);
  if (!options || type?.length !== 1) return null;
  const address = (option: number): number => {
    const value = options.get(option);
    return value?.length === 4 ? new DataView(value.buffer).getInt32(0) : 0;
  };
  const mac = bytes.slice(28, 34);
  const clientId = options.get(OPTION_CLIENT) ?? new Uint8Array();
  return {
    type: type[0],
    xid: view.getUint32(4),
    flags: view.getUint16(10),
    clientKey: view.getInt32(12),
    mac,
    client: clientId.length < 2 ? `1:${hex(mac)}` : `id:${hex(clientId)}`,
    clientId,
    relayKey: view.getInt32(24),
    requestedKey: address(OPTION_REQUESTED),
    serverKey: address(OPTION_SERVER),
    hostname: plainName(options.get(OPTION_HOSTNAME)),
  };
}

/** An option's value: text, one byte, or 32-bit words. */
export type OptionValue = string | { byte: number } | { short: number } | number[];

/** Builds a server's answer. */
export function buildReply(request: DhcpRequest, type: number, yourKey: number, options: [number, OptionValue][]): Uint8Array {
  const out: number[] = [];
  for (const [option, value] of [[OPTION_TYPE, { byte: type }] as [number, OptionValue], ...options]) {
    const bytes = encode(value);
    out.push(option, bytes.length, ...bytes);
  }
  //= rfc6842#3
  // If the 'client identifier' option is present in a message received from a client, the server MUST return the 'client
  // identifier' option, unaltered, in its response message.
  if (request.clientId.length > 0) out.push(OPTION_CLIENT, request.clientId.length, ...request.clientId);
  out.push(OPTION_END);
  const reply = new Uint8Array(Math.max(SIZE_MIN, FIXED + out.length));
  const view = new DataView(reply.buffer);
  reply.set([2, 1, 6, 0]);
  view.setUint32(4, request.xid);
  view.setUint16(10, request.flags);
  view.setInt32(12, type === ACK ? request.clientKey : 0);
  view.setInt32(16, yourKey);
  view.setInt32(24, request.relayKey);
  reply.set(request.mac, 28);
  view.setUint32(236, COOKIE);
  reply.set(out, FIXED);
  return reply;
}

function encode(value: OptionValue): number[] {
  if (typeof value === "string") return [...new TextEncoder().encode(value)].slice(0, 255);
  if ("byte" in value) return [value.byte];
  if ("short" in value) return [value.short >>> 8, value.short & 255];
  return value.flatMap((word) => [word >>> 24, (word >>> 16) & 255, (word >>> 8) & 255, word & 255]);
}
