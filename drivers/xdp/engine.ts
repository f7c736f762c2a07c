/**
 * The loop that runs programs in user space: bursts from the ports' devices, each frame through its port's program, and on to
 * where the program said. Where a device lets its frames be changed in place, they are, and the next device sends them from
 * there: no copy. Nothing is allocated per frame.
 *
 * @module
 */
import { EEXIST, ENODEV, ENOSPC, errnoError } from "../../ffi/errno.ts";
import { type Device, FrameMemory, type FrameSink } from "../../stack/device.ts";
import { checkFunction, checkObject } from "../../stack/checks.ts";
import { copyBytes } from "../../stack/wire/copy.ts";
import { type PortProgram, runProgram, XDP_HEADROOM, XdpContext } from "./context.ts";
import { InterfaceTable } from "./interface_maps.ts";
import { XDP_ABORTED, XDP_PASS, XDP_REDIRECT, XDP_TX } from "./ir.ts";
import { CountedProgram, XdpPort } from "./port.ts";

export { CountedProgram, PortCounters, XdpPort } from "./port.ts";

/** Frames that one port may hand over before the others get their turn. */
const BURST = 256;
/** How often a device that is down is tried again, in milliseconds. */
const DOWN_RETRY_MS = 250;
/** Ports of one engine. */
export const PORTS_MAX = 4096;
/** Numbers that are looked up without hashing; those of VLANs. */
const FAST_INDEXES = 4096;

/** A port to be made. */
export interface PortOptions {
  /** Number of the interface, 1 to 2^31 - 1. Default: the smallest that is free. */
  ifindex?: number;
  /** Default: the device's. */
  name?: string;
  /** Number of the queue that programs are told. Default 0. */
  queue?: number;
  /** The program: a function, or what {@link XdpEngine.load} made. Default: none, all frames are passed. */
  program?: PortProgram | CountedProgram | null;
  /** Takes the frames that are passed (`XDP_PASS`); what it throws is reported. Default: nobody, they are counted and lost. */
  host?: FrameSink;
}

/** One frame behind its program: what a trace hook is told. The record is reused. */
export interface TraceEvent {
  /** The port that the frame came in by. */
  port: XdpPort;
  /** What the program returned, or what counts as that. */
  action: number;
  /** With the action REDIRECT: the interface's number. */
  target: number;
  /** The frame as the program left it. */
  memory: FrameMemory;
  /** Where the frame begins in `memory`. */
  offset: number;
  /** Bytes. */
  length: number;
  /** What the program threw, or null. */
  error: unknown;
}

/** Options of an engine. */
export interface EngineOptions {
  /** Told about every frame: for debugging, it costs. What it throws is reported and ends nothing. */
  trace?: (event: Readonly<TraceEvent>) => void;
  /**
   * Told when a port's device is gone for good, or has thrown `error`; the port has been removed, the others go on. Default: what
   * a device throws is reported.
   */
  onGone?: (port: XdpPort, error?: unknown) => void;
}

/** Takes one port's frames. */
class Ingress implements FrameSink {
  readonly port: XdpPort;
  readonly host: FrameSink | null;
  waiting = false;
  retry: ReturnType<typeof setTimeout> | undefined;
  readonly #engine: XdpEngine;
  readonly #headroom: number;
  readonly #tailroom: number;
  readonly #slot: FrameMemory;

  constructor(engine: XdpEngine, port: XdpPort, host: FrameSink | null) {
    this.#engine = engine;
    this.port = port;
    this.host = host;
    const { rxHeadroom = 0, rxTailroom = 0, rxFrame } = port.device.capabilities;
    // Programs count on the kernel's headroom: with less, it is better to copy.
    const inPlace = rxHeadroom >= XDP_HEADROOM;
    this.#headroom = inPlace ? rxHeadroom : 0;
    this.#tailroom = inPlace ? rxTailroom : 0;
    this.#slot = new FrameMemory(inPlace ? 0 : XDP_HEADROOM + rxFrame + XDP_HEADROOM);
  }

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    const { counters } = this.port;
    counters.rxFrames++;
    counters.rxBytes += length;
    let headStart = offset - this.#headroom;
    let tailEnd = offset + length + this.#tailroom;
    if (this.#headroom === 0) {
      const slot = this.#slot;
      if (length > slot.bytes.length - 2 * XDP_HEADROOM) {
        counters.rxTooLong++;
        return;
      }
      copyBytes(memory.bytes, offset, slot.bytes, XDP_HEADROOM, length);
      counters.copied++;
      memory = slot;
      offset = XDP_HEADROOM;
      headStart = 0;
      tailEnd = slot.bytes.length;
    }
    this.#engine.handle(this.port, this.host, memory, offset, length, headStart, tailEnd, flags, segmentSize);
  }
}

/** Ports, programs, and the loop. */
export class XdpEngine implements Disposable {
  /** The interfaces that maps may name: give it to `createMap`. */
  readonly interfaces: InterfaceTable = new InterfaceTable();
  readonly #ingress = new Map<number, Ingress>();
  readonly #fast: (XdpPort | null)[] = new Array(FAST_INDEXES).fill(null);
  readonly #context = new XdpContext();
  readonly #trace: ((event: Readonly<TraceEvent>) => void) | null;
  readonly #onGone: ((port: XdpPort, error?: unknown) => void) | null;
  #event: TraceEvent | null = null;
  #error: unknown = null;
  #running: CountedProgram | null = null;
  #ready: Ingress[] = [];
  #scheduled = false;

  /** An engine without ports. Throws a TypeError for a wrong option. */
  constructor(options: EngineOptions = {}) {
    checkObject(options);
    checkFunction("trace", options.trace);
    checkFunction("onGone", options.onGone);
    this.#trace = options.trace ?? null;
    this.#onGone = options.onGone ?? null;
  }

  /** The ports, in the order in which they came. */
  get ports(): XdpPort[] {
    return [...this.#ingress.values()].map(({ port }) => port);
  }

  /** A port by number or name. */
  port(which: number | string): XdpPort | undefined {
    if (typeof which === "number") return this.#ingress.get(which)?.port;
    return this.ports.find(({ name }) => name === which);
  }

  /** Names a program, so that several ports share its counters. */
  load(name: string, run: PortProgram): CountedProgram {
    if (typeof run !== "function") throw new TypeError(`Invalid program ${JSON.stringify(name)}: a function is needed`);
    return new CountedProgram(name, run);
  }

  /**
   * Adds a port and starts it. The engine owns the device from then on.
   *
   * @throws {TypeError} for a device that doesn't carry Ethernet, or a wrong number
   * @throws {Deno.errors.AlreadyExists} (EEXIST) when number or name is taken; {Error} (ENOSPC) with {@link PORTS_MAX} ports
   */
  add(device: Device, options: PortOptions = {}): XdpPort {
    checkObject(options);
    const { name = device.name, queue = 0, ifindex = this.#freeIndex(), program = null, host = null } = options;
    if (device.medium !== "ethernet") throw new TypeError(`device "${device.name}" carries IP packets: Ethernet is needed`);
    if (!(Number.isInteger(ifindex) && ifindex >= 1 && ifindex <= 0x7fff_ffff)) throw new TypeError(`Invalid ifindex ${ifindex}`);
    const taken = this.#ingress.has(ifindex) ? `interface ${ifindex}` : this.port(name) ? `interface "${name}"` : "";
    if (taken !== "") throw errnoError("add", taken, EEXIST);
    if (this.#ingress.size >= PORTS_MAX) throw errnoError("add", `interface "${name}"`, ENOSPC, `At most ${PORTS_MAX}`);
    const port = new XdpPort(device, name, ifindex, queue);
    const loaded = typeof program === "function" ? this.load(program.name || name, program) : program;
    const ingress = new Ingress(this, port, host);
    device.open(() => this.#wake(ingress));
    port.program = loaded;
    this.#ingress.set(ifindex, ingress);
    if (ifindex < FAST_INDEXES) this.#fast[ifindex] = port;
    this.interfaces.add(ifindex);
    this.#wake(ingress);
    return port;
  }

  #freeIndex(): number {
    let ifindex = 1;
    while (this.#ingress.has(ifindex)) ifindex++;
    return ifindex;
  }

  /** Closes a port's device; maps forget it. @throws {Deno.errors.NotFound} (ENODEV) when there is no such port */
  remove(which: number | string): void {
    const port = this.port(which);
    if (port === undefined) throw errnoError("remove", `interface ${JSON.stringify(which)}`, ENODEV);
    this.#remove(this.#ingress.get(port.ifindex)!);
  }

  #remove(ingress: Ingress): void {
    const { port } = ingress;
    port.attached = false;
    clearTimeout(ingress.retry);
    this.#ingress.delete(port.ifindex);
    if (port.ifindex < FAST_INDEXES) this.#fast[port.ifindex] = null;
    this.interfaces.remove(port.ifindex);
    port.device.close();
  }

  /** Closes all ports. A second call does nothing. @throws what the first device threw that could not be closed; the others are */
  close(): void {
    const errors: unknown[] = [];
    for (const ingress of [...this.#ingress.values()]) {
      try {
        this.#remove(ingress);
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }

  /** {@link close}. */
  [Symbol.dispose](): void {
    this.close();
  }

  #wake(ingress: Ingress): void {
    if (ingress.waiting || !ingress.port.attached) return;
    ingress.waiting = true;
    this.#ready.push(ingress);
    if (this.#scheduled) return;
    this.#scheduled = true;
    setImmediate(this.#run);
  }

  readonly #run = (): void => {
    this.#scheduled = false;
    this.poll();
  };

  /** One round over the ports that have something, as the loop itself makes it. Returns how many frames were handled. */
  poll(): number {
    const ready = this.#ready;
    this.#ready = [];
    let total = 0;
    for (const ingress of ready) {
      ingress.waiting = false;
      if (ingress.port.attached) total += this.#drain(ingress);
    }
    for (const { port } of this.#ingress.values()) {
      if (!port.dirty) continue;
      port.dirty = false;
      try {
        port.device.flush?.();
      } catch (error) {
        this.#lose(port, error);
      }
    }
    return total;
  }

  #drain(ingress: Ingress): number {
    const { port } = ingress;
    let count = 0;
    try {
      count = port.device.receive(ingress, BURST);
      if (count >= 0 && count < BURST && port.attached) port.device.arm();
    } catch (error) {
      this.#lose(port, error);
    }
    if (!port.attached) return Math.max(0, count); // removed by a hook meanwhile
    if (count === BURST) this.#wake(ingress);
    else if (count === -ENODEV) this.#lose(port);
    else if (count < 0) {
      clearTimeout(ingress.retry);
      ingress.retry = setTimeout(() => this.#wake(ingress), DOWN_RETRY_MS);
    }
    return Math.max(0, count);
  }

  /** A port whose device is gone, or can't be relied on: the others go on without it. */
  #lose(port: XdpPort, error?: unknown): void {
    const ingress = this.#ingress.get(port.ifindex);
    if (ingress?.port !== port) return;
    try {
      this.#remove(ingress);
    } catch (error) {
      reportError(error);
    }
    try {
      if (this.#onGone !== null) this.#onGone(port, error);
      else if (error !== undefined) reportError(error);
    } catch (error) {
      reportError(error);
    }
  }

  readonly #onError = (error: unknown): void => {
    this.#error = error;
    this.#running!.thrown++;
  };

  /** Runs a port's program on a frame that may be changed, and does what it says. Called by ports. */
  handle(
    port: XdpPort,
    host: FrameSink | null,
    memory: FrameMemory,
    offset: number,
    length: number,
    headStart: number,
    tailEnd: number,
    flags: number,
    segmentSize: number,
  ): void {
    const context = this.#context;
    context.reset(memory, offset, offset + length, headStart, tailEnd);
    context.ifindex = port.ifindex;
    context.queue = port.queue;
    const program = port.program;
    let action = XDP_PASS;
    if (program !== null) {
      this.#running = program;
      action = runProgram(program.run, context, this.#onError);
      program.actions[action]++;
    }
    port.actions[action]++;
    if (this.#trace !== null) this.#tell(port, action);
    const size = context.end - context.offset;
    if (action === XDP_REDIRECT) {
      const target = this.#target(context.redirectIfindex);
      if (target === null) port.counters.redirectErrors++;
      else this.#send(target, memory, context.offset, size, flags, segmentSize);
    } else if (action === XDP_TX) this.#send(port, memory, context.offset, size, flags, segmentSize);
    else if (action === XDP_PASS) {
      if (host === null) port.counters.passedToNobody++;
      else this.#pass(host, memory, context.offset, size, flags, segmentSize);
    }
  }

  /** The fault of a device must not stop the port that sends by it. */
  #send(port: XdpPort, memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    try {
      port.send(memory, offset, length, flags, segmentSize);
    } catch (error) {
      this.#lose(port, error);
    }
  }

  /** A host's fault must not stop the ports. */
  #pass(host: FrameSink, memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    try {
      host.frame(memory, offset, length, flags, segmentSize);
    } catch (error) {
      reportError(error);
    }
  }

  #target(ifindex: number): XdpPort | null {
    if (ifindex < FAST_INDEXES) return ifindex > 0 ? this.#fast[ifindex] : null;
    return this.#ingress.get(ifindex)?.port ?? null;
  }

  #tell(port: XdpPort, action: number): void {
    const context = this.#context;
    const { memory, offset } = context;
    const event = this.#event ??= { port, action, target: 0, memory, offset, length: 0, error: null };
    event.port = port;
    event.action = action;
    event.target = action === XDP_REDIRECT ? context.redirectIfindex : 0;
    event.memory = memory;
    event.offset = offset;
    event.length = context.end - offset;
    event.error = action === XDP_ABORTED ? this.#error : null;
    this.#error = null;
    try {
      this.#trace!(event);
    } catch (error) {
      reportError(error);
    }
  }
}
