/**
 * One name of a registry: what was registered, and what its device begins with.
 *
 * @module
 */
import { IFF_BROADCAST, IFF_MULTICAST } from "../../ffi/ifreq.ts";
import { randomMac } from "../tap.ts";
import type { NetInterface } from "./interface.ts";

/** Bytes of IP packet, if nothing else is said. */
export const MTU_DEFAULT = 1500;

/** Options of {@link NetDevices.registerNetdev}. */
export interface RegisterOptions {
  /** Arguments of the class's constructor. */
  args?: readonly unknown[];
  /** A device of that name that exists is looked up and used. Default false. */
  existOk?: boolean;
  /** Bytes of IP packet. Default 1500. */
  mtu?: number;
}

/** A name that was registered. */
export class Registration {
  /** The device's name, or "*". */
  readonly name: string;
  /** Built at registration; null for a dummy. */
  instance: object | null;
  /** A device of that name that exists is used. */
  existOk: boolean;
  /** The device, once it was made. */
  handle: NetInterface | null = null;
  /** Resolves when the device has been made and brought up; rejects when it could not be made. Nobody needs to wait for it. */
  readonly ready: Promise<NetInterface>;
  /** Bytes of IP packet. */
  readonly mtu: number;
  /** Settles {@link ready}. */
  readonly settle: { resolve(handle: NetInterface): void; reject(error: unknown): void };

  /** Made by a registry. */
  constructor(name: string, instance: object | null, existOk: boolean, mtu: number) {
    this.name = name;
    this.instance = instance;
    this.existOk = existOk;
    this.mtu = mtu;
    const { promise, resolve, reject } = Promise.withResolvers<NetInterface>();
    // A failure is reported in any case; it must not end a program that doesn't look.
    promise.catch(() => {});
    this.ready = promise;
    this.settle = { resolve, reject };
  }
}

/** A failure as a line on standard error. */
export function reportLine(
  { device, operation, error, code }: { device: string; operation: string; error: unknown; code: string },
): void {
  console.error(`device "${device}": ${operation} failed (${code}):`, error);
}

/** What a new device begins with: what its class says of itself, and else what every Ethernet device has. */
export function factsOf(
  { instance, mtu }: Registration,
): { flags: number; features: number; mac: Uint8Array<ArrayBuffer>; mtu: number } {
  const { flags, features, mac } = (instance ?? {}) as { flags?: unknown; features?: unknown; mac?: unknown };
  return {
    flags: IFF_BROADCAST | IFF_MULTICAST | (typeof flags === "number" ? flags : 0),
    features: typeof features === "number" ? features : 0,
    mac: mac instanceof Uint8Array && mac.length === 6 ? new Uint8Array(mac) : randomMac(),
    mtu,
  };
}
