// D5.1-D5.8, D5.10-D5.15: creation, carrier, transmission, scrubbing, what can be changed.
import { assert, assertEquals, assertNotEquals, assertStringIncludes } from "@std/assert";
import { NetkitDevice } from "../../../drivers/netkit/device.ts";
import { attachNetkit, createNetkit } from "../../../drivers/netkit/netkit.ts";
import * as nk from "../../../drivers/netkit/options.ts";
import { DeviceTable } from "../../../drivers/netdev/table.ts";
import * as ifr from "../../../ffi/ifreq.ts";
import { request } from "../netdev/classes.ts";
import { codeOf, frameOf, kit, messageOf, Reader } from "./rig.ts";

const MAC = new Uint8Array([2, 0, 0, 0, 0, 1]);

Deno.test("D5.1 constants", () => {
  assertEquals([nk.NETKIT_NEXT, nk.NETKIT_PASS, nk.NETKIT_DROP, nk.NETKIT_REDIRECT], [-1, 0, 2, 7]);
  assertEquals([nk.NETKIT_L2, nk.NETKIT_L3, nk.NETKIT_DEVICE_PAIR, nk.NETKIT_DEVICE_SINGLE], [0, 1, 0, 1]);
  assertEquals([nk.NETKIT_SCRUB_NONE, nk.NETKIT_SCRUB_DEFAULT], [0, 1]);
});

Deno.test("D5.2 defaults: L3, PAIR, policies PASS, scrubs DEFAULT, names nk%d", () => {
  const table = new DeviceTable();
  const first = createNetkit({}, table);
  const { primary, peer } = first;
  assertEquals([primary.mode, primary.pairing, primary.policy, primary.scrub], [1, 0, 0, 1]);
  assertEquals([peer!.mode, peer!.pairing, peer!.policy, peer!.scrub, peer!.primary], [1, 0, 0, 1, false]);
  assertEquals([peer!.name, primary.name].sort(), ["nk0", "nk1"]);
  const second = createNetkit({ name: "here", peer: { name: "there" } }, table);
  const third = createNetkit({ pairing: nk.NETKIT_DEVICE_SINGLE }, table);
  assertEquals([second.primary.name, second.peer!.name, third.primary.name, third.peer], ["here", "there", "nk2", null]);
  assertEquals(codeOf(() => createNetkit({ name: "here" }, table)), "EEXIST");
  assertEquals(codeOf(() => createNetkit({ name: "same", peer: { name: "same" } }, table)), "EEXIST");
  assertEquals(codeOf(() => createNetkit({ name: "a b" }, table)), "EINVAL");
  assertEquals([...table].length, 5);
});

Deno.test("D5.3 a policy other than PASS or DROP is EINVAL with the kernel's words", () => {
  for (const policy of [-1, 1, 3, 7, 10, NaN]) {
    for (const options of [{ policy }, { peerPolicy: policy }]) {
      assertEquals(codeOf(() => kit(options)), "EINVAL");
      assertStringIncludes(messageOf(() => kit(options)), "Provided default xmit policy not supported");
    }
  }
  assertEquals([kit({ policy: 2 }).primary.policy, kit({ peerPolicy: 2 }).peer!.policy], [2, 2]);
  assertStringIncludes(messageOf(() => kit({ mode: 2 })), "Provided device mode can only be L2 or L3");
  assertEquals([codeOf(() => kit({ scrub: 2 })), codeOf(() => kit({ pairing: 2 })), codeOf(() => kit({ headroom: -1 }))], [
    "ERANGE",
    "ERANGE",
    "ERANGE",
  ]);
});

Deno.test("D5.4 MAC: L3 EOPNOTSUPP, L2 random or given, wrong length EINVAL, multicast or zero EADDRNOTAVAIL", () => {
  assertEquals([codeOf(() => kit({ mac: MAC })), codeOf(() => kit({ peer: { mac: MAC } }))], ["EOPNOTSUPP", "EOPNOTSUPP"]);
  const random = kit({ mode: nk.NETKIT_L2 });
  assertNotEquals([...random.primary.mac!], [...random.peer!.mac!]);
  assertEquals([random.primary.mac![0] & 3, random.peer!.mac![0] & 3], [2, 2]);
  const given = kit({ mode: nk.NETKIT_L2, mac: MAC, peer: { mac: "02:00:00:00:00:02" } });
  assertEquals([given.primary.mac![5], given.peer!.mac![5]], [1, 2]);
  for (const mode of [nk.NETKIT_L2, nk.NETKIT_L3]) {
    assertEquals(codeOf(() => kit({ mode, mac: new Uint8Array(5) })), "EINVAL");
    assertEquals(codeOf(() => kit({ mode, mac: "02:00" })), "EINVAL");
    assertEquals(codeOf(() => kit({ mode, mac: new Uint8Array(6) })), "EADDRNOTAVAIL");
    assertEquals(codeOf(() => kit({ mode, peer: { mac: "01:00:5e:00:00:01" } })), "EADDRNOTAVAIL");
  }
});

Deno.test("D5.5 SINGLE with a peer attribute, a scrub attribute or a policy other than PASS is EOPNOTSUPP", () => {
  const pairing = nk.NETKIT_DEVICE_SINGLE;
  const bad: nk.NetkitOptions[] = [{ peer: {} }, { peerPolicy: 0 }, { peerScrub: 1 }, { scrub: 1 }, { scrub: 0 }, { policy: 2 }];
  for (const options of bad) assertEquals(codeOf(() => kit({ pairing, ...options })), "EOPNOTSUPP", JSON.stringify(options));
  const { primary, peer } = kit({ pairing, policy: nk.NETKIT_PASS, mode: nk.NETKIT_L2 });
  assertEquals([primary.pairing, peer], [1, null]);
});

Deno.test("D5.6 L3 is NOARP, carrier is off at creation", async () => {
  const l3 = kit(), l2 = kit({ mode: nk.NETKIT_L2 });
  assertEquals([l3.primary.flags & ifr.IFF_NOARP, l3.peer!.flags & ifr.IFF_NOARP], [ifr.IFF_NOARP, ifr.IFF_NOARP]);
  assertEquals([l2.primary.flags & ifr.IFF_NOARP, l3.primary.carrier, l2.peer!.carrier], [0, false, false]);
  const flags = (await request(l3.table, l3.primary.name, ifr.SIOCGIFFLAGS)).ifreq.flags;
  assertEquals([flags & ifr.IFF_NOARP, flags & (ifr.IFF_UP | ifr.IFF_RUNNING)], [ifr.IFF_NOARP, 0]);
});

Deno.test("D5.7 carrier: SINGLE by itself; PAIR when both are up, ENOTCONN without peer; closing either drops both", async () => {
  const { primary, peer, table } = kit();
  const carriers = () => [primary.carrier, peer!.carrier];
  assertEquals([primary.setUp(true), ...carriers()], [0, false, false]);
  assertEquals([peer!.setUp(true), ...carriers()], [0, true, true]);
  assertEquals([peer!.setUp(false), ...carriers(), primary.up], [0, false, false, true]);
  const up = await request(table, peer!.name, ifr.SIOCSIFFLAGS, (ifreq) => ifreq.flags = ifr.IFF_UP);
  assertEquals([up.code, ...carriers()], [0, true, true]);
  assertEquals([primary.setUp(false), ...carriers(), peer!.up], [0, false, false, true]);
  const single = kit({ pairing: nk.NETKIT_DEVICE_SINGLE }).primary;
  assertEquals([single.carrier, single.setUp(true), single.carrier, single.setUp(false), single.carrier], [
    false,
    0,
    true,
    0,
    false,
  ]);
  const alone = new NetkitDevice(
    { name: "alone", mac: null, namespace: "", primary: true, policy: 0, scrub: 1 },
    nk.checkNetkitOptions({}),
    table,
  );
  assertEquals([alone.setUp(true), codeOf(() => alone.open(() => {})), alone.up], [-107, "ENOTCONN", false]);
});

Deno.test("D5.8 transmit drops with no peer, peer down, or under 14 bytes", () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L2 });
  assertEquals(primary.transmit(frameOf(60)), -100, "down itself: nothing is sent");
  primary.setUp(true);
  assertEquals([primary.transmit(frameOf(60)), primary.statistics64().txDropped], [0, 1]);
  const reader = new Reader(peer!);
  primary.transmit(frameOf(13));
  primary.transmit(frameOf(14));
  assertEquals([reader.take(), primary.statistics64().txDropped, primary.statistics64().txPackets], [[[14, 7]], 2, 1]);
  const single = kit({ mode: nk.NETKIT_L2, pairing: nk.NETKIT_DEVICE_SINGLE }).primary;
  single.setUp(true);
  assertEquals([single.transmit(frameOf(60)), single.statistics64().txDropped], [0, 1]);
});

Deno.test("D5.10 PASS counts tx at the sender and rx at the peer, REDIRECT counts tx only", () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L2 });
  const other = kit({ mode: nk.NETKIT_L2 });
  const reader = new Reader(peer!);
  primary.setUp(true);
  primary.transmit(frameOf(60));
  attachNetkit(primary, (frame, meta) => frame.length > 100 ? meta.redirect(other.primary) : nk.NETKIT_PASS);
  const away = new Reader(other.peer!);
  other.primary.setUp(true);
  primary.transmit(frameOf(70));
  primary.transmit(frameOf(200, 9));
  assertEquals([reader.take(), away.take()], [[[60, 7], [70, 7]], [[200, 9]]]);
  const sent = primary.statistics64(), got = peer!.statistics64();
  assertEquals([sent.txPackets, sent.txBytes, sent.txDropped, got.rxPackets, got.rxBytes], [3, 330, 0, 2, 130]);
  assertEquals([other.primary.statistics64().txPackets, other.peer!.statistics64().rxBytes], [1, 200]);
  // A verdict REDIRECT without a target: it was sent, and came nowhere.
  attachNetkit(primary, () => nk.NETKIT_REDIRECT, { before: true });
  primary.transmit(frameOf(60));
  assertEquals([primary.statistics64().txPackets, reader.take()], [4, []]);
});

Deno.test("D5.11 across namespaces the timestamp is cleared; scrub DEFAULT zeroes mark and priority, NONE keeps them", () => {
  const cases: [nk.NetkitOptions, number[]][] = [
    [{}, [5, 6, 7]],
    [{ namespace: "a" }, [5, 6, 7]],
    [{ peer: { namespace: "b" } }, [0, 0, 0]],
    [{ peer: { namespace: "b" }, scrub: nk.NETKIT_SCRUB_NONE }, [5, 6, 0]],
    [{ peer: { namespace: "b" }, peerScrub: nk.NETKIT_SCRUB_NONE }, [0, 0, 0]],
  ];
  for (const [options, expected] of cases) {
    for (const program of [false, true]) {
      const { primary, peer } = kit(options);
      const seen: number[][] = [];
      if (program) {
        attachNetkit(primary, (_, { mark, priority, timestamp }) => {
          seen.push([mark, priority, timestamp]);
          return nk.NETKIT_NEXT;
        });
      }
      peer!.open(() => {});
      primary.setUp(true);
      primary.transmitMarked(frameOf(60, 0x45), 5, 6, 7);
      let received: number[] = [];
      peer!.receive({
        frame: () => {
          const { mark, priority, timestamp } = peer!.received;
          received = [mark, priority, timestamp];
        },
      }, 1);
      assertEquals(received, expected, JSON.stringify(options));
      if (program) assertEquals(seen, [expected]);
    }
  }
});

Deno.test("D5.12 headroom and tailroom are the larger of both ends, and programs can grow frames into them", () => {
  const { primary, peer } = kit({ mode: nk.NETKIT_L2, headroom: 100, tailroom: 20 });
  assertEquals([primary.headroom, peer!.headroom, primary.tailroom, peer!.tailroom], [100, 100, 20, 20]);
  peer!.setHeadroom(200);
  assertEquals([primary.headroom, peer!.headroom], [200, 200]);
  peer!.setHeadroom(50);
  assertEquals([primary.headroom, peer!.headroom], [100, 100]);
  primary.setHeadroom(-1);
  assertEquals([primary.headroom, peer!.headroom], [64, 64]);
  const reader = new Reader(peer!);
  primary.setUp(true);
  const grown: boolean[] = [];
  attachNetkit(primary, (frame) => {
    grown.push(frame.adjustHead(-65), frame.adjustHead(-64), frame.adjustTail(21), frame.adjustTail(20), frame.adjustTail(1));
    frame.bytes[0] = 0xee;
    return nk.NETKIT_PASS;
  });
  primary.transmit(frameOf(60));
  assertEquals(grown, [false, true, false, true, false]);
  assertEquals(reader.take(), [[144, 0xee]]);
  peer!.setHeadroom(500);
  grown.length = 0;
  primary.transmit(frameOf(60));
  assertEquals(grown.slice(0, 2), [true, true]);
});

Deno.test("D5.13 what can't be changed says so, by name; nothing is changed by half", () => {
  const { primary, peer } = kit();
  assertEquals(codeOf(() => primary.setMac(MAC)), "EOPNOTSUPP");
  const l2 = kit({ mode: nk.NETKIT_L2 });
  l2.peer!.setMac(MAC);
  assertEquals([l2.peer!.mac![5], codeOf(() => l2.primary.setMac(new Uint8Array(6)))], [1, "EADDRNOTAVAIL"]);
  assertEquals(codeOf(() => peer!.change({ policy: 0 })), "EACCES");
  assertStringIncludes(messageOf(() => peer!.change({ policy: 0 })), "only through the primary device");
  const fixed: [nk.NetkitChange, string][] = [
    [{ mode: 0 }, "operating mode"],
    [{ scrub: 0 }, "scrubbing"],
    [{ peerScrub: 0 }, "peer scrubbing"],
    [{ headroom: 1 }, "headroom"],
    [{ tailroom: 1 }, "tailroom"],
    [{ pairing: 0 }, "pairing"],
    [{ peer: {} }, "peer info"],
  ];
  for (const [change, words] of fixed) {
    assertEquals(codeOf(() => primary.change({ policy: 2, ...change })), "EACCES", words);
    assertStringIncludes(messageOf(() => primary.change(change)), `netkit link ${words} cannot be changed after device creation`);
  }
  assertEquals(codeOf(() => primary.change({ policy: 2, peerPolicy: 1 })), "EINVAL");
  assertEquals([primary.policy, peer!.policy], [0, 0]);
  primary.change({ policy: 2, peerPolicy: 2 });
  assertEquals([primary.policy, peer!.policy], [2, 2]);
  const single = kit({ pairing: nk.NETKIT_DEVICE_SINGLE }).primary;
  assertEquals([codeOf(() => single.change({ policy: 0 })), codeOf(() => single.change({ peerPolicy: 0 }))], [
    "EOPNOTSUPP",
    "EOPNOTSUPP",
  ]);
});

Deno.test("D5.14 PRIMARY is read-only", () => {
  const primaryGiven = { primary: 1 } as unknown as nk.NetkitOptions;
  for (const run of [() => kit(primaryGiven), () => kit().primary.change(primaryGiven), () => kit().peer!.change(primaryGiven)]) {
    assertEquals(codeOf(run), "EINVAL");
    assertStringIncludes(messageOf(run), "Primary attribute is read-only");
  }
});

Deno.test("D5.15 deleting one end deletes both, from either; users, programs and leases learn of it", async () => {
  for (const which of ["primary", "peer"] as const) {
    const { primary, peer, table } = kit({ mode: nk.NETKIT_L2 });
    let wakes = 0;
    primary.open(() => wakes++);
    peer!.open(() => wakes++);
    const queue = peer!.lease();
    queue.open(() => wakes++);
    attachNetkit(primary, () => nk.NETKIT_PASS);
    wakes = 0;
    (which === "primary" ? primary : peer!).delete();
    assert(wakes >= 3);
    const sink = { frame: () => {} };
    assertEquals([primary, peer!, queue].map((device) => [device.receive(sink, 1), device.transmit(frameOf(60))]), [
      [-19, -19],
      [-19, -19],
      [-19, -19],
    ]);
    assertEquals([primary.exists, peer!.exists, [...table].length, codeOf(() => attachNetkit(primary, () => 0))], [
      false,
      false,
      0,
      "ENODEV",
    ]);
    assertEquals([(await request(table, "nk0", ifr.SIOCGIFMTU)).code, codeOf(() => primary.open(() => {}))], [-19, "EBADF"]);
    primary.delete();
  }
});
