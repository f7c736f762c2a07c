/** Frames for the tests of devices, made without the stack, and a sink that keeps copies of what arrives. */
import type { TunTapDevice } from "../../drivers/tuntap.ts";
import { FrameMemory, type FrameSink, TX_HEADROOM, TxFrame } from "../../stack/device.ts";
import { finish, fold, sum } from "../../stack/wire/checksum.ts";

export interface Received {
  bytes: Uint8Array<ArrayBuffer>;
  view: DataView;
  flags: number;
  segmentSize: number;
}

/** Keeps copies. */
export class Keep implements FrameSink {
  readonly frames: Received[] = [];
  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    const bytes = memory.bytes.slice(offset, offset + length);
    this.frames.push({ bytes, view: new DataView(bytes.buffer), flags, segmentSize });
  }
}

/** Opens a device and waits, driven by its wakes, until `done` likes what came. */
export async function receiveUntil(device: TunTapDevice, done: (received: Keep, code: number) => boolean): Promise<Keep> {
  const keep = new Keep();
  let woken = Promise.withResolvers<void>();
  device.open(() => {
    woken.resolve();
    woken = Promise.withResolvers();
  });
  while (!done(keep, device.receive(keep, 64))) {
    const { promise } = woken;
    device.arm();
    await promise;
  }
  return keep;
}

export interface Segment {
  link: 0 | 14;
  proto: number;
  source: number[];
  destination: number[];
  ports: [number, number];
  size: number;
  dstMac?: Uint8Array;
  srcMac?: Uint8Array;
}

/** An IPv4 packet with UDP or TCP, its payload in two pieces, checksum left to the device when `partial`. */
export function segment(spec: Segment, partial: boolean): TxFrame {
  const { link, proto, size } = spec;
  const transport = proto === 6 ? 20 : 8;
  const frame = new TxFrame();
  frame.reset(link + 20 + transport);
  const { view, bytes } = frame.memory;
  if (link > 0) {
    bytes.set(spec.dstMac ?? new Uint8Array(6).fill(0xff), TX_HEADROOM);
    bytes.set(spec.srcMac ?? new Uint8Array([2, 0, 0, 0, 0, 1]), TX_HEADROOM + 6);
    view.setUint16(TX_HEADROOM + 12, 0x0800);
  }
  const ip = TX_HEADROOM + link, at = ip + 20;
  bytes.set([0x45, 0, 0, 0, 0, 1, 0x40, 0, 64, proto, 0, 0, ...spec.source, ...spec.destination], ip);
  view.setUint16(ip + 2, 20 + transport + size);
  view.setUint16(ip + 10, finish(sum(view, ip, 20, 0)));
  view.setUint16(at, spec.ports[0]);
  view.setUint16(at + 2, spec.ports[1]);
  if (proto === 6) bytes.set([0, 0, 0, 1, 0, 0, 0, 1, 0x50, 0x10, 0xff, 0xff, 0, 0, 0, 0], at + 4);
  else view.setUint16(at + 4, 8 + size);
  // The payload wraps around the end of a ring.
  const ring = new FrameMemory(size + 10);
  const first = size >> 1 & ~1;
  for (let i = 0; i < size; i++) ring.bytes[(size + 10 - first + i) % (size + 10)] = i & 0xff;
  frame.payload = ring;
  [frame.payloadOffset1, frame.payloadLength1, frame.payloadOffset2, frame.payloadLength2] = [
    size + 10 - first,
    first,
    0,
    size - first,
  ];
  const field = at + (proto === 6 ? 16 : 6);
  const pseudo = sum(view, ip + 12, 8, proto + transport + size);
  if (partial) {
    view.setUint16(field, fold(pseudo));
    frame.checksumStart = link + 20;
    frame.checksumOffset = field - at;
  } else {
    const data = sum(ring.view, frame.payloadOffset1, first, sum(ring.view, 0, size - first, pseudo));
    view.setUint16(field, finish(sum(view, at, transport, data)));
  }
  return frame;
}

/** True if the transport checksum of a whole IPv4 packet at `ip` holds. */
export function checksumHolds({ view }: Received, ip: number): boolean {
  const length = view.getUint16(ip + 2) - 20;
  return fold(sum(view, ip + 20, length, sum(view, ip + 12, 8, view.getUint8(ip + 9) + length))) === 0xffff;
}
