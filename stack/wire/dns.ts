/**
 * DNS messages (RFC 1035; AAAA RFC 3596, SRV RFC 2782, OPT RFC 6891): a question to bytes, and a hostile answer to values.
 *
 * ```text
 *   0  1  2  3  4  5  6  7  8  9  0  1  2  3  4  5
 * +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
 * |                      ID                       |
 * |QR|   Opcode  |AA|TC|RD|RA|   Z    |   RCODE   |
 * |                    QDCOUNT                    |
 * |                    ANCOUNT                    |
 * |                    NSCOUNT                    |
 * |                    ARCOUNT                    |
 * +--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+--+
 * question: NAME, TYPE 16, CLASS 16
 * record:   NAME, TYPE 16, CLASS 16, TTL 32, RDLENGTH 16, RDATA
 * ```
 *
 * Nothing here throws: what cannot be read is null. Names are text without a last dot; a dot, a backslash or a byte that
 * doesn't print within a label is written `\.`, `\\` or `\DDD` (RFC 1035 5.1). Compression pointers only lead backward, so
 * that every name ends; names, records and chains are bounded.
 *
 * @module
 */
import { decodeName, encodeName, type NameEnd, sameName } from "./dns_name.ts";

export { reverseName, sameName } from "./dns_name.ts";

/** Record types that are understood, by name. */
export const DNS_TYPES = { A: 1, NS: 2, CNAME: 5, PTR: 12, MX: 15, TXT: 16, AAAA: 28, SRV: 33 } as const;
export type DnsType = keyof typeof DNS_TYPES;

export const RCODE_OK = 0;
export const RCODE_FORMAT = 1;
export const RCODE_SERVER_FAILURE = 2;
export const RCODE_NO_NAME = 3;
export const RCODE_REFUSED = 5;

export const DNS_HEADER_LENGTH = 12;
/** Records of one message that are read, all sections together; a message with more is refused. */
export const DNS_RECORDS_MAX = 512;
/** Links of a chain of CNAMEs that {@link answersFor} follows. */
export const CNAME_CHAIN_MAX = 16;
/** UDP payload that a query offers to take (DNS flag day 2020). */
export const EDNS_SIZE = 1232;

const TYPE_OPT = 41;
const CLASS_IN = 1;

/** One resource record. Which of the members behind `ttl` are there depends on `type`. */
export interface DnsRecord {
  name: string;
  /** Number of the type; see {@link DNS_TYPES}. */
  type: number;
  /** Seconds. */
  ttl: number;
  /** A and AAAA: the address as text. CNAME, NS, PTR: the name. */
  text?: string;
  mx?: { preference: number; exchange: string };
  srv?: { priority: number; weight: number; port: number; target: string };
  txt?: string[];
}

export interface DnsMessage {
  id: number;
  response: boolean;
  opcode: number;
  /** Cut short: ask again over TCP. */
  truncated: boolean;
  recursionAvailable: boolean;
  /** Response code, with the upper bits of EDNS. */
  rcode: number;
  questions: { name: string; type: number }[];
  answers: DnsRecord[];
  authorities: DnsRecord[];
  additionals: DnsRecord[];
}

/**
 * A query for one name, recursion desired.
 *
 * @param id 16 random bits
 * @param ednsSize UDP payload that the answer may have, 0 for a query without OPT record
 * @returns the message, or null if the name cannot be one (a label over 63 bytes or empty, over 255 in all, not ASCII)
 */
export function encodeQuery(id: number, name: string, type: DnsType, ednsSize = EDNS_SIZE): Uint8Array<ArrayBuffer> | null {
  const encoded = encodeName(name);
  if (encoded === null) return null;
  const at = DNS_HEADER_LENGTH + encoded.length;
  const bytes = new Uint8Array(at + 4 + (ednsSize > 0 ? 11 : 0));
  const view = new DataView(bytes.buffer);
  view.setUint16(0, id);
  view.setUint16(2, 0x0100);
  view.setUint16(4, 1);
  bytes.set(encoded, DNS_HEADER_LENGTH);
  view.setUint16(at, DNS_TYPES[type]);
  view.setUint16(at + 2, CLASS_IN);
  if (ednsSize > 0) {
    view.setUint16(10, 1);
    view.setUint16(at + 5, TYPE_OPT);
    view.setUint16(at + 7, ednsSize);
  }
  return bytes;
}

/** Reads a message. Null if any part of it is malformed, unless it is only cut short and says so. */
export function decodeMessage(bytes: Uint8Array): DnsMessage | null {
  if (bytes.length < DNS_HEADER_LENGTH) return null;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const flags = view.getUint16(2);
  const counts = [view.getUint16(6), view.getUint16(8), view.getUint16(10)];
  const message: DnsMessage = {
    id: view.getUint16(0),
    response: (flags & 0x8000) !== 0,
    opcode: (flags >> 11) & 15,
    truncated: (flags & 0x0200) !== 0,
    recursionAvailable: (flags & 0x0080) !== 0,
    rcode: flags & 15,
    questions: [],
    answers: [],
    authorities: [],
    additionals: [],
  };
  if (view.getUint16(4) + counts[0] + counts[1] + counts[2] > DNS_RECORDS_MAX) return null;
  const end: NameEnd = { at: DNS_HEADER_LENGTH };
  for (let i = view.getUint16(4); i > 0; i--) {
    const name = decodeName(bytes, end.at, end);
    if (name === null || end.at + 4 > bytes.length) return message.truncated ? message : null;
    message.questions.push({ name, type: view.getUint16(end.at) });
    end.at += 4;
  }
  const sections = [message.answers, message.authorities, message.additionals];
  for (let section = 0; section < 3; section++) {
    for (let i = counts[section]; i > 0; i--) {
      // A server that set TC may have cut in the middle of a record: what came before it is still worth something.
      if (!decodeRecord(bytes, view, end, sections[section], message)) return message.truncated ? message : null;
    }
  }
  return message;
}

/** Reads the record at `end.at` and moves `end` behind it. False if it is malformed. */
function decodeRecord(bytes: Uint8Array, view: DataView, end: NameEnd, into: DnsRecord[], message: DnsMessage): boolean {
  const name = decodeName(bytes, end.at, end);
  if (name === null || end.at + 10 > bytes.length) return false;
  const type = view.getUint16(end.at);
  const dnsClass = view.getUint16(end.at + 2);
  const ttl = view.getUint32(end.at + 4);
  const at = end.at + 10;
  const next = at + view.getUint16(end.at + 8);
  if (next > bytes.length) return false;
  end.at = next;
  if (type === TYPE_OPT) {
    message.rcode |= (ttl >>> 24) << 4;
    return true;
  }
  if (dnsClass !== CLASS_IN) return true;
  //= rfc2181#8
  //# Implementations should treat TTL values received with the most significant bit set as if the entire value received was zero.
  const record: DnsRecord = { name, type, ttl: ttl > 0x7fff_ffff ? 0 : ttl };
  if (!decodeData(bytes, view, at, next, record)) return false;
  into.push(record);
  return true;
}

/** Reads the data of a record, [at, end). A type that isn't known has none. */
function decodeData(bytes: Uint8Array, view: DataView, at: number, end: number, record: DnsRecord): boolean {
  const length = end - at;
  switch (record.type) {
    case DNS_TYPES.A:
      if (length !== 4) return false;
      record.text = bytes.subarray(at, end).join(".");
      return true;
    case DNS_TYPES.AAAA:
      if (length !== 16) return false;
      record.text = formatV6(view, at);
      return true;
    case DNS_TYPES.NS:
    case DNS_TYPES.CNAME:
    case DNS_TYPES.PTR:
      record.text = nameOf(bytes, at, end) ?? undefined;
      return record.text !== undefined;
    case DNS_TYPES.MX: {
      const exchange = length < 3 ? null : nameOf(bytes, at + 2, end);
      if (exchange === null) return false;
      record.mx = { preference: view.getUint16(at), exchange };
      return true;
    }
    case DNS_TYPES.SRV: {
      const target = length < 7 ? null : nameOf(bytes, at + 6, end);
      if (target === null) return false;
      record.srv = { priority: view.getUint16(at), weight: view.getUint16(at + 2), port: view.getUint16(at + 4), target };
      return true;
    }
    case DNS_TYPES.TXT:
      return decodeText(bytes, at, end, record.txt = []);
    default:
      return true;
  }
}

/** A name that has to end exactly where the record's data ends. */
function nameOf(bytes: Uint8Array, at: number, end: number): string | null {
  const nameEnd: NameEnd = { at: 0 };
  const name = decodeName(bytes, at, nameEnd);
  return nameEnd.at === end ? name : null;
}

function decodeText(bytes: Uint8Array, at: number, end: number, into: string[]): boolean {
  const decoder = new TextDecoder();
  while (at < end) {
    const next = at + 1 + bytes[at];
    if (next > end) return false;
    into.push(decoder.decode(bytes.subarray(at + 1, next)));
    at = next;
  }
  return into.length > 0;
}

/** RFC 5952: lower case, no leading zeros, the longest run of two or more zero groups as `::`. */
function formatV6(view: DataView, at: number): string {
  const groups: string[] = [];
  for (let i = 0; i < 8; i++) groups.push(view.getUint16(at + 2 * i).toString(16));
  let best = -1;
  let bestLength = 1;
  for (let i = 0; i < 8; i++) {
    let length = 0;
    while (i + length < 8 && groups[i + length] === "0") length++;
    if (length > bestLength) {
      best = i;
      bestLength = length;
    }
  }
  if (best < 0) return groups.join(":");
  return `${groups.slice(0, best).join(":")}::${groups.slice(best + bestLength).join(":")}`;
}

/** True if a message may be the answer to the query: a response with its id and its one question (RFC 5452 9.1). */
export function answers(message: DnsMessage, id: number, name: string, type: DnsType): boolean {
  const [question] = message.questions;
  return message.response && message.opcode === 0 && message.id === id && message.questions.length === 1 &&
    question.type === DNS_TYPES[type] && sameName(question.name, name);
}

/** The records of a type for a name, through at most {@link CNAME_CHAIN_MAX} CNAMEs. */
export function answersFor(message: DnsMessage, name: string, type: DnsType): DnsRecord[] {
  let owner = name;
  for (let links = 0; links <= CNAME_CHAIN_MAX; links++) {
    const found = message.answers.filter((record) => record.type === DNS_TYPES[type] && sameName(record.name, owner));
    if (found.length > 0) return found;
    const alias = message.answers.find((record) => record.type === DNS_TYPES.CNAME && sameName(record.name, owner));
    if (alias?.text === undefined) return [];
    owner = alias.text;
  }
  return [];
}
