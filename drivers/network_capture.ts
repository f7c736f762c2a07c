/**
 * A capture of a whole simulated network: every end of every link is an interface of its own in one pcapng file.
 *
 * @module
 */
import type { FrameMemory, TxFrame } from "../stack/device.ts";
import type { EndCapture } from "./link.ts";
import type { PcapSink } from "./pcap.ts";
import { encodeHeader, encodePacket, INBOUND, LINK_ETHERNET, OUTBOUND, PACKET_OVERHEAD, padded } from "./pcap_format.ts";

/** Bytes gathered before they are written. */
const BUFFER_BYTES = 256 << 10;
/** Bytes of the whole capture; what comes beyond isn't captured. */
const CAPTURE_BYTES = 1 << 30;
/** Bytes that the section's header takes in front of the first interface's. */
const SECTION_HEADER = 28;
const SNAP_LENGTH = 65_600;

/** Gathers the packets of all ends, in order of time. */
export class NetworkCapture {
  readonly #sink: PcapSink;
  readonly #nowMs: () => number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  readonly #view = new DataView(this.#buffer.buffer);
  #used = 0;
  #left = CAPTURE_BYTES;
  #interfaces = 0;
  #closed = false;
  /** Packets captured and not captured, and failures of the sink: the first ends the capture. */
  readonly counters = { captured: 0, notCaptured: 0, writeErrors: 0 };

  /** @param nowMs milliseconds since 1970 */
  constructor(sink: PcapSink, nowMs: () => number) {
    this.#sink = sink;
    this.#nowMs = nowMs;
  }

  /** One more end. */
  end(name: string): EndCapture {
    const id = this.#interfaces++;
    const header = encodeHeader(LINK_ETHERNET, SNAP_LENGTH, name).subarray(id === 0 ? 0 : SECTION_HEADER);
    if (this.#used + header.length > BUFFER_BYTES) this.write();
    this.#buffer.set(header, this.#used);
    this.#used += header.length;
    this.#left -= header.length;
    return {
      sent: (frame: TxFrame) => {
        const at = this.#packet(id, frame.size, OUTBOUND);
        if (at >= 0) frame.copyTo(this.#buffer, at);
      },
      received: (memory: FrameMemory, offset: number, length: number) => {
        const at = this.#packet(id, length, INBOUND);
        if (at >= 0) this.#buffer.set(memory.bytes.subarray(offset, offset + length), at);
      },
    };
  }

  #packet(id: number, length: number, direction: number): number {
    const total = PACKET_OVERHEAD + padded(length);
    if (this.#closed || total > this.#left || length > SNAP_LENGTH) {
      this.counters.notCaptured++;
      return -1;
    }
    if (this.#used + total > BUFFER_BYTES) this.write();
    const ns = Math.round(this.#nowMs() * 1e6);
    const at = encodePacket(this.#view, this.#used, Math.floor(ns / 2 ** 32), ns % 2 ** 32, length, length, direction);
    this.#view.setUint32(this.#used + 8, id, true);
    this.#used += total;
    this.#left -= total;
    this.counters.captured++;
    return at;
  }

  /** Gives the sink what was gathered. */
  write(): void {
    if (this.#used === 0) return;
    const bytes = this.#buffer.subarray(0, this.#used);
    this.#used = 0;
    try {
      this.#sink.write(bytes);
    } catch {
      // A full disk must not stop the network; the capture ends here.
      this.counters.writeErrors++;
      this.#left = 0;
    }
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.write();
    this.#sink.close?.();
  }
}
