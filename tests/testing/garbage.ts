/**
 * What a million frames leave in the heap, measured in a worker: an isolate of its own, whose code V8 compiles anew.
 *
 * @module
 */
import { assert, assertEquals } from "@std/assert";
import { BareStack } from "../../stack/bare/stack.ts";
import type { BareTcpSocket } from "../../stack/bare/tcp_socket.ts";
import { ArrayDevice } from "./array_device.ts";
import { HeapGrowth } from "./heap_growth.ts";

const FRAMES = Number(Deno.env.get("TAPIOCA_FRAMES") ?? 1_000_000);
/** Frames between two looks at the heap: far fewer than fill V8's young generation. */
const STEP_FRAMES = 5000;
/** Until V8 has compiled everything for good, and rings have their size. */
const WARM_UP_FRAMES = 100_000;

class Hosts {
  readonly devices: [ArrayDevice, ArrayDevice];
  readonly stacks: [BareStack, BareStack];
  /** Milliseconds with a fraction, as the clock of a process gives them. */
  #now = 0.123;

  constructor(offload = false) {
    this.devices = ArrayDevice.pair(offload);
    const stack = (i: number) => new BareStack(this.devices[i], { address: `10.0.0.${i + 1}/24`, seed: i + 1 });
    this.stacks = [stack(0), stack(1)];
  }

  /** A turn of both: what waits is taken in, and time goes on a little. */
  turn(): void {
    this.#now += 0.017;
    for (const stack of this.stacks) {
      stack.advance(this.#now);
      stack.deliver();
    }
  }

  get frames(): number {
    return this.devices[0].sent + this.devices[1].sent;
  }

  connect(): [BareTcpSocket, BareTcpSocket] {
    const listener = this.stacks[1].tcp();
    listener.bind("0.0.0.0", 7);
    listener.listen(1);
    const client = this.stacks[0].tcp();
    client.connect("10.0.0.2", 7);
    for (let i = 0; i < 10; i++) this.turn();
    const accepted = listener.accept();
    assert(typeof accepted !== "number", "no connection");
    return [client, accepted];
  }

  close(): void {
    for (const stack of this.stacks) stack.close();
  }
}

/** Goes on with `work` until `total` frames have passed, and counts the heap's growth behind the warm-up. */
function grow(hosts: Hosts, total: number, work: () => void): HeapGrowth {
  const heap = new HeapGrowth();
  for (const from = hosts.frames; hosts.frames - from < WARM_UP_FRAMES;) work();
  heap.begin();
  for (const from = hosts.frames; hosts.frames - from < total;) {
    const before = hosts.frames;
    while (hosts.frames - before < STEP_FRAMES) work();
    heap.look(hosts.frames - before);
  }
  return heap;
}

function bulkBothWays(offload: boolean, frames: number): HeapGrowth {
  const hosts = new Hosts(offload);
  const [a, b] = hosts.connect();
  const piece = new Uint8Array(64 * 1024);
  const heap = grow(hosts, frames, () => {
    a.send(piece);
    b.send(piece);
    hosts.turn();
    while (a.receive(piece) > 0);
    while (b.receive(piece) > 0);
  });
  assertEquals(hosts.stacks[0].tcpStatistics.segmentsRetransmitted, 0);
  hosts.close();
  return heap;
}

function datagramsBothWays(size: number): HeapGrowth {
  const hosts = new Hosts();
  const [a, b] = hosts.stacks.map((stack) => stack.udp());
  a.bind("10.0.0.1", 5000);
  b.bind("10.0.0.2", 5000);
  a.connect("10.0.0.2", 5000);
  b.connect("10.0.0.1", 5000);
  const datagram = new Uint8Array(size);
  const into = new Uint8Array(size);
  const heap = grow(hosts, FRAMES, () => {
    for (let i = 0; i < 64; i++) {
      a.send(datagram);
      b.send(datagram);
    }
    hosts.turn();
    while (a.receive(into) >= 0);
    while (b.receive(into) >= 0);
  });
  hosts.close();
  return heap;
}

/** What to send. */
export const MEASURES = {
  tcpPlain: (): HeapGrowth => bulkBothWays(false, 2 * FRAMES),
  tcpOffload: (): HeapGrowth => bulkBothWays(true, FRAMES / 10),
  udpShort: (): HeapGrowth => datagramsBothWays(32),
  udpLong: (): HeapGrowth => datagramsBothWays(1400),
};

const scope = self as unknown as {
  onmessage?: (event: MessageEvent<keyof typeof MEASURES>) => void;
  postMessage?(value: number): void;
};
if ("WorkerGlobalScope" in globalThis) {
  scope.onmessage = ({ data }) => {
    // Twice: V8 may still be compiling in the first run.
    const runs = [MEASURES[data](), MEASURES[data]()];
    scope.postMessage!(Math.min(...runs.map((heap) => heap.perCount)));
  };
}
