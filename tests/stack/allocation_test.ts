/**
 * Nothing is allocated per frame in steady state: frames go both ways through the whole receive and send path of two stacks, and
 * the heap hardly grows, garbage included.
 */
import { assert, assertEquals, assertGreater, assertLess } from "@std/assert";
import { BareStack } from "../../stack/bare/stack.ts";
import type { BareTcpSocket } from "../../stack/bare/tcp_socket.ts";
import { ArrayDevice } from "../testing/array_device.ts";
import { HeapGrowth } from "../testing/heap_growth.ts";

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

/**
 * The least of up to eight runs: V8 may still be compiling, which costs heap too, and does so for longer on a machine that is
 * busy; real garbage is in every run.
 */
function leastOf(measure: () => number, enough: number): number {
  let least = Infinity;
  for (let run = 0; run < 8 && !(least < enough); run++) least = Math.min(least, measure());
  return least;
}

Deno.test("the meter sees what it is there to see", () => {
  const kept: Uint8Array[] = [];
  const heap = new HeapGrowth();
  const bytes = new Uint8Array(64);
  for (let i = 0; i < 20; i++) {
    heap.begin();
    for (let j = 0; j < 1000; j++) kept[j] = bytes.subarray(1);
    heap.look(1000);
  }
  assertGreater(heap.perCount, 40);
});

/** Bytes of heap per frame that pass for none: what a burst of frames leaves once, and the meter's own. */
const NEXT_TO_NOTHING = 8;
/** Reads and writes of 64 KiB, and what wraps around in a ring, need views: a few per hundred frames. */
const READS_AND_WRITES = 20;
/** A view, as `copyBytes` makes for what is longer than it copies byte by byte. */
const VIEW = 112;

Deno.test("TCP, plain: a million frames each way leave no garbage", () => {
  const most = NEXT_TO_NOTHING + READS_AND_WRITES;
  const measure = () => {
    const heap = bulkBothWays(false, 2 * FRAMES);
    // Where collections hid half of the steps there was garbage, or a neighbour who made some: such a run proves nothing.
    return heap.count > FRAMES ? heap.perCount : Infinity;
  };
  assertLess(leastOf(measure, most), most);
});

Deno.test("TCP, offload: frames of 64 KiB leave no more than a few views, whatever they carry", () => {
  const heap = bulkBothWays(true, FRAMES / 10);
  assertLess(heap.perCount, 4 * VIEW);
});

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

Deno.test("UDP: half a million datagrams each way leave no garbage", () => {
  assertLess(leastOf(() => datagramsBothWays(32).perCount, NEXT_TO_NOTHING), NEXT_TO_NOTHING);
});

Deno.test("UDP: a long datagram leaves the views that its copies need: in, into the queue, out", () => {
  assertLess(leastOf(() => datagramsBothWays(1400).perCount, 3 * VIEW + 2 * NEXT_TO_NOTHING), 3 * VIEW + 2 * NEXT_TO_NOTHING);
});
