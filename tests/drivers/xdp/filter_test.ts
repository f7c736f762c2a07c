/** What the filter decides, row by row, in TypeScript; and in the kernel, where there is one for it. */
import { assert, assertEquals } from "@std/assert";
import type { MapSpec } from "../../../drivers/xdp/map_kinds.ts";
import { XDP_DROP, XDP_PASS } from "../../../drivers/xdp/program.ts";
import {
  DESTINATIONS_4,
  DESTINATIONS_6,
  FILTER_COUNT,
  FILTER_COUNTERS,
  type FilterCounter,
  filterProgram,
  PORT_RULES,
  RULE_BYTES,
  RULE_FRAMES,
  RULE_SIZE,
  SOURCES_4,
  SOURCES_6,
} from "../../../drivers/xdp/programs/filter.ts";
import { lacksBpf } from "../../testing/bpf.ts";
import { arp, type Bytes, bytesOf, ethernet, ip, ipv4, tcp, u16, udp } from "../../testing/frames.ts";
import { BothRun, le32, UserRun } from "./both.ts";

type Rule = [MapSpec, Bytes];
interface Row {
  name: string;
  rules: { rule: Rule; verdict: number }[];
  frame: Bytes;
  counter: FilterCounter;
  /** Which of the rules decides; none if absent. */
  by?: number;
}

const drop = (rule: Rule) => ({ rule, verdict: XDP_DROP });
const pass = (rule: Rule) => ({ rule, verdict: XDP_PASS });
const source = (text: string, bits: number): Rule => [SOURCES_4, bytesOf(le32(bits), ip(text))];
const destination = (text: string, bits: number): Rule => [DESTINATIONS_4, bytesOf(le32(bits), ip(text))];
const port = (protocol: number, port: number): Rule => [PORT_RULES, bytesOf(protocol, 0, u16(port))];
const address = (last: number) => bytesOf(0xfd, new Uint8Array(14), last);
const source6 = (last: number, bits: number): Rule => [SOURCES_6, bytesOf(le32(bits), address(last))];
const destination6 = (last: number, bits: number): Rule => [DESTINATIONS_6, bytesOf(le32(bits), address(last))];

const DATA = new Uint8Array(20);
const TCP80 = tcp({ destinationPort: 80 }, DATA);
const UDP53 = udp({ destinationPort: 53 }, DATA);

/** From fd::1 to fd::2. */
function ipv6(protocol: number, payload: Uint8Array, length = payload.length): Bytes {
  return ethernet({ type: 0x86dd }, bytesOf(0x60, 0, 0, 0, u16(length), protocol, 64, address(1), address(2), payload));
}

const V4 = ethernet({}, ipv4({ protocol: 6 }, TCP80));
const V4_UDP = ethernet({}, ipv4({}, UDP53));

/** A copy with other bytes at `at`. */
function changed(frame: Bytes, at: number, ...bytes: number[]): Bytes {
  const copy = frame.slice();
  copy.set(bytes, at);
  return copy;
}

const ROWS: Row[] = [
  { name: "no rule", rules: [], frame: V4, counter: "passed" },
  {
    name: "ARP is let through whatever the rules",
    rules: [drop(source("0.0.0.0", 0))],
    frame: ethernet({ type: 0x806 }, arp({})),
    counter: "notIp",
  },
  { name: "a port", rules: [drop(port(6, 80))], frame: V4, counter: "dropped", by: 0 },
  { name: "the port of another protocol", rules: [drop(port(17, 80))], frame: V4, counter: "passed" },
  { name: "any port of a protocol", rules: [drop(port(6, 0))], frame: V4, counter: "dropped", by: 0 },
  { name: "a port before any port", rules: [drop(port(6, 0)), pass(port(6, 80))], frame: V4, counter: "passed", by: 1 },
  {
    name: "a port before a source",
    rules: [drop(source("10.0.0.1", 32)), pass(port(17, 53))],
    frame: V4_UDP,
    counter: "passed",
    by: 1,
  },
  {
    name: "a source before a destination",
    rules: [drop(destination("10.0.0.2", 32)), pass(source("10.0.0.0", 8))],
    frame: V4,
    counter: "passed",
    by: 1,
  },
  { name: "a destination", rules: [drop(destination("10.0.0.0", 30))], frame: V4, counter: "dropped", by: 0 },
  {
    name: "the longest prefix",
    rules: [
      drop(source("10.0.0.0", 8)),
      drop(source("10.0.0.0", 24)),
      pass(source("10.0.0.0", 31)),
      drop(source("10.0.0.2", 31)),
    ],
    frame: V4,
    counter: "passed",
    by: 2,
  },
  { name: "everything", rules: [drop(source("0.0.0.0", 0))], frame: V4, counter: "dropped", by: 0 },
  {
    name: "behind two tags",
    rules: [drop(port(6, 80))],
    frame: ethernet({ vlans: [5, 6] }, ipv4({ protocol: 6 }, TCP80)),
    counter: "dropped",
    by: 0,
  },
  {
    name: "behind three tags",
    rules: [],
    frame: ethernet({ vlans: [5, 6, 7] }, ipv4({ protocol: 6 }, TCP80)),
    counter: "tooDeep",
  },
  {
    name: "behind options",
    rules: [drop(port(17, 53))],
    frame: ethernet({}, ipv4({ options: [7, 7, 4, 0, 0, 0, 0, 0] }, UDP53)),
    counter: "dropped",
    by: 0,
  },
  { name: "a header cut short", rules: [], frame: V4.slice(0, 33), counter: "malformed" },
  { name: "a tag cut short", rules: [], frame: ethernet({ vlans: [5] }, DATA).slice(0, 17), counter: "malformed" },
  { name: "another version", rules: [], frame: changed(V4, 14, 0x55), counter: "malformed" },
  { name: "a header length below 20", rules: [], frame: changed(V4, 14, 0x44), counter: "malformed" },
  { name: "a total length beyond the frame", rules: [], frame: changed(V4, 16, 0, 200), counter: "malformed" },
  { name: "a total length below the header", rules: [], frame: changed(V4, 16, 0, 19), counter: "malformed" },
  { name: "a TCP header length below 20", rules: [], frame: changed(V4, 46, 0x40), counter: "malformed" },
  { name: "a TCP header length beyond the datagram", rules: [], frame: changed(V4, 46, 0xf0), counter: "malformed" },
  { name: "a UDP length beyond the datagram", rules: [], frame: changed(V4_UDP, 38, 0, 99), counter: "malformed" },
  { name: "a UDP length below 8", rules: [], frame: changed(V4_UDP, 38, 0, 7), counter: "malformed" },
  {
    name: "a first fragment has the whole datagram's length",
    rules: [drop(port(17, 53))],
    frame: changed(changed(V4_UDP, 38, 9, 9), 20, 0x20, 0),
    counter: "dropped",
    by: 0,
  },
  {
    name: "a later fragment has no port",
    rules: [drop(port(17, 53)), pass(port(17, 0))],
    frame: changed(V4_UDP, 20, 0, 9),
    counter: "passed",
    by: 1,
  },
  { name: "IPv6: a port", rules: [drop(port(17, 53))], frame: ipv6(17, UDP53), counter: "dropped", by: 0 },
  {
    name: "IPv6: the longest prefix",
    rules: [drop(source6(0, 64)), pass(source6(0, 127))],
    frame: ipv6(6, TCP80),
    counter: "passed",
    by: 1,
  },
  { name: "IPv6: a destination", rules: [drop(destination6(2, 128))], frame: ipv6(59, DATA), counter: "dropped", by: 0 },
  { name: "IPv6: rules of IPv4 are of no matter", rules: [drop(source("0.0.0.0", 0))], frame: ipv6(6, TCP80), counter: "passed" },
  {
    name: "IPv6: behind options, a route and a first fragment",
    rules: [drop(port(6, 80))],
    frame: ipv6(0, bytesOf(43, 0, new Uint8Array(6), 44, 1, new Uint8Array(14), 6, 0, 0, 1, 0, 0, 0, 9, TCP80)),
    counter: "dropped",
    by: 0,
  },
  {
    name: "IPv6: a later fragment",
    rules: [drop(port(6, 80))],
    frame: ipv6(44, bytesOf(6, 0, 0, 8, 0, 0, 0, 9, TCP80)),
    counter: "passed",
  },
  {
    name: "IPv6: five extension headers",
    rules: [],
    frame: ipv6(60, bytesOf(...Array.from({ length: 5 }, (_, i) => bytesOf(i < 4 ? 60 : 6, 0, new Uint8Array(6))), TCP80)),
    counter: "tooDeep",
  },
  {
    name: "IPv6: an extension header beyond the packet",
    rules: [],
    frame: ipv6(60, bytesOf(6, 9, new Uint8Array(6), TCP80)),
    counter: "malformed",
  },
  { name: "IPv6: a payload beyond the frame", rules: [], frame: ipv6(17, UDP53, 99), counter: "malformed" },
  { name: "IPv6: cut short", rules: [], frame: ipv6(17, UDP53).slice(0, 53), counter: "malformed" },
];

function rule(verdict: number): Bytes {
  return bytesOf(le32(verdict), new Uint8Array(RULE_SIZE - 4));
}

function action(row: Row): number {
  return row.counter === "passed" || row.counter === "notIp" ? XDP_PASS : XDP_DROP;
}

for (const row of ROWS) {
  Deno.test(`filter, in TypeScript: ${row.name}`, () => {
    const user = new UserRun(filterProgram());
    for (const { rule: [map, key], verdict } of row.rules) assertEquals(user.maps.get(map.name)!.put(key, rule(verdict)), 0);
    const { action: done, frame } = user.frame(row.frame, 1);
    const counts = FILTER_COUNTERS.filter((_, i) => user.maps.get(FILTER_COUNT.name)!.values.getUint32(i * 8, true) === 1);
    assertEquals([counts, done], [[row.counter], action(row)]);
    assertEquals(frame, row.frame);
    for (const [i, { rule: [map, key] }] of row.rules.entries()) {
      const value = new DataView(user.maps.get(map.name)!.get(key)!.slice().buffer);
      const counted = [value.getUint32(RULE_FRAMES, true), value.getUint32(RULE_BYTES, true)];
      assertEquals(counted, i === row.by ? [1, row.frame.length] : [0, 0], `rule ${i}`);
    }
  });
}

Deno.test("filter, otherwise drop: what no rule speaks of, but not what isn't IP", () => {
  const user = new UserRun(filterProgram({ otherwise: "drop" }));
  assertEquals(user.frame(V4, 1).action, XDP_DROP);
  assertEquals(user.frame(ethernet({ type: 0x806 }, arp({})), 1).action, XDP_PASS);
});

Deno.test({
  name: "filter, in the kernel: every row",
  ignore: lacksBpf(),
  fn() {
    for (const row of ROWS) {
      using both = new BothRun(filterProgram());
      for (const { rule: [map, key], verdict } of row.rules) both.put(map, key, rule(verdict));
      const kernel = both.test.run(row.frame);
      assert(typeof kernel !== "number");
      assertEquals(kernel.result, action(row), row.name);
      const counts = FILTER_COUNTERS.filter((_, i) => both.loaded.map(FILTER_COUNT.name).counter(le32(i)) === 1n);
      assertEquals(counts, [row.counter], row.name);
      for (const [i, { rule: [map, key] }] of row.rules.entries()) {
        const value = new DataView(both.loaded.map(map.name).lookup(key)!.buffer);
        assertEquals(Number(value.getBigUint64(RULE_BYTES, true)), i === row.by ? row.frame.length : 0, `${row.name}, rule ${i}`);
      }
    }
  },
});
