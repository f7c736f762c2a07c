/** Instructions byte for byte, as RFC 9669 and clang have them. */
import { assertEquals, assertThrows } from "@std/assert";
import { Assembler, HELPER } from "../../../drivers/xdp/bpf/assembler.ts";

function hex(write: (asm: Assembler) => void, descriptors: number[] = []): string[] {
  const asm = new Assembler();
  write(asm);
  return asm.finish(descriptors).toHex().match(/.{16}/g) ?? [];
}

Deno.test("operations on registers, 32 and 64 bits, with constants and registers", () => {
  assertEquals(hex((asm) => asm.alu64("mov", 0, { immediate: 2 })), ["b700000002000000"]);
  assertEquals(hex((asm) => asm.alu32("mov", 3, { immediate: 0xffffffff })), ["b4030000ffffffff"]);
  assertEquals(hex((asm) => asm.alu64("add", 2, { register: 10 })), ["0fa2000000000000"]);
  assertEquals(hex((asm) => asm.alu64("add", 2, { immediate: -4 })), ["07020000fcffffff"]);
  assertEquals(hex((asm) => asm.alu32("shr", 4, { register: 5 })), ["7c54000000000000"]);
  assertEquals(hex((asm) => asm.alu32("mod", 4, { immediate: 7 })), ["9404000007000000"]);
  assertEquals(hex((asm) => asm.move(6, 1)), ["bf16000000000000"]);
  assertEquals(hex((asm) => asm.move(6, 6)), []);
  assertEquals(hex((asm) => asm.toBigEndian(1, 16)), ["dc01000010000000"]);
  assertEquals(hex((asm) => asm.toBigEndian(1, 32)), ["dc01000020000000"]);
});

Deno.test("loads and stores of every size", () => {
  assertEquals(hex((asm) => asm.load(4, 2, 1, 4)), ["6112040000000000"]);
  assertEquals(hex((asm) => asm.load(2, 3, 2, 12)), ["69230c0000000000"]);
  assertEquals(hex((asm) => asm.load(1, 3, 2, 0)), ["7123000000000000"]);
  assertEquals(hex((asm) => asm.load(8, 0, 10, -8)), ["79a0f8ff00000000"]);
  assertEquals(hex((asm) => asm.store(4, 10, -4, { register: 1 })), ["631afcff00000000"]);
  assertEquals(hex((asm) => asm.store(2, 2, 12, { immediate: 0x81 })), ["6a020c0081000000"]);
  assertEquals(hex((asm) => asm.store(1, 2, 0, { immediate: 9 })), ["7202000009000000"]);
  assertEquals(hex((asm) => asm.store(8, 10, -16, { register: 7 })), ["7b7af0ff00000000"]);
  assertEquals(hex((asm) => asm.atomicAdd64(0, 8, 1)), ["db10080000000000"]);
});

Deno.test("jumps go to their labels, forward and back; a map's descriptor takes two instructions", () => {
  const lines = hex((asm) => {
    const [top, end] = [asm.label(), asm.label()];
    asm.place(top);
    asm.loadMap(1, 1);
    asm.jumpIf64("eq", 0, { immediate: 0 }, end);
    asm.jumpIf32("gt", 3, { register: 4 }, top);
    asm.jump(end);
    asm.call(HELPER.redirectMap);
    asm.place(end);
    asm.exit();
  }, [5, 6]);
  assertEquals(lines, [
    "1811000006000000",
    "0000000000000000",
    "1500030000000000",
    "2e43fcff00000000",
    "0500010000000000",
    "8500000033000000",
    "9500000000000000",
  ]);
});

Deno.test("what can't be assembled is said", () => {
  assertThrows(() => hex((asm) => asm.jump(asm.label())), RangeError, "not placed");
  assertThrows(() => hex((asm) => asm.loadMap(1, 0)), RangeError, "no descriptor for map 0");
  assertThrows(() => hex((asm) => asm.load(1, 0, 1, 40000)), RangeError, "an offset of 40000");
  assertThrows(
    () =>
      hex((asm) => {
        const label = asm.label();
        asm.place(label);
        asm.place(label);
      }),
    Error,
    "placed twice",
  );
});
