/** ARP: answers, questions with retry, waiting frames, states, floods, and RFC 5227's conflicts. */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { EADDRINUSE, EHOSTUNREACH } from "../../../stack/codes.ts";
import { NEIGHBORS_MAX, WAITING_BYTES_TOTAL, WAITING_FRAMES } from "../../../stack/ip/limits.ts";
import { formatMac, parseAddress as key, parseMac } from "../../../stack/wire/address.ts";
import { arp, type ArpFields, ethernet, randomSource } from "../../testing/frames.ts";
import { IpHost } from "../../testing/ip_host.ts";

const BROADCAST = "ff:ff:ff:ff:ff:ff";
const ask = (fields: ArpFields = {}) => ethernet({ type: 0x806, destination: BROADCAST }, arp(fields));
const answer = (fields: ArpFields = {}) =>
  ethernet({ type: 0x806 }, arp({ operation: 2, targetMac: "02:00:00:00:00:02", ...fields }));
const ping = (host: IpHost, to = "10.0.0.1") => host.ip.sendEcho(key(to), 1, 1, Uint8Array.of(1, 2, 3, 4));
const states = (host: IpHost) => host.ip.neighbors.map((n) => n.state);

Deno.test("ARP answers for our address, and learns who asked", () => {
  const host = new IpHost();
  host.in(ask());
  const [reply] = host.out();
  //= rfc826#packet-reception type=test
  // ?Is the opcode ares_op$REQUEST? … Swap hardware and protocol fields, putting the local hardware and protocol addresses
  // in the sender fields. Set the ar$op field to ares_op$REPLY. Send the packet to the (new) target hardware address.
  assertEquals(reply.ethernet?.destination, "02:00:00:00:00:01");
  assertEquals(reply.arp, {
    operation: 2,
    senderMac: "02:00:00:00:00:02",
    senderIp: "10.0.0.2",
    targetMac: "02:00:00:00:00:01",
    targetIp: "10.0.0.1",
  });
  //= rfc826#packet-reception type=test
  // ?Am I the target protocol address? Yes: If Merge_flag is false, add the triplet <protocol type, sender protocol address,
  // sender hardware address> to the translation table.
  assertEquals(host.ip.neighbors, [{ key: key("10.0.0.1"), interfaceIndex: 1, mac: "02:00:00:00:00:01", state: "stale" }]);
});

Deno.test("ARP is silent about others' addresses and learns nothing from them; answers nobody asked for make no entry", () => {
  const host = new IpHost();
  host.in(ask({ targetIp: "10.0.0.3" }));
  host.in(answer({ senderIp: "10.0.0.7" }));
  host.in(ask({ senderIp: "10.0.0.8", targetIp: "10.0.0.8" })); // gratuitous
  host.in(ask({ senderIp: "224.0.0.1" }));
  host.in(ask({ senderMac: "03:00:00:00:00:01" }));
  host.in(ask({ senderMac: "02:00:00:00:00:02" }));
  assertEquals([host.out().length, host.ip.neighbors.length], [0, 0]);
  assertEquals([host.count("arp", "dropNotForUs"), host.count("arp", "dropBadSender")], [1, 3]);
});

Deno.test("a gratuitous packet updates a known neighbour, and not one that was set by hand", () => {
  const host = new IpHost();
  host.in(ask());
  host.ip.setNeighbor(1, key("10.0.0.9"), parseMac("02:00:00:00:00:09"));
  //= rfc826#packet-reception type=test
  // If the pair <protocol type, sender protocol address> is already in my translation table, update the sender hardware
  // address field of the entry with the new information in the packet and set Merge_flag to true.
  host.in(ask({ senderMac: "02:00:00:00:00:aa", targetIp: "10.0.0.1" }));
  host.in(ask({ senderMac: "02:00:00:00:00:aa", senderIp: "10.0.0.9", targetIp: "10.0.0.9" }));
  const macs = host.ip.neighbors.map((n) => `${n.key & 255} ${n.mac} ${n.state}`).sort();
  assertEquals(macs, ["1 02:00:00:00:00:aa stale", "9 02:00:00:00:00:09 permanent"]);
});

Deno.test("frames wait for the answer and then go, in order", () => {
  const host = new IpHost();
  for (let i = 0; i < 3; i++) assertEquals(host.ip.sendEcho(key("10.0.0.1"), 1, i, new Uint8Array(0)), 0);
  const [question, ...more] = host.out();
  assertEquals([more.length, question.arp?.operation, question.arp?.senderIp, question.arp?.targetIp], [
    0,
    1,
    "10.0.0.2",
    "10.0.0.1",
  ]);
  assertEquals(states(host), ["incomplete"]);
  host.in(answer());
  assertEquals(states(host), ["reachable"]);
  const sent = host.out();
  assertEquals(sent.map((f) => [f.icmp?.type, f.icmp?.rest[3], f.ethernet?.destination, f.problems.length]), [
    [8, 0, "02:00:00:00:00:01", 0],
    [8, 1, "02:00:00:00:00:01", 0],
    [8, 2, "02:00:00:00:00:01", 0],
  ]);
});

Deno.test("the waiting queue keeps the latest frames within its bound", () => {
  const host = new IpHost();
  //= rfc1122#2.3.2.2 type=test
  // The link layer SHOULD save (rather than discard) at least one (the latest) packet of each set of packets destined to
  // the same unresolved IP address, and transmit the saved packet when the address has been resolved.
  for (let i = 0; i < WAITING_FRAMES + 5; i++) host.ip.sendEcho(key("10.0.0.1"), 1, i, new Uint8Array(0));
  host.out();
  host.in(answer());
  const sent = host.out();
  assertEquals([sent.length, sent[0].icmp?.rest[3], host.count("arp", "queueDropped")], [WAITING_FRAMES, 5, 5]);
});

Deno.test("nobody answers: three questions a second apart, then the error; the next packet asks again", () => {
  const host = new IpHost();
  ping(host);
  host.to(12_500);
  assertEquals(host.out().length, 3);
  assertEquals(host.echoes.length, 0);
  host.to(13_000);
  assertEquals(host.echoes.map((e) => e.code), [EHOSTUNREACH]);
  assertEquals([states(host), host.out().length], [["failed"], 0], "nobody asks for its own sake");
  host.to(13_500);
  assertEquals([ping(host), states(host)[0], host.out().length], [0, "incomplete", 1]);
  host.to(16_500);
  assertEquals([host.echoes.length, states(host)[0], host.out().length], [2, "failed", 2]);
  host.in(ask());
  host.out();
  assertEquals([ping(host), states(host)[0], host.out().length], [0, "delay", 1]);
});

Deno.test("a flood of packets to a neighbour that never answers: one question a second, for as long as it lasts", () => {
  const host = new IpHost();
  const asked: number[] = [];
  for (let ms = 10_000; ms < 40_000; ms += 10) {
    host.to(ms);
    for (const { arp } of host.out()) if (arp?.targetIp === "10.0.0.1") asked.push(ms);
    assertEquals(ping(host), 0);
    for (const { arp } of host.out()) if (arp?.targetIp === "10.0.0.1") asked.push(ms);
  }
  //= rfc1122#2.3.2.1 type=test
  // A mechanism to prevent ARP flooding (repeatedly sending an ARP Request for the same IP address, at a high rate) MUST be
  // included. The recommended maximum rate is 1 per second per destination.
  assertEquals(asked.length, 30);
  for (let i = 1; i < asked.length; i++) assert(asked[i] - asked[i - 1] >= 1000, `${asked[i - 1]} ${asked[i]}`);
});

Deno.test("an entry fades, is used once more, is asked by unicast, and fails; or is confirmed by a transport", () => {
  const host = new IpHost();
  ping(host);
  host.in(answer());
  host.out();
  host.to(60_000);
  assertEquals(states(host), ["stale"]);
  ping(host);
  assertEquals(states(host), ["delay"]);
  const path = host.ip.path(0, key("10.0.0.1"));
  assert(typeof path !== "number");
  host.ip.confirm(path);
  assertEquals(states(host), ["reachable"]);
  host.to(120_000);
  ping(host);
  host.out();
  host.to(125_000);
  const [probe] = host.out();
  assertEquals([probe.arp?.operation, probe.ethernet?.destination, states(host)[0]], [1, "02:00:00:00:00:01", "probe"]);
  host.to(128_000);
  assertEquals([host.out().length, states(host)[0]], [2, "failed"]);
});

Deno.test("a flood of strangers keeps the table bounded and spares who is in use", () => {
  const host = new IpHost({ address: "10.0.0.2/8" });
  ping(host);
  host.in(answer());
  host.out();
  for (let i = 0; i < 5 * NEIGHBORS_MAX; i++) {
    host.in(ask({ senderIp: `10.${1 + (i >>> 16)}.${(i >>> 8) & 255}.${i & 255}` }));
    host.device.sent.length = 0;
  }
  assertEquals([host.count("arp", "entries"), host.count("arp", "evicted")], [NEIGHBORS_MAX, 4 * NEIGHBORS_MAX + 1]);
  assertEquals(host.ip.neighbors.filter((n) => n.state === "reachable").length, 1);
  // Questions of our own are bounded in the same way.
  for (let i = 0; i < 2 * NEIGHBORS_MAX; i++) ping(host, `10.200.${i >>> 8}.${i & 255}`);
  assertLessOrEqual(host.count("arp", "entries"), NEIGHBORS_MAX);
  host.to(20_000);
  assertEquals(host.ip.neighbors.filter((n) => n.state === "incomplete").length, 0);
});

Deno.test("the table finds what it holds, whatever was evicted in between", () => {
  const host = new IpHost({ address: "10.0.0.2/8" });
  const random = randomSource(5);
  for (let i = 0; i < 20_000; i++) {
    host.in(ask({ senderIp: `10.1.${random() % 16}.${random() % 256}` }));
    if (i % 500 === 0) {
      const all = host.ip.neighbors.map((n) => n.key);
      assertEquals(new Set(all).size, all.length);
      for (const known of all) assertEquals(host.ip.interfaces[0].neighbors.get(known)?.key, known);
      host.device.sent.length = 0;
    }
  }
});

Deno.test("the bytes that wait are bounded in all, and given back", () => {
  const host = new IpHost({ address: "10.0.0.2/8" });
  // 64 frames of 1500 bytes for each of 60 neighbours are more than 4 MiB together.
  for (let round = 0; round < 3; round++) {
    const before = host.ip.statistics.arp;
    for (let i = 0; i < 60; i++) host.ip.sendEcho(key(`10.2.${round}.${i}`), 1, 1, new Uint8Array(65_000));
    // What finds no room is lost: "try again" would stop all others who send by the interface.
    for (let i = 0; i < 60; i++) assertEquals(host.ip.sendEcho(key(`10.2.${round}.${i}`), 1, 2, new Uint8Array(25_000)), 0);
    const { queued, queueDropped } = host.ip.statistics.arp;
    const bytes = (queued - before.queued) * 1500;
    assert(bytes > 4_000_000 && bytes < WAITING_BYTES_TOTAL * 1.02, `${bytes}`);
    assert(queueDropped > before.queueDropped);
    host.to(host.ip.now + 10_000);
    host.device.sent.length = 0;
  }
});

Deno.test("an address is probed three times, then announced twice, and only then ours", () => {
  const host = new IpHost();
  const settled: number[] = [];
  const times: number[] = [];
  assertEquals(host.ip.addAddress(1, key("10.0.0.5"), 24, true, (code) => settled.push(code)), 0);
  assertEquals(host.ip.addAddress(1, key("10.0.0.5"), 24), EADDRINUSE);
  while (settled.length === 0) {
    host.to(host.ip.nextDeadline());
    for (const { arp } of host.out()) {
      //= rfc5227#2.1.1 type=test
      // The 'sender IP address' field MUST be set to all zeroes; this is to avoid polluting ARP caches in other hosts on the
      // same link in the case where the address turns out to be already in use by another host.
      if (arp?.senderIp === "0.0.0.0") times.push(host.ip.now);
      //= rfc5227#2.3 type=test
      // An ARP Announcement is identical to the ARP Probe described above, except that now the sender and target IP addresses
      // are both set to the host's newly selected IPv4 address.
      else assertEquals([arp?.senderIp, arp?.targetIp], ["10.0.0.5", "10.0.0.5"]);
    }
  }
  //= rfc5227#2.1.1 type=test
  // …the host should then wait for a random time interval selected uniformly in the range zero to PROBE_WAIT seconds,
  // and should then send PROBE_NUM probe packets, each of these probe packets spaced randomly and uniformly, PROBE_MIN to
  // PROBE_MAX seconds apart.
  assertEquals([times.length, settled[0]], [3, 0]);
  assertLessOrEqual(times[0], 11_000);
  for (const gap of [times[1] - times[0], times[2] - times[1]]) assert(gap >= 1000 && gap <= 2000);
  assertEquals(host.ip.now - times[2], 2000);
  assert(host.ip.isLocal(key("10.0.0.5")));
  host.to(host.ip.now + 5000);
  assertEquals(host.out().length, 1, "the second announcement");
});

Deno.test("probing ends at once when somebody has the address, or probes for it too", () => {
  for (
    const frame of [
      //= rfc5227#2.1.1 type=test
      // If during this period … the host receives any ARP packet (Request *or* Reply) on the interface where the probe is
      // being performed, where the packet's 'sender IP address' is the address being probed for, then the host MUST treat
      // this address as being in use by some other host
      answer({ senderIp: "10.0.0.5" }),
      ask({ senderIp: "10.0.0.5", targetIp: "10.0.0.77" }),
      //= rfc5227#2.1.1 type=test
      // …if during this period the host receives any ARP Probe where the packet's 'target IP address' is the address being
      // probed for, and the packet's 'sender hardware address' is not the hardware address of any of the host's interfaces,
      // then the host SHOULD similarly treat this as an address conflict
      ask({ senderIp: "0.0.0.0", targetIp: "10.0.0.5" }),
    ]
  ) {
    const host = new IpHost();
    const settled: number[] = [];
    const conflicts: string[] = [];
    host.ip.onConflict = (_key, _index, mac) => conflicts.push(formatMac(mac));
    host.ip.addAddress(1, key("10.0.0.5"), 24, true, (code) => settled.push(code));
    host.in(frame);
    assertEquals([settled, conflicts], [[EADDRINUSE], ["02:00:00:00:00:01"]]);
    assert(!host.ip.isLocal(key("10.0.0.5")));
  }
});

Deno.test("an address in use is defended, once in ten seconds, and nothing is learned from the rival", () => {
  const host = new IpHost();
  let conflicts = 0;
  host.ip.onConflict = () => conflicts++;
  //= rfc5227#2.4 type=test
  // (c) If a host has been configured such that it should not give up its address under any circumstances … the host
  // … MAY elect to defend its address indefinitely … if it has not seen any other conflicting ARP packets recently,
  // within the last DEFEND_INTERVAL seconds, … broadcasting one single ARP Announcement
  for (let i = 0; i < 100; i++) host.in(ask({ senderIp: "10.0.0.2", targetIp: "10.0.0.2" }));
  assertEquals(host.out().map((f) => f.arp?.senderIp), ["10.0.0.2"]);
  host.to(20_000);
  host.out();
  host.in(ask({ senderIp: "10.0.0.2", targetIp: "10.0.0.2" }));
  assertEquals([host.out().length, conflicts, host.ip.neighbors.length], [1, 101, 0]);
});

Deno.test("after ten conflicts the next probe waits a minute", () => {
  const host = new IpHost();
  for (let i = 0; i < 10; i++) host.in(ask({ senderIp: "10.0.0.2", targetIp: "10.0.0.2" }));
  host.to(15_000);
  host.out();
  //= rfc5227#2.1.1 type=test
  // if the host experiences MAX_CONFLICTS or more address conflicts on a given interface, then the host MUST limit the rate at
  // which it probes for new addresses on this interface to no more than one attempted new address per RATE_LIMIT_INTERVAL.
  host.ip.addAddress(1, key("10.0.0.5"), 24, true);
  host.to(74_999);
  assertEquals(host.out().length, 0);
  host.to(75_000);
  assertEquals(host.out().length, 1);
});

Deno.test("VLANs: priority tags are taken, other VLANs are not; an interface can live in one", () => {
  const untagged = new IpHost();
  const frame = (vlans: number[]) => ethernet({ type: 0x806, destination: BROADCAST, vlans }, arp({}));
  for (const vlans of [[], [0], [0xe000], [5], [5, 6], [1, 2, 3]]) untagged.in(frame(vlans));
  assertEquals(untagged.out().map((f) => f.ethernet?.vlans), [[], [], []]);
  const counts = untagged.ip.statistics["interface 1"];
  assertEquals([counts.dropVlan, counts.dropTags, counts.arp], [2, 1, 3]);
  const tagged = new IpHost({ vlan: 5 });
  for (const vlans of [[], [0], [5], [6]]) tagged.in(frame(vlans));
  assertEquals(tagged.out().map((f) => f.ethernet?.vlans), [[5]]);
});
