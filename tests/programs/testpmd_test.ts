/**
 * DPDK's virtio-user driver against our rings: split and packed, in order and not, mergeable and not; a million frames each,
 * every one of them looked at.
 *
 * D2.17: DPDK's virtio driver drives our rings.
 */
import { assert, assertEquals } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { FEATURES, VhostUserDevice, VhostUserPort } from "../../mod.ts";
import { type Device, FrameMemory, TxFrame } from "../../stack/device.ts";
import { kernel, lacksPrograms } from "../testing/namespace.ts";
import { socketPath } from "../testing/socket_path.ts";
import { Testpmd } from "../testing/testpmd.ts";
import { Consumer, testpmdMode, VIRTIO_FORMATS } from "../testing/testpmd_frames.ts";

const FRAMES = 1_000_000;
if (kernel) libc(); // opened once, before any test counts what it leaves open
const ignore = !kernel || lacksPrograms(["dpdk-testpmd"], "dpdk-dev librte-net-virtio23 librte-net-vhost23");

async function run(words: string, echo: boolean): Promise<void> {
  const path = socketPath();
  {
    using device = VhostUserDevice.open({ path });
    const consumer = new Consumer(device, echo);
    await using testpmd = new Testpmd(`net_virtio_user0,path=${path},queues=1,${words}`, testpmdMode(echo));
    await consumer.until(FRAMES);
    const { sent, received } = await testpmd.stop();
    assertEquals([consumer.wrong, device.fault], [0, null]);
    // What was in the ring when it stopped is all that may be missing.
    assert(sent >= consumer.frames && sent - consumer.frames <= 1024, `${sent} sent, ${consumer.frames} came`);
    if (echo) {
      // Between two of testpmd's turns there may be no buffer for a moment: then a frame finds no way back.
      assertEquals(consumer.echoed + consumer.refused, consumer.frames);
      assert(consumer.echoed >= received && consumer.echoed - received <= 1024, `${consumer.echoed} back, ${received} came`);
    }
  }
  await wakersIdle();
}

for (const words of VIRTIO_FORMATS) {
  Deno.test({
    name: `D2.17 testpmd, ${words}: a million frames from it, and a million there and back`,
    ignore,
    async fn() {
      for (const echo of [false, true]) await run(words, echo);
    },
  });
}

/** Sends frames with numbers in them over a port whose other end gives them back, and looks whether they come in order. */
class Numbered {
  sent = 0;
  came = 0;
  wrong = 0;
  readonly #memory = new FrameMemory(256);
  readonly #tx = new TxFrame();

  constructor(readonly port: Device) {
    this.#memory.bytes.set([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x88, 0xb5], 128);
  }

  frame({ view }: FrameMemory, at: number, length: number): void {
    if (length !== 64 || view.getUint32(at + 14) !== this.came || view.getUint32(at + 60) !== ~this.came >>> 0) this.wrong++;
    this.came++;
  }

  /** A turn: sends what fits, at most `most` at once under way, and takes what came. */
  turn(limit: number, most: number): void {
    for (; this.sent < limit && this.sent - this.came < most; this.sent++) {
      this.#tx.reset(64);
      this.#tx.memory = this.#memory;
      this.#tx.offset = 128;
      this.#memory.view.setUint32(142, this.sent);
      this.#memory.view.setUint32(188, ~this.sent >>> 0);
      if (this.port.transmit(this.#tx) < 0) break;
    }
    this.port.flush?.();
    this.port.receive(this, 256);
  }
}

/** A million numbered frames through testpmd, with what was agreed on of `without`'s rest. */
async function thereAndBack(packed: boolean, without: (keyof typeof FEATURES)[]): Promise<void> {
  const path = socketPath();
  const want = without.reduce((bits, name) => bits & ~FEATURES[name], (1n << 64n) - 1n);
  {
    await using testpmd = new Testpmd(`net_vhost0,iface=${path},queues=1`, ["--forward-mode=io"]);
    using port = await VhostUserPort.open({ path, want });
    assertEquals(port.agreedFeatures.includes("RING_PACKED"), packed);
    for (const name of without) assertEquals(port.agreedFeatures.includes(name), false, name);
    port.open(() => {});
    const numbered = new Numbered(port);
    for (let quiet = 0, last = 0; numbered.came < FRAMES;) {
      numbered.turn(FRAMES, 64);
      await new Promise((resolve) => setImmediate(resolve));
      quiet = numbered.came === last ? quiet + 1 : 0;
      last = numbered.came;
      // testpmd begins to forward some time after it has opened the socket; then nothing may stop.
      if (quiet > 3000) await new Promise((resolve) => setTimeout(resolve, 10));
      assert(quiet < 6000, `no frame after the ${numbered.came}th of ${numbered.sent}`);
    }
    assertEquals([numbered.wrong, port.fault], [0, null]);
    const { received, sent } = await testpmd.stop();
    assertEquals([received, sent], [FRAMES, FRAMES]);
  }
  await wakersIdle();
}

for (const packed of [false, true]) {
  for (const inOrder of [false, true]) {
    for (const mergeable of [false, true]) {
      const without: (keyof typeof FEATURES)[] = [];
      if (!packed) without.push("RING_PACKED");
      if (!inOrder) without.push("IN_ORDER");
      if (!mergeable) without.push("NET_MRG_RXBUF", "NET_GUEST_TSO4", "NET_GUEST_TSO6");
      Deno.test({
        name: `our front end on testpmd's vhost port without ${
          without.join(", ") || "nothing"
        }: a million frames there and back in order`,
        ignore,
        fn: () => thereAndBack(packed, without),
      });
    }
  }
}

Deno.test({
  name: "our front end goes on when the switch is killed in the middle and comes again",
  ignore,
  async fn() {
    const path = socketPath();
    const vdev = `net_vhost0,iface=${path},queues=1`;
    {
      const first = new Testpmd(vdev, ["--forward-mode=io"]);
      using port = await VhostUserPort.open({ path });
      port.open(() => {});
      const before = new Numbered(port);
      while (before.came < 10_000) {
        before.turn(Infinity, 64);
        await new Promise((resolve) => setImmediate(resolve));
      }
      await first[Symbol.asyncDispose]();
      for (let i = 0; i < 1000 && port.connected; i++) {
        before.turn(Infinity, 64);
        await new Promise((resolve) => setTimeout(resolve, 5));
      }
      assertEquals(port.connected, false);
      Deno.removeSync(path);
      await using _second = new Testpmd(vdev, ["--forward-mode=io"]);
      for (let i = 0; i < 6000 && !port.connected; i++) await new Promise((resolve) => setTimeout(resolve, 5));
      const after = new Numbered(port);
      while (after.came < 10_000) {
        after.turn(Infinity, 64);
        await new Promise((resolve) => setImmediate(resolve));
      }
      assertEquals([after.wrong, port.statistics().sessions], [0, 2]);
    }
    await wakersIdle();
  },
});
