/** What is read of a capture, and what is drawn of it. */
import { assert, assertEquals, assertMatch, assertThrows } from "@std/assert";
import { decodeCapture, drawLadder, drawTimeSequence, Network, readTcpTraces, type TcpTrace } from "../../mod.ts";
import { seededRandom32 } from "../../stack/random.ts";

/** A download of 300 kB through a bad link, captured at both ends. */
async function download(loss: number): Promise<{ capture: Uint8Array; lost: number; retransmissions: number }> {
  const parts: Uint8Array[] = [];
  const sink = { write: (bytes: Uint8Array) => void parts.push(bytes.slice()) };
  let lost = 0;
  let retransmissions = 0;
  {
    using net = new Network({ seed: 3, pcap: sink });
    const alice = net.host("alice", { address: "10.0.0.1/24" });
    const bob = net.host("bob", { address: "10.0.0.2/24" });
    const link = net.link(alice, bob, { delay: 10, rate: 20e6, aToB: { loss } });
    await net.run(async () => {
      using listener = bob.listen({ port: 7 });
      const [conn, accepted] = await Promise.all([
        alice.connect({ hostname: "10.0.0.2", port: 7, localPort: 1000 }),
        listener.accept(),
      ]);
      const bytes = new Uint8Array(300_000);
      const sending = (async () => {
        for (let done = 0; done < bytes.length;) done += await conn.write(bytes.subarray(done));
        await conn.closeWrite();
      })();
      const buffer = new Uint8Array(65_536);
      while (await accepted.read(buffer) !== null);
      await sending;
      accepted.close();
      await net.delay(1000);
      [{ retransmissions }] = alice.connections();
      conn.close();
    });
    lost = link.statistics.aToB.lost;
  }
  return { capture: new Uint8Array(await new Blob(parts as Uint8Array<ArrayBuffer>[]).arrayBuffer()), lost, retransmissions };
}

const bad = await download(0.03);
const good = await download(0);

/** The same capture in the older format. */
function classic(magic: number, little: boolean, nsPerTick: bigint, interfaceIndex: number): Uint8Array {
  const packets = decodeCapture(good.capture).filter((packet) => packet.interfaceIndex === interfaceIndex);
  const bytes = new Uint8Array(24 + packets.reduce((sum, packet) => sum + 16 + packet.bytes.length, 0));
  const view = new DataView(bytes.buffer);
  view.setUint32(0, magic);
  view.setUint32(20, 1, little);
  let at = 24;
  for (const { timeNs, bytes: frame, originalLength } of packets) {
    const words = [timeNs / 1_000_000_000n, timeNs % 1_000_000_000n / nsPerTick, frame.length, originalLength].map(Number);
    for (const [i, word] of words.entries()) view.setUint32(at + 4 * i, word, little);
    bytes.set(frame, at + 16);
    at += 16 + frame.length;
  }
  return bytes;
}

Deno.test("a capture of both ends tells what was lost and what was sent again", () => {
  const traces = readTcpTraces(bad.capture);
  assertEquals(traces.map(({ client, server }) => [client, server]), [["10.0.0.1:1000", "10.0.0.2:7"]]);
  const { segments } = traces[0];
  const forth = segments.filter(({ fromClient }) => fromClient);
  assertEquals(forth.filter(({ arrivedMs }) => arrivedMs === null).length, bad.lost);
  assertEquals(forth.filter(({ again }) => again).length, bad.retransmissions);
  assertEquals(forth.reduce((sum, { length, again }) => sum + (again ? 0 : length), 0), 300_000);
  assert(bad.lost > 3 && segments.some(({ sacks }) => sacks.length > 0));
  // The other direction lost nothing, and everything took its time.
  for (const { fromClient, arrivedMs, timeMs } of segments) {
    if (!fromClient || arrivedMs !== null) assert(arrivedMs! >= timeMs + 10, `${timeMs} ${arrivedMs}`);
  }
  for (const { sacks, ack } of segments) for (const [from, to] of sacks) assert(ack! <= from && from < to && to <= 300_001);
  assertEquals([segments[0].seq, segments[1].seq, segments[1].ack], [0, 0, 1]);
});

Deno.test("one end alone, and the older format in each byte order, give the same connection", () => {
  const { segments } = readTcpTraces(good.capture)[0];
  const bytes = (trace: TcpTrace) => trace.segments.reduce((sum, { length }) => sum + length, 0);
  const packets = decodeCapture(good.capture).filter(({ interfaceIndex }) => interfaceIndex === 0);
  const one = readTcpTraces(packets)[0];
  assertEquals([one.segments.length, one.segments[0].arrivedMs, bytes(one)], [segments.length, undefined, 300_000]);
  for (
    const [magic, little, nsPerTick] of [[0xa1b2c3d4, false, 1000n], [0xd4c3b2a1, true, 1000n], [0xa1b23c4d, false, 1n]] as const
  ) {
    const [trace] = readTcpTraces(classic(magic, little, nsPerTick, 0));
    assertEquals([trace.client, trace.segments.length, bytes(trace)], [one.client, segments.length, 300_000]);
    assert(Math.abs(trace.segments.at(-1)!.timeMs - one.segments.at(-1)!.timeMs) < 0.002);
  }
  const file = Deno.makeTempFileSync();
  Deno.writeFileSync(file, good.capture);
  assertEquals(readTcpTraces(file).length, 1);
  Deno.removeSync(file);
});

/** An Ethernet frame with a TCP segment; nothing is summed. */
function frame(fromClient: boolean, seq: number, ack: number, flags: number, text: number, port = 1000): Uint8Array<ArrayBuffer> {
  const bytes = new Uint8Array(54 + text);
  const view = new DataView(bytes.buffer);
  view.setUint16(12, 0x0800);
  view.setUint8(14, 0x45);
  view.setUint16(16, 40 + text);
  view.setUint8(23, 6);
  view.setUint32(26, fromClient ? 0x0a000001 : 0x0a000002);
  view.setUint32(30, fromClient ? 0x0a000002 : 0x0a000001);
  view.setUint16(34, fromClient ? port : 7);
  view.setUint16(36, fromClient ? 7 : port);
  view.setUint32(38, seq);
  view.setUint32(42, ack);
  view.setUint16(46, 0x5000 | flags);
  view.setUint16(48, 1000);
  return bytes;
}

const captured = (frames: Uint8Array<ArrayBuffer>[]) =>
  frames.map((bytes, i) => ({ timeNs: BigInt(i) * 1_000_000n, direction: 0, originalLength: bytes.length, bytes, linkType: 1 }));

Deno.test("numbers don't wrap, the same ports again are another connection, and a SYN sent again is not", () => {
  const high = 0xfffffff0;
  const traces = readTcpTraces(captured([
    frame(true, high, 0, 2, 0),
    frame(true, high, 0, 2, 0),
    frame(false, 5, high + 1, 18, 0),
    frame(true, high + 1, 6, 16, 100),
    frame(true, (high + 101) >>> 0, 6, 16, 100),
    frame(false, 6, (high + 201) >>> 0, 20, 0),
    frame(true, 77, 0, 2, 0),
    frame(false, 9, 78, 18, 0, 2000), // the middle of another
  ]));
  assertEquals(traces.map(({ segments }) => segments.length), [6, 1, 1]);
  assertEquals(traces[0].segments.map(({ seq, ack, again }) => [seq, ack, again]), [
    [0, null, false],
    [0, null, true],
    [0, 1, false],
    [1, 1, false],
    [101, 1, false],
    [1, 201, false],
  ]);
  assertEquals([traces[2].client, traces[2].server], ["10.0.0.1:2000", "10.0.0.2:7"]);
  assertEquals(
    drawLadder(traces[0], { width: 40, fromMs: 1 }),
    `         ms 10.0.0.1:1000                   10.0.0.2:7
      1.000 |-- SYN seq 0 win 1000 again ----------->|
      2.000 |<----------- SYN seq 0 ack 1 win 1000 --|
      3.000 |-- 1:101 ack 1 win 1000 --------------->|
      4.000 |-- 101:201 ack 1 win 1000 ------------->|
      5.000 |<----------------- RST seq 1 win 1000 --|`,
  );
});

Deno.test("a ladder shows what got lost, and says what it leaves out", () => {
  const [trace] = readTcpTraces(bad.capture);
  const text = drawLadder(trace, { limit: 1e4 });
  assertEquals(text.match(/-x +\|$/gm)?.length, bad.lost);
  assertEquals(text.split("\n").length, trace.segments.length + 1);
  assertMatch(drawLadder(trace, { limit: 2 }), new RegExp(`\\n +${trace.segments.length - 2} more$`));
  for (const bad of [{ limit: 0 }, { width: NaN }, { fromMs: -1 }, { fromMs: 5, toMs: 4 }]) {
    assertThrows(() => drawLadder(trace, bad), RangeError);
  }
});

Deno.test("a time-sequence graph has a bar for each segment, and every number in it is one", () => {
  const [trace] = readTcpTraces(bad.capture);
  const svg = drawTimeSequence(trace);
  const bars = (colour: string) => svg.match(new RegExp(`<path d="([^"]*)" stroke="${colour}"`))![1].split("M").length - 1;
  const data = trace.segments.filter(({ length }) => length > 0);
  assertEquals(bars("#f0b429"), data.filter(({ arrivedMs }) => arrivedMs === null).length);
  assertEquals(bars("#d64545"), data.filter(({ again, arrivedMs }) => again && arrivedMs !== null).length);
  assertEquals(bars("#1f2933") + bars("#d64545") + bars("#f0b429"), data.length);
  assert(!/NaN|Infinity|undefined/.test(svg) && svg.startsWith("<svg ") && svg.endsWith("</svg>\n"));
  for (const options of [{ from: "server" as const }, { fromMs: 10, toMs: 20 }, { fromMs: 1e9 }]) {
    assert(!/NaN|Infinity|undefined/.test(drawTimeSequence(trace, options)));
  }
  for (const bad of [{ width: 1 }, { height: NaN }, { from: "x" as "client" }]) {
    assertThrows(() => drawTimeSequence(trace, bad), RangeError);
  }
});

Deno.test("a hostile capture gives what can be read of it, and never another error", () => {
  const next = seededRandom32(7);
  const random = () => (next() >>> 0) / 2 ** 32;
  const small = bad.capture.slice(0, 20_000);
  for (let i = 0; i < 300; i++) {
    const bytes = small.slice(0, Math.floor(random() * small.length));
    for (let n = 0; n < 20; n++) bytes[Math.floor(random() * bytes.length)] = Math.floor(random() * 256);
    try {
      for (const trace of readTcpTraces(bytes)) {
        drawLadder(trace);
        assert(!/NaN|undefined/.test(drawTimeSequence(trace)));
      }
    } catch (error) {
      assert(error instanceof Deno.errors.InvalidData, String(error));
    }
  }
  assertThrows(() => readTcpTraces(5 as never), TypeError);
  assertThrows(() => readTcpTraces("/nonexistent"), Deno.errors.NotFound);
});
