/**
 * Addresses as the kernel takes them: text to bytes and back. Nothing here needs the C library, so that arguments can be
 * checked before anything is opened.
 *
 * @module
 */

/** An IP address: 4 or 16 bytes in network order. */
export type IpBytes = Uint8Array<ArrayBuffer>;

/** An address and the length of its prefix in bits. */
export interface Prefix {
  readonly address: IpBytes;
  readonly length: number;
}

function parseV4(text: string): IpBytes | null {
  const match = /^(\d{1,3})\.(\d{1,3})\.(\d{1,3})\.(\d{1,3})$/.exec(text);
  if (match === null) return null;
  const bytes = new Uint8Array(4);
  for (let i = 0; i < 4; i++) {
    const part = match[i + 1];
    // A leading zero is refused: some programs read it as octal.
    if (Number(part) > 255 || (part.length > 1 && part[0] === "0")) return null;
    bytes[i] = Number(part);
  }
  return bytes;
}

function parseV6(text: string): IpBytes | null {
  const halves = text.split("::");
  if (halves.length > 2 || !/^[0-9a-fA-F:.]+$/.test(text)) return null;
  const groups: number[][] = [];
  for (const half of halves) {
    const list: number[] = [];
    const parts = half === "" ? [] : half.split(":");
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i];
      if (part.includes(".")) {
        // A dotted quad may only be the very end.
        const v4 = i === parts.length - 1 && half === halves[halves.length - 1] ? parseV4(part) : null;
        if (v4 === null) return null;
        list.push((v4[0] << 8) | v4[1], (v4[2] << 8) | v4[3]);
      } else if (/^[0-9a-fA-F]{1,4}$/.test(part)) list.push(parseInt(part, 16));
      else return null;
    }
    groups.push(list);
  }
  const given = groups.reduce((n, list) => n + list.length, 0);
  if (halves.length === 1 ? given !== 8 : given > 7) return null;
  const all = halves.length === 1 ? groups[0] : [...groups[0], ...new Array<number>(8 - given).fill(0), ...groups[1]];
  const bytes = new Uint8Array(16);
  all.forEach((group, i) => {
    bytes[2 * i] = group >> 8;
    bytes[2 * i + 1] = group & 0xff;
  });
  return bytes;
}

/** @throws {TypeError} when the text is no IPv4 or IPv6 address */
export function parseIp(text: string): IpBytes {
  const bytes = parseV4(text) ?? parseV6(text);
  if (bytes === null) throw new TypeError(`Invalid IP address ${JSON.stringify(text)}`);
  return bytes;
}

/**
 * "10.0.0.1/24", "fd00::1/64"; without a length it is the single address. "default" is 0.0.0.0/0.
 *
 * @throws {TypeError} when it is none
 */
export function parsePrefix(text: string): Prefix {
  if (text === "default") return { address: new Uint8Array(4), length: 0 };
  const match = /^([^/]+)(?:\/(\d{1,3}))?$/.exec(text);
  if (match === null) throw new TypeError(`Invalid address with prefix ${JSON.stringify(text)}`);
  const address = parseIp(match[1]);
  const most = address.length * 8;
  const length = match[2] === undefined ? most : Number(match[2]);
  if (length > most) throw new TypeError(`Invalid prefix length in ${JSON.stringify(text)}: at most ${most}`);
  return { address, length };
}

/** The text of 4 or 16 bytes (RFC 5952 for the long ones). */
export function formatIp(bytes: Uint8Array): string {
  if (bytes.length === 4) return bytes.join(".");
  const groups: number[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i] << 8) | bytes[i + 1]);
  let best = -1, bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let n = 0;
    while (i + n < 8 && groups[i + n] === 0) n++;
    if (n > bestLength) [best, bestLength] = [i, n];
  }
  const hex = groups.map((group) => group.toString(16));
  if (best < 0) return hex.join(":");
  return `${hex.slice(0, best).join(":")}::${hex.slice(best + bestLength).join(":")}`;
}

/** The network address of a prefix: host bits cleared. */
export function networkOf({ address, length }: Prefix): IpBytes {
  return address.map((byte, i) => byte & (0xff00 >> Math.max(0, Math.min(8, length - 8 * i))) & 0xff);
}

/**
 * "02:00:00:00:00:01", or six bytes.
 *
 * @throws {TypeError} when it is no unicast MAC address
 */
export function parseMac(mac: string | Uint8Array): Uint8Array<ArrayBuffer> {
  let bytes: Uint8Array<ArrayBuffer>;
  if (typeof mac === "string") {
    if (!/^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2}){5}$/.test(mac)) throw new TypeError(`Invalid MAC address ${JSON.stringify(mac)}`);
    bytes = Uint8Array.from(mac.split(/[:-]/), (part) => parseInt(part, 16));
  } else if (typeof mac !== "object" || mac === null) throw new TypeError(`Invalid MAC address ${mac}: text or bytes are needed`);
  else bytes = Uint8Array.from(mac);
  if (bytes.length !== 6) throw new TypeError(`Invalid MAC address: ${bytes.length} bytes, 6 are needed`);
  if ((bytes[0] & 1) !== 0) throw new TypeError(`Invalid MAC address ${formatMac(bytes)}: it is a group address`);
  if (bytes.every((byte) => byte === 0)) throw new TypeError("Invalid MAC address: it is all zero");
  return bytes;
}

/** "02:00:00:00:00:01" */
export function formatMac(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(":");
}
