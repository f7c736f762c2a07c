/**
 * Frames a second and processor time per frame of the forwarder in user space: frames come in by one interface, get a tag, and
 * leave by another. `unshare -n deno run -A tests/bench/xdp_forward.ts [seconds]`; needs a second core for the sender.
 *
 * @module
 */
import process from "node:process";
import { AfXdpDevice, Umem } from "../../drivers/af_xdp.ts";
import { PacketSocketDevice } from "../../drivers/packet_socket.ts";
import { TapDevice } from "../../drivers/tap.ts";
import { XdpForwarder } from "../../drivers/xdp/forwarder.ts";
import { createLink, deleteLink } from "../../ffi/rtnl_link.ts";
import { type Device, TxFrame } from "../../stack/device.ts";

const SIZE = 60;

/** Sends as fast as it can, until it is killed. */
async function send(name: string): Promise<void> {
  const device = PacketSocketDevice.open({ name, offload: false });
  const tx = new TxFrame();
  tx.reset(SIZE);
  tx.memory.bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5], tx.offset);
  while (true) {
    for (let i = 0; i < 4096; i++) device.transmit(tx);
    await new Promise((resolve) => setTimeout(resolve, 0));
  }
}

/** A cable of the kernel; its far end is in use by somebody who drops. */
function wire(name: string): void {
  createLink({ name, kind: "veth", up: true, peer: { name: `${name}p`, up: true } });
}

async function measure(what: string, seconds: number, open: (name: string) => Device): Promise<void> {
  wire("in");
  wire("out");
  using forwarder = new XdpForwarder();
  forwarder.add(open("in"), { role: "physical", ifindex: 7 });
  forwarder.add(open("out"), { role: "router", ifindex: 9 });
  forwarder.setRouterInterface(forwarder.engine.port(9)!.name);
  const args = ["run", "-A", "--no-check", import.meta.filename!, "send", "inp"];
  const sender = new Deno.Command(Deno.execPath(), { args }).spawn();
  const port = forwarder.engine.port(9)!;
  while (port.counters.txFrames < 50_000) await new Promise((resolve) => setTimeout(resolve, 10));
  const [frames, cpu, time] = [port.counters.txFrames, process.cpuUsage(), performance.now()];
  await new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const sent = port.counters.txFrames - frames;
  const ms = performance.now() - time;
  const { user, system } = process.cpuUsage(cpu);
  console.log(
    `${what.padEnd(34)} ${(sent / ms / 1000).toFixed(3)} M frames/s, ${((user + system) * 1000 / sent).toFixed(0)} ns CPU ` +
      `(${(user * 1000 / sent).toFixed(0)} user), ${port.counters.txFull + port.counters.txErrors} refused`,
  );
  sender.kill("SIGKILL");
  await sender.status;
  forwarder.close();
  for (const name of ["in", "out"]) deleteLink(name);
}

if (Deno.args[0] === "send") await send(Deno.args[1]);
else {
  const seconds = Number(Deno.args[0] ?? 2);
  await measure(
    "packet ring -> packet ring",
    seconds,
    (name) => PacketSocketDevice.open({ name, offload: false, promiscuous: true }),
  );
  await measure("packet ring (offload) -> the same", seconds, (name) => PacketSocketDevice.open({ name, promiscuous: true }));
  for (const mode of ["native", "generic"] as const) {
    const umem = new Umem({ chunks: 8192 });
    await measure(`AF_XDP ${mode} -> the same, shared`, seconds, (name) => AfXdpDevice.open({ name, mode, umem, ring: 2048 }));
  }
  await measure("AF_XDP native, memory of their own", seconds, (name) => AfXdpDevice.open({ name, mode: "native", ring: 2048 }));
  await measure("packet ring -> TAP", seconds, (name) => {
    if (name === "in") return PacketSocketDevice.open({ name, offload: false, promiscuous: true });
    return TapDevice.open({ name: "tapout", offload: false, host: { up: true } });
  });
}
