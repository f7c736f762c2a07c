/**
 * What of a device can be changed: up and down, MTU, address, modes; by its owner, by programs, and by others in the kernel.
 *
 * @module
 */
import { IFF_ALLMULTI, IFF_MULTICAST, IFF_NOARP, IFF_PROMISC, IFF_RUNNING, IFF_UP } from "../../ffi/ifreq.ts";
import type { LinkSettings } from "../../ffi/rtnl_link.ts";
import { EADDRNOTAVAIL, EINVAL, ENODEV, OK } from "../../stack/codes.ts";
import { follow } from "./follow.ts";
import type { NetInterface } from "./interface.ts";
import { type InterfaceOptions, MTU_MAX, MTU_MIN } from "./interface_options.ts";
import type { OperationName } from "./operations.ts";
import { after, type Code, Turns } from "./turns.ts";

/** `tx_queue_len` of an Ethernet device. */
const TX_QUEUE_LENGTH = 1000;
/** What SIOCSIFFLAGS changes beside the modes: DEBUG, NOTRAILERS, NOARP, MULTICAST, PORTSEL, AUTOMEDIA, DYNAMIC. */
const SETTABLE = 0x4 | 0x20 | IFF_NOARP | IFF_MULTICAST | 0x2000 | 0x4000 | 0x8000;

/**
 * The state of a device, and its changes, which are made one after the other: an operation of the class begins when the one
 * before it has settled, or its time is over. A synchronous class is asked, and has answered, before a function returns.
 */
export class Control {
  /** At most 15 bytes. */
  name: string;
  /** Its class has opened it, or is about to. */
  opened = false;
  /** Bytes of IP packet. */
  mtu: number;
  /** Bits of IFF_…. */
  flags: number;
  /** Frames that wait at most on the way out, as they say; the kernel's own where there is one. */
  txQueueLength = TX_QUEUE_LENGTH;
  /** Six bytes, changed in place. */
  readonly mac: Uint8Array<ArrayBuffer>;
  readonly #device: NetInterface;
  readonly #down: () => void;
  readonly #turns = new Turns();
  /** It is to be looked at what others have changed. */
  #following = false;

  /** Of a device that is being made; `down` is called whenever it goes down. */
  constructor(device: NetInterface, { name, mtu, flags, mac }: InterfaceOptions, down: () => void) {
    this.#device = device;
    this.#down = down;
    this.name = name;
    this.mtu = mtu;
    this.flags = flags;
    this.mac = new Uint8Array(mac);
  }

  #turn(change: () => Code): Code {
    return this.#turns.take(() => this.#device.exists ? change() : ENODEV);
  }

  #call(name: OperationName, ...args: unknown[]): Code {
    return this.#device.operations.call(name, this.#device, ...args);
  }

  /** The kernel's interface is changed too, if there is one. */
  #set(name: OperationName | "ioctl", settings: LinkSettings): Code {
    const { exists, operations, backing } = this.#device;
    if (backing === null) return OK;
    // It may have gone while its class thought.
    return exists ? operations.run(name, () => backing.set(settings)) : ENODEV;
  }

  /** Switches it on or off; what its class refuses leaves it as it was. */
  setUp(up: boolean): Code {
    return this.#turn(() => this.#setUp(up));
  }

  #setUp(up: boolean): Code {
    if (!up) return after(this.stop(), () => this.#set("stop", { up }));
    return after(this.open(), (code) => {
      if (code < 0) return code;
      return after(this.#set("open", { up }), (set) => set < 0 ? after(this.stop(), () => set) : set);
    });
  }

  /** Part of a change: asks the class to open it. */
  open(): Code {
    if (this.opened) return OK;
    this.opened = true;
    return after(this.#call("open"), (code) => {
      // The class may have switched it off meanwhile.
      if (code < 0) this.opened = false;
      else if (this.opened) this.flags |= IFF_UP | IFF_RUNNING;
      return Math.min(0, code);
    });
  }

  /** Part of a change: tells the class that it is down. */
  stop(): Code {
    if (!this.opened) return OK;
    this.opened = false;
    this.flags &= ~(IFF_UP | IFF_RUNNING);
    this.#down();
    // As in Linux, what `stop` answers doesn't keep a device up.
    return after(this.#call("stop"), () => OK);
  }

  /** It is gone. The class is told when it has done what it is about; whoever waits for a change gets ENODEV. */
  end(): void {
    void this.#turns.take(() => this.stop(), true);
  }

  /** Another MTU: nothing has changed if the class or the kernel refuses. */
  setMtu(mtu: number): Code {
    if (!Number.isInteger(mtu) || mtu < MTU_MIN || mtu > MTU_MAX) return EINVAL;
    const change = () =>
      after(this.#set("changeMtu", { mtu }), (code) => {
        if (code >= 0) this.mtu = mtu;
        return Math.min(0, code);
      });
    return this.#turn(() => after(this.#call("changeMtu", mtu), (code) => code < 0 ? code : change()));
  }

  /** Another MAC address; the same holds. */
  setMac(mac: Uint8Array): Code {
    if (mac.length !== 6 || (mac[0] & 1) !== 0 || mac.every((byte) => byte === 0)) return EADDRNOTAVAIL;
    const address = new Uint8Array(mac);
    const change = () =>
      after(this.#set("setMacAddress", { mac: address }), (code) => {
        if (code >= 0) this.mac.set(address);
        return Math.min(0, code);
      });
    return this.#turn(() => after(this.#call("setMacAddress", address), (code) => code < 0 ? code : change()));
  }

  /** Promiscuous or not, all multicast or not. */
  setRxMode(promiscuous: boolean, allMulticast: boolean): Code {
    return this.#turn(() => this.#setRxMode(promiscuous, allMulticast));
  }

  #setRxMode(promiscuous: boolean, allMulticast: boolean): Code {
    const bits = (promiscuous ? IFF_PROMISC : 0) | (allMulticast ? IFF_ALLMULTI : 0);
    return after(this.#set("setRxMode", { promiscuous, allMulticast }), (code) => code < 0 ? code : this.rxMode(bits));
  }

  /** Part of a change: takes IFF_PROMISC and IFF_ALLMULTI over, and tells the class. */
  rxMode(bits: number): Code {
    const mask = IFF_PROMISC | IFF_ALLMULTI;
    if ((this.flags & mask) === bits) return OK;
    this.flags = this.flags & ~mask | bits;
    return after(this.#call("setRxMode"), (code) => Math.min(0, code));
  }

  /** SIOCSIFFLAGS: all of them in one change. */
  setFlags(flags: number): Code {
    const [promiscuous, allMulticast] = [(flags & IFF_PROMISC) !== 0, (flags & IFF_ALLMULTI) !== 0];
    // As in the kernel the modes are set even where the class refuses to open.
    const modes = () =>
      after(
        this.#setUp((flags & IFF_UP) !== 0),
        (up) => after(this.#setRxMode(promiscuous, allMulticast), (mode) => up < 0 ? up : mode),
      );
    return this.#turn(() => after(this.#setOther(flags & SETTABLE), (code) => code < 0 ? code : modes()));
  }

  /** Flags that mean nothing to the class. */
  #setOther(bits: number): Code {
    return after(this.#set("ioctl", { flags: { bits, mask: SETTABLE } }), (code) => {
      if (code >= 0) this.flags = this.flags & ~SETTABLE | bits;
      return code;
    });
  }

  /** SIOCSIFTXQLEN of a device that only lives in the process. */
  setTxQueueLength(length: number): Code {
    if (length < 0) return EINVAL;
    this.txQueueLength = length;
    return OK;
  }

  /** Others have changed the kernel's interface. What a message said may be over by now: the kernel is asked in its turn. */
  changed(): void {
    const backing = this.#device.backing;
    if (this.#following || backing === null) return;
    this.#following = true;
    // Of many messages in a row one look is enough.
    queueMicrotask(() =>
      this.#turns.take(() => {
        this.#following = false;
        return this.#device.exists ? follow(this.#device, backing, this) : OK;
      }, true)
    );
  }
}
