/** Both QEMU devices against a QEMU that the test plays: whole stacks over them, hostile framing, and machines that come and go. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { NetStack, QemuDatagramDevice, QemuStreamDevice } from "../../mod.ts";
import { sha256 } from "../../examples/demo/stranger.ts";

const MiB = 1 << 20;
const OURS = { address: "10.0.2.2/24" };
const THEIRS = { address: "10.0.2.15/24" };

function socketPath(): string {
  const path = Deno.makeTempFileSync({ prefix: "tapioca_qemu_", suffix: ".sock" });
  Deno.removeSync(path);
  return path;
}

function exists(path: string): boolean {
  try {
    return Deno.statSync(path).isSocket === true;
  } catch {
    return false;
  }
}

async function until(what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; !condition(); tries++) {
    if (tries > 2000) throw new Error(`never: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, 5));
  }
}

/** `size` bytes from one stack to the other and back, compared by their SHA-256. */
async function exchange(server: NetStack, client: NetStack, hostname: string, size: number): Promise<void> {
  using listener = server.listen({ port: 7 });
  const echo = (async () => {
    using conn = await listener.accept();
    const buffer = new Uint8Array(65_536);
    for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
      for (let done = 0; done < n;) done += await conn.write(buffer.subarray(done, n));
    }
    await conn.closeWrite();
  })();
  const bytes = new Uint8Array(size);
  for (let at = 0; at < size; at += 65_536) crypto.getRandomValues(bytes.subarray(at, at + 65_536));
  using conn = await client.connect({ hostname, port: 7 });
  const sending = (async () => {
    for (let done = 0; done < size;) done += await conn.write(bytes.subarray(done));
    await conn.closeWrite();
  })();
  const back = new Uint8Array(await new Response(conn.readable).arrayBuffer());
  await Promise.all([sending, echo]);
  assertEquals(await sha256(back), await sha256(bytes));
}

/** "Who has 10.0.2.2?", as QEMU frames it: every device answers it with 42 bytes and more behind their length. */
function question(): Uint8Array {
  const frame = Uint8Array.of(
    ...[0, 0, 0, 42, 255, 255, 255, 255, 255, 255, 2, 0, 0, 0, 0, 15, 8, 6],
    ...[0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 15, 10, 0, 2, 15, 0, 0, 0, 0, 0, 0, 10, 0, 2, 2],
  );
  return frame;
}

async function readFrame(conn: Deno.Conn): Promise<Uint8Array> {
  const read = async (length: number) => {
    const bytes = new Uint8Array(length);
    for (let done = 0; done < length;) {
      const count = await conn.read(bytes.subarray(done));
      if (count === null) throw new Error("the device has hung up");
      done += count;
    }
    return bytes;
  };
  const length = new DataView((await read(4)).buffer).getUint32(0);
  return await read(length);
}

/** Asks, and reads until the answer is there: an ARP reply. Other frames are the device's own (announcements). */
async function asksAndIsAnswered(conn: Deno.Conn, write = (bytes: Uint8Array) => writeAll(conn, bytes)): Promise<void> {
  const asked = write(question());
  for (;;) {
    const frame = await readFrame(conn);
    if (frame[12] === 8 && frame[13] === 6 && frame[21] === 2) break;
  }
  await asked;
}

async function writeAll(conn: Deno.Conn, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.length;) done += await conn.write(bytes.subarray(done));
}

/** Reads until the device hangs up. */
async function hungUp(conn: Deno.Conn): Promise<void> {
  const buffer = new Uint8Array(65_536);
  try {
    while (await conn.read(buffer) !== null);
  } catch { /* a reset is a hang-up too */ }
}

async function withStream(test: (path: string, device: QemuStreamDevice, stack: NetStack) => Promise<void>): Promise<void> {
  const path = socketPath();
  const device = QemuStreamDevice.open({ path });
  {
    await using stack = new NetStack(device, OURS);
    await test(path, device, stack);
  }
  // Deno takes it away itself, when the `accept` that waited has ended.
  await until("the file is gone", () => !exists(path));
}

/** A datagram socket that a block may own. */
function packets(path: string): Deno.DatagramConn & Disposable {
  const socket = Deno.listenDatagram({ transport: "unixpacket", path });
  return Object.assign(socket, { [Symbol.dispose]: () => socket.close() });
}

const dial = (path: string) => Deno.connect({ transport: "unix", path });

Deno.test("two stacks over QEMU's stream socket exchange 10 MiB with equal SHA-256, by unix socket and by TCP", async () => {
  const path = socketPath();
  for (const unix of [true, false]) {
    const listening = QemuStreamDevice.open(unix ? { path } : { port: 0 });
    const end = unix ? { path } : { port: (listening.address as Deno.NetAddr).port };
    await using server = new NetStack(listening, OURS);
    await using client = new NetStack(QemuStreamDevice.open({ ...end, connect: true }), THEIRS);
    await until("they are connected", () => listening.connected);
    await exchange(server, client, "10.0.2.2", 10 * MiB);
    const { protocolErrors, connections, rxShort } = listening.statistics();
    assertEquals([protocolErrors, connections, rxShort], [0, 1, 0]);
  }
});

Deno.test("two stacks over QEMU's datagram socket exchange 10 MiB with equal SHA-256; the files are taken away", async () => {
  const [left, right] = [{ path: socketPath() }, { path: socketPath() }];
  {
    const device = QemuDatagramDevice.open({ local: left, remote: right });
    await using server = new NetStack(device, OURS);
    await using client = new NetStack(QemuDatagramDevice.open({ local: right, remote: left }), THEIRS);
    await exchange(server, client, "10.0.2.2", 10 * MiB);
    assertEquals([device.statistics().rxForeign, device.statistics().rxBadLength], [0, 0]);
  }
  for (const { path } of [left, right]) assertThrows(() => Deno.statSync(path), Deno.errors.NotFound);
});

Deno.test("a length that no frame has ends the connection, and not the process; the next machine is served", async () => {
  await withStream(async (path, device) => {
    let errors = 0;
    for (const length of [[0, 0, 0, 0], [255, 255, 255, 255], [0, 1, 16, 1], [0x7f, 255, 255, 255], [128, 0, 0, 0]]) {
      using hostile = await dial(path);
      await writeAll(hostile, Uint8Array.of(...length, 1, 2, 3));
      await hungUp(hostile);
      errors++;
      await until("it is noticed", () => device.statistics().protocolErrors === errors && !device.connected);
    }
    using good = await dial(path);
    await asksAndIsAnswered(good);
  });
});

Deno.test("frames may come byte by byte, be too short, and be as long as QEMU's longest", async () => {
  await withStream(async (path, device) => {
    using qemu = await dial(path);
    await asksAndIsAnswered(qemu, async (bytes) => {
      for (const byte of bytes) {
        await qemu.write(Uint8Array.of(byte));
        await new Promise((resolve) => setTimeout(resolve, 0));
      }
    });
    const short = new Uint8Array(2000 * 5);
    for (let at = 3; at < short.length; at += 5) short[at] = 1;
    await writeAll(qemu, short);
    const longest = new Uint8Array(4 + 69_632);
    new DataView(longest.buffer).setUint32(0, 69_632);
    for (let i = 0; i < 10; i++) await writeAll(qemu, longest);
    await asksAndIsAnswered(qemu);
    const { rxShort, rxFrames, protocolErrors } = device.statistics();
    assertEquals([rxShort, rxFrames, protocolErrors], [2000, 12, 0]);
  });
});

Deno.test("random bytes never do more than end the connection", async () => {
  await withStream(async (path, device) => {
    for (let round = 0; round < 30; round++) {
      await until("the last one is gone", () => !device.connected);
      using hostile = await dial(path);
      const bytes = crypto.getRandomValues(new Uint8Array(1 + round * 97));
      // Half of them begin like frames.
      if (round % 2 === 0) bytes.fill(0, 0, 3);
      await writeAll(hostile, bytes).catch(() => {});
    }
    await until("the last one is gone", () => !device.connected);
    using good = await dial(path);
    await asksAndIsAnswered(good);
  });
});

Deno.test("a machine that stops reading holds a bounded number of frames, and gets them when it reads again", async () => {
  await withStream(async (path, device, stack) => {
    using qemu = await dial(path);
    await asksAndIsAnswered(qemu);
    using socket = stack.listenDatagram({ port: 9 });
    const to = { transport: "udp", hostname: "10.0.2.15", port: 9 } as const;
    // Sends don't resolve any more once nothing is taken; those that wait are settled when the socket is closed or there is room.
    let sent = 0;
    const bytes = new Uint8Array(1400);
    const flood = (async () => {
      for (; sent < 2000; sent++) await socket.send(bytes, to);
    })();
    await until("it is full", () => device.statistics().txFull > 0);
    const stuck = device.statistics().txFrames;
    await new Promise((resolve) => setTimeout(resolve, 50));
    assert(device.statistics().txFrames - stuck < 200, "nothing moves while nobody reads");
    let frames = 0;
    while (frames < 2000) {
      const frame = await readFrame(qemu);
      if (frame.length === 1442) frames++;
    }
    await flood;
    assertEquals(sent, 2000);
  });
});

Deno.test("a machine that goes in the middle of a frame, or while frames wait for it, leaves nothing to the next one", async () => {
  await withStream(async (path, device, stack) => {
    {
      using first = await dial(path);
      await writeAll(first, question().subarray(0, 20));
      await asksAndIsAnswered(first, (bytes) => writeAll(first, bytes.subarray(20)));
      using socket = stack.listenDatagram({ port: 9 });
      const to = { transport: "udp", hostname: "10.0.2.15", port: 9 } as const;
      const secret = new Uint8Array(1000).fill(0x5e);
      const waiting: Promise<unknown>[] = [];
      for (let i = 0; i < 1000; i++) waiting.push(socket.send(secret, to).catch(() => {}));
      await until("it is full", () => device.statistics().txFull > 0);
      await writeAll(first, question().subarray(0, 20));
      first.close();
      await until("it is gone", () => !device.connected);
      socket.close();
      await Promise.all(waiting);
    }
    using second = await dial(path);
    await writeAll(second, question());
    for (;;) {
      const frame = await readFrame(second);
      assert(frame.length !== 1042, "a frame for the machine before");
      if (frame[12] === 8 && frame[13] === 6 && frame[21] === 2) break;
    }
  });
});

Deno.test("one machine at a time: another one is refused, and may come when the first has gone, many times", async () => {
  await withStream(async (path, device) => {
    for (let round = 0; round < 20; round++) {
      using first = await dial(path);
      await asksAndIsAnswered(first);
      using second = await dial(path);
      await hungUp(second);
      await asksAndIsAnswered(first);
      first.close();
      await until("it is gone", () => !device.connected);
    }
    assertEquals([device.statistics().connections, device.statistics().connectionsRefused], [20, 20]);
  });
});

Deno.test("a device that connects waits for QEMU, and comes back when it starts again", async () => {
  const path = socketPath();
  const device = QemuStreamDevice.open({ path, connect: true });
  await using _stack = new NetStack(device, OURS);
  for (let round = 0; round < 2; round++) {
    using qemu = Deno.listen({ transport: "unix", path });
    using conn = await qemu.accept();
    await asksAndIsAnswered(conn);
  }
  await until("it is gone", () => !device.connected);
  assertEquals(device.statistics().connections, 2);
});

Deno.test("datagrams of others, too short or too long ones change nothing", async () => {
  const [ours, theirs, foreign] = [socketPath(), socketPath(), socketPath()];
  const device = QemuDatagramDevice.open({ local: { path: ours }, remote: { path: theirs } });
  {
    await using _stack = new NetStack(device, OURS);
    using qemu = packets(theirs);
    using stranger = packets(foreign);
    const to = { transport: "unixpacket", path: ours } as const;
    const frame = question().subarray(4);
    await stranger.send(frame, to);
    for (const length of [1, 13, 2049, 60_000]) await qemu.send(new Uint8Array(length), to);
    for (let i = 0; i < 100; i++) await qemu.send(crypto.getRandomValues(new Uint8Array(14 + i)), to);
    await qemu.send(frame, to);
    for (;;) {
      const [reply] = await qemu.receive();
      if (reply[12] === 8 && reply[13] === 6 && reply[21] === 2) break;
    }
    const { rxForeign, rxBadLength, rxFrames } = device.statistics();
    assertEquals([rxForeign, rxBadLength, rxFrames], [1, 4, 101]);
  }
  for (const path of [theirs, foreign]) Deno.removeSync(path);
});

Deno.test("a machine that isn't there costs datagrams, and nothing else; it may come later", async () => {
  const [ours, theirs] = [socketPath(), socketPath()];
  const device = QemuDatagramDevice.open({ local: { path: ours }, remote: { path: theirs } });
  {
    await using stack = new NetStack(device, OURS);
    using socket = stack.listenDatagram({ port: 9, broadcast: true });
    for (let i = 0; i < 10; i++) await socket.send(new Uint8Array(10), { transport: "udp", hostname: "10.0.2.255", port: 9 });
    await until("they are lost", () => device.statistics().txErrors >= 10);
    using qemu = packets(theirs);
    await socket.send(new Uint8Array(10), { transport: "udp", hostname: "10.0.2.255", port: 9 });
    assertEquals((await qemu.receive())[0].length, 52);
  }
  Deno.removeSync(theirs);
});

Deno.test("impossible options are refused before anything is opened", () => {
  const path = socketPath();
  for (const bad of [null, {}, { path, mtu: 67 }, { path, mtu: 65_536 }, { path, mac: "x" }]) {
    assertThrows(() => QemuStreamDevice.open(bad as never), Error);
  }
  const local = { path };
  for (
    const bad of [{ local }, { local, remote: {} }, { local, remote: local, mtu: 9000 }, {
      local,
      remote: { hostname: "localhost", port: 1 },
    }]
  ) {
    assertThrows(() => QemuDatagramDevice.open(bad as never), Error);
  }
  assertThrows(() => Deno.statSync(path), Deno.errors.NotFound);
});
