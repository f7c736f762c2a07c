/** In a network namespace of its own; what needs BPF is skipped where it is refused. */
import { assert, assertEquals, assertInstanceOf, assertStringIncludes, assertThrows } from "@std/assert";
import { BpfError, BpfMap, type BpfMapOptions, inBpffs, possibleCpus } from "../../ffi/bpf.ts";
import { BpfLink, BpfProgram, probeBpf, TestRun, verifierReason } from "../../ffi/bpf_program.ts";
import { libc } from "../../ffi/libc.ts";
import { createLink, deleteLink, getLink, linkExists } from "../../ffi/rtnl_link.ts";
import { lacksBpf, TestBpffs } from "../testing/bpf.ts";
import { lacksRoot, run } from "../testing/namespace.ts";
import { thrown } from "./kernel.ts";

// Before any test: the library stays open for the process, and the sanitizer would blame whoever opened it.
libc();

const HASH: BpfMapOptions = { type: 1, keySize: 4, valueSize: 8, maxEntries: 2, name: "some_hash" };
const PERCPU_ARRAY: BpfMapOptions = { type: 6, keySize: 4, valueSize: 8, maxEntries: 2, name: "counts" };

/** `r0 = action; exit`. */
function returning(action: number): Uint8Array<ArrayBuffer> {
  return Uint8Array.of(0xb7, 0, 0, 0, action, 0, 0, 0, 0x95, 0, 0, 0, 0, 0, 0, 0);
}

function load(action = 2): BpfProgram {
  return BpfProgram.load({ name: `return_${action}`, instructions: returning(action) });
}

const key = (n: number) => Uint8Array.of(n, 0, 0, 0);
const value = (n: number) => Uint8Array.of(n, 0, 0, 0, 0, 0, 0, 0);

Deno.test({
  name: "a hash: make, read, replace, take out, list; full, missing and existing by their errnos",
  ignore: lacksBpf(),
  fn() {
    using map = BpfMap.create(HASH);
    assertEquals({ ...map.info, id: 0 }, { ...HASH, id: 0, flags: 0 } as typeof map.info);
    assertEquals(map.lookup(key(1)), null);
    assertEquals(map.update(key(1), value(5)), 0);
    assertEquals(map.update(key(1), value(6), 1), -17);
    assertEquals(map.update(key(2), value(6), 2), -2);
    assertEquals(map.update(key(2), value(7)), 0);
    assertEquals(map.update(key(3), value(8)), -7);
    assertEquals(map.lookup(key(1)), value(5));
    assertEquals([...map.keys()].map((bytes) => bytes[0]).sort(), [1, 2]);
    assertEquals([map.delete(key(1)), map.delete(key(1))], [0, -2]);
    assertEquals([...map.keys()].map((bytes) => bytes[0]), [2]);
    assertThrows(() => map.lookup(new Uint8Array(3)), RangeError, "a key of 3 bytes for a map with 4");
    assertThrows(() => map.update(key(1), new Uint8Array(4)), RangeError, "a value of 4 bytes for a map with 8");
    map.close();
    assertEquals(map.fd, -1);
    assertEquals(map.update(key(1), value(1)), -9);
    assertInstanceOf(thrown(() => map.lookup(key(1))), Deno.errors.BadResource);
  },
});

Deno.test({
  name: "a per-CPU array is read as one copy for each processor, and added up",
  ignore: lacksBpf(),
  fn() {
    using map = BpfMap.create(PERCPU_ARRAY);
    const cpus = possibleCpus();
    const copies = new BigUint64Array(cpus).map((_, i) => BigInt(i + 1) << 33n);
    assertEquals(map.update(key(1), new Uint8Array(copies.buffer)), 0);
    assertEquals(map.lookup(key(1))?.length, 8 * cpus);
    assertEquals(map.counter(key(1)), copies.reduce((a, b) => a + b));
    assertEquals(map.counter(key(0)), 0n);
  },
});

Deno.test({
  name: "maps that can't be: a typed error that says which",
  ignore: lacksBpf(),
  fn() {
    const error = thrown(() => BpfMap.create({ ...HASH, keySize: 0, name: "no_key" }));
    assertInstanceOf(error, Deno.errors.InvalidData);
    assertEquals(error.message, 'Cannot create BPF map "no_key": invalid argument (EINVAL)');
    assertEquals(thrown(() => BpfMap.openId(0xffff_fff0)).code, "ENOENT");
  },
});

Deno.test({
  name: "the verifier's refusal is an error with its reason, its end and its whole log",
  ignore: lacksBpf(),
  fn() {
    // exit without a result.
    const error = thrown(() => BpfProgram.load({ name: "bad", instructions: Uint8Array.of(0x95, 0, 0, 0, 0, 0, 0, 0) }));
    assertInstanceOf(error, BpfError);
    assertEquals([error.code, error.errno], ["EVERIFIER", "EACCES"]);
    assertStringIncludes(error.message, 'Cannot load BPF program "bad": the verifier refused it: R0 !read_ok (EACCES)');
    assertStringIncludes(error.log, "0: (95) exit");
    assertThrows(() => BpfProgram.load({ name: "half", instructions: new Uint8Array(12) }), RangeError, "12 bytes");
    assertThrows(() => BpfProgram.load({ name: "none", instructions: new Uint8Array(0) }), RangeError);
  },
});

Deno.test("what a verifier's log says is its last line before the statistics", () => {
  assertEquals(verifierReason("0: (95) exit\nR0 !read_ok\nprocessed 1 insns (limit 1000000)\n"), "R0 !read_ok");
  assertEquals(verifierReason(""), "it said nothing");
});

Deno.test({
  name: "a program runs over bytes; what the kernel refuses is a negative errno",
  ignore: lacksBpf(),
  fn() {
    using program = load(3);
    assertEquals([program.info.type, program.info.name], [6, "return_3"]);
    const test = new TestRun(program, 100);
    const result = test.run(Uint8Array.from({ length: 60 }, (_, i) => i), { repeat: 100 });
    assert(typeof result !== "number");
    assertEquals([result.result, result.output.length, result.output[59]], [3, 60, 59]);
    assertEquals(test.run(new Uint8Array(13)), -22);
    assertEquals(test.run(new Uint8Array(60), { ifindex: 987 }), -19);
    assertThrows(() => test.run(new Uint8Array(101)), RangeError, "101 bytes; at most 100 are possible");
  },
});

function veth(): Disposable {
  createLink({ name: "xa", kind: "veth", up: true, peer: { name: "xb", up: true } });
  return { [Symbol.dispose]: () => void (linkExists("xa") && deleteLink("xa")) };
}

Deno.test({
  name: "a link: native and generic, one at a time, another program put in its place, detached, and the interface gone",
  ignore: lacksBpf(),
  fn() {
    using _ = veth();
    const { index } = getLink("xa");
    using program = load(2);
    using other = load(1);
    for (const mode of ["native", "generic"] as const) {
      using link = BpfLink.attachXdp(program, index, mode);
      assertEquals({ ...link.info, id: 0 }, { id: 0, programId: program.info.id, ifindex: index });
      const busy = thrown(() => BpfLink.attachXdp(other, index, mode));
      assertInstanceOf(busy, Deno.errors.Busy);
      assertStringIncludes(busy.message, "Another program is attached there");
      link.update(other);
      assertEquals(link.info.programId, other.info.id);
      link.detach();
      assertEquals(link.info.ifindex, 0);
      // The place is free though the link's descriptor is open.
      BpfLink.attachXdp(program, index, mode).close();
    }
    using last = BpfLink.attachXdp(program, index, "native");
    deleteLink("xa");
    assertEquals(last.info.ifindex, 0);
    assertEquals(thrown(() => last.update(other)).code?.startsWith("E"), true);
    const gone = thrown(() => BpfLink.attachXdp(program, index, "native"));
    assertInstanceOf(gone, Deno.errors.NotFound);
    assertStringIncludes(gone.message, `interface ${index} in native mode`);
  },
});

Deno.test({
  name: "the loop-back interface has no native mode: the error says what to do, and automatic mode does it",
  ignore: lacksBpf(),
  fn() {
    using program = load();
    const error = thrown(() => BpfLink.attachXdp(program, 1, "native"));
    assertStringIncludes(error.message, "generic mode");
    BpfLink.attachXdp(program, 1, "generic").close();
    using _ = veth();
    const modes = [1, getLink("xa").index].map((ifindex) => {
      using link = BpfLink.attachXdp(program, ifindex, "auto");
      // Where a program is already, and where nothing is, generic mode is no way out.
      assertInstanceOf(thrown(() => BpfLink.attachXdp(program, ifindex, "auto")), Deno.errors.Busy);
      return link.mode;
    });
    assertEquals(modes, ["generic", "native"]);
    assertInstanceOf(thrown(() => BpfLink.attachXdp(program, 9999, "auto")), Deno.errors.NotFound);
  },
});

Deno.test({
  name: "pins: map, program and link outlive their descriptors, and go with their file; without a bpffs the error says so",
  ignore: lacksBpf() || lacksRoot(),
  async fn() {
    using _ = veth();
    await using bpffs = await TestBpffs.mount();
    const { index } = getLink("xa");
    const pin = (name: string) => `${bpffs.path}/${name}`;
    const map = BpfMap.create(HASH);
    map.update(key(1), value(9));
    map.pin(pin("map"));
    assertInstanceOf(thrown(() => map.pin(pin("map"))), Deno.errors.AlreadyExists);
    map.close();
    const program = load(2);
    program.pin(pin("program"));
    const link = BpfLink.attachXdp(program, index, "generic");
    link.pin(pin("link"));
    link.close();
    program.close();
    using again = BpfMap.open(pin("map"));
    assertEquals(again.lookup(key(1)), value(9));
    using same = BpfProgram.open(pin("program"));
    using opened = BpfLink.open(pin("link"));
    assertEquals(opened.info, { ...opened.info, programId: same.info.id, ifindex: index });
    for (const name of ["map", "program", "link"]) Deno.removeSync(pin(name));
    assertInstanceOf(thrown(() => BpfMap.open(pin("map"))), Deno.errors.NotFound);
    const elsewhere = thrown(() => again.pin("/tmp/tapioca_no_bpffs"));
    assertInstanceOf(elsewhere, BpfError);
    assertEquals(elsewhere.code, "ENOBPFFS");
    assertStringIncludes(elsewhere.message, "mount -t bpf bpf /sys/fs/bpf");
    assertEquals([inBpffs(pin("x")), inBpffs("/tmp/x")], [true, false]);
  },
});

Deno.test({
  name:
    "a program for which CAP_BPF and CAP_NET_ADMIN are too little: the error says what it needs; the multiplexer's are content",
  ignore: lacksBpf(["setpriv"], "util-linux") || lacksRoot(),
  async fn() {
    const from = (path: string) => JSON.stringify(new URL(`../../drivers/xdp/${path}`, import.meta.url).pathname);
    const code = `import { LoadedProgram } from ${from("bpf/load.ts")};
      import { physicalProgram, routerProgram } from ${from("programs/vlan_mux.ts")};
      import { filterProgram } from ${from("programs/filter.ts")};
      for (const program of [physicalProgram(), routerProgram()]) LoadedProgram.load(program).close();
      try { LoadedProgram.load(filterProgram()); } catch (error) { console.log(error.code, error.message); }`;
    // Reading the modules is root's business too, and isn't what this is about.
    const rights = ["--bounding-set=-all,+bpf,+net_admin,+dac_override,+dac_read_search", "--inh-caps=-all,+bpf,+net_admin"];
    const { stdout, stderr } = await run("setpriv", [...rights, "--", Deno.execPath(), "eval", "--ext=ts", code]);
    assertEquals(stderr, "");
    assertStringIncludes(stdout, "EVERIFIER");
    assertStringIncludes(stdout, "It needs CAP_PERFMON beside CAP_BPF and CAP_NET_ADMIN");
  },
});

Deno.test({
  name: "without the right to BPF the error says which is missing, and the probe tells the same",
  ignore: lacksBpf() || lacksRoot(),
  async fn() {
    const program = new URL("../../ffi/bpf_program.ts", import.meta.url).pathname;
    const code = `import { probeBpf } from ${JSON.stringify(program)}; console.log(JSON.stringify(probeBpf()));`;
    // Root of a user namespace has every capability, but not the machine's.
    const { stdout } = await run("unshare", ["-Ur", Deno.execPath(), "eval", "--ext=ts", code]);
    const support = JSON.parse(stdout);
    assertEquals([support.maps, support.programs, support.testRun], [false, false, false]);
    assertStringIncludes(support.reason, "permission denied (EPERM). BPF needs CAP_BPF and CAP_NET_ADMIN of the machine itself");
    assertEquals(probeBpf(), { maps: true, programs: true, testRun: true, reason: "" });
  },
});
