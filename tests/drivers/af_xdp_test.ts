/** In a network namespace of its own (TAPIOCA_KERNEL), see kernel.ts. */
import { assert, assertEquals, assertInstanceOf, assertMatch, assertThrows } from "@std/assert";
import { AfXdpDevice, type AfXdpOptions, Umem } from "../../drivers/af_xdp.ts";
import { PacketSocketDevice } from "../../drivers/packet_socket.ts";
import { XdpEngine } from "../../drivers/xdp/engine.ts";
import { adjustHead, redirect } from "../../drivers/xdp/context.ts";
import { wakersIdle } from "../../ffi/poll.ts";
import { createLink, deleteLink, getLink, setLink } from "../../ffi/rtnl_link.ts";
import { EMSGSIZE, ENODEV } from "../../stack/codes.ts";
import { type Device, FrameMemory, type FrameSink, TxFrame } from "../../stack/device.ts";
import { lacksBpf } from "../testing/bpf.ts";
import { run } from "../testing/namespace.ts";
import { kernelTest as anyKernelTest, thrown } from "../ffi/kernel.ts";
import { Keep } from "./frames.ts";
import { tagged } from "./xdp/run.ts";

const lacks = lacksBpf(["ip", "setpriv"], "iproute2 util-linux");

/** The program that hands frames to the socket needs rights beyond those of a user namespace. */
function kernelTest(name: string, run: () => void | Promise<void>): void {
  if (lacks) Deno.test({ name, ignore: true, fn: run });
  else anyKernelTest(name, run);
}

/** An AF_XDP device and the other end of its cable. */
function pair(options: Partial<AfXdpOptions> = {}, name = "xa"): [AfXdpDevice, PacketSocketDevice] {
  createLink({ name, kind: "veth", up: true, peer: { name: `${name}p`, up: true } });
  return [AfXdpDevice.open({ name, ...options }), PacketSocketDevice.open({ name: `${name}p` })];
}

function send(device: Device, ...frames: Uint8Array[]): number[] {
  const codes = frames.map((bytes) => {
    const tx = new TxFrame();
    tx.memory = new FrameMemory(10_000);
    tx.reset(bytes.length);
    tx.memory.bytes.set(bytes, tx.offset);
    return device.transmit(tx);
  });
  device.flush?.();
  return codes;
}

/** What has arrived that is ours. */
class Ours extends Keep {
  override frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    if (memory.bytes[offset + 11] === 0xaa) super.frame(memory, offset, length, flags, segmentSize);
  }

  static from(device: Device, budget = 64): Ours {
    const ours = new Ours();
    while (device.receive(ours, budget) > 0) { /* to the end */ }
    return ours;
  }

  get list(): Uint8Array[] {
    return this.frames.map(({ bytes }) => bytes);
  }
}

/** The driver works on frames a moment later. */
async function arrived(device: AfXdpDevice, count: number): Promise<Ours> {
  const ours = new Ours();
  while (ours.frames.length < count) {
    device.receive(ours, 64);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  return ours;
}

for (const mode of ["native", "generic"] as const) {
  kernelTest(`frames cross an AF_XDP socket in ${mode} mode, of every length, with their tags`, async () => {
    const [a, b] = pair({ mode });
    assertEquals([a.mode, a.zeroCopy, a.mtu], [mode, false, 1500]);
    const frames = [14, 15, 60, 1514].map((length) => tagged([], [8, 0], new Array(length - 14).fill(length & 255)));
    frames.push(tagged([[0x8100, 0x6007]]), tagged([[0x88a8, 9], [0x8100, 7]]));
    assertEquals(send(a, ...frames), new Array(6).fill(0));
    assertEquals(Ours.from(b).list, frames);
    assertEquals(send(b, ...frames), new Array(6).fill(0));
    assertEquals((await arrived(a, 6)).list, frames);
    assertEquals(send(a, tagged([], [8, 0], new Array(1520).fill(0))), [EMSGSIZE]);
    a.close();
    a.close();
    assertEquals([send(a, frames[0]), a.receive(new Keep(), 1)], [[ENODEV], ENODEV]);
    // The program is off: the interface may have another one.
    AfXdpDevice.open({ name: "xa", mode }).close();
    b.close();
  });
}

kernelTest("rings go round many times; no chunk is lost; a burst larger than the ring is sent all the same", async () => {
  const umem = new Umem({ chunks: 256 });
  const [a, b] = pair({ ring: 64, umem });
  assertEquals(umem.free, 192);
  for (let round = 0; round < 20; round++) {
    const frames = Array.from({ length: 50 }, (_, i) => tagged([], [8, 0], [round, i]));
    send(b, ...frames);
    assertEquals((await arrived(a, 50)).list, frames);
    const many = Array.from({ length: 120 }, (_, i) => tagged([], [8, 0], [round, i, 1]));
    assertEquals(send(a, ...many), new Array(120).fill(0));
    assertEquals(Ours.from(b).list, many);
  }
  a.flush();
  while (umem.free < 192) {
    await new Promise((resolve) => setTimeout(resolve, 1));
    a.flush();
  }
  assertEquals(umem.free, 192);
  a.close();
  b.close();
});

kernelTest("devices of one memory hand frames over without a copy; another's chunks are free when it closes", async () => {
  const umem = new Umem();
  const [a, far] = pair({ umem });
  const [b, other] = pair({ umem }, "xb");
  const engine = new XdpEngine();
  engine.add(b, { ifindex: 2 });
  engine.add(a, {
    ifindex: 1,
    program: (_view, _offset, _end, _ifindex, context) => {
      adjustHead(context, 2);
      return redirect(context, 2);
    },
  });
  const frames = Array.from({ length: 300 }, (_, i) => tagged([], [8, 0], [8, 0, i & 255, i >> 8]));
  const ours: Uint8Array[] = [];
  for (let i = 0; i < 300; i += 30) {
    send(far, ...frames.slice(i, i + 30));
    while (ours.length < i + 30) {
      await new Promise((resolve) => setTimeout(resolve, 1));
      const keep = new Keep();
      other.receive(keep, 64);
      for (const { bytes } of keep.frames) if (bytes[9] === 0xaa) ours.push(bytes);
    }
  }
  assertEquals(ours, frames.map((frame) => frame.slice(2)));
  const { txMoved, txFrames } = b.statistics();
  assert(txMoved === txFrames && txFrames >= 300, `${txMoved} of ${txFrames}`);
  assertEquals(engine.port(1)!.counters.copied, 0);
  engine.remove(2);
  assertEquals(umem.free, umem.chunks - 1024);
  // A third one may join those that are left.
  const again = AfXdpDevice.open({ name: "xb", umem });
  again.close();
  assertEquals(umem.free, umem.chunks - 1024);
  engine.close();
  assertThrows(() => AfXdpDevice.open({ name: "xb", umem }), Deno.errors.BadResource);
  for (const end of [far, other]) end.close();
  await wakersIdle();
});

kernelTest(
  "wakes when a frame comes; an interface that is deleted: ENODEV; closing inside of a frame's call is safe",
  async () => {
    const [a, b] = pair();
    let woken = Promise.withResolvers<void>();
    a.open(() => woken.resolve());
    assertInstanceOf(thrown(() => a.open(() => {})), Deno.errors.Busy);
    const ours = new Ours();
    setTimeout(() => send(b, tagged([])), 5);
    while (ours.frames.length === 0) {
      a.arm();
      await woken.promise;
      woken = Promise.withResolvers();
      a.receive(ours, 64);
    }
    deleteLink("xa");
    let code = 0;
    while (code !== ENODEV) {
      a.arm();
      await woken.promise;
      woken = Promise.withResolvers();
      code = a.receive(new Keep(), 64);
    }
    a.arm();
    await wakersIdle();
    a.close();
    b.close();
    const [c, d] = pair({ mode: "generic" });
    send(d, tagged([]), tagged([]), tagged([]));
    let bytes = 0;
    const sink: FrameSink = {
      frame(memory, offset, length) {
        c.close();
        bytes += memory.bytes[offset] + length;
      },
    };
    while (bytes === 0) c.receive(sink, 64);
    assertEquals(c.receive(sink, 64), ENODEV);
    d.close();
  },
);

kernelTest("the interface's MTU is followed, as far as a frame fits into a chunk", async () => {
  // Native mode allows the other end no large MTU.
  const [a, b] = pair({ mode: "generic" });
  a.open(() => {});
  const frame = (size: number) => tagged([], [8, 0], new Array(size).fill(1));
  for (const [mtu, expected] of [[1700, 1700], [1000, 1000], [9000, 1770]]) {
    for (const name of ["xap", "xa"]) setLink(name, { mtu });
    while (a.mtu !== expected) await new Promise((resolve) => setTimeout(resolve, 1));
    assertEquals(send(a, frame(expected), frame(expected + 9)), [0, EMSGSIZE]);
    assertEquals(Ours.from(b).list.at(-1)!.length, expected + 14);
  }
  a.close();
  b.close();
});

kernelTest("a sink that throws loses its frame only, and no chunk; closing after that gives everything back", async () => {
  const umem = new Umem({ chunks: 256 });
  const [a, b] = pair({ ring: 64, umem });
  const seen: number[] = [];
  const bad: FrameSink = {
    frame(memory, offset) {
      if (memory.bytes[offset + 11] !== 0xaa) return;
      seen.push(memory.bytes[offset + 14]);
      throw new Error("of the sink");
    },
  };
  const frames = Array.from({ length: 100 }, (_, i) => tagged([], [8, 0], [i]));
  for (let i = 0; i < 100; i += 20) {
    send(b, ...frames.slice(i, i + 20));
    while (seen.length < i + 20) {
      try {
        a.receive(bad, 64);
        await new Promise((resolve) => setTimeout(resolve, 1));
      } catch { /* the sink's */ }
    }
  }
  assertEquals(seen, frames.map((frame) => frame[14]));
  assertEquals(umem.free, 192);
  a.close();
  // Nothing is mapped any more.
  assertThrows(() => AfXdpDevice.open({ name: "xa", umem }), Deno.errors.BadResource);
  b.close();
});

kernelTest("queues of one interface have a socket each: one program for both, until the last is closed", async () => {
  const words = ["link", "add", "xq", "numrxqueues", "2", "numtxqueues", "2", "type", "veth"];
  await run("ip", [...words, "peer", "name", "xqp", "numrxqueues", "2", "numtxqueues", "2"]);
  for (const name of ["xq", "xqp"]) setLink(name, { up: true });
  const [first, second] = [0, 1].map((queue) => AfXdpDevice.open({ name: "xq", queue, promiscuous: true }));
  const far = PacketSocketDevice.open({ name: "xqp" });
  assertEquals([first.mode, getLink("xq").xdpPrograms.length, getLink("xq").promiscuity], [second.mode, 1, 2]);
  assertInstanceOf(thrown(() => AfXdpDevice.open({ name: "xq", queue: 1 })), Deno.errors.Busy);
  const odd = thrown(() => AfXdpDevice.open({ name: "xq", queue: 1, mode: first.mode === "native" ? "generic" : "native" }));
  assertInstanceOf(odd, Deno.errors.Busy);
  const frames = Array.from({ length: 20 }, (_, i) => tagged([], [8, 0], [i]));
  send(far, ...frames);
  const ours = new Ours();
  while (ours.frames.length < 20) {
    for (const device of [first, second]) device.receive(ours, 64);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  assertEquals(ours.list.map((bytes) => bytes[14]).sort((a, b) => a - b), frames.map((frame) => frame[14]));
  first.close();
  assertEquals([getLink("xq").xdpPrograms.length, getLink("xq").promiscuity], [1, 1]);
  // Its queue may have another socket, with the same program.
  const third = AfXdpDevice.open({ name: "xq" });
  assertEquals([third.mode, getLink("xq").xdpPrograms.length], [second.mode, 1]);
  // One of the same number that comes after it has a program of its own.
  const { index } = getLink("xq");
  deleteLink("xq");
  await run("ip", ["link", "add", "xq", "index", String(index), "type", "veth", "peer", "name", "xqp"]);
  const again = AfXdpDevice.open({ name: "xq" });
  for (const device of [second, third]) device.close();
  assertEquals(getLink("xq").xdpPrograms.length, 1);
  again.close();
  assertEquals([getLink("xq").xdpPrograms, getLink("xq").promiscuity], [[], 0]);
  far.close();
});

kernelTest("promiscuity ends with a process that is killed; openings that fail leave no memory mapped", async () => {
  createLink({ name: "xa", kind: "veth", up: true, peer: { name: "xap", up: true } });
  const module = JSON.stringify(new URL("../../drivers/af_xdp.ts", import.meta.url));
  const code = `import { AfXdpDevice } from ${module};
AfXdpDevice.open({ name: "xa", promiscuous: true });
console.log("open");
setInterval(() => {}, 1000);`;
  const child = new Deno.Command(Deno.execPath(), { args: ["eval", code], stdout: "piped" }).spawn();
  const reader = child.stdout.getReader();
  await reader.read();
  assertEquals(getLink("xa").promiscuity, 1);
  child.kill("SIGKILL");
  await child.status;
  await reader.cancel();
  assertEquals(getLink("xa").promiscuity, 0);
  const fails = `import { AfXdpDevice } from ${module};
for (let i = 0; i < 10; i++) try { AfXdpDevice.open({ name: "xa", queue: 9 }); } catch (error) { console.log(error.code); }
console.log(Deno.readTextFileSync("/proc/self/maps").includes("tapioca-umem"));`;
  for (const drop of ["-net_raw", "-bpf,-sys_admin"]) {
    const { stdout } = await run("setpriv", ["--bounding-set", drop, "--inh-caps", drop, Deno.execPath(), "eval", fails]);
    assertMatch(stdout, /^(E[A-Z]+\n){10}false\n$/);
  }
});

kernelTest("what can't be is said: no interface, a taken one, impossible numbers", () => {
  assertInstanceOf(thrown(() => AfXdpDevice.open({ name: "nobody" })), Deno.errors.NotFound);
  const [a, b] = pair();
  const busy = thrown(() => AfXdpDevice.open({ name: "xa" }));
  assertInstanceOf(busy, Deno.errors.Busy);
  for (const ring of [0, 63, 100, 65_536]) assertThrows(() => AfXdpDevice.open({ name: "xa", ring }), RangeError);
  for (const queue of [-1, 64, 0.5]) assertThrows(() => AfXdpDevice.open({ name: "xa", queue }), RangeError);
  for (const chunks of [0, 100, 1 << 20]) assertThrows(() => new Umem({ chunks }), RangeError);
  a.setPromiscuous(true);
  assertEquals(getLink("xa").promiscuity, 1);
  assertInstanceOf(thrown(() => AfXdpDevice.open({ name: "lo", mode: "native" })), Error);
  a.close();
  assertEquals(getLink("xa").promiscuity, 0);
  b.close();
});
