import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { EADDRNOTAVAIL, EINVAL, ENOBUFS } from "../../../stack/codes.ts";
import { ALL_ROUTERS, ALL_SYSTEMS, GROUPS_PER_INTERFACE, Igmp, IGMP_ROUTERS } from "../../../stack/ip/igmp.ts";
import { checksumOf, igmp, ip, ipv4, keyOf, mutate, randomSource } from "../../testing/frames.ts";
import { packetOf } from "../../testing/packets.ts";

const GROUP = "239.1.2.3";
const KEY = keyOf(GROUP);

interface Message {
  at: number;
  interfaceIndex: number;
  to: number;
  bytes: number[];
}

class Host {
  now = 0;
  readonly sent: Message[] = [];
  readonly random32 = randomSource(1);
  readonly igmp = new Igmp(this);

  sendIgmp(interfaceIndex: number, to: number, bytes: Uint8Array): void {
    assertEquals(checksumOf(bytes), 0);
    this.sent.push({ at: this.now, interfaceIndex, to, bytes: [...bytes] });
  }

  /** Lets time pass, timer by timer. */
  run(until: number): void {
    for (let turns = 0; this.igmp.nextDeadline() <= until; turns++) {
      assert(turns < 10_000, "timers never rest");
      this.now = Math.max(this.now, this.igmp.nextDeadline());
      this.igmp.advance(this.now);
    }
    this.now = until;
  }

  hear(type: number, code: number, group: string, more: number[] = [], to = group === "0.0.0.0" ? "224.0.0.1" : group): void {
    this.igmp.input(packetOf(ipv4({ protocol: 2, ttl: 1, destination: to }, igmp(type, code, group, more))), this.now);
  }

  take(): Message[] {
    return this.sent.splice(0);
  }
}

/** A version 3 report's records: type and group. */
function records(message: Message): [type: number, group: number][] {
  assertEquals([message.bytes[0], message.to], [0x22, IGMP_ROUTERS]);
  const count = message.bytes[6] * 256 + message.bytes[7];
  assertEquals(message.bytes.length, 8 + 8 * count);
  return Array.from({ length: count }, (_, i) => {
    const at = 8 + 8 * i;
    return [message.bytes[at], keyOf(message.bytes.slice(at + 4, at + 8).join("."))];
  });
}

const V3_QUERY = [2, 125, 0, 0];

Deno.test("ip/igmp: joining and leaving are reported twice, the second time within a second", () => {
  //= rfc3376#5.1 type=test
  //# To cover the possibility of the State-Change Report being missed by one or more multicast routers, it is retransmitted
  //# [Robustness Variable] - 1 more times, at intervals chosen at random from the range (0, [Unsolicited Report Interval]).
  const host = new Host();
  assertEquals(host.igmp.isMember(1, KEY), false);
  assertEquals(host.igmp.join(1, KEY), 0);
  assert(host.igmp.isMember(1, KEY) && !host.igmp.isMember(2, KEY));
  host.run(5000);
  let sent = host.take();
  assertEquals(sent.map(records), [[[4, KEY]], [[4, KEY]]]);
  assertEquals(sent[0].at, 0);
  assert(sent[1].at > 0 && sent[1].at <= 1000);
  assertEquals(host.igmp.leave(1, KEY), 0);
  assert(!host.igmp.isMember(1, KEY));
  host.run(10_000);
  sent = host.take();
  assertEquals(sent.map(records), [[[3, KEY]], [[3, KEY]]]);
  assert(sent[1].at > 5000 && sent[1].at <= 6000);
  assertEquals([host.igmp.nextDeadline(), host.igmp.statistics.groups], [Infinity, 0]);
});

Deno.test("ip/igmp: joins are counted, wrong ones refused", () => {
  const host = new Host();
  assertEquals([host.igmp.join(1, KEY), host.igmp.join(1, KEY)], [0, 0]);
  assertEquals([host.igmp.leave(1, KEY), host.igmp.isMember(1, KEY)], [0, true]);
  assertEquals([host.igmp.leave(1, KEY), host.igmp.isMember(1, KEY)], [0, false]);
  assertEquals([host.igmp.leave(1, KEY), host.igmp.leave(7, KEY)], [EADDRNOTAVAIL, EADDRNOTAVAIL]);
  assertEquals([host.igmp.join(1, keyOf("10.0.0.1")), host.igmp.join(1, keyOf("240.0.0.1"))], [EINVAL, EINVAL]);
});

Deno.test("ip/igmp: left and joined again before the leave was repeated, only the join is", () => {
  const host = new Host();
  host.igmp.join(1, KEY);
  host.igmp.leave(1, KEY);
  host.igmp.join(1, KEY);
  host.run(10_000);
  assertEquals(host.take().map((message) => records(message)[0][0]), [4, 3, 4, 4]);
  assert(host.igmp.isMember(1, KEY));
});

Deno.test("ip/igmp: the group of all systems is always joined and never reported", () => {
  //= rfc3376#5 type=test
  //# The all-systems multicast address, 224.0.0.1, is handled as a special case. On all systems -- that is all hosts and
  //# routers, including multicast routers -- reception of packets destined to the all-systems multicast address, from all
  //# sources, is permanently enabled on all interfaces on which multicast reception is supported. No IGMP messages are
  //# ever sent regarding the all-systems multicast address.
  const host = new Host();
  assert(host.igmp.isMember(3, ALL_SYSTEMS));
  assertEquals([host.igmp.join(1, ALL_SYSTEMS), host.igmp.leave(1, ALL_SYSTEMS)], [0, 0]);
  host.hear(0x11, 100, "0.0.0.0", V3_QUERY);
  host.hear(0x11, 100, "224.0.0.1", V3_QUERY);
  host.run(100_000);
  assertEquals(host.sent, []);
  assert(host.igmp.isMember(1, ALL_SYSTEMS));
});

Deno.test("ip/igmp: a general query is answered once, for all groups, within its time", () => {
  //= rfc3376#5.2 type=test
  //# When a system receives a Query, it does not respond immediately. Instead, it delays its response by a random amount of
  //# time, bounded by the Max Resp Time value derived from the Max Resp Code in the received Query message.
  const host = new Host();
  for (let i = 1; i <= 3; i++) host.igmp.join(1, keyOf(`239.0.0.${i}`));
  host.igmp.join(2, keyOf("239.0.0.9"));
  host.run(10_000);
  host.take();
  //= rfc3376#5.2 type=test
  //# If there is a pending response to a previous General Query scheduled sooner than the selected delay, no additional
  //# response needs to be scheduled.
  for (let i = 0; i < 5; i++) host.hear(0x11, 100, "0.0.0.0", V3_QUERY);
  host.run(60_000);
  const sent = host.take();
  assertEquals(sent.length, 1);
  assertEquals(records(sent[0]), [1, 2, 3].map((i) => [2, keyOf(`239.0.0.${i}`)]));
  assert(sent[0].at > 10_000 && sent[0].at <= 20_000);
});

Deno.test("ip/igmp: a query for a group is answered by its members only", () => {
  const host = new Host();
  host.igmp.join(1, KEY);
  host.igmp.join(1, keyOf("239.9.9.9"));
  host.run(10_000);
  host.take();
  host.hear(0x11, 10, GROUP, V3_QUERY);
  host.hear(0x11, 10, "239.8.8.8", V3_QUERY);
  host.hear(0x11, 10, GROUP, [2, 125, 0, 1, ...ip("10.0.0.7")]);
  host.hear(0x11, 10, "10.0.0.1", V3_QUERY);
  host.hear(0x11, 10, "0.0.0.0", V3_QUERY, "239.1.2.3"); // general, but not to all systems
  host.run(60_000);
  const sent = host.take();
  assertEquals(sent.map(records), [[[2, KEY]]]);
  assert(sent[0].at <= 11_000);
  assertEquals(host.igmp.statistics.ignored, 2);
});

Deno.test("ip/igmp: many groups go in several reports", () => {
  const host = new Host();
  for (let i = 0; i < GROUPS_PER_INTERFACE; i++) assertEquals(host.igmp.join(1, keyOf(`239.0.1.${i}`)), 0);
  assertEquals(host.igmp.join(1, KEY), ENOBUFS);
  assertEquals([host.igmp.statistics.limited, host.igmp.statistics.groups], [1, GROUPS_PER_INTERFACE]);
  host.run(10_000);
  host.take();
  host.hear(0x11, 1, "0.0.0.0", V3_QUERY);
  host.run(20_000);
  const sent = host.take();
  assertEquals(sent.map((message) => records(message).length), [64, 64, 64, 64]);
  for (const { bytes } of sent) assertLessOrEqual(bytes.length, 552);
});

Deno.test("ip/igmp: an older querier is spoken to in its version, until it is silent", () => {
  //= rfc3376#8.12 type=test
  //# This value MUST be ((the Robustness Variable) times (the Query Interval in the last Query received)) plus (one Query
  //# Response Interval).
  const host = new Host();
  host.hear(0x11, 100, "0.0.0.0"); // version 2, until 2 * 125 + 10 seconds
  host.igmp.join(1, KEY);
  host.run(30_000);
  let sent = host.take();
  assertEquals(sent.map(({ bytes, to }) => [bytes[0], to]), [[0x16, KEY], [0x16, KEY]]);
  host.hear(0x11, 100, GROUP);
  host.run(45_000);
  assertEquals(host.take().length, 1);
  //= rfc2236#3 type=test
  //# If it was the last host to reply to a Query with a Membership Report for that group, it SHOULD send a Leave Group
  //# message to the all-routers multicast group (224.0.0.2).
  host.igmp.leave(1, KEY);
  assertEquals(host.take().map(({ bytes, to }) => [bytes[0], to]), [[0x17, ALL_ROUTERS]]);
  host.igmp.join(1, KEY);
  host.run(259_999);
  host.take();
  host.igmp.join(1, keyOf("239.0.0.1"));
  assertEquals(host.take()[0].bytes[0], 0x16);
  host.igmp.leave(1, keyOf("239.0.0.1"));
  host.run(260_001);
  host.take();
  host.hear(0x11, 100, "0.0.0.0", V3_QUERY);
  host.run(280_000);
  sent = host.take();
  assertEquals(sent.map(records), [[[2, KEY]]]);
});

Deno.test("ip/igmp: version 1 has reports and no leave", () => {
  //= rfc3376#7.2.1 type=test
  //# IGMPv1 Querier Present is set to Older Version Querier Present Timeout seconds whenever an IGMPv1 Membership Query is
  //# received.
  const host = new Host();
  host.hear(0x11, 0, "0.0.0.0");
  host.hear(0x11, 100, "0.0.0.0");
  host.igmp.join(1, KEY);
  host.run(30_000);
  host.igmp.leave(1, KEY);
  assertEquals(host.take().map(({ bytes, to }) => [bytes[0], to]), [[0x12, KEY], [0x12, KEY]]);
});

Deno.test("ip/igmp: another host's report is enough, and then the leave is its business", () => {
  //= rfc2236#3 type=test
  //# If the host receives another host's Report (version 1 or 2) while it has a timer running, it stops its timer for the
  //# specified group and does not send a Report, in order to suppress duplicate Reports.
  const host = new Host();
  host.hear(0x11, 100, "0.0.0.0");
  host.igmp.join(1, KEY);
  host.run(20_000);
  host.take();
  host.hear(0x11, 100, "0.0.0.0");
  host.hear(0x16, 0, GROUP);
  host.run(40_000);
  host.igmp.leave(1, KEY);
  assertEquals(host.take(), []);
  assertEquals(host.igmp.statistics.suppressed, 1);
});

Deno.test("ip/igmp: a change of version cancels what was pending", () => {
  //= rfc3376#7.2.1 type=test
  //# Whenever a host changes its compatibility mode, it cancels all its pending response and retransmission timers.
  const host = new Host();
  host.igmp.join(1, KEY);
  host.igmp.join(1, keyOf("239.0.0.1"));
  host.igmp.leave(1, keyOf("239.0.0.1"));
  host.take();
  host.hear(0x11, 100, "239.7.7.7"); // version 2 for a group: no change
  host.hear(0x11, 100, "0.0.0.0");
  host.run(20_000);
  assertEquals(host.take().map(({ bytes, to }) => [bytes[0], to]), [[0x16, KEY]]);
});

Deno.test("ip/igmp: an interface that goes takes its groups along", () => {
  const host = new Host();
  host.igmp.join(1, KEY);
  host.igmp.removeInterface(1);
  host.igmp.removeInterface(1);
  assertEquals([host.igmp.isMember(1, KEY), host.igmp.nextDeadline(), host.igmp.statistics.groups], [false, Infinity, 0]);
});

Deno.test("ip/igmp: what has crossed a router is ignored", () => {
  //= rfc3376#4 type=test
  //# Every IGMP message described in this document is sent with an IP Time-to-Live of 1
  const host = new Host();
  host.igmp.input(packetOf(ipv4({ protocol: 2, ttl: 2, destination: "224.0.0.1" }, igmp(0x11, 0, "0.0.0.0"))), 0);
  host.igmp.join(1, KEY);
  assertEquals([host.take()[0].bytes[0], host.igmp.statistics.ignored], [0x22, 1]);
});

Deno.test("ip/igmp: 20,000 damaged messages never throw, and every one is counted", () => {
  const host = new Host();
  host.igmp.join(1, KEY);
  const random = randomSource(4);
  const valid = [
    igmp(0x11, 1, "0.0.0.0"),
    igmp(0x11, 1, GROUP, [9, 255, 0, 1, 1, 2, 3, 4]),
    igmp(0x16, 0, GROUP),
    igmp(0x22, 0, GROUP),
  ];
  for (let i = 0; i < 20_000; i++) {
    const bytes = mutate(valid[random() % valid.length], random);
    if (bytes.length >= 4 && random() % 2 === 0) {
      bytes[2] = bytes[3] = 0;
      const checksum = checksumOf(bytes);
      [bytes[2], bytes[3]] = [checksum >> 8, checksum & 255];
    }
    host.igmp.input(
      packetOf(ipv4({ protocol: 2, ttl: 1, destination: "224.0.0.1" }, bytes), { interfaceIndex: random() % 400 }),
      i * 10,
    );
    if (i % 16 === 0) host.run(i * 10);
  }
  const { queriesReceived, reportsReceived, badChecksum, badLength } = host.igmp.statistics;
  assert(queriesReceived > 1000 && reportsReceived > 500 && badChecksum > 1000 && badLength > 100);
  assert(host.igmp.isMember(1, KEY));
});
