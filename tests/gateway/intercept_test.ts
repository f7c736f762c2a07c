/** Interception, and the gateway on it, packet by packet: handshakes that wait, end early, come twice, or never end. */
import { assert, assertEquals, assertRejects } from "@std/assert";
import { ManualClock, NetStack } from "../../mod.ts";
import { intercept, type InterceptedConnection, type InterceptedDatagrams } from "../../stack/host/intercept.ts";
import type { TcpConn } from "../../stack/host/tcp_conn.ts";
import { ipv4, tcp, udp } from "../testing/frames.ts";
import { Wire } from "./wire.ts";

const GUEST = "10.0.2.15";
const FAR = "198.51.100.7";

interface Segment {
  source: string;
  flags: number;
  sequence: number;
  acknowledgment: number;
  payload: string;
  protocol: number;
  icmp: number[];
}

function parse(packet: Uint8Array): Segment {
  const view = new DataView(packet.buffer, packet.byteOffset, packet.length);
  const source = packet.subarray(12, 16).join(".");
  if (packet[9] !== 6) {
    return { source, flags: 0, sequence: 0, acknowledgment: 0, payload: "", protocol: packet[9], icmp: [packet[20], packet[21]] };
  }
  return {
    source,
    flags: packet[33],
    sequence: view.getUint32(24),
    acknowledgment: view.getUint32(28),
    payload: new TextDecoder().decode(packet.subarray(20 + (packet[32] >>> 4) * 4)),
    protocol: 6,
    icmp: [],
  };
}

const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];

class Link {
  readonly clock = new ManualClock();
  readonly wire = new Wire();
  readonly stack = new NetStack(this.wire, { address: "10.0.2.2/24", clock: this.clock });
  readonly flows: InterceptedConnection[] = [];
  readonly datagrams: InterceptedDatagrams[] = [];
  readonly interception = intercept(this.stack, {
    connection: (flow) => this.flows.push(flow),
    datagrams: (flow) => this.datagrams.push(flow),
  });

  async send(flags: string, more: Parameters<typeof tcp>[0] & { payload?: Uint8Array } = {}): Promise<Segment[]> {
    const addresses = { source: more.source ?? GUEST, destination: more.destination ?? FAR };
    const segment = tcp({ sourcePort: 5000, destinationPort: 80, sequence: 1000, ...more, ...addresses, flags }, more.payload);
    this.wire.put(ipv4({ ...addresses, protocol: 6 }, segment));
    return await this.answers();
  }

  async answers(): Promise<Segment[]> {
    await this.clock.settle();
    return this.wire.take().map(parse);
  }

  [Symbol.dispose](): void {
    this.interception[Symbol.dispose]();
    this.stack.close();
    assertEquals(this.stack.statistics.stack.faults, 0);
    assertEquals(this.clock.pending, 0);
  }
}

/** SYN, and the SYN-ACK to it. */
async function halfOpen(
  link: Link,
  more: Parameters<typeof tcp>[0] = {},
): Promise<{ done: Promise<TcpConn>; acknowledgment: number }> {
  assertEquals(await link.send("S", more), []);
  const done = link.flows.at(-1)!.accept();
  done.catch(() => {});
  const [answer] = await link.answers();
  assertEquals([answer.flags, answer.source, answer.acknowledgment], [SYN | ACK, more.destination ?? FAR, 1001]);
  return { done, acknowledgment: answer.sequence + 1 };
}

Deno.test("a SYN that comes again while it waits is the same wish; one answer, then data", async () => {
  using link = new Link();
  for (let i = 0; i < 5; i++) assertEquals(await link.send("S"), []);
  assertEquals([link.flows.length, link.interception.statistics.connections], [1, 1]);
  assertEquals([link.flows[0].source, link.flows[0].destination], [
    { transport: "tcp", hostname: GUEST, port: 5000 },
    { transport: "tcp", hostname: FAR, port: 80 },
  ]);
  const accepted = link.flows[0].accept();
  const [answer] = await link.answers();
  assertEquals([answer.flags, answer.acknowledgment], [SYN | ACK, 1001]);
  const payload = new TextEncoder().encode("hello");
  await link.send("AP", { sequence: 1001, acknowledgment: answer.sequence + 1, payload });
  const conn = await accepted;
  const buffer = new Uint8Array(100);
  assertEquals(await conn.read(buffer), 5);
  assertEquals([conn.localAddr.hostname, conn.remoteAddr.port], [FAR, 5000]);
  assertEquals(link.interception.statistics.waiting, 0);
  conn.abort();
  assertEquals((await link.answers()).map(({ flags }) => flags & RST), [RST]);
});

Deno.test("refused, unreachable, ignored: the answer is a reset, an ICMP error, and none; then the same may ask again", async () => {
  using link = new Link();
  await link.send("S");
  link.flows[0].refuse();
  const [reset] = await link.answers();
  assertEquals([reset.flags, reset.acknowledgment, reset.source], [RST | ACK, 1001, FAR]);
  await link.send("S");
  link.flows[1].unreachable("prohibited");
  const [error] = await link.answers();
  assertEquals([error.protocol, error.icmp, error.source], [1, [3, 13], "10.0.2.2"]);
  await link.send("S");
  link.flows[2].ignore();
  assertEquals(await link.answers(), []);
  await link.send("S");
  assertEquals(link.flows.length, 4);
  // One answer counts.
  link.flows[3].refuse();
  link.flows[3].unreachable("host");
  await assertRejects(() => link.flows[3].accept(), Deno.errors.ConnectionAborted);
  assertEquals((await link.answers()).length, 1);
  assertEquals(link.interception.statistics.waiting, 0);
});

Deno.test("a SYN's data isn't kept while it waits, and a SYN in fragments is one", async () => {
  using link = new Link();
  const payload = new TextEncoder().encode("x".repeat(1000));
  await link.send("S", { payload });
  const accepted = link.flows[0].accept();
  const [answer] = await link.answers();
  assertEquals([answer.flags, answer.acknowledgment], [SYN | ACK, 1001]);
  await link.send("AP", { sequence: 1001, acknowledgment: answer.sequence + 1, payload });
  assertEquals(await (await accepted).read(new Uint8Array(2000)), 1000);
  const whole = tcp(
    { source: GUEST, destination: FAR, sourcePort: 5001, destinationPort: 80, sequence: 1000, flags: "S" },
    payload,
  );
  link.wire.put(ipv4({ source: GUEST, destination: FAR, protocol: 6, more: true }, whole.slice(0, 512)));
  link.wire.put(ipv4({ source: GUEST, destination: FAR, protocol: 6, fragmentOffset: 512 }, whole.slice(512)));
  await link.answers();
  link.flows[1].accept().catch(() => {});
  const [second] = await link.answers();
  assertEquals([second?.flags, second?.acknowledgment], [SYN | ACK, 1001]);
});

Deno.test("a handshake that the guest breaks off is over at once, and its four-tuple free", async () => {
  using link = new Link();
  const { done } = await halfOpen(link);
  await link.send("R", { sequence: 1001 });
  await assertRejects(() => done, Deno.errors.ConnectionAborted);
  assertEquals(link.interception.statistics.waiting, 0);
  await link.send("S", { sequence: 5_000_000 });
  assertEquals(link.flows.length, 2);
});

Deno.test("a handshake that the guest never finishes ends, and no timer is left", async () => {
  using link = new Link();
  const { done } = await halfOpen(link);
  await link.clock.advanceAsync(300_000);
  await assertRejects(() => done, Deno.errors.ConnectionAborted);
  assertEquals([link.interception.statistics.waiting, link.clock.pending], [0, 0]);
});

Deno.test("a flood of SYNs from one place to everywhere costs a bounded number of flows; then there is room again", async () => {
  using link = new Link();
  for (let i = 0; i < 6000; i++) {
    const destination = `198.${18 + (i >>> 16)}.${(i >>> 8) & 255}.${i & 255}`;
    const addresses = { source: GUEST, destination };
    link.wire.put(ipv4({ ...addresses, protocol: 6 }, tcp({ ...addresses, sourcePort: 1 + (i & 0x7fff), flags: "S" })));
  }
  await link.clock.advanceAsync(1000);
  const { waiting, overflow, connections } = link.interception.statistics;
  assertEquals([waiting, overflow, connections, link.flows.length], [4096, 6000 - 4096, 4096, 4096]);
  // More accepted at once than handshakes may be open: cookies, and nothing is lost.
  const accepted = link.flows.slice(0, 2000).map((flow) => flow.accept());
  for (const one of accepted) one.catch(() => {});
  for (const flow of link.flows.slice(2000)) flow.ignore();
  const answers = (await link.answers()).filter(({ flags }) => flags === (SYN | ACK));
  assertEquals(answers.length, 2000);
  assertEquals(link.interception.statistics.waiting, 2000);
  for (const [i, flow] of link.flows.slice(0, 2000).entries()) {
    const addresses = { source: GUEST, destination: flow.destination.hostname };
    const acknowledgment = answers.find(({ source }) => source === flow.destination.hostname)!.sequence + 1;
    const segment = tcp({
      ...addresses,
      sourcePort: flow.source.port,
      destinationPort: flow.destination.port,
      sequence: 1,
      acknowledgment,
      flags: "A",
    });
    link.wire.put(ipv4({ ...addresses, protocol: 6 }, segment));
    if (i % 200 === 0) await link.clock.settle();
  }
  await link.clock.settle();
  assertEquals((await Promise.all(accepted)).length, 2000);
  assertEquals(link.interception.statistics.waiting, 0);
});

Deno.test("a guest may open again what it has just ended: TIME-WAIT stays until the new one is answered", async () => {
  using link = new Link();
  const { done, acknowledgment } = await halfOpen(link);
  await link.send("A", { sequence: 1001, acknowledgment });
  const conn = await done;
  conn.close();
  const [fin] = await link.answers();
  assertEquals(fin.flags & FIN, FIN);
  await link.send("AF", { sequence: 1001, acknowledgment: acknowledgment + 1 });
  assertEquals(link.stack.connections().map(({ state }) => state), ["TIME-WAIT"]);
  assertEquals(await link.send("S", { sequence: 900_000 }), []);
  assertEquals(link.stack.connections().map(({ state }) => state), ["TIME-WAIT"]);
  // Another one in between must not take its place in the order of sequence numbers.
  await halfOpen(link, { sourcePort: 6000 });
  const again = link.flows[1].accept();
  const [answer] = await link.answers();
  assertEquals([answer.flags, answer.acknowledgment], [SYN | ACK, 900_001]);
  // RFC 9293 3.6.1: larger than the largest number of the connection before.
  assert(((answer.sequence - (acknowledgment + 1)) | 0) > 0);
  await link.send("A", { sequence: 900_001, acknowledgment: answer.sequence + 1 });
  (await again).abort();
});

Deno.test("a listener for all addresses takes what is for the stack's own, and no strangers' connections or datagrams", async () => {
  using link = new Link();
  using listener = link.stack.listen({ port: 80 });
  using exact = link.stack.listen({ port: 81, hostname: "10.0.2.2" });
  using socket = link.stack.listenDatagram({ port: 53 });
  assertEquals(await link.send("S"), []);
  assertEquals([link.flows.length, listener.pending, exact.pending], [1, 0, 0]);
  assertEquals((await link.send("S", { destination: "10.0.2.2" }))[0].flags, SYN | ACK);
  assertEquals(link.flows.length, 1);
  for (const destination of [FAR, "10.0.2.2"]) {
    const addresses = { source: GUEST, destination };
    link.wire.put(
      ipv4({ ...addresses, protocol: 17 }, udp({ ...addresses, sourcePort: 4000, destinationPort: 53 }, Uint8Array.of(1))),
    );
  }
  await link.clock.settle();
  assertEquals([link.datagrams.length, socket.statistics.received], [1, 1]);
  assertEquals(link.datagrams[0].destination.hostname, FAR);
  link.datagrams[0].socket.close();
});

Deno.test("segments of connections that nobody knows are reset; who can't be answered isn't asked about", async () => {
  using link = new Link();
  assertEquals((await link.send("A", { acknowledgment: 77 })).map(({ flags }) => flags), [RST]);
  assertEquals((await link.send("SA", { acknowledgment: 77 })).map(({ flags }) => flags), [RST]);
  assertEquals(await link.send("R"), []);
  // The guest claims to be somebody to whom there is no way.
  assertEquals(await link.send("S", { source: "203.0.113.9" }), []);
  assertEquals(link.flows.length, 0);
});

Deno.test("datagrams from and to port 0, empty ones and long ones", async () => {
  using link = new Link();
  const put = (sourcePort: number, destinationPort: number, payload: Uint8Array) => {
    const addresses = { source: GUEST, destination: FAR };
    link.wire.put(ipv4({ ...addresses, protocol: 17 }, udp({ ...addresses, sourcePort, destinationPort }, payload)));
  };
  for (let i = 0; i < 100; i++) put(4000, 0, new Uint8Array(1));
  for (let i = 0; i < 100; i++) put(0, 9, new Uint8Array(1));
  await link.clock.settle();
  assertEquals([link.datagrams.length, link.interception.statistics.datagramFlows], [0, 0]);
  link.wire.take();
  // The errors about them have used up what may be sent in a while.
  await link.clock.advanceAsync(60_000);
  put(4000, 9, new Uint8Array(0));
  put(4000, 9, new Uint8Array(9000));
  await link.clock.settle();
  assertEquals(link.datagrams.length, 1);
  const { socket } = link.datagrams[0];
  assertEquals([(await socket.receive())[0].length, (await socket.receive())[0].length], [0, 9000]);
  link.datagrams[0].unreachable("port");
  const [error] = await link.answers();
  assertEquals(error.icmp, [3, 3]);
});

Deno.test("the stack's end ends what waits; whoever answers later finds it over, and nothing is left", async () => {
  const link = new Link();
  await link.send("S");
  await link.send("S", { sourcePort: 5001 });
  const accepted = link.flows[0].accept();
  accepted.catch(() => {});
  link.stack.close();
  await assertRejects(() => accepted, Deno.errors.ConnectionAborted);
  await assertRejects(() => link.flows[1].accept(), Deno.errors.ConnectionAborted);
  link.flows[1].refuse();
  link.flows[1].unreachable("host");
  assertEquals([link.interception.statistics.waiting, link.clock.pending], [0, 0]);
  link[Symbol.dispose]();
});
