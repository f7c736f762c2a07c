/** Parts of the subset that are best seen in both places at once: tail calls, loops left early, maps of another shape. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { LoadedProgram } from "../../../drivers/xdp/bpf/load.ts";
import type { MapSpec } from "../../../drivers/xdp/map_kinds.ts";
import { defineProgram, type ProgramBuilder, XDP_PASS, type XdpProgram } from "../../../drivers/xdp/program.ts";
import { BpfMap } from "../../../ffi/bpf.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { BothRun, le32 } from "./both.ts";

const TABLE: MapSpec = { name: "table", kind: "array", keySize: 4, valueSize: 16, maxEntries: 4 };
const NEXT: MapSpec = { name: "next", kind: "prog_array", keySize: 4, valueSize: 4, maxEntries: 4 };

function make(describe: (p: ProgramBuilder) => void, maps: MapSpec[] = [TABLE]): XdpProgram {
  return defineProgram("test", maps, describe);
}

Deno.test({
  name: "a value outlives a call in a block that leaves a loop before its own end",
  ignore: lacksBpf(),
  fn() {
    // Found by chance: the block returns at its end, so that the call seemed to be of no matter to what comes after the loop.
    const program = make((p) => {
      const kept = p.add(p.ifindex(), 40);
      p.loop(2, (index) => {
        p.if(p.eq(index, 0), () => {
          p.count(TABLE, 0);
          p.window(1000, 1, () => p.break());
          p.drop();
        });
      });
      const frame = p.window(0, 14, () => p.drop());
      frame.setU8(0, kept);
      p.pass();
    });
    using both = new BothRun(program);
    const kernel = both.test.run(new Uint8Array(20), { ifindex: 1 });
    assert(typeof kernel !== "number");
    assertEquals([kernel.result, kernel.output[0]], [XDP_PASS, 41]);
    assertEquals(both.user.frame(new Uint8Array(20), 1).frame[0], 41);
  },
});

/** Writes its number into the frame's first byte, and goes on with the program at the index that the second byte names. */
function chained(): XdpProgram {
  return make((p) => {
    const frame = p.window(0, 14, () => p.drop());
    frame.setU8(0, p.add(frame.u8(0), 1));
    p.tailCall(NEXT, frame.u8(1));
    p.tx();
  }, [NEXT]);
}

Deno.test({
  name: "tail calls: to another program, to nothing, and 33 times at most, in both",
  ignore: lacksBpf(),
  fn() {
    using both = new BothRun(chained());
    const pass = make((p) => p.pass(), []);
    using passing = LoadedProgram.load(pass);
    const map: BpfMap = both.loaded.map(NEXT.name);
    assertEquals(map.update(le32(1), le32(passing.program.fd)), 0);
    assertEquals(map.update(le32(2), le32(both.loaded.program.fd)), 0);
    both.user.maps.get(NEXT.name)!.programs.push(null, pass.instantiate(), both.user.run);
    const cases = [[0, 3, 1], [1, XDP_PASS, 1], [2, 3, 34], [3, 3, 1], [200, 3, 1]];
    for (const [index, action, rounds] of cases) {
      const frame = Uint8Array.from({ length: 20 }, (_, i) => i === 1 ? index : 0);
      const user = both.user.frame(frame, 1);
      const kernel = both.test.run(frame);
      assert(typeof kernel !== "number");
      assertEquals([user.action, user.frame[0]], [action, rounds], `user space, ${index}`);
      assertEquals([kernel.result, kernel.output[0]], [action, rounds], `the kernel, ${index}`);
    }
    // A program array that holds the program which holds it would keep both for ever.
    assertEquals(map.delete(le32(2)), 0);
  },
});

Deno.test({
  name: "a shared map of another shape, and a program that the verifier refuses, leave nothing behind",
  ignore: lacksBpf(),
  fn() {
    using other = BpfMap.create({ name: "table", type: 2, keySize: 4, valueSize: 8, maxEntries: 4 });
    const program = make((p) => p.pass(), [TABLE]);
    assertThrows(() => LoadedProgram.load(program, [other]), TypeError, "another shape");
    const before = [...Deno.readDirSync("/proc/self/fd")].length;
    for (let i = 0; i < 10; i++) assertThrows(() => LoadedProgram.load(program, [other]));
    assertEquals([...Deno.readDirSync("/proc/self/fd")].length, before);
  },
});

Deno.test({
  name: "a counter per CPU grows by constants of all sizes, without a sign",
  ignore: lacksBpf(),
  fn() {
    const COUNTS: MapSpec = { name: "counts", kind: "percpu_array", keySize: 4, valueSize: 8, maxEntries: 5 };
    const steps = [0, 1, 0x7fffffff, 0x80000000, 0xffffffff];
    const program = make((p) => {
      for (const [i, by] of steps.entries()) p.count(COUNTS, i, by);
      p.pass();
    }, [COUNTS]);
    using both = new BothRun(program);
    for (let run = 0; run < 2; run++) both.test.run(new Uint8Array(20), { ifindex: 1 });
    assertEquals(steps.map((_, i) => both.loaded.map(COUNTS.name).counter(le32(i))), steps.map((by) => 2n * BigInt(by)));
  },
});
