/**
 * Names in DNS messages (RFC 1035 3.1, 4.1.4, 5.1).
 *
 * @module
 */

/** Bytes of a name with its length bytes and the root (RFC 1035 2.3.4). */
export const NAME_MAX = 255;
const LABEL_MAX = 63;

/** Where the reading of a name ended; reused. */
export interface NameEnd {
  at: number;
}

/** A name as bytes with the root at its end. Null if it cannot be one. */
export function encodeName(name: string): Uint8Array | null {
  const bytes = new Uint8Array(NAME_MAX);
  let label = 0;
  let at = 1;
  const text = name === "." ? "" : name;
  for (let i = 0; i < text.length; i++) {
    let code = text.charCodeAt(i);
    if (code === 0x2e) {
      if (at === label + 1 || at >= NAME_MAX) return null;
      bytes[label] = at - label - 1;
      label = at++;
      continue;
    }
    if (code === 0x5c) {
      const digits = /^\d{3}/.exec(text.slice(i + 1, i + 4));
      code = digits !== null ? Number(digits[0]) : text.charCodeAt(++i);
      if (digits !== null) i += 3;
      if (!(code <= 255)) return null;
    } else if (code > 126 || code <= 32) {
      return null;
    }
    //= rfc1035#2.3.4
    //# labels          63 octets or less
    if (at - label > LABEL_MAX || at >= NAME_MAX) return null;
    bytes[at++] = code;
  }
  // A dot at the end closed the last label already: then the root stands at `label`.
  if (at > label + 1) {
    bytes[label] = at - label - 1;
    label = at;
  }
  //= rfc1035#2.3.4
  //# names           255 octets or less
  if (label >= NAME_MAX) return null;
  bytes[label] = 0;
  return bytes.slice(0, label + 1);
}

/**
 * Reads the name at `start`. `end.at` is set behind it (behind its first pointer, if it has one). Null if it is malformed.
 */
export function decodeName(bytes: Uint8Array, start: number, end: NameEnd): string | null {
  let text = "";
  let at = start;
  // The first byte of the part that is being read: a pointer has to lead to before it, so that the walk ends.
  let part = start;
  let length = 1;
  let jumped = false;
  for (;;) {
    if (at >= bytes.length) return null;
    const size = bytes[at];
    if (size === 0) break;
    if (size >= 0xc0) {
      if (at + 1 >= bytes.length) return null;
      if (!jumped) end.at = at + 2;
      jumped = true;
      //= rfc1035#4.1.4
      //# an entire domain name or a list of labels at the end of a domain name is replaced with a pointer to a prior occurance
      //# of the same name.
      const target = ((size & 0x3f) << 8) | bytes[at + 1];
      if (target >= part) return null;
      at = part = target;
      continue;
    }
    length += size + 1;
    if (size > LABEL_MAX || length > NAME_MAX || at + 1 + size > bytes.length) return null;
    if (text !== "") text += ".";
    for (let i = at + 1; i <= at + size; i++) text += escape(bytes[i]);
    at += 1 + size;
  }
  if (!jumped) end.at = at + 1;
  return text;
}

function escape(code: number): string {
  if (code === 0x2e || code === 0x5c) return "\\" + String.fromCharCode(code);
  return code > 32 && code < 127 ? String.fromCharCode(code) : "\\" + String(code).padStart(3, "0");
}

/** The name under which an IPv4 address stands for PTR: `reverseName(0x0a000002)` is `2.0.0.10.in-addr.arpa`. */
export function reverseName(key: number): string {
  return `${key & 255}.${(key >>> 8) & 255}.${(key >>> 16) & 255}.${key >>> 24}.in-addr.arpa`;
}

/** True if two names are the same: ASCII case and a last dot don't count. */
export function sameName(a: string, b: string): boolean {
  const first = encodeName(a);
  const second = encodeName(b);
  if (first === null || second === null || first.length !== second.length) return false;
  return first.every((code, i) => lower(code) === lower(second[i]));
}

function lower(code: number): number {
  return code >= 0x41 && code <= 0x5a ? code + 32 : code;
}
