/** Running a function on one frame, with garbage around it. */
import { type PortProgram, runProgram, XdpContext } from "../../../drivers/xdp/context.ts";
import { FrameMemory } from "../../../stack/device.ts";

export interface Outcome {
  action: number;
  context: XdpContext;
  /** The frame as it is afterwards. */
  bytes: Uint8Array<ArrayBuffer>;
  error: unknown;
}

const GARBAGE = 0xa5;

/** A context with a copy of `frame`, and room around it. Garbage beyond the room must stay. */
export function contextOf(frame: Uint8Array, headroom = 256, tailroom = 64): XdpContext {
  const memory = new FrameMemory(16 + headroom + frame.length + tailroom + 16);
  memory.bytes.fill(GARBAGE);
  const at = 16 + headroom;
  memory.bytes.set(frame, at);
  const context = new XdpContext();
  context.reset(memory, at, at + frame.length, at - headroom, at + frame.length + tailroom);
  return context;
}

/** The frame that a context holds. */
export function bytesOf(context: XdpContext): Uint8Array<ArrayBuffer> {
  return context.memory.bytes.slice(context.offset, context.end);
}

/** True if nothing was written outside of the room. */
export function roomHeld(context: XdpContext): boolean {
  const { bytes } = context.memory;
  return bytes.subarray(0, context.headStart).every((byte) => byte === GARBAGE) &&
    bytes.subarray(context.tailEnd).every((byte) => byte === GARBAGE);
}

export function run(program: PortProgram, frame: Uint8Array, ifindex = 1, headroom = 256): Outcome {
  const context = contextOf(frame, headroom);
  context.ifindex = ifindex;
  let thrown: unknown = null;
  const action = runProgram(program, context, (error) => thrown = error);
  return { action, context, bytes: bytesOf(context), error: thrown };
}

const MACS = [2, 0, 0, 0, 0, 0xbb, 2, 0, 0, 0, 0, 0xaa];
const PAYLOAD = Array.from({ length: 46 }, (_, i) => 0x10 + i);

/** A frame with tags (type and TCI), the outer one first. */
export function tagged(tags: [number, number][], type: number[] = [0x08, 0x00], payload: number[] = PAYLOAD) {
  const words = tags.flatMap(([tpid, tci]) => [tpid >> 8, tpid & 255, tci >> 8, tci & 255]);
  return Uint8Array.from([...MACS, ...words, ...type, ...payload]);
}
