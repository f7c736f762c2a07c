// What is wrong in a call is refused with a TypeError or RangeError that says what, before anything has changed.
import { assert, assertEquals, assertStringIncludes } from "@std/assert";
import { cable, type Device, NetStack, pcapTap, serve } from "../../../mod.ts";
import { outcome } from "./worlds.ts";

/** Whatever a caller without types might give. */
// deno-lint-ignore no-explicit-any
type Anything = any;
/** Arguments of a call, and a word of what must be said about them. */
type Wrong = [Anything[], string];

/** Everything of a stack that a refused call must not have changed. */
function picture(stack: NetStack): unknown {
  const { devices, tcp, udp } = stack.statistics;
  const sockets = [tcp.connections, tcp.listeners, tcp.activeOpens, tcp.segmentsSent, udp.sent];
  return [devices.map(({ name }) => name), sockets, stack.addresses, stack.routes, stack.neighbors];
}

async function refuses(name: string, call: (...args: Anything[]) => unknown, table: Wrong[], unchanged: () => unknown) {
  for (const [args, said] of table) {
    const what = `${name}(${args.map((arg) => Deno.inspect(arg)).join(", ")})`;
    const before = unchanged();
    let error: unknown = null;
    try {
      await call(...args);
    } catch (thrown) {
      error = thrown;
    }
    assert(error instanceof TypeError || error instanceof RangeError, `${what}: ${error}`);
    assertStringIncludes(error.message, said, what);
    assertEquals(unchanged(), before, `${what} has changed something`);
  }
}

const SOCKET_CALLS: Wrong[] = [
  [[null], "options must be an object: null"],
  [["10.0.0.1:7"], "options must be an object"],
  [[{ port: -1 }], "port (out of range): -1"],
  [[{ port: 65536 }], "port (out of range): 65536"],
  [[{ port: 1.5 }], "Invalid port: 1.5"],
  [[{ port: NaN }], "Invalid port: NaN"],
  [[{ port: "seven" }], "Invalid port: 'seven'"],
  [[{ port: "" }], "Invalid port: ''"],
  [[{ port: true }], "expected number"],
  [[{ port: 7, transport: "unix" }], "transport"],
];

const TCP_OPTIONS: Wrong[] = [
  [[{ ttl: 0 }], "ttl must be 1 to 255: 0"],
  [[{ ttl: 1.5 }], "ttl"],
  [[{ tos: 256 }], "tos"],
  [[{ noDelay: 1 }], "noDelay must be true or false"],
  [[{ keepAlive: "yes" }], "keepAlive"],
  [[{ keepAliveIdleMs: 0 }], "keepAliveIdleMs"],
  [[{ keepAliveCount: 128 }], "keepAliveCount"],
  [[{ userTimeoutMs: -1 }], "userTimeoutMs"],
  [[{ receiveBufferMax: 0 }], "receiveBufferMax"],
  [[{ sendBufferMax: Infinity }], "sendBufferMax"],
  [[{ maxSegmentSize: 65_496 }], "maxSegmentSize"],
  [[{ ecn: "perhaps" }], "ecn"],
  [[{ congestionControl: "vegas" }], "congestionControl"],
];

const UDP_OPTIONS: Wrong[] = [
  [[{ ttl: 0 }], "ttl must be 1 to 255: 0"],
  [[{ ttl: 300 }], "ttl"],
  [[{ multicastTtl: 256 }], "multicastTtl"],
  [[{ tos: -1 }], "tos"],
  [[{ receiveBufferMax: 0 }], "receiveBufferMax"],
  [[{ receiveQueueMax: NaN }], "receiveQueueMax"],
  [[{ broadcast: "x" }], "broadcast must be true or false"],
  [[{ reuseAddress: 1 }], "reuseAddress"],
  [[{ dontFragment: 1 }], "dontFragment"],
];

/** The same wrong options with what a call needs besides. */
function beside(needed: object, table: Wrong[]): Wrong[] {
  return table.map(([[options], said]) => [[{ ...needed, ...options }], said]);
}

Deno.test("sockets: every wrong argument is refused, and nothing has changed", async () => {
  const [left, right] = cable();
  using stack = new NetStack(left, { address: "10.0.0.1/24" });
  using _other = new NetStack(right, { address: "10.0.0.2/24" });
  const look = () => picture(stack);
  const peer = { port: 7, hostname: "10.0.0.2" };
  const signal: Wrong = [[{ ...peer, signal: 5 }], "AbortSignal"];
  await refuses("connect", (o) => stack.connect(o), [
    ...SOCKET_CALLS,
    signal,
    [[{}], "expected number"],
    [[{ port: 0 }], "port (out of range): 0"],
    [[{ ...peer, hostname: 5 }], "a name or an address"],
    [[{ ...peer, hostname: "a..b" }], "Not a domain name"],
    [[{ ...peer, localPort: 65536 }], "65536"],
    [[{ ...peer, localAddress: "nowhere" }], "localAddress"],
    [[{ ...peer, initialData: "text" }], "initialData"],
    [[{ ...peer, initialData: new Uint8Array(65_537) }], "65536"],
    ...beside(peer, TCP_OPTIONS),
  ], look);
  await refuses("listen", (o) => stack.listen(o), [
    ...SOCKET_CALLS,
    [[{ port: 7, hostname: "nowhere" }], "hostname"],
    [[{ port: 7, backlog: 0 }], "backlog"],
    [[{ port: 7, backlog: "5" }], "backlog"],
    [[{ port: 7, tcpBacklog: "5" }], "tcpBacklog must be a number"],
    ...beside({ port: 7 }, TCP_OPTIONS),
  ], look);
  await refuses("listenDatagram", (o) => stack.listenDatagram(o), [
    ...SOCKET_CALLS,
    [[{ port: 7, hostname: "nowhere" }], "hostname"],
    [[{ port: 7, loopback: 1 }], "loopback"],
    ...beside({ port: 7 }, UDP_OPTIONS),
  ], look);
  await refuses("connectDatagram", (o) => stack.connectDatagram(o), [
    ...SOCKET_CALLS,
    [[{}], "expected number"],
    [[{ port: 0, hostname: "10.0.0.2" }], "0"],
    [[{ port: 7 }], "a name or an address"],
    ...beside(peer, UDP_OPTIONS),
  ], look);
});

Deno.test("taken ports and addresses that aren't ours: Deno's errors, and nothing has changed", async () => {
  const [left] = cable();
  using stack = new NetStack(left, { address: "10.0.0.1/24" });
  using _listener = stack.listen({ port: 7 });
  using _socket = stack.listenDatagram({ port: 7 });
  const before = picture(stack);
  const table: [() => unknown, string][] = [
    [() => stack.listen({ port: 7 }), "AddrInUse EADDRINUSE"],
    [() => stack.listen({ port: 7, hostname: "10.0.0.1" }), "AddrInUse EADDRINUSE"],
    [() => stack.listenDatagram({ port: 7 }), "AddrInUse EADDRINUSE"],
    [() => stack.listen({ port: 8, hostname: "10.0.0.9" }), "AddrNotAvailable EADDRNOTAVAIL"],
    [() => stack.listen({ port: 8, hostname: "224.0.0.1" }), "AddrNotAvailable EADDRNOTAVAIL"],
    [() => stack.listenDatagram({ port: 8, hostname: "10.0.0.9" }), "AddrNotAvailable EADDRNOTAVAIL"],
    [() => stack.connect({ port: 8, hostname: "10.0.0.2", localAddress: "10.0.0.9" }), "AddrNotAvailable EADDRNOTAVAIL"],
    [() => stack.addAddress("10.0.0.1/24"), "AddrInUse EADDRINUSE"],
    [() => stack.addDevice(cable()[0], { address: "10.0.0.1/24" }), "AddrInUse EADDRINUSE"],
    [() => stack.addDevice(left), "Busy"],
  ];
  for (const [call, wanted] of table) {
    const got = await outcome(() => Promise.resolve().then(call) as Promise<string>);
    assert(got.startsWith(wanted), `${call}: ${got}`);
    assertEquals(picture(stack), before, String(call));
  }
});

//= rfc9293#3.9.2.3 type=test
// A TCP implementation MUST reject as an error a local OPEN call for an invalid remote IP address (e.g., a broadcast or multicast address)
Deno.test("a connection to a broadcast or multicast address is refused at once, as the kernel does", async () => {
  //= rfc9293#3.9.1.1 type=test
  // A TCP implementation MUST reject as an error a local OPEN call for an invalid remote IP address (e.g., a broadcast or
  // multicast address) (MUST-46).
  const [left] = cable();
  using stack = new NetStack(left, { address: "10.0.0.1/24" });
  for (const hostname of ["255.255.255.255", "10.0.0.255", "224.0.0.1"]) {
    assertEquals(await outcome(() => stack.connect({ hostname, port: 7 })), "NetworkUnreachable ENETUNREACH", hostname);
  }
  assertEquals([stack.statistics.tcp.activeOpens, stack.statistics.tcp.segmentsSent], [0, 0]);
});

Deno.test("ping, resolve, addresses, routes, neighbours: every wrong argument is refused, and nothing has changed", async () => {
  const [left] = cable();
  using stack = new NetStack(left, { address: "10.0.0.1/24", nameservers: ["10.0.0.2"] });
  const look = () => picture(stack);
  const to = "10.0.0.2";
  await refuses("ping", (h, o) => stack.ping(h, o), [
    [[undefined], "a name or an address"],
    [[to, null], "options must be an object"],
    [[to, { size: -1 }], "size must be 0 to 65507"],
    [[to, { size: 65_508 }], "size"],
    [[to, { ttl: 0 }], "ttl"],
    [[to, { sequence: 65_536 }], "sequence"],
    [[to, { timeoutMs: 0 }], "timeoutMs"],
    [[to, { timeoutMs: "5" }], "timeoutMs"],
    [[to, { dontFragment: 3 }], "dontFragment"],
    [[to, { signal: {} }], "AbortSignal"],
  ], look);
  await refuses("resolve", (n, t, o) => stack.resolve(n, t, o), [
    [[undefined], "a name or an address"],
    [["a..b"], "Not a domain name"],
    [["a".repeat(64)], "Not a domain name"],
    [["x", "ANY"], "type must be one of A"],
    [["x", "toString"], "type must be one of A"],
    [["x", "A", null], "options must be an object"],
    [["x", "A", { signal: 1 }], "AbortSignal"],
  ], look);
  await refuses("addAddress", (a, o) => stack.addAddress(a, o), [
    [[undefined], "10.0.0.2/24"],
    [["10.0.0.3"], "10.0.0.2/24"],
    [["10.0.0.256/24"], "10.0.0.2/24"],
    [["10.0.0.255/24"], "none that a host can have"],
    [["127.0.0.1/8"], "none that a host can have"],
    [["10.0.0.3/24", { interfaceIndex: 99 }], "no interface 99"],
  ], look);
  await refuses("removeAddress", (a) => stack.removeAddress(a), [[[5], "IPv4 address"], [["x"], "IPv4 address"]], look);
  await refuses("addRoute", (r) => stack.addRoute(r), [
    [[null], "a route must be an object"],
    [[{}], "prefix length"],
    [[{ destination: "10.9.0.0/33" }], "prefix length"],
    [[{ destination: "10.9.0.0/16", gateway: "x" }], "gateway"],
    [[{ destination: "10.9.0.0/16", metric: -1 }], "metric"],
    [[{ destination: "10.9.0.0/16", interfaceIndex: 9 }], "no interface 9"],
    [[{ destination: "10.9.0.1/16" }], "10.9.0.1/16"],
  ], look);
  await refuses("setNeighbor", (a, m, i) => stack.setNeighbor(a, m, i), [
    [["x", "02:00:00:00:00:01"], "IPv4 address"],
    [["10.0.0.5", "x"], "MAC"],
    [["10.0.0.5", "01:00:00:00:00:01"], "10.0.0.5"],
    [["10.0.0.5", "02:00:00:00:00:01", 9], "no interface 9"],
  ], look);
  await refuses("removeDevice", (i) => stack.removeDevice(i), [[[99], "no interface 99"]], look);
  await refuses("addDevice", (d, o) => stack.addDevice(d, o), [
    [[null], "device"],
    [[{}], "device"],
    [[cable()[0], { mtu: 67 }], "mtu"],
    [[cable()[0], { address: "127.0.0.1/8" }], "none that a host can have"],
  ], look);
});

Deno.test("a stack and its helpers: every wrong option is refused before the device is opened", async () => {
  let opened = 0;
  const [end] = cable();
  end.open = () => void opened++;
  const device: Device = end;
  await refuses("new NetStack", (o) => new NetStack(device, o), [
    [[null], "options must be an object"],
    [[5], "options must be an object"],
    [[{ address: 5 }], "address must be an array"],
    [[{ address: [5] }], "10.0.0.2/24"],
    [[{ address: ["10.0.0.1/24", "10.0.0.1/8"] }], "twice"],
    [[{ address: "10.0.0.0/24" }], "none that a host can have"],
    [[{ address: "10.0.0.255/24" }], "none that a host can have"],
    [[{ address: "10.0.0.1/0" }], "none that a host can have"],
    [[{ address: "127.0.0.1/8" }], "none that a host can have"],
    [[{ mtu: 67 }], "mtu"],
    [[{ mtu: "1500" }], "mtu"],
    [[{ vlan: 0 }], "vlan"],
    [[{ gateway: 5 }], "gateway"],
    [[{ detectConflicts: 1 }], "detectConflicts"],
    [[{ forwarding: "yes" }], "forwarding"],
    [[{ onConflict: 5 }], "onConflict"],
    [[{ clock: {} }], "clock"],
    [[{ clock: null }], "clock"],
    [[{ seed: "1" }], "seed"],
    [[{ nameservers: "10.0.0.1" }], "nameservers must be an array"],
    [[{ routes: {} }], "routes must be an array"],
    [[{ routes: [null] }], "a route must be an object"],
    [[{ tcp: null }], "tcp must be an object"],
    ...TCP_OPTIONS.map(([[tcp], said]): Wrong => [[{ tcp }], said]),
  ], () => opened);
  using stack = new NetStack(cable()[0], { address: "10.0.0.1/24" });
  using listener = stack.listen({ port: 80 });
  const look = () => picture(stack);
  const answer = () => new Response();
  await refuses("serve", (l, h, o) => serve(l, h, o), [
    [[5, answer], "listener"],
    [[listener, 5], "handler"],
    [[listener, answer, null], "options must be an object"],
    [[listener, answer, { signal: 5 }], "AbortSignal"],
  ], look);
  await refuses("cable", (o) => cable(o), [
    [[{ mtu: 67 }], "mtu"],
    [[{ mtu: 65_536 }], "mtu"],
    [[{ queue: 0 }], "queue"],
    [[{ offload: 3 }], "offload"],
    [[{ medium: "token ring" }], "medium"],
  ], look);
  await refuses(
    "pcapTap",
    (o) => pcapTap(end, { write() {}, close() {} }, o),
    [[[{ snaplen: 0 }], "snaplen"], [[{ maxBytes: 0 }], "maxBytes"]],
    look,
  );
});
