/**
 * Random and damaged frames that get far into the programs: tags, addresses and ports near those of the tests' rules.
 *
 * @module
 */
import { type Bytes, bytesOf, corpus, ethernet, mutate, randomFrame, tcp, u16, udp } from "../../testing/frames.ts";

type Random = () => number;

const FRAMES = corpus();
const TAG_TYPES = [0x8100, 0x8100, 0x8100, 0x88a8, 0x88a8, 0x9100];
/** The kernel's run takes no more in one piece. */
export const FRAME_MAX = 3400;

export function pick<T>(list: readonly T[], random: Random): T {
  return list[random() % list.length];
}

function tagged(frame: Bytes, ids: readonly number[], random: Random): Bytes {
  if (frame.length < 12) return frame;
  const id = random() % 4 === 0 ? random() & 0xffff : pick(ids, random) | (random() % 4 === 0 ? random() & 0xf000 : 0);
  return bytesOf(frame.subarray(0, 12), u16(pick(TAG_TYPES, random)), u16(id), frame.subarray(12));
}

/** A frame for the multiplexer: none to three tags, mostly with one of `ids`, and damage to half of them. */
export function muxFrame(ids: readonly number[], random: Random): Bytes {
  let frame = random() % 8 === 0 ? randomFrame(FRAMES, random) : Uint8Array.from(pick(FRAMES, random).frame);
  for (let tags = pick([0, 1, 1, 1, 2, 3], random); tags > 0; tags--) frame = tagged(frame, ids, random);
  // Short ones, where every length counts.
  if (random() % 4 === 0) frame = frame.slice(0, random() % 24);
  return (random() % 2 === 0 ? mutate(frame, random) : frame).slice(0, FRAME_MAX);
}

/** An address's last byte, or a byte of its middle, near those of rules. */
function near(frame: Bytes, at: number, size: number, random: Random): void {
  frame[at + size - 1] = random() % 16;
  if (random() % 4 === 0) frame[at + size - 2] = random() % 4;
}

function extension(protocol: number, next: number, random: Random): Bytes {
  if (protocol === 44) {
    const offset = random() % 3 === 0 ? random() & 0xfff8 : 0;
    return bytesOf(next, 0, u16(offset | (random() & 1)), 0, 0, 0, 1);
  }
  const eights = random() % 8 === 0 ? random() % 4 : 0;
  return bytesOf(next, eights, new Uint8Array(6 + eights * 8));
}

/** IPv6 over Ethernet: up to five extension headers, then TCP, UDP, or something else. */
function ipv6Frame(random: Random): Bytes {
  const chain = Array.from({ length: Math.max(0, random() % 8 - 2) }, () => pick([0, 43, 60, 44], random));
  const last = pick([6, 17, 58, 59], random);
  const data = new Uint8Array(random() % 40);
  let payload = last === 6 ? tcp({}, data) : last === 17 ? udp({}, data) : bytesOf(128, 0, 0, 0, data);
  for (let i = chain.length - 1; i >= 0; i--) payload = bytesOf(extension(chain[i], chain[i + 1] ?? last, random), payload);
  const address = [0xfd, ...new Array(14).fill(0)];
  const head = bytesOf(0x60, 0, 0, 0, u16(payload.length), chain[0] ?? last, 64, address, 1, address, 2);
  const frame = ethernet({ type: 0x86dd, vlans: random() % 4 === 0 ? [5] : [] }, bytesOf(head, payload));
  const ip = frame[12] === 0x86 ? 14 : 18;
  near(frame, ip + 8, 16, random);
  near(frame, ip + 24, 16, random);
  return frame;
}

/** A frame for the filter: IPv4 and IPv6 with addresses and ports near rules, and damage to half of them. */
export function filterFrame(random: Random): Bytes {
  if (random() % 16 === 0) return randomFrame(FRAMES, random).slice(0, FRAME_MAX);
  const six = random() % 2 === 0;
  let frame = six ? ipv6Frame(random) : Uint8Array.from(pick(FRAMES, random).frame);
  if (!six && frame.length >= 38) {
    near(frame, 26, 4, random);
    near(frame, 30, 4, random);
    if (random() % 2 === 0) frame.set(u16(random() % 16), 36);
  }
  for (let tags = random() % 8 - 4; tags > 0; tags--) frame = tagged(frame, [1, 2], random);
  return (random() % 2 === 0 ? mutate(frame, random) : frame).slice(0, FRAME_MAX);
}
