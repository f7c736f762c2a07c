/**
 * Addresses: 32-bit IPv4 keys and 48-bit MAC addresses, from and to text, and what kind an address is.
 *
 * A *key* is an address as an int32 in network order: 10.0.0.1 is 0x0a000001. Keys of addresses from 128.0.0.0 on are
 * negative numbers; compare them for equality only.
 *
 * @module
 */

/** Key of 255.255.255.255. */
export const LIMITED_BROADCAST = -1;
/** Key of 127.0.0.1. */
export const LOOPBACK = 0x7f000001;
/** Key of 224.0.0.1, the group that every multicast host is in. */
export const ALL_HOSTS = 0xe0000001 | 0;

/** The key in dotted decimal: 0x0a000001 is "10.0.0.1". */
export function formatKey(key: number): string {
  return `${key >>> 24}.${(key >>> 16) & 255}.${(key >>> 8) & 255}.${key & 255}`;
}

const DOTTED = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/;

/** Strict dotted decimal to a key, or null: four numbers up to 255 without leading zeros, nothing around them. */
export function tryParseAddress(text: string): number | null {
  const parts = DOTTED.exec(text);
  if (parts === null) return null;
  let key = 0;
  for (let i = 1; i <= 4; i++) {
    const part = parts[i];
    const value = Number(part);
    // A leading zero means octal to inet_aton and decimal to others: refused, as WHATWG and Go do.
    if (value > 255 || (part.length > 1 && part[0] === "0")) return null;
    key = (key << 8) | value;
  }
  return key;
}

/**
 * Strict dotted decimal to a key.
 *
 * @throws {TypeError} if the text is no IPv4 address
 */
export function parseAddress(text: string): number {
  const key = tryParseAddress(text);
  if (key === null) throw new TypeError(`Not an IPv4 address: ${JSON.stringify(text)}. Expected a form like "10.0.0.1"`);
  return key;
}

/**
 * An address with the length of its network's prefix, "10.0.0.2/24".
 *
 * @throws {TypeError} if the text has another form, or the length is over 32
 */
export function parsePrefix(text: string): { key: number; prefixLength: number } {
  const slash = typeof text === "string" ? text.indexOf("/") : -1;
  const key = slash < 0 ? null : tryParseAddress(text.slice(0, slash));
  const tail = key === null ? "" : text.slice(slash + 1);
  if (key === null || !/^(\d|[12]\d|3[0-2])$/.test(tail)) {
    throw new TypeError(`Not an address with prefix length: ${JSON.stringify(text)}. Expected a form like "10.0.0.2/24"`);
  }
  return { key, prefixLength: Number(tail) };
}

/** The mask of a prefix length: 24 is 255.255.255.0, as an int32. */
export function maskOf(prefixLength: number): number {
  // JavaScript shifts modulo 32, so that << 32 would shift nothing.
  return prefixLength === 0 ? 0 : -1 << (32 - prefixLength);
}

/** The directed broadcast address of the network that `key` is in; LIMITED_BROADCAST for lengths 31 and 32, which have none. */
export function broadcastOf(key: number, prefixLength: number): number {
  //= rfc3021#2.2
  // (RFC 3021: the two addresses of a 31-bit prefix are hosts; there is no directed broadcast)
  return prefixLength >= 31 ? LIMITED_BROADCAST : key | ~maskOf(prefixLength);
}

/** Class D, 224.0.0.0/4. */
export function isMulticast(key: number): boolean {
  return (key >>> 28) === 14;
}

/** The limited broadcast address. Directed ones depend on an interface's prefix: {@link broadcastOf}. */
export function isBroadcast(key: number): boolean {
  return key === LIMITED_BROADCAST;
}

/** 127.0.0.0/8. */
export function isLoopback(key: number): boolean {
  return (key >>> 24) === 127;
}

/** 169.254.0.0/16, RFC 3927. */
export function isLinkLocal(key: number): boolean {
  return (key >>> 16) === 0xa9fe;
}

/** An address that one host can have: not 0.0.0.0/8, not multicast, not 240.0.0.0/4 with the limited broadcast. */
export function isUnicast(key: number): boolean {
  return key >>> 24 !== 0 && key >>> 28 < 14;
}

/** "02:00:00:00:00:01" of six bytes at `offset`. */
export function formatMac(bytes: Uint8Array, offset = 0): string {
  let text = "";
  for (let i = 0; i < 6; i++) text += (i === 0 ? "" : ":") + bytes[offset + i].toString(16).padStart(2, "0");
  return text;
}

/**
 * Six bytes of "02:00:00:00:00:01" (or with dashes).
 *
 * @throws {TypeError} if the text is no MAC address
 */
export function parseMac(text: string): Uint8Array<ArrayBuffer> {
  if (!/^[0-9a-f]{2}([:-])[0-9a-f]{2}(\1[0-9a-f]{2}){4}$/i.test(text)) {
    throw new TypeError(`Not a MAC address: ${JSON.stringify(text)}. Expected a form like "02:00:00:00:00:01"`);
  }
  return Uint8Array.from(text.split(/[:-]/), (pair) => parseInt(pair, 16));
}

/**
 * An IP address as a value: its family and its key.
 *
 * @example
 * ```ts
 * import { IpAddress } from "./address.ts";
 *
 * const address = IpAddress.parse("10.0.0.1");
 * console.log(address.family, address.key, `${address}`); // 4 167772161 10.0.0.1
 * ```
 */
export class IpAddress {
  /** Always 4 today; a program that asks is ready for 6. */
  readonly family = 4 as const;
  /** The address as an int32 in network order. */
  readonly key: number;

  private constructor(key: number) {
    this.key = key | 0;
  }

  /**
   * Strict dotted decimal.
   *
   * @throws {TypeError} if the text is no IPv4 address
   */
  static parse(text: string): IpAddress {
    return new IpAddress(parseAddress(text));
  }

  /** The address with this int32 key. */
  static fromKey(key: number): IpAddress {
    return new IpAddress(key);
  }

  /** Dotted decimal. */
  toString(): string {
    return formatKey(this.key);
  }
}
