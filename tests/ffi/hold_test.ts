/** Wakers that let the process end, with Deno's insides and without them. */
import { assertEquals } from "@std/assert";
import { libc } from "../../ffi/libc.ts";
import { createWaker, Hold, wakersIdle } from "../../ffi/poll.ts";

/** Opened before the tests: it stays open. */
const lib = libc();

/** What `waits.ts` printed before it ended, "alive" as the last line if it had to be ended. */
async function waits(...how: string[]): Promise<string[]> {
  const path = new URL("waits.ts", import.meta.url).pathname;
  const child = new Deno.Command(Deno.execPath(), { args: ["run", "-A", path, ...how], stdout: "piped" }).spawn();
  let alive = false;
  const timer = setTimeout(() => {
    alive = true;
    child.kill("SIGKILL");
  }, how.includes("held") ? 1500 : 20_000);
  const { stdout } = await child.output();
  clearTimeout(timer);
  const lines = new TextDecoder().decode(stdout).trim().split("\n").filter((line) => line !== "");
  return alive ? [...lines, "alive"] : lines;
}

for (const deno of [[], ["bare"]]) {
  const where = deno.length === 0 ? "" : ", in a Deno without the insides that it needs";

  Deno.test(`a waker keeps the process alive, and one that is unref'd doesn't${where}`, async () => {
    const [held, released, edges] = await Promise.all([waits("held", ...deno), waits(...deno), waits("edges", ...deno)]);
    assertEquals([held, released.at(-1), edges.at(-1)], [["alive"], "end", "end"]);
  });

  Deno.test(`what is unref'd is told while something else keeps the process alive${where}`, async () => {
    assertEquals(await waits("events", ...deno), ["told 1", "told 2", "told 3", "end"]);
  });

  Deno.test(`ref while the wait is under way keeps the process alive until the end${where}`, async () => {
    assertEquals(await waits("close", ...deno), ["told 1", "end"]);
  });
}

Deno.test("wakers with one hold are let go together, also those that come later; those of others aren't", async () => {
  const fds = Array.from({ length: 3 }, () => lib.eventfd(0, 0x80800));
  const hold = new Hold();
  const told: number[] = [];
  let done = Promise.withResolvers<void>();
  const make = (at: number, ...more: Hold[]) =>
    createWaker(fds[at], () => {
      told.push(at);
      done.resolve();
    }, ...more);
  const wakers = [make(0, hold), make(1)];
  wakers[0].arm();
  hold.unref();
  hold.unref();
  wakers.push(make(2, hold));
  wakers[2].arm();
  for (const at of [2, 0, 1]) {
    wakers[at].arm();
    done = Promise.withResolvers();
    // The test itself has to live meanwhile.
    const alive = setTimeout(() => done.reject(new Error(`${at} wasn't told`)), 5000);
    lib.writeBytes(fds[at], new Uint8Array([1, 0, 0, 0, 0, 0, 0, 0]), 8);
    await done.promise;
    clearTimeout(alive);
  }
  assertEquals(told, [2, 0, 1]);
  // Closed although it doesn't keep the process alive: the wait ends, and can be awaited.
  lib.readBytes(fds[0], new Uint8Array(8), 8);
  wakers[0].arm();
  for (const waker of wakers) waker.close();
  await wakersIdle();
  for (const fd of fds) lib.close(fd);
});
