/**
 * A real virtual machine on `examples/vm_network.ts`: QEMU with Debian's cloud kernel, whose own virtio_net drives our rings
 * over vhost-user, or whose frames come by QEMU's sockets.
 *
 * D2.17: a real VM's virtio driver drives our rings.
 */
import { assertEquals, assertMatch } from "@std/assert";
import { createHash } from "node:crypto";
import { sha256 } from "../../examples/demo/stranger.ts";
import { Guest, lacksGuest } from "../testing/guest.ts";
import { kernel } from "../testing/namespace.ts";
import { Service, within } from "../testing/service.ts";
import { socketPath } from "../testing/socket_path.ts";

const PROGRAM = { program: "examples/vm_network.ts" };
const MiB = 1 << 20;
const ignore = !kernel || lacksGuest();
// Without KVM, QEMU 7.2 loses MSI-X interrupts of vhost-user.
const CARD = ",vectors=0";

/** QEMU's words, as the program prints them, with more for the card. */
function wordsOf(service: Service, card: string): string[] {
  const line = service.ready.split("\n").find((text) => text.startsWith("qemu-system-x86_64 "))!;
  const words = line.split(" ").slice(1);
  words[words.indexOf("-device") + 1] += card;
  return words;
}

/** What a connection brings until its end. */
async function digest(listener: Deno.TcpListener): Promise<{ bytes: number; sha256: string }> {
  using conn = await listener.accept();
  const hash = createHash("sha256");
  const buffer = new Uint8Array(256 * 1024);
  let bytes = 0;
  for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
    hash.update(buffer.subarray(0, n));
    bytes += n;
  }
  return { bytes, sha256: hash.digest("hex") };
}

/** An address by DHCP, a ping, `size` bytes each way: in from the gateway itself, out through it to a server of this machine. */
async function exercise(guest: Guest, size: number): Promise<void> {
  await guest.run("udhcpc -i eth0 -n -q -s /dhcp");
  assertMatch(await guest.run("ip addr show eth0"), /inet 10\.0\.2\.15\/24/);
  assertMatch(await guest.run("ping -c 3 10.0.2.2"), /3 packets received/);
  const counting = await sha256(Uint8Array.from({ length: size }, (_, i) => i & 255));
  assertMatch(await guest.run(`wget -qO- http://10.0.2.2/bytes/${size} | sha256sum`, 300), new RegExp(counting));
  using listener = Deno.listen({ hostname: "127.0.0.1", port: 0 });
  const received = digest(listener);
  const { port } = listener.addr;
  await guest.run(`wget -qO- http://10.0.2.2/bytes/${size} | nc 10.0.2.2 ${port}`, 300);
  assertEquals(await within(60, "the upload", received), { bytes: size, sha256: counting });
}

async function linkDownAndUp(guest: Guest): Promise<void> {
  await guest.run("ip link set eth0 down; ip link set eth0 up; ip route add default via 10.0.2.2");
  await reachable(guest);
}

/** Pings until there is an answer: a link that was down, or a process that begins anew, takes a moment. */
async function reachable(guest: Guest): Promise<void> {
  await guest.run("for i in 1 2 3 4 5 6 7 8 9 10; do ping -c 1 -W 2 10.0.2.2 && break; sleep 1; done; ping -c 1 -W 2 10.0.2.2");
}

const CASES: { name: string; words: string[]; card: string; size: number }[] = [
  { name: "vhost-user", words: ["--vhost"], card: CARD, size: 100 * MiB },
  { name: "vhost-user, packed ring", words: ["--vhost"], card: `${CARD},packed=on`, size: 100 * MiB },
  {
    name: "vhost-user without offload, event index, indirect descriptors and mergeable buffers",
    words: ["--vhost", "--no-offload"],
    card: `${CARD},event_idx=off,indirect_desc=off,mrg_rxbuf=off`,
    size: 100 * MiB,
  },
  { name: "vhost-user, two queue pairs", words: ["--vhost", "--queues", "2"], card: "", size: 20 * MiB },
  { name: "the stream socket", words: [], card: CARD, size: 100 * MiB },
];

for (const { name, words, card, size } of CASES) {
  Deno.test({
    name: `D2.17 a guest over ${name}: DHCP, ping, ${size / MiB} MiB each way, link down and up`,
    ignore,
    async fn() {
      await using service = await Service.start(["--socket", socketPath(), "--host-loopback", ...words], PROGRAM);
      const more = name.includes("two") ? ["-smp", "2"] : [];
      const line = wordsOf(service, card);
      // The program prints vectors for who has KVM.
      await using guest = await Guest.boot([...line.map((word) => word.replace(/,vectors=6$/, CARD)), ...more]);
      await exercise(guest, size);
      if (name.includes("two")) assertMatch(await guest.run("ls /sys/class/net/eth0/queues"), /rx-1/);
      await linkDownAndUp(guest);
      assertEquals((await service.stop()).code, 0);
    },
  });
}

Deno.test({
  name: "D2.17 a guest over datagrams: DHCP, ping, 20 MiB each way",
  ignore,
  async fn() {
    const [ours, theirs] = [socketPath(), socketPath()];
    const options = { ...PROGRAM, flags: ["--unstable-net"] };
    await using service = await Service.start(["--dgram", `${ours},${theirs}`, "--host-loopback"], options);
    await using guest = await Guest.boot(wordsOf(service, CARD));
    await exercise(guest, 20 * MiB);
    assertEquals((await service.stop()).code, 0);
    await Deno.remove(theirs).catch(() => {});
  },
});

for (const { name, words } of [{ name: "vhost-user", words: ["--vhost"] }, { name: "the stream socket", words: ["--connect"] }]) {
  Deno.test({
    name: `D2.17 a guest over ${name} survives that our process is killed and started again`,
    ignore,
    async fn() {
      const args = ["--socket", socketPath(), "--host-loopback", ...words];
      const first = await Service.start(args, PROGRAM);
      await using guest = await Guest.boot(wordsOf(first, CARD));
      await guest.run("udhcpc -i eth0 -n -q -s /dhcp");
      await reachable(guest);
      await first[Symbol.asyncDispose]();
      await using second = await Service.start(args, PROGRAM);
      await reachable(guest);
      await exercise(guest, MiB);
      assertEquals((await second.stop()).code, 0);
    },
  });
}
