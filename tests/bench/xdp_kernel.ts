/**
 * Forwarding inside the kernel: our bytecode and clang's on veth, and the kernel's own bridge in their place. Frames come from the
 * kernel itself (BPF_F_TEST_XDP_LIVE_FRAMES), as a driver would hand them in, and everything happens on the core of the caller.
 *
 * @module
 */
import process from "node:process";
import { createMap, LoadedProgram } from "../../drivers/xdp/bpf/load.ts";
import { defineProgram, type MapSpec, type XdpProgram } from "../../drivers/xdp/program.ts";
import { IFINDEX_MAX, physicalProgram, PORTS, ROUTER_IFACE, routerProgram } from "../../drivers/xdp/programs/vlan_mux.ts";
import { BPF, BpfAttributes, bpfError, type BpfMap } from "../../ffi/bpf.ts";
import { type AttachMode, BpfLink, type BpfProgram, TestRun } from "../../ffi/bpf_program.ts";
import { SIOCETHTOOL } from "../../ffi/ifreq.ts";
import { InterfaceIoctls } from "../../ffi/ioctl_interface.ts";
import { createLink, deleteLink, getLink, linkIndex, setLink } from "../../ffi/rtnl_link.ts";
import { le32 } from "../drivers/xdp/both.ts";
import { loadC } from "./clang_programs.ts";

/** Of a frame. */
export const SIZE = 60;
const LIVE_FRAMES = 2;
const LOOPBACK = 1;
const ETHTOOL_SGRO = 0x2c;
/** Frames in one call: a few milliseconds. */
const BURST = 20_000;
const TX: MapSpec = { name: "tx", kind: "devmap", keySize: 4, valueSize: 4, maxEntries: 1 };

/** What a source's frames are. */
interface SourceOptions {
  /** The identifier in a tag; 0: no tag. */
  tag?: number;
  /** From the receiver's address to the sender's. */
  back?: boolean;
}

/** Writes a header and sends the frame to the interface in {@link TX}. */
function sourceProgram({ tag = 0, back = false }: SourceOptions): XdpProgram {
  return defineProgram("source", [TX], (p) => {
    const frame = p.window(0, 18, () => p.drop());
    // Frames come back as the last receiver left them.
    frame.setU32(0, 0x02_00_00_00);
    frame.setU32(4, back ? 0x00_02_02_00 : 0x00_01_02_00);
    frame.setU32(8, back ? 0x00_00_00_01 : 0x00_00_00_02);
    frame.setU32(12, tag > 0 ? 0x8100_0000 | tag : 0x88b5_0000);
    p.redirectMap(TX, 0, () => p.drop());
  });
}

/** The kernel's own source of frames. */
export class FrameSource implements Disposable {
  readonly #loaded: LoadedProgram;
  readonly #ready: BpfLink;
  readonly #attributes = new BpfAttributes();

  /** @param name frames leave by it: those for a veth come out at its peer */
  constructor(name: string, options: SourceOptions = {}) {
    this.#loaded = LoadedProgram.load(sourceProgram(options));
    fill(this.#loaded.map(TX.name), 0, linkIndex(name));
    const { program } = this.#loaded;
    this.#ready = keepReady(program);
    this.#attributes.u32(0, program.fd).u32(8, SIZE).pointer(16, new Uint8Array(SIZE)).u32(64, LIVE_FRAMES);
  }

  /** Sends so many; by when it returns, the kernel has mostly dealt with them. */
  send(count: number): void {
    const code = this.#attributes.u32(32, count).call(BPF.PROG_TEST_RUN);
    if (code < 0) throw bpfError("run", "the source of frames", code);
  }

  [Symbol.dispose](): void {
    this.#ready.close();
    this.#loaded.close();
  }
}

/** A program that is attached somewhere is run at once; for any other, each run waits until all cores know how to call it. */
function keepReady(program: BpfProgram): BpfLink {
  return BpfLink.attachXdp(program, LOOPBACK, "generic");
}

function fill(map: BpfMap, key: number, value: number): void {
  const code = map.update(le32(key), le32(value));
  if (code !== 0) throw bpfError("fill", `map "${map.info.name}"`, code);
}

/** Makes an interface take frames of XDP without a program of its own. */
function setGro(name: string): void {
  using ioctl = new InterfaceIoctls();
  const value = new Uint8Array(new Uint32Array([ETHTOOL_SGRO, 1]).buffer);
  const code = ioctl.withData(name, SIOCETHTOOL, value);
  if (code < 0) throw bpfError("switch GRO on of", name, code);
}

/** A cable of the kernel, the far end of which somebody has in use. */
export function wire(name: string): void {
  createLink({ name, kind: "veth", up: true, peer: { name: `${name}p`, up: true } });
  for (const end of [name, `${name}p`]) setGro(end);
}

/** Who made the bytecode. */
export type Maker = "tapioca" | "clang";

/** A program in the kernel with its maps, whoever compiled it. */
class Made implements Disposable {
  readonly program: BpfProgram;
  readonly #maps: Map<string, BpfMap>;

  constructor(description: XdpProgram, maker: Maker, object: Uint8Array<ArrayBuffer> | null) {
    if (maker === "clang") {
      ({ program: this.program, maps: this.#maps } = loadC(object!, description));
      return;
    }
    this.#maps = new Map(description.maps.map((spec) => [spec.name, createMap(spec)]));
    this.program = LoadedProgram.load(description, [...this.#maps.values()]).program;
  }

  /** The interface that everything goes to. */
  setTarget(ifindex: number): void {
    const [ports, router] = [this.#maps.get(PORTS.name), this.#maps.get(ROUTER_IFACE.name)!];
    if (ports === undefined) fill(router, 0, ifindex);
    else fill(ports, ifindex, ifindex);
  }

  [Symbol.dispose](): void {
    this.program.close();
    for (const map of this.#maps.values()) map.close();
  }
}

/** What was measured of one way. */
export interface Sample {
  /** Millions a second. */
  rate: number;
  /** Nanoseconds of processor time for each frame. */
  cpu: number;
}

/** Processor time of this process and of the kernel's own threads for the network, in milliseconds. */
function busyMs(): number {
  const { user, system } = process.cpuUsage();
  let ns = 0;
  for (const { name } of Deno.readDirSync("/proc")) {
    if (!/^\d+$/.test(name)) continue;
    try {
      if (!Deno.readTextFileSync(`/proc/${name}/comm`).startsWith("ksoftirqd/")) continue;
      ns += Number(Deno.readTextFileSync(`/proc/${name}/schedstat`).split(" ")[0]);
    } catch { /* it has ended */ }
  }
  return (user + system) / 1000 + ns / 1e6;
}

/** One way through the kernel. */
export interface KernelWay {
  name: string;
  /** Null: no program. */
  program: XdpProgram | null;
  maker: Maker;
  mode: AttachMode | "bridge" | "drop";
}

const DROP = defineProgram("drop", [], (p) => p.drop());

/** Everything that is compared. */
export function kernelWays(withClang: boolean): KernelWay[] {
  const ways: KernelWay[] = [
    { name: "source alone, dropped on arrival", program: DROP, maker: "tapioca", mode: "drop" },
    { name: "kernel's bridge", program: null, maker: "tapioca", mode: "bridge" },
  ];
  for (const mode of ["native", "generic"] as const) {
    for (const program of [physicalProgram(), routerProgram()]) {
      for (const maker of withClang ? ["tapioca", "clang"] as const : ["tapioca"] as const) {
        ways.push({ name: `kernel ${mode}, ${program.name}, ${maker}`, program, maker, mode });
      }
    }
  }
  return ways;
}

/** Sends frames into `in` for a while, and counts what comes out behind `out`. */
export function measureKernel(way: KernelWay, seconds: number, object: Uint8Array<ArrayBuffer> | null): Sample {
  const bridge = way.mode === "bridge";
  using stack = new DisposableStack();
  for (const name of ["in", "out"]) {
    wire(name);
    stack.defer(() => deleteLink(name));
  }
  const out = linkIndex("out");
  if (out > IFINDEX_MAX) throw new Error("too many interfaces were made in this namespace");
  if (bridge) {
    createLink({ name: "bridge", kind: "bridge", up: true });
    stack.defer(() => deleteLink("bridge"));
    for (const name of ["in", "out"]) setLink(name, { master: "bridge" });
    // It learns where the receiver is.
    using back = new FrameSource("outp", { back: true });
    back.send(1000);
  } else {
    const made = stack.use(new Made(way.program!, way.maker, object));
    if (way.mode !== "drop") made.setTarget(out);
    const mode = way.mode === "generic" ? "generic" : "native";
    stack.use(BpfLink.attachXdp(made.program, linkIndex("in"), mode));
  }
  using source = new FrameSource("inp", { tag: way.program?.name === "router" ? out : 0 });
  source.send(2 * BURST);
  const count = () => getLink(way.mode === "drop" ? "in" : "outp").rxPackets;
  const [frames, cpu, time] = [count(), busyMs(), performance.now()];
  while (performance.now() - time < seconds * 1000) source.send(BURST);
  const ms = performance.now() - time;
  const sent = count() - frames;
  return { rate: sent / ms / 1000, cpu: (busyMs() - cpu) * 1e6 / sent };
}

/** So many runs fit into the headroom, each with a tag more. */
const REPEAT = 50;

/**
 * Nanoseconds of a program alone, as the kernel measures them (whole numbers, of {@link REPEAT} runs in a row): the least, and the
 * mean of the faster half.
 */
export function testRunNs(description: XdpProgram, maker: Maker, object: Uint8Array<ArrayBuffer> | null, runs: number): number[] {
  using made = new Made(description, maker, object);
  using _ready = keepReady(made.program);
  made.setTarget(LOOPBACK);
  // The router's frame has a tag for each run.
  const frame = new Uint8Array(12 + REPEAT * 4 + 50);
  for (let at = 12; at < 12 + REPEAT * 4; at += 4) frame.set([0x81, 0, 0, LOOPBACK], at);
  const test = new TestRun(made.program);
  const found: number[] = [];
  for (let i = 0; i < runs; i++) {
    const run = test.run(frame, { ifindex: LOOPBACK, repeat: REPEAT });
    if (typeof run === "number") throw bpfError("run", "a program over bytes", run);
    if (run.result !== 4) throw new Error(`${description.name} by ${maker} answered ${run.result}`);
    found.push(run.nanoseconds);
  }
  const faster = found.sort((a, b) => a - b).slice(0, runs / 2);
  return [faster[0], faster.reduce((sum, ns) => sum + ns) / faster.length];
}
