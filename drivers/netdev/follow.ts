/**
 * What others do to a kernel's interface, told to its class: `ip link set` up, down, mtu, address, promisc.
 *
 * @module
 */
import { IFF_ALLMULTI, IFF_PROMISC } from "../../ffi/ifreq.ts";
import type { Link, LinkSettings } from "../../ffi/rtnl_link.ts";
import type { KernelBacking } from "./backing.ts";
import type { NetInterface } from "./interface.ts";

/** What of a device changes without its asking. */
export interface Followed {
  /** At most 15 bytes. */
  name: string;
  /** Its class has opened it. */
  opened: boolean;
  /** Bytes of IP packet. */
  mtu: number;
  /** Bits of IFF_…. */
  flags: number;
  /** Asks the class to open it: 0 or a negative errno. */
  open(): Promise<number>;
  /** Tells the class that it is down. */
  stop(): Promise<number>;
  /** Takes IFF_PROMISC and IFF_ALLMULTI over, and tells the class. */
  rxMode(bits: number): Promise<number>;
}

/** Follows one interface. Changes are worked off one after the other, each time from what the kernel says now. */
export class Follower {
  readonly #device: NetInterface;
  readonly #backing: KernelBacking;
  readonly #state: Followed;
  #running = false;
  #again = false;

  /** Of that device. */
  constructor(device: NetInterface, backing: KernelBacking, state: Followed) {
    this.#device = device;
    this.#backing = backing;
    this.#state = state;
  }

  /** Something has changed. What a message said may be over by now, so the kernel is asked. */
  changed(): void {
    this.#again = true;
    if (this.#running) return;
    this.#running = true;
    this.#work().catch((error) => this.#device.operations.report("change", error, "EIO")).finally(() => this.#running = false);
  }

  async #work(): Promise<void> {
    while (this.#again && this.#device.exists) {
      this.#again = false;
      let link: Link;
      try {
        link = this.#backing.link();
      } catch {
        return; // it is gone, and that is told in another way
      }
      await this.#apply(link);
    }
  }

  /** Takes back what the class has refused. */
  #back(name: string, code: number, settings: LinkSettings): void {
    if (code < 0 && this.#device.exists) void this.#device.operations.run(name, () => this.#backing.set(settings));
  }

  async #apply(link: Link): Promise<void> {
    const state = this.#state, device = this.#device;
    if (link.name !== state.name) {
      const before = state.name;
      state.name = link.name;
      device.table.renamed(device, before);
    }
    if (link.up && !state.opened) this.#back("open", await state.open(), { up: false });
    if (!link.up && state.opened) await state.stop();
    if (link.mtu !== state.mtu) {
      const before = state.mtu;
      state.mtu = link.mtu;
      const code = await device.operations.call("changeMtu", device, link.mtu);
      if (code < 0) state.mtu = before;
      this.#back("changeMtu", code, { mtu: before });
    }
    const mac = Uint8Array.from(link.mac.split(":"), (part) => parseInt(part, 16));
    if (mac.length === 6 && mac.some((byte, i) => byte !== device.mac[i])) {
      const before = new Uint8Array(device.mac);
      device.mac.set(mac);
      const code = await device.operations.call("setMacAddress", device, mac);
      if (code < 0) device.mac.set(before);
      this.#back("setMacAddress", code, { mac: before });
    }
    const mask = IFF_PROMISC | IFF_ALLMULTI;
    state.flags = state.flags & mask | link.flags & ~mask & 0xffff;
    await state.rxMode(link.flags & mask);
  }
}
