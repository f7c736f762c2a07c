/** `examples/xdp_forwarder.ts` in the kernel when its interfaces are in another network namespace, or gone with one. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { deleteLink, getLink, linkExists, setLink } from "../../ffi/rtnl_link.ts";
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
    setLink("xleft", { namespace: other });
    const moved = JSON.parse((await other.run("ip", ["-j", "link", "show", "xleft"])).stdout)[0].ifindex;
    assert(moved !== index, `${moved}`);
    if (![...ALL, "xuplink"].some((name) => name !== "xleft" && getLink(name).index === moved)) {
      await run("ip", ["link", "add", "xother", "index", String(moved), "type", "bridge"]);
      setLink("xother", { promiscuous: true });
    }
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
    assertEquals(["xsame", ...ALL.slice(1)].map((name) => getLink(name).promiscuity), [1, 0, 0]);
    if (linkExists("xother")) assertEquals(getLink("xother").promiscuity, 1);
    assertEquals([await attachedTo(other, "xleft"), pins(bpffs)], [false, []]);
    for (const name of ["xsame", "xother"]) if (linkExists(name)) deleteLink(name);
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
