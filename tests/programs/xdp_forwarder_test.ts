/** `examples/xdp_forwarder.ts` in the kernel and in user space: one table, the same traffic, and nothing left behind. */
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { bulkBytes, send, sha256 } from "../../examples/demo/stranger.ts";
import { getLink, linkExists } from "../../ffi/rtnl_link.ts";
import { NetStack, PacketSocketDevice } from "../../mod.ts";
import { transfer } from "../drivers/xdp/world.ts";
import { lacksBpf, TestBpffs } from "../testing/bpf.ts";
import { lacksKernel, type Namespace, run } from "../testing/namespace.ts";
import { Cli, exists, pins } from "./xdp_cli.ts";
import { ALL, PHYSICAL, ROUTER, Wires } from "./xdp_wires.ts";

const BYTES = 100 << 20;
const lacksPrograms = lacksKernel(["ping", "python3", "ip"], "iputils-ping python3 iproute2");

/** Where a forwarder may run. */
const PLACES = [
  { name: "in the kernel, generic", place: "kernel", by: "generic", up: ["--kernel", "--mode", "generic"] },
  { name: "in the kernel, native", place: "kernel", by: "native", up: ["--kernel", "--mode", "native"] },
  { name: "in the kernel, automatic: generic for veth", place: "kernel", by: "generic", up: ["--kernel"] },
  { name: "in user space", place: "user", by: "device", up: ["--user"] },
] as const;

async function ping(from: Namespace, address: string): Promise<void> {
  const { stdout } = await from.run("ping", ["-n", "-c", "3", "-i", "0.05", "-W", "5", address]);
  assertMatch(stdout, /3 received, 0% packet loss/);
}

/** No program of XDP on any interface. */
async function nothingAttached(): Promise<void> {
  const { stdout } = await run("ip", ["link", "show"]);
  assert(!/xdp/.test(stdout.replaceAll(/^\d+: .*?:/gm, "")), stdout);
}

/** Before and after `set-router-iface`, with everything that can be wrong about it. */
async function setRouter(cli: Cli, wires: Wires): Promise<void> {
  await wires.left.run("ping", ["-n", "-c", "1", "-W", "0.2", "10.7.0.254"]);
  const before = await cli.report();
  assertEquals(before.router, null);
  assert(before.interfaces.xleft.actions.DROP > 0 && before.programs.physical.noRouter > 0, JSON.stringify(before));
  assertMatch(await cli.fails(2, "set-router-iface"), /name of one interface is needed/);
  assertMatch(await cli.fails(1, "set-router-iface", "nowhere"), /Cannot find interface "nowhere".*ENODEV.*xleft/);
  assertMatch(await cli.fails(1, "set-router-iface", "lo"), /ENODEV/); // there, but not the forwarder's
  assertEquals(await cli.must("set-router-iface", ROUTER), "");
  for (const host of [wires.left, wires.right]) await host.run("ip", ["neighbour", "flush", "all"]);
}

for (const { name, place, by, up } of PLACES) {
  Deno.test({
    name:
      `D3.1 D3.5 D3.11 D3.12 D3.13 xdp_forwarder ${name}: ARP, ping and TCP through a router, counted, and nothing left behind`,
    ignore: lacksPrograms || (place === "kernel" && lacksBpf()),
    async fn() {
      await using bpffs = place === "kernel" ? await TestBpffs.mount() : null;
      await using wires = await Wires.create();
      await using cli = new Cli(`${bpffs?.path ?? "/nowhere"}/forwarder`);
      const ready = await cli.up(place, ...up, ...ALL);
      assertMatch(
        ready,
        new RegExp(`^ready in .*: xtrunk \\(router, ${by}\\), xleft \\(physical, ${by}\\), xright \\(physical, ${by}\\)`),
      );
      assertEquals(ALL.map((name) => getLink(name).promiscuity), [0, 0, 1]);
      assertMatch(await cli.fails(1, "up", ...up, ...ALL), /already/); // a second one
      await setRouter(cli, wires);
      const { left, right } = wires;
      await ping(left, "10.7.0.254");
      await ping(left, "10.9.0.1");
      await transfer(left, right, "10.9.0.1", BYTES);
      await transfer(right, left, "10.7.0.1", BYTES);
      const report = await cli.report();
      assertEquals([report.place, report.router], [place, ROUTER]);
      for (const name of ALL) {
        const one = report.interfaces[name];
        assertEquals([one.ifindex, one.role, one.by], [getLink(name).index, name === ROUTER ? "router" : "physical", by]);
        assert(one.actions.REDIRECT > 100, JSON.stringify(report));
        assertEquals([one.actions.ABORTED, one.actions.PASS, one.actions.TX], [0, 0, 0]);
      }
      assertEquals(
        PHYSICAL.reduce((sum, name) => sum + report.interfaces[name].actions.DROP, 0),
        report.programs.physical.noRouter,
      );
      assertMatch(
        await cli.must("stats"),
        /router: xtrunk\ninterface +number +side +by +ABORTED +DROP.*\n.*\nxleft +\d+ +physical/,
      );
      assertEquals(await cli.must("down"), "");
      if (cli.service !== null) assertEquals(await cli.service.ended(), { code: 0, stderr: "" });
      assertEquals(ALL.map((name) => getLink(name).promiscuity), [0, 0, 0]);
      await nothingAttached();
      assertMatch(await cli.fails(1, "stats"), /router_iface.*ENOENT/);
      assertEquals([bpffs === null ? [] : pins(bpffs), await exists(cli.socket)], [[], false]);
    },
  });
}

Deno.test({
  name: "xdp_forwarder in user space ends on SIGINT and SIGTERM with 0, and replaces the socket of one that was killed",
  ignore: lacksPrograms,
  async fn() {
    await using wires = await Wires.create();
    await using cli = new Cli("/nowhere/forwarder");
    for (const signal of ["SIGINT", "SIGTERM", "SIGKILL", "SIGTERM"] as const) {
      await cli.up("user", "--user", ...ALL);
      const { code, stderr } = await cli.service!.stop(signal);
      assertEquals([code, stderr, await exists(cli.socket)], signal === "SIGKILL" ? [137, "", true] : [0, "", false]);
    }
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name:
    "xdp_forwarder in user space over a TAP of its own: ping and TCP with offload, between the kernel and a stack in its VLAN",
  ignore: lacksPrograms,
  async fn() {
    await using wires = await Wires.create();
    await using cli = new Cli("/nowhere/forwarder");
    await cli.up("user", "--user", "tap:xtap", ROUTER);
    await cli.must("set-router-iface", ROUTER);
    await run("ip", ["address", "add", "10.5.0.1/24", "dev", "xtap"]);
    {
      // The kernel leaves segments of 64 KiB to the TAP, and they reach the router uncut.
      const uplink = PacketSocketDevice.open({ name: "xuplink", promiscuous: true });
      await using stack = new NetStack(uplink, { address: "10.5.0.254/24", vlan: getLink("xtap").index });
      const { stdout } = await run("ping", ["-n", "-c", "3", "-i", "0.05", "-W", "5", "10.5.0.254"]);
      assertMatch(stdout, /3 received, 0% packet loss/);
      using listener = stack.listen({ port: 7 });
      const received = listener.accept().then((conn) => new Response(conn.readable).bytes());
      const bytes = bulkBytes(BYTES);
      using conn = await Deno.connect({ hostname: "10.5.0.254", port: 7 });
      await send(conn, bytes);
      await conn.closeWrite();
      assertEquals(await sha256(await received), await sha256(bytes));
    }
    const { xtap } = (await cli.report()).interfaces;
    assert(xtap.actions.REDIRECT > 10 && xtap.actions.ABORTED === 0, JSON.stringify(xtap));
    await cli.must("down");
    assertEquals([await cli.service!.ended(), linkExists("xtap")], [{ code: 0, stderr: "" }, false]);
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name: "xdp_forwarder --auto: in the kernel where it can, else in user space, and says why",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using wires = await Wires.create();
    await using bpffs = await TestBpffs.mount();
    {
      await using cli = new Cli(`${bpffs.path}/forwarder`);
      assertMatch(await cli.must("up", "--auto", ...ALL), /^ready in the kernel \(auto: it can\)/);
      await cli.must("down");
    }
    {
      await using cli = new Cli("/nowhere/forwarder");
      assertMatch(await cli.up("user", "--auto", ...ALL), /^ready in user space \(auto: .*no bpffs is mounted/);
      await cli.must("down");
      assertEquals((await cli.service!.ended()).code, 0);
    }
    {
      await using cli = new Cli(`${bpffs.path}/forwarder`);
      assertMatch(await cli.up("user", "tap:xtap", ROUTER), /^ready in user space \(auto: a TAP.*xtap \(physical, device\)/);
      assertEquals(Object.keys((await cli.report()).interfaces), [ROUTER, "xtap"]);
      await cli.must("down");
      assertEquals((await cli.service!.ended()).code, 0);
    }
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name: "D3.12 xdp_forwarder: what is wrong is said, with 2 for the command line and 1 for the rest, and nothing is left behind",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using wires = await Wires.create();
    await using bpffs = await TestBpffs.mount();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    const wrong = [[], ["jump"], ["up"], ["up", "a", "a"], ["up", "--kernel", "--user", "a"], ["up", "--mode", "odd", "a"], [
      "stats",
      "x",
    ]];
    for (const args of [...wrong, ["up", "--odd", "a"], ["down", "--strict"], ["up", "--kernel", "tap:x"]]) {
      assertStringIncludes(await cli.fails(2, ...args), "usage: xdp_forwarder.ts");
    }
    for (const place of ["--kernel", "--user"]) {
      for (const command of [["set-router-iface", ROUTER], ["stats"], ["down"]]) {
        assertMatch(await cli.fails(1, ...command, place), /router_iface.*ENOENT/);
      }
      assertMatch(await cli.fails(1, "up", place, ...ALL, "nowhere"), /link "nowhere".*ENODEV/);
      assertEquals(ALL.map((name) => getLink(name).promiscuity), [0, 0, 0]);
    }
    assertMatch(await cli.fails(1, "up", "--kernel", ...ALL, "lo"), /no Ethernet address/);
    // A bridge has no native mode: what was attached before comes off again.
    await run("ip", ["link", "add", "xbridge", "type", "bridge"]);
    assertMatch(await cli.fails(1, "up", "--kernel", "--mode", "native", ...ALL, "xbridge"), /native mode: .*EOPNOTSUPP/);
    assertEquals([pins(bpffs), ALL.map((name) => getLink(name).promiscuity)], [[], [0, 0, 0]]);
    await nothingAttached();
    await cli.must("up", "--kernel", "xbridge"); // generic by itself
    assertEquals((await cli.report()).interfaces.xbridge.by, "generic");
    await cli.must("down");
    await run("ip", ["link", "delete", "xbridge"]);
    // Somebody else's: an interface that is promiscuous, a file beside ours.
    await run("ip", ["link", "set", ROUTER, "promisc", "on"]);
    await cli.must("up", "--kernel", ...ALL);
    await using other = new Cli(`${bpffs.path}/other`);
    assertMatch(await other.fails(1, "up", "--kernel", ...ALL), /EBUSY/);
    assertMatch(await other.fails(1, "up", "--auto", ...ALL), /EBUSY/); // nor twice in user space
    assertEquals([pins(bpffs), Object.keys((await cli.report()).interfaces).toSorted()], [["forwarder"], ALL]);
    Deno.removeSync(`${cli.folder}/router_iface`);
    assertMatch(await cli.fails(1, "set-router-iface", ROUTER), /router_iface.*ENOENT/);
    await cli.must("down");
    assertEquals([pins(bpffs), getLink(ROUTER).promiscuity], [[], 1]);
    assert(wires.left.pid > 0);
  },
});
