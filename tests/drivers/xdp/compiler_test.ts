/** Random programs: the function and the bytecode made of one description do the same, and the verifier takes every one. */
import { assert, assertEquals } from "@std/assert";
import { BpfError } from "../../../ffi/bpf.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { corpus, mutate, randomSource } from "../../testing/frames.ts";
import { long } from "../../testing/namespace.ts";
import { BothRun, le32, sameBytes } from "./both.ts";
import { FRAME_MAX } from "./random_frames.ts";
import { COUNTS, HASH, MORE_TARGETS, randomProgram, TABLE, TARGETS } from "./random_program.ts";

/** It takes about a second. */
const PROGRAMS = long ? 20_000 : 1000;
const FRAMES = 20;

function load(seed: number): BothRun {
  const program = randomProgram(randomSource(seed));
  try {
    return new BothRun(program);
  } catch (error) {
    const log = error instanceof BpfError ? error.message : "";
    throw new Error(`program of seed ${seed}: ${log}\n${program.source()}`, { cause: error });
  }
}

function compare(seed: number, frames: readonly { frame: Uint8Array<ArrayBuffer> }[], actions: number[]): void {
  using both = load(seed);
  for (const map of [TARGETS, MORE_TARGETS]) for (const key of [0, 2, 3]) both.put(map, le32(key), le32(1));
  const random = randomSource(seed);
  for (let i = 0; i < FRAMES; i++) {
    const chosen = frames[random() % frames.length].frame.slice(0, 14 + random() % 80);
    const frame = mutate(chosen, random).slice(0, FRAME_MAX);
    if (frame.length < 14) continue;
    const user = both.user.frame(frame, 1);
    const kernel = both.test.run(frame, { ifindex: 1 });
    const where = () => `seed ${seed}, frame ${i}: ${frame.toHex()}\n${both.program.source()}`;
    assert(typeof kernel !== "number", `${kernel}`);
    if (kernel.result !== user.action) assertEquals(user.action, kernel.result, where());
    if (!sameBytes(kernel.output, user.frame)) assertEquals(user.frame, Uint8Array.from(kernel.output), where());
    actions[user.action]++;
  }
  for (const spec of [TABLE, HASH, COUNTS]) {
    for (const key of both.loaded.map(spec.name).keys()) {
      const [user, kernel] = [both.user.maps.get(spec.name)!.get(key), both.kernelValue(spec, key)];
      assertEquals(user, kernel, `seed ${seed}, ${spec.name} ${key.toHex()}`);
    }
  }
}

Deno.test({
  name: `${PROGRAMS} random programs over ${FRAMES} frames each: the same bytes, actions and maps from both`,
  ignore: lacksBpf(),
  fn() {
    const frames = corpus();
    const actions = [0, 0, 0, 0, 0];
    for (let seed = 1; seed <= PROGRAMS; seed++) compare(seed, frames, actions);
    assert(actions.every((count) => count > PROGRAMS / 10), `${actions}`);
  },
});
