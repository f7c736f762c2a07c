/**
 * What a person writes: a class with the operations of a Linux driver.
 *
 * @module
 */
import type { IfReq } from "../../ffi/ifreq.ts";
import type { NetFrame } from "./frame.ts";
import type { NetInterface } from "./interface.ts";
import type { IoctlData } from "./memory.ts";
import type { Statistics64 } from "./statistics.ts";

/** What an operation answers: nothing or 0 when it went well, or a negative errno; now or later. */
export type Answer = number | void | Promise<number | void>;

/** What `startXmit` answers when it can't take the frame now (`NETDEV_TX_BUSY`); the class calls `handle.wakeQueue()` later. */
export const NETDEV_TX_BUSY = 0x10;

/**
 * A network device as a class. Every operation is optional, and may have the kernel's name instead (`ndoOpen`, `ndoStop`,
 * `ndoStartXmit`, `ndoGetStats64`, `ndoSiocdevprivate`, `ndoDoIoctl`, `ndoChangeMtu`, `ndoSetMacAddress`, `ndoSetRxMode`).
 *
 * `open`, `stop`, `changeMtu`, `setMacAddress` and `setRxMode` are called one after the other, as under Linux's RTNL lock, whoever asks
 * for them; one that asks for a further change itself (`handle.setMtu`) needn't wait for its own end.
 *
 * One that throws is reported and answers the error's own `code` ("EPERM"…), or EIO; one that hasn't settled in time (a second, if nothing
 * else was said) is reported and answers ETIMEDOUT. A loop that never gives control back can't be interrupted by anyone in the same thread.
 */
export class NetDevice {
  /** False: the device refuses to be deleted (EOPNOTSUPP). */
  static ALLOW_DELETE = true;
  /** The device's name; set before `setup`. */
  name = "";
  /** The device as the system sees it; set before `setup`. */
  handle!: NetInterface;
  /** Further bits of IFF_…, asked once at creation. */
  flags = 0;
  /** Bits of `NETIF_F_…`, asked once at creation. */
  features = 0;
  /** A MAC address of its own, six bytes; null for a random one. */
  mac: Uint8Array | null = null;

  /** Runs once after creation, before the device is brought up. */
  setup?(handle: NetInterface): void | Promise<void>;
  /** The device goes up. A negative errno keeps it down. */
  open?(handle: NetInterface): Answer;
  /** The device goes down. */
  stop?(handle: NetInterface): Answer;
  /** A frame that the system sends. Its bytes are valid during the call. Without this operation frames are dropped. */
  startXmit?(frame: NetFrame, handle: NetInterface): number | void | Promise<void>;
  /** The device's numbers; what is left out is the system's own count. */
  getStats64?(handle: NetInterface): Partial<Statistics64>;
  /** `SIOCDEVPRIVATE+n`, on Linux 5.15 and later. `ifreq` goes back to the caller if the answer isn't negative. */
  siocdevprivate?(handle: NetInterface, ifreq: IfReq, cmd: number, data: IoctlData): Answer;
  /** The same before Linux 5.15; asked if there is no `siocdevprivate`. */
  doIoctl?(handle: NetInterface, ifreq: IfReq, cmd: number, data: IoctlData): Answer;
  /** Another MTU, in bytes of IP packet. A negative errno refuses it. */
  changeMtu?(handle: NetInterface, mtu: number): Answer;
  /** Another MAC address. A negative errno refuses it. */
  setMacAddress?(handle: NetInterface, mac: Uint8Array): Answer;
  /** `handle.flags` has changed: promiscuous, all multicast. */
  setRxMode?(handle: NetInterface): void;
}

/** A class of devices. It need not extend {@link NetDevice}: methods are found by their names. */
// deno-lint-ignore no-explicit-any
export type NetDeviceClass = (new (...args: any[]) => object) & { readonly ALLOW_DELETE?: boolean };
