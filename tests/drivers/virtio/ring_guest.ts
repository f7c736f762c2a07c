/**
 * A guest that plays the other side of a RingDevice: two rings, and the device that stands on them.
 *
 * @module
 */
import { assert } from "@std/assert";
import { RingDevice } from "../../../drivers/virtio/ring_device.ts";
import { BASE, deviceQueue, Rig, type RigOptions } from "./ring_rig.ts";

/** Room for buffers in each ring. */
const DATA = 160 * 1024;

/** The device, with everything it tells. */
export class TestDevice extends RingDevice {
  interrupts: number[] = [];
  reasons: string[] = [];
  wakes = 0;

  constructor() {
    super("ring0", 1500, new Uint8Array([2, 0, 0, 0, 0, 9]));
    this.open(() => this.wakes++);
  }

  protected override interrupt(index: number): void {
    this.interrupts.push(index);
  }

  protected override broke(reason: string): void {
    this.reasons.push(reason);
  }

  /** Puts both rings to work. */
  start(guest: Guest, features: bigint): void {
    this.fault = null;
    this.agree(features);
    this.setQueue(0, deviceQueue(guest.fromHost.memory, guest.fromHost.options));
    this.setQueue(1, deviceQueue(guest.toHost.memory, guest.toHost.options));
  }

  kick(index: number): void {
    this.kicked(index);
  }
}

/** A guest's driver, in so far as tests need one. */
export class Guest {
  readonly fromHost: Rig;
  readonly toHost: Rig;
  /** Where the buffers of chains under way lie. */
  readonly #offered = new Map<number, [at: number, length: number][]>();
  #next = 0;

  constructor(options: Omit<RigOptions, "data">) {
    this.fromHost = new Rig({ ...options, data: DATA });
    this.toHost = new Rig({ ...options, data: DATA });
  }

  /** Sends one frame, header and all, in pieces of these lengths (the last one is as long as it must be). False if there is no room. */
  send(bytes: Uint8Array, cuts: readonly number[]): boolean {
    const { at, driver } = this.toHost;
    this.toHost.bytes.set(bytes, at.buffers);
    const addresses: number[] = [];
    const lengths: number[] = [];
    for (let done = 0; done < bytes.length;) {
      const last = lengths.length === cuts.length;
      const length = last ? bytes.length - done : Math.min(cuts[lengths.length], bytes.length - done);
      addresses.push(BASE + at.buffers + done);
      lengths.push(length);
      done += length;
    }
    const sent = driver.add(addresses, lengths, lengths.length, lengths.length) >= 0;
    driver.publish();
    return sent;
  }

  /** Takes back what the host has read. */
  reclaim(): number {
    let count = 0;
    while (this.toHost.driver.collect() >= 0) count++;
    return count;
  }

  /** Offers one chain of buffers. True if the device wants to be told; null if there was no room. */
  offer(lengths: readonly number[]): boolean | null {
    const { at, driver } = this.fromHost;
    const pieces: [number, number][] = [];
    for (const length of lengths) {
      if (this.#next + length > DATA) this.#next = 0;
      pieces.push([at.buffers + this.#next, length]);
      this.#next += length;
    }
    const id = driver.add(pieces.map(([place]) => BASE + place), lengths, 0, lengths.length);
    if (id < 0) return null;
    this.#offered.set(id, pieces);
    return driver.publish();
  }

  /** The bytes of the next chain that came back, or null. */
  collect(): Uint8Array | null {
    const { driver, bytes } = this.fromHost;
    const id = driver.collect();
    assert(driver.broken === null, driver.broken ?? "");
    if (id < 0) return null;
    const got = new Uint8Array(driver.written);
    let done = 0;
    for (const [at, length] of this.#offered.get(id)!) {
      const part = Math.min(length, got.length - done);
      got.set(bytes.subarray(at, at + part), done);
      done += part;
    }
    return got;
  }

  /** The next whole frame with its header, from as many chains as the header says, or null. */
  frame(headerSize = 12): Uint8Array | null {
    const first = this.collect();
    if (first === null || first.length < headerSize) return first;
    const chains = headerSize === 12 ? first[10] | first[11] << 8 : 1;
    const parts = [first];
    while (parts.length < chains) {
      const part = this.collect();
      assert(part !== null, "a frame of more chains than came back");
      parts.push(part);
    }
    const whole = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
    let at = 0;
    for (const part of parts) {
      whole.set(part, at);
      at += part.length;
    }
    return whole;
  }

  /** Begins anew after a reset. */
  restart(): void {
    this.fromHost.restart();
    this.toHost.restart();
    this.#offered.clear();
  }

  checkCanaries(): void {
    this.fromHost.checkCanaries();
    this.toHost.checkCanaries();
  }
}
