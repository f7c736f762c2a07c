/** `examples/xdp_forwarder.ts` in the kernel when its interfaces are in another network namespace, or gone with one. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { deleteLink, getLink, listLinks, setLink } from "../../ffi/rtnl_link.ts";
import { BpfMap } from "../../ffi/bpf.ts";
import { lacksBpf, TestBpffs } from "../testing/bpf.ts";
import { lacksKernel, Namespace, run } from "../testing/namespace.ts";
import { Cli, pins } from "./xdp_cli.ts";
import { ALL, ROUTER, Wires } from "./xdp_wires.ts";

const lacksPrograms = lacksKernel(["ip"], "iproute2");

async function attachedTo(namespace: Namespace, name: string): Promise<boolean> {
  const { stdout } = await namespace.run("ip", ["-d", "link", "show", name]);
  assertMatch(stdout, new RegExp(name));
  return /prog\/xdp/.test(stdout);
}

Deno.test({
  name:
    "xdp_forwarder in the kernel: an interface that moves to another namespace is gone; one with its number there is left alone",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using bpffs = await TestBpffs.mount();
    await using wires = await Wires.create();
    await using other = await Namespace.create();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    await cli.must("up", "--kernel", "--promiscuous", ...ALL);
    const { index } = getLink("xleft");
    // There its number is taken: it gets another one, which here is that of an interface of somebody else's.
    await other.run("ip", ["link", "add", "taken", "index", String(index), "type", "veth", "peer", "name", "taken2"]);
    const highest = Math.max(...listLinks().map(({ index }) => index));
    await other.run("sh", ["-c", `for i in $(seq ${highest}); do ip link add b$i type bridge; done`]);
    setLink("xleft", { namespace: other });
    const moved = JSON.parse((await other.run("ip", ["-j", "link", "show", "xleft"])).stdout)[0].ifindex;
    assert(moved !== index && moved > highest, `${moved}`);
    await run("ip", ["link", "add", "xother", "index", String(moved), "type", "bridge"]);
    setLink("xother", { promiscuous: true });
    assert(await attachedTo(other, "xleft"));
    const { interfaces } = await cli.report();
    assertEquals(Object.keys(interfaces).toSorted(), [`(gone, ${index})`, "xright", ROUTER].toSorted());
    assertMatch(await cli.fails(1, "set-router-iface", "xother"), /ENODEV/);
    assertEquals(await cli.must("set-router-iface", ROUTER), "");
    // One of its number comes here: it isn't the forwarder's.
    await run("ip", ["link", "add", "xsame", "index", String(index), "type", "bridge"]);
    setLink("xsame", { promiscuous: true });
    assertMatch(await cli.fails(1, "set-router-iface", "xsame"), /ENODEV/);
    assertEquals((await cli.report()).router, ROUTER);
    assertEquals(await cli.must("down"), "");
    assertEquals(["xsame", "xother", ...ALL.slice(1)].map((name) => getLink(name).promiscuity), [1, 1, 0, 0]);
    assertEquals([await attachedTo(other, "xleft"), pins(bpffs)], [false, []]);
    for (const name of ["xsame", "xother"]) deleteLink(name);
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name: "xdp_forwarder in the kernel: what is wrong with one interface doesn't keep `down` from the others",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using bpffs = await TestBpffs.mount();
    await using wires = await Wires.create();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    await cli.must("up", "--kernel", "--promiscuous", ...ALL);
    using odd = BpfMap.create({ name: "odd", type: 2, keySize: 4, valueSize: 4, maxEntries: 1 });
    const first = `${cli.folder}/if_${Math.min(...ALL.map((name) => getLink(name).index))}/odd`;
    odd.pin(first);
    await cli.fails(1, "down");
    assertEquals(ALL.map((name) => [getLink(name).promiscuity, getLink(name).xdpPrograms]), new Array(3).fill([0, []]));
    Deno.removeSync(first);
    await cli.must("down");
    assertEquals(pins(bpffs), []);
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name: "xdp_forwarder in the kernel: one whose namespace has ended can be told of, taken down, and replaced by another `up`",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using bpffs = await TestBpffs.mount();
    await using wires = await Wires.create();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    for (const way of ["down", "up"]) {
      {
        await using other = await Namespace.create();
        await other.run("ip", ["link", "add", "p1", "type", "veth", "peer", "name", "h1"]);
        const { code, stderr } = await cli.runIn(other.prefix, "up", "--kernel", "p1");
        assertEquals([code, stderr], [0, ""]);
        // As long as it lives, it is left alone.
        assertMatch(await cli.fails(1, "down"), /belongs to another network namespace/);
        assertMatch(await cli.fails(1, "up", "--kernel", ...ALL), /EEXIST/);
      }
      // Namespaces end a moment after their last process.
      let answer = await cli.run("stats", "--json");
      for (let i = 0; answer.code !== 0 && i < 100; i++) answer = await cli.run("stats", "--json");
      const [[name, { ifindex }]] = Object.entries<{ ifindex: number }>(JSON.parse(answer.stdout).interfaces);
      assertMatch(name, /^\(gone, \d+\)$/);
      assertEquals(ifindex, 0);
      assertMatch(await cli.fails(1, "add", ...ALL), /belongs to another network namespace/);
      if (way === "up") {
        await cli.must("up", "--kernel", ...ALL);
        assertEquals(Object.keys((await cli.report()).interfaces).toSorted(), ALL);
      }
      assertEquals(await cli.must("down"), "");
      assertEquals(pins(bpffs), []);
    }
    assert(wires.left.pid > 0);
  },
});
