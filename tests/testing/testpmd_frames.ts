/**
 * What testpmd's virtio driver sends, and who takes it: of the test that looks at every frame, and of the bench that counts them.
 *
 * @module
 */
import { type Device, type FrameMemory, TxFrame } from "../../stack/device.ts";
import { finish, sum } from "../../stack/wire/checksum.ts";

/** The formats of rings and buffers that there are, as testpmd's device takes them. */
export const VIRTIO_FORMATS: readonly string[] = [0, 1].flatMap((packed) =>
  [0, 1].flatMap((inOrder) => [0, 1].map((mergeable) => `packed_vq=${packed},in_order=${inOrder},mrg_rxbuf=${mergeable}`))
);

/** What testpmd is to do: only send, or forward, and then its first burst goes round and round. */
export function testpmdMode(echo: boolean): string[] {
  return echo ? ["--forward-mode=io", "--tx-first", "--burst=128"] : ["--forward-mode=txonly"];
}

/** True for a frame as testpmd's txonly makes them: UDP in IPv4, 64 bytes, its header checksum right. */
function expected({ view }: FrameMemory, at: number, length: number): boolean {
  return length === 64 && view.getUint16(at + 12) === 0x0800 && view.getUint8(at + 14) === 0x45 &&
    view.getUint8(at + 23) === 17 &&
    view.getUint16(at + 16) === 50 && view.getUint32(at + 26) === 0xc6120001 && view.getUint16(at + 36) === 9 &&
    finish(sum(view, at + 14, 20, 0)) === 0;
}

/** Takes frames from a device until it is told to stop; with `echo` they go back where they came from. */
export class Consumer {
  frames = 0;
  wrong = 0;
  echoed = 0;
  refused = 0;
  /** Called every time that frames have come. */
  onFrames: () => void = () => {};
  readonly #tx = new TxFrame();
  #scheduled = false;

  constructor(readonly device: Device, readonly echo: boolean) {
    device.open(() => this.#wake());
    device.arm();
  }

  #wake(): void {
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(() => {
      this.#scheduled = false;
      const count = this.device.receive(this, 256);
      this.device.flush?.();
      if (count > 0) this.onFrames();
      if (count === 256) this.#wake();
      else if (count >= 0) this.device.arm();
    });
  }

  frame(memory: FrameMemory, offset: number, length: number): void {
    this.frames++;
    if (!expected(memory, offset, length)) this.wrong++;
    if (!this.echo) return;
    const tx = this.#tx;
    tx.reset(length);
    tx.memory = memory;
    tx.offset = offset;
    if (this.device.transmit(tx) === 0) this.echoed++;
    else this.refused++;
  }

  /** Resolves when so many frames have come; rejects when nothing has come for a minute. */
  until(frames: number): Promise<void> {
    return new Promise((resolve, reject) => {
      let last = -1;
      const timer = setInterval(() => {
        if (this.frames !== last) return void (last = this.frames);
        this.onFrames = () => {};
        clearInterval(timer);
        reject(new Error(`no frame after the ${this.frames}th`));
      }, 60_000);
      this.onFrames = () => {
        if (this.frames < frames) return;
        this.onFrames = () => {};
        clearInterval(timer);
        resolve();
      };
    });
  }
}
