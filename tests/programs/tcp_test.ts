/** curl, ab, nc and the kernel's sockets against `examples/simple_services.ts` on a real TAP. */
import { assertEquals, assertMatch } from "@std/assert";
import { bulkBytes, receiveBulk, send, sha256 } from "../../examples/demo/stranger.ts";
import { chargenPattern } from "../../examples/services/content.ts";
import { lacksKernel, long, run } from "../testing/namespace.ts";
import { Service, within } from "../testing/service.ts";

const ADDRESS = "10.1.2.2";
const ARGS = ["--name", "ttcp", "--address", `${ADDRESS}/24`, "--host-address", "10.1.2.1/24"];
const MiB = 1 << 20;

function countingSum(size: number): Promise<string> {
  return sha256(Uint8Array.from({ length: size }, (_, i) => i & 255));
}

Deno.test({
  name: "curl: a page, 1 GiB complete, a checked body of an odd length, and a path that isn't there",
  ignore: lacksKernel(["curl"], "curl"),
  async fn() {
    await using service = await Service.start(ARGS);
    const page = await run("curl", ["-sS", "-m", "10", `http://${ADDRESS}/`]);
    assertMatch(page.stdout, /<h1>It works<\/h1>/);
    const gibibyte = [
      "-sS",
      "-m",
      "60",
      "-o",
      "/dev/null",
      "-w",
      "%{http_code} %{size_download}",
      `http://${ADDRESS}/bytes/${1 << 30}`,
    ];
    assertEquals((await run("curl", gibibyte, { timeoutMs: 70_000 })).stdout, `200 ${1 << 30}`);
    const file = await Deno.makeTempFile();
    const size = 33 * MiB + 7;
    await run("curl", ["-sS", "-m", "30", "-o", file, `http://${ADDRESS}/bytes/${size}`]);
    assertEquals(await sha256(await Deno.readFile(file)), await countingSum(size));
    await Deno.remove(file);
    const nothing = await run("curl", ["-s", "-m", "10", "-o", "/dev/null", "-w", "%{http_code}", `http://${ADDRESS}/nothing`]);
    assertEquals(nothing.stdout, "404");
    assertEquals((await service.stop("SIGINT")).code, 0);
  },
});

Deno.test({
  name: "ab: 20,000 requests, 50 at a time, with and without keep-alive: none fails",
  ignore: lacksKernel(["ab"], "apache2-utils"),
  async fn() {
    await using service = await Service.start(ARGS);
    for (const keepAlive of [[], ["-k"]]) {
      const { stdout, stderr } = await run("ab", ["-q", ...keepAlive, "-n", "20000", "-c", "50", `http://${ADDRESS}/`], {
        timeoutMs: 120_000,
      });
      assertMatch(stdout, /Complete requests:\s+20000/, stderr);
      assertMatch(stdout, /Failed requests:\s+0/, stdout);
    }
    assertEquals((await service.stop()).code, 0);
  },
});

Deno.test({
  name: "nc: echo by UDP and by TCP",
  ignore: lacksKernel(["nc"], "netcat-openbsd"),
  async fn() {
    await using service = await Service.start(ARGS);
    const udp = await run("nc", ["-u", "-w", "1", ADDRESS, "7"], { stdin: "hello by UDP\n" });
    assertEquals(udp.stdout, "hello by UDP\n");
    const tcp = await run("nc", ["-N", "-w", "2", ADDRESS, "7"], { stdin: "hello by TCP\n" });
    assertEquals(tcp.stdout, "hello by TCP\n");
    assertEquals((await service.stop()).code, 0);
  },
});

/** Sends `size` bytes to the echo port and checks what comes back while they go out. */
async function echoBulk(size: number): Promise<void> {
  const bytes = bulkBytes(size);
  using conn = await Deno.connect({ hostname: ADDRESS, port: 7 });
  const both = Promise.all([receiveBulk(conn, size), send(conn, bytes).then(() => conn.closeWrite())]);
  const [received] = await within(long ? 120 : 40, "the echo of a bulk transfer", both);
  assertEquals([received.bytes, received.sha256], [size, await sha256(bytes)]);
  assertEquals(await conn.read(new Uint8Array(1)), null);
}

Deno.test({
  name: "bulk both ways at once over echo: every byte comes back, with offload and without, at several MTUs",
  ignore: lacksKernel(),
  async fn() {
    for (const more of [[], ["--no-offload"], ["--no-offload", "--mtu", "576"], ["--mtu", "9000"]]) {
      await using service = await Service.start([...ARGS, ...more]);
      const size = (long ? 256 : 32) * MiB;
      await echoBulk(size);
      await Promise.all(Array.from({ length: 8 }, () => echoBulk(size / 8)));
      assertEquals((await service.stop()).code, 0);
    }
  },
});

Deno.test({
  name: "chargen sends RFC 864's pattern, discard takes everything, and resets in the middle hurt nobody else",
  ignore: lacksKernel(),
  async fn() {
    await using service = await Service.start(ARGS);
    for (let round = 0; round < 20; round++) {
      using conn = await Deno.connect({ hostname: ADDRESS, port: 19 });
      const { bytes, sha256: sum } = await receiveBulk(conn, MiB);
      assertEquals([bytes, sum], [MiB, await sha256(chargenPattern(MiB).slice(0, MiB))]);
      // Closing with data under way makes the kernel send a reset.
    }
    using sink = await Deno.connect({ hostname: ADDRESS, port: 9 });
    await send(sink, bulkBytes(8 * MiB));
    await sink.closeWrite();
    assertEquals(await sink.read(new Uint8Array(1)), null);
    assertEquals((await service.stop()).code, 0);
  },
});
