import { assert, assertEquals } from "@std/assert";
import {
  answers,
  answersFor,
  decodeMessage,
  DNS_TYPES,
  type DnsType,
  encodeQuery,
  reverseName,
  sameName,
} from "../../../stack/wire/dns.ts";
import { bytesOf, mutate, randomSource, u16, u32 } from "../../testing/frames.ts";

function nameBytes(text: string): number[] {
  const labels = text === "" ? [] : text.split(".");
  return [...labels.flatMap((label) => [label.length, ...new TextEncoder().encode(label)]), 0];
}

function record(name: number[], type: number, ttl: number, data: number[], dnsClass = 1): number[] {
  return [...name, ...u16(type), ...u16(dnsClass), ...u32(ttl), ...u16(data.length), ...data];
}

function response(question: string, type: number, records: number[][], flags = 0x8180, id = 7) {
  const head = [...u16(id), ...u16(flags), 0, 1, ...u16(records.length), 0, 0, 0, 0];
  return bytesOf(head, nameBytes(question), u16(type), u16(1), records.flat());
}

const POINTER = [0xc0, 12];

Deno.test("wire/dns: a query is golden", () => {
  const expected = [0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 119, 119, 119, 1, 97, 0, 0, 28, 0, 1];
  assertEquals([...encodeQuery(0xabcd, "www.a", "AAAA", 0)!], expected);
  assertEquals([...encodeQuery(0xabcd, "www.a.", "AAAA", 0)!], expected);
  const withOpt = [...encodeQuery(0xabcd, "www.a", "AAAA")!];
  assertEquals(withOpt.slice(23), [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
  assertEquals(withOpt[11], 1);
});

Deno.test("wire/dns: names that can't be are refused, the longest that can is not", () => {
  //= rfc1035#2.3.4 type=test
  //# labels          63 octets or less
  assertEquals(encodeQuery(1, "x".repeat(64), "A"), null);
  assert(encodeQuery(1, "x".repeat(63), "A") !== null);
  //= rfc1035#2.3.4 type=test
  //# names           255 octets or less
  const label = "x".repeat(63);
  assert(encodeQuery(1, `${label}.${label}.${label}.${"x".repeat(61)}`, "A") !== null);
  assertEquals(encodeQuery(1, `${label}.${label}.${label}.${"x".repeat(62)}`, "A"), null);
  for (const name of ["a..b", ".a", "..", "a b", "ä.de", "a\\999", "a\\"]) assertEquals(encodeQuery(1, name, "A"), null, name);
});

Deno.test("wire/dns: every type, with compression", () => {
  const cases: [DnsType, number[], unknown][] = [
    ["A", [10, 0, 0, 1], { text: "10.0.0.1" }],
    ["AAAA", [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], { text: "2001:db8::1" }],
    ["CNAME", [1, 98, 0xc0, 14], { text: "b.c" }],
    ["NS", nameBytes("ns.x"), { text: "ns.x" }],
    ["PTR", nameBytes("p.x"), { text: "p.x" }],
    ["MX", [0, 10, 4, 109, 97, 105, 108, 0xc0, 12], { mx: { preference: 10, exchange: "mail.a.c" } }],
    ["SRV", [0, 1, 0, 2, 0x1f, 0x90, ...nameBytes("s.x")], { srv: { priority: 1, weight: 2, port: 8080, target: "s.x" } }],
    ["TXT", [2, 104, 105, 0, 1, 33], { txt: ["hi", "", "!"] }],
  ];
  for (const [type, data, expected] of cases) {
    const message = decodeMessage(response("a.c", DNS_TYPES[type], [record(POINTER, DNS_TYPES[type], 60, data)]));
    assert(message !== null, type);
    assert(answers(message, 7, "A.C.", type));
    assert(!answers(message, 8, "a.c", type) && !answers(message, 7, "b.c", type));
    assertEquals(message.answers as unknown[], [{ name: "a.c", type: DNS_TYPES[type], ttl: 60, ...(expected as object) }]);
  }
});

Deno.test("wire/dns: IPv6 addresses as RFC 5952 writes them", () => {
  const text = (...groups: number[]) =>
    decodeMessage(response("a", 28, [record(POINTER, 28, 0, groups.flatMap(u16))]))?.answers[0].text;
  assertEquals(text(0, 0, 0, 0, 0, 0, 0, 0), "::");
  assertEquals(text(0, 0, 0, 0, 0, 0, 0, 1), "::1");
  assertEquals(text(1, 0, 0, 2, 0, 0, 0, 3), "1:0:0:2::3");
  assertEquals(text(1, 0, 2, 3, 4, 5, 6, 7), "1:0:2:3:4:5:6:7");
  assertEquals(text(0xfe80, 0, 0, 0, 0, 0, 0, 0), "fe80::");
});

Deno.test("wire/dns: pointers that loop, lead forward or outside end the reading", () => {
  //= rfc1035#4.1.4 type=test
  //# an entire domain name or a list of labels at the end of a domain name is replaced with a pointer to a prior occurance
  //# of the same name.
  const at = 12 + 3 + 4;
  for (const target of [at, at + 1, at + 2, 0x3fff]) {
    assertEquals(decodeMessage(response("a", 1, [record([0xc0 | (target >> 8), target & 255], 1, 0, [1, 2, 3, 4])])), null);
  }
  // Two pointers to each other.
  assertEquals(decodeMessage(response("a", 5, [record(POINTER, 5, 0, [0xc0, at + 14, 0xc0, at + 12])])), null);
  // A label that grows through itself: "x" + pointer to the label.
  assertEquals(decodeMessage(response("a", 5, [record(POINTER, 5, 0, [1, 120, 0xc0, at + 12])])), null);
});

Deno.test("wire/dns: names over 255 bytes by compression, reserved label types, wrong lengths", () => {
  const bytes: number[] = [];
  for (let i = 0; i < 5; i++) bytes.push(63, ...new Array(63).fill(97));
  assertEquals(decodeMessage(response("a", 5, [record(POINTER, 5, 0, [...bytes, 0])])), null);
  assertEquals(decodeMessage(response("a", 5, [record(POINTER, 5, 0, [0x41, 97, 0])])), null);
  assertEquals(decodeMessage(response("a", 1, [record(POINTER, 1, 0, [1, 2, 3])])), null);
  assertEquals(decodeMessage(response("a", 16, [record(POINTER, 16, 0, [5, 97])])), null);
  assertEquals(decodeMessage(response("a", 5, [record(POINTER, 5, 0, [1, 97, 0, 0])])), null);
  const head = bytesOf([0, 7, 0x81, 0x80, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], new Uint8Array(600));
  assertEquals(decodeMessage(head), null);
});

Deno.test("wire/dns: every truncation is refused, or given as far as it goes when it says so", () => {
  const records = [record(POINTER, 5, 1, nameBytes("b.d")), record(nameBytes("b.d"), 1, 2, [10, 0, 0, 9])];
  const whole = response("a.c", 1, records);
  for (let length = 0; length < whole.length; length++) assertEquals(decodeMessage(whole.slice(0, length)), null);
  const message = decodeMessage(response("a.c", 1, records, 0x8380).slice(0, whole.length - 1));
  assert(message !== null && message.truncated);
  assertEquals(message.answers.length, 1);
});

Deno.test("wire/dns: chains of CNAMEs are followed, circles end", () => {
  const chain = [record(POINTER, 5, 1, nameBytes("b.d")), record(nameBytes("B.D"), 1, 2, [10, 0, 0, 9])];
  assertEquals(answersFor(decodeMessage(response("a.c", 1, chain))!, "a.c", "A").map((r) => r.text), ["10.0.0.9"]);
  const circle = [record(POINTER, 5, 1, nameBytes("b.d")), record(nameBytes("b.d"), 5, 2, nameBytes("a.c"))];
  assertEquals(answersFor(decodeMessage(response("a.c", 1, circle))!, "a.c", "A"), []);
});

Deno.test("wire/dns: odd TTLs, classes and EDNS codes", () => {
  //= rfc2181#8 type=test
  //# Implementations should treat TTL values received with the most significant bit set as if the entire value received was zero.
  const records = [
    record(POINTER, 1, 0x8000_0001, [1, 2, 3, 4]),
    record(POINTER, 1, 1, [1, 2, 3, 4], 3),
    record([0], 41, 0x0100_0000, [], 1232),
  ];
  const message = decodeMessage(response("a", 1, records))!;
  assertEquals(message.answers.length, 1);
  assertEquals(message.answers[0].ttl, 0);
  assertEquals(message.rcode, 16);
});

Deno.test("wire/dns: text and bytes of a name, there and back", () => {
  for (const name of ["a.b", "x\\.y.z", "a\\\\b", "a\\000\\255.b", ""]) {
    assertEquals(decodeMessage(encodeQuery(1, name, "A")!)!.questions[0].name, name);
  }
  assertEquals(reverseName(0x0a010203), "3.2.1.10.in-addr.arpa");
  assertEquals(reverseName(0xc0a80001 | 0), "1.0.168.192.in-addr.arpa");
  assert(sameName("WWW.example.", "www.EXAMPLE") && !sameName("a.b", "a\\.b"));
});

Deno.test("wire/dns: 20,000 damaged answers never throw", () => {
  const random = randomSource(1);
  const whole = response("a.c", 1, [
    record(POINTER, 5, 1, nameBytes("b.d")),
    record(POINTER, 15, 1, [0, 1, 0xc0, 12]),
    record(POINTER, 33, 1, [0, 1, 0, 1, 0, 1, 0xc0, 14]),
    record(POINTER, 16, 1, [2, 104, 105]),
  ]);
  let read = 0;
  for (let i = 0; i < 20_000; i++) if (decodeMessage(mutate(whole, random)) !== null) read++;
  assert(read > 100);
});
