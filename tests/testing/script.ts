/**
 * Scripts in the manner of packetdrill: a peer that the test plays packet by packet, against a whole host on manual time.
 * Sequence numbers are relative to the initial ones of their side, times are milliseconds of the host's clock.
 *
 * @module
 */
import { assertEquals } from "@std/assert";
import { PacketDevice } from "../../drivers/packets.ts";
import { BareStack, type BareStackOptions } from "../../stack/bare/stack.ts";
import type { BareTcpSocket } from "../../stack/bare/tcp_socket.ts";
import { bytesOf, ipv4, tcp } from "./frames.ts";

export const HOST = "192.0.2.1";
export const PEER = "192.0.2.2";
export const HOST_PORT = 8080;
export const PEER_PORT = 40_000;
const PEER_ISS = 0x7fff_fff0; // soon to wrap around, so that nobody compares by less-than
const LETTERS = "FSRPAUEC";

/** One segment of a script: "flags first:end(length) ack n win n", options apart. */
interface Fields {
  flags: string;
  seq: number;
  length: number;
  ack: number | null;
  win: number | null;
}

/** Reads `S 0`, `SA 0 ack 1`, `A 1 ack 1 win 100`, `PA 1:101 ack 1`. */
function parseLine(line: string): Fields {
  const match = /^([A-Z]+) (\d+)(?::(\d+))?(?: ack (\d+))?(?: win (\d+))?$/.exec(line);
  if (match === null) throw new Error(`not a line of a script: ${line}`);
  const [, flags, seq, end, ack, win] = match;
  return {
    flags,
    seq: Number(seq),
    length: end === undefined ? 0 : Number(end) - Number(seq),
    ack: ack === undefined ? null : Number(ack),
    win: win === undefined ? null : Number(win),
  };
}

/** Bytes of a stream from a place on: the same for whoever asks, so that a byte out of place shows. */
export function streamBytes(from: number, length: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.from({ length }, (_, i) => ((from + i) * 31 + ((from + i) >> 8)) & 255);
}

export interface ScriptOptions extends BareStackOptions {
  /** Options of the peer's SYN. */
  synOptions?: readonly number[];
}

/** A host, and the peer's side of a conversation with it. */
export class Script implements Disposable {
  readonly device = new PacketDevice();
  readonly stack: BareStack;
  /** The host's initial sequence number, known after its SYN. */
  #iss: number | null = null;
  #hostPort = HOST_PORT;
  #peerPort = PEER_PORT;
  #out: Uint8Array[] = [];

  constructor(options: ScriptOptions = {}) {
    const plain = { timestamps: false, windowScale: false, sack: false };
    this.stack = new BareStack(this.device, { address: `${HOST}/24`, seed: 1, ...options, tcp: { ...plain, ...options.tcp } });
  }

  /** The peer's ports from now on. */
  ports(hostPort: number, peerPort: number): void {
    this.#hostPort = hostPort;
    this.#peerPort = peerPort;
    this.#iss = null;
  }

  /** The peer sends. */
  in(line: string, options: readonly number[] = []): void {
    const { flags, seq, length, ack, win } = parseLine(line);
    const segment = tcp({
      source: PEER,
      destination: HOST,
      sourcePort: this.#peerPort,
      destinationPort: this.#hostPort,
      flags,
      sequence: (PEER_ISS + seq) >>> 0,
      acknowledgment: ack === null ? 0 : ((this.#iss ?? 0) + ack) >>> 0,
      window: win ?? 32_000,
      options,
    }, bytesOf(streamBytes(seq, length)));
    this.device.inject(ipv4({ source: PEER, destination: HOST, protocol: 6 }, segment));
    this.stack.deliver();
  }

  /** What the host has sent, as lines of a script; window only when `windows` is set. */
  seen(windows = false): string[] {
    this.#out.push(...this.device.take());
    return this.#out.splice(0).map((packet) => this.#describe(packet, windows));
  }

  #describe(packet: Uint8Array, windows: boolean): string {
    const view = new DataView(packet.buffer, packet.byteOffset);
    const at = (packet[0] & 15) * 4;
    const header = (packet[at + 12] >> 4) * 4;
    const bits = packet[at + 13];
    const raw = view.getInt32(at + 4);
    if ((bits & 2) !== 0) this.#iss ??= raw;
    const seq = (raw - (this.#iss ?? 0)) >>> 0;
    const length = packet.length - at - header;
    const flags = [...LETTERS].filter((_, bit) => (bits & (1 << bit)) !== 0).join("");
    const ack = (view.getInt32(at + 8) - PEER_ISS) | 0;
    if (length > 0 && this.#iss !== null) {
      assertEquals(packet.slice(at + header), streamBytes(seq, length), "the bytes of the host's stream");
    }
    return `${flags} ${seq}${length > 0 ? `:${seq + length}` : ""}${(bits & 16) !== 0 ? ` ack ${ack}` : ""}` +
      (windows ? ` win ${view.getUint16(at + 14)}` : "");
  }

  /** The host has sent exactly this since the last time. */
  out(...lines: string[]): void {
    assertEquals(this.seen(), lines);
  }

  /** The host sends nothing until `ms` from now, and then exactly this. */
  outAfter(ms: number, ...lines: string[]): void {
    const at = this.stack.now + ms;
    this.stack.advance(at - 1);
    assertEquals(this.seen(), [], `nothing before ${at} ms`);
    this.stack.advance(at);
    assertEquals(this.seen(), lines, `at ${at} ms`);
  }

  /** The user of the host writes the next `length` bytes of the stream that begins with byte 1. */
  write(socket: BareTcpSocket, from: number, length: number): void {
    assertEquals(socket.send(streamBytes(from, length)), length);
  }

  /** The user of the host reads all there is, which must be this much of the peer's stream. */
  read(socket: BareTcpSocket, from: number, length: number): void {
    const into = new Uint8Array(length + 1);
    assertEquals(socket.receive(into), length);
    assertEquals(into.slice(0, length), streamBytes(from, length));
  }

  /** A listener of the host. */
  listener(): BareTcpSocket {
    const listener = this.stack.tcp();
    assertEquals(listener.bind(HOST, HOST_PORT), 0);
    assertEquals(listener.listen(8), 0);
    return listener;
  }

  /** A connection that the peer has opened. */
  accepted(synOptions: readonly number[] = [2, 4, 3, 232]): BareTcpSocket {
    const listener = this.listener();
    this.in("S 0", synOptions);
    this.out("SA 0 ack 1");
    this.in("A 1 ack 1");
    const socket = listener.accept();
    if (typeof socket === "number") throw new Error(`accept: ${socket}`);
    assertEquals(listener.close(), 0);
    return socket;
  }

  [Symbol.dispose](): void {
    this.stack.close();
  }
}
