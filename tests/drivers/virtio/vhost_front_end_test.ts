/** A vhost-user switch that goes away, or breaks the rules, while a port of ours is plugged into it. */
import { assertEquals } from "@std/assert";

Deno.test("vhost-user: a switch may go away at any moment, the driver in the midst of its memory", async () => {
  const program = new URL("vhost_vanish.ts", import.meta.url).pathname;
  const { code, signal, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["run", "-A", "--unstable-net", "--no-check", program],
    signal: AbortSignal.timeout(60_000),
  }).output();
  const text = new TextDecoder();
  assertEquals([signal, code, text.decode(stdout).trimEnd().split("\n").at(-1)], [null, 0, "done"], text.decode(stderr));
});
