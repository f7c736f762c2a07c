/**
 * What runs in a worker: a device, a stack, and the way to the main thread.
 *
 * @module
 */
import { TapDevice } from "../drivers/tap.ts";
import { TunDevice } from "../drivers/tun.ts";
import type { TunTapDevice } from "../drivers/tuntap.ts";
import { configureHost } from "../drivers/tuntap_options.ts";
import { WakeEvent, wakersIdle, wakeThread } from "../drivers/wake_event.ts";
import type { Device } from "../stack/device.ts";
import { layersOf, NetStack } from "../stack/host/net_stack.ts";
import type { Tcp } from "../stack/tcp/tcp.ts";
import { Bell } from "./bell.ts";
import { FrameRing, QueueDevice } from "./frames.ts";
import type { Answer, BeginMessage, Request, Requests } from "./messages.ts";
import { packError, putReply } from "./messages.ts";
import { SlotTable } from "./slots.ts";
import { Calls } from "./thread_calls.ts";

/** How long the end waits for what the main thread wrote to become TCP's, in milliseconds. */
const DRAIN_MS = 5_000;
const DRAIN_POLL_MS = 5;

/** What a worker's global scope is to us. */
interface Scope {
  onmessage: ((event: MessageEvent) => void) | null;
  postMessage(message: unknown): void;
  addEventListener(type: string, listener: (event: Event) => void): void;
}

class Thread {
  readonly #begin: BeginMessage;
  readonly #bell: Bell;
  readonly #main: Bell;
  #device: Device | null = null;
  #queue: QueueDevice | null = null;
  #event: WakeEvent | null = null;
  #stack: NetStack | null = null;
  #table: SlotTable | null = null;
  #calls: Calls | null = null;
  #ended = false;

  constructor(begin: BeginMessage, readonly tell: (answer: Answer) => void) {
    this.#begin = begin;
    this.#bell = new Bell(begin.memory.workerBell, wakeThread);
    this.#main = new Bell(begin.memory.mainBell, null);
  }

  /** Opens the device: its name and largest packet. */
  async open(): Promise<{ name: string; mtu: number; descriptor: number }> {
    const { device, index, count } = this.#begin;
    if (device.kind === "module") {
      const module = await import(device.url);
      this.#device = await module.openDevice(device.options, { index, count }) as Device;
    } else {
      const opened: TunTapDevice = device.kind === "tap" ? TapDevice.open(device) : TunDevice.open(device);
      this.#device = opened;
      // Waited for together with the device: a worker that looks for frames without sleeping hears the main thread too.
      this.#event = new WakeEvent(this.#attend);
      this.#bell.descriptor = this.#event.fd;
    }
    return { name: this.#device.name, mtu: this.#device.mtu, descriptor: this.#event?.fd ?? -1 };
  }

  host({ options }: Requests["host"]): void {
    if (options.host !== undefined) configureHost(this.#device!.name, options.mtu, options.host);
  }

  start(): void {
    const { net, memory, index, count, frameRings, bells } = this.#begin;
    let device = this.#device!;
    if (count > 1) {
      const to = frameRings[index].map((ring) => ring === null ? null : new FrameRing(ring));
      const from = frameRings.map((row) => row[index]).map((ring) => ring === null ? null : new FrameRing(ring));
      const others = { index, count, to, from, bells: bells.map((bell) => new Bell(bell, wakeThread)) };
      device = this.#queue = new QueueDevice(device, others);
    }
    const stack = this.#stack = new NetStack(device, net);
    const layers = layersOf(stack);
    const tcp = layers.tcp as Tcp;
    if (this.#queue !== null) {
      this.#queue.owner = {
        connected: (localKey, localPort, remoteKey, remotePort) =>
          tcp.table.get(localKey, localPort, remoteKey, remotePort) !== null,
        listening: (localKey, localPort) => tcp.listeners.find(localKey, localPort) !== null,
        local: (key) => layers.ip.isLocal(key),
      };
    }
    this.#table = new SlotTable(memory, this.#bell, this.#main, layers.pump);
    this.#calls = new Calls(stack, this.#table, index, count);
    stack.closed.catch((error) => this.tell({ id: 0, error: packError(error) }));
    this.#attend();
  }

  /** Does what the bell was rung for, and lies down again. */
  readonly #attend = (): void => {
    if (this.#ended || this.#table === null) return;
    this.#table.attend();
    if (this.#bell.takeFrames()) this.#queue?.wake();
    if (!this.#bell.sleep()) setImmediate(this.#attend);
    else if (this.#event === null) this.#bell.rung().then(this.#attend);
  };

  /** Answers one request. */
  call(op: keyof Requests, args: unknown): unknown {
    // What was done before the question, for example closing a listener, comes first.
    this.#table?.attend();
    if (op === "host") return this.host(args as Requests["host"]);
    if (op === "start") return this.start();
    if (op === "end") return this.end((args as Requests["end"]).orderly);
    const calls = this.#calls;
    if (calls === null || op === "begin") throw new TypeError(`the worker cannot ${op} now`);
    return (calls[op] as (args: unknown) => unknown)(args);
  }

  async end(orderly: boolean): Promise<void> {
    if (this.#ended) return;
    const stack = this.#stack;
    if (orderly && stack !== null) {
      for (let waited = 0; waited < DRAIN_MS && [...this.#table!].some((slot) => !slot.drained); waited += DRAIN_POLL_MS) {
        await new Promise((resolve) => setTimeout(resolve, DRAIN_POLL_MS));
      }
      await stack[Symbol.asyncDispose]();
    } else stack?.close();
    this.#ended = true;
    this.#device?.close();
    this.#event?.close();
    await wakersIdle();
  }
}

/** Takes requests one after the other; each is answered. */
function serve(scope: Scope): void {
  let thread: Thread | null = null;
  const tell = (answer: Answer) => scope.postMessage(answer);
  const answer = (request: Request, given: Omit<Answer, "id">) => {
    if (request.reply !== undefined) putReply(request.reply, { id: request.id, ...given });
    else tell({ id: request.id, ...given });
  };
  const handle = async (request: Request) => {
    try {
      let value: unknown;
      if (request.op === "begin") {
        thread = new Thread(request.args as BeginMessage, tell);
        value = await thread.open();
      } else {
        value = thread!.call(request.op, request.args);
        // An asker that sleeps needs its answer now.
        if (value instanceof Promise) value = await value;
      }
      answer(request, { value });
    } catch (error) {
      answer(request, { error: packError(error) });
    }
  };
  scope.onmessage = ({ data }: MessageEvent<Request>) => void handle(data);
  // A fault outside of any call: the descriptors are given back before the main thread hears of it.
  const fault = (event: Event, error: unknown) => {
    event.preventDefault();
    const ended = thread?.end(false) ?? Promise.resolve();
    ended.catch(() => {}).then(() => tell({ id: 0, error: packError(error) }));
  };
  scope.addEventListener("error", (event) => fault(event, (event as ErrorEvent).error));
  scope.addEventListener("unhandledrejection", (event) => fault(event, (event as PromiseRejectionEvent).reason));
}

serve(globalThis as unknown as Scope);
