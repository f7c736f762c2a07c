/** `examples/xdp_forwarder.ts`: interfaces that are added and removed while it runs, by one table in the kernel and in user space. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { getLink } from "../../ffi/rtnl_link.ts";
import { lacksBpf, TestBpffs } from "../testing/bpf.ts";
import { lacksKernel, run } from "../testing/namespace.ts";
import { Cli, exists, pins } from "./xdp_cli.ts";
import { ALL, ROUTER, Wires } from "./xdp_wires.ts";

const lacksPrograms = lacksKernel(["ping", "ip"], "iputils-ping iproute2");

/** What is asked, what it is answered (nothing, or a complaint), and what there is then. */
interface Step {
  ask: string[];
  fails?: RegExp;
  interfaces: string[];
  router: string | null;
  /** Whether the left host reaches the router's address in its VLAN, and the right host. */
  reaches: [boolean, boolean];
}

const STEPS: Step[] = [
  { ask: ["set-router-iface", ROUTER], interfaces: ["xleft", ROUTER], router: ROUTER, reaches: [true, false] },
  { ask: ["add", "xright"], interfaces: ALL, router: ROUTER, reaches: [true, true] },
  // What is wrong changes nothing.
  {
    ask: ["add", "xright"],
    fails: /Cannot add interface "xright".*EEXIST/,
    interfaces: ALL,
    router: ROUTER,
    reaches: [true, true],
  },
  { ask: ["remove", "xright"], interfaces: ["xleft", ROUTER], router: ROUTER, reaches: [true, false] },
  {
    ask: ["add", "xright", "nowhere"],
    fails: /"nowhere".*ENODEV/,
    interfaces: ["xleft", ROUTER],
    router: ROUTER,
    reaches: [true, false],
  },
  {
    ask: ["add", "xright", "lo"],
    fails: /"lo" has no Ethernet/,
    interfaces: ["xleft", ROUTER],
    router: ROUTER,
    reaches: [true, false],
  },
  {
    ask: ["remove", "xleft", "xright"],
    fails: /Cannot find interface "xright".*ENODEV.*The forwarder has .*xleft/,
    interfaces: ["xleft", ROUTER],
    router: ROUTER,
    reaches: [true, false],
  },
  { ask: ["add", "--promiscuous", "xright"], interfaces: ALL, router: ROUTER, reaches: [true, true] },
  // The router's: frames are dropped until there is one again.
  { ask: ["remove", ROUTER], interfaces: ["xleft", "xright"], router: null, reaches: [false, false] },
  { ask: ["set-router-iface", ROUTER], fails: /ENODEV/, interfaces: ["xleft", "xright"], router: null, reaches: [false, false] },
  { ask: ["add", ROUTER], interfaces: ALL, router: null, reaches: [false, false] },
  { ask: ["set-router-iface", ROUTER], interfaces: ALL, router: ROUTER, reaches: [true, true] },
  // The last physical ones: the router's keeps the map.
  { ask: ["remove", "xleft", "xright"], interfaces: [ROUTER], router: ROUTER, reaches: [false, false] },
  { ask: ["add", "xleft"], interfaces: ["xleft", ROUTER], router: ROUTER, reaches: [true, false] },
  // The last of all: the map goes, and comes again empty.
  { ask: ["remove", "xleft", ROUTER], interfaces: [], router: null, reaches: [false, false] },
  { ask: ["set-router-iface", ROUTER], fails: /router_iface.*ENOENT/, interfaces: [], router: null, reaches: [false, false] },
  { ask: ["remove", ROUTER], fails: /ENODEV.*The forwarder has none/, interfaces: [], router: null, reaches: [false, false] },
  { ask: ["add", "nowhere"], fails: /ENODEV/, interfaces: [], router: null, reaches: [false, false] },
  { ask: ["add", ...ALL], interfaces: ALL, router: null, reaches: [false, false] },
  { ask: ["set-router-iface", ROUTER], interfaces: ALL, router: ROUTER, reaches: [true, true] },
];

/** Waits long for what should come only. */
async function reaches(wires: Wires, expected: boolean[]): Promise<boolean[]> {
  const hosts = [[wires.left, "10.7.0.254"], [wires.right, "10.9.0.254"]] as const;
  const pings = hosts.map(async ([host, address], i) => {
    await host.run("ip", ["neighbour", "flush", "all"]);
    return (await host.run("ping", ["-n", "-c", "1", "-W", expected[i] ? "5" : "0.2", address])).code === 0;
  });
  return await Promise.all(pings);
}

for (const place of ["kernel", "user"] as const) {
  Deno.test({
    name: `D3.11 xdp_forwarder in ${
      place === "kernel" ? "the kernel" : "user space"
    }: interfaces are added and removed while it runs`,
    ignore: lacksPrograms || (place === "kernel" && lacksBpf()),
    async fn() {
      await using bpffs = place === "kernel" ? await TestBpffs.mount() : null;
      await using wires = await Wires.create();
      await using cli = new Cli(`${bpffs?.path ?? "/nowhere"}/forwarder`);
      await cli.up(place, `--${place}`, "xleft", ROUTER);
      let received = 0;
      const promiscuous = new Set([ROUTER]);
      for (const { ask, fails, interfaces, router, reaches: expected } of STEPS) {
        const what = ask.join(" ");
        if (fails === undefined) assertEquals(await cli.must(...ask), "");
        else assertMatch(await cli.fails(1, ...ask), fails);
        assertEquals(await reaches(wires, expected), expected, what);
        const { interfaces: there, router: to, programs } = await cli.report();
        assertEquals([Object.keys(there).toSorted(), to], [interfaces.toSorted(), router], what);
        // What was counted by those that were removed is kept as long as there is one.
        const all = programs.physical.received + programs.router.received;
        if (interfaces.length > 0) assert(all >= received, `${what}: ${all} after ${received}`);
        else assertEquals(all, 0);
        received = all;
        for (const name of fails === undefined ? ask.slice(1) : []) {
          if (ask[0] === "remove") promiscuous.delete(name);
          else if (ask[0] === "add" && (name === ROUTER || what.includes("--promiscuous"))) promiscuous.add(name);
        }
        assertEquals(ALL.map((name) => getLink(name).promiscuity), ALL.map((name) => Number(promiscuous.has(name))), what);
      }
      assertEquals(await cli.must("down"), "");
      if (cli.service !== null) assertEquals(await cli.service.ended(), { code: 0, stderr: "" });
      assertEquals(ALL.map((name) => getLink(name).promiscuity), [0, 0, 0]);
      assert(!/xdp/.test((await run("ip", ["link", "show"])).stdout.replaceAll(/^\d+: .*?:/gm, "")));
      assertEquals([bpffs === null ? [] : pins(bpffs), await exists(cli.socket)], [[], false]);
    },
  });
}

Deno.test({
  name: "xdp_forwarder add and remove: strictness and promiscuity are those of `up`, a TAP is for user space, usage is told",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using bpffs = await TestBpffs.mount();
    await using wires = await Wires.create();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    for (const args of [["add"], ["remove"], ["add", "--strict", "xleft"], ["remove", "--promiscuous", "x"], ["add", "a", "a"]]) {
      assertMatch(await cli.fails(2, ...args), /usage: /);
    }
    for (const args of [["add", "xleft"], ["remove", "xleft"]]) assertMatch(await cli.fails(1, ...args), /ENOENT/);
    for (const place of ["kernel", "user"] as const) {
      await cli.up(place, `--${place}`, "--promiscuous", "--strict", "xleft");
      await cli.must("add", "xright", ROUTER);
      assertEquals(ALL.map((name) => getLink(name).promiscuity), [1, 1, 1]);
      if (place === "kernel") assertMatch(await cli.fails(2, "add", "tap:xtap"), /for --user/);
      else {
        await cli.must("add", "tap:xtap");
        assertMatch(await cli.fails(1, "add", "tap:xtap"), /EEXIST/);
        await cli.must("remove", "xtap");
      }
      const tagged = `8100${(getLink("xleft").index | 0x6000).toString(16).padStart(4, "0")}`;
      const code = `import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("xuplink", 0))
s.send(bytes.fromhex("020000000010" "020000000011" "${tagged}" "88b5") + bytes(46))`;
      assertEquals((await run("python3", ["-c", code])).code, 0);
      while ((await cli.report()).programs.router.priority === 0) { /* it has its own time */ }
      await cli.must("down");
      if (cli.service !== null) assertEquals(await cli.service.ended(), { code: 0, stderr: "" });
    }
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name: "xdp_forwarder in user space by AF_XDP: xsk:NAME and xsk:NAME:QUEUE carry ping, and are removed by their names",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using wires = await Wires.create();
    await using cli = new Cli("/nowhere/forwarder");
    for (const args of [["up", "--kernel", "xsk:xleft"], ["up", "--kernel", "xleft", "tap:xtap"]]) {
      assertMatch(await cli.fails(2, ...args), /of this process is for --user\nusage: /);
    }
    assertMatch(await cli.fails(1, "up", "--user", "xsk:nowhere"), /"nowhere".*ENODEV/);
    assertMatch(await cli.fails(1, "up", "--user", "xsk:xleft:64"), /queue must be 0 to 63/);
    const ready = await cli.up("user", "xsk:xleft", "--promiscuous", `xsk:${ROUTER}`);
    assertMatch(ready, /auto: an AF_XDP socket of this process.*xtrunk \(router, device\), xleft \(physical, device\)/);
    await cli.must("set-router-iface", ROUTER);
    await cli.must("add", "xsk:xright:0");
    assertMatch(await cli.fails(1, "add", "xright"), /EEXIST/);
    assertEquals(ALL.map((name) => [getLink(name).xdpPrograms.length, getLink(name).promiscuity]), new Array(3).fill([1, 1]));
    assertEquals(await reaches(wires, [true, true]), [true, true]);
    await cli.must("remove", "xright");
    assertEquals(getLink("xright").xdpPrograms, []);
    assertEquals(await reaches(wires, [true, false]), [true, false]);
    await cli.must("down");
    assertEquals(await cli.service!.ended(), { code: 0, stderr: "" });
    assertEquals(ALL.map((name) => [getLink(name).xdpPrograms.length, getLink(name).promiscuity]), new Array(3).fill([0, 0]));
  },
});
