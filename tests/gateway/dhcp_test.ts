/** The DHCP server (RFC 2131, its part) against a client that the test plays, packet by packet, on a clock of its own. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { type DhcpLease, type DhcpOptions, DhcpServer, ManualClock, NetStack } from "../../mod.ts";
import { bytesOf, ip, ipv4, mutate, randomSource, u16, u32, udp } from "../testing/frames.ts";
import { Wire } from "./wire.ts";

const SERVER = "10.0.2.2";
const [DISCOVER, OFFER, REQUEST, DECLINE, ACK, NAK, RELEASE, INFORM] = [1, 2, 3, 4, 5, 6, 7, 8];

interface Message {
  type?: number;
  mac?: number;
  ciaddr?: string;
  requested?: string;
  server?: string;
  id?: number[];
  hostname?: string;
  options?: number[];
  /** The packet's source. */
  from?: string;
  to?: string;
}

/** A client's message, as it stands behind the UDP header. */
function message(fields: Message): Uint8Array<ArrayBuffer> {
  const { type = DISCOVER, mac = 1, ciaddr = "0.0.0.0", requested, server, id, hostname } = fields;
  const options = [53, 1, type];
  if (requested !== undefined) options.push(50, 4, ...ip(requested));
  if (server !== undefined) options.push(54, 4, ...ip(server));
  if (id !== undefined) options.push(61, id.length, ...id);
  if (hostname !== undefined) options.push(12, hostname.length, ...new TextEncoder().encode(hostname));
  options.push(...(fields.options ?? []), 255);
  const fixed = [1, 1, 6, 0, ...u32(0x12345600 + mac), ...u16(0), ...u16(0), ...ip(ciaddr), ...new Array(12).fill(0)];
  return bytesOf(fixed, [2, 0, 0, 0, mac >>> 8, mac & 255], new Uint8Array(202), u32(0x63825363), options);
}

interface Reply {
  to: string;
  type: number;
  xid: number;
  ciaddr: string;
  yiaddr: string;
  options: Map<number, Uint8Array>;
}

function parse(packet: Uint8Array): Reply {
  const dotted = (at: number) => packet.subarray(at, at + 4).join(".");
  assertEquals([packet[9], packet[20] * 256 + packet[21], packet[22] * 256 + packet[23]], [17, 67, 68]);
  assertEquals(dotted(12), SERVER);
  const options = new Map<number, Uint8Array>();
  for (let at = 28 + 240; packet[at] !== 255; at += 2 + packet[at + 1]) {
    options.set(packet[at], packet.slice(at + 2, at + 2 + packet[at + 1]));
  }
  const xid = new DataView(packet.buffer, packet.byteOffset + 32).getUint32(0);
  return { to: dotted(16), type: options.get(53)![0], xid, ciaddr: dotted(28 + 12), yiaddr: dotted(28 + 16), options };
}

interface Link {
  clock: ManualClock;
  server: DhcpServer;
  wire: Wire;
  stack: NetStack;
  given: DhcpLease[];
  /** Sends a message, and gives the one answer or null. */
  ask(fields: Message): Promise<Reply | null>;
}

async function withServer(
  options: Partial<DhcpOptions>,
  test: (link: Link) => Promise<void>,
  onLease?: () => void,
): Promise<void> {
  const clock = new ManualClock();
  const wire = new Wire();
  const stack = new NetStack(wire, { address: `${SERVER}/24`, clock });
  const given: DhcpLease[] = [];
  const server = new DhcpServer(stack, { address: `${SERVER}/24`, ...options }, (lease) => {
    given.push(lease);
    onLease?.();
  });
  const ask = async (fields: Message) => {
    const { from = "0.0.0.0", to = "255.255.255.255" } = fields;
    const payload = udp({ source: from, destination: to, sourcePort: 68, destinationPort: 67 }, message(fields));
    wire.put(ipv4({ source: from, destination: to, protocol: 17 }, payload));
    await clock.settle();
    const replies = wire.take();
    assert(replies.length <= 1);
    return replies.length === 0 ? null : parse(replies[0]);
  };
  await test({ clock, server, wire, stack, given, ask });
  server[Symbol.dispose]();
  stack.close();
}

/** The whole way to an address. */
async function lease(link: Link, mac: number, more: Message = {}): Promise<string> {
  const offer = await link.ask({ type: DISCOVER, mac, ...more });
  assertEquals(offer?.type, OFFER);
  const ack = await link.ask({ type: REQUEST, mac, requested: offer!.yiaddr, server: SERVER, ...more });
  assertEquals([ack?.type, ack?.yiaddr], [ACK, offer!.yiaddr]);
  return ack!.yiaddr;
}

Deno.test("a client gets an address, with all that belongs to it", async () => {
  await withServer({ mtu: 1400, domain: "example.test" }, async (link) => {
    const offer = await link.ask({ type: DISCOVER, mac: 7 });
    assertEquals([offer?.type, offer?.yiaddr, offer?.to, offer?.xid], [OFFER, "10.0.2.15", "255.255.255.255", 0x12345607]);
    assertEquals(link.server.leases, []);
    const ack =
      (await link.ask({ type: REQUEST, mac: 7, requested: "10.0.2.15", server: SERVER, hostname: "vm\x1b[31m\n-1.lan" }))!;
    assertEquals([ack.type, ack.yiaddr, ack.to], [ACK, "10.0.2.15", "255.255.255.255"]);
    const expected: [number, number[]][] = [
      [1, [255, 255, 255, 0]],
      [3, [10, 0, 2, 2]],
      [6, [10, 0, 2, 2]],
      [15, [...new TextEncoder().encode("example.test")]],
      [26, [5, 120]],
      [28, [10, 0, 2, 255]],
      [51, [0, 1, 0x51, 0x80]],
      [54, [10, 0, 2, 2]],
      [58, [0, 0, 0xa8, 0xc0]],
      [59, [0, 1, 0x27, 0x50]],
    ];
    for (const [option, value] of expected) assertEquals([option, ...ack.options.get(option)!], [option, ...value]);
    // A name is shown to people, and a terminal obeys more than letters.
    assertEquals(link.given.map(({ address, hostname }) => [address, hostname]), [["10.0.2.15", "vm31m-1.lan"]]);
    assertEquals(link.server.leases.map((one) => one.address), ["10.0.2.15"]);
  });
});

Deno.test("two clients get two addresses, and each its own again; the identifier counts before the hardware address", async () => {
  await withServer({}, async (link) => {
    const [first, second] = [await lease(link, 1), await lease(link, 2)];
    assertEquals([first, second], ["10.0.2.15", "10.0.2.16"]);
    assertEquals([await lease(link, 2), await lease(link, 1)], [second, first]);
    const id = [0, 1, 2, 3];
    const third = await lease(link, 3, { id });
    assertEquals([third, await lease(link, 4, { id })], ["10.0.2.17", "10.0.2.17"]);
    // RFC 6842: the identifier comes back.
    const offer = await link.ask({ type: DISCOVER, mac: 4, id });
    assertEquals([...offer!.options.get(61)!], id);
    assertEquals((await link.ask({ type: DISCOVER, mac: 1 }))!.options.has(61), false);
    // Somebody else's address isn't given, a free one that is asked for is.
    assertEquals((await link.ask({ type: DISCOVER, mac: 9, requested: first }))?.yiaddr, "10.0.2.18");
    assertEquals((await link.ask({ type: DISCOVER, mac: 10, requested: "10.0.2.99" }))?.yiaddr, "10.0.2.99");
    assertEquals((await link.ask({ type: DISCOVER, mac: 11, requested: "192.168.1.1" }))?.yiaddr, "10.0.2.19");
  });
});

Deno.test("renewal is answered to the address, rebinding too, and a lease that isn't renewed ends", async () => {
  await withServer({ leaseSeconds: 3600 }, async (link) => {
    const address = await lease(link, 1);
    const seconds = () => Math.round((link.server.leases[0].expiresAt - Date.now()) / 1000);
    await link.clock.advanceAsync(1_800_000);
    assertEquals(seconds(), 1800);
    const renewed = await link.ask({ type: REQUEST, mac: 1, ciaddr: address, from: address, to: SERVER });
    assertEquals([renewed?.type, renewed?.to, renewed?.ciaddr, renewed?.yiaddr], [ACK, address, address, address]);
    assertEquals(seconds(), 3600);
    const rebound = await link.ask({ type: REQUEST, mac: 1, ciaddr: address, from: address });
    assertEquals([rebound?.type, rebound?.to], [ACK, address]);
    await link.clock.advanceAsync(3_601_000);
    assertEquals(link.server.leases, []);
    assertEquals(await lease(link, 2, { requested: address }), address);
    // The first one comes too late.
    assertEquals((await link.ask({ type: REQUEST, mac: 1, ciaddr: address, from: address, to: SERVER }))?.type, NAK);
  });
});

Deno.test("a wrong address is refused, by broadcast; nothing is kept for who was refused", async () => {
  await withServer({ range: ["10.0.2.20", "10.0.2.21"] }, async (link) => {
    for (const requested of ["10.0.2.22", "192.168.7.7", SERVER, "10.0.2.255", "10.0.2.0"]) {
      const nak = await link.ask({ type: REQUEST, mac: 1, requested });
      assertEquals([nak?.type, nak?.to, nak?.yiaddr, nak?.ciaddr], [NAK, "255.255.255.255", "0.0.0.0", "0.0.0.0"]);
    }
    // Also to one that claims to have an address, and asked from it.
    const nak = await link.ask({ type: REQUEST, mac: 1, ciaddr: "10.0.2.77", from: "10.0.2.77", to: SERVER });
    assertEquals([nak?.type, nak?.to], [NAK, "255.255.255.255"]);
    assertEquals([await lease(link, 2), await lease(link, 3)], ["10.0.2.20", "10.0.2.21"]);
    // After a restart of the server, which remembers nothing, a client keeps a free address of the range.
  });
  await withServer({ range: ["10.0.2.20", "10.0.2.21"] }, async (link) => {
    const ack = await link.ask({ type: REQUEST, mac: 1, requested: "10.0.2.21" });
    assertEquals([ack?.type, ack?.yiaddr], [ACK, "10.0.2.21"]);
  });
});

Deno.test("who has chosen another server is left alone, and its address is free", async () => {
  await withServer({ range: ["10.0.2.20", "10.0.2.20"] }, async (link) => {
    assertEquals((await link.ask({ type: DISCOVER, mac: 1 }))?.type, OFFER);
    assertEquals(await link.ask({ type: REQUEST, mac: 1, requested: "10.0.2.20", server: "10.0.2.3" }), null);
    const address = await lease(link, 2);
    assertEquals(address, "10.0.2.20");
    for (const type of [RELEASE, DECLINE]) {
      assertEquals(await link.ask({ type, mac: 2, ciaddr: address, requested: address, server: "10.0.2.3" }), null);
    }
    assertEquals(link.server.leases.length, 1);
  });
});

Deno.test("a full range answers nobody until an address is released, declined ones rest, or an offer lapses", async () => {
  await withServer({ range: ["10.0.2.20", "10.0.2.22"] }, async (link) => {
    const all = [await lease(link, 1), await lease(link, 2), await lease(link, 3)];
    assertEquals(await link.ask({ type: DISCOVER, mac: 4 }), null);
    assertEquals(link.server.statistics.exhausted, 1);
    // Not of somebody else's.
    await link.ask({ type: RELEASE, mac: 4, ciaddr: all[1], from: all[1], to: SERVER, server: SERVER });
    assertEquals(link.server.leases.length, 3);
    await link.ask({ type: RELEASE, mac: 2, ciaddr: all[1], from: all[1], to: SERVER, server: SERVER });
    assertEquals((await link.ask({ type: DISCOVER, mac: 4 }))?.yiaddr, all[1]);
    assertEquals(await link.ask({ type: DISCOVER, mac: 5 }), null);
    await link.clock.advanceAsync(61_000);
    assertEquals(await lease(link, 5), all[1]);
    // Somebody answers for it on the link: it rests for ten minutes.
    await link.ask({ type: DECLINE, mac: 5, requested: all[1], server: SERVER });
    assertEquals([link.server.statistics.declined, link.server.leases.length], [1, 2]);
    assertEquals(await link.ask({ type: DISCOVER, mac: 5 }), null);
    assertEquals((await link.ask({ type: REQUEST, mac: 5, requested: all[1] }))?.type, NAK);
    await link.clock.advanceAsync(601_000);
    assertEquals(await lease(link, 5), all[1]);
  });
});

Deno.test("INFORM is answered with parameters only, to who asks", async () => {
  await withServer({}, async (link) => {
    for (const ciaddr of ["10.0.2.50", undefined]) {
      const ack = await link.ask({ type: INFORM, mac: 1, ciaddr, from: "10.0.2.50", to: SERVER });
      assertEquals([ack?.type, ack?.to, ack?.yiaddr, ack?.options.has(51)], [ACK, "10.0.2.50", "0.0.0.0", false]);
      assertEquals([...ack!.options.get(3)!], [10, 0, 2, 2]);
    }
    assertEquals([link.server.statistics.informed, link.server.leases.length], [2, 0]);
  });
});

Deno.test("a callback that throws costs nobody an address", async () => {
  await withServer({}, async (link) => {
    await lease(link, 1);
    await lease(link, 2);
    assertEquals([link.given.length, link.stack.statistics.stack.callbackErrors], [2, 2]);
  }, () => {
    throw new Error("the user's");
  });
});

Deno.test("random and mutated messages never throw, are counted, and leave the server at work", async () => {
  await withServer({}, async (link) => {
    const random = randomSource(5);
    const seeds = [
      message({ id: [1, 2, 3], hostname: "x".repeat(40) }),
      message({ type: REQUEST, requested: "10.0.2.15", server: SERVER }),
      message({ type: RELEASE, ciaddr: "10.0.2.15" }),
      message({ type: DECLINE, requested: "10.0.2.15" }),
      message({ type: INFORM, ciaddr: "10.0.2.50" }),
    ];
    const rounds = 5000;
    for (let round = 0; round < rounds; round++) {
      const seed = seeds[round % seeds.length];
      const bytes = round % 10 === 0 ? Uint8Array.from({ length: random() % 600 }, () => random() & 255) : mutate(seed, random);
      const payload = udp({ source: "0.0.0.0", destination: "255.255.255.255", sourcePort: 68, destinationPort: 67 }, bytes);
      link.wire.put(ipv4({ source: "0.0.0.0", destination: "255.255.255.255", protocol: 17 }, payload));
      if (round % 64 === 0) await link.clock.settle();
    }
    for (const seed of seeds) {
      for (let length = 0; length < seed.length; length++) {
        const payload = udp(
          { source: "0.0.0.0", destination: "255.255.255.255", sourcePort: 68, destinationPort: 67 },
          seed.slice(0, length),
        );
        link.wire.put(ipv4({ source: "0.0.0.0", destination: "255.255.255.255", protocol: 17 }, payload));
      }
      await link.clock.settle();
    }
    await link.clock.settle();
    const counts = link.server.statistics;
    const cut = seeds.reduce((sum, { length }) => sum + length, 0);
    assertEquals(link.stack.statistics.stack.faults, 0);
    assert(counts.received > rounds * 0.9 + cut * 0.9, `${counts.received} of ${rounds + cut}`);
    assert(counts.malformed > cut * 0.9);
    const rest = counts.offers + counts.acks + counts.naks + counts.declined + counts.released + counts.informed + counts.ignored;
    assert(counts.malformed + rest + counts.exhausted <= counts.received);
    link.wire.take();
    await link.clock.advanceAsync(86_500_000);
    assert((await lease(link, 999)).startsWith("10.0.2."));
  });
});

Deno.test("impossible options are refused; a network of four has an address for one guest", () => {
  const stack = new NetStack(new Wire(), { address: "10.0.2.2/30", clock: new ManualClock() });
  for (
    const bad of [
      { range: ["10.0.2.1", "10.0.2.3"] as const },
      { range: ["x", "y"] as const },
      { leaseSeconds: 59 },
      { leaseSeconds: 2 ** 31 },
      { router: "x" },
      { nameservers: ["x"] },
      { domain: "a b" },
      { address: "10.0.2.2/31" },
      { address: "10.0.2.2" },
    ]
  ) assertThrows(() => new DhcpServer(stack, { address: "10.0.2.2/30", ...bad }), Error, undefined, JSON.stringify(bad));
  new DhcpServer(stack, { address: "10.0.2.2/30" })[Symbol.dispose]();
  stack.close();
});
