/**
 * One front end's connection to a vhost-user back end: what it has said so far, and the rings that follow from it.
 *
 * @module
 */
import { Descriptor } from "../../ffi/descriptor.ts";
import { quiet, ring } from "../../ffi/eventfd.ts";
import { createWaker, type Hold, POLLERR, POLLHUP, POLLNVAL, type Waker } from "../../ffi/poll.ts";
import { setNonblocking } from "../../ffi/shared_memory.ts";
import type { UnixSocket } from "../../ffi/unix_socket.ts";
import { FEATURES } from "./features.ts";
import { addressAt } from "./memory.ts";
import { PackedDeviceQueue } from "./packed_device.ts";
import { areaSizes, checkQueueSize, type DeviceQueue } from "./queue.ts";
import { SplitDeviceQueue } from "./split_device.ts";
import { REGION_SIZE, SLOTS_MAX, TABLE_REGIONS_MAX, VhostMemory } from "./vhost_memory.ts";
import * as p from "./vhost_protocol.ts";

const PROTOCOL_FEATURES = p.PROTOCOL_F_MQ | p.PROTOCOL_F_REPLY_ACK | p.PROTOCOL_F_NET_MTU | p.PROTOCOL_F_RARP |
  p.PROTOCOL_F_RESET_DEVICE | p.PROTOCOL_F_CONFIGURE_MEM_SLOTS | p.PROTOCOL_F_STATUS;
const STATUS_NEEDS_RESET = 64;

/** What a session tells its device. */
export interface SessionOwner {
  /** Feature bits to offer, and queue pairs. */
  readonly offered: bigint;
  readonly pairs: number;
  readonly sealedOnly: boolean;
  /** Whether its wakers keep the process alive. */
  readonly hold: Hold;
  agreed(features: bigint): void;
  ringChanged(index: number, queue: DeviceQueue | null): void;
  ringKicked(index: number): void;
  /** Called once, and not after `close`. */
  ended(reason: string | null): void;
}

class Vring {
  size = 0;
  base = 0;
  descriptors = -1;
  driver = -1;
  device = -1;
  enabled = false;
  queue: DeviceQueue | null = null;
  kick: Descriptor | null = null;
  call: Descriptor | null = null;
  error: Descriptor | null = null;
  waker: Waker | null = null;

  /** Forgets the kick descriptor. */
  unkick(): void {
    this.waker?.close();
    this.kick?.close();
    this.waker = this.kick = null;
  }

  close(): void {
    this.queue = null;
    this.unkick();
    this.call?.close();
    this.error?.close();
    this.call = this.error = null;
  }
}

/** A connection; ends itself when the front end goes or breaks the protocol. */
export class VhostSession implements p.ChannelHandler {
  readonly #channel: p.VhostChannel;
  readonly #owner: SessionOwner;
  readonly #vrings: Vring[];
  #memory = new VhostMemory();
  #features = 0n;
  #protocol = 0n;
  #status = 0;
  #closed = false;

  constructor(socket: UnixSocket, owner: SessionOwner) {
    this.#owner = owner;
    this.#vrings = Array.from({ length: owner.pairs * 2 }, () => new Vring());
    this.#channel = new p.VhostChannel(socket, this, owner.hold);
  }

  /** Memory regions that aren't protected against being shortened. */
  get unsealed(): number {
    return this.#memory.unsealed;
  }

  /** Tells the driver that ring `index` has used buffers. */
  interrupt(index: number): void {
    const call = this.#vrings[index]?.call;
    if (call) ring(call.fd);
  }

  /**
   * A ring makes no sense: the front end is told, where it has said how. All rings stop as GET_VRING_BASE stops one: only a new
   * kick descriptor, which is what a driver's start brings, puts them to work again.
   */
  broke(): void {
    this.#status |= STATUS_NEEDS_RESET;
    for (const vring of this.#vrings) {
      if (vring.queue !== null) vring.base = vring.queue.base;
      vring.queue = null;
      vring.unkick();
      if (vring.error !== null) ring(vring.error.fd);
    }
  }

  message(message: p.VhostMessage): void {
    let failed: string | null = null;
    let answered = false;
    try {
      answered = this.#handle(message);
    } catch (error) {
      failed = `message ${message.request}: ${(error as Error).message}`;
    }
    // Without a way to say no, the connection is all there is to end.
    const canAnswer = message.needReply && (this.#protocol & p.PROTOCOL_F_REPLY_ACK) !== 0n;
    if (!answered && canAnswer) this.#channel.send(message.request, p.words(failed === null ? 0n : 1n), [], true);
    if (failed !== null) this.ended(failed);
  }

  /** True if it has answered by itself. */
  #handle(message: p.VhostMessage): boolean {
    const { request, payload } = message;
    switch (request) {
      case p.GET_FEATURES:
        return this.#answer(message, this.#owner.offered | FEATURES.VHOST_PROTOCOL);
      case p.GET_PROTOCOL_FEATURES:
        return this.#answer(message, PROTOCOL_FEATURES);
      case p.GET_QUEUE_NUM:
        return this.#answer(message, BigInt(this.#owner.pairs));
      case p.GET_MAX_MEM_SLOTS:
        return this.#answer(message, BigInt(SLOTS_MAX));
      case p.GET_STATUS:
        return this.#answer(message, BigInt(this.#status));
      case p.GET_VRING_BASE:
        return this.#stopRing(message);
      case p.SET_FEATURES:
        return this.#setFeatures(this.#word(message));
      case p.SET_PROTOCOL_FEATURES:
        this.#protocol = this.#word(message) & PROTOCOL_FEATURES;
        return false;
      case p.SET_MEM_TABLE:
        return this.#setMemory(message);
      case p.ADD_MEM_REG:
        return this.#addMemory(message);
      case p.REM_MEM_REG:
        this.#needs(message, 8 + REGION_SIZE);
        this.#stopAll();
        if (!this.#memory.remove(payload, 8)) throw new RangeError("no such memory region");
        return this.#startAll();
      case p.SET_VRING_NUM:
      case p.SET_VRING_BASE:
      case p.SET_VRING_ENABLE:
      case p.SET_VRING_ADDR:
        return this.#setRing(message);
      case p.SET_VRING_KICK:
      case p.SET_VRING_CALL:
      case p.SET_VRING_ERR:
        return this.#setDescriptor(message);
      case p.SET_STATUS:
        this.#status = Number(this.#word(message) & 0xffn);
        if (this.#status === 0) this.#reset();
        return false;
      case p.RESET_OWNER:
      case p.RESET_DEVICE:
        this.#reset();
        return false;
      case p.SET_OWNER:
      case p.SEND_RARP:
      case p.NET_SET_MTU:
        return false;
    }
    throw new RangeError("it is not known");
  }

  #needs(message: p.VhostMessage, size: number): void {
    if (message.size < size) throw new RangeError(`${message.size} bytes, ${size} are needed`);
  }

  #word(message: p.VhostMessage): bigint {
    this.#needs(message, 8);
    return message.payload.getBigUint64(0, true);
  }

  #answer(message: p.VhostMessage, value: bigint): true {
    this.#channel.send(message.request, p.words(value), [], true);
    return true;
  }

  #setFeatures(features: bigint): false {
    const foreign = features & ~(this.#owner.offered | FEATURES.VHOST_PROTOCOL);
    if (foreign !== 0n) throw new RangeError(`features 0x${foreign.toString(16)} were not offered`);
    if (features === this.#features) return false;
    this.#stopAll();
    this.#features = features;
    this.#owner.agreed(features);
    return this.#startAll();
  }

  #setMemory(message: p.VhostMessage): false {
    this.#needs(message, 8);
    const { payload, descriptors } = message;
    const count = payload.getUint32(0, true);
    if (count > TABLE_REGIONS_MAX) throw new RangeError(`${count} regions`);
    this.#needs(message, 8 + count * REGION_SIZE);
    if (descriptors.length !== count) throw new RangeError(`${descriptors.length} descriptors for ${count} regions`);
    this.#stopAll();
    this.#memory.close();
    this.#memory = new VhostMemory();
    for (let i = 0; i < count; i++) {
      this.#memory.add(payload, 8 + i * REGION_SIZE, descriptors.shift()!, this.#owner.sealedOnly);
    }
    return this.#startAll();
  }

  #addMemory(message: p.VhostMessage): boolean {
    this.#needs(message, 8 + REGION_SIZE);
    if (message.descriptors.length !== 1) throw new RangeError(`${message.descriptors.length} descriptors for a region`);
    if (this.#memory.count >= SLOTS_MAX) throw new RangeError(`more than ${SLOTS_MAX} memory regions`);
    this.#memory.add(message.payload, 8, message.descriptors.shift()!, this.#owner.sealedOnly);
    return this.#startAll();
  }

  #ring(index: number): Vring {
    const vring = this.#vrings[index];
    if (vring === undefined) throw new RangeError(`ring ${index} of ${this.#vrings.length}`);
    return vring;
  }

  #setRing(message: p.VhostMessage): false {
    this.#needs(message, message.request === p.SET_VRING_ADDR ? 40 : 8);
    const { payload } = message;
    const index = payload.getUint32(0, true);
    const value = payload.getUint32(4, true);
    const vring = this.#ring(index);
    switch (message.request) {
      case p.SET_VRING_NUM:
        checkQueueSize(value, (this.#features & FEATURES.RING_PACKED) !== 0n);
        vring.size = value;
        break;
      case p.SET_VRING_BASE:
        vring.base = value;
        break;
      case p.SET_VRING_ENABLE:
        vring.enabled = value === 1;
        break;
      default:
        vring.descriptors = addressAt(payload, 8);
        vring.device = addressAt(payload, 16);
        vring.driver = addressAt(payload, 24);
    }
    if (vring.queue !== null) this.#stop(index);
    return this.#start(index);
  }

  #setDescriptor(message: p.VhostMessage): false {
    const value = Number(this.#word(message));
    const index = value & p.VRING_INDEX;
    const vring = this.#ring(index);
    const none = (value & p.VRING_NO_FD) !== 0;
    if (message.descriptors.length !== (none ? 0 : 1)) throw new RangeError(`${message.descriptors.length} descriptors`);
    const fd = none ? null : new Descriptor(message.descriptors.shift()!);
    if (fd !== null) setNonblocking(fd.fd);
    if (message.request === p.SET_VRING_CALL) {
      vring.call?.close();
      vring.call = fd;
      // What was used while nobody could be told is told now.
      if (fd !== null && vring.queue !== null) ring(fd.fd);
      return false;
    }
    if (message.request === p.SET_VRING_ERR) {
      vring.error?.close();
      vring.error = fd;
      return false;
    }
    if (fd === null) throw new RangeError("a ring without a kick descriptor would have to be polled");
    this.#stop(index);
    vring.unkick();
    vring.kick = fd;
    return this.#start(index);
  }

  /** Puts a ring to work once everything about it is known. */
  #start(index: number): false {
    const vring = this.#vrings[index];
    const enabled = vring.enabled || (this.#features & FEATURES.VHOST_PROTOCOL) === 0n;
    const known = vring.size > 0 && vring.descriptors >= 0 && vring.kick !== null && this.#memory.count > 0;
    if (!enabled || !known || vring.queue !== null) return false;
    const packed = (this.#features & FEATURES.RING_PACKED) !== 0n;
    const sizes = areaSizes(packed, vring.size);
    const { memory } = this.#memory;
    const layout = {
      size: vring.size,
      descriptors: memory.fromUser(vring.descriptors, sizes.descriptors),
      driver: memory.fromUser(vring.driver, sizes.driver),
      device: memory.fromUser(vring.device, sizes.device),
      eventIndex: (this.#features & FEATURES.RING_EVENT_IDX) !== 0n,
      indirect: (this.#features & FEATURES.RING_INDIRECT_DESC) !== 0n,
    };
    // Between a memory table and the addresses that follow it, the old addresses mean nothing.
    if (layout.descriptors < 0 || layout.driver < 0 || layout.device < 0) return false;
    // Everything taken is given back at once, so that the used side stands where the available side does.
    const low = vring.base & 0xffff;
    vring.queue = packed
      ? new PackedDeviceQueue(memory, layout, low * 0x10001)
      : new SplitDeviceQueue(memory, layout, vring.base);
    vring.waker = createWaker(vring.kick!.fd, (events) => this.#kicked(index, events), this.#owner.hold);
    vring.waker.arm();
    this.#owner.ringChanged(index, vring.queue);
    return false;
  }

  #kicked(index: number, events: number): void {
    const vring = this.#vrings[index];
    if (vring.kick === null || vring.waker === null) return;
    quiet(vring.kick.fd);
    // No event descriptor fails. What does (a socket whose other end is closed) would call for ever.
    if ((events & (POLLERR | POLLHUP | POLLNVAL)) === 0) vring.waker.arm();
    this.#owner.ringKicked(index);
  }

  /** Takes a ring away, and remembers where it stood. */
  #stop(index: number): void {
    const vring = this.#vrings[index];
    if (vring.queue !== null) {
      vring.queue.publish();
      vring.base = vring.queue.base;
    }
    vring.queue = null;
    vring.waker?.close();
    vring.waker = null;
    this.#owner.ringChanged(index, null);
  }

  #stopAll(): void {
    for (let i = 0; i < this.#vrings.length; i++) this.#stop(i);
  }

  /** As broke(): where the old driver had its rings is the new one's memory for anything, until it brings kick descriptors. */
  #reset(): void {
    this.#stopAll();
    for (const vring of this.#vrings) {
      vring.enabled = false;
      vring.unkick();
    }
    this.#status = 0;
  }

  #startAll(): false {
    for (let i = 0; i < this.#vrings.length; i++) this.#start(i);
    return false;
  }

  #stopRing(message: p.VhostMessage): true {
    this.#needs(message, 8);
    const index = message.payload.getUint32(0, true);
    const vring = this.#ring(index);
    this.#stop(index);
    vring.unkick();
    this.#channel.send(message.request, p.vringState(index, vring.base), [], true);
    return true;
  }

  ended(reason: string | null): void {
    if (this.#closed) return;
    this.close();
    this.#owner.ended(reason);
  }

  /** Ends it: rings first, then the memory that they lie in. A second call does nothing. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#channel.close();
    this.#stopAll();
    for (const vring of this.#vrings) vring.close();
    this.#memory.close();
  }
}
