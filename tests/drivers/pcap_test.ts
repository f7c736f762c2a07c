// Captures: what is written is read back, both directions, bounded, and other programs' byte order too.
import { assert, assertEquals, assertThrows } from "@std/assert";
import { cable, decodeCapture, NetStack, pcapTap } from "../../mod.ts";
import { encodeHeader, encodePacket, INBOUND, LINK_RAW, OUTBOUND, PACKET_OVERHEAD } from "../../drivers/pcap_format.ts";

function collect() {
  const chunks: Uint8Array<ArrayBuffer>[] = [];
  let closed = 0;
  return {
    write: (bytes: Uint8Array) => void chunks.push(new Uint8Array(bytes)),
    close: () => void closed++,
    get closed() {
      return closed;
    },
    bytes: async () => new Uint8Array(await new Blob(chunks).arrayBuffer()),
  };
}

Deno.test("golden bytes: header and one packet", () => {
  const header = encodeHeader(LINK_RAW, 0x10040, "t0");
  assertEquals(
    Array.from(header, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    "0a0d0d0a1c0000004d3c2b1a01000000ffffffffffffffff1c000000" +
      "01000000280000006500000040000100" + "0200020074300000" + "0900010009000000" + "0000000028000000",
  );
  const bytes = new Uint8Array(PACKET_OVERHEAD + 4).fill(0xa5);
  const at = encodePacket(new DataView(bytes.buffer), 0, 1, 2, 3, 5, OUTBOUND);
  bytes.set([7, 8, 9], at);
  assertEquals(
    Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(""),
    "0600000030000000" + "0000000001000000020000000300000005000000" + "07080900" + "0200040002000000" + "00000000" + "30000000",
  );
});

Deno.test("both directions of a ping are there, with times that rise, and the device works as before", async () => {
  const sink = collect();
  const [left, right] = cable();
  const server = new NetStack(left, { address: "10.0.0.1/24" });
  const client = new NetStack(pcapTap(right, sink), { address: "10.0.0.2/24" });
  const before = BigInt(Math.floor(performance.timeOrigin + performance.now())) * 1_000_000n;
  await client.ping("10.0.0.1", { size: 100 });
  assertEquals(client.statistics.devices[0].counters["pcap.captured"] >= 4, true);
  client.close();
  client.close();
  server.close();
  assertEquals(sink.closed, 1);
  const packets = decodeCapture(await sink.bytes());
  const echoes = packets.filter(({ bytes }) => bytes[12] === 8 && bytes[13] === 0 && bytes[23] === 1);
  assertEquals(echoes.map(({ direction, originalLength, linkType }) => [direction, originalLength, linkType]), [
    [OUTBOUND, 142, 1],
    [INBOUND, 142, 1],
  ]);
  assertEquals([echoes[0].bytes[34], echoes[1].bytes[34]], [8, 0]);
  for (let i = 1; i < packets.length; i++) assert(packets[i].timeNs >= packets[i - 1].timeNs);
  const last = packets[packets.length - 1].timeNs;
  assert(last >= before - 2_000_000n && last < before + 60_000_000_000n, `${last} against ${before}`);
});

Deno.test("snaplen cuts, maxBytes stops the capture and not the traffic", async () => {
  const sink = collect();
  const [left, right] = cable();
  using server = new NetStack(left, { address: "10.0.0.1/24" });
  const client = new NetStack(pcapTap(right, sink, { snaplen: 50, maxBytes: 2000, nowNs: () => 1_700_000_000_123_456_789n }), {
    address: "10.0.0.2/24",
  });
  for (let i = 0; i < 20; i++) await client.ping("10.0.0.1", { size: 1000 });
  assert(client.statistics.devices[0].counters["pcap.notCaptured"] > 10);
  client.close();
  const bytes = await sink.bytes();
  assert(bytes.length <= 2000);
  const packets = decodeCapture(bytes);
  assert(packets.length > 5 && packets.every((packet) => packet.bytes.length <= 50));
  assert(packets.some((packet) => packet.originalLength === 1042));
  assertEquals(packets[0].timeNs, 1_700_000_000_123_456_789n);
  assertEquals(server.statistics.stack.faults, 0);
});

Deno.test("a file, more than one buffer of it, and a sink that fails", async () => {
  const path = await Deno.makeTempFile({ suffix: ".pcapng" });
  try {
    const [left, right] = cable();
    using _server = new NetStack(left, { address: "10.0.0.1/24" });
    const client = new NetStack(pcapTap(right, path), { address: "10.0.0.2/24" });
    for (let i = 0; i < 10; i++) await client.ping("10.0.0.1", { size: 60_000 });
    client.close();
    const packets = decodeCapture(await Deno.readFile(path));
    assert(packets.length > 800, `${packets.length} packets`);
  } finally {
    await Deno.remove(path);
  }
  const [left, right] = cable();
  using _server = new NetStack(left, { address: "10.0.0.1/24" });
  const full = {
    write: () => {
      throw new Error("disk full");
    },
  };
  using client = new NetStack(pcapTap(right, full), { address: "10.0.0.2/24" });
  await client.ping("10.0.0.1");
  await client.ping("10.0.0.1");
  assertEquals(client.statistics.devices[0].counters["pcap.writeErrors"], 1);
});

Deno.test("the reader takes the other byte order, foreign blocks and cut files, and refuses what is none", async () => {
  const sink = collect();
  const [left] = cable();
  const tap = pcapTap(left, sink);
  tap.open(() => {});
  tap.close();
  const header = await sink.bytes();
  assertEquals(decodeCapture(header), []);
  for (let length = 28; length < header.length; length++) assertEquals(decodeCapture(header.subarray(0, length)), []);
  assertThrows(() => decodeCapture(new Uint8Array(100)), Deno.errors.InvalidData);
  assertThrows(() => decodeCapture(new Uint8Array(3)), Deno.errors.InvalidData);
  const big = new DataView(new ArrayBuffer(28 + 20 + 36));
  [0x0a0d0d0a, 28, 0x1a2b3c4d, 0x00010000, 0xffffffff, 0xffffffff, 28, 1, 20, 0x00010000, 0, 20].forEach((word, i) =>
    big.setUint32(4 * i, word)
  );
  [6, 36, 0, 0, 5, 2, 2, 0x0a0b0000, 36].forEach((word, i) => big.setUint32(48 + 4 * i, word));
  const [packet] = decodeCapture(new Uint8Array(big.buffer));
  assertEquals([packet.timeNs, ...packet.bytes], [5000n, 10, 11]);
  assertThrows(() => pcapTap(left, sink, { snaplen: 0 }), RangeError);
  assertThrows(() => pcapTap(left, sink, { maxBytes: 0 }), RangeError);
});
