import { assert, assertEquals } from "@std/assert";
import { describeFrame } from "../../../stack/wire/describe.ts";
import { checkFrame, corpus, ethernet, ipv4, randomFrame, randomSource, tcp } from "../../testing/frames.ts";

Deno.test("wire/describe: frames read as tcpdump shows them", () => {
  const texts = Object.fromEntries(corpus().map(({ name, frame }) => [name, describeFrame(frame)]));
  assertEquals(texts["arp request"], "ARP, Request who-has 10.0.0.2 tell 10.0.0.1, length 46");
  assertEquals(texts["arp reply"], "ARP, Reply 10.0.0.1 is-at 02:00:00:00:00:01, length 46");
  assertEquals(texts["echo"], "IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 2, length 72");
  assertEquals(texts["echo double tagged"], "vlan 5, vlan 6, IP 10.0.0.1 > 10.0.0.2: ICMP echo request, id 1, seq 4, length 72");
  assertEquals(texts["port unreachable"], "IP 10.0.0.1 > 10.0.0.2: ICMP port unreachable, length 100");
  assertEquals(texts["udp"], "IP 10.0.0.1.1000 > 10.0.0.2.7: UDP, length 64");
  const options = "[mss 1460,sackOK,TS val 1 ecr 0,nop,wscale 7]";
  assertEquals(texts["tcp syn"], `IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [S], seq 1, win 65535, options ${options}, length 0`);
  assertEquals(texts["tcp data"], "IP 10.0.0.1.1000 > 10.0.0.2.80: Flags [P.], seq 2:66, ack 2, win 65535, length 64");
  assertEquals(texts["fragment 0"], "IP 10.0.0.1.1000 > 10.0.0.2.7: UDP, length 4000 (frag 77:1480@0+)");
  assertEquals(texts["fragment 2"], "IP 10.0.0.1 > 10.0.0.2: protocol 17 (frag 77:1048@2960)");
  assertEquals(texts["igmp query"], "IP 10.0.0.1 > 224.0.0.1: igmp query 0.0.0.0");
  assertEquals(texts["ipv6"], "02:00:00:00:00:01 > 02:00:00:00:00:02, ethertype 0x86dd, length 54");
});

Deno.test("wire/describe: never throws, on every truncation of every frame and 20,000 damaged ones", () => {
  const frames = corpus();
  for (const { frame } of frames) {
    for (let length = 0; length <= frame.length; length++) {
      assert(describeFrame(frame.slice(0, length)).length > 0);
      assert(describeFrame(frame.slice(14, length), "ip").length > 0);
    }
  }
  const random = randomSource(2);
  for (let i = 0; i < 20_000; i++) {
    const frame = randomFrame(frames, random);
    assert(!describeFrame(frame).includes("\n"));
    describeFrame(frame, "ip");
  }
});

Deno.test("testing/frames: what is built is valid, and what is damaged is seen", () => {
  for (const { name, frame } of corpus()) assertEquals(checkFrame(frame).problems, [], name);
  const good = ethernet({}, ipv4({ protocol: 6 }, tcp({ flags: "SA", sequence: 0xffff_fffe }, new Uint8Array(5))));
  assertEquals(checkFrame(good).tcp?.sequence, 0xffff_fffe);
  for (let bit = 14 * 8; bit < good.length * 8; bit++) {
    const bad = good.slice();
    bad[bit >> 3] ^= 1 << (bit & 7);
    assert(checkFrame(bad).problems.length > 0, `bit ${bit}`);
  }
});
