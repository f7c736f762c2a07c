/** How connections with the real kernel live and end: Fast Open, resets, half and simultaneous closes, closed windows. */
import { assert, assertEquals, assertGreaterOrEqual, assertRejects } from "@std/assert";
import { delay } from "@std/async/delay";
import { faults, type FaultyDevice } from "../../drivers/faults.ts";
import { lacksKernel, lacksSysctl, long, run } from "../testing/namespace.ts";
import { exchange, KERNEL, MiB, Oracle, OURS, sysctl, transfer, transferPaused } from "../testing/oracle.ts";
import { Python } from "../testing/python.ts";
import { within } from "../testing/service.ts";

const noPython = lacksKernel(["python3"], "python3");
const encode = (text: string) => new TextEncoder().encode(text);

async function readText(conn: Deno.Conn): Promise<string> {
  let text = "";
  const buffer = new Uint8Array(65_536);
  for (let n = await conn.read(buffer); n !== null; n = await conn.read(buffer)) {
    text += new TextDecoder().decode(buffer.subarray(0, n));
  }
  return text;
}

Deno.test({
  name: "Fast Open: Linux as client asks for our cookie, then its data comes with the SYN",
  ignore: noPython || lacksSysctl(),
  async fn() {
    //= rfc7413#4.2.2 type=test
    // If the cookie is valid, the server ... passes the data to the application
    using _ = sysctl({ tcp_fastopen: 1 });
    await using oracle = new Oracle({ tcp: { fastOpen: true } });
    using listener = oracle.stack.listen({ port: 7 });
    await using python = new Python(`
for word in (b"one", b"two", b"three"):
    s = socket(AF_INET, SOCK_STREAM)
    s.sendto(word, MSG_FASTOPEN, ("${OURS}", 7))
    s.shutdown(SHUT_WR)
    say(drain(s).decode())
    hear()
`);
    for (const [i, word] of ["one", "two", "three"].entries()) {
      using conn = await within(20, "a connection", listener.accept());
      assertEquals(await readText(conn), word);
      await conn.write(encode(`got ${word}`));
      await conn.closeWrite();
      assertEquals(await python.line(), `got ${word}`);
      assertEquals(oracle.stack.statistics.tcp.fastOpens, i);
      await python.say("next");
    }
    await python.end();
  },
});

Deno.test({
  name: "Fast Open: Linux as server gives its cookie, then takes data in our SYN; with the feature off it comes behind",
  ignore: noPython || lacksSysctl(),
  async fn() {
    for (const [enabled, taken] of [[2, 2], [0, 0]]) {
      using _ = sysctl({ tcp_fastopen: enabled });
      await using oracle = new Oracle();
      await using python = new Python(`
l = socket(AF_INET, SOCK_STREAM)
l.bind(("${KERNEL}", 0))
l.setsockopt(IPPROTO_TCP, TCP_FASTOPEN, 8)
l.listen(8)
say(l.getsockname()[1])
for i in range(3):
    s, _ = l.accept()
    s.sendall(b"got " + drain(s))
    s.close()
`);
      const port = Number(await python.line());
      for (const word of ["one", "two", "three"]) {
        using conn = await oracle.stack.connect({ hostname: KERNEL, port, initialData: encode(word) });
        await conn.closeWrite();
        assertEquals(await within(20, "the answer", readText(conn)), `got ${word}`);
      }
      assertEquals(oracle.stack.statistics.tcp.fastOpens, taken);
      await python.end();
    }
  },
});

Deno.test({
  name: "SYN cookies of Linux: ours connects to a kernel that keeps no state, with all options surviving",
  ignore: lacksSysctl(),
  async fn() {
    using _ = sysctl({ tcp_syncookies: 2 });
    await using oracle = new Oracle();
    const [ours, kernels] = await oracle.connect("ours");
    assert(ours.info.sack && ours.info.timestamps && ours.info.windowScale[0] > 0);
    await exchange(ours, kernels, 4 * MiB);
    ours.close();
    kernels.close();
  },
});

Deno.test({
  name: "urgent data from Linux stays in the stream, in its place (RFC 6093)",
  ignore: noPython,
  async fn() {
    await using oracle = new Oracle();
    using listener = oracle.stack.listen({ port: 7 });
    await using python = new Python(`
s = create_connection(("${OURS}", 7))
s.sendall(b"before ")
s.send(b"urgent!", MSG_OOB)
s.sendall(b" after")
s.shutdown(SHUT_WR)
say(drain(s))
`);
    using conn = await within(20, "a connection", listener.accept());
    assertEquals(await within(20, "the text", readText(conn)), "before urgent! after");
    await conn.closeWrite();
    await python.line();
  },
});

Deno.test({
  name: "RST: Linux with SO_LINGER 0 resets us, abort() resets Linux, and unread data resets either",
  ignore: noPython,
  async fn() {
    await using oracle = new Oracle();
    using listener = oracle.stack.listen({ port: 7 });
    await using python = new Python(`
s = create_connection(("${OURS}", 7))
s.setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
hear()
s.close()
s = create_connection(("${OURS}", 7))
say("connected") # a reset that is there before connect() returns is connect()'s
try: say(s.recv(10))
except ConnectionResetError: say("reset")
s = create_connection(("${OURS}", 7))
hear()
s.close() # with unread data
say("closed")
`);
    const reset = await within(20, "a connection", listener.accept());
    await python.say("close");
    await assertRejects(() => within(20, "the reset", reset.read(new Uint8Array(1))), Deno.errors.ConnectionReset);
    reset.close();
    const aborted = await within(20, "a connection", listener.accept());
    assertEquals(await python.line(), "connected");
    aborted.abort();
    assertEquals(await python.line(), "reset");
    const unread = await within(20, "a connection", listener.accept());
    await unread.write(encode("nobody reads this"));
    await python.say("close");
    await python.line();
    await assertRejects(() => within(20, "the reset", unread.read(new Uint8Array(1))), Deno.errors.ConnectionReset);
    unread.close();
    assertEquals(oracle.stack.connections(), []);
  },
});

Deno.test({
  name: "a half close, each way: data goes on against the FIN",
  ignore: lacksKernel(),
  async fn() {
    await using oracle = new Oracle();
    for (const opener of ["ours", "kernel"] as const) {
      for (const first of ["ours", "kernel"] as const) {
        const [ours, kernels] = await oracle.connect(opener);
        if (first === "ours") {
          await transfer(ours, kernels, MiB);
          for (let n = 0; n < 400 && ours.info.state === "FIN-WAIT-1"; n++) await delay(5); // its acknowledgment is under way
          assertEquals(ours.info.state, "FIN-WAIT-2");
          await transfer(kernels, ours, 4 * MiB);
        } else {
          await transfer(kernels, ours, MiB);
          assertEquals(ours.info.state, "CLOSE-WAIT");
          await transfer(ours, kernels, 4 * MiB);
        }
        ours.close();
        kernels.close();
      }
    }
  },
});

Deno.test({
  name: "a simultaneous close, fifty times: FIN crosses FIN, no reset, nothing but TIME-WAIT is left",
  ignore: lacksKernel(),
  async fn() {
    await using oracle = new Oracle();
    let crossed = 0;
    for (let i = 0; i < 50; i++) {
      const [ours, kernels] = await oracle.connect("ours");
      // The kernel's FIN waits in the TAP until we have sent ours.
      const both = [kernels.closeWrite(), ours.closeWrite()];
      await Promise.all(both);
      await Promise.all([readText(ours), readText(kernels)]);
      for (let n = 0; n < 100 && ours.info.state === "CLOSING"; n++) await delay(5);
      if (ours.info.state === "TIME-WAIT") crossed++;
      ours.close();
      kernels.close();
    }
    const { resetsSent, resetsReceived } = oracle.stack.statistics.tcp;
    assertEquals({ resetsSent, resetsReceived, crossed }, { resetsSent: 0, resetsReceived: 0, crossed: 50 });
    assertEquals(oracle.stack.connections().filter(({ state }) => state !== "TIME-WAIT"), []);
  },
});

Deno.test({
  name: "a simultaneous open with Linux: SYN crosses SYN on a slow link, and data goes both ways",
  ignore: noPython,
  async fn() {
    await using oracle = new Oracle({ between: (tap) => faults(tap, { delay: 150 }) });
    await oracle.stack.ping(KERNEL); // nobody has to ask for addresses any more
    await using python = new Python(`
s = socket(AF_INET, SOCK_STREAM)
s.bind(("${KERNEL}", 5001))
say("ready")
hear()
s.connect(("${OURS}", 5002))
s.sendall(b"hello from Linux")
s.shutdown(SHUT_WR)
say(drain(s).decode())
`);
    await python.line();
    const connecting = oracle.stack.connect({ hostname: KERNEL, port: 5001, localPort: 5002 });
    await python.say("go");
    using conn = await within(20, "the connection", connecting);
    await conn.write(encode("hello from Deno"));
    await conn.closeWrite();
    assertEquals(await within(20, "the text", readText(conn)), "hello from Linux");
    assertEquals(await python.line(), "hello from Deno");
    assertEquals(oracle.stack.statistics.tcp.resetsSent, 0);
    assertEquals(oracle.stack.statistics.tcp.passiveOpens, 0);
  },
});

Deno.test({
  name: "keep-alive: each side's probes are answered by the other, and ours give up on a kernel that is gone",
  ignore: noPython || lacksSysctl(),
  async fn() {
    // Linux answers at most one segment in 500 ms that is out of its window, probes among them, unless it is told otherwise.
    using _ = sysctl({ tcp_invalid_ratelimit: 0 });
    let bad!: FaultyDevice;
    await using oracle = new Oracle({ between: (tap) => bad = faults(tap) });
    using listener = oracle.stack.listen({ port: 7 });
    await using python = new Python(`
s = create_connection(("${OURS}", 7))
s.setsockopt(SOL_SOCKET, SO_KEEPALIVE, 1)
s.setsockopt(IPPROTO_TCP, TCP_KEEPIDLE, 1)
s.setsockopt(IPPROTO_TCP, TCP_KEEPINTVL, 1)
s.setsockopt(IPPROTO_TCP, TCP_KEEPCNT, 1)
hear()
s.sendall(b"still here")
hear()
`);
    using conn = await within(20, "a connection", listener.accept());
    const before = conn.info.segmentsReceived;
    for (let n = 0; n < 400 && conn.info.segmentsReceived < before + 3; n++) await delay(25);
    assertGreaterOrEqual(conn.info.segmentsReceived, before + 3, "probes of Linux");
    await python.say("speak");
    assertEquals(await conn.read(new Uint8Array(100)), 10);
    conn.setKeepAlive(true, 100, 50, 3);
    const { tcp } = oracle.stack.statistics;
    for (let n = 0; n < 400 && oracle.stack.statistics.tcp.keepAliveProbes < tcp.keepAliveProbes + 5; n++) await delay(10);
    assertEquals(conn.info.state, "ESTABLISHED", "Linux has answered our probes");
    bad.down();
    await assertRejects(() => within(20, "giving up", conn.read(new Uint8Array(1))), Deno.errors.TimedOut);
    assertGreaterOrEqual(oracle.stack.statistics.tcp.keepAliveProbes, tcp.keepAliveProbes + 5);
  },
});

Deno.test({
  name: "a window that stays closed: Linux's reader sleeps and ours does, each sender probes, and everything arrives",
  ignore: lacksKernel(),
  async fn() {
    const sleep = long ? 30_000 : 2500;
    await using oracle = new Oracle();
    for (const opener of ["ours", "kernel"] as const) {
      const pairs = await Promise.all([oracle.connect(opener), oracle.connect(opener)]);
      const [[out, outPeer], [into, intoPeer]] = pairs;
      const before = oracle.stack.statistics.tcp.zeroWindowProbes;
      await Promise.all([
        transferPaused(out, outPeer, 24 * MiB, sleep),
        transferPaused(intoPeer, into, 24 * MiB, sleep),
      ]);
      assertGreaterOrEqual(oracle.stack.statistics.tcp.zeroWindowProbes, before + 2, "our probes");
      assertEquals([out.info.timeouts, into.info.outOfOrder], [0, 0]);
      for (const pair of pairs) for (const conn of pair) conn.close();
    }
  },
});

Deno.test({
  name: "Linux without a device in between: the link goes down for a while, and a transfer goes on",
  ignore: lacksKernel(["ip"], "iproute2"),
  async fn() {
    await using oracle = new Oracle();
    const [ours, kernels] = await oracle.connect("ours");
    const both = exchange(ours, kernels, (long ? 1024 : 256) * MiB, 120);
    await delay(30);
    await run("ip", ["link", "set", oracle.name, "down"]);
    await delay(500);
    await run("ip", ["link", "set", oracle.name, "up"]);
    await both;
    ours.close();
    kernels.close();
  },
});
