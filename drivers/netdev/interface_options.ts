/**
 * What an interface is made with, and its limits.
 *
 * @module
 */
import type { KernelBacking } from "./backing.ts";
import type { NetInterface } from "./interface.ts";
import type { FailureReport } from "./operations.ts";
import type { DeviceTable } from "./table.ts";

/** `NETIF_F_HW_CSUM`: the device fills in every checksum; frames come without. */
export const NETIF_F_HW_CSUM: number = 1 << 3;
/** Frames that may wait for the stack. */
export const QUEUE_FRAMES = 1024;
/** Link header with one tag. */
export const LINK_HEADER = 18;
/** Without a tag. */
export const ETHERNET_HEADER = 14;
/** The smallest MTU that Ethernet devices of Linux take. */
export const MTU_MIN = 68;
/** The largest. */
export const MTU_MAX = 65_521;

/** How an interface is made. */
export interface InterfaceOptions {
  /** At most 15 bytes. */
  name: string;
  /** The class's instance, or null for a dummy. */
  instance: object | null;
  /** Null: it lives in the process only. */
  backing: KernelBacking | null;
  /** Where it is to be found. */
  table: DeviceTable;
  /** Bits of IFF_…, without those of a device that is up. */
  flags: number;
  /** Bits of `NETIF_F_…`. */
  features: number;
  /** Six bytes. */
  mac: Uint8Array;
  /** Bytes of IP packet. */
  mtu: number;
  /** How long an operation may take, in milliseconds. */
  limitMs: number;
  /** Told what the class does wrong. */
  report: FailureReport;
  /** Called once when it is gone; `byKernel` when somebody deleted the kernel's interface. */
  onGone: (device: NetInterface, byKernel: boolean) => void;
}
