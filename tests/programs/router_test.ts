/** A host of ours as a router between two networks of the kernel: traceroute, path MTU, TCP through it. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { bulkBytes, send, sha256 } from "../../examples/demo/stranger.ts";
import { libc } from "../../ffi/libc.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { NetStack, TapDevice } from "../../mod.ts";
import { kernel, lacksKernel, Namespace, run } from "../testing/namespace.ts";

// Stays open for the process: the sanitizer would blame the first test.
if (kernel) libc();

const NEAR = "10.1.6.1", ROUTER = "10.1.6.2", FAR = "10.1.7.1";
const MTU_FAR = 1280;
const MiB = 1 << 20;

/** Runs `body` beside a router between this namespace (10.1.6.0/24) and another (10.1.7.0/24, small MTU). */
async function withRouter(offload: boolean, body: (far: Namespace, stack: NetStack) => Promise<void>): Promise<void> {
  {
    await using far = await Namespace.create();
    using near = TapDevice.open({
      name: "tnear",
      offload,
      host: { address: `${NEAR}/24`, routes: [{ destination: "10.1.7.0/24", gateway: ROUTER }] },
    });
    using stack = new NetStack(near, { address: `${ROUTER}/24`, forwarding: true });
    const back = { destination: "10.1.6.0/24", gateway: "10.1.7.2" };
    const host = { namespace: { pid: far.pid }, address: `${FAR}/24`, routes: [back] };
    stack.addDevice(TapDevice.open({ name: "tfar", offload, mtu: MTU_FAR, host }), { address: "10.1.7.2/24" });
    await body(far, stack);
    assertEquals(stack.statistics.stack.faults, 0, String(stack.lastFault));
  }
  await wakersIdle();
}

Deno.test({
  name: "traceroute through a router of ours: by UDP, ICMP and TCP two hops, and TTLs that run out are answered",
  ignore: lacksKernel(["traceroute", "ping", "nsenter"], "traceroute iputils-ping util-linux"),
  async fn() {
    await withRouter(true, async (far, stack) => {
      // The kernel at the far end limits its own ICMP errors, so one probe a hop.
      for (const way of [["-U"], ["-I"], ["-T", "-p", "80"]]) {
        const { stdout, code } = await run("traceroute", ["-n", "-q", "1", "-w", "2", "-m", "5", ...way, FAR]);
        assertEquals(code, 0, stdout);
        const hops = stdout.trim().split("\n").slice(1).map((line) => line.trim().split(/\s+/)[1]);
        assertEquals(hops, [ROUTER, FAR], `${way}: ${stdout}`);
      }
      const expired = await run("ping", ["-c", "1", "-W", "2", "-t", "1", FAR]);
      assertMatch(expired.stdout, new RegExp(`From ${ROUTER} .*Time to live exceeded`), expired.stdout);
      const { stdout } = await run("ping", ["-q", "-c", "20", "-i", "0.01", "-W", "2", "-s", "5000", FAR]);
      assertStringIncludes(stdout, "20 received", "fragments pass too");
      const nowhere = await run("ping", ["-c", "1", "-W", "5", "10.1.7.99"]);
      assertMatch(nowhere.stdout, new RegExp(`From ${ROUTER} .*Destination Host Unreachable`), nowhere.stdout);
      // And from the other side: it is a router in both directions.
      assertStringIncludes((await far.run("ping", ["-q", "-c", "3", "-i", "0.1", NEAR])).stdout, "3 received");
      assert(stack.statistics.internet.forward.forwarded >= 40, JSON.stringify(stack.statistics.internet.forward));
    });
  },
});

Deno.test({
  name: "path MTU through a router of ours: too long with DF is told with the MTU of the next link",
  ignore: lacksKernel(["ping", "nsenter"], "iputils-ping util-linux"),
  async fn() {
    await withRouter(true, async () => {
      const { stdout } = await run("ping", ["-c", "1", "-W", "2", "-M", "do", "-s", "1472", FAR]);
      assertMatch(stdout, new RegExp(`From ${ROUTER} .*Frag needed and DF set \\(mtu = ${MTU_FAR}\\)`), stdout);
    });
  },
});

Deno.test({
  name: "TCP between kernels through a router of ours, onto a smaller MTU, with and without offload: every byte",
  ignore: lacksKernel(["nc", "nsenter"], "netcat-openbsd util-linux"),
  async fn() {
    const bytes = bulkBytes(8 * MiB);
    const sum = await sha256(bytes);
    for (const offload of [true, false]) {
      await withRouter(offload, async (far) => {
        const [program, ...words] = far.prefix;
        const args = [...words, "nc", "-l", "-N", FAR, "9000"];
        const nc = new Deno.Command(program, { args, stdin: "null", stdout: "piped", stderr: "null" }).spawn();
        const output = nc.output();
        using conn = await connected();
        await send(conn, bytes);
        await conn.closeWrite();
        const { stdout } = await output;
        assertEquals([stdout.length, await sha256(stdout)], [bytes.length, sum], `offload ${offload}`);
      });
    }
  },
});

/** Connects as soon as the program at the far end listens. */
async function connected(): Promise<Deno.TcpConn> {
  for (let round = 0;; round++) {
    try {
      return await Deno.connect({ hostname: FAR, port: 9000 });
    } catch (error) {
      if (!(error instanceof Deno.errors.ConnectionRefused) || round === 100) throw error;
      await new Promise((resolve) => setTimeout(resolve, 50));
    }
  }
}
