/**
 * Two TCPs on a manual clock, joined by a seeded network with delay, loss, duplication and reordering, and without any
 * internet layer: the TCP machine alone, driven step by step.
 *
 * @module
 */
import { FrameMemory, RX_CHECKSUM_PARTIAL, TxFrame } from "../../stack/device.ts";
import type { IpLayer, Packet, Path, SendOptions, Transport } from "../../stack/ip/types.ts";
import type { TcpConfig } from "../../stack/tcp/limits.ts";
import { Tcp } from "../../stack/tcp/tcp.ts";
import type { Tcb } from "../../stack/tcp/tcb.ts";
import type { Listener } from "../../stack/tcp/listener.ts";
import { fold, sum } from "../../stack/wire/checksum.ts";
import { PROTO_TCP } from "../../stack/ip/types.ts";

/** mulberry32: a small seeded generator of uint32. */
export function seeded(seed: number): () => number {
  let a = seed | 0;
  return () => {
    a = (a + 0x6d2b79f5) | 0;
    let t = Math.imul(a ^ (a >>> 15), 1 | a);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return (t ^ (t >>> 14)) >>> 0;
  };
}

export interface LinkOptions {
  delayMs?: number;
  /** Probabilities, 0 to 1. */
  loss?: number;
  duplicate?: number;
  reorder?: number;
  mtu?: number;
  /** Super-frames of up to so many bytes, with partial checksums; 0: plain frames with full ones. */
  segmentation?: number;
  /** What the devices say of their queues. */
  rxQueueFrames?: number;
  /** Sees every segment as it is sent; false drops it. */
  filter?: (from: number, bytes: Uint8Array) => boolean;
  /** Marks a segment that was sent with ECT as CE. */
  mark?: (from: number, bytes: Uint8Array) => boolean;
}

interface Wire {
  at: number;
  order: number;
  from: number;
  bytes: Uint8Array<ArrayBuffer>;
  gso: number;
  tos: number;
}

class FakeIp implements IpLayer {
  readonly tx = new TxFrame();
  transport: Transport | null = null;
  constructor(readonly net: TcpPair, readonly index: number, readonly key: number, readonly peer: number) {
    this.tx.memory = new FrameMemory(2048);
  }
  random32(): number {
    return this.net.random();
  }
  register(_proto: number, transport: Transport): void {
    this.transport = transport;
  }
  path(_local: number, remote: number): Path {
    const { link } = this.net;
    return {
      family: 4,
      localKey: this.key,
      remoteKey: remote,
      ipHeaderLength: 20,
      mtu: link.mtu ?? 1500,
      interfaceMtu: link.mtu ?? 1500,
      txChecksum: (link.segmentation ?? 0) > 0,
      txSegmentation: link.segmentation ?? 0,
      rxQueueFrames: link.rxQueueFrames ?? 0,
      addressSum: (this.key >>> 0) + (remote >>> 0),
      stale: false,
    };
  }
  renew(path: Path): Path {
    return this.path(path.localKey, path.remoteKey);
  }
  send(_path: Path, proto: number, tx: TxFrame, options: SendOptions): number {
    if (proto !== PROTO_TCP) throw new Error("only TCP here");
    const bytes = new Uint8Array(tx.size);
    tx.copyTo(bytes, 0);
    this.net.carry(this.index, bytes, tx.segmentSize, options.tos);
    return 0;
  }
  sendUnreachable(): void {}
  isLocal(key: number): boolean {
    return key === this.key;
  }
  confirm(): void {}
}

/** Two hosts, 0 and 1. */
export class TcpPair {
  now = 1000;
  readonly random: () => number;
  readonly ips: FakeIp[];
  readonly tcps: Tcp[];
  readonly flying: Wire[] = [];
  carried = 0;
  #order = 0;
  readonly #packet: Packet;

  constructor(readonly link: LinkOptions = {}, seed = 1, configs: TcpConfig[] = []) {
    this.random = seeded(seed);
    this.ips = [new FakeIp(this, 0, 0x0a000001, 0x0a000002), new FakeIp(this, 1, 0x0a000002, 0x0a000001)];
    this.tcps = this.ips.map((ip, i) => new Tcp(ip, configs[i]));
    this.#packet = {
      memory: new FrameMemory(0),
      family: 4,
      ipOffset: 0,
      ipHeaderLength: 20,
      offset: 0,
      length: 0,
      srcKey: 0,
      dstKey: 0,
      proto: PROTO_TCP,
      ttl: 64,
      tos: 0,
      flags: 0,
      segmentSize: 0,
      cast: 0,
      pseudoSum: 0,
      interfaceIndex: 1,
    };
  }

  #chance(p: number | undefined): boolean {
    return p !== undefined && p > 0 && this.random() / 2 ** 32 < p;
  }

  carry(from: number, bytes: Uint8Array<ArrayBuffer>, gso: number, tos = 0): void {
    const { link } = this;
    this.carried++;
    if (link.filter !== undefined && !link.filter(from, bytes)) return;
    if (this.#chance(link.loss)) return;
    const marked = (tos & 3) !== 0 && link.mark !== undefined && link.mark(from, bytes);
    const copies = this.#chance(link.duplicate) ? 2 : 1;
    for (let i = 0; i < copies; i++) {
      const late = this.#chance(link.reorder) ? (link.delayMs ?? 1) * (this.random() / 2 ** 32) : 0;
      this.flying.push({
        at: this.now + (link.delayMs ?? 1) + late,
        order: this.#order++,
        from,
        bytes,
        gso,
        tos: marked ? tos | 3 : tos,
      });
    }
  }

  /** Hands raw segment bytes to host `to`, as if the other host had sent them. */
  deliver(to: number, bytes: Uint8Array<ArrayBuffer>, partial = false, tos = 0): void {
    const packet = this.#packet;
    packet.memory = new FrameMemory(bytes);
    packet.length = bytes.length;
    packet.tos = tos;
    packet.srcKey = this.ips[1 - to].key;
    packet.dstKey = this.ips[to].key;
    packet.flags = partial ? RX_CHECKSUM_PARTIAL : 0;
    packet.pseudoSum = packet.srcKey + packet.dstKey + PROTO_TCP + bytes.length;
    this.tcps[to].input(packet, this.now);
  }

  flush(): void {
    for (const tcp of this.tcps) if (tcp.dirty) tcp.flush(this.now);
  }

  /** Moves to the next event. False when nothing will ever happen again. */
  step(until = Infinity): boolean {
    this.flush();
    let next = Math.min(...this.tcps.map((t) => t.nextDeadline()));
    for (const wire of this.flying) next = Math.min(next, wire.at);
    if (next === Infinity || next > until) {
      if (until !== Infinity) this.now = until;
      return false;
    }
    this.now = Math.max(this.now, next);
    const due = this.flying.filter((w) => w.at <= this.now).sort((a, b) => a.at - b.at || a.order - b.order);
    for (const wire of due) {
      this.flying.splice(this.flying.indexOf(wire), 1);
      this.deliver(1 - wire.from, wire.bytes, (this.link.segmentation ?? 0) > 0, wire.tos);
    }
    for (const tcp of this.tcps) if (tcp.nextDeadline() <= this.now) tcp.advance(this.now);
    this.flush();
    for (const tcp of this.tcps) {
      for (const socket of tcp.ready) socket.events = 0;
      tcp.ready.length = 0;
    }
    return true;
  }

  /** Runs for `ms`, or until `done`. */
  run(ms: number, done: () => boolean = () => false): boolean {
    const until = this.now + ms;
    while (!done()) if (!this.step(until)) return done();
    return true;
  }

  /** An established connection: [client on host 0, server on host 1]. The handshake itself meets no loss. */
  connected(port = 80): [Tcb, Tcb] {
    const { loss } = this.link;
    this.link.loss = 0;
    const listener = this.tcps[1].listen(0, port, 16);
    if (typeof listener === "number") throw new Error(`listen: ${listener}`);
    const client = this.tcps[0].connect(0, 0, this.ips[1].key, port, this.now);
    if (typeof client === "number") throw new Error(`connect: ${client}`);
    let server: Tcb | number = -11;
    if (!this.run(200_000, () => typeof (server = (listener as Listener).accept()) !== "number")) {
      throw new Error("no connection");
    }
    listener.close();
    this.link.loss = loss;
    return [client, server as unknown as Tcb];
  }
}

/** A checksum over a segment that is right for host `from` of a pair. */
export function sealSegment(pair: TcpPair, from: number, bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
  const view = new DataView(bytes.buffer);
  view.setUint16(16, 0);
  const pseudo = pair.ips[from].key + pair.ips[1 - from].key + PROTO_TCP + bytes.length;
  view.setUint16(16, ~fold(sum(view, 0, bytes.length, pseudo)) & 0xffff);
  return bytes;
}
