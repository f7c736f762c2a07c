/**
 * Hostile frames: a corpus of valid ones of every layer, and seeded damage to them.
 *
 * @module
 */
import { arp, type Bytes, bytesOf, echo, ethernet, fragments, icmp, igmp, ipv4, tcp, u16, udp } from "./frames.ts";

/** A seeded generator of unsigned 32-bit numbers (mulberry32). */
export function randomSource(seed: number): () => number {
  let state = seed | 0;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

const MULTICAST_MAC = "01:00:5e:00:00:01";
const BROADCAST_MAC = "ff:ff:ff:ff:ff:ff";

/** Valid Ethernet frames of all kinds, from 10.0.0.1 (02:…:01) to 10.0.0.2 (02:…:02) unless it says otherwise. */
export function corpus(): { name: string; frame: Bytes }[] {
  const data = Uint8Array.from({ length: 64 }, (_, i) => i);
  const large = Uint8Array.from({ length: 4000 }, (_, i) => i * 7);
  const syn = [2, 4, 5, 0xb4, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7];
  const sack = [1, 1, 5, 18, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 9];
  const quoted = ipv4(
    { source: "10.0.0.2", destination: "10.0.0.1" },
    udp({ source: "10.0.0.2", destination: "10.0.0.1" }, data),
  );
  const all: { name: string; frame: Bytes }[] = [];
  const add = (name: string, frame: Bytes) => all.push({ name, frame });
  add("arp request", ethernet({ type: 0x806, destination: BROADCAST_MAC }, arp({}), true));
  add("arp reply", ethernet({ type: 0x806 }, arp({ operation: 2, targetMac: "02:00:00:00:00:02" }), true));
  add("arp probe", ethernet({ type: 0x806, destination: BROADCAST_MAC }, arp({ senderIp: "0.0.0.0" }), true));
  add(
    "arp announcement",
    ethernet({ type: 0x806, destination: BROADCAST_MAC }, arp({ senderIp: "10.0.0.1", targetIp: "10.0.0.1" })),
  );
  add("echo", ethernet({}, ipv4({ protocol: 1 }, echo(1, 2, data))));
  add("echo tagged", ethernet({ vlans: [0] }, ipv4({ protocol: 1 }, echo(1, 3, data))));
  add("echo double tagged", ethernet({ vlans: [5, 6] }, ipv4({ protocol: 1 }, echo(1, 4, data))));
  add("echo reply", ethernet({}, ipv4({ protocol: 1 }, icmp(0, 0, [0, 1, 0, 2], data))));
  add("port unreachable", ethernet({}, ipv4({ protocol: 1 }, icmp(3, 3, [0, 0, 0, 0], quoted))));
  add("fragmentation needed", ethernet({}, ipv4({ protocol: 1 }, icmp(3, 4, [0, 0, ...u16(576)], quoted))));
  add("time exceeded", ethernet({}, ipv4({ protocol: 1 }, icmp(11, 0, [0, 0, 0, 0], quoted))));
  add("parameter problem", ethernet({}, ipv4({ protocol: 1 }, icmp(12, 0, [20, 0, 0, 0], quoted))));
  add("redirect", ethernet({}, ipv4({ protocol: 1 }, icmp(5, 1, [10, 0, 0, 9], quoted))));
  add("timestamp", ethernet({}, ipv4({ protocol: 1 }, icmp(13, 0, [0, 1, 0, 1], new Uint8Array(12)))));
  add("udp", ethernet({}, ipv4({}, udp({}, data))));
  add("udp without checksum", ethernet({}, ipv4({}, udp({ checksum: 0 }, data))));
  add("udp empty", ethernet({}, ipv4({}, udp({}, new Uint8Array(0))), true));
  add(
    "udp broadcast",
    ethernet(
      { destination: BROADCAST_MAC },
      ipv4({ destination: "255.255.255.255" }, udp({ destination: "255.255.255.255" }, data)),
    ),
  );
  add("udp with options", ethernet({}, ipv4({ options: [7, 7, 4, 0, 0, 0, 0, 148, 4, 0, 0] }, udp({}, data))));
  add("tcp syn", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "S", sequence: 1, options: syn }))));
  add("tcp syn ack", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "SA", sequence: 1, acknowledgment: 2, options: syn }))));
  add("tcp data", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "PA", sequence: 2, acknowledgment: 2 }, data))));
  add("tcp sack", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "A", options: sack }))));
  add("tcp fin", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "FA" }))));
  add("tcp reset", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "R" }))));
  add("tcp urgent", ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "UA", urgent: 3 }, data))));
  const group = { protocol: 2, ttl: 1, destination: "224.0.0.1", options: [148, 4, 0, 0] };
  add("igmp query", ethernet({ destination: MULTICAST_MAC }, ipv4(group, igmp(0x11, 100, "0.0.0.0"))));
  add(
    "igmp v3 query",
    ethernet({ destination: MULTICAST_MAC }, ipv4(group, igmp(0x11, 100, "0.0.0.0", [2, 125, 0, 1, 1, 2, 3, 4]))),
  );
  add("source route", ethernet({}, ipv4({ options: [131, 7, 4, 10, 0, 0, 9] }, udp({}, data))));
  add("unknown protocol", ethernet({}, ipv4({ protocol: 132 }, data)));
  add("ipv6", ethernet({ type: 0x86dd }, bytesOf(0x60, new Uint8Array(39))));
  add("lldp", ethernet({ type: 0x88cc, destination: "01:80:c2:00:00:0e" }, data));
  for (const [i, packet] of fragments({ id: 77 }, udp({}, large), 1500).entries()) add(`fragment ${i}`, ethernet({}, packet));
  return all;
}

/** Values that break arithmetic. */
const NASTY = [0, 1, 2, 3, 4, 5, 7, 8, 19, 20, 21, 40, 59, 60, 61, 127, 128, 254, 255];

/**
 * A damaged copy: one to four of bit flips, nasty bytes and words, truncation, growth, a lie in a length field, a piece of
 * itself elsewhere, and a new IP checksum now and then so that the damage gets further in.
 */
export function mutate(frame: Uint8Array, random: () => number): Bytes {
  let bytes: Bytes = Uint8Array.from(frame);
  for (let count = 1 + random() % 4; count > 0; count--) bytes = damage(bytes, random);
  if (random() % 2 === 0) repair(bytes);
  return bytes;
}

function damage(bytes: Bytes, random: () => number): Bytes {
  if (bytes.length === 0) return Uint8Array.from({ length: random() % 70 }, () => random());
  const at = random() % bytes.length;
  switch (random() % 8) {
    case 0:
      bytes[at] ^= 1 << random() % 8;
      return bytes;
    case 1:
      bytes[at] = NASTY[random() % NASTY.length];
      return bytes;
    case 2:
      bytes.fill(random() % 2 === 0 ? 0 : 255, at, at + 1 + random() % 4);
      return bytes;
    case 3:
      return bytes.slice(0, at);
    case 4:
      return bytesOf(bytes, Uint8Array.from({ length: 1 + random() % 64 }, () => random()));
    case 5: {
      // Version and header length, total length, flags and offset, TCP data offset, UDP length, ICMP's quoted header.
      const fields = [14, 16, 17, 20, 21, 23, 34, 38, 39, 42, 46, 54, 55];
      bytes[fields[random() % fields.length] % bytes.length] = random() % 2 === 0 ? NASTY[random() % NASTY.length] : random();
      return bytes;
    }
    case 6: {
      const from = random() % bytes.length;
      bytes.copyWithin(at, from, from + random() % 32);
      return bytes;
    }
    default:
      return bytesOf(bytes.slice(0, at), bytes.slice(Math.min(at + random() % 8, bytes.length)));
  }
}

/** Puts a right IP header checksum into what still looks like IPv4 over Ethernet. */
function repair(bytes: Uint8Array): void {
  if (bytes.length < 34 || bytes[12] !== 8 || bytes[13] !== 0) return;
  const end = 14 + (bytes[14] & 15) * 4;
  if (end < 34 || end > bytes.length) return;
  bytes[24] = bytes[25] = 0;
  let total = 0;
  for (let i = 14; i < end; i += 2) total += bytes[i] * 256 + bytes[i + 1];
  while (total > 0xffff) total = (total & 0xffff) + Math.floor(total / 0x10000);
  [bytes[24], bytes[25]] = u16(~total);
}

/** One hostile frame: mostly a damaged one of the corpus, now and then two spliced, or noise. */
export function randomFrame(frames: readonly { frame: Uint8Array }[], random: () => number): Bytes {
  const kind = random() % 16;
  if (kind === 0) return Uint8Array.from({ length: random() % 128 }, () => random());
  const one = frames[random() % frames.length].frame;
  if (kind > 2) return mutate(one, random);
  const other = frames[random() % frames.length].frame;
  const cut = random() % (Math.min(one.length, other.length) + 1);
  return bytesOf(one.slice(0, cut), other.slice(cut));
}
