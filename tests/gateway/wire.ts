/** A device whose other end is a test: packets in, packets out. */
import { OK } from "../../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, type TxFrame } from "../../stack/device.ts";

/** IP packets, no Ethernet around them. */
export class Wire implements Device {
  readonly name = "wire";
  readonly medium = "ip";
  readonly mtu = 1500;
  readonly mac = null;
  readonly capabilities: DeviceCapabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame: 65_535 };
  /** What the stack has sent. */
  readonly sent: Uint8Array[] = [];
  readonly #waiting: Uint8Array<ArrayBuffer>[] = [];
  #wake: () => void = () => {};

  /** A packet for the stack. */
  put(packet: Uint8Array<ArrayBuffer>): void {
    this.#waiting.push(packet);
    this.#wake();
  }

  /** What was sent since the last call. */
  take(): Uint8Array[] {
    return this.sent.splice(0);
  }

  open(wake: () => void): void {
    this.#wake = wake;
  }

  arm(): void {
    if (this.#waiting.length > 0) this.#wake();
  }

  receive(sink: FrameSink, budget: number): number {
    let count = 0;
    for (; count < budget && this.#waiting.length > 0; count++) {
      const packet = this.#waiting.shift()!;
      sink.frame(new FrameMemory(packet), 0, packet.length, 0, 0);
    }
    return count;
  }

  transmit(frame: TxFrame): number {
    const bytes = new Uint8Array(frame.size);
    frame.copyTo(bytes, 0);
    this.sent.push(bytes);
    return OK;
  }

  close(): void {}
}
