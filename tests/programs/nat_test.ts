/** A namespace whose only way out is `examples/vm_network.ts`: what it fetches comes through this project's TCP, NAT and TAP. */
import { assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { lacksKernel, Namespace, ownRoot, run } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";

const OUTSIDE = "192.0.2.1";
const GiB = 1 << 30;

/** `size` bytes, 0 1 2 … 255 0 …, and their SHA-256. */
function counting(size: number): { body: ReadableStream<Uint8Array>; sha256: string } {
  const chunk = Uint8Array.from({ length: 1 << 18 }, (_, i) => i & 255);
  const hash = createHash("sha256");
  for (let done = 0; done < size; done += chunk.length) hash.update(chunk.subarray(0, Math.min(chunk.length, size - done)));
  let left = size;
  const body = new ReadableStream({
    pull(controller) {
      const length = Math.min(left, chunk.length);
      left -= length;
      if (length > 0) controller.enqueue(chunk.slice(0, length));
      if (left === 0) controller.close();
    },
  }, { highWaterMark: 1 });
  return { body, sha256: hash.digest("hex") };
}

async function withNamespace(args: string[], test: (inside: Namespace, service: Service) => Promise<void>): Promise<void> {
  await using inside = await Namespace.create();
  const words = ["--tap", "vm0", "--netns", String(inside.pid), ...args];
  await using service = await Service.start(words, { program: "examples/vm_network.ts" });
  await test(inside, service);
  assertEquals((await service.stop()).code, 0);
}

Deno.test({
  name: "a namespace whose only way out is our script downloads 1 GiB and uploads 200 MiB with equal SHA-256",
  ignore: lacksKernel(["curl"], "curl") || !ownRoot,
  async fn() {
    await run("ip", ["addr", "replace", `${OUTSIDE}/32`, "dev", "lo"]);
    const sums = new Map<string, string>();
    await using server = Deno.serve({ hostname: OUTSIDE, port: 0, onListen() {} }, async (request) => {
      if (request.method === "GET") {
        const { body, sha256 } = counting(GiB);
        sums.set("down", sha256);
        return new Response(body, { headers: { "content-length": String(GiB) } });
      }
      const hash = createHash("sha256");
      for await (const bytes of request.body!) hash.update(bytes);
      sums.set("up", hash.digest("hex"));
      return new Response("taken\n");
    });
    const url = `http://${OUTSIDE}:${server.addr.port}/`;
    await withNamespace([], async (inside, service) => {
      const down = await inside.run("sh", ["-c", `curl -sS -m 120 ${url} | sha256sum`], { timeoutMs: 150_000 });
      assertEquals(down.stdout.split(" ")[0], sums.get("down"), down.stderr);
      const source = "head -c 209715200 /dev/zero";
      const up = await inside.run("sh", ["-c", `${source} | curl -sS -m 120 -T - ${url}; ${source} | sha256sum`], {
        timeoutMs: 150_000,
      });
      assertMatch(up.stdout, /taken/, up.stderr);
      assertEquals(up.stdout.match(/[0-9a-f]{64}/)?.[0], sums.get("up"));
      const page = await inside.run("curl", ["-sS", "-m", "10", "http://10.0.2.2/"]);
      assertMatch(page.stdout, /It works/);
      const { gateway } = await service.statistics();
      assertEquals([gateway.tcpFlows, gateway.tcpFailed, gateway.tcpDenied], [2, 0, 0]);
    });
  },
});

Deno.test({
  name: "the rules hold: loopback and link-local are denied, and what --deny and --allow say; forwarded ports lead in",
  ignore: lacksKernel(["curl", "nc"], "curl netcat-openbsd") || !ownRoot,
  async fn() {
    await run("ip", ["addr", "replace", "192.0.2.2/32", "dev", "lo"]);
    await using server = Deno.serve({ hostname: "0.0.0.0", port: 0, onListen() {} }, () => new Response("outside\n"));
    const { port } = server.addr;
    const rules = ["--deny", "192.0.2.0/24", "--allow", "192.0.2.2", "--forward", "0:8080"];
    await withNamespace(rules, async (inside, service) => {
      const get = async (address: string) => (await inside.run("curl", ["-sS", "-m", "5", `http://${address}:${port}/`])).stdout;
      assertEquals(await get("192.0.2.2"), "outside\n");
      assertEquals(await get("192.0.2.1"), "");
      assertEquals(await get("169.254.1.1"), "");
      // The gateway's address is the gateway's: the machine's own loopback is not behind it.
      assertEquals(await get("10.0.2.2"), "");
      const leading = service.ready.match(/127\.0\.0\.1:(\d+) leads/)?.[1];
      const answer = inside.run("nc", ["-l", "-N", "10.0.2.15", "8080"], { stdin: "from inside\n", timeoutMs: 30_000 });
      let got = "";
      for (let tries = 0; tries < 50 && got === ""; tries++) {
        got = (await run("nc", ["-d", "-w", "5", "127.0.0.1", leading!])).stdout;
      }
      assertEquals(got, "from inside\n");
      await answer;
    });
  },
});
