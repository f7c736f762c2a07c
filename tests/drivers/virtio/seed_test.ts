/** The seed's own face over a device of ours: D2.9 and D2.11 to D2.13. */
import { assertEquals, assertRejects, assertThrows } from "@std/assert";
import {
  AF_INET,
  Config,
  Header,
  Interface,
  MmioDevice,
  MmioTransport,
  Net,
  NetStack,
  Nic,
  SharedMemory,
  SOCK_DGRAM,
  SOCK_STREAM,
  useStack,
  VirtioNetDevice,
} from "../../../mod.ts";

Deno.test("D2.11 Config is 12 bytes: mac[6], status, max_virtqueue_pairs, mtu, little-endian", () => {
  const bytes = Uint8Array.of(2, 0, 0, 0, 0, 9, 1, 0, 4, 0, 0xdc, 0x05);
  const config = Config.decode(bytes);
  assertEquals([[...config.mac], config.status, config.maxVirtqueuePairs, config.mtu], [[2, 0, 0, 0, 0, 9], 1, 4, 1500]);
  assertEquals(config.encode(), bytes);
  for (let length = 0; length < 12; length++) assertThrows(() => Config.decode(bytes.subarray(0, length)), RangeError);
});

Deno.test("D2.11 Header is flags, gso_type, hdr_len, gso_size, csum_start, csum_offset, num_buffers", () => {
  const bytes = Uint8Array.of(1, 0x81, 0x36, 0, 0xb4, 5, 0x22, 0, 0x10, 0, 3, 0);
  const header = Header.decode(bytes);
  assertEquals(
    [header.flags, header.gsoType, header.hdrLen, header.gsoSize, header.csumStart, header.csumOffset, header.numBuffers],
    [1, 0x81, 54, 1460, 34, 16, 3],
  );
  assertEquals(header.encode(), bytes);
  for (let length = 0; length < 12; length++) assertThrows(() => Header.decode(bytes.subarray(0, length)), RangeError);
});

Deno.test("D2.12 Nic: a frame under 14 bytes is dropped; rx and tx move single frames", async () => {
  const nic = new Nic({ mac: "02:00:00:00:00:01" });
  const stack = new NetStack(nic, { address: "10.0.0.1/24" });
  for (let length = 0; length < 14; length++) assertEquals(nic.rx(new Uint8Array(length)), false);
  assertEquals(nic.statistics().rxShort, 14);
  while (nic.tx() !== null); // what the stack said when it came up
  // Who has 10.0.0.1? Tell 10.0.0.2.
  const request = new Uint8Array(42);
  request.set([255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 2, 8, 6, 0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 2, 10, 0, 0, 2]);
  request.set([10, 0, 0, 1], 38);
  assertEquals(nic.rx(request), true);
  await new Promise((done) => setTimeout(done, 0));
  const answer = nic.tx();
  assertEquals([...answer!.subarray(0, 14), answer![21]], [2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 6, 2]);
  assertEquals(nic.tx(), null);
  stack.close();
});

/** An {@link Interface} on a card on the seed's driver, and a stack over the device at the other end. */
async function withInterface(test: (iface: Interface, other: NetStack) => Promise<void>): Promise<void> {
  const memory = SharedMemory.of(new Uint8Array(16 << 20), 0x1000_0000);
  const device = new VirtioNetDevice(memory, { guestMac: "02:00:00:00:00:09" });
  const registers = new MmioDevice(device, { interrupt: (up) => up && net.interrupt() });
  using net = new Net({ transport: new MmioTransport(registers), memory, area: { address: 0x1000_0000, length: 16 << 20 } });
  assertThrows(() => net.driver, Deno.errors.NotConnected);
  net.init();
  assertEquals([net.headerLength, net.config().mac, net.mac], [12, net.mac, Uint8Array.of(2, 0, 0, 0, 0, 9)]);
  const nic = new Nic({ mac: net.mac });
  net.start(nic);
  await using other = new NetStack(device, { address: "10.0.0.2/24" });
  await using iface = new Interface();
  iface.init(nic, "10.0.0.1", "255.255.255.0", "10.0.0.2");
  assertThrows(() => iface.init(nic, "10.0.0.1", "255.255.255.0"), Deno.errors.Busy);
  await test(iface, other);
}

Deno.test("D2.12 Net: what was stopped is started again, with the same card and with another one", async () => {
  const memory = SharedMemory.of(new Uint8Array(16 << 20), 0x1000_0000);
  const device = new VirtioNetDevice(memory);
  const registers = new MmioDevice(device, { interrupt: (up) => up && net.interrupt() });
  using net = new Net({ transport: new MmioTransport(registers), memory, area: { address: 0x1000_0000, length: 16 << 20 } });
  net.init();
  await using other = new NetStack(device, { address: "10.0.0.2/24" });
  const cards = ["10.0.0.1", "10.0.0.3"].map((address) => {
    const nic = new Nic({ mac: net.mac });
    return { nic, address, stack: new NetStack(nic, { address: `${address}/24` }) };
  });
  for (const { nic, address } of [cards[0], cards[0], cards[1], cards[0]]) {
    net.start(nic);
    assertThrows(() => net.start(nic), Deno.errors.Busy);
    assertEquals((await other.ping(address)).address, address);
    net.stop();
    net.stop();
    await assertRejects(() => other.ping(address, { timeoutMs: 50 }), Deno.errors.TimedOut);
  }
  for (const { stack } of cards) stack.close();
  net[Symbol.dispose]();
  assertThrows(() => net.start(cards[0].nic), Deno.errors.BadResource);
});

async function echoOnce(listener: Deno.TcpListener): Promise<void> {
  using conn = await listener.accept();
  const buffer = new Uint8Array(64);
  await conn.write(buffer.subarray(0, await conn.read(buffer) ?? 0));
}

async function exchange(conn: Deno.TcpConn, text: string): Promise<string> {
  await conn.write(new TextEncoder().encode(text));
  const buffer = new Uint8Array(64);
  const count = await conn.read(buffer) ?? 0;
  conn.close();
  return new TextDecoder().decode(buffer.subarray(0, count));
}

Deno.test("D2.13 Interface: routes, listenerTcp4, dialTcp4, dialContextTcp4, dialUdp4, enableIcmp", async () => {
  await withInterface(async (iface, other) => {
    assertEquals(iface.stack.routes.map(({ destination }) => destination), ["10.0.0.0/24", "0.0.0.0/0"]);
    await assertRejects(() => other.ping("10.0.0.1", { timeoutMs: 200 }), Deno.errors.TimedOut);
    iface.enableIcmp();
    assertEquals((await other.ping("10.0.0.1")).address, "10.0.0.1");
    using listener = iface.listenerTcp4(80);
    const served = echoOnce(listener);
    assertEquals(await exchange(await other.connect({ hostname: "10.0.0.1", port: 80 }), "in"), "in");
    await served;
    using far = other.listen({ port: 81 });
    for (const dial of [() => iface.dialTcp4("10.0.0.2:81"), () => iface.dialContextTcp4(5000, "10.0.0.2:81")]) {
      const answered = echoOnce(far);
      assertEquals(await exchange(await dial(), "out"), "out");
      await answered;
    }
    await assertRejects(() => iface.dialContextTcp4(50, "10.0.0.77:81"), Deno.errors.TimedOut);
    await assertRejects(() => iface.dialContextTcp4(AbortSignal.abort(), "10.0.0.2:81"), DOMException);
    await assertRejects(() => iface.dialTcp4("10.0.0.2"), TypeError);
    using theirs = other.listenDatagram({ port: 9 });
    using ours = await iface.dialUdp4("10.0.0.1:5000", "10.0.0.2:9");
    await ours.send(Uint8Array.of(1, 2, 3));
    const [bytes, from] = await theirs.receive();
    assertEquals([[...bytes], from.port], [[1, 2, 3], 5000]);
  });
});

Deno.test("D2.13 socket(): unsupported address family, socket type and network; and the sockets that there are", async () => {
  await withInterface(async (iface, other) => {
    const refused: [string, number, number, string][] = [
      ["tcp", 10, SOCK_STREAM, "unsupported address family"],
      ["tcp", AF_INET, SOCK_DGRAM, "unsupported socket type"],
      ["udp4", AF_INET, SOCK_STREAM, "unsupported socket type"],
      ["unix", AF_INET, SOCK_STREAM, "unsupported network"],
    ];
    for (const [network, family, type, message] of refused) {
      await assertRejects(() => iface.socket(network, family, type, null, "10.0.0.2:1"), TypeError, message);
    }
    const listener = await iface.socket("tcp4", AF_INET, SOCK_STREAM, ":90", null) as Deno.TcpListener;
    const served = echoOnce(listener);
    assertEquals(await exchange(await other.connect({ hostname: "10.0.0.1", port: 90 }), "socket"), "socket");
    await served;
    listener.close();
    const datagrams = await iface.socket("udp", AF_INET, SOCK_DGRAM, ":91", null) as Deno.DatagramConn;
    assertEquals((datagrams.addr as Deno.NetAddr).port, 91);
    datagrams.close();
  });
});

Deno.test("D2.13 the runtime hook: ordinary programs use the interface's sockets", async () => {
  await withInterface(async (iface, other) => {
    using far = other.listen({ port: 82 });
    const original = Deno.connect;
    {
      using _hook = useStack(iface.stack);
      const answered = echoOnce(far);
      assertEquals(await exchange(await Deno.connect({ hostname: "10.0.0.2", port: 82 }), "hook"), "hook");
      await answered;
    }
    assertEquals(Deno.connect === original, true);
  });
});
