/** The forwarder between real interfaces: ARP, ping and TCP from one physical side to the other through a router host. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { AfXdpDevice, Umem } from "../../../drivers/af_xdp.ts";
import { PacketSocketDevice } from "../../../drivers/packet_socket.ts";
import { deleteLink, getLink, setLink } from "../../../ffi/rtnl_link.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { lacksKernel, lacksSysctl, type Namespace } from "../../testing/namespace.ts";
import { transfer, World } from "./world.ts";

const ignore = lacksKernel(["ping", "python3", "ip"], "iputils-ping python3 iproute2") || lacksSysctl();
/** Bytes of a transfer, each way. */
const BYTES = 100 << 20;

async function ping(from: Namespace, address: string, ...args: string[]): Promise<void> {
  const { stdout } = await from.run("ping", ["-n", "-c", "3", "-i", "0.05", "-W", "5", ...args, address]);
  assertMatch(stdout, /3 received, 0% packet loss/);
}

/** Carries ARP, ping and TCP both ways, and looks at the counters. */
async function carries(world: World): Promise<void> {
  const { left, right, forwarder } = world;
  await ping(left, "10.7.0.254"); // the router
  await ping(left, "10.9.0.1"); // the other side
  await ping(right, "10.7.0.1", "-s", "1472", "-M", "do"); // frames of full size, and a tag on top
  const neighbours = await left.run("ip", ["neighbour", "show", "10.7.0.254"]);
  assertMatch(neighbours.stdout, /lladdr/);
  await transfer(left, right, "10.9.0.1", BYTES);
  await transfer(right, left, "10.7.0.1", BYTES);
  const { interfaces, programs } = forwarder.statistics;
  assertEquals([programs.physical.ABORTED, programs.router.ABORTED], [0, 0]);
  assert(programs.physical.REDIRECT > 100 && programs.router.REDIRECT > 100);
  for (const name of ["p7", "p9", "trunk"]) assertEquals(interfaces[name].copied, 0, name);
  assertEquals(forwarder.role("trunk"), "router"); // D3.13: by its address
  assertEquals(getLink("trunk").promiscuity, 1);
}

for (const offload of ["segments", "checksums"] as const) {
  Deno.test({
    name: `D3.1 D3.5 ARP, ping and TCP between two physical sides through a router host: packet sockets, ${offload} left to do`,
    ignore,
    fn: async () => {
      await using world = await World.create(offload);
      world.start((name) => PacketSocketDevice.open({ name, offload: offload === "segments", promiscuous: true }));
      await carries(world);
    },
  });
}

for (const mode of ["native", "generic"] as const) {
  Deno.test({
    name: `D3.1 D3.5 ARP, ping and TCP between two physical sides through a router host: AF_XDP in ${mode} mode, one memory`,
    ignore: ignore || lacksBpf(),
    fn: async () => {
      await using world = await World.create("none");
      const umem = new Umem({ chunks: 8192 });
      world.start((name) => AfXdpDevice.open({ name, mode, umem }));
      await carries(world);
      const { txMoved, txFrames } = world.forwarder.engine.port("trunk")!.device.statistics!();
      assertEquals(txMoved, txFrames);
    },
  });
}

Deno.test({
  name: "D3.11 interfaces come and go under traffic: the map keeps the router, and the others go on",
  ignore,
  fn: async () => {
    await using world = await World.create();
    world.start((name) => PacketSocketDevice.open({ name, promiscuous: true }));
    const { left, right, forwarder } = world;
    await ping(left, "10.9.0.1");
    forwarder.remove("p9");
    const lost = await left.run("ping", ["-n", "-c", "2", "-i", "0.05", "-W", "0.3", "10.9.0.1"]);
    assertMatch(lost.stdout, / 0 received/);
    await ping(left, "10.7.0.254");
    world.addPhysical(9);
    await ping(left, "10.9.0.1");
    // Down and up again: the port stays.
    setLink("p9", { up: false });
    await left.run("ping", ["-n", "-c", "1", "-W", "0.2", "10.9.0.1"]);
    setLink("p9", { up: true });
    await ping(right, "10.7.0.1");
    // Deleted in the kernel: the port is gone, the others go on.
    deleteLink("p9");
    while (forwarder.engine.port("p9") !== undefined) await new Promise((resolve) => setTimeout(resolve, 5));
    assertEquals(forwarder.engine.ports.map(({ name }) => name), ["trunk", "p7"]);
    await ping(left, "10.7.0.254");
  },
});
