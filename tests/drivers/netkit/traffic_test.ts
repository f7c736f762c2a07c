// Netkit under whole stacks: bulk data while programs come and go, a stack and a TAP, single devices with back ends, the kernel's own.
import { assert, assertEquals, assertMatch, assertStringIncludes } from "@std/assert";
import { cable, NetStack, TapDevice, TunDevice } from "../../../mod.ts";
import { joinDevices } from "../../../drivers/netkit/join.ts";
import { createKernelNetkit } from "../../../drivers/netkit/kernel.ts";
import { attachNetkit, createNetkit, detachNetkit, linkNetkit } from "../../../drivers/netkit/netkit.ts";
import * as nk from "../../../drivers/netkit/options.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import { libc } from "../../../ffi/libc.ts";
import { deleteLink, getLink, linkExists } from "../../../ffi/rtnl_link.ts";
import { kernel, lacksKernel, run } from "../../testing/namespace.ts";
import { codeOf, kit, messageOf } from "./rig.ts";

// Opened once and kept: not what the leak checker is after.
if (kernel) libc();

async function sha256(chunks: AsyncIterable<Uint8Array> | Iterable<Uint8Array>): Promise<string> {
  const { createHash } = await import("node:crypto");
  const hash = createHash("sha256");
  for await (const chunk of chunks) hash.update(chunk);
  return hash.digest("hex");
}

const BLOCK = crypto.getRandomValues(new Uint8Array(1 << 16));

function* blocks(total: number): Generator<Uint8Array<ArrayBuffer>> {
  const view = new DataView(BLOCK.buffer);
  for (let sent = 0; sent < total; sent += BLOCK.length) {
    view.setUint32(0, sent / BLOCK.length);
    yield BLOCK.slice();
  }
}

/** Sends so many bytes from `a` to `b`: true if they came as they went. `meanwhile` is called for every MiB. */
async function transfer(
  a: NetStack,
  b: NetStack,
  address: string,
  total: number,
  meanwhile: (mib: number) => void,
): Promise<void> {
  using listener = b.listen({ port: 7000 });
  const received = (async () => {
    using conn = await listener.accept();
    return await sha256(conn.readable);
  })();
  using conn = await a.connect({ hostname: address, port: 7000 });
  let sent = 0;
  for (const block of blocks(total)) {
    for (let at = 0; at < block.length;) at += await conn.write(block.subarray(at));
    sent += block.length;
    if (sent % (1 << 20) === 0) meanwhile(sent >> 20);
  }
  await conn.closeWrite();
  assertEquals(await received, await sha256(blocks(total)));
}

for (const mode of [nk.NETKIT_L2, nk.NETKIT_L3]) {
  // A GiB takes four seconds.
  const size = 1024;
  Deno.test(`D5.9 a pair in mode L${mode + 2} carries ${size} MiB between two stacks while programs come and go`, async () => {
    const { primary, peer } = kit({ mode });
    using a = new NetStack(primary, { address: "10.0.0.1/24" });
    using b = new NetStack(peer!, { address: "10.0.0.2/24" });
    // What the first stack says while the other isn't there yet is lost, as it must be.
    const early = primary.statistics64().txDropped;
    let counted = 0;
    const programs = [0, 1, 2].map((n) => () => (counted += n + 1, n === 2 ? nk.NETKIT_PASS : nk.NETKIT_NEXT));
    let link: Disposable | null = null;
    await transfer(a, b, "10.0.0.2", size << 20, (mib) => {
      const program = programs[mib % 3];
      if (mib % 7 === 0) {
        link?.[Symbol.dispose]();
        link = link === null ? linkNetkit(primary, () => nk.NETKIT_NEXT, { before: true }) : null;
      }
      try {
        if (mib % 2 === 0) attachNetkit(primary, program, { type: mib % 4 === 0 ? nk.BPF_NETKIT_PRIMARY : nk.BPF_NETKIT_PEER });
        else {detachNetkit(primary, programs[(mib - 1) % 3], {
            type: (mib - 1) % 4 === 0 ? nk.BPF_NETKIT_PRIMARY : nk.BPF_NETKIT_PEER,
          });}
      } catch (error) {
        assertMatch((error as { code: string }).code, /^(EEXIST|ENOENT)$/);
      }
    });
    assert(counted > 0);
    const { txDropped, txBytes } = primary.statistics64();
    assert(txBytes > size << 20);
    assertEquals([txDropped, peer!.statistics64().rxBytes], [early, txBytes]);
  });
}

Deno.test("D5.9 a program that drops one frame of ten: the stacks recover, the data is whole", async () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L3 });
  using a = new NetStack(primary, { address: "10.0.0.1/24" });
  using b = new NetStack(peer!, { address: "10.0.0.2/24" });
  let n = 0;
  attachNetkit(primary, () => ++n % 10 === 0 ? nk.NETKIT_DROP : nk.NETKIT_NEXT);
  await transfer(a, b, "10.0.0.2", 4 << 20, () => {});
  assertEquals(primary.statistics64().txDropped, Math.floor(n / 10));
});

Deno.test("D5.18 two back ends with stacks of their own: pings to the host, and data between the two by redirect", async () => {
  const pairing = nk.NETKIT_DEVICE_SINGLE, mode = nk.NETKIT_L2;
  const one = kit({ pairing, mode }).primary, two = kit({ pairing, mode }).primary;
  const [a, b] = [one.lease(), two.lease()];
  const isFor = (bytes: Uint8Array, mac: Uint8Array) => mac.every((byte, i) => bytes[i] === byte);
  // What the other back end is meant by goes there; broadcasts (ARP) as well as to the host, so each program asks both.
  const program = (from: typeof a, to: typeof a) => {
    from.program = (frame, meta) => {
      const { bytes } = frame;
      if (isFor(bytes, to.mac!)) return meta.redirect(to, true);
      // An ARP request for the other's address: at byte 38 of the frame.
      if (bytes[12] === 8 && bytes[13] === 6 && bytes[41] === (to === b ? 12 : 11)) return meta.redirect(to, true);
      return nk.NETKIT_PASS;
    };
  };
  program(a, b);
  program(b, a);
  using hostOne = new NetStack(one, { address: "10.1.0.1/24" });
  using hostTwo = new NetStack(two, { address: "10.1.0.2/24" });
  using vmOne = new NetStack(a, { address: "10.1.0.11/24" });
  using vmTwo = new NetStack(b, { address: "10.1.0.12/24" });
  assertEquals((await vmOne.ping("10.1.0.1")).size, 56);
  assertEquals((await hostTwo.ping("10.1.0.12")).size, 56);
  assertEquals((await vmOne.ping("10.1.0.12")).size, 56);
  await transfer(vmTwo, vmOne, "10.1.0.11", 16 << 20, () => {});
  assert(b.statistics().redirected > 100);
  await transfer(hostOne, vmOne, "10.1.0.11", 4 << 20, () => {});
});

Deno.test("joined devices: a pair and a cable without offload carry data; frames are made plain on the way", async () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L2 });
  const [left, right] = cable();
  using join = joinDevices(peer!, left);
  {
    using a = new NetStack(primary, { address: "10.0.0.1/24" });
    using b = new NetStack(right, { address: "10.0.0.2/24" });
    await transfer(a, b, "10.0.0.2", 4 << 20, () => {});
  }
  assertEquals(codeOf(() => joinDevices(kit().primary, cable()[0])).startsWith("TypeError"), true);
  const { forwarded } = join.statistics;
  assert(forwarded[0] > 2000 && forwarded[1] > 10, `${forwarded}`);
});

for (const mode of [nk.NETKIT_L2, nk.NETKIT_L3]) {
  Deno.test({
    name: `D5.10 a stack and a ${mode === nk.NETKIT_L2 ? "TAP" : "TUN"} joined by a pair in mode L${
      mode + 2
    }: the kernel reaches the stack`,
    ignore: lacksKernel(["ping", "python3"], "iputils-ping python3"),
    fn: async () => {
      const table = new DeviceTable();
      using made = createNetkit({ mode }, table);
      const open = mode === nk.NETKIT_L2 ? TapDevice.open : TunDevice.open;
      const tap = open({ name: `nkt${mode}`, host: { address: "10.5.0.1/24" } });
      using join = joinDevices(made.peer!, tap);
      using stack = new NetStack(made.primary, { address: "10.5.0.2/24" });
      let seen = 0;
      attachNetkit(made.primary, () => (seen++, nk.NETKIT_NEXT), { type: nk.BPF_NETKIT_PEER });
      assertStringIncludes((await run("ping", ["-c", "2", "-i", "0.05", "10.5.0.2"])).stdout, " 0% packet loss");
      assert(seen >= 2);
      using listener = stack.listen({ port: 80 });
      const server = (async () => {
        using conn = await listener.accept();
        await conn.readable.pipeTo(conn.writable);
      })();
      const code = `
import socket, hashlib, os, threading
s = socket.create_connection(("10.5.0.2", 80), 20)
data = os.urandom(8 << 20)
threading.Thread(target=lambda: (s.sendall(data), s.shutdown(socket.SHUT_WR))).start()
back = b""
while True:
    piece = s.recv(1 << 16)
    if not piece: break
    back += piece
print(back == data)`;
      const { stdout, stderr } = await run("python3", ["-c", code]);
      assertEquals(stdout.trim(), "True", stderr);
      await server;
      assertEquals(join.working, true);
    },
  });
}

Deno.test({
  name: "D5.2 the kernel's own netkit by the same options, or the kernel's answer passed on",
  ignore: !kernel,
  fn: () => {
    // What is refused is refused before the kernel is asked.
    assertEquals(codeOf(() => createKernelNetkit({ policy: 1 })), "EINVAL");
    const options = { name: "nkk0", peer: { name: "nkk1" }, mode: nk.NETKIT_L2, policy: nk.NETKIT_DROP };
    const code = codeOf(() => createKernelNetkit(options));
    if (code === "") {
      assertEquals([getLink("nkk0").kind, getLink("nkk1").kind], ["netkit", "netkit"]);
      deleteLink("nkk0");
      return;
    }
    assertEquals([code, linkExists("nkk0")], ["EOPNOTSUPP", false]);
    assertStringIncludes(messageOf(() => createKernelNetkit(options)), "netkit link");
  },
});
