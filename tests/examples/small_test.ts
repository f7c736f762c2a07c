/** The small examples do what they say. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { kernel, run } from "../testing/namespace.ts";

function example(name: string, ...args: string[]) {
  return run(Deno.execPath(), ["run", "-A", `examples/${name}`, ...args]);
}

Deno.test("two_hosts.ts runs with no permission at all", async () => {
  const { code, stdout, stderr } = await run(Deno.execPath(), ["run", "--no-prompt", "examples/two_hosts.ts"]);
  assertEquals([code, stderr], [0, ""]);
  assertEquals(stdout, "ping: 56 bytes from 10.0.0.2\nhttp: HTTP/1.1 200 OK: Hello from bob\n");
});

Deno.test({
  name: "ping.ts: answers of the kernel, and of nobody",
  ignore: !kernel,
  async fn() {
    const there = await example("ping.ts", "10.0.0.1", "--count", "3");
    assertEquals(there.code, 0, there.stderr);
    assertMatch(there.stdout, /^56 bytes from 10\.0\.0\.1: sequence 1, ttl 64, [\d.]+ ms\n/);
    assertStringIncludes(there.stdout, "3 sent, 3 received");
    const nobody = await example("ping.ts", "10.0.0.77", "--count", "1");
    assertEquals(nobody.code, 1, nobody.stderr);
    assertStringIncludes(nobody.stdout, "1 sent, 0 received");
    for (const wrong of [[], ["10.0.0.1", "--count", "1.5"]]) assertEquals((await example("ping.ts", ...wrong)).code, 2);
  },
});

Deno.test({
  name: "http_get.ts: a page from the kernel's side",
  ignore: !kernel,
  async fn() {
    await using server = Deno.serve({ hostname: "0.0.0.0", port: 8123, onListen() {} }, () => new Response("a page\n"));
    const { code, stdout, stderr } = await example("http_get.ts", "http://10.0.0.1:8123/");
    assertEquals(code, 0, stderr);
    assertMatch(stdout, /^HTTP\/1\.1 200 OK\r\n[\s\S]*\r\n\r\na page\n$/);
    for (const wrong of ["nonsense", "https://10.0.0.1/"]) assertEquals((await example("http_get.ts", wrong)).code, 2);
    await server.shutdown();
  },
});

Deno.test("lossy_link.ts: every byte over a bad link, the same every time, and a drawing of it", async () => {
  const drawn = await run(Deno.execPath(), ["run", "--no-prompt", "examples/lossy_link.ts", "--mib", "1"]);
  assertEquals([drawn.code, drawn.stderr], [0, ""]);
  assertStringIncludes(drawn.stdout, "R");
  assertMatch(drawn.stdout, /\d+ frames, \d+ lost, \d+ retransmissions, \d+ timeouts/);
  const pcap = await Deno.makeTempFile({ suffix: ".pcapng" });
  const twice = [
    await example("lossy_link.ts", "--json", "--mib", "1"),
    await example("lossy_link.ts", "--json", "--mib", "1", "--pcap", pcap),
  ];
  assertEquals(twice[0].stdout, twice[1].stdout);
  const { bytes, frames, lost, retransmissions } = JSON.parse(twice[0].stdout);
  assertEquals(bytes, 1 << 20);
  assert(frames > 724 && lost > 0 && retransmissions >= lost, twice[0].stdout);
  assert(Deno.statSync(pcap).size > 2 * bytes);
  await Deno.remove(pcap);
  assertEquals((await example("lossy_link.ts", "--loss", "2")).code, 2);
});

Deno.test("what can't be run or opened is said in one line, with an exit code", async () => {
  const missing = await example("ioctl_device.ts", "/nonexistent");
  assertEquals([missing.code, missing.stdout], [127, ""]);
  assertMatch(missing.stderr, /^ioctl_device: [^\n]*'\/nonexistent': No such file or directory[^\n]*\n$/);
  const option = await example("netkit_two_vms.ts", "--bogus");
  assertEquals([option.code, option.stdout, option.stderr], [2, "", "usage: netkit_two_vms.ts [FOLDER]\n"]);
  const folder = await example("netkit_two_vms.ts", "/nonexistent");
  assertEquals([folder.code, folder.stdout], [1, ""]);
  assertMatch(folder.stderr, /^netkit_two_vms: cannot listen in \/nonexistent: [^\n]*\n$/);
});
