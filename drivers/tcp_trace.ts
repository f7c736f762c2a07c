/**
 * The TCP connections of a capture, segment by segment: what was sent, what was sent again, what arrived.
 *
 * @module
 */
import { ETHERNET_OK, ETHERTYPE_IPV4, parseEthernet } from "../stack/wire/ethernet.ts";
import { formatKey } from "../stack/wire/address.ts";
import * as ipv4 from "../stack/wire/ipv4.ts";
import * as tcp from "../stack/wire/tcp.ts";
import { type CapturedPacket, decodeCapture, INBOUND, LINK_ETHERNET, LINK_RAW, OUTBOUND } from "./pcap_format.ts";

/** Connections that are told apart; the segments of more are left out. */
export const CONNECTIONS_MAX = 4096;
const PROTO_TCP = 6;
/** Longer text was cut on its way by whoever segments: that it didn't arrive in one piece says nothing. */
const WHOLE_MAX = 1460;

/** A segment of a {@link TcpTrace}. Sequence numbers count from 0, the SYN's, and don't wrap. */
export interface TraceSegment {
  /** Milliseconds since the first segment of the connection: when it was sent, or when it arrived if only that was captured. */
  readonly timeMs: number;
  /** From who sent the first SYN. */
  readonly fromClient: boolean;
  /** Number of its first byte. */
  readonly seq: number;
  /** Acknowledgment; null without one. */
  readonly ack: number | null;
  /** SYN, FIN, RST and so on as they stand in the header. */
  readonly flags: number;
  /** Bytes of text. */
  readonly length: number;
  /** Window in bytes, scaled; as it stands when the handshake was not captured. */
  readonly window: number;
  /** Ranges that it acknowledges selectively. */
  readonly sacks: readonly (readonly [number, number])[];
  /** All that it carries had been sent before. */
  readonly again: boolean;
  /** When it arrived; null if it did not; undefined if the capture doesn't tell, having one end only. */
  readonly arrivedMs: number | null | undefined;
}

/** A connection. */
export interface TcpTrace {
  /** Who sent the first SYN, or the first segment of all: "10.0.0.1:49152". */
  readonly client: string;
  /** The other end. */
  readonly server: string;
  /** When it begins, in nanoseconds since 1970. */
  readonly beginsNs: bigint;
  /** In the order of time. */
  readonly segments: readonly TraceSegment[];
}

/** A segment as one interface saw it. */
interface Sighting {
  readonly timeNs: bigint;
  readonly source: string;
  readonly direction: number;
  readonly interfaceIndex: number;
  readonly segment: tcp.Segment;
  readonly length: number;
  /** The same for every sighting of one segment. */
  readonly print: string;
}

interface Connection {
  readonly client: string;
  readonly server: string;
  readonly isn: number;
  readonly seen: Sighting[];
}

function look(packet: CapturedPacket): Sighting & { destination: string } | null {
  const { bytes } = packet;
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  let at = 0;
  if (packet.linkType === LINK_ETHERNET) {
    const header = { vlan: -1, etherType: 0, headerLength: 0 };
    if (parseEthernet(view, 0, bytes.length, header) !== ETHERNET_OK || header.etherType !== ETHERTYPE_IPV4) return null;
    at = header.headerLength;
  } else if (packet.linkType !== LINK_RAW) return null;
  if (at + ipv4.IPV4_HEADER > bytes.length || ipv4.ipVersion(view, at) !== 4 || ipv4.ipProto(view, at) !== PROTO_TCP) return null;
  // Captures are often of headers alone: lengths are the packet's own word.
  const header = ipv4.ipHeaderLength(view, at);
  const total = ipv4.ipTotalLength(view, at);
  const start = at + header;
  const there = Math.min(bytes.length - start, total - header);
  const fragment = view.getUint16(at + 6) & ipv4.OFFSET_MASK;
  const segment = new tcp.Segment();
  if (header < ipv4.IPV4_HEADER || fragment !== 0 || !tcp.parse(view, start, there, segment)) return null;
  const length = total - (segment.textOffset - at);
  const { seq, ack, flags, window, tsVal } = segment;
  return {
    timeNs: packet.timeNs,
    source: `${formatKey(ipv4.ipSource(view, at))}:${segment.srcPort}`,
    destination: `${formatKey(ipv4.ipDestination(view, at))}:${segment.dstPort}`,
    direction: packet.direction,
    interfaceIndex: packet.interfaceIndex ?? 0,
    segment,
    length,
    print: [ipv4.ipId(view, at), seq, ack, flags, window, tsVal, length].join(),
  };
}

function connectionsOf(packets: readonly CapturedPacket[]): Connection[] {
  const all: Connection[] = [];
  const current = new Map<string, Connection>();
  for (const packet of packets) {
    const sighting = look(packet);
    if (sighting === null) continue;
    const { source, destination, segment } = sighting;
    const key = source < destination ? `${source} ${destination}` : `${destination} ${source}`;
    const begins = (segment.flags & (tcp.SYN | tcp.ACK)) === tcp.SYN;
    let connection = current.get(key);
    // The same ports again are another connection, unless it is the SYN sent again, or the other end's of a simultaneous open.
    if (connection === undefined || (begins && connection.client === source && connection.isn !== segment.seq)) {
      if (all.length >= CONNECTIONS_MAX) continue;
      // Without a SYN, whoever was heard first; the answer to a SYN comes from the server.
      const answer = (segment.flags & tcp.SYN) !== 0 && !begins;
      const [client, server] = answer ? [destination, source] : [source, destination];
      connection = { client, server, isn: segment.seq, seen: [] };
      all.push(connection);
      current.set(key, connection);
    }
    connection.seen.push(sighting);
  }
  return all;
}

/** What was sent in one direction, in the order of time, each with its arrival. */
function sent(seen: readonly Sighting[]): { sighting: Sighting; arrivedNs: bigint | null | undefined }[] {
  const out = seen.filter(({ direction }) => direction === OUTBOUND);
  // Of the interfaces on the way the first to send is the sender's, and the last to receive the receiver's.
  const from = out[0]?.interfaceIndex ?? seen[0].interfaceIndex;
  const sightings = (out.length > 0 ? out : seen).filter(({ interfaceIndex }) => interfaceIndex === from);
  const inward = out.length === 0
    ? []
    : seen.filter(({ direction, interfaceIndex }) => direction === INBOUND && interfaceIndex !== from);
  const last = new Map<number, number>();
  for (const [i, { interfaceIndex }] of inward.entries()) if (!last.has(interfaceIndex)) last.set(interfaceIndex, i);
  const to = [...last].sort((a, b) => b[1] - a[1])[0]?.[0];
  const arrivals = new Map<string, bigint[]>();
  for (const { print, timeNs, interfaceIndex } of inward) {
    if (interfaceIndex !== to) continue;
    const times = arrivals.get(print);
    if (times === undefined) arrivals.set(print, [timeNs]);
    else times.push(timeNs);
  }
  return sightings.map((sighting) => {
    const arrived = arrivals.get(sighting.print)?.shift();
    return { sighting, arrivedNs: arrived ?? (to === undefined || sighting.length > WHOLE_MAX ? undefined : null) };
  });
}

/** Numbers of one direction, counted from its first and without wrapping. */
class Numbers {
  #last32: number | null = null;
  #last = 0;

  /** True before the first number was seen. */
  get unknown(): boolean {
    return this.#last32 === null;
  }

  begin(first: number): void {
    this.#last32 = first;
  }

  count(number: number): number {
    this.#last32 ??= number;
    this.#last += (number - this.#last32) | 0;
    this.#last32 = number;
    return this.#last;
  }
}

function trace({ client, server, seen }: Connection): TcpTrace {
  const both = [true, false].flatMap((fromClient) => {
    const seenHere = seen.filter(({ source }) => (source === client) === fromClient);
    return seenHere.length === 0 ? [] : sent(seenHere).map((one) => ({ ...one, fromClient }));
  });
  both.sort((a, b) => Number(a.sighting.timeNs - b.sighting.timeNs));
  const beginsNs = both[0].sighting.timeNs;
  const ms = (ns: bigint) => Number(ns - beginsNs) / 1e6;
  const numbers = [new Numbers(), new Numbers()];
  const ends = [-1, -1];
  const shifts = [0, 0];
  for (const { sighting: { segment }, fromClient } of both) {
    const which = fromClient ? 0 : 1;
    if ((segment.flags & tcp.SYN) !== 0) shifts[which] = Math.max(0, segment.windowScale);
  }
  const segments = both.map(({ sighting, arrivedNs, fromClient }): TraceSegment => {
    const { segment, length } = sighting;
    const { flags } = segment;
    const [own, other] = fromClient ? [0, 1] : [1, 0];
    const seq = numbers[own].count(segment.seq);
    const hasAck = (flags & tcp.ACK) !== 0;
    // A number that is acknowledged before it was seen begins the other direction.
    if (hasAck && numbers[other].unknown) numbers[other].begin((segment.ack - 1) | 0);
    const ack = hasAck ? numbers[other].count(segment.ack) : null;
    const sacks = Array.from(
      { length: segment.sackCount },
      (_, i) => [numbers[other].count(segment.sack[2 * i]), numbers[other].count(segment.sack[2 * i + 1])] as const,
    );
    const end = seq + length + ((flags & tcp.SYN) !== 0 ? 1 : 0) + ((flags & tcp.FIN) !== 0 ? 1 : 0);
    const again = end > seq && end <= ends[own];
    ends[own] = Math.max(ends[own], end);
    const window = segment.window * ((flags & tcp.SYN) === 0 ? 2 ** shifts[own] : 1);
    return {
      timeMs: ms(sighting.timeNs),
      fromClient,
      seq,
      ack,
      flags,
      length,
      window,
      sacks,
      again,
      arrivedMs: typeof arrivedNs === "bigint" ? ms(arrivedNs) : arrivedNs,
    };
  });
  return { client, server, beginsNs, segments };
}

/**
 * Finds the TCP connections of a capture, over IPv4. With both ends in it, as in the capture of a simulated network, each segment
 * knows whether it arrived.
 *
 * @param capture path of a pcapng or pcap file, its bytes, or packets
 * @throws {Deno.errors.InvalidData} if it is no capture; what reading the file throws
 *
 * @example
 * ```ts
 * import { cable, NetStack, pcapTap, readTcpTraces } from "@tapioca/tapioca";
 *
 * const file = Deno.makeTempFileSync({ suffix: ".pcapng" });
 * const [left, right] = cable();
 * {
 *   await using client = new NetStack(pcapTap(left, file), { address: "10.0.0.1/24" });
 *   await using server = new NetStack(right, { address: "10.0.0.2/24" });
 *   using _listener = server.listen({ port: 7 });
 *   using conn = await client.connect({ hostname: "10.0.0.2", port: 7 });
 *   await conn.write(new TextEncoder().encode("hello"));
 * }
 * const [trace] = readTcpTraces(file);
 * console.log(trace.server, trace.segments.map((segment) => segment.length)); // 10.0.0.2:7 [0, 0, 0, 5, …]
 * ```
 */
export function readTcpTraces(capture: string | Uint8Array | readonly CapturedPacket[]): TcpTrace[] {
  const bytes = typeof capture === "string" ? Deno.readFileSync(capture) : capture;
  const packets = bytes instanceof Uint8Array ? decodeCapture(bytes) : bytes;
  if (!Array.isArray(packets)) throw new TypeError(`a path, bytes or packets are needed: ${capture}`);
  return connectionsOf(packets).map(trace);
}
