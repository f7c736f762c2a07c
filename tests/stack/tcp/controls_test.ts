/**
 * Congestion controls that users bring, with every fault that one can have: the connection that has it goes on, and so does
 * everything else.
 */
import { assert, assertEquals, assertRejects, assertThrows } from "@std/assert";
import { EINVAL, OK } from "../../../stack/codes.ts";
import { type CongestionControl, type CongestionState, CWND_MAX, Reno, SSTHRESH_MAX } from "../../../stack/tcp/congestion.ts";
import { cable, NetStack, type TcpOptions } from "../../../mod.ts";
import { TcpPair } from "../../testing/tcp_pair.ts";
import { mss, Peer } from "../../testing/tcp_peer.ts";

const LENGTH = 200_000;

/** A module that leaves `value` wherever it may leave something. */
function leaves(value: unknown): () => CongestionControl {
  const set = (state: CongestionState) => void (state.cwnd = state.ssthresh = value as number);
  const answer = (state: CongestionState) => (set(state), value as number);
  return () => ({ name: "odd", onAck: set, onLoss: answer, onTimeout: answer, onUndo: set, onIdle: set });
}

function throws(): CongestionControl {
  const fault = (): never => {
    throw new Error("a bug");
  };
  return { name: "faulty", onAck: fault, onLoss: fault, onTimeout: fault, onUndo: fault, onIdle: fault };
}

/** Brings `LENGTH` bytes through a network that loses some of them, with a pause in the middle. Returns the faults. */
function transfer(make: () => CongestionControl): unknown[] {
  const faults: unknown[] = [];
  const config = { defaults: { congestionControl: make }, onFault: (fault: unknown) => void faults.push(fault) };
  const pair = new TcpPair({ delayMs: 5, loss: 0.03, reorder: 0.02 }, 7, [config]);
  const [client, server] = pair.connected();
  const bytes = new Uint8Array(LENGTH);
  let sent = 0;
  let got = 0;
  const done = (all: number) => () => {
    sent += Math.max(0, client.send(bytes, sent, all - sent));
    got += Math.max(0, server.receive(bytes, 0, LENGTH));
    const { cwnd, ssthresh, sendMss } = client;
    assert(Number.isInteger(cwnd) && cwnd >= sendMss && cwnd <= CWND_MAX, `cwnd ${cwnd}`);
    assert(Number.isInteger(ssthresh) && ssthresh >= sendMss && ssthresh <= SSTHRESH_MAX, `ssthresh ${ssthresh}`);
    return got === all;
  };
  pair.run(3600_000, done(LENGTH / 2));
  pair.run(60_000);
  pair.run(3600_000, done(LENGTH));
  assertEquals(got, LENGTH);
  assert(client.timeouts + client.fastRecoveries > 0);
  return faults;
}

Deno.test("a module that leaves what is no window: the window is held within its bounds, and all arrives", () => {
  for (const value of [NaN, 0, -1, -Infinity, "5000", null, undefined, {}, 724.5, 3000.7, Infinity, 2 ** 40]) {
    assertEquals(transfer(leaves(value)), [], `${value}`);
  }
});

Deno.test("a module that throws: reported once, and Reno goes on in its place", () => {
  assertEquals(transfer(throws).map(String), ["Error: a bug"]);
  for (const name of ["onAck", "onLoss", "onTimeout", "onUndo", "onIdle"] as const) {
    const made = () => Object.assign(new Reno(), { [name]: throws()[name] });
    assert(transfer(made as () => CongestionControl).length <= 1, name);
  }
});

const WRONG: [string, unknown][] = [
  ["object", null],
  ["object", undefined],
  ["object", 5],
  ["name", {}],
  ["onAck", { name: "x" }],
  ["onLoss", { ...throws(), onLoss: 5 }],
  ["onTimeout", { ...throws(), onTimeout: undefined }],
  ["onUndo", { ...throws(), onUndo: null }],
  ["onIdle", { ...throws(), onIdle: "x" }],
];

Deno.test("a maker of what is no module: an error for whoever connects, the default for what a listener accepts", () => {
  for (const [what, made] of WRONG) {
    const congestionControl = (() => made) as unknown as () => CongestionControl;
    const faults: unknown[] = [];
    const config = { defaults: { congestionControl }, onFault: (fault: unknown) => void faults.push(fault) };
    assertThrows(() => Peer.connecting({ config }), TypeError, what);
    const peer = Peer.accepted({ syn: mss(1000), config });
    assertEquals(peer.write(100).length, 1);
    assertEquals([peer.tcb.info().congestionControl, faults.length], ["cubic", 1]);
    assert(faults[0] instanceof TypeError && faults[0].message.includes(what));
    assertEquals(peer.host.statistics.controlFaults, 1);
    // Nor can it be set later, and nothing else then is.
    assertEquals(peer.tcb.setOptions({ congestionControl, noDelay: true }), EINVAL);
    assertEquals([peer.tcb.noDelay, peer.tcb.info().congestionControl], [false, "cubic"]);
  }
  const peer = Peer.accepted();
  assertEquals(peer.tcb.setOptions({ congestionControl: throws }), OK);
  assertEquals(peer.tcb.info().congestionControl, "faulty");
});

Deno.test("faults of a congestion control count among the stack's, and stop neither list nor listener", async () => {
  const [left, right] = cable();
  await using a = new NetStack(left, { address: "10.0.0.1/24" });
  await using b = new NetStack(right, { address: "10.0.0.2/24" });
  const broken = (() => {
    throw new Error("no module");
  }) as TcpOptions["congestionControl"];
  using listener = b.listen({ port: 1, congestionControl: broken });
  await assertRejects(() => a.connect({ hostname: "10.0.0.2", port: 1, congestionControl: broken }), Error, "no module");
  const none = (() => null) as unknown as () => CongestionControl;
  await assertRejects(() => a.connect({ hostname: "10.0.0.2", port: 1, congestionControl: none }), TypeError, "name, onAck");
  assertEquals([a.connections(), a.statistics.stack.faults], [[], 0]);
  using conn = await a.connect({ hostname: "10.0.0.2", port: 1, congestionControl: throws });
  using accepted = await listener.accept();
  await accepted.write(new Uint8Array(10));
  assertEquals(b.connections().map((one) => one.congestionControl), ["cubic"]);
  assertEquals([b.statistics.stack.faults, b.statistics.tcp.controlFaults, String(b.lastFault)], [1, 1, "Error: no module"]);
  const into = new Uint8Array(100_000);
  assertEquals(await conn.read(into), 10);
  await conn.write(into);
  for (let got = 0; got < into.length;) got += (await accepted.read(into))!;
  assertEquals([a.statistics.stack.faults, conn.info.congestionControl, String(a.lastFault)], [1, "reno", "Error: a bug"]);
});
