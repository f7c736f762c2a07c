/** Memory by address: our own process's, which is as good as another's. */
import { assertEquals } from "@std/assert";
import { EFAULT, EINVAL, EMSGSIZE, ESRCH } from "../../ffi/errno.ts";
import { addressOf, libc } from "../../ffi/libc.ts";
import { readProcess, readProcessText, TRANSFER_MAX, writeProcess } from "../../ffi/process_memory.ts";

libc();
const pid = Deno.pid;

Deno.test("reads and writes of every size arrive whole", () => {
  const there = new Uint8Array(70_000).map((_, i) => i * 7 + (i >> 8));
  const at = addressOf(there);
  for (const length of [0, 1, 40, 255, 256, 257, 4096, 65_536]) {
    const here = new Uint8Array(length);
    assertEquals(readProcess(pid, at + 3, here), 0);
    assertEquals(here, there.slice(3, 3 + length));
    here.fill(length & 255);
    assertEquals(writeProcess(pid, at + 3, here), 0);
    assertEquals(there.slice(3, 3 + length), here);
  }
});

Deno.test("bad addresses, sizes and processes are errnos", () => {
  const bytes = new Uint8Array(8);
  for (const address of [0, 1, -1, 4096, 0.5, NaN, Infinity, 2 ** 47 - 4, 2 ** 47, 2 ** 53, 2 ** 64]) {
    assertEquals(readProcess(pid, address, bytes), -EFAULT, String(address));
    assertEquals(writeProcess(pid, address, bytes), -EFAULT, String(address));
  }
  assertEquals(readProcess(pid, 1 << 20, new Uint8Array(TRANSFER_MAX + 1)), -EMSGSIZE);
  assertEquals(readProcess(0, 1 << 20, bytes), -EINVAL);
  assertEquals(readProcess(0x7fffffff, 1 << 20, bytes), -ESRCH);
});

Deno.test("texts end at their zero, wherever it stands, and not beyond the most that is wanted", () => {
  const room = new Uint8Array(5000 + 256);
  // Once where a piece begins, and once behind it.
  for (const behind of [0, 7]) textsEnd(room.subarray(-addressOf(room) & 255).subarray(behind));
});

function textsEnd(there: Uint8Array<ArrayBuffer>): void {
  const at = addressOf(there);
  for (const end of [0, 1, 100, 255, 256, 257, 4095]) {
    there.fill(97);
    there[end] = 0;
    assertEquals(readProcessText(pid, at, 4096), there.slice(0, end));
  }
  there.fill(97);
  there[4096] = 0;
  assertEquals(readProcessText(pid, at, 4096), there.slice(0, 4096));
  assertEquals(readProcessText(pid, at, 4095), -EMSGSIZE);
  assertEquals(readProcessText(pid, 5, 10), -EFAULT);
}
