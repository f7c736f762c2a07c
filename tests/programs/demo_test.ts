/** `deno task demo`: on a real TAP, over the cable, and with wrong arguments. */
import { assertEquals, assertStringIncludes } from "@std/assert";
import { findProgram, kernel, lacksKernel, ownRoot, run, type RunOptions } from "../testing/namespace.ts";

function demo(args: string[], options?: RunOptions) {
  return run(Deno.execPath(), ["run", "-A", "examples/demo.ts", ...args], options);
}

/** No `unshare` to be found: as on a machine where namespaces are refused. */
const CONFINED = { PATH: "/nonexistent" };

Deno.test({
  name: "demo: every step answers on a real TAP in a namespace of its own, and nothing is left behind",
  ignore: !kernel,
  async fn() {
    const before = Deno.readTextFileSync("/proc/net/dev").split("\n").length;
    const { code, stdout, stderr } = await demo(["--json"], { timeoutMs: 120_000 });
    assertEquals(code, 0, stdout + stderr);
    const report = JSON.parse(stdout);
    assertEquals([report.ok, report.realDevice], [true, true]);
    const steps = report.steps.map((step: { name: string }) => step.name);
    const curl = findProgram("curl") === null ? [] : ["curl"];
    assertEquals(steps, ["ping", ...curl, "UDP echo", "HTTP", "bulk in", "bulk out"]);
    assertEquals(Deno.readTextFileSync("/proc/net/dev").split("\n").length, before);
  },
});

Deno.test("demo: where namespaces are refused it says so in one line and runs over the cable", async () => {
  const { code, stdout, stderr } = await demo([], { env: CONFINED, timeoutMs: 120_000 });
  assertEquals(code, 0, stdout + stderr);
  assertEquals(stderr.trim().split("\n").length, 1, stderr);
  assertStringIncludes(stderr, "in-memory cable");
  assertStringIncludes(stdout, "Everything answered.");
});

Deno.test("demo: wrong arguments end it with 2 and one line", async () => {
  for (const args of [["--nonsense"], ["extra"], ["--pcap"]]) {
    const { code, stdout, stderr } = await demo(args);
    assertEquals([code, stdout], [2, ""], stderr);
    assertEquals(stderr.trim().split("\n").length, 1, stderr);
  }
});

Deno.test({
  name: "demo --pcap: a capture that tcpdump reads, with both directions in it",
  ignore: lacksKernel(["tcpdump"], "tcpdump"),
  async fn() {
    const file = await Deno.makeTempFile({ suffix: ".pcap" });
    const { code, stdout, stderr } = await demo(["--json", "--pcap", file], { timeoutMs: 120_000 });
    assertEquals(code, 0, stdout + stderr);
    // Root of a user namespace has no other user to become, as tcpdump would; nobody in one of his own needn't.
    const [program, ...words] = [...(ownRoot ? [] : ["unshare", "-U"]), "tcpdump", "-n", "-r", file, "icmp or udp"];
    const { stdout: text, stderr: said } = await run(program, words);
    assertStringIncludes(text, "10.0.0.1 > 10.0.0.2: ICMP echo request", said);
    assertStringIncludes(text, "10.0.0.2 > 10.0.0.1: ICMP echo reply", said);
    await Deno.remove(file);
  },
});

Deno.test({
  name: "demo --keep: stays, can be reached as it says, and ends with 0 on SIGTERM",
  ignore: lacksKernel(["ping", "nsenter"], "iputils-ping util-linux"),
  async fn() {
    const command = new Deno.Command(Deno.execPath(), {
      args: ["run", "-A", "examples/demo.ts", "--keep", "--pcap", "/dev/null"],
      stdin: "null",
      stdout: "null",
      stderr: "piped",
    });
    const child = command.spawn();
    let said = "";
    const reader = child.stderr.pipeThrough(new TextDecoderStream()).getReader();
    while (!said.includes("Ctrl-C")) {
      const { value, done } = await reader.read();
      if (done) break;
      said += value;
    }
    await reader.cancel();
    const [program, ...args] = said.match(/nsenter .* ping .*/)![0].split(" ");
    assertEquals((await run(program, [...args.slice(0, -1), "-c", "3", "-i", "0.2", args.at(-1)!])).code, 0, said);
    child.kill("SIGTERM");
    assertEquals((await child.status).code, 0);
  },
});
