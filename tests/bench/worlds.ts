/**
 * Whom the benchmark measures: each server in a process of its own, in namespaces of its own, with the kernel's stack as client.
 *
 * Another server is one more entry in {@link findWorlds}: it must answer on {@link SERVER} with echo 7, discard 9 and chargen 19
 * by TCP, and echo 7 by UDP.
 *
 * @module
 */
import { findProgram, Namespace, ROOT } from "../testing/namespace.ts";
import { firstAnswer, type Tools } from "./load.ts";
import { CLIENT, SERVER } from "./suite.ts";

const DENO = Deno.execPath();
const PEER_MTU = "1500";

/** A server that answers, and where its client is. */
export interface World extends AsyncDisposable {
  client: Namespace;
  /** The process whose processor time and memory count. */
  pid: number;
  /** From its start to its first answer. */
  firstAnswerMs: number;
}

export interface Entry {
  name: string;
  start(): Promise<World>;
  /** Has no memory of its own worth counting: the kernel's is not in its process. */
  kernel?: boolean;
}

async function must(result: Promise<{ code: number; stderr: string }>): Promise<void> {
  const { code, stderr } = await result;
  if (code !== 0) throw new Error(stderr.trim());
}

/** A namespace whose kernel doesn't limit what is measured. */
async function quickNamespace(): Promise<Namespace> {
  const namespace = await Namespace.create();
  const settings = {
    // Or the client runs out of ports: they stay in TIME-WAIT for a minute.
    "ipv4/tcp_max_tw_buckets": "0",
    "ipv4/ip_local_port_range": "1024 65000",
    "ipv4/ping_group_range": "0 0",
    "ipv4/icmp_ratelimit": "0",
    // A question that was asked before the server was there is asked again at once.
    "ipv4/neigh/default/retrans_time_ms": "20",
    "ipv6/conf/all/disable_ipv6": "1",
    "ipv6/conf/default/disable_ipv6": "1",
  };
  const script = Object.entries(settings).map(([name, value]) => `echo ${value} > /proc/sys/net/${name}`).join(";");
  await namespace.run("sh", ["-c", `(${script}) 2>/dev/null`]);
  return namespace;
}

/** Processes and namespaces of a world, in the order in which they were made. */
class Parts implements AsyncDisposable {
  #parts: (() => Promise<void>)[] = [];

  async namespace(): Promise<Namespace> {
    const namespace = await quickNamespace();
    this.#parts.push(() => namespace[Symbol.asyncDispose]());
    return namespace;
  }

  process(command: string[]): number {
    const [program, ...args] = command;
    const child = new Deno.Command(program, { args, cwd: ROOT, stdin: "null", stdout: "null", stderr: "null" }).spawn();
    this.#parts.push(async () => {
      try {
        child.kill("SIGTERM");
      } catch { /* it has ended */ }
      const timer = setTimeout(() => child.kill("SIGKILL"), 3000);
      await child.status;
      clearTimeout(timer);
    });
    return child.pid;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const end of this.#parts.reverse()) await end();
    this.#parts = [];
  }
}

/** Builds a world and waits until it answers; a world that doesn't is taken down again. */
async function build(tools: Tools, make: (parts: Parts) => Promise<{ client: Namespace; server: string[] }>): Promise<World> {
  const parts = new Parts();
  try {
    const { client, server } = await make(parts);
    const began = Date.now();
    const pid = parts.process(server);
    const firstAnswerMs = await firstAnswer(tools, client) - began;
    return { client, pid, firstAnswerMs, [Symbol.asyncDispose]: () => parts[Symbol.asyncDispose]() };
  } catch (error) {
    await parts[Symbol.asyncDispose]();
    throw error;
  }
}

function kernel(tools: Tools, offload: boolean): () => Promise<World> {
  return () =>
    build(tools, async (parts) => {
      const [client, server] = [await parts.namespace(), await parts.namespace()];
      await must(client.run("ip", ["link", "add", "c0", "type", "veth", "peer", "name", "s0", "netns", String(server.pid)]));
      for (const [namespace, device, address] of [[client, "c0", CLIENT], [server, "s0", SERVER]] as const) {
        await must(namespace.run("ip", ["address", "add", `${address}/24`, "dev", device]));
        await must(namespace.run("ip", ["link", "set", device, "up"]));
        if (!offload) await must(namespace.run(DENO, ["run", "-A", "tests/bench/offload_off.ts", device]));
      }
      return { client, server: [...server.prefix, ...tools.serve] };
    });
}

function ours(tools: Tools, more: string[]): () => Promise<World> {
  const args = ["--name", "bench0", "--address", `${SERVER}/24`, "--host-address", `${CLIENT}/24`, ...more];
  return () =>
    build(tools, async (parts) => {
      const client = await parts.namespace();
      return { client, server: [...client.prefix, DENO, "run", "-A", "examples/simple_services.ts", ...args] };
    });
}

/** A program that takes a TAP device which is there already. */
function onTap(tools: Tools, command: string[], vnet: boolean): () => Promise<World> {
  return () =>
    build(tools, async (parts) => {
      const client = await parts.namespace();
      await must(client.run("ip", ["tuntap", "add", "dev", "tap0", "mode", "tap", ...(vnet ? ["vnet_hdr"] : [])]));
      await must(client.run("ip", ["address", "add", `${CLIENT}/24`, "dev", "tap0"]));
      await must(client.run("ip", ["link", "set", "tap0", "up"]));
      return { client, server: [...client.prefix, ...command] };
    });
}

/** Our own gateway, slirp4netns and pasta end connections of the namespace themselves, and make new ones to the services on the host's 127.0.0.1. */
function relay(tools: Tools, command: (guest: Namespace) => string[]): () => Promise<World> {
  return () =>
    build(tools, async (parts) => {
      const [client, host] = [await parts.namespace(), await parts.namespace()];
      // pasta gives the guest what the host has: an address, and a gateway that stands for the host.
      await must(host.run("ip", ["link", "add", "d0", "type", "veth", "peer", "name", "d1"]));
      await must(host.run("ip", ["address", "add", `${CLIENT}/24`, "dev", "d0"]));
      for (const device of ["d0", "d1"]) await must(host.run("ip", ["link", "set", device, "up"]));
      await must(host.run("ip", ["route", "add", "default", "via", SERVER]));
      parts.process([...host.prefix, ...tools.serve]);
      return { client, server: [...host.prefix, ...command(client)] };
    });
}

function relays(tools: Tools): Entry[] {
  const [slirp, pasta] = [findProgram("slirp4netns"), findProgram("pasta")];
  const gateway = [DENO, "run", "-A", "examples/vm_network.ts", "--address", `${SERVER}/24`, "--host-loopback", "--tap", "tap0"];
  const found: Entry[] = [
    { name: "tapioca, NAT", start: relay(tools, ({ pid }) => [...gateway, "--mtu", PEER_MTU, "--netns", String(pid)]) },
    {
      name: "tapioca, NAT by Deno's sockets",
      start: relay(tools, ({ pid }) => [...gateway, "--mtu", PEER_MTU, "--netns", String(pid), "--sockets", "deno"]),
    },
  ];
  if (slirp !== null) {
    const args = ["--netns-type=path", "--configure", `--mtu=${PEER_MTU}`, `--cidr=${SERVER.replace(/\d+$/, "0")}/24`];
    const start = relay(tools, (guest) => [slirp, ...args, `/proc/${guest.pid}/ns/net`, "tap0"]);
    found.push({ name: "slirp4netns", start });
  }
  if (pasta !== null) {
    const ports = ["-t", "none", "-u", "none", "-T", "none", "-U", "none"];
    const args = ["-4", "-f", "--runas", "0", "--config-net", "-I", "tap0", "--mtu", PEER_MTU, ...ports];
    // It gives up the right to open a namespace below /proc before it opens it; in a mount namespace of its own, a file stands for it.
    const file = `${tools.folder}/guest`;
    Deno.writeTextFileSync(file, "");
    const mount = (pid: number) => `mount --bind /proc/${pid}/ns/net ${file} && exec "$0" "$@"`;
    const start = relay(
      tools,
      ({ pid }) => ["unshare", "-m", "sh", "-c", mount(pid), pasta, ...args, "--netns", file],
    );
    found.push({ name: "pasta", start });
  }
  return found;
}

/** Programs of a folder that somebody built peers in. */
const PEERS: { name: string; file: string; args: string[]; vnet: boolean }[] = [
  { name: "gVisor, offload", file: "gvisor-peer", args: ["-link", "tapvnet", "-dev", "tap0", "-mtu", PEER_MTU], vnet: true },
  { name: "gVisor, plain", file: "gvisor-peer", args: ["-link", "tap", "-dev", "tap0", "-mtu", PEER_MTU], vnet: false },
  { name: "lwIP 256k, plain", file: "lwip-1500-256k", args: ["tap0", SERVER, PEER_MTU], vnet: false },
  { name: "smoltcp, plain", file: "smoltcp-peer", args: ["tap0", SERVER, PEER_MTU], vnet: false },
];

function peers(tools: Tools, folder: string): Entry[] {
  return PEERS.map((peer) => ({ ...peer, path: `${folder}/bin/${peer.file}` })).filter(({ path }) => {
    try {
      return Deno.statSync(path).isFile;
    } catch {
      return false;
    }
  }).map(({ name, path, args, vnet }) => ({ name, start: onTap(tools, [path, ...args], vnet) }));
}

/** Everybody who can be measured here: the kernel, ourselves, and who is installed or lies in the folder `PEERS`. */
export function findWorlds(tools: Tools): Entry[] {
  const folder = Deno.env.get("PEERS");
  return [
    { name: "kernel, veth", start: kernel(tools, true), kernel: true },
    { name: "kernel, no offload", start: kernel(tools, false), kernel: true },
    { name: "tapioca, offload", start: ours(tools, []) },
    { name: "tapioca, plain", start: ours(tools, ["--no-offload"]) },
    ...relays(tools),
    ...(folder === undefined ? [] : peers(tools, folder)),
  ];
}
