/**
 * A network in memory: hosts, routers, switches and links, with a clock of its own and chance from a seed.
 *
 * @module
 */
import type { Device } from "../stack/device.ts";
import { checkClock, checkObject } from "../stack/checks.ts";
import { type Clock, ManualClock, systemClock } from "../stack/host/clock.ts";
import { NetStack } from "../stack/host/net_stack.ts";
import type { DeviceOptions, NetStackOptions } from "../stack/host/options.ts";
import { seededRandom32 } from "../stack/host/random.ts";
import { type AttachedDevice, Attachment } from "./attached.ts";
import { randomFor } from "./faults.ts";
import { type Jack, NetworkCard, NetworkLink, type NetworkLinkOptions } from "./link.ts";
import { NetworkCapture } from "./network_capture.ts";
import { bePatient, goOn, Holds, limitOf, NetworkDeadlockError, type RunOptions } from "./network_time.ts";
import { checkSink, fileSink, type PcapSink } from "./pcap.ts";
import { LearningSwitch, type NetworkSwitch, type SwitchOptions } from "./switch.ts";

const MTU = 1500;

type Node = NetStack | LearningSwitch | Attachment;

/** Options of a {@link Network}. */
export interface NetworkOptions {
  /** All chance comes from it: the same seed, the same run. Default 1. */
  seed?: number;
  /** Where time comes from. Default: a `ManualClock` of the network's own, at 0. A network with a TAP needs `systemClock`. */
  clock?: Clock;
  /** Captures every end of every link: path of a file (created or overwritten), or something that takes the bytes. */
  pcap?: string | PcapSink;
}

/** Options of a host: those of a {@link NetStack} without the clock, which is the network's. */
export type HostNodeOptions = Omit<NetStackOptions, "clock">;

/** Options of a router. */
export interface RouterOptions extends Omit<HostNodeOptions, keyof DeviceOptions> {
  /** Its interfaces: "10.0.1.1/24", or more about one. Links are plugged in in this order. */
  interfaces: readonly (string | DeviceOptions)[];
}

/** What a link can be plugged into: a host, a router, a switch, an attached device, the name of one, or one interface of it. */
export type NetworkNode = NetStack | NetworkSwitch | AttachedDevice | NetworkPort | string;

/** One interface of a host or router: made by {@link Network.port}. */
export interface NetworkPort {
  /** The host or router. */
  readonly node: NetStack | string;
  /** Which of its interfaces, from 0. */
  readonly index: number;
}

/**
 * A network in memory, for tests and experiments. On its manual clock an hour of loss takes seconds, and is the same every time
 * for the same seed, to the last byte of its capture.
 *
 * @example Build a network, run code on it, assert
 * ```ts
 * import { Network } from "@tapioca/tapioca";
 *
 * using net = new Network({ seed: 42 });
 * const alice = net.host("alice", { address: "10.0.0.1/24" });
 * const bob = net.host("bob", { address: "10.0.0.2/24" });
 * const link = net.link(alice, bob, { rate: 10e6, delay: 50, loss: 0.01 });
 *
 * const received = await net.run(async () => {
 *   const listener = bob.listen({ port: 7 });
 *   const conn = await alice.connect({ hostname: "10.0.0.2", port: 7 });
 *   const accepted = await listener.accept();
 *   new Response(new Uint8Array(100_000)).body!.pipeTo(conn.writable);
 *   return (await new Response(accepted.readable).bytes()).length;
 * });
 * console.log(received, net.now > 100, link.statistics.aToB.delivered > 70); // 100000 true true
 * ```
 */
export class Network {
  readonly #clock: Clock;
  readonly #manual: ManualClock | null;
  readonly #random: () => number;
  readonly #seed: number;
  readonly #capture: NetworkCapture | null;
  readonly #nodes = new Map<string, Node>();
  readonly #names = new Map<NetStack, string>();
  readonly #cards = new Map<NetStack, NetworkCard[]>();
  readonly #links: NetworkLink[] = [];
  readonly #holds = new Holds();
  readonly #delays = new Set<{ handle: unknown; reject: (error: Error) => void }>();
  #macs = 0;
  #busy = false;
  #closed = false;

  /** A network without anything in it. Throws a RangeError for a seed that is no number; what opening the capture throws. */
  constructor(options: NetworkOptions = {}) {
    checkObject(options);
    const { seed = 1, clock = new ManualClock(), pcap } = options;
    if (!Number.isFinite(seed)) throw new RangeError(`seed must be a number: ${seed}`);
    checkClock(clock);
    if (pcap !== undefined && typeof pcap !== "string") checkSink(pcap);
    this.#seed = seed;
    this.#random = seededRandom32(seed);
    this.#clock = clock;
    this.#manual = clock instanceof ManualClock ? clock : null;
    const origin = clock === systemClock ? performance.timeOrigin : 0;
    const sink = typeof pcap === "string" ? fileSink(pcap) : pcap;
    this.#capture = sink === undefined ? null : new NetworkCapture(sink, () => origin + clock.now());
  }

  /** Milliseconds on the network's clock. */
  get now(): number {
    return this.#clock.now();
  }

  /** The network's clock, for what else is to live by it. */
  get clock(): Clock {
    return this.#clock;
  }

  /** The links, in the order they were made. */
  get links(): readonly NetworkLink[] {
    return this.#links;
  }

  /** Packets that the capture holds, those beyond its 1 GiB, and failures to write it (the first ends it); null without one. */
  get capture(): { captured: number; notCaptured: number; writeErrors: number } | null {
    return this.#capture === null ? null : { ...this.#capture.counters };
  }

  /** The host, router, switch or device of a name. Throws `Deno.errors.NotFound` if there is none. */
  get(name: string): NetStack | NetworkSwitch | AttachedDevice {
    const node = this.#nodes.get(name);
    if (node === undefined) throw new Deno.errors.NotFound(`the network has no "${name}"`);
    return node;
  }

  #add<T extends Node>(name: string, make: () => T): T {
    if (this.#closed) throw new Deno.errors.BadResource("the network has been closed");
    if (this.#nodes.has(name)) throw new Deno.errors.AlreadyExists(`the network has a "${name}" already`);
    const node = make();
    this.#nodes.set(name, node);
    return node;
  }

  #card(name: string, mtu: number | undefined): NetworkCard {
    const number = ++this.#macs;
    const mac = Uint8Array.of(2, 0x6e, 0x65, (number >>> 16) & 0xff, (number >>> 8) & 0xff, number & 0xff);
    return new NetworkCard(name, mac, mtu ?? MTU);
  }

  /**
   * A host with one interface.
   *
   * @param name for people, and for captures
   * @param options those of a `NetStack`; `mtu` is the interface's (default 1500), `seed` comes from the network's unless given
   * @throws {Deno.errors.AlreadyExists} the name is taken; {TypeError | RangeError} for a wrong option
   */
  host(name: string, options: HostNodeOptions = {}): NetStack {
    checkObject(options);
    return this.#stack(name, options, options, []);
  }

  /**
   * A router: a host that forwards between its interfaces, and says when a packet is too large for one.
   *
   * @throws {Deno.errors.AlreadyExists} the name is taken; {TypeError | RangeError} for a wrong option, or no interface
   */
  router(name: string, options: RouterOptions): NetStack {
    checkObject(options);
    const { interfaces, ...rest } = options;
    if (!Array.isArray(interfaces)) throw new TypeError(`interfaces must be an array: ${interfaces}`);
    for (const one of interfaces) if (typeof one !== "string") checkObject(one, "an interface");
    if (interfaces.length === 0) throw new RangeError(`router "${name}" needs an interface`);
    const [first, ...others] = interfaces.map((one) => typeof one === "string" ? { address: one } : one);
    return this.#stack(name, { forwarding: true, ...rest }, first, others);
  }

  #stack(name: string, options: HostNodeOptions, first: DeviceOptions, others: readonly DeviceOptions[]): NetStack {
    return this.#add(name, () => {
      const seed = options.seed ?? this.#random();
      const cards = [this.#card(others.length === 0 ? name : `${name}:0`, first.mtu)];
      // A route may lead over any interface, so routes wait for all of them.
      const { gateway, routes = [], ...rest } = options;
      const stack = new NetStack(cards[0], {
        ...rest,
        ...first,
        gateway: undefined,
        routes: undefined,
        seed,
        clock: this.#clock,
      });
      try {
        others.forEach((other, i) => {
          const card = this.#card(`${name}:${i + 1}`, other.mtu);
          stack.addDevice(card, other);
          cards.push(card);
        });
        if (gateway !== undefined) stack.addRoute({ destination: "0.0.0.0/0", gateway });
        for (const route of routes) stack.addRoute(route);
      } catch (error) {
        stack.close();
        throw error;
      }
      this.#names.set(stack, name);
      this.#cards.set(stack, cards);
      return stack;
    });
  }

  /** A learning switch. Throws `Deno.errors.AlreadyExists` if the name is taken, a RangeError for a wrong table size. */
  switch(name: string, options: SwitchOptions = {}): NetworkSwitch {
    return this.#add(name, () => new LearningSwitch(name, this.#clock, options));
  }

  /**
   * Lets a device of the real world join, a TAP for example; a link joins it to the rest. It needs the machine's clock.
   *
   * @param device an Ethernet device that isn't opened yet; it is closed with the network
   * @throws {Deno.errors.AlreadyExists} its name is taken; {TypeError} no Ethernet; what opening it throws
   */
  attach(device: Device): AttachedDevice {
    return this.#add(device.name, () => new Attachment(device, this.#clock));
  }

  /** One interface of a host or router, for {@link link}; without it, a link takes the first that is free. */
  port(node: NetStack | string, index: number): NetworkPort {
    return { node, index };
  }

  /**
   * Joins two nodes.
   *
   * @param options conditions of both directions; of one under `aToB` or `bToA`
   * @returns the link, to change it, cut it, and see what became of its frames
   * @throws {Deno.errors.Busy} no interface is free; {Deno.errors.NotFound} no such node; {RangeError | TypeError} a wrong condition
   */
  link(a: NetworkNode, b: NetworkNode, options: NetworkLinkOptions = {}): NetworkLink {
    const first = this.#jack(a);
    const second = this.#jack(b, first);
    const seed = this.#seed + this.#links.length * 7919;
    const random = [randomFor(seed, 1), randomFor(seed, 2)] as const;
    const captures = [this.#capture?.end(first.name) ?? null, this.#capture?.end(second.name) ?? null] as const;
    const link = new NetworkLink(this.#clock, [first, second], random, captures, options);
    this.#links.push(link);
    return link;
  }

  #jack(wanted: NetworkNode, taken?: Jack): Jack {
    const node = typeof wanted === "string" ? this.get(wanted) : wanted;
    const free = (jack: Jack) => jack.end === null && jack !== taken;
    if (node instanceof LearningSwitch) return node.addPort();
    if (node instanceof Attachment) {
      if (!free(node)) throw new Deno.errors.Busy(`"${node.name}" has a link already`);
      return node;
    }
    const { node: owner, index } = "index" in node ? node : { node, index: -1 };
    const stack = (typeof owner === "string" ? this.get(owner) : owner) as NetStack;
    const cards = this.#cards.get(stack);
    if (cards === undefined) {
      throw new Deno.errors.NotFound("this is no node of this network: make it with net.host() and its like");
    }
    const card = index >= 0 ? cards[index] : cards.find(free);
    if (card === undefined || !free(card)) {
      const which = index >= 0 ? `interface ${index} of` : "every interface of";
      throw new Deno.errors.Busy(`${which} "${this.#names.get(stack)}" has a link already, or isn't there`);
    }
    return card;
  }

  /**
   * Runs code on the network. While it waits, time goes on, from one event to the next; it stands still while the code runs.
   * The code may await what stacks give, streams and {@link delay}. Something of the machine's own world (a file, a timer, a
   * child process) is to be wrapped in {@link real}.
   *
   * @param work the code; with the machine's clock it is just called
   * @returns what it returns
   * @throws {NetworkDeadlockError} nothing can ever happen any more, and it still waits; {Deno.errors.TimedOut} `limitMs` of the
   * network's time have passed; {Deno.errors.Busy} something runs already; what `work` throws
   */
  async run<T>(work: () => T | Promise<T>, options: RunOptions = {}): Promise<T> {
    const limitMs = limitOf(options);
    const clock = this.#manual;
    if (clock === null) return await work();
    return await this.#exclusively(async () => {
      const promise = (async () => await work())();
      let settled = false;
      const done = () => settled;
      const note = () => void (settled = true);
      promise.then(note, note);
      const end = clock.now() + limitMs;
      while (!await goOn(clock, this.#holds, end, done)) {
        if (clock.nextAt < Infinity) throw new Deno.errors.TimedOut(`not done after ${limitMs} ms of the network's time`);
        if (!await bePatient(clock, end, done)) throw new NetworkDeadlockError(clock.now(), this.#waiting());
      }
      return await promise;
    });
  }

  /** Lets `ms` milliseconds pass. Inside {@link run} the same as {@link delay}. */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0 && ms < Infinity)) throw new RangeError(`ms must be 0 or more: ${ms}`);
    if (this.#manual === null || this.#busy) return await this.delay(ms);
    const clock = this.#manual;
    await this.#exclusively(async () => {
      const end = clock.now() + ms;
      await goOn(clock, this.#holds, end, () => false);
      clock.advance(end - clock.now());
    });
  }

  /**
   * Goes on until nothing is left to happen: no frame under way, no timer set; TIME-WAIT has passed too.
   *
   * @returns milliseconds of the network's time that this took
   * @throws {Deno.errors.TimedOut} not quiet after `limitMs`; {Deno.errors.Busy} inside `run`; {Deno.errors.NotSupported} with the
   * machine's clock
   */
  async untilQuiet(options: RunOptions = {}): Promise<number> {
    const limitMs = limitOf(options);
    const clock = this.#manual;
    if (clock === null) throw new Deno.errors.NotSupported("untilQuiet needs a network with a manual clock");
    return await this.#exclusively(async () => {
      const start = clock.now();
      await goOn(clock, this.#holds, start + limitMs, () => false);
      if (clock.nextAt < Infinity) throw new Deno.errors.TimedOut(`not quiet after ${limitMs} ms of the network's time`);
      return clock.now() - start;
    });
  }

  async #exclusively<T>(work: () => Promise<T>): Promise<T> {
    if (this.#closed) throw new Deno.errors.BadResource("the network has been closed");
    if (this.#busy) throw new Deno.errors.Busy("the network runs something already");
    this.#busy = true;
    try {
      return await work();
    } finally {
      this.#busy = false;
    }
  }

  /** Resolves when `ms` milliseconds of the network's time have passed; rejects with `Deno.errors.Interrupted` when it is closed. */
  delay(ms: number): Promise<void> {
    if (!(ms >= 0 && ms < Infinity)) throw new RangeError(`ms must be 0 or more: ${ms}`);
    const promise = new Promise<void>((resolve, reject) => {
      const waiting = { handle: null as unknown, reject };
      waiting.handle = this.#clock.setTimer(this.#clock.now() + ms, () => {
        this.#delays.delete(waiting);
        resolve();
      });
      this.#delays.add(waiting);
    });
    promise.catch(() => {});
    return promise;
  }

  /**
   * Waits for something of the machine's own world (a file, `crypto.subtle`, a child): the network's time stands still meanwhile.
   * Nothing that itself waits for the network, then, or neither ever ends.
   */
  real<T>(promise: Promise<T>): Promise<T> {
    return this.#holds.hold(promise);
  }

  /** What could be waited for, for the message of a deadlock. */
  #waiting(): string[] {
    const lines: string[] = [];
    for (const [stack, name] of this.#names) {
      for (const c of stack.connections()) {
        const ends = `${c.localAddress}:${c.localPort} -> ${c.remoteAddress}:${c.remotePort}`;
        lines.push(`${name}: connection ${ends} ${c.state}, ${c.receiveQueued} bytes to read, ${c.sendQueued} to send`);
      }
      const { listeners } = stack.statistics.tcp;
      if (listeners > 0) lines.push(`${name}: ${listeners} listener${listeners === 1 ? "" : "s"}`);
      if (this.#cards.get(stack)!.every((card) => card.end === null)) lines.push(`${name}: no link`);
    }
    for (const { name, isDown } of this.#links) if (isDown) lines.push(`link ${name}: down`);
    return lines;
  }

  /** Closes every host, link and device, and the capture. Frames under way are forgotten. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const node of this.#nodes.values()) if (!(node instanceof LearningSwitch)) node.close();
    for (const link of this.#links) link.close();
    for (const { handle, reject } of this.#delays) {
      this.#clock.clearTimer(handle);
      reject(new Deno.errors.Interrupted("the network was closed"));
    }
    this.#delays.clear();
    this.#capture?.close();
  }

  /** Same as {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }
}
