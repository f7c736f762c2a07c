/**
 * What others do to a kernel's interface, told to its class: `ip link set` up, down, mtu, address, promisc.
 *
 * @module
 */
import { IFF_ALLMULTI, IFF_PROMISC } from "../../ffi/ifreq.ts";
import type { Link, LinkSettings } from "../../ffi/rtnl_link.ts";
import { OK } from "../../stack/codes.ts";
import type { KernelBacking } from "./backing.ts";
import type { Control } from "./control.ts";
import type { NetInterface } from "./interface.ts";

/** Takes over what the kernel says now, as part of a change. What the class refuses is taken back. */
export async function follow(device: NetInterface, backing: KernelBacking, state: Control): Promise<number> {
  let link: Link;
  try {
    link = backing.link();
  } catch {
    return OK; // it is gone, and that is told in another way
  }
  const back = (name: string, code: number, settings: LinkSettings): void => {
    if (code < 0 && device.exists) void device.operations.run(name, () => backing.set(settings));
  };
  try {
    if (link.name !== state.name) {
      const before = state.name;
      state.name = link.name;
      device.table.renamed(device, before);
    }
    if (link.up && !state.opened) back("open", await state.open(), { up: false });
    if (!link.up && state.opened) await state.stop();
    if (link.mtu !== state.mtu) {
      const before = state.mtu;
      state.mtu = link.mtu;
      const code = await device.operations.call("changeMtu", device, link.mtu);
      if (code < 0) state.mtu = before;
      back("changeMtu", code, { mtu: before });
    }
    const mac = Uint8Array.from(link.mac.split(":"), (part) => parseInt(part, 16));
    if (mac.length === 6 && mac.some((byte, i) => byte !== device.mac[i])) {
      const before = new Uint8Array(device.mac);
      device.mac.set(mac);
      const code = await device.operations.call("setMacAddress", device, mac);
      if (code < 0) device.mac.set(before);
      back("setMacAddress", code, { mac: before });
    }
    const mask = IFF_PROMISC | IFF_ALLMULTI;
    state.flags = state.flags & mask | link.flags & ~mask & 0xffff;
    return await state.rxMode(link.flags & mask);
  } catch (error) {
    device.operations.report("change", error, "EIO");
    return OK;
  }
}
