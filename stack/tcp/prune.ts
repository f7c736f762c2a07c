/**
 * What can be done when ring memory is short: bytes that came out of order are not acknowledged, so those that wait longest are
 * dropped again, and data in order goes on (Linux, tcp_prune_ofo_queue). A stranger's single byte at the far end of its window
 * holds a ring as large as that window, and without this could hold it for ever.
 *
 * @module
 */
import type { ByteRing } from "./ring.ts";
import type { Tcb } from "./tcb.ts";
import type { Tcp } from "./tcp.ts";

/** Connections looked at for one event. */
const LOOKS_MAX = 16;
/** A send buffer of this size is worth what others have out of order; a larger one is comfort. */
const SEND_ROOM = 64 * 1024;

/** Connections with bytes out of order in their rings, in the order they came to have some. Linked through themselves. */
export class Prunable {
  #first: Tcb | null = null;
  #last: Tcb | null = null;

  constructor(readonly tcp: Tcp) {}

  add(tcb: Tcb): void {
    if (tcb.prunable) return;
    tcb.prunable = true;
    tcb.prunedAfter = this.#last;
    if (this.#last === null) this.#first = tcb;
    else this.#last.prunedBefore = tcb;
    this.#last = tcb;
  }

  remove(tcb: Tcb): void {
    if (!tcb.prunable) return;
    const { prunedAfter, prunedBefore } = tcb;
    if (prunedAfter === null) this.#first = prunedBefore;
    else prunedAfter.prunedBefore = prunedBefore;
    if (prunedBefore === null) this.#last = prunedAfter;
    else prunedBefore.prunedAfter = prunedAfter;
    tcb.prunedAfter = tcb.prunedBefore = null;
    tcb.prunable = false;
  }

  /** Makes the first but `tcb` give back what it can. False when there is none. */
  #prune(tcb: Tcb): boolean {
    const victim = this.#first === tcb ? tcb.prunedBefore : this.#first;
    if (victim === null) return false;
    if (!victim.receiveRing.trims) {
      this.remove(victim); // it has no more than what is in order needs: it waits for its turn again
      this.add(victim);
      return true;
    }
    //= rfc2018#8
    // The data receiver MAY elect not to keep data which it has reported in a SACK option.
    this.tcp.releaseRanges(victim);
    victim.receiveRing.trim();
    this.tcp.statistics.outOfOrderPruned++;
    return true;
  }

  /** Room for `length` bytes in order behind those that are there: for how many of them there is. */
  receive(tcb: Tcb, length: number, used: number): number {
    const ring = tcb.receiveRing;
    const size = ring.count + length;
    if (ring.reserve(size, used)) return length;
    for (let looks = 0; looks < LOOKS_MAX && this.#prune(tcb); looks++) if (ring.reserve(size, used)) return length;
    if (ring.memory === null) ring.reserve(1, 0); // the least there is
    return Math.min(length, ring.capacity - ring.count);
  }

  /** The same for the user's bytes. */
  send(tcb: Tcb, length: number): number {
    const ring: ByteRing = tcb.sendRing;
    let fits = ring.extend(length);
    for (let looks = 0; fits < length && ring.capacity < SEND_ROOM && looks < LOOKS_MAX && this.#prune(tcb); looks++) {
      fits = ring.extend(length);
    }
    return fits;
  }
}
