/**
 * One program, run by both: as a function over memory, and by the kernel over the same bytes.
 *
 * @module
 */
import { LoadedProgram } from "../../../drivers/xdp/bpf/load.ts";
import { isPerCpu, type MapSpec } from "../../../drivers/xdp/map_kinds.ts";
import type { ProgramContext, XdpFunction, XdpProgram } from "../../../drivers/xdp/program.ts";
import { BpfMap, possibleCpus } from "../../../ffi/bpf.ts";
import { TestRun } from "../../../ffi/bpf_program.ts";
import { MapModel } from "./map_model.ts";

/** What the kernel has before a frame for programs: XDP_PACKET_HEADROOM less `struct xdp_frame`. */
export const KERNEL_HEADROOM = 216;
/** Where a frame begins, and how large the kernel's page is without what it keeps at its end. */
const FRAME_AT = 256;
const HARD_END = 4096 - 320;

export interface Outcome {
  action: number;
  frame: Uint8Array;
  /** Of a redirect in user space, else 0. */
  ifindex: number;
}

/** A program in user space. */
export class UserRun {
  readonly maps: Map<string, MapModel>;
  readonly run: XdpFunction;
  readonly bytes = new Uint8Array(8192);
  readonly #view = new DataView(this.bytes.buffer);
  readonly context: ProgramContext = {
    headStart: 0,
    tailEnd: 0,
    queue: 0,
    tailCalls: 0,
    offset: 0,
    end: 0,
    redirectIfindex: 0,
    redirectMap: null,
    redirectKey: 0,
  };

  constructor(program: XdpProgram, shared: MapModel[] = []) {
    this.maps = new Map(program.maps.map((spec) => {
      return [spec.name, shared.find((map) => map.spec.name === spec.name) ?? new MapModel(spec)];
    }));
    this.run = program.instantiate([...this.maps.values()]);
  }

  frame(input: Uint8Array, ifindex: number, headroom = KERNEL_HEADROOM): Outcome {
    const { context } = this;
    // What stands around the frame must not matter, and must not change.
    this.bytes.fill(0xa5);
    this.bytes.set(input, FRAME_AT);
    context.offset = FRAME_AT;
    context.end = FRAME_AT + input.length;
    context.headStart = FRAME_AT - headroom;
    context.tailEnd = HARD_END;
    context.tailCalls = 0;
    context.redirectIfindex = 0;
    context.redirectMap = null;
    const action = this.run(this.#view, context.offset, context.end, ifindex, context);
    return { action, frame: this.bytes.slice(context.offset, context.end), ifindex: action === 4 ? context.redirectIfindex : 0 };
  }
}

/** A program in the kernel, beside itself in user space, with the same in both's maps. */
export class BothRun implements Disposable {
  readonly user: UserRun;
  readonly loaded: LoadedProgram;
  readonly test: TestRun;

  constructor(readonly program: XdpProgram) {
    this.user = new UserRun(program);
    this.loaded = LoadedProgram.load(program);
    this.test = new TestRun(this.loaded.program);
  }

  /** Puts the same into both's map. */
  put(spec: MapSpec, key: Uint8Array<ArrayBuffer>, value: Uint8Array<ArrayBuffer>): void {
    const codes = [this.user.maps.get(spec.name)!.put(key, value), this.loaded.map(spec.name).update(key, value)];
    if (codes.some((code) => code !== 0)) throw new Error(`${spec.name}: ${codes}`);
  }

  /** The kernel's value under a key, per-CPU copies added up as counters of 64 bits. */
  kernelValue(spec: MapSpec, key: Uint8Array<ArrayBuffer>): Uint8Array | null {
    const map: BpfMap = this.loaded.map(spec.name);
    const value = map.lookup(key);
    if (value === null || !isPerCpu(spec.kind)) return value;
    const sums = new BigUint64Array(spec.valueSize / 8);
    const all = new BigUint64Array(value.buffer);
    for (let i = 0; i < sums.length * possibleCpus(); i++) sums[i % sums.length] += all[i];
    return new Uint8Array(sums.buffer);
  }

  [Symbol.dispose](): void {
    this.loaded.close();
  }
}

/** 32 bits, little-endian. */
export function le32(...values: number[]): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value, true);
  return bytes;
}

/** Whether two runs of bytes are the same, without an object. */
export function sameBytes(a: Uint8Array, b: Uint8Array): boolean {
  if (a.length !== b.length) return false;
  for (let i = 0; i < a.length; i++) if (a[i] !== b[i]) return false;
  return true;
}
