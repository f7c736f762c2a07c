/**
 * The pump: moves frames between devices and protocols in bursts, runs the timers, and settles whoever waits.
 * Everything below it is synchronous; user code never runs inside it, only in the promises that it settles.
 *
 * @module
 */
import type { Device } from "../device.ts";
import type { Internet, NetInterface } from "../ip/types.ts";
import type { TcpLayer, TcpListenSocket, TcpSocket } from "../tcp/types.ts";
import type { UdpLayer, UdpSocket } from "../udp/types.ts";
import { empty } from "../wire/copy.ts";
import type { Clock, TimerHandle } from "./clock.ts";
import { Port } from "./port.ts";
import { newPumpCounters, type PumpCounters } from "./pump_counters.ts";

export type { PumpCounters } from "./pump_counters.ts";

/** Frames taken from one device before timers and I/O of the process get their turn. */
export const BURST_FRAMES = 256;

/** Packets over the inner loop-back path taken in one turn. */
const LOOPBACK_PACKETS = 256;

/** How often one run goes through settle, output and loop-back before it lets others have a turn. */
const ROUNDS_MAX = 16;

/** Whoever owns a socket: told once a burst what changed. Must not call user code. */
export interface SocketOwner {
  /** @param events EVENT_… bits of the socket's layer */
  onEvents(events: number): void;
}

/** Something that would wait for ever if the stack ended without telling it. */
export interface Failable {
  /** The address of the stack's that it is bound to, if it is: it ends with the device that has it. */
  readonly localKey?: number;
  fail(error: Error): void;
}

/** What a socket of the shell needs of the loop that serves it: the {@link Pump}, or the way to one in a worker. */
export interface SocketPump {
  readonly failables: Set<Failable>;
  readonly tcp: { flush(now: number): void };
  readonly ip: { readonly now: number };
  now(): number;
  touch(): void;
  schedule(): void;
  sent(): boolean;
  whenRoom(callback: () => void): void;
}

/** What the pump drives. */
export interface PumpLayers {
  ip: Internet;
  tcp: TcpLayer;
  udp: UdpLayer;
}

/** The loop of one stack. */
export class Pump implements SocketPump {
  readonly counters: PumpCounters = newPumpCounters();
  readonly ip: Internet;
  readonly tcp: TcpLayer;
  readonly udp: UdpLayer;
  readonly clock: Clock;
  /** Whoever is to be told when the stack ends: sockets of the shell, pings, look-ups. */
  readonly failables: Set<Failable> = new Set();
  /** The last exception that was survived, for whoever looks into `faults`. */
  lastFault: unknown = undefined;
  #ports: Port[] = [];
  #scheduled = false;
  #deferred = false;
  #running = false;
  #closed = false;
  #spent = 0;
  /** Some device keeps what it is given until it is told that the burst is over. */
  #gathers = false;
  #timer: TimerHandle | null = null;
  #timerAt = Infinity;
  #referenced = true;
  #hostTimers = new Set<TimerHandle>();
  #waitingForRoom: (() => void)[] = [];
  #onGone: (device: Device, netInterface: NetInterface, cause: unknown) => void;

  constructor(layers: PumpLayers, clock: Clock, onGone: (device: Device, netInterface: NetInterface, cause: unknown) => void) {
    this.ip = layers.ip;
    this.tcp = layers.tcp;
    this.udp = layers.udp;
    this.clock = clock;
    this.#onGone = onGone;
  }

  get closed(): boolean {
    return this.#closed;
  }

  /** Devices in use. */
  get devices(): Device[] {
    return this.#ports.map((port) => port.device);
  }

  /** Opens `device` and takes its frames from now on. What `open` throws comes out. */
  attach(device: Device, netInterface: NetInterface): void {
    const port = new Port(device, netInterface, this.noteFault);
    device.open(() => {
      port.awake = true;
      this.schedule();
    });
    if (!this.#referenced) device.unref?.();
    this.#ports.push(port);
    this.#gathers ||= device.flush !== undefined;
    this.schedule();
  }

  /** Closes the device of an interface. */
  detach(netInterface: NetInterface): void {
    const at = this.#ports.findIndex((port) => port.interface === netInterface);
    if (at < 0) return;
    const [port] = this.#ports.splice(at, 1);
    port.close();
  }

  /** The time now, told to the layers too: before any call into them from outside a run. */
  now(): number {
    return this.ip.now = this.clock.now();
  }

  /** Asks for a run once the code that runs now is done. Any number of calls make one run. */
  schedule(): void {
    if (this.#scheduled || this.#deferred || this.#closed) return;
    // Two stacks joined by a cable could go on in microtasks for ever: after a burst others have their turn.
    if (this.#spent >= BURST_FRAMES) return this.#yield();
    this.#scheduled = true;
    queueMicrotask(this.#microtask);
  }

  /** Asks for a run if TCP has something to send. */
  touch(): void {
    if (this.tcp.dirty) this.schedule();
  }

  /**
   * After a call that handed a packet to a device by itself. A run costs more than that, so there is one only for what looped back,
   * a new deadline, or gathered output. True when the caller is to let others have a turn first ({@link whenRoom}): it may have
   * sent in microtasks all the time.
   */
  sent(): boolean {
    if (this.tcp.dirty || this.#gathers || this.ip.nextDeadline() < this.#timerAt) this.schedule();
    if (++this.#spent < BURST_FRAMES) return false;
    this.#yield();
    return true;
  }

  /** Calls back at the end of the next run: for a datagram that the device had no room for. */
  whenRoom(callback: () => void): void {
    this.#waitingForRoom.push(callback);
  }

  /** A timer of the shell itself, for rare things: it dies with the pump. Returns a function that clears it. */
  setTimer(delayMs: number, callback: () => void): () => void {
    const handle = this.clock.setTimer(this.clock.now() + delayMs, () => {
      this.#hostTimers.delete(handle);
      this.now();
      callback();
      this.schedule();
    });
    this.#hostTimers.add(handle);
    if (!this.#referenced) this.clock.refTimer?.(handle, false);
    return () => {
      if (this.#hostTimers.delete(handle)) this.clock.clearTimer(handle);
    };
  }

  /** Runs a user's callback apart from everything, so that what it throws stops nothing. */
  callUser(callback: () => unknown): void {
    queueMicrotask(async () => {
      try {
        await callback();
      } catch (error) {
        this.counters.callbackErrors++;
        this.lastFault = error;
      }
    });
  }

  /** Lets timers and devices keep the process alive, or not. */
  reference(on: boolean): void {
    this.#referenced = on;
    if (this.#timer !== null) this.clock.refTimer?.(this.#timer, on);
    for (const handle of this.#hostTimers) this.clock.refTimer?.(handle, on);
    for (const { device } of this.#ports) {
      if (on) device.ref?.();
      else device.unref?.();
    }
  }

  /** Ends all waiting with `error`, or what is bound to `localKey`. */
  fail(error: Error, localKey?: number): void {
    for (const one of [...this.failables]) {
      if (localKey !== undefined && one.localKey !== localKey) continue;
      this.failables.delete(one);
      one.fail(error);
    }
  }

  /** Sends what waits, closes the devices, and stops for good. */
  close(): void {
    if (this.#closed) return;
    this.#output();
    this.#closed = true;
    if (this.#timer !== null) this.clock.clearTimer(this.#timer);
    this.#timer = null;
    for (const handle of this.#hostTimers) this.clock.clearTimer(handle);
    this.#hostTimers.clear();
    // They find the pump closed, and reject.
    this.#retryRoom();
    for (const port of this.#ports) port.close();
    this.#ports.length = 0;
  }

  readonly noteFault = (error: unknown): void => {
    this.counters.faults++;
    this.lastFault = error;
  };

  readonly #microtask = (): void => {
    this.#scheduled = false;
    this.run();
  };

  readonly #macrotask = (): void => {
    this.#deferred = false;
    this.#spent = 0;
    this.run();
  };

  readonly #alarm = (): void => {
    this.#timer = null;
    this.#timerAt = Infinity;
    this.#spent = 0;
    this.counters.timers++;
    this.run();
  };

  /** One turn of the loop: a burst in, timers, waiting calls, output. */
  run(): void {
    if (this.#closed || this.#running) return;
    this.#running = true;
    this.counters.runs++;
    const now = this.now();
    let more = false;
    try {
      more = this.#input(now);
      if (now >= this.ip.nextDeadline()) this.ip.advance(now);
      if (now >= this.tcp.nextDeadline()) this.tcp.advance(now);
      more = this.#exchange(now) || more;
    } catch (error) {
      this.noteFault(error);
    }
    this.#running = false;
    if (this.#closed) return;
    this.#finish(now, more);
  }

  /** Takes a burst from every device that is awake. True if one had its whole budget, and so maybe more. */
  #input(now: number): boolean {
    let more = false;
    for (let i = 0; i < this.#ports.length; i++) {
      const budget = this.#ports[i].budget(BURST_FRAMES);
      const count = this.#ports[i].receive(budget, now);
      if (count < 0) {
        this.counters.deviceDown++;
      } else {
        if (count >= budget) more = true;
        this.counters.frames += count;
        this.#spent += count;
      }
    }
    return more;
  }

  /** Settles who waits, sends what that set free, and takes what came back over loop-back. True if there is more. */
  #exchange(now: number): boolean {
    for (let round = 0; round < ROUNDS_MAX; round++) {
      // First those who wait, so that the window they free goes out with the acknowledgement.
      this.#settle();
      this.#retryRoom();
      if (this.tcp.dirty) this.tcp.flush(now);
      const looped = this.ip.pump(LOOPBACK_PACKETS);
      this.#spent += looped;
      if (looped === 0 && this.tcp.ready.length === 0 && this.udp.ready.length === 0) return false;
    }
    return true;
  }

  #settle(): void {
    const { ready } = this.tcp;
    for (let i = 0; i < ready.length; i++) this.#tell(ready[i]);
    empty(ready);
    const datagrams = this.udp.ready;
    for (let i = 0; i < datagrams.length; i++) this.#tell(datagrams[i]);
    empty(datagrams);
  }

  #tell(socket: TcpSocket | TcpListenSocket | UdpSocket): void {
    const { events } = socket;
    socket.events = 0;
    const owner = socket.owner as SocketOwner | null | undefined;
    if (owner === null || owner === undefined) return;
    try {
      owner.onEvents(events);
    } catch (error) {
      this.noteFault(error);
    }
  }

  #retryRoom(): void {
    if (this.#waitingForRoom.length === 0) return;
    const waiting = this.#waitingForRoom;
    this.#waitingForRoom = [];
    for (const callback of waiting) callback();
  }

  /** Hands gathered output over, looks after lost devices, and arranges the next run. */
  #finish(now: number, more: boolean): void {
    this.#output();
    let gone: Port[] | null = null;
    for (let i = 0; i < this.#ports.length; i++) {
      const port = this.#ports[i];
      if (port.gone) (gone ??= []).push(port);
      else if (port.idle) port.device.arm();
    }
    if (gone !== null) this.#lose(gone);
    if (this.#closed) return;
    this.#armTimer(now);
    if (more) this.#yield();
  }

  #output(): void {
    for (let i = 0; i < this.#ports.length; i++) {
      const port = this.#ports[i];
      if (!port.gone) port.device.flush?.();
    }
  }

  #lose(gone: Port[]): void {
    for (const port of gone) {
      this.counters.deviceGone++;
      this.detach(port.interface);
      this.#onGone(port.device, port.interface, port.fault);
    }
  }

  /** Goes on in a macrotask, so that a flood of frames doesn't keep timers and I/O waiting. */
  #yield(): void {
    if (this.#deferred) return;
    this.#deferred = true;
    this.counters.yields++;
    if (this.clock.defer !== undefined) this.clock.defer(this.#macrotask);
    else setImmediate(this.#macrotask);
  }

  /** One timer for all deadlines. It is set anew only for an earlier one; when it rings too early, nothing is due. */
  #armTimer(now: number): void {
    let at = Math.min(this.ip.nextDeadline(), this.tcp.nextDeadline());
    for (let i = 0; i < this.#ports.length; i++) at = Math.min(at, this.#ports[i].retryAt);
    if (at >= this.#timerAt) return;
    if (this.#timer !== null) this.clock.clearTimer(this.#timer);
    // A deadline that is past, and stays so, must not become a spin.
    this.#timerAt = Math.max(at, now + 1);
    this.#timer = this.clock.setTimer(this.#timerAt, this.#alarm);
    if (!this.#referenced) this.clock.refTimer?.(this.#timer, false);
  }
}
