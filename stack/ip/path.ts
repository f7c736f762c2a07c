/**
 * A way from a local to a remote address, with everything that sending needs looked up beforehand.
 *
 * @module
 */
import { addressSum, IPV4_HEADER } from "../wire/ipv4.ts";
import type { LinkInterface } from "./interface.ts";
import { type Neighbor, NO_NEIGHBOR } from "./neighbors.ts";
import { CAST_UNICAST, type Path } from "./types.ts";

/** Counts changes of routes, addresses, interfaces and path MTUs. */
export interface Generation {
  generation: number;
}

/** The one implementation of {@link Path}. */
export class PathImpl implements Path {
  readonly family = 4 as const;
  readonly localKey: number;
  readonly remoteKey: number;
  readonly ipHeaderLength = IPV4_HEADER;
  readonly addressSum: number;
  mtu = 0;
  interfaceMtu = 0;
  txChecksum = false;
  txSegmentation = 0;
  rxQueueFrames = 0;
  iface: LinkInterface;
  /** Whose MAC address frames get; null on links without. */
  neighbor: Neighbor | null = NO_NEIGHBOR;
  nextHop = 0;
  cast = CAST_UNICAST;
  /** False when the path is narrower than the least path MTU that is believed: packets may be fragmented on the way. */
  mayDontFragment = true;
  generation = -1;
  readonly #counter: Generation;

  constructor(counter: Generation, localKey: number, remoteKey: number, iface: LinkInterface) {
    this.#counter = counter;
    this.localKey = localKey;
    this.remoteKey = remoteKey;
    this.addressSum = addressSum(localKey) + addressSum(remoteKey);
    this.iface = iface;
  }

  get stale(): boolean {
    return this.generation !== this.#counter.generation;
  }
}
