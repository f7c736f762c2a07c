/**
 * The standard ioctls of netkit devices.
 *
 * @module
 */
import { EINVAL, EOPNOTSUPP } from "../../ffi/errno.ts";
import * as ifr from "../../ffi/ifreq.ts";
import { IfReq } from "../../ffi/ifreq.ts";
import { factIoctl, isPrivate } from "../netdev/ioctl.ts";
import { IoctlData, type IoctlMemory } from "../netdev/memory.ts";
import { errnoOf } from "../netdev/operations.ts";
import { ENOIOCTLCMD } from "../netdev/table.ts";
import type { NetkitDevice } from "./device.ts";

/** A request to a netkit device: see `IoctlDevice.ioctl`. */
export function netkitIoctl(device: NetkitDevice, request: number, to: Uint8Array, memory: IoctlMemory | null): number {
  if (to.length < ifr.IFREQ_SIZE) return -EINVAL;
  // Netkit has no private operations, as in the kernel.
  if (isPrivate(request)) return -EOPNOTSUPP;
  const ifreq = new IfReq(to);
  const data = new IoctlData(memory, ifreq.data);
  try {
    let code = factIoctl(
      {
        name: device.name,
        index: device.index,
        flags: device.flags,
        mtu: device.mtu,
        mac: device.mac,
        driver: "netkit",
        link: device.carrier,
        txChecksum: true,
        statistics: device.statistics64(),
        txQueueLength: 1000,
      },
      request,
      ifreq,
      data,
    );
    if (code === -ENOIOCTLCMD) code = change(device, request, ifreq);
    if (code >= 0) to.set(ifreq.bytes);
    return code;
  } catch (error) {
    return -errnoOf(error);
  }
}

function change(device: NetkitDevice, request: number, ifreq: IfReq): number {
  switch (request) {
    case ifr.SIOCSIFMTU:
      return device.setMtu(ifreq.value);
    case ifr.SIOCSIFHWADDR:
      device.setMac(ifreq.mac);
      return 0;
    case ifr.SIOCSIFFLAGS:
      device.setRxMode(ifreq.flags);
      return device.setUp((ifreq.flags & ifr.IFF_UP) !== 0);
    default:
      return -EOPNOTSUPP;
  }
}
