/** The public face of XDP: programs with maps of one's own, the filter, here and in the kernel. Only `mod.ts` is used. */
import { assert, assertEquals, assertInstanceOf, assertThrows } from "@std/assert";
import * as face from "../../../mod.ts";
import { createLink, deleteLink, getLink } from "../../../ffi/rtnl_link.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { ethernet, ipv4, tcp, udp } from "../../testing/frames.ts";
import { kernelTest, thrown } from "../../ffi/kernel.ts";

const lacks = lacksBpf();

/** Rules by the map that they are in, and what becomes of frames. */
const RULES = [
  ["filter_ports", face.filterPort("tcp", 80), face.filterRule("pass")],
  ["filter_ports", face.filterPort("udp"), face.filterRule("drop")],
  ["filter_src4", face.filterPrefix("10.1.2.0/24"), face.filterRule("drop")],
  ["filter_src6", face.filterPrefix("2001:db8::/32"), face.filterRule("drop")],
] as const;
const FRAMES = [
  { name: "TCP to port 80", frame: ethernet({}, ipv4({ protocol: 6 }, tcp({ destinationPort: 80 }))), action: face.XDP_PASS },
  { name: "UDP", frame: ethernet({}, ipv4({}, udp({ destinationPort: 53 }, new Uint8Array(8)))), action: face.XDP_DROP },
  { name: "TCP of nobody", frame: ethernet({}, ipv4({ protocol: 6 }, tcp({ destinationPort: 81 }))), action: face.XDP_PASS },
];

Deno.test("the filter in user space, from the public face: rules by text, what they decided, what is impossible", () => {
  using engine = new face.XdpEngine();
  const program = face.filterProgram();
  const maps = program.maps.map((spec) => face.createMap(spec, engine.interfaces));
  const map = (name: string) => maps.find(({ spec }) => spec.name === name)!;
  for (const [name, key, value] of RULES) assertEquals(map(name).set(key, value), 0, name);
  const device = new face.PacketDevice({ medium: "ethernet" });
  const port = engine.add(device, { program: program.instantiate(maps) });
  for (const { name, frame, action } of FRAMES) {
    port.actions.fill(0);
    device.inject(frame);
    engine.poll();
    assertEquals(port.actions.indexOf(1), action, name);
  }
  const { verdict, frames, bytes } = face.readFilterRule(map("filter_ports").get(face.filterPort("udp"))!);
  assertEquals([verdict, frames, bytes], ["drop", 1, FRAMES[1].frame.length]);
  const counts = map("filter_count");
  assertEquals(face.FILTER_COUNTERS.map((_, i) => face.readCounter(counts.values, 8 * i)), [2, 1, 0, 0, 0]);
  for (const wrong of ["10.0.0.0/33", "10.0.0", "::/129"]) assertThrows(() => face.filterPrefix(wrong), TypeError);
  for (const [protocol, number] of [[256, 0], [6, 65_536], ["gre", 0]]) {
    assertThrows(() => face.filterPort(protocol as number, number as number), RangeError);
  }
  assertThrows(() => face.filterRule("no" as "drop"), TypeError);
});

Deno.test("a program written by hand, from the public face: maps of each kind, helpers, tail calls", () => {
  using engine = new face.XdpEngine();
  const make = (name: string, kind: face.MapKind, keySize: number, valueSize: number) =>
    face.createMap({ name, kind, keySize, valueSize, maxEntries: 4 }, engine.interfaces);
  const seen = make("seen", "lru_hash", 4, 8) as face.LruMap;
  const ports = make("ports", "devmap_hash", 4, 4) as face.DevMapHash;
  const next = make("next", "prog_array", 4, 4) as face.ProgMap;
  assert(make("nets", "lpm_trie", 8, 4) instanceof face.LpmMap && make("h", "hash", 4, 4) instanceof face.HashMap);
  const cursor = new face.ParseCursor();
  assertEquals(
    next.setProgram(0, (_view, _offset, _end, _ifindex, context) => face.redirectMap(context, ports, cursor.vlanIds[0])),
    0,
  );
  const [a, b] = ["a", "b"].map((name) => new face.PacketDevice({ name, medium: "ethernet" }));
  engine.add(b, { ifindex: 9 });
  assertEquals(ports.set(7, 9), 0);
  engine.add(a, {
    program: (view, offset, end, _ifindex, context) => {
      if (face.parseEthernet(view, end, cursor.begin(offset)) !== 0x800 || cursor.vlanCount !== 1) return face.XDP_DROP;
      seen.set(face.parseIpv4(view, end, cursor), 1);
      face.swapMac(view, context.offset);
      if (face.vlanPop(context) < 0) return face.XDP_ABORTED;
      const action = face.tailCall(context, next, 0);
      return action >= 0 ? action : face.XDP_PASS;
    },
  });
  const inner = ethernet({}, ipv4({}, udp({}, new Uint8Array(8))));
  const tagged = new Uint8Array(inner.length + 4);
  tagged.set(inner.subarray(0, 12));
  tagged.set([0x81, 0, 0, 7], 12);
  tagged.set(inner.subarray(12), 16);
  a.inject(tagged);
  engine.poll();
  const [out] = b.take();
  assertEquals([out.subarray(0, 6), out.subarray(12)], [inner.subarray(6, 12), inner.subarray(12)]);
  assertEquals([seen.count, seen.find(17) >= 0], [1, true]);
});

Deno.test("xsk names: which kind an interface is", () => {
  const kinds = ["eth0", "tap:t0", "xsk:eth0", "xsk:eth0:3", "xsk:", "tap:a:1", "vlan:7"].map(face.interfaceKind);
  assertEquals(kinds, ["kernel", "tap", "xsk", "xsk", "kernel", "kernel", "kernel"]);
});

Deno.test({
  name: "the filter in the kernel, from the public face: the same rules and frames, run over bytes",
  ignore: lacks,
  fn() {
    using loaded = face.LoadedProgram.load(face.filterProgram());
    for (const [name, key, value] of RULES) assertEquals(loaded.map(name).update(key, value), 0, name);
    for (const { name, frame, action } of FRAMES) {
      const { result, output } = loaded.run(frame);
      assertEquals([result, output], [action, frame], name);
    }
    assert(loaded.run(FRAMES[0].frame, { repeat: 1000 }).nanoseconds > 0);
    const rule = loaded.map("filter_ports").lookup(face.filterPort("udp"))!;
    assertEquals(face.readFilterRule(rule), { verdict: "drop", frames: 1, bytes: FRAMES[1].frame.length });
    assertInstanceOf(thrown(() => loaded.run(new Uint8Array(13))), Deno.errors.InvalidData);
    assertThrows(() => loaded.run(new Uint8Array(5000)), RangeError);
    assertInstanceOf(thrown(() => loaded.run(FRAMES[0].frame, { ifindex: 9999 })), Deno.errors.NotFound);
  },
});

const ATTACH = "a program is attached to an interface by name until its link is disposed of";
if (lacks) Deno.test({ name: ATTACH, ignore: true, fn: attach });
else kernelTest(ATTACH, attach);

function attach(): void {
  createLink({ name: "xf", kind: "veth", up: true, peer: { name: "xfp", up: true } });
  using loaded = face.LoadedProgram.load(face.defineProgram("drop_all", [], (p) => p.drop()));
  for (const mode of ["auto", "generic", "native"] as const) {
    using link = loaded.attach("xf", mode);
    assertEquals(link.mode, mode === "auto" ? "native" : mode);
    assertEquals(getLink("xf").xdpPrograms, [loaded.program.info.id]);
    assertEquals(link.info.ifindex, getLink("xf").index);
    assertInstanceOf(thrown(() => loaded.attach("xf")), Deno.errors.Busy);
  }
  assertEquals(getLink("xf").xdpPrograms, []);
  assertInstanceOf(thrown(() => loaded.attach("nobody")), Deno.errors.NotFound);
  deleteLink("xf");
}
