/**
 * What a frame costs on its way through a TAP device, and that none leaves garbage behind. Needs a namespace of its own:
 *
 *     unshare -Urn deno run -A tests/bench/tap_bench.ts
 */
import { TapDevice } from "../../drivers/tap.ts";
import { FrameMemory, type FrameSink, TX_HEADROOM, TxFrame } from "../../stack/device.ts";

/** An IPv4 UDP packet to nobody, behind an Ethernet header for the host. */
function putFrame(frame: TxFrame, hostMac: Uint8Array, mac: Uint8Array, size: number): void {
  const { view, bytes } = frame.memory;
  const at = frame.offset = TX_HEADROOM;
  bytes.set(hostMac, at);
  bytes.set(mac, at + 6);
  view.setUint16(at + 12, 0x88b5); // an EtherType for experiments: the kernel drops it at once
  frame.length = size;
}

function report(what: string, count: number, start: number, heap: number): void {
  const ns = (performance.now() - start) * 1e6 / count;
  const grown = (Deno.memoryUsage().heapUsed - heap) / count;
  console.log(`${what.padEnd(44)} ${ns.toFixed(0).padStart(6)} ns  ${grown.toFixed(3).padStart(8)} heap bytes each`);
}

function transmitRun(device: TapDevice, what: string, frame: TxFrame, count: number): void {
  for (let i = 0; i < 50_000; i++) device.transmit(frame);
  const heap = Deno.memoryUsage().heapUsed;
  const start = performance.now();
  let bad = 0;
  for (let i = 0; i < count; i++) if (device.transmit(frame) !== 0) bad++;
  report(what, count, start, heap);
  if (bad > 0) console.log(`  ${bad} refused`);
}

class Count implements FrameSink {
  frames = 0;
  bytes = 0;
  frame(_memory: FrameMemory, _offset: number, length: number): void {
    this.frames++;
    this.bytes += length;
  }
}

if (import.meta.main) {
  const million = Number(Deno.args[0] ?? 1_000_000);
  for (const offload of [false, true]) {
    using a = TapDevice.open({ offload, host: { up: true, mac: "02:00:00:00:00:aa" } });
    a.open(() => {});
    const hostMac = new Uint8Array([2, 0, 0, 0, 0, 0xaa]);
    const frame = new TxFrame();
    putFrame(frame, hostMac, a.mac, 60);
    const name = offload ? "offload" : "plain";
    transmitRun(a, `transmit 60 bytes, ${name}`, frame, million);
    frame.payload = new FrameMemory(65536);
    frame.length = 54;
    frame.payloadLength1 = 1000;
    frame.payloadOffset2 = 5000;
    frame.payloadLength2 = 460;
    transmitRun(a, `transmit 54 + 1000 + 460 bytes, ${name}`, frame, million);
    const sink = new Count();
    for (let i = 0; i < 50_000; i++) a.receive(sink, 64);
    const heap = Deno.memoryUsage().heapUsed;
    const start = performance.now();
    for (let i = 0; i < million; i++) a.receive(sink, 64);
    report(`receive with nothing there, ${name}`, million, start, heap);
  }
}
