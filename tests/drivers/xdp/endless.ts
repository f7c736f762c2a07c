/** A device that delivers the same frame as often as it is told to, in place, and takes all: for measuring what is around it. */
import type { Device, FrameMemory, FrameSink } from "../../../stack/device.ts";

export class Endless implements Device {
  readonly medium = "ethernet";
  readonly mtu = 1500;
  readonly mac = null;
  readonly capabilities = {
    rxChecksum: false,
    txChecksum: false,
    txSegmentation: 0,
    rxFrame: 1514,
    rxHeadroom: 256,
    rxTailroom: 0,
  };
  /** Frames that are still to come. */
  left = 0;
  /** Frames taken. */
  sent = 0;
  wake: () => void = () => {};

  constructor(readonly name: string, readonly memory: FrameMemory, readonly offset: number, readonly length: number) {}

  open(wake: () => void): void {
    this.wake = wake;
  }

  arm(): void {}

  receive(sink: FrameSink, budget: number): number {
    const count = Math.min(budget, this.left);
    for (let i = 0; i < count; i++) sink.frame(this.memory, this.offset, this.length, 0, 0);
    this.left -= count;
    return count;
  }

  transmit(): number {
    this.sent++;
    return 0;
  }

  close(): void {}
}
