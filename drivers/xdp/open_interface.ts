/**
 * Interfaces of the kernel for a forwarder in user space, with the numbers that the kernel gave them: so that tags are the same
 * as those of a forwarder in the kernel.
 *
 * @module
 */
import { getLink } from "../../ffi/rtnl_link.ts";
import { parseMac } from "../../ffi/inet.ts";
import { PacketSocketDevice } from "../packet_socket.ts";
import { TapDevice } from "../tap.ts";
import type { XdpForwarder } from "./forwarder.ts";
import type { XdpPort } from "./port.ts";

/** What a name of an interface begins with to be a TAP of this process. */
const TAP_PREFIX = "tap:";

/** Whether `openInterface` would open a TAP. */
export function isTapName(name: string): boolean {
  return name.startsWith(TAP_PREFIX);
}

/**
 * Opens an interface and adds it to a forwarder: the router's side if its address begins with 02:01.
 *
 * @param name an interface that exists, to be opened by a packet socket; or `tap:NAME`, a TAP of this process, made if it isn't there
 * @param options.promiscuous make a physical interface promiscuous too. Default false
 * @throws what opening the device and `XdpForwarder.add` throw: nothing stays open then
 */
export function openInterface(forwarder: XdpForwarder, name: string, options: { promiscuous?: boolean } = {}): XdpPort {
  const device = isTapName(name)
    ? TapDevice.open({ name: name.slice(TAP_PREFIX.length), host: { up: true } })
    : PacketSocketDevice.open({ name, promiscuous: options.promiscuous });
  try {
    const link = getLink(device.name);
    return forwarder.add(device, { ifindex: link.index, mac: parseMac(link.mac) });
  } catch (error) {
    device.close();
    throw error;
  }
}
