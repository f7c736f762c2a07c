/**
 * A stack over a device of a kind, which waits for a connection: `unref.ts KIND PLACE [ref]`. Says "ready" when it is let go and
 * "end" when the process ends by itself.
 *
 * @module
 */
import { AfXdpDevice } from "../../drivers/af_xdp.ts";
import { PacketSocketDevice } from "../../drivers/packet_socket.ts";
import { QemuDatagramDevice } from "../../drivers/qemu_datagram.ts";
import { QemuStreamDevice } from "../../drivers/qemu_stream.ts";
import { VhostUserDevice } from "../../drivers/virtio/vhost_back_end.ts";
import { VhostUserPort } from "../../drivers/virtio/vhost_front_end.ts";
import { type Device, faults, NetStack, TapDevice, TunDevice } from "../../mod.ts";

const [kind, place, how] = Deno.args;

const KINDS: Record<string, () => Device | Promise<Device>> = {
  tap: () => TapDevice.open({ name: place, host: { address: "10.1.9.1/24" } }),
  faultyTap: () => faults(TapDevice.open({ name: place, host: { address: "10.1.9.1/24" } }), { loss: 0.5, seed: 1 }),
  tun: () => TunDevice.open({ name: place, host: { address: "10.1.9.1/24" } }),
  packet: () => PacketSocketDevice.open({ name: place }),
  afXdp: () => AfXdpDevice.open({ name: place }),
  vhost: () => VhostUserDevice.open({ path: place }),
  vhostConnecting: () => VhostUserDevice.open({ path: place, connect: true }),
  // One process is both ends: a session is under way, with its descriptors.
  vhostPort: async () => {
    const back = new NetStack(VhostUserDevice.open({ path: place }), { address: "10.1.9.3/24" });
    const port = await VhostUserPort.open({ path: place });
    back.unref();
    return port;
  },
  qemuStream: () => QemuStreamDevice.open({ path: place }),
  qemuConnecting: () => QemuStreamDevice.open({ path: place, connect: true }),
  qemuDatagram: () => QemuDatagramDevice.open({ local: { port: Number(place) }, remote: { port: 9 } }),
};

const stack = new NetStack(await KINDS[kind](), { address: "10.1.9.2/24" });
stack.listen({ port: 7 }).accept().then(() => {}, () => {});
stack.connect({ hostname: "10.1.9.77", port: 7 }).then(() => {}, () => {});
// A wait is under way by then, and so are timers.
await new Promise((resolve) => setTimeout(resolve, 50));
stack.unref();
if (how === "ref") stack.ref();
globalThis.addEventListener("unload", () => console.log("end"));
console.log("ready");
