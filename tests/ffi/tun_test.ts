/** In a network namespace of its own (TAPIOCA_KERNEL), see kernel.ts. */
import { assert, assertEquals, assertMatch, assertNotEquals, assertThrows } from "@std/assert";
import { createLink, deleteLink, getLink, linkExists, setLink } from "../../ffi/rtnl_link.ts";
import * as tun from "../../ffi/tun.ts";
import { TunDescriptor } from "../../ffi/tun.ts";
import { kernelTest } from "./kernel.ts";

const EBUSY = -16, EEXIST = -17, EINVAL = -22, EBADFD = -77;
const TAP = tun.IFF_TAP | tun.IFF_NO_PI;

function attached(name: string, flags: number): TunDescriptor {
  const descriptor = TunDescriptor.open();
  assertEquals(descriptor.attach(name, flags), name);
  return descriptor;
}

kernelTest("D6.1 features, and the kernel's choice of a name", () => {
  using descriptor = TunDescriptor.open();
  const needed = tun.IFF_TUN | tun.IFF_TAP | tun.IFF_NO_PI | tun.IFF_VNET_HDR | tun.IFF_MULTI_QUEUE;
  assertEquals(descriptor.features() & needed, needed);
  assertEquals(descriptor.attached(), EBADFD);
  assertEquals(descriptor.read(new Uint8Array(100)), EBADFD);
  const name = descriptor.attach("tap%d", TAP);
  assertMatch(String(name), /^tap\d+$/);
  const found = descriptor.attached();
  assert(typeof found !== "number");
  assertEquals(found.name, name);
  assertEquals(found.flags & (TAP | tun.IFF_TUN | tun.IFF_PERSIST), TAP);
});

kernelTest("D6.1 attaching twice, an exclusive name, a queue that is taken, the wrong kind, an impossible name", () => {
  using first = attached("tapa", TAP);
  assertEquals([EEXIST, EINVAL].includes(Number(first.attach("tapb", TAP))), true);
  using second = TunDescriptor.open();
  assertEquals(second.attach("tapa", TAP | tun.IFF_TUN_EXCL), EBUSY);
  assertEquals(second.attach("tapa", TAP), EBUSY);
  assertEquals(second.attach("tapa", tun.IFF_TUN | tun.IFF_NO_PI), EINVAL);
  createLink({ name: "bra", kind: "bridge" });
  assertEquals(second.attach("bra", TAP), EINVAL);
  deleteLink("bra");
  assertEquals(second.attach("tapc", 0), EINVAL);
  assertThrows(() => second.attach("0123456789abcdef", TAP), TypeError, "at most 15");
  assertEquals(second.attach("tapd", TAP), "tapd"); // still usable after all that
});

kernelTest("D6.1 without privilege: EPERM", async () => {
  const url = new URL("../../drivers/tap.ts", import.meta.url).href;
  const program = `import { TapDevice } from ${JSON.stringify(url)};
    try { TapDevice.open({ name: "tapx" }); } catch (error) { console.log(error.name, error.code, error.message); }`;
  const file = Deno.makeTempFileSync({ suffix: ".ts" });
  Deno.writeTextFileSync(file, program);
  // A user namespace without rights over this network namespace.
  const { stdout } = await new Deno.Command("unshare", { args: ["-U", Deno.execPath(), "run", "-A", "--no-check", file] })
    .output();
  Deno.removeSync(file);
  assertMatch(
    new TextDecoder().decode(stdout),
    /^PermissionDenied (EPERM Cannot open TAP device "tapx": permission denied \(EPERM\)\. Run as root, with CAP_NET_ADMIN|EACCES Cannot open "\/dev\/net\/tun")/,
  );
});

kernelTest("D6.2 offload: everything but CSUM alone needs CSUM; USO4 and USO6 go together", () => {
  using descriptor = attached("tapa", TAP | tun.IFF_VNET_HDR);
  const { TUN_F_CSUM: csum, TUN_F_TSO4: tso4, TUN_F_TSO6: tso6, TUN_F_TSO_ECN: ecn, TUN_F_USO4: uso4, TUN_F_USO6: uso6 } = tun;
  for (const bits of [0, csum, csum | tso4, csum | tso4 | tso6, csum | tso4 | tso6 | ecn]) {
    assertEquals(descriptor.setOffload(bits), 0);
  }
  for (const bits of [tso4, tso6, tso4 | tso6, 0x8000]) assertEquals(descriptor.setOffload(bits), EINVAL);
  const both = descriptor.setOffload(csum | uso4 | uso6);
  assert(both === 0 || both === EINVAL); // since Linux 6.2
  assertEquals(descriptor.setOffload(csum | uso4), EINVAL);
});

kernelTest("D6.2 header size from 10 on, and its byte order", () => {
  using descriptor = attached("tapa", TAP | tun.IFF_VNET_HDR);
  assertEquals(descriptor.headerSize(), 10);
  for (const size of [10, 12, 24]) {
    assertEquals(descriptor.setHeaderSize(size), 0);
    assertEquals(descriptor.headerSize(), size);
  }
  for (const size of [0, 9, -1]) assertEquals(descriptor.setHeaderSize(size), EINVAL);
  for (const on of [true, false]) {
    assertEquals(descriptor.setLittleEndian(on), 0);
    assertEquals(descriptor.littleEndian(), on ? 1 : 0);
  }
  assert([0, EINVAL].includes(descriptor.setBigEndian(false))); // a kernel option
});

kernelTest("D6.3 persist, owner and group outlive the descriptor", () => {
  {
    using descriptor = attached("tapa", TAP);
    assertEquals([descriptor.setPersist(true), descriptor.setOwner(0), descriptor.setGroup(0)], [0, 0, 0]);
    const found = descriptor.attached();
    assert(typeof found !== "number" && (found.flags & tun.IFF_PERSIST) !== 0);
    const settings = { packetInfo: false, virtioHeader: false, persist: true, multiQueue: false, owner: 0, group: 0 };
    assertEquals(getLink("tapa").tun, settings);
  }
  assertEquals(linkExists("tapa"), true);
  {
    using descriptor = attached("tapa", TAP);
    assertEquals(descriptor.setPersist(false), 0);
  }
  assertEquals(linkExists("tapa"), false);
});

kernelTest("D6.3 carrier: the cable in and out", () => {
  using descriptor = attached("tapa", TAP);
  setLink("tapa", { up: true });
  assertEquals(getLink("tapa").carrier, true);
  assertEquals(descriptor.setCarrier(false), 0);
  assertEquals(getLink("tapa").carrier, false);
  assertEquals(descriptor.setCarrier(true), 0);
  assertEquals(getLink("tapa").carrier, true);
});

kernelTest("D6.3 queues: several descriptors, each taken in and out", () => {
  const flags = TAP | tun.IFF_MULTI_QUEUE;
  using first = attached("tapa", flags);
  using second = attached("tapa", flags);
  using third = TunDescriptor.open();
  assertEquals(third.attach("tapa", TAP), EINVAL); // not with one queue only
  assertEquals(second.setQueue(false), 0);
  assertEquals(second.setQueue(false), EINVAL);
  assertEquals(second.setQueue(true), 0);
  assertNotEquals(first.fd, second.fd);
  using single = attached("tapb", TAP);
  assertEquals(single.setQueue(false), EINVAL);
});

kernelTest("D6.3 send buffer, link type, transmit filter", () => {
  using descriptor = attached("tapa", TAP);
  assert(descriptor.sendBuffer() > 0);
  assertEquals(descriptor.setSendBuffer(100_000), 0);
  assertEquals(descriptor.sendBuffer(), 100_000);
  assertEquals(descriptor.setSendBuffer(0), EINVAL);
  assertEquals(descriptor.setLinkType(1), 0);
  setLink("tapa", { up: true });
  assertEquals(descriptor.setLinkType(1), EBUSY);
  const mac = new Uint8Array([2, 0, 0, 0, 0, 1]);
  assertEquals(descriptor.setTxFilter([mac, mac]), 2);
  assertEquals(descriptor.setTxFilter([]), 0);
  assertEquals(descriptor.setTxFilter([new Uint8Array(5)]), EINVAL);
});
