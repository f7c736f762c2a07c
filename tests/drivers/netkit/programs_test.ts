// D5.9, D5.16-D5.18: programs, their order and revisions, leases, single devices.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { attachNetkit, detachNetkit, linkNetkit, queryNetkit } from "../../../drivers/netkit/netkit.ts";
import * as nk from "../../../drivers/netkit/options.ts";
import { type NetkitProgram, type Position, ProgramList, PROGRAMS_MAX } from "../../../drivers/netkit/programs.ts";
import { NetkitDevice } from "../../../drivers/netkit/device.ts";
import { codeOf, frameOf, kit, Reader } from "./rig.ts";

const verdict = (value: number): NetkitProgram => () => value;
const fresh = (): NetkitProgram => () => nk.NETKIT_NEXT;

Deno.test("D5.9 the first verdict that isn't NEXT wins; none attached: the policy; all NEXT: PASS; unknown drops", () => {
  const run = (policy: number, programs: NetkitProgram[]) => {
    const { primary, peer } = kit({ policy, mode: nk.NETKIT_L2 });
    for (const program of programs) attachNetkit(primary, program);
    const reader = new Reader(peer!);
    primary.setUp(true);
    primary.transmit(frameOf(60));
    const { txDropped } = primary.statistics64();
    return reader.take().length === 1 ? "pass" : txDropped === 1 ? "drop" : "away";
  };
  const { NETKIT_NEXT: NEXT, NETKIT_PASS: PASS, NETKIT_DROP: DROP, NETKIT_REDIRECT: REDIRECT } = nk;
  assertEquals([run(PASS, []), run(DROP, [])], ["pass", "drop"]);
  assertEquals([run(PASS, [verdict(NEXT)]), run(DROP, [verdict(NEXT), verdict(NEXT)])], ["pass", "pass"]);
  assertEquals(run(PASS, [verdict(NEXT), verdict(DROP), verdict(PASS)]), "drop");
  assertEquals(run(DROP, [verdict(NEXT), verdict(PASS), verdict(DROP)]), "pass");
  assertEquals(run(PASS, [verdict(REDIRECT), verdict(PASS)]), "away");
  for (const unknown of [1, 3, 8, -2, NaN, 2 ** 40]) assertEquals(run(PASS, [verdict(unknown)]), "drop", `${unknown}`);
  assertEquals(run(PASS, [(() => "x") as unknown as NetkitProgram]), "drop");
  assertEquals(
    run(PASS, [() => {
      throw new Error("broken");
    }, verdict(PASS)]),
    "drop",
  );
  let asked = 0;
  run(PASS, [verdict(DROP), () => ++asked]);
  assertEquals(asked, 0);
});

Deno.test("D5.9 programs see the frame with its link header in both modes, and may change it", () => {
  for (const mode of [nk.NETKIT_L2, nk.NETKIT_L3]) {
    const { primary, peer } = kit({ mode });
    const reader = new Reader(peer!);
    primary.setUp(true);
    const lengths: number[] = [];
    attachNetkit(primary, (frame) => {
      lengths.push(frame.length, frame.memory.view.getUint16(frame.offset + 12));
      frame.memory.bytes[frame.offset + 14] = 0x46;
      return nk.NETKIT_NEXT;
    });
    primary.transmit(frameOf(60, 0x45));
    reader.take();
    const l3 = mode === nk.NETKIT_L3;
    assertEquals(lengths, l3 ? [74, 0x0800] : [60, 0x4545]);
    assertEquals([reader.bytes[0].length, reader.bytes[0][l3 ? 0 : 14]], [60, 0x46]);
    assertEquals(peer!.statistics64().rxBytes, lengths[0], "the link header counts, as in the kernel");
  }
});

Deno.test("D5.16 attach: EINVAL, ENODEV, ENXIO, EACCES, EOPNOTSUPP, missing peer ENODEV", () => {
  const { primary, peer, table } = kit({ name: "p0", peer: { name: "p1" } });
  const program = fresh();
  const options = { table };
  assertEquals(codeOf(() => attachNetkit(primary, program, { type: 53 })), "EINVAL");
  assertEquals(codeOf(() => attachNetkit("nobody", program, options)), "ENODEV");
  assertEquals(codeOf(() => attachNetkit(4711, program, options)), "ENODEV");
  table.add({ name: "other", index: 5, ioctl: () => 0 });
  assertEquals([codeOf(() => attachNetkit("other", program, options)), codeOf(() => attachNetkit(5, program, options))], [
    "ENXIO",
    "ENXIO",
  ]);
  assertEquals(codeOf(() => attachNetkit(peer!, program)), "EACCES");
  assertEquals(codeOf(() => attachNetkit("p1", program, { type: nk.BPF_NETKIT_PEER, table })), "EACCES");
  const single = kit({ pairing: nk.NETKIT_DEVICE_SINGLE });
  assertEquals(codeOf(() => attachNetkit(single.primary, program)), "EOPNOTSUPP");
  const alone = new NetkitDevice(
    { name: "alone", mac: null, namespace: "", primary: true, policy: 0, scrub: 1 },
    nk.checkNetkitOptions({}),
    table,
  );
  assertEquals(codeOf(() => attachNetkit(alone, program, { type: nk.BPF_NETKIT_PEER })), "ENODEV");
  assertThrows(() => attachNetkit(primary, 7 as unknown as NetkitProgram), TypeError);
  attachNetkit(primary.index, program, options);
  attachNetkit("p0:alias", program, { type: nk.BPF_NETKIT_PEER, table });
  assertEquals([queryNetkit(primary).programs.length, peer!.programs.active?.length], [1, 1]);
});

Deno.test("D5.16 ordering: before, after, replace and revision, ESTALE, EEXIST, ERANGE, ENOENT, full", () => {
  const { primary } = kit();
  const [a, b, c, d, e] = [fresh(), fresh(), fresh(), fresh(), fresh()];
  const names = new Map([[a, "a"], [b, "b"], [c, "c"], [d, "d"], [e, "e"]]);
  const order = () => queryNetkit(primary).programs.map(({ program }) => names.get(program)).join("");
  const at = (program: NetkitProgram, position: Position = {}) =>
    codeOf(() => attachNetkit(primary, program, position)) || order();
  assertEquals(queryNetkit(primary).revision, 1);
  assertEquals([at(b), at(c)], ["b", "bc"]);
  assertEquals([at(a, { before: true }), at(d, { after: c })], ["abc", "abcd"]);
  assertEquals(queryNetkit(primary).revision, 5);
  assertEquals([at(a), at(e, { revision: 4 }), at(e, { before: e }), at(e, { after: e }), at(e, { replace: e })], [
    "EEXIST",
    "ESTALE",
    "ENOENT",
    "ENOENT",
    "ENOENT",
  ]);
  assertEquals([at(e, { before: a, after: b }), at(e, { before: true, after: true }), at(e, { replace: b, before: b })], [
    "ERANGE",
    "ERANGE",
    "ERANGE",
  ]);
  // Between two: in the kernel `before` and `after` are two sides of one program.
  assertEquals([at(e, { before: b, after: a }), at(e, { before: c, after: a }), at(e, { before: d, after: a })], [
    "ERANGE",
    "ERANGE",
    "ERANGE",
  ]);
  assertEquals([at(e, { before: b, after: e }), at(e, { before: e, after: b })], ["ENOENT", "ENOENT"]);
  assertEquals(order(), "abcd", "nothing has changed");
  assertEquals(at(e, { before: c, revision: 5 }), "abecd");
  assertEquals([detachNetkit(primary, e, { revision: 6 }), order()], [7, "abcd"]);
  assertEquals([at(e, { replace: b }), order()], ["aecd", "aecd"]);
  assertEquals(at(b, { replace: e, before: c }), "abcd", "both rules name the same place");
  assertEquals([at(e, { replace: b, before: c, after: a }), at(b, { replace: e, before: d, after: a })], ["aecd", "ERANGE"]);
  assertEquals(at(b, { replace: e }), "abcd");
  assertEquals(codeOf(() => detachNetkit(primary, null, { before: c, after: a })), "ERANGE");
  const off = (program: NetkitProgram | null, position: Position = {}) =>
    codeOf(() => detachNetkit(primary, program, position)) || order();
  assertEquals([off(e), off(a, { revision: 1 }), off(a, { replace: a })], ["ENOENT", "ESTALE", "EINVAL"]);
  assertEquals([off(null, { before: c }), off(null, { after: true }), off(null, { before: true })], ["acd", "ac", "c"]);
  assertEquals([off(c), off(c), off(null)], ["", "ENOENT", "ENOENT"]);
  for (let i = 0; i < PROGRAMS_MAX; i++) attachNetkit(primary, fresh());
  const full = [{}, { before: true }, { before: b }] as const; // the last isn't in
  assertEquals(full.map((position) => codeOf(() => attachNetkit(primary, a, position))), ["ERANGE", "ERANGE", "ERANGE"]);
  const [{ program }] = queryNetkit(primary).programs;
  attachNetkit(primary, a, { replace: program });
  assertEquals(queryNetkit(primary).programs.length, PROGRAMS_MAX);
});

Deno.test("D5.16 links hold their program: only they replace it or take it out", () => {
  const { primary } = kit();
  const [a, b, c] = [fresh(), fresh(), fresh()];
  const link = linkNetkit(primary, a);
  attachNetkit(primary, b, { before: link });
  assertEquals(queryNetkit(primary).programs.map(({ program, link: by }) => [program === a, by === link]), [
    [false, false],
    [true, true],
  ]);
  assertEquals([codeOf(() => detachNetkit(primary, a)), codeOf(() => attachNetkit(primary, c, { replace: a }))], [
    "EBUSY",
    "EBUSY",
  ]);
  assertEquals([codeOf(() => detachNetkit(primary, null)), codeOf(() => link.update(b))], ["EBUSY", "EEXIST"]);
  link.update(c);
  assert(queryNetkit(primary).programs[1].program === c && link.program === c);
  link.detach();
  link.detach();
  assertEquals([queryNetkit(primary).programs.length, link.attached, codeOf(() => link.update(a))], [1, false, "ENODEV"]);
  const other = linkNetkit(primary, a);
  primary.delete();
  assertEquals([other.attached, codeOf(() => other.update(c))], [false, "ENODEV"]);
  other.detach();
});

Deno.test("D5.16 a naive model agrees about every position, for thousands of random requests", () => {
  let state = 1;
  const random = (n: number) => (state = Math.imul(state, 1103515245) + 12345 | 0, (state >>> 8) % n);
  const pool = Array.from({ length: 8 }, fresh);
  const list = new ProgramList();
  let model: NetkitProgram[] = [];
  for (let i = 0; i < 20_000; i++) {
    const program = pool[random(8)];
    const before = list.active ?? [];
    const relative = pool[random(8)];
    const kind = random(4);
    const position: Position = kind === 0
      ? {}
      : kind === 1
      ? { before: relative }
      : kind === 2
      ? { after: relative }
      : { replace: relative };
    if (random(2) === 0) {
      const at = kind === 0 ? model.length : model.indexOf(relative);
      let expected = 0;
      if (model.includes(program)) expected = -17;
      else if (at < 0) expected = -2;
      else if (kind === 3) model = model.with(at, program);
      else model = model.toSpliced(kind === 2 ? at + 1 : at, 0, program);
      assertEquals(list.attach(program, null, position), expected);
    } else {
      const expected = model.includes(program) ? 0 : -2;
      model = model.filter((other) => other !== program);
      assertEquals(list.detach(program, null), expected);
    }
    assertEquals((list.active ?? []).map((p) => pool.indexOf(p)), model.map((p) => pool.indexOf(p)));
    assert(list.active !== before || expectedSame(before, model), "what runs is never changed in place");
  }
});

function expectedSame(before: readonly NetkitProgram[], model: NetkitProgram[]): boolean {
  return before.length === model.length && before.every((program, i) => program === model[i]);
}

Deno.test("D5.17 leases: the peer or a SINGLE device, not the primary; at most 1024", () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L2 });
  assertEquals(codeOf(() => primary.lease()), "EOPNOTSUPP");
  for (const device of [peer!, kit({ pairing: nk.NETKIT_DEVICE_SINGLE }).primary]) {
    const queues = Array.from({ length: nk.NETKIT_QUEUES_MAX }, () => device.lease());
    assertEquals([queues.length, queues[0].index, queues[1023].index], [1024, 1, 1024]);
    assertEquals(codeOf(() => device.lease()), "EINVAL");
    queues[500].close();
    assertEquals([device.lease().index, codeOf(() => device.lease())], [501, "EINVAL"]);
  }
});

Deno.test("D5.17 a program of the primary steers into a leased queue of the peer, whose owner sends up to its stack", () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L2 });
  const stack = new Reader(peer!);
  primary.setUp(true);
  const queue = peer!.lease();
  attachNetkit(primary, (frame, meta) => {
    if (frame.bytes[0] === 9) meta.queue = queue.index;
    if (frame.bytes[0] === 8) meta.queue = 77;
    return nk.NETKIT_PASS;
  });
  primary.transmit(frameOf(60, 9));
  assertEquals(primary.statistics64().txDropped, 1, "nobody owns it yet");
  const owner = new Reader(queue);
  assertEquals(codeOf(() => queue.open(() => {})), "EBUSY");
  for (const fill of [7, 8, 9]) primary.transmit(frameOf(60 + fill, fill));
  assertEquals([stack.take(), owner.take(), primary.statistics64().txDropped], [[[67, 7]], [[69, 9]], 2]);
  assertEquals([queue.transmit(frameOf(80, 3)), stack.take()], [0, [[80, 3]]]);
  queue.close();
  assertEquals([queue.transmit(frameOf(80)), peer!.queue(1)], [-19, null]);
});

Deno.test("D5.18 two single devices, each owned by a back end: the host reaches each, and they each other by redirect", () => {
  const pairing = nk.NETKIT_DEVICE_SINGLE, mode = nk.NETKIT_L2;
  const one = kit({ pairing, mode }).primary, two = kit({ pairing, mode }).primary;
  const queues = [one.lease(), two.lease()];
  const owners = queues.map((queue) => new Reader(queue));
  const host = [new Reader(one), new Reader(two)];
  // Pushed to the devices by the host, for example answers of its DHCP server.
  one.transmit(frameOf(60, 1));
  two.transmit(frameOf(61, 2));
  assertEquals([owners[0].take(), owners[1].take()], [[[60, 1]], [[61, 2]]]);
  // What back ends send comes up to the host…
  queues[0].transmit(frameOf(70, 3));
  assertEquals([host[0].take(), host[1].take(), owners[1].take()], [[[70, 3]], [], []]);
  // …unless a program at the queue knows better.
  queues[0].program = (frame, meta) => frame.bytes[0] === 5 ? meta.redirect(queues[1], true) : nk.NETKIT_PASS;
  queues[1].program = (frame, meta) => frame.bytes[0] === 6 ? meta.redirect(queues[0], true) : nk.NETKIT_DROP;
  queues[0].transmit(frameOf(80, 5));
  queues[1].transmit(frameOf(81, 6));
  queues[0].transmit(frameOf(82, 4));
  queues[1].transmit(frameOf(83, 4));
  assertEquals([owners[0].take(), owners[1].take()], [[[81, 6]], [[80, 5]]]);
  assertEquals([host[0].take(), host[1].take()], [[[82, 4]], []]);
  const { redirected, droppedByProgram } = queues[1].statistics();
  assertEquals([redirected, droppedByProgram, one.statistics64().rxPackets, two.statistics64().rxPackets], [1, 1, 2, 0]);
  // Into the other device as the host would, and out of it as if its back end had sent.
  queues[0].program = (_, meta) => meta.redirect(two);
  queues[0].transmit(frameOf(90, 8));
  queues[0].program = (_, meta) => meta.redirect(two, true);
  queues[0].transmit(frameOf(91, 8));
  assertEquals([owners[1].take(), host[1].take()], [[[90, 8]], [[91, 8]]]);
  // A circle of redirects ends.
  const { primary, peer } = kit({ mode });
  primary.setUp(true);
  peer!.setUp(true);
  let asked = 0;
  attachNetkit(primary, (_, meta) => {
    asked++;
    return meta.redirect(primary);
  });
  primary.transmit(frameOf(60));
  assertEquals(asked, 9);
});
