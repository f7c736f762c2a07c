/** A process whose only work is a stack that was let go ends, whatever device the stack is over; one that is held goes on. */
import { assertEquals } from "@std/assert";
import { createLink, deleteLink } from "../../ffi/rtnl_link.ts";
import { lacksBpf } from "../testing/bpf.ts";
import { kernel, run } from "../testing/namespace.ts";

/** What the program said until it ended, or until it was ended after so long. */
async function unref(kind: string, place: string, ...how: string[]): Promise<string[]> {
  const program = ["run", "-A", "--unstable-net", "tests/testing/unref.ts", kind, place, ...how];
  const { stdout, stderr } = await run(Deno.execPath(), program, { timeoutMs: how.length > 0 ? 2000 : 30_000 });
  return [...stdout.trim().split("\n"), ...(stderr === "" ? [] : [stderr])];
}

const END = ["ready", "end"];

Deno.test("a stack that is let go lets the process end: over QEMU's and virtio's sockets", async () => {
  const folder = Deno.makeTempDirSync({ prefix: "tapioca_unref_" });
  try {
    for (const kind of ["vhost", "vhostConnecting", "vhostPort", "qemuStream", "qemuConnecting"]) {
      assertEquals([kind, ...await unref(kind, `${folder}/${kind}`)], [kind, ...END]);
    }
    assertEquals(await unref("qemuDatagram", "0"), END);
    assertEquals(await unref("vhost", `${folder}/again`, "ref"), ["ready"]);
  } finally {
    Deno.removeSync(folder, { recursive: true });
  }
});

Deno.test({
  name: "a stack that is let go lets the process end: over TAP, TUN, a packet socket; one that is held again doesn't",
  ignore: !kernel,
  async fn() {
    createLink({ name: "unra", kind: "veth", up: true, peer: { name: "unrb", up: true } });
    for (const [kind, place] of [["tap", "unrt"], ["faultyTap", "unrf"], ["tun", "unru"], ["packet", "unra"]]) {
      assertEquals([kind, ...await unref(kind, place)], [kind, ...END]);
    }
    assertEquals(await unref("tap", "unrt", "ref"), ["ready"]);
    deleteLink("unra");
  },
});

Deno.test({
  name: "a stack that is let go lets the process end: over AF_XDP",
  ignore: !kernel || lacksBpf(),
  async fn() {
    createLink({ name: "unxa", kind: "veth", up: true, peer: { name: "unxb", up: true } });
    assertEquals(await unref("afXdp", "unxa"), END);
    deleteLink("unxa");
  },
});
