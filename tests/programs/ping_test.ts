/** The kernel's ping, arping and traceroute against `examples/simple_services.ts` on a real TAP. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { withCapture } from "../testing/capture.ts";
import { lacksKernel, run } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";

const ADDRESS = "10.1.1.2";
const ARGS = ["--name", "tping", "--address", `${ADDRESS}/24`, "--host-address", "10.1.1.1/24"];

function pingCounts(text: string): { sent: number; received: number } {
  const match = text.match(/(\d+) packets transmitted, (\d+) received/);
  return { sent: Number(match?.[1]), received: Number(match?.[2]) };
}

Deno.test({
  name: "ping: 10,000 as fast as they are answered, small ones, whole and fragmented large ones: nothing lost",
  ignore: lacksKernel(["ping"], "iputils-ping"),
  async fn() {
    await withCapture("ping", async (capture) => {
      await using service = await Service.start([...ARGS, "--pcap", capture]);
      const flood = await run("ping", ["-q", "-f", "-c", "10000", ADDRESS]);
      assertEquals(pingCounts(flood.stdout), { sent: 10_000, received: 10_000 }, flood.stdout);
      for (const size of ["0", "56", "1472", "1473", "8000", "65000", "65507"]) {
        const { stdout } = await run("ping", ["-q", "-c", "20", "-i", "0.01", "-W", "2", "-s", size, ADDRESS]);
        assertEquals(pingCounts(stdout), { sent: 20, received: 20 }, `-s ${size}: ${stdout}`);
      }
      assertEquals((await service.stop()).code, 0);
    });
  },
});

Deno.test({
  name: "arping: one answer each, from one address",
  ignore: lacksKernel(["arping"], "iputils-arping"),
  async fn() {
    await using service = await Service.start(ARGS);
    const { stdout, code } = await run("arping", ["-c", "3", "-I", "tping", ADDRESS]);
    assertEquals(code, 0, stdout);
    assertMatch(stdout, /Received 3 response/);
    const senders = new Set([...stdout.matchAll(/\[([0-9A-F:]+)\]/g)].map((match) => match[1]));
    assertEquals(senders.size, 1, stdout);
    // RFC 5227: an address that is in use is found so; one that nobody has is free.
    assertEquals((await run("arping", ["-D", "-c", "1", "-w", "2", "-I", "tping", ADDRESS])).code, 1);
    assertEquals((await run("arping", ["-D", "-c", "1", "-w", "2", "-I", "tping", "10.1.1.77"])).code, 0);
    assertEquals((await service.stop()).code, 0);
  },
});

Deno.test({
  name: "traceroute: by UDP (port unreachable), ICMP and TCP it ends at our host after one hop",
  ignore: lacksKernel(["traceroute"], "traceroute"),
  async fn() {
    for (const way of [[], ["-U"], ["-I"], ["-T", "-p", "80"]]) {
      // A new host each time: one traceroute uses up what the limit of ICMP errors to one destination allows at once.
      await using service = await Service.start(ARGS);
      const { stdout, code } = await run("traceroute", ["-n", "-q", "2", "-w", "2", "-m", "5", ...way, ADDRESS]);
      assertEquals(code, 0, stdout);
      const hops = stdout.trim().split("\n").slice(1);
      assertEquals(hops.length, 1, `${way}: ${stdout}`);
      assert(hops[0].includes(ADDRESS) && !hops[0].includes("*"), `${way}: ${stdout}`);
      assertEquals((await service.stop()).code, 0);
    }
  },
});
