/**
 * Two virtual machines on one host, each behind a single netkit device whose queue its back end owns. Host traffic (DHCP, a page)
 * is pushed to each device and reaches its machine; what the machines send each other is redirected between the two queues and
 * never climbs into a host stack.
 *
 *     deno run -A examples/netkit_two_vms.ts [FOLDER]
 *
 * Prints the two lines that start QEMU on the sockets in FOLDER (default /tmp). Ends on SIGINT and SIGTERM.
 *
 * @module
 */
import {
  createNetkit,
  DhcpServer,
  joinDevices,
  NETKIT_DEVICE_SINGLE,
  NETKIT_L2,
  NETKIT_PASS,
  type NetkitQueue,
  NetStack,
  QemuStreamDevice,
  serve,
} from "../mod.ts";

const [folder = "/tmp", ...rest] = Deno.args;
if (folder.startsWith("-") || rest.length > 0) {
  console.error("usage: netkit_two_vms.ts [FOLDER]");
  Deno.exit(2);
}
const HOSTS = ["10.7.0.1", "10.7.0.2"] as const;

/** The six bytes at `at`, as a number: a MAC address to compare. */
function mac(bytes: Uint8Array, at: number): number {
  let value = 0;
  for (let i = 0; i < 6; i++) value = value * 256 + bytes[at + i];
  return value;
}

/**
 * What one machine sends: to the other machine's address straight into its queue, to everybody (ARP for the other's address)
 * likewise, and the rest up to the host.
 */
function connect(from: NetkitQueue, to: NetkitQueue, own: string, addresses: Map<NetkitQueue, number>): void {
  const [, , , last] = own.split(".").map(Number);
  from.program = (frame, meta) => {
    const { bytes } = frame;
    if (bytes.length < 14) return NETKIT_PASS;
    addresses.set(from, mac(bytes, 6));
    if (mac(bytes, 0) === addresses.get(to)) return meta.redirect(to, true);
    const arp = bytes.length >= 42 && bytes[12] === 0x08 && bytes[13] === 0x06;
    // 10.7.0.1 and 10.7.0.2 are hosts; who asks for another address asks for the other machine.
    if (arp && bytes[41] !== last && bytes[41] > HOSTS.length) return meta.redirect(to, true);
    return NETKIT_PASS;
  };
}

function machine(address: string, i: number) {
  // Single: there is no peer, the queue's owner is the other side.
  const { primary } = createNetkit({ name: `nk${i}`, mode: NETKIT_L2, pairing: NETKIT_DEVICE_SINGLE });
  const queue = primary.lease();
  const path = `${folder}/netkit${i}.sock`;
  const join = joinDevices(QemuStreamDevice.open({ path }), queue);
  const stack = new NetStack(primary, { address: `${address}/24` });
  const range = [`10.7.0.${100 + i * 50}`, `10.7.0.${149 + i * 50}`] as const;
  new DhcpServer(stack, { address: `${address}/24`, range, router: null });
  serve(stack.listen({ port: 80 }), () => new Response(`the host's side of machine ${i}\n`));
  return { address, primary, queue, path, join, stack };
}

let machines: ReturnType<typeof machine>[];
try {
  machines = HOSTS.map(machine);
} catch (error) {
  console.error(`netkit_two_vms: cannot listen in ${folder}: ${error instanceof Error ? error.message : error}`);
  Deno.exit(1);
}

const addresses = new Map<NetkitQueue, number>();
connect(machines[0].queue, machines[1].queue, HOSTS[0], addresses);
connect(machines[1].queue, machines[0].queue, HOSTS[1], addresses);

console.log(`ready ${folder}`);
for (const { path } of machines) {
  console.log(
    `qemu-system-x86_64 -netdev stream,id=n,server=off,addr.type=unix,addr.path=${path} -device virtio-net-pci,netdev=n`,
  );
}

function end(): void {
  for (const { queue } of machines) console.error(queue.name, JSON.stringify(queue.statistics()));
  for (const { stack, join, primary, path } of machines) {
    stack.close();
    join.close();
    primary.delete();
    try {
      Deno.removeSync(path);
    } catch { /* the listener took it away itself */ }
  }
  Deno.exit();
}
for (const signal of ["SIGINT", "SIGTERM"] as const) Deno.addSignalListener(signal, end);
