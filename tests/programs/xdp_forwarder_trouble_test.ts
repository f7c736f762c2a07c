/** `examples/xdp_forwarder.ts` when something is odd: priority bits, interfaces that go, other namespaces, half a forwarder. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { BpfMap } from "../../ffi/bpf.ts";
import { deleteLink, getLink } from "../../ffi/rtnl_link.ts";
import { lacksBpf, TestBpffs } from "../testing/bpf.ts";
import { lacksKernel, run } from "../testing/namespace.ts";
import { Service } from "../testing/service.ts";
import { Cli, exists, pins } from "./xdp_cli.ts";
import { ALL, ROUTER, Wires } from "./xdp_wires.ts";

const lacksPrograms = lacksKernel(["python3", "ip"], "python3 iproute2");

/** Sends a frame with a tag from the router. */
async function sendTagged(tci: number): Promise<void> {
  const tag = `8100${tci.toString(16).padStart(4, "0")}`;
  const code = `
import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("xuplink", 0))
s.send(bytes.fromhex("020000000010" "020000000011" "${tag}" "88b5") + bytes(46))
`;
  const { code: ended, stderr } = await run("python3", ["-c", code]);
  assertEquals([ended, stderr], [0, ""]);
}

async function until(holds: () => Promise<boolean>): Promise<void> {
  for (let rounds = 0; !await holds(); rounds++) assert(rounds < 200, "it never came");
}

for (const place of ["kernel", "user"] as const) {
  Deno.test({
    name: `D3.9 D3.13 xdp_forwarder in ${place === "kernel" ? "the kernel" : "user space"}: --strict drops priority bits, ` +
      "--promiscuous is for all interfaces; an interface that goes away is reported",
    ignore: lacksPrograms || (place === "kernel" && lacksBpf()),
    async fn() {
      await using bpffs = place === "kernel" ? await TestBpffs.mount() : null;
      await using wires = await Wires.create();
      await using cli = new Cli(`${bpffs?.path ?? "/nowhere"}/forwarder`);
      for (const strict of [true, false]) {
        await cli.up(place, `--${place}`, ...strict ? ["--strict"] : [], "--promiscuous", ...ALL);
        assertEquals(ALL.map((name) => getLink(name).promiscuity), [1, 1, 1]);
        const { index } = getLink("xleft");
        await sendTagged(index | 0x6000);
        const sent = (await cli.report()).interfaces[ROUTER].actions.REDIRECT;
        await sendTagged(index);
        // The forwarder in user space has its own time.
        await until(async () => (await cli.report()).interfaces[ROUTER].actions.REDIRECT > sent);
        const { programs } = await cli.report();
        assertEquals(programs.router.priority, strict ? 1 : 0);
        if (!strict) deleteLink("xright");
        if (!strict) { while ("xright" in (await cli.report()).interfaces); }
        if (!strict) assertEquals((await cli.report()).interfaces.xleft.role, "physical");
        await cli.must("down");
        const ended = await cli.service?.ended();
        if (ended !== undefined) assertEquals(ended.code, 0);
        if (ended !== undefined) assertEquals(ended.stderr, strict ? "" : 'xdp_forwarder: interface "xright" is gone\n');
        assertEquals(
          ALL.filter((name) => strict || name !== "xright").map((name) => getLink(name).promiscuity).includes(1),
          false,
        );
      }
      if (bpffs !== null) assertEquals(pins(bpffs), []);
      assert(wires.left.pid > 0);
    },
  });
}

Deno.test({
  name:
    "D3.12 xdp_forwarder in the kernel: another namespace's is left alone, a map that refuses, half a forwarder is taken down",
  ignore: lacksPrograms || lacksBpf(),
  async fn() {
    await using bpffs = await TestBpffs.mount();
    await using wires = await Wires.create();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    await cli.must("up", "--kernel", ...ALL);
    for (const command of [["stats"], ["down"], ["set-router-iface", ROUTER]]) {
      const { code, stderr } = await cli.runIn(wires.left.prefix, ...command);
      assertEquals(code, 1);
      assertMatch(stderr, /belongs to another network namespace/);
    }
    // A map that takes no interface.
    Deno.removeSync(`${cli.folder}/router_iface`);
    using odd = BpfMap.create({ name: "router_iface", type: 3, keySize: 4, valueSize: 4, maxEntries: 1 });
    odd.pin(`${cli.folder}/router_iface`);
    assertMatch(
      await cli.fails(1, "set-router-iface", ROUTER),
      /Cannot update map "router_iface" with interface "xtrunk".*EBADF/,
    );
    // A file of somebody else's stays, and is told about; the rest is gone.
    odd.pin(`${cli.folder}/other`);
    await cli.fails(1, "down");
    assertEquals([...Deno.readDirSync(cli.folder)].map(({ name }) => name), ["other"]);
    Deno.removeSync(`${cli.folder}/other`);
    // What a process that was killed may leave.
    Deno.mkdirSync(`${cli.folder}/if_4`);
    odd.pin(`${cli.folder}/if_4/count`);
    assertMatch(await cli.fails(1, "up", "--kernel", ...ALL), /EEXIST/);
    await cli.must("down");
    assertEquals(pins(bpffs), []);
  },
});

Deno.test({
  name: "xdp_forwarder: without rights of the machine --kernel says which, and --auto goes to user space",
  ignore: lacksPrograms || lacksBpf(["unshare"], "util-linux"),
  async fn() {
    await using bpffs = await TestBpffs.mount();
    await using cli = new Cli(`${bpffs.path}/forwarder`);
    const prefix = ["unshare", "-Urn", "sh", "-c", 'ip link add v0 up type veth peer name v1 && exec "$@"', "sh"];
    const { code, stderr } = await cli.runIn(prefix, "up", "--kernel", "v0");
    assertEquals(code, 1);
    assertMatch(stderr, /EPERM.*CAP_BPF/);
    const args = ["up", "--auto", "v0", ...cli.paths];
    await using service = await Service.start(args, { program: "examples/xdp_forwarder.ts", prefix });
    assertMatch(service.ready, /^ready in user space \(auto: the kernel can't.*EPERM/);
    assertEquals([pins(bpffs), (await service.stop()).code], [[], 0]);
  },
});

Deno.test({
  name: "xdp_forwarder: its socket takes nonsense, silent and departing clients, and goes on; only its user may use it",
  ignore: lacksPrograms,
  async fn() {
    await using wires = await Wires.create();
    await using cli = new Cli("/nowhere/forwarder");
    await cli.up("user", "--user", ...ALL);
    assertEquals((await Deno.stat(cli.socket)).mode! & 0o777, 0o600);
    const silent = await Deno.connect({ transport: "unix", path: cli.socket });
    for (const text of ["nonsense\n", "null\n", "[]\n", '{"command": "jump"}\n', '{"command": "set-router-iface"}\n', "half"]) {
      using conn = await Deno.connect({ transport: "unix", path: cli.socket });
      await conn.write(new TextEncoder().encode(text));
      if (!text.endsWith("\n")) continue;
      const buffer = new Uint8Array(1000);
      const count = await conn.read(buffer);
      assertEquals(JSON.parse(new TextDecoder().decode(buffer.subarray(0, count!))).ok, false, text);
    }
    assertEquals((await cli.report()).place, "user");
    await cli.must("down");
    assertEquals([await cli.service!.ended(), await exists(cli.socket)], [{ code: 0, stderr: "" }, false]);
    silent.close();
    assert(wires.left.pid > 0);
  },
});

Deno.test({
  name: "xdp_forwarder: clients that say nothing, or a little at a time, are closed after a while, and keep nobody from asking",
  ignore: lacksPrograms,
  async fn() {
    await using wires = await Wires.create();
    await using cli = new Cli("/nowhere/forwarder");
    await cli.up("user", "--user", ...ALL);
    const silent = await Promise.all(
      Array.from({ length: 40 }, () => Deno.connect({ transport: "unix", path: cli.socket })),
    );
    const talker = setInterval(() => silent[0].write(new Uint8Array([32])).catch(() => {}), 100);
    const buffer = new Uint8Array(1);
    const closed = Promise.all(silent.map((conn) => conn.read(buffer).catch(() => null)));
    assertEquals((await cli.report()).place, "user");
    clearInterval(talker);
    await cli.must("down");
    assertEquals(new Set(await closed), new Set([null]));
    assertEquals([await cli.service!.ended(), await exists(cli.socket)], [{ code: 0, stderr: "" }, false]);
    for (const conn of silent) conn.close();
    assert(wires.left.pid > 0);
  },
});
