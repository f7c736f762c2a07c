/**
 * Two hosts, a forwarder, and a router host with one trunk: all real interfaces of the kernel.
 *
 * ```text
 *  left 10.7.0.1 -- p7 | forwarder | trunk ==== uplink | mirror | r7 10.7.0.254   router 10.9.0.254 r9 |
 * right 10.9.0.1 -- p9 |           |                                  (routes by the kernel)
 * ```
 *
 * This kernel has no VLAN interfaces, so that the router host has TAPs, and a forwarder of its own that shares the trunk out to
 * them: the same two programs the other way round.
 */
import { assertEquals } from "@std/assert";
import { PacketSocketDevice } from "../../../drivers/packet_socket.ts";
import { TapDevice } from "../../../drivers/tap.ts";
import { XdpForwarder } from "../../../drivers/xdp/forwarder.ts";
import type { Device } from "../../../stack/device.ts";
import { createLink, deleteLink, linkExists } from "../../../ffi/rtnl_link.ts";
import { libc } from "../../../ffi/libc.ts";
import { wakersIdle } from "../../../ffi/poll.ts";
import { Namespace } from "../../testing/namespace.ts";

// Before any test: the library stays open for the process, and the sanitizer would blame whoever opened it.
libc();

export class World implements AsyncDisposable {
  forwarder = new XdpForwarder();
  /** The router host's own. */
  mirror = new XdpForwarder();

  /** Makes the forwarder's devices. */
  open: (name: string) => Device = () => {
    throw new Error("not started");
  };

  private constructor(readonly left: Namespace, readonly right: Namespace, readonly router: Namespace) {}

  /**
   * The wires, without a forwarder on them.
   *
   * @param offload "segments": frames of 64 KiB and checksums to be filled in are on the wires; "checksums": the latter only;
   * "none": what AF_XDP can carry
   */
  static async create(offload: "segments" | "checksums" | "none" = "segments"): Promise<World> {
    const [left, right, router] = await Promise.all([Namespace.create(), Namespace.create(), Namespace.create()]);
    const uncut = offload === "segments";
    const world = new World(left, right, router);
    createLink({ name: "trunk", kind: "veth", up: true, mac: "02:01:00:00:00:01", peer: { name: "uplink", up: true } });
    world.mirror.add(PacketSocketDevice.open({ name: "uplink", offload: uncut, promiscuous: true }), {
      role: "router",
      ifindex: 1,
    });
    world.mirror.setRouterInterface("uplink");
    for (const [id, host] of [[7, left], [9, right]] as const) {
      createLink({ name: `p${id}`, kind: "veth", up: true, peer: { name: "eth0", namespace: host, up: true } });
      await ip(host, "address", "add", `10.${id}.0.1/24`, "dev", "eth0");
      if (offload === "checksums") await ip(host, "link", "set", "eth0", "gso_max_segs", "1");
      if (offload === "none") {
        const { code } = await host.run(Deno.execPath(), ["run", "-A", "--no-check", "tests/bench/offload_off.ts", "eth0"]);
        assertEquals(code, 0);
      }
      await ip(host, "route", "add", "default", "via", `10.${id}.0.254`);
      const tap = TapDevice.open({ name: `r${id}`, offload: uncut, host: { namespace: router, address: `10.${id}.0.254/24` } });
      world.mirror.add(tap, { role: "physical", ifindex: id });
    }
    const { code } = await router.run("sh", ["-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
    assertEquals(code, 0);
    return world;
  }

  /** The forwarder in user space. The hosts' frames are for the router's address, not for the interfaces': all are promiscuous. */
  start(open: (name: string) => Device): void {
    this.open = open;
    this.forwarder.add(open("trunk"));
    this.forwarder.setRouterInterface("trunk");
    for (const id of [7, 9]) this.addPhysical(id);
  }

  addPhysical(id: number): void {
    this.forwarder.add(this.open(`p${id}`), { ifindex: id, role: "physical" });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.forwarder.close();
    this.mirror.close();
    for (const name of ["trunk", "p7", "p9"]) if (linkExists(name)) deleteLink(name);
    await wakersIdle();
    await Promise.all([this.left, this.right, this.router].map((namespace) => namespace[Symbol.asyncDispose]()));
  }
}

/** `ip …` in a namespace; must work. */
export async function ip(namespace: Namespace, ...args: string[]): Promise<void> {
  const { code, stderr } = await namespace.run("ip", args);
  assertEquals([code, stderr], [0, ""], `ip ${args.join(" ")}`);
}

const SERVER = `
import hashlib, socket
s = socket.create_server(("0.0.0.0", 7))
print("ready", flush=True)
c, _ = s.accept()
h, n = hashlib.sha256(), 0
while True:
    piece = c.recv(1 << 20)
    if not piece: break
    h.update(piece)
    n += len(piece)
c.sendall(f"{n} {h.hexdigest()}".encode())
c.close()
`;
const CLIENT = `
import hashlib, os, socket, sys
n, h = int(sys.argv[2]), hashlib.sha256()
c = socket.create_connection((sys.argv[1], 7), timeout=60)
block = os.urandom(1 << 20)
while n > 0:
    piece = block[:n]
    c.sendall(piece)
    h.update(piece)
    n -= len(piece)
c.shutdown(socket.SHUT_WR)
answer = b""
while True:
    piece = c.recv(1000)
    if not piece: break
    answer += piece
print(answer.decode() == f"{sys.argv[2]} {h.hexdigest()}", flush=True)
`;

/** TCP from one host to the other, compared by SHA-256. */
export async function transfer(from: Namespace, to: Namespace, address: string, bytes: number): Promise<void> {
  const [command, ...args] = [...to.prefix, "python3", "-c", SERVER];
  const server = new Deno.Command(command, { args, stdin: "null", stdout: "piped", stderr: "inherit" }).spawn();
  const reader = server.stdout.getReader();
  try {
    await reader.read(); // it listens
    const { stdout, stderr } = await from.run("python3", ["-c", CLIENT, address, String(bytes)], { timeoutMs: 120_000 });
    assertEquals([stdout, stderr], ["True\n", ""]);
  } finally {
    await reader.cancel();
    try {
      server.kill("SIGKILL");
    } catch { /* it has ended */ }
    await server.status;
  }
}
