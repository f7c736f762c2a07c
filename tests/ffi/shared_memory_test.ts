/** Memory that is mapped: what is left of it once it was given back. */
import { assertEquals, assertThrows } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { createSharedMemory, Mapping } from "../../ffi/shared_memory.ts";

// Loaded before the test, so that it isn't said to have left it open.
libc();

Deno.test("shared memory: no view reaches a mapping that was given back", () => {
  using file = createSharedMemory("test", 4096);
  const mapping = Mapping.map(file.fd, 4096);
  const view = new DataView(mapping.bytes.buffer);
  const part = mapping.bytes.subarray(8, 16);
  const words = new Int32Array(mapping.bytes.buffer);
  view.setUint8(9, 7);
  assertEquals(part[1], 7);
  mapping.unmap();
  part[1] = 9;
  assertEquals([part.length, part[1], words.length, mapping.bytes.length], [0, undefined, 0, 0] as unknown[]);
  assertThrows(() => view.getUint8(9), TypeError, "detached");
  assertThrows(() => Atomics.load(words, 0));
  mapping.unmap();
  // The file is there still.
  using again = Mapping.map(file.fd, 4096);
  assertEquals(again.bytes[9], 7);
});
