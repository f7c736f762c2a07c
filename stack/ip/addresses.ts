/**
 * Which addresses are ours, for the packet path: an open-addressing table of int32 keys, rebuilt when addresses change.
 *
 * @module
 */
import { broadcastOf, LIMITED_BROADCAST } from "../wire/address.ts";
import { ADDRESSES_PER_INTERFACE, INTERFACES_MAX } from "./limits.ts";

/** Kinds of {@link AddressTable.kind}. */
export const KIND_NONE = 0;
export const KIND_LOCAL = 1;
/** The directed broadcast address of one of our networks. */
export const KIND_BROADCAST = 2;

/** An address of an interface. */
export interface InterfaceAddress {
  key: number;
  prefixLength: number;
  /** When it was last defended (RFC 5227 2.4). */
  defendedAt: number;
}

// Two keys an address; half full at most.
const SHIFT = 32 - Math.ceil(Math.log2(INTERFACES_MAX * ADDRESSES_PER_INTERFACE * 4));
const SIZE = 2 ** (32 - SHIFT);

export class AddressTable {
  // 0 marks an empty slot: 0.0.0.0 is nobody's address.
  readonly #keys = new Int32Array(SIZE);
  readonly #kinds = new Uint8Array(SIZE);

  /** One of KIND_…. */
  kind(key: number): number {
    const keys = this.#keys;
    let at = Math.imul(key, 0x9e3779b1) >>> SHIFT;
    for (let found = keys[at]; found !== 0; found = keys[at]) {
      if (found === key) return this.#kinds[at];
      at = (at + 1) & (SIZE - 1);
    }
    return KIND_NONE;
  }

  rebuild(interfaces: Iterable<{ addresses: readonly InterfaceAddress[] }>): void {
    this.#keys.fill(0);
    // Hosts first: where one network's broadcast address is a host of another, the host stands.
    for (const { addresses } of interfaces) for (const { key } of addresses) this.#put(key, KIND_LOCAL);
    for (const { addresses } of interfaces) {
      for (const { key, prefixLength } of addresses) {
        const broadcast = broadcastOf(key, prefixLength);
        if (broadcast !== LIMITED_BROADCAST) this.#put(broadcast, KIND_BROADCAST);
      }
    }
  }

  #put(key: number, kind: number): void {
    let at = Math.imul(key, 0x9e3779b1) >>> SHIFT;
    while (this.#keys[at] !== 0) {
      if (this.#keys[at] === key) return;
      at = (at + 1) & (SIZE - 1);
    }
    this.#keys[at] = key;
    this.#kinds[at] = kind;
  }
}
