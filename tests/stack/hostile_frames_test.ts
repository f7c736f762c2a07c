/**
 * Hostile frames against the whole stack without a kernel: a device of two arrays, all transports, a manual clock. Whatever
 * comes in, nothing throws, every table stays small, and every frame that goes out is valid for an independent verifier.
 */
import { assert, assertEquals, assertLessOrEqual } from "@std/assert";
import { type Device, FrameMemory, type FrameSink, type TxFrame } from "../../stack/device.ts";
import { InternetLayer } from "../../stack/ip/internet.ts";
import { Tcp } from "../../stack/tcp/tcp.ts";
import { Udp } from "../../stack/udp/udp.ts";
import { describeFrame } from "../../stack/wire/describe.ts";
import {
  arp,
  type Bytes,
  checkFrame,
  corpus,
  echo,
  ethernet,
  fragments,
  ipv4,
  keyOf,
  mac,
  randomFrame,
  randomSource,
  udp,
} from "../testing/frames.ts";

class ArrayDevice implements Device {
  readonly name = "arrays";
  readonly medium = "ethernet";
  readonly mtu = 1500;
  readonly mac = Uint8Array.from(mac("02:00:00:00:00:02"));
  readonly capabilities = { rxChecksum: false, txChecksum: false, txSegmentation: 0, rxFrame: 1600 };
  readonly sent: Uint8Array[] = [];
  open(): void {}
  arm(): void {}
  close(): void {}
  receive(): number {
    return 0;
  }
  transmit(frame: TxFrame): number {
    const bytes = new Uint8Array(frame.size);
    frame.copyTo(bytes, 0);
    this.sent.push(bytes);
    return 0;
  }
}

function setUp() {
  const random32 = randomSource(7);
  const ip = new InternetLayer({ random32 });
  const device = new ArrayDevice();
  const iface: FrameSink & { index: number } = ip.addInterface(device);
  assertEquals(ip.addAddress(iface.index, keyOf("10.0.0.2"), 24, false), 0);
  const layers = { udp: new Udp(ip), tcp: new Tcp(ip) };
  const socket = layers.udp.open(0, 7);
  assert(typeof socket !== "number");
  assert(typeof layers.tcp.listen(0, 80, 16) !== "number");
  ip.joinMulticast(keyOf("239.1.2.3"));
  // A frame stands somewhere in a slot of old bytes.
  const memory = new FrameMemory(65_536);
  memory.bytes.fill(0xa5);
  const feed = (frame: Bytes) => {
    memory.bytes.set(frame, 100);
    iface.frame(memory, 100, frame.length, 0, 0);
    ip.pump(64);
    layers.tcp.flush(ip.now);
  };
  const later = (ms: number) => {
    ip.now += ms;
    ip.advance(ip.now);
    layers.tcp.advance(ip.now);
    layers.tcp.flush(ip.now);
  };
  const take = () => {
    const frames = device.sent.splice(0);
    for (const frame of frames) assertEquals(checkFrame(frame).problems, [], describeFrame(frame));
    return frames;
  };
  return { ip, ...layers, socket, feed, later, take };
}

Deno.test("stack: every frame of the corpus, and every truncation of it", () => {
  const { feed, later, take } = setUp();
  for (const { frame } of corpus()) {
    for (let length = 0; length <= frame.length; length++) feed(frame.slice(0, length));
    later(10);
    take();
  }
});

Deno.test("stack: 60,000 hostile frames throw nothing, grow nothing, and are answered only by valid frames", () => {
  const { ip, udp, tcp, socket, feed, later, take } = setUp();
  const random = randomSource(11);
  const frames = corpus();
  let answered = 0;
  const into = new Uint8Array(2048);
  const source = { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };
  for (let i = 0; i < 60_000; i++) {
    feed(randomFrame(frames, random));
    if (i % 50 === 0) {
      later(1 + random() % 500);
      while (socket.receive(into, 0, into.length, source) >= 0);
      udp.ready.length = tcp.ready.length = 0;
      answered += take().length;
    }
  }
  assert(answered > 1000, `only ${answered} answers`);
  assertLessOrEqual(ip.neighbors.length, 1024);
  assertLessOrEqual(ip.reassembler.statistics.datagrams, 64);
  assertLessOrEqual(ip.reassembler.statistics.bytes, 4 << 20);
  assert(udp.statistics.received > 100);
  // It is still alive: it answers who it is, an echo, and a datagram in fragments.
  later(60_000);
  take();
  feed(ethernet({ type: 0x806, destination: "ff:ff:ff:ff:ff:ff" }, arp({})));
  feed(ethernet({}, ipv4({ protocol: 1 }, echo(5, 6, new Uint8Array(40)))));
  const answers = take().map((frame) => checkFrame(frame));
  assertEquals(answers.find((answer) => answer.arp)?.arp?.operation, 2);
  assertEquals(answers.find((answer) => answer.icmp)?.icmp?.type, 0);
});

Deno.test("stack: a datagram in fragments, there and back, and one that never completes", () => {
  const { ip, udp: layer, socket, feed, later, take } = setUp();
  feed(ethernet({ type: 0x806, destination: "ff:ff:ff:ff:ff:ff" }, arp({})));
  take();
  const payload = Uint8Array.from({ length: 5000 }, (_, i) => i * 3);
  for (const packet of fragments({ id: 3 }, udp({}, payload), 1500).reverse()) feed(ethernet({}, packet));
  const into = new Uint8Array(6000);
  const source = { key: 0, port: 0, localKey: 0, interfaceIndex: 0, length: 0 };
  assertEquals(socket.receive(into, 0, into.length, source), 5000);
  assertEquals(into.slice(0, 5000), payload);
  assertEquals(socket.send(into, 0, 5000, source.key, source.port), 5000);
  const back = take().map((frame) => checkFrame(frame));
  assertEquals(back.length, 4);
  const whole = new Uint8Array(5008);
  for (const { ip, payload } of back) whole.set(payload, ip!.fragmentOffset);
  assertEquals(whole.slice(8), payload);
  // One that never completes is answered in time.
  feed(ethernet({}, fragments({ id: 4 }, udp({}, payload), 1500)[0]));
  later(30_000);
  const late = take().map((frame) => checkFrame(frame));
  assertEquals(late.filter((one) => one.icmp !== undefined).map(({ icmp }) => [icmp!.type, icmp!.code]), [[11, 1]]);
  assertEquals([layer.statistics.badChecksum, ip.reassembler.statistics.timeouts], [0, 1]);
});
