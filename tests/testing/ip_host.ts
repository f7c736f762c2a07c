/**
 * An internet layer on a device made of an array, with a manual clock: frames are put in, and what comes out is looked at.
 *
 * @module
 */
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../../stack/device.ts";
import { InternetLayer, type InternetOptions } from "../../stack/ip/internet.ts";
import type { EchoReply, Packet, PacketError, Transport } from "../../stack/ip/types.ts";
import { parseMac, parsePrefix } from "../../stack/wire/address.ts";
import { type Bytes, type CheckedFrame, checkFrame, randomSource } from "./frames.ts";

/** A frame as the device got it. */
export interface Sent {
  bytes: Bytes;
  checksumStart: number;
  segmentSize: number;
  segmentHeaderLength: number;
}

export class ArrayDevice implements Device {
  readonly name = "array";
  readonly sent: Sent[] = [];
  /** What `transmit` answers. */
  code = 0;
  constructor(
    readonly mac: Uint8Array | null = parseMac("02:00:00:00:00:02"),
    readonly mtu: number = 1500,
    readonly capabilities: DeviceCapabilities = { rxChecksum: true, txChecksum: false, txSegmentation: 0, rxFrame: 65536 },
    readonly medium: "ethernet" | "ip" = mac === null ? "ip" : "ethernet",
  ) {}
  open(): void {}
  arm(): void {}
  close(): void {}
  receive(_sink: FrameSink, _budget: number): number {
    return 0;
  }
  transmit(frame: TxFrame): number {
    if (this.code < 0) return this.code;
    const bytes = new Uint8Array(frame.size);
    frame.copyTo(bytes, 0);
    const { checksumStart, segmentSize, segmentHeaderLength } = frame;
    this.sent.push({ bytes, checksumStart, segmentSize, segmentHeaderLength });
    return 0;
  }
}

/** Keeps what a transport is handed. */
export class Recorder implements Transport {
  readonly packets: (Omit<Packet, "memory"> & { payload: Bytes })[] = [];
  readonly errors: PacketError[] = [];
  believe = true;
  onInput: (packet: Packet) => void = () => {};
  input(packet: Packet): void {
    const { memory, ...rest } = packet;
    this.packets.push({ ...rest, payload: memory.bytes.slice(packet.offset, packet.offset + packet.length) });
    this.onInput(packet);
  }
  error(error: PacketError): boolean {
    this.errors.push({ ...error });
    return this.believe;
  }
}

/** One host: 10.0.0.2/24 on one device, unless it is told otherwise. Its neighbour 10.0.0.1 is 02:00:00:00:00:01. */
export class IpHost {
  readonly ip: InternetLayer;
  readonly device: ArrayDevice;
  readonly echoes: EchoReply[] = [];
  readonly udp = new Recorder();
  readonly tcp = new Recorder();

  constructor(
    options: Partial<InternetOptions> & { address?: string; device?: ArrayDevice; vlan?: number; quiet?: boolean } = {},
  ) {
    this.ip = new InternetLayer({ random32: randomSource(1), ...options });
    this.device = options.device ?? new ArrayDevice();
    const { index } = this.ip.addInterface(this.device, { vlan: options.vlan });
    const { key, prefixLength } = parsePrefix(options.address ?? "10.0.0.2/24");
    this.ip.addAddress(index, key, prefixLength);
    this.ip.advance(10_000);
    this.ip.register(17, this.udp);
    this.ip.register(6, this.tcp);
    this.ip.onEcho = (reply) => this.echoes.push(reply);
    this.device.sent.length = 0;
  }

  /** A frame comes in, at an odd place of its memory. */
  in(frame: Uint8Array, flags = 0, segmentSize = 0, interfaceAt = 0): void {
    const memory = new FrameMemory(frame.length + 3);
    memory.bytes.set(frame, 3);
    this.ip.interfaces[interfaceAt].frame(memory, 3, frame.length, flags, segmentSize);
  }

  /** The clock goes on, timer by timer, to `now`. */
  to(now: number): void {
    for (let next = this.ip.nextDeadline(); next <= now; next = this.ip.nextDeadline()) {
      if (this.ip.pump(1000) === 0) this.ip.advance(Math.max(next, this.ip.now));
    }
    this.ip.advance(now);
  }

  /** What went out since the last call, checked. */
  out(device = this.device): CheckedFrame[] {
    return device.sent.splice(0).map((sent) =>
      checkFrame(sent.bytes, { medium: device.medium, partialChecksum: sent.checksumStart >= 0 })
    );
  }

  /** A counter of the statistics. */
  count(layer: string, name: string): number {
    return this.ip.statistics[layer][name];
  }
}
