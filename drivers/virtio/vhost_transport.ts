/**
 * The front end of vhost-user as a transport for a virtio driver: what a register would do, a message does.
 *
 * @module
 */
import type { Descriptor } from "../../ffi/descriptor.ts";
import { createEvent, quiet, ring } from "../../ffi/eventfd.ts";
import { createWaker, Hold, type Waker } from "../../ffi/poll.ts";
import { createSharedMemory, Mapping } from "../../ffi/shared_memory.ts";
import type { UnixSocket } from "../../ffi/unix_socket.ts";
import { FEATURES } from "./features.ts";
import { SharedMemory } from "./memory.ts";
import * as c from "./net_config.ts";
import type { QueueAddresses, VirtioTransport } from "./transport.ts";
import * as p from "./vhost_protocol.ts";

/** Bytes that the driver has for its rings and buffers. */
export const SHARED_BYTES = 8 << 20;
/** Where they begin, as descriptors and ring addresses know it: not at 0, which some back ends take for "none". */
const BASE = 0x1000_0000;
/** What a back end's answer is waited for, in milliseconds. */
const ANSWER_MS = 10_000;
/** Bits that belong to a configuration space, which vhost-user leaves to the front end: here there is none. */
const CONFIGURED = FEATURES.NET_MAC | FEATURES.NET_MTU | FEATURES.NET_STATUS | FEATURES.NET_CTRL_VQ | FEATURES.NET_MQ |
  FEATURES.NET_GUEST_ANNOUNCE | FEATURES.NET_SPEED_DUPLEX | FEATURES.VHOST_PROTOCOL;

interface Ring {
  readonly kick: Descriptor;
  readonly call: Descriptor;
  readonly waker: Waker;
}

/** A back end over its socket. Ask {@link begin} before anything else. */
export class VhostTransport implements VirtioTransport, p.ChannelHandler {
  readonly name = "vhost-user";
  readonly legacy = false;
  readonly deviceId = c.NET_DEVICE_ID;
  readonly fixedQueueSize = false;
  /** The driver's memory, which the back end shares. */
  readonly memory: SharedMemory;
  readonly base: number = BASE;
  readonly #channel: p.VhostChannel;
  readonly #shared: Descriptor;
  readonly #mapping: Mapping;
  readonly #rings: (Ring | null)[] = [null, null];
  readonly #hold: Hold;
  readonly #onInterrupt: () => void;
  readonly #onEnd: (reason: string | null) => void;
  #answer: { request: number; done: PromiseWithResolvers<bigint> } | null = null;
  #offered = 0n;
  #chosen = 0n;
  #status = 0;
  #closed = false;

  /**
   * @param onEnd the back end has gone (null), or broke the protocol
   * @param hold whether its wakers keep the process alive
   */
  constructor(socket: UnixSocket, onInterrupt: () => void, onEnd: (reason: string | null) => void, hold: Hold = new Hold()) {
    this.#hold = hold;
    this.#onInterrupt = onInterrupt;
    this.#onEnd = onEnd;
    try {
      this.#shared = createSharedMemory("tapioca vhost-user", SHARED_BYTES);
    } catch (error) {
      socket.close();
      throw error;
    }
    let mapping: Mapping | null = null;
    try {
      this.#mapping = mapping = Mapping.map(this.#shared.fd, SHARED_BYTES);
      this.memory = SharedMemory.of(mapping.bytes, BASE);
      this.#channel = new p.VhostChannel(socket, this, hold);
    } catch (error) {
      mapping?.unmap();
      this.#shared.close();
      socket.close();
      throw error;
    }
  }

  /** Asks for what the back end can do. Rejects when it goes, or says nothing. */
  async begin(): Promise<void> {
    this.#offered = await this.#ask(p.GET_FEATURES);
    if ((this.#offered & FEATURES.VHOST_PROTOCOL) !== 0n) {
      await this.#ask(p.GET_PROTOCOL_FEATURES);
      this.#channel.send(p.SET_PROTOCOL_FEATURES, p.words(0n));
    }
    this.#channel.send(p.SET_OWNER, new Uint8Array());
  }

  #ask(request: number): Promise<bigint> {
    // It may have gone behind its last answer: nobody would end the wait.
    if (this.#closed) return Promise.reject(new Deno.errors.ConnectionReset("the back end has gone"));
    const done = Promise.withResolvers<bigint>();
    this.#answer = { request, done };
    const timer = setTimeout(() => done.reject(new Deno.errors.TimedOut("the back end doesn't answer")), ANSWER_MS);
    this.#channel.send(request, new Uint8Array());
    return done.promise.finally(() => clearTimeout(timer));
  }

  message(message: p.VhostMessage): void {
    const answer = this.#answer;
    // Where a ring stood when it was stopped is nobody's business any more.
    if (message.request === p.GET_VRING_BASE) return;
    if (answer === null || !message.reply || message.request !== answer.request || message.size < 8) {
      return this.#channel.fail(`an unexpected message ${message.request}`);
    }
    this.#answer = null;
    answer.done.resolve(message.payload.getBigUint64(0, true));
  }

  /** Why the back end can't be reached any more, or null: known before its end is told. */
  get broken(): string | null {
    return this.#channel.broken;
  }

  ended(reason: string | null): void {
    this.#answer?.done.reject(new Deno.errors.ConnectionReset(reason ?? "the back end has gone"));
    this.#answer = null;
    this.#onEnd(reason);
  }

  get status(): number {
    return this.#status;
  }

  set status(value: number) {
    const news = value & ~this.#status;
    this.#status = value & 0xff;
    if (value === 0) { for (const index of [0, 1]) this.#stop(index); }
    else if ((news & c.STATUS_DRIVER_OK) !== 0 && (this.#offered & FEATURES.VHOST_PROTOCOL) !== 0n) {
      this.#rings.forEach((one, index) => {
        if (one !== null) this.#channel.send(p.SET_VRING_ENABLE, p.vringState(index, 1));
      });
    }
  }

  deviceFeatures(): bigint {
    return this.#offered & ~CONFIGURED;
  }

  chooseFeatures(features: bigint): void {
    this.#chosen = features;
    this.#channel.send(p.SET_FEATURES, p.words(features | (this.#offered & FEATURES.VHOST_PROTOCOL)));
    const table = new Uint8Array(8 + 32);
    const view = new DataView(table.buffer);
    view.setUint32(0, 1, true);
    [BASE, SHARED_BYTES, BASE, 0].forEach((value, i) => view.setBigUint64(8 + 8 * i, BigInt(value), true));
    this.#channel.send(p.SET_MEM_TABLE, table, [this.#shared.fd]);
  }

  configGeneration(): number {
    return 0;
  }

  readConfig(): number {
    return 0;
  }

  queueSizeMax(index: number): number {
    return index < this.#rings.length ? 1024 : 0;
  }

  queueReady(index: number): boolean {
    return this.#rings[index] !== null;
  }

  setUpQueue(index: number, addresses: QueueAddresses): void {
    this.#stop(index);
    const { kick, call } = this.#rings[index] = this.#makeRing();
    const packed = (this.#chosen & FEATURES.RING_PACKED) !== 0n;
    this.#channel.send(p.SET_VRING_NUM, p.vringState(index, addresses.size));
    // A packed ring begins in its first round: both wrap counters are set.
    this.#channel.send(p.SET_VRING_BASE, p.vringState(index, packed ? 0x80008000 : 0));
    const address = new Uint8Array(40);
    const view = new DataView(address.buffer);
    view.setUint32(0, index, true);
    [addresses.descriptors, addresses.device, addresses.driver].forEach((at, i) => {
      view.setBigUint64(8 + 8 * i, BigInt(at), true);
    });
    this.#channel.send(p.SET_VRING_ADDR, address);
    this.#channel.send(p.SET_VRING_CALL, p.words(BigInt(index)), [call.fd]);
    this.#channel.send(p.SET_VRING_KICK, p.words(BigInt(index)), [kick.fd]);
  }

  #makeRing(): Ring {
    const kick = createEvent();
    let call: Descriptor | null = null;
    try {
      const { fd } = call = createEvent();
      const waker = createWaker(fd, () => {
        quiet(fd);
        waker.arm();
        this.#onInterrupt();
      }, this.#hold);
      waker.arm();
      return { kick, call, waker };
    } catch (error) {
      // It is tried again, and must not have fewer descriptors each time.
      call?.close();
      kick.close();
      throw error;
    }
  }

  #stop(index: number): void {
    const one = this.#rings[index];
    if (one === null) return;
    this.#rings[index] = null;
    this.#channel.send(p.GET_VRING_BASE, p.vringState(index, 0));
    one.waker.close();
    one.kick.close();
    one.call.close();
  }

  notify(index: number): void {
    const one = this.#rings[index];
    if (one !== null) ring(one.kick.fd);
  }

  interrupt(): number {
    return c.INTERRUPT_USED;
  }

  /** Ends the connection, and gives the memory back: the driver must be closed by then. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const index of [0, 1]) this.#stop(index);
    this.#channel.close();
    this.memory.remove(this.memory.regions[0]);
    this.#mapping.unmap();
    this.#shared.close();
  }
}
