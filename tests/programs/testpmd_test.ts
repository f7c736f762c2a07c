/**
 * DPDK's virtio-user driver against our rings: split and packed, in order and not, mergeable and not; a million frames each,
 * every one of them looked at.
 *
 * D2.17: DPDK's virtio driver drives our rings.
 */
import { assert, assertEquals } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { VhostUserDevice } from "../../mod.ts";
import { type Device, type FrameMemory, TxFrame } from "../../stack/device.ts";
import { finish, sum } from "../../stack/wire/checksum.ts";
import { kernel, lacksPrograms } from "../testing/namespace.ts";
import { Testpmd } from "../testing/testpmd.ts";

const FRAMES = 1_000_000;
if (kernel) libc(); // opened once, before any test counts what it leaves open
const ignore = !kernel || lacksPrograms(["dpdk-testpmd"], "dpdk-dev librte-net-virtio23");

/** True for a frame as testpmd's txonly makes them: UDP in IPv4, 64 bytes, its header checksum right. */
function expected({ view }: FrameMemory, at: number, length: number): boolean {
  return length === 64 && view.getUint16(at + 12) === 0x0800 && view.getUint8(at + 14) === 0x45 &&
    view.getUint8(at + 23) === 17 &&
    view.getUint16(at + 16) === 50 && view.getUint32(at + 26) === 0xc6120001 && view.getUint16(at + 36) === 9 &&
    finish(sum(view, at + 14, 20, 0)) === 0;
}

/** Takes frames from a device until it is told to stop; with `echo` they go back where they came from. */
class Consumer {
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

function socketPath(): string {
  const path = Deno.makeTempFileSync({ prefix: "tapioca_pmd_", suffix: ".sock" });
  Deno.removeSync(path);
  return path;
}

async function run(words: string, echo: boolean): Promise<void> {
  const path = socketPath();
  {
    using device = VhostUserDevice.open({ path });
    const consumer = new Consumer(device, echo);
    const mode = echo ? ["--forward-mode=io", "--tx-first", "--burst=128"] : ["--forward-mode=txonly"];
    await using testpmd = new Testpmd(`net_virtio_user0,path=${path},queues=1,${words}`, mode);
    // In the other direction testpmd's first burst goes round and round.
    await consumer.until(FRAMES);
    const { sent, received } = await testpmd.stop();
    assertEquals([consumer.wrong, device.fault], [0, null]);
    // What was in the ring when it stopped is all that may be missing.
    assert(sent >= consumer.frames && sent - consumer.frames <= 1024, `${sent} sent, ${consumer.frames} came`);
    if (echo) {
      assertEquals(consumer.refused, 0);
      assert(consumer.echoed >= received && consumer.echoed - received <= 1024, `${consumer.echoed} back, ${received} came`);
    }
  }
  await wakersIdle();
}

for (const packed of [0, 1]) {
  for (const inOrder of [0, 1]) {
    for (const mergeable of [0, 1]) {
      const words = `packed_vq=${packed},in_order=${inOrder},mrg_rxbuf=${mergeable}`;
      Deno.test({
        name: `D2.17 testpmd, ${words}: a million frames from it, and a million there and back`,
        ignore,
        async fn() {
          for (const echo of [false, true]) await run(words, echo);
        },
      });
    }
  }
}
