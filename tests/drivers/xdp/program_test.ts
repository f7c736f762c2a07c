/** What the subset refuses, what its parts do, and the text that comes of it. */
import { assert, assertEquals, assertStringIncludes, assertThrows } from "@std/assert";
import { compileProgram } from "../../../drivers/xdp/bpf/compile.ts";
import { checkMapSpec, type MapSpec } from "../../../drivers/xdp/map_kinds.ts";
import {
  defineProgram,
  type ProgramBuilder,
  ProgramError,
  type Value,
  type Window,
  type XdpProgram,
} from "../../../drivers/xdp/program.ts";
import { filterProgram } from "../../../drivers/xdp/programs/filter.ts";
import { physicalProgram, routerProgram } from "../../../drivers/xdp/programs/vlan_mux.ts";
import { UserRun } from "./both.ts";
import { MapModel } from "./map_model.ts";

const TABLE: MapSpec = { name: "table", kind: "array", keySize: 4, valueSize: 16, maxEntries: 4 };
const NEXT: MapSpec = { name: "next", kind: "prog_array", keySize: 4, valueSize: 4, maxEntries: 4 };
const PORTS: MapSpec = { name: "ports", kind: "devmap", keySize: 4, valueSize: 4, maxEntries: 4 };

function make(describe: (p: ProgramBuilder) => void, maps: MapSpec[] = [TABLE, NEXT, PORTS]): XdpProgram {
  return defineProgram("test", maps, describe);
}

/** Everything that can't be a program, and what is said about it. */
const REFUSED: [string, (p: ProgramBuilder) => void][] = [
  ["a way to its end without an action", () => {}],
  ["a way to its end without an action", (p) => p.if(p.eq(1, 2), () => p.drop())],
  ["a way to its end without an action", (p) => p.loop(2, () => p.drop())],
  ['"return" can\'t be reached', (p) => (p.drop(), p.pass())],
  ['"input" can\'t be reached', (p) => (p.if(p.eq(1, 2), () => p.drop(), () => p.pass()), p.ifindex())],
  ["what happens without the window must end with an action or a break", (p) => p.window(0, 14, () => {})],
  ["what happens without room must end with an action or a break", (p) => p.adjustHead(4, () => {})],
  ["what happens without an entry must end with an action or a break", (p) => p.redirectMap(PORTS, 0, () => {})],
  ["a break outside a loop", (p) => p.break()],
  ["a loop of 0 rounds", (p) => p.loop(0, () => {})],
  ["a loop of 65 rounds", (p) => p.loop(65, () => {})],
  ["a frame adjusted inside a loop", (p) => p.loop(2, () => p.adjustHead(4, () => p.drop()))],
  ["the head adjusted by 0.5", (p) => p.adjustHead(0.5, () => p.drop())],
  ["the tail adjusted by 99999", (p) => p.adjustTail(99999, () => p.drop())],
  ["a window of 0 bytes", (p) => p.window(0, 0, () => p.drop())],
  ["a window of 257 bytes", (p) => p.window(0, 257, () => p.drop())],
  ["a window at -1", (p) => p.window(-1, 4, () => p.drop())],
  ["a window at 32768", (p) => p.window(32768, 4, () => p.drop())],
  ["2 bytes at 13 of a window of 14", (p) => p.window(0, 14, () => p.drop()).u16(13)],
  ["1 bytes at -1 of a window of 14", (p) => p.window(0, 14, () => p.drop()).u8(-1)],
  ["12 bytes at 4 of a window of 14", (p) => p.window(0, 14, () => p.drop()).move(4, 0, 12)],
  ["0.5 isn't a number of 32 bits", (p) => p.add(0.5, 1)],
  ["4294967296 isn't a number of 32 bits", (p) => p.add(2 ** 32, 1)],
  ['it has no map "other"', (p) => p.count({ ...TABLE, name: "other" }, 0)],
  ["the key has 4 bytes, not 2", (p) => p.lookup(TABLE, [{ be16: 1 }], () => {})],
  ["the key: a piece of 2 bytes at 1", (p) => p.lookup(TABLE, [{ u8: 1 }, { be16: 1 }], () => {})],
  ["the value has 16 bytes, not 4", (p) => p.update(TABLE, [{ u32: 1 }], [{ u32: 1 }])],
  ["8 bytes at 12 of a value of 16", (p) => p.lookup(TABLE, [{ u32: 0 }], (entry) => entry.count(12))],
  ["4 bytes at 16 of a value of 16", (p) => p.lookup(TABLE, [{ u32: 0 }], (entry) => entry.u32(16))],
  ["a devmap can't be looked up by a program", (p) => p.lookup(PORTS, [{ u32: 0 }], () => {})],
  ["a redirect by a array", (p) => p.redirectMap(TABLE, 0, () => p.drop())],
  ["a tail call by a array", (p) => p.tailCall(TABLE, 0)],
];

for (const [why, describe] of REFUSED) {
  Deno.test(`refused: ${why} (${describe.toString().slice(7, 60).replace(/\s+/g, " ")})`, () => {
    const error = assertThrows(() => make(describe), ProgramError, why);
    assertEquals(error.code, "EPROGRAM");
  });
}

Deno.test("values and windows are good in their block only, and windows until the frame is adjusted", () => {
  assertThrows(
    () =>
      make((p) => {
        let kept: Value | undefined;
        p.if(p.eq(p.ifindex(), 1), () => void (kept = p.queue()));
        p.if(p.eq(kept!, 1), () => p.drop());
        p.pass();
      }),
    ProgramError,
    "a value is used outside the block that it was made in",
  );
  assertThrows(
    () =>
      make((p) => {
        const window = p.window(0, 14, () => p.drop());
        p.adjustHead(4, () => p.drop());
        p.redirect(window.u16(12));
      }),
    ProgramError,
    "a window is used after the frame was adjusted",
  );
  assertThrows(
    () =>
      make((p) => {
        const window = p.window(0, 14, () => p.drop());
        p.adjustHead(4, () => p.redirect(window.u16(12)));
        p.pass();
      }),
    ProgramError,
    "a window is used after the frame was adjusted",
  );
  // A way that adjusted the frame and ended doesn't spoil the others.
  make((p) => {
    const window = p.window(0, 14, () => p.drop());
    p.if(p.eq(window.u16(12), 5), () => {
      p.adjustHead(4, () => p.drop());
      p.tx();
    });
    p.redirect(window.u16(12));
  });
  let other: Window | undefined;
  make((p) => {
    other = p.window(0, 14, () => p.drop());
    p.pass();
  });
  assertThrows(() => make((p) => p.redirect(other!.u16(12))), ProgramError);
});

Deno.test("names and maps that can't be", () => {
  const describe = (p: ProgramBuilder) => p.pass();
  for (const name of ["", "a b", "0123456789abcdef", "a\n//"]) {
    assertThrows(() => defineProgram(name, [], describe), TypeError, "Invalid program name");
  }
  assertThrows(() => make(describe, [TABLE, TABLE]), TypeError, "Two maps of one name");
  const bad: [Partial<MapSpec>, string][] = [
    [{ name: "a b" }, "its name"],
    [{ kind: "nothing" as "array" }, 'no kind "nothing"'],
    [{ kind: "toString" as "array" }, 'no kind "toString"'],
    [{ keySize: 8 }, "the key of a array has 4 bytes"],
    [{ valueSize: 0 }, "a value of 0 bytes"],
    [{ maxEntries: 0.5 }, "0.5 entries"],
    [{ kind: "devmap" }, "the value of a devmap has 4 bytes"],
    [{ kind: "lpm_trie" }, "4 bytes of prefix length"],
    [{ kind: "percpu_array", valueSize: 12 }, "a multiple of 8"],
  ];
  for (const [change, why] of bad) assertThrows(() => checkMapSpec({ ...TABLE, ...change }), TypeError, why);
  checkMapSpec(TABLE);
});

Deno.test("a program is bound to maps of its names and shapes only", () => {
  const program = make((p) => p.pass(), [TABLE]);
  assertThrows(() => program.instantiate([]), TypeError, 'map "table" is missing');
  assertThrows(
    () => program.instantiate([new MapModel({ ...TABLE, maxEntries: 5 })]),
    TypeError,
    'map "table" has another shape',
  );
});

Deno.test("the function's text has numbers and names of its own only, and a debugger finds it", () => {
  const program = make((p) => p.pass(), [TABLE]);
  assert(!program.source().includes("table"));
  assertStringIncludes(program.source(), "return 2;");
});

Deno.test("the programs keep well inside the stack, and have the size that they had", () => {
  const sizes = [physicalProgram(), routerProgram(), filterProgram()].map((program) => {
    const { length, stack } = compileProgram(program);
    return [program.name, length <= 1200, stack <= 128];
  });
  assertEquals(sizes, [["physical", true, true], ["router", true, true], ["filter", true, true]]);
});

Deno.test("more locals than the stack has room for is an error before the kernel is asked", () => {
  const program = make((p) => {
    const values = Array.from({ length: 80 }, () => p.ifindex());
    for (const value of values) p.if(p.eq(value, 7), () => p.drop());
    p.pass();
  });
  assertThrows(() => compileProgram(program), RangeError, 'Cannot compile "test": ');
  const long = make((p) => {
    for (let i = 0; i < 3000; i++) p.xor(p.ifindex(), i);
    p.pass();
  });
  assertThrows(() => compileProgram(long), RangeError, "more than 4096 instructions");
});

Deno.test("adjust_head and adjust_tail: to their bounds and no further, fresh tail is zero, 14 bytes stay", () => {
  const frame = Uint8Array.from({ length: 20 }, (_, i) => i + 1);
  const head = (delta: number) => new UserRun(make((p) => (p.adjustHead(delta, () => p.drop()), p.pass()), []));
  const tail = (delta: number) => new UserRun(make((p) => (p.adjustTail(delta, () => p.drop()), p.pass()), []));
  assertEquals(head(6).frame(frame, 1).frame, frame.slice(6));
  assertEquals(head(7).frame(frame, 1).action, 1);
  assertEquals(head(-8).frame(frame, 1, 8).frame.slice(8), frame);
  assertEquals(head(-9).frame(frame, 1, 8).action, 1);
  assertEquals(tail(-6).frame(frame, 1).frame, frame.slice(0, 14));
  assertEquals(tail(-7).frame(frame, 1).action, 1);
  assertEquals(tail(3).frame(frame, 1).frame, Uint8Array.of(...frame, 0, 0, 0));
  assertEquals(tail(3500).frame(frame, 1).frame.length, 3520);
  assertEquals(tail(3501).frame(frame, 1).action, 1);
});
