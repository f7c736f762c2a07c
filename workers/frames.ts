/**
 * Frames that come to one worker and belong to another. The kernel keeps a flow on the queue that last sent for it, but
 * what comes before that, after three quiet seconds, or without ports (ARP, ICMP) comes to any.
 *
 * @module
 */
import type { Device, DeviceCapabilities, FrameMemory, FrameSink, TxFrame } from "../stack/device.ts";
import { FrameMemory as Memory } from "../stack/device.ts";
import type { Bell } from "./bell.ts";

/** Bytes of the ring from one worker to another: what doesn't fit is dropped, and counted. */
export const FRAME_RING_BYTES = 1 << 20;

const HEAD = 0;
const TAIL = 16;
const DATA = 128;
/** Length, flags, segment size, hops. */
const RECORD_HEADER = 16;
/** Hops of a frame that is for the receiver, whatever it thinks. */
const FOR_YOU = 255;

/** A ring of frames: one writer, one reader, on different threads. */
export class FrameRing {
  readonly #cells: Int32Array;
  readonly #memory: FrameMemory;
  readonly #size: number;

  constructor(shared: SharedArrayBuffer) {
    this.#cells = new Int32Array(shared);
    // The stack only reads from it; that it is shared makes no difference to the one view and the one array.
    this.#memory = new Memory(new Uint8Array(shared as unknown as ArrayBuffer));
    this.#size = shared.byteLength - DATA;
  }

  static create(): SharedArrayBuffer {
    return new SharedArrayBuffer(FRAME_RING_BYTES + DATA);
  }

  /** A copy of a frame; false when it doesn't fit. A record never wraps around: what is left at the end is skipped. */
  push(from: FrameMemory, offset: number, length: number, flags: number, segmentSize: number, hops: number): boolean {
    const cells = this.#cells, size = this.#size;
    const need = (RECORD_HEADER + length + 15) & ~15;
    let head = Atomics.load(cells, HEAD);
    const tail = Atomics.load(cells, TAIL);
    const free = size - ((head - tail) | 0);
    let at = (head >>> 0) % size;
    const toEnd = size - at;
    if (toEnd < need) {
      if (free < toEnd + need) return false;
      cells[(DATA + at) >>> 2] = -1;
      head = (head + toEnd) | 0;
      at = 0;
    } else if (free < need) return false;
    const cell = (DATA + at) >>> 2;
    cells[cell] = length;
    cells[cell + 1] = flags;
    cells[cell + 2] = segmentSize;
    cells[cell + 3] = hops;
    this.#memory.bytes.set(from.bytes.subarray(offset, offset + length), DATA + at + RECORD_HEADER);
    Atomics.store(cells, HEAD, (head + need) | 0);
    return true;
  }

  /** Hands at most `budget` frames to `take`. How many. */
  drain(
    budget: number,
    take: (memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number, hops: number) => void,
  ): number {
    const cells = this.#cells, size = this.#size;
    let count = 0;
    let tail = Atomics.load(cells, TAIL);
    const head = Atomics.load(cells, HEAD);
    while (tail !== head && count < budget) {
      const at = (tail >>> 0) % size;
      const cell = (DATA + at) >>> 2;
      const length = cells[cell];
      if (length < 0) tail = (tail + size - at) | 0;
      else {
        take(this.#memory, DATA + at + RECORD_HEADER, length, cells[cell + 1], cells[cell + 2], cells[cell + 3]);
        tail = (tail + ((RECORD_HEADER + length + 15) & ~15)) | 0;
        count++;
      }
      Atomics.store(cells, TAIL, tail);
    }
    return count;
  }

  get waiting(): boolean {
    return Atomics.load(this.#cells, HEAD) !== Atomics.load(this.#cells, TAIL);
  }
}

/** What a queue asks the worker's own stack. */
export interface Ownership {
  /** The stack has this connection. */
  connected(localKey: number, localPort: number, remoteKey: number, remotePort: number): boolean;
  /** It listens there. */
  listening(localKey: number, localPort: number): boolean;
  /** It has this address. */
  local(key: number): boolean;
}

const ARP_TYPE = 0x0806, IP_TYPE = 0x0800, VLAN_TYPE = 0x8100;
const ECHO_REPLY = 0, ECHO_REQUEST = 8, TIMESTAMP_REPLY = 14;
/** Unreachable, source quench, redirect, time exceeded, parameter problem: any worker's packet may be meant. */
const ICMP_ERRORS = 1 << 3 | 1 << 4 | 1 << 5 | 1 << 11 | 1 << 12;
const SYN = 2, ACK = 16, RST = 4;

/** The other workers, and what reaches them. */
export interface Others {
  index: number;
  count: number;
  /** Rings to and from them; null at one's own place. */
  to: (FrameRing | null)[];
  from: (FrameRing | null)[];
  bells: Bell[];
}

/** One queue of a device: hands frames over to the workers that they belong to, and takes theirs. */
export class QueueDevice implements Device, FrameSink {
  readonly name: string;
  readonly medium: "ethernet" | "ip";
  readonly mtu: number;
  readonly mac: Uint8Array | null;
  readonly capabilities: DeviceCapabilities;
  owner: Ownership | null = null;
  #sink: FrameSink | null = null;
  #wake: () => void = () => {};
  #handedOver = 0;
  #copied = 0;
  #taken = 0;
  #dropped = 0;
  #fragments = 0;
  /** Workers that got something in this burst, as bits. */
  #rang = 0;

  constructor(readonly inner: Device, readonly others: Others) {
    this.name = inner.name;
    this.medium = inner.medium;
    this.mtu = inner.mtu;
    this.mac = inner.mac;
    this.capabilities = inner.capabilities;
  }

  open(wake: () => void): void {
    this.#wake = wake;
    this.inner.open(wake);
  }

  /** Another worker has put frames here. */
  wake(): void {
    this.#wake();
  }

  arm(): void {
    this.inner.arm();
    for (const ring of this.others.from) if (ring?.waiting) this.#wake();
  }

  receive(sink: FrameSink, budget: number): number {
    this.#sink = sink;
    let taken = 0;
    for (const ring of this.others.from) if (ring !== null && taken < budget) taken += ring.drain(budget - taken, this.#take);
    this.#taken += taken;
    const count = taken < budget ? this.inner.receive(this, budget - taken) : 0;
    this.#ringAll();
    return count < 0 && taken === 0 ? count : taken + Math.max(0, count);
  }

  #ringAll(): void {
    for (let to = 0; this.#rang !== 0; to++) {
      if ((this.#rang & (1 << to)) === 0) continue;
      this.#rang &= ~(1 << to);
      this.others.bells[to].markFrames();
      this.others.bells[to].ring();
    }
  }

  readonly #take = (
    memory: FrameMemory,
    offset: number,
    length: number,
    flags: number,
    segmentSize: number,
    hops: number,
  ): void => {
    if (hops === FOR_YOU) this.#sink?.frame(memory, offset, length, flags, segmentSize);
    else this.#sort(memory, offset, length, flags, segmentSize, hops);
  };

  frame(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.#sort(memory, offset, length, flags, segmentSize, 0);
  }

  /** Whose is it? Only as much is read as that takes; everything is checked by the stack that gets it. */
  #sort(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number, hops: number): void {
    const { view } = memory;
    const end = offset + length;
    let at = offset;
    if (this.medium === "ethernet") {
      at += 14;
      if (at + 4 > end) return this.#mine(memory, offset, length, flags, segmentSize);
      let type = view.getUint16(at - 2);
      if (type === VLAN_TYPE) {
        at += 4;
        type = view.getUint16(at - 2);
      }
      if (type === ARP_TYPE) return this.#sortArp(memory, offset, length, flags, at);
      if (type !== IP_TYPE) return this.#mine(memory, offset, length, flags, segmentSize);
    }
    if (at + 28 > end || view.getUint8(at) >>> 4 !== 4) return this.#mine(memory, offset, length, flags, segmentSize);
    const proto = view.getUint8(at + 9);
    const transport = at + 4 * (view.getUint8(at) & 15);
    if ((view.getUint16(at + 6) & 0x3fff) !== 0) {
      // Fragments have no ports. UDP and ICMP are worker 0's. TCP in fragments is dropped: a
      // worker that doesn't have the connection would reset it.
      if (proto === 6) this.#fragments++;
      else return this.#toFirst(memory, offset, length, flags, segmentSize);
      return;
    }
    if (proto === 6 && transport + 20 <= end) {
      if (this.#ownsSegment(view, at, transport) || hops >= this.others.count) {
        return this.#mine(memory, offset, length, flags, segmentSize);
      }
      const next = (this.others.index + 1) % this.others.count;
      return this.#pass(next, memory, offset, length, flags, segmentSize, hops + 1);
    }
    if (proto === 1 && transport < end) {
      const type = view.getUint8(transport);
      if (type < 32 && (ICMP_ERRORS & (1 << type)) !== 0) this.#toAll(memory, offset, length, flags, segmentSize);
      else if (type === ECHO_REPLY || type === TIMESTAMP_REPLY) return this.#toFirst(memory, offset, length, flags, segmentSize);
      else if (type === ECHO_REQUEST) { /* answered by whoever gets it */ }
      return this.#mine(memory, offset, length, flags, segmentSize);
    }
    this.#toFirst(memory, offset, length, flags, segmentSize);
  }

  #ownsSegment(view: DataView, ip: number, tcp: number): boolean {
    const { owner } = this;
    if (owner === null) return true;
    const remoteKey = view.getInt32(ip + 12), localKey = view.getInt32(ip + 16);
    const remotePort = view.getUint16(tcp), localPort = view.getUint16(tcp + 2);
    if (!owner.local(localKey) || owner.connected(localKey, localPort, remoteKey, remotePort)) return true;
    // A new connection belongs where its SYN comes: so the kernel spreads them.
    return (view.getUint8(tcp + 13) & (SYN | ACK | RST)) === SYN && owner.listening(localKey, localPort);
  }

  /** Answers teach everybody; requests are answered by one. */
  #sortArp(memory: FrameMemory, offset: number, length: number, flags: number, at: number): void {
    const { view } = memory;
    if (at + 28 <= offset + length) {
      const target = view.getInt32(at + 24);
      const announcement = view.getInt32(at + 14) === target && this.owner?.local(target) !== true;
      if (view.getUint16(at + 6) === 2 || announcement) this.#toAll(memory, offset, length, flags, 0);
    }
    this.#mine(memory, offset, length, flags, 0);
  }

  #mine(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    this.#sink?.frame(memory, offset, length, flags, segmentSize);
  }

  #toFirst(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    if (this.others.index === 0) this.#mine(memory, offset, length, flags, segmentSize);
    else this.#pass(0, memory, offset, length, flags, segmentSize, FOR_YOU);
  }

  #toAll(memory: FrameMemory, offset: number, length: number, flags: number, segmentSize: number): void {
    for (let to = 0; to < this.others.count; to++) {
      if (to === this.others.index) continue;
      this.#pass(to, memory, offset, length, flags, segmentSize, FOR_YOU);
      this.#copied++;
      this.#handedOver--;
    }
  }

  #pass(
    to: number,
    memory: FrameMemory,
    offset: number,
    length: number,
    flags: number,
    segmentSize: number,
    hops: number,
  ): void {
    this.#handedOver++;
    this.#rang |= 1 << to;
    if (this.others.to[to]?.push(memory, offset, length, flags, segmentSize, hops) !== true) this.#dropped++;
  }

  transmit(frame: TxFrame): number {
    return this.inner.transmit(frame);
  }

  flush(): void {
    this.inner.flush?.();
  }

  close(): void {
    this.inner.close();
  }

  statistics(): Record<string, number> {
    return {
      ...this.inner.statistics?.(),
      /** Frames that were another worker's, and copies of what all have to know. */
      handedOver: this.#handedOver,
      copied: this.#copied,
      /** Frames that came from another worker. */
      taken: this.#taken,
      /** Frames for another worker whose ring was full. */
      handoverDropped: this.#dropped,
      /** TCP in IP fragments: dropped, because it can't be told whose it is. */
      tcpFragmentsDropped: this.#fragments,
    };
  }
}
