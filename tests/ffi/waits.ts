/**
 * A program that waits for an event descriptor, for `hold_test.ts`: `waits.ts [HOW…]`. Prints what it is told.
 *
 * @module
 */

const has = (how: string) => Deno.args.includes(how);
// deno-lint-ignore no-explicit-any
const deno = Deno as any;
// A Deno whose insides are others.
if (has("bare")) deno[deno.internal].core = {};

const { libc } = await import("../../ffi/libc.ts");
const { createWaker, watchEdges } = await import("../../ffi/poll.ts");

const lib = libc();
const fd = lib.eventfd(0, 0x80800);
const write = () => lib.writeBytes(fd, new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 8);
const read = () => lib.readBytes(fd, new Uint8Array(8), 8);
let told = 0;
const begin = performance.now();

if (has("edges")) {
  watchEdges(fd, () => console.log(`told ${++told}`)).unref();
} else {
  const waker = createWaker(fd, () => {
    read();
    console.log(`told ${++told}`);
    if (!has("close")) waker.arm();
    else waker.close();
  });
  waker.arm();
  if (!has("held")) waker.unref();
  // Something else keeps the process alive: what is unref'd is told all the same.
  if (has("events")) {
    for (let i = 1; i <= 3; i++) {
      await new Promise((resolve) => setTimeout(resolve, 60));
      write();
    }
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
  // Held again while the wait is under way: the process lives until it is told and closes.
  if (has("close")) {
    await new Promise((resolve) => setTimeout(resolve, 20));
    waker.ref();
    Deno.unrefTimer(setTimeout(write, 50) as unknown as number);
  }
}
globalThis.addEventListener("unload", () => console.log(performance.now() - begin < 3000 ? "end" : "late"));
