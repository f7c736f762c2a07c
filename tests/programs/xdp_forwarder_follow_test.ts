/** `examples/xdp_forwarder.ts` when interfaces are renamed or get another MTU: the same in the kernel and in user space. */
import { assert, assertEquals, assertMatch } from "@std/assert";
import { getLink, setLink } from "../../ffi/rtnl_link.ts";
import { inNamespace } from "../../ffi/namespace.ts";
import { PacketSocketDevice } from "../../mod.ts";
import { lacksBpf, TestBpffs } from "../testing/bpf.ts";
import { lacksKernel } from "../testing/namespace.ts";
import { Cli } from "./xdp_cli.ts";
import { ROUTER, Wires } from "./xdp_wires.ts";

const lacksPrograms = lacksKernel(["python3"]);

/** Sends frames of these lengths from the left host: those that reached the router, without the tag. */
async function arrive(wires: Wires, ...lengths: number[]): Promise<number[]> {
  using router = PacketSocketDevice.open({ name: "xuplink", promiscuous: true });
  const code = `import socket
s = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
s.bind(("eth0", 0))
for n in ${JSON.stringify([...lengths, 60])}: s.send(bytes.fromhex("020100000001" "0200000000aa" "88b5") + bytes(n - 14))`;
  const { code: ended, stderr } = await wires.left.run("python3", ["-c", code]);
  assertEquals([ended, stderr], [0, ""]);
  const got: number[] = [];
  for (let rounds = 0; got.at(-1) !== 60; rounds++) {
    assert(rounds < 2000, "the last one never came");
    router.receive({
      frame: (memory, at, length) => {
        if (length >= 64 && memory.view.getUint16(at + 16) === 0x88b5) got.push(length - 4);
      },
    }, 64);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return got.slice(0, -1);
}

for (const place of ["kernel", "user"] as const) {
  Deno.test({
    name: `xdp_forwarder in ${
      place === "kernel" ? "the kernel" : "user space"
    }: a larger or smaller MTU and a new name count at once`,
    ignore: lacksPrograms || (place === "kernel" && lacksBpf()),
    async fn() {
      await using bpffs = place === "kernel" ? await TestBpffs.mount() : null;
      await using wires = await Wires.create();
      await using cli = new Cli(`${bpffs?.path ?? "/nowhere"}/forwarder`);
      await cli.up(place, `--${place}`, "xleft", ROUTER);
      await cli.must("set-router-iface", ROUTER);
      assertEquals(await arrive(wires, 1514), [1514]);
      for (const name of ["xleft", ROUTER, "xuplink"]) setLink(name, { mtu: 9000 });
      inNamespace({ pid: wires.left.pid }, () => setLink("eth0", { mtu: 9000 }));
      await cli.report(); // whoever has answered has heard of it
      assertEquals(await arrive(wires, 1518, 3000, 9014), [1518, 3000, 9014]);
      setLink(ROUTER, { mtu: 1000 });
      const before = (await cli.report()).interfaces[ROUTER].notSent;
      assertEquals(await arrive(wires, 1014, 1015, 3000), [1014]);
      const after = (await cli.report()).interfaces[ROUTER].notSent;
      assertEquals([before, after], place === "kernel" ? [null, null] : [0, 2]);
      assertMatch(await cli.must("stats"), place === "kernel" ? /not sent\n.*unknown\n/ : /not sent\n(.*\n)?xtrunk.* 2\n/);
      setLink(ROUTER, { name: "xrouter9" });
      assertEquals((await cli.report()).router, "xrouter9");
      assertMatch(await cli.fails(1, "set-router-iface", ROUTER), /ENODEV.*The forwarder has .*xrouter9/);
      await cli.must("set-router-iface", "xrouter9");
      await cli.must("remove", "xrouter9");
      setLink("xrouter9", { name: ROUTER });
      await cli.must("add", ROUTER);
      assertEquals(getLink(ROUTER).promiscuity, 1);
      await cli.must("down");
      if (cli.service !== null) assertEquals(await cli.service.ended(), { code: 0, stderr: "" });
    },
  });
}
