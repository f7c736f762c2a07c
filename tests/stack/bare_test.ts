/** A host driven step by step, packet by packet, on manual time: the classical conversations, as packetdrill has them. */
import { assert, assertEquals, assertThrows } from "@std/assert";
import { PacketDevice } from "../../drivers/packets.ts";
import { BareStack } from "../../stack/bare/stack.ts";
import type { TcpOptionName } from "../../stack/bare/options.ts";
import * as codes from "../../stack/codes.ts";
import { HOST, HOST_PORT, PEER, PEER_PORT, Script, streamBytes } from "../testing/script.ts";

const MSS_1000 = [2, 4, 3, 232];

Deno.test("the three-way handshake from outside: every step is seen, none waits", () => {
  using s = new Script();
  const listener = s.stack.tcp();
  assertEquals(listener.accept(), codes.EINVAL);
  assertEquals(listener.bind(HOST, HOST_PORT), 0);
  assertEquals(listener.listen(8), 0);
  assertEquals([listener.state, listener.accept(), listener.poll()], ["LISTEN", codes.EAGAIN, 0]);
  s.in("S 0", MSS_1000);
  s.out("SA 0 ack 1");
  assertEquals(listener.accept(), codes.EAGAIN);
  s.in("A 1 ack 1");
  assertEquals([listener.poll(), listener.receiveQueued], [1, 1]);
  const socket = listener.accept();
  assert(typeof socket !== "number");
  assertEquals([socket.state, socket.remoteAddress, socket.remotePort], ["ESTABLISHED", PEER, PEER_PORT]);
  assertEquals(socket.receive(new Uint8Array(9)), codes.EAGAIN);
  s.in("PA 1:101 ack 1");
  assertEquals(socket.poll(), 1 | 4);
  s.read(socket, 1, 100);
  s.outAfter(40, "A 1 ack 101");
});

Deno.test("the three-way handshake from here: EINPROGRESS, EALREADY, 0, EISCONN, and the SYN again after 1, 3, 7 s", () => {
  //= rfc6298#2.1 type=test
  // Until a round-trip time (RTT) measurement has been made ... the sender SHOULD set RTO <- 1 second
  using s = new Script();
  const socket = s.stack.tcp();
  assertEquals(socket.bind("0.0.0.0", HOST_PORT), 0);
  assertEquals(socket.connect(PEER, PEER_PORT), codes.EINPROGRESS);
  s.out("S 0");
  assertEquals([socket.state, socket.poll(), socket.connect(PEER, PEER_PORT)], ["SYN-SENT", 0, codes.EALREADY]);
  assertEquals([socket.send(new Uint8Array(5)), socket.receive(new Uint8Array(5))], [codes.EAGAIN, codes.EAGAIN]);
  s.outAfter(1000, "S 0");
  s.outAfter(2000, "S 0");
  s.outAfter(4000, "S 0");
  s.in("SA 0 ack 1", MSS_1000);
  s.out("A 1 ack 1");
  assertEquals([socket.state, socket.poll() & 4], ["ESTABLISHED", 4]);
  assertEquals([socket.connect(PEER, PEER_PORT), socket.connect(PEER, PEER_PORT)], [0, codes.EISCONN]);
});

Deno.test("nobody listens: ECONNREFUSED once, as SO_ERROR or by a call, and then the socket may try again", () => {
  for (const how of ["SO_ERROR", "connect"]) {
    using s = new Script();
    const socket = s.stack.tcp();
    socket.bind(HOST, HOST_PORT);
    socket.connect(PEER, PEER_PORT);
    s.out("S 0");
    s.in("RA 0 ack 1");
    assertEquals([socket.state, socket.poll() & 8], ["CLOSED", 8]);
    const told = how === "SO_ERROR" ? socket.getOption("SO_ERROR") : socket.connect(PEER, PEER_PORT);
    assertEquals(told, codes.ECONNREFUSED);
    assertEquals([socket.takeError(), socket.send(new Uint8Array(1)), socket.receive(new Uint8Array(1))], [0, codes.EPIPE, 0]);
    s.ports(HOST_PORT, PEER_PORT);
    assertEquals(socket.connect(PEER, PEER_PORT), codes.EINPROGRESS);
    s.out("S 0");
  }
});

Deno.test("a simultaneous open: SYN crosses SYN, and both are connected", () => {
  //= rfc9293#3.5 type=test
  // A TCP implementation MUST support simultaneous open attempts (MUST-10).
  using s = new Script();
  const socket = s.stack.tcp();
  socket.bind(HOST, HOST_PORT);
  socket.connect(PEER, PEER_PORT);
  s.out("S 0");
  s.in("S 0", MSS_1000);
  s.out("SA 0 ack 1");
  assertEquals(socket.state, "SYN-RECEIVED");
  s.in("SA 0 ack 1", MSS_1000);
  assertEquals(socket.state, "ESTABLISHED");
  assertEquals(s.seen().filter((line) => line !== "A 1 ack 1"), []);
});

Deno.test("a simultaneous close: FIN crosses FIN, CLOSING, TIME-WAIT for 2 MSL", () => {
  using s = new Script();
  const socket = s.accepted();
  assertEquals(socket.shutdown("write"), 0);
  s.out("FA 1 ack 1");
  assertEquals(socket.state, "FIN-WAIT-1");
  s.in("FA 1 ack 1");
  s.out("A 2 ack 2");
  assertEquals([socket.state, socket.receive(new Uint8Array(1))], ["CLOSING", 0]);
  s.in("A 2 ack 2");
  assertEquals(socket.state, "TIME-WAIT");
  s.stack.advance(s.stack.now + 59_999);
  assertEquals(socket.state, "TIME-WAIT");
  s.stack.advance(s.stack.now + 1);
  assertEquals([socket.state, s.stack.tcpStatistics.connections, s.stack.nextDeadline()], ["CLOSED", 0, Infinity]);
});

Deno.test("a half close each way: data goes on against the FIN", () => {
  using s = new Script();
  const socket = s.accepted();
  assertEquals([socket.shutdown("write"), socket.send(new Uint8Array(1))], [0, codes.EPIPE]);
  s.out("FA 1 ack 1");
  s.in("A 1 ack 2");
  assertEquals(socket.state, "FIN-WAIT-2");
  s.in("PA 1:501 ack 2");
  s.read(socket, 1, 500);
  s.outAfter(40, "A 2 ack 501");
  s.in("FA 501 ack 2");
  s.out("A 2 ack 502");
  assertEquals(socket.state, "TIME-WAIT");

  using t = new Script();
  const other = t.accepted();
  t.in("FA 1 ack 1");
  t.out("A 1 ack 2");
  assertEquals([other.state, other.receive(new Uint8Array(1))], ["CLOSE-WAIT", 0]);
  t.write(other, 1, 300);
  t.out("PA 1:301 ack 2");
  t.in("A 2 ack 301");
  assertEquals(other.close(), 0);
  t.out("FA 301 ack 2");
  assertEquals(other.state, "LAST-ACK");
  t.in("A 2 ack 302");
  assertEquals([other.state, t.stack.tcpStatistics.connections], ["CLOSED", 0]);
});

Deno.test("RST: at RCV.NXT it ends the connection, elsewhere in the window it is challenged, beside it nothing", () => {
  //= rfc5961#3.2 type=test
  // 3) If the RST bit is set and the sequence number does not exactly match the next expected sequence value, yet is within the
  // current receive window (RCV.NXT < SEG.SEQ < RCV.NXT+RCV.WND), TCP MUST send an acknowledgment (challenge ACK):
  using s = new Script();
  const socket = s.accepted();
  s.in("R 2");
  s.out("A 1 ack 1");
  s.in("R 100000");
  s.out();
  assertEquals(socket.state, "ESTABLISHED");
  s.in("R 1");
  s.out();
  assertEquals(socket.state, "CLOSED");
  assertEquals([socket.send(new Uint8Array(1)), socket.send(new Uint8Array(1))], [codes.ECONNRESET, codes.EPIPE]);
});

Deno.test("the zero window: probes at growing distances, each answered, and data when it opens", () => {
  //= rfc9293#3.8.6.1 type=test
  // The sending TCP peer must regularly transmit at least one octet of new data (if available), or retransmit to the
  // receiving TCP peer even if the send window is zero, in order to "probe" the window.
  using s = new Script();
  const socket = s.accepted();
  s.in("A 1 ack 1 win 0");
  s.write(socket, 1, 500);
  s.out();
  const times: number[] = [];
  while (times.length < 4) {
    const at = s.stack.nextDeadline();
    s.stack.advance(at);
    if (s.seen().length > 0) {
      times.push(at);
      s.in("A 1 ack 1 win 0");
    }
  }
  const gaps = times.slice(1).map((at, i) => at - times[i]);
  assert(gaps[1] >= 1.9 * gaps[0] && gaps[2] >= 1.9 * gaps[1], `${gaps}`);
  s.in("A 1 ack 1 win 5000");
  s.out("PA 1:2 ack 1", "PA 2:501 ack 1"); // the probe's byte again, and the rest without waiting for its acknowledgment
});

Deno.test("our own window closes when nobody reads, probes are answered, and opens by one update", () => {
  using s = new Script({ tcp: { receiveBufferMax: 4000 } });
  const socket = s.accepted();
  for (let at = 1; at < 4001; at += 1000) s.in(`PA ${at}:${at + 1000} ack 1`);
  s.stack.advance(s.stack.now + 40);
  assertEquals(s.seen(true).at(-1), "A 1 ack 4001 win 0");
  s.in("A 4000 ack 1");
  assertEquals(s.seen(true), ["A 1 ack 4001 win 0"]);
  s.read(socket, 1, 4000);
  assertEquals(s.seen(true), ["A 1 ack 4001 win 4000"]);
});

Deno.test("fast retransmit: three duplicate acknowledgments bring the first segment at once, without the timer", () => {
  //= rfc5681#3.2 type=test
  // After receiving 3 duplicate ACKs, TCP performs a retransmission of what appears to be the missing segment, without
  // waiting for the retransmission timer to expire.
  using s = new Script();
  const socket = s.accepted();
  s.stack.advance(100);
  s.write(socket, 1, 6000);
  s.out(...[0, 1, 2, 3, 4].map((i) => `A ${1 + i * 1000}:${1001 + i * 1000} ack 1`), "PA 5001:6001 ack 1");
  s.stack.advance(200);
  s.in("A 1 ack 1001");
  s.out();
  for (let i = 0; i < 3; i++) s.in("A 1 ack 1001");
  s.out("PA 1001:2001 ack 1");
  s.in("A 1 ack 6001");
  s.out();
  const { timeouts, fastRecoveries, retransmissions } = socket.info()!;
  assertEquals({ timeouts, fastRecoveries, retransmissions }, { timeouts: 0, fastRecoveries: 1, retransmissions: 1 });
});

Deno.test("close: SO_LINGER 0 resets, unread data resets, else a FIN; a second close is EBADF", () => {
  using s = new Script();
  const lingering = s.accepted();
  assertEquals(lingering.setOption("SO_LINGER", 0), 0);
  assertEquals(lingering.close(), 0);
  s.out("RA 1 ack 1");
  assertEquals([lingering.state, lingering.close(), lingering.send(new Uint8Array(1))], ["CLOSED", codes.EBADF, codes.EBADF]);
  using t = new Script();
  const unread = t.accepted();
  t.in("PA 1:101 ack 1");
  unread.close();
  assertEquals(t.seen().at(-1)![0], "R");
});

Deno.test("Fast Open: connect sends nothing until the first send, whose data goes with the SYN", () => {
  using s = new Script();
  const cookie = [34, 10, 1, 2, 3, 4, 5, 6, 7, 8];
  for (const [port, line] of [[5001, "S 0"], [5002, "S 0:200"]] as const) {
    s.ports(port, PEER_PORT);
    const socket = s.stack.tcp();
    assertEquals([socket.setOption("TCP_FASTOPEN_CONNECT", 1), socket.bind(HOST, port)], [0, 0]);
    assertEquals(socket.connect(PEER, PEER_PORT), 0);
    s.out();
    assertEquals(socket.send(streamBytes(port === 5001 ? 1 : 0, 200)), 200);
    s.out(line);
    s.in(port === 5001 ? "SA 0 ack 1" : "SA 0 ack 201", [2, 4, 3, 232, ...cookie]);
    if (port === 5001) s.out("PA 1:201 ack 1");
    else s.out("A 201 ack 1");
    socket.setOption("SO_LINGER", 0);
    socket.close();
    s.seen();
  }
});

Deno.test("options: Linux's names and units, checked before anything changes, and what they do is seen", () => {
  using s = new Script();
  const socket = s.accepted();
  const values: [TcpOptionName, number | string, number | string][] = [
    ["TCP_NODELAY", 1, "x"],
    ["SO_KEEPALIVE", 1, "x"],
    ["TCP_KEEPIDLE", 5, 0],
    ["TCP_KEEPINTVL", 2, 0],
    ["TCP_KEEPCNT", 3, 128],
    ["TCP_USER_TIMEOUT", 30_000, -1],
    ["TCP_CONGESTION", "reno", "bbr"],
    ["IP_TTL", 9, 256],
    ["IP_TOS", 0x10, 256],
    ["SO_RCVBUF", 30_000, 0],
    ["SO_SNDBUF", 30_000, 0],
    ["SO_LINGER", 5, -2],
    ["SO_REUSEADDR", 1, 0.5],
  ];
  for (const [name, good, bad] of values) {
    assertEquals([name, socket.setOption(name, good)], [name, 0]);
    if (bad !== "x") assertEquals([name, socket.setOption(name, bad)], [name, codes.EINVAL]);
    assertEquals([name, socket.getOption(name)], [name, good]);
  }
  assertEquals(socket.setOption("TCP_FASTOPEN", 1), codes.EINVAL); // settled by the SYN
  assertEquals(socket.setOption("TCP_NONSENSE" as TcpOptionName, 1), codes.ENOPROTOOPT);
  assertEquals(socket.setOption("TCP_MAXSEG", 100), 0);
  assertEquals([socket.getOption("TCP_MAXSEG"), socket.info()!.congestionControl], [100, "reno"]);
  s.write(socket, 1, 100);
  const [packet] = s.device.take();
  //= rfc9293#3.9.1.9 type=test
  // The application layer MUST be able to specify the Differentiated Services field for segments that are sent on a connection
  // (MUST-48).
  //= rfc9293#3.9.1.9 type=test
  // It is not required, but the application SHOULD be able to change the Differentiated Services field during the connection
  // lifetime (SHLD-21).
  //= rfc9293#3.9.1.9 type=test
  // TCP implementations SHOULD pass the current Differentiated Services field value without change to the IP layer, when it sends
  // segments on the connection (SHLD-22).
  //= rfc9293#3.9.2 type=test
  // Time to Live (TTL): The TTL value used to send TCP segments MUST be configurable (MUST-49).
  assertEquals([packet[1], packet[8], packet.length], [0x10, 9, 140]);
  s.in("A 1 ack 101");
  s.outAfter(5000, "A 100 ack 1"); // keep-alive: after 5 s, every 2 s, three times
  s.outAfter(2000, "A 100 ack 1");
  s.outAfter(2000, "A 100 ack 1");
  s.stack.advance(s.stack.now + 2000);
  assertEquals([socket.state, socket.takeError()], ["CLOSED", codes.ETIMEDOUT]);
});

Deno.test("bind: an address of ours, a free port, once; SO_REUSEADDR shares a port that nobody listens on", () => {
  using s = new Script();
  const [a, b, c] = [s.stack.tcp(), s.stack.tcp(), s.stack.tcp()];
  assertEquals(a.bind("192.0.2.77", 80), codes.EADDRNOTAVAIL);
  assertEquals([a.bind("nonsense", 80), a.bind(HOST, 65_536), a.bind(HOST, 1.5)], [codes.EINVAL, codes.EINVAL, codes.EINVAL]);
  assertEquals([a.bind(HOST, 80), a.bind(HOST, 81)], [0, codes.EINVAL]);
  assertEquals([b.bind("0.0.0.0", 80), b.bind("0.0.0.0", 0)], [codes.EADDRINUSE, 0]);
  assert(b.localPort >= 32_768);
  assertEquals([a.listen(1), a.listen(9), a.connect(PEER, 80)], [0, 0, codes.EISCONN]);
  c.setOption("SO_REUSEADDR", 1);
  assertEquals(c.bind(HOST, 80), codes.EADDRINUSE);
  a.close();
  assertEquals([c.bind(HOST, 80), c.localPort], [0, 80]);
  assertEquals([c.connect("198.51.100.1", 80), c.shutdown("both")], [codes.ENETUNREACH, codes.ENOTCONN]);
});

Deno.test("UDP step by step: bind, connect, send, receive with its source, options, a refused port as a pending error", () => {
  const [left, right] = [new PacketDevice(), new PacketDevice()];
  using a = new BareStack(left, { address: "192.0.2.1/24" });
  using b = new BareStack(right, { address: "192.0.2.2/24" });
  const carry = () => {
    for (let i = 0; i < 3; i++) {
      left.take().forEach((packet) => right.inject(packet));
      b.deliver();
      right.take().forEach((packet) => left.inject(packet));
      a.deliver();
    }
  };
  const server = b.udp();
  assertEquals([server.bind("192.0.2.2", 53), b.udp().bind("0.0.0.0", 53)], [0, codes.EADDRINUSE]);
  const client = a.udp();
  assertEquals(client.send(new Uint8Array(3)), codes.ENOTCONN);
  assertEquals([client.connect("192.0.2.2", 53), client.localAddress], [0, "192.0.2.1"]);
  assertEquals(client.send(Uint8Array.of(1, 2, 3)), 3);
  carry();
  const into = new Uint8Array(2);
  assertEquals([server.pending, server.receive(into), into], [1, 2, Uint8Array.of(1, 2)]);
  assertEquals(server.source, { address: "192.0.2.1", port: client.localPort, length: 3 });
  assertEquals(server.receive(into), codes.EAGAIN);
  assertEquals([client.setOption("IP_TTL", 0), client.setOption("IP_TTL", 7), client.getOption("IP_TTL")], [codes.EINVAL, 0, 7]);
  assertEquals([server.close(), server.close()], [0, codes.EBADF]);
  client.send(Uint8Array.of(4));
  assertEquals(left.take().map((packet) => right.inject(packet) && packet[8]), [7]);
  carry();
  assertEquals([client.getOption("SO_ERROR"), client.takeError()], [codes.ECONNREFUSED, 0]);
  assertEquals([client.shutdown("write"), client.send(new Uint8Array(1))], [0, codes.EPIPE]);
});

Deno.test("wrong options of a stack and of a device throw before anything is touched", () => {
  const device = new PacketDevice();
  assertThrows(
    () => new BareStack(device, { address: "192.0.2.1/24", tcp: { ttl: 300 } }),
    RangeError,
    "tcp.ttl must be 1 to 255",
  );
  assertThrows(() => new BareStack(device, { address: "300.0.2.1/24" }), TypeError);
  assertThrows(() => new BareStack(device, { address: "192.0.2.1/24", gateway: "x" }), TypeError, "gateway");
  assertThrows(() => new PacketDevice({ mtu: 67 }), RangeError, "mtu");
  using stack = new BareStack(device, { address: "192.0.2.1/24", now: 5 });
  assertEquals([stack.now, stack.advance(4), stack.advance(NaN), stack.now], [5, codes.EINVAL, codes.EINVAL, 5]);
});

Deno.test("MTU 68: an acknowledgment with timestamps has room for one SACK block, and no more is written", () => {
  // Linux sends fragments there, and its receiver never sees an acknowledgment that our own IP refuses as too long.
  using s = new Script({ mtu: 68, tcp: { timestamps: true, sack: true } });
  const stamp = [1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0];
  const listener = s.listener();
  s.in("S 0", [2, 4, 0, 28, 1, 1, 4, 2, ...stamp]);
  s.out("SA 0 ack 1");
  s.in("A 1 ack 1", stamp);
  assert(typeof listener.accept() !== "number");
  s.device.take();
  for (const line of ["A 101:105 ack 1", "A 201:205 ack 1", "A 301:305 ack 1", "A 301:305 ack 1"]) s.in(line, stamp);
  const acks = s.device.take();
  assertEquals(acks.map((ack) => [ack.length, ack[20 + 20 + 12 + 2], ack[20 + 20 + 12 + 3]]), Array(4).fill([64, 5, 10]));
  assertEquals(s.stack.ipStatistics.ip.fragmentsFailed, 0);
});
