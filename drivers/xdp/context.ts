/**
 * What a program in user space is given: a frame in memory with room around it, and the calls that the kernel's programs have
 * (`bpf_xdp_adjust_head`, `bpf_redirect`, …) with the kernel's limits and results.
 *
 * ```text
 *  headStart        offset                   end             tailEnd
 *     | headroom      | frame                    | tailroom      |
 *     +---------------+--------------------------+---------------+
 * ```
 *
 * A program may be one of `defineProgram` or any function of that shape, written by hand.
 *
 * @module
 */
import { EINVAL } from "../../stack/codes.ts";
import { FrameMemory } from "../../stack/device.ts";
import { FRAME_MIN, XDP_ABORTED, XDP_REDIRECT } from "./ir.ts";
import type { MapMemory } from "./map_kinds.ts";
import type { ProgramContext } from "./program.ts";

/** Actions there are; what a program returns beyond them counts as aborted. */
export const XDP_ACTIONS = 5;
/** Bytes before a frame that a program may take, as in the kernel. */
export const XDP_HEADROOM = 256;
/** Tail calls that one frame may cause (`MAX_TAIL_CALL_CNT`). */
export const TAIL_CALLS_MAX = 33;

/**
 * What a port runs: looks at the frame from `offset` to `end` of `view`, may change it, and returns an action.
 *
 * It must be synchronous, and should make no object: it is called for every frame. After {@link adjustHead} or {@link adjustTail}
 * the frame lies at `context.offset` to `context.end`. What it throws loses this one frame (`XDP_ABORTED`).
 */
export type PortProgram = (
  view: DataView<ArrayBuffer>,
  offset: number,
  end: number,
  ifindex: number,
  context: XdpContext,
) => number;

/** The frame that a program works on. One object serves all frames. */
export class XdpContext implements ProgramContext {
  /** Where the frame lies. */
  memory: FrameMemory = new FrameMemory(0);
  /** The lowest offset that {@link adjustHead} may go to. */
  headStart = 0;
  /** The highest end that {@link adjustTail} may go to. */
  tailEnd = 0;
  /** Where the frame begins. */
  offset = 0;
  /** Where the frame ends. */
  end = 0;
  /** Number of the interface that the frame came in by. */
  ifindex = 0;
  /** The receive queue that the frame came by. */
  queue = 0;
  /** How many tail calls brought the frame here. */
  tailCalls = 0;
  /** With the action REDIRECT: the interface. */
  redirectIfindex = 0;
  /** With the action REDIRECT: the map that it goes by; null for a redirect by ifindex. */
  redirectMap: MapMemory | null = null;
  /** With the action REDIRECT and a map: the key there. */
  redirectKey = 0;

  /** Begins with a new frame. */
  reset(memory: FrameMemory, offset: number, end: number, headStart: number, tailEnd: number): void {
    this.memory = memory;
    this.offset = offset;
    this.end = end;
    this.headStart = headStart;
    this.tailEnd = tailEnd;
    this.redirectIfindex = 0;
    this.tailCalls = 0;
  }
}

/**
 * Moves the frame's beginning: back (negative) takes headroom, forward cuts bytes off. New bytes hold whatever was there.
 *
 * @returns 0, or -22 (EINVAL), with nothing changed, past the headroom or when less than 14 bytes would be left
 */
export function adjustHead(context: XdpContext, delta: number): number {
  const offset = context.offset + (delta | 0);
  if (offset < context.headStart || offset > context.end - FRAME_MIN) return EINVAL;
  context.offset = offset;
  return 0;
}

/**
 * Moves the frame's end: forward takes tailroom (new bytes are zero), back cuts bytes off.
 *
 * @returns 0, or -22 (EINVAL), with nothing changed, past the tailroom or when less than 14 bytes would be left
 */
export function adjustTail(context: XdpContext, delta: number): number {
  const end = context.end + (delta | 0);
  if (end > context.tailEnd || end < context.offset + FRAME_MIN) return EINVAL;
  const { bytes } = context.memory;
  for (let at = context.end; at < end; at++) bytes[at] = 0;
  context.end = end;
  return 0;
}

/**
 * Sends the frame to the interface of that number; if there is none, the frame is lost and counted.
 *
 * @param flags must be 0
 * @returns the action to return
 */
export function redirect(context: XdpContext, ifindex: number, flags = 0): number {
  if (flags !== 0) return XDP_ABORTED;
  context.redirectIfindex = ifindex;
  context.redirectMap = null;
  return XDP_REDIRECT;
}

/** A map that names interfaces. */
export interface RedirectTargets extends MapMemory {
  /** The interface's number, or 0 for none. */
  ifindexAt(key: number): number;
}

/**
 * Sends the frame to the interface that the map names at `key`.
 *
 * @param flags the action to return if the map names none: 0 to 3
 * @returns the action to return
 */
export function redirectMap(context: XdpContext, map: RedirectTargets, key: number, flags: number = XDP_ABORTED): number {
  if ((flags & ~3) !== 0) return XDP_ABORTED;
  const ifindex = map.ifindexAt(key);
  if (ifindex === 0) return flags;
  context.redirectIfindex = ifindex;
  context.redirectMap = map;
  context.redirectKey = key;
  return XDP_REDIRECT;
}

/**
 * Goes on with another program: `const action = tailCall(context, map, 0); if (action >= 0) return action;`
 *
 * @param map a `prog_array`
 * @returns what the other program returned; -1, and this program goes on, if the map names none or after 33 calls
 */
export function tailCall(context: XdpContext, map: MapMemory, key: number): number {
  const program = map.programs?.[key];
  if (program === undefined || program === null || context.tailCalls >= TAIL_CALLS_MAX) return -1;
  context.tailCalls++;
  const action = program(context.memory.view, context.offset, context.end, context.ifindex, context);
  // A call that was made never comes back, whatever the program returned.
  return isAction(action) ? action : XDP_ABORTED;
}

/** True for the number of one of the five actions. */
export function isAction(action: number): boolean {
  return action === (action | 0) && action >= 0 && action < XDP_ACTIONS;
}

/**
 * Runs a program on a frame, and returns one of the five actions: `XDP_ABORTED` also when it threw or returned something else.
 * `onError` is told what was thrown.
 */
export function runProgram(program: PortProgram, context: XdpContext, onError: (error: unknown) => void): number {
  try {
    const action = program(context.memory.view, context.offset, context.end, context.ifindex, context);
    return isAction(action) ? action : XDP_ABORTED;
  } catch (error) {
    onError(error);
    return XDP_ABORTED;
  }
}
