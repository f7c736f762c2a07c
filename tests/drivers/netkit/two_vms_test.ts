// D5.18 as a program: examples/netkit_two_vms.ts with two strangers on its sockets, in the place of virtual machines.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { NetStack, QemuStreamDevice } from "../../../mod.ts";
import { Service } from "../../testing/service.ts";

async function get(stack: NetStack, hostname: string): Promise<string> {
  using conn = await stack.connect({ hostname, port: 80 });
  await conn.write(new TextEncoder().encode("GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"));
  return await new Response(conn.readable).text();
}

Deno.test("D5.18 the example: each machine reaches its host's side, and the other machine past both", async () => {
  const folder = await Deno.makeTempDir();
  const service = await Service.start([folder], { program: "examples/netkit_two_vms.ts" });
  try {
    const open = (i: number) => QemuStreamDevice.open({ path: `${folder}/netkit${i}.sock`, connect: true });
    using one = new NetStack(open(0), { address: "10.7.0.101/24" });
    using two = new NetStack(open(1), { address: "10.7.0.151/24" });
    assertStringIncludes(await get(one, "10.7.0.1"), "the host's side of machine 0");
    assertStringIncludes(await get(two, "10.7.0.2"), "the host's side of machine 1");
    assertEquals((await one.ping("10.7.0.151")).size, 56);
    using listener = two.listen({ port: 9 });
    const total = 8 << 20;
    const received = (async () => {
      using conn = await listener.accept();
      let count = 0;
      for await (const chunk of conn.readable) count += chunk.length;
      return count;
    })();
    using conn = await one.connect({ hostname: "10.7.0.151", port: 9 });
    const block = new Uint8Array(1 << 16);
    for (let sent = 0; sent < total; sent += block.length) {
      for (let at = 0; at < block.length;) at += await conn.write(block.subarray(at));
    }
    await conn.closeWrite();
    assertEquals(await received, total);
  } finally {
    Deno.kill(service.pid, "SIGTERM");
    const { code, stderr } = await service.ended();
    assertEquals(code, 0, stderr);
    const statistics = stderr.trim().split("\n").map((line) => JSON.parse(line.slice(line.indexOf("{"))));
    // What the machines said to each other was redirected, in both directions.
    assert(statistics[0].redirected > 2000 && statistics[1].redirected > 10, stderr);
    await Deno.remove(folder, { recursive: true });
  }
});
