/**
 * Verifies a frame that the stack emitted, length by length and checksum by checksum, and decodes it for assertions. Knows
 * nothing of `stack/wire`.
 *
 * @module
 */
import { checksumOf, transportChecksum } from "./frames.ts";

/** What a frame says. Which parts are there depends on the frame. */
export interface CheckedFrame {
  /** Each of them a reason why a receiver would drop the frame. Empty when all is right. */
  problems: string[];
  ethernet?: { destination: string; source: string; type: number; vlans: number[] };
  arp?: { operation: number; senderMac: string; senderIp: string; targetMac: string; targetIp: string };
  ip?: {
    source: string;
    destination: string;
    protocol: number;
    ttl: number;
    tos: number;
    id: number;
    dontFragment: boolean;
    more: boolean;
    fragmentOffset: number;
    options: number[];
    totalLength: number;
  };
  udp?: { sourcePort: number; destinationPort: number; checksum: number };
  tcp?: {
    sourcePort: number;
    destinationPort: number;
    sequence: number;
    acknowledgment: number;
    flags: string;
    window: number;
    urgent: number;
    options: number[];
  };
  icmp?: { type: number; code: number; rest: number[] };
  igmp?: { type: number; maxResponse: number; group: string };
  /** The innermost payload. */
  payload: Uint8Array;
}

/** What to allow: a partial transport checksum is one that the device was told to finish. */
export interface CheckOptions {
  medium?: "ethernet" | "ip";
  partialChecksum?: boolean;
}

export function checkFrame(frame: Uint8Array, options: CheckOptions = {}): CheckedFrame {
  const out: CheckedFrame = { problems: [], payload: frame };
  if (options.medium === "ip") {
    checkIp(frame, out, options);
    return out;
  }
  if (frame.length < 14) {
    out.problems.push(`ethernet: only ${frame.length} bytes`);
    return out;
  }
  let at = 12;
  const vlans: number[] = [];
  while (at + 4 <= frame.length && (word(frame, at) === 0x8100 || word(frame, at) === 0x88a8)) {
    vlans.push(word(frame, at + 2));
    at += 4;
  }
  const type = word(frame, at);
  out.ethernet = { destination: macText(frame, 0), source: macText(frame, 6), type, vlans };
  if (frame[6] & 1) out.problems.push("ethernet: the source is a group address");
  out.payload = frame.slice(at + 2);
  if (type === 0x0806) checkArp(out.payload, out);
  else if (type === 0x0800) checkIp(out.payload, out, options);
  return out;
}

function checkArp(bytes: Uint8Array, out: CheckedFrame): void {
  if (bytes.length < 28) {
    out.problems.push(`arp: only ${bytes.length} bytes`);
    return;
  }
  const head = [...bytes.slice(0, 6)].join();
  if (head !== "0,1,8,0,6,4") out.problems.push(`arp: header is ${head}`);
  out.arp = {
    operation: word(bytes, 6),
    senderMac: macText(bytes, 8),
    senderIp: ipText(bytes, 14),
    targetMac: macText(bytes, 18),
    targetIp: ipText(bytes, 24),
  };
  out.payload = bytes.slice(28);
}

function checkIp(bytes: Uint8Array, out: CheckedFrame, options: CheckOptions): void {
  const { problems } = out;
  const header = bytes.length < 20 ? 0 : (bytes[0] & 15) * 4;
  if (bytes.length < 20 || bytes[0] >> 4 !== 4 || header < 20 || header > bytes.length) {
    problems.push(`ip: version ${bytes[0] >> 4}, header ${header} of ${bytes.length} bytes`);
    return;
  }
  const totalLength = word(bytes, 2);
  if (checksumOf(bytes.slice(0, header)) !== 0) problems.push("ip: header checksum");
  if (totalLength > bytes.length) problems.push(`ip: total length ${totalLength} of ${bytes.length}`);
  else if (totalLength < bytes.length && bytes.length > 46) {
    problems.push(`ip: ${bytes.length - totalLength} bytes behind the end`);
  }
  const flags = word(bytes, 6);
  if (flags & 0x8000) problems.push("ip: reserved flag");
  out.ip = {
    source: ipText(bytes, 12),
    destination: ipText(bytes, 16),
    protocol: bytes[9],
    ttl: bytes[8],
    tos: bytes[1],
    id: word(bytes, 4),
    dontFragment: (flags & 0x4000) !== 0,
    more: (flags & 0x2000) !== 0,
    fragmentOffset: (flags & 0x1fff) * 8,
    options: [...bytes.slice(20, header)],
    totalLength,
  };
  const body = out.payload = bytes.slice(header, totalLength);
  if (out.ip.more && body.length % 8 !== 0) problems.push(`ip: fragment of ${body.length} bytes`);
  if (out.ip.more || out.ip.fragmentOffset > 0) return;
  if (bytes[9] === 1) checkIcmp(body, out);
  else if (bytes[9] === 2) checkIgmp(body, out);
  else if (bytes[9] === 6) checkTcp(body, out, options);
  else if (bytes[9] === 17) checkUdp(body, out, options);
}

function checkIcmp(bytes: Uint8Array, out: CheckedFrame): void {
  if (bytes.length < 8) out.problems.push(`icmp: only ${bytes.length} bytes`);
  if (checksumOf(bytes) !== 0) out.problems.push("icmp: checksum");
  out.icmp = { type: bytes[0], code: bytes[1], rest: [...bytes.slice(4, 8)] };
  out.payload = bytes.slice(8);
}

function checkIgmp(bytes: Uint8Array, out: CheckedFrame): void {
  if (bytes.length < 8) out.problems.push(`igmp: only ${bytes.length} bytes`);
  if (checksumOf(bytes) !== 0) out.problems.push("igmp: checksum");
  out.igmp = { type: bytes[0], maxResponse: bytes[1], group: ipText(bytes, 4) };
  out.payload = bytes.slice(8);
}

/** What the transport's checksum has to be, computed with the field at zero. */
function checkTransport(bytes: Uint8Array, out: CheckedFrame, protocol: number, field: number, options: CheckOptions): void {
  const { source, destination } = out.ip!;
  const name = protocol === 6 ? "tcp" : "udp";
  if (options.partialChecksum) {
    const pseudo = [...source.split("."), ...destination.split(".")].map(Number);
    const partial = 0xffff - checksumOf([...pseudo, 0, protocol, bytes.length >>> 8, bytes.length & 255]);
    if (word(bytes, field) !== partial) out.problems.push(`${name}: partial checksum`);
    return;
  }
  if (transportChecksum(source, destination, protocol, [...bytes]) !== 0) out.problems.push(`${name}: checksum`);
}

function checkUdp(bytes: Uint8Array, out: CheckedFrame, options: CheckOptions): void {
  if (bytes.length < 8 || word(bytes, 4) !== bytes.length) {
    out.problems.push(`udp: length ${bytes.length < 8 ? "?" : word(bytes, 4)} of ${bytes.length}`);
    if (bytes.length < 8) return;
  }
  if (word(bytes, 6) !== 0) checkTransport(bytes, out, 17, 6, options);
  out.udp = { sourcePort: word(bytes, 0), destinationPort: word(bytes, 2), checksum: word(bytes, 6) };
  out.payload = bytes.slice(8);
}

function checkTcp(bytes: Uint8Array, out: CheckedFrame, options: CheckOptions): void {
  const header = bytes.length < 20 ? 0 : (bytes[12] >> 4) * 4;
  if (header < 20 || header > bytes.length) {
    out.problems.push(`tcp: header ${header} of ${bytes.length}`);
    return;
  }
  checkTransport(bytes, out, 6, 16, options);
  const letters = [..."FSRPAUEC"];
  out.tcp = {
    sourcePort: word(bytes, 0),
    destinationPort: word(bytes, 2),
    sequence: (word(bytes, 4) * 65_536) + word(bytes, 6),
    acknowledgment: (word(bytes, 8) * 65_536) + word(bytes, 10),
    flags: letters.filter((_, i) => bytes[13] & (1 << i)).join(""),
    window: word(bytes, 14),
    urgent: word(bytes, 18),
    options: [...bytes.slice(20, header)],
  };
  out.payload = bytes.slice(header);
}

function word(bytes: Uint8Array, at: number): number {
  return bytes[at] * 256 + bytes[at + 1];
}

function ipText(bytes: Uint8Array, at: number): string {
  return [...bytes.slice(at, at + 4)].join(".");
}

function macText(bytes: Uint8Array, at: number): string {
  return [...bytes.slice(at, at + 6)].map((byte) => byte.toString(16).padStart(2, "0")).join(":");
}
