/**
 * Asking programs, and doing what they say.
 *
 * @module
 */
import type { Device } from "../../stack/device.ts";
import type { NetFrame } from "../netdev/frame.ts";
import type { NetkitDevice } from "./device.ts";
import { Forwarder } from "./forward.ts";
import type { NetkitMeta } from "./meta.ts";
import { NETKIT_DROP, NETKIT_NEXT, NETKIT_PASS, NETKIT_REDIRECT } from "./options.ts";
import type { NetkitProgram } from "./programs.ts";

/** Redirects within redirects: as deep as the kernel lets transmissions nest. */
const DEPTH_MAX = 8;

/** What a frame can come out of, besides being sent into it. */
interface Emergent {
  emergeCounted(frame: NetFrame, meta: NetkitMeta): boolean;
}

let depth = 0;

/** Counts a frame that `device` sent: passed on, to `peer` if there is one, or dropped. */
export function count(device: NetkitDevice, passed: boolean, length: number, peer: NetkitDevice | null): void {
  const { counters } = device;
  if (!passed) {
    counters.txDropped++;
    return;
  }
  counters.txPackets++;
  counters.txBytes += length;
  if (peer === null) return;
  peer.counters.rxPackets++;
  peer.counters.rxBytes += length;
}

/** Runs programs for one device. */
export class Verdicts {
  readonly #device: NetkitDevice;
  readonly #forwarders = new WeakMap<Device, Forwarder>();
  /** Programs that threw. */
  thrown = 0;

  /** For that device. */
  constructor(device: NetkitDevice) {
    this.#device = device;
  }

  /** The first verdict that isn't NEXT. What throws drops. */
  ask(programs: readonly NetkitProgram[], frame: NetFrame, meta: NetkitMeta): number {
    try {
      for (let i = 0; i < programs.length; i++) {
        const verdict = programs[i](frame, meta);
        if (verdict !== NETKIT_NEXT) return verdict;
      }
      return NETKIT_NEXT;
    } catch {
      this.thrown++;
      return NETKIT_DROP;
    }
  }

  /** Asks the programs, and does what they say with a frame on its way to `peer`. */
  run(programs: readonly NetkitProgram[], frame: NetFrame, meta: NetkitMeta, peer: NetkitDevice): void {
    const device = this.#device;
    const { length } = frame;
    const verdict = this.ask(programs, frame, meta);
    if (verdict === NETKIT_NEXT || verdict === NETKIT_PASS) {
      count(device, peer.emerge(frame, meta, meta.queue), length, peer);
    } else if (verdict === NETKIT_REDIRECT) {
      count(device, true, length, null);
      this.redirect(frame, meta);
    } else count(device, false, length, null);
  }

  /** Sends a frame where the program said; false when it went nowhere. */
  redirect(frame: NetFrame, meta: NetkitMeta): boolean {
    const { target } = meta;
    if (target === null || depth >= DEPTH_MAX) return false;
    depth++;
    try {
      if (meta.ingress) return "emergeCounted" in target ? (target as Device & Emergent).emergeCounted(frame, meta) : false;
      return this.#send(target, frame);
    } finally {
      depth--;
    }
  }

  /** The way into a device of another kind; made once for each. */
  #forwarder(device: Device): Forwarder {
    let forwarder = this.#forwarders.get(device);
    if (forwarder === undefined) this.#forwarders.set(device, forwarder = new Forwarder(device));
    return forwarder;
  }

  #send(target: Device, frame: NetFrame): boolean {
    // Mode L3 and TUN devices know no link header.
    const strip = target.medium === "ip" ? 14 : 0;
    if (frame.length <= strip) return false;
    const forwarder = this.#forwarder(target);
    const { dropped } = forwarder.counters;
    forwarder.frame(frame.memory, frame.offset + strip, frame.length - strip, frame.flags, frame.segmentSize);
    target.flush?.();
    return forwarder.counters.dropped === dropped;
  }
}
