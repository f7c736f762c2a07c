/** nmap against `examples/simple_services.ts`: open, closed and silent ports look as a real host's do. */
import { assertEquals } from "@std/assert";
import { lacksKernel, run } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";

const ADDRESS = "10.1.3.2";
const ARGS = ["--name", "tnmap", "--address", `${ADDRESS}/24`, "--host-address", "10.1.3.1/24"];

/** nmap's "grepable" output: "7/open/tcp//echo///, …" as ["7/tcp open", …]. */
function portsOf(text: string): string[] {
  return [...text.matchAll(/(\d+)\/([a-z|]+)\/(tcp|udp)\//g)].map((match) => `${match[1]}/${match[3]} ${match[2]}`).sort();
}

Deno.test({
  name: "nmap -sS -sU: the right ports are open, all others closed",
  ignore: lacksKernel(["nmap"], "nmap"),
  async fn() {
    await using service = await Service.start(ARGS);
    const speed = ["-n", "-Pn", "--max-retries", "3", "--min-rate", "200", "--host-timeout", "60s", "-oG", "-"];
    const syn = await run("nmap", ["-sS", "-p", "1-1024", "--open", ...speed, ADDRESS], { timeoutMs: 90_000 });
    assertEquals(portsOf(syn.stdout), ["19/tcp open", "7/tcp open", "80/tcp open", "9/tcp open"], syn.stdout + syn.stderr);
    const closed = await run("nmap", ["-sS", "-p", "6,8,443", ...speed, ADDRESS], { timeoutMs: 90_000 });
    assertEquals(portsOf(closed.stdout), ["443/tcp closed", "6/tcp closed", "8/tcp closed"], closed.stdout);
    const udp = await run("nmap", ["-sU", "-p", "6,7,8,9,19", ...speed, ADDRESS], { timeoutMs: 90_000 });
    // A service that never answers, discard, can't be told from a filtered one.
    const wanted = ["19/udp open", "6/udp closed", "7/udp open", "8/udp closed", "9/udp open|filtered"];
    assertEquals(portsOf(udp.stdout), wanted, udp.stdout);
    for (const scan of ["-sN", "-sF", "-sX"]) {
      const { stdout } = await run("nmap", [scan, "-p", "7,8", ...speed, ADDRESS], { timeoutMs: 90_000 });
      assertEquals(portsOf(stdout), ["7/tcp open|filtered", "8/tcp closed"], `${scan}: ${stdout}`);
    }
    assertEquals((await service.stop()).code, 0);
  },
});
