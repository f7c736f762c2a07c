/**
 * Packets as the internet layer hands them to transports, and an internet layer that is two arrays, for tests of one layer.
 *
 * @module
 */
import { OK } from "../../stack/codes.ts";
import { FrameMemory, TxFrame } from "../../stack/device.ts";
import type { Internet, IpLayer, Packet, PacketError, Path, SendOptions, Transport } from "../../stack/ip/types.ts";
import { randomSource } from "./mutate.ts";

/** Wraps the bytes of an IPv4 packet, as built by `ipv4`. */
export function packetOf(bytes: Uint8Array<ArrayBuffer>, more: Partial<Packet> = {}): Packet {
  const memory = new FrameMemory(bytes);
  const ipHeaderLength = (bytes[0] & 15) * 4;
  const length = memory.view.getUint16(2) - ipHeaderLength;
  let pseudoSum = bytes[9] + length;
  for (let i = 12; i < 20; i += 2) pseudoSum += memory.view.getUint16(i);
  return {
    memory,
    family: 4,
    ipOffset: 0,
    ipHeaderLength,
    offset: ipHeaderLength,
    length,
    srcKey: memory.view.getInt32(12),
    dstKey: memory.view.getInt32(16),
    proto: bytes[9],
    ttl: bytes[8],
    tos: bytes[1],
    flags: 0,
    segmentSize: 0,
    cast: 0,
    pseudoSum,
    interfaceIndex: 1,
    ...more,
  };
}

/** A datagram that was sent. */
export interface Sent {
  path: Path;
  proto: number;
  /** Transport header and payload. */
  bytes: Uint8Array;
  options: SendOptions;
  checksumStart: number;
  /** Payload stood behind the header, not in a piece of its own. */
  inline: boolean;
}

/** An internet layer that keeps what is sent, and answers as it is told. */
export class FakeIp implements IpLayer, Pick<Internet, "joinMulticast" | "leaveMulticast"> {
  readonly tx = new TxFrame();
  readonly sent: Sent[] = [];
  readonly unreachable: number[] = [];
  readonly joined: [group: number, interfaceIndex: number | undefined][] = [];
  readonly transports = new Map<number, Transport>();
  readonly local = new Set<number>();
  readonly broadcast = new Set<number>();
  readonly random32 = randomSource(1);
  mtu = 1500;
  txChecksum = false;
  sendCode = 0;
  pathCode = 0;
  stale = false;
  paths = 0;

  constructor(readonly address: number) {
    this.local.add(address);
  }

  register(proto: number, transport: Transport): void {
    this.transports.set(proto, transport);
  }

  path(localKey: number, remoteKey: number): Path | number {
    this.paths++;
    if (this.pathCode !== 0) return this.pathCode;
    const local = localKey === 0 ? this.address : localKey;
    const sumOf = (key: number) => (key >>> 16) + (key & 0xffff);
    // deno-lint-ignore no-this-alias
    const layer = this;
    return {
      family: 4,
      localKey: local,
      remoteKey,
      ipHeaderLength: 20,
      mtu: this.mtu,
      interfaceMtu: this.mtu,
      txChecksum: this.txChecksum,
      txSegmentation: 0,
      rxQueueFrames: 0,
      addressSum: sumOf(local) + sumOf(remoteKey),
      get stale() {
        return layer.stale;
      },
    };
  }

  renew(path: Path): Path | number {
    this.stale = false;
    return this.path(path.localKey, path.remoteKey);
  }

  send(path: Path, proto: number, tx: TxFrame, options: SendOptions): number {
    if (this.sendCode !== 0) return this.sendCode;
    const bytes = new Uint8Array(tx.size);
    tx.copyTo(bytes, 0);
    const inline = tx.payloadLength1 === 0;
    this.sent.push({ path, proto, bytes, options: { ...options }, checksumStart: tx.checksumStart, inline });
    return 0;
  }

  sendUnreachable(_packet: Packet, code: number): void {
    this.unreachable.push(code);
  }

  isLocal(key: number, any = false): boolean {
    return this.local.has(key) || (any && this.broadcast.has(key));
  }

  confirm(): void {}

  joinMulticast(group: number, interfaceIndex?: number): number {
    this.joined.push([group, interfaceIndex]);
    return OK;
  }

  leaveMulticast(group: number, interfaceIndex?: number): number {
    const at = this.joined.findIndex((entry) => entry[0] === group && entry[1] === interfaceIndex);
    this.joined.splice(at, 1);
    return OK;
  }
}

/** An ICMP error about `sent`, a packet of ours. */
export function errorAbout(sent: Uint8Array<ArrayBuffer>, code: number, more: Partial<PacketError> = {}): PacketError {
  const packet = packetOf(sent);
  return {
    code,
    hard: true,
    mtu: 0,
    localKey: packet.srcKey,
    remoteKey: packet.dstKey,
    memory: packet.memory,
    offset: packet.offset,
    length: packet.length,
    icmpType: 3,
    icmpCode: 3,
    ...more,
  };
}
