/** A TAP that is deleted, or goes down, under everything that can wait: who is told what, and that nothing is left. */
import { assert, assertEquals } from "@std/assert";
import { kernel, run } from "../testing/namespace.ts";

const GONE = "DeviceGoneError ENODEV", CLOSED = "ConnectionAborted ECONNABORTED", LATE = "TimedOut ETIMEDOUT";

async function vanish(rounds: number, how: string): Promise<Record<string, string>> {
  const program = ["run", "-A", "tests/testing/vanish.ts", "tvanish", String(rounds), how];
  // It must end by itself: killed after its time it gives no 0.
  const { code, stdout, stderr } = await run(Deno.execPath(), program, { timeoutMs: 60_000 });
  assertEquals([code, stderr], [0, ""]);
  const { told, before, after } = JSON.parse(stdout);
  // The pool of threads that wait may grow and shrink by a few; a leak would be one a round.
  assert(after.threads <= before.threads + 4, `threads: ${before.threads}, then ${after.threads}`);
  assertEquals({ ...after, threads: 0 }, { ...before, threads: 0 }, "descriptors");
  return told;
}

Deno.test({
  name: "D6.4 a TAP deleted under everything that waits: all are told, descriptors and threads are back, the process ends",
  ignore: !kernel,
  async fn() {
    const told = await vanish(20, "delete");
    const all = ["read", "write", "accept", "receive", "iterate", "connect", "ping", "resolve", "closed"];
    assertEquals(told, Object.fromEntries(all.map((what) => [what, GONE])));
  },
});

Deno.test({
  name: "D6.4 a TAP taken down under everything that waits: who sends is told in time, who listens goes on until the end",
  ignore: !kernel,
  async fn() {
    const told = await vanish(2, "down");
    const late = { write: LATE, connect: LATE, ping: LATE, resolve: "Error ENETDOWN" };
    assertEquals(told, { read: CLOSED, accept: CLOSED, receive: CLOSED, iterate: CLOSED, closed: "gave undefined", ...late });
  },
});
