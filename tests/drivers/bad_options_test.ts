// Every option of devices, networks and programs that is wrong is refused by name, and in no engine's own words.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import * as face from "../../mod.ts";

/** Whatever a caller without types might give. */
// deno-lint-ignore no-explicit-any
type Anything = any;
/** A call with one thing wrong, and a word of what must be said about it. */
type Wrong = [call: (value: Anything) => unknown, said: string, values: Anything[]];

/** What JavaScript itself says when nobody has looked before. */
const FROM_INSIDE =
  /Cannot (read|destructure|convert)|is not a function$|is not iterable|Invalid (typed )?array length|allocation failed/;

const NO_OBJECT = [null, 5, "x"];
const NO_FUNCTION = [5, "x", null, {}];

async function refused(wrong: Wrong[]): Promise<void> {
  for (const [call, said, values] of wrong) {
    for (const value of values) {
      const what = `${call} with ${Deno.inspect(value)}`;
      let error: Anything = null;
      try {
        await call(value);
      } catch (thrown) {
        error = thrown;
      }
      assert(
        error instanceof TypeError || error instanceof RangeError || error instanceof face.ProgramError,
        `${what}: ${error}`,
      );
      assert(!FROM_INSIDE.test(error.message), `${what}: ${error.message}`);
      assertStringIncludes(error.message, said, what);
    }
  }
}

function end(): face.CableEnd {
  return face.cable()[0];
}

Deno.test("cable, packet device, capture, faults: wrong options", async () => {
  const sink = { write() {} };
  await refused([
    [(o) => face.cable(o), "options must be an object", NO_OBJECT],
    [(mac) => face.cable({ mac }), "mac must be", [5, "x", null, [], [new Uint8Array(6)], [new Uint8Array(3), "x"]]],
    [(name) => face.cable({ name }), "name must be", [5, "x", null, ["a"]]],
    [(o) => new face.PacketDevice(o), "options must be an object", NO_OBJECT],
    [(onPacket) => new face.PacketDevice({ onPacket }), "onPacket must be a function", NO_FUNCTION],
    [(mac) => new face.PacketDevice({ mac }), "mac must be 6 bytes", [null, 5, "02:00:00:00:00:01", new Uint8Array(5)]],
    [(to) => face.pcapTap(end(), to), "what takes the capture", [null, 5]],
    [(write) => face.pcapTap(end(), { write }), "write must be a function", NO_FUNCTION],
    [(close) => face.pcapTap(end(), { ...sink, close }), "close must be a function", NO_FUNCTION],
    [(o) => face.pcapTap(end(), sink, o), "options must be an object", NO_OBJECT],
    [(nowNs) => face.pcapTap(end(), sink, { nowNs }), "nowNs must be a function", NO_FUNCTION],
    [(o) => face.faults(end(), o), "must be an object", NO_OBJECT],
    [(clock) => face.faults(end(), { clock }), "clock must be", [5, null, {}]],
    [(superFrames) => face.faults(end(), { superFrames }), "superFrames must be", [5, "x", null]],
    ...["drop", "in", "out", "queue", "loss", "reorder", "corrupt", "delay", "rate", "blackHole"].map((name): Wrong => {
      const values = ["x", true, ...["drop", "in", "out"].includes(name) ? [5] : [NaN]];
      return [(value) => face.faults(end(), { [name]: value }), name, values];
    }),
    [(set) => face.faults(end()).set(set), "must be an object", NO_OBJECT],
  ]);
});

Deno.test("a network: wrong options, and a limit that is none", async () => {
  using net = new face.Network({ seed: 1 });
  const a = net.host("a", { address: "10.0.0.1/24" }), b = net.host("b", { address: "10.0.0.2/24" });
  await refused([
    [(o) => new face.Network(o), "options must be an object", NO_OBJECT],
    [(clock) => new face.Network({ clock }), "clock must be", [5, null, {}]],
    [(pcap) => new face.Network({ pcap }), "what takes the capture", [5, null]],
    [(o) => net.host("c", o), "options must be an object", NO_OBJECT],
    [(o) => net.router("c", o), "options must be an object", NO_OBJECT],
    [(interfaces) => net.router("c", { interfaces }), "interfaces must be an array", [5, null, undefined, {}, "10.0.0.1/24"]],
    [(one) => net.router("c", { interfaces: [one] }), "an interface must be an object", [5, null]],
    [(o) => net.switch("c", o), "options must be an object", NO_OBJECT],
    [(o) => net.link(a, b, o), "conditions must be an object", NO_OBJECT],
    [(aToB) => net.link(a, b, { aToB }), "aToB must be an object", NO_OBJECT],
    [(o) => net.run(() => 1, o), "options must be an object", NO_OBJECT],
    [(limitMs) => net.run(() => 1, { limitMs }), "limitMs must be", [NaN, -1, "x", null]],
    [(limitMs) => net.untilQuiet({ limitMs }), "limitMs must be", [NaN, -1, "x", null]],
  ]);
  // Nothing has been taken by what was refused.
  const link = net.link(a, b);
  await refused([[(bToA) => link.set({ bToA }), "bToA must be an object", NO_OBJECT]]);
  net.host("c", { address: "10.0.0.3/24" });
});

Deno.test("a filter that was misspelt doesn't let everything through: XDP's programs and engine", async () => {
  const equal = (value: Anything) => {
    face.defineProgram("a", [], (p) => {
      const type = p.window(0, 14, () => p.drop()).u16(12);
      p.if(p.eq(type, value), () => p.pass());
      p.drop();
    });
  };
  const pass = (p: face.ProgramBuilder) => p.pass();
  await refused([
    [(otherwise) => face.filterProgram({ otherwise }), "otherwise must be", ["x", "Drop", null, 5]],
    [(o) => face.filterProgram(o), "options must be an object", NO_OBJECT],
    [(mode) => face.routerProgram({ mode }), "mode must be", ["x", "Strict", null]],
    [(reach) => face.routerProgram({ reach }), "reach must be", ["x", null]],
    [(o) => face.routerProgram(o), "options must be an object", NO_OBJECT],
    [(name) => face.defineProgram(name, [], pass), "Invalid program name", [5, null, ""]],
    [(maps) => face.defineProgram("a", maps, pass), "maps must be an array", [null, 5, {}]],
    [(map) => face.defineProgram("a", [map], pass), "a map must be an object", NO_OBJECT],
    [(describe) => face.defineProgram("a", [], describe), "describe must be a function", NO_FUNCTION],
    [equal, "neither a number nor a value", ["x", null, undefined, {}]],
    [(o) => new face.XdpEngine(o), "options must be an object", NO_OBJECT],
    [(trace) => new face.XdpEngine({ trace }), "trace must be a function", NO_FUNCTION],
    [(onGone) => new face.XdpEngine({ onGone }), "onGone must be a function", NO_FUNCTION],
    [(o) => new face.XdpEngine().add(end(), o), "options must be an object", NO_OBJECT],
    [(o) => new face.XdpForwarder(o), "options must be an object", NO_OBJECT],
  ]);
});

Deno.test("virtio: wrong options", async () => {
  const memory = face.SharedMemory.of(new Uint8Array(1 << 20));
  const device = () => new face.VirtioNetDevice(memory);
  const transport = new face.MmioTransport(new face.MmioDevice(device()));
  const area = { address: 0, length: 1 << 20 };
  await refused([
    [(base) => face.SharedMemory.of(new Uint8Array(4), base), "address", [-1, NaN, 1.5, "x", null]],
    [(bytes) => face.SharedMemory.of(bytes), "Uint8Array", [null, 5, "x", new ArrayBuffer(8)]],
    [(o) => new face.MmioDevice(device(), o), "options must be an object", NO_OBJECT],
    [(interrupt) => new face.MmioDevice(device(), { interrupt }), "interrupt must be a function", NO_FUNCTION],
    [(o) => new face.VirtioNetDevice(memory, o), "options must be an object", NO_OBJECT],
    [(mac) => new face.VirtioNetDevice(memory, { mac }), "MAC", [null, 5, "x"]],
    [(o) => new face.NetDriver(o), "options must be an object", NO_OBJECT],
    [(transport) => new face.NetDriver({ transport, memory, area }), "transport", [null, 5, "x", {}, undefined]],
    [(memory) => new face.NetDriver({ transport, memory, area }), "memory must be a SharedMemory", [null, 5, {}, undefined]],
    [(area) => new face.NetDriver({ transport, memory, area }), "area must be an object", [null, 5, undefined]],
    [(mac) => new face.NetDriver({ transport, memory, area, mac }), "mac must be", [null, 5]],
    [(o) => new face.Nic(o), "must be", NO_OBJECT],
  ]);
});

Deno.test("devices by class, netkits, supervisors: wrong options", async () => {
  const devices = new face.DeviceTable();
  await using registry = new face.NetDevices({ backing: "process" });
  await refused([
    [(o) => new face.NetDevices(o), "options must be an object", NO_OBJECT],
    [(onFailure) => new face.NetDevices({ onFailure }), "onFailure must be a function", NO_FUNCTION],
    [(table) => new face.NetDevices({ table }), "table must be a DeviceTable", [5, "x", null, {}]],
    [(o) => registry.registerNetdev("a0", null, o), "options must be an object", NO_OBJECT],
    [(o) => face.createNetkit(o), "options must be an object", NO_OBJECT],
    [(peer) => face.createNetkit({ peer }), "peer must be an object", NO_OBJECT],
    [(mac) => face.createNetkit({ mode: face.NETKIT_L2, mac }), "mac must be text or bytes", [null, 5, {}, []]],
    [(namespace) => face.createNetkit({ namespace }), "namespace must be text", [null, 5, {}]],
    [(command) => face.superviseIoctls(command, devices), "a program is needed", [null, undefined, 5, [], [""], [5]]],
    [(args) => face.superviseIoctls(["true", args], devices), "arguments must be texts", [5, null]],
    [(table) => face.superviseIoctls(["true"], table), "a table or a list of devices", [null, 5, {}]],
    [(o) => face.superviseIoctls(["true"], devices, o), "options must be an object", NO_OBJECT],
    [(name) => new face.IfReq(name), "Invalid ifreq", [null, 5, {}]],
  ]);
  assertEquals([...devices], []);
});

Deno.test("stacks and what stands on them: wrong options", async () => {
  using stack = new face.NetStack(end(), { address: "10.0.0.1/24" });
  const handlers = { connection() {}, datagrams() {} };
  await refused([
    [(stack) => face.intercept(stack, handlers), "intercept needs a NetStack", [null, 5, {}]],
    [(handlers) => face.intercept(stack, handlers), "handlers must be an object", NO_OBJECT],
    [(connection) => face.intercept(stack, { ...handlers, connection }), "connection must be a function", [
      ...NO_FUNCTION,
      undefined,
    ]],
    [(datagrams) => face.intercept(stack, { ...handlers, datagrams }), "datagrams must be a function", [
      ...NO_FUNCTION,
      undefined,
    ]],
    [(o) => face.intercept(stack, handlers, o), "options must be an object", NO_OBJECT],
    [(ttl) => face.intercept(stack, handlers, { ttl }), "ttl must be 1 to 255", [999, NaN, "x"]],
    [(name) => face.intercept(stack, handlers, { congestionControl: name }), "congestionControl", ["bogus", null]],
    [(o) => stack.addAddress("10.0.0.2/24", o), "options must be an object", NO_OBJECT],
    [(on) => stack.addAddress("10.0.0.2/24", { detectConflicts: on }), "detectConflicts must be", ["no", 1]],
    [(device) => new face.BareStack(device), "needs a device", NO_OBJECT],
    [(o) => new face.BareStack(end(), o), "options must be an object", NO_OBJECT],
    [(o) => face.WorkerStack.open(o), "must be an object", NO_OBJECT],
    [(o) => face.httpAgent(stack, o), "options must be an object", NO_OBJECT],
  ]);
  assertEquals(stack.addresses.map(({ address }) => address), ["10.0.0.1/24"]);
  face.intercept(stack, handlers)[Symbol.dispose]();
});
