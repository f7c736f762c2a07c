/**
 * The main thread's side of one worker: its requests, its slots, and who waits for them.
 *
 * @module
 */
import { wakeThread } from "../drivers/wake_event.ts";
import type { Failable, SocketPump } from "../stack/host/pump.ts";
import { Arena } from "./arena.ts";
import { Bell, BELL_BYTES } from "./bell.ts";
import * as at from "./layout.ts";
import { type Answer, REPLY_BYTES, type Request, type Requests, takeReply, unpackError } from "./messages.ts";

/** How long the main thread sleeps for an answer at most, in milliseconds: a worker answers within one turn of its loop. */
const REPLY_MS = 5_000;

/** What stands in a slot on this side. */
export interface RemoteSlot {
  /** The worker has changed something. */
  serve(): void;
}

/** Makes what belongs to a slot that a worker has filled by itself: an accepted connection. */
export type Acceptor = (link: WorkerLink, slot: number, listener: RemoteSlot | undefined) => void;

/** One worker. */
export class WorkerLink implements SocketPump {
  readonly failables: Set<Failable> = new Set();
  // What a socket of the shell would do to a stack in its own thread: here the worker does it.
  readonly tcp = { flush: (): void => {} };
  readonly ip = { now: 0 };
  readonly cells: Int32Array<SharedArrayBuffer>;
  readonly down: Uint8Array<SharedArrayBuffer>;
  readonly arena: Arena;
  readonly memory: at.SharedMemory;
  /** Rung for the worker. */
  readonly bell: Bell;
  readonly #own: Bell;
  readonly #worker: Worker;
  readonly #slots: (RemoteSlot | undefined)[] = [];
  readonly #calls = new Map<number, PromiseWithResolvers<unknown>>();
  readonly #accept: Acceptor;
  readonly #lost: (error: Error) => void;
  #starving = new Set<RemoteSlot>();
  #waiting: (() => void)[] = [];
  #nextId = 1;
  #over: Error | null = null;
  /** The worker's wake descriptor, -1 if it has none. */
  descriptor = -1;

  /** @param lost told once if the worker ends without having been asked to */
  constructor(accept: Acceptor, lost: (error: Error) => void) {
    this.#accept = accept;
    this.#lost = lost;
    this.memory = {
      slots: new SharedArrayBuffer(4 * at.SLOT_CELLS * at.SLOTS_MAX),
      down: new SharedArrayBuffer(at.ARENA_BYTES),
      up: new SharedArrayBuffer(at.ARENA_BYTES),
      workerBell: new SharedArrayBuffer(BELL_BYTES),
      mainBell: new SharedArrayBuffer(BELL_BYTES),
    };
    this.cells = new Int32Array(this.memory.slots);
    this.down = new Uint8Array(this.memory.down);
    this.arena = new Arena(new Uint8Array(this.memory.up));
    this.bell = new Bell(this.memory.workerBell, wakeThread);
    this.#own = new Bell(this.memory.mainBell, null);
    this.#worker = new Worker(new URL("./thread.ts", import.meta.url), { type: "module", name: "tapioca" });
    this.#worker.onmessage = ({ data }) => this.#answered(data);
    this.#worker.onerror = (event) => {
      event.preventDefault();
      this.#gone(new Error(`The network's worker has failed: ${event.message}`));
    };
    this.#listen();
  }

  // ---- Requests.

  /** Asks the worker. Rejects with its error. */
  call<K extends keyof Requests>(op: K, args: Requests[K]): Promise<unknown> {
    if (this.#over !== null) return Promise.reject(this.#over);
    const id = this.#nextId++;
    const waiting = Promise.withResolvers<unknown>();
    this.#calls.set(id, waiting);
    try {
      this.#worker.postMessage({ id, op, args } satisfies Request);
    } catch (error) {
      this.#calls.delete(id);
      return Promise.reject(error);
    }
    return waiting.promise;
  }

  /** Asks without waiting. */
  post<K extends keyof Requests>(op: K, args: Requests[K]): void {
    this.call(op, args).catch(() => {});
  }

  /** Asks, and sleeps until the answer is there: some 10 us. For what has to be true when the call returns. */
  callNow<K extends keyof Requests>(op: K, args: Requests[K]): unknown {
    if (this.#over !== null) throw this.#over;
    const reply = new SharedArrayBuffer(REPLY_BYTES);
    this.#worker.postMessage({ id: 0, op, args, reply } satisfies Request);
    const answer = takeReply(reply, REPLY_MS);
    if (answer === null) throw new Deno.errors.TimedOut(`the network's worker doesn't answer within ${REPLY_MS} ms`);
    if (answer.error !== undefined) throw unpackError(answer.error);
    return answer.value;
  }

  #answered({ id, value, error }: Answer): void {
    if (id === 0) return this.#gone(error === undefined ? new Error("The network's worker has ended") : unpackError(error));
    const waiting = this.#calls.get(id);
    this.#calls.delete(id);
    if (error !== undefined) waiting?.reject(unpackError(error));
    else waiting?.resolve(value);
  }

  #gone(error: Error): void {
    if (this.#over === null) this.#lost(error);
  }

  /** Everyone who waits gets `error`. Requests still go through, so that the worker can be asked to end. */
  fail(error: Error): void {
    const all = [...this.failables];
    this.failables.clear();
    for (const one of all) one.fail(error);
    this.#runWaiting();
  }

  /** Ends the thread. Nothing is sent or heard any more. */
  terminate(error: Error): void {
    this.#over = error;
    for (const waiting of this.#calls.values()) waiting.reject(error);
    this.#calls.clear();
    this.#worker.terminate();
    Atomics.store(this.#own.cells, 0, 0);
    Atomics.notify(this.#own.cells, 0);
  }

  // ---- Slots.

  put(slot: number, remote: RemoteSlot): void {
    this.#slots[slot] = remote;
  }

  /** The worker's flags of a slot. */
  flags(slot: number): number {
    return Atomics.load(this.cells, at.workerLine(slot) + at.FLAGS);
  }

  /** Sets flags of our own, and tells the worker. */
  ask(slot: number, flags: number): void {
    const cell = at.mainLine(slot) + at.FLAGS;
    Atomics.store(this.cells, cell, Atomics.load(this.cells, cell) | flags);
    this.tell(slot);
  }

  tell(slot: number): void {
    this.bell.mark(slot);
    this.bell.ring();
  }

  /** The worker has let go, and so do we: the slot is the worker's to use again. */
  free(slot: number): void {
    this.#slots[slot] = undefined;
    const line = at.mainLine(slot);
    this.cells.fill(0, line + 1, line + at.SLOT_CELLS / 2);
    Atomics.store(this.cells, line + at.FLAGS, at.DONE);
    this.bell.markLater(slot);
  }

  /** A socket found no ring to write into: it is served again when there may be one. */
  starve(slot: RemoteSlot): void {
    this.#starving.add(slot);
    this.#own.hungry = true;
  }

  /** Waits for the worker's calls, as long as there is one. */
  async #listen(): Promise<void> {
    while (this.#over === null) {
      this.#attend();
      if (this.#own.sleep()) await this.#own.rung();
      else await new Promise<void>((resolve) => setImmediate(resolve)); // others have their turn
    }
  }

  #attend(): void {
    this.#own.drain(this.#visit);
    if (this.#starving.size > 0) {
      const all = this.#starving;
      this.#starving = new Set();
      this.#own.hungry = false;
      for (const slot of all) slot.serve();
    }
    this.#runWaiting();
  }

  readonly #visit = (slot: number): void => {
    const remote = this.#slots[slot];
    if (remote !== undefined) return remote.serve();
    const flags = this.flags(slot);
    if ((flags & at.NEW) !== 0 && (flags & at.FREED) === 0) {
      this.#accept(this, slot, this.#slots[Atomics.load(this.cells, at.workerLine(slot) + at.LISTENER)]);
    }
  };

  #runWaiting(): void {
    if (this.#waiting.length === 0) return;
    const waiting = this.#waiting;
    this.#waiting = [];
    for (const callback of waiting) callback();
  }

  // ---- What the sockets of the shell ask of a pump.

  now(): number {
    return 0;
  }

  touch(): void {}

  schedule(): void {}

  sent(): boolean {
    this.schedule();
    return false;
  }

  whenRoom(callback: () => void): void {
    this.#waiting.push(callback);
  }
}
