/**
 * A frame as one line of text, the way `tcpdump -n` shows it: for examples, logs and failing tests. Never throws, whatever
 * the bytes; where they end too early the line says `[truncated]`.
 *
 * @module
 */

const ICMP_NAMES: Record<number, string> = {
  0: "echo reply",
  3: "unreachable",
  4: "source quench",
  5: "redirect",
  8: "echo request",
  11: "time exceeded",
  12: "parameter problem",
  13: "timestamp request",
  14: "timestamp reply",
};

const UNREACHABLE = ["net", "host", "protocol", "port", "need to frag", "source route failed"];

const IGMP_NAMES: Record<number, string> = {
  0x11: "query",
  0x12: "v1 report",
  0x16: "v2 report",
  0x17: "leave",
  0x22: "v3 report",
};

const CUT = "[truncated]";

/**
 * Describes a frame.
 *
 * @param bytes the whole frame, beginning with what `medium` says
 * @param medium "ethernet", or "ip" if it begins with the IP header
 * @returns one line, for example `IP 10.0.0.1.1000 > 10.0.0.2.7: UDP, length 64`
 *
 * @example
 * ```ts
 * import { describeFrame } from "./describe.ts";
 * console.log(describeFrame(new Uint8Array(4), "ip")); // IP version 0, length 4
 * ```
 */
export function describeFrame(bytes: Uint8Array, medium: "ethernet" | "ip" = "ethernet"): string {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (medium === "ip") return describeIp(view, 0);
  if (bytes.length < 14) return `Ethernet, length ${bytes.length} ${CUT}`;
  let at = 12;
  let text = "";
  while (at + 6 <= bytes.length && (view.getUint16(at) === 0x8100 || view.getUint16(at) === 0x88a8)) {
    text += `vlan ${view.getUint16(at + 2) & 0xfff}, `;
    at += 4;
  }
  const type = view.getUint16(at);
  if (type === 0x0800) return text + describeIp(view, at + 2);
  if (type === 0x0806) return text + describeArp(view, at + 2);
  const addresses = `${macText(view, 6)} > ${macText(view, 0)}`;
  return `${text}${addresses}, ethertype 0x${type.toString(16).padStart(4, "0")}, length ${bytes.length}`;
}

function describeArp(view: DataView, at: number): string {
  if (view.byteLength < at + 28) return `ARP ${CUT}`;
  const operation = view.getUint16(at + 6);
  const sender = ipText(view, at + 14);
  const target = ipText(view, at + 24);
  if (operation === 1) return `ARP, Request who-has ${target} tell ${sender}, length ${view.byteLength - at}`;
  if (operation === 2) return `ARP, Reply ${sender} is-at ${macText(view, at + 8)}, length ${view.byteLength - at}`;
  return `ARP, operation ${operation}, length ${view.byteLength - at}`;
}

function describeIp(view: DataView, at: number): string {
  const available = view.byteLength - at;
  if (available < 1) return `IP ${CUT}`;
  const version = view.getUint8(at) >> 4;
  if (version !== 4) return `IP version ${version}, length ${available}`;
  const header = (view.getUint8(at) & 15) * 4;
  if (available < 20 || header < 20 || header > available) return `IP, header ${header} of ${available} bytes ${CUT}`;
  const total = view.getUint16(at + 2);
  const end = at + Math.min(total, available);
  const body = at + header;
  const source = ipText(view, at + 12);
  const destination = ipText(view, at + 16);
  const flags = view.getUint16(at + 6);
  const offset = (flags & 0x1fff) * 8;
  const protocol = view.getUint8(at + 9);
  const more = (flags & 0x2000) !== 0;
  const fragment = more || offset > 0 ? ` (frag ${view.getUint16(at + 4)}:${total - header}@${offset}${more ? "+" : ""})` : "";
  const cut = total > available ? ` ${CUT}` : "";
  const tail = fragment + cut;
  if (offset > 0) return `IP ${source} > ${destination}: protocol ${protocol}${tail}`;
  if (protocol === 6 && end - body >= 20) return `IP ${describeTcp(view, body, end, source, destination)}${tail}`;
  if (protocol === 17 && end - body >= 8) {
    const ports = `${source}.${view.getUint16(body)} > ${destination}.${view.getUint16(body + 2)}`;
    return `IP ${ports}: UDP, length ${Math.max(view.getUint16(body + 4) - 8, 0)}${tail}`;
  }
  const what = protocol === 1 && end - body >= 8
    ? describeIcmp(view, body, end)
    : protocol === 2 && end - body >= 8
    ? `igmp ${IGMP_NAMES[view.getUint8(body)] ?? `type ${view.getUint8(body)}`} ${ipText(view, body + 4)}`
    : `protocol ${protocol}, length ${Math.max(end - body, 0)}`;
  return `IP ${source} > ${destination}: ${what}${tail}`;
}

function describeIcmp(view: DataView, at: number, end: number): string {
  const type = view.getUint8(at);
  const code = view.getUint8(at + 1);
  const length = end - at;
  if (type === 0 || type === 8) {
    return `ICMP ${ICMP_NAMES[type]}, id ${view.getUint16(at + 4)}, seq ${view.getUint16(at + 6)}, length ${length}`;
  }
  if (type === 3) {
    const mtu = code === 4 ? ` (mtu ${view.getUint16(at + 6)})` : "";
    return `ICMP ${UNREACHABLE[code] ?? `code ${code}`} unreachable${mtu}, length ${length}`;
  }
  return `ICMP ${ICMP_NAMES[type] ?? `type ${type}`}, code ${code}, length ${length}`;
}

function describeTcp(view: DataView, at: number, end: number, source: string, destination: string): string {
  const ports = `${source}.${view.getUint16(at)} > ${destination}.${view.getUint16(at + 2)}`;
  const bits = view.getUint8(at + 13);
  let flags = "";
  // tcpdump's letters and order.
  for (let i = 0; i < 8; i++) if (bits & (1 << i)) flags += "FSRP.UEW"[i];
  const header = (view.getUint8(at + 12) >> 4) * 4;
  if (header < 20 || at + header > end) return `${ports}: Flags [${flags}], header ${header} ${CUT}`;
  const length = end - at - header;
  const sequence = view.getUint32(at + 4);
  const seq = length > 0 ? `, seq ${sequence}:${(sequence + length) % 0x1_0000_0000}` : bits & 7 ? `, seq ${sequence}` : "";
  const ack = bits & 16 ? `, ack ${view.getUint32(at + 8)}` : "";
  const options = header > 20 ? `, options [${tcpOptions(view, at + 20, at + header)}]` : "";
  return `${ports}: Flags [${flags || "none"}]${seq}${ack}, win ${view.getUint16(at + 14)}${options}, length ${length}`;
}

function tcpOptions(view: DataView, start: number, end: number): string {
  const texts: string[] = [];
  for (let at = start; at < end;) {
    const kind = view.getUint8(at);
    if (kind === 0) break;
    if (kind === 1) {
      texts.push("nop");
      at++;
      continue;
    }
    const length = at + 1 < end ? view.getUint8(at + 1) : 0;
    if (length < 2 || at + length > end) {
      texts.push("bad");
      break;
    }
    texts.push(tcpOption(view, kind, at, length));
    at += length;
  }
  return texts.join(",");
}

function tcpOption(view: DataView, kind: number, at: number, length: number): string {
  if (kind === 2 && length === 4) return `mss ${view.getUint16(at + 2)}`;
  if (kind === 3 && length === 3) return `wscale ${view.getUint8(at + 2)}`;
  if (kind === 4 && length === 2) return "sackOK";
  if (kind === 8 && length === 10) return `TS val ${view.getUint32(at + 2)} ecr ${view.getUint32(at + 6)}`;
  if (kind === 5 && length % 8 === 2) {
    const blocks: string[] = [];
    for (let i = at + 2; i < at + length; i += 8) blocks.push(`{${view.getUint32(i)}:${view.getUint32(i + 4)}}`);
    return `sack ${blocks.length} ${blocks.join("")}`;
  }
  return `opt ${kind}`;
}

function ipText(view: DataView, at: number): string {
  return `${view.getUint8(at)}.${view.getUint8(at + 1)}.${view.getUint8(at + 2)}.${view.getUint8(at + 3)}`;
}

function macText(view: DataView, at: number): string {
  let text = "";
  for (let i = 0; i < 6; i++) text += (i > 0 ? ":" : "") + view.getUint8(at + i).toString(16).padStart(2, "0");
  return text;
}
