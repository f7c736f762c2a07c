/**
 * Forwarding in user space, over each kind of device: frames come in by one interface, get a tag, and leave by another. They come
 * from a process of their own, on the other core, as fast as it can: `xdp_user.ts INTERFACE` is that process.
 *
 * @module
 */
import process from "node:process";
import { delay } from "@std/async/delay";
import { AfXdpDevice, Umem } from "../../drivers/af_xdp.ts";
import { PacketSocketDevice } from "../../drivers/packet_socket.ts";
import { TapDevice } from "../../drivers/tap.ts";
import { XdpForwarder } from "../../drivers/xdp/forwarder.ts";
import { physicalProgram, PORTS, ROUTER_IFACE, routerProgram } from "../../drivers/xdp/programs/vlan_mux.ts";
import { probeBpf } from "../../ffi/bpf_program.ts";
import { deleteLink, getLink } from "../../ffi/rtnl_link.ts";
import { type Device, TxFrame } from "../../stack/device.ts";
import { le32, UserRun } from "../drivers/xdp/both.ts";
import { FrameSource, type Sample, SIZE, wire } from "./xdp_kernel.ts";

const BURST = 2000;
const START_MS = 10_000;
/** Frames before the clock runs: by then the functions are compiled. */
const WARM_UP = 50_000;

/** Sends as fast as it can, until it is killed. */
async function send(name: string): Promise<void> {
  if (probeBpf().reason === "") {
    const source = new FrameSource(name);
    while (true) source.send(BURST);
  }
  const device = PacketSocketDevice.open({ name, offload: false });
  const tx = new TxFrame();
  tx.reset(SIZE);
  tx.memory.bytes.set([2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x88, 0xb5], tx.offset);
  while (true) {
    for (let i = 0; i < BURST; i++) device.transmit(tx);
    await delay(0);
  }
}

/** One way through user space. */
export interface UserWay {
  name: string;
  /** Where its frames come from: a cable of the kernel's, or the device itself. */
  tap: boolean;
  /** A way to open both devices: they may share memory. */
  open: () => (name: string) => Device;
}

const tap = (name: string) => TapDevice.open({ name, offload: false, host: { up: true } });
const ring = (offload: boolean) => (name: string) => PacketSocketDevice.open({ name, offload, promiscuous: true });

function xdp(mode: "native" | "generic", shared: boolean): UserWay["open"] {
  return () => {
    const umem = shared ? new Umem({ chunks: 8192 }) : undefined;
    return (name) => AfXdpDevice.open({ name, mode, ring: 2048, ...umem && { umem } });
  };
}

/** Everything that is compared. */
export const USER_WAYS: UserWay[] = [
  { name: "TAP -> TAP", tap: true, open: () => tap },
  { name: "packet ring -> TAP", tap: false, open: () => (name) => name === "in" ? ring(false)(name) : tap(name) },
  { name: "packet ring -> packet ring", tap: false, open: () => ring(false) },
  { name: "packet ring (offload) -> the same", tap: false, open: () => ring(true) },
  { name: "AF_XDP native -> the same, shared", tap: false, open: xdp("native", true) },
  { name: "AF_XDP native, memory of their own", tap: false, open: xdp("native", false) },
  { name: "AF_XDP generic -> the same, shared", tap: false, open: xdp("generic", true) },
];

/** Forwards for a while, and counts what comes out at the far end. */
export async function measureUser(way: UserWay, seconds: number): Promise<Sample> {
  await using stack = new AsyncDisposableStack();
  if (!way.tap) {
    for (const name of ["in", "out"]) {
      // A TAP takes the name of the far cable.
      if (name === "out" && way.name.endsWith("TAP")) continue;
      wire(name);
      stack.defer(() => deleteLink(name));
    }
  }
  const open = way.open();
  const forwarder = stack.use(new XdpForwarder());
  forwarder.add(open("in"), { role: "physical", ifindex: 7 });
  forwarder.add(open("out"), { role: "router", ifindex: 9 });
  const port = forwarder.engine.port(9)!;
  forwarder.setRouterInterface(port.name);
  const args = ["run", "-A", "--no-check", import.meta.filename!, way.tap ? "in" : "inp"];
  const sender = new Deno.Command(Deno.execPath(), { args }).spawn();
  stack.defer(async () => {
    sender.kill("SIGKILL");
    await sender.status;
  });
  const start = performance.now();
  while (port.counters.txFrames < WARM_UP) {
    if (performance.now() - start > START_MS) throw new Error(`${port.counters.txFrames} frames came through`);
    await delay(10);
  }
  // What the far end got, not what we think that we sent.
  const count = () => getLink(way.name.endsWith("TAP") ? "out" : "outp").rxPackets;
  const [frames, cpu, time] = [count(), process.cpuUsage(), performance.now()];
  await delay(seconds * 1000);
  const sent = count() - frames;
  const ms = performance.now() - time;
  const { user, system } = process.cpuUsage(cpu);
  return { rate: sent / ms / 1000, cpu: (user + system) * 1000 / sent };
}

/** Nanoseconds of a program as a function, without a device: a tag is put on and taken off again, the mean of the two. */
export function functionNs(): number {
  const [physical, router] = [new UserRun(physicalProgram()), new UserRun(routerProgram())];
  physical.maps.get(ROUTER_IFACE.name)!.put(le32(0), le32(7));
  router.maps.get(PORTS.name)!.put(le32(21), le32(21));
  const view = new DataView(physical.bytes.buffer);
  const { context } = physical;
  const [AT, END, COUNT] = [256, 256 + SIZE, 200_000];
  Object.assign(context, { headStart: 0, tailEnd: 4000 });
  let best = Infinity;
  for (let round = 0; round < 5; round++) {
    const start = performance.now();
    let answers = 0;
    for (let i = 0; i < COUNT; i++) {
      context.offset = AT;
      context.end = END;
      answers += physical.run(view, AT, END, 21, context);
      answers += router.run(view, context.offset, END, 7, context);
    }
    if (answers !== COUNT * 8) throw new Error("a frame was dropped");
    best = Math.min(best, (performance.now() - start) * 1e6 / COUNT / 2);
  }
  return best;
}

if (import.meta.main) await send(Deno.args[0]);
