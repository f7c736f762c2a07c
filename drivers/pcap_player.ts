/**
 * A device whose wire is a capture: it receives what is in the file. What is sent to it goes nowhere; to have it in a file as
 * well, put `pcapTap` before it.
 *
 * @module
 */
import { EMSGSIZE, ENODEV, OK } from "../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../stack/device.ts";
import { copyBytes } from "../stack/wire/copy.ts";
import { type CapturedPacket, decodeCapture, LINK_ETHERNET, LINK_RAW } from "./pcap_format.ts";

/** Room around a frame for whoever changes it in place. */
const ROOM = 256;
const LINK_HEADER = 18;
const MTU_MAX = 65_535;

/** Options of {@link PcapPlayer}. */
export interface PcapPlayerOptions {
  /** For people. Default "pcap0". */
  name?: string;
  /** Largest IP packet that may be sent to it. Default: 1500, or what the longest packet of the capture has. */
  mtu?: number;
  /** Six bytes. Default 02:00:00:00:00:01. */
  mac?: Uint8Array;
  /** Behind the last packet: nothing more comes ("wait", the default), or the device is gone ("gone"). */
  atEnd?: "wait" | "gone";
  /** Play only what the capture says came in (1) or went out (2). Default: everything. */
  direction?: number;
}

/**
 * Plays a capture, as fast as it is asked for.
 *
 * @example
 * ```ts ignore
 * const forwarder = new XdpForwarder();
 * forwarder.add(new PcapPlayer("in.pcapng"), { ifindex: 7 });
 * forwarder.add(pcapTap(new PcapPlayer([], { name: "router0" }), "out.pcapng"), { role: "router" });
 * ```
 */
export class PcapPlayer implements Device {
  readonly name: string;
  readonly medium: "ethernet" | "ip";
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly capabilities: DeviceCapabilities;
  readonly #packets: readonly CapturedPacket[];
  readonly #atEnd: "wait" | "gone";
  readonly #slot: FrameMemory;
  readonly #counters = { played: 0, cutShort: 0, sent: 0, tooLong: 0 };
  #next = 0;
  #wake: (() => void) | null = null;
  #closed = false;

  /**
   * Reads the capture as a whole.
   *
   * @param from path of a pcapng file, its bytes, or packets; none of them, to receive nothing
   * @throws {Deno.errors.InvalidData} if it is no capture, or one of different kinds of links; what reading the file throws
   */
  constructor(from: string | Uint8Array | readonly CapturedPacket[], options: PcapPlayerOptions = {}) {
    const { name = "pcap0", atEnd = "wait", direction, mac = Uint8Array.of(2, 0, 0, 0, 0, 1) } = options;
    const bytes = typeof from === "string" ? Deno.readFileSync(from) : from;
    const packets = bytes instanceof Uint8Array ? decodeCapture(bytes) : bytes;
    const link = packets[0]?.linkType ?? LINK_ETHERNET;
    if ((link !== LINK_ETHERNET && link !== LINK_RAW) || packets.some(({ linkType }) => linkType !== link)) {
      throw new Deno.errors.InvalidData("a capture of one Ethernet device, or of one device without link header, is needed");
    }
    this.name = name;
    this.medium = link === LINK_ETHERNET ? "ethernet" : "ip";
    this.mac = link === LINK_ETHERNET ? mac : null;
    const header = link === LINK_ETHERNET ? LINK_HEADER : 0;
    const longest = packets.reduce((most, { bytes }) => Math.max(most, bytes.length), 0);
    this.mtu = options.mtu ?? Math.min(MTU_MAX, Math.max(1500, longest - (header > 0 ? 14 : 0)));
    if (!(Number.isInteger(this.mtu) && this.mtu >= 68 && this.mtu <= MTU_MAX)) {
      throw new RangeError(`mtu must be 68 to ${MTU_MAX} bytes: ${this.mtu}`);
    }
    this.#packets = direction === undefined ? packets : packets.filter((packet) => packet.direction === direction);
    this.#atEnd = atEnd;
    this.#slot = new FrameMemory(ROOM + longest + ROOM);
    const rxFrame = Math.max(longest, this.mtu + header);
    this.capabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame, rxHeadroom: ROOM, rxTailroom: ROOM };
  }

  /** Packets that are still to be played. */
  get waiting(): number {
    return this.#closed ? 0 : this.#packets.length - this.#next;
  }

  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.NotFound(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    if (this.waiting > 0 || this.#atEnd === "gone") this.#wake?.();
  }

  /** Packets that were captured in part only are played as what there is of them, and counted. */
  receive(sink: FrameSink, budget: number): number {
    let count = 0;
    for (; count < budget && this.waiting > 0; count++) {
      const { bytes, originalLength } = this.#packets[this.#next++];
      if (bytes.length < originalLength) this.#counters.cutShort++;
      copyBytes(bytes, 0, this.#slot.bytes, ROOM, bytes.length);
      sink.frame(this.#slot, ROOM, bytes.length, 0, 0);
    }
    this.#counters.played += count;
    return count === 0 && (this.#closed || this.#atEnd === "gone") ? ENODEV : count;
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    if (frame.size > this.mtu + LINK_HEADER) {
      this.#counters.tooLong++;
      return EMSGSIZE;
    }
    this.#counters.sent++;
    return OK;
  }

  close(): void {
    this.#closed = true;
    this.#wake = null;
  }

  statistics(): Record<string, number> {
    return { ...this.#counters };
  }
}
