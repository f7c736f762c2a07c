/**
 * A network for a virtual machine, or for a network namespace, with no privilege on this side: DHCP, a name server, a page at
 * the gateway's address, and the way out into the world through this script's own sockets.
 *
 *     deno run -A examples/vm_network.ts                       a QEMU over its stream socket: no FFI, no rights
 *     deno run -A examples/vm_network.ts --vhost               a QEMU over vhost-user: shared memory, offload
 *     deno run -A examples/vm_network.ts --tap vm0 --netns 123 the network namespace of process 123
 *
 * Prints the line that starts QEMU. Ends cleanly on SIGINT and SIGTERM; SIGUSR2 makes it print its statistics on standard
 * error, as one line of JSON.
 *
 * @module
 */
import { parseArgs } from "@std/cli/parse-args";
import {
  type Device,
  DhcpServer,
  Gateway,
  HostSockets,
  pcapTap,
  type PortForward,
  QemuDatagramDevice,
  QemuStreamDevice,
  serve,
  TapDevice,
  VhostUserDevice,
} from "../mod.ts";
import { httpServices } from "./services/content.ts";

const USAGE = `usage: vm_network.ts [--socket PATH | --dgram LOCAL,REMOTE | --vhost [--queues N] | --tap NAME [--netns PID|PATH]]
  [--connect] [--address 10.0.2.2/24] [--mtu 1500] [--no-offload] [--forward [udp:][ADDRESS:]PORT:GUESTPORT]…
  [--sockets deno|libc] [--allow PREFIX]… [--deny PREFIX]… [--host-loopback] [--nameserver ADDRESS] [--pcap FILE] [--json]`;

function fail(message: string, code: number): never {
  console.error(`vm_network: ${message}`);
  Deno.exit(code);
}

function options() {
  const texts = ["socket", "dgram", "tap", "netns", "address", "mtu", "queues", "nameserver", "pcap", "sockets"];
  const values = parseArgs(Deno.args, {
    string: [...texts, "forward", "allow", "deny"],
    collect: ["forward", "allow", "deny"],
    boolean: ["help", "vhost", "connect", "offload", "host-loopback", "json"],
    negatable: ["offload"],
    default: { offload: true, address: "10.0.2.2/24", mtu: "1500", queues: "1" },
    unknown: (argument) => fail(`unknown argument ${argument}. ${USAGE}`, 2),
  });
  if (values.help) {
    console.log(USAGE);
    Deno.exit(0);
  }
  for (const name of texts) if (values[name] === "") fail(`--${name} needs a value. ${USAGE}`, 2);
  const sockets = values.sockets as string | undefined;
  if (sockets !== undefined && sockets !== "deno" && sockets !== "libc") {
    fail(`--sockets must be deno or libc, not "${sockets}"`, 2);
  }
  for (const name of ["mtu", "queues"]) {
    if (!/^\d+$/.test(values[name] as string)) fail(`--${name} must be a number, not "${values[name]}"`, 2);
  }
  return values;
}

const values = options();
const text = (name: string) => values[name] as string | undefined;
const list = (name: string) => (values[name] ?? []) as string[];
const flag = (name: string) => values[name] === true;
const address = text("address")!;
const [own, prefixLength] = address.split("/");
/** A namespace has nobody to ask for its address: it gets the one that DHCP gives out first. */
function guestAddress(): string {
  return DhcpServer.firstAddress({ address });
}

const mtu = Number(values.mtu);
const folder = Deno.env.get("XDG_RUNTIME_DIR") ?? "/tmp";
const path = text("socket") ?? `${folder}/vm_network_${Deno.pid}.sock`;

/** "udp:127.0.0.1:5353:53", "8080:80". */
function parseForward(given: string): PortForward {
  const match = given.match(/^(?:(tcp|udp):)?(?:(\d+\.\d+\.\d+\.\d+):)?(\d+):(\d+)$/);
  if (match === null) fail(`--forward ${given}: write it as [udp:][ADDRESS:]PORT:GUESTPORT`, 2);
  return {
    transport: match[1] as "tcp" | "udp" | undefined,
    hostname: match[2],
    port: Number(match[3]),
    guest: text("tap") === undefined ? undefined : guestAddress(),
    guestPort: Number(match[4]),
  };
}

/** Those of libc are faster, and ask nobody: where a permission limits Deno's, or FFI is not allowed, they are Deno's. */
function sockets(): HostSockets | undefined {
  const allowed = (["net", "ffi"] as const).every((name) => Deno.permissions.querySync({ name }).state === "granted");
  return (text("sockets") ?? (allowed && Deno.build.os === "linux" ? "libc" : "deno")) === "libc" ? new HostSockets() : undefined;
}

function openTap(): Device {
  const netns = text("netns");
  const namespace = netns === undefined ? undefined : /^\d+$/.test(netns) ? { pid: Number(netns) } : netns;
  return TapDevice.open({
    name: text("tap"),
    mtu,
    offload: flag("offload"),
    host: { address: `${guestAddress()}/${prefixLength}`, mtu, namespace, routes: [{ destination: "default", gateway: own }] },
  });
}

/** The device, and the words that QEMU needs to be at its other end. */
function open(): { device: Device; qemu: string | null } {
  const server = flag("connect") ? "on" : "off";
  if (text("tap") !== undefined) return { device: openTap(), qemu: null };
  if (flag("vhost")) {
    const pairs = Number(values.queues);
    const device = VhostUserDevice.open({ path, mtu, offload: flag("offload"), pairs, connect: flag("connect") });
    const queues = pairs > 1 ? `,queues=${pairs}` : "";
    const card = pairs > 1 ? `,mq=on,vectors=${2 * pairs + 2}` : "";
    return {
      device,
      qemu: `-object memory-backend-memfd,id=mem,size=256M,share=on -machine memory-backend=mem ` +
        `-chardev socket,id=chr,path=${path}${flag("connect") ? ",server=on,wait=off" : ",reconnect=1"} ` +
        `-netdev vhost-user,id=net,chardev=chr${queues} -device virtio-net-pci,netdev=net${card}`,
    };
  }
  if (text("dgram") !== undefined) {
    const [local, remote] = text("dgram")!.split(",");
    if (!local || !remote) fail("--dgram needs two paths: LOCAL,REMOTE", 2);
    return {
      device: QemuDatagramDevice.open({ local: { path: local }, remote: { path: remote }, mtu: Math.min(mtu, 1500) }),
      qemu: `-netdev dgram,id=net,local.type=unix,local.path=${remote},remote.type=unix,remote.path=${local} ` +
        `-device virtio-net-pci,netdev=net`,
    };
  }
  return {
    device: QemuStreamDevice.open({ path, mtu, connect: flag("connect") }),
    qemu: `-netdev stream,id=net,server=${server},addr.type=unix,addr.path=${path} -device virtio-net-pci,netdev=net`,
  };
}

function start(): { gateway: Gateway; qemu: string | null } {
  let device: Device | undefined;
  try {
    const opened = open();
    device = opened.device;
    const capture = text("pcap");
    const gateway = new Gateway(capture === undefined ? device : pcapTap(device, capture), {
      address,
      nameserver: text("nameserver"),
      allow: list("allow"),
      deny: list("deny"),
      hostLoopback: flag("host-loopback"),
      sockets: sockets(),
      forward: list("forward").map(parseForward),
      onLease: (lease) => {
        if (!flag("json")) console.error(`${lease.address} given to ${lease.hostname || lease.client}`);
      },
    });
    return { gateway, qemu: opened.qemu };
  } catch (error) {
    device?.close();
    fail((error as Error).message, error instanceof TypeError || error instanceof RangeError ? 2 : 1);
  }
}

/** A process that was killed leaves its socket's file: nobody listens there any more. */
async function removeDeadSocket(): Promise<void> {
  if (flag("connect") || text("tap") !== undefined || text("dgram") !== undefined) return;
  try {
    (await Deno.connect({ transport: "unix", path })).close();
  } catch (error) {
    if (error instanceof Deno.errors.ConnectionRefused) Deno.removeSync(path);
  }
}

await removeDeadSocket();
const { gateway, qemu } = start();
serve(gateway.stack.listen({ port: 80 }), httpServices);
for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, () => gateway.close());
Deno.addSignalListener("SIGUSR2", () => {
  const device = gateway.stack.statistics.devices;
  console.error(JSON.stringify({ gateway: gateway.statistics, dhcp: gateway.dhcp?.statistics, device }));
});
try {
  await gateway.ready;
} catch (error) {
  gateway.close();
  fail(`a forwarded port can't be opened: ${(error as Error).message}`, 1);
}
if (flag("json")) {
  console.log(JSON.stringify({ ready: true, address, qemu, forwards: gateway.forwards }));
} else {
  const lines = [`ready ${address}${qemu === null ? ` on ${text("tap")}` : ""}`];
  if (qemu !== null) lines.push(`qemu-system-x86_64 ${qemu}`);
  for (const { hostname, port } of gateway.forwards) lines.push(`${hostname}:${port} leads to the guest`);
  console.log(lines.join("\n"));
}

try {
  await gateway.stack.closed;
} catch (error) {
  console.error(`vm_network: ${(error as Error).message}`);
  Deno.exitCode = 1;
}
gateway.close();
