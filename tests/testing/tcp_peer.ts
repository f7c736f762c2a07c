/**
 * A peer that is played by the test, segment by segment, against one real TCP (host 0 of a pair). Numbers are relative: the
 * peer's own to its initial sequence number, acknowledgments to the host's.
 *
 * @module
 */
import type { Listener } from "../../stack/tcp/listener.ts";
import type { Tcb } from "../../stack/tcp/tcb.ts";
import type { TcpConfig } from "../../stack/tcp/limits.ts";
import type { Tcp } from "../../stack/tcp/tcp.ts";
import { bytesOf, tcp as segment, u16, u32 } from "./frames.ts";
import { type LinkOptions, TcpPair } from "./tcp_pair.ts";

const LETTERS = "FSRPAUEC";
export const PEER_ISS = 1_000_000;
export const PEER_PORT = 4000;
export const HOST_PORT = 80;

/** A segment that the host sent. */
export interface Seen {
  at: number;
  flags: string;
  /** Relative to the host's initial sequence number. */
  seq: number;
  /** Relative to the peer's; meaningless without A. */
  ack: number;
  window: number;
  length: number;
  data: Uint8Array;
  options: Uint8Array;
}

/** What the peer sends. */
export interface Given {
  flags?: string;
  seq?: number;
  ack?: number;
  window?: number;
  urgent?: number;
  options?: readonly number[];
  data?: Uint8Array | number;
}

/** Options of a SYN. */
export const mss = (value: number): number[] => [2, 4, ...u16(value)];
export const SACK_OK: readonly number[] = [1, 1, 4, 2];
export const scale = (shift: number): number[] => [1, 3, 3, shift];
export const stamps = (value: number, echo: number): number[] => [1, 1, 8, 10, ...u32(value), ...u32(echo)];

export interface PeerOptions {
  link?: LinkOptions;
  config?: TcpConfig;
  /** Options and window of the peer's SYN. */
  syn?: readonly number[];
  window?: number;
  seed?: number;
  backlog?: number;
}

export class Peer {
  readonly pair: TcpPair;
  readonly host: Tcp;
  readonly out: Seen[] = [];
  /** The host's initial sequence number; known after its SYN. */
  iss = 0;
  hostPort = HOST_PORT;
  peerPort = PEER_PORT;
  tcb!: Tcb;
  /** What stands in segments that do not say. */
  seq = 0;
  ack = 0;
  window: number;
  /** The host's last timestamp. */
  lastStamp = 0;
  /** Put into every segment, after the handshake. */
  options: () => readonly number[] = () => [];

  constructor(given: PeerOptions = {}) {
    this.window = given.window ?? 65_535;
    const filter = (from: number, bytes: Uint8Array) => {
      if (from === 0) this.#see(bytes);
      return false;
    };
    this.pair = new TcpPair({ ...given.link, filter }, given.seed ?? 1, given.config ? [given.config] : []);
    this.host = this.pair.tcps[0];
  }

  #see(bytes: Uint8Array): void {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const header = (bytes[12] >> 4) * 4;
    const at = header >= 32 && view.getUint32(20) === 0x0101080a ? 24 : header >= 36 && view.getUint16(26) === 0x080a ? 28 : 0;
    if (at !== 0) this.lastStamp = view.getUint32(at);
    if ((bytes[13] & 2) !== 0) this.iss = view.getInt32(4);
    this.out.push({
      at: this.pair.now,
      flags: [...LETTERS].filter((_, bit) => (bytes[13] & (1 << bit)) !== 0).join(""),
      seq: (view.getInt32(4) - this.iss) | 0,
      ack: (view.getInt32(8) - PEER_ISS) | 0,
      window: view.getUint16(14),
      length: bytes.length - header,
      data: bytes.slice(header),
      options: bytes.slice(20, header),
    });
  }

  /** The raw bytes of a segment from the peer. */
  build(given: Given): Uint8Array<ArrayBuffer> {
    const { data = 0 } = given;
    return segment({
      source: "10.0.0.2",
      destination: "10.0.0.1",
      sourcePort: this.peerPort,
      destinationPort: this.hostPort,
      flags: given.flags ?? "A",
      sequence: (PEER_ISS + (given.seq ?? this.seq)) >>> 0,
      acknowledgment: (this.iss + (given.ack ?? this.ack)) >>> 0,
      window: given.window ?? this.window,
      urgent: given.urgent ?? 0,
      options: given.options ?? this.options(),
    }, typeof data === "number" ? bytesOf(new Uint8Array(data).fill(0x61)) : data);
  }

  /** Sends a segment; what the host answers at once is returned. */
  send(given: Given = {}): Seen[] {
    this.out.length = 0;
    this.pair.deliver(0, this.build(given));
    this.pair.flush();
    return [...this.out];
  }

  /** Lets time go by; what the host sends meanwhile is returned. */
  pass(ms: number): Seen[] {
    this.out.length = 0;
    this.pair.run(ms);
    return [...this.out];
  }

  /** What the host sends because of `act`, at once. */
  after(act: () => void): Seen[] {
    this.out.length = 0;
    act();
    this.pair.flush();
    return [...this.out];
  }

  /** The user of the host writes `length` bytes. */
  write(length: number): Seen[] {
    return this.after(() => this.tcb.send(new Uint8Array(length).fill(0x62), 0, length));
  }

  /** The user of the host reads at most `length` bytes; how many there were. */
  read(length = 1 << 20): number {
    const into = new Uint8Array(length);
    return this.tcb.receive(into, 0, length);
  }

  /** A SYN with timestamps obliges: the peer's clock is the pair's, and it echoes what it saw last. */
  #afterSyn(given: PeerOptions): void {
    if (!(given.syn ?? []).join().includes("8,10")) return;
    this.options = () => stamps(Math.floor(this.pair.now), this.lastStamp);
  }

  /** A connection that the peer opened. */
  static accepted(given: PeerOptions = {}): Peer {
    const peer = new Peer(given);
    const listener = peer.host.listen(0, HOST_PORT, given.backlog ?? 16) as Listener;
    peer.send({ flags: "S", seq: 0, ack: 0, options: given.syn ?? mss(1460) });
    peer.seq = peer.ack = 1;
    peer.#afterSyn(given);
    peer.send({});
    peer.tcb = listener.accept() as Tcb;
    if (typeof peer.tcb === "number") throw new Error("not accepted");
    listener.close();
    return peer;
  }

  /** A connection that the host begins to open: its SYN is out. */
  static connecting(given: PeerOptions = {}): Peer {
    const peer = new Peer(given);
    peer.hostPort = 5000;
    peer.peerPort = HOST_PORT;
    const tcb = peer.host.connect(0, 5000, 0x0a000002, HOST_PORT, peer.pair.now);
    if (typeof tcb === "number") throw new Error(`connect: ${tcb}`);
    peer.tcb = tcb;
    peer.pair.flush();
    return peer;
  }

  /** A connection that the host opened. */
  static connected(given: PeerOptions = {}): Peer {
    const peer = Peer.connecting(given);
    peer.seq = peer.ack = 1;
    peer.send({ flags: "SA", seq: 0, options: given.syn ?? mss(1460) });
    peer.#afterSyn(given);
    return peer;
  }
}
