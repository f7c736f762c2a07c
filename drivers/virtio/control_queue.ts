/**
 * The control queue of a virtio network device (virtio 1.2, 5.1.6.5): commands of a class, a command, data, and room for
 * one byte of answer.
 *
 * @module
 */
import type { Chain } from "./chain.ts";
import { FEATURES } from "./features.ts";
import { FILTER_MACS_MAX, type MacList, type ReceiveFilter, VLANS } from "./receive_filter.ts";

/** The answer to a command that was carried out. */
export const CONTROL_OK = 0;
/** The answer to one that was not. */
export const CONTROL_ERR = 1;
/** Class: what is received. */
export const CONTROL_RX = 0;
/** Class: addresses. */
export const CONTROL_MAC = 1;
/** Class: VLANs. */
export const CONTROL_VLAN = 2;
/** Class: the guest has announced itself. */
export const CONTROL_ANNOUNCE = 3;
/** Class: queue pairs. */
export const CONTROL_MQ = 4;
/** Class: what the guest takes uncut and unchecked. */
export const CONTROL_GUEST_OFFLOADS = 5;

const { NET_GUEST_CSUM, NET_GUEST_TSO4, NET_GUEST_TSO6, NET_GUEST_ECN, NET_GUEST_UFO, NET_GUEST_USO4, NET_GUEST_USO6 } = FEATURES;
/** The offloads that a guest may turn on and off. */
export const GUEST_OFFLOADS: bigint = NET_GUEST_CSUM | NET_GUEST_TSO4 | NET_GUEST_TSO6 | NET_GUEST_ECN | NET_GUEST_UFO |
  NET_GUEST_USO4 | NET_GUEST_USO6;

/** What a class of commands needs. */
const NEEDS: Readonly<Record<number, bigint>> = {
  [CONTROL_RX]: FEATURES.NET_CTRL_RX,
  [CONTROL_MAC]: FEATURES.NET_CTRL_RX | FEATURES.NET_CTRL_MAC_ADDR,
  [CONTROL_VLAN]: FEATURES.NET_CTRL_VLAN,
  [CONTROL_ANNOUNCE]: FEATURES.NET_GUEST_ANNOUNCE,
  [CONTROL_MQ]: FEATURES.NET_MQ,
  [CONTROL_GUEST_OFFLOADS]: FEATURES.NET_CTRL_GUEST_OFFLOADS,
};

/** The fields of the filter that the commands of class RX set, in the order of their numbers. */
const MODES = ["promiscuous", "allMulticast", "allUnicast", "noMulticast", "noUnicast", "noBroadcast"] as const;
/** From this command on VIRTIO_NET_F_CTRL_RX_EXTRA is needed. */
const FIRST_EXTRA_MODE = 2;

/** Whoever carries commands out. */
export interface ControlOwner {
  /** What was agreed on. */
  features(): bigint;
  readonly filter: ReceiveFilter;
  /** Queue pairs that there are. */
  readonly pairs: number;
  usePairs(pairs: number): void;
  useOffloads(offloads: bigint): void;
  useMac(mac: Uint8Array): void;
  announced(): void;
}

/** Carries commands out. What it reads of a command is bounded, whatever the chain holds. */
export class ControlCommands {
  readonly #owner: ControlOwner;
  readonly #head = new Uint8Array(2);
  readonly #data = new Uint8Array(8);
  readonly #view = new DataView(this.#data.buffer);
  readonly #answer = new Uint8Array(1);
  /** Commands that were carried out, and those that were refused. */
  readonly counters = { controlDone: 0, controlRefused: 0 };

  constructor(owner: ControlOwner) {
    this.#owner = owner;
  }

  /** Why a chain can't be a command at all, or null. */
  static malformed(chain: Chain): string | null {
    if (chain.readableBytes < 2) return "a control command without class and command";
    return chain.writableBytes < 1 ? "a control command without room for the answer" : null;
  }

  /** Carries the command in `chain` out and writes the answer. Bytes written: 1. */
  run(chain: Chain): number {
    chain.gather(0, this.#head, 0, 2);
    const done = this.#do(chain, this.#head[0], this.#head[1], chain.readableBytes - 2);
    if (done) this.counters.controlDone++;
    else this.counters.controlRefused++;
    this.#answer[0] = done ? CONTROL_OK : CONTROL_ERR;
    return chain.scatter(0, this.#answer, 0, 1);
  }

  #do(chain: Chain, kind: number, command: number, size: number): boolean {
    const needed = NEEDS[kind] ?? 0n;
    if ((this.#owner.features() & needed) === 0n) return false;
    this.#data.fill(0);
    chain.gather(2, this.#data, 0, Math.min(size, 8));
    switch (kind) {
      case CONTROL_RX:
        return size === 1 && this.#mode(command, this.#data[0]);
      case CONTROL_MAC:
        return command === 0 ? this.#macTable(chain, size) : command === 1 && this.#macAddress(size);
      case CONTROL_VLAN:
        return size === 2 && this.#vlan(command, this.#view.getUint16(0, true));
      case CONTROL_ANNOUNCE:
        if (command !== 0 || size !== 0) return false;
        this.#owner.announced();
        return true;
      case CONTROL_MQ:
        return command === 0 && size === 2 && this.#pairs(this.#view.getUint16(0, true));
    }
    return command === 0 && size === 8 && this.#offloads(this.#view.getBigUint64(0, true));
  }

  #mode(command: number, on: number): boolean {
    if (command >= MODES.length || on > 1) return false;
    if (command >= FIRST_EXTRA_MODE && (this.#owner.features() & FEATURES.NET_CTRL_RX_EXTRA) === 0n) return false;
    this.#owner.filter[MODES[command]] = on === 1;
    return true;
  }

  #macAddress(size: number): boolean {
    if (size !== 6 || (this.#owner.features() & FEATURES.NET_CTRL_MAC_ADDR) === 0n) return false;
    this.#owner.useMac(this.#data.subarray(0, 6));
    return true;
  }

  /** Two lists, each of a 32-bit count and so many addresses. */
  #macTable(chain: Chain, size: number): boolean {
    if (size < 4 || (this.#owner.features() & FEATURES.NET_CTRL_RX) === 0n) return false;
    const unicast = this.#view.getUint32(0, true);
    const second = 4 + 6 * unicast;
    if (second + 4 > size) return false;
    chain.gather(2 + second, this.#data, 0, 4);
    const multicast = this.#view.getUint32(0, true);
    if (second + 4 + 6 * multicast !== size) return false;
    const { filter } = this.#owner;
    this.#list(chain, filter.unicast, 6, unicast);
    this.#list(chain, filter.multicast, 2 + second + 4, multicast);
    return true;
  }

  #list(chain: Chain, list: MacList, at: number, count: number): void {
    list.overflow = count > FILTER_MACS_MAX;
    list.count = list.overflow ? 0 : count;
    chain.gather(at, list.bytes, 0, 6 * list.count);
  }

  #vlan(command: number, id: number): boolean {
    if (command > 1 || id >= VLANS) return false;
    this.#owner.filter.setVlan(id, command === 0);
    return true;
  }

  #pairs(pairs: number): boolean {
    if (pairs < 1 || pairs > this.#owner.pairs) return false;
    this.#owner.usePairs(pairs);
    return true;
  }

  #offloads(offloads: bigint): boolean {
    if ((offloads & ~(this.#owner.features() & GUEST_OFFLOADS)) !== 0n) return false;
    // What needs checksums left open means nothing without them.
    if ((offloads & FEATURES.NET_GUEST_CSUM) === 0n && offloads !== 0n) return false;
    this.#owner.useOffloads(offloads);
    return true;
  }
}
