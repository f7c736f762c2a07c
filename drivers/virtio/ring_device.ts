/**
 * A device whose frames come out of virtqueues and go into them: the host's side of virtio-net (virtio 1.2, 5.1.6). What
 * drives it, registers or a vhost-user socket, is up to those who extend it.
 *
 * @module
 */
import { EAGAIN, EMSGSIZE, ENETDOWN, ENODEV } from "../../stack/codes.ts";
import { type Device, type DeviceCapabilities, FrameMemory, type FrameSink, RX_CHECKSUM_PARTIAL } from "../../stack/device.ts";
import type { TxFrame } from "../../stack/device.ts";
import { completeChecksum } from "../../stack/ip/offload.ts";
import { Normalizer } from "../normalize.ts";
import * as header from "../virtio_header.ts";
import { Chain } from "./chain.ts";
import { FEATURES, hostSegmentKinds } from "./features.ts";
import { FlowTable } from "./flow_table.ts";
import type { DeviceQueue } from "./queue.ts";
import { RingCounters } from "./ring_counters.ts";

/** Largest frame: a 64 KiB packet, an Ethernet header and two tags. */
export const FRAME_MAX = 65_535 + 22;
/** The header of virtio 1.0 and later, and of mergeable buffers; legacy drivers without those have 10 bytes. */
export const HEADER_SIZE = 12;
/** Where a frame is put, so that its IP header is aligned. */
const FRAME_AT = 2;
/** Most queue pairs. */
export const PAIRS_MAX = 16;
/** Most chains that one frame takes (mergeable buffers): 64 KiB in pieces of 256 bytes. */
export const MERGED_MAX = 256;

/** The host's side of a virtio network device. */
export abstract class RingDevice implements Device {
  readonly name: string;
  readonly medium = "ethernet";
  readonly mtu: number;
  /** The address of our own end, not the guest's. */
  readonly mac: Uint8Array;
  /** Everything: what the guest's driver can't do is done here. */
  readonly capabilities: DeviceCapabilities = { rxChecksum: true, txChecksum: true, txSegmentation: 65_535, rxFrame: FRAME_MAX };
  /** What it counts. */
  protected readonly counters: RingCounters = new RingCounters();
  /** Why the last ring broke, or null. */
  fault: string | null = null;
  readonly #queues: (DeviceQueue | null)[] = new Array(PAIRS_MAX * 2).fill(null);
  #pairs = 1;
  #firstPair = 0;
  /** Receive queues that have been written to since the last flush. */
  #dirty = 0;
  /** A frame didn't fit: the next kick of a queue to the guest is news. */
  #starved = false;
  readonly #chain = new Chain();
  readonly #merged: Chain[] = [new Chain()];
  readonly #slot = new FrameMemory(FRAME_AT + FRAME_MAX + 1);
  readonly #rxHeader = new FrameMemory(HEADER_SIZE);
  readonly #txHeader = new FrameMemory(HEADER_SIZE);
  readonly #flows = new FlowTable();
  #normalizer: Normalizer | null = null;
  /** What became of the first frame that was cut: 1 while there is none. */
  #plainCode = 1;
  #headerSize = HEADER_SIZE;
  #features = 0n;
  #mergeable = false;
  #guestChecksum = false;
  #guestSegments = false;
  #guestEcn = false;
  #hostChecksum = false;
  /** Bit n: the guest may send segments of gso_type n. */
  #hostKinds = 0;
  #wake: (() => void) | null = null;
  #closed = false;

  /** A device without queues. */
  constructor(name: string, mtu: number, mac: Uint8Array) {
    this.name = name;
    this.mtu = mtu;
    this.mac = mac;
  }

  /** Tells the driver that queue `index` has used buffers. */
  protected abstract interrupt(index: number): void;

  /** A ring was broken, and nothing goes on before a reset. */
  protected abstract broke(reason: string): void;

  /** What was agreed on. */
  protected agree(features: bigint): void {
    const has = (bits: bigint) => (features & bits) !== 0n;
    this.#features = features;
    // virtio 1.2, 5.1.6.1: a legacy driver's header has no num_buffers, but for mergeable buffers.
    this.#headerSize = has(FEATURES.VERSION_1 | FEATURES.NET_MRG_RXBUF) ? HEADER_SIZE : header.VIRTIO_HEADER_SIZE;
    this.#mergeable = has(FEATURES.NET_MRG_RXBUF);
    this.setGuestOffloads(features);
    this.#hostChecksum = has(FEATURES.NET_CSUM);
    this.#hostKinds = hostSegmentKinds(features);
  }

  /** What was agreed on. */
  get features(): bigint {
    return this.#features;
  }

  /** What the guest takes, of NET_GUEST_CSUM, TSO4 and ECN: no checksums, several segments, and those marked for congestion. */
  protected setGuestOffloads(bits: bigint): void {
    this.#guestChecksum = (bits & FEATURES.NET_GUEST_CSUM) !== 0n;
    this.#guestSegments = this.#guestChecksum && (bits & FEATURES.NET_GUEST_TSO4) !== 0n;
    this.#guestEcn = (bits & FEATURES.NET_GUEST_ECN) !== 0n;
  }

  /** Puts a queue in place, or takes it away: even ones carry frames to the guest, odd ones from it. */
  protected setQueue(index: number, queue: DeviceQueue | null): void {
    this.#queues[index] = queue;
    this.#starved = false;
    // New buffers are news only to whoever waits for some: a guest that refills needn't leave its machine for that.
    if ((index & 1) === 0) queue?.wantKicks(false);
    this.#wake?.();
  }

  /** A queue that is in place, or null. */
  protected queue(index: number): DeviceQueue | null {
    return this.#queues[index] ?? null;
  }

  /** How many pairs are in use. */
  protected setPairs(pairs: number): void {
    this.#pairs = Math.max(1, Math.min(PAIRS_MAX, pairs));
  }

  /** The driver has told that queue `index` has something new. */
  protected kicked(index: number): void {
    this.counters.kicks++;
    if ((index & 1) === 0) {
      // That buffers came is news to those who wait for some, once.
      this.#queues[index]?.wantKicks(false);
      if (!this.#starved) return;
      this.#starved = false;
    }
    this.#wake?.();
  }

  /** Something is to be looked at by {@link receive}. */
  protected news(): void {
    this.#wake?.();
  }

  /** Stops everything until the driver begins anew. */
  protected fail(reason: string): void {
    this.fault = reason;
    this.counters.faults++;
    this.#queues.fill(null);
    this.broke(reason);
  }

  /** True while a driver has a pair of queues in place. */
  get running(): boolean {
    return this.#queues[0] !== null && this.#queues[1] !== null;
  }

  /** Attaches the device to its one user. */
  open(wake: () => void): void {
    if (this.#closed) throw new Deno.errors.BadResource(`device "${this.name}" has been closed`);
    if (this.#wake !== null) throw new Deno.errors.Busy(`device "${this.name}" is in use already`);
    this.#wake = wake;
  }

  arm(): void {
    let waiting = false;
    for (let i = 0; i < this.#pairs; i++) waiting = this.#queues[2 * i + 1]?.wantKicks(true) === true || waiting;
    if (waiting) this.#wake?.();
  }

  receive(sink: FrameSink, budget: number): number {
    if (this.#closed) return ENODEV;
    let count = 0;
    for (let i = 0; i < this.#pairs && count < budget; i++) {
      const pair = (this.#firstPair + i) % this.#pairs;
      const queue = this.#queues[2 * pair + 1];
      if (queue !== null) count += this.#drain(sink, budget - count, pair, queue);
    }
    // Whoever came last begins: a busy pair must not starve the others.
    if (this.#pairs > 1) this.#firstPair = (this.#firstPair + 1) % this.#pairs;
    return count;
  }

  #drain(sink: FrameSink, budget: number, pair: number, queue: DeviceQueue): number {
    queue.wantKicks(false);
    const chain = this.#chain;
    let count = 0;
    while (count < budget) {
      const code = queue.take(chain);
      if (code === 0) break;
      if (code > 0 && chain.readable !== chain.count) queue.broken = "a buffer to be written in a queue that the device reads";
      if (queue.broken !== null) {
        this.fail(queue.broken);
        return count;
      }
      count++;
      const length = this.#fetch(chain);
      // The bytes are ours now: the guest gets its buffer back before anybody looks at them.
      queue.give(chain.id, chain.descriptors, 0);
      if (length > 0) this.#deliver(sink, length, pair);
      // What the sink did may have ended all this.
      if (this.#queues[2 * pair + 1] !== queue) return count;
    }
    if (count > 0 && queue.publish()) {
      this.counters.interrupts++;
      this.interrupt(2 * pair + 1);
    }
    return count;
  }

  /** Copies header and frame out of shared memory, where they could change under us. The frame's length, or 0. */
  #fetch(chain: Chain): number {
    const { counters } = this;
    const length = chain.readableBytes - this.#headerSize;
    if (length < 14) {
      counters.rxShort++;
      return 0;
    }
    if (length > FRAME_MAX) {
      counters.rxTooLong++;
      return 0;
    }
    chain.gather(0, this.#rxHeader.bytes, 0, header.VIRTIO_HEADER_SIZE);
    chain.gather(this.#headerSize, this.#slot.bytes, FRAME_AT, length);
    return length;
  }

  #deliver(sink: FrameSink, length: number, pair: number): void {
    const { counters } = this;
    const { view } = this.#rxHeader;
    // virtio 1.2, 5.1.6.2.2: without NEEDS_CSUM nothing is known about a guest's checksum, whatever it says.
    const flags = header.rxFlags(view, 0) & RX_CHECKSUM_PARTIAL;
    const segmentSize = header.rxSegmentSize(view, 0);
    if (!this.#sound(view, length, flags, segmentSize)) {
      counters.rxBadHeader++;
      return;
    }
    counters.rxFrames++;
    counters.rxBytes += length;
    if (segmentSize > 0) counters.rxSegmented++;
    if (this.#pairs > 1) this.#flows.learn(this.#slot.view, FRAME_AT, length, pair);
    sink.frame(this.#slot, FRAME_AT, length, flags, segmentSize);
  }

  /** What the header says was agreed on, and lies inside the frame. */
  #sound(view: DataView, length: number, flags: number, segmentSize: number): boolean {
    if (flags === RX_CHECKSUM_PARTIAL) {
      if (!this.#hostChecksum) return false;
      if (view.getUint16(6, true) + view.getUint16(8, true) + 2 > length) return false;
    }
    const type = view.getUint8(1);
    if (type === header.VIRTIO_NET_HDR_GSO_NONE) return true;
    // The mark of congestion alone makes no segments, and none that were not agreed on.
    const kind = type & ~header.VIRTIO_NET_HDR_GSO_ECN;
    return kind < 8 && (this.#hostKinds & (1 << kind)) !== 0 && flags === RX_CHECKSUM_PARTIAL && segmentSize > 0;
  }

  transmit(frame: TxFrame): number {
    if (this.#closed) return ENODEV;
    if (!this.running) {
      this.counters.txDown++;
      return ENETDOWN;
    }
    if (frame.segmentSize > 0 && !(this.#guestSegments && (this.#guestEcn || !header.hasCwr(frame)))) {
      return this.#transmitPlain(frame);
    }
    if (frame.checksumStart >= 0 && !this.#guestChecksum) completeChecksum(frame);
    return this.#put(frame);
  }

  /** For drivers that take no segments: they are cut here. What finds no room after the first one is lost, as on a wire. */
  #transmitPlain(frame: TxFrame): number {
    const size = frame.size;
    if (size > FRAME_MAX) return EMSGSIZE;
    // In between is no receive, so that its slot is free.
    frame.copyTo(this.#slot.bytes, FRAME_AT);
    this.#normalizer ??= new Normalizer(true, (plain) => {
      // Behind one that found no room, none is tried: the whole is sent again by whoever sent it.
      if (this.#plainCode < 0) return;
      const code = this.#put(plain);
      if (this.#plainCode > 0 || code === 0) this.#plainCode = code;
    });
    this.#plainCode = 1;
    this.#normalizer.frame(this.#slot, FRAME_AT, size, RX_CHECKSUM_PARTIAL, frame.segmentSize);
    return Math.min(0, this.#plainCode);
  }

  #put(frame: TxFrame): number {
    const { counters } = this;
    const pair = this.#pairs === 1 ? 0 : this.#flows.find(frame.memory.view, frame.offset, frame.length, this.#pairs);
    const queue = this.#queues[2 * pair];
    if (queue === null) {
      counters.txDown++;
      return ENETDOWN;
    }
    const head = this.#txHeader.view;
    if (!header.putTxHeader(head, 0, frame, header.ethernetIpOffset(frame))) return EMSGSIZE;
    const size = frame.size;
    queue.mark();
    const chains = this.#reserve(queue, this.#headerSize + size, 2 * pair);
    if (chains < 0) return chains;
    head.setUint16(10, this.#mergeable || this.#headerSize === HEADER_SIZE ? chains : 0, true);
    this.#cursor = this.#skip = 0;
    this.#spread(this.#txHeader.bytes, 0, this.#headerSize);
    this.#spread(frame.memory.bytes, frame.offset, frame.length);
    if (frame.payloadLength1 > 0) this.#spread(frame.payload.bytes, frame.payloadOffset1, frame.payloadLength1);
    if (frame.payloadLength2 > 0) this.#spread(frame.payload.bytes, frame.payloadOffset2, frame.payloadLength2);
    let left = this.#headerSize + size;
    for (let i = 0; i < chains; i++) {
      const chain = this.#merged[i];
      const written = Math.min(left, chain.writableBytes);
      queue.give(chain.id, chain.descriptors, written);
      left -= written;
    }
    this.#dirty |= 1 << pair;
    counters.txFrames++;
    counters.txBytes += size;
    counters.txMerged += chains - 1;
    if (frame.segmentSize > 0) counters.txSegmented++;
    return 0;
  }

  /** Takes chains that hold `bytes` together: how many, or a negative code with none taken. */
  #reserve(queue: DeviceQueue, bytes: number, index: number): number {
    let room = 0;
    for (let count = 0; room < bytes;) {
      if (count === this.#merged.length) this.#merged.push(new Chain());
      const chain = this.#merged[count];
      const code = queue.take(chain);
      if (code === 0) return this.#full(queue);
      if (code > 0 && chain.readable > 0) queue.broken = "a buffer to be read in a queue that the device writes";
      if (queue.broken !== null) {
        this.fail(queue.broken);
        return ENETDOWN;
      }
      room += chain.writableBytes;
      count++;
      if (room >= bytes) return count;
      if (!this.#mergeable || count === Math.min(queue.size, MERGED_MAX)) {
        // Too small for the frame now and for ever: it is lost, and the buffers go back empty.
        for (let i = 0; i < count; i++) queue.give(this.#merged[i].id, this.#merged[i].descriptors, 0);
        this.#dirty |= 1 << (index >>> 1);
        this.counters.txTooLong++;
        return EMSGSIZE;
      }
    }
    return 0;
  }

  #full(queue: DeviceQueue): number {
    this.counters.txFull++;
    this.#starved = true;
    // News is what comes behind the buffers that were too few; the guest may have added some meanwhile, without a kick.
    if (queue.wantKicks(true)) this.#wake?.();
    queue.rewind();
    return EAGAIN;
  }

  #cursor = 0;
  #skip = 0;

  #spread(bytes: Uint8Array, from: number, length: number): void {
    while (length > 0) {
      const chain = this.#merged[this.#cursor];
      const done = chain.scatter(this.#skip, bytes, from, length);
      from += done;
      length -= done;
      this.#skip += done;
      if (this.#skip < chain.writableBytes) continue;
      this.#cursor++;
      this.#skip = 0;
    }
  }

  flush(): void {
    for (let pair = 0; this.#dirty !== 0; pair++) {
      if ((this.#dirty & (1 << pair)) === 0) continue;
      this.#dirty &= ~(1 << pair);
      if (this.#queues[2 * pair]?.publish() !== true) continue;
      this.counters.interrupts++;
      this.interrupt(2 * pair);
    }
  }

  /** Ends it for good. A second call does nothing. */
  close(): void {
    this.#closed = true;
    this.#queues.fill(null);
    this.#wake = null;
  }

  /** {@link close} has been called. */
  get closed(): boolean {
    return this.#closed;
  }

  /** Frames and bytes each way, and what failed, by reason. */
  statistics(): Record<string, number> {
    return { ...this.counters };
  }
}
